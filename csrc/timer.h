/*
 * timer.h: a binary heap of timers, earliest first. A timer lives inside what it times; the heap only points to it.
 *
 * A timer is armed at most once; arming it again moves it. Nothing here reads a clock: the caller brings the time.
 */
#ifndef PLOG_TIMER_H
#define PLOG_TIMER_H

#include "base.h"

#define PLOG_NEVER INT64_MAX

typedef struct plog_timer plog_timer;
struct plog_timer {
  int64_t due_ms; /* monotonic */
  uint32_t place; /* in the heap, from 1; 0: not armed */
  void (*fire)(plog_timer *timer, int64_t now_ms);
};

typedef struct {
  plog_timer **heap; /* heap[0] is unused */
  uint32_t count;
  uint32_t capacity;
} plog_timers;

void plog__timers_init(plog_timers *t);
void plog__timers_deinit(plog_timers *t);
/* Arm or move. 0 | -ENOMEM: then it is as it was. */
int32_t plog__timers_arm(plog_timers *t, plog_timer *timer, int64_t due_ms);
/* Harmless when it is not armed. */
void plog__timers_disarm(plog_timers *t, plog_timer *timer);
/* When the earliest is due; PLOG_NEVER when none is armed. */
int64_t plog__timers_next(const plog_timers *t);
/* Disarm and fire all that are due. A timer that fires may arm and disarm any timer, itself included. */
void plog__timers_run(plog_timers *t, int64_t now_ms);

#endif
