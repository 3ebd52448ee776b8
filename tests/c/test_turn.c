/*
 * test_turn.c: in what order a turn of the reactor receives and sends.
 *
 * The reactor is held behind its wait for events until everything has arrived that one turn is to find. What it receives and
 * sends then, and its waits, are written down; each look at the clock takes longer than what control may take in a turn.
 */
#include <linux/sockios.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "engine_fixture.h"

enum { GROUPS = 8, NOTES_MAX = 4096, LIST_GROUPS = 16, CLOCK_STEP_NS = 60000 };

typedef enum { WAITED, RECEIVED, SENT } note_kind;

typedef struct {
  note_kind kind;
  int32_t port; /* of the client */
} note;

static plog_sys_calls kernel;
static note notes[NOTES_MAX];
static _Atomic int32_t notes_count;
static _Atomic int64_t clock_ns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool hold, held;

static void write_down(note_kind kind, int32_t port) {
  int32_t at = atomic_load(&notes_count);
  CHECK(at < NOTES_MAX);
  notes[at] = (note){kind, port};
  atomic_store(&notes_count, at + 1);
}

/* The client's port, by either end of its connection; 0: it is gone, which is so when a test ends. */
static int32_t port_of(int fd, bool own) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  if ((own ? getsockname : getpeername)(fd, (struct sockaddr *)&address, &size) != 0) {
    CHECK(!own && errno == ENOTCONN);
    return 0;
  }
  return ntohs(address.sin_port);
}

static int wait_held(void *context, int epoll, struct epoll_event *events, int capacity, int timeout_ms) {
  write_down(WAITED, 0);
  int count = kernel.epoll_wait(context, epoll, events, capacity, timeout_ms);
  pthread_mutex_lock(&lock);
  bool was_held = hold;
  while (hold) {
    held = true;
    pthread_cond_broadcast(&changed);
    pthread_cond_wait(&changed, &lock);
  }
  held = false;
  pthread_mutex_unlock(&lock);
  if (!was_held || count < 0) return count;
  return count + kernel.epoll_wait(context, epoll, events + count, capacity - count, 0);
}

static int64_t receive_noted(void *context, int socket, void *data, size_t size_bytes, int flags) {
  write_down(RECEIVED, port_of(socket, false));
  return kernel.recv(context, socket, data, size_bytes, flags);
}

static int64_t send_noted(void *context, int socket, const void *data, size_t size_bytes, int flags) {
  write_down(SENT, port_of(socket, false));
  return kernel.send(context, socket, data, size_bytes, flags);
}

static int64_t sendmsg_noted(void *context, int socket, const struct msghdr *message, int flags) {
  write_down(SENT, port_of(socket, false));
  return kernel.sendmsg(context, socket, message, flags);
}

static int64_t slow_clock(void *context) {
  (void)context;
  return atomic_fetch_add(&clock_ns, CLOCK_STEP_NS);
}

static void set_hold(bool on) {
  pthread_mutex_lock(&lock);
  hold = on;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void await_held(void) {
  pthread_mutex_lock(&lock);
  while (!held) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
}

/* Until what the client has sent is with the reactor's socket. */
static void await_arrival(int fd) {
  int left = 1;
  for (int64_t tries = 0; left > 0; tries++) {
    CHECK(tries < 100000000);
    CHECK_EQ(ioctl(fd, SIOCOUTQ, &left), 0);
    (void)sched_yield();
  }
}

static engine_fixture f;
static int groups[GROUPS], producer;

static void ask(int fd) {
  plog_writer w;
  client_begin(&w, LIST_GROUPS, 0, 7);
  client_send(fd, &w);
}

static void answer(const plog_upcall *up) {
  static const uint8_t told[] = {0, 0, 0, 7, 0, 0, 0, 0, 0, 0};
  CHECK_EQ(plog_engine_answer(f.engine, up->conn, up->slot, told, sizeof told, 0, 0), 0);
}

static void expect_produced(void) {
  int64_t offset;
  CHECK_EQ(client_produced(producer, &offset), 0);
}

static void begin(void) {
  engine_begin(&f, 1);
  kernel = f.sys->calls;
  f.sys->calls.epoll_wait = wait_held;
  f.sys->calls.recv = receive_noted;
  f.sys->calls.send = send_noted;
  f.sys->calls.sendmsg = sendmsg_noted;
  f.sys->calls.monotonic_ns = slow_clock;
  atomic_store(&clock_ns, kernel.monotonic_ns(f.sys->calls.context));
  engine_start(&f, false);
  for (int i = 0; i < GROUPS; i++) groups[i] = client_open(&f);
  producer = client_open(&f);
  client_produce(producer, 0, 1, 10); /* from now on it is known for what it is */
  expect_produced();
}

static void end(void) {
  for (int i = 0; i < GROUPS; i++) CHECK_EQ(close(groups[i]), 0);
  CHECK_EQ(close(producer), 0);
  engine_end(&f);
}

/* How many notes of that kind there are about others than the producer; there is a wait before each but the first. */
static int others_apart(note_kind kind, int32_t from, int32_t to) {
  int count = 0;
  bool waited = true;
  for (int32_t i = from; i < to; i++) {
    if (notes[i].kind == WAITED) waited = true;
    if (notes[i].kind != kind || notes[i].port == port_of(producer, true)) continue;
    CHECK(waited);
    waited = false;
    count++;
  }
  return count;
}

static note first_of(note_kind kind, int32_t from) {
  while (notes[from].kind != kind) from++;
  return notes[from];
}

static void a_produce_is_answered_before_the_members_of_a_group(void) {
  begin();
  plog_upcall ups[GROUPS];
  for (int i = 0; i < GROUPS; i++) {
    ask(groups[i]);
    ups[i] = engine_await(&f, PLOG_UP_REQUEST);
  }
  set_hold(true);
  answer(&ups[0]); /* wakes it, should it sleep */
  await_held();
  for (int i = 1; i < GROUPS; i++) answer(&ups[i]);
  client_produce(producer, 0, 1, 10);
  await_arrival(producer);
  int32_t from = atomic_load(&notes_count);
  set_hold(false);
  expect_produced();
  for (int i = 0; i < GROUPS; i++) {
    uint8_t told[64];
    CHECK_EQ(client_receive(groups[i], told, sizeof told), 10);
    plog_engine_release(f.engine, &ups[i]);
  }
  CHECK_EQ(first_of(SENT, from).port, port_of(producer, true));
  CHECK_EQ(others_apart(SENT, from, atomic_load(&notes_count)), GROUPS);
  end();
}

static void a_produce_is_received_before_what_came_earlier(void) {
  begin();
  set_hold(true);
  ask(groups[0]);
  await_held();
  for (int i = 1; i < GROUPS; i++) ask(groups[i]);
  for (int i = 0; i < GROUPS; i++) await_arrival(groups[i]);
  client_produce(producer, 0, 1, 10);
  await_arrival(producer);
  int32_t from = atomic_load(&notes_count);
  set_hold(false);
  expect_produced();
  for (int i = 0; i < GROUPS; i++) {
    plog_upcall up = engine_await(&f, PLOG_UP_REQUEST);
    answer(&up);
    plog_engine_release(f.engine, &up);
  }
  CHECK_EQ(first_of(RECEIVED, from).port, port_of(producer, true));
  CHECK_EQ(others_apart(RECEIVED, from, atomic_load(&notes_count)), GROUPS);
  end();
}

int main(void) {
  RUN(a_produce_is_answered_before_the_members_of_a_group);
  RUN(a_produce_is_received_before_what_came_earlier);
  return 0;
}
