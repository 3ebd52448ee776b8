/*
 * test_open_files.c: logs that are written to, more of them than there are descriptors: each write and each read finds its file,
 * the bound holds, and an index whose file is shut between writes is no other than one whose file stays open.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "log_fixture.h"

static fixture f;

static int open_descriptors(void) {
  DIR *d = opendir("/proc/self/fd");
  CHECK(d);
  int n = 0;
  while (readdir(d)) n++;
  (void)closedir(d);
  return n;
}

static void check_read(plog_log *log, int64_t offset) {
  uint8_t out[512];
  size_t n;
  CHECK_EQ(plog_log_read(log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
  CHECK_EQ(plog_get_i64(out), offset);
}

static int32_t append_to(plog_log *log, int64_t timestamp) {
  stamped s;
  int64_t last;
  stamp(&s, plog__log_end(log), 1, 0, timestamp, 20, -1, -1, 0);
  return plog_log_append(log, s.data, s.size, 0, &last);
}

enum { LOGS = 500, ROUNDS = 4 };

static plog_log *open_one(const char *dir, int64_t end, bool exists) {
  const int64_t base = 0, epochs[2] = {0, 0};
  plog_log_open_report report;
  plog_log *log;
  CHECK_EQ(plog_log_open(f.sys, dir, &f.config, &base, exists, 0, end, 1, epochs, exists, 0, &log, &report), 0);
  CHECK_EQ(report.rebuilt_indexes + report.recovered_segments, 0);
  CHECK_EQ(plog__log_end(log), end);
  return log;
}

/* All of them are written to in turn, and read, with descriptors for a tenth. */
static void many_logs(void) {
  enum { ALLOWED = 120, LIMIT = 50 };
  static plog_log *logs[LOGS];
  static char dirs[LOGS][80];
  fixture_begin(&f);
  f.config.index_interval_bytes = 0;
  struct rlimit before, few;
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  few = (struct rlimit){ALLOWED, before.rlim_max};
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_CLOSED, 4);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_ACTIVE, LIMIT);
  int fds = open_descriptors();
  for (int i = 0; i < LOGS; i++) {
    (void)snprintf(dirs[i], sizeof dirs[i], "%s/%d", f.dir, i);
    CHECK_EQ(mkdir(dirs[i], 0755), 0);
    logs[i] = open_one(dirs[i], 0, false);
  }
  CHECK_EQ(open_descriptors(), fds);
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < LOGS; i++) {
      CHECK_EQ(append_to(logs[i], 1000 + round), 0);
      CHECK(open_descriptors() <= fds + LIMIT + 1);
    }
    CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_ACTIVE), LIMIT);
    for (int i = 0; i < LOGS; i++) check_read(logs[i], round);
  }
  /* what is written to again and again is not opened again and again */
  CHECK_EQ(append_to(logs[0], 2000), 0);
  for (int i = LOGS - 1; i > 0; i--) {
    CHECK_EQ(append_to(logs[i], 2000), 0);
    int64_t opened = plog_sys_count(f.sys, PLOG_SYS_OPEN);
    CHECK_EQ(append_to(logs[0], 2000), 0);
    CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_OPEN), opened);
  }
  CHECK(open_descriptors() <= fds + LIMIT);
  for (int i = 0; i < LOGS; i++) {
    int64_t end = plog__log_end(logs[i]);
    CHECK_EQ(plog_log_close(logs[i], 1), 0);
    logs[i] = open_one(dirs[i], end, true);
    for (int64_t offset = 0; offset < end; offset += 3) check_read(logs[i], offset);
    CHECK_EQ(plog_log_close(logs[i], 0), 0);
    fixture_empty_directory(dirs[i]);
    CHECK_EQ(rmdir(dirs[i]), 0);
  }
  CHECK_EQ(open_descriptors(), fds);
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  fixture_end(&f);
}

/* A process takes what it may have, and active segments nearly half of what closed ones leave. */
static void limit_of_the_process(void) {
  fixture_begin(&f);
  struct rlimit before, few, now;
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  few = (struct rlimit){PLOG_MIN((rlim_t)200, before.rlim_max), before.rlim_max};
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  CHECK_EQ(plog_sys_use_descriptors(f.sys), (int64_t)PLOG_MIN(before.rlim_max, (rlim_t)INT32_MAX));
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
  CHECK_EQ(now.rlim_cur, before.rlim_max);
  int64_t room = (int64_t)PLOG_MIN(before.rlim_max, (rlim_t)INT32_MAX) - 3 * PLOG_OPEN_CLOSED_DEFAULT;
  CHECK_EQ(f.sys->open_files.lists[PLOG_FILES_ACTIVE].capacity, PLOG_MIN(PLOG_MAX(room / 2, 64), 32768));
  CHECK_EQ(f.sys->open_files.lists[PLOG_FILES_CLOSED].capacity, PLOG_OPEN_CLOSED_DEFAULT);
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  fixture_end(&f);
}

/* Entries of an index file before the zeros. */
static int64_t entries_in_file(const char *suffix, int64_t entry_bytes) {
  char path[512];
  uint8_t entry[12], zeros[12] = {0};
  (void)snprintf(path, sizeof path, "%s/%020d%s", f.dir, 0, suffix);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  int64_t n = 0;
  while (pread(fd, entry, (size_t)entry_bytes, n * entry_bytes) == entry_bytes &&
         memcmp(entry, zeros, (size_t)entry_bytes) != 0)
    n++;
  (void)close(fd);
  return n;
}

/* Entries wait in memory, where readers find them, until there is a lump; then the file has them, shut again at once. */
static void lumps(void) {
  enum { LUMP = PLOG_INDEX_LUMP_BYTES / PLOG_OFFSET_ENTRY_BYTES };
  fixture_begin(&f);
  f.config.index_interval_bytes = 0;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, LUMP, 1, 20);
  int fds = open_descriptors();
  CHECK_EQ(entries_in_file(".index", PLOG_OFFSET_ENTRY_BYTES), 0);
  int64_t reads = plog_sys_count(f.sys, PLOG_SYS_PREAD);
  check_read(f.log, LUMP - 2); /* by its entry: the others' batches are not gone through */
  CHECK(plog_sys_count(f.sys, PLOG_SYS_PREAD) - reads <= 2);
  int64_t opened = plog_sys_count(f.sys, PLOG_SYS_OPEN);
  fixture_fill(&f, 1, 1, 20); /* the very first batch has no entry */
  CHECK_EQ(entries_in_file(".index", PLOG_OFFSET_ENTRY_BYTES), LUMP);
  CHECK(entries_in_file(".timeindex", PLOG_TIME_ENTRY_BYTES) > 0); /* whose entries are larger: it was due before */
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_OPEN) - opened, 1);
  CHECK_EQ(open_descriptors(), fds);

  /* a full disk, or no descriptor left: the entries wait on */
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PWRITE, 1, ENOSPC, 0, -1), 0);
  fixture_fill(&f, LUMP, 1, 20);
  CHECK_EQ(entries_in_file(".index", PLOG_OFFSET_ENTRY_BYTES), LUMP);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_OPEN, 1, EMFILE, 0, 3), 0);
  fixture_fill(&f, 1, 1, 20);
  CHECK_EQ(entries_in_file(".index", PLOG_OFFSET_ENTRY_BYTES), LUMP);
  CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
  fixture_fill(&f, 1, 1, 20);
  CHECK_EQ(entries_in_file(".index", PLOG_OFFSET_ENTRY_BYTES), 2 * LUMP + 2);
  CHECK_EQ(open_descriptors(), fds);
  fixture_end(&f);
}

/* Somebody removed the file of an index that grows: it is made again, whole. */
static void removed_index(void) {
  static const char *const suffixes[] = {".index", ".timeindex"};
  for (int file = 0; file < 2; file++) {
    fixture_begin(&f);
    f.epoch_zero = true;
    f.config.index_interval_bytes = 0;
    fixture_open(&f, 0, 0, 1);
    fixture_fill(&f, 1300, 1, 20); /* lumps of it are written */
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%020d%s", f.dir, 0, suffixes[file]);
    CHECK_EQ(unlink(path), 0);
    fixture_fill(&f, 5, 1, 20);
    fixture_close(&f, 1);
    fixture_open(&f, 0, 1305, 1);
    CHECK_EQ(f.report.rebuilt_indexes, 0);
    int64_t size = file ? 1304 * PLOG_TIME_ENTRY_BYTES : 1304 * PLOG_OFFSET_ENTRY_BYTES;
    CHECK_EQ(fixture_size(&f, 0, suffixes[file]), size);
    CHECK_EQ(entries_in_file(suffixes[file], file ? PLOG_TIME_ENTRY_BYTES : PLOG_OFFSET_ENTRY_BYTES), 1304);
    for (int64_t offset = 0; offset < 1305; offset += 7) check_read(f.log, offset);
    fixture_end(&f);
  }
}

/* A descriptor is not to be had just then: that write fails, and nothing else. */
static void no_descriptor(void) {
  fixture_begin(&f);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_ACTIVE, 0);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 3, 1, 20);
  stamped s;
  stamp(&s, 3, 1, 0, 5000, 20, -1, -1, 0);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_OPEN, 1, EMFILE, 0, 1), 0);
  CHECK_EQ(fixture_append(&f, &s), -EMFILE);
  CHECK_EQ(plog__log_end(f.log), 3);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_OPEN, 1, EMFILE, 0, 1), 0);
  CHECK_EQ(plog_log_roll(f.log, 0), -EMFILE);
  CHECK_EQ(fixture_append(&f, &s), 0);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  fixture_fill(&f, 2, 1, 20);
  CHECK_EQ(plog_log_truncate(f.log, 2, 0), 0);
  fixture_fill(&f, 2, 1, 20);
  for (int64_t offset = 0; offset < 4; offset++) check_read(f.log, offset);
  CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_ACTIVE), 0);
  fixture_close(&f, 1);
  fixture_open(&f, 0, 4, 1);
  CHECK_EQ(plog__log_end(f.log), 4);
  fixture_end(&f);
}

enum { WRITES = 400 };

static void *read_at_random(void *context) {
  uint64_t seed = (uint64_t)(uintptr_t)context;
  for (int64_t end; (end = plog__log_end(f.log)) < WRITES;) {
    if (end == 0) continue;
    check_read(f.log, (int64_t)(test_random(&seed) % (uint64_t)end));
    plog_slice slice;
    CHECK_EQ(plog__log_slice(f.log, end - 1, INT64_MAX, 4096, true, true, &slice), 0);
    plog__slice_release(&slice); /* mostly the last use of the active segment's file */
  }
  return NULL;
}

/* Readers on other threads, while the owner writes, rolls and cuts, and no file stays open. */
static void threads(void) {
  enum { READERS = 3 };
  fixture_begin(&f);
  f.config.index_interval_bytes = 0;
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_CLOSED, 0);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_ACTIVE, 0);
  fixture_open(&f, 0, 0, 1);
  pthread_t ids[READERS];
  for (int i = 0; i < READERS; i++) CHECK_EQ(pthread_create(&ids[i], NULL, read_at_random, (void *)(uintptr_t)(i + 1)), 0);
  for (int i = 0; i < WRITES; i++) {
    fixture_fill(&f, 1, 1, 20);
    if (i % 50 == 20) CHECK_EQ(plog_log_roll(f.log, 0), 0);
  }
  for (int i = 0; i < READERS; i++) CHECK_EQ(pthread_join(ids[i], NULL), 0);
  CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_ACTIVE), 0);
  CHECK_EQ(plog__open_files_count(&f.sys->open_files, PLOG_FILES_CLOSED), 0);
  fixture_end(&f);
}

int main(void) {
  RUN(many_logs);
  RUN(limit_of_the_process);
  RUN(lumps);
  RUN(removed_index);
  RUN(no_descriptor);
  RUN(threads);
  return 0;
}
