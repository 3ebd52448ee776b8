/*
 * batch.h: record batch v2: what a leader must check of a client's batch, and the stamps it puts on it.
 *
 * Reading, walking and building batches is in plog.h. Here is the leader's side, used by produce.c and partition.c.
 */
#ifndef PLOG_BATCH_H
#define PLOG_BATCH_H

#include <stdbool.h>

#include "plog.h"

/* Where the fields of a v2 batch lie. */
enum {
  PLOG_BATCH_AT_BASE_OFFSET = 0,
  PLOG_BATCH_AT_LENGTH = 8,
  PLOG_BATCH_AT_LEADER_EPOCH = 12,
  PLOG_BATCH_AT_MAGIC = 16,
  PLOG_BATCH_AT_CRC = 17,
  PLOG_BATCH_AT_ATTRIBUTES = 21,
  PLOG_BATCH_AT_LAST_OFFSET_DELTA = 23,
  PLOG_BATCH_AT_BASE_TIMESTAMP = 27,
  PLOG_BATCH_AT_MAX_TIMESTAMP = 35,
  PLOG_BATCH_AT_PRODUCER_ID = 43,
  PLOG_BATCH_AT_PRODUCER_EPOCH = 51,
  PLOG_BATCH_AT_BASE_SEQUENCE = 53,
  PLOG_BATCH_AT_COUNT = 57,
};

/* What a leader asks of a client's batch (Kafka's LogValidator for magic 2). */
typedef struct {
  int32_t max_message_bytes; /* > this: PLOG_MESSAGE_TOO_LARGE */
  int32_t timestamp_type;    /* 0 CreateTime, 1 LogAppendTime */
  int64_t timestamp_before_max_ms;
  int64_t timestamp_after_max_ms;
  int32_t compression; /* -1 as sent, else store with this codec */
  int32_t compression_level;
  int32_t compacted;   /* keys needed */
  int32_t from_client; /* control batches refused, base offset must be 0 */
  int64_t now_ms;      /* wall clock, for timestamps */
} plog_batch_rules;

typedef struct {
  plog_batch_header header; /* after stamping */
  const uint8_t *data;      /* = in (stamped in place) or a recompressed batch owned by `rewritten` */
  size_t size_bytes;
  int64_t max_timestamp_offset;
  int32_t record_error_index; /* first bad record, -1 none */
  uint8_t *rewritten;         /* NULL, or what the caller frees after the write */
} plog_batch_accepted;

/*
 * Validate exactly one batch in data[0..size) with every check Kafka makes (size, magic, CRC, attributes, counts, offsets
 * 0..n-1 with base offset 0, timestamps, keys when compacted, sequence sanity; compressed ones are decompressed and walked),
 * stamp base_offset, leader_epoch and, for LogAppendTime, the timestamp in place (CRC renewed only when needed).
 * Bytes behind the batch that are no whole batch are left out, as Kafka does. Offsets inside a batch that do not count up
 * from 0 are put right by rewriting it (Kafka stores them as they are when nothing is compressed, else answers -1).
 *   out      written on success; on failure only record_error_index is
 *   returns  0 | PLOG_INVALID_RECORD, PLOG_CORRUPT_MESSAGE, PLOG_INVALID_TIMESTAMP, PLOG_MESSAGE_TOO_LARGE as Kafka answers |
 *            PLOG_E_UNKNOWN_CODEC, PLOG_E_UNREADABLE: the caller answers Kafka's -1 | PLOG_E_CODEC_MISSING | -ENOMEM.
 *            UNSUPPORTED_COMPRESSION_TYPE for zstd in old Produce versions is the caller's.
 */
int32_t plog__batch_accept(const plog_batch_rules *rules, uint8_t *data, size_t size_bytes, int64_t base_offset,
                           int32_t leader_epoch, plog_batch_accepted *out);

/* The header at data, of which PLOG_BATCH_OVERHEAD bytes must be there; checks nothing. */
void plog__batch_parse(const uint8_t *data, plog_batch_header *out);
/* The CRC over a whole batch is what its header says. */
bool plog__batch_crc_ok(const uint8_t *data, const plog_batch_header *header);
/* Put a base offset and a leader epoch on a batch; the CRC does not cover them. */
void plog__batch_stamp(uint8_t *data, int64_t base_offset, int32_t leader_epoch);

static inline int64_t plog__batch_last_offset(const plog_batch_header *header) {
  return header->base_offset + header->last_offset_delta;
}

/*
 * Add `count` records with no key, no headers, one timestamp and values of one size that lie behind one another: what as many
 * calls of plog_batch_builder_add make, at a third of the cost.
 *   returns  0 | PLOG_MESSAGE_TOO_LARGE | -ENOMEM
 */
int32_t plog__batch_builder_add_alike(plog_batch_builder *b, int64_t timestamp, const uint8_t *values, int32_t value_bytes,
                                      int32_t count);

/* What a control batch of a transaction says. PLOG_E_NOT_FOUND: it is empty, or no transaction marker. */
typedef struct {
  bool abort;
  int32_t coordinator_epoch;
  int64_t timestamp;
} plog_marker;

int32_t plog__batch_marker(const uint8_t *data, size_t size_bytes, const plog_batch_header *header, plog_marker *out);

/* Decompress the records of a batch into a buffer that follows what really comes out, at most max_bytes
   (PLOG_E_BUFFER_TOO_SMALL beyond). Free *out. */
int32_t plog__batch_decompress(const uint8_t *data, const plog_batch_header *header, size_t max_bytes, uint8_t **out,
                               size_t *out_bytes);

/*
 * Called for each record of a batch, decompressed if need be; what it gets is valid during the call. Not 0 ends the walk, and
 * the walk returns it. The records are bounded by the memory they need: one growing buffer of what really comes out of the
 * codec, at most max_bytes (PLOG_E_BUFFER_TOO_SMALL beyond).
 */
typedef int32_t plog_record_fn(void *context, int32_t index, const plog_record *record);
int32_t plog__batch_each(const uint8_t *data, const plog_batch_header *header, size_t max_bytes, plog_record_fn *fn,
                         void *context);

#endif
