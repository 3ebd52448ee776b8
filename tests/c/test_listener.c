/*
 * test_listener.c: a listener on a system whose congestion control paces. Peers on this host begin and stay without pacing;
 * one from elsewhere gets the system's choice back, after its connection was accepted. And the end of a connection that a child
 * of the process still has.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plog.h"
#include "sys.h"
#include "test.h"

static plog_sys *sys;
static int (*real_getsockopt)(void *, int, int, int, void *, socklen_t *);
static int (*real_setsockopt)(void *, int, int, int, const void *, socklen_t);
static int (*real_accept4)(void *, int, struct sockaddr *, socklen_t *, int);
static bool peers_are_far;
static char set_names[8][16];
static _Atomic int set_count;

static int paced_getsockopt(void *context, int fd, int level, int name, void *value, socklen_t *value_bytes) {
  if (level != IPPROTO_TCP || name != TCP_CONGESTION) return real_getsockopt(context, fd, level, name, value, value_bytes);
  CHECK(*value_bytes >= 4);
  memcpy(value, "bbr", 4);
  *value_bytes = 4;
  return 0;
}

static int noted_setsockopt(void *context, int fd, int level, int name, const void *value, socklen_t value_bytes) {
  if (level != IPPROTO_TCP || name != TCP_CONGESTION) return real_setsockopt(context, fd, level, name, value, value_bytes);
  int at = atomic_load(&set_count);
  CHECK(at < 8 && value_bytes < 16);
  memcpy(set_names[at], value, value_bytes);
  atomic_store(&set_count, at + 1);
  return 0;
}

static int far_accept4(void *context, int fd, struct sockaddr *address, socklen_t *address_bytes, int flags) {
  int accepted = real_accept4(context, fd, address, address_bytes, flags);
  if (accepted >= 0 && peers_are_far) ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1 */
  return accepted;
}

static int connect_to(int32_t port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(fd >= 0);
  CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

/* A frame of three bytes is refused by closing, so the end of the stream says that the connection was taken and served. */
static void be_served(int32_t port) {
  int fd = connect_to(port);
  uint8_t byte;
  CHECK_EQ(send(fd, "\0\0\0\3abc", 7, MSG_NOSIGNAL), 7);
  CHECK(recv(fd, &byte, 1, 0) <= 0);
  (void)close(fd);
}

static const plog_engine_config config = {.broker_id = 1,
                                          .max_request_bytes = 1 << 20,
                                          .send_buffer_bytes = -1,
                                          .receive_buffer_bytes = -1,
                                          .connections_max_idle_ms = 60000,
                                          .max_connections = 100,
                                          .max_connections_per_ip = INT32_MAX,
                                          .fetch_max_bytes = 1 << 20,
                                          .fetch_session_slots = 10,
                                          .disk_threads = 1,
                                          .answer_cache_bytes = 0,
                                          .replica_lag_time_max_ms = 30000,
                                          .max_upcall_bytes = 1 << 20};

static void peers_of_this_host_are_not_paced(void) {
  plog_engine *engine;
  int32_t port;
  for (int far = 0; far < 2; far++) {
    peers_are_far = far;
    atomic_store(&set_count, 0);
    memset(set_names, 0, sizeof set_names);
    CHECK_EQ(plog_engine_open(sys, &config, &engine), 0);
    CHECK_EQ(plog_engine_listen(engine, "127.0.0.1", 0, 0, &port), 0);
    CHECK_EQ(plog_engine_start(engine), 0);
    be_served(port);
    CHECK_EQ(atomic_load(&set_count), 1 + far);
    CHECK_EQ(strcmp(set_names[0], "reno"), 0);
    if (far) CHECK_EQ(strcmp(set_names[1], "bbr"), 0);
    CHECK_EQ(plog_engine_stop(engine, 0), 0);
    CHECK_EQ(plog_engine_close(engine, 1), 0);
  }
}

static void await_connections(plog_engine *engine, int64_t count) {
  for (int i = 0; i < 10000; i++) {
    plog_engine_stats stats;
    plog_engine_stats_read(engine, &stats);
    if (stats.connections_now == count) return;
    CHECK_EQ(nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL), 0);
  }
  CHECK(!"in ten seconds");
}

/* A child is forked while connections are open; it has them until it ends. What comes on one that we have closed is nobody's. */
static void a_child_has_the_connections(void) {
  plog_engine *engine;
  int32_t port;
  CHECK_EQ(plog_engine_open(sys, &config, &engine), 0);
  CHECK_EQ(plog_engine_listen(engine, "127.0.0.1", 0, 0, &port), 0);
  CHECK_EQ(plog_engine_start(engine), 0);
  int clients[8];
  for (int i = 0; i < 8; i++) clients[i] = connect_to(port);
  await_connections(engine, 8);
  int until[2];
  CHECK_EQ(pipe(until), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    uint8_t byte;
    (void)close(until[1]);
    _exit(read(until[0], &byte, 1) == 0 ? 0 : 1);
  }
  (void)close(until[0]);
  for (int i = 0; i < 8; i++) CHECK_EQ(send(clients[i], "\0\0\0\3abc", 7, MSG_NOSIGNAL), 7);
  await_connections(engine, 0);
  for (int i = 0; i < 8; i++) CHECK_EQ(send(clients[i], "more", 4, MSG_NOSIGNAL), 4);
  be_served(port);
  (void)close(until[1]);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  for (int i = 0; i < 8; i++) (void)close(clients[i]);
  CHECK_EQ(plog_engine_stop(engine, 0), 0);
  CHECK_EQ(plog_engine_close(engine, 1), 0);
}

int main(void) {
  sys = plog_sys_open();
  CHECK(sys != NULL);
  RUN(a_child_has_the_connections);
  real_getsockopt = sys->calls.getsockopt;
  real_setsockopt = sys->calls.setsockopt;
  real_accept4 = sys->calls.accept4;
  sys->calls.getsockopt = paced_getsockopt;
  sys->calls.setsockopt = noted_setsockopt;
  sys->calls.accept4 = far_accept4;
  RUN(peers_of_this_host_are_not_paced);
  plog_sys_close(sys);
  return 0;
}
