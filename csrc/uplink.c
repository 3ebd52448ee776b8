/*
 * uplink.c: see uplink.h.
 */
#include "uplink.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#define SIZE_BYTES 4
#define FIRST_BYTES (16u * 1024u) /* room for an answer of which nothing is known yet */
#define RECEIVE_BYTES (1024u * 1024u)

void plog__uplink_init(plog_uplink *u, plog_sys *sys, plog_buffers *buffers, uint32_t asked_bytes) {
  memset(u, 0, sizeof *u);
  u->sys = sys;
  u->buffers = buffers;
  u->asked_bytes = asked_bytes;
  u->fd = -1;
  plog_writer_init(&u->request);
}

static void give_back(plog_uplink *u) {
  if (u->in) plog__buffers_give(u->buffers, u->in);
  u->in = NULL;
}

/* While answers are large their memory stays, for the next one: taken anew it would be touched for the first time again. */
void plog__uplink_consume(plog_uplink *u) {
  if (u->in && u->in->capacity_bytes / 4 > u->last_bytes) give_back(u);
  if (u->in) u->in->end = 0;
}

void plog__uplink_close(plog_uplink *u) {
  if (u->fd >= 0) plog__sys_close_watched(u->sys, u->epoll_fd, u->fd);
  u->fd = -1;
  u->readable = false;
  give_back(u);
  plog_writer_reset(&u->request);
  u->sent_bytes = 0;
}

void plog__uplink_deinit(plog_uplink *u) {
  plog__uplink_close(u);
  plog_writer_deinit(&u->request);
}

/* ------------------------------------------------------------------------------------------------ connecting */

static void set_option(plog_uplink *u, int level, int name, int value) {
  (void)plog__sys_setsockopt(u->sys, u->fd, level, name, &value, sizeof value); /* a hint: without it things are slower */
}

int32_t plog__uplink_connect(plog_uplink *u, const struct sockaddr_storage *to, int32_t receive_buffer_bytes, int epoll_fd,
                             uint64_t tag) {
  plog_assert(u->fd < 0);
  int fd = plog__sys_socket(u->sys, to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  u->fd = fd;
  u->epoll_fd = epoll_fd;
  set_option(u, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(u, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (receive_buffer_bytes > 0) set_option(u, SOL_SOCKET, SO_RCVBUF, receive_buffer_bytes);
  socklen_t to_bytes = to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  int32_t rc = plog__sys_connect(u->sys, fd, (const struct sockaddr *)to, to_bytes);
  if (rc == -EINPROGRESS || rc == -EINTR) rc = 0;
  /* watched from here on only: a socket that does not connect yet would count as hung up */
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
  event.data.u64 = tag;
  if (rc == 0) rc = plog__sys_epoll_ctl(u->sys, epoll_fd, EPOLL_CTL_ADD, fd, &event);
  if (rc) plog__uplink_close(u);
  return rc;
}

int32_t plog__uplink_connected(plog_uplink *u) {
  int error = 0;
  socklen_t error_bytes = sizeof error;
  int32_t rc = plog__sys_getsockopt(u->sys, u->fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes);
  return rc ? rc : -error;
}

/* ------------------------------------------------------------------------------------------------ sending */

plog_writer *plog__uplink_begin(plog_uplink *u) {
  plog_assert(!plog__uplink_has_received(u) && plog__uplink_is_sent(u));
  plog_writer_reset(&u->request);
  u->sent_bytes = 0;
  plog_write_i32(&u->request, 0); /* the size, when it is sent */
  return &u->request;
}

int32_t plog__uplink_send(plog_uplink *u) {
  plog_writer *w = &u->request;
  if (w->status) return w->status;
  if (u->sent_bytes == 0) plog_put_i32(w->data, (int32_t)(w->size_bytes - SIZE_BYTES));
  while (u->sent_bytes < w->size_bytes) {
    size_t left_bytes = w->size_bytes - u->sent_bytes;
    int64_t n = plog__sys_send(u->sys, u->fd, w->data + u->sent_bytes, left_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) return (int32_t)n;
    u->sent_bytes += (size_t)n;
  }
  return 0;
}

/* ------------------------------------------------------------------------------------------------ receiving */

/* How much memory the answer may have now; 0: its size is impossible. */
static uint32_t fair_capacity(const plog_uplink *u) {
  uint32_t came_bytes = u->in ? u->in->end : 0;
  if (came_bytes < SIZE_BYTES) return PLOG_MAX(FIRST_BYTES, PLOG_MIN(u->last_bytes, u->asked_bytes));
  uint32_t size_bytes = plog_get_u32(u->in->data);
  if (size_bytes > INT32_MAX - SIZE_BYTES) return 0;
  /* one batch may be larger than all that was asked for */
  uint64_t most_bytes = PLOG_MAX((uint64_t)u->asked_bytes, (uint64_t)came_bytes * 2);
  return (uint32_t)PLOG_MIN((uint64_t)size_bytes + SIZE_BYTES, PLOG_MAX(most_bytes, FIRST_BYTES));
}

static int32_t make_room(plog_uplink *u) {
  uint32_t capacity_bytes = fair_capacity(u);
  if (capacity_bytes == 0) return PLOG_E_MALFORMED;
  if (u->in && u->in->capacity_bytes >= capacity_bytes) return 0;
  plog_buffer *larger = plog__buffers_take(u->buffers, capacity_bytes);
  if (!larger) return -ENOMEM;
  if (u->in) {
    memcpy(larger->data, u->in->data, u->in->end);
    larger->end = u->in->end;
    plog__buffers_give(u->buffers, u->in);
  }
  u->in = larger;
  return 0;
}

static bool is_whole(const plog_uplink *u) {
  return u->in && u->in->end >= SIZE_BYTES && u->in->end - SIZE_BYTES >= plog_get_u32(u->in->data);
}

int32_t plog__uplink_receive(plog_uplink *u, int64_t *budget_bytes, plog_bytes *out) {
  while (!is_whole(u)) {
    if (!u->readable) return -EAGAIN;
    if (*budget_bytes <= 0) return PLOG_E_AGAIN;
    int32_t rc = make_room(u);
    if (rc) return rc;
    uint32_t room_bytes = PLOG_MIN(u->in->capacity_bytes - u->in->end, RECEIVE_BYTES);
    int64_t n = plog__sys_recv(u->sys, u->fd, u->in->data + u->in->end, room_bytes, MSG_DONTWAIT);
    if (n == -EAGAIN) u->readable = false;
    if (n <= 0) return n == 0 ? -ECONNRESET : (int32_t)n;
    u->in->end += (uint32_t)n;
    *budget_bytes -= n;
  }
  uint32_t size_bytes = plog_get_u32(u->in->data);
  if (u->in->end - SIZE_BYTES > size_bytes) return PLOG_E_MALFORMED; /* nobody asked for more */
  u->last_bytes = u->in->end;
  *out = (plog_bytes){u->in->data + SIZE_BYTES, size_bytes};
  return 0;
}
