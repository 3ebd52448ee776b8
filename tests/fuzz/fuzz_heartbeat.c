/*
 * fuzz_heartbeat.c: any body of a Heartbeat, in any version (the first byte), and of a ConsumerGroupHeartbeat (its highest bit). It is
 * refused, or what it says lies within its bytes; published, it is heard as it stands and not otherwise, and withdrawn it is not
 * heard.
 */
#include "heartbeat.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void check_within(plog_bytes text, const uint8_t *body, size_t body_bytes) {
  if (!text.data) return;
  plog_assert(text.data >= body);
  plog_assert((size_t)(text.data - body) <= body_bytes);
  plog_assert(text.size_bytes <= body_bytes - (size_t)(text.data - body));
}

static void publish_and_withdraw(const plog_heartbeat *h) {
  plog_members members;
  plog__members_init(&members, 5);
  plog_assert(!plog__members_hear(&members, h, 1));
  plog_assert(plog__members_publish(&members, h, -1) == 0);
  plog_assert(plog__members_hear(&members, h, 2));
  plog_heartbeat other = *h;
  other.epoch ^= 1;
  plog_assert(!plog__members_hear(&members, &other, 3));
  other = *h;
  other.instance_id = h->instance_id.data ? (plog_bytes){NULL, 0} : (plog_bytes){(const uint8_t *)"", 0};
  plog_assert(plog__members_hear(&members, &other, 4) == (h->instance_id.data != NULL));
  plog__members_withdraw(&members, h->group_id, h->member_id, false);
  plog_assert(!plog__members_hear(&members, h, 5));
  plog_assert(plog__members_heard_ms(&members, h->group_id, h->member_id) == (h->instance_id.data ? 4 : 2));
  plog__members_deinit(&members);
}

static void publish_and_withdraw_consumer(const plog_frame *frame, const plog_heartbeat *h) {
  static const uint8_t host[PLOG_HOST_BYTES] = {1};
  plog_consumer_heartbeat said = {.says = *h, .client_id = {frame->body, PLOG_MIN(frame->body_bytes, 9u)}, .host = host};
  plog_consumer_terms terms = {
      .epoch = h->epoch, .heartbeat_interval_ms = 3000, .commits_since = 9, .offsets = 1, .topics = 6};
  plog_members members;
  plog__members_init(&members, 5);
  plog_assert(plog__members_publish_consumer(&members, &said, &terms) == 0);
  plog_assert(plog__members_hear_consumer(&members, &said, 1) == -1);
  plog__members_topics_changed(&members, 6);
  plog_assert(plog__members_hear_consumer(&members, &said, 2) == 3000);
  plog_assert(!plog__members_hear(&members, h, 3));
  plog_assert(plog__members_commits_to(&members, h, 9, 3) == 1);
  plog_assert(plog__members_heard_ms(&members, h->group_id, h->member_id) == 2);
  plog__members_withdraw(&members, h->group_id, h->member_id, false);
  plog_assert(plog__members_hear_consumer(&members, &said, 4) == -1);
  plog__members_deinit(&members);
  uint8_t answer[PLOG_HEARTBEAT_ANSWER_BYTES_MAX];
  plog_assert(plog__consumer_heartbeat_answer(frame, h, 3000, answer) <= sizeof answer);
}

static void read_consumer(const plog_frame *frame) {
  plog_heartbeat h;
  if (!plog__consumer_heartbeat_read(frame, &h)) return;
  plog_assert(frame->api_version <= 1);
  check_within(h.group_id, frame->body, frame->body_bytes);
  check_within(h.member_id, frame->body, frame->body_bytes);
  check_within(h.instance_id, frame->body, frame->body_bytes);
  if (frame->body_bytes <= INT16_MAX) publish_and_withdraw_consumer(frame, &h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  size_t body_bytes = size_bytes - 1;
  plog_frame frame = {.api_key = PLOG_API_HEARTBEAT,
                      .api_version = (int16_t)(data[0] % 6),
                      .correlation_id = 77,
                      .body = malloc(size_bytes),
                      .body_bytes = (uint32_t)body_bytes};
  plog_assert(frame.body);
  memcpy(frame.body, data + 1, body_bytes);
  plog_heartbeat h;
  if (data[0] & 0x80) {
    frame.api_key = PLOG_API_CONSUMER_HEARTBEAT;
    frame.api_version = (int16_t)(data[0] % 3);
    read_consumer(&frame);
  } else if (plog__heartbeat_read(&frame, &h)) {
    plog_assert(frame.api_version <= 4);
    check_within(h.group_id, frame.body, body_bytes);
    check_within(h.member_id, frame.body, body_bytes);
    check_within(h.instance_id, frame.body, body_bytes);
    if (body_bytes <= INT16_MAX) publish_and_withdraw(&h);
  }
  free(frame.body);
  return 0;
}
