/*
 * log.h: what partition.c and fetch.c may do with a log beyond the public functions.
 *
 * One writer (the owner). Batches of one loop turn are staged, then written with one pwritev, then published:
 *
 *   log_start <= published end <= staged end
 *
 * Readers see the published end only (an acquire load), whatever the thread. The staged bytes are borrowed from the caller
 * until plog__log_commit() or plog__log_abort().
 */
#ifndef PLOG_LOG_H
#define PLOG_LOG_H

#include "base.h"
#include "batch.h"
#include "plog.h"
#include "producer_state.h"
#include "segment.h"
#include "sys.h"

/* Offset the next staged batch gets. owner */
int64_t plog__log_staged_end(const plog_log *log);
/* Published end: what readers may read. any */
int64_t plog__log_end(const plog_log *log);
int64_t plog__log_start(const plog_log *log); /* any */
/* flush.messages: with so many records that are not on the disk, a sync is due; INT64_MAX: never. owner */
int64_t plog__log_flush_messages(const plog_log *log);
/* First offset of the oldest open transaction, INT64_MAX when there is none; of published batches. owner */
int64_t plog__log_first_unstable(const plog_log *log);
/*
 * The last stable offset: where read_committed readers stop when the high watermark is this. Not above the first offset of a
 * transaction that is open, or whose marker is not below the high watermark yet; but never below the log start. owner
 */
int64_t plog__log_stable_end(plog_log *log, int64_t high_watermark);

/*
 * Stage one batch that is stamped (offset = staged end, leader epoch, timestamps, CRC) and validated. Enters it in the producer
 * state and epochs, reversibly. Rolls by itself, after writing what is staged, when size, index room, age or offset range
 * demand it (Kafka's shouldRoll). owner
 *   header   as plog_batch_header_read gave it, with the stamps
 *   max_ts_offset  offset of the record with the largest timestamp (Kafka's shallow form: the batch's last offset)
 *   returns  0 | PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER and the other producer rules | PLOG_E_DUPLICATE (nothing staged; *out_duplicate
 *            tells the base offset, last offset and append timestamp the batch got then) | PLOG_RECORD_LIST_TOO_LARGE (larger
 *            than a segment) | -errno from the roll, or from the commit that it needs: then the batches staged before have
 *            failed too, unless they are below plog__log_end(), and the turn's plog__log_commit() says so again
 */
int32_t plog__log_stage(plog_log *log, const uint8_t *data, const plog_batch_header *header, int64_t max_ts_offset,
                        bool from_client, int64_t now_ms, plog_duplicate *out_duplicate);
/* Has this producer an open transaction of this epoch, with what is staged? owner */
bool plog__log_in_transaction(const plog_log *log, int64_t producer_id, int32_t producer_epoch);
/* The last epoch of a producer here, with what is staged; -1: it has none. owner */
int32_t plog__log_producer_epoch(const plog_log *log, int64_t producer_id);
/* From now on small batches are written through a mapping of the file's end, after so many in a row that are not;
   PLOG_MAPPED_TAIL_NEVER. owner */
void plog__log_map_tail(plog_log *log, int32_t run);
/* Something is staged. owner */
bool plog__log_has_staged(const plog_log *log);
/*
 * Write what is staged (one pwritev per IOV_MAX pieces, short writes continued), then the index entries, then publish the end.
 * On failure the files are cut back to the published end, producer state and epochs are put back as they were, nothing is
 * published, and -errno comes back: every batch staged since the last commit has failed, except those that a roll in between
 * published, which are below plog__log_end(). owner
 */
int32_t plog__log_commit(plog_log *log, int64_t now_ms);
/* Forget what is staged. owner */
void plog__log_abort(plog_log *log);

/* Facts since the last call, for upcalls; reading clears them. owner */
typedef struct {
  bool rolled; /* at least one new segment */
  int64_t rolled_base;
  bool epoch_started; /* a leader epoch got its first record */
  bool flush_due;     /* flush.messages reached; a partition goes by its own count (group_commit.h) */
} plog_log_facts;
void plog__log_take_facts(plog_log *log, plog_log_facts *out);

/*
 * Where the bytes from `offset` on lie. One slice never crosses a segment and begins at the first batch whose last offset is
 * >= offset; it ends before max_offset's batch (only whole batches with base offset < max_offset), and holds at most max_bytes,
 * cut anywhere (Kafka too sends a torn last batch), except that with at_least_one the whole first batch is in it however large.
 * The slice holds a reference to its segment (plog__slice_release). size 0: nothing there yet. owner, or any thread with the
 * log's read lock taken inside when any_thread
 *   returns 0 | PLOG_OFFSET_OUT_OF_RANGE | -errno
 */
int32_t plog__log_slice(plog_log *log, int64_t offset, int64_t max_offset, uint32_t max_bytes, bool at_least_one,
                        bool any_thread, plog_slice *out);

/* Kafka's OffsetForLeaderEpoch, in a log whose leader leads in epoch `begun` (-1: it is not led here), whether or not it has
   written a record in it: the largest epoch <= epoch, and where it ends; -1 and -1 when that cannot be said. any */
void plog__log_end_of_epoch(plog_log *log, int32_t begun, int32_t epoch, int32_t *out_epoch, int64_t *out_end);

/* The aborted transactions that a reader of committed records needs to know for a slice that begins with the batch of offset
   `from`; calls back per (producer id, first offset), with the lock of the log held: the callback must not call it. -errno when a
   transaction index cannot be read. owner */
typedef void plog_aborted_fn(void *context, int64_t producer_id, int64_t first_offset);
int32_t plog__log_aborted(plog_log *log, int64_t from, const plog_slice *slice, plog_aborted_fn *fn, void *context);

#endif
