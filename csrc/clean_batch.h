/*
 * clean_batch.h: one record batch in compaction: its keys, and what is left of it.
 *
 * What stays true of a batch that is written anew: base offset, last offset, producer, sequence and leader epoch are what they
 * were, so that offsets and sequences show no more than a gap; records keep offset, timestamp and bytes; its codec is the one
 * it had. A batch of which all stays is copied byte for byte.
 */
#ifndef PLOG_CLEAN_BATCH_H
#define PLOG_CLEAN_BATCH_H

#include <stdbool.h>

#include "batch.h"
#include "key_map.h"
#include "wire.h"

/* A record of the batch at hand; pointers go into the batch, or into what it was decompressed to. */
typedef struct {
  const uint8_t *start; /* the whole record, its length included */
  const uint8_t *rest;  /* from its key's length on */
  const uint8_t *stop;
  int64_t timestamp_delta;
  int32_t offset_delta;
  bool has_key;
  bool has_value;
  plog_key_hash hash; /* of its key */
} plog_clean_record;

/* Room that is used for one batch after the other. */
typedef struct {
  plog_clean_record *records; /* of the batch at hand */
  int32_t records_count;
  int32_t records_capacity;
  plog_writer plain; /* records as they came out of a codec */
  plog_writer fresh; /* records that go into one */
} plog_batch_cleaner;

void plog__batch_cleaner_init(plog_batch_cleaner *c);
void plog__batch_cleaner_deinit(plog_batch_cleaner *c);

/* Find the records of a whole batch, hash their keys and warm the map for them. 0 | PLOG_INVALID_RECORD | PLOG_E_UNREADABLE |
   PLOG_E_CODEC_MISSING | -ENOMEM. data: borrowed until the next batch. */
int32_t plog__batch_cleaner_take(plog_batch_cleaner *c, const plog_key_map *map, const uint8_t *data,
                                 const plog_batch_header *header);

/* What is known about a batch before its records are looked at. */
typedef struct {
  bool discard;      /* none of its records stays */
  bool keep_empty;   /* its header stays, whatever becomes of its records */
  bool spent_marker; /* a marker nobody needs, which gets its delete horizon if it has none */
} plog_batch_fate;

/* What decides about records. */
typedef struct {
  const plog_key_map *map;
  int64_t map_end;             /* records from here on are not in the map, and stay */
  int64_t now_ms;              /* wall clock */
  int64_t delete_retention_ms; /* delete.retention.ms */
} plog_clean_rules;

/*
 * Append to out what is left of the batch that was taken. *kept_count: records that stay. *written: the header of what was
 * appended; its size_bytes is 0 when nothing is left. Errors as above, and -EINVAL when it became larger than a batch can be.
 */
int32_t plog__batch_cleaner_write(plog_batch_cleaner *c, const plog_clean_rules *rules, const plog_batch_fate *fate,
                                  const uint8_t *data, const plog_batch_header *header, plog_writer *out,
                                  int32_t *kept_count, plog_batch_header *written);

#endif
