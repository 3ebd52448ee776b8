/*
 * heartbeat.c: see heartbeat.h.
 */
#include "heartbeat.h"

#include <string.h>

enum { VERSION_MAX = 4, THROTTLE_TIME_SINCE = 1, INSTANCE_ID_SINCE = 3, FLEXIBLE_SINCE = 4 };
enum { CONSUMER_VERSION_MAX = 1, REGEX_SINCE = 1, NOT_SAID = 0, NO_ASSIGNMENT = -1 };

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
  memset(out, 0, 4 + 2 + 4 + 2); /* no tags, no throttling, no error: all of it is zeros */
  plog_put_i32(out, frame->correlation_id);
  return 4 + tags_bytes + throttle_bytes + 2;
}

/* ------------------------------------------------------------------------------------------------ the consumer protocol */

bool plog__consumer_heartbeat_read(const plog_frame *frame, plog_heartbeat *out) {
  int16_t version = frame->api_version;
  if (version < 0 || version > CONSUMER_VERSION_MAX) return false;
  plog_reader r;
  plog_reader_init(&r, frame->body, frame->body_bytes);
  plog_skip_tags(&r); /* the header's: this API never had other than flexible versions */
  out->group_id = plog_read_string(&r, true);
  out->member_id = plog_read_string(&r, true);
  out->epoch = plog_read_i32(&r);
  out->instance_id = plog_read_nullable_string(&r, true);
  bool says_more = plog_read_i8(&r) != NOT_SAID; /* rack; a null string or array is this one byte */
  says_more |= plog_read_i32(&r) != -1;          /* rebalance time-out */
  says_more |= plog_read_i8(&r) != NOT_SAID;     /* subscribed topics */
  if (version >= REGEX_SINCE) says_more |= plog_read_i8(&r) != NOT_SAID;
  says_more |= plog_read_i8(&r) != NOT_SAID; /* assignor */
  says_more |= plog_read_i8(&r) != NOT_SAID; /* partitions that it has */
  plog_skip_tags(&r);
  if (plog_reader_status(&r) || r.left > 0) return false;
  return !says_more && out->member_id.size_bytes <= PLOG_HEARTBEAT_MEMBER_BYTES_MAX;
}

uint32_t plog__consumer_heartbeat_answer(const plog_frame *frame, const plog_heartbeat *heartbeat, int32_t interval_ms,
                                         uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]) {
  plog_writer w;
  plog_writer_fixed(&w, out, PLOG_HEARTBEAT_ANSWER_BYTES_MAX);
  plog_write_i32(&w, frame->correlation_id);
  plog_write_no_tags(&w);
  plog_write_i32(&w, 0); /* throttle time */
  plog_write_i16(&w, 0);
  plog_write_string(&w, true, NULL, 0); /* what is wrong */
  plog_write_string(&w, true, heartbeat->member_id.data, heartbeat->member_id.size_bytes);
  plog_write_i32(&w, heartbeat->epoch);
  plog_write_i32(&w, interval_ms);
  plog_write_i8(&w, NO_ASSIGNMENT);
  plog_write_no_tags(&w);
  plog_assert(plog_writer_status(&w) == 0);
  return (uint32_t)w.size_bytes;
}
