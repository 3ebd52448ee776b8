/*
 * clean_txns.h: the transactions that a pass of compaction walks through, and which of their batches and markers may go.
 *
 * What stays true (Kafka's rules):
 *   - a batch of an aborted transaction may go whatever its keys; which transactions were aborted is known beforehand, from the
 *     transaction indexes, for nothing at or above the last stable offset is ever compacted;
 *   - a marker may go only when the pass met no batch of its transaction: then nobody needs it to judge a record. (That it goes
 *     a delete.retention.ms later is the caller's.) An aborted transaction that left a batch stays in the index.
 */
#ifndef PLOG_CLEAN_TXNS_H
#define PLOG_CLEAN_TXNS_H

#include <stdbool.h>

#include "batch.h"
#include "segment.h"

/* What is known of one producer id. */
typedef struct {
  int64_t producer_id;
  bool used;      /* the slot holds a producer */
  bool committed; /* a batch was met that no known aborted transaction has */
  bool aborted;   /* in this aborted transaction, of which a batch was met when met */
  bool met;
  plog_aborted transaction;
} plog_clean_producer;

typedef struct {
  plog_clean_producer *producers; /* open addressing by producer id */
  uint32_t capacity;              /* a power of two, or 0 */
  uint32_t count;
  plog_aborted *ahead; /* aborted transactions the pass has not reached, by first offset; those below `next` it has */
  int32_t ahead_count;
  int32_t ahead_capacity;
  int32_t next;
} plog_clean_txns;

void plog__clean_txns_init(plog_clean_txns *t);
void plog__clean_txns_deinit(plog_clean_txns *t);
/* Some aborted transactions are known now; those known already change nothing. -ENOMEM */
int32_t plog__clean_txns_add(plog_clean_txns *t, const plog_aborted *aborted, int32_t count);
/* A batch of records was met. *discard: it belongs to an aborted transaction. -ENOMEM */
int32_t plog__clean_txns_batch(plog_clean_txns *t, const plog_batch_header *header, bool *discard);
/*
 * A control batch was met; data: the whole batch. *discard: nothing is left that needs it. *kept: an aborted transaction that
 * left a batch; its producer_id is -1 when there is none. -ENOMEM
 */
int32_t plog__clean_txns_marker(plog_clean_txns *t, const uint8_t *data, const plog_batch_header *header, bool *discard,
                                plog_aborted *kept);

#endif
