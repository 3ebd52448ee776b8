#include "key_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base.h"
#include "sys.h"

typedef struct {
  plog_key_hash key;
  uint64_t after; /* offset + 1; 0: free */
} entry;

_Static_assert(sizeof(entry) == PLOG_KEY_ENTRY_BYTES, "the bound of memory counts in these");

struct plog_key_map {
  plog_sys *sys;
  entry *entries;
  uint64_t slots;
  int64_t count;
  int64_t max_keys;
  uint64_t secret[2];
};

int32_t plog_key_map_open(plog_sys *sys, int64_t slots, int64_t max_keys, const uint8_t *secret, plog_key_map **out) {
  if (max_keys < 1 || slots <= max_keys || slots > INT64_MAX / PLOG_KEY_ENTRY_BYTES) return -EINVAL;
  plog_key_map *map = calloc(1, sizeof *map);
  if (!map) return -ENOMEM;
  size_t size_bytes = (size_t)slots * sizeof(entry);
  void *entries;
  int32_t rc = plog__sys_mmap(sys, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &entries);
  if (rc != 0) {
    free(map);
    return rc;
  }
  /* looked up at random: with small pages, finding the page costs more than finding the key. A kernel without takes small ones. */
  (void)plog__sys_madvise(sys, entries, size_bytes, MADV_HUGEPAGE);
  map->sys = sys;
  map->entries = entries;
  map->slots = (uint64_t)slots;
  map->max_keys = max_keys;
  memcpy(map->secret, secret, sizeof map->secret);
  *out = map;
  return 0;
}

void plog_key_map_close(plog_key_map *map) {
  if (!map) return;
  (void)plog__sys_munmap(map->sys, map->entries, (size_t)map->slots * sizeof(entry));
  free(map);
}

int64_t plog_key_map_count(const plog_key_map *map) {
  return map->count;
}

/* ---------------------------------------------------------------------------------------------- hashing */

static inline uint64_t rotate(uint64_t v, unsigned bits) {
  return v << bits | v >> (64 - bits);
}

static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word) {
  v[3] ^= word;
  sip_round(v);
  sip_round(v);
  v[0] ^= word;
}

static inline uint64_t sip_finish(uint64_t v[4]) {
  for (int i = 0; i < 4; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

plog_key_hash plog__key_hash(const plog_key_map *map, const uint8_t *key, size_t size_bytes) {
  uint64_t v[4] = {map->secret[0] ^ 0x736f6d6570736575ull, map->secret[1] ^ 0x646f72616e646f6dull ^ 0xee,
                   map->secret[0] ^ 0x6c7967656e657261ull, map->secret[1] ^ 0x7465646279746573ull};
  uint64_t word, last = (uint64_t)size_bytes << 56;
  size_t left = size_bytes;
  for (; left >= 8; left -= 8, key += 8) {
    memcpy(&word, key, 8);
    sip_word(v, word);
  }
  for (size_t i = 0; i < left; i++) last |= (uint64_t)key[i] << (8 * i);
  sip_word(v, last);
  plog_key_hash hash;
  v[2] ^= 0xee;
  hash.low = sip_finish(v);
  v[1] ^= 0xdd;
  hash.high = sip_finish(v);
  return hash;
}

/* ---------------------------------------------------------------------------------------------- the table */

static inline uint64_t first_slot(const plog_key_map *map, plog_key_hash hash) {
  __extension__ typedef unsigned __int128 wide;
  return (uint64_t)((wide)hash.high * map->slots >> 64);
}

/* Where the key is, or would be. There is always a free slot. */
static inline entry *find(const plog_key_map *map, plog_key_hash hash) {
  uint64_t i = first_slot(map, hash);
  for (;;) {
    entry *e = &map->entries[i];
    if (e->after == 0 || (e->key.low == hash.low && e->key.high == hash.high)) return e;
    if (++i == map->slots) i = 0;
  }
}

void plog__key_map_prefetch(const plog_key_map *map, plog_key_hash hash) {
  __builtin_prefetch(&map->entries[first_slot(map, hash)], 1);
}

bool plog__key_map_full(const plog_key_map *map) {
  return map->count >= map->max_keys;
}

void plog__key_map_put(plog_key_map *map, plog_key_hash hash, int64_t offset) {
  entry *e = find(map, hash);
  if (e->after == 0) {
    plog_assert(map->count < map->max_keys);
    e->key = hash;
    map->count++;
  }
  e->after = (uint64_t)offset + 1;
}

int64_t plog__key_map_get(const plog_key_map *map, plog_key_hash hash) {
  return (int64_t)(find(map, hash)->after - 1);
}
