/*
 * test_idle.c: when a connection is idle. Who sends or takes bytes is not, however slowly; who waits for us is not; who does
 * neither is closed, in the middle of a frame or of an answer too. The clock is the test's.
 */
#include <linux/sockios.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "engine_fixture.h"

enum { LIST_GROUPS = 16, IDLE_MS = 60000, MOST_OF_IDLE_MS = IDLE_MS * 7 / 10, SMALL_BUFFER_BYTES = 64 << 10 };
enum { FRAME_BYTES = 200 << 10, BATCH_BYTES = 900 << 10, STEP_BYTES = 200 << 10 };

static plog_sys_calls kernel;
static _Atomic int64_t ahead_ns;
static engine_fixture f;

static int64_t clock_ahead(void *context) {
  return kernel.monotonic_ns(context) + atomic_load(&ahead_ns);
}

static int accept_narrow(void *context, int socket, struct sockaddr *address, socklen_t *address_bytes, int flags) {
  int fd = kernel.accept4(context, socket, address, address_bytes, flags), value = SMALL_BUFFER_BYTES;
  if (fd >= 0) CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value), 0);
  return fd;
}

static void begin(void) {
  engine_begin(&f, 1);
  kernel = f.sys->calls;
  f.sys->calls.monotonic_ns = clock_ahead;
  f.sys->calls.accept4 = accept_narrow;
  atomic_store(&ahead_ns, 0);
  engine_start(&f, false);
}

/* The clock goes on, and the reactor has been through whole turns since. */
static void pass(int64_t ms) {
  atomic_fetch_add(&ahead_ns, ms * 1000000);
  for (int i = 0; i < 3; i++) CHECK_EQ(plog_engine_throttle(f.engine, INT64_MAX, 1), PLOG_E_CLOSED);
}

static int64_t connections_now(void) {
  plog_engine_stats stats;
  plog_engine_stats_read(f.engine, &stats);
  return stats.connections_now;
}

static int64_t bytes_out(void) {
  plog_engine_stats stats;
  plog_engine_stats_read(f.engine, &stats);
  return stats.bytes_out;
}

static void expect_closed(int fd) {
  static uint8_t rest[1 << 20];
  ssize_t n;
  while ((n = recv(fd, rest, sizeof rest, 0)) > 0) continue;
  CHECK(n == 0 || errno == ECONNRESET);
  CHECK_EQ(close(fd), 0);
}

/* Send a piece of a frame; when this returns it is with the reactor's socket. */
static void send_piece(int fd, const plog_writer *w, size_t from, size_t to) {
  int left = 1;
  CHECK_EQ(send(fd, w->data + from, to - from, MSG_NOSIGNAL), (ssize_t)(to - from));
  for (int64_t tries = 0; left > 0; tries++) {
    CHECK(tries < 10000000);
    CHECK_EQ(ioctl(fd, SIOCOUTQ, &left), 0);
    (void)sched_yield();
  }
}

/* A request of so many bytes, for Python. */
static void large_request(plog_writer *w) {
  static const uint8_t body[FRAME_BYTES];
  client_begin(w, LIST_GROUPS, 0, 7);
  plog_write_raw(w, body, sizeof body);
  plog_put_u32(w->data, (uint32_t)w->size_bytes - 4);
}

static void who_sends_a_large_frame_slowly_is_not_idle(void) {
  begin();
  int fd = client_open(&f);
  plog_writer w;
  large_request(&w);
  size_t at = 0;
  for (int i = 0; i < 5; i++, at += 1000) {
    send_piece(fd, &w, at, at + 1000);
    pass(MOST_OF_IDLE_MS);
  }
  send_piece(fd, &w, at, w.size_bytes);
  plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
  CHECK_EQ(up.body_bytes, FRAME_BYTES);
  plog_engine_release(f.engine, &up);
  plog_writer_deinit(&w);
  CHECK_EQ(close(fd), 0);
  engine_end(&f);
}

static void who_stops_in_the_middle_of_a_large_frame_is_idle(void) {
  begin();
  int fd = client_open(&f);
  plog_writer w;
  large_request(&w);
  send_piece(fd, &w, 0, 1000);
  pass(0);
  send_piece(fd, &w, 1000, 1100); /* nobody hears of these until somebody looks */
  pass(IDLE_MS + 1000);
  CHECK_EQ(connections_now(), 1);
  pass(IDLE_MS + 1000);
  expect_closed(fd);
  plog_writer_deinit(&w);
  engine_end(&f);
}

static int narrow_client(void) {
  int fd = client_open(&f), value = SMALL_BUFFER_BYTES;
  CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value), 0);
  return fd;
}

static void fill(void) {
  int fd = client_open(&f);
  client_produce(fd, 0, 1, BATCH_BYTES);
  CHECK_EQ(client_produced(fd, NULL), 0);
  CHECK_EQ(close(fd), 0);
}

static void who_takes_a_large_answer_slowly_is_not_idle(void) {
  static uint8_t piece[STEP_BYTES];
  begin();
  fill();
  int fd = narrow_client();
  client_fetch(fd, 0, 0, 0, 1 << 20);
  for (int i = 0; i < 4; i++) {
    int64_t before = bytes_out();
    CHECK(client_receive_bytes(fd, piece, sizeof piece));
    for (int64_t tries = 0; before < BATCH_BYTES && bytes_out() == before; tries++) { /* there is room for more now */
      CHECK(tries < 10000000);
      (void)sched_yield();
    }
    pass(MOST_OF_IDLE_MS);
  }
  CHECK(client_receive_bytes(fd, piece, BATCH_BYTES - 4 * STEP_BYTES));
  pass(IDLE_MS + 1000); /* it has taken all, or nearly so: no more than the kernel holds */
  expect_closed(fd);
  engine_end(&f);
}

static void who_takes_no_answers_is_idle(void) {
  begin();
  fill();
  int fd = narrow_client();
  for (int i = 0; i < 8; i++) client_fetch(fd, 0, 0, 0, 1 << 20); /* more than is made ahead for one connection */
  for (int64_t before = -1; bytes_out() != before || before == 0;) {
    before = bytes_out();
    pass(0);
  }
  pass(IDLE_MS + 1000);
  expect_closed(fd);
  engine_end(&f);
}

static void who_waits_for_us_is_not_idle(void) {
  begin();
  int fd = client_open(&f);
  plog_writer w;
  client_begin(&w, LIST_GROUPS, 0, 7);
  client_send(fd, &w);
  plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
  for (int i = 0; i < 3; i++) pass(IDLE_MS + 1000);
  static const uint8_t told[] = {0, 0, 0, 7, 0, 0, 0, 0, 0, 0};
  uint8_t answer[64];
  CHECK_EQ(plog_engine_answer(f.engine, up.conn, up.slot, told, sizeof told, 0, 0), 0);
  plog_engine_release(f.engine, &up);
  CHECK_EQ(client_receive(fd, answer, sizeof answer), sizeof told);
  pass(IDLE_MS + 1000);
  pass(IDLE_MS + 1000);
  expect_closed(fd);
  engine_end(&f);
}

int main(void) {
  RUN(who_sends_a_large_frame_slowly_is_not_idle);
  RUN(who_stops_in_the_middle_of_a_large_frame_is_idle);
  RUN(who_takes_a_large_answer_slowly_is_not_idle);
  RUN(who_takes_no_answers_is_idle);
  RUN(who_waits_for_us_is_not_idle);
  return 0;
}
