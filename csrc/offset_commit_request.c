/*
 * offset_commit_request.c: see offset_commit_request.h.
 */
#include "offset_commit_request.h"

#include <string.h>

enum {
  VERSION_MIN = 2,
  VERSION_MAX = 10,
  THROTTLE_TIME_SINCE = 3,
  RETENTION_UNTIL = 4,
  LEADER_EPOCH_SINCE = 6,
  INSTANCE_ID_SINCE = 7,
  TOPICS_MAX = 32,   /* each is compared with those before it */
  ENTRIES_MAX = 256, /* of a topic, likewise */
  ENTRY_BYTES_MIN = 14,
};

void plog__offset_topic_read(plog_reader *r, int16_t version, plog_offset_topic *out) {
  bool flexible = version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION;
  *out = (plog_offset_topic){.id = NULL};
  if (version >= PLOG_OFFSET_COMMIT_TOPIC_ID_VERSION)
    out->id = plog_read_raw(r, PLOG_TOPIC_ID_BYTES);
  else
    out->name = plog_read_string(r, flexible);
  out->entries_count = plog_read_array(r, flexible, ENTRY_BYTES_MIN);
}

void plog__offset_entry_read(plog_reader *r, int16_t version, plog_offset_entry *out) {
  bool flexible = version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION;
  out->index = plog_read_i32(r);
  out->offset = plog_read_i64(r);
  out->leader_epoch = version >= LEADER_EPOCH_SINCE ? plog_read_i32(r) : -1;
  out->metadata = plog_read_nullable_string(r, flexible);
  if (flexible) plog_skip_tags(r);
}

/* Text whose characters are bytes, so that it is as long to Kafka, who counts otherwise, as it is here. */
static bool is_ascii(plog_bytes text) {
  uint8_t any = 0;
  for (size_t i = 0; i < text.size_bytes; i++) any |= text.data[i];
  return any < 0x80;
}

static bool is_named(const plog_offset_topic *topics, int32_t count, const plog_offset_topic *topic) {
  for (int32_t i = 0; i < count; i++) {
    if (topic->id && memcmp(topics[i].id, topic->id, PLOG_TOPIC_ID_BYTES) == 0) return true;
    if (topic->id || topics[i].name.size_bytes != topic->name.size_bytes) continue;
    if (memcmp(topics[i].name.data, topic->name.data, topic->name.size_bytes) == 0) return true;
  }
  return false;
}

static bool is_plain_topic(plog_reader *r, int16_t version, int32_t count, int32_t metadata_max_bytes) {
  int32_t indexes[ENTRIES_MAX];
  if (count < 1 || count > ENTRIES_MAX) return false;
  for (int32_t i = 0; i < count; i++) {
    plog_offset_entry entry;
    plog__offset_entry_read(r, version, &entry);
    if (plog_reader_status(r) || entry.index < 0 || entry.offset < 0) return false;
    if (entry.metadata.size_bytes > (size_t)metadata_max_bytes || !is_ascii(entry.metadata)) return false;
    for (int32_t k = 0; k < i; k++)
      if (indexes[k] == entry.index) return false;
    indexes[i] = entry.index;
  }
  plog__offset_topic_end(r, version);
  return true;
}

bool plog__offset_commit_read(const plog_frame *frame, int32_t metadata_max_bytes, plog_offset_commit *out) {
  int16_t version = frame->api_version;
  if (version < VERSION_MIN || version > VERSION_MAX) return false;
  bool flexible = version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION;
  plog_reader r;
  plog_reader_init(&r, frame->body, frame->body_bytes);
  if (flexible) plog_skip_tags(&r);
  out->who.group_id = plog_read_string(&r, flexible);
  out->who.epoch = plog_read_i32(&r);
  out->who.member_id = plog_read_string(&r, flexible);
  out->who.instance_id = (plog_bytes){NULL, 0};
  if (version >= INSTANCE_ID_SINCE) out->who.instance_id = plog_read_nullable_string(&r, flexible);
  if (version <= RETENTION_UNTIL && plog_read_i64(&r) != -1) return false;
  out->topics_count = plog_read_array(&r, flexible, 3);
  out->topics = r;
  out->entries_count = 0;
  if (plog_reader_status(&r) || out->topics_count < 1 || out->topics_count > TOPICS_MAX) return false;
  plog_offset_topic topics[TOPICS_MAX];
  for (int32_t i = 0; i < out->topics_count; i++) {
    plog__offset_topic_read(&r, version, &topics[i]);
    if (plog_reader_status(&r) || is_named(topics, i, &topics[i])) return false;
    if (!is_plain_topic(&r, version, topics[i].entries_count, metadata_max_bytes)) return false;
    out->entries_count += topics[i].entries_count;
  }
  if (flexible) plog_skip_tags(&r);
  return plog_reader_status(&r) == 0 && r.left == 0;
}

/* ------------------------------------------------------------------------------------------------ the answer */

void plog__offset_answer_write(plog_writer *w, const plog_offset_commit *commit, const plog_frame *frame) {
  int16_t version = frame->api_version;
  bool flexible = version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION;
  plog_reader r = commit->topics;
  plog_write_i32(w, 0); /* its size, below */
  plog_write_i32(w, frame->correlation_id);
  if (flexible) plog_write_no_tags(w);
  if (version >= THROTTLE_TIME_SINCE) plog_write_i32(w, 0); /* throttle time */
  plog_write_array(w, flexible, commit->topics_count);
  for (int32_t t = 0; t < commit->topics_count; t++) {
    plog_offset_topic topic;
    plog__offset_topic_read(&r, version, &topic);
    if (topic.id)
      plog_write_raw(w, topic.id, PLOG_TOPIC_ID_BYTES);
    else
      plog_write_string(w, flexible, topic.name.data, topic.name.size_bytes);
    plog_write_array(w, flexible, topic.entries_count);
    for (int32_t i = 0; i < topic.entries_count; i++) {
      plog_offset_entry entry;
      plog__offset_entry_read(&r, version, &entry);
      plog_write_i32(w, entry.index);
      plog_write_i16(w, 0);
      if (flexible) plog_write_no_tags(w);
    }
    plog__offset_topic_end(&r, version);
    if (flexible) plog_write_no_tags(w);
  }
  if (flexible) plog_write_no_tags(w);
  plog_put_u32(w->data, (uint32_t)w->size_bytes - 4);
}

void plog__offset_answer_refuse(uint8_t *answer, uint32_t answer_bytes, int16_t version, int32_t error) {
  bool flexible = version >= PLOG_OFFSET_COMMIT_FLEXIBLE_VERSION;
  plog_reader r;
  plog_reader_init(&r, answer, answer_bytes);
  (void)plog_read_raw(&r, flexible ? 9 : 8); /* size, correlation id, tags */
  if (version >= THROTTLE_TIME_SINCE) (void)plog_read_i32(&r);
  for (int32_t topics = plog_read_array(&r, flexible, 1); topics > 0; topics--) {
    if (version >= PLOG_OFFSET_COMMIT_TOPIC_ID_VERSION)
      (void)plog_read_raw(&r, PLOG_TOPIC_ID_BYTES);
    else
      (void)plog_read_string(&r, flexible);
    for (int32_t left = plog_read_array(&r, flexible, 6); left > 0; left--) {
      (void)plog_read_i32(&r);
      plog_put_i16(answer + (r.at - answer), (int16_t)error);
      (void)plog_read_i16(&r);
      if (flexible) plog_skip_tags(&r);
    }
    if (flexible) plog_skip_tags(&r);
  }
  plog_assert(plog_reader_status(&r) == 0);
}
