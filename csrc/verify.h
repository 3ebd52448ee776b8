/*
 * verify.h: before the first records of a transaction are taken by a partition, its coordinator is asked (KIP-890).
 *
 * Python is told (PLOG_UP_VERIFY), and the connection is not served until it has answered (plog_engine_verified): the frame stays
 * where it is, and is looked at anew from its first byte, with the verdicts at hand. Other connections go on. Reactor thread only.
 */
#ifndef PLOG_VERIFY_H
#define PLOG_VERIFY_H

#include "partition.h"
#include "reactor.h"
#include "wire.h"

/* About one entry of a Produce; ordinal: its place among all of them. */
typedef struct {
  int32_t ordinal;
  int16_t error; /* Kafka's, when it was answered */
  int64_t partition;
  int64_t guard;
} plog_verdict_item;

struct plog_verdicts {
  int32_t count;
  int32_t capacity;
  plog_verdict_item items[]; /* ascending ordinals */
};

/* The producer of one request. */
typedef struct {
  plog_bytes transactional_id;
  int64_t producer_id; /* -1: none yet */
  int32_t producer_epoch;
  bool
      adds; /* its request adds the partitions to the transaction, and its epoch rises with each: PLOG_PRODUCE_ADDS_VERSION */
} plog_txn_producer;

/* One entry more to be asked about, by the header of its batch; *verdicts NULL at first. 0 | -ENOMEM */
int32_t plog__verify_add(plog_verdicts **verdicts, int32_t ordinal, plog_partition *p, const uint8_t *batch, bool from_zero,
                         int64_t now_ms);
/* Ask, taking verdicts. PLOG_E_AGAIN: the connection waits, look again | -ENOMEM: close it */
int32_t plog__verify_ask(plog_engine *e, plog_conn *conn, const plog_frame *frame, const plog_txn_producer *producer,
                         plog_verdicts *verdicts);
/* What was said about an entry; NULL: nothing. */
const plog_verdict_item *plog__verdicts_find(const plog_verdicts *verdicts, int32_t ordinal);

/* The answer, for plog_engine_verified. NULL: no memory */
plog_message *plog__verify_answer(int64_t conn, int64_t slot, const int16_t *errors, int32_t count);

#endif
