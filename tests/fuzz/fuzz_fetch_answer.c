/*
 * fuzz_fetch_answer.c: any bytes from a leader. What is read of them lies in them; whatever they say, the follower's log stays a
 * log, nothing is appended but whole batches that follow its end, and the fetcher asks on or has given up the connection.
 * The first byte of an input chooses the version and what the log has already; then comes the answer from its throttle time on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fetcher.h"
#include "plog.h"
#include "reactor.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static plog_sys *table;
static plog_engine *engine;
static char dir[64];
static int64_t partition;
static plog_fetcher *fetchers[2]; /* of version 12 and 17 */
static const uint8_t *feed;
static size_t feed_left;

static int connect_at_once(void *context, int fd, const struct sockaddr *to, socklen_t to_bytes) {
  (void)context;
  (void)fd;
  (void)to;
  (void)to_bytes;
  return 0;
}

static int no_error(void *context, int fd, int level, int name, void *value, socklen_t *value_bytes) {
  (void)context;
  (void)fd;
  (void)level;
  (void)name;
  memset(value, 0, *value_bytes);
  return 0;
}

static int64_t send_nowhere(void *context, int fd, const void *data, size_t size_bytes, int flags) {
  (void)context;
  (void)fd;
  (void)data;
  (void)flags;
  return (int64_t)size_bytes;
}

static int64_t receive_fed(void *context, int fd, void *data, size_t size_bytes, int flags) {
  (void)context;
  (void)fd;
  (void)flags;
  size_t n = PLOG_MIN(size_bytes, feed_left);
  memcpy(data, feed, n);
  feed += n;
  feed_left -= n;
  return n ? (int64_t)n : -EAGAIN;
}

static void leave(void) {
  (void)plog_engine_close(engine, 0);
  plog_sys_close(table);
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r %s", dir);
  plog_assert(system(command) == 0);
}

static void host(void) {
  static const int32_t replicas[] = {1, 2};
  static const uint8_t id[16] = "an id of a topic";
  const plog_partition_state state = {.role = PLOG_ROLE_FOLLOWER,
                                      .leader_epoch = 3,
                                      .leader_id = 1,
                                      .replicas = replicas,
                                      .replicas_count = 2,
                                      .isr = replicas,
                                      .isr_count = 2,
                                      .min_insync_replicas = 1,
                                      .max_message_bytes = 1 << 20,
                                      .compression = -1,
                                      .high_watermark = -1};
  const plog_log_config log_config = {.segment_bytes = 1 << 20,
                                      .segment_ms = INT64_MAX,
                                      .segment_index_bytes = 4096,
                                      .index_interval_bytes = 4096,
                                      .flush_messages = INT64_MAX};
  plog_log *log;
  plog_log_open_report report;
  plog_assert(plog_log_open(table, dir, &log_config, NULL, 0, 0, 0, 0, NULL, 0, 1, &log, &report) == 0);
  plog_assert(plog_engine_add_partition(engine, "t", id, 0, log, &state, &partition) == 0);
}

static plog_fetcher *open_fetcher(int32_t version) {
  const plog_fetcher_config config = {.leader_id = 1,
                                      .host = "127.0.0.1",
                                      .port = 9,
                                      .client_id = "f",
                                      .replica_id = 2,
                                      .max_wait_ms = 500,
                                      .min_bytes = 1,
                                      .max_bytes = 4096,
                                      .partition_max_bytes = 1024,
                                      .backoff_ms = 1000,
                                      .receive_buffer_bytes = -1,
                                      .connect_timeout_ms = 1000,
                                      .request_timeout_ms = 30000,
                                      .fetch_version = version};
  int64_t number;
  plog_assert(plog_engine_open_fetcher(engine, &config, &number) == 0);
  return plog__fetcher_find(&engine->fetchers, number);
}

static void open_engine(void) {
  const plog_engine_config config = {.broker_id = 2,
                                     .max_request_bytes = 1 << 20,
                                     .connections_max_idle_ms = -1,
                                     .max_connections = 10,
                                     .max_connections_per_ip = INT32_MAX,
                                     .fetch_max_bytes = 1 << 20,
                                     .fetch_session_slots = 3,
                                     .disk_threads = 1,
                                     .replica_lag_time_max_ms = 30000,
                                     .max_upcall_bytes = 1 << 20};
  bool shm = access("/dev/shm", W_OK) == 0; /* thousands of little files */
  (void)snprintf(dir, sizeof dir, "%s/plog_fuzz_answer_XXXXXX", shm ? "/dev/shm" : "/tmp");
  plog_assert(mkdtemp(dir) != NULL);
  table = plog_sys_open();
  plog_assert(table);
  plog_assert(plog_engine_open(table, &config, &engine) == 0);
  table->calls.connect = connect_at_once;
  table->calls.getsockopt = no_error;
  table->calls.send = send_nowhere;
  table->calls.recv = receive_fed;
  host();
  fetchers[0] = open_fetcher(12);
  fetchers[1] = open_fetcher(17);
  (void)atexit(leave);
}

/* The log begins there, and ends. */
static void begin_at(int64_t offset) {
  plog_partition_info info;
  plog_assert(plog_engine_partition_info(engine, partition, &info) == 0);
  if (info.log_start_offset == offset && info.log_end_offset == offset && info.size_bytes == 0) return;
  plog_assert(plog_engine_truncate(engine, partition, offset, 1) == 0);
}

/* A connection whose request is under way. */
static void ask(plog_fetcher *f) {
  int32_t result;
  plog_assert(plog_engine_follow(engine, f->number, &partition, 1, &result) == 0 && result == 0);
  if (f->state == PLOG_FETCHER_WAITING) plog__timers_run(&engine->timers, engine->now_ms + f->backoff_ms);
  plog_assert(f->state == PLOG_FETCHER_CONNECTING || f->state == PLOG_FETCHER_ASKING);
  plog__fetcher_event(f, EPOLLOUT);
  plog__fetchers_run(engine);
  plog_assert(f->state == PLOG_FETCHER_ASKING);
}

static uint8_t *frame_of(const plog_fetcher *f, const uint8_t *data, size_t size_bytes, size_t *out_bytes) {
  uint8_t *frame = malloc(size_bytes + 9);
  plog_assert(frame);
  plog_put_u32(frame, (uint32_t)size_bytes + 5);
  plog_put_i32(frame + 4, f->correlation_id);
  frame[8] = 0;
  memcpy(frame + 9, data, size_bytes);
  *out_bytes = size_bytes + 9;
  return frame;
}

static void check_log(void) {
  plog_partition_info info;
  plog_assert(plog_engine_partition_info(engine, partition, &info) == 0);
  plog_assert(info.log_start_offset <= info.high_watermark && info.high_watermark <= info.log_end_offset);
  plog_upcall up;
  int32_t count;
  plog__upcalls_publish(&engine->upcalls);
  do plog_assert(plog_engine_poll(engine, 0, &up, 1, &count) == 0);
  while (count > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  if (!engine) open_engine();
  plog_fetcher *f = fetchers[data[0] & 1];
  plog__reactor_refresh_clock(engine);
  begin_at(data[0] >> 1);
  ask(f);
  size_t frame_bytes;
  uint8_t *frame = frame_of(f, data + 1, size_bytes - 1, &frame_bytes);
  feed = frame;
  feed_left = frame_bytes;
  plog__fetcher_event(f, EPOLLIN);
  for (int turns = 0; !plog_list_empty(&engine->fetchers.ready); turns++) {
    plog_assert(turns < 100);
    plog__fetchers_run(engine);
  }
  plog_assert(feed_left == 0);
  plog_assert(f->state == PLOG_FETCHER_ASKING || f->state == PLOG_FETCHER_READY || f->state == PLOG_FETCHER_WAITING);
  check_log();
  plog__uplink_close(&f->uplink); /* the next input has a connection of its own */
  plog__follow_doubt(&f->session);
  f->state = PLOG_FETCHER_RESTING;
  free(frame);
  return 0;
}
