#include "epochs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

void plog__epochs_deinit(plog_epochs *e) {
  free(e->items);
  memset(e, 0, sizeof *e);
}

static int32_t reserve(plog_epochs *e, int32_t count) {
  if (count <= e->capacity) return 0;
  int32_t capacity = PLOG_MAX(count, PLOG_MAX(e->capacity * 2, 4));
  plog_epoch *items = realloc(e->items, (size_t)capacity * sizeof *items);
  if (!items) return -ENOMEM;
  e->items = items;
  e->capacity = capacity;
  return 0;
}

int32_t plog__epochs_copy(plog_epochs *to, const plog_epochs *from) {
  int32_t rc = reserve(to, from->count);
  if (rc != 0) return rc;
  if (from->count > 0) memcpy(to->items, from->items, (size_t)from->count * sizeof *from->items);
  to->count = from->count;
  return 0;
}

bool plog__epochs_is_news(const plog_epochs *e, int32_t epoch, int64_t offset) {
  if (epoch < 0) return false;
  if (e->count == 0) return true;
  const plog_epoch *last = &e->items[e->count - 1];
  return epoch != last->epoch || offset < last->start_offset;
}

int32_t plog__epochs_assign(plog_epochs *e, int32_t epoch, int64_t offset) {
  int32_t rc = reserve(e, e->count + 1);
  if (rc != 0) return rc;
  while (e->count > 0 && (e->items[e->count - 1].epoch >= epoch || e->items[e->count - 1].start_offset >= offset))
    e->count--;
  e->items[e->count++] = (plog_epoch){epoch, offset};
  return 0;
}

void plog__epochs_cut_end(plog_epochs *e, int64_t offset) {
  while (e->count > 0 && e->items[e->count - 1].start_offset >= offset) e->count--;
}

void plog__epochs_cut_start(plog_epochs *e, int64_t offset) {
  int32_t below = 0; /* entries that begin below offset; the last of them is still in force there */
  while (below < e->count && e->items[below].start_offset < offset) below++;
  if (below == 0) return;
  if (below < e->count && e->items[below].start_offset == offset) below++; /* nothing of the one before is left */
  memmove(e->items, e->items + below - 1, (size_t)(e->count - below + 1) * sizeof *e->items);
  e->count -= below - 1;
  e->items[0].start_offset = PLOG_MAX(e->items[0].start_offset, offset);
}

int32_t plog__epochs_latest(const plog_epochs *e) {
  return e->count > 0 ? e->items[e->count - 1].epoch : -1;
}

void plog__epochs_end(const plog_epochs *e, int32_t begun, int32_t epoch, int64_t log_end, int32_t *out_epoch,
                      int64_t *out_end) {
  int32_t latest = PLOG_MAX(begun, plog__epochs_latest(e));
  *out_epoch = -1;
  *out_end = -1;
  if (epoch < 0 || epoch > latest) return;
  if (epoch == latest) {
    *out_epoch = epoch;
    *out_end = log_end;
    return;
  }
  int32_t above = 0;
  while (above < e->count && e->items[above].epoch <= epoch) above++;
  /* older than all there is: what it had is gone, and the log begins with the next epoch */
  *out_epoch = above == 0 ? epoch : e->items[above - 1].epoch;
  *out_end = above < e->count ? e->items[above].start_offset : log_end; /* begun, and nothing written in it yet */
}
