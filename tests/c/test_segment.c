/*
 * test_segment.c: the files of closed segments: opened when used, few at a time, never shut under a reader; and indexes that
 * are missing or lie are built anew, from batches.
 */
#include <pthread.h>

#include "log_fixture.h"

static fixture f;

static int count_entries(const char *dir) {
  DIR *d = opendir(dir);
  CHECK(d);
  int n = 0;
  while (readdir(d)) n++;
  (void)closedir(d);
  return n;
}

static int open_descriptors(void) {
  return count_entries("/proc/self/fd");
}

static int mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  CHECK(maps);
  int n = 0;
  for (int c; (c = fgetc(maps)) != EOF;) n += c == '\n';
  (void)fclose(maps);
  return n;
}

/* So many segments of one batch of two records each. */
static void begin(int segments, int32_t limit) {
  fixture_begin(&f);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_CLOSED, limit);
  f.epoch_zero = true;
  f.config.segment_bytes = 1;
  f.config.index_interval_bytes = 0;
  fixture_open(&f, 0, 0, 1);
  f.config.segment_bytes = 100; /* a batch in each, whatever its size */
  for (int i = 0; i < segments; i++) {
    stamped s;
    stamp(&s, 2 * i, 2, 0, 1000 + 2 * i, 10, -1, -1, 0);
    if (i > 0) CHECK_EQ(plog_log_roll(f.log, 0), 0);
    CHECK_EQ(fixture_append(&f, &s), 0);
  }
  CHECK_EQ(fixture_info(&f).segment_count, segments);
}

/* The record at offset can be read. */
static void check_read(int64_t offset) {
  uint8_t out[512];
  size_t n;
  CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
  CHECK_EQ(plog_get_i64(out), offset - offset % 2);
}

static void check_time(int64_t offset) {
  int64_t found, timestamp;
  int32_t epoch;
  int64_t expected = offset - offset % 2; /* both records of a batch have one time */
  CHECK_EQ(plog_log_offset_for_timestamp(f.log, 1000 + expected, INT64_MAX, &found, &timestamp, &epoch), 0);
  CHECK_EQ(found, expected);
}

#ifdef __SANITIZE_THREAD__ /* which is slow, and has nothing to find in so many of the same */
enum { MANY = 500 };
#else
enum { MANY = 5000 };
#endif
enum { LIMIT = 20 };

static void many_segments(void) {
  int fds = open_descriptors(), maps = mappings();
  begin(MANY, LIMIT);
  CHECK(open_descriptors() <= fds + 3 * (LIMIT + 2));
  fixture_close(&f, 1);
  CHECK_EQ(open_descriptors(), fds);

  fixture_open(&f, 0, 2 * MANY, 1);
  CHECK(open_descriptors() <= fds + 3 * 2); /* nothing but the end was opened */
  for (int64_t offset = 0; offset < 2 * MANY; offset += 3) check_read(offset);
  CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED), LIMIT);
  CHECK(open_descriptors() <= fds + 3 * (LIMIT + 1));
  CHECK(mappings() <= maps + 64); /* of malloc's */

  int64_t opened = plog_sys_count(f.sys, PLOG_SYS_OPEN);
  check_time(2 * MANY - 4); /* asks each segment once */
  int64_t asked = plog_sys_count(f.sys, PLOG_SYS_OPEN);
  CHECK(asked - opened > 3 * (MANY - LIMIT - 3) && asked - opened <= 3 * (MANY + 1));
  for (int64_t offset = 0; offset < 2 * MANY; offset += 499) check_time(offset);
  CHECK(plog_sys_count(f.sys, PLOG_SYS_OPEN) - asked <= 3 * (2 * MANY / 499 + 1));
  CHECK(open_descriptors() <= fds + 3 * (LIMIT + 1));

  int64_t found, timestamp;
  int32_t epoch;
  CHECK_EQ(plog_log_max_timestamp(f.log, &found, &timestamp, &epoch), 0);
  CHECK_EQ(found, 2 * MANY - 2);
  int32_t gone;
  CHECK_EQ(plog_log_delete_segments(f.log, 2 * (MANY - 5), &gone), 0);
  CHECK_EQ(gone, MANY - 5);
  CHECK(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED) <= 5); /* files that are deleted are not kept open */
  fixture_close(&f, 0);
  CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED), 0);
  CHECK_EQ(open_descriptors(), fds);
  fixture_end(&f);
}

/* What is read again and again stays open, whatever else comes by. */
static void used_ones_stay(void) {
  begin(100, 4);
  check_read(0);
  for (int64_t offset = 2; offset < 198; offset += 2) {
    check_read(offset);
    int64_t opened = plog_sys_count(f.sys, PLOG_SYS_OPEN);
    check_read(0);
    CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_OPEN), opened);
  }
  fixture_end(&f);
}

/* A slice that is out is read to its end, whatever becomes of its segment: pushed out, deleted, its log closed. */
static void slices_in_flight(void) {
  enum { SLICES = 40 };
  begin(SLICES + 10, 2);
  plog_slice slices[SLICES];
  for (int i = 0; i < SLICES; i++) {
    CHECK_EQ(plog__log_slice(f.log, 2 * i, INT64_MAX, 4096, true, false, &slices[i]), 0);
    CHECK(slices[i].size_bytes > 0);
  }
  for (int64_t offset = 2 * SLICES; offset < 2 * SLICES + 18; offset += 2) check_read(offset);
  CHECK(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED) <= 2);
  int32_t gone;
  CHECK_EQ(plog_log_delete_segments(f.log, 2 * 20, &gone), 0);
  CHECK_EQ(gone, 20);
  int64_t end = plog__log_end(f.log);
  CHECK_EQ(plog_log_truncate(f.log, end - 4, 0), 0);
  fixture_close(&f, 0);
  int fds = open_descriptors();
  for (int i = 0; i < SLICES; i++) {
    uint8_t out[512];
    CHECK(slices[i].size_bytes <= sizeof out);
    CHECK_EQ(plog__sys_pread_all(f.sys, slices[i].fd, out, slices[i].size_bytes, slices[i].position), 0);
    CHECK_EQ(plog_get_i64(out), 2 * i);
    plog__slice_release(&slices[i]);
  }
  CHECK_EQ(open_descriptors(), fds - 3 * SLICES);
  fixture_end(&f);
}

typedef struct {
  uint64_t seed;
  int64_t below;
  int reads;
} reader;

static void *read_at_random(void *context) {
  reader *r = context;
  for (int i = 0; i < r->reads; i++) {
    int64_t offset = (int64_t)(test_random(&r->seed) % (uint64_t)r->below);
    check_read(offset);
    if (i % 8 == 0) check_time(offset);
  }
  return NULL;
}

/* Readers on other threads, while the owner writes, and hardly any file may stay open. */
static void threads(void) {
  enum { READERS = 3 };
  begin(60, 3);
  pthread_t ids[READERS];
  reader readers[READERS];
  for (int i = 0; i < READERS; i++) {
    readers[i] = (reader){(uint64_t)i + 1, 120, 1500};
    CHECK_EQ(pthread_create(&ids[i], NULL, read_at_random, &readers[i]), 0);
  }
  for (int i = 60; i < 260; i++) {
    stamped s;
    stamp(&s, 2 * i, 2, 0, 1000 + 2 * i, 10, -1, -1, 0);
    CHECK_EQ(plog_log_roll(f.log, 0), 0);
    CHECK_EQ(fixture_append(&f, &s), 0);
    plog_slice slice;
    CHECK_EQ(plog__log_slice(f.log, 2 * (i % 50), INT64_MAX, 4096, true, false, &slice), 0);
    plog__slice_release(&slice);
  }
  for (int i = 0; i < READERS; i++) CHECK_EQ(pthread_join(ids[i], NULL), 0);
  CHECK(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED) <= 3);
  fixture_end(&f);
}

/* ---------------------------------------------------------------------------------------------- indexes that lie */

/* Three segments: two closed ones with some forty entries in each index, and an end. */
static void begin_indexed(void) {
  fixture_begin(&f);
  f.epoch_zero = true;
  f.config.index_interval_bytes = 300;
  fixture_open(&f, 0, 0, 1);
  for (int i = 0; i < 3; i++) {
    if (i > 0) CHECK_EQ(plog_log_roll(f.log, 0), 0);
    for (int k = 0; k < 150; k++) {
      stamped s;
      int64_t end = plog__log_end(f.log);
      stamp(&s, end, 2, 0, 1000 + end, 20, -1, -1, 0);
      CHECK_EQ(fixture_append(&f, &s), 0);
    }
  }
  fixture_close(&f, 1);
}

static void overwrite(int64_t base, const char *suffix, int64_t from, int64_t to, int kind) {
  char path[512];
  (void)snprintf(path, sizeof path, "%s/%020" PRId64 "%s", f.dir, base, suffix);
  int fd = open(path, O_RDWR);
  CHECK(fd >= 0);
  uint64_t seed = (uint64_t)from + 77;
  for (int64_t at = from; at < to; at++) {
    uint8_t old, byte = kind == 0 ? 0 : (uint8_t)test_random(&seed);
    CHECK_EQ(pread(fd, &old, 1, at), 1);
    if (kind == 2) byte = old ^ 0x10;
    CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
  }
  (void)close(fd);
}

static void check_everything(void) {
  for (int64_t offset = 0; offset < 900; offset++) check_read(offset);
  for (int64_t offset = 0; offset < 900; offset += 2) check_time(offset);
}

/* What one index may look like: read right all the same, and built anew no later than at the opening after the next. */
static void lying_indexes(void) {
  static const char *const suffixes[] = {".index", ".timeindex"};
  for (int file = 0; file < 2; file++) {
    for (int damage = 0; damage < 10; damage++) {
      begin_indexed();
      int64_t size = fixture_size(&f, 300, suffixes[file]), entry = file ? 12 : 8;
      CHECK(size > 30 * entry);
      char path[512];
      (void)snprintf(path, sizeof path, "%s/%020d%s", f.dir, 300, suffixes[file]);
      bool seen_at_once = damage <= 1; /* without opening a file */
      switch (damage) {
      case 0: CHECK_EQ(unlink(path), 0); break;
      case 1: CHECK_EQ(truncate(path, size - 3), 0); break;
      case 2: CHECK_EQ(truncate(path, 0), 0); break;
      case 3: overwrite(300, suffixes[file], 0, size, 0); break;
      case 4: overwrite(300, suffixes[file], 0, size, 1); break;
      case 5: overwrite(300, suffixes[file], 8 * entry, 16 * entry, 1); break;
      case 6: overwrite(300, suffixes[file], 8 * entry, 16 * entry, 0); break;
      case 7: overwrite(300, suffixes[file], 12 * entry + entry - 1, 12 * entry + entry, 2); break;
      case 8: overwrite(300, suffixes[file], size - entry, size, 1); break;
      default: CHECK_EQ(truncate(path, 10 * entry), 0); break; /* an offset index is right so, a time index is not */
      }
      fixture_open(&f, 0, 900, 1);
      CHECK_EQ(f.report.rebuilt_indexes, seen_at_once ? 1 : 0);
      check_everything();
      fixture_close(&f, 1);
      /* what can lead astray has, and was put right; what is only of no use may stay */
      fixture_open(&f, 0, 900, 1);
      CHECK_EQ(f.report.rebuilt_indexes, 0);
      check_everything();
      if (damage <= 4 || (damage == 9 && file == 1)) CHECK_EQ(fixture_size(&f, 300, suffixes[file]), size);
      fixture_end(&f);
    }
  }
}

/* An index on a bad sector. */
static void unreadable_index(void) {
  begin_indexed();
  fixture_open(&f, 0, 900, 1);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PREAD, 1, EIO, 0, 1), 0); /* the opening of the offset index */
  check_read(450);
  check_everything();
  fixture_end(&f);
}

int main(void) {
  RUN(many_segments);
  RUN(used_ones_stay);
  RUN(slices_in_flight);
  RUN(threads);
  RUN(lying_indexes);
  RUN(unreadable_index);
  return 0;
}
