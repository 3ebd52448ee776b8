/*
 * offset_commit.h: OffsetCommit requests of members that Python published together with the partition that keeps the offsets of
 * their group (members.h): written and answered in the reactor. Everything else about offsets, each error and each doubt, is
 * Python's.
 *
 * What stays true:
 *   - what is taken in one turn for one partition becomes one batch, staged when the turn settles, before anything that Python
 *     appends later; so a withdrawal that has returned comes after every commit that was taken before it;
 *   - it is answered when it is committed, as Python would answer it;
 *   - Python is told of it, in the order of the log, the moment it is written (PLOG_UP_OFFSETS): before any request that comes
 *     after its answer. What could not be told is not written.
 */
#ifndef PLOG_OFFSET_COMMIT_H
#define PLOG_OFFSET_COMMIT_H

#include "offset_commit_request.h"
#include "reactor.h"

/* Take a commit that needs nobody's thought. False: it is Python's, and nothing has happened. */
bool plog__offset_commit_take(plog_engine *e, plog_conn *conn, const plog_frame *frame);
/* Whether it was taken so. */
bool plog__offset_commit_is(const plog_request *request);
/* Write what was taken since the last time. */
void plog__offset_commits_settle(plog_engine *e);

/* The record of one offset, as bytes: int32 size of the key, key, int32 size of the value, value. */
void plog__offset_record_write(plog_writer *w, plog_bytes group_id, plog_bytes topic, const plog_offset_entry *entry,
                               int64_t commit_ms);

#endif
