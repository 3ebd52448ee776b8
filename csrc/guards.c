/*
 * guards.c: see guards.h. A list: there are as many as producers whose transaction is just beginning here.
 */
#include "guards.h"

#include <errno.h>
#include <stdlib.h>

/* Longer than anybody waits for a coordinator; guards of those who were refused are forgotten so. */
#define KEPT_MS 600000

static void forget_old(plog_guards *g, int64_t now_ms) {
  int32_t kept = 0;
  for (int32_t i = 0; i < g->count; i++)
    if (now_ms - g->items[i].begun_ms < KEPT_MS) g->items[kept++] = g->items[i];
  g->count = kept;
}

static int32_t find(const plog_guards *g, int64_t producer_id) {
  for (int32_t i = 0; i < g->count; i++)
    if (g->items[i].producer_id == producer_id) return i;
  return -1;
}

static void lower(plog_guard *guard, int32_t epoch, int32_t sequence) {
  if (epoch > guard->epoch || (epoch == guard->epoch && sequence < guard->lowest_sequence))
    guard->lowest_sequence = sequence;
  guard->epoch = PLOG_MAX(guard->epoch, epoch);
}

int64_t plog__guards_begin(plog_guards *g, int64_t producer_id, int32_t epoch, int32_t sequence, bool from_zero,
                           int64_t now_ms) {
  int32_t at = find(g, producer_id);
  if (at >= 0) {
    g->items[at].begun_ms = now_ms;
    lower(&g->items[at], epoch, sequence);
    return g->items[at].number;
  }
  if (g->count == g->capacity) forget_old(g, now_ms);
  if (g->count == g->capacity) {
    int32_t capacity = PLOG_MAX(g->capacity * 2, 4);
    plog_guard *items = realloc(g->items, (size_t)capacity * sizeof *items);
    if (!items) return -ENOMEM;
    g->items = items;
    g->capacity = capacity;
  }
  g->items[g->count++] = (plog_guard){producer_id, ++g->last_number, now_ms, epoch, sequence, from_zero};
  return g->last_number;
}

bool plog__guards_hold(const plog_guards *g, int64_t producer_id, int64_t number) {
  int32_t at = find(g, producer_id);
  return at >= 0 && g->items[at].number == number;
}

bool plog__guards_is_ahead(const plog_guards *g, int64_t producer_id, int32_t sequence) {
  int32_t at = find(g, producer_id);
  return at >= 0 && sequence > g->items[at].lowest_sequence;
}

bool plog__guards_from_zero(const plog_guards *g, int64_t producer_id) {
  int32_t at = find(g, producer_id);
  return at >= 0 && g->items[at].from_zero;
}

void plog__guards_end(plog_guards *g, int64_t producer_id) {
  int32_t at = find(g, producer_id);
  if (at >= 0) g->items[at] = g->items[--g->count];
}

void plog__guards_clear(plog_guards *g) {
  free(g->items);
  g->items = NULL;
  g->count = g->capacity = 0; /* numbers go on: none comes twice */
}
