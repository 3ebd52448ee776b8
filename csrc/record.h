/*
 * record.h: one record inside a batch, read from memory. Nothing is read beyond `end`, whatever the bytes say; what breaks the
 * format gives false. Inline, for these are the inner loops of accepting and of reading batches.
 */
#ifndef PLOG_RECORD_H
#define PLOG_RECORD_H

#include <stdbool.h>

#include "plog.h"
#include "wire.h"

/* A zig-zag varint at *p; false when it is too long or cut. Nearly all are one or two bytes. */
static inline bool plog__take_varint(const uint8_t **p, const uint8_t *end, int32_t *out) {
  const uint8_t *at = *p;
  if (end - at >= 2) {
    uint32_t v = at[0];
    if (v < 0x80) {
      *out = plog_unzigzag32(v);
      *p = at + 1;
      return true;
    }
    if (at[1] < 0x80) {
      *out = plog_unzigzag32((v & 0x7f) | (uint32_t)at[1] << 7);
      *p = at + 2;
      return true;
    }
  }
  uint32_t v = 0;
  for (unsigned shift = 0; shift <= 28 && at < end; shift += 7) {
    uint8_t byte = *at++;
    v |= (uint32_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *out = plog_unzigzag32(v);
      *p = at;
      return true;
    }
  }
  return false;
}

static inline bool plog__take_varlong(const uint8_t **p, const uint8_t *end, int64_t *out) {
  const uint8_t *at = *p;
  uint64_t v = 0;
  for (unsigned shift = 0; shift <= 63 && at < end; shift += 7) {
    uint8_t byte = *at++;
    v |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *out = plog_unzigzag64(v);
      *p = at;
      return true;
    }
  }
  return false;
}

/* Bytes with their length in front; a negative length is null, of which *data is NULL and *size_bytes -1. */
static inline bool plog__take_bytes(const uint8_t **p, const uint8_t *end, const uint8_t **data, int32_t *size_bytes) {
  int32_t n;
  if (!plog__take_varint(p, end, &n)) return false;
  if (n < 0) {
    *data = NULL;
    *size_bytes = -1;
    return true;
  }
  if (n > end - *p) return false;
  *data = *p;
  *size_bytes = n;
  *p += n;
  return true;
}

static inline bool plog__skip_headers(const uint8_t **p, const uint8_t *end, int32_t count) {
  const uint8_t *data;
  int32_t size_bytes;
  for (; count > 0; count--) {
    if (!plog__take_bytes(p, end, &data, &size_bytes) || size_bytes < 0) return false;
    if (!plog__take_bytes(p, end, &data, &size_bytes)) return false;
  }
  return true;
}

/*
 * Copy a key or a value. Most are short, and a call to memcpy costs more than they do: here blocks are moved that overlap at
 * the end, so that nothing behind the field is read or written.
 */
static inline void plog__copy_field(uint8_t *to, const uint8_t *from, size_t size_bytes) {
  enum { BLOCK = 32, MOST = 256 };
  if (size_bytes - BLOCK <= MOST - BLOCK) {
    size_t last = size_bytes - BLOCK;
    for (size_t at = 0; at < last; at += BLOCK) memcpy(to + at, from + at, BLOCK);
    memcpy(to + last, from + last, BLOCK);
  } else if (size_bytes - BLOCK / 4 < BLOCK - BLOCK / 4) {
    size_t half = size_bytes >= BLOCK / 2 ? BLOCK / 2 : BLOCK / 4, last = size_bytes - half;
    if (half == BLOCK / 2) {
      memcpy(to, from, BLOCK / 2);
      memcpy(to + last, from + last, BLOCK / 2);
    } else {
      memcpy(to, from, BLOCK / 4);
      memcpy(to + last, from + last, BLOCK / 4);
    }
  } else if (size_bytes > 0) {
    memcpy(to, from, size_bytes);
  }
}

/* A varint of one or two bytes, both of which can be read. */
static inline bool plog__take_short(const uint8_t **at, uint32_t *out) {
  uint32_t v = *(*at)++;
  if (v >= 0x80) {
    uint32_t high = *(*at)++;
    if (high >= 0x80) return false;
    v = (v & 0x7f) | high << 7;
  }
  *out = v;
  return true;
}

/* What may lie in front of a key or a value with short lengths. */
#define PLOG_SHORT_FIELDS_BYTES 16

/*
 * The record at *p when it is as nearly all are: lengths, deltas and sizes of one or two bytes, no headers. A quarter of what
 * taking it field by field costs: bounds are compared where bytes are taken and where the record ends, not for each varint.
 * False, and nothing changed: it is of another kind, or breaks the format.
 */
static inline bool plog__take_plain_record(const uint8_t **p, const uint8_t *end, plog_record *out, int32_t *delta,
                                           int64_t *timestamp_delta) {
  const uint8_t *at = *p;
  uint32_t length, time, offset, key, value;
  if (end - at < PLOG_SHORT_FIELDS_BYTES) return false;
  if (!plog__take_short(&at, &length) || (length & 1) || (int64_t)(length >> 1) > end - at) return false;
  const uint8_t *stop = at + (length >> 1);
  at++; /* its attributes */
  if (!plog__take_short(&at, &time) || !plog__take_short(&at, &offset) || !plog__take_short(&at, &key)) return false;
  out->key = NULL;
  out->key_bytes = -1;
  if (!(key & 1)) {
    out->key = at;
    out->key_bytes = (int32_t)(key >> 1);
    if (stop - at < out->key_bytes + 2) return false;
    at += out->key_bytes;
  }
  if (!plog__take_short(&at, &value)) return false;
  bool null = value & 1;
  int32_t value_bytes = null ? 0 : (int32_t)(value >> 1);
  if (stop - at != value_bytes + 1 || at[value_bytes] != 0) return false; /* behind it no headers, and no more */
  out->value = null ? NULL : at;
  out->value_bytes = null ? -1 : value_bytes;
  out->headers = stop;
  out->headers_bytes = 0;
  out->headers_count = 0;
  *timestamp_delta = plog_unzigzag32(time);
  *delta = plog_unzigzag32(offset);
  *p = stop;
  return true;
}

/* The record at *p; *delta and *timestamp_delta are against the batch. False when it breaks the format. */
static inline bool plog__take_record(const uint8_t **p, const uint8_t *end, plog_record *out, int32_t *delta,
                                     int64_t *timestamp_delta) {
  if (plog__take_plain_record(p, end, out, delta, timestamp_delta)) return true;
  int32_t length;
  if (!plog__take_varint(p, end, &length) || length < 1 || length > end - *p) return false;
  const uint8_t *at = *p + 1, *stop = *p + length; /* the attributes of a record say nothing yet */
  if (!plog__take_varlong(&at, stop, timestamp_delta) || !plog__take_varint(&at, stop, delta)) return false;
  if (!plog__take_bytes(&at, stop, &out->key, &out->key_bytes) ||
      !plog__take_bytes(&at, stop, &out->value, &out->value_bytes))
    return false;
  if (!plog__take_varint(&at, stop, &out->headers_count) || out->headers_count < 0 || out->headers_count > stop - at)
    return false;
  out->headers = at;
  if (out->headers_count > 0 && !plog__skip_headers(&at, stop, out->headers_count)) return false;
  out->headers_bytes = (int32_t)(at - out->headers);
  *p = stop;
  return at == stop;
}

/* Sums of timestamps wrap as Java's do: what producers send is not ours to trust. */
static inline int64_t plog__add_wrapping(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t plog__record_timestamp(const plog_batch_header *header, int64_t delta) {
  return header->attributes & PLOG_ATTR_LOG_APPEND_TIME ? header->max_timestamp
                                                        : plog__add_wrapping(header->base_timestamp, delta);
}

#endif
