/*
 * test_request_times.c: what is told of the times of requests, by a clock that stands still unless a test moves it: from when a
 * request is noticed until the kernel has its answer, and apart from that what it waited for by intention.
 */
#include <linux/sockios.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "engine_fixture.h"
#include "request_times.h"

enum { PRODUCE = 0, FETCH = 1, JOIN_GROUP = 11, LIST_GROUPS = 16, SMALL_BUFFER_BYTES = 64 << 10 };

static plog_sys_calls kernel;
static _Atomic int64_t clock_ns, write_takes_ns;
static engine_fixture f;

static int64_t clock_told(void *context) {
  (void)context;
  return atomic_load(&clock_ns);
}

static int64_t write_slowly(void *context, int fd, const struct iovec *pieces, int count, int64_t position) {
  atomic_fetch_add(&clock_ns, atomic_load(&write_takes_ns));
  return kernel.pwritev(context, fd, pieces, count, position);
}

static int accept_narrow(void *context, int socket, struct sockaddr *address, socklen_t *address_bytes, int flags) {
  int fd = kernel.accept4(context, socket, address, address_bytes, flags), value = SMALL_BUFFER_BYTES;
  if (fd >= 0) CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value), 0);
  return fd;
}

static void begin(int64_t write_ms) {
  engine_begin(&f, 1);
  kernel = f.sys->calls;
  f.sys->calls.monotonic_ns = clock_told;
  f.sys->calls.pwritev = write_slowly;
  f.sys->calls.accept4 = accept_narrow;
  atomic_store(&clock_ns, kernel.monotonic_ns(kernel.context)); /* whoever sleeps until then does not sleep in vain */
  atomic_store(&write_takes_ns, write_ms * 1000000);
  engine_start(&f, false);
}

/* The reactor has been through whole turns. */
static void turns(void) {
  for (int i = 0; i < 3; i++) CHECK_EQ(plog_engine_throttle(f.engine, INT64_MAX, 1), PLOG_E_CLOSED);
}

static void pass(int64_t ms) {
  atomic_fetch_add(&clock_ns, ms * 1000000);
}

static plog_request_times times_of(int32_t kind) {
  plog_request_times times;
  CHECK_EQ(plog_engine_request_times(f.engine, kind, &times), 0);
  return times;
}

static int64_t sum(const int64_t *buckets) {
  int64_t n = 0;
  for (int32_t i = 0; i < PLOG_TIME_BUCKETS; i++) n += buckets[i];
  return n;
}

/* When so many answers of a kind are with the kernel. */
static plog_request_times await_answered(int32_t kind, int64_t count) {
  plog_request_times times = times_of(kind);
  for (int64_t tries = 0; sum(times.total) < count; tries++) {
    CHECK(tries < 10000000);
    (void)sched_yield();
    times = times_of(kind);
  }
  CHECK_EQ(sum(times.total), count);
  CHECK_EQ(sum(times.ours), count);
  return times;
}

static int32_t bucket_of_ms(int64_t ms) {
  return plog__time_bucket(ms * 1000000);
}

/* All that the client has sent is with the reactor's socket. */
static void await_arrival(int fd) {
  int left = 1;
  for (int64_t tries = 0; left > 0; tries++) {
    CHECK(tries < 10000000);
    CHECK_EQ(ioctl(fd, SIOCOUTQ, &left), 0);
    (void)sched_yield();
  }
}

static void ask(int fd, int16_t key) {
  plog_writer w;
  client_begin(&w, key, 0, 7);
  client_send(fd, &w);
}

static void answer(const plog_upcall *up, bool cacheable) {
  static const uint8_t told[] = {0, 0, 0, 7, 0, 0, 0, 0, 0, 0};
  CHECK_EQ(plog_engine_answer(f.engine, up->conn, up->slot, told, sizeof told, cacheable, up->generation), 0);
  plog_engine_release(f.engine, up);
}

static void expect_answer(int fd) {
  uint8_t told[64];
  CHECK_EQ(client_receive(fd, told, sizeof told), 10);
}

static void buckets_are_two_to_an_octave(void) {
  CHECK_EQ(plog_time_bound_us(0), 16);
  CHECK_EQ(plog_time_bound_us(1), 24);
  CHECK_EQ(plog_time_bound_us(2), 32);
  CHECK_EQ(plog_time_bound_us(PLOG_TIME_BUCKETS - 2), 1 << 24);
  CHECK_EQ(plog_time_bound_us(PLOG_TIME_BUCKETS - 1), -1);
  CHECK_EQ(plog_time_bound_us(-1), -1);
  CHECK_EQ(plog__time_bucket(-5), 0);
  CHECK_EQ(plog__time_bucket(0), 0);
  CHECK_EQ(plog__time_bucket(INT64_MAX), PLOG_TIME_BUCKETS - 1);
  for (int32_t i = 0; i < PLOG_TIME_BUCKETS - 1; i++) { /* a bound is within its bucket, and nothing beyond it is */
    int64_t bound_ns = plog_time_bound_us(i) * 1000;
    CHECK_EQ(plog__time_bucket(bound_ns), i);
    CHECK_EQ(plog__time_bucket(bound_ns + 1), i + 1);
  }
}

static void a_produce_takes_as_long_as_its_write(void) {
  begin(5);
  int fd = client_open(&f);
  client_produce(fd, 0, 1, 100);
  CHECK_EQ(client_produced(fd, NULL), 0);
  plog_request_times t = await_answered(PRODUCE, 1);
  CHECK_EQ(t.requests, 1);
  CHECK_EQ(t.total_ns, 5000000);
  CHECK_EQ(t.waited, 0);
  CHECK_EQ(t.total[bucket_of_ms(5)], 1);
  CHECK_EQ(t.ours[bucket_of_ms(5)], 1);
  plog_engine_stats stats;
  plog_engine_stats_read(f.engine, &stats);
  CHECK_EQ(t.bytes_in, stats.bytes_in);
  CHECK_EQ(t.bytes_out, stats.bytes_out);
  client_produce(fd, 0, 0, 100); /* nobody is answered, and it is over all the same */
  t = await_answered(PRODUCE, 2);
  CHECK_EQ(t.total_ns, 10000000);
  CHECK_EQ(t.bytes_out, stats.bytes_out);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

static void what_a_fetch_waits_for_records_is_told_apart(void) {
  begin(5);
  int reader = client_open(&f), writer = client_open(&f);
  client_fetch(reader, 0, 0, 30000, 1 << 20);
  await_arrival(reader);
  turns();
  pass(300);
  client_produce(writer, 0, 1, 100);
  CHECK_EQ(client_fetched(reader).batches, 1);
  plog_request_times t = await_answered(FETCH, 1);
  CHECK_EQ(t.total_ns, 305000000);
  CHECK_EQ(t.waited_ns, 300000000);
  CHECK_EQ(t.waited, 1);
  CHECK_EQ(t.total[bucket_of_ms(305)], 1);
  CHECK_EQ(t.ours[bucket_of_ms(5)], 1);
  client_fetch(reader, 0, 0, 30000, 1 << 20); /* there is something now */
  CHECK_EQ(client_fetched(reader).batches, 1);
  t = await_answered(FETCH, 2);
  CHECK_EQ(t.total_ns, 305000000);
  CHECK_EQ(t.waited, 1);
  CHECK_EQ(close(reader) + close(writer), 0);
  engine_end(&f);
}

static void what_stands_behind_a_fetch_came_when_that_was_answered(void) {
  begin(0);
  int fd = client_open(&f);
  client_fetch(fd, 0, 0, 300, 1 << 20);
  ask(fd, LIST_GROUPS);
  await_arrival(fd);
  turns();
  pass(300);
  turns();
  CHECK_EQ(client_fetched(fd).batches, 0);
  plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
  pass(40);
  answer(&up, false);
  expect_answer(fd);
  CHECK_EQ(await_answered(FETCH, 1).waited_ns, 300000000);
  CHECK_EQ(await_answered(LIST_GROUPS, 1).total_ns, 40000000);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

static void members_wait_for_each_other_others_for_us(void) {
  begin(0);
  int fd = client_open(&f);
  for (int i = 0; i < 2; i++) {
    ask(fd, i == 0 ? JOIN_GROUP : LIST_GROUPS);
    plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
    pass(700);
    answer(&up, false);
    expect_answer(fd);
  }
  plog_request_times joined = await_answered(JOIN_GROUP, 1), listed = await_answered(LIST_GROUPS, 1);
  CHECK_EQ(joined.total_ns, 700000000);
  CHECK_EQ(joined.waited_ns, 700000000);
  CHECK_EQ(joined.ours[0], 1);
  CHECK_EQ(listed.total_ns, 700000000);
  CHECK_EQ(listed.waited, 0);
  CHECK_EQ(listed.ours[bucket_of_ms(700)], 1);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

static void answers_that_are_kept_are_timed_too(void) {
  begin(0);
  int fd = client_open(&f);
  ask(fd, LIST_GROUPS);
  plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
  pass(10);
  answer(&up, true);
  expect_answer(fd);
  ask(fd, LIST_GROUPS);
  expect_answer(fd);
  plog_request_times t = await_answered(LIST_GROUPS, 2);
  CHECK_EQ(t.total[0], 1);
  CHECK_EQ(t.total[bucket_of_ms(10)], 1);
  CHECK_EQ(t.bytes_out, 2 * 14);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

static void an_answer_is_out_when_all_of_it_is(void) {
  begin(0);
  int writer = client_open(&f), reader = client_open(&f), gone = client_open(&f), value = SMALL_BUFFER_BYTES;
  client_produce(writer, 0, 1, 900 << 10);
  CHECK_EQ(client_produced(writer, NULL), 0);
  CHECK_EQ(setsockopt(reader, SOL_SOCKET, SO_RCVBUF, &value, sizeof value), 0);
  CHECK_EQ(setsockopt(gone, SOL_SOCKET, SO_RCVBUF, &value, sizeof value), 0);
  client_fetch(gone, 0, 0, 0, 1 << 20);
  client_fetch(reader, 0, 0, 0, 1 << 20);
  uint8_t byte;
  CHECK_EQ(recv(gone, &byte, 1, MSG_PEEK), 1);
  CHECK_EQ(recv(reader, &byte, 1, MSG_PEEK), 1);
  CHECK_EQ(close(gone), 0); /* it never took its answer: there is no time to tell */
  pass(2000);
  turns();
  CHECK_EQ(sum(times_of(FETCH).total), 0);
  CHECK_EQ(client_fetched(reader).batches, 1);
  plog_request_times t = await_answered(FETCH, 1);
  CHECK_EQ(t.requests, 2);
  CHECK_EQ(t.total_ns, 2000000000);
  CHECK_EQ(close(reader) + close(writer), 0);
  engine_end(&f);
}

static void followers_are_a_kind_of_their_own(void) {
  begin(0);
  int fd = client_open(&f);
  plog_writer w;
  client_begin(&w, 1, 4, 9);
  plog_write_i32(&w, 2); /* the replica */
  plog_write_i32(&w, 0);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 1 << 20);
  plog_write_i8(&w, 0);
  plog_write_i32(&w, 1);
  plog_write_string(&w, false, "t", 1);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 0);
  plog_write_i64(&w, 0);
  plog_write_i32(&w, 1 << 20);
  client_send(fd, &w);
  (void)client_fetched(fd);
  CHECK_EQ(await_answered(PLOG_KIND_FOLLOWER_FETCH, 1).requests, 1);
  CHECK_EQ(times_of(FETCH).requests, 0);
  plog_request_times none;
  CHECK_EQ(plog_engine_request_times(f.engine, PLOG_REQUEST_KINDS, &none), -EINVAL);
  CHECK_EQ(plog_engine_request_times(f.engine, -1, &none), -EINVAL);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

int main(void) {
  RUN(buckets_are_two_to_an_octave);
  RUN(a_produce_takes_as_long_as_its_write);
  RUN(what_a_fetch_waits_for_records_is_told_apart);
  RUN(what_stands_behind_a_fetch_came_when_that_was_answered);
  RUN(members_wait_for_each_other_others_for_us);
  RUN(answers_that_are_kept_are_timed_too);
  RUN(an_answer_is_out_when_all_of_it_is);
  RUN(followers_are_a_kind_of_their_own);
  return 0;
}
