/*
 * fetch.h: the Fetch API, whole.
 */
#ifndef PLOG_FETCH_H
#define PLOG_FETCH_H

#include "reactor.h"

#define PLOG_API_FETCH 1

/* Take one request: its answer is enqueued, at once or when there is enough. 0 | PLOG_E_MALFORMED | -ENOMEM: close */
int32_t plog__fetch_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame);
/* Look again at the fetches that were woken. */
void plog__fetch_run_woken(plog_engine *e);

#endif
