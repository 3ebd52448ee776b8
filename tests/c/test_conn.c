/*
 * test_conn.c: frames come out whole whatever pieces they come in, stay where they are until the intake settles, cost memory
 * only as they come; of a large one only good pieces make events; answers leave in order.
 */
#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>

#include "test.h"
#include "wire.h"

#define MAX_REQUEST (8 * 1024 * 1024)

static plog_sys *sys;
static plog_buffers buffers;
static plog_intake intake;

typedef struct {
  plog_conn *conn;
  int peer;
} pair;

static pair open_pair(void) {
  int fds[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  pair p = {plog__conn_open(1, fds[0], 7), fds[1]};
  CHECK(p.conn);
  return p;
}

static void close_pair(pair *p) {
  plog__conn_close(p->conn, sys, -1, &buffers);
  (void)close(p->peer);
  plog__intake_settle(&intake);
}

/* A frame of total_bytes whose body begins with its number; client id "me". */
static uint32_t make_frame(uint8_t *out, uint32_t number, uint32_t total_bytes) {
  plog_put_u32(out, total_bytes - 4);
  plog_put_i16(out + 4, 3);
  plog_put_i16(out + 6, 9);
  plog_put_u32(out + 8, number);
  plog_put_i16(out + 12, 2);
  memcpy(out + 14, "me", 2);
  for (uint32_t i = 16; i < total_bytes; i++) out[i] = (uint8_t)(number * 31 + i);
  return total_bytes;
}

static void check_frame(const plog_frame *frame, uint32_t number, uint32_t total_bytes) {
  CHECK_EQ(frame->api_key, 3);
  CHECK_EQ(frame->api_version, 9);
  CHECK_EQ(frame->correlation_id, number);
  CHECK_EQ(frame->client_id_bytes, 2);
  CHECK(memcmp(frame->client_id, "me", 2) == 0);
  CHECK_EQ(frame->body_bytes, total_bytes - 16);
  for (uint32_t i = 16; i < total_bytes; i++) CHECK_EQ(frame->body[i - 16], (uint8_t)(number * 31 + i));
}

static void random_pieces(void) {
  uint64_t seed = 3;
  static uint32_t sizes[300];
  static uint8_t stream[24 * 1024 * 1024];
  size_t total = 0;
  for (uint32_t i = 0; i < 300; i++) {
    uint32_t kind = (uint32_t)(test_random(&seed) % 20);
    sizes[i] = 16 + (uint32_t)(test_random(&seed) % (kind == 0 ? 1500000 : kind < 4 ? 100000 : 300));
    total += make_frame(stream + total, i, sizes[i]);
    CHECK(total < sizeof stream - 1500016);
  }
  pair p = open_pair();
  size_t sent = 0;
  uint32_t taken = 0;
  plog_frame staged[64];
  uint32_t staged_count = 0, staged_first = 0;
  while (taken < 300) {
    size_t most = 1 + test_random(&seed) % 200000;
    ssize_t n = sent < total ? write(p.peer, stream + sent, PLOG_MIN(most, total - sent)) : 0;
    if (n > 0) sent += (size_t)n;
    bool drained = false;
    int64_t got = plog__conn_receive(p.conn, &intake, &drained);
    CHECK(got > 0 || got == -EAGAIN);
    plog_frame frame;
    int32_t rc;
    while ((rc = plog__conn_frame(p.conn, &intake, &frame)) == 0) {
      staged[staged_count++] = frame;
      plog__conn_consume(p.conn);
      taken++;
    }
    CHECK_EQ(rc, PLOG_E_SHORT);
    CHECK_EQ(plog__conn_keep_rest(p.conn, &intake), 0);
    CHECK(buffers.held_bytes < 24 * 1024 * 1024);
    if (staged_count > 20 || !plog__intake_has_room(&intake) || taken == 300) { /* nothing has moved until now */
      for (uint32_t i = 0; i < staged_count; i++) check_frame(&staged[i], staged_first + i, sizes[staged_first + i]);
      staged_first += staged_count;
      staged_count = 0;
      plog__intake_settle(&intake);
    }
  }
  CHECK_EQ(p.conn->view_bytes, 0);
  close_pair(&p);
}

static int32_t frame_of(const uint8_t *data, size_t size) {
  pair p = open_pair();
  CHECK_EQ(write(p.peer, data, size), (ssize_t)size);
  bool drained;
  CHECK_EQ(plog__conn_receive(p.conn, &intake, &drained), (int64_t)size);
  CHECK(drained);
  plog_frame frame;
  int32_t rc = plog__conn_frame(p.conn, &intake, &frame);
  CHECK_EQ(plog__conn_keep_rest(p.conn, &intake), 0);
  close_pair(&p);
  return rc;
}

static void impossible_frames(void) {
  uint8_t data[64] = {0};
  CHECK_EQ(frame_of((const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18), PLOG_E_MALFORMED);
  plog_put_i32(data, -1);
  CHECK_EQ(frame_of(data, 4), PLOG_E_MALFORMED);
  plog_put_i32(data, INT32_MIN);
  CHECK_EQ(frame_of(data, 4), PLOG_E_MALFORMED);
  plog_put_i32(data, MAX_REQUEST + 1);
  CHECK_EQ(frame_of(data, 4), PLOG_E_MALFORMED);
  plog_put_i32(data, 0);
  CHECK_EQ(frame_of(data, 4), PLOG_E_MALFORMED);
  plog_put_i32(data, 9); /* no room for the client id's length */
  CHECK_EQ(frame_of(data, 13), PLOG_E_MALFORMED);
  plog_put_i32(data, 20);
  plog_put_i16(data + 12, 11); /* a client id longer than the frame */
  CHECK_EQ(frame_of(data, 24), PLOG_E_MALFORMED);
  plog_put_i16(data + 12, -2);
  CHECK_EQ(frame_of(data, 24), PLOG_E_MALFORMED);
  plog_put_i16(data + 12, 10);
  CHECK_EQ(frame_of(data, 24), 0);
  plog_put_i16(data + 12, -1);
  CHECK_EQ(frame_of(data, 24), 0);
  plog_put_i32(data, MAX_REQUEST);
  CHECK_EQ(frame_of(data, 40), PLOG_E_SHORT);
  plog_put_i32(data, 8); /* ControlledShutdown 0 alone has no client id */
  CHECK_EQ(frame_of(data, 12), PLOG_E_MALFORMED);
  plog_put_i16(data + 4, 7);
  CHECK_EQ(frame_of(data, 12), 0);
}

/* A client that announces the largest frame and sends little costs little. */
static void announced_size(void) {
  pair p = open_pair();
  uint8_t data[1000] = {0};
  plog_put_i32(data, MAX_REQUEST);
  CHECK_EQ(write(p.peer, data, sizeof data), (ssize_t)sizeof data);
  bool drained;
  int64_t before = buffers.held_bytes;
  CHECK(plog__conn_receive(p.conn, &intake, &drained) > 0);
  CHECK_EQ(plog__conn_keep_rest(p.conn, &intake), 0);
  CHECK(buffers.held_bytes - before <= 80 * 1024 + 1024 * 1024 + 8192); /* its own, and the arena that all share */
  int64_t received = 1000;
  while (received < 3000000) {
    ssize_t n = write(p.peer, data, sizeof data);
    if (n < 0) {
      int64_t got = plog__conn_receive(p.conn, &intake, &drained);
      CHECK(got > 0);
      received += got;
      plog__intake_settle(&intake);
      CHECK(p.conn->in->capacity_bytes <= 140 * 1024 + 4 * received);
    }
  }
  close_pair(&p);
}

/* ------------------------------------------------------------------------------------------------ events */

static pair open_tcp_pair(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t address_bytes = sizeof address;
  CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
  CHECK_EQ(listen(listener, 1), 0);
  CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &address_bytes), 0);
  int peer = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(connect(peer, (struct sockaddr *)&address, sizeof address), 0);
  int fd = accept(listener, NULL, NULL);
  CHECK(fd >= 0);
  (void)close(listener);
  pair p = {plog__conn_open(1, fd, 7), peer};
  CHECK(p.conn);
  return p;
}

static bool hears(const pair *p, int timeout_ms) {
  struct pollfd poll_fd = {p->conn->fd, POLLIN, 0};
  return poll(&poll_fd, 1, timeout_ms) == 1;
}

static int low_water_of(const pair *p) {
  int value;
  socklen_t value_bytes = sizeof value;
  CHECK_EQ(getsockopt(p->conn->fd, SOL_SOCKET, SO_RCVLOWAT, &value, &value_bytes), 0);
  return value;
}

/* The peer has sent so many bytes: take them all, and wait for more as the reactor does. True: they ended a frame. */
static bool take(pair *p, size_t size_bytes) {
  bool whole = false, drained;
  for (size_t taken = 0; taken < size_bytes;) {
    struct pollfd poll_fd = {p->conn->fd, POLLIN, 0};
    int64_t n = plog__conn_receive(p->conn, &intake, &drained);
    if (n == -EAGAIN) {
      CHECK_EQ(poll(&poll_fd, 1, 10000), 1);
      continue;
    }
    CHECK(n > 0);
    taken += (size_t)n;
    plog_frame frame;
    whole = plog__conn_frame(p->conn, &intake, &frame) == 0;
    if (whole) plog__conn_consume(p->conn);
    CHECK_EQ(plog__conn_keep_rest(p->conn, &intake), 0);
    plog__intake_settle(&intake);
  }
  CHECK_EQ(plog__conn_await(p->conn, &intake), 0);
  return whole;
}

static void send_part(const pair *p, const uint8_t *data, size_t size_bytes) {
  CHECK_EQ(write(p->peer, data, size_bytes), (ssize_t)size_bytes);
}

static void events_of_large_frames(void) {
  enum { LARGE = 800 * 1024, FIRST = 30 * 1024, SMALL = 200 };
  static uint8_t data[LARGE];
  pair p = open_tcp_pair();
  CHECK(intake.low_water_max > 0); /* by any kernel that tests run on */
  for (uint32_t round = 0; round < 3; round++) {
    (void)make_frame(data, round, LARGE);
    send_part(&p, data, 3);
    CHECK(hears(&p, 10000) && !take(&p, 3));
    CHECK_EQ(low_water_of(&p), 1); /* nothing is known of it */
    send_part(&p, data + 3, FIRST - 3);
    CHECK(hears(&p, 10000) && !take(&p, FIRST - 3));
    CHECK_EQ(low_water_of(&p), intake.low_water_max);
    send_part(&p, data + FIRST, FIRST);
    CHECK(!hears(&p, 0));
    send_part(&p, data + 2 * FIRST, intake.low_water_max - FIRST);
    CHECK(hears(&p, 10000) && !take(&p, intake.low_water_max));
    size_t rest = LARGE - FIRST - intake.low_water_max;
    CHECK_EQ(low_water_of(&p), (int)rest);
    send_part(&p, data + LARGE - rest, rest - 1);
    CHECK(!hears(&p, 0));
    send_part(&p, data + LARGE - 1, 1);
    CHECK(hears(&p, 10000) && take(&p, rest));
    CHECK_EQ(low_water_of(&p), 1);
    (void)make_frame(data, round, SMALL);
    send_part(&p, data, 1); /* what comes next may be as small as it likes */
    CHECK(hears(&p, 10000) && !take(&p, 1));
    send_part(&p, data + 1, SMALL - 1);
    CHECK(hears(&p, 10000) && take(&p, SMALL - 1));
  }
  (void)make_frame(data, 9, LARGE);
  send_part(&p, data, FIRST);
  CHECK(!take(&p, FIRST));
  CHECK(!hears(&p, 0));
  CHECK_EQ(shutdown(p.peer, SHUT_WR), 0); /* an end in the middle of a frame is heard of */
  CHECK(hears(&p, 10000));
  bool drained;
  CHECK_EQ(plog__conn_receive(p.conn, &intake, &drained), 0);
  close_pair(&p);
}

/* A socket of which a small window was asked for is never waited on for more than that lets in. */
static void events_of_a_small_window(void) {
  enum { LARGE = 3 * 1024 * 1024 };
  static uint8_t data[LARGE];
  (void)make_frame(data, 1, LARGE);
  pair p = open_tcp_pair();
  int window = 16 * 1024;
  CHECK_EQ(setsockopt(p.conn->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window), 0);
  size_t sent = 0, taken = 0;
  plog_frame frame;
  while (plog__conn_frame(p.conn, &intake, &frame) == PLOG_E_SHORT) {
    ssize_t n = sent < LARGE ? send(p.peer, data + sent, LARGE - sent, MSG_DONTWAIT) : 0;
    if (n > 0) sent += (size_t)n;
    CHECK(hears(&p, 10000));
    bool drained;
    int64_t got = plog__conn_receive(p.conn, &intake, &drained);
    CHECK(got > 0);
    taken += (size_t)got;
    CHECK_EQ(plog__conn_keep_rest(p.conn, &intake), 0);
    CHECK_EQ(plog__conn_await(p.conn, &intake), 0);
  }
  CHECK_EQ(taken, LARGE);
  check_frame(&frame, 1, LARGE);
  close_pair(&p);
}

static int refuse_option(void *context, int fd, int level, int name, const void *value, socklen_t value_bytes) {
  (void)context, (void)fd, (void)level, (void)name, (void)value, (void)value_bytes;
  return -ENOBUFS;
}

/* Not to be able to wait for much is no harm; not to hear of little would be the end of a connection. */
static void refused_low_water(void) {
  static uint8_t data[200 * 1024];
  (void)make_frame(data, 1, sizeof data);
  int (*real)(void *, int, int, int, const void *, socklen_t) = sys->calls.setsockopt;
  pair p = open_tcp_pair();
  sys->calls.setsockopt = refuse_option;
  send_part(&p, data, 5000);
  CHECK(!take(&p, 5000));
  CHECK_EQ(low_water_of(&p), 1);
  sys->calls.setsockopt = real;
  send_part(&p, data + 5000, 5000);
  CHECK(!take(&p, 5000));
  CHECK(low_water_of(&p) > 1);
  send_part(&p, data + 10000, sizeof data - 10000);
  CHECK(hears(&p, 10000));
  bool drained;
  int64_t left = sizeof data - 10000;
  while (left > 0) {
    int64_t n = plog__conn_receive(p.conn, &intake, &drained);
    CHECK(n > 0 || n == -EAGAIN);
    left -= n > 0 ? n : 0;
  }
  plog__conn_consume(p.conn);
  CHECK_EQ(plog__conn_keep_rest(p.conn, &intake), 0);
  sys->calls.setsockopt = refuse_option;
  CHECK_EQ(plog__conn_await(p.conn, &intake), -ENOBUFS);
  sys->calls.setsockopt = real;
  close_pair(&p);
}

/* ------------------------------------------------------------------------------------------------ answers */

typedef struct {
  plog_request request;
  char text;
  int32_t rc;
} probe;

static int closed_count;

static int32_t write_probe(plog_request *request, plog_out *out) {
  probe *p = PLOG_CONTAINER_OF(request, probe, request);
  if (p->rc) return p->rc;
  return p->text ? plog__out_copy(out, &buffers, (const uint8_t *)&p->text, 1) : 0;
}

static void close_probe(plog_request *request) {
  closed_count++;
  free(PLOG_CONTAINER_OF(request, probe, request));
}

static const plog_request_ops probe_ops = {write_probe, close_probe};

static probe *enqueue(plog_conn *conn, char text) {
  probe *p = calloc(1, sizeof *p);
  CHECK(p);
  p->request.ops = &probe_ops;
  p->text = text;
  plog__conn_enqueue(conn, &p->request);
  return p;
}

static void answers_in_order(void) {
  pair p = open_pair();
  probe *a = enqueue(p.conn, 'a');
  probe *b = enqueue(p.conn, 0); /* has no answer */
  probe *c = enqueue(p.conn, 'c');
  probe *d = enqueue(p.conn, 'd');
  CHECK_EQ(c->request.slot, 2);
  CHECK(plog__conn_find(p.conn, 3) == &d->request);
  CHECK(!plog__conn_find(p.conn, 4));
  plog__conn_done(&c->request);
  plog__conn_done(&b->request);
  CHECK_EQ(plog__conn_write_answers(p.conn), 0);
  CHECK_EQ(p.conn->out.pending_bytes, 0);
  CHECK_EQ(p.conn->waiting, 2);
  plog__conn_done(&a->request);
  CHECK_EQ(plog__conn_write_answers(p.conn), 0);
  CHECK_EQ(p.conn->out.pending_bytes, 2);
  CHECK_EQ(closed_count, 3);
  CHECK_EQ(p.conn->requests_count, 1);
  plog_sender sender = {.sys = sys, .buffers = &buffers};
  int64_t sent = 0;
  plog_cold cold;
  CHECK_EQ(plog__out_send(&p.conn->out, &sender, p.conn->fd, 100, &sent, &cold), 0);
  char got[4];
  CHECK_EQ(read(p.peer, got, sizeof got), 2);
  CHECK(memcmp(got, "ac", 2) == 0);
  d->rc = PLOG_E_CLOSED;
  plog__conn_done(&d->request);
  CHECK_EQ(plog__conn_write_answers(p.conn), PLOG_E_CLOSED);
  close_pair(&p); /* frees what is still there */
  CHECK_EQ(closed_count, 4);
}

static void load(void) {
  pair p = open_pair();
  int before = closed_count, count = 0;
  while (!plog__conn_is_loaded(p.conn)) {
    (void)enqueue(p.conn, 'x');
    CHECK(++count < 10000);
  }
  close_pair(&p);
  CHECK_EQ(closed_count - before, count);
}

int main(void) {
  sys = plog_sys_open();
  CHECK(sys);
  plog__buffers_init(&buffers, 16 << 20);
  plog__intake_init(&intake, sys, &buffers, MAX_REQUEST);
  RUN(random_pieces);
  RUN(impossible_frames);
  RUN(announced_size);
  RUN(events_of_large_frames);
  RUN(events_of_a_small_window);
  RUN(refused_low_water);
  RUN(answers_in_order);
  RUN(load);
  plog__intake_deinit(&intake);
  CHECK_EQ(buffers.held_bytes, 0);
  plog__buffers_deinit(&buffers);
  plog_sys_close(sys);
  return 0;
}
