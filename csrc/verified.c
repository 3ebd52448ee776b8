/*
 * verified.c: see verified.h.
 */
#include "verified.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

void plog__verified_deinit(plog_verified *v) {
  free(v->read);
  v->read = NULL;
}

int64_t plog__verified_upto(const plog_verified *v, int64_t position) {
  if (position >= v->own_from) return INT64_MAX;
  for (int32_t i = 0; v->read && i < v->read->count; i++) {
    const plog_range *r = &v->read->ranges[i];
    if (position >= r->from && position < r->to) return r->to >= v->own_from ? INT64_MAX : r->to;
  }
  return position;
}

int32_t plog__verified_prepare(plog_verified *v) {
  if (!v->read) v->read = calloc(1, sizeof *v->read);
  return v->read ? 0 : -ENOMEM;
}

static void remove_range(plog_verified_read *read, int32_t i) {
  read->count--;
  memmove(&read->ranges[i], &read->ranges[i + 1], (size_t)(read->count - i) * sizeof(plog_range));
}

static int32_t smallest(const plog_verified_read *read) {
  int32_t found = 0;
  for (int32_t i = 1; i < read->count; i++)
    if (read->ranges[i].to - read->ranges[i].from < read->ranges[found].to - read->ranges[found].from) found = i;
  return found;
}

void plog__verified_add(plog_verified *v, int64_t from, int64_t to) {
  to = PLOG_MIN(to, v->own_from);
  if (from >= to || plog__verified_prepare(v) != 0) return;
  plog_verified_read *read = v->read;
  for (int32_t i = read->count - 1; i >= 0; i--) { /* those that touch become one with it */
    const plog_range *r = &read->ranges[i];
    if (r->to < from || r->from > to) continue;
    from = PLOG_MIN(from, r->from);
    to = PLOG_MAX(to, r->to);
    remove_range(read, i);
  }
  if (read->count == PLOG_VERIFIED_RANGES) remove_range(read, smallest(read));
  int32_t at = read->count;
  while (at > 0 && read->ranges[at - 1].from > from) at--;
  memmove(&read->ranges[at + 1], &read->ranges[at], (size_t)(read->count - at) * sizeof(plog_range));
  read->ranges[at] = (plog_range){from, to};
  read->count++;
}

void plog__verified_forget(plog_verified *v, int64_t from, int64_t size_bytes) {
  int64_t own_from = v->own_from;
  v->own_from = PLOG_MAX(own_from, size_bytes);
  plog__verified_add(v, own_from, v->own_from);
  if (!v->read) return;
  for (int32_t i = v->read->count - 1; i >= 0; i--) {
    plog_range *r = &v->read->ranges[i];
    r->to = PLOG_MIN(r->to, from);
    if (r->to <= r->from) remove_range(v->read, i);
  }
}

void plog__verified_cut(plog_verified *v, int64_t size_bytes) {
  v->own_from = PLOG_MIN(v->own_from, size_bytes);
  plog_verified_read *read = v->read;
  if (!read) return;
  for (int32_t i = read->count - 1; i >= 0; i--) {
    read->ranges[i].to = PLOG_MIN(read->ranges[i].to, size_bytes);
    if (read->ranges[i].to <= read->ranges[i].from) remove_range(read, i);
  }
  read->damages_count = 0; /* other batches will lie there */
}

bool plog__verified_is_damaged(const plog_verified *v, int64_t position) {
  for (int32_t i = 0; v->read && i < v->read->damages_count; i++)
    if (v->read->damages[i] == position) return true;
  return false;
}

bool plog__verified_add_damage(plog_verified *v, int64_t position) {
  if (plog__verified_is_damaged(v, position)) return false;
  if (plog__verified_prepare(v) != 0) return true;
  plog_verified_read *read = v->read;
  read->damages[read->damages_next] = position;
  read->damages_next = (read->damages_next + 1) % PLOG_VERIFIED_DAMAGES;
  read->damages_count = PLOG_MIN(read->damages_count + 1, PLOG_VERIFIED_DAMAGES);
  return true;
}
