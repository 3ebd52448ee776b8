/*
 * soundness.h: no batch leaves whose CRC does not hold.
 *
 * Every slice that a fetch serves passes plog__sound_slice. What is known of its segment (verified.h) decides: sound bytes go at
 * once, by sendfile and unread; others are first read and compared by the disk pool, and the fetch looks again when that is
 * done. What is found damaged is told to Python once, and remembered: a fetch is served what lies before it, and at it gets
 * CORRUPT_MESSAGE.
 *
 * Bytes that have left memory by the time they are sent are compared as they come back, piece by piece, before they are sent; it
 * is too late for an error then, so the connection is closed, and the client meets the damage when it asks again. Reactor thread.
 */
#ifndef PLOG_SOUNDNESS_H
#define PLOG_SOUNDNESS_H

#include "purgatory.h"
#include "reactor.h"

/*
 * May this slice be served? It may become shorter, by whole batches.
 *   returns  0 | PLOG_CORRUPT_MESSAGE: a damaged batch lies at its begin | PLOG_E_AGAIN: it is being read, and watch fires (which
 *            waits for nothing) | -errno. The slice is released but for 0.
 */
int32_t plog__sound_slice(plog_engine *e, plog_slice *slice, plog_watch *watch);
/* conn->cold is to be read and compared before conn sends on. 0 | -errno */
int32_t plog__sound_cold(plog_engine *e, plog_conn *conn);

#endif
