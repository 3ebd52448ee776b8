/*
 * heartbeat.h: Heartbeat requests of members that Python published (members.h): answered in the reactor. Everything else about
 * them, each error and each doubt, is Python's: this only ever says that all is as it was.
 */
#ifndef PLOG_HEARTBEAT_H
#define PLOG_HEARTBEAT_H

#include "conn.h"
#include "members.h"

#define PLOG_API_HEARTBEAT 12
#define PLOG_HEARTBEAT_ANSWER_BYTES_MAX 12

/* What a Heartbeat of version 0 to 4 says. False: another version, or it does not decode. */
bool plog__heartbeat_read(const plog_frame *frame, plog_heartbeat *out);
/* The answer that nothing has changed, from its correlation id on. Returns its bytes. */
uint32_t plog__heartbeat_answer(const plog_frame *frame, uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]);

#endif
