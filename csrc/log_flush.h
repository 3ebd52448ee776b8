/*
 * log_flush.h: one sync of a log, in three steps: begin takes what is to be synced, run waits for the disk on any thread while
 * the log goes on or goes away, and what it was begun for hears of its end.
 */
#ifndef PLOG_LOG_FLUSH_H
#define PLOG_LOG_FLUSH_H

#include "log.h"

typedef struct {
  plog_sys *sys;
  plog_segment **segments; /* references */
  int32_t segments_count;
  int dir_fd;          /* the partition's directory, when it has a name that may not be on disk; else -1 */
  bool whole;          /* with the indexes of closed segments: from the recovery point on, which moves */
  int64_t end;         /* of the log when it began: what is durable afterwards */
  int64_t newest_base; /* of the last segment then */
  int64_t cuts_count;
} plog_flush;

#define PLOG_FROM_RECOVERY_POINT (-1)

/* Take the records from `from` to the published end, or all that a start after a crash is to trust. 0 | -ENOMEM, -errno: nothing
   is taken. any, with the log's lock taken inside */
int32_t plog__log_flush_begin(plog_log *log, int64_t from, plog_flush *out);
/* Wait until it is on the disk. 0 | -errno: it may be lost, and no later sync would tell. any */
int32_t plog__flush_run(const plog_flush *f);
/* It is on the disk: note the names that are, and where the recovery point is. any, with the log's lock taken inside */
void plog__log_flush_done(plog_log *log, const plog_flush *f);
void plog__flush_release(plog_flush *f); /* any */

#endif
