/*
 * timer.c: the heap: heap[i].due_ms <= heap[2i].due_ms and heap[2i+1].due_ms, and heap[i]->place == i.
 */
#include "timer.h"

#include <errno.h>
#include <stdlib.h>

void plog__timers_init(plog_timers *t) {
  t->heap = NULL;
  t->count = 0;
  t->capacity = 0;
}

void plog__timers_deinit(plog_timers *t) {
  free(t->heap);
  plog__timers_init(t);
}

static void put(plog_timers *t, uint32_t place, plog_timer *timer) {
  t->heap[place] = timer;
  timer->place = place;
}

static void sift_up(plog_timers *t, uint32_t place, plog_timer *timer) {
  while (place > 1 && t->heap[place / 2]->due_ms > timer->due_ms) {
    put(t, place, t->heap[place / 2]);
    place /= 2;
  }
  put(t, place, timer);
}

static void sift_down(plog_timers *t, uint32_t place, plog_timer *timer) {
  for (;;) {
    uint32_t child = place * 2;
    if (child > t->count) break;
    if (child < t->count && t->heap[child + 1]->due_ms < t->heap[child]->due_ms) child++;
    if (t->heap[child]->due_ms >= timer->due_ms) break;
    put(t, place, t->heap[child]);
    place = child;
  }
  put(t, place, timer);
}

/* Give timer, which stands at place or is to stand there, its right place. */
static void settle(plog_timers *t, uint32_t place, plog_timer *timer) {
  if (place > 1 && t->heap[place / 2]->due_ms > timer->due_ms)
    sift_up(t, place, timer);
  else
    sift_down(t, place, timer);
}

int32_t plog__timers_arm(plog_timers *t, plog_timer *timer, int64_t due_ms) {
  if (timer->place) {
    timer->due_ms = due_ms;
    settle(t, timer->place, timer);
    return 0;
  }
  if (t->count + 1 >= t->capacity) {
    uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
    plog_timer **heap = realloc(t->heap, capacity * sizeof(plog_timer *));
    if (!heap) return -ENOMEM;
    t->heap = heap;
    t->capacity = capacity;
  }
  timer->due_ms = due_ms;
  sift_up(t, ++t->count, timer);
  return 0;
}

void plog__timers_disarm(plog_timers *t, plog_timer *timer) {
  uint32_t place = timer->place;
  if (!place) return;
  plog_assert(place <= t->count && t->heap[place] == timer);
  timer->place = 0;
  plog_timer *last = t->heap[t->count--];
  if (last != timer) settle(t, place, last);
}

int64_t plog__timers_next(const plog_timers *t) {
  return t->count ? t->heap[1]->due_ms : PLOG_NEVER;
}

void plog__timers_run(plog_timers *t, int64_t now_ms) {
  while (t->count && t->heap[1]->due_ms <= now_ms) {
    plog_timer *timer = t->heap[1];
    plog__timers_disarm(t, timer);
    timer->fire(timer, now_ms);
  }
}
