/*
 * produce.h: the Produce API, whole.
 */
#ifndef PLOG_PRODUCE_H
#define PLOG_PRODUCE_H

#include "reactor.h"

#define PLOG_API_PRODUCE 0

/*
 * Take one request whose frame stays where it is until the next settle: its batches are staged, its answer is enqueued.
 *   returns 0 | PLOG_E_MALFORMED: the connection must be closed | -ENOMEM: likewise
 */
int32_t plog__produce_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame);

#endif
