/*
 * listener.h: listening sockets, and the connections they bring: limits, socket options, addresses.
 *
 * At max.connections, and for a moment when the process has no file descriptors left, nothing is accepted: clients wait in the
 * kernel's queue. A connection beyond max.connections.per.ip is closed at once.
 *
 * A congestion control that paces (BBR) spreads what it sends over time, which between two processes of one host costs a timer
 * interrupt every few segments and wins nothing. A connection that has begun with pacing keeps it, so the listener begins
 * without, and a connection from another host gets the system's choice back when it is accepted.
 */
#ifndef PLOG_LISTENER_H
#define PLOG_LISTENER_H

#include "reactor.h"

#define PLOG_CONGESTION_BYTES 16 /* TCP_CA_NAME_MAX */

typedef struct {
  plog_link link;
  int fd;
  int32_t listener_id;
  char paced
      [PLOG_CONGESTION_BYTES]; /* the system's congestion control when it paces, for peers on other hosts; else empty */
} plog_listener;

int32_t plog__listener_open(plog_engine *e, const char *address, int32_t port, int32_t listener_id, int32_t *out_port);
void plog__listeners_close(plog_engine *e);
/* The listener is ready: a bounded number of connections. */
void plog__listener_accept(plog_engine *e, plog_listener *listener);
/* Accept from all listeners, or from none; by the number of connections. */
void plog__listeners_update(plog_engine *e);
/* The text of PLOG_ADDRESS_BYTES as plog_engine_peer gives it. text: at least 46 bytes */
void plog__address_text(const uint8_t *address, char *text, int32_t *out_port);

#endif
