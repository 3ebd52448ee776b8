/*
 * test_epochs.c: the leader epochs of a log: what is kept of them, and where each of them ends.
 */
#include "epochs.h"

#include "log_fixture.h"

static fixture f;

static void check_end(const plog_epochs *e, int32_t begun, int32_t asked, int32_t epoch, int64_t end) {
  int32_t found;
  int64_t offset;
  plog__epochs_end(e, begun, asked, 300, &found, &offset);
  CHECK_EQ(found, epoch);
  CHECK_EQ(offset, end);
}

/* As Kafka's LeaderEpochFileCache answers, in a log that ends at 300. */
static void ends(void) {
  plog_epochs e = {0};
  check_end(&e, -1, 0, -1, -1); /* none is known */
  check_end(&e, -1, -1, -1, -1);
  check_end(&e, 3, 3, 3, 300);
  check_end(&e, 3, 2, 2, 300); /* whatever it had is gone: we begin later */
  check_end(&e, 3, 4, -1, -1);
  const plog_epoch known[] = {{2, 10}, {4, 120}, {5, 200}};
  for (size_t i = 0; i < PLOG_COUNT_OF(known); i++)
    CHECK_EQ(plog__epochs_assign(&e, known[i].epoch, known[i].start_offset), 0);
  for (int32_t begun = -1; begun <= 7; begun += 8) {
    check_end(&e, begun, -1, -1, -1);
    check_end(&e, begun, 0, 0, 10); /* older than all */
    check_end(&e, begun, 2, 2, 120);
    check_end(&e, begun, 3, 2, 120);
    check_end(&e, begun, 4, 4, 200);
    check_end(&e, begun, 5, 5, 300);
    check_end(&e, begun, 6, begun < 0 ? -1 : 5, begun < 0 ? -1 : 300);
    check_end(&e, begun, 7, begun, begun < 0 ? -1 : 300);
    check_end(&e, begun, 8, -1, -1);
  }
  plog__epochs_cut_start(&e, 130);
  check_end(&e, -1, 2, 2, 130);
  check_end(&e, -1, 4, 4, 200);
  plog__epochs_deinit(&e);
}

/* Where all records were deleted, the epoch in force there is still known after a start; an entry at the end of a log with records
   has none of its own and goes. */
static void epochs_at_the_end(void) {
  const int64_t epochs[] = {4, 0, 5, 6};
  const int64_t base = 0;
  for (int32_t clean = 0; clean < 2; clean++)
    for (int64_t start = 0; start <= 6; start += 6) {
      fixture_begin(&f);
      fixture_open(&f, 0, 0, 1);
      stamped s;
      stamp(&s, 0, 6, 4, 1000, 30, -1, -1, 0);
      CHECK_EQ(fixture_append(&f, &s), 0);
      fixture_close(&f, 1);
      CHECK_EQ(
          plog_log_open(f.sys, f.dir, &f.config, &base, 1, start, clean ? 6 : 0, clean, epochs, 2, 0, &f.log, &f.report),
          0);
      int64_t pairs[4], end;
      int32_t epoch;
      CHECK_EQ(plog_log_epochs(f.log, pairs, 2), 1);
      CHECK_EQ(pairs[0], start == 0 || !clean ? 4 : 5); /* after a crash the batches say it */
      CHECK_EQ(pairs[1], start);
      CHECK_EQ(f.report.epochs_changed, 1);
      CHECK_EQ(plog_log_end_offset_for_epoch(f.log, 4, &epoch, &end), 0);
      CHECK_EQ(epoch, 4);
      CHECK_EQ(end, 6);
      stamp(&s, 6, 1, 7, 1000, 30, -1, -1, 0);
      CHECK_EQ(fixture_append(&f, &s), 0); /* and makes way for one that has */
      int32_t count = plog_log_epochs(f.log, pairs, 2);
      CHECK_EQ(count, start == 0 ? 2 : 1);
      CHECK_EQ(pairs[2 * count - 2], 7);
      CHECK_EQ(pairs[2 * count - 1], 6);
      fixture_end(&f);
    }
}

int main(void) {
  RUN(ends);
  RUN(epochs_at_the_end);
  return 0;
}
