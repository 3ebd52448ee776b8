/*
 * listener.c: see listener.h.
 */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64
#define RETRY_MS 100

/* ------------------------------------------------------------------------------------------------ addresses */

/* An IPv6 or mapped IPv4 address, then the port, in network order. */
static void pack_address(const struct sockaddr_storage *from, uint8_t *out) {
  memset(out, 0, PLOG_ADDRESS_BYTES);
  if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    memcpy(out, &v6->sin6_addr, 16);
    memcpy(out + 16, &v6->sin6_port, 2);
  } else if (from->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
    out[10] = 0xff;
    out[11] = 0xff;
    memcpy(out + 12, &v4->sin_addr, 4);
    memcpy(out + 16, &v4->sin_port, 2);
  }
}

void plog__address_text(const uint8_t *address, char *text, int32_t *out_port) {
  static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  text[0] = 0;
  if (memcmp(address, mapped, sizeof mapped) == 0)
    (void)inet_ntop(AF_INET, address + 12, text, INET6_ADDRSTRLEN);
  else
    (void)inet_ntop(AF_INET6, address, text, INET6_ADDRSTRLEN);
  *out_port = plog_get_u16(address + 16);
}

static int32_t parse_address(const char *text, int32_t port, struct sockaddr_storage *out, socklen_t *out_bytes) {
  memset(out, 0, sizeof *out);
  if (port < 0 || port > 65535) return -EINVAL;
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *out_bytes = sizeof *v4;
    return 0;
  }
  if (text[0] && inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) return -EINVAL;
  v6->sin6_family = AF_INET6; /* no text: any address of both families */
  v6->sin6_port = htons((uint16_t)port);
  *out_bytes = sizeof *v6;
  return 0;
}

/* ------------------------------------------------------------------------------------------------ listening */

static void set_option(plog_engine *e, int fd, int level, int name, int value) {
  (void)plog__sys_setsockopt(e->sys, fd, level, name, &value, sizeof value); /* a hint: without it things are slower */
}

static void set_buffers(plog_engine *e, int fd) {
  if (e->config.send_buffer_bytes > 0) set_option(e, fd, SOL_SOCKET, SO_SNDBUF, e->config.send_buffer_bytes);
  if (e->config.receive_buffer_bytes > 0) set_option(e, fd, SOL_SOCKET, SO_RCVBUF, e->config.receive_buffer_bytes);
}

static void avoid_pacing(plog_engine *e, plog_listener *listener) {
  char name[PLOG_CONGESTION_BYTES] = "";
  socklen_t name_bytes = sizeof name - 1;
  if (plog__sys_getsockopt(e->sys, listener->fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_bytes)) return;
  if (strncmp(name, "bbr", 3) != 0) return;
  if (plog__sys_setsockopt(e->sys, listener->fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4)) return; /* every kernel has it */
  memcpy(listener->paced, name, sizeof name);
}

static int32_t open_socket(plog_engine *e, const char *text, int32_t port, int *out_fd) {
  struct sockaddr_storage address;
  socklen_t address_bytes;
  int32_t rc = parse_address(text, port, &address, &address_bytes);
  if (rc) return rc;
  int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  int fd = plog__sys_socket(e->sys, address.ss_family, type, 0);
  if (fd == -EAFNOSUPPORT && !text[0]) return open_socket(e, "0.0.0.0", port, out_fd);
  if (fd < 0) return fd;
  set_option(e, fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.ss_family == AF_INET6) set_option(e, fd, IPPROTO_IPV6, IPV6_V6ONLY, text[0] != 0);
  set_buffers(e, fd); /* the receive window is settled while connecting */
  rc = plog__sys_bind(e->sys, fd, (const struct sockaddr *)&address, address_bytes);
  if (rc == 0) rc = plog__sys_listen(e->sys, fd, BACKLOG);
  if (rc) {
    (void)plog__sys_close(e->sys, fd);
    return rc;
  }
  *out_fd = fd;
  return 0;
}

static int32_t local_port(plog_engine *e, int fd, int32_t *out_port) {
  struct sockaddr_storage address;
  socklen_t address_bytes = sizeof address;
  int32_t rc = plog__sys_getsockname(e->sys, fd, (struct sockaddr *)&address, &address_bytes);
  if (rc) return rc;
  uint8_t packed[PLOG_ADDRESS_BYTES];
  pack_address(&address, packed);
  *out_port = plog_get_u16(packed + 16);
  return 0;
}

static int32_t watch(plog_engine *e, plog_listener *listener, int operation, bool accepting) {
  struct epoll_event event = {.events = accepting ? EPOLLIN : 0};
  event.data.u64 = (uint64_t)(uintptr_t)listener | PLOG_EVENT_LISTENER;
  return plog__sys_epoll_ctl(e->sys, e->epoll_fd, operation, listener->fd, &event);
}

int32_t plog__listener_open(plog_engine *e, const char *address, int32_t port, int32_t listener_id, int32_t *out_port) {
  plog_listener *listener = calloc(1, sizeof *listener);
  if (!listener) return -ENOMEM;
  listener->listener_id = listener_id;
  int32_t rc = open_socket(e, address, port, &listener->fd);
  if (rc) {
    free(listener);
    return rc;
  }
  avoid_pacing(e, listener);
  rc = local_port(e, listener->fd, out_port);
  if (rc == 0) rc = watch(e, listener, EPOLL_CTL_ADD, e->accepting);
  if (rc) {
    (void)plog__sys_close(e->sys, listener->fd);
    free(listener);
    return rc;
  }
  plog_list_init(&listener->link);
  plog_list_insert(&e->listeners, &listener->link);
  return 0;
}

void plog__listeners_close(plog_engine *e) {
  while (!plog_list_empty(&e->listeners)) {
    plog_listener *listener = PLOG_CONTAINER_OF(plog_list_take(&e->listeners), plog_listener, link);
    plog__sys_close_watched(e->sys, e->epoll_fd, listener->fd);
    free(listener);
  }
}

void plog__listeners_update(plog_engine *e) {
  bool accepting = e->conns_open < e->config.max_connections && !e->accept_timer.place;
  if (accepting == e->accepting) return;
  e->accepting = accepting;
  for (plog_link *at = e->listeners.next; at != &e->listeners; at = at->next)
    (void)watch(e, PLOG_CONTAINER_OF(at, plog_listener, link), EPOLL_CTL_MOD, accepting);
}

/* ------------------------------------------------------------------------------------------------ accepting */

static bool is_over_ip_limit(const plog_engine *e, const uint8_t *peer) {
  if (e->config.max_connections_per_ip == INT32_MAX) return false;
  int32_t count = 0;
  for (uint32_t i = 0; i < e->conns_used; i++)
    if (e->conns[i] && memcmp(e->conns[i]->peer, peer, 16) == 0) count++;
  return count >= e->config.max_connections_per_ip;
}

static void welcome(plog_engine *e, const plog_listener *listener, int fd, const struct sockaddr_storage *from) {
  uint8_t peer[PLOG_ADDRESS_BYTES];
  pack_address(from, peer);
  struct sockaddr_storage to;
  socklen_t to_bytes = sizeof to;
  plog_conn *conn = NULL;
  bool named = plog__sys_getsockname(e->sys, fd, (struct sockaddr *)&to, &to_bytes) == 0;
  if (named && !is_over_ip_limit(e, peer)) conn = plog__reactor_add_conn(e, fd, listener->listener_id);
  if (!conn) {
    (void)plog__sys_close(e->sys, fd);
    return;
  }
  memcpy(conn->peer, peer, sizeof peer);
  pack_address(&to, conn->local);
  set_option(e, fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(e, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_buffers(e, fd);
  bool same_host = memcmp(conn->peer, conn->local, 16) == 0;
  if (listener->paced[0] && !same_host)
    (void)plog__sys_setsockopt(e->sys, fd, IPPROTO_TCP, TCP_CONGESTION, listener->paced,
                               (socklen_t)strlen(listener->paced));
}

void plog__listener_accept(plog_engine *e, plog_listener *listener) {
  for (int i = 0; i < ACCEPTS_PER_TURN && e->conns_open < e->config.max_connections; i++) {
    struct sockaddr_storage from;
    socklen_t from_bytes = sizeof from;
    memset(&from, 0, sizeof from);
    int fd = plog__sys_accept4(e->sys, listener->fd, (struct sockaddr *)&from, &from_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd == -EAGAIN) break;
    if (fd >= 0) {
      welcome(e, listener, fd, &from);
    } else if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
      (void)plog__timers_arm(&e->timers, &e->accept_timer, e->now_ms + RETRY_MS);
      break;
    } /* else: that client has gone already */
  }
  plog__listeners_update(e);
}
