/*
 * fetch_session.c: see fetch_session.h.
 */
#include "fetch_session.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define SEARCHED_ONE_BY_ONE 8
#define EVICTION_MS 120000
#define SET_BUCKETS_MAX (1u << 20)

/* ------------------------------------------------------------------------------------------------ topics */

plog_fetch_topic *plog__fetch_topic_open(const uint8_t *id, const uint8_t *name, size_t name_bytes) {
  plog_fetch_topic *topic = calloc(1, sizeof *topic + name_bytes);
  if (!topic) return NULL;
  topic->refs = 1;
  topic->by_id = id != NULL;
  if (id) memcpy(topic->id, id, PLOG_TOPIC_ID_BYTES);
  topic->name_bytes = (uint32_t)name_bytes;
  if (name_bytes) memcpy(topic->name, name, name_bytes);
  return topic;
}

void plog__fetch_topic_close(plog_fetch_topic *topic) {
  if (--topic->refs == 0) free(topic);
}

static bool same_topic(const plog_fetch_topic *a, const plog_fetch_topic *b) {
  if (a == b) return true;
  if (a->by_id != b->by_id || a->name_bytes != b->name_bytes) return false;
  return a->by_id ? memcmp(a->id, b->id, PLOG_TOPIC_ID_BYTES) == 0 : memcmp(a->name, b->name, a->name_bytes) == 0;
}

/* ------------------------------------------------------------------------------------------------ sets */

void plog__fetch_set_init(plog_fetch_set *set, uint64_t hash_key) {
  plog_list_init(&set->order);
  set->count = 0;
  set->bucket_count = 0;
  set->buckets = NULL;
  set->hash_key = hash_key;
}

static plog_fetch_partition **bucket_of(const plog_fetch_set *set, const plog_fetch_topic *topic, int32_t index) {
  uint64_t h = topic->by_id ? plog__hash(set->hash_key, topic->id, PLOG_TOPIC_ID_BYTES)
                            : plog__hash(set->hash_key, topic->name, topic->name_bytes);
  h = plog__hash_mix(h ^ (uint32_t)index, set->hash_key | 1);
  return &set->buckets[h & (set->bucket_count - 1)];
}

/* Grow the buckets; without memory the chains just get longer. */
static void grow(plog_fetch_set *set) {
  if (set->count < SEARCHED_ONE_BY_ONE || set->count < set->bucket_count || set->bucket_count >= SET_BUCKETS_MAX) return;
  uint32_t count = set->bucket_count ? set->bucket_count * 4 : 64;
  plog_fetch_partition **buckets = calloc(count, sizeof(plog_fetch_partition *));
  if (!buckets) return;
  free(set->buckets);
  set->buckets = buckets;
  set->bucket_count = count;
  for (plog_link *l = set->order.next; l != &set->order; l = l->next) {
    plog_fetch_partition *part = PLOG_CONTAINER_OF(l, plog_fetch_partition, order);
    plog_fetch_partition **bucket = bucket_of(set, part->topic, part->index);
    part->next = *bucket;
    *bucket = part;
  }
}

plog_fetch_partition *plog__fetch_set_find(const plog_fetch_set *set, const plog_fetch_topic *topic, int32_t index) {
  if (set->bucket_count) {
    plog_fetch_partition *part = *bucket_of(set, topic, index);
    while (part && !(part->index == index && same_topic(part->topic, topic))) part = part->next;
    return part;
  }
  for (plog_link *l = set->order.next; l != &set->order; l = l->next) {
    plog_fetch_partition *part = PLOG_CONTAINER_OF(l, plog_fetch_partition, order);
    if (part->index == index && same_topic(part->topic, topic)) return part;
  }
  return NULL;
}

/* Without a reader there is nothing to fire for: fetch.c gives the watch its function when it sets it. */
static void unset_fire(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)watch;
  (void)error;
  (void)now_ms;
}

plog_fetch_partition *plog__fetch_set_put(plog_fetch_set *set, plog_fetch_topic *topic, int32_t index) {
  plog_fetch_partition *part = plog__fetch_set_find(set, topic, index);
  if (part) return part;
  part = calloc(1, sizeof *part);
  if (!part) return NULL;
  grow(set);
  topic->refs++;
  part->topic = topic;
  part->index = index;
  part->told_high_watermark = -1;
  part->told_log_start = -1;
  plog__watch_init(&part->watch, unset_fire);
  plog_list_init(&part->order);
  plog_list_insert(&set->order, &part->order);
  set->count++;
  if (set->bucket_count) {
    plog_fetch_partition **bucket = bucket_of(set, topic, index);
    part->next = *bucket;
    *bucket = part;
  }
  return part;
}

void plog__fetch_read_clear(plog_fetch_read *read) {
  if (read->slice.segment) plog__slice_release(&read->slice);
  free(read->aborted);
  memset(read, 0, sizeof *read);
}

static void free_partition(plog_fetch_partition *part) {
  plog__watch_cancel(&part->watch);
  plog__fetch_read_clear(&part->read);
  plog__fetch_topic_close(part->topic);
  free(part);
}

void plog__fetch_set_remove(plog_fetch_set *set, plog_fetch_partition *part) {
  if (set->bucket_count) {
    plog_fetch_partition **at = bucket_of(set, part->topic, part->index);
    while (*at != part) at = &(*at)->next;
    *at = part->next;
  }
  plog_list_remove(&part->order);
  set->count--;
  free_partition(part);
}

void plog__fetch_set_move_last(plog_fetch_set *set, plog_fetch_partition *part) {
  plog_list_remove(&part->order);
  plog_list_insert(&set->order, &part->order);
}

void plog__fetch_set_deinit(plog_fetch_set *set) {
  while (!plog_list_empty(&set->order))
    free_partition(PLOG_CONTAINER_OF(plog_list_take(&set->order), plog_fetch_partition, order));
  free(set->buckets);
  plog__fetch_set_init(set, set->hash_key);
}

static void move_set(plog_fetch_set *to, plog_fetch_set *from) {
  *to = *from;
  if (plog_list_empty(&from->order)) {
    plog_list_init(&to->order);
  } else {
    to->order.next->prev = &to->order;
    to->order.prev->next = &to->order;
  }
  plog__fetch_set_init(from, from->hash_key);
}

/* ------------------------------------------------------------------------------------------------ sessions */

int32_t plog__fetch_sessions_init(plog_fetch_sessions *s, int32_t slots, uint64_t seed) {
  memset(s, 0, sizeof *s);
  plog_list_init(&s->used);
  atomic_init(&s->count, 0);
  s->slots = slots;
  s->random = seed | 1;
  return 0;
}

static int64_t count_of(const plog_fetch_sessions *s) {
  return atomic_load_explicit(&((plog_fetch_sessions *)s)->count, memory_order_relaxed);
}

void plog__fetch_session_hold(plog_fetch_session *session) {
  session->refs++;
}

void plog__fetch_session_release(plog_fetch_session *session) {
  if (--session->refs > 0) return;
  plog_assert(!session->cached);
  plog__fetch_set_deinit(&session->set);
  free(session);
}

plog_fetch_session *plog__fetch_sessions_find(const plog_fetch_sessions *s, int32_t id) {
  if (!s->bucket_count) return NULL;
  plog_fetch_session *session = s->buckets[(uint32_t)id & (s->bucket_count - 1)];
  while (session && session->id != id) session = session->next;
  return session;
}

void plog__fetch_sessions_remove(plog_fetch_sessions *s, plog_fetch_session *session) {
  if (!session->cached) return;
  plog_fetch_session **at = &s->buckets[(uint32_t)session->id & (s->bucket_count - 1)];
  while (*at != session) at = &(*at)->next;
  *at = session->next;
  plog_list_remove(&session->used);
  session->cached = false;
  atomic_store_explicit(&s->count, count_of(s) - 1, memory_order_relaxed);
  plog__fetch_session_release(session);
}

void plog__fetch_sessions_deinit(plog_fetch_sessions *s) {
  while (!plog_list_empty(&s->used))
    plog__fetch_sessions_remove(s, PLOG_CONTAINER_OF(s->used.next, plog_fetch_session, used));
  free(s->buckets);
}

/* Order among those that may be pushed out: consumers' before followers', small before large, older ids are no better. */
static int compare_worth(bool privileged, uint32_t count, const plog_fetch_session *other) {
  if (privileged != other->privileged) return privileged ? 1 : -1;
  if (count != other->cached_count) return count > other->cached_count ? 1 : -1;
  return 0;
}

/* The session a new one may push out; NULL: none. */
static plog_fetch_session *evictable(const plog_fetch_sessions *s, bool privileged, uint32_t count, int64_t now_ms) {
  if (plog_list_empty(&s->used)) return NULL;
  plog_fetch_session *oldest = PLOG_CONTAINER_OF(s->used.next, plog_fetch_session, used);
  if (now_ms - oldest->used_ms > EVICTION_MS) return oldest;
  plog_fetch_session *least = NULL;
  for (const plog_link *l = s->used.next; l != &s->used; l = l->next) {
    plog_fetch_session *session = PLOG_CONTAINER_OF(l, plog_fetch_session, used);
    bool settled = now_ms - session->created_ms > EVICTION_MS;
    if (!settled && !(privileged && !session->privileged)) continue;
    if (!least || compare_worth(session->privileged, session->cached_count, least) < 0) least = session;
  }
  return least && compare_worth(privileged, count, least) >= 0 ? least : NULL;
}

static int32_t new_id(plog_fetch_sessions *s) {
  for (;;) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    int32_t id = (int32_t)(s->random >> 33);
    if (id > PLOG_SESSION_NONE && !plog__fetch_sessions_find(s, id)) return id;
  }
}

static bool reserve_buckets(plog_fetch_sessions *s) {
  if (s->bucket_count) return true;
  uint32_t count = 64;
  while (count < (uint32_t)s->slots && count < 65536) count *= 2;
  s->buckets = calloc(count, sizeof(plog_fetch_session *));
  if (!s->buckets) return false;
  s->bucket_count = count;
  return true;
}

plog_fetch_session *plog__fetch_sessions_add(plog_fetch_sessions *s, plog_fetch_set *set, bool privileged, bool by_id,
                                             int64_t now_ms) {
  if (s->slots <= 0 || !reserve_buckets(s)) return NULL;
  if (count_of(s) >= s->slots) {
    plog_fetch_session *victim = evictable(s, privileged, set->count, now_ms);
    if (!victim) return NULL;
    plog__fetch_sessions_remove(s, victim);
  }
  plog_fetch_session *session = calloc(1, sizeof *session);
  if (!session) return NULL;
  session->id = new_id(s);
  session->epoch = PLOG_SESSION_EPOCH_FIRST + 1;
  session->refs = 1;
  session->cached = true;
  session->privileged = privileged;
  session->by_id = by_id;
  session->created_ms = now_ms;
  session->used_ms = now_ms;
  session->cached_count = set->count;
  move_set(&session->set, set);
  plog_list_init(&session->used);
  plog_list_insert(&s->used, &session->used);
  plog_fetch_session **bucket = &s->buckets[(uint32_t)session->id & (s->bucket_count - 1)];
  session->next = *bucket;
  *bucket = session;
  atomic_store_explicit(&s->count, count_of(s) + 1, memory_order_relaxed);
  return session;
}

void plog__fetch_sessions_touch(plog_fetch_sessions *s, plog_fetch_session *session, int64_t now_ms) {
  session->epoch = session->epoch == INT32_MAX ? 1 : session->epoch + 1;
  session->used_ms = now_ms;
  session->cached_count = session->set.count;
  plog_list_remove(&session->used);
  plog_list_insert(&s->used, &session->used);
}
