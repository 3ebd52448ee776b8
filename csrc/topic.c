/*
 * topic.c: see topic.h.
 */
#include "topic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define INDEX_MAX 1000000 /* the array of a topic grows to its largest index */
#define SLOT_BITS 32

void plog__topics_init(plog_topics *t, uint64_t hash_key) {
  memset(t, 0, sizeof *t);
  t->hash_key = hash_key;
  t->generation = 1;
  plog_assert(pthread_mutex_init(&t->lock, NULL) == 0);
}

void plog__topics_deinit(plog_topics *t) {
  plog_assert(t->count == 0);
  free(t->by_name);
  free(t->by_id);
  free(t->slots);
  (void)pthread_mutex_destroy(&t->lock);
}

static uint32_t bucket_of(const plog_topics *t, const void *data, size_t size_bytes) {
  return (uint32_t)plog__hash(t->hash_key, data, size_bytes) & (t->buckets - 1);
}

const plog_topic *plog__topics_by_name(const plog_topics *t, const uint8_t *name, size_t name_bytes) {
  if (!t->count) return NULL;
  for (const plog_topic *topic = t->by_name[bucket_of(t, name, name_bytes)]; topic; topic = topic->name_next)
    if (topic->name_bytes == name_bytes && memcmp(topic->name, name, name_bytes) == 0) return topic;
  return NULL;
}

const plog_topic *plog__topics_by_id(const plog_topics *t, const uint8_t *id) {
  if (!t->count) return NULL;
  for (const plog_topic *topic = t->by_id[bucket_of(t, id, PLOG_TOPIC_ID_BYTES)]; topic; topic = topic->id_next)
    if (memcmp(topic->id, id, PLOG_TOPIC_ID_BYTES) == 0) return topic;
  return NULL;
}

plog_partition *plog__topics_by_number(const plog_topics *t, int64_t number) {
  uint32_t slot = (uint32_t)number;
  plog_partition *p = number >= 0 && slot < t->slots_used ? t->slots[slot] : NULL;
  return p && p->number == number ? p : NULL;
}

/* ------------------------------------------------------------------------------------------------ changing it */

static void link_topic(plog_topics *t, plog_topic *topic) {
  plog_topic **head = &t->by_name[bucket_of(t, topic->name, topic->name_bytes)];
  topic->name_next = *head;
  *head = topic;
  if (!topic->has_id) return;
  head = &t->by_id[bucket_of(t, topic->id, PLOG_TOPIC_ID_BYTES)];
  topic->id_next = *head;
  *head = topic;
}

static void unlink_topic(plog_topics *t, plog_topic *topic) {
  plog_topic **at = &t->by_name[bucket_of(t, topic->name, topic->name_bytes)];
  while (*at != topic) at = &(*at)->name_next;
  *at = topic->name_next;
  if (!topic->has_id) return;
  at = &t->by_id[bucket_of(t, topic->id, PLOG_TOPIC_ID_BYTES)];
  while (*at != topic) at = &(*at)->id_next;
  *at = topic->id_next;
}

static int32_t grow_buckets(plog_topics *t) {
  if (t->count < t->buckets) return 0;
  uint32_t old = t->buckets;
  uint32_t buckets = old ? old * 2 : 64;
  plog_topic **by_name = calloc(buckets, sizeof(plog_topic *));
  plog_topic **by_id = calloc(buckets, sizeof(plog_topic *));
  if (!by_name || !by_id) {
    free(by_name);
    free(by_id);
    return -ENOMEM;
  }
  plog_topic **old_by_name = t->by_name;
  free(t->by_id);
  t->by_name = by_name;
  t->by_id = by_id;
  t->buckets = buckets;
  for (uint32_t i = 0; i < old; i++) {
    for (plog_topic *topic = old_by_name[i], *next; topic; topic = next) {
      next = topic->name_next;
      link_topic(t, topic);
    }
  }
  free(old_by_name);
  return 0;
}

/* A slot that is free, grown if need be; -ENOMEM. */
static int64_t free_slot(plog_topics *t) {
  for (uint32_t i = 0; t->hosted < t->slots_used; i++)
    if (!t->slots[i]) return i;
  if (t->slots_used == t->slots_capacity) {
    uint32_t capacity = t->slots_capacity ? t->slots_capacity * 2 : 64;
    plog_partition **slots = realloc(t->slots, capacity * sizeof(plog_partition *));
    if (!slots) return -ENOMEM;
    t->slots = slots;
    t->slots_capacity = capacity;
  }
  t->slots[t->slots_used] = NULL;
  return t->slots_used++;
}

static int32_t reserve_index(plog_topic *topic, int32_t index) {
  if (index < topic->capacity) return 0;
  int32_t capacity = PLOG_MAX(index + 1, PLOG_MIN(topic->capacity * 2, INDEX_MAX));
  plog_partition **partitions = realloc(topic->partitions, (size_t)capacity * sizeof(plog_partition *));
  if (!partitions) return -ENOMEM;
  memset(partitions + topic->capacity, 0, (size_t)(capacity - topic->capacity) * sizeof(plog_partition *));
  topic->partitions = partitions;
  topic->capacity = capacity;
  return 0;
}

static plog_topic *new_topic(const char *name, size_t name_bytes, const uint8_t *id) {
  static const uint8_t zero[PLOG_TOPIC_ID_BYTES];
  plog_topic *topic = calloc(1, sizeof *topic + name_bytes + 1);
  if (!topic) return NULL;
  memcpy(topic->id, id, PLOG_TOPIC_ID_BYTES);
  topic->has_id = memcmp(id, zero, PLOG_TOPIC_ID_BYTES) != 0;
  topic->name_bytes = (uint32_t)name_bytes;
  memcpy(topic->name, name, name_bytes);
  return topic;
}

static int32_t find_or_make(plog_topics *t, const char *name, const uint8_t *id, plog_topic **out, bool *out_made) {
  size_t name_bytes = strlen(name);
  if (name_bytes == 0 || name_bytes > PLOG_TOPIC_NAME_MAX) return PLOG_INVALID_TOPIC_EXCEPTION;
  const plog_topic *known = plog__topics_by_name(t, (const uint8_t *)name, name_bytes);
  *out_made = !known;
  if (known) {
    *out = (plog_topic *)known;
    return memcmp(known->id, id, PLOG_TOPIC_ID_BYTES) == 0 ? 0 : PLOG_INCONSISTENT_TOPIC_ID;
  }
  plog_topic *topic = new_topic(name, name_bytes, id);
  if (!topic) return -ENOMEM;
  if (topic->has_id && plog__topics_by_id(t, id)) {
    free(topic);
    return PLOG_INCONSISTENT_TOPIC_ID;
  }
  *out = topic;
  return 0;
}

static int32_t add_locked(plog_topics *t, const char *name, const uint8_t *id, int32_t index, plog_partition *p) {
  if (index < 0 || index >= INDEX_MAX) return PLOG_INVALID_TOPIC_EXCEPTION;
  plog_topic *topic;
  bool made;
  int32_t rc = grow_buckets(t);
  if (rc == 0) rc = find_or_make(t, name, id, &topic, &made);
  if (rc) return rc;
  int64_t slot = -1;
  rc = reserve_index(topic, index);
  if (rc == 0 && topic->partitions[index]) rc = PLOG_INVALID_TOPIC_EXCEPTION;
  if (rc == 0 && (slot = free_slot(t)) < 0) rc = (int32_t)slot;
  if (rc) {
    if (made) {
      free(topic->partitions);
      free(topic);
    }
    return rc;
  }
  if (made) {
    link_topic(t, topic);
    t->count++;
  }
  topic->partitions[index] = p;
  topic->hosted++;
  p->topic = topic;
  p->index = index;
  p->number = ++t->serial << SLOT_BITS | slot;
  t->slots[slot] = p;
  t->hosted++;
  t->generation++;
  return 0;
}

int32_t plog__topics_add(plog_topics *t, const char *name, const uint8_t *id, int32_t index, plog_partition *p) {
  pthread_mutex_lock(&t->lock);
  int32_t rc = add_locked(t, name, id, index, p);
  pthread_mutex_unlock(&t->lock);
  return rc;
}

void plog__topics_remove(plog_topics *t, plog_partition *p) {
  pthread_mutex_lock(&t->lock);
  plog_topic *topic = p->topic;
  plog_assert(plog__topic_partition(topic, p->index) == p);
  topic->partitions[p->index] = NULL;
  t->slots[(uint32_t)p->number] = NULL;
  t->hosted--;
  t->generation++;
  if (--topic->hosted == 0) {
    unlink_topic(t, topic);
    t->count--;
    free(topic->partitions);
    free(topic);
  }
  p->topic = NULL;
  pthread_mutex_unlock(&t->lock);
}
