/*
 * test_fetcher_answers.c: a fetcher and a leader that is played: errors of every kind, answers that are broken or damaged, sessions,
 * silence. What the fetcher asks is looked at, too.
 */
#include "cluster_fixture.h"

static node two;
static int listener = -1, leader = -1;
static int32_t listener_port;
static int64_t fetcher;

static void listen_as_leader(void) {
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t at_bytes = sizeof at;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(listener >= 0);
  CHECK_EQ(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
  CHECK_EQ(listen(listener, 5), 0);
  CHECK_EQ(getsockname(listener, (struct sockaddr *)&at, &at_bytes), 0);
  listener_port = ntohs(at.sin_port);
}

static void accept_follower(void) {
  if (leader >= 0) (void)close(leader);
  leader = accept(listener, NULL, NULL);
  CHECK(leader >= 0);
  struct timeval limit = {.tv_sec = CLUSTER_WAIT_MS / 1000};
  CHECK_EQ(setsockopt(leader, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
}

static void begin(int32_t partitions, int32_t request_timeout_ms) {
  listen_as_leader();
  node_begin(&two, 2, partitions);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, 2);
  node_start(&two, &follows);
  node as_leader = {.id = 1, .port = listener_port};
  plog_fetcher_config config = fetcher_to(&as_leader, &two);
  config.request_timeout_ms = request_timeout_ms;
  config.backoff_ms = 5;
  CHECK_EQ(plog_engine_open_fetcher(two.engine, &config, &fetcher), 0);
  node_follow(&two, fetcher);
  accept_follower();
  plog_upcall up = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(up.a, 1);
}

static void end(void) {
  node_end(&two);
  (void)close(leader);
  (void)close(listener);
  leader = -1;
}

/* ------------------------------------------------------------------------------------------------ requests */

enum { ASKED_MAX = 8 };

typedef struct {
  int32_t correlation_id;
  int32_t session_id;
  int32_t session_epoch;
  int32_t count;
  struct {
    int32_t index;
    int32_t epoch;
    int64_t offset;
    int32_t last_epoch;
    int64_t log_start;
  } asked[ASKED_MAX];
  int32_t forgotten_count;
  int32_t forgotten[ASKED_MAX];
  int32_t replica_id;
  int64_t broker_epoch;
} request;

static void receive_all(uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t n = recv(leader, data, size, 0);
    CHECK(n > 0);
    data += n;
    size -= (size_t)n;
  }
}

static void read_topics(plog_reader *r, request *out, bool forgotten) {
  for (int32_t topics = plog_read_array(r, true, 18); topics > 0; topics--) {
    const uint8_t *id = plog_read_raw(r, 16);
    CHECK(id && memcmp(id, node_topic_id, 16) == 0);
    for (int32_t left = plog_read_array(r, true, 4); left > 0; left--) {
      int32_t index = plog_read_i32(r);
      if (forgotten) {
        out->forgotten[out->forgotten_count++] = index;
        continue;
      }
      CHECK(out->count < ASKED_MAX);
      out->asked[out->count].index = index;
      out->asked[out->count].epoch = plog_read_i32(r);
      out->asked[out->count].offset = plog_read_i64(r);
      out->asked[out->count].last_epoch = plog_read_i32(r);
      out->asked[out->count].log_start = plog_read_i64(r);
      CHECK_EQ(plog_read_i32(r), 1 << 20);
      plog_skip_tags(r);
      out->count++;
    }
    plog_skip_tags(r);
  }
}

static request receive_request(void) {
  static uint8_t data[4096];
  receive_all(data, 4);
  uint32_t size = plog_get_u32(data);
  CHECK(size <= sizeof data);
  receive_all(data, size);
  plog_reader r;
  plog_reader_init(&r, data, size);
  request out = {.count = 0};
  CHECK_EQ(plog_read_i16(&r), 1);
  CHECK_EQ(plog_read_i16(&r), 17);
  out.correlation_id = plog_read_i32(&r);
  CHECK_EQ(plog_read_string(&r, false).size_bytes, strlen("broker-2-fetcher-0"));
  plog_skip_tags(&r);
  CHECK_EQ(plog_read_i32(&r), 20);       /* max wait */
  CHECK_EQ(plog_read_i32(&r), 1);        /* min bytes */
  CHECK_EQ(plog_read_i32(&r), 10 << 20); /* max bytes */
  CHECK_EQ(plog_read_i8(&r), 0);
  out.session_id = plog_read_i32(&r);
  out.session_epoch = plog_read_i32(&r);
  read_topics(&r, &out, false);
  read_topics(&r, &out, true);
  CHECK_EQ(plog_read_string(&r, true).size_bytes, 0);
  CHECK_EQ(plog_read_uvarint(&r), 1);
  CHECK_EQ(plog_read_uvarint(&r), 1);
  CHECK_EQ(plog_read_uvarint(&r), 13);
  out.replica_id = plog_read_i32(&r);
  out.broker_epoch = plog_read_i64(&r);
  plog_skip_tags(&r);
  CHECK_EQ(plog_reader_status(&r), 0);
  CHECK_EQ(r.left, 0);
  CHECK_EQ(out.replica_id, 2);
  return out;
}

/* ------------------------------------------------------------------------------------------------ answers */

typedef struct {
  int32_t index;
  int32_t error;
  int64_t high_watermark;
  const uint8_t *records;
  size_t records_bytes;
} told;

static void begin_answer(plog_writer *w, int32_t correlation_id, int32_t error, int32_t session_id, int32_t topics) {
  plog_writer_init(w);
  plog_write_i32(w, 0);
  plog_write_i32(w, correlation_id);
  plog_write_no_tags(w);
  plog_write_i32(w, 0);
  plog_write_i16(w, (int16_t)error);
  plog_write_i32(w, session_id);
  plog_write_array(w, true, topics);
}

static void write_partition(plog_writer *w, const told *t) {
  plog_write_i32(w, t->index);
  plog_write_i16(w, (int16_t)t->error);
  plog_write_i64(w, t->high_watermark);
  plog_write_i64(w, t->high_watermark);
  plog_write_i64(w, 0);
  plog_write_array(w, true, -1);
  plog_write_i32(w, -1);
  plog_write_bytes(w, true, t->records, t->records_bytes);
  plog_write_no_tags(w);
}

static void send_bytes(const uint8_t *data, size_t size) {
  while (size > 0) {
    ssize_t n = send(leader, data, size, MSG_NOSIGNAL);
    CHECK(n > 0);
    data += n;
    size -= (size_t)n;
  }
}

static void send_answer(plog_writer *w) {
  plog_put_u32(w->data, (uint32_t)w->size_bytes - 4);
  send_bytes(w->data, w->size_bytes);
  plog_writer_deinit(w);
}

static void answer(const request *q, int32_t error, int32_t session_id, const told *list, int32_t count) {
  plog_writer w;
  begin_answer(&w, q->correlation_id, error, session_id, count > 0);
  if (count > 0) {
    plog_write_raw(&w, node_topic_id, 16);
    plog_write_array(&w, true, count);
    for (int32_t i = 0; i < count; i++) write_partition(&w, &list[i]);
    plog_write_no_tags(&w);
  }
  plog_write_no_tags(&w);
  send_answer(&w);
}

typedef struct {
  uint8_t data[512];
  size_t size;
} batch;

static batch make_batch(int64_t base, int32_t records, int32_t epoch) {
  batch out;
  const uint8_t *data;
  plog_batch_builder *b = plog_batch_builder_open();
  plog_batch_builder_reset(b, base, 0, -1, -1, -1, epoch);
  for (int32_t i = 0; i < records; i++)
    CHECK_EQ(plog_batch_builder_add(b, 1790000000000, NULL, -1, (const uint8_t *)"value", 5, NULL, 0, 0), 0);
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &out.size), 0);
  CHECK(out.size <= sizeof out.data);
  memcpy(out.data, data, out.size);
  plog_batch_builder_close(b);
  return out;
}

static told of_batch(const batch *b, int64_t high_watermark) {
  return (told){.high_watermark = high_watermark, .records = b->data, .records_bytes = b->size};
}

static plog_upcall await_followed(int32_t error, int64_t a) {
  plog_upcall up = node_upcall(&two, PLOG_UP_FOLLOW);
  CHECK_EQ(up.error, error);
  CHECK_EQ(up.a, a);
  return up;
}

/* The follower's log takes what the next answer gives, so all is well with it. */
static void goes_on(void) {
  request q = receive_request();
  for (int times = 0; q.count == 0; times++) { /* it is to look again first */
    CHECK(times < 100000);
    answer(&q, 0, q.session_id, NULL, 0);
    q = receive_request();
  }
  int64_t base = q.asked[0].offset;
  batch b = make_batch(base, 1, 1);
  told t = of_batch(&b, base + 1);
  answer(&q, 0, q.session_id ? q.session_id : 5, &t, 1);
  node_await(&two, 0, base + 1);
}

/* ------------------------------------------------------------------------------------------------ tests */

static void sessions(void) {
  begin(3, 30000);
  request q = receive_request();
  CHECK_EQ(q.session_id, 0);
  CHECK_EQ(q.session_epoch, 0);
  CHECK_EQ(q.count, 3);
  CHECK_EQ(q.asked[0].offset, 0);
  CHECK_EQ(q.asked[0].epoch, 1);
  CHECK_EQ(q.asked[0].last_epoch, -1);
  CHECK_EQ(q.broker_epoch, 102);
  batch b = make_batch(0, 3, 1);
  told list[] = {of_batch(&b, 2), {.index = 1, .records = NULL}, {.index = 2, .records = NULL}};
  answer(&q, 0, 77, list, 3);
  q = receive_request();
  CHECK_EQ(q.session_id, 77);
  CHECK_EQ(q.session_epoch, 1);
  CHECK_EQ(q.count, 1); /* what is as it was is not said again */
  CHECK_EQ(q.asked[0].index, 0);
  CHECK_EQ(q.asked[0].offset, 3);
  CHECK_EQ(q.asked[0].last_epoch, 1);
  CHECK_EQ(node_info(&two, 0).high_watermark, 2);
  plog_engine_unfollow(two.engine, two.partitions + 1, 1);
  answer(&q, 0, 77, NULL, 0);
  q = receive_request();
  CHECK_EQ(q.session_epoch, 2);
  CHECK_EQ(q.count, 0);
  CHECK_EQ(q.forgotten_count, 1);
  CHECK_EQ(q.forgotten[0], 1);
  /* followed again before the leader was told: no word of forgetting */
  plog_engine_unfollow(two.engine, two.partitions + 2, 1);
  int32_t result;
  CHECK_EQ(plog_engine_follow(two.engine, fetcher, two.partitions + 2, 1, &result), 0);
  answer(&q, 0, 77, NULL, 0);
  q = receive_request();
  CHECK_EQ(q.forgotten_count, 0);
  CHECK_EQ(q.count, 1);
  CHECK_EQ(q.asked[0].index, 2);
  answer(&q, PLOG_INVALID_FETCH_SESSION_EPOCH, 0, NULL, 0);
  q = receive_request();
  CHECK_EQ(q.session_id, 77); /* to be closed */
  CHECK_EQ(q.session_epoch, 0);
  CHECK_EQ(q.count, 2);
  answer(&q, 0, 78, list + 2, 1);
  q = receive_request();
  CHECK_EQ(q.session_id, 78);
  CHECK_EQ(q.session_epoch, 1);
  answer(&q, PLOG_FETCH_SESSION_ID_NOT_FOUND, 0, NULL, 0);
  q = receive_request();
  CHECK_EQ(q.session_id, 0);
  CHECK_EQ(q.session_epoch, 0);
  answer(&q, 0, 0, NULL, 0); /* no room for a session: everything is asked each time */
  q = receive_request();
  CHECK_EQ(q.session_id, 0);
  CHECK_EQ(q.session_epoch, 0);
  CHECK_EQ(q.count, 2);
  end();
}

/* Those that pass are asked again after a while, and told once for as long as they last; others wait for Python. */
static void errors(void) {
  static const int32_t passing[] = {
      PLOG_NOT_LEADER_OR_FOLLOWER, PLOG_UNKNOWN_TOPIC_OR_PARTITION, PLOG_UNKNOWN_LEADER_EPOCH, PLOG_KAFKA_STORAGE_ERROR,
      PLOG_UNKNOWN_TOPIC_ID,       PLOG_INCONSISTENT_TOPIC_ID,      PLOG_CORRUPT_MESSAGE,      -1};
  static const int32_t lasting[] = {PLOG_OFFSET_OUT_OF_RANGE, PLOG_FENCED_LEADER_EPOCH};
  begin(1, 30000);
  for (size_t i = 0; i < PLOG_COUNT_OF(passing); i++) {
    for (int times = 0; times < 2; times++) {
      request q = receive_request();
      told t = {.error = passing[i], .high_watermark = -1};
      if (q.count == 0) times--; /* the leader is told to forget it first */
      answer(&q, 0, q.session_id ? q.session_id : 5, &t, q.count > 0);
    }
    await_followed(passing[i], 0);
  }
  goes_on();
  for (size_t i = 0; i < PLOG_COUNT_OF(lasting); i++) {
    request q = receive_request();
    CHECK_EQ(q.count, 1);
    told t = {.error = lasting[i], .high_watermark = -1};
    answer(&q, 0, 5, &t, 1);
    await_followed(lasting[i], 1);
    q = receive_request();
    CHECK_EQ(q.count, 0);
    CHECK_EQ(q.forgotten_count, 1);
    answer(&q, 0, 0, NULL, 0); /* the session is empty, and gone */
    node_follow(&two, fetcher);
    goes_on();
  }
  end();
}

static void whole_errors(void) {
  begin(1, 30000);
  for (int times = 0; times < 2; times++) {
    request q = receive_request();
    answer(&q, PLOG_CLUSTER_AUTHORIZATION_FAILED, 0, NULL, 0);
  }
  plog_upcall up = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(up.a, 2);
  CHECK_EQ(up.error, PLOG_CLUSTER_AUTHORIZATION_FAILED);
  goes_on();
  end();
}

static void damaged_records(void) {
  begin(1, 30000);
  request q = receive_request();
  batch b = make_batch(0, 2, 1);
  b.data[b.size - 2] ^= 1;
  told t = of_batch(&b, 2);
  answer(&q, 0, 5, &t, 1);
  (void)await_followed(PLOG_CORRUPT_MESSAGE, 0);
  goes_on();
  CHECK_EQ(node_info(&two, 0).log_end_offset, 1);
  q = receive_request();
  b = make_batch(1, 2, 1);
  b.data[16] = 1; /* an old message format */
  t = of_batch(&b, 2);
  answer(&q, 0, 5, &t, 1);
  (void)await_followed(PLOG_CORRUPT_MESSAGE, 0);
  goes_on();
  /* a batch that is cut is left out, and one that is below the end is none of what was asked for */
  q = receive_request();
  b = make_batch(2, 2, 1);
  t = of_batch(&b, 4);
  t.records_bytes--;
  answer(&q, 0, 5, &t, 1);
  q = receive_request();
  CHECK_EQ(q.count, 0); /* nothing has changed, so nothing is said again */
  t.records_bytes++;
  answer(&q, 0, 5, &t, 1);
  node_await(&two, 0, 4);
  q = receive_request();
  b = make_batch(0, 1, 1);
  t = of_batch(&b, 2);
  answer(&q, 0, 5, &t, 1);
  (void)await_followed(PLOG_INVALID_RECORD, 1);
  CHECK_EQ(node_info(&two, 0).log_end_offset, 4);
  end();
}

/* The disk says no: as a leader's append, Python hears of it and the partition waits. */
static void disk_fails(void) {
  begin(1, 30000);
  goes_on();
  request q = receive_request();
  batch b = make_batch(1, 1, 1);
  told t = of_batch(&b, 2);
  CHECK_EQ(plog_sys_fault(two.sys, PLOG_SYS_PWRITE, 1, EIO, 0, -1), 0);
  CHECK_EQ(plog_sys_fault(two.sys, PLOG_SYS_PWRITEV, 1, EIO, 0, 1), 0);
  answer(&q, 0, 5, &t, 1);
  CHECK_EQ(node_upcall(&two, PLOG_UP_STORAGE_ERROR).error, EIO);
  (void)await_followed(PLOG_KAFKA_STORAGE_ERROR, 1);
  q = receive_request();
  CHECK_EQ(q.forgotten_count, 1);
  answer(&q, 0, 0, NULL, 0);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 1, 2, 2);
  node_publish(&two, &follows);
  node_follow(&two, fetcher);
  goes_on();
  /* a full disk may have room again: it is tried again without a word from Python */
  q = receive_request();
  b = make_batch(2, 1, 1);
  t = of_batch(&b, 3);
  CHECK_EQ(plog_sys_fault(two.sys, PLOG_SYS_PWRITEV, 1, ENOSPC, 0, 1), 0);
  answer(&q, 0, 5, &t, 1);
  CHECK_EQ(node_upcall(&two, PLOG_UP_STORAGE_ERROR).error, ENOSPC);
  (void)await_followed(PLOG_KAFKA_STORAGE_ERROR, 0);
  goes_on();
  end();
}

static void await_lost(int32_t error) {
  plog_upcall up = node_upcall(&two, PLOG_UP_FETCHER);
  CHECK_EQ(up.a, 0);
  CHECK_EQ(up.error, error);
  accept_follower();
  CHECK_EQ(node_upcall(&two, PLOG_UP_FETCHER).a, 1);
}

/* Whatever is no answer ends the connection, not the fetcher. */
static void broken_answers(void) {
  begin(1, 30000);
  goes_on();
  batch b = make_batch(1, 1, 1);
  told t = of_batch(&b, 2);
  plog_writer w;
  for (int kind = 0; kind < 6; kind++) {
    request q = receive_request();
    begin_answer(&w, q.correlation_id + (kind == 0), 0, 5, kind == 1 ? 1000 : 1);
    plog_write_raw(&w, node_topic_id, 16);
    plog_write_array(&w, true, kind == 2 ? 1 << 30 : 1);
    write_partition(&w, &t);
    plog_write_no_tags(&w);
    plog_write_no_tags(&w);
    if (kind == 3) w.size_bytes -= 5;
    if (kind == 4) plog_write_i32(&w, 0);
    plog_put_u32(w.data, kind == 5 ? 0xffffffffu : (uint32_t)w.size_bytes - 4);
    send_bytes(w.data, w.size_bytes);
    plog_writer_deinit(&w);
    await_lost(EPROTO);
    CHECK_EQ(node_info(&two, 0).log_end_offset, 1);
  }
  request q = receive_request();
  CHECK_EQ(q.session_epoch, 0); /* nobody knows what of the session was taken in */
  answer(&q, 0, 5, NULL, 0);
  q = receive_request();
  begin_answer(&w, q.correlation_id, 0, 5, 0); /* half an answer, and the end */
  plog_put_u32(w.data, (uint32_t)w.size_bytes - 4);
  send_bytes(w.data, w.size_bytes - 3);
  plog_writer_deinit(&w);
  CHECK_EQ(shutdown(leader, SHUT_RDWR), 0);
  await_lost(ECONNRESET);
  goes_on();
  end();
}

/* An answer to nothing, when nothing was asked: everything is paused. */
static void uninvited(void) {
  begin(1, 30000);
  request q = receive_request();
  told t = {.error = PLOG_OFFSET_OUT_OF_RANGE};
  answer(&q, 0, 0, &t, 1);
  (void)await_followed(PLOG_OFFSET_OUT_OF_RANGE, 1);
  answer(&q, 0, 0, NULL, 0);
  await_lost(EPROTO);
  node_follow(&two, fetcher);
  goes_on();
  end();
}

static void silence(void) {
  begin(1, 100);
  (void)receive_request();
  await_lost(ETIMEDOUT);
  goes_on();
  end();
}

/* What came while Python changed its mind is not taken. */
static void too_late(void) {
  begin(1, 30000);
  goes_on();
  request q = receive_request();
  batch b = make_batch(1, 1, 1);
  told t = of_batch(&b, 2);
  CHECK_EQ(plog_engine_truncate(two.engine, two.partitions[0], 0, 0), 0);
  answer(&q, 0, 5, &t, 1);
  q = receive_request();
  CHECK_EQ(q.asked[0].offset, 0);
  CHECK_EQ(q.asked[0].last_epoch, -1);
  CHECK_EQ(node_info(&two, 0).log_end_offset, 0);
  plog_partition_state follows = node_state(PLOG_ROLE_FOLLOWER, 1, 2, 2, 2);
  node_publish(&two, &follows);
  b = make_batch(0, 1, 1);
  t = of_batch(&b, 1);
  answer(&q, 0, 5, &t, 1);
  q = receive_request();
  CHECK_EQ(q.asked[0].epoch, 2);
  CHECK_EQ(q.asked[0].offset, 0);
  end();
}

/* News for a partition that was followed anew meanwhile is not taken; so that it is told again, the session begins anew. */
static void news_that_are_lost(void) {
  begin(2, 30000);
  request q = receive_request();
  batch b = make_batch(0, 3, 1);
  told list[] = {of_batch(&b, 0), {.index = 1}};
  answer(&q, 0, 77, list, 2);
  q = receive_request();
  CHECK_EQ(q.session_epoch, 1);
  plog_engine_unfollow(two.engine, two.partitions, 1);
  node_follow(&two, fetcher);
  told moved = {.high_watermark = 3};
  answer(&q, 0, 77, &moved, 1);
  q = receive_request();
  CHECK_EQ(q.session_id, 77);
  CHECK_EQ(q.session_epoch, 0);
  CHECK_EQ(q.count, 2);
  CHECK_EQ(node_info(&two, 0).high_watermark, 0);
  told all[] = {moved, {.index = 1}};
  answer(&q, 0, 78, all, 2);
  node_await(&two, 0, 3);
  end();
}

int main(void) {
  RUN(sessions);
  RUN(errors);
  RUN(whole_errors);
  RUN(damaged_records);
  RUN(disk_fails);
  RUN(broken_answers);
  RUN(uninvited);
  RUN(silence);
  RUN(too_late);
  RUN(news_that_are_lost);
  return 0;
}
