/*
 * segment.h: one .log file of a partition with its offset index, time index and transaction index.
 *
 * What stays true:
 *   - size_bytes is what readers may see of the file; behind it there may be the rest of a write that failed, which is cut
 *     before anything else is written (log.c), or zeros (mapped_tail.h), which are cut before another segment follows;
 *   - index entries follow Kafka's rule: a batch gets one when more than index.interval.bytes were appended since the last
 *     entry, with its last offset and its position; the time index gets the largest timestamp so far, and the last offset of
 *     the batch that has it, when that is larger than its last entry's;
 *   - files are opened when the segment is used (plog__segment_acquire) and stay open while somebody uses them: a write, a
 *     slice that is out, a flush, renamed or unlinked or not. Between uses they stay open while sys->open_files has room for
 *     them, so that descriptors grow neither with the number of segments on disk nor with that of logs that are written to;
 *   - of a segment that is written to (writable) that is the .log alone: its indexes are in memory (index.h);
 *   - a .log file is the truth: an index of a closed segment that is missing, or says what the batches do not, is built anew.
 *
 * Threads: the fields below "owner" are changed by the log's owner under the log's lock; the owner reads them without, others
 * with it. The rest is as the comments say.
 */
#ifndef PLOG_SEGMENT_H
#define PLOG_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "allocation.h"
#include "batch.h"
#include "index.h"
#include "mapped_tail.h"
#include "open_files.h"
#include "plog.h"
#include "producer_state.h"
#include "sys.h"
#include "verified.h"

/* One aborted transaction of a segment. */
typedef struct {
  int64_t producer_id;
  int64_t first_offset;
  int64_t last_offset;
  int64_t last_stable_offset;
} plog_aborted;

typedef struct plog_segment plog_segment;

struct plog_segment {
  _Atomic int32_t references; /* to this memory: the log's, and one of the open files */
  plog_sys *sys;
  int64_t base_offset;

  /*
   * Who uses the open files: slices and the like, sys->open_files, and the log while it writes to them. At 0 they are shut.
   * From 0, and to it, only with open_lock held.
   */
  _Atomic int32_t users;
  pthread_mutex_t open_lock; /* held while the files are opened or shut */
  plog_open_item item;       /* in sys->open_files */
  int fd;                    /* of the .log file; does not change while somebody uses it */

  _Atomic bool distrusted; /* an index led astray: nobody follows them, and they are built anew at the next opening */
  _Atomic bool doubted;    /* damage was found by somebody else: what is known to be sound is to be compared anew */
  _Atomic int32_t rebuilt_indexes; /* at openings since the log was opened: for the one who tells */

  /* owner */
  bool writable; /* the indexes grow. Changed while the files are used, or under open_lock: who shuts them asks */
  plog_index offsets;
  plog_index times;
  int64_t size_bytes;
  plog_allocation allocation; /* of the .log file */
  plog_mapped_tail tail;      /* of the .log file, where the log is written so */
  int64_t next_offset;
  plog_verified verified;       /* which of its bytes are known to be sound */
  int64_t max_timestamp;        /* -1 none */
  int64_t max_timestamp_offset; /* base offset when there is none */
  bool max_known;               /* else the time index has to be asked */
  int64_t rolling_timestamp;    /* largest timestamp of the first batch; meaningless until rolling_known */
  bool rolling_known;
  int64_t created_ms;
  int64_t jitter_ms;
  int64_t since_entry_bytes; /* appended since the last offset index entry */
  int64_t interval_bytes;    /* index.interval.bytes */
  plog_aborted *aborted;     /* the transaction index; ascending last offsets */
  int32_t aborted_count;
  int32_t aborted_capacity;
  int32_t aborted_written; /* of them in the file */
  bool aborted_known;      /* read from the file */

  char dir[]; /* of the partition */
};

/* A range of a segment's .log file. */
typedef struct {
  plog_segment *segment; /* whose files this uses, NULL when size_bytes is 0 */
  int fd;                /* of the .log file, open for reading until the slice is released */
  int64_t position;
  uint32_t size_bytes;
  int64_t first_offset; /* base offset of the first batch in it, -1 when empty */
} plog_slice;

void plog__slice_release(plog_slice *slice); /* any thread */

/* Files: dir/<20 digits>suffix. The buffer holds any of them. */
#define PLOG_PATH_BYTES 4096
int32_t plog__segment_path(const char *dir, int64_t base_offset, const char *suffix, char out[PLOG_PATH_BYTES]);

/* Where a batch lies in its segment. */
typedef struct {
  int64_t base_offset;
  int64_t last_offset;
  int64_t position;
  uint32_t size_bytes;
} plog_place;

/* A segment whose .log file exists; reads nothing but its size. next_offset: one past its last, when the caller knows, or -1. */
int32_t plog__segment_open(plog_sys *sys, const char *dir, int64_t base_offset, int64_t next_offset, int64_t interval_bytes,
                           int64_t now_ms, plog_segment **out);
/* A new, empty segment, open for writing. When it fails, the caller removes the files there may be. */
int32_t plog__segment_create(plog_sys *sys, const char *dir, int64_t base_offset, const plog_log_config *config,
                             int64_t now_ms, plog_segment **out);
/* The same for a directory that holds nothing else: the files are made and shut again, and opened at the first append. So a
   log that nobody writes to has no descriptors. */
int32_t plog__segment_make(plog_sys *sys, const char *dir, int64_t base_offset, const plog_log_config *config,
                           int64_t now_ms, plog_segment **out);
/* The log lets go of it; its files are shut when nobody uses them any more. owner */
void plog__segment_drop(plog_segment *s);

/* Use its files: open them if they are not, building an index anew that is missing or impossible. any, with the log's lock
   held unless it is the owner */
int32_t plog__segment_acquire(plog_segment *s);
/* The same without the indexes, for who makes them anew: nobody else uses it. owner */
int32_t plog__segment_acquire_bare(plog_segment *s);
/* One more use of files that the caller uses. any */
void plog__segment_retain(plog_segment *s);
/* The end of one use. any */
void plog__segment_release(plog_segment *s);
/*
 * What opening can see without opening a file: are the index files there, and of a possible size? *out: how many are not.
 * -errno
 */
int32_t plog__segment_check_files(plog_segment *s, int32_t *out);

/* Nothing is in it, nor in its indexes, which are there: it need not be opened to be known. -errno */
int32_t plog__segment_check_empty(plog_segment *s, bool *out);

/* Make it the active one: indexes in memory, their files preallocated. owner, under the log's lock */
int32_t plog__segment_make_writable(plog_segment *s, const plog_log_config *config);
/* The end of writing: last time index entry, indexes written and trimmed, blocks behind the end given back, files read-only
   from now on. owner, under the log's lock */
int32_t plog__segment_seal(plog_segment *s);
/* Cut the file to size_bytes, after a write that failed; it is writable, or used. owner */
int32_t plog__segment_cut_tail(plog_segment *s);
/* Bring what its indexes have gathered into their files, if that is enough to be worth it. What cannot be written now is written
   with the next lump; sealing insists on it. It is writable. owner */
void plog__segment_write_lumps(plog_segment *s);

/* The .log file, which is used, is about to grow by so many bytes. owner */
void plog__segment_allocate(plog_segment *s, const plog_log_config *config, uint64_t more_bytes);
/* Room in the indexes for so many batches. -ENOMEM. owner */
int32_t plog__segment_reserve(plog_segment *s, uint32_t batches_count);
/* Enter the batch that lies behind size_bytes in the indexes and the ends, for which there is room. owner */
void plog__segment_index_batch(plog_segment *s, const plog_batch_header *header, int64_t max_ts_offset);
/* Neither index has room, or the offset does not fit. owner */
bool plog__segment_index_full(const plog_segment *s, const plog_log_config *config, int64_t last_offset);
/* Forget the indexes and ends, to build them anew; the transaction index goes at once. owner, using it */
int32_t plog__segment_reset_indexes(plog_segment *s);

/* A position at or before the batch of that offset, by the index; it is a guess until a batch was seen there. any, using it,
   under the log's lock */
int64_t plog__segment_hint(plog_segment *s, int64_t offset);
/* The first batch whose last offset is >= offset, before limit_bytes. PLOG_E_NOT_FOUND when there is none. any, using it;
   start: where to begin, as plog__segment_hint gave it */
int32_t plog__segment_locate(plog_segment *s, int64_t offset, int64_t start, int64_t limit_bytes, plog_place *out);
/* What the time index says of the records before this time: none later than *timestamp up to the batch that holds *offset,
   which has it. *offset: the base offset, and *timestamp -1, when it says nothing. any, using it, under the log's lock */
void plog__segment_time_hint(plog_segment *s, int64_t timestamp, int64_t *out_timestamp, int64_t *offset);
/* The indexes are not what the batches say: follow them no more. any, using it */
void plog__segment_distrust(plog_segment *s);

/* Cut everything at and above offset; the segment is writable, and used. *out_end: the end of what is left. When it fails, next_offset
   says how far it came. owner */
int32_t plog__segment_truncate(plog_segment *s, int64_t offset, int64_t *out_end);

/* Aborted transactions. PLOG_E_MALFORMED: the index is not what a log writes. owner, under the log's lock; list: any under it */
int32_t plog__segment_add_aborted(plog_segment *s, const plog_ended_txn *ended);
int32_t plog__segment_write_aborted(plog_segment *s);
int32_t plog__segment_load_aborted(plog_segment *s);
/* Can it be loaded? It is not kept. owner */
int32_t plog__segment_check_aborted(plog_segment *s);

/* Largest timestamp, asking the time index if need be. owner, or under the log's lock */
int32_t plog__segment_load_max(plog_segment *s);

/* Headers of the batches from a position on, read in lumps. */
typedef struct {
  plog_segment *segment;
  int64_t position; /* of the next batch */
  int64_t limit_bytes;
  int64_t buffer_at; /* position of buffer in the file */
  size_t buffer_bytes;
  uint8_t buffer[8192];
} plog_scan;

void plog__scan_init(plog_scan *scan, plog_segment *s, int64_t position, int64_t limit_bytes);
/* The next header (its batch at scan->position - out->size_bytes). PLOG_E_NOT_FOUND at the end, PLOG_E_SHORT when the last
   batch is cut, PLOG_CORRUPT_MESSAGE. */
int32_t plog__scan_next(plog_scan *scan, plog_batch_header *out);

#endif
