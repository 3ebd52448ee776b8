/*
 * upcall.c: see upcall.h.
 */
#include "upcall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct plog_upcall_entry {
  plog_upcall_entry *next;
  plog_upcall upcall;
  uint8_t bytes[]; /* body, then client id */
};

/* Kinds whose body is theirs until it is released. */
static bool has_body(const plog_upcall *upcall) {
  return upcall->kind == PLOG_UP_REQUEST || upcall->kind == PLOG_UP_GRANT || upcall->kind == PLOG_UP_ROOM ||
         upcall->kind == PLOG_UP_SYNC_FAILED || upcall->kind == PLOG_UP_DAMAGE || upcall->kind == PLOG_UP_VERIFY ||
         upcall->kind == PLOG_UP_OFFSETS;
}

void plog__upcalls_init(plog_upcalls *u, plog_sys *sys) {
  memset(u, 0, sizeof *u);
  u->sys = sys;
  plog_assert(pthread_mutex_init(&u->lock, NULL) == 0);
  pthread_condattr_t attributes;
  plog_assert(pthread_condattr_init(&attributes) == 0);
  plog_assert(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
  plog_assert(pthread_cond_init(&u->filled, &attributes) == 0);
  (void)pthread_condattr_destroy(&attributes);
}

static void free_list(plog_upcall_entry *entry) {
  while (entry) {
    plog_upcall_entry *next = entry->next;
    free(entry);
    entry = next;
  }
}

void plog__upcalls_deinit(plog_upcalls *u) {
  free_list(u->collected_first);
  free_list(u->first);
  (void)pthread_cond_destroy(&u->filled);
  (void)pthread_mutex_destroy(&u->lock);
}

plog_upcall_entry *plog__upcall_make(const plog_upcall *upcall) {
  size_t client_id_bytes = upcall->client_id ? (size_t)upcall->client_id_bytes : 0;
  plog_upcall_entry *entry = malloc(sizeof *entry + upcall->body_bytes + client_id_bytes);
  if (!entry) return NULL;
  entry->next = NULL;
  entry->upcall = *upcall;
  if (has_body(upcall)) {
    if (upcall->body_bytes) memcpy(entry->bytes, upcall->body, upcall->body_bytes);
    entry->upcall.body = entry->bytes;
    if (upcall->client_id) {
      memcpy(entry->bytes + upcall->body_bytes, upcall->client_id, client_id_bytes);
      entry->upcall.client_id = entry->bytes + upcall->body_bytes;
    }
  }
  return entry;
}

plog_upcall *plog__upcall_of(plog_upcall_entry *entry) {
  return &entry->upcall;
}

void plog__upcall_drop(plog_upcall_entry *entry) {
  free(entry);
}

/* What Python is told of and need not hurry with counts as long as it has not. */
static void count_behind(plog_upcalls *u, const plog_upcall *upcall, int64_t sign) {
  if (upcall->kind != PLOG_UP_OFFSETS) return;
  (void)atomic_fetch_add_explicit(&u->behind_bytes, sign * (int64_t)upcall->body_bytes, memory_order_relaxed);
}

void plog__upcalls_put(plog_upcalls *u, plog_upcall_entry *entry) {
  if (u->collected_last)
    u->collected_last->next = entry;
  else
    u->collected_first = entry;
  u->collected_last = entry;
  count_behind(u, &entry->upcall, 1);
}

int32_t plog__upcalls_collect(plog_upcalls *u, const plog_upcall *upcall) {
  plog_upcall_entry *entry = plog__upcall_make(upcall);
  if (!entry) return -ENOMEM;
  plog__upcalls_put(u, entry);
  return 0;
}

void plog__upcalls_publish(plog_upcalls *u) {
  if (!u->collected_first) return;
  pthread_mutex_lock(&u->lock);
  if (u->last)
    u->last->next = u->collected_first;
  else
    u->first = u->collected_first;
  u->last = u->collected_last;
  bool waiting = u->waiting;
  pthread_mutex_unlock(&u->lock);
  u->collected_first = NULL;
  u->collected_last = NULL;
  if (waiting) pthread_cond_signal(&u->filled);
}

static void raise_flag(plog_upcalls *u, bool *flag) {
  pthread_mutex_lock(&u->lock);
  *flag = true;
  pthread_mutex_unlock(&u->lock);
  pthread_cond_signal(&u->filled);
}

void plog__upcalls_stop(plog_upcalls *u) {
  raise_flag(u, &u->stopped);
}

void plog__upcalls_wake(plog_upcalls *u) {
  raise_flag(u, &u->woken);
}

static struct timespec deadline_after(plog_sys *sys, int32_t timeout_ms) {
  int64_t ns = plog__sys_monotonic_ns(sys) + (int64_t)timeout_ms * 1000000;
  return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

/* Take what fits. Those with a body stay allocated behind its pointer; the rest is copied out and freed. */
static int32_t take(plog_upcalls *u, plog_upcall *out, int32_t capacity) {
  int32_t count = 0;
  while (u->first && count < capacity) {
    plog_upcall_entry *entry = u->first;
    u->first = entry->next;
    if (!u->first) u->last = NULL;
    out[count++] = entry->upcall;
    count_behind(u, &entry->upcall, -1);
    if (!has_body(&entry->upcall)) free(entry);
  }
  return count;
}

int32_t plog__upcalls_poll(plog_upcalls *u, int32_t timeout_ms, plog_upcall *out, int32_t capacity, int32_t *count) {
  struct timespec deadline = deadline_after(u->sys, PLOG_MAX(timeout_ms, 0));
  pthread_mutex_lock(&u->lock);
  int rc = 0;
  while (!u->first && !u->woken && !u->stopped && timeout_ms != 0 && rc != ETIMEDOUT) {
    u->waiting = true;
    rc = timeout_ms < 0 ? pthread_cond_wait(&u->filled, &u->lock) : pthread_cond_timedwait(&u->filled, &u->lock, &deadline);
  }
  u->waiting = false;
  u->woken = false;
  *count = take(u, out, capacity);
  bool over = *count == 0 && u->stopped;
  pthread_mutex_unlock(&u->lock);
  return over ? PLOG_E_STOPPED : 0;
}

void plog__upcall_release(const plog_upcall *upcall) {
  if (has_body(upcall) && upcall->body) free(PLOG_CONTAINER_OF(upcall->body, plog_upcall_entry, bytes));
}
