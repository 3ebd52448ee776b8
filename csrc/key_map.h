/*
 * key_map.h: at which offset each key of a log was last written, in a table of fixed size.
 *
 * What stays true:
 *   - a key is known by 128 bits of SipHash-2-4 under a secret that is drawn for each map. Records are dropped on the word of
 *     this hash, so it must not be possible to prepare two keys that share it; with a secret, whoever chooses the keys cannot;
 *   - the table never grows: at max_keys different keys it is full, and the caller goes on from there in its next pass;
 *   - an entry takes PLOG_KEY_ENTRY_BYTES, of which the bound of a table's memory is a multiple.
 * One thread at a time.
 */
#ifndef PLOG_KEY_MAP_H
#define PLOG_KEY_MAP_H

#include <stdbool.h>

#include "plog.h"

typedef struct {
  uint64_t low, high;
} plog_key_hash;

plog_key_hash plog__key_hash(const plog_key_map *map, const uint8_t *key, size_t size_bytes);
/* The table will soon be asked about this key: its memory is far away. */
void plog__key_map_prefetch(const plog_key_map *map, plog_key_hash hash);
/* No further key fits. */
bool plog__key_map_full(const plog_key_map *map);
/* The map is not full, or has the key. */
void plog__key_map_put(plog_key_map *map, plog_key_hash hash, int64_t offset);
/* -1: not there. */
int64_t plog__key_map_get(const plog_key_map *map, plog_key_hash hash);

#endif
