/*
 * fetch_request.c: see fetch_request.h.
 */
#include "fetch_request.h"

#include <errno.h>

#define REPLICA_STATE_TAG 1
#define REPLICA_STATE_VERSION 15 /* who asks is said in a tag from here on */

/* ------------------------------------------------------------------------------------------------ the pieces */

static plog_fetch_topic *read_topic(plog_reader *r, int16_t version) {
  if (version >= PLOG_FETCH_TOPIC_ID_VERSION) {
    const uint8_t *id = plog_read_raw(r, PLOG_TOPIC_ID_BYTES);
    return id ? plog__fetch_topic_open(id, NULL, 0) : NULL;
  }
  plog_bytes name = plog_read_string(r, version >= PLOG_FETCH_FLEXIBLE_VERSION);
  return r->status ? NULL : plog__fetch_topic_open(NULL, name.data, name.size_bytes);
}

static void skip_topic(plog_reader *r, int16_t version) {
  if (version >= PLOG_FETCH_TOPIC_ID_VERSION)
    (void)plog_read_raw(r, PLOG_TOPIC_ID_BYTES);
  else
    (void)plog_read_string(r, version >= PLOG_FETCH_FLEXIBLE_VERSION);
}

static int32_t read_count(plog_reader *r, int16_t version, size_t element_min_bytes) {
  int32_t count = plog_read_array(r, version >= PLOG_FETCH_FLEXIBLE_VERSION, element_min_bytes);
  if (count < 0) plog_reader_fail(r, PLOG_E_MALFORMED);
  return PLOG_MAX(count, 0);
}

static int32_t read_topics_count(plog_reader *r, int16_t version) {
  return read_count(r, version,
                    version >= PLOG_FETCH_TOPIC_ID_VERSION   ? 18
                    : version >= PLOG_FETCH_FLEXIBLE_VERSION ? 3
                                                             : 6);
}

static size_t partition_bytes(int16_t version) {
  return 16u + (version >= 9 ? 4u : 0u) + (version >= 12 ? 5u : 0u) + (version >= 5 ? 8u : 0u);
}

typedef struct {
  int32_t index;
  int32_t current_epoch;
  int64_t offset;
  int32_t last_epoch;
  int64_t log_start;
  int32_t max_bytes;
} plog_fetch_asked;

static void read_asked(plog_reader *r, int16_t version, plog_fetch_asked *out) {
  out->index = plog_read_i32(r);
  out->current_epoch = version >= 9 ? plog_read_i32(r) : -1;
  out->offset = plog_read_i64(r);
  out->last_epoch = version >= 12 ? plog_read_i32(r) : -1;
  out->log_start = version >= 5 ? plog_read_i64(r) : -1;
  out->max_bytes = plog_read_i32(r);
  if (version >= PLOG_FETCH_FLEXIBLE_VERSION) plog_skip_tags(r);
}

/* Step over both lists of topics, to check them and to come to what follows. */
static void skip_topics(plog_reader *r, int16_t version) {
  bool flexible = version >= PLOG_FETCH_FLEXIBLE_VERSION;
  int32_t total = 0;
  int32_t topics = read_topics_count(r, version);
  for (; topics > 0 && r->status == 0; topics--) {
    skip_topic(r, version);
    int32_t parts = read_count(r, version, partition_bytes(version));
    total += parts;
    if (total > PLOG_FETCH_PARTITIONS_MAX) plog_reader_fail(r, PLOG_E_MALFORMED);
    plog_fetch_asked asked;
    for (; parts > 0 && r->status == 0; parts--) read_asked(r, version, &asked);
    if (flexible) plog_skip_tags(r);
  }
  if (version < PLOG_FETCH_SESSION_VERSION) return;
  for (topics = read_topics_count(r, version); topics > 0 && r->status == 0; topics--) {
    skip_topic(r, version);
    int32_t parts = read_count(r, version, 4);
    (void)plog_read_raw(r, (size_t)parts * 4);
    if (flexible) plog_skip_tags(r);
  }
}

static void read_head(plog_fetch_request *q, plog_reader *r) {
  int16_t version = q->version;
  if (version >= PLOG_FETCH_FLEXIBLE_VERSION) plog_skip_tags(r);
  q->replica_id = version < REPLICA_STATE_VERSION ? plog_read_i32(r) : PLOG_FETCH_CONSUMER;
  q->broker_epoch = -1;
  q->max_wait_ms = plog_read_i32(r);
  q->min_bytes = plog_read_i32(r);
  q->max_bytes = plog_read_i32(r);
  q->committed_only = plog_read_i8(r) == 1;
  q->session_id = version >= PLOG_FETCH_SESSION_VERSION ? plog_read_i32(r) : PLOG_SESSION_NONE;
  q->session_epoch = version >= PLOG_FETCH_SESSION_VERSION ? plog_read_i32(r) : PLOG_SESSION_EPOCH_LAST;
}

static void read_tail(plog_fetch_request *q, plog_reader *r) {
  bool flexible = q->version >= PLOG_FETCH_FLEXIBLE_VERSION;
  q->rack = q->version >= 11 ? plog_read_string(r, flexible) : (plog_bytes){NULL, 0};
  if (!flexible) return;
  uint32_t count = plog_read_uvarint(r);
  while (count-- > 0 && r->status == 0) {
    uint32_t tag = plog_read_uvarint(r);
    uint32_t size = plog_read_uvarint(r);
    const uint8_t *value = plog_read_raw(r, size);
    if (!value || tag != REPLICA_STATE_TAG || q->version < REPLICA_STATE_VERSION) continue;
    plog_reader state;
    plog_reader_init(&state, value, size);
    q->replica_id = plog_read_i32(&state);
    q->broker_epoch = plog_read_i64(&state);
    if (state.status) plog_reader_fail(r, PLOG_E_MALFORMED);
  }
}

/* ------------------------------------------------------------------------------------------------ the whole */

int32_t plog__fetch_request_read(plog_fetch_request *q, int16_t version, const uint8_t *body, size_t size_bytes) {
  plog_reader r;
  plog_reader_init(&r, body, size_bytes);
  q->version = version;
  read_head(q, &r);
  q->topics = r;
  skip_topics(&r, version);
  read_tail(q, &r);
  return r.status ? PLOG_E_MALFORMED : 0;
}

void plog__fetch_request_each_topic(const plog_fetch_request *q, plog_fetch_topic_fn *fn, void *context) {
  plog_reader r = q->topics;
  bool flexible = q->version >= PLOG_FETCH_FLEXIBLE_VERSION;
  for (int32_t topics = read_topics_count(&r, q->version); topics > 0; topics--) {
    const uint8_t *id = q->version >= PLOG_FETCH_TOPIC_ID_VERSION ? plog_read_raw(&r, PLOG_TOPIC_ID_BYTES) : NULL;
    if (!fn(context, id, id ? (plog_bytes){NULL, 0} : plog_read_string(&r, flexible))) return;
    plog_fetch_asked asked;
    for (int32_t parts = read_count(&r, q->version, partition_bytes(q->version)); parts > 0; parts--)
      read_asked(&r, q->version, &asked);
    if (flexible) plog_skip_tags(&r);
  }
}

static int32_t put_topics(int16_t version, plog_reader *r, plog_fetch_set *set) {
  for (int32_t topics = read_topics_count(r, version); topics > 0; topics--) {
    plog_fetch_topic *topic = read_topic(r, version);
    if (!topic) return -ENOMEM;
    int32_t rc = 0;
    for (int32_t parts = read_count(r, version, partition_bytes(version)); parts > 0 && rc == 0; parts--) {
      plog_fetch_asked asked;
      read_asked(r, version, &asked);
      plog_fetch_partition *part = plog__fetch_set_put(set, topic, asked.index);
      if (!part || set->count > PLOG_FETCH_PARTITIONS_MAX) {
        rc = -ENOMEM;
        break;
      }
      part->current_epoch = asked.current_epoch;
      part->offset = asked.offset;
      part->last_epoch = asked.last_epoch;
      part->log_start = asked.log_start;
      part->max_bytes = asked.max_bytes;
    }
    plog__fetch_topic_close(topic);
    if (rc) return rc;
    if (version >= PLOG_FETCH_FLEXIBLE_VERSION) plog_skip_tags(r);
  }
  return 0;
}

static int32_t remove_forgotten(int16_t version, plog_reader *r, plog_fetch_set *set) {
  for (int32_t topics = read_topics_count(r, version); topics > 0; topics--) {
    plog_fetch_topic *topic = read_topic(r, version);
    if (!topic) return -ENOMEM;
    for (int32_t parts = read_count(r, version, 4); parts > 0; parts--) {
      plog_fetch_partition *part = plog__fetch_set_find(set, topic, plog_read_i32(r));
      if (part) plog__fetch_set_remove(set, part);
    }
    plog__fetch_topic_close(topic);
    if (version >= PLOG_FETCH_FLEXIBLE_VERSION) plog_skip_tags(r);
  }
  return 0;
}

int32_t plog__fetch_request_put(const plog_fetch_request *q, plog_fetch_set *set, bool forget) {
  plog_reader r = q->topics;
  int32_t rc = put_topics(q->version, &r, set);
  return rc == 0 && forget ? remove_forgotten(q->version, &r, set) : rc;
}
