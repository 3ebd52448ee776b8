/*
 * wire.h: bounds-checked reader and writer of Kafka's encodings; the only file that knows byte order and varints.
 *
 * The reader is sticky: after one short or impossible read it gives zeros and remembers, so parse straight down and check
 * plog_reader_status() once. It never looks past its bytes, compares sizes with what is left (never sums of pointers), and a
 * count is held against the bytes left before anything is allocated for it. What it returns borrows from its bytes.
 * The writer is sticky too: when it cannot grow it drops what follows and remembers.
 */
#ifndef PLOG_WIRE_H
#define PLOG_WIRE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "plog.h"

/* ---------------------------------------------------------------------------------------------- integers in memory */

static inline uint16_t plog_get_u16(const uint8_t *p) {
  return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}
static inline uint32_t plog_get_u32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap32(v);
#endif
  return v;
}
/* The other way round: what is at p[0] is the lowest byte. */
static inline uint16_t plog_get_le16(const uint8_t *p) {
  return (uint16_t)((uint16_t)p[1] << 8 | p[0]);
}
static inline uint64_t plog_get_le64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  return v;
}
static inline uint64_t plog_get_u64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  return v;
}
static inline int16_t plog_get_i16(const uint8_t *p) {
  return (int16_t)plog_get_u16(p);
}
static inline int32_t plog_get_i32(const uint8_t *p) {
  return (int32_t)plog_get_u32(p);
}
static inline int64_t plog_get_i64(const uint8_t *p) {
  return (int64_t)plog_get_u64(p);
}
static inline void plog_put_u16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}
static inline void plog_put_u32(uint8_t *p, uint32_t v) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap32(v);
#endif
  memcpy(p, &v, sizeof v);
}
static inline void plog_put_u64(uint8_t *p, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  memcpy(p, &v, sizeof v);
}
static inline void plog_put_i16(uint8_t *p, int16_t v) {
  plog_put_u16(p, (uint16_t)v);
}
static inline void plog_put_i32(uint8_t *p, int32_t v) {
  plog_put_u32(p, (uint32_t)v);
}
static inline void plog_put_i64(uint8_t *p, int64_t v) {
  plog_put_u64(p, (uint64_t)v);
}

static inline int32_t plog_unzigzag32(uint32_t v) {
  return (int32_t)(v >> 1 ^ (0u - (v & 1u)));
}
static inline int64_t plog_unzigzag64(uint64_t v) {
  return (int64_t)(v >> 1 ^ (0ull - (v & 1ull)));
}
static inline uint32_t plog_zigzag32(int32_t v) {
  return (uint32_t)v << 1 ^ (v < 0 ? 0xffffffffu : 0u);
}
static inline uint64_t plog_zigzag64(int64_t v) {
  return (uint64_t)v << 1 ^ (v < 0 ? 0xffffffffffffffffull : 0ull);
}

/* ---------------------------------------------------------------------------------------------- the reader */

typedef struct {
  const uint8_t *at;
  size_t left;
  int32_t status; /* 0, PLOG_E_SHORT or PLOG_E_MALFORMED; the first that happened */
} plog_reader;

static inline void plog_reader_init(plog_reader *r, const uint8_t *data, size_t size_bytes) {
  r->at = data;
  r->left = size_bytes;
  r->status = 0;
}
static inline int32_t plog_reader_status(const plog_reader *r) {
  return r->status;
}
/* Give up: from here on everything reads as zero. */
static inline void plog_reader_fail(plog_reader *r, int32_t status) {
  if (r->status == 0) r->status = status;
  r->left = 0;
}
/* The next size_bytes bytes, or NULL when there are not so many. */
static inline const uint8_t *plog_read_raw(plog_reader *r, size_t size_bytes) {
  if (size_bytes > r->left) {
    plog_reader_fail(r, PLOG_E_SHORT);
    return NULL;
  }
  const uint8_t *p = r->at;
  r->at += size_bytes;
  r->left -= size_bytes;
  return p;
}
static inline int8_t plog_read_i8(plog_reader *r) {
  const uint8_t *p = plog_read_raw(r, 1);
  return p ? (int8_t)*p : 0;
}
static inline bool plog_read_bool(plog_reader *r) {
  return plog_read_i8(r) != 0;
}
static inline int16_t plog_read_i16(plog_reader *r) {
  const uint8_t *p = plog_read_raw(r, 2);
  return p ? plog_get_i16(p) : 0;
}
static inline uint16_t plog_read_u16(plog_reader *r) {
  return (uint16_t)plog_read_i16(r);
}
static inline int32_t plog_read_i32(plog_reader *r) {
  const uint8_t *p = plog_read_raw(r, 4);
  return p ? plog_get_i32(p) : 0;
}
static inline uint32_t plog_read_u32(plog_reader *r) {
  return (uint32_t)plog_read_i32(r);
}
static inline int64_t plog_read_i64(plog_reader *r) {
  const uint8_t *p = plog_read_raw(r, 8);
  return p ? plog_get_i64(p) : 0;
}
/* An unsigned varint of at most 5 bytes whose value fits 32 bits. */
static inline uint32_t plog_read_uvarint(plog_reader *r) {
  uint32_t v = 0;
  for (unsigned shift = 0; shift <= 28; shift += 7) {
    const uint8_t *p = plog_read_raw(r, 1);
    if (!p) return 0;
    if (shift == 28 && *p > 0x0f) break;
    v |= (uint32_t)(*p & 0x7f) << shift;
    if (!(*p & 0x80)) return v;
  }
  plog_reader_fail(r, PLOG_E_MALFORMED);
  return 0;
}
static inline uint64_t plog_read_uvarlong(plog_reader *r) {
  uint64_t v = 0;
  for (unsigned shift = 0; shift <= 63; shift += 7) {
    const uint8_t *p = plog_read_raw(r, 1);
    if (!p) return 0;
    if (shift == 63 && *p > 0x01) break;
    v |= (uint64_t)(*p & 0x7f) << shift;
    if (!(*p & 0x80)) return v;
  }
  plog_reader_fail(r, PLOG_E_MALFORMED);
  return 0;
}
/* Zig-zag, as in records. */
static inline int32_t plog_read_varint(plog_reader *r) {
  return plog_unzigzag32(plog_read_uvarint(r));
}
static inline int64_t plog_read_varlong(plog_reader *r) {
  return plog_unzigzag64(plog_read_uvarlong(r));
}

/* Bytes or text with their length; data is NULL and size_bytes 0 for null. Not terminated. */
typedef struct {
  const uint8_t *data;
  size_t size_bytes;
} plog_bytes;

static inline plog_bytes plog__read_sized(plog_reader *r, int64_t size_bytes, bool nullable) {
  plog_bytes b = {NULL, 0};
  if (size_bytes < 0) {
    if (size_bytes != -1 || !nullable) plog_reader_fail(r, PLOG_E_MALFORMED);
    return b;
  }
  b.data = plog_read_raw(r, (size_t)size_bytes);
  if (b.data) b.size_bytes = (size_t)size_bytes;
  return b;
}
/* Strings: a length of 16 bits, or with flexible a compact one (unsigned varint of length + 1). */
static inline plog_bytes plog_read_string(plog_reader *r, bool flexible) {
  return plog__read_sized(r, flexible ? (int64_t)plog_read_uvarint(r) - 1 : plog_read_i16(r), false);
}
static inline plog_bytes plog_read_nullable_string(plog_reader *r, bool flexible) {
  return plog__read_sized(r, flexible ? (int64_t)plog_read_uvarint(r) - 1 : plog_read_i16(r), true);
}
/* Bytes: a length of 32 bits, or a compact one. */
static inline plog_bytes plog_read_bytes(plog_reader *r, bool flexible) {
  return plog__read_sized(r, flexible ? (int64_t)plog_read_uvarint(r) - 1 : plog_read_i32(r), false);
}
static inline plog_bytes plog_read_nullable_bytes(plog_reader *r, bool flexible) {
  return plog__read_sized(r, flexible ? (int64_t)plog_read_uvarint(r) - 1 : plog_read_i32(r), true);
}
/*
 * The count of an array whose elements take at least element_min_bytes each (≥ 1); -1 for null. A count that the bytes left
 * cannot hold fails the reader before anybody allocates for it.
 */
static inline int32_t plog_read_array(plog_reader *r, bool flexible, size_t element_min_bytes) {
  int64_t count = flexible ? (int64_t)plog_read_uvarint(r) - 1 : plog_read_i32(r);
  if (r->status) return 0;
  if (count < -1) {
    plog_reader_fail(r, PLOG_E_MALFORMED);
    return 0;
  }
  if (count > 0 && (uint64_t)count > r->left / element_min_bytes) {
    plog_reader_fail(r, PLOG_E_SHORT);
    return 0;
  }
  return (int32_t)count;
}
/* Skip a section of tagged fields. */
static inline void plog_skip_tags(plog_reader *r) {
  uint32_t count = plog_read_uvarint(r);
  while (count-- > 0 && r->status == 0) {
    (void)plog_read_uvarint(r);
    (void)plog_read_raw(r, plog_read_uvarint(r));
  }
}

/* ---------------------------------------------------------------------------------------------- the writer */

/* Writes into a buffer of its own that grows (plog_writer_init), or into the caller's (plog_writer_fixed). */
typedef struct {
  uint8_t *data;
  size_t size_bytes;
  size_t capacity_bytes;
  bool fixed;
  int32_t status; /* 0, -ENOMEM or PLOG_E_BUFFER_TOO_SMALL */
} plog_writer;

static inline void plog_writer_init(plog_writer *w) {
  memset(w, 0, sizeof *w);
}
static inline void plog_writer_fixed(plog_writer *w, uint8_t *data, size_t capacity_bytes) {
  w->data = data;
  w->size_bytes = 0;
  w->capacity_bytes = capacity_bytes;
  w->fixed = true;
  w->status = 0;
}
static inline void plog_writer_deinit(plog_writer *w) {
  if (!w->fixed) free(w->data);
  memset(w, 0, sizeof *w);
}
/* Empty it, keeping its room. */
static inline void plog_writer_reset(plog_writer *w) {
  w->size_bytes = 0;
  w->status = 0;
}
static inline int32_t plog_writer_status(const plog_writer *w) {
  return w->status;
}
/* Room for size_bytes more bytes, which count as written: fill them, or NULL. Moves the buffer: earlier pointers are void. */
static inline uint8_t *plog_write_room(plog_writer *w, size_t size_bytes) {
  if (w->status) return NULL;
  if (size_bytes > w->capacity_bytes - w->size_bytes) {
    if (w->fixed) {
      w->status = PLOG_E_BUFFER_TOO_SMALL;
      return NULL;
    }
    size_t wanted = w->size_bytes + size_bytes;
    size_t capacity = PLOG_MAX(w->capacity_bytes * 2, (size_t)256);
    if (capacity < wanted) capacity = wanted;
    uint8_t *data = wanted < size_bytes ? NULL : realloc(w->data, capacity);
    if (!data) {
      w->status = -ENOMEM;
      return NULL;
    }
    w->data = data;
    w->capacity_bytes = capacity;
  }
  uint8_t *p = w->data + w->size_bytes;
  w->size_bytes += size_bytes;
  return p;
}
static inline void plog_write_raw(plog_writer *w, const void *data, size_t size_bytes) {
  uint8_t *p = plog_write_room(w, size_bytes);
  if (p && size_bytes) memcpy(p, data, size_bytes);
}
static inline void plog_write_i8(plog_writer *w, int8_t v) {
  uint8_t *p = plog_write_room(w, 1);
  if (p) *p = (uint8_t)v;
}
static inline void plog_write_i16(plog_writer *w, int16_t v) {
  uint8_t *p = plog_write_room(w, 2);
  if (p) plog_put_i16(p, v);
}
static inline void plog_write_i32(plog_writer *w, int32_t v) {
  uint8_t *p = plog_write_room(w, 4);
  if (p) plog_put_i32(p, v);
}
static inline void plog_write_u32(plog_writer *w, uint32_t v) {
  plog_write_i32(w, (int32_t)v);
}
static inline void plog_write_i64(plog_writer *w, int64_t v) {
  uint8_t *p = plog_write_room(w, 8);
  if (p) plog_put_i64(p, v);
}
static inline size_t plog_uvarint_size(uint64_t v) {
  size_t n = 1;
  while (v >= 0x80) {
    v >>= 7;
    n++;
  }
  return n;
}
static inline void plog_write_uvarlong(plog_writer *w, uint64_t v) {
  uint8_t *p = plog_write_room(w, plog_uvarint_size(v));
  if (!p) return;
  while (v >= 0x80) {
    *p++ = (uint8_t)(v | 0x80);
    v >>= 7;
  }
  *p = (uint8_t)v;
}
static inline void plog_write_uvarint(plog_writer *w, uint32_t v) {
  plog_write_uvarlong(w, v);
}
static inline void plog_write_varint(plog_writer *w, int32_t v) {
  plog_write_uvarlong(w, plog_zigzag32(v));
}
static inline void plog_write_varlong(plog_writer *w, int64_t v) {
  plog_write_uvarlong(w, plog_zigzag64(v));
}
/* data NULL writes null. */
static inline void plog_write_string(plog_writer *w, bool flexible, const void *data, size_t size_bytes) {
  if (flexible) {
    plog_write_uvarint(w, data ? (uint32_t)size_bytes + 1 : 0);
  } else {
    plog_assert(size_bytes <= INT16_MAX);
    plog_write_i16(w, data ? (int16_t)size_bytes : -1);
  }
  if (data) plog_write_raw(w, data, size_bytes);
}
static inline void plog_write_bytes(plog_writer *w, bool flexible, const void *data, size_t size_bytes) {
  if (flexible) {
    plog_write_uvarint(w, data ? (uint32_t)size_bytes + 1 : 0);
  } else {
    plog_assert(size_bytes <= INT32_MAX);
    plog_write_i32(w, data ? (int32_t)size_bytes : -1);
  }
  if (data) plog_write_raw(w, data, size_bytes);
}
/* The count of an array, -1 for null. */
static inline void plog_write_array(plog_writer *w, bool flexible, int32_t count) {
  if (flexible)
    plog_write_uvarint(w, (uint32_t)(count + 1));
  else
    plog_write_i32(w, count);
}
/* An empty section of tagged fields. */
static inline void plog_write_no_tags(plog_writer *w) {
  plog_write_i8(w, 0);
}

#endif
