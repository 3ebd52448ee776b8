/*
 * guards.h: which producers' transactions are being asked about before their first records are taken by a partition.
 *
 * A guard is handed out when the coordinator is asked, and records are taken by it when the answer has come. What stays true:
 *   - a guard that was handed out before a marker of its producer holds no more after it, so that no record which was sent before
 *     the end of a transaction enters after it (KIP-890);
 *   - the first records that enter are those with the lowest sequence that was asked about: who has more on the way than the one
 *     that was refused, and is to be sent again, is not taken before it.
 * Reactor thread only.
 */
#ifndef PLOG_GUARDS_H
#define PLOG_GUARDS_H

#include "base.h"

typedef struct {
  int64_t producer_id;
  int64_t number;
  int64_t begun_ms;
  int32_t epoch; /* the highest that was asked about */
  int32_t lowest_sequence;
  bool from_zero; /* its records begin with sequence 0 where nothing is known of it */
} plog_guard;

typedef struct {
  plog_guard *items;
  int32_t count;
  int32_t capacity;
  int64_t last_number;
} plog_guards;

/* The producer's guard, a new one if it has none: a number above 0. Those begun long ago are forgotten. -ENOMEM */
int64_t plog__guards_begin(plog_guards *g, int64_t producer_id, int32_t epoch, int32_t sequence, bool from_zero,
                           int64_t now_ms);
bool plog__guards_hold(const plog_guards *g, int64_t producer_id, int64_t number);
/* Whether records with a lower sequence are to come before these. */
bool plog__guards_is_ahead(const plog_guards *g, int64_t producer_id, int32_t sequence);
/* Whether that was said of the producer, whose epoch rises with each transaction, when its guard was handed out. */
bool plog__guards_from_zero(const plog_guards *g, int64_t producer_id);
/* Its transaction has begun here, or has ended: what was handed out for it holds no more. */
void plog__guards_end(plog_guards *g, int64_t producer_id);
/* Nothing holds any more, and no memory is held. */
void plog__guards_clear(plog_guards *g);

#endif
