/*
 * engine_fixture.h: an engine with partitions of one topic in one data directory, and clients on sockets that produce and fetch.
 * For tests of what the reactor does with a disk. One test at a time: the state is the file's own.
 */
#ifndef PLOG_ENGINE_FIXTURE_H
#define PLOG_ENGINE_FIXTURE_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "plog.h"
#include "sys.h"
#include "test.h"
#include "wire.h"

enum { ENGINE_PARTITIONS_MAX = 4, WAIT_S = 20 };

typedef struct {
  char data_dir[64];
  char dirs[ENGINE_PARTITIONS_MAX][96];
  int32_t partitions_count;
  plog_sys *sys;
  plog_log_config log_config;
  plog_engine *engine;
  int32_t port;
  int64_t partitions[ENGINE_PARTITIONS_MAX];
} engine_fixture;

static const int32_t engine_self[] = {1};
static const plog_partition_state engine_leader = {.role = PLOG_ROLE_LEADER,
                                                   .leader_id = 1,
                                                   .replicas = engine_self,
                                                   .replicas_count = 1,
                                                   .isr = engine_self,
                                                   .isr_count = 1,
                                                   .min_insync_replicas = 1,
                                                   .max_message_bytes = 1 << 20,
                                                   .timestamp_before_max_ms = INT64_MAX,
                                                   .timestamp_after_max_ms = INT64_MAX,
                                                   .compression = -1,
                                                   .compression_level = INT32_MIN,
                                                   .high_watermark = -1};

static inline void engine_begin(engine_fixture *f, int32_t partitions_count) {
  memset(f, 0, sizeof *f);
  strcpy(f->data_dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/plog_engine_XXXXXX" : "/tmp/plog_engine_XXXXXX");
  CHECK(mkdtemp(f->data_dir));
  f->sys = plog_sys_open();
  CHECK(f->sys);
  f->partitions_count = partitions_count;
  f->log_config = (plog_log_config){.segment_bytes = 1 << 20,
                                    .segment_ms = INT64_MAX / 2,
                                    .segment_index_bytes = 10 << 20,
                                    .index_interval_bytes = 4096,
                                    .flush_messages = INT64_MAX};
  for (int32_t i = 0; i < partitions_count; i++) {
    (void)snprintf(f->dirs[i], sizeof f->dirs[i], "%s/t-%d", f->data_dir, i);
    CHECK_EQ(mkdir(f->dirs[i], 0755), 0);
  }
}

static inline int engine_compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static inline int32_t engine_list(const char *dir, int64_t *bases) {
  DIR *d = opendir(dir);
  CHECK(d);
  int32_t n = 0;
  for (const struct dirent *e; (e = readdir(d));)
    if (strlen(e->d_name) == 24 && strcmp(e->d_name + 20, ".log") == 0) bases[n++] = strtoll(e->d_name, NULL, 10);
  (void)closedir(d);
  qsort(bases, (size_t)n, sizeof *bases, engine_compare);
  return n;
}

/* Open the logs, as after a clean stop, and serve. */
static inline void engine_start(engine_fixture *f, bool group_commit) {
  const plog_engine_config config = {.broker_id = 1,
                                     .max_request_bytes = 10 << 20,
                                     .send_buffer_bytes = -1,
                                     .receive_buffer_bytes = -1,
                                     .connections_max_idle_ms = 60000,
                                     .max_connections = 100,
                                     .max_connections_per_ip = INT32_MAX,
                                     .fetch_max_bytes = 10 << 20,
                                     .fetch_session_slots = 10,
                                     .disk_threads = 1,
                                     .answer_cache_bytes = 1 << 20,
                                     .replica_lag_time_max_ms = 30000,
                                     .max_upcall_bytes = 1 << 20};
  static const uint8_t id[16] = {1};
  CHECK_EQ(plog_engine_open(f->sys, &config, &f->engine), 0);
  CHECK_EQ(plog_engine_serve(f->engine, 0, 3, 13), 0);
  CHECK_EQ(plog_engine_serve(f->engine, 1, 4, 18), 0);
  CHECK_EQ(plog_engine_publish_grant(f->engine, PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, NULL, 0, PLOG_GRANT_ALL, 0), 0);
  CHECK_EQ(plog_engine_keep_synced(f->engine, f->data_dir, group_commit), 0);
  for (int32_t i = 0; i < f->partitions_count; i++) {
    int64_t bases[1024];
    int32_t count = engine_list(f->dirs[i], bases);
    plog_log *log;
    plog_log_open_report report;
    CHECK_EQ(plog_log_open(f->sys, f->dirs[i], &f->log_config, bases, count, 0, 0, count > 0, NULL, count ? -1 : 0,
                           1790000000000, &log, &report),
             0);
    CHECK_EQ(plog_engine_add_partition(f->engine, "t", id, i, log, &engine_leader, &f->partitions[i]), 0);
  }
  CHECK_EQ(plog_engine_listen(f->engine, "127.0.0.1", 0, 0, &f->port), 0);
  CHECK_EQ(plog_engine_start(f->engine), 0);
}

static inline void engine_stop(engine_fixture *f) {
  CHECK_EQ(plog_engine_stop(f->engine, 0), 0);
  (void)plog_engine_close(f->engine, 1);
  f->engine = NULL;
}

static inline void engine_end(engine_fixture *f) {
  if (f->engine) engine_stop(f);
  plog_sys_close(f->sys);
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r %s", f->data_dir);
  CHECK_EQ(system(command), 0);
}

/* The next upcall of a kind; others are passed over. Its body is the caller's to release. */
static inline plog_upcall engine_await(engine_fixture *f, int32_t kind) {
  for (int i = 0; i < 1000; i++) {
    plog_upcall up;
    int32_t count;
    CHECK_EQ(plog_engine_poll(f->engine, WAIT_S * 1000, &up, 1, &count), 0);
    CHECK_EQ(count, 1);
    if (up.kind == kind) return up;
  }
  CHECK(false);
  return (plog_upcall){0};
}

/* ------------------------------------------------------------------------------------------------ clients */

static inline int client_open(const engine_fixture *f) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f->port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct timeval limit = {.tv_sec = WAIT_S};
  CHECK(fd >= 0);
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

static inline void client_send(int fd, plog_writer *w) {
  plog_put_u32(w->data, (uint32_t)w->size_bytes - 4);
  for (size_t at = 0; at < w->size_bytes;) {
    ssize_t n = send(fd, w->data + at, w->size_bytes - at, MSG_NOSIGNAL);
    CHECK(n > 0);
    at += (size_t)n;
  }
  plog_writer_deinit(w);
}

/* False: the connection was closed first. */
static inline bool client_receive_bytes(int fd, uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t n = recv(fd, data, size, 0);
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return false;
    CHECK(n > 0);
    data += n;
    size -= (size_t)n;
  }
  return true;
}

/* The answer behind its size; 0: the connection was closed. */
static inline size_t client_receive(int fd, uint8_t *out, size_t capacity) {
  uint8_t size[4];
  if (!client_receive_bytes(fd, size, 4)) return 0;
  uint32_t n = plog_get_u32(size);
  CHECK(n <= capacity);
  return client_receive_bytes(fd, out, n) ? n : 0;
}

/* Nothing has been answered. */
static inline bool client_is_quiet(int fd) {
  uint8_t byte;
  return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

static inline void client_begin(plog_writer *w, int16_t key, int16_t version, int32_t correlation_id) {
  plog_writer_init(w);
  plog_write_i32(w, 0);
  plog_write_i16(w, key);
  plog_write_i16(w, version);
  plog_write_i32(w, correlation_id);
  plog_write_string(w, false, "c", 1);
}

/* One batch of one record with a value of so many bytes, to t-<index>. */
static inline void client_produce(int fd, int32_t index, int16_t acks, int32_t value_bytes) {
  static uint8_t value[1 << 20];
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *batch;
  size_t size;
  CHECK((size_t)value_bytes <= sizeof value);
  plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
  CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, value, value_bytes, NULL, 0, 0), 0);
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &batch, &size), 0);
  plog_writer w;
  client_begin(&w, 0, 3, 7);
  plog_write_string(&w, false, NULL, 0);
  plog_write_i16(&w, acks);
  plog_write_i32(&w, 30000);
  plog_write_i32(&w, 1);
  plog_write_string(&w, false, "t", 1);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, index);
  plog_write_bytes(&w, false, batch, size);
  plog_batch_builder_close(b);
  client_send(fd, &w);
}

/* The error of the one partition of the next answer; its base offset goes to *out_offset. */
static inline int32_t client_produced(int fd, int64_t *out_offset) {
  uint8_t answer[256];
  CHECK_EQ(client_receive(fd, answer, sizeof answer), 4 + 4 + 3 + 4 + 4 + 2 + 8 + 8 + 4);
  if (out_offset) *out_offset = plog_get_i64(answer + 4 + 4 + 3 + 4 + 4 + 2);
  return plog_get_i16(answer + 4 + 4 + 3 + 4 + 4);
}

static inline void client_fetch(int fd, int32_t index, int64_t offset, int32_t max_wait_ms, int32_t max_bytes) {
  plog_writer w;
  client_begin(&w, 1, 4, 9);
  plog_write_i32(&w, -1);
  plog_write_i32(&w, max_wait_ms);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, max_bytes);
  plog_write_i8(&w, 0);
  plog_write_i32(&w, 1);
  plog_write_string(&w, false, "t", 1);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, index);
  plog_write_i64(&w, offset);
  plog_write_i32(&w, max_bytes);
  client_send(fd, &w);
}

typedef struct {
  bool closed;
  int32_t error;
  int64_t high_watermark;
  int32_t batches; /* whole and sound ones */
  int64_t next_offset;
  bool damaged; /* a whole batch that is not */
} fetched;

static inline fetched client_fetched(int fd) {
  static const size_t capacity = 16 << 20;
  uint8_t *answer = malloc(capacity);
  CHECK(answer);
  fetched out = {.next_offset = -1};
  plog_reader r;
  size_t size = client_receive(fd, answer, capacity);
  out.closed = size == 0;
  if (!out.closed) {
    plog_reader_init(&r, answer, size);
    CHECK_EQ(plog_read_i32(&r), 9);
    (void)plog_read_raw(&r, 4 + 4 + 3 + 4 + 4);
    out.error = plog_read_i16(&r);
    out.high_watermark = plog_read_i64(&r);
    (void)plog_read_raw(&r, 8 + 4);
    plog_bytes records = plog_read_bytes(&r, false);
    CHECK_EQ(plog_reader_status(&r), 0);
    plog_batch_header header;
    int32_t rc;
    while ((rc = plog_batch_check(records.data, records.size_bytes, &header)) == 0) {
      out.batches++;
      out.next_offset = header.base_offset + header.last_offset_delta + 1;
      records.data += header.size_bytes;
      records.size_bytes -= header.size_bytes;
    }
    out.damaged = rc != PLOG_E_SHORT;
  }
  free(answer);
  return out;
}

#endif
