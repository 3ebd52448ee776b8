/*
 * authorize.h: may a request do what it asks? The question comes before anything of the request is done.
 *
 * What Python has not said yet is asked (PLOG_UP_GRANT), and the connection is not served until it is answered: its frame stays
 * where it is, and is looked at anew from its first byte. Other connections go on. Reactor thread only.
 */
#ifndef PLOG_AUTHORIZE_H
#define PLOG_AUTHORIZE_H

#include "reactor.h"
#include "wire.h"

/* One look at one request. */
typedef struct {
  plog_engine *engine;
  plog_conn *conn;
  int32_t principal;
  uint32_t operation;   /* PLOG_GRANT_* */
  plog_grant *unknown;  /* the last pair that is not known; nothing is entered after it */
  int32_t asked_count;  /* by this look */
  uint64_t named_bytes; /* of the pairs in the request's own list, which must all be known at one time */
  int32_t status;       /* 0 | -ENOMEM | PLOG_E_MALFORMED: it names more than can be known at a time */
} plog_authorizer;

void plog__authorize_begin(plog_authorizer *a, plog_engine *e, plog_conn *conn, uint32_t operation);
/* PLOG_UNKNOWN: it has been asked. name NULL: the resource has none. */
plog_verdict plog__authorize(plog_authorizer *a, int32_t resource, const uint8_t *name, size_t name_bytes);
/* Ask about a topic of the request's own list, by id unless that is NULL. An id that means nothing here is no topic's. */
void plog__authorize_topic(plog_authorizer *a, const uint8_t *id, plog_bytes name);
/*
 * Note for each partition of a set what it is refused with. A verdict holds until the grants are revoked, also when the pair has
 * left the table, so a session asks for each topic once. An id that means nothing yet is looked up each time.
 */
void plog__authorize_set(plog_authorizer *a, const plog_fetch_set *set);
/* 0: everything is known | PLOG_E_AGAIN: the connection waits, look again | -ENOMEM, PLOG_E_MALFORMED: close it */
int32_t plog__authorize_end(plog_authorizer *a, const plog_frame *frame);

/* The connection belongs to principal from its next request on; 0: to its listener's. One that waits is asked about anew. */
void plog__authorize_as(plog_engine *e, plog_conn *conn, int32_t principal);

#endif
