/*
 * topic_index.h: topics found by name and by id, whatever is kept of them: what hosts partitions (topic.h), who leads them
 * (leaders.h).
 *
 * What stays true: names differ, and so do ids; a topic whose id is all zeros has none, and is found by its name alone. A key is
 * part of what is kept, and owned by whoever keeps it. One writer; readers as the index's owner says.
 */
#ifndef PLOG_TOPIC_INDEX_H
#define PLOG_TOPIC_INDEX_H

#include "base.h"

#define PLOG_TOPIC_ID_BYTES 16
#define PLOG_TOPIC_NAME_MAX 249

typedef struct plog_topic_key plog_topic_key;
struct plog_topic_key {
  plog_topic_key *name_next;
  plog_topic_key *id_next;
  uint8_t id[PLOG_TOPIC_ID_BYTES];
  bool has_id;
  uint32_t name_bytes;
  const char *name; /* of what the key is part of; not terminated for the index */
};

typedef struct {
  plog_topic_key **by_name;
  plog_topic_key **by_id;
  uint32_t buckets; /* of each, a power of two */
  uint32_t count;
  uint64_t hash_key;
} plog_topic_index;

void plog__topic_index_init(plog_topic_index *index, uint64_t hash_key);
void plog__topic_index_deinit(plog_topic_index *index); /* empty by then */
/* name: borrowed as long as the key is. */
void plog__topic_key_init(plog_topic_key *key, const char *name, size_t name_bytes, const uint8_t *id);
/* Room for one more: the next plog__topic_index_add cannot fail. 0 | -ENOMEM */
int32_t plog__topic_index_reserve(plog_topic_index *index);
void plog__topic_index_add(plog_topic_index *index, plog_topic_key *key);
void plog__topic_index_remove(plog_topic_index *index, plog_topic_key *key);
plog_topic_key *plog__topic_index_by_name(const plog_topic_index *index, const uint8_t *name, size_t name_bytes);
plog_topic_key *plog__topic_index_by_id(const plog_topic_index *index, const uint8_t *id);

#endif
