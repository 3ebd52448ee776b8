/*
 * hash.h: a keyed hash of short byte strings, for tables whose keys clients may choose. The key is drawn at start, so that
 * nobody outside can prepare names that fall into one chain. Not for anything that is stored.
 */
#ifndef PLOG_HASH_H
#define PLOG_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t plog__hash_mix(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 wide;
  wide product = (wide)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t plog__hash(uint64_t key, const void *data, size_t size_bytes) {
  const uint64_t odd = 0x9e3779b97f4a7c15ull;
  const uint8_t *p = data;
  uint64_t h = key ^ (size_bytes * odd);
  uint64_t word;
  while (size_bytes >= 8) {
    memcpy(&word, p, 8);
    h = plog__hash_mix(h ^ word, key ^ odd);
    p += 8;
    size_bytes -= 8;
  }
  word = 0;
  memcpy(&word, p, size_bytes);
  h = plog__hash_mix(h ^ word, key ^ 0xd6e8feb86659fd93ull);
  return h ^ (h >> 29);
}

#endif
