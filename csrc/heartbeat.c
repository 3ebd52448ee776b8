/*
 * heartbeat.c: see heartbeat.h.
 */
#include "heartbeat.h"

#include <string.h>

enum { VERSION_MAX = 4, THROTTLE_TIME_SINCE = 1, INSTANCE_ID_SINCE = 3, FLEXIBLE_SINCE = 4 };

bool plog__heartbeat_read(const plog_frame *frame, plog_heartbeat *out) {
  int16_t version = frame->api_version;
  if (version < 0 || version > VERSION_MAX) return false;
  bool flexible = version >= FLEXIBLE_SINCE;
  plog_reader r;
  plog_reader_init(&r, frame->body, frame->body_bytes);
  if (flexible) plog_skip_tags(&r);
  out->group_id = plog_read_string(&r, flexible);
  out->epoch = plog_read_i32(&r);
  out->member_id = plog_read_string(&r, flexible);
  out->instance_id = (plog_bytes){NULL, 0};
  if (version >= INSTANCE_ID_SINCE) out->instance_id = plog_read_nullable_string(&r, flexible);
  if (flexible) plog_skip_tags(&r);
  return plog_reader_status(&r) == 0;
}

uint32_t plog__heartbeat_answer(const plog_frame *frame, uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]) {
  uint32_t tags_bytes = frame->api_version >= FLEXIBLE_SINCE ? 2 : 0; /* of the header, and of the body */
  uint32_t throttle_bytes = frame->api_version >= THROTTLE_TIME_SINCE ? 4 : 0;
  memset(out, 0, PLOG_HEARTBEAT_ANSWER_BYTES_MAX); /* no tags, no throttling, no error: all of it is zeros */
  plog_put_i32(out, frame->correlation_id);
  return 4 + tags_bytes + throttle_bytes + 2;
}
