/*
 * request_times.c: see request_times.h.
 *
 * The hot path is one read of the clock for all answers that one call of the kernel took, and four additions for each.
 */
#include "request_times.h"

#include <stdlib.h>

#define FIRST_BOUND_LOG2 4 /* 16 us; then two bounds to an octave: 24, 32, 48, ... */
#define SPARE_MAX 1024

/* Written by one thread alone. */
static void add(_Atomic int64_t *counter, int64_t more) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

int64_t plog_time_bound_us(int32_t bucket) {
  if (bucket < 0 || bucket >= PLOG_TIME_BUCKETS - 1) return -1;
  return (int64_t)(2 + bucket % 2) << (FIRST_BOUND_LOG2 - 1 + bucket / 2);
}

int32_t plog__time_bucket(int64_t ns) {
  uint64_t us = ns > 0 ? (uint64_t)(ns - 1) / 1000 : 0; /* what is on a bound is within it */
  if (us < 1u << FIRST_BOUND_LOG2) return 0;
  int32_t log2 = 63 - __builtin_clzll(us);
  int32_t bucket = 1 + 2 * (log2 - FIRST_BOUND_LOG2) + (int32_t)(us >> (log2 - 1) & 1);
  return PLOG_MIN(bucket, PLOG_TIME_BUCKETS - 1);
}

void plog__times_init(plog_times *t, plog_sys *sys) {
  t->sys = sys;
  t->spare = NULL;
  t->spare_count = 0;
}

static void give(plog_times *t, plog_unsent *unsent) {
  if (t->spare_count == SPARE_MAX) {
    free(unsent);
    return;
  }
  unsent->next = t->spare;
  t->spare = unsent;
  t->spare_count++;
}

static plog_unsent *take(plog_times *t) {
  plog_unsent *unsent = t->spare;
  if (!unsent) return malloc(sizeof *unsent);
  t->spare = unsent->next;
  t->spare_count--;
  return unsent;
}

void plog__times_deinit(plog_times *t) {
  while (t->spare) free(take(t));
}

void plog__times_came(plog_times *t, int32_t kind, int64_t size_bytes) {
  if (kind < 0 || kind >= PLOG_REQUEST_KINDS) return;
  add(&t->kinds[kind].requests, 1);
  add(&t->kinds[kind].bytes_in, size_bytes);
}

static void count(plog_times *t, const plog_unsent *unsent, int64_t now_ns) {
  plog_kind_times *kind = &t->kinds[unsent->kind];
  int64_t took_ns = now_ns - unsent->came_ns;
  add(&kind->total_ns, took_ns);
  if (unsent->waited_ns == 0) {
    add(&kind->at_once[plog__time_bucket(took_ns)], 1);
    return;
  }
  add(&kind->waited_ns, unsent->waited_ns);
  add(&kind->waiting[plog__time_bucket(took_ns)], 1);
  add(&kind->waiting_ours[plog__time_bucket(took_ns - unsent->waited_ns)], 1);
}

void plog__times_answered(plog_answers *answers, int32_t kind, int64_t came_ns, int64_t waited_ns, int64_t size_bytes,
                          int64_t pending_bytes) {
  plog_times *t = answers->times;
  if (!t || kind < 0 || kind >= PLOG_REQUEST_KINDS) return;
  add(&t->kinds[kind].bytes_out, size_bytes);
  plog_unsent *unsent = take(t);
  if (!unsent) return; /* no memory to remember it in */
  *unsent = (plog_unsent){NULL, answers->sent_bytes + pending_bytes, came_ns, waited_ns, kind};
  if (answers->last)
    answers->last->next = unsent;
  else
    answers->first = unsent;
  answers->last = unsent;
}

void plog__times_sent(plog_answers *answers, int64_t sent_bytes) {
  answers->sent_bytes += sent_bytes;
  plog_unsent *unsent = answers->first;
  if (!unsent || unsent->end > answers->sent_bytes) return;
  plog_times *t = answers->times;
  int64_t now_ns = plog__sys_monotonic_ns(t->sys);
  for (plog_unsent *next; unsent && unsent->end <= answers->sent_bytes; unsent = next) {
    next = unsent->next;
    count(t, unsent, now_ns);
    give(t, unsent);
  }
  answers->first = unsent;
  if (!unsent) answers->last = NULL;
}

void plog__times_drop(plog_answers *answers) {
  for (plog_unsent *unsent = answers->first, *next; unsent; unsent = next) {
    next = unsent->next;
    give(answers->times, unsent);
  }
  answers->first = answers->last = NULL;
}

void plog__times_read(const plog_times *t, int32_t kind, plog_request_times *out) {
  const plog_kind_times *from = &t->kinds[kind];
  out->requests = plog__counted(&from->requests);
  out->bytes_in = plog__counted(&from->bytes_in);
  out->bytes_out = plog__counted(&from->bytes_out);
  out->total_ns = plog__counted(&from->total_ns);
  out->waited_ns = plog__counted(&from->waited_ns);
  out->waited = 0;
  for (int32_t i = 0; i < PLOG_TIME_BUCKETS; i++) {
    int64_t at_once = plog__counted(&from->at_once[i]), waiting = plog__counted(&from->waiting[i]);
    out->total[i] = at_once + waiting;
    out->ours[i] = at_once + plog__counted(&from->waiting_ours[i]);
    out->waited += waiting;
  }
}
