/*
 * topic_index.c: see topic_index.h.
 */
#include "topic_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

void plog__topic_index_init(plog_topic_index *index, uint64_t hash_key) {
  memset(index, 0, sizeof *index);
  index->hash_key = hash_key;
}

void plog__topic_index_deinit(plog_topic_index *index) {
  plog_assert(index->count == 0);
  free(index->by_name);
  free(index->by_id);
}

void plog__topic_key_init(plog_topic_key *key, const char *name, size_t name_bytes, const uint8_t *id) {
  static const uint8_t zero[PLOG_TOPIC_ID_BYTES];
  memset(key, 0, sizeof *key);
  memcpy(key->id, id, PLOG_TOPIC_ID_BYTES);
  key->has_id = memcmp(id, zero, PLOG_TOPIC_ID_BYTES) != 0;
  key->name = name;
  key->name_bytes = (uint32_t)name_bytes;
}

static uint32_t bucket_of(const plog_topic_index *index, const void *data, size_t size_bytes) {
  return (uint32_t)plog__hash(index->hash_key, data, size_bytes) & (index->buckets - 1);
}

plog_topic_key *plog__topic_index_by_name(const plog_topic_index *index, const uint8_t *name, size_t name_bytes) {
  if (!index->count) return NULL;
  plog_topic_key *key = index->by_name[bucket_of(index, name, name_bytes)];
  while (key && !(key->name_bytes == name_bytes && memcmp(key->name, name, name_bytes) == 0)) key = key->name_next;
  return key;
}

plog_topic_key *plog__topic_index_by_id(const plog_topic_index *index, const uint8_t *id) {
  if (!index->count) return NULL;
  plog_topic_key *key = index->by_id[bucket_of(index, id, PLOG_TOPIC_ID_BYTES)];
  while (key && memcmp(key->id, id, PLOG_TOPIC_ID_BYTES) != 0) key = key->id_next;
  return key;
}

/* ------------------------------------------------------------------------------------------------ changing it */

static void link_key(plog_topic_index *index, plog_topic_key *key) {
  plog_topic_key **head = &index->by_name[bucket_of(index, key->name, key->name_bytes)];
  key->name_next = *head;
  *head = key;
  if (!key->has_id) return;
  head = &index->by_id[bucket_of(index, key->id, PLOG_TOPIC_ID_BYTES)];
  key->id_next = *head;
  *head = key;
}

int32_t plog__topic_index_reserve(plog_topic_index *index) {
  if (index->count < index->buckets) return 0;
  uint32_t old = index->buckets;
  uint32_t buckets = old ? old * 2 : 64;
  plog_topic_key **by_name = calloc(buckets, sizeof(plog_topic_key *));
  plog_topic_key **by_id = calloc(buckets, sizeof(plog_topic_key *));
  if (!by_name || !by_id) {
    free(by_name);
    free(by_id);
    return -ENOMEM;
  }
  plog_topic_key **old_by_name = index->by_name;
  free(index->by_id);
  index->by_name = by_name;
  index->by_id = by_id;
  index->buckets = buckets;
  for (uint32_t i = 0; i < old; i++) {
    for (plog_topic_key *key = old_by_name[i], *next; key; key = next) {
      next = key->name_next;
      link_key(index, key);
    }
  }
  free(old_by_name);
  return 0;
}

void plog__topic_index_add(plog_topic_index *index, plog_topic_key *key) {
  plog_assert(index->count < index->buckets);
  link_key(index, key);
  index->count++;
}

void plog__topic_index_remove(plog_topic_index *index, plog_topic_key *key) {
  plog_topic_key **at = &index->by_name[bucket_of(index, key->name, key->name_bytes)];
  while (*at != key) at = &(*at)->name_next;
  *at = key->name_next;
  index->count--;
  if (!key->has_id) return;
  at = &index->by_id[bucket_of(index, key->id, PLOG_TOPIC_ID_BYTES)];
  while (*at != key) at = &(*at)->id_next;
  *at = key->id_next;
}
