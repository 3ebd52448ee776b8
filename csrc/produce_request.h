/*
 * produce_request.h: how a Produce request is laid out, for those who walk over it.
 *
 * A walk is made over bytes that the first one found well formed. Reactor thread only.
 */
#ifndef PLOG_PRODUCE_REQUEST_H
#define PLOG_PRODUCE_REQUEST_H

#include "batch.h"
#include "wire.h"

#define PLOG_PRODUCE_FLEXIBLE_VERSION 9
#define PLOG_PRODUCE_ADDS_VERSION 12 /* its partitions are to be added to the transaction (KIP-890, second part) */
#define PLOG_PRODUCE_TOPIC_ID_VERSION 13

/* Attributes of the batch in records, or 0 when there is none to be seen; the batch is checked later. */
static inline int32_t plog__produce_peek_attributes(plog_bytes records) {
  if (records.size_bytes < PLOG_BATCH_OVERHEAD || records.data[PLOG_BATCH_AT_MAGIC] != 2) return 0;
  return plog_get_u16(records.data + PLOG_BATCH_AT_ATTRIBUTES);
}

/* Are these records part of a transaction? */
static inline bool plog__produce_is_transactional(plog_bytes records) {
  int32_t attributes = plog__produce_peek_attributes(records);
  return (attributes & PLOG_ATTR_TRANSACTIONAL) && !(attributes & PLOG_ATTR_CONTROL);
}

static inline plog_bytes plog__produce_read_topic(plog_reader *r, int16_t version, const uint8_t **out_id) {
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  *out_id = NULL;
  if (version < PLOG_PRODUCE_TOPIC_ID_VERSION) return plog_read_string(r, flexible);
  *out_id = plog_read_raw(r, PLOG_TOPIC_ID_BYTES);
  return (plog_bytes){NULL, 0};
}

/* A count that may not be null. */
static inline int32_t plog__produce_read_count(plog_reader *r, bool flexible, size_t element_min_bytes) {
  int32_t count = plog_read_array(r, flexible, element_min_bytes);
  if (count < 0) plog_reader_fail(r, PLOG_E_MALFORMED);
  return PLOG_MAX(count, 0);
}

static inline int32_t plog__produce_read_topics_count(plog_reader *r, int16_t version) {
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  return plog__produce_read_count(r, flexible, version >= PLOG_PRODUCE_TOPIC_ID_VERSION ? 18 : flexible ? 3 : 6);
}

static inline int32_t plog__produce_read_entries_count(plog_reader *r, bool flexible) {
  return plog__produce_read_count(r, flexible, flexible ? 6 : 8);
}

#endif
