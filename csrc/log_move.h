/*
 * log_move.h: a log that is to take the place of another one, in another data directory.
 *
 * What stays true: the copy is at every moment a beginning of the log it is made from, batch for batch; it takes the place only
 * when both end at the same offset, and has its final name by then.
 */
#ifndef PLOG_LOG_MOVE_H
#define PLOG_LOG_MOVE_H

#include "log.h"

/* Where it lies. owner */
const char *plog__log_dir(const plog_log *log);
plog_sys *plog__log_sys(const plog_log *log); /* any */
/* Copy what is missing. PLOG_E_AGAIN: it is more than about most_bytes, of which some were copied. owner of both */
int32_t plog__log_catch_up(plog_log *from, plog_log *to, uint32_t most_bytes, int64_t now_ms);

#endif
