/*
 * topic.c: see topic.h.
 */
#include "topic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MAX 1000000 /* the array of a topic grows to its largest index */
#define SLOT_BITS 32

void plog__topics_init(plog_topics *t, uint64_t hash_key) {
  memset(t, 0, sizeof *t);
  plog__topic_index_init(&t->index, hash_key);
  t->generation = 1;
  plog_assert(pthread_mutex_init(&t->lock, NULL) == 0);
}

void plog__topics_deinit(plog_topics *t) {
  plog__topic_index_deinit(&t->index);
  free(t->slots);
  (void)pthread_mutex_destroy(&t->lock);
}

static plog_topic *topic_of(plog_topic_key *key) {
  return key ? PLOG_CONTAINER_OF(key, plog_topic, key) : NULL;
}

const plog_topic *plog__topics_by_name(const plog_topics *t, const uint8_t *name, size_t name_bytes) {
  return topic_of(plog__topic_index_by_name(&t->index, name, name_bytes));
}

const plog_topic *plog__topics_by_id(const plog_topics *t, const uint8_t *id) {
  return topic_of(plog__topic_index_by_id(&t->index, id));
}

plog_partition *plog__topics_by_number(const plog_topics *t, int64_t number) {
  uint32_t slot = (uint32_t)number;
  plog_partition *p = number >= 0 && slot < t->slots_used ? t->slots[slot] : NULL;
  return p && p->number == number ? p : NULL;
}

/* ------------------------------------------------------------------------------------------------ changing it */

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
  plog_topic *topic = calloc(1, sizeof *topic + name_bytes + 1);
  if (!topic) return NULL;
  memcpy(topic->name, name, name_bytes);
  plog__topic_key_init(&topic->key, topic->name, name_bytes, id);
  return topic;
}

static int32_t find_or_make(plog_topics *t, const char *name, const uint8_t *id, plog_topic **out, bool *out_made) {
  size_t name_bytes = strlen(name);
  if (name_bytes == 0 || name_bytes > PLOG_TOPIC_NAME_MAX) return PLOG_INVALID_TOPIC_EXCEPTION;
  plog_topic *known = topic_of(plog__topic_index_by_name(&t->index, (const uint8_t *)name, name_bytes));
  *out_made = !known;
  if (known) {
    *out = known;
    return memcmp(known->key.id, id, PLOG_TOPIC_ID_BYTES) == 0 ? 0 : PLOG_INCONSISTENT_TOPIC_ID;
  }
  plog_topic *topic = new_topic(name, name_bytes, id);
  if (!topic) return -ENOMEM;
  if (topic->key.has_id && plog__topics_by_id(t, id)) {
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
  int32_t rc = plog__topic_index_reserve(&t->index);
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
  if (made) plog__topic_index_add(&t->index, &topic->key);
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
    plog__topic_index_remove(&t->index, &topic->key);
    free(topic->partitions);
    free(topic);
  }
  p->topic = NULL;
  pthread_mutex_unlock(&t->lock);
}
