/*
 * test_engine.c: the engine under threads, for the thread sanitizer above all: producers and consumers on sockets, Python's
 * side polling, answering and invalidating, others publishing, appending and asking; what was acknowledged is read, once and
 * in order.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "plog.h"
#include "test.h"
#include "wire.h"

#define PRODUCERS 3
#define REQUESTS 200
#define IN_FLIGHT 5
#define ASKERS 2
#define QUESTIONS 200
#define APPENDS 50

static plog_sys *sys;
static plog_engine *engine;
static int32_t port;
static int64_t partition;
static char dir[] = "/tmp/plog_test_engine_XXXXXX";
static const int32_t self[] = {1};
static const plog_partition_state leader = {.role = PLOG_ROLE_LEADER,
                                            .leader_id = 1,
                                            .replicas = self,
                                            .replicas_count = 1,
                                            .isr = self,
                                            .isr_count = 1,
                                            .min_insync_replicas = 1,
                                            .max_message_bytes = 1 << 20,
                                            .timestamp_before_max_ms = INT64_MAX,
                                            .timestamp_after_max_ms = INT64_MAX,
                                            .compression = -1,
                                            .compression_level = INT32_MIN,
                                            .high_watermark = -1};

static void open_engine(void) {
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
  const plog_log_config log_config = {.segment_bytes = 100000,
                                      .segment_ms = INT64_MAX,
                                      .segment_index_bytes = 4096,
                                      .index_interval_bytes = 4096,
                                      .flush_messages = INT64_MAX};
  static const uint8_t id[16] = {1};
  plog_log *log;
  plog_log_open_report report;
  CHECK_EQ(plog_log_open(sys, dir, &log_config, NULL, 0, 0, 0, 0, NULL, 0, 1790000000000, &log, &report), 0);
  CHECK_EQ(plog_engine_open(sys, &config, &engine), 0);
  CHECK_EQ(plog_engine_serve(engine, 0, 3, 13), 0);
  CHECK_EQ(plog_engine_serve(engine, 1, 4, 18), 0);
  CHECK_EQ(plog_engine_publish_grant(engine, PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, NULL, 0, PLOG_GRANT_ALL, 0), 0);
  CHECK_EQ(plog_engine_add_partition(engine, "t", id, 0, log, &leader, &partition), 0);
  CHECK_EQ(plog_engine_listen(engine, "127.0.0.1", 0, 0, &port), 0);
  CHECK_EQ(plog_engine_start(engine), 0);
}

/* ------------------------------------------------------------------------------------------------ clients */

static int open_client(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct timeval limit = {.tv_sec = 60};
  CHECK(fd >= 0);
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

static void send_all(int fd, const uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    CHECK(n > 0);
    data += n;
    size -= (size_t)n;
  }
}

static void receive_all(int fd, uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t n = recv(fd, data, size, 0);
    CHECK(n > 0);
    data += n;
    size -= (size_t)n;
  }
}

/* The answer behind its size, in memory of the caller. */
static size_t receive_answer(int fd, uint8_t *out, size_t capacity) {
  uint8_t size[4];
  receive_all(fd, size, 4);
  uint32_t n = plog_get_u32(size);
  CHECK(n <= capacity);
  receive_all(fd, out, n);
  return n;
}

static void begin_request(plog_writer *w, int16_t key, int16_t version, int32_t correlation_id) {
  plog_writer_reset(w);
  plog_write_i32(w, 0);
  plog_write_i16(w, key);
  plog_write_i16(w, version);
  plog_write_i32(w, correlation_id);
  plog_write_string(w, false, "c", 1);
}

static void send_request(int fd, plog_writer *w) {
  plog_put_u32(w->data, (uint32_t)w->size_bytes - 4);
  send_all(fd, w->data, w->size_bytes);
}

/* One record whose value is (producer, number). */
static void make_batch(plog_batch_builder *b, int32_t producer, int32_t number, const uint8_t **data, size_t *size) {
  uint8_t value[8];
  plog_put_i32(value, producer);
  plog_put_i32(value + 4, number);
  plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
  CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, value, 8, NULL, 0, 0), 0);
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, data, size), 0);
}

static void *produce(void *argument) {
  int32_t producer = (int32_t)(intptr_t)argument;
  int fd = open_client();
  plog_writer w;
  plog_writer_init(&w);
  plog_batch_builder *b = plog_batch_builder_open();
  uint8_t answer[256];
  for (int32_t sent = 0, answered = 0; answered < REQUESTS;) {
    if (sent < REQUESTS && sent - answered < IN_FLIGHT) {
      const uint8_t *batch;
      size_t size;
      make_batch(b, producer, sent, &batch, &size);
      begin_request(&w, 0, 3, sent);
      plog_write_string(&w, false, NULL, 0);
      plog_write_i16(&w, sent % 2 ? -1 : 1);
      plog_write_i32(&w, 30000);
      plog_write_i32(&w, 1);
      plog_write_string(&w, false, "t", 1);
      plog_write_i32(&w, 1);
      plog_write_i32(&w, 0);
      plog_write_bytes(&w, false, batch, size);
      send_request(fd, &w);
      sent++;
      continue;
    }
    CHECK_EQ(receive_answer(fd, answer, sizeof answer), 4 + 4 + 3 + 4 + 4 + 2 + 8 + 8 + 4);
    CHECK_EQ(plog_get_i32(answer), answered++);
    CHECK_EQ(plog_get_i16(answer + 4 + 4 + 3 + 4 + 4), 0);
  }
  plog_batch_builder_close(b);
  plog_writer_deinit(&w);
  (void)close(fd);
  return NULL;
}

/* Read everything from offset 0, by long polls, and see each producer's numbers in order. */
static void *consume(void *argument) {
  (void)argument;
  int fd = open_client();
  plog_writer w;
  plog_writer_init(&w);
  static const size_t capacity = 1 << 20;
  uint8_t *answer = malloc(capacity);
  CHECK(answer);
  int32_t next[PRODUCERS] = {0};
  int64_t offset = 0;
  for (int32_t turn = 0; offset < PRODUCERS * REQUESTS; turn++) {
    begin_request(&w, 1, 4, turn);
    plog_write_i32(&w, -1);
    plog_write_i32(&w, 500);
    plog_write_i32(&w, 1);
    plog_write_i32(&w, 500000);
    plog_write_i8(&w, 0);
    plog_write_i32(&w, 1);
    plog_write_string(&w, false, "t", 1);
    plog_write_i32(&w, 1);
    plog_write_i32(&w, 0);
    plog_write_i64(&w, offset);
    plog_write_i32(&w, 20000);
    send_request(fd, &w);
    plog_reader r;
    plog_reader_init(&r, answer, receive_answer(fd, answer, capacity));
    CHECK_EQ(plog_read_i32(&r), turn);
    (void)plog_read_raw(&r, 4 + 4 + 3 + 4 + 4);
    CHECK_EQ(plog_read_i16(&r), 0);
    (void)plog_read_raw(&r, 8 + 8 + 4);
    plog_bytes records = plog_read_bytes(&r, false);
    CHECK_EQ(plog_reader_status(&r), 0);
    plog_batch_header header;
    while (plog_batch_check(records.data, records.size_bytes, &header) == 0) {
      plog_record record;
      int32_t count;
      CHECK_EQ(plog_batch_records(records.data, header.size_bytes, NULL, 0, &record, 1, &count), 0);
      CHECK_EQ(record.offset, offset);
      CHECK_EQ(plog_get_i32(record.value + 4), next[plog_get_i32(record.value)]++);
      offset++;
      records.data += header.size_bytes;
      records.size_bytes -= header.size_bytes;
    }
  }
  for (int i = 0; i < PRODUCERS; i++) CHECK_EQ(next[i], REQUESTS);
  free(answer);
  plog_writer_deinit(&w);
  (void)close(fd);
  return NULL;
}

/* Ask what Python (below) answers with the generation of its truth; it never goes back. */
static void *ask(void *argument) {
  (void)argument;
  int fd = open_client();
  plog_writer w;
  plog_writer_init(&w);
  int64_t seen = 0;
  for (int32_t i = 0; i < QUESTIONS; i++) {
    begin_request(&w, 3, 4, i);
    plog_write_i8(&w, (int8_t)(i % 3));
    send_request(fd, &w);
    uint8_t answer[12];
    CHECK_EQ(receive_answer(fd, answer, sizeof answer), 12);
    CHECK_EQ(plog_get_i32(answer), i);
    CHECK(plog_get_i64(answer + 4) >= seen);
    seen = plog_get_i64(answer + 4);
  }
  plog_writer_deinit(&w);
  (void)close(fd);
  return NULL;
}

/* ------------------------------------------------------------------------------------------------ Python's side */

static _Atomic int64_t truth;

static void *answer_upcalls(void *argument) {
  (void)argument;
  plog_upcall up[16];
  int32_t count;
  while (plog_engine_poll(engine, -1, up, 16, &count) == 0) {
    for (int32_t i = 0; i < count; i++) {
      if (up[i].kind != PLOG_UP_REQUEST) continue;
      CHECK_EQ(up[i].body_bytes, 1);
      uint8_t answer[12];
      plog_put_i32(answer, up[i].correlation_id);
      plog_put_i64(answer + 4, atomic_load(&truth));
      CHECK_EQ(plog_engine_answer(engine, up[i].conn, up[i].slot, answer, 12, 1, up[i].generation), 0);
      plog_engine_release(engine, &up[i]);
    }
  }
  return NULL;
}

static _Atomic bool over;

static void *govern(void *argument) {
  (void)argument;
  while (!atomic_load(&over)) {
    (void)atomic_fetch_add(&truth, 1);
    plog_engine_invalidate(engine);
    CHECK_EQ(plog_engine_publish(engine, partition, &leader), 0);
    plog_partition_info info;
    CHECK_EQ(plog_engine_partition_info(engine, partition, &info), 0);
    CHECK(info.high_watermark <= info.log_end_offset);
    plog_engine_stats stats;
    plog_engine_stats_read(engine, &stats);
    CHECK(stats.turns >= 0);
    plog_engine_wake(engine);
  }
  return NULL;
}

static void threads_of_all_kinds(void) {
  open_engine();
  pthread_t python, governor, producers[PRODUCERS], consumers[2], askers[ASKERS];
  CHECK_EQ(pthread_create(&python, NULL, answer_upcalls, NULL), 0);
  CHECK_EQ(pthread_create(&governor, NULL, govern, NULL), 0);
  for (intptr_t i = 0; i < 2; i++) CHECK_EQ(pthread_create(&consumers[i], NULL, consume, NULL), 0);
  for (intptr_t i = 0; i < PRODUCERS; i++) CHECK_EQ(pthread_create(&producers[i], NULL, produce, (void *)i), 0);
  for (intptr_t i = 0; i < ASKERS; i++) CHECK_EQ(pthread_create(&askers[i], NULL, ask, NULL), 0);
  for (int i = 0; i < PRODUCERS; i++) CHECK_EQ(pthread_join(producers[i], NULL), 0);
  for (int i = 0; i < 2; i++) CHECK_EQ(pthread_join(consumers[i], NULL), 0);
  for (int i = 0; i < ASKERS; i++) CHECK_EQ(pthread_join(askers[i], NULL), 0);
  plog_batch_builder *b = plog_batch_builder_open();
  for (int32_t i = 0; i < APPENDS; i++) {
    const uint8_t *batch;
    size_t size;
    int64_t base, last;
    int32_t committed;
    make_batch(b, 0, i, &batch, &size);
    CHECK_EQ(plog_engine_append(engine, partition, batch, size, i, &base, &last, &committed), 0);
    CHECK_EQ(base, PRODUCERS * REQUESTS + i);
    CHECK_EQ(committed, 1);
  }
  plog_batch_builder_close(b);
  atomic_store(&over, true);
  CHECK_EQ(pthread_join(governor, NULL), 0);
  CHECK_EQ(plog_engine_stop(engine, 0), 0);
  CHECK_EQ(pthread_join(python, NULL), 0);
  CHECK_EQ(plog_engine_close(engine, 1), 0);
}

int main(void) {
  CHECK(mkdtemp(dir));
  sys = plog_sys_open();
  CHECK(sys);
  RUN(threads_of_all_kinds);
  plog_sys_close(sys);
  char command[256];
  (void)snprintf(command, sizeof command, "rm -r %s", dir);
  CHECK_EQ(system(command), 0);
  return 0;
}
