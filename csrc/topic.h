/*
 * topic.h: the table of hosted partitions: by topic name, by topic id, by number.
 *
 * The reactor (or, before it starts, whoever holds the engine) adds, removes and looks up without a lock; it changes the table
 * only under `lock`, so that another thread that holds the lock sees a partition and keeps it from being removed meanwhile.
 * `generation` changes with every addition and removal: a looked-up pointer is good for as long as it stands still.
 */
#ifndef PLOG_TOPIC_H
#define PLOG_TOPIC_H

#include <pthread.h>

#include "partition.h"
#include "topic_index.h"

typedef struct plog_topic plog_topic;
struct plog_topic {
  plog_topic_key key;
  plog_partition **partitions; /* by index; NULL where none is hosted */
  int32_t capacity;
  int32_t hosted;
  /* What clients have put in and been given. Written by the reactor alone. */
  _Atomic int64_t records_in, bytes_in, bytes_out;
  char name[];
};

typedef struct {
  plog_topic_index index;
  plog_partition **slots; /* by the low half of the number */
  uint32_t slots_capacity;
  uint32_t slots_used;
  uint32_t hosted; /* of them, those with a partition */
  int64_t serial;
  int64_t generation;
  pthread_mutex_t lock;
} plog_topics;

void plog__topics_init(plog_topics *t, uint64_t hash_key);
void plog__topics_deinit(plog_topics *t); /* empty by then */
/*
 * Enter p under topic and index; gives p its number.
 * 0 | PLOG_INCONSISTENT_TOPIC_ID | PLOG_INVALID_TOPIC_EXCEPTION: name or index impossible, or hosted already | -ENOMEM
 */
int32_t plog__topics_add(plog_topics *t, const char *name, const uint8_t *id, int32_t index, plog_partition *p);
void plog__topics_remove(plog_topics *t, plog_partition *p);
plog_partition *plog__topics_by_number(const plog_topics *t, int64_t number);
const plog_topic *plog__topics_by_name(const plog_topics *t, const uint8_t *name, size_t name_bytes);
const plog_topic *plog__topics_by_id(const plog_topics *t, const uint8_t *id);
static inline plog_partition *plog__topic_partition(const plog_topic *topic, int32_t index) {
  return topic && index >= 0 && index < topic->capacity ? topic->partitions[index] : NULL;
}

#endif
