/*
 * uplink.h: one connection that we open to another broker: to connect, to send one request, to receive its answer.
 *
 * What stays true: one request is under way at most; its answer is received into one buffer and stays there, where it is appended
 * from, until plog__uplink_consume; memory is taken for what came, or for what we asked for, never for what the other side announces
 * beyond that. Reactor thread only.
 */
#ifndef PLOG_UPLINK_H
#define PLOG_UPLINK_H

#include <netinet/in.h>

#include "base.h"
#include "buffer.h"
#include "sys.h"
#include "wire.h"

typedef struct {
  plog_sys *sys;
  plog_buffers *buffers;
  uint32_t asked_bytes; /* answers so large are what we asked for */
  int fd;               /* -1: none */
  int epoll_fd;         /* that watches it */
  bool readable;        /* the socket may have more */
  plog_writer request;  /* its size in front */
  size_t sent_bytes;
  plog_buffer *in;
  uint32_t last_bytes; /* of the last answer: room for the next */
} plog_uplink;

void plog__uplink_init(plog_uplink *u, plog_sys *sys, plog_buffers *buffers, uint32_t asked_bytes);
void plog__uplink_deinit(plog_uplink *u);
/* Begin to connect; epoll tells with `tag` when it has ended. 0 | -errno: it has failed already */
int32_t plog__uplink_connect(plog_uplink *u, const struct sockaddr_storage *to, int32_t receive_buffer_bytes, int epoll_fd,
                             uint64_t tag);
/* After an event: 0 it is connected | -errno it is not */
int32_t plog__uplink_connected(plog_uplink *u);
/* Forget the connection, with what was received and not sent. */
void plog__uplink_close(plog_uplink *u);
static inline bool plog__uplink_is_open(const plog_uplink *u) {
  return u->fd >= 0;
}

static inline bool plog__uplink_is_sent(const plog_uplink *u) {
  return u->sent_bytes == u->request.size_bytes;
}
/* Something of an answer is there. */
static inline bool plog__uplink_has_received(const plog_uplink *u) {
  return u->in && u->in->end > 0;
}

/* A new request: the writer is at the byte after its size. */
plog_writer *plog__uplink_begin(plog_uplink *u);
/* Send the request, or the rest of it. 0 | -EAGAIN: when the socket is writable | -errno */
int32_t plog__uplink_send(plog_uplink *u);
/*
 * Receive until the answer is whole; *out is behind its size. *budget_bytes becomes less by what came.
 *   returns 0 | -EAGAIN: nothing more for now | PLOG_E_AGAIN: the budget is used up | PLOG_E_MALFORMED: an impossible size |
 *           -ECONNRESET: the other side has ended | -errno
 */
int32_t plog__uplink_receive(plog_uplink *u, int64_t *budget_bytes, plog_bytes *out);
/* The answer is not needed any more. */
void plog__uplink_consume(plog_uplink *u);

#endif
