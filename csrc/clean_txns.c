#include "clean_txns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

void plog__clean_txns_init(plog_clean_txns *t) {
  memset(t, 0, sizeof *t);
}

void plog__clean_txns_deinit(plog_clean_txns *t) {
  free(t->producers);
  free(t->ahead);
  memset(t, 0, sizeof *t);
}

/* ---------------------------------------------------------------------------------------------- producers */

static plog_clean_producer *slot_of(plog_clean_producer *producers, uint32_t capacity, int64_t producer_id) {
  uint32_t i = (uint32_t)((uint64_t)producer_id * 0x9e3779b97f4a7c15ull >> 32);
  for (;; i++) {
    plog_clean_producer *p = &producers[i & (capacity - 1)];
    if (!p->used || p->producer_id == producer_id) return p;
  }
}

static int32_t grow_producers(plog_clean_txns *t) {
  uint32_t capacity = PLOG_MAX(t->capacity * 2, 16u);
  plog_clean_producer *producers = calloc(capacity, sizeof *producers);
  if (!producers) return -ENOMEM;
  for (uint32_t i = 0; i < t->capacity; i++)
    if (t->producers[i].used) *slot_of(producers, capacity, t->producers[i].producer_id) = t->producers[i];
  free(t->producers);
  t->producers = producers;
  t->capacity = capacity;
  return 0;
}

static int32_t find_producer(plog_clean_txns *t, int64_t producer_id, plog_clean_producer **out) {
  if (t->count * 2 >= t->capacity) {
    int32_t rc = grow_producers(t);
    if (rc != 0) return rc;
  }
  plog_clean_producer *p = slot_of(t->producers, t->capacity, producer_id);
  if (!p->used) {
    p->used = true;
    p->producer_id = producer_id;
    t->count++;
  }
  *out = p;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- aborted transactions */

static int by_first_offset(const void *a, const void *b) {
  int64_t x = ((const plog_aborted *)a)->first_offset, y = ((const plog_aborted *)b)->first_offset;
  return x < y ? -1 : x > y;
}

int32_t plog__clean_txns_add(plog_clean_txns *t, const plog_aborted *aborted, int32_t count) {
  if (count == 0) return 0;
  int32_t left = t->ahead_count - t->next;
  if (left > 0 && t->next > 0) memmove(t->ahead, t->ahead + t->next, (size_t)left * sizeof *t->ahead);
  t->ahead_count = left;
  t->next = 0;
  if (left + count > t->ahead_capacity) {
    int32_t capacity = PLOG_MAX(left + count, t->ahead_capacity * 2);
    plog_aborted *ahead = realloc(t->ahead, (size_t)capacity * sizeof *ahead);
    if (!ahead) return -ENOMEM;
    t->ahead = ahead;
    t->ahead_capacity = capacity;
  }
  memcpy(t->ahead + left, aborted, (size_t)count * sizeof *aborted);
  t->ahead_count += count;
  qsort(t->ahead, (size_t)t->ahead_count, sizeof *t->ahead, by_first_offset);
  return 0;
}

/* The pass has come to `offset`: transactions that begin at or below it are under way. */
static int32_t advance(plog_clean_txns *t, int64_t offset) {
  for (; t->next < t->ahead_count && t->ahead[t->next].first_offset <= offset; t->next++) {
    plog_clean_producer *p;
    int32_t rc = find_producer(t, t->ahead[t->next].producer_id, &p);
    if (rc != 0) return rc;
    if (p->aborted) continue;
    p->aborted = true;
    p->met = false;
    p->transaction = t->ahead[t->next];
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- walking */

int32_t plog__clean_txns_batch(plog_clean_txns *t, const plog_batch_header *header, bool *discard) {
  *discard = false;
  int32_t rc = advance(t, plog__batch_last_offset(header));
  if (rc != 0 || !(header->attributes & PLOG_ATTR_TRANSACTIONAL)) return rc;
  plog_clean_producer *p;
  rc = find_producer(t, header->producer_id, &p);
  if (rc != 0) return rc;
  if (p->aborted)
    p->met = *discard = true;
  else
    p->committed = true;
  return 0;
}

int32_t plog__clean_txns_marker(plog_clean_txns *t, const uint8_t *data, const plog_batch_header *header, bool *discard,
                                plog_aborted *kept) {
  kept->producer_id = -1;
  *discard = header->records_count == 0; /* emptied before, and of use for its producer's epoch only */
  int32_t rc = advance(t, plog__batch_last_offset(header));
  plog_marker marker;
  if (rc != 0 || *discard || plog__batch_marker(data, header->size_bytes, header, &marker) != 0) return rc;
  plog_clean_producer *p;
  rc = find_producer(t, header->producer_id, &p);
  if (rc != 0) return rc;
  if (marker.abort) {
    if (p->aborted && p->met)
      *kept = p->transaction;
    else
      *discard = true;
    p->aborted = false;
  } else {
    *discard = !p->committed;
    p->committed = false;
  }
  return 0;
}
