/*
 * producer_state.h: which producers wrote to a log, their last five batches, and the transactions that are open.
 */
#ifndef PLOG_PRODUCER_STATE_H
#define PLOG_PRODUCER_STATE_H

#include "plog.h"

typedef struct plog_producers plog_producers;

#endif
