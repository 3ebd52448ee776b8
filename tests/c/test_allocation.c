/*
 * Blocks ahead of a growing file: how much and how often, that the size of the file says nothing of it, that a disk which will
 * not is left alone, and that nothing is left behind what was written: by a roll, a clean close, a cut, a start after a kill.
 */
#include "allocation.h"

#include <errno.h>

#include "log_fixture.h"

enum { MB = 1024 * 1024 };

typedef struct {
  int32_t asked, trimmed;
  int64_t end, size;
  int error;      /* of fallocate, which then has found half of it */
  int trim_error; /* of ftruncate */
} disk;

static int disk_fallocate(void *context, int fd, int mode, int64_t position, int64_t size_bytes) {
  disk *d = context;
  (void)fd;
  CHECK_EQ(mode, FALLOC_FL_KEEP_SIZE);
  CHECK(position >= 0 && position <= PLOG_MAX(d->end, d->size) && size_bytes > 0); /* no hole */
  d->asked++;
  d->end = position + (d->error ? size_bytes / 2 : size_bytes);
  return -d->error;
}

static int disk_ftruncate(void *context, int fd, int64_t size_bytes) {
  disk *d = context;
  (void)fd;
  if (d->trim_error) return -d->trim_error;
  CHECK_EQ(size_bytes, d->size);
  d->end = size_bytes;
  d->trimmed++;
  return 0;
}

static plog_sys *open_disk(disk *d) {
  plog_sys *sys = plog_sys_open();
  CHECK(sys);
  *d = (disk){0};
  sys->calls.context = d; /* the kernel's entries do not look at it */
  sys->calls.fallocate = disk_fallocate;
  sys->calls.ftruncate = disk_ftruncate;
  return sys;
}

static void it_is_a_small_part_of_what_is_written(void) {
  disk d;
  plog_sys *sys = open_disk(&d);
  plog_allocation a = {0};
  int64_t limit = 100 * MB, piece = 200000;
  for (d.size = 0; d.size + piece <= limit; d.size += piece) {
    plog__allocation_grow(&a, sys, 0, d.size, piece, limit);
    if (d.size + piece < 4 * MB)
      CHECK_EQ(d.asked, 0);
    else
      CHECK(d.end >= d.size + piece);
    CHECK(d.end <= d.size + piece + PLOG_MAX(d.size / 8, MB) + MB && d.end <= limit);
  }
  CHECK(d.asked > 10 && d.asked < 50);
  CHECK_EQ(d.end, limit);
  plog__allocation_grow(&a, sys, 0, d.size, piece, limit); /* what goes beyond the limit is written without */
  CHECK_EQ(d.end, limit);
  CHECK_EQ(plog__allocation_trim(&a, sys, 0, d.size), 0);
  CHECK_EQ(plog__allocation_trim(&a, sys, 0, d.size), 0);
  CHECK_EQ(d.trimmed, 1);
  plog_sys_close(sys);
}

static void who_refuses_gets_back_what_it_gave_and_is_not_asked_again(void) {
  disk d;
  plog_sys *sys = open_disk(&d);
  plog_allocation a = {0};
  d.size = 10 * MB;
  d.error = ENOSPC;
  for (int i = 0; i < 3; i++) plog__allocation_grow(&a, sys, 0, d.size, MB, 100 * MB);
  CHECK_EQ(d.asked, 1);
  CHECK_EQ(d.trimmed, 1);
  CHECK_EQ(d.end, d.size);
  CHECK_EQ(plog__allocation_trim(&a, sys, 0, d.size), 0); /* there is nothing more */
  CHECK_EQ(d.trimmed, 1);
  plog_sys_close(sys);
}

static void a_trim_that_fails_is_tried_again(void) {
  disk d;
  plog_sys *sys = open_disk(&d);
  plog_allocation a = {0};
  d.size = 10 * MB;
  plog__allocation_grow(&a, sys, 0, d.size, MB, 100 * MB);
  d.trim_error = EIO;
  CHECK_EQ(plog__allocation_trim(&a, sys, 0, d.size), -EIO);
  d.trim_error = 0;
  CHECK_EQ(plog__allocation_trim(&a, sys, 0, d.size), 0);
  CHECK_EQ(d.trimmed, 1);
  plog_sys_close(sys);
}

static void stat_tells_what_somebody_left(void) {
  plog_allocation a;
  plog__allocation_init(&a, &(struct stat){.st_size = 5 * MB, .st_blocks = 8 * MB / 512});
  CHECK_EQ(a.end_bytes, 8 * MB);
  plog__allocation_init(&a, &(struct stat){.st_size = 5 * MB - 100, .st_blocks = 5 * MB / 512 + 16});
  CHECK_EQ(a.end_bytes, 0);
  plog__allocation_init(&a, &(struct stat){.st_size = 5 * MB, .st_blocks = 8}); /* compressed, or with holes */
  CHECK_EQ(a.end_bytes, 0);
}

/* Bytes of blocks behind the end of a segment's .log, less what one block may have. */
static int64_t ahead(const fixture *f, int64_t base) {
  char path[512];
  struct stat st;
  (void)snprintf(path, sizeof path, "%s/%020" PRId64 ".log", f->dir, base);
  CHECK_EQ(stat(path, &st), 0);
  return (int64_t)st.st_blocks * 512 - (st.st_size + 4095) / 4096 * 4096;
}

enum { BATCH_RECORDS = 1, VALUE_BYTES = 2000, SEGMENT_BATCHES = 4000 }; /* 8 MB */

static void begin_log(fixture *f) {
  fixture_begin(f);
  f->config.preallocate = 0;
  fixture_open(f, 0, 0, 1);
  fixture_fill(f, SEGMENT_BATCHES, BATCH_RECORDS, VALUE_BYTES);
  CHECK(fixture_size(f, 0, ".log") > 8 * MB - 100000);
  CHECK(plog_sys_count(f->sys, PLOG_SYS_FALLOCATE) > 0);
  CHECK(ahead(f, 0) > 0); /* the file systems that tests run on can do it */
}

static void a_clean_close_leaves_nothing_behind_the_end(void) {
  fixture f;
  begin_log(&f);
  int64_t size = fixture_size(&f, 0, ".log");
  fixture_close(&f, 1);
  CHECK_EQ(ahead(&f, 0), 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), size);
  fixture_end(&f);
}

static void a_roll_leaves_nothing_behind_the_end(void) {
  fixture f;
  begin_log(&f);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  CHECK_EQ(ahead(&f, 0), 0);
  fixture_end(&f);
}

static void a_cut_leaves_nothing_and_the_log_grows_on(void) {
  fixture f;
  begin_log(&f);
  CHECK_EQ(plog_log_truncate(f.log, SEGMENT_BATCHES - 10, 0), 0);
  CHECK_EQ(ahead(&f, 0), 0);
  fixture_fill(&f, 100, BATCH_RECORDS, VALUE_BYTES);
  CHECK(ahead(&f, 0) > 0);
  CHECK_EQ(plog__log_end(f.log), SEGMENT_BATCHES + 90);
  fixture_end(&f);
}

static void a_start_after_a_kill_takes_them_away(void) {
  fixture f;
  begin_log(&f);
  int64_t size = fixture_size(&f, 0, ".log");
  fixture_close(&f, 0);
  CHECK(ahead(&f, 0) > 0);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(f.report.truncated_bytes, 0);
  CHECK_EQ(plog__log_end(f.log), SEGMENT_BATCHES);
  CHECK_EQ(fixture_size(&f, 0, ".log"), size);
  CHECK_EQ(ahead(&f, 0), 0);
  fixture_end(&f);
}

static void records_are_written_where_nothing_can_be_allocated(void) {
  fixture f;
  fixture_begin(&f);
  f.config.preallocate = 0;
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_FALLOCATE, 1, EOPNOTSUPP, 0, -1), 0);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, SEGMENT_BATCHES, BATCH_RECORDS, VALUE_BYTES);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FALLOCATE), 1);
  CHECK_EQ(plog__log_end(f.log), SEGMENT_BATCHES);
  fixture_close(&f, 1);
  fixture_end(&f);
}

static void preallocated_segments_give_back_what_they_did_not_need(void) {
  fixture f;
  fixture_begin(&f);
  f.config.preallocate = 1;
  f.config.segment_bytes = 16 * MB;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 10, BATCH_RECORDS, VALUE_BYTES);
  CHECK(ahead(&f, 0) > 15 * MB);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  CHECK_EQ(ahead(&f, 0), 0);
  CHECK(ahead(&f, 10) > 15 * MB);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FALLOCATE), 2);
  fixture_end(&f);
}

int main(void) {
  RUN(it_is_a_small_part_of_what_is_written);
  RUN(who_refuses_gets_back_what_it_gave_and_is_not_asked_again);
  RUN(a_trim_that_fails_is_tried_again);
  RUN(stat_tells_what_somebody_left);
  RUN(a_clean_close_leaves_nothing_behind_the_end);
  RUN(a_roll_leaves_nothing_behind_the_end);
  RUN(a_cut_leaves_nothing_and_the_log_grows_on);
  RUN(a_start_after_a_kill_takes_them_away);
  RUN(records_are_written_where_nothing_can_be_allocated);
  RUN(preallocated_segments_give_back_what_they_did_not_need);
  return 0;
}
