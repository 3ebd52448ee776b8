/*
 * heartbeat.h: Heartbeat requests of members that Python published (members.h), and ConsumerGroupHeartbeat requests likewise:
 * answered in the reactor. Everything else about them, each error and each doubt, is Python's: this only ever says that all is as
 * it was.
 */
#ifndef PLOG_HEARTBEAT_H
#define PLOG_HEARTBEAT_H

#include "conn.h"
#include "members.h"

#define PLOG_API_HEARTBEAT 12
#define PLOG_API_CONSUMER_HEARTBEAT 68
#define PLOG_HEARTBEAT_MEMBER_BYTES_MAX 255 /* of a consumer that is answered here */
#define PLOG_HEARTBEAT_ANSWER_BYTES_MAX (24 + PLOG_HEARTBEAT_MEMBER_BYTES_MAX)

/* What a Heartbeat of version 0 to 4 says. False: another version, or it does not decode. */
bool plog__heartbeat_read(const plog_frame *frame, plog_heartbeat *out);
/* The answer that nothing has changed, from its correlation id on. Returns its bytes. */
uint32_t plog__heartbeat_answer(const plog_frame *frame, uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]);

/* A ConsumerGroupHeartbeat of version 0 or 1 that says nothing but who it is of: no subscription, no partitions, no time-out.
   Who sent it, and from where, is the caller's to fill in. False: it says more, or does not decode. */
bool plog__consumer_heartbeat_read(const plog_frame *frame, plog_heartbeat *out);
uint32_t plog__consumer_heartbeat_answer(const plog_frame *frame, const plog_heartbeat *heartbeat, int32_t interval_ms,
                                         uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]);

#endif
