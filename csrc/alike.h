/*
 * alike.h: records that follow one another and differ in nothing but the bytes of key and value, and the offset, which counts up:
 * what writers of values of one size make.
 *
 * What stays true: a record is taken for alike only when every byte of its own that says something is what it has to be. They are
 * compared a word at a time and not read field by field, so that where a record begins does not wait for the one before it.
 */
#ifndef PLOG_ALIKE_H
#define PLOG_ALIKE_H

#include "record.h"

typedef struct {
  uint64_t front,
      front_mask;        /* the bytes before the key, without attributes, which say nothing yet, and with offset delta 0 */
  unsigned offset_shift; /* where the offset delta is among them */
  uint32_t delta_max;    /* what an offset delta of as many bytes can be */
  uint16_t length, length_mask;
  int32_t length_at; /* of the value's length, */
  int32_t key_at, key_bytes, value_at, value_bytes;
  int32_t size_bytes;
} plog_alike;

/* The words that are compared reach so far behind a record, at most. */
#define PLOG_ALIKE_SLACK_BYTES 8

/* What records like this one are, which plog__take_plain_record has taken. False: its numbers are too long, or it has no value. */
static inline bool plog__alike_to(const uint8_t *record, const plog_record *taken, plog_alike *a) {
  if (!taken->value) return false;
  const uint8_t *at = record;
  uint32_t length, time, offset, key, value;
  if (!plog__take_short(&at, &length)) return false;
  const int32_t attributes_at = (int32_t)(at++ - record);
  if (!plog__take_short(&at, &time)) return false;
  const int32_t offset_at = (int32_t)(at - record);
  if (!plog__take_short(&at, &offset)) return false;
  const int32_t offset_bytes = (int32_t)(at - record) - offset_at;
  if (!plog__take_short(&at, &key)) return false;
  a->key_at = (int32_t)(at - record);
  if (a->key_at > (int32_t)sizeof a->front) return false;
  a->key_bytes = taken->key_bytes;
  at += PLOG_MAX(taken->key_bytes, 0);
  a->length_at = (int32_t)(at - record);
  if (!plog__take_short(&at, &value)) return false;
  a->value_at = (int32_t)(at - record);
  a->value_bytes = taken->value_bytes;
  a->size_bytes = a->value_at + a->value_bytes + 1;
  const uint64_t all = ~0ull;
  uint64_t offset_mask = (offset_bytes == 1 ? 0xffull : 0xffffull) << 8 * offset_at;
  a->front_mask = all >> 8 * ((int32_t)sizeof a->front - a->key_at) & ~(0xffull << 8 * attributes_at);
  a->front = plog_get_le64(record) & a->front_mask & ~offset_mask;
  if (offset_bytes == 2) a->front |= 0x80ull << 8 * offset_at;
  a->offset_shift = 8 * (unsigned)offset_at;
  a->delta_max = offset_bytes == 1 ? 0x3f : 0x1fff;
  a->length_mask = a->value_at - a->length_at == 1 ? 0xff : 0xffff;
  a->length = plog_get_le16(record + a->length_at) & a->length_mask;
  return true;
}

/* Whether the record at p is such a one, with this offset delta, of 0 to delta_max; behind it there is PLOG_ALIKE_SLACK_BYTES. */
static inline bool plog__is_alike(const plog_alike *a, const uint8_t *p, uint32_t delta) {
  uint64_t z = 2ull * delta, offset = a->delta_max > 0x3f ? (z & 0x7f) | (z >> 7) << 8 : z;
  return (plog_get_le64(p) & a->front_mask) == (a->front | offset << a->offset_shift) &&
         (plog_get_le16(p + a->length_at) & a->length_mask) == a->length && p[a->size_bytes - 1] == 0;
}

#endif
