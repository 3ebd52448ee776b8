/*
 * leaders.c: see leaders.h.
 */
#include "leaders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MAX 1000000 /* the array of a topic grows to its largest index */

static plog_led_topic *topic_of(plog_topic_key *key) {
  return key ? PLOG_CONTAINER_OF(key, plog_led_topic, key) : NULL;
}

void plog__leaders_init(plog_leaders *leaders, uint64_t hash_key) {
  plog__topic_index_init(&leaders->topics, hash_key);
}

static void forget(plog_leaders *leaders, plog_led_topic *topic) {
  plog__topic_index_remove(&leaders->topics, &topic->key);
  free(topic->partitions);
  free(topic);
}

void plog__leaders_deinit(plog_leaders *leaders) {
  for (uint32_t i = 0; i < leaders->topics.buckets; i++)
    while (leaders->topics.by_name[i]) forget(leaders, topic_of(leaders->topics.by_name[i]));
  plog__topic_index_deinit(&leaders->topics);
}

const plog_led_topic *plog__leaders_topic(const plog_leaders *leaders, const uint8_t *id, plog_bytes name) {
  return topic_of(id ? plog__topic_index_by_id(&leaders->topics, id)
                     : plog__topic_index_by_name(&leaders->topics, name.data, name.size_bytes));
}

/* ------------------------------------------------------------------------------------------------ publishing */

static plog_led_topic *add_topic(plog_leaders *leaders, const plog_topic_leaders *told, size_t name_bytes) {
  if (plog__topic_index_reserve(&leaders->topics)) return NULL;
  plog_led_topic *topic = calloc(1, sizeof *topic + name_bytes);
  if (!topic) return NULL;
  memcpy(topic->name, told->topic, name_bytes);
  plog__topic_key_init(&topic->key, topic->name, name_bytes, told->topic_id);
  plog__topic_index_add(&leaders->topics, &topic->key);
  return topic;
}

static int32_t reserve(plog_led_topic *topic, int32_t capacity) {
  plog_assert(topic->capacity >= 0);
  if (capacity <= topic->capacity) return 0;
  plog_leader *partitions = realloc(topic->partitions, (size_t)capacity * sizeof *partitions);
  if (!partitions) return -ENOMEM;
  for (int32_t i = topic->capacity; i < capacity; i++) partitions[i] = (plog_leader){-1, PLOG_NO_PARTITION};
  topic->partitions = partitions;
  topic->capacity = capacity;
  return 0;
}

static int32_t check(const plog_topic_leaders *told, size_t name_bytes, int32_t *out_capacity) {
  if (name_bytes == 0 || name_bytes > PLOG_TOPIC_NAME_MAX) return PLOG_INVALID_TOPIC_EXCEPTION;
  *out_capacity = 0;
  for (int32_t i = 0; i < told->count; i++) {
    int32_t index = told->indexes[i];
    if (index < 0 || index >= INDEX_MAX) return PLOG_INVALID_TOPIC_EXCEPTION;
    *out_capacity = PLOG_MAX(*out_capacity, index + 1);
  }
  return 0;
}

static void set(plog_led_topic *topic, int32_t index, plog_leader leader) {
  plog_leader *at = &topic->partitions[index];
  topic->count += (leader.leader_epoch != PLOG_NO_PARTITION) - (at->leader_epoch != PLOG_NO_PARTITION);
  *at = leader;
}

int32_t plog__leaders_publish(plog_leaders *leaders, const plog_topic_leaders *told) {
  size_t name_bytes = strlen(told->topic);
  int32_t capacity;
  int32_t rc = check(told, name_bytes, &capacity);
  if (rc) return rc;
  plog_led_topic *topic = topic_of(plog__topic_index_by_name(&leaders->topics, (const uint8_t *)told->topic, name_bytes));
  bool is_other = topic && memcmp(topic->key.id, told->topic_id, PLOG_TOPIC_ID_BYTES) != 0;
  if (is_other || (topic && told->count == 0)) {
    forget(leaders, topic);
    topic = NULL;
  }
  if (told->count == 0) return 0;
  /* an id that changes hands took its old name along */
  plog_led_topic *namesake = topic ? NULL : topic_of(plog__topic_index_by_id(&leaders->topics, told->topic_id));
  if (namesake) forget(leaders, namesake);
  if (!topic) topic = add_topic(leaders, told, name_bytes);
  if (!topic) return -ENOMEM;
  topic->internal = told->internal != 0;
  rc = reserve(topic, capacity);
  for (int32_t i = 0; i < told->count && rc == 0; i++) set(topic, told->indexes[i], told->leaders[i]);
  if (topic->count == 0) forget(leaders, topic);
  return rc;
}
