/*
 * appends.c: what Python appends as the leader, the coordinators' way in. See plog.h.
 *
 * All that one turn of Python's appends is one command: a wait for the reactor costs two changes of thread, whatever it brings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "purgatory.h"
#include "reactor.h"
#include "topic.h"

#define APPENDS_PER_COMMAND 64 /* between those the reactor serves */

/* An append that waits for the high watermark. */
typedef struct {
  plog_watch watch;
  plog_engine *engine;
  int64_t partition;
  int64_t token;
} plog_token_watch;

static void token_fired(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)now_ms;
  plog_token_watch *t = PLOG_CONTAINER_OF(watch, plog_token_watch, watch);
  plog_upcall upcall = {.kind = PLOG_UP_COMMITTED,
                        .error = error,
                        .conn = -1,
                        .slot = -1,
                        .partition = t->partition,
                        .offset = watch->offset - 1,
                        .token = t->token};
  (void)plog__upcalls_collect(&t->engine->upcalls, &upcall);
  free(t);
}

static int32_t wait_for_commit(plog_engine *e, plog_partition *p, int64_t offset, int64_t token) {
  plog_token_watch *t = calloc(1, sizeof *t);
  if (!t) return -ENOMEM;
  t->engine = e;
  t->partition = p->number;
  t->token = token;
  plog__watch_init(&t->watch, token_fired);
  plog__watch_offset(&p->offset_watches, &t->watch, offset);
  return 0;
}

/* copy: of the batch; offsets are stamped into it. */
static int32_t append(plog_engine *e, plog_appending *a, uint8_t *copy) {
  plog_partition *p = plog__topics_by_number(&e->topics, a->partition);
  if (!p || !p->log) return PLOG_E_CLOSED;
  if (p->offsets_end > a->heard) return PLOG_E_AGAIN;
  plog_append result;
  int32_t rc = plog__partition_append(p, copy, a->size_bytes, PLOG_ACKS_ALL, false, e->wall_ms, &result);
  if (rc < 0 && rc != -ENOMEM) {
    plog__partition_fire(p, e->now_ms);
    plog__reactor_report(e, p, -rc);
    return PLOG_KAFKA_STORAGE_ERROR;
  }
  if (rc) return rc;
  rc = plog__reactor_commit(e, p);
  free(result.rewritten);
  if (rc) return PLOG_KAFKA_STORAGE_ERROR;
  a->base = result.base_offset;
  a->last = result.last_offset;
  a->committed = plog__partition_high_watermark(p) > result.last_offset;
  return a->committed ? 0 : wait_for_commit(e, p, result.last_offset + 1, a->token);
}

typedef struct {
  plog_appending *items;
  int32_t count;
  uint8_t *copies; /* of their batches, one behind the other */
} plog_appends;

static int32_t act_append_all(plog_engine *e, void *arguments) {
  const plog_appends *all = arguments;
  uint8_t *copy = all->copies;
  for (int32_t i = 0; i < all->count; i++) {
    plog_appending *a = &all->items[i];
    a->rc = append(e, a, copy);
    copy += a->size_bytes;
  }
  return 0;
}

static void append_some(plog_engine *e, plog_appending *items, int32_t count) {
  size_t size_bytes = 0;
  for (int32_t i = 0; i < count; i++) size_bytes += items[i].size_bytes;
  plog_appends all = {items, count, malloc(PLOG_MAX(size_bytes, 1))};
  uint8_t *copy = all.copies;
  for (int32_t i = 0; i < count; i++) {
    items[i].rc = -ENOMEM;
    if (!copy || items[i].size_bytes == 0) continue;
    memcpy(copy, items[i].batch, items[i].size_bytes);
    copy += items[i].size_bytes;
  }
  if (all.copies) (void)plog__command_run(e, act_append_all, &all);
  free(all.copies);
}

void plog_engine_append_all(plog_engine *e, plog_appending *items, int32_t count) {
  for (int32_t at = 0; at < count; at += APPENDS_PER_COMMAND)
    append_some(e, items + at, PLOG_MIN(count - at, APPENDS_PER_COMMAND));
}

int32_t plog_engine_append(plog_engine *e, int64_t partition, const uint8_t *batch, size_t size_bytes, int64_t token,
                           int64_t *out_base, int64_t *out_last, int32_t *out_committed) {
  plog_appending one = {
      .partition = partition, .batch = batch, .size_bytes = size_bytes, .token = token, .heard = INT64_MAX};
  plog_engine_append_all(e, &one, 1);
  if (one.rc) return one.rc;
  *out_base = one.base;
  *out_last = one.last;
  *out_committed = one.committed;
  return 0;
}
