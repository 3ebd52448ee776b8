/*
 * cluster_fixture.h: nodes of a little cluster in one process, an engine each, that follow one another over loopback. For tests of
 * replication. The deciding is the tests': who leads, who follows, where logs are cut.
 */
#ifndef PLOG_CLUSTER_FIXTURE_H
#define PLOG_CLUSTER_FIXTURE_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "plog.h"
#include "test.h"
#include "wire.h"

enum { NODE_PARTITIONS_MAX = 4, CLUSTER_WAIT_MS = 20000 };

typedef struct {
  int32_t id;
  char dir[64];
  plog_sys *sys;
  plog_engine *engine;
  plog_engine_config config;
  plog_log_config log_config;
  int32_t port;
  int32_t partitions_count;
  const uint8_t *topic_id;
  int64_t partitions[NODE_PARTITIONS_MAX];
} node;

static const uint8_t node_topic_id[16] = {7, 1};
static const uint8_t node_no_id[16] = {0};
static const int32_t node_ids[] = {1, 2, 3};

/* The state of every partition in the tests: replicas 1..replicas, of them 1..isr in sync. */
static inline plog_partition_state node_state(int32_t role, int32_t leader, int32_t epoch, int32_t replicas, int32_t isr) {
  return (plog_partition_state){.role = role,
                                .leader_epoch = epoch,
                                .leader_id = leader,
                                .replicas = node_ids,
                                .replicas_count = replicas,
                                .isr = node_ids,
                                .isr_count = isr,
                                .min_insync_replicas = 1,
                                .max_message_bytes = 1 << 21,
                                .timestamp_before_max_ms = INT64_MAX,
                                .timestamp_after_max_ms = INT64_MAX,
                                .compression = -1,
                                .compression_level = INT32_MIN,
                                .high_watermark = -1};
}

static inline void node_begin(node *n, int32_t id, int32_t partitions_count) {
  memset(n, 0, sizeof *n);
  n->id = id;
  n->partitions_count = partitions_count;
  n->topic_id = node_topic_id;
  strcpy(n->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/plog_node_XXXXXX" : "/tmp/plog_node_XXXXXX");
  CHECK(mkdtemp(n->dir));
  n->sys = plog_sys_open();
  CHECK(n->sys);
  n->log_config = (plog_log_config){.segment_bytes = 4 << 20,
                                    .segment_ms = INT64_MAX / 2,
                                    .segment_index_bytes = 1 << 20,
                                    .index_interval_bytes = 4096,
                                    .flush_messages = INT64_MAX};
  n->config = (plog_engine_config){.broker_id = id,
                                   .max_request_bytes = 10 << 20,
                                   .send_buffer_bytes = -1,
                                   .receive_buffer_bytes = -1,
                                   .connections_max_idle_ms = 60000,
                                   .max_connections = 100,
                                   .max_connections_per_ip = INT32_MAX,
                                   .fetch_max_bytes = 55 << 20,
                                   .fetch_session_slots = 10,
                                   .disk_threads = 1,
                                   .answer_cache_bytes = 1 << 20,
                                   .replica_lag_time_max_ms = 30000,
                                   .max_upcall_bytes = 1 << 20};
  for (int32_t i = 0; i < partitions_count; i++) {
    char path[96];
    (void)snprintf(path, sizeof path, "%s/t-%d", n->dir, (int)i);
    CHECK_EQ(mkdir(path, 0755), 0);
  }
}

static inline int node_compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static inline int32_t node_list(const char *dir, int64_t *bases, int32_t capacity) {
  DIR *d = opendir(dir);
  CHECK(d);
  int32_t n = 0;
  for (const struct dirent *e; (e = readdir(d));) {
    if (strlen(e->d_name) != 24 || strcmp(e->d_name + 20, ".log") != 0) continue;
    CHECK(n < capacity);
    bases[n++] = strtoll(e->d_name, NULL, 10);
  }
  (void)closedir(d);
  qsort(bases, (size_t)n, sizeof *bases, node_compare);
  return n;
}

/* Open the logs and serve, on the port of last time when there was one. */
static inline void node_start(node *n, const plog_partition_state *state) {
  CHECK_EQ(plog_engine_open(n->sys, &n->config, &n->engine), 0);
  CHECK_EQ(plog_engine_serve(n->engine, 0, 3, 13), 0);
  CHECK_EQ(plog_engine_serve(n->engine, 1, 4, 18), 0);
  CHECK_EQ(plog_engine_publish_grant(n->engine, PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, NULL, 0, PLOG_GRANT_ALL, 0), 0);
  for (int32_t i = 0; i < n->partitions_count; i++) {
    char path[96];
    int64_t bases[256];
    (void)snprintf(path, sizeof path, "%s/t-%d", n->dir, (int)i);
    int32_t count = node_list(path, bases, 256);
    plog_log *log;
    plog_log_open_report report;
    CHECK_EQ(plog_log_open(n->sys, path, &n->log_config, bases, count, 0, 0, 0, NULL, count ? -1 : 0, 1790000000000, &log,
                           &report),
             0);
    CHECK_EQ(plog_engine_add_partition(n->engine, "t", n->topic_id, i, log, state, &n->partitions[i]), 0);
  }
  CHECK_EQ(plog_engine_listen(n->engine, "127.0.0.1", n->port, 0, &n->port), 0);
  CHECK_EQ(plog_engine_start(n->engine), 0);
}

static inline void node_stop(node *n) {
  CHECK_EQ(plog_engine_stop(n->engine, 0), 0);
  CHECK_EQ(plog_engine_close(n->engine, 1), 0);
  n->engine = NULL;
}

static inline void node_end(node *n) {
  if (n->engine) node_stop(n);
  plog_sys_close(n->sys);
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r %s", n->dir);
  CHECK_EQ(system(command), 0);
}

static inline void node_publish(node *n, const plog_partition_state *state) {
  for (int32_t i = 0; i < n->partitions_count; i++) CHECK_EQ(plog_engine_publish(n->engine, n->partitions[i], state), 0);
}

static inline plog_partition_info node_info(node *n, int32_t index) {
  plog_partition_info info;
  CHECK_EQ(plog_engine_partition_info(n->engine, n->partitions[index], &info), 0);
  return info;
}

/* ------------------------------------------------------------------------------------------------ records */

/* Batches of so many records with values of so many bytes, appended by a leader with acks=all. Returns the log's end. */
static inline int64_t node_append(node *n, int32_t index, int32_t batches, int32_t records, int32_t value_bytes) {
  static _Thread_local uint8_t value[1 << 16];
  plog_batch_builder *b = plog_batch_builder_open();
  int64_t base, last = -1;
  CHECK((size_t)value_bytes <= sizeof value);
  for (int32_t i = 0; i < batches; i++) {
    plog_put_i32(value, i);
    plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
    for (int32_t r = 0; r < records; r++) {
      value[4] = (uint8_t)r;
      CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, value, value_bytes, NULL, 0, 0), 0);
    }
    const uint8_t *batch;
    size_t size;
    int32_t committed;
    CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &batch, &size), 0);
    CHECK_EQ(plog_engine_append(n->engine, n->partitions[index], batch, size, i, &base, &last, &committed), 0);
  }
  plog_batch_builder_close(b);
  return last + 1;
}

/* All bytes of the log from offset on; free it. */
static inline uint8_t *node_read(node *n, int32_t index, int64_t offset, size_t *out_bytes) {
  plog_log *log = plog_engine_partition_log(n->engine, n->partitions[index]);
  size_t capacity = 1 << 20, size = 0, more;
  uint8_t *data = malloc(capacity);
  plog_log_info info;
  plog_log_info_read(log, &info);
  while (offset < info.log_end_offset) {
    if (capacity - size < (4 << 20)) {
      capacity = capacity * 2 + (8 << 20);
      data = realloc(data, capacity);
    }
    CHECK(data);
    CHECK_EQ(plog_log_read(log, offset, INT64_MAX, 1, data + size, 4 << 20, &more), 0);
    if (more == 0) break;
    plog_batch_header header;
    for (size_t at = size; at < size + more; at += header.size_bytes) {
      CHECK_EQ(plog_batch_header_read(data + at, size + more - at, &header), 0);
      offset = header.base_offset + header.last_offset_delta + 1;
    }
    size += more;
  }
  *out_bytes = size;
  return data;
}

static inline bool nodes_equal(node *a, node *b, int32_t index, int64_t offset) {
  size_t a_bytes, b_bytes;
  uint8_t *x = node_read(a, index, offset, &a_bytes), *y = node_read(b, index, offset, &b_bytes);
  bool equal = a_bytes == b_bytes && memcmp(x, y, a_bytes) == 0;
  free(x);
  free(y);
  return equal && node_info(a, index).log_end_offset == node_info(b, index).log_end_offset;
}

/* ------------------------------------------------------------------------------------------------ following */

static inline plog_fetcher_config fetcher_to(const node *leader, const node *follower) {
  return (plog_fetcher_config){.leader_id = leader->id,
                               .host = "127.0.0.1",
                               .port = leader->port,
                               .client_id = "broker-2-fetcher-0",
                               .replica_id = follower->id,
                               .broker_epoch = 100 + follower->id,
                               .max_wait_ms = 20, /* how long a follower may wait for the high watermark */
                               .min_bytes = 1,
                               .max_bytes = 10 << 20,
                               .partition_max_bytes = 1 << 20,
                               .backoff_ms = 20,
                               .receive_buffer_bytes = -1,
                               .connect_timeout_ms = 10000,
                               .request_timeout_ms = 30000,
                               .fetch_version = 17};
}

static inline int64_t node_fetcher(node *follower, const node *leader) {
  plog_fetcher_config config = fetcher_to(leader, follower);
  int64_t fetcher;
  CHECK_EQ(plog_engine_open_fetcher(follower->engine, &config, &fetcher), 0);
  return fetcher;
}

static inline void node_follow(node *follower, int64_t fetcher) {
  int32_t results[NODE_PARTITIONS_MAX] = {-1, -1, -1, -1};
  CHECK_EQ(plog_engine_follow(follower->engine, fetcher, follower->partitions, follower->partitions_count, results), 0);
  for (int32_t i = 0; i < follower->partitions_count; i++) CHECK_EQ(results[i], 0);
}

static inline int64_t cluster_now_ms(void) {
  struct timespec now;
  CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &now), 0);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until the log of n ends at end and the high watermark is there too. */
static inline void node_await(node *n, int32_t index, int64_t end) {
  int64_t by_ms = cluster_now_ms() + CLUSTER_WAIT_MS;
  for (;;) {
    plog_partition_info info = node_info(n, index);
    if (info.log_end_offset == end && info.high_watermark == end) return;
    CHECK(cluster_now_ms() < by_ms);
    (void)poll(NULL, 0, 1);
  }
}

/* The next upcall of a kind; others are passed over. */
static inline plog_upcall node_upcall(node *n, int32_t kind) {
  int64_t by_ms = cluster_now_ms() + CLUSTER_WAIT_MS;
  for (;;) {
    plog_upcall up;
    int32_t count;
    CHECK_EQ(plog_engine_poll(n->engine, 1000, &up, 1, &count), 0);
    if (count == 1 && up.kind == kind) return up;
    CHECK(cluster_now_ms() < by_ms);
  }
}

#endif
