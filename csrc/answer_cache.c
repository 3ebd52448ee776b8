/*
 * answer_cache.c: see answer_cache.h.
 */
#include "answer_cache.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define KEY_HEAD_BYTES (3 * 4 + PLOG_ADDRESS_BYTES)
#define BUCKETS_MIN 64

struct plog_cached_answer {
  plog_cached_answer *next; /* in its bucket */
  plog_link used;
  uint64_t hash;
  uint32_t body_bytes;
  uint32_t answer_bytes;
  uint8_t bytes[]; /* head of the key, body, answer */
};

void plog__answer_cache_init(plog_answer_cache *c, int64_t limit_bytes, uint64_t hash_key) {
  memset(c, 0, sizeof *c);
  plog_list_init(&c->used);
  c->limit_bytes = limit_bytes;
  c->hash_key = hash_key;
  atomic_init(&c->generation, 1);
  c->filled_generation = 1;
}

static size_t size_of(const plog_cached_answer *a) {
  return sizeof *a + KEY_HEAD_BYTES + a->body_bytes + a->answer_bytes;
}

static void forget(plog_answer_cache *c, plog_cached_answer *a) {
  plog_cached_answer **at = &c->buckets[a->hash & (c->bucket_count - 1)];
  while (*at != a) at = &(*at)->next;
  *at = a->next;
  plog_list_remove(&a->used);
  plog_assert(c->used.next != &a->used && c->used.prev != &a->used);
  c->held_bytes -= (int64_t)size_of(a);
  c->count--;
  free(a);
}

static void forget_oldest(plog_answer_cache *c) {
  forget(c, PLOG_CONTAINER_OF(c->used.next, plog_cached_answer, used));
}

static void forget_all(plog_answer_cache *c) {
  while (c->count > 0) forget_oldest(c);
}

void plog__answer_cache_deinit(plog_answer_cache *c) {
  forget_all(c);
  free(c->buckets);
}

void plog__answer_cache_invalidate(plog_answer_cache *c) {
  (void)atomic_fetch_add(&c->generation, 1);
}

/* What was kept under an older generation goes before anybody looks. */
static int64_t refresh(plog_answer_cache *c) {
  int64_t generation = plog__answer_cache_generation(c);
  if (generation != c->filled_generation) {
    forget_all(c);
    c->filled_generation = generation;
  }
  return generation;
}

static void write_head(uint8_t *head, const plog_question *q) {
  memcpy(head, &q->api_key, 4);
  memcpy(head + 4, &q->api_version, 4);
  memcpy(head + 8, &q->listener_id, 4);
  memcpy(head + 12, q->local_address, PLOG_ADDRESS_BYTES);
}

static uint64_t hash_question(const plog_answer_cache *c, const uint8_t *head, const plog_question *q) {
  return plog__hash(plog__hash(c->hash_key, head, KEY_HEAD_BYTES), q->body, q->body_bytes);
}

static plog_cached_answer *lookup(const plog_answer_cache *c, const uint8_t *head, uint64_t hash, const plog_question *q) {
  if (!c->bucket_count) return NULL;
  for (plog_cached_answer *a = c->buckets[hash & (c->bucket_count - 1)]; a; a = a->next) {
    if (a->hash != hash || a->body_bytes != q->body_bytes || memcmp(a->bytes, head, KEY_HEAD_BYTES) != 0) continue;
    if (q->body_bytes == 0 || memcmp(a->bytes + KEY_HEAD_BYTES, q->body, q->body_bytes) == 0) return a;
  }
  return NULL;
}

const uint8_t *plog__answer_cache_find(plog_answer_cache *c, const plog_question *q, uint32_t *out_bytes) {
  (void)refresh(c);
  if (!c->count) return NULL;
  uint8_t head[KEY_HEAD_BYTES];
  write_head(head, q);
  plog_cached_answer *a = lookup(c, head, hash_question(c, head, q), q);
  if (!a) return NULL;
  plog_list_remove(&a->used);
  plog_list_insert(&c->used, &a->used);
  *out_bytes = a->answer_bytes;
  return a->bytes + KEY_HEAD_BYTES + a->body_bytes;
}

static bool grow(plog_answer_cache *c) {
  if (c->count < c->bucket_count) return true;
  uint32_t count = c->bucket_count ? c->bucket_count * 2 : BUCKETS_MIN;
  plog_cached_answer **buckets = calloc(count, sizeof(plog_cached_answer *));
  if (!buckets) return c->bucket_count != 0;
  for (uint32_t i = 0; i < c->bucket_count; i++) {
    for (plog_cached_answer *a = c->buckets[i], *next; a; a = next) {
      next = a->next;
      a->next = buckets[a->hash & (count - 1)];
      buckets[a->hash & (count - 1)] = a;
    }
  }
  free(c->buckets);
  c->buckets = buckets;
  c->bucket_count = count;
  return true;
}

void plog__answer_cache_keep(plog_answer_cache *c, const plog_question *q, const uint8_t *answer, uint32_t answer_bytes,
                             int64_t generation) {
  if (refresh(c) != generation) return;
  int64_t size = (int64_t)(sizeof(plog_cached_answer) + KEY_HEAD_BYTES) + q->body_bytes + answer_bytes;
  if (size > c->limit_bytes || !grow(c)) return;
  uint8_t head[KEY_HEAD_BYTES];
  write_head(head, q);
  uint64_t hash = hash_question(c, head, q);
  plog_cached_answer *old = lookup(c, head, hash, q);
  if (old) forget(c, old);
  while (c->held_bytes + size > c->limit_bytes) forget_oldest(c);
  plog_cached_answer *a = malloc((size_t)size);
  if (!a) return;
  a->hash = hash;
  a->body_bytes = q->body_bytes;
  a->answer_bytes = answer_bytes;
  memcpy(a->bytes, head, KEY_HEAD_BYTES);
  if (q->body_bytes) memcpy(a->bytes + KEY_HEAD_BYTES, q->body, q->body_bytes);
  memcpy(a->bytes + KEY_HEAD_BYTES + q->body_bytes, answer, answer_bytes);
  a->next = c->buckets[hash & (c->bucket_count - 1)];
  c->buckets[hash & (c->bucket_count - 1)] = a;
  plog_list_init(&a->used);
  plog_list_insert(&c->used, &a->used);
  c->held_bytes += size;
  c->count++;
}
