/*
 * leaders.h: who leads what in the whole cluster, hosted here or not, as the controller told it. Clients that ask for a partition
 * which is elsewhere hear that it is, and where (KIP-951).
 *
 * What stays true: a topic is here while it has partitions; of a topic that was deleted and made again under its name nothing
 * of the old one is left. A single node tells of nothing, since it hosts all there is. The owner's thread calls everything.
 */
#ifndef PLOG_LEADERS_H
#define PLOG_LEADERS_H

#include "plog.h"
#include "topic_index.h"
#include "wire.h"

#define PLOG_NO_PARTITION (-1) /* as a leader epoch */

typedef struct {
  plog_topic_key key;
  bool internal;
  int32_t count; /* of those that there are */
  int32_t capacity;
  plog_leader *partitions; /* by index; leader_epoch PLOG_NO_PARTITION: there is none */
  char name[];
} plog_led_topic;

typedef struct {
  plog_topic_index topics;
} plog_leaders;

void plog__leaders_init(plog_leaders *leaders, uint64_t hash_key);
void plog__leaders_deinit(plog_leaders *leaders);
/* Take up what is told of a topic: see plog_topic_leaders. 0 | PLOG_INVALID_TOPIC_EXCEPTION | -ENOMEM */
int32_t plog__leaders_publish(plog_leaders *leaders, const plog_topic_leaders *told);
/* By id unless that is NULL. NULL: there is no such topic. */
const plog_led_topic *plog__leaders_topic(const plog_leaders *leaders, const uint8_t *id, plog_bytes name);
/* NULL: there is no such partition. */
static inline const plog_leader *plog__led_partition(const plog_led_topic *topic, int32_t index) {
  if (!topic || index < 0 || index >= topic->capacity) return NULL;
  const plog_leader *leader = &topic->partitions[index];
  return leader->leader_epoch == PLOG_NO_PARTITION ? NULL : leader;
}

#endif
