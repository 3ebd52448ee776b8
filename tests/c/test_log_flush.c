/*
 * test_log_flush.c: what a flush makes durable, records and names of files, and when one is due.
 */
#include "log_fixture.h"

static fixture f;

static void flushing(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 2000;
  f.config.flush_messages = 10;
  fixture_open(&f, 0, 0, 1);
  plog_log_facts facts;
  fixture_fill(&f, 4, 2, 50);
  plog__log_take_facts(f.log, &facts);
  CHECK(!facts.flush_due);
  fixture_fill(&f, 1, 2, 50);
  plog__log_take_facts(f.log, &facts);
  CHECK(facts.flush_due);
  fixture_fill(&f, 40, 2, 50);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_FDATASYNC, 3, EIO, 0, 1), 0);
  int64_t point = -1;
  CHECK_EQ(plog_log_flush(f.log, &point), -EIO);
  CHECK_EQ(fixture_info(&f).recovery_point, 0);
  CHECK_EQ(plog_log_flush(f.log, &point), 0);
  CHECK_EQ(point, 90);
  int64_t syncs = plog_sys_count(f.sys, PLOG_SYS_FDATASYNC);
  CHECK_EQ(plog_log_flush(f.log, &point), 0);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FDATASYNC), syncs); /* nothing to do */
  fixture_end(&f);
}

static int64_t names_synced(void) {
  int64_t before = plog_sys_count(f.sys, PLOG_SYS_FSYNC), point;
  CHECK_EQ(plog_log_flush(f.log, &point), 0);
  CHECK_EQ(point, plog__log_end(f.log));
  return plog_sys_count(f.sys, PLOG_SYS_FSYNC) - before;
}

/* A segment that begins below where the newest one did before a cut has a new name all the same. */
static void names_after_a_cut(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 2000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 40, 2, 50);
  CHECK_EQ(names_synced(), 1);
  fixture_fill(&f, 1, 1, 1);
  CHECK_EQ(names_synced(), 0);
  CHECK_EQ(plog_log_truncate(f.log, 10, 0), 0);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  CHECK_EQ(names_synced(), 1);
  CHECK_EQ(plog_log_truncate_fully(f.log, 5, 0), 0);
  CHECK_EQ(names_synced(), 1);
  CHECK_EQ(names_synced(), 0);
  fixture_end(&f);
}

/* What a sync of the file system made durable moves the recovery point as a flush does, without a wait of the log's own; and not
   when the log was cut meanwhile. */
static void one_sync_of_all(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 2000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 40, 2, 50);
  int64_t syncs = plog_sys_count(f.sys, PLOG_SYS_FDATASYNC) + plog_sys_count(f.sys, PLOG_SYS_FSYNC);
  CHECK_EQ(plog_log_close_waits(f.log), 1);
  plog_sync_point durable, cut;
  plog_log_sync_point(f.log, &durable);
  plog_log_synced(f.log, &durable);
  CHECK_EQ(names_synced(), 0);
  plog_log_sync_point(f.log, &durable);
  fixture_fill(&f, 1, 2, 50);
  plog_log_synced(f.log, &durable);
  CHECK_EQ(fixture_info(&f).recovery_point, 80);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FDATASYNC) + plog_sys_count(f.sys, PLOG_SYS_FSYNC), syncs);
  plog_log_sync_point(f.log, &cut);
  CHECK_EQ(plog_log_truncate(f.log, 70, 0), 0);
  fixture_fill(&f, 10, 2, 50);
  plog_log_synced(f.log, &cut);
  CHECK_EQ(fixture_info(&f).recovery_point, 70);
  fixture_end(&f);
}

/* Nothing that a clean stop leaves waits for the disk when its syncs are left to whoever closes. */
static void closed_unsynced(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  CHECK_EQ(plog_log_close_waits(f.log), 0);
  fixture_fill(&f, 4, 2, 50);
  CHECK_EQ(plog_log_close_waits(f.log), 1);
  int64_t syncs = plog_sys_count(f.sys, PLOG_SYS_FDATASYNC) + plog_sys_count(f.sys, PLOG_SYS_FSYNC);
  CHECK_EQ(plog_log_close(f.log, PLOG_CLOSE_UNSYNCED), 0);
  f.log = NULL;
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FDATASYNC) + plog_sys_count(f.sys, PLOG_SYS_FSYNC), syncs);
  fixture_open(&f, 0, 8, 1);
  CHECK_EQ(plog_log_close_waits(f.log), 0);
  CHECK_EQ(fixture_info(&f).log_end_offset, 8);
  fixture_end(&f);
}

int main(void) {
  RUN(flushing);
  RUN(names_after_a_cut);
  RUN(one_sync_of_all);
  RUN(closed_unsynced);
  return 0;
}
