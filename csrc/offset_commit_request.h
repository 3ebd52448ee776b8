/*
 * offset_commit_request.h: how an OffsetCommit request and its answer are laid out, and which of them need nobody's thought.
 *
 * A walk over topics and partitions is made over bytes that plog__offset_commit_read found well formed.
 */
#ifndef PLOG_OFFSET_COMMIT_REQUEST_H
#define PLOG_OFFSET_COMMIT_REQUEST_H

#include "conn.h"
#include "members.h"
#include "topic_index.h"
#include "wire.h"

#define PLOG_API_OFFSET_COMMIT 8
#define PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION 8
#define PLOG_OFFSET_COMMIT_TOPIC_ID_VERSION 10

/* Its texts are borrowed from the frame. */
typedef struct {
  plog_heartbeat who;
  plog_reader topics; /* at the first of them */
  int32_t topics_count;
  int32_t entries_count; /* of all topics */
} plog_offset_commit;

typedef struct {
  const uint8_t *id; /* NULL: by name */
  plog_bytes name;
  int32_t entries_count;
} plog_offset_topic;

typedef struct {
  int32_t index;
  int64_t offset;
  int32_t leader_epoch;
  plog_bytes metadata; /* data NULL: null */
} plog_offset_entry;

/*
 * What a plain commit says: a version of today, no retention of its own, each topic and partition named once, metadata of at most
 * metadata_max_bytes of ASCII. False: it is something else, or does not decode.
 */
bool plog__offset_commit_read(const plog_frame *frame, int32_t metadata_max_bytes, plog_offset_commit *out);
void plog__offset_topic_read(plog_reader *r, int16_t version, plog_offset_topic *out);
void plog__offset_entry_read(plog_reader *r, int16_t version, plog_offset_entry *out);
/* Behind the last entry of a topic. */
static inline void plog__offset_topic_end(plog_reader *r, int16_t version) {
  if (version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION) plog_skip_tags(r);
}

/* An answer is no longer than the body of what it answers and so much. */
#define PLOG_OFFSET_ANSWER_EXTRA_BYTES 32
/* The whole answer, with its size, without errors. */
void plog__offset_answer_write(plog_writer *w, const plog_offset_commit *commit, const plog_frame *frame);
/* Put an error beside every partition of it. */
void plog__offset_answer_refuse(uint8_t *answer, uint32_t answer_bytes, int16_t version, int32_t error);

#endif
