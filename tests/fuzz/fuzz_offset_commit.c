/*
 * fuzz_offset_commit.c: any body of an OffsetCommit, in any version (the first byte). It is Python's, or what it says lies within
 * its bytes, names every partition once, and its answer has room and is of one form whether or not it tells of an error.
 */
#include "offset_commit_request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { METADATA_MAX = 40 };

static void check_within(plog_bytes text, const plog_frame *frame) {
  if (!text.data) return;
  plog_assert(text.data >= frame->body);
  plog_assert((size_t)(text.data - frame->body) <= frame->body_bytes);
  plog_assert(text.size_bytes <= frame->body_bytes - (size_t)(text.data - frame->body));
}

static void walk(const plog_offset_commit *commit, const plog_frame *frame) {
  plog_reader r = commit->topics;
  int32_t entries = 0;
  for (int32_t t = 0; t < commit->topics_count; t++) {
    plog_offset_topic topic;
    plog__offset_topic_read(&r, frame->api_version, &topic);
    check_within(topic.name, frame);
    plog_assert((topic.id != NULL) == (frame->api_version >= PLOG_OFFSET_COMMIT_TOPIC_ID_VERSION));
    plog_assert(topic.entries_count >= 1);
    for (int32_t i = 0; i < topic.entries_count; i++, entries++) {
      plog_offset_entry entry;
      plog__offset_entry_read(&r, frame->api_version, &entry);
      check_within(entry.metadata, frame);
      plog_assert(entry.index >= 0 && entry.offset >= 0 && entry.metadata.size_bytes <= METADATA_MAX);
    }
    plog__offset_topic_end(&r, frame->api_version);
  }
  plog_assert(plog_reader_status(&r) == 0 && entries == commit->entries_count);
}

/* What differs between the two answers is the errors: two bytes for each partition. */
static void answer(const plog_offset_commit *commit, const plog_frame *frame) {
  size_t room = frame->body_bytes + PLOG_OFFSET_ANSWER_EXTRA_BYTES;
  uint8_t *good = malloc(room), *bad = malloc(room);
  plog_assert(good && bad);
  plog_writer w;
  plog_writer_fixed(&w, good, room);
  plog__offset_answer_write(&w, commit, frame);
  plog_assert(plog_writer_status(&w) == 0 && plog_get_u32(good) == w.size_bytes - 4);
  plog_assert(plog_get_i32(good + 4) == frame->correlation_id);
  memcpy(bad, good, w.size_bytes);
  plog__offset_answer_refuse(bad, (uint32_t)w.size_bytes, frame->api_version, 0x0101);
  int32_t changed = 0;
  for (size_t i = 0; i < w.size_bytes; i++) changed += good[i] != bad[i];
  plog_assert(changed == 2 * commit->entries_count);
  plog__offset_answer_refuse(bad, (uint32_t)w.size_bytes, frame->api_version, 0);
  plog_assert(memcmp(good, bad, w.size_bytes) == 0);
  free(good);
  free(bad);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  plog_frame frame = {.api_key = PLOG_API_OFFSET_COMMIT,
                      .api_version = (int16_t)(data[0] % 12),
                      .correlation_id = 77,
                      .body = malloc(size_bytes),
                      .body_bytes = (uint32_t)size_bytes - 1};
  plog_assert(frame.body);
  memcpy(frame.body, data + 1, frame.body_bytes);
  plog_offset_commit commit;
  if (plog__offset_commit_read(&frame, METADATA_MAX, &commit)) {
    plog_assert(frame.api_version >= 2 && frame.api_version <= 10);
    check_within(commit.who.group_id, &frame);
    check_within(commit.who.member_id, &frame);
    check_within(commit.who.instance_id, &frame);
    walk(&commit, &frame);
    answer(&commit, &frame);
  }
  free(frame.body);
  return 0;
}
