/*
 * fuzz_request.c: any body of a Produce or Fetch request, in any served version, against an engine with two partitions. The
 * first byte names the API (its top bit) and the version. It is refused or answered, and every answer is a whole frame with the
 * request's correlation id.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fetch.h"
#include "produce.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { CORRELATION_ID = 77, RECORDS_MAX = 5000 };

/* What was sent: how much of the present frame is still to come, and the bytes of its head that have come. */
typedef struct {
  uint8_t head[8];
  uint32_t head_bytes;
  int64_t left;
} sent_frames;

static char dir[64];
static plog_sys *table;
static plog_engine *engine;
static int64_t partitions[2];
static sent_frames sent;

static void feed(const uint8_t *data, size_t size_bytes) {
  while (size_bytes > 0) {
    if (sent.left == 0) {
      plog_assert(data != NULL); /* a frame never begins in a file */
      sent.head[sent.head_bytes++] = *data++;
      size_bytes--;
      if (sent.head_bytes < sizeof sent.head) continue;
      plog_assert(plog_get_i32(sent.head + 4) == CORRELATION_ID);
      sent.left = (int64_t)plog_get_u32(sent.head) - 4;
      sent.head_bytes = 0;
      plog_assert(sent.left > 0);
      continue;
    }
    size_t n = (size_t)PLOG_MIN((int64_t)size_bytes, sent.left);
    sent.left -= (int64_t)n;
    size_bytes -= n;
    if (data) data += n;
  }
}

static int64_t send_bytes(void *context, int fd, const void *data, size_t size_bytes, int flags) {
  (void)context;
  (void)fd;
  (void)flags;
  feed(data, size_bytes);
  return (int64_t)size_bytes;
}

static int64_t send_message(void *context, int fd, const struct msghdr *message, int flags) {
  (void)context;
  (void)fd;
  (void)flags;
  int64_t total = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    feed(message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    total += (int64_t)message->msg_iov[i].iov_len;
  }
  return total;
}

static int64_t send_file(void *context, int fd, int file, int64_t *position, size_t size_bytes) {
  (void)context;
  (void)fd;
  (void)file;
  *position += (int64_t)size_bytes;
  feed(NULL, size_bytes);
  return (int64_t)size_bytes;
}

static void leave(void) {
  (void)plog_engine_close(engine, 0);
  plog_sys_close(table);
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r %s", dir);
  plog_assert(system(command) == 0);
}

static void host(int32_t index) {
  static const int32_t self[] = {1, 2};
  static const uint8_t id[16] = "an id of a topic";
  const plog_partition_state state = {.role = PLOG_ROLE_LEADER,
                                      .leader_epoch = 3,
                                      .leader_id = 1,
                                      .replicas = self,
                                      .replicas_count = 1 + index,
                                      .isr = self,
                                      .isr_count = 1 + index,
                                      .min_insync_replicas = 1,
                                      .max_message_bytes = 1 << 20,
                                      .timestamp_before_max_ms = INT64_MAX,
                                      .timestamp_after_max_ms = INT64_MAX,
                                      .compression = -1,
                                      .compression_level = INT32_MIN,
                                      .high_watermark = -1};
  const plog_log_config log_config = {.segment_bytes = 1 << 20,
                                      .segment_ms = INT64_MAX,
                                      .segment_index_bytes = 4096,
                                      .index_interval_bytes = 4096,
                                      .flush_messages = INT64_MAX};
  char path[96];
  (void)snprintf(path, sizeof path, "%s/%d", dir, (int)index);
  plog_log *log;
  plog_log_open_report report;
  plog_assert(mkdir(path, 0700) == 0);
  plog_assert(plog_log_open(table, path, &log_config, NULL, 0, 0, 0, 0, NULL, 0, 1, &log, &report) == 0);
  plog_assert(plog_engine_add_partition(engine, "t", id, index, log, &state, &partitions[index]) == 0);
}

static void open_engine(void) {
  const plog_engine_config config = {.broker_id = 1,
                                     .max_request_bytes = 1 << 20,
                                     .send_buffer_bytes = -1,
                                     .receive_buffer_bytes = -1,
                                     .connections_max_idle_ms = -1,
                                     .max_connections = 10,
                                     .max_connections_per_ip = INT32_MAX,
                                     .fetch_max_bytes = 1 << 20,
                                     .fetch_session_slots = 3,
                                     .disk_threads = 1,
                                     .replica_lag_time_max_ms = 30000,
                                     .max_upcall_bytes = 1 << 20};
  (void)snprintf(dir, sizeof dir, "/tmp/plog_fuzz_request_XXXXXX");
  plog_assert(mkdtemp(dir) != NULL);
  table = plog_sys_open();
  plog_assert(table);
  plog_assert(plog_engine_open(table, &config, &engine) == 0);
  plog_assert(plog_engine_publish_grant(engine, PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, NULL, 0, PLOG_GRANT_ALL, 0) == 0);
  table->calls.send = send_bytes;
  table->calls.sendmsg = send_message;
  table->calls.sendfile = send_file;
  host(0);
  host(1);
  (void)atexit(leave);
}

/* The log does not grow for ever. */
static void prune(void) {
  for (int i = 0; i < 2; i++) {
    plog_partition_info info;
    plog_assert(plog_engine_partition_info(engine, partitions[i], &info) == 0);
    plog_assert(info.high_watermark <= info.log_end_offset);
    if (info.log_end_offset > RECORDS_MAX) plog_assert(plog_engine_truncate(engine, partitions[i], 0, 1) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  if (!engine) open_engine();
  bool fetches = data[0] & 0x80;
  int16_t version = fetches ? (int16_t)(4 + (data[0] & 0x7f) % 15) : (int16_t)(3 + (data[0] & 0x7f) % 11);
  int pair[2];
  plog_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
  plog_conn *conn = plog__reactor_add_conn(engine, pair[0], 0);
  plog_assert(conn);
  plog_frame frame = {.api_key = fetches ? PLOG_API_FETCH : PLOG_API_PRODUCE,
                      .api_version = version,
                      .correlation_id = CORRELATION_ID,
                      .body = malloc(size_bytes),
                      .body_bytes = (uint32_t)size_bytes - 1};
  plog_assert(frame.body);
  memcpy(frame.body, data + 1, size_bytes - 1);
  plog__reactor_refresh_clock(engine);
  int32_t rc = fetches ? plog__fetch_handle(engine, conn, &frame) : plog__produce_handle(engine, conn, &frame);
  plog_assert(rc == 0 || rc == PLOG_E_MALFORMED || rc == -ENOMEM);
  plog__reactor_settle(engine);
  plog__timers_run(&engine->timers, engine->now_ms + 2 * (int64_t)INT32_MAX); /* whoever waits has waited long enough */
  plog__reactor_settle(engine);
  plog_assert(rc != 0 || conn->closes || conn->waiting == 0);
  plog_assert(sent.left == 0 && sent.head_bytes == 0);
  plog__reactor_close_conns(engine);
  free(frame.body);
  (void)close(pair[1]);
  prune();
  return 0;
}
