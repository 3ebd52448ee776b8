/*
 * The writer's end of a log that a library owns: records in, batches out, from any thread.
 *
 * What stays true: the lock is held over everything that changes the log, so the log has one owner at a time although
 * many threads append; offsets are given in the order in which appends come to the lock, and a record whose offset was
 * returned has been written to its file. A batch is written whole or not at all; of a call that makes several, those
 * before the failing one stay.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"
#include "batch.h"
#include "log.h"
#include "wire.h"

/* More than a record needs beside its key, value and headers. */
#define RECORD_OVERHEAD_MAX_BYTES 40

struct plog_appender {
  pthread_mutex_t lock;
  pthread_cond_t grown;
  int32_t waiting;
  plog_sys *sys;
  plog_log *log; /* NULL: closed */
  plog_appender_config config;
  plog_batch_builder *builder;
  plog_batch_builder *alone; /* for single records: their size stays out of the way of the large one's memory */
  int32_t error;             /* of the last append that returned -1 */
  int32_t attention;         /* PLOG_ATTENTION_* */
};

static void map_tail(plog_log *log, const plog_appender_config *config) {
  plog__log_map_tail(log, config->mapped_tail > 0 ? config->mapped_tail : PLOG_MAPPED_TAIL_NEVER);
}

int32_t plog_appender_open(plog_sys *sys, plog_log *log, const plog_appender_config *config, plog_appender **out) {
  plog_appender *a = calloc(1, sizeof *a);
  if (!a) return -ENOMEM;
  a->builder = plog_batch_builder_open();
  a->alone = plog_batch_builder_open();
  pthread_condattr_t monotonic;
  int32_t rc = a->builder && a->alone ? -pthread_condattr_init(&monotonic) : -ENOMEM;
  if (rc == 0) {
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    rc = -pthread_cond_init(&a->grown, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
  }
  if (rc == 0) {
    rc = -pthread_mutex_init(&a->lock, NULL);
    if (rc != 0) (void)pthread_cond_destroy(&a->grown);
  }
  if (rc != 0) {
    plog_batch_builder_close(a->builder);
    plog_batch_builder_close(a->alone);
    free(a);
    return rc;
  }
  a->sys = sys;
  a->log = log;
  a->config = *config;
  map_tail(log, config);
  *out = a;
  return 0;
}

void plog_appender_lock(plog_appender *a) {
  (void)pthread_mutex_lock(&a->lock);
}

void plog_appender_unlock(plog_appender *a) {
  (void)pthread_mutex_unlock(&a->lock);
}

void plog_appender_release(plog_appender *a) {
  plog_appender_lock(a);
  a->log = NULL;
  (void)pthread_cond_broadcast(&a->grown);
  plog_appender_unlock(a);
}

void plog_appender_close(plog_appender *a) {
  if (!a) return;
  plog_assert(!a->log && a->waiting == 0);
  plog_batch_builder_close(a->builder);
  plog_batch_builder_close(a->alone);
  (void)pthread_cond_destroy(&a->grown);
  (void)pthread_mutex_destroy(&a->lock);
  free(a);
}

int32_t plog_appender_configure(plog_appender *a, const plog_appender_config *config) {
  if (config->batch_records < 1 || config->batch_bytes < 1 || config->max_message_bytes < 0) return -EINVAL;
  plog_appender_lock(a);
  a->config = *config;
  if (a->log) map_tail(a->log, config);
  plog_appender_unlock(a);
  return 0;
}

/* ---------------------------------------------------------------------------------------------- one batch */

/* Stage and write a batch that is stamped. */
static int32_t write_batch(plog_appender *a, const uint8_t *data, size_t size_bytes, int64_t now_ms, int64_t *out_last) {
  plog_batch_header header;
  plog_duplicate duplicate;
  plog_log_facts facts;
  if (size_bytes > (size_t)a->config.max_message_bytes) return PLOG_MESSAGE_TOO_LARGE;
  plog__batch_parse(data, &header);
  int32_t rc = plog__log_stage(a->log, data, &header, plog__batch_last_offset(&header), false, now_ms, &duplicate);
  if (rc != 0) {
    plog__log_abort(a->log);
    return rc;
  }
  rc = plog__log_commit(a->log, now_ms);
  if (rc != 0) return rc;
  plog__log_take_facts(a->log, &facts);
  if (facts.rolled || facts.flush_due) a->attention |= PLOG_ATTENTION_FLUSH;
  if (facts.epoch_started) a->attention |= PLOG_ATTENTION_EPOCH;
  if (a->waiting > 0) (void)pthread_cond_broadcast(&a->grown);
  *out_last = plog__batch_last_offset(&header);
  return 0;
}

static void begin_batch(const plog_appender *a, plog_batch_builder *b, int32_t codec, const plog_producer_stamp *producer) {
  int32_t attributes = codec;
  if (a->config.log_append_time) attributes |= PLOG_ATTR_LOG_APPEND_TIME;
  if (producer) attributes |= PLOG_ATTR_TRANSACTIONAL;
  plog_batch_builder_reset(b, plog__log_staged_end(a->log), attributes, producer ? producer->producer_id : -1,
                           producer ? producer->producer_epoch : -1, producer ? producer->base_sequence : -1,
                           a->config.leader_epoch);
}

static int32_t end_batch(plog_appender *a, plog_batch_builder *b, int32_t level, int64_t now_ms, int64_t *out_last) {
  const uint8_t *data;
  size_t size_bytes;
  int32_t rc = plog_batch_builder_finish(b, level, &data, &size_bytes);
  return rc == 0 ? write_batch(a, data, size_bytes, now_ms, out_last) : rc;
}

/* What may be in a record: a compacted log needs keys, and times begin with 1970 (-1 is no time). */
static int32_t check_record(const plog_appender *a, int64_t timestamp, const uint8_t *key) {
  if (a->config.compacted && !key) return PLOG_INVALID_RECORD;
  return timestamp < -1 ? PLOG_INVALID_TIMESTAMP : 0;
}

static int32_t append_one(plog_appender *a, int64_t timestamp, const uint8_t *key, int32_t key_bytes, const uint8_t *value,
                          int32_t value_bytes, int64_t *out_last) {
  if (!a->log) return PLOG_E_CLOSED;
  int64_t now_ms = plog__sys_wall_ms(a->sys);
  if (timestamp == PLOG_NOW || a->config.log_append_time) timestamp = now_ms;
  int32_t rc = check_record(a, timestamp, key);
  if (rc != 0) return rc;
  begin_batch(a, a->alone, a->config.codec, NULL);
  rc = plog_batch_builder_add(a->alone, timestamp, key, key_bytes, value, value_bytes, NULL, 0, 0);
  return rc == 0 ? end_batch(a, a->alone, a->config.level, now_ms, out_last) : rc;
}

int64_t plog_appender_append(plog_appender *a, const uint8_t *value, int32_t value_bytes, const uint8_t *key,
                             int32_t key_bytes, int64_t timestamp) {
  int64_t offset = -1;
  plog_appender_lock(a);
  int32_t rc = append_one(a, timestamp, key, key_bytes, value, value_bytes, &offset);
  if (rc != 0) {
    a->error = rc;
    offset = -1;
  } else if (a->attention != 0) {
    offset = -offset - 2;
  }
  plog_appender_unlock(a);
  return offset;
}

int32_t plog_appender_error(plog_appender *a) {
  plog_appender_lock(a);
  int32_t rc = a->error;
  plog_appender_unlock(a);
  return rc;
}

int32_t plog_appender_take_attention(plog_appender *a) {
  plog_appender_lock(a);
  int32_t wanted = a->attention;
  a->attention = 0;
  plog_appender_unlock(a);
  return wanted;
}

/* ---------------------------------------------------------------------------------------------- columns */

/* The bytes of one field. *size_bytes -1 and *data NULL: null. -EINVAL: the offsets do not lie in the data, or fall. */
static inline int32_t field_at(const plog_column *c, int64_t i, const uint8_t **data, int32_t *size_bytes) {
  static const uint8_t nothing[1];
  *data = NULL;
  *size_bytes = -1;
  if (c->kind == PLOG_COLUMN_NULL || (c->nulls && c->nulls[i])) return 0;
  int64_t begin, end;
  if (c->kind == PLOG_COLUMN_FIXED) {
    begin = i * c->width;
    end = begin + c->width;
  } else if (c->kind == PLOG_COLUMN_OFFSETS32) {
    const int32_t *offsets = c->offsets;
    begin = offsets[i];
    end = offsets[i + 1];
  } else {
    const int64_t *offsets = c->offsets;
    begin = offsets[i];
    end = offsets[i + 1];
  }
  if (begin < 0 || begin > end || end > c->data_bytes || end - begin > INT32_MAX) return -EINVAL;
  *data = end > begin ? c->data + begin : nothing;
  *size_bytes = (int32_t)(end - begin);
  return 0;
}

typedef struct {
  int64_t timestamp;
  const uint8_t *key, *value, *headers;
  int32_t key_bytes, value_bytes, headers_bytes, headers_count;
} new_record;

static inline int32_t record_at(const plog_record_columns *in, int64_t i, new_record *r) {
  int32_t rc = field_at(&in->keys, i, &r->key, &r->key_bytes);
  if (rc == 0) rc = field_at(&in->values, i, &r->value, &r->value_bytes);
  if (rc == 0) rc = field_at(&in->headers, i, &r->headers, &r->headers_bytes);
  if (rc != 0) return rc;
  r->headers_bytes = PLOG_MAX(r->headers_bytes, 0);
  r->headers_count = in->headers_counts ? in->headers_counts[i] : 0;
  return 0;
}

static int64_t record_room(const new_record *r) {
  return (int64_t)PLOG_MAX(r->key_bytes, 0) + PLOG_MAX(r->value_bytes, 0) + r->headers_bytes + RECORD_OVERHEAD_MAX_BYTES;
}

/* All records are values of one size, of now, and nothing else: checked as field_at and check_record would. */
static bool are_alike(const plog_appender *a, const plog_record_columns *in) {
  const plog_column *v = &in->values;
  return v->kind == PLOG_COLUMN_FIXED && !v->nulls && in->keys.kind == PLOG_COLUMN_NULL &&
         in->headers.kind == PLOG_COLUMN_NULL && !in->headers_counts && !in->timestamps && !a->config.compacted &&
         v->width > 0 && in->count <= v->data_bytes / v->width;
}

/* Put as many of them from i on into the batch as fit. */
static int32_t add_alike(plog_appender *a, const plog_record_columns *in, int64_t i, int64_t limit, int64_t now_ms,
                         int64_t *out_count) {
  const plog_column *v = &in->values;
  int64_t fit = (limit - PLOG_BATCH_OVERHEAD) / ((int64_t)v->width + RECORD_OVERHEAD_MAX_BYTES);
  *out_count = PLOG_MIN(PLOG_MIN(PLOG_MAX(fit, 1), a->config.batch_records), in->count - i);
  return plog__batch_builder_add_alike(a->builder, now_ms, v->data + i * v->width, v->width, (int32_t)*out_count);
}

/* Put records from *at on into one batch, as many as fit, and write it. */
static int32_t append_batch(plog_appender *a, const plog_record_columns *in, const plog_producer_stamp *producer,
                            int64_t now_ms, int64_t *at, int64_t *out_last) {
  int64_t limit = PLOG_MIN(a->config.batch_bytes, a->config.max_message_bytes), room = PLOG_BATCH_OVERHEAD;
  int64_t first = *at, i = first;
  bool own = in->codec >= 0 && in->codec != a->config.codec;
  begin_batch(a, a->builder, own ? in->codec : a->config.codec, producer);
  if (are_alike(a, in)) {
    int64_t count;
    int32_t rc = add_alike(a, in, i, limit, now_ms, &count);
    if (rc != 0) return rc;
    *at = i + count;
    return end_batch(a, a->builder, own ? INT32_MIN : a->config.level, now_ms, out_last);
  }
  for (; i < in->count && i - first < a->config.batch_records; i++) {
    new_record r;
    int32_t rc = record_at(in, i, &r);
    if (rc != 0) return rc;
    room += record_room(&r);
    if (i > first && room > limit) break;
    r.timestamp = in->timestamps ? in->timestamps[i] : PLOG_NOW;
    if (r.timestamp == PLOG_NOW || a->config.log_append_time) r.timestamp = now_ms;
    rc = check_record(a, r.timestamp, r.key);
    if (rc == 0)
      rc = plog_batch_builder_add(a->builder, r.timestamp, r.key, r.key_bytes, r.value, r.value_bytes, r.headers,
                                  r.headers_bytes, r.headers_count);
    if (rc != 0) return rc;
  }
  *at = i;
  return end_batch(a, a->builder, own ? INT32_MIN : a->config.level, now_ms, out_last);
}

/* Sequence numbers go on after 2^31 - 1 with 0. */
static void advance_sequence(plog_producer_stamp *producer, int64_t records) {
  producer->base_sequence = (int32_t)(((int64_t)producer->base_sequence + records) & INT32_MAX);
}

static int32_t append_columns(plog_appender *a, const plog_record_columns *in, plog_producer_stamp *producer,
                              plog_appended *out) {
  if (!a->log) return PLOG_E_CLOSED;
  int64_t now_ms = plog__sys_wall_ms(a->sys);
  out->first_offset = plog__log_staged_end(a->log);
  out->end_offset = out->first_offset;
  for (int64_t at = 0; at < in->count;) {
    int64_t last, from = at;
    int32_t rc = append_batch(a, in, producer, now_ms, &at, &last);
    if (rc != 0) return rc;
    out->end_offset = last + 1;
    if (producer) advance_sequence(producer, at - from);
  }
  return 0;
}

int32_t plog_appender_append_columns(plog_appender *a, const plog_record_columns *in, const plog_producer_stamp *producer,
                                     plog_appended *out) {
  plog_producer_stamp stamp;
  if (producer) stamp = *producer;
  plog_appender_lock(a);
  int32_t rc = append_columns(a, in, producer ? &stamp : NULL, out);
  out->attention = a->attention;
  plog_appender_unlock(a);
  return rc;
}

int32_t plog_appender_append_batch(plog_appender *a, uint8_t *batch, size_t size_bytes, int64_t *out_last) {
  plog_batch_header header;
  int32_t rc = plog_batch_check(batch, size_bytes, &header);
  if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
  plog_appender_lock(a);
  if (!a->log) {
    rc = PLOG_E_CLOSED;
  } else {
    plog__batch_stamp(batch, plog__log_staged_end(a->log), a->config.leader_epoch);
    rc = write_batch(a, batch, header.size_bytes, plog__sys_wall_ms(a->sys), out_last);
  }
  plog_appender_unlock(a);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- waiting */

int32_t plog_appender_wait(plog_appender *a, int64_t offset, int64_t timeout_ms) {
  const int64_t second = 1000000000;
  int64_t until = plog__sys_monotonic_ns(a->sys) + timeout_ms * 1000000;
  const struct timespec deadline = {.tv_sec = until / second, .tv_nsec = until % second};
  int32_t rc = 0;
  plog_appender_lock(a);
  a->waiting++;
  while (rc == 0 && a->log && plog__log_end(a->log) <= offset)
    if (pthread_cond_timedwait(&a->grown, &a->lock, &deadline) != 0) rc = PLOG_REQUEST_TIMED_OUT;
  if (!a->log) rc = PLOG_E_CLOSED;
  a->waiting--;
  plog_appender_unlock(a);
  return rc;
}
