/*
 * test_fetcher.c: following a leader: engines in one process over loopback, whose logs become equal byte for byte, through restarts,
 * lost connections, cuts and refusals.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "cluster_fixture.h"

static node one, two;

/* Node 1 leads and node 2 follows, in epoch, both in sync when isr is 2. */
static void start_both(int32_t partitions, int32_t epoch, int32_t isr) {
  node_begin(&one, 1, partitions);
  node_begin(&two, 2, partitions);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, epoch, 2, isr);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, epoch, 2, isr);
  node_start(&one, &leads);
  node_start(&two, &follows);
}

static void end_both(void) {
  node_end(&two);
  node_end(&one);
}

static void many_records(void) {
  start_both(4, 3, 2);
  int64_t fetcher = node_fetcher(&two, &one);
  int64_t ends[4];
  for (int32_t i = 0; i < 2; i++) ends[i] = node_append(&one, i, 500, 50, 100);
  node_follow(&two, fetcher);
  for (int32_t i = 2; i < 4; i++) ends[i] = node_append(&one, i, 500, 50, 100);
  for (int32_t i = 0; i < 4; i++) {
    CHECK_EQ(ends[i], 25000);
    node_await(&one, i, ends[i]); /* the follower has it: it is committed */
    node_await(&two, i, ends[i]);
    CHECK(nodes_equal(&one, &two, i, 0));
  }
  CHECK_EQ(node_upcall(&two, PLOG_UP_FETCHER).a, 1);
  plog_replica_info replicas[2];
  int32_t count;
  CHECK_EQ(plog_engine_replicas(one.engine, one.partitions[0], replicas, 2, &count), 0);
  CHECK_EQ(count, 2);
  CHECK_EQ(replicas[0].log_end, 25000);
  CHECK_EQ(replicas[1].broker_id, 2);
  CHECK_EQ(replicas[1].log_end, 25000);
  CHECK_EQ(replicas[1].in_isr, 1);
  end_both();
}

/* ------------------------------------------------------------------------------------------------ starts and ends */

static void follower_restarts(void) {
  start_both(2, 1, 2);
  node_follow(&two, node_fetcher(&two, &one));
  int64_t end = node_append(&one, 0, 20, 10, 100);
  node_await(&two, 0, end);
  node_stop(&two);
  end = node_append(&one, 0, 20, 10, 100);
  int64_t other_end = node_append(&one, 1, 20, 10, 100);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, 2);
  node_start(&two, &follows);
  node_follow(&two, node_fetcher(&two, &one));
  node_await(&two, 0, end);
  node_await(&two, 1, other_end);
  CHECK(nodes_equal(&one, &two, 0, 0) && nodes_equal(&one, &two, 1, 0));
  end_both();
}

/* The leader goes, and is back at the same address, where nobody knows the session; then somewhere else. */
static void leader_restarts(void) {
  start_both(1, 1, 2);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  node_await(&two, 0, node_append(&one, 0, 20, 10, 100));
  CHECK_EQ(node_upcall(&two, PLOG_UP_FETCHER).a, 1);
  node_stop(&one);
  plog_upcall lost = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(lost.a, 0);
  CHECK_EQ(lost.token, fetcher);
  CHECK(lost.error > 0);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 2);
  node_start(&one, &leads);
  node_await(&two, 0, node_append(&one, 0, 20, 10, 100));
  node_stop(&one);
  one.port = 0;
  node_start(&one, &leads);
  CHECK_EQ(plog_engine_configure_fetcher(two.engine, fetcher, "localhost", one.port, 7), 0);
  node_await(&two, 0, node_append(&one, 0, 20, 10, 100));
  CHECK(nodes_equal(&one, &two, 0, 0));
  end_both();
}

static void no_leader_there(void) {
  start_both(1, 1, 2);
  plog_fetcher_config config = fetcher_to(&one, &two);
  node_stop(&one);
  int64_t refused, nameless;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &refused), 0);
  node_follow(&two, refused);
  plog_upcall up = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(up.error, ECONNREFUSED);
  config.host = "no-such-host.invalid";
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &nameless), 0);
  node_follow(&two, nameless);
  up = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(up.token, nameless);
  CHECK_EQ(up.error, EHOSTUNREACH);
  CHECK_EQ(plog_engine_close_fetcher(two.engine, refused), 0);
  CHECK_EQ(plog_engine_close_fetcher(two.engine, refused), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_engine_configure_fetcher(two.engine, refused, "x", 1, 1), PLOG_E_NOT_FOUND);
  config.host = "";
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &refused), -EINVAL);
  config.host = "x";
  config.fetch_version = 18;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &refused), -EINVAL);
  end_both();
}

static void stops_when_told(void) {
  start_both(2, 1, 2);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  node_await(&two, 0, node_append(&one, 0, 5, 10, 100));
  plog_engine_unfollow(two.engine, &two.partitions[0], 1);
  int64_t before = node_info(&two, 0).log_end_offset, end = node_append(&one, 0, 5, 10, 100);
  node_await(&two, 1, node_append(&one, 1, 5, 10, 100)); /* the other one goes on */
  CHECK_EQ(node_info(&two, 0).log_end_offset, before);
  node_follow(&two, fetcher);
  node_await(&two, 0, end);
  /* a new role ends it, and so does the end of hosting */
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 2, 2, 2, 2);
  CHECK_EQ(plog_engine_publish(two.engine, two.partitions[0], &leads), 0);
  int32_t results[2];
  CHECK_EQ(plog_engine_follow(two.engine, fetcher, two.partitions, 1, results), 0);
  CHECK_EQ(results[0], PLOG_NOT_LEADER_OR_FOLLOWER);
  plog_log *log;
  CHECK_EQ(plog_engine_remove_partition(two.engine, two.partitions[1], PLOG_NOT_LEADER_OR_FOLLOWER, &log), 0);
  CHECK_EQ(plog_log_close(log, 1), 0);
  CHECK_EQ(plog_engine_follow(two.engine, fetcher, two.partitions + 1, 1, results), 0);
  CHECK_EQ(results[0], PLOG_E_CLOSED);
  CHECK_EQ(plog_engine_follow(two.engine, fetcher + 1, two.partitions, 1, results), PLOG_E_NOT_FOUND);
  end_both();
}

/* A partition goes from one fetcher to another, in the middle of its records. */
static void changes_fetchers(void) {
  start_both(2, 1, 2);
  int64_t fetchers[2] = {node_fetcher(&two, &one), node_fetcher(&two, &one)};
  node_follow(&two, fetchers[0]);
  int64_t end = 0;
  for (int i = 0; i < 20; i++) {
    end = node_append(&one, 0, 5, 10, 500);
    node_follow(&two, fetchers[i % 2]);
  }
  node_await(&two, 0, end);
  CHECK_EQ(plog_engine_close_fetcher(two.engine, fetchers[0]), 0);
  node_follow(&two, fetchers[1]);
  node_await(&two, 0, node_append(&one, 0, 5, 10, 500));
  CHECK(nodes_equal(&one, &two, 0, 0));
  end_both();
}

/* ------------------------------------------------------------------------------------------------ what leaders say */

static plog_upcall await_followed(node *n, int32_t error) {
  plog_upcall up = node_upcall(n, PLOG_UP_FOLLOW);
  CHECK_EQ(up.error, error);
  CHECK_EQ(up.partition, n->partitions[0]);
  return up;
}

/* Node 1 wrote records in epoch 1 that node 2, the leader of epoch 2, never had. */
static void logs_diverge(void) {
  start_both(1, 1, 2);
  node_follow(&two, node_fetcher(&two, &one));
  node_await(&two, 0, node_append(&one, 0, 10, 10, 100));
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 2, 2, 2, 2);
  CHECK_EQ(plog_engine_publish(two.engine, two.partitions[0], &leads), 0);
  CHECK_EQ(node_append(&one, 0, 5, 10, 100), 150);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 2, 2, 2, 2);
  CHECK_EQ(plog_engine_publish(one.engine, one.partitions[0], &follows), 0);
  CHECK_EQ(node_append(&two, 0, 3, 10, 200), 130);
  int64_t fetcher = node_fetcher(&one, &two);
  node_follow(&one, fetcher);
  plog_upcall up = await_followed(&one, 0);
  CHECK_EQ(up.a, 1);
  CHECK_EQ(up.b, 100);
  CHECK_EQ(up.offset, 150);
  CHECK_EQ(up.slot, 2);
  CHECK_EQ(up.token, fetcher);
  CHECK_EQ(node_info(&one, 0).log_end_offset, 150); /* until Python has said what is to be cut */
  CHECK_EQ(plog_engine_truncate(one.engine, one.partitions[0], up.b, 0), 0);
  node_follow(&one, fetcher);
  node_await(&one, 0, 130);
  node_await(&two, 0, 130);
  CHECK(nodes_equal(&one, &two, 0, 0));
  end_both();
}

/* The leader's log begins in the middle of a batch: a new follower gets all of it, and the same log start. */
static void begins_in_a_batch(void) {
  start_both(1, 1, 1);
  (void)node_append(&one, 0, 10, 10, 100);
  int64_t start;
  CHECK_EQ(plog_engine_delete_records(one.engine, one.partitions[0], 55, &start), 0);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  plog_upcall up = await_followed(&two, PLOG_OFFSET_OUT_OF_RANGE);
  CHECK_EQ(up.a, 1);
  CHECK_EQ(up.offset, 0);
  CHECK_EQ(plog_engine_truncate(two.engine, two.partitions[0], 55, 1), 0);
  node_follow(&two, fetcher);
  node_await(&two, 0, 100);
  CHECK_EQ(node_info(&two, 0).log_start_offset, 55);
  CHECK(nodes_equal(&one, &two, 0, 55));
  /* and what the leader deletes later is taken over with its next answer */
  CHECK_EQ(plog_engine_delete_records(one.engine, one.partitions[0], 77, &start), 0);
  node_await(&two, 0, node_append(&one, 0, 1, 10, 100));
  CHECK_EQ(node_info(&two, 0).log_start_offset, 77);
  end_both();
}

static void epochs_are_compared(void) {
  start_both(1, 3, 2);
  int64_t fetcher = node_fetcher(&two, &one);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 4, 2, 2);
  node_publish(&two, &follows);
  node_follow(&two, fetcher);
  plog_upcall up = await_followed(&two, PLOG_UNKNOWN_LEADER_EPOCH);
  CHECK_EQ(up.a, 0);
  CHECK_EQ(up.slot, 4);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 4, 2, 2);
  node_publish(&one, &leads); /* now the leader knows it too, and nobody has to do anything */
  node_await(&two, 0, node_append(&one, 0, 3, 10, 100));
  leads.leader_epoch = 5;
  node_publish(&one, &leads);
  up = await_followed(&two, PLOG_FENCED_LEADER_EPOCH);
  CHECK_EQ(up.a, 1);
  int64_t end = node_append(&one, 0, 3, 10, 100);
  CHECK_EQ(node_info(&two, 0).log_end_offset, 30);
  follows.leader_epoch = 5;
  node_publish(&two, &follows);
  node_follow(&two, fetcher);
  node_await(&two, 0, end);
  end_both();
}

static void leader_does_not_have_it(void) {
  start_both(1, 3, 2);
  plog_log *log;
  CHECK_EQ(plog_engine_remove_partition(one.engine, one.partitions[0], PLOG_NOT_LEADER_OR_FOLLOWER, &log), 0);
  node_follow(&two, node_fetcher(&two, &one));
  CHECK_EQ(await_followed(&two, PLOG_UNKNOWN_TOPIC_ID).a, 0);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 3, 2, 2);
  CHECK_EQ(plog_engine_add_partition(one.engine, "t", one.topic_id, 0, log, &leads, &one.partitions[0]), 0);
  node_await(&two, 0, node_append(&one, 0, 3, 10, 100));
  end_both();
}

/* ------------------------------------------------------------------------------------------------ shapes */

/* Topics without an id are named, by version 12. */
static void topics_by_name(void) {
  node_begin(&one, 1, 2);
  node_begin(&two, 2, 2);
  one.topic_id = two.topic_id = node_no_id;
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 2);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, 2);
  node_start(&one, &leads);
  node_start(&two, &follows);
  int64_t fetcher = node_fetcher(&two, &one);
  node_follow(&two, fetcher);
  node_await(&two, 1, node_append(&one, 1, 3, 10, 100));
  plog_engine_unfollow(two.engine, two.partitions, 1);
  int64_t end = node_append(&one, 0, 3, 10, 100);
  node_await(&two, 1, node_append(&one, 1, 3, 10, 100));
  node_follow(&two, fetcher);
  node_await(&two, 0, end);
  CHECK(nodes_equal(&one, &two, 0, 0) && nodes_equal(&one, &two, 1, 0));
  end_both();
}

/* Every version that a leader of the protocols in use may know. */
static void versions(void) {
  for (int32_t version = 12; version <= 17; version++) {
    start_both(1, 1, 2);
    plog_fetcher_config config = fetcher_to(&one, &two);
    int64_t fetcher;
    config.fetch_version = version;
    CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &fetcher), 0);
    node_follow(&two, fetcher);
    node_await(&two, 0, node_append(&one, 0, 3, 10, 100));
    plog_replica_info replicas[2];
    int32_t count;
    CHECK_EQ(plog_engine_replicas(one.engine, one.partitions[0], replicas, 2, &count), 0);
    CHECK_EQ(replicas[1].broker_epoch, version < 15 ? -1 : 102);
    end_both();
  }
}

/* A batch larger than all that is asked for comes all the same, and answers are cut in the middle of batches. */
static void sizes(void) {
  start_both(2, 1, 2);
  plog_fetcher_config config = fetcher_to(&one, &two);
  int64_t fetcher;
  config.max_bytes = 100;
  config.partition_max_bytes = 50;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &fetcher), 0);
  node_follow(&two, fetcher);
  int64_t end = 0;
  for (int32_t i = 0; i < 3; i++) {
    (void)node_append(&one, 0, 3, 1, 30000);
    (void)node_append(&one, 0, 1, 30, 60000);
    end = node_append(&one, 0, 5, 3, 50);
  }
  node_await(&two, 0, end);
  node_await(&two, 1, node_append(&one, 1, 3, 1, 100));
  CHECK(nodes_equal(&one, &two, 0, 0));
  config.max_bytes = config.partition_max_bytes = 70000;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &fetcher), 0);
  node_follow(&two, fetcher);
  for (int32_t i = 0; i < 10; i++) end = node_append(&one, 0, 10, 7, 1234);
  node_await(&two, 0, end);
  CHECK(nodes_equal(&one, &two, 0, 0));
  end_both();
}

/* What compaction left on the leader: offsets are missing between batches, and at the beginning. */
static void gaps(void) {
  start_both(1, 1, 1);
  plog_partition_state state = node_state(PLOG_ROLE_FOLLOWER, 2, 1, 2, 1);
  node_publish(&one, &state);
  plog_batch_builder *b = plog_batch_builder_open();
  int64_t last = -1;
  for (int64_t base = 7; base < 5000; base += 13) {
    const uint8_t *batch;
    size_t size;
    plog_batch_builder_reset(b, base, 0, -1, -1, -1, 0);
    for (int i = 0; i < 3; i++)
      CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, (const uint8_t *)"v", 1, NULL, 0, 0), 0);
    CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &batch, &size), 0);
    CHECK_EQ(plog_engine_append_follower(one.engine, one.partitions[0], batch, size, base, 0, &last), 0);
  }
  plog_batch_builder_close(b);
  state = node_state(PLOG_ROLE_LEADER, 1, 2, 2, 1);
  node_publish(&one, &state);
  state = node_state(PLOG_ROLE_FOLLOWER, 1, 2, 2, 1);
  node_publish(&two, &state);
  node_follow(&two, node_fetcher(&two, &one));
  node_await(&two, 0, last + 1);
  CHECK(nodes_equal(&one, &two, 0, 0));
  end_both();
}

/* ------------------------------------------------------------------------------------------------ chance */

/* Leader and follower stop, start, change places and lose sight of each other; what was committed stays. */
static void at_random(void) {
  uint64_t random = 7;
  start_both(2, 1, 2);
  node *nodes[2] = {&one, &two};
  int leader = 0;
  int32_t epoch = 1;
  int64_t fetcher = node_fetcher(&two, &one), ends[2] = {0, 0};
  node_follow(&two, fetcher);
  for (int step = 0; step < 40; step++) {
    node *leads = nodes[leader], *follows = nodes[!leader];
    for (int32_t i = 0; i < 2; i++)
      ends[i] = node_append(leads, i, 1 + (int32_t)(test_random(&random) % 20), 1 + (int32_t)(test_random(&random) % 9),
                            (int32_t)(test_random(&random) % 3000));
    uint64_t what = test_random(&random) % 4;
    plog_partition_state state = node_state(PLOG_ROLE_FOLLOWER, leads->id, epoch, 2, 2);
    if (what == 0) {
      node_stop(follows);
      node_start(follows, &state);
      fetcher = node_fetcher(follows, leads);
    } else if (what == 1) {
      plog_engine_unfollow(follows->engine, follows->partitions, 2);
    } else if (what == 2) {
      state.role = PLOG_ROLE_LEADER;
      node_stop(leads);
      node_start(leads, &state);
    }
    if (what < 2) node_follow(follows, fetcher);
    if (what == 3) {
      for (int32_t i = 0; i < 2; i++) node_await(follows, i, ends[i]);
      CHECK_EQ(plog_engine_close_fetcher(follows->engine, fetcher), 0);
      leader = !leader;
      state = node_state(PLOG_ROLE_LEADER, follows->id, ++epoch, 2, 2);
      node_publish(follows, &state);
      state.role = PLOG_ROLE_FOLLOWER;
      node_publish(leads, &state);
      fetcher = node_fetcher(leads, follows);
      node_follow(leads, fetcher);
    }
  }
  for (int32_t i = 0; i < 2; i++) {
    node_await(nodes[!leader], i, ends[i]);
    node_await(nodes[leader], i, ends[i]);
    CHECK(nodes_equal(&one, &two, i, 0));
  }
  end_both();
}

/* ------------------------------------------------------------------------------------------------ threads */

static _Atomic bool over;

/* Whatever Python may say of following, at any time. */
static void *govern(void *argument) {
  (void)argument;
  uint64_t random = 11;
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, 2);
  plog_partition_state leads = node_state(PLOG_ROLE_LEADER, 1, 1, 2, 2);
  int64_t fetchers[2] = {node_fetcher(&two, &one), node_fetcher(&two, &one)};
  for (int32_t turn = 0; !atomic_load(&over); turn++) {
    int64_t fetcher = fetchers[test_random(&random) % 2];
    uint64_t what = test_random(&random) % 8;
    plog_replica_info replicas[2];
    int32_t count;
    if (what < 3) node_follow(&two, fetcher);
    if (what == 3) plog_engine_unfollow(two.engine, two.partitions, 1);
    if (what == 4) node_publish(&two, &follows);
    if (what == 5) node_publish(&one, &leads);
    if (what == 6) {
      const char *host = turn % 2 ? "127.0.0.1" : "localhost";
      CHECK_EQ(plog_engine_configure_fetcher(two.engine, fetcher, host, one.port, 102), 0);
    }
    if (what == 7) {
      CHECK_EQ(plog_engine_replicas(one.engine, one.partitions[0], replicas, 2, &count), 0);
      plog_engine_mark_throttled(two.engine, two.partitions, 2, turn % 4);
      CHECK_EQ(plog_engine_close_fetcher(two.engine, fetcher), 0);
      fetchers[fetcher == fetchers[1]] = node_fetcher(&two, &one);
    }
  }
  node_follow(&two, fetchers[0]);
  return NULL;
}

static void threads(void) {
  start_both(2, 1, 2);
  atomic_store(&over, false);
  pthread_t governor;
  CHECK_EQ(pthread_create(&governor, NULL, govern, NULL), 0);
  int64_t ends[2] = {0, 0};
  for (int i = 0; i < 60; i++)
    for (int32_t index = 0; index < 2; index++) ends[index] = node_append(&one, index, 5, 4, 1000);
  atomic_store(&over, true);
  CHECK_EQ(pthread_join(governor, NULL), 0);
  for (int32_t index = 0; index < 2; index++) {
    node_await(&two, index, ends[index]);
    node_await(&one, index, ends[index]);
    CHECK(nodes_equal(&one, &two, index, 0));
  }
  end_both();
}

int main(void) {
  RUN(many_records);
  RUN(follower_restarts);
  RUN(leader_restarts);
  RUN(no_leader_there);
  RUN(stops_when_told);
  RUN(changes_fetchers);
  RUN(logs_diverge);
  RUN(begins_in_a_batch);
  RUN(epochs_are_compared);
  RUN(leader_does_not_have_it);
  RUN(topics_by_name);
  RUN(versions);
  RUN(sizes);
  RUN(gaps);
  RUN(at_random);
  RUN(threads);
  return 0;
}
