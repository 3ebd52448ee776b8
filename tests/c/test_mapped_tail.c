/*
 * The mapped end of a .log file: that batches stored there are in the file at once, and its size is that of its batches wherever
 * anybody trusts it (a roll, a cut, a clean stop, a start after a kill, a large write); and that a file system, a kernel or a disk
 * that will not is left alone. What a power cut leaves of it: test_power_cut.
 */
#include "mapped_tail.h"

#include "log_fixture.h"

enum { MANY = 2000, VALUE = 100, A_FEW = 4 };

static int64_t published(fixture *f) {
  return fixture_info(f).size_bytes;
}

static void open_mapped(fixture *f, int32_t run) {
  fixture_begin(f);
  f->config.preallocate = 0;
  fixture_open(f, 0, 0, 1);
  plog__log_map_tail(f->log, run);
}

/* All batches are in the log, and in the file for whoever opens it now. */
static void check_all(fixture *f, int64_t count) {
  static uint8_t out[1 << 20];
  size_t size;
  CHECK_EQ(plog__log_end(f->log), count);
  for (int64_t offset = 0; offset < count;) {
    CHECK_EQ(plog_log_read(f->log, offset, INT64_MAX, 1, out, sizeof out, &size), 0);
    CHECK(size > 0);
    plog_batch_header header;
    for (size_t at = 0; at < size; at += header.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, size - at, &header), 0);
      if (header.base_offset < offset) continue;
      CHECK_EQ(header.base_offset, offset);
      offset += header.last_offset_delta + 1;
    }
  }
}

static void small_batches_need_no_calls(void) {
  fixture f;
  open_mapped(&f, A_FEW);
  fixture_fill(&f, A_FEW, 1, VALUE);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_MMAP), 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), published(&f));
  int64_t writes = plog_sys_count(f.sys, PLOG_SYS_PWRITEV), indexes = plog_sys_count(f.sys, PLOG_SYS_PWRITE);
  fixture_fill(&f, MANY, 1, VALUE);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_PWRITEV), writes);
  CHECK(plog_sys_count(f.sys, PLOG_SYS_PWRITE) - indexes < 15);
  CHECK(plog_sys_count(f.sys, PLOG_SYS_MMAP) > 4 && plog_sys_count(f.sys, PLOG_SYS_MMAP) < 12);
  int64_t behind = fixture_size(&f, 0, ".log") - published(&f);
  CHECK(behind >= 0 && behind <= PLOG_MAPPED_TAIL_MAX_BYTES);
  check_all(&f, MANY + A_FEW);
  fixture_end(&f);
}

static void a_clean_close_a_roll_and_a_cut_leave_no_zeros(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 10, 1, VALUE);
  CHECK(fixture_size(&f, 0, ".log") > published(&f));
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  int64_t first = published(&f);
  CHECK_EQ(fixture_size(&f, 0, ".log"), first);
  fixture_fill(&f, 10, 1, VALUE);
  CHECK_EQ(plog_log_truncate(f.log, 15, 0), 0);
  CHECK_EQ(fixture_size(&f, 10, ".log"), published(&f) - first);
  fixture_fill(&f, 10, 1, VALUE);
  CHECK(fixture_size(&f, 10, ".log") > published(&f) - first);
  fixture_close(&f, 1);
  fixture_open(&f, 0, 25, 1);
  CHECK_EQ(fixture_size(&f, 10, ".log"), published(&f) - first);
  CHECK_EQ(f.report.recovered_segments, 0);
  check_all(&f, 25);
  fixture_end(&f);
}

static void a_kill_loses_nothing(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 30, 1, VALUE);
  int64_t size = published(&f), zeros = fixture_size(&f, 0, ".log") - size;
  CHECK(zeros > 0);
  fixture_close(&f, 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), size + zeros);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(f.report.truncated_bytes, zeros);
  CHECK_EQ(fixture_size(&f, 0, ".log"), size);
  check_all(&f, 30);
  fixture_end(&f);
}

/* The length comes last; a kill before that has stored anything else. */
static void what_has_no_length_is_not_there(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 3, 1, VALUE);
  int64_t size = published(&f);
  fixture_close(&f, 0);
  char path[128];
  (void)snprintf(path, sizeof path, "%s/%020d.log", f.dir, 0);
  stamped next;
  stamp(&next, 3, 1, 0, 1003, VALUE, -1, -1, 0);
  memset(next.data + 8, 0, 4);
  int fd = open(path, O_WRONLY);
  CHECK(fd >= 0 && pwrite(fd, next.data, next.size, size) == (ssize_t)next.size && close(fd) == 0);
  fixture_open(&f, 0, 0, 0);
  check_all(&f, 3);
  fixture_end(&f);
}

static void a_large_write_goes_behind_the_batches(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 10, 1, VALUE);
  CHECK(fixture_size(&f, 0, ".log") > published(&f));
  static uint8_t many[40 * sizeof((stamped *)NULL)->data];
  size_t size = 0;
  for (int64_t base = 10; base < 40; base++) {
    stamped s;
    stamp(&s, base, 1, 0, 1000 + base, 2000, -1, -1, 0);
    memcpy(many + size, s.data, s.size);
    size += s.size;
  }
  CHECK(size > PLOG_MAPPED_TAIL_SMALL_BYTES);
  int64_t last;
  CHECK_EQ(plog_log_append(f.log, many, size, 0, &last), 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), published(&f));
  fixture_fill(&f, 10, 1, VALUE);
  CHECK(fixture_size(&f, 0, ".log") > published(&f));
  check_all(&f, 50);
  fixture_end(&f);
}

/* A log that is flushed to its end and rolled then: the zeros are on the disk, and a start would believe the file's size. */
static void a_cut_is_synced_when_a_start_would_believe_the_zeros(void) {
  for (int flushed = 0; flushed < 2; flushed++) {
    fixture f;
    open_mapped(&f, 0);
    fixture_fill(&f, 5, 1, VALUE);
    int64_t point;
    CHECK_EQ(plog_log_flush(f.log, &point), 0);
    if (!flushed) fixture_fill(&f, 1, 1, VALUE);
    int64_t syncs = plog_sys_count(f.sys, PLOG_SYS_FDATASYNC);
    CHECK_EQ(plog_log_roll(f.log, 0), 0);
    CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FDATASYNC) - syncs, flushed);
    fixture_end(&f);
  }
}

/* ---------------------------------------------------------------------------------------------- who will not */

static int refuse_advice(void *context, void *address, size_t size_bytes, int advice) {
  (void)context, (void)address, (void)size_bytes, (void)advice;
  return -EINVAL; /* as before Linux 5.14 */
}

static void check_written_as_others(fixture *f, int64_t before) {
  int64_t writes = plog_sys_count(f->sys, PLOG_SYS_PWRITEV);
  fixture_fill(f, 20, 1, VALUE);
  CHECK_EQ(plog_sys_count(f->sys, PLOG_SYS_PWRITEV) - writes, 20);
  CHECK_EQ(fixture_size(f, 0, ".log"), published(f));
  check_all(f, before + 20);
  fixture_close(f, 1);
  fixture_end(f);
}

static void an_old_kernel_is_left_alone(void) {
  fixture f;
  open_mapped(&f, 0);
  f.sys->calls.madvise = refuse_advice;
  check_written_as_others(&f, 0);
}

static void what_cannot_be_mapped_is_left_alone(void) {
  fixture f;
  open_mapped(&f, 0);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_MMAP, 1, ENODEV, 0, 1), 0);
  check_written_as_others(&f, 0);
}

static void a_full_disk_gets_its_zeros_back(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 5, 1, VALUE);
  int64_t left = fixture_size(&f, 0, ".log") - published(&f);
  fixture_fill(&f, (int)(left / (published(&f) / 5)), 1, VALUE); /* the window is full */
  int64_t count = plog__log_end(f.log);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PWRITE, 1, ENOSPC, 0, 1), 0);
  check_written_as_others(&f, count);
}

/* When even the cut fails the file stays longer until it works, and records go where they belong. */
static void zeros_that_cannot_be_cut_wait(void) {
  fixture f;
  open_mapped(&f, 0);
  fixture_fill(&f, 5, 1, VALUE);
  int64_t size = published(&f);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_FTRUNCATE, 1, EIO, 0, -1), 0);
  CHECK_EQ(plog_log_roll(f.log, 0), -EIO);
  CHECK(fixture_size(&f, 0, ".log") > size);
  CHECK_EQ(fixture_size(&f, 5, ".log"), -1);
  CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
  fixture_fill(&f, 5, 1, VALUE);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), published(&f));
  check_all(&f, 10);
  fixture_end(&f);
}

int main(void) {
  RUN(small_batches_need_no_calls);
  RUN(a_clean_close_a_roll_and_a_cut_leave_no_zeros);
  RUN(a_kill_loses_nothing);
  RUN(what_has_no_length_is_not_there);
  RUN(a_large_write_goes_behind_the_batches);
  RUN(a_cut_is_synced_when_a_start_would_believe_the_zeros);
  RUN(an_old_kernel_is_left_alone);
  RUN(what_cannot_be_mapped_is_left_alone);
  RUN(a_full_disk_gets_its_zeros_back);
  RUN(zeros_that_cannot_be_cut_wait);
  return 0;
}
