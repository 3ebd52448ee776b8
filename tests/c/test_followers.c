/*
 * test_followers.c: what a leader does for its followers and says of them, and where it sends consumers: facts about who is in sync,
 * records that wait for followers, rates, racks.
 */
#include "cluster_fixture.h"

static node one, two, three;

static void start_both(int32_t isr) {
  node_begin(&one, 1, 1);
  node_begin(&two, 2, 1);
  one.config.replica_lag_time_max_ms = 200;
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, isr);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, isr);
  node_start(&one, &leads);
  node_start(&two, &follows);
}

static void end_both(void) {
  node_end(&two);
  node_end(&one);
}

static plog_upcall await_isr(bool in_sync) {
  plog_upcall up = node_upcall(&one, PLOG_UP_ISR);
  CHECK_EQ(up.a, 2);
  CHECK_EQ(up.b, in_sync);
  return up;
}

static plog_replica_info follower_of_one(void) {
  plog_replica_info replicas[2];
  int32_t count;
  CHECK_EQ(plog_engine_replicas(one.engine, one.partitions[0], replicas, 2, &count), 0);
  CHECK_EQ(count, 2);
  return replicas[1];
}

/* A follower that has stopped falls behind; the ISR without it goes on; it comes back, joins, and is waited for again. */
static void leaves_and_joins(void) {
  start_both(2);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  node_await(&one, 0, node_append(&one, 0, 1, 10, 100));
  CHECK_EQ(follower_of_one().log_end, 10);
  plog_engine_unfollow(two.engine, two.partitions, 1);
  CHECK_EQ(node_append(&one, 0, 1, 10, 100), 20);
  CHECK_EQ(node_info(&one, 0).high_watermark, 10);
  CHECK_EQ(await_isr(false).token, 102);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 1);
  node_publish(&one, &leads);
  CHECK_EQ(node_info(&one, 0).high_watermark, 20);
  CHECK_EQ(follower_of_one().log_end, 10); /* what is known of it outlives a publish in the same epoch */
  node_follow(&two, fetcher);
  plog_upcall up = await_isr(true);
  CHECK_EQ(up.token, 102);
  CHECK_EQ(up.partition, one.partitions[0]);
  CHECK_EQ(follower_of_one().joining, 1);
  /* asked for, as Python publishes it: what it lacks is not committed, whatever the ISR says */
  plog_engine_unfollow(two.engine, two.partitions, 1);
  static const int32_t joining[] = {2};
  leads.joining = joining;
  leads.joining_count = 1;
  node_publish(&one, &leads);
  CHECK_EQ(follower_of_one().joining, 1);
  CHECK_EQ(follower_of_one().in_isr, 0);
  CHECK_EQ(node_append(&one, 0, 1, 10, 100), 30);
  CHECK_EQ(node_info(&one, 0).high_watermark, 20);
  /* refused */
  leads.joining_count = 0;
  int64_t by_ms = cluster_now_ms() + CLUSTER_WAIT_MS;
  do { /* a follower that had everything a moment ago is waited for */
    CHECK(cluster_now_ms() < by_ms);
    node_publish(&one, &leads);
    CHECK_EQ(follower_of_one().joining, 0);
  } while (node_info(&one, 0).high_watermark < 30);
  end_both();
}

/* A replica that joins does not count for min.insync.replicas before it is in the ISR. */
static void too_few_in_sync(void) {
  start_both(1);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 1);
  static const int32_t joining[] = {2};
  leads.min_insync_replicas = 2;
  leads.joining = joining;
  leads.joining_count = 1;
  node_publish(&one, &leads);
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *batch;
  size_t size;
  int64_t base, last;
  int32_t committed;
  plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
  CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, (const uint8_t *)"v", 1, NULL, 0, 0), 0);
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &batch, &size), 0);
  CHECK_EQ(plog_engine_append(one.engine, one.partitions[0], batch, size, 1, &base, &last, &committed),
           PLOG_NOT_ENOUGH_REPLICAS);
  leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 2);
  leads.min_insync_replicas = 2;
  node_publish(&one, &leads);
  CHECK_EQ(plog_engine_append(one.engine, one.partitions[0], batch, size, 77, &base, &last, &committed), 0);
  CHECK_EQ(committed, 0);
  node_follow(&two, node_fetcher(&two, &one));
  plog_upcall up = node_upcall(&one, PLOG_UP_COMMITTED);
  CHECK_EQ(up.token, 77);
  CHECK_EQ(up.error, 0);
  CHECK_EQ(up.offset, 0);
  plog_batch_builder_close(b);
  end_both();
}

/* A fetch from before a broker's restart says nothing of the one that runs now. */
static void old_broker_epoch(void) {
  start_both(2);
  plog_fetcher_config config = fetcher_to(&one, &two);
  int64_t fetcher;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &fetcher), 0);
  node_follow(&two, fetcher);
  node_await(&two, 0, node_append(&one, 0, 1, 10, 100));
  CHECK_EQ(plog_engine_configure_fetcher(two.engine, fetcher, "127.0.0.1", one.port, 101), 0);
  plog_upcall up = node_upcall(&two, PLOG_UP_FOLLOW);
  CHECK_EQ(up.error, PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(up.a, 0);
  CHECK_EQ(plog_engine_configure_fetcher(two.engine, fetcher, "127.0.0.1", one.port, 103), 0);
  node_await(&two, 0, node_append(&one, 0, 1, 10, 100));
  CHECK_EQ(follower_of_one().broker_epoch, 103);
  end_both();
}

static void not_a_replica(void) {
  start_both(1);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 1, 1);
  node_publish(&one, &leads);
  node_follow(&two, node_fetcher(&two, &one));
  CHECK_EQ(node_upcall(&two, PLOG_UP_FOLLOW).error, PLOG_UNKNOWN_LEADER_EPOCH);
  leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 1);
  node_publish(&one, &leads);
  node_await(&two, 0, node_append(&one, 0, 1, 10, 100));
  CHECK_EQ(plog_engine_replicas(two.engine, two.partitions[0], NULL, 0, &(int32_t){0}), PLOG_NOT_LEADER_OR_FOLLOWER);
  end_both();
}

/* ------------------------------------------------------------------------------------------------ rates */

enum { SLOW_RATE = 1000 };

/* Some of three megabytes has come, and no more comes. */
static void await_held(int64_t end) {
  int64_t by_ms = cluster_now_ms() + CLUSTER_WAIT_MS, came;
  while ((came = node_info(&two, 0).log_end_offset) == 0) CHECK(cluster_now_ms() < by_ms && poll(NULL, 0, 1) == 0);
  int64_t until_ms = cluster_now_ms() + 150; /* a few backoffs and waits: none of them brings anything */
  while (cluster_now_ms() < until_ms) {
    int64_t now = node_info(&two, 0).log_end_offset;
    CHECK(now < end);
    came = now;
    (void)poll(NULL, 0, 5);
  }
  CHECK_EQ(node_info(&two, 0).log_end_offset, came);
}

static void rate_of_followers(void) {
  start_both(1);
  int64_t end = node_append(&one, 0, 60, 1, 50000);
  plog_engine_throttle_replication(two.engine, -1, SLOW_RATE);
  plog_engine_mark_throttled(two.engine, two.partitions, 1, PLOG_THROTTLED_FOLLOWING);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  await_held(end);
  plog_engine_throttle_replication(two.engine, -1, -1);
  node_await(&two, 0, end);
  /* in sync now: it is not held back, though the rate is exceeded for seconds to come */
  plog_engine_throttle_replication(two.engine, -1, SLOW_RATE);
  node_await(&two, 0, node_append(&one, 0, 1, 1, 100));
  plog_engine_mark_throttled(two.engine, two.partitions, 1, 0);
  plog_engine_unfollow(two.engine, two.partitions, 1);
  end = node_append(&one, 0, 60, 1, 50000);
  node_follow(&two, fetcher);
  node_await(&two, 0, end); /* nor is one that is not marked */
  end_both();
}

static void rate_of_leaders(void) {
  start_both(1);
  int64_t end = node_append(&one, 0, 60, 1, 50000);
  plog_engine_throttle_replication(one.engine, SLOW_RATE, -1);
  plog_engine_mark_throttled(one.engine, one.partitions, 1, PLOG_THROTTLED_LEADING);
  node_follow(&two, node_fetcher(&two, &one));
  await_held(end);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 2);
  node_publish(&one, &leads); /* in the ISR it is not held back */
  node_await(&two, 0, end);
  end_both();
}

/* ------------------------------------------------------------------------------------------------ racks */

typedef struct {
  int32_t error;
  int64_t high_watermark;
  int32_t preferred;
  size_t records_bytes;
} consumed;

/* One Fetch 11 of a consumer that says its rack. */
static consumed consume(const node *n, int64_t offset, const char *rack, int32_t max_wait_ms) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)n->port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(fd >= 0);
  CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  plog_writer w;
  plog_writer_init(&w);
  plog_write_i32(&w, 0);
  plog_write_i16(&w, 1);
  plog_write_i16(&w, 11);
  plog_write_i32(&w, 9);
  plog_write_string(&w, false, "c", 1);
  plog_write_i32(&w, -1);
  plog_write_i32(&w, max_wait_ms);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 1 << 20);
  plog_write_i8(&w, 0);
  plog_write_i32(&w, 0);
  plog_write_i32(&w, -1);
  plog_write_i32(&w, 1);
  plog_write_string(&w, false, "t", 1);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 0);
  plog_write_i32(&w, -1);
  plog_write_i64(&w, offset);
  plog_write_i64(&w, -1);
  plog_write_i32(&w, 1 << 20);
  plog_write_i32(&w, 0);
  plog_write_string(&w, false, rack, strlen(rack));
  plog_put_u32(w.data, (uint32_t)w.size_bytes - 4);
  CHECK_EQ(send(fd, w.data, w.size_bytes, MSG_NOSIGNAL), (int64_t)w.size_bytes);
  plog_writer_deinit(&w);
  static uint8_t answer[1 << 16];
  CHECK_EQ(recv(fd, answer, 4, MSG_WAITALL), 4);
  uint32_t size = plog_get_u32(answer);
  CHECK(size <= sizeof answer);
  CHECK_EQ(recv(fd, answer, size, MSG_WAITALL), size);
  (void)close(fd);
  plog_reader r;
  plog_reader_init(&r, answer, size);
  (void)plog_read_raw(&r, 4 + 4 + 2 + 4 + 4 + 3 + 4 + 4);
  consumed out = {.error = plog_read_i16(&r), .high_watermark = plog_read_i64(&r)};
  (void)plog_read_raw(&r, 8 + 8 + 4);
  out.preferred = plog_read_i32(&r);
  out.records_bytes = plog_read_bytes(&r, false).size_bytes;
  CHECK_EQ(plog_reader_status(&r), 0);
  return out;
}

static void start_racks(void) {
  node *all[] = {&one, &two, &three};
  for (int32_t i = 0; i < 3; i++) {
    node_begin(all[i], i + 1, 1);
    all[i]->config.replica_lag_time_max_ms = 200;
    plog_partition_state state = node_state(i == 0 ? PLOG_ROLE_LEADER : PLOG_ROLE_FOLLOWER, 1, 1, 3, 3);
    node_start(all[i], &state);
  }
  for (int32_t i = 1; i < 3; i++) node_follow(all[i], node_fetcher(all[i], &one));
  static const char *const racks[] = {"a", "b", "b"};
  for (int32_t i = 0; i < 3; i++)
    CHECK_EQ(plog_engine_publish_node(one.engine, 0, i + 1, "127.0.0.1", all[i]->port, racks[i]), 0);
}

static void racks(void) {
  start_racks();
  int64_t end = node_append(&one, 0, 1, 10, 100);
  node_await(&one, 0, end);
  node_await(&two, 0, end);
  node_await(&three, 0, end);
  consumed got = consume(&one, 0, "b", 0);
  CHECK_EQ(got.preferred, -1); /* nobody has said that racks count */
  CHECK(got.records_bytes > 0);
  plog_engine_select_by_rack(one.engine, 1);
  got = consume(&one, 0, "b", 10000); /* at once, however long it would wait */
  CHECK_EQ(got.error, 0);
  CHECK(got.preferred == 2 || got.preferred == 3);
  CHECK_EQ(got.records_bytes, 0);
  CHECK_EQ(got.high_watermark, 10);
  CHECK_EQ(consume(&one, end, "b", 10000).high_watermark, 10); /* they have all that there is to wait for */
  static const char *const served_here[] = {"a", "c", ""};
  for (size_t i = 0; i < PLOG_COUNT_OF(served_here); i++) {
    got = consume(&one, 0, served_here[i], 0);
    CHECK_EQ(got.preferred, -1);
    CHECK(got.records_bytes > 0);
  }
  /* the one that is further; one that is not in sync is none */
  plog_engine_unfollow(two.engine, two.partitions, 1);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 3, 3);
  static const int32_t isr[] = {1, 3};
  leads.isr = isr;
  leads.isr_count = 2;
  node_publish(&one, &leads);
  CHECK_EQ(consume(&one, 0, "b", 0).preferred, 3);
  /* followers serve what they know to be committed */
  got = consume(&three, 0, "b", 0);
  CHECK_EQ(got.error, 0);
  CHECK_EQ(got.high_watermark, 10);
  CHECK(got.records_bytes > 0);
  CHECK_EQ(consume(&three, end, "b", 0).records_bytes, 0);
  CHECK_EQ(consume(&three, end + 1, "b", 0).error, PLOG_OFFSET_OUT_OF_RANGE);
  plog_engine_unfollow(three.engine, three.partitions, 1);
  end = node_append(&one, 0, 1, 10, 100);
  CHECK_EQ(consume(&one, 15, "b", 0).preferred, -1); /* no follower has it */
  node_end(&three);
  end_both();
}

int main(void) {
  RUN(leaves_and_joins);
  RUN(too_few_in_sync);
  RUN(old_broker_epoch);
  RUN(not_a_replica);
  RUN(rate_of_followers);
  RUN(rate_of_leaders);
  RUN(racks);
  return 0;
}
