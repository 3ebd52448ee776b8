/*
 * log_state.h: what a log is made of, for the files that implement it (log.c and log_*.c).
 *
 * Fields marked "lock" are changed by the owner holding the lock; the owner reads them without it, others with it. Fields
 * marked "owner" are the owner's alone.
 */
#ifndef PLOG_LOG_STATE_H
#define PLOG_LOG_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "epochs.h"
#include "log.h"

/* A staged batch: its header with the stamps; its bytes are in the pieces. */
typedef struct {
  plog_batch_header header;
  int64_t max_ts_offset;
} plog_staged;

enum { PLOG_RECENT_COUNT = 16 };

/* Where a turn's first batch lies: what a consumer at the end of the log asks for next. */
typedef struct {
  plog_segment *segment; /* not counted: forgotten before the segment goes */
  plog_place place;
} plog_recent;

struct plog_log {
  plog_sys *sys;
  char *dir;
  pthread_mutex_t lock;

  _Atomic int64_t start;          /* log start offset */
  _Atomic int64_t end;            /* published end */
  _Atomic int64_t recovery_point; /* changed under the lock */

  /* lock */
  plog_log_config config;
  plog_segment **segments; /* ascending base offsets; the last one is the active one; never none */
  int32_t segments_count;
  int32_t segments_capacity;
  int64_t *latest; /* of some first closed segments: the largest timestamp in this one and those before */
  int32_t latest_count;
  int32_t latest_capacity;
  plog_producers *producers;
  plog_epochs epochs;
  int64_t cuts_count;      /* truncations so far: a flush under way must not raise the recovery point over one, */
  int64_t zeros_cut_count; /* nor over one of these (mapped_tail.h), which are nothing to a compaction */
  int64_t synced_dir_base; /* base offset of the newest segment whose name is known to be on disk, -1 none */

  /* owner */
  plog_staged *staged;
  int32_t staged_count;
  int32_t staged_capacity;
  struct iovec *pieces; /* the staged bytes, neighbours joined */
  int32_t pieces_count;
  int32_t pieces_capacity;
  uint64_t staged_bytes;
  int64_t staged_end;
  plog_ended_txn *ended; /* aborted transactions that staged markers end */
  int32_t ended_count;
  int32_t ended_capacity;
  plog_epochs epochs_before; /* when epochs_changed: what epochs was before the first staged batch */
  bool epochs_changed;
  int32_t turn_error; /* a commit that a roll made failed: what the turn's own commit will say */
  bool pristine;      /* made by us, at offset 0, and never written to: a start that finds none of it makes it again */
  int32_t maps_after; /* so many small writes in a row the next ones are made through a mapping (mapped_tail.h); or never */
  bool tail_dirty;    /* the active file may be longer than its size_bytes: cut it before writing */
  bool tail_unsynced; /* something was cut off the active file, and that may not be on the disk: sync it before another
                            segment follows */
  int64_t
      leftover_base; /* files of a segment that could not be started are there, or would be after a power cut: nothing may
                            be written or cut before they are gone for good, for a start would take them for the end of the
                            log; -1 none */
  plog_log_facts facts;
  int64_t flushed_end; /* end at the last flush that was asked for, for flush.messages */
  uint64_t jitter_state;
  plog_recent *recent; /* at most PLOG_RECENT_COUNT, of which the oldest makes room */
  int32_t recent_count;
  int32_t recent_capacity;
  uint32_t recent_next;
  int64_t snapshot_offset; /* newest snapshot written or loaded, log start when none */
  int64_t stray_snapshot;  /* one that no segment begins with, to be removed with the next; -1 none */
  bool stray_is_empty;     /* it has no producers */
};

static inline plog_segment *plog__log_active(const plog_log *log) {
  return log->segments[log->segments_count - 1];
}
static inline void plog__log_lock(plog_log *log) {
  (void)pthread_mutex_lock(&log->lock);
}
static inline void plog__log_unlock(plog_log *log) {
  (void)pthread_mutex_unlock(&log->lock);
}

/* The index of the last segment that begins at or before offset; 0 when none does. owner, or under the lock */
int32_t plog__log_find_segment(const plog_log *log, int64_t offset);
/* Add a segment at the end; takes it. lock. -ENOMEM */
int32_t plog__log_push_segment(plog_log *log, plog_segment *s);
/* From this index on the segments are not those that there were; adding one at the end is no such change. lock */
void plog__log_segments_changed(plog_log *log, int32_t from);
/* A segment is about to go, or to be cut. owner */
void plog__log_forget_recent(plog_log *log);
/* Seal the active segment and start one at base. Nothing is staged. owner */
int32_t plog__log_start_segment(plog_log *log, int64_t base, int64_t now_ms);
/* Remove what a segment that could not be started left, durably, before the log is changed in any other way: what a power cut
   brought back would hide records that were appended before it meanwhile, or stand for an end above the one the log was cut to.
   owner */
int32_t plog__log_settle_leftover(plog_log *log);
/* Rename the files of a segment, its snapshot included, to .deleted. */
int32_t plog__log_set_aside(plog_log *log, const plog_segment *s);
/* Make the names in the log's directory durable: created, renamed and removed ones. */
int32_t plog__log_sync_names(plog_log *log);
/* A jitter for the next segment. */
int64_t plog__log_draw_jitter(plog_log *log);
/* Write the producer state as <end>.snapshot. owner */
int32_t plog__log_write_snapshot(plog_log *log, int64_t offset);
/* Make the sealed indexes of the last segment and the newest snapshot durable, as a clean stop does. owner */
int32_t plog__log_sync_ends(plog_log *log);
/* Bring the producer state to what it is at `offset`: the newest snapshot at or below, then the batches from there. Nothing
   is staged. owner; adds to the report the batches read and the snapshots that were of no use */
int32_t plog__log_load_producers(plog_log *log, int64_t offset, plog_log_open_report *report);
/* Read one whole batch; free *out. */
int32_t plog__log_read_batch(plog_segment *s, int64_t position, uint32_t size_bytes, uint8_t **out);

#endif
