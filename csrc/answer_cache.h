/*
 * answer_cache.h: answers of Python that hold for every client that sends the same bytes.
 *
 * An answer is found by API key, version, listener, the local address it arrived at, and the request's body, whole. What is in
 * the cache is true: plog__answer_cache_invalidate (any thread) raises the generation, and from that moment nothing older is
 * served or taken in. The bytes it holds are bounded; the least recently used make room.
 */
#ifndef PLOG_ANSWER_CACHE_H
#define PLOG_ANSWER_CACHE_H

#include <stdatomic.h>

#include "base.h"

#define PLOG_ADDRESS_BYTES 18 /* an IPv6 (or mapped IPv4) address and a port */

/* The address is borrowed, and so is the body. */
typedef struct {
  int32_t api_key;
  int32_t api_version;
  int32_t listener_id;
  const uint8_t *local_address; /* PLOG_ADDRESS_BYTES */
  const uint8_t *body;
  uint32_t body_bytes;
} plog_question;

typedef struct plog_cached_answer plog_cached_answer;

typedef struct {
  plog_cached_answer **buckets;
  uint32_t bucket_count; /* a power of two; 0: nothing was ever kept */
  plog_link used;        /* most recently used last */
  uint32_t count;
  int64_t held_bytes;
  int64_t limit_bytes;
  int64_t filled_generation; /* of what is held */
  uint64_t hash_key;
  _Atomic int64_t generation;
} plog_answer_cache;

void plog__answer_cache_init(plog_answer_cache *c, int64_t limit_bytes, uint64_t hash_key);
void plog__answer_cache_deinit(plog_answer_cache *c);
/* The answer from its correlation id on, borrowed until the next call; NULL when there is none. Reactor. */
const uint8_t *plog__answer_cache_find(plog_answer_cache *c, const plog_question *question, uint32_t *out_bytes);
/* Keep an answer that was made under `generation`, unless that is over or it is too large. Reactor. */
void plog__answer_cache_keep(plog_answer_cache *c, const plog_question *question, const uint8_t *answer,
                             uint32_t answer_bytes, int64_t generation);
void plog__answer_cache_invalidate(plog_answer_cache *c); /* any */
static inline int64_t plog__answer_cache_generation(const plog_answer_cache *c) {
  return atomic_load(&((plog_answer_cache *)c)->generation);
}

#endif
