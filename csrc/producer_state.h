/*
 * producer_state.h: which producers wrote to a log, their last five batches, and the transactions that are open.
 *
 * Kafka's rules for idempotent producers (ProducerStateManager, ProducerAppendInfo):
 *   - a batch equal to one of a producer's last five (epoch, first and last sequence) is a duplicate;
 *   - else its first sequence follows the last one, 2^31-1 being followed by 0; a producer never seen may start anywhere, a
 *     new epoch starts at 0, and an old epoch is refused;
 *   - a transaction begins with its first batch and ends with a marker; until then, and until the marker is below the high
 *     watermark, its first offset bounds the last stable offset.
 *
 * Changes can be taken back until plog__producers_keep(): a batch enters the state when it is staged, before its write is
 * known to succeed. One thread changes the state. Sequence, offset and time are those of the batches, never of a clock.
 */
#ifndef PLOG_PRODUCER_STATE_H
#define PLOG_PRODUCER_STATE_H

#include <stdbool.h>

#include "batch.h"
#include "plog.h"

typedef struct plog_producers plog_producers;

/* Who appends, which decides what is checked. */
typedef enum {
  PLOG_ORIGIN_CLIENT,      /* everything */
  PLOG_ORIGIN_COORDINATOR, /* epochs, not sequences */
  PLOG_ORIGIN_REPLICATION, /* nothing: the leader did */
} plog_origin;

/* Where the first copy of a duplicate batch lies. */
typedef struct {
  int64_t base_offset;
  int64_t last_offset;
  int64_t timestamp;
} plog_duplicate;

/* A transaction that a marker ended. */
typedef struct {
  int64_t producer_id;
  int64_t first_offset;
  int64_t last_offset;        /* the marker's */
  int64_t last_stable_offset; /* once it is ended */
  bool aborted;
} plog_ended_txn;

plog_producers *plog__producers_open(void); /* NULL: no memory */
void plog__producers_close(plog_producers *p);
/* Forget everything, for good. */
void plog__producers_clear(plog_producers *p);

/*
 * Enter a stamped batch with a producer id. marker: what it says when it is a control batch with a marker, else NULL.
 *   *ended     written, and *has_ended set, when it ends a transaction that has records
 *   returns    0 | PLOG_E_DUPLICATE with *duplicate | PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER | PLOG_INVALID_PRODUCER_EPOCH |
 *              PLOG_INVALID_TXN_STATE | PLOG_TRANSACTION_COORDINATOR_FENCED | -ENOMEM; then nothing has changed
 */
int32_t plog__producers_append(plog_producers *p, const plog_batch_header *header, const plog_marker *marker,
                               plog_origin origin, plog_duplicate *duplicate, plog_ended_txn *ended, bool *has_ended);
/* The appends since the last call stay, or are taken back. */
void plog__producers_keep(plog_producers *p);
void plog__producers_undo(plog_producers *p);

/* First offset of the oldest open transaction, INT64_MAX when none is. */
int64_t plog__producers_first_open(const plog_producers *p);
/* The same, transactions included whose marker is not below the high watermark yet. Forgets those that are. */
int64_t plog__producers_first_unstable(plog_producers *p, int64_t high_watermark);

/* Has this producer an open transaction, of this epoch? */
bool plog__producers_in_transaction(const plog_producers *p, int64_t producer_id, int32_t producer_epoch);
/* Its last epoch; -1: it has none. */
int32_t plog__producers_epoch(const plog_producers *p, int64_t producer_id);

int32_t plog__producers_count(const plog_producers *p);
/* Up to capacity producers, in the order of a Kafka snapshot; returns how many there are. */
int32_t plog__producers_list(const plog_producers *p, plog_producer_info *out, int32_t capacity);
/* Enter what a snapshot says. PLOG_E_MALFORMED: no producer can be like that; then the state is to be cleared. -ENOMEM */
int32_t plog__producers_load(plog_producers *p, const plog_producer_info *in, int32_t count);
/* Forget producers without an open transaction whose last batch is of before_ms or earlier; returns how many. */
int32_t plog__producers_expire(plog_producers *p, int64_t before_ms);

#endif
