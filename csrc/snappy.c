#include "snappy.h"

#include <stdbool.h>
#include <string.h>

#include "base.h"
#include "plog.h"

/*
 * The format: the decoded size as a varint, then elements. The low two bits of an element's first byte say which kind:
 *   0 literal   length - 1 in the upper six bits, or 60..63: in the next 1..4 bytes; then the bytes
 *   1 copy      length 4..11, offset of 11 bits: 2 bytes
 *   2 copy      length 1..64, offset of 16 bits: 3 bytes
 *   3 copy      length 1..64, offset of 32 bits: 5 bytes
 */
enum { LITERAL = 0, COPY_11 = 1, COPY_16 = 2, COPY_32 = 3 };

/* No element makes more than 64 bytes of three. */
#define MAX_EXPANSION 22

/* Reads the size in front; *used is how many bytes it took. */
static int32_t read_size(const uint8_t *in, size_t in_bytes, size_t *size_bytes, size_t *used) {
  uint64_t v = 0;
  for (size_t i = 0; i < 5 && i < in_bytes; i++) {
    v |= (uint64_t)(in[i] & 0x7f) << (7 * i);
    if (in[i] & 0x80) continue;
    if (v > UINT32_MAX || v > (uint64_t)in_bytes * MAX_EXPANSION) return PLOG_CORRUPT_MESSAGE;
    *size_bytes = (size_t)v;
    *used = i + 1;
    return 0;
  }
  return PLOG_CORRUPT_MESSAGE;
}

int32_t plog__snappy_size(const uint8_t *in, size_t in_bytes, size_t *out_bytes) {
  size_t used;
  return read_size(in, in_bytes, out_bytes, &used);
}

static uint32_t get_le(const uint8_t *p, size_t size_bytes) {
  uint32_t v = 0;
  for (size_t i = 0; i < size_bytes; i++) v |= (uint32_t)p[i] << (8 * i);
  return v;
}

int32_t plog__snappy_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes) {
  size_t promised, used;
  if (read_size(in, in_bytes, &promised, &used) != 0 || promised != out_bytes) return PLOG_CORRUPT_MESSAGE;
  const uint8_t *p = in + used, *end = in + in_bytes;
  size_t done = 0;
  while (p < end) {
    uint8_t tag = *p++;
    size_t left = (size_t)(end - p), length, offset, extra;
    switch (tag & 3) {
    case LITERAL:
      length = (size_t)(tag >> 2) + 1;
      if (length > 60) {
        extra = length - 60;
        if (extra > left) return PLOG_CORRUPT_MESSAGE;
        length = (size_t)get_le(p, extra) + 1;
        p += extra;
        left -= extra;
      }
      if (length > left || length > out_bytes - done) return PLOG_CORRUPT_MESSAGE;
      if (length <= 16 && left >= 16 && out_bytes - done >= 16)
        memcpy(out + done, p, 16); /* short ones: one move, the surplus is written over later */
      else
        memcpy(out + done, p, length);
      p += length;
      done += length;
      continue;
    case COPY_11:
      if (left < 1) return PLOG_CORRUPT_MESSAGE;
      length = (size_t)(tag >> 2 & 7) + 4;
      offset = (size_t)(tag >> 5) << 8 | *p++;
      break;
    default:
      extra = (tag & 3) == COPY_16 ? 2 : 4;
      if (left < extra) return PLOG_CORRUPT_MESSAGE;
      length = (size_t)(tag >> 2) + 1;
      offset = get_le(p, extra);
      p += extra;
    }
    if (offset == 0 || offset > done || length > out_bytes - done) return PLOG_CORRUPT_MESSAGE;
    uint8_t *to = out + done;
    const uint8_t *from = to - offset;
    if (offset >= 16 && out_bytes - done >= 64) {
      for (size_t i = 0; i < length; i += 16) memcpy(to + i, from + i, 16);
    } else {
      for (size_t i = 0; i < length; i++) to[i] = from[i]; /* may overlap: that repeats a pattern */
    }
    done += length;
  }
  return done == out_bytes ? 0 : PLOG_CORRUPT_MESSAGE;
}

size_t plog__snappy_bound(size_t size_bytes) {
  return 32 + size_bytes + size_bytes / 6;
}

static uint8_t *put_literal(uint8_t *out, const uint8_t *from, size_t length) {
  if (length == 0) return out;
  size_t n = length - 1;
  if (n < 60) {
    *out++ = (uint8_t)(n << 2 | LITERAL);
  } else if (n < 256) {
    *out++ = 60 << 2 | LITERAL;
    *out++ = (uint8_t)n;
  } else {
    *out++ = 61 << 2 | LITERAL;
    *out++ = (uint8_t)n;
    *out++ = (uint8_t)(n >> 8);
  }
  memcpy(out, from, length);
  return out + length;
}

static uint8_t *put_copy(uint8_t *out, size_t offset, size_t length) {
  while (length > 0) {
    /* never leave a rest under 4, which the short form could not say */
    size_t n = length <= 64 ? length : length >= 68 ? 64 : 60;
    if (n >= 4 && n <= 11 && offset < 2048) {
      *out++ = (uint8_t)(offset >> 8 << 5 | (n - 4) << 2 | COPY_11);
      *out++ = (uint8_t)offset;
    } else {
      *out++ = (uint8_t)((n - 1) << 2 | COPY_16);
      *out++ = (uint8_t)offset;
      *out++ = (uint8_t)(offset >> 8);
    }
    length -= n;
  }
  return out;
}

static inline uint32_t load32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

enum { HASH_BITS = 13 };

static inline uint32_t hash(uint32_t v) {
  return v * 0x1e35a7bdu >> (32 - HASH_BITS);
}

size_t plog__snappy_encode(const uint8_t *in, size_t in_bytes, uint8_t *out) {
  plog_assert(in_bytes <= PLOG_SNAPPY_BLOCK_BYTES);
  uint8_t *start = out;
  size_t v = in_bytes;
  for (; v >= 0x80; v >>= 7) *out++ = (uint8_t)(v | 0x80);
  *out++ = (uint8_t)v;

  uint16_t last_seen[1 << HASH_BITS]; /* hash of four bytes -> where they were last */
  memset(last_seen, 0, sizeof last_seen);
  size_t at = 0, literal_from = 0;
  uint32_t misses = 32;
  while (at + 4 <= in_bytes) {
    uint32_t four = load32(in + at), slot = hash(four);
    size_t candidate = last_seen[slot];
    last_seen[slot] = (uint16_t)at;
    if (candidate >= at || load32(in + candidate) != four) {
      at += misses++ >> 5; /* what does not compress is passed over in growing steps */
      continue;
    }
    out = put_literal(out, in + literal_from, at - literal_from);
    size_t length = 4;
    while (at + length < in_bytes && in[candidate + length] == in[at + length]) length++;
    out = put_copy(out, at - candidate, length);
    at += length;
    literal_from = at;
    misses = 32;
    if (at >= 1 && at + 3 <= in_bytes) last_seen[hash(load32(in + at - 1))] = (uint16_t)(at - 1);
  }
  out = put_literal(out, in + literal_from, in_bytes - literal_from);
  return (size_t)(out - start);
}
