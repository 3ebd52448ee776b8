/* test_index.c: an index that grows, is sealed, and is looked up in its file says the same as a list of its entries. */
#include <fcntl.h>

#include "index.h"
#include "test.h"
#include "wire.h"

static plog_sys *sys;
static char path[] = "/tmp/plog_test_index_XXXXXX";

static int64_t file_size(void) {
  struct stat st;
  CHECK_EQ(stat(path, &st), 0);
  return st.st_size;
}

/* Offsets and times that rise unevenly, some by much; key i is between entry i - 1 and entry i. */
static void grow(plog_index *x, uint32_t count, uint64_t seed, int64_t *keys) {
  int64_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t chance = test_random(&seed);
    at += 2 + (int64_t)(chance % 16 == 0 ? chance % 60000 : chance % 90);
    keys[i] = at;
    if (x->entry_bytes == PLOG_OFFSET_ENTRY_BYTES)
      CHECK_EQ(plog__index_append_offset(x, (uint32_t)at, i * 7 + 1), 0);
    else
      CHECK_EQ(plog__index_append_time(x, at, i * 7 + 1), 0);
  }
}

static void check_floor(const plog_index *x, int64_t key, uint32_t expected) {
  plog_index_entry entry = {0, 0, 0};
  uint32_t count;
  if (x->entry_bytes == PLOG_OFFSET_ENTRY_BYTES) {
    CHECK_EQ(plog__index_floor_offset(x, sys, key, &count, &entry), 0);
    CHECK_EQ(count, expected);
    if (count > 0) CHECK_EQ(entry.position, (expected - 1) * 7 + 1);
  } else {
    CHECK_EQ(plog__index_floor_timestamp(x, sys, key, &count, &entry), 0);
    CHECK_EQ(count, expected);
    if (count > 0) CHECK_EQ(entry.relative_offset, (expected - 1) * 7 + 1);
  }
}

static void check_all(const plog_index *x, const int64_t *keys, uint32_t count) {
  CHECK_EQ(x->count, count);
  uint32_t step = count > 3000 ? 7 : 1;
  for (uint32_t i = 0; i < count; i += step) {
    check_floor(x, keys[i], i + 1);
    check_floor(x, keys[i] - 1, i);
  }
  check_floor(x, -1, 0);
  check_floor(x, INT64_MAX, count);
  if (count > 0 && x->entry_bytes == PLOG_OFFSET_ENTRY_BYTES)
    CHECK_EQ(plog__index_last(x).relative_offset, keys[count - 1]);
}

static void life(uint32_t entry_bytes, uint32_t count) {
  static int64_t keys[40000];
  plog_index x;
  plog__index_init(&x, entry_bytes);
  CHECK_EQ(plog__index_grow(&x, sys, path, (int64_t)entry_bytes * 50000), 0);
  grow(&x, count, entry_bytes + count, keys);
  check_all(&x, keys, count);
  CHECK_EQ(file_size(), (int64_t)entry_bytes * 50000);

  /* the file of one that was never sealed ends with zeros */
  CHECK_EQ(plog__index_write(&x, sys, path), 0);
  plog_index torn;
  plog__index_init(&torn, entry_bytes);
  CHECK_EQ(plog__index_load(&torn, sys, path), 0);
  check_all(&torn, keys, count);
  plog__index_deinit(&torn, sys);

  CHECK_EQ(plog__index_trim(&x, sys, path), 0);
  plog__index_seal(&x);
  CHECK(x.entries == NULL);
  CHECK_EQ(file_size(), (int64_t)entry_bytes * count);
  check_all(&x, keys, count);
  plog__index_deinit(&x, sys);

  CHECK_EQ(plog__index_load(&x, sys, path), 0);
  check_all(&x, keys, count);
  if (count > 10) { /* it grows again, from further back */
    CHECK_EQ(plog__index_grow(&x, sys, path, 0), 0);
    check_all(&x, keys, count);
    plog__index_truncate(&x, count - 10);
    check_all(&x, keys, count - 10);
  }
  plog__index_deinit(&x, sys);
}

static void lives(void) {
  static const uint32_t counts[] = {0, 1, 2, 11, 340, 341, 342, 511, 512, 513, 1500, 40000};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    life(PLOG_OFFSET_ENTRY_BYTES, counts[i]);
    life(PLOG_TIME_ENTRY_BYTES, counts[i]);
  }
}

/* A large sealed index is looked up with few reads, and in no memory of its own. */
static void few_reads(void) {
  static int64_t keys[40000];
  plog_index x;
  plog__index_init(&x, PLOG_OFFSET_ENTRY_BYTES);
  CHECK_EQ(plog__index_grow(&x, sys, path, 0), 0);
  for (uint32_t i = 0; i < 40000; i++) CHECK_EQ(plog__index_append_offset(&x, i * 41 + i % 5, i * 7 + 1), 0);
  for (uint32_t i = 0; i < 40000; i++) keys[i] = i * 41 + i % 5;
  CHECK_EQ(plog__index_trim(&x, sys, path), 0);
  plog__index_seal(&x);
  int64_t reads = plog_sys_count(sys, PLOG_SYS_PREAD), maps = plog_sys_count(sys, PLOG_SYS_MMAP);
  for (uint32_t i = 1; i < 40000; i += 13) check_floor(&x, keys[i], i + 1);
  CHECK(plog_sys_count(sys, PLOG_SYS_PREAD) - reads <= 40000 / 13 + 1); /* entries that rise evenly: one each */
  CHECK_EQ(plog_sys_count(sys, PLOG_SYS_MMAP), maps);
  plog__index_deinit(&x, sys);
}

/* Bytes that are no index end every search, and what is found is in the file. */
static void garbage(void) {
  uint64_t seed = 3;
  for (int round = 0; round < 200; round++) {
    uint8_t bytes[12 * 700];
    size_t size = 24 * (1 + test_random(&seed) % 350);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)test_random(&seed);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0644);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    (void)close(fd);
    plog_index x;
    plog__index_init(&x, round % 2 ? PLOG_OFFSET_ENTRY_BYTES : PLOG_TIME_ENTRY_BYTES);
    CHECK_EQ(plog__index_load(&x, sys, path), 0);
    for (int i = 0; i < 50; i++) {
      uint32_t count = 0;
      plog_index_entry entry;
      int64_t key = (int64_t)(test_random(&seed) >> (1 + i));
      CHECK_EQ(plog__index_floor_offset(&x, sys, key, &count, &entry), 0);
      CHECK(count <= x.count);
      if (x.entry_bytes == PLOG_TIME_ENTRY_BYTES) CHECK_EQ(plog__index_floor_timestamp(&x, sys, key, &count, &entry), 0);
      CHECK(count <= x.count);
    }
    plog__index_deinit(&x, sys);
  }
}

static void unusable(void) {
  plog_index x;
  plog__index_init(&x, PLOG_OFFSET_ENTRY_BYTES);
  CHECK_EQ(truncate(path, 20), 0);
  CHECK_EQ(plog__index_load(&x, sys, path), PLOG_E_MALFORMED);
  CHECK_EQ(truncate(path, 16), 0);
  CHECK_EQ(plog__index_load(&x, sys, path), 0);
  CHECK_EQ(truncate(path, 8), 0); /* cut under a reader: said, and no SIGBUS */
  plog_index_entry entry;
  uint32_t count;
  x.first = (plog_index_entry){0, 0, 0};
  x.last = (plog_index_entry){100, 100, 0};
  CHECK_EQ(plog__index_floor_offset(&x, sys, 50, &count, &entry), PLOG_E_SHORT);
  CHECK_EQ(plog__index_grow(&x, sys, path, 0), PLOG_E_SHORT);
  CHECK(x.sealed);
  plog__index_deinit(&x, sys);
  CHECK_EQ(unlink(path), 0);
  CHECK_EQ(plog__index_load(&x, sys, path), -2);
}

int main(void) {
  sys = plog_sys_open();
  CHECK(sys);
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  (void)close(fd);
  RUN(lives);
  RUN(few_reads);
  RUN(garbage);
  RUN(unusable);
  plog_sys_close(sys);
  return 0;
}
