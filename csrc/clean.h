/*
 * clean.h: one pass of compaction over a log, beside its owner.
 *
 * A pass enters the keys of the dirty section in a map, then copies groups of closed segments, each into one segment of files
 * that end in .cleaned, leaving out what the map says is superseded. The owner then puts that segment in the place of its
 * group (log_replace.c).
 *
 * What stays true:
 *   - the log is only read: a pass that is dropped at any point leaves it as it was. Segments may be deleted or cut meanwhile;
 *     the owner notices, and refuses the replacement;
 *   - a batch whose checksum is wrong ends the pass: copied, it would get a new checksum that says it is right;
 *   - .cleaned files are on disk, names included, before they may become a part of the log.
 * One thread at a time, any.
 */
#ifndef PLOG_CLEAN_H
#define PLOG_CLEAN_H

#include <stdbool.h>

#include "plog.h"

/* What a finished group is to be replaced by. */
typedef struct {
  const plog_log *log;
  int64_t cuts_count;           /* of the log when the pass began */
  const int64_t *base_offsets;  /* of the segments in the group */
  const int64_t *segment_bytes; /* as they were copied */
  int32_t count;
  int64_t size_bytes; /* of the new segment */
  int64_t max_timestamp;
  int64_t max_timestamp_offset;
  bool has_aborted; /* there is a .txnindex.cleaned */
} plog_replacement;

/* PLOG_E_NOT_FOUND: no group is finished. */
int32_t plog__cleaning_replacement(const plog_cleaning *c, plog_replacement *out);
/* The files of the group have gone into the log. */
void plog__cleaning_replaced(plog_cleaning *c);

#endif
