/*
 * soundness.c: see soundness.h.
 */
#include "soundness.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_BYTES (256 * 1024)        /* compared at least, where there is so much: the next fetch will ask for it */
#define AT_ONCE_BYTES (4 * 1024 * 1024) /* … at most, so that the first bytes of a large answer do not wait for the last */

/* A range that is being compared, and who waits for it. */
typedef struct {
  plog_disk_task task;
  plog_link link; /* in the engine's list of checks */
  plog_link watches;
  plog_engine *engine;
  plog_slice slice; /* keeps the file open */
  plog_range_check check;
  plog_range_result result;
  int32_t rc;
} plog_sound_check;

/* ------------------------------------------------------------------------------------------------ telling */

static void tell(plog_engine *e, const plog_segment *s, int64_t position, int32_t error, const plog_range_result *r) {
  char path[PLOG_PATH_BYTES];
  if (plog__segment_path(s->dir, s->base_offset, ".log", path) != 0) path[0] = 0;
  plog_upcall upcall = {.kind = PLOG_UP_DAMAGE,
                        .error = error,
                        .conn = -1,
                        .slot = -1,
                        .partition = -1,
                        .offset = r->first_offset,
                        .token = position,
                        .a = r->last_offset,
                        .b = r->damaged_bytes,
                        .body = (const uint8_t *)path,
                        .body_bytes = (uint32_t)strlen(path)};
  (void)plog__upcalls_collect(&e->upcalls, &upcall);
}

/* Take over what a check of s has found. It may have been cut meanwhile: what it has from own_from on nobody has to compare. */
static void learn(plog_engine *e, plog_segment *s, int64_t from, const plog_range_result *r) {
  plog__verified_add(&s->verified, from, r->sound_to);
  plog__count(&e->counters.checked_bytes, r->sound_to - from);
  if (!r->damaged || r->sound_to >= s->verified.own_from) return;
  if (!plog__verified_add_damage(&s->verified, r->sound_to)) return;
  plog__count(&e->counters.damaged_batches, 1);
  tell(e, s, r->sound_to, 0, r);
}

/* ------------------------------------------------------------------------------------------------ before the answer */

static plog_range_check check_of(plog_engine *e, const plog_segment *s, int fd, int64_t from, int64_t to) {
  /* of a closed segment that nobody has looked into the end is not known */
  int64_t limit_offset = s->next_offset > s->base_offset ? s->next_offset : INT64_MAX;
  return (plog_range_check){.sys = e->sys,
                            .fd = fd,
                            .from = from,
                            .to = PLOG_MIN(to, s->size_bytes),
                            .limit_bytes = s->size_bytes,
                            .least_offset = s->base_offset,
                            .limit_offset = limit_offset,
                            .compare = true};
}

static void compare(plog_disk_task *task, plog_sys *sys, uint8_t *scratch) {
  (void)sys;
  plog_sound_check *c = PLOG_CONTAINER_OF(task, plog_sound_check, task);
  c->rc = plog__range_check_run(&c->check, scratch, &c->result);
}

static void compared(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_sound_check *c = PLOG_CONTAINER_OF(message, plog_sound_check, task.done);
  plog_list_remove(&c->link);
  learn(e, c->slice.segment, c->check.from, &c->result);
  if (c->rc) tell(e, c->slice.segment, c->result.sound_to, -c->rc, &c->result);
  plog__watches_fire_all(&c->watches, c->rc ? PLOG_KAFKA_STORAGE_ERROR : 0, e->now_ms);
  plog__slice_release(&c->slice);
  free(c);
}

/* One that is under way and has this position in it. */
static plog_sound_check *find_check(const plog_engine *e, const plog_slice *slice) {
  for (plog_link *at = e->checks.next; at != &e->checks; at = at->next) {
    plog_sound_check *c = PLOG_CONTAINER_OF(at, plog_sound_check, link);
    if (c->slice.segment == slice->segment && slice->position >= c->check.from && slice->position < c->check.to) return c;
  }
  return NULL;
}

/* Takes the slice when it returns 0. */
static int32_t begin_check(plog_engine *e, plog_slice *slice, plog_sound_check **out) {
  int32_t rc = plog__verified_prepare(&slice->segment->verified);
  plog_sound_check *c = rc == 0 ? calloc(1, sizeof *c) : NULL;
  if (!c) return -ENOMEM;
  int64_t size_bytes = PLOG_MIN(PLOG_MAX((int64_t)slice->size_bytes, AHEAD_BYTES), AT_ONCE_BYTES);
  c->check = check_of(e, slice->segment, slice->fd, slice->position, slice->position + size_bytes);
  c->check.least_offset = slice->first_offset;
  c->task.work = compare;
  c->task.done.run = compared;
  c->engine = e;
  c->slice = *slice;
  plog_list_init(&c->watches);
  plog_list_init(&c->link);
  rc = plog__disk_pool_put(&e->disk, &c->task);
  if (rc) {
    free(c);
    return rc;
  }
  plog_list_insert(&e->checks, &c->link);
  slice->segment = NULL;
  *out = c;
  return 0;
}

int32_t plog__sound_slice(plog_engine *e, plog_slice *slice, plog_watch *watch) {
  if (slice->size_bytes == 0) return 0;
  plog_segment *s = slice->segment;
  if (atomic_load_explicit(&s->doubted, memory_order_relaxed) && atomic_exchange(&s->doubted, false))
    plog__verified_forget(&s->verified, 0, s->size_bytes);
  int64_t sound_bytes = plog__verified_upto(&s->verified, slice->position) - slice->position;
  if (sound_bytes > 0) {
    slice->size_bytes = (uint32_t)PLOG_MIN(sound_bytes, (int64_t)slice->size_bytes);
    return 0;
  }
  int32_t rc = PLOG_CORRUPT_MESSAGE;
  if (!plog__verified_is_damaged(&s->verified, slice->position)) {
    plog_sound_check *c = find_check(e, slice);
    rc = c ? 0 : begin_check(e, slice, &c);
    if (rc == 0) {
      plog__watch_any(&c->watches, watch);
      rc = PLOG_E_AGAIN;
    }
  }
  plog__slice_release(slice);
  return rc;
}

/* ------------------------------------------------------------------------------------------------ while it is sent */

/* Bring it in; an error is left for the sender to meet again, where it closes the connection. */
static void read_range(plog_sys *sys, const plog_cold *cold, uint8_t *scratch) {
  uint32_t done = 0;
  while (done < cold->size_bytes) {
    uint32_t size = PLOG_MIN(cold->size_bytes - done, PLOG_DISK_SCRATCH_BYTES);
    int64_t n = plog__sys_pread(sys, cold->fd, scratch, size, cold->position + done);
    if (n <= 0) return;
    done += (uint32_t)n;
  }
}

static void read_cold(plog_disk_task *task, plog_sys *sys, uint8_t *scratch) {
  plog_conn *conn = PLOG_CONTAINER_OF(task, plog_conn, cold_task);
  if (conn->cold.position < conn->cold.sound_to) read_range(sys, &conn->cold, scratch); /* compared, and gone again */
  conn->cold_rc = plog__range_check_run(&conn->cold_check, scratch, &conn->cold_result);
}

static void cold_read(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_conn *conn = PLOG_CONTAINER_OF(message, plog_conn, cold_task.done);
  const plog_range_result *r = &conn->cold_result;
  conn->reading = false;
  learn(e, conn->cold.segment, conn->cold_check.from, r);
  if (conn->cold_rc) tell(e, conn->cold.segment, r->sound_to, -conn->cold_rc, r);
  if (conn->closes) return;
  if (conn->cold_rc || r->damaged) {
    plog__reactor_disconnect(e, conn);
    return;
  }
  plog__out_sound(&conn->out, r->sound_to);
  plog_list_remove(&conn->flush);
  plog_list_insert(&e->flush, &conn->flush);
}

int32_t plog__sound_cold(plog_engine *e, plog_conn *conn) {
  plog_segment *s = conn->cold.segment;
  if (plog__verified_prepare(&s->verified) != 0) return -ENOMEM;
  plog__verified_forget(&s->verified, conn->cold.sound_to, s->size_bytes);
  int64_t end = conn->cold.position + conn->cold.size_bytes;
  conn->cold_check = check_of(e, s, conn->cold.fd, conn->cold.sound_to, end);
  conn->cold_task.work = read_cold;
  conn->cold_task.done.run = cold_read;
  int32_t rc = plog__disk_pool_put(&e->disk, &conn->cold_task);
  conn->reading = rc == 0;
  return rc;
}
