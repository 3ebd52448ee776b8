/*
 * test_partition.c: one replica without sockets or clocks: who may append, when the high watermark moves, whom the leader
 * takes for in sync, what a cut does; and a random leader with random followers that never breaks its promises.
 */
#include "partition.h"

#include <errno.h>

#include "purgatory.h"
#include "test.h"

#define LAG_MS 1000
#define WALL_MS 1790000000000

static plog_sys *sys;
static char dir[] = "/tmp/plog_test_partition_XXXXXX";
static const plog_log_config log_config = {.segment_bytes = 1 << 30,
                                           .segment_ms = INT64_MAX,
                                           .segment_index_bytes = 4096,
                                           .index_interval_bytes = 4096,
                                           .flush_messages = INT64_MAX};

static plog_partition_state state_of(int32_t role, int32_t epoch, const int32_t *replicas, int32_t replicas_count,
                                     const int32_t *isr, int32_t isr_count) {
  return (plog_partition_state){.role = role,
                                .leader_epoch = epoch,
                                .leader_id = 1,
                                .replicas = replicas,
                                .replicas_count = replicas_count,
                                .isr = isr,
                                .isr_count = isr_count,
                                .min_insync_replicas = 1,
                                .max_message_bytes = 1 << 20,
                                .timestamp_before_max_ms = INT64_MAX,
                                .timestamp_after_max_ms = INT64_MAX,
                                .compression = -1,
                                .compression_level = INT32_MIN,
                                .high_watermark = -1};
}

static const int32_t ids[] = {1, 2, 3};

static void clean(void) {
  char command[256];
  (void)snprintf(command, sizeof command, "rm -rf %s/*", dir);
  CHECK_EQ(system(command), 0);
}

static plog_partition *open_partition(const plog_partition_state *state, int64_t now_ms) {
  clean();
  plog_log *log;
  plog_log_open_report report;
  CHECK_EQ(plog_log_open(sys, dir, &log_config, NULL, 0, 0, 0, 0, NULL, 0, WALL_MS, &log, &report), 0);
  plog_partition *p;
  CHECK_EQ(plog__partition_open(1, LAG_MS, log, state, now_ms, &p), 0);
  return p;
}

static void close_partition(plog_partition *p) {
  plog_log *log = p->log;
  plog__partition_close(p);
  CHECK_EQ(plog_log_close(log, 0), 0);
}

static uint8_t *make_batch(int32_t records, size_t *out_bytes) {
  plog_batch_builder *b = plog_batch_builder_open();
  plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
  for (int32_t i = 0; i < records; i++)
    CHECK_EQ(plog_batch_builder_add(b, WALL_MS, (const uint8_t *)"k", 1, (const uint8_t *)"value", 5, NULL, 0, 0), 0);
  const uint8_t *data;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, out_bytes), 0);
  uint8_t *copy = malloc(*out_bytes);
  CHECK(copy);
  memcpy(copy, data, *out_bytes);
  plog_batch_builder_close(b);
  return copy;
}

static int32_t append(plog_partition *p, int32_t records, int32_t acks, int64_t now_ms) {
  size_t size;
  uint8_t *data = make_batch(records, &size);
  plog_append result;
  int32_t rc = plog__partition_append(p, data, size, acks, true, WALL_MS, &result);
  if (rc == 0) {
    rc = plog__partition_commit(p, WALL_MS, now_ms);
    plog__partition_fire(p, now_ms);
  }
  free(data);
  return rc;
}

static int64_t high_watermark(const plog_partition *p) {
  return plog__partition_high_watermark(p);
}

static bool fetched(plog_partition *p, int32_t broker_id, int64_t offset, int64_t now_ms) {
  bool moved;
  CHECK_EQ(plog__partition_follower_fetched(p, broker_id, -1, offset, 0, now_ms, &moved), 0);
  return moved;
}

static bool take_fact(plog_partition *p, int32_t *broker, bool *in_sync) {
  const plog_replica *r = plog__partition_take_isr_fact(p);
  if (!r) return false;
  *broker = r->broker_id;
  *in_sync = r->joining;
  return true;
}

static void single_replica(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 1, ids, 1);
  s.min_insync_replicas = 3; /* capped */
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 3, PLOG_ACKS_ALL, 0), 0);
  CHECK_EQ(high_watermark(p), 3);
  CHECK_EQ(plog__partition_readable_end(p, PLOG_READ_COMMITTED), 3);
  CHECK(!plog__partition_watches_lag(p));
  close_partition(p);
}

static void check_end_of_epoch(const plog_partition *p, int32_t asked, int32_t epoch, int64_t end) {
  int32_t found;
  int64_t offset;
  plog__partition_end_of_epoch(p, asked, &found, &offset);
  CHECK_EQ(found, epoch);
  CHECK_EQ(offset, end);
}

/* A leader's epoch has begun before its first record. */
static void ends_of_epochs(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 3, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  check_end_of_epoch(p, -1, -1, -1);
  check_end_of_epoch(p, 0, 0, 0); /* whoever has records of it cut them all: we begin later */
  check_end_of_epoch(p, 3, 3, 0);
  check_end_of_epoch(p, 4, -1, -1);
  CHECK_EQ(append(p, 5, 1, 0), 0);
  check_end_of_epoch(p, 2, 2, 0);
  check_end_of_epoch(p, 3, 3, 5);
  bool ceased;
  s.leader_epoch = 6; /* elected without what the leaders of 4 and 5 wrote */
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  check_end_of_epoch(p, 3, 3, 5);
  check_end_of_epoch(p, 5, 3, 5);
  check_end_of_epoch(p, 6, 6, 5);
  CHECK_EQ(append(p, 2, 1, 0), 0);
  check_end_of_epoch(p, 5, 3, 5);
  check_end_of_epoch(p, 6, 6, 7);
  s.leader_epoch = 7;
  s.role = PLOG_ROLE_FOLLOWER;
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  check_end_of_epoch(p, 6, 6, 7);
  check_end_of_epoch(p, 7, -1, -1); /* not ours to say */
  close_partition(p);
}

static void roles(void) {
  plog_partition_state s = state_of(PLOG_ROLE_FOLLOWER, 3, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 1, 1, 0), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(plog__partition_check_read(p, 3, true), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(plog__partition_check_read(p, 2, true), PLOG_FENCED_LEADER_EPOCH);
  CHECK_EQ(plog__partition_check_read(p, 4, true), PLOG_UNKNOWN_LEADER_EPOCH);
  CHECK_EQ(plog__partition_check_read(p, -1, false), 0);
  bool ceased;
  s.role = PLOG_ROLE_LEADER;
  s.leader_epoch = 4;
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  CHECK(!ceased);
  CHECK_EQ(append(p, 1, 1, 0), 0);
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  CHECK(!ceased);
  s.leader_epoch = 5;
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  CHECK(!ceased); /* the same leader of another epoch has its log: what waits there goes on waiting */
  s.role = PLOG_ROLE_OFFLINE;
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  CHECK(ceased);
  CHECK_EQ(append(p, 1, 1, 0), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(plog__partition_check_read(p, -1, false), PLOG_KAFKA_STORAGE_ERROR);
  close_partition(p);
}

static void follower_progress(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 3, ids, 3);
  s.min_insync_replicas = 2;
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 5, PLOG_ACKS_ALL, 0), 0);
  CHECK_EQ(high_watermark(p), 0);
  CHECK(!fetched(p, 2, 5, 10));
  CHECK(fetched(p, 3, 2, 10));
  CHECK_EQ(high_watermark(p), 2); /* the slowest in sync */
  CHECK(fetched(p, 3, 5, 20));
  CHECK_EQ(high_watermark(p), 5);
  CHECK(!fetched(p, 3, 3, 30)); /* a follower that lost records does not take it back */
  CHECK_EQ(high_watermark(p), 5);
  bool moved;
  CHECK_EQ(plog__partition_follower_fetched(p, 9, -1, 5, 0, 30, &moved), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(plog__partition_follower_fetched(p, 1, -1, 5, 0, 30, &moved), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK(plog__partition_has_replica(p, 2));
  CHECK(!plog__partition_has_replica(p, 1));
  close_partition(p);
}

static void minimum_in_sync(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 3, ids, 1);
  s.min_insync_replicas = 2;
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 1, PLOG_ACKS_ALL, 0), PLOG_NOT_ENOUGH_REPLICAS);
  CHECK_EQ(append(p, 1, 1, 0), 0);
  CHECK_EQ(high_watermark(p), 0);
  CHECK_EQ(plog__partition_enough_replicas(p), PLOG_NOT_ENOUGH_REPLICAS_AFTER_APPEND);
  CHECK(!fetched(p, 2, 1, 5));
  int32_t broker;
  bool in_sync;
  CHECK(take_fact(p, &broker, &in_sync));
  CHECK_EQ(broker, 2);
  CHECK(in_sync);
  CHECK(!take_fact(p, &broker, &in_sync));
  CHECK_EQ(plog__partition_enough_replicas(p), 0); /* with the one that is about to be in sync */
  s.isr_count = 2;
  bool ceased;
  CHECK_EQ(plog__partition_publish(p, &s, 6, &ceased), 0);
  CHECK_EQ(high_watermark(p), 1);
  close_partition(p);
}

static void joins_only_with_all_that_is_committed(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 1);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 4, 1, 0), 0);
  int32_t broker;
  bool in_sync;
  CHECK(!fetched(p, 2, 3, 0));
  CHECK(!take_fact(p, &broker, &in_sync));
  (void)fetched(p, 2, 4, 0);
  CHECK(take_fact(p, &broker, &in_sync));
  CHECK_EQ(append(p, 4, 1, 1), 0);
  CHECK_EQ(high_watermark(p), 4); /* it counts already */
  (void)fetched(p, 2, 8, 2);
  CHECK(!take_fact(p, &broker, &in_sync)); /* told once */
  CHECK_EQ(high_watermark(p), 8);
  close_partition(p);
}

static void falls_behind(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  int32_t broker;
  bool in_sync;
  CHECK_EQ(append(p, 2, 1, 100), 0);
  CHECK(!fetched(p, 2, 0, 100));
  CHECK(plog__partition_check_lag(p, LAG_MS));
  CHECK(!take_fact(p, &broker, &in_sync));
  /* It keeps fetching what the leader had at the fetch before: one fetch behind is in sync. */
  CHECK_EQ(append(p, 2, 1, 900), 0);
  CHECK(fetched(p, 2, 2, 900));
  CHECK(plog__partition_check_lag(p, 1050));
  CHECK(!take_fact(p, &broker, &in_sync));
  CHECK(plog__partition_check_lag(p, 2000));
  CHECK(take_fact(p, &broker, &in_sync));
  CHECK_EQ(broker, 2);
  CHECK(!in_sync);
  CHECK(plog__partition_check_lag(p, 3000));
  CHECK(!take_fact(p, &broker, &in_sync)); /* told once */
  CHECK_EQ(high_watermark(p), 2);          /* and counts until it is taken out */
  s.isr_count = 1;
  bool ceased;
  CHECK_EQ(plog__partition_publish(p, &s, 3001, &ceased), 0);
  CHECK_EQ(high_watermark(p), 4);
  CHECK(!plog__partition_check_lag(p, 4000));
  close_partition(p);
}

static void quiet_partition_is_in_sync(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 2, 1, 0), 0);
  CHECK(fetched(p, 2, 2, 1));
  int32_t broker;
  bool in_sync;
  CHECK(plog__partition_check_lag(p, 1000 * LAG_MS));
  CHECK(!take_fact(p, &broker, &in_sync));
  close_partition(p);
}

static void new_leader_starts_from_what_it_is_told(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 6, 1, 0), 0);
  CHECK(fetched(p, 2, 6, 0));
  bool ceased;
  s.leader_epoch = 1;
  s.high_watermark = 4;
  CHECK_EQ(plog__partition_publish(p, &s, 10, &ceased), 0);
  CHECK_EQ(high_watermark(p), 4); /* nothing was heard of the follower in this epoch */
  CHECK(!fetched(p, 2, 3, 11));
  CHECK(fetched(p, 2, 6, 12));
  CHECK_EQ(high_watermark(p), 6);
  s.leader_epoch = 2;
  s.high_watermark = 100;
  CHECK_EQ(plog__partition_publish(p, &s, 20, &ceased), 0);
  CHECK_EQ(high_watermark(p), 6); /* never above the log's end */
  close_partition(p);
}

static void cuts(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 1, ids, 1);
  plog_partition *p = open_partition(&s, 0);
  for (int i = 0; i < 5; i++) CHECK_EQ(append(p, 2, 1, 0), 0);
  int64_t start;
  CHECK_EQ(plog__partition_delete_records(p, 11, &start), PLOG_OFFSET_OUT_OF_RANGE);
  CHECK_EQ(plog__partition_delete_records(p, -2, &start), PLOG_OFFSET_OUT_OF_RANGE);
  CHECK_EQ(plog__partition_delete_records(p, 4, &start), 0);
  CHECK_EQ(start, 4);
  CHECK_EQ(plog__partition_delete_records(p, 1, &start), 0);
  CHECK_EQ(start, 4);
  CHECK_EQ(plog__partition_truncate(p, 8, false, WALL_MS), 0);
  CHECK_EQ(high_watermark(p), 8);
  CHECK_EQ(plog__partition_delete_records(p, -1, &start), 0);
  CHECK_EQ(start, 8);
  CHECK_EQ(plog__partition_truncate(p, 50, true, WALL_MS), 0);
  CHECK_EQ(high_watermark(p), 50);
  CHECK_EQ(append(p, 2, 1, 0), 0);
  CHECK_EQ(high_watermark(p), 52);
  close_partition(p);
}

typedef struct {
  plog_watch watch;
  int fired;
  int32_t error;
} probe;

static void fire(plog_watch *watch, int32_t error, int64_t now_ms) {
  probe *w = PLOG_CONTAINER_OF(watch, probe, watch);
  w->fired++;
  w->error = error;
  (void)now_ms;
}

static void failed_writes(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 1, ids, 1);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 1, 1, 0), 0);
  probe w = {.fired = 0};
  plog__watch_init(&w.watch, fire);
  plog__watch_offset(&p->staged_watches, &w.watch, 2);
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITEV, 1, ENOSPC, 0, 1), 0);
  CHECK_EQ(append(p, 1, 1, 0), -ENOSPC);
  CHECK_EQ(w.fired, 1);
  CHECK_EQ(w.error, PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(append(p, 1, 1, 0), 0);                                     /* room has come back */
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITEV, 1, EMFILE, 0, 1), 0); /* the process lacks something, not the disk */
  CHECK_EQ(append(p, 1, 1, 0), -EMFILE);
  CHECK_EQ(p->failed, 0);
  CHECK_EQ(plog_sys_fault(sys, PLOG_SYS_PWRITEV, 1, EIO, 0, 1), 0);
  CHECK_EQ(append(p, 1, 1, 0), -EIO);
  CHECK_EQ(append(p, 1, 1, 0), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(plog__partition_check_read(p, -1, true), 0); /* reads go on */
  bool ceased;
  CHECK_EQ(plog__partition_publish(p, &s, 0, &ceased), 0);
  CHECK_EQ(append(p, 1, 1, 0), 0);
  CHECK_EQ(high_watermark(p), 3);
  close_partition(p);
}

static void watches_by_offset(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 4, 1, 0), 0);
  probe two = {.fired = 0}, four = {.fired = 0}, any = {.fired = 0};
  plog__watch_init(&two.watch, fire);
  plog__watch_init(&four.watch, fire);
  plog__watch_init(&any.watch, fire);
  plog__watch_offset(&p->offset_watches, &four.watch, 4);
  plog__watch_offset(&p->offset_watches, &two.watch, 2);
  plog__watch_any(&p->fetch_watches, &any.watch);
  CHECK(fetched(p, 2, 3, 0));
  plog__partition_fire(p, 0);
  CHECK_EQ(two.fired, 1);
  CHECK_EQ(four.fired, 0);
  CHECK_EQ(any.fired, 1);
  CHECK(fetched(p, 2, 4, 0));
  plog__partition_fire(p, 0);
  CHECK_EQ(four.fired, 1);
  close_partition(p);
}

/* A follower's fetch in the turn in which a batch is staged moves the high watermark, and says nothing about the batch. */
static void a_staged_batch_waits_for_its_write(void) {
  plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 2, ids, 2);
  plog_partition *p = open_partition(&s, 0);
  CHECK_EQ(append(p, 2, 1, 0), 0);
  size_t size;
  uint8_t *data = make_batch(3, &size);
  plog_append staged;
  CHECK_EQ(plog__partition_append(p, data, size, 1, true, WALL_MS, &staged), 0);
  probe w = {.fired = 0};
  plog__watch_init(&w.watch, fire);
  plog__watch_offset(&p->staged_watches, &w.watch, staged.last_offset + 1);
  CHECK(fetched(p, 2, 2, 0));
  plog__partition_fire(p, 0);
  CHECK_EQ(high_watermark(p), 2);
  CHECK_EQ(w.fired, 0);
  CHECK_EQ(plog__partition_commit(p, WALL_MS, 0), 0);
  plog__partition_fire(p, 0);
  CHECK_EQ(w.fired, 1);
  CHECK_EQ(w.error, 0);
  free(data);
  close_partition(p);
}

/* Invariants of the header, whatever happens. */
static void random_cluster(void) {
  for (uint64_t round = 1; round <= 20; round++) {
    uint64_t seed = round;
    plog_partition_state s = state_of(PLOG_ROLE_LEADER, 0, ids, 3, ids, 3);
    s.min_insync_replicas = 1 + (int32_t)(round % 3);
    plog_partition *p = open_partition(&s, 0);
    int64_t ends[3] = {0}, reached = 0, now = 0;
    for (int step = 0; step < 400; step++) {
      now += (int64_t)(test_random(&seed) % 300);
      int32_t broker;
      bool in_sync, ceased;
      switch (test_random(&seed) % 6) {
      case 0:
      case 1: (void)append(p, 1 + (int32_t)(test_random(&seed) % 4), 1, now); break;
      case 2:
      case 3: {
        int f = 1 + (int)(test_random(&seed) % 2);
        int64_t end = plog__log_end(p->log);
        ends[f] = PLOG_MIN(end, ends[f] + (int64_t)(test_random(&seed) % 6));
        (void)fetched(p, f + 1, ends[f], now);
        break;
      }
      case 4: (void)plog__partition_check_lag(p, now); break;
      default: { /* Python answers a fact by publishing the set it asked for */
        static int32_t isr[3];
        if (!take_fact(p, &broker, &in_sync)) break;
        int32_t count = 0;
        for (int32_t i = 0; i < p->replicas_count; i++) {
          int32_t id = p->replicas[i].broker_id;
          if (id == broker ? in_sync : p->replicas[i].in_isr) isr[count++] = id;
        }
        s.isr = isr;
        s.isr_count = count;
        CHECK_EQ(plog__partition_publish(p, &s, now, &ceased), 0);
      }
      }
      int64_t h = high_watermark(p);
      CHECK(h >= reached);
      if (h > reached) { /* when it moves, every replica in sync has what it covers */
        for (int32_t i = 0; i < p->replicas_count; i++)
          if (p->replicas[i].in_isr && p->replicas[i].broker_id != 1) CHECK(ends[p->replicas[i].broker_id - 1] >= h);
        CHECK(p->isr_count >= p->min_isr);
      }
      reached = h;
      CHECK(h <= plog__log_end(p->log));
      CHECK(plog__partition_readable_end(p, PLOG_READ_COMMITTED) <= h);
    }
    close_partition(p);
  }
}

int main(void) {
  CHECK(mkdtemp(dir));
  sys = plog_sys_open();
  CHECK(sys);
  RUN(single_replica);
  RUN(ends_of_epochs);
  RUN(roles);
  RUN(follower_progress);
  RUN(minimum_in_sync);
  RUN(joins_only_with_all_that_is_committed);
  RUN(falls_behind);
  RUN(quiet_partition_is_in_sync);
  RUN(new_leader_starts_from_what_it_is_told);
  RUN(cuts);
  RUN(failed_writes);
  RUN(watches_by_offset);
  RUN(a_staged_batch_waits_for_its_write);
  RUN(random_cluster);
  plog_sys_close(sys);
  clean();
  CHECK_EQ(rmdir(dir), 0);
  return 0;
}
