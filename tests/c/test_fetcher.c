/*
 * test_fetcher.c: following a leader: engines in one process over loopback, whose logs become equal byte for byte, through restarts,
 * lost connections, cuts and refusals.
 */
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

int main(void) {
  RUN(many_records);
  return 0;
}
