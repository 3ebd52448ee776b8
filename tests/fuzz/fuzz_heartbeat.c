/*
 * fuzz_heartbeat.c: any body of a Heartbeat, in any version (the first byte). It is refused, or what it says lies within its bytes;
 * published, it is heard as it stands and not otherwise, and withdrawn it is not heard.
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
  if (plog__heartbeat_read(&frame, &h)) {
    plog_assert(frame.api_version <= 4);
    check_within(h.group_id, frame.body, body_bytes);
    check_within(h.member_id, frame.body, body_bytes);
    check_within(h.instance_id, frame.body, body_bytes);
    if (body_bytes <= INT16_MAX) publish_and_withdraw(&h);
  }
  free(frame.body);
  return 0;
}
