/*
 * fetch_request.h: a Fetch request of any version, as its bytes say it.
 *
 * plog__fetch_request_read checks all of it; what it points to borrows from the frame. The topics are not copied: they are read
 * again when they are entered in a set.
 */
#ifndef PLOG_FETCH_REQUEST_H
#define PLOG_FETCH_REQUEST_H

#include "fetch_session.h"
#include "wire.h"

#define PLOG_FETCH_FLEXIBLE_VERSION 12
#define PLOG_FETCH_TOPIC_ID_VERSION 13
#define PLOG_FETCH_SESSION_VERSION 7
#define PLOG_FETCH_CONSUMER (-1) /* replica ids of those who are no replicas */
#define PLOG_FETCH_DEBUGGER (-2)
#define PLOG_FETCH_PARTITIONS_MAX 200000 /* in one set: the memory of one is many times its bytes on the wire */

typedef struct {
  int16_t version;
  int32_t replica_id;
  int64_t broker_epoch; /* of a follower, -1 unknown */
  int32_t max_wait_ms;
  int32_t min_bytes;
  int32_t max_bytes;
  bool committed_only;
  int32_t session_id;
  int32_t session_epoch;
  plog_bytes rack;    /* of a consumer */
  plog_reader topics; /* at the first */
} plog_fetch_request;

/* 0 | PLOG_E_MALFORMED */
int32_t plog__fetch_request_read(plog_fetch_request *q, int16_t version, const uint8_t *body, size_t size_bytes);
/* Called for each topic that is named; id NULL: by name. False ends the walk. */
typedef bool plog_fetch_topic_fn(void *context, const uint8_t *id, plog_bytes name);
void plog__fetch_request_each_topic(const plog_fetch_request *q, plog_fetch_topic_fn *fn, void *context);
/* Enter what is asked in set; then, with forget, take out what is to be forgotten. 0 | -ENOMEM */
int32_t plog__fetch_request_put(const plog_fetch_request *q, plog_fetch_set *set, bool forget);

#endif
