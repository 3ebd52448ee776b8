/*
 * A copy of a log that is built beside it and takes its place: what is in it after every step, and its new name.
 */
#include "log_move.h"

#include "log_fixture.h"

static int64_t copy_all(fixture *from, fixture *to, uint32_t most_bytes) {
  int64_t steps = 0;
  for (int64_t copied = 1; copied > 0; steps++) CHECK_EQ(plog_log_copy(from->log, to->log, most_bytes, 0, &copied), 0);
  return steps;
}

static void check_equal(fixture *a, fixture *b) {
  static uint8_t left[1 << 20], right[1 << 20];
  plog_log_info x = fixture_info(a), y = fixture_info(b);
  CHECK_EQ(x.log_end_offset, y.log_end_offset);
  CHECK_EQ(x.log_start_offset, y.log_start_offset);
  CHECK_EQ(x.latest_epoch, y.latest_epoch);
  CHECK_EQ(x.producer_count, y.producer_count);
  size_t left_bytes, right_bytes;
  for (int64_t at = x.log_start_offset; at < x.log_end_offset;) {
    CHECK_EQ(plog_log_read(a->log, at, INT64_MAX, 1, left, sizeof left, &left_bytes), 0);
    CHECK_EQ(plog_log_read(b->log, at, INT64_MAX, 1, right, sizeof right, &right_bytes), 0);
    size_t same = PLOG_MIN(left_bytes, right_bytes); /* segments may end elsewhere */
    CHECK(same > 0 && memcmp(left, right, same) == 0);
    for (size_t i = 0; i < same;) {
      plog_batch_header header;
      CHECK_EQ(plog_batch_header_read(left + i, same - i, &header), 0);
      i += header.size_bytes;
      at = plog__batch_last_offset(&header) + 1;
    }
  }
}

static void begin_pair(fixture *from, fixture *to) {
  fixture_begin(from);
  fixture_begin(to);
  from->config.segment_bytes = 10000;
  to->config.segment_bytes = 7000;
  fixture_open(from, 0, 0, 1);
  fixture_open(to, 0, 0, 1);
}

static void end_pair(fixture *from, fixture *to) {
  fixture_end(from);
  fixture_end(to);
}

static void it_is_copied_in_steps(void) {
  fixture from, to;
  begin_pair(&from, &to);
  int64_t copied = 9;
  CHECK_EQ(plog_log_copy(from.log, to.log, 1000, 0, &copied), 0);
  CHECK_EQ(copied, 0);
  fixture_fill(&from, 400, 3, 200);
  for (int i = 0; i < 5; i++) { /* an idempotent producer */
    stamped s;
    stamp(&s, plog__log_end(from.log), 2, 1, 5000, 50, 77, 2 * i, 0);
    CHECK_EQ(fixture_append(&from, &s), 0);
  }
  CHECK(copy_all(&from, &to, 1000) > 2);
  check_equal(&from, &to);
  fixture_fill(&from, 3, 1, 10);
  CHECK_EQ(plog__log_catch_up(from.log, to.log, 1 << 20, 0), 0);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void too_much_is_left_for_the_next_time(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fixture_fill(&from, 1000, 3, 200);
  CHECK_EQ(plog__log_catch_up(from.log, to.log, 200000, 0), PLOG_E_AGAIN);
  int64_t end = plog__log_end(to.log);
  CHECK(end > 0 && end < plog__log_end(from.log));
  while (plog__log_catch_up(from.log, to.log, 200000, 0) == PLOG_E_AGAIN) CHECK(plog__log_end(to.log) > end);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void deleted_records_are_not_in_the_copy(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fixture_fill(&from, 200, 3, 200);
  int64_t copied;
  CHECK_EQ(plog_log_copy(from.log, to.log, 5000, 0, &copied), 0);
  int32_t segments;
  CHECK_EQ(plog_log_set_start(from.log, 400), 0); /* in the middle of a batch, behind the copy's end */
  CHECK_EQ(plog_log_delete_segments(from.log, 400, &segments), 0);
  CHECK(segments > 0);
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  CHECK_EQ(plog_log_set_start(from.log, 500), 0); /* before the copy's end */
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void a_log_that_is_cut_cuts_its_copy(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fixture_fill(&from, 200, 3, 200);
  copy_all(&from, &to, 70000);
  CHECK_EQ(plog_log_truncate(from.log, 300, 0), 0);
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  fixture_fill(&from, 20, 3, 100);
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

/* As a follower does: cut where its leader's log differs, and go on with what that one wrote in its epoch. */
static void fill_in_epoch(fixture *f, int32_t epoch, int batches) {
  for (int i = 0; i < batches; i++) {
    stamped s;
    int64_t end = plog__log_end(f->log);
    stamp(&s, end, 3, epoch, 5000 + end, 150 + epoch, -1, -1, 0);
    CHECK_EQ(fixture_append(f, &s), 0);
  }
}

static void a_log_that_is_cut_and_goes_on_cuts_its_copy_too(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fill_in_epoch(&from, 1, 50);
  fill_in_epoch(&from, 3, 50);
  copy_all(&from, &to, 70000);
  CHECK_EQ(plog_log_truncate(from.log, 210, 0), 0);
  fill_in_epoch(&from, 4, 60); /* ends above the copy */
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  CHECK_EQ(plog_log_truncate(from.log, 120, 0), 0); /* epochs 3 and 4 are gone */
  fill_in_epoch(&from, 5, 200);
  CHECK_EQ(plog__log_catch_up(from.log, to.log, 1 << 20, 0), 0);
  check_equal(&from, &to);
  CHECK_EQ(plog_log_truncate(from.log, 90, 0), 0);
  copy_all(&from, &to, 70000);
  fill_in_epoch(&from, 2, 3); /* an epoch that the copy never had, below one that it has no more */
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void a_copy_that_has_taken_what_was_being_cut_gives_it_back(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fill_in_epoch(&from, 1, 20);
  copy_all(&from, &to, 70000);
  fill_in_epoch(&to, 1, 10); /* read before the cut, written after it */
  fill_in_epoch(&to, 2, 10);
  fill_in_epoch(&from, 3, 5); /* ends below the copy */
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  CHECK_EQ(plog_log_truncate_fully(from.log, 400, 0), 0);
  fill_in_epoch(&from, 6, 5);
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  CHECK_EQ(plog_log_truncate_fully(from.log, 10, 0), 0); /* an unclean election: all below is somebody else's */
  fill_in_epoch(&from, 7, 300);
  copy_all(&from, &to, 70000);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void who_failed_is_told(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fixture_fill(&from, 20, 3, 200);
  int64_t copied = 9;
  CHECK_EQ(plog_sys_fault(from.sys, PLOG_SYS_PREAD, 1, EIO, 0, -1), 0);
  CHECK(plog_log_copy(from.log, to.log, 1000, 0, &copied) < 0);
  CHECK_EQ(copied, -1);
  CHECK_EQ(plog__log_catch_up(from.log, to.log, 1 << 20, 0), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(plog_sys_fault(from.sys, PLOG_SYS_PREAD, 1, EIO, 0, 0), 0);
  CHECK_EQ(plog_sys_fault(to.sys, PLOG_SYS_PWRITEV, 1, ENOSPC, 0, 1), 0);
  CHECK_EQ(plog_log_copy(from.log, to.log, 1000, 0, &copied), -ENOSPC);
  CHECK(copied >= 0);
  copy_all(&from, &to, 1000); /* there is room again */
  check_equal(&from, &to);
  end_pair(&from, &to);
}

static void a_renamed_log_goes_on(void) {
  fixture from, to;
  begin_pair(&from, &to);
  fixture_fill(&from, 100, 3, 200);
  copy_all(&from, &to, 70000);
  char before[sizeof to.dir];
  strcpy(before, to.dir);
  CHECK_EQ(
      plog_log_rename(to.log, "/a name that is longer than the one that it has had before, by some characters at least"),
      -EINVAL);
  CHECK_EQ(plog_sys_fault(to.sys, PLOG_SYS_RENAME, 1, EIO, 0, 1), 0);
  to.dir[strlen(to.dir) - 1] = '\0';
  CHECK_EQ(plog_log_rename(to.log, to.dir), -EIO);
  CHECK(strcmp(plog__log_dir(to.log), before) == 0);
  CHECK_EQ(plog_log_rename(to.log, to.dir), 0);
  CHECK(strcmp(plog__log_dir(to.log), to.dir) == 0);
  fixture_fill(&from, 100, 3, 200);
  copy_all(&from, &to, 70000); /* rolls: new segments under the new name, old ones opened by it */
  check_equal(&from, &to);
  fixture_close(&to, 1);
  fixture_open(&to, 0, INT64_MAX, 1);
  check_equal(&from, &to);
  end_pair(&from, &to);
}

int main(void) {
  RUN(it_is_copied_in_steps);
  RUN(too_much_is_left_for_the_next_time);
  RUN(deleted_records_are_not_in_the_copy);
  RUN(a_log_that_is_cut_cuts_its_copy);
  RUN(a_log_that_is_cut_and_goes_on_cuts_its_copy_too);
  RUN(a_copy_that_has_taken_what_was_being_cut_gives_it_back);
  RUN(who_failed_is_told);
  RUN(a_renamed_log_goes_on);
  return 0;
}
