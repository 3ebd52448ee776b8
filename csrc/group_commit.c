/*
 * group_commit.c: see group_commit.h.
 *
 * The order in which a sync goes: the records of old segments and new ones, then the names of the segments, then the partitions'
 * own files and names. Whatever a power cut leaves of that, nobody was told of it yet.
 */
#include "group_commit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_move.h"
#include "reactor.h"

#define METADATA_FILE "partition.metadata"
#define RETRY_MS 100

/* ------------------------------------------------------------------------------------------------ the thread */

static int32_t sync_items(const plog_sync_group *g) {
  int32_t rc = 0;
  for (int32_t i = 0; i < g->items_count && rc == 0; i++) {
    const plog_sync_item *item = &g->items[i];
    rc = plog__flush_run(&item->flush);
    if (rc == 0 && item->metadata_fd >= 0) rc = plog__sys_fdatasync(g->engine->sys, item->metadata_fd);
  }
  if (rc == 0 && g->dir_fd >= 0) rc = plog__sys_fsync(g->engine->sys, g->dir_fd);
  return rc;
}

static void *thread_main(void *argument) {
  plog_sync_group *g = argument;
  plog_sys *sys = g->engine->sys;
  pthread_mutex_lock(&g->lock);
  for (;;) {
    while (!g->full && !g->stopping) pthread_cond_wait(&g->filled, &g->lock);
    if (!g->full) break;
    g->full = false;
    pthread_mutex_unlock(&g->lock);
    int64_t began_ns = plog__sys_monotonic_ns(sys);
    g->rc = sync_items(g);
    g->took_us = (plog__sys_monotonic_ns(sys) - began_ns) / 1000;
    plog__inbox_put(&g->engine->inbox, &g->done);
    pthread_mutex_lock(&g->lock);
  }
  pthread_mutex_unlock(&g->lock);
  return NULL;
}

/* It takes no signals: those are the main thread's. */
static int32_t start_thread(plog_sync_group *g) {
  sigset_t all, before;
  (void)sigfillset(&all);
  int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (rc) return -rc;
  rc = pthread_create(&g->thread, NULL, thread_main, g);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  g->started = rc == 0;
  return -rc;
}

/* ------------------------------------------------------------------------------------------------ beginning */

/* The file with the topic's id, of a partition whose own names may not be on disk. *out -1: there is none. */
static int32_t open_metadata(plog_sys *sys, const char *dir, int *out) {
  char path[PLOG_PATH_BYTES];
  int n = snprintf(path, sizeof path, "%s/%s", dir, METADATA_FILE);
  if (n < 0 || n >= (int)sizeof path) return -ENAMETOOLONG;
  *out = plog__sys_open(sys, path, O_RDONLY | O_CLOEXEC, 0);
  return *out >= 0 || *out == -ENOENT ? 0 : *out;
}

static int32_t open_data_directory(plog_sync_group *g) {
  if (g->dir_fd >= 0) return 0;
  g->dir_fd = plog__sys_open(g->engine->sys, g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  return PLOG_MIN(g->dir_fd, 0);
}

static void release_item(plog_sync_group *g, plog_sync_item *item) {
  plog__flush_release(&item->flush);
  if (item->metadata_fd >= 0) (void)plog__sys_close(g->engine->sys, item->metadata_fd);
}

static void release_items(plog_sync_group *g) {
  for (int32_t i = 0; i < g->items_count; i++) release_item(g, &g->items[i]);
  g->items_count = 0;
  if (g->dir_fd >= 0) (void)plog__sys_close(g->engine->sys, g->dir_fd);
  g->dir_fd = -1;
}

static int32_t add_item(plog_sync_group *g, const plog_partition *p) {
  if (g->items_count == g->items_capacity) {
    int32_t capacity = PLOG_MAX(8, g->items_capacity * 2);
    plog_sync_item *items = realloc(g->items, (size_t)capacity * sizeof *items);
    if (!items) return -ENOMEM;
    g->items = items;
    g->items_capacity = capacity;
  }
  plog_sync_item item = {.partition = p->number, .log_serial = p->log_serial, .metadata_fd = -1};
  int32_t rc = plog__log_flush_begin(p->log, g->always ? p->sync_from : PLOG_FROM_RECOVERY_POINT, &item.flush);
  if (rc == 0 && !p->named) {
    rc = open_metadata(g->engine->sys, plog__log_dir(p->log), &item.metadata_fd);
    if (rc == 0) rc = open_data_directory(g);
  }
  if (rc)
    release_item(g, &item);
  else
    g->items[g->items_count++] = item;
  return rc;
}

/* The machine has too little of something now; it says nothing of the disk. */
static bool is_shortage(int32_t rc) {
  return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EAGAIN;
}

static void fail(plog_sync_group *g, int32_t error);

static void retry(plog_timer *timer, int64_t now_ms) {
  (void)timer;
  (void)now_ms; /* the turn goes on to start what can be started */
}

/* Hand what waits to the thread; what there is no room for waits on. */
static void begin(plog_sync_group *g) {
  int32_t rc = g->started ? 0 : start_thread(g);
  while (rc == 0 && !plog_list_empty(&g->waiting)) {
    plog_partition *p = PLOG_CONTAINER_OF(g->waiting.next, plog_partition, unsynced);
    rc = add_item(g, p);
    if (rc == 0) plog_list_remove(&p->unsynced);
  }
  if (rc && !is_shortage(rc)) {
    release_items(g);
    fail(g, -rc);
    return;
  }
  if (g->items_count == 0) {
    plog_engine *e = g->engine;
    if (!g->retry.place) (void)plog__timers_arm(&e->timers, &g->retry, e->now_ms + RETRY_MS);
    return;
  }
  g->busy = true;
  pthread_mutex_lock(&g->lock);
  g->full = true;
  pthread_mutex_unlock(&g->lock);
  pthread_cond_signal(&g->filled);
}

void plog__sync_groups_start(plog_engine *e) {
  for (plog_sync_group *g = e->sync_groups.first; g; g = g->next)
    if (!g->busy && !g->failed && !plog_list_empty(&g->waiting)) begin(g);
}

int64_t plog__sync_group_spares(const plog_partition *p) {
  if (!p->group) return INT64_MAX;
  return p->group->always ? 0 : plog__log_flush_messages(p->log) - 1;
}

/* More records of p are not on the disk than may wait. */
static bool has_too_many(const plog_partition *p) {
  int64_t since = p->group->always ? p->sync_from : p->synced_end;
  return plog__log_end(p->log) - since > plog__sync_group_spares(p);
}

void plog__sync_group_wants(plog_partition *p) {
  if (!p->group || p->group->failed || !p->log || !plog_list_empty(&p->unsynced)) return;
  if (has_too_many(p)) plog_list_insert(&p->group->waiting, &p->unsynced);
}

/* ------------------------------------------------------------------------------------------------ ending */

/* The directory is lost: its partitions refuse everybody who writes, and Python hears which one it is. */
static void fail(plog_sync_group *g, int32_t error) {
  plog_engine *e = g->engine;
  g->failed = error;
  while (!plog_list_empty(&g->waiting)) plog_list_remove(g->waiting.next);
  for (uint32_t i = 0; i < e->topics.slots_used; i++) {
    plog_partition *p = e->topics.slots[i];
    if (p && p->log && p->group == g) plog__partition_sync_failed(p, error, e->now_ms);
  }
  plog_upcall upcall = {.kind = PLOG_UP_SYNC_FAILED,
                        .error = error,
                        .conn = -1,
                        .slot = -1,
                        .partition = -1,
                        .offset = -1,
                        .body = (const uint8_t *)g->dir,
                        .body_bytes = (uint32_t)strlen(g->dir)};
  (void)plog__upcalls_collect(&e->upcalls, &upcall);
}

/* The partition that the item was begun for, unless it has gone or its log is another one, or cut. */
static plog_partition *partition_of(const plog_sync_group *g, const plog_sync_item *item) {
  plog_partition *p = plog__topics_by_number(&g->engine->topics, item->partition);
  return p && p->log && p->group == g && p->log_serial == item->log_serial ? p : NULL;
}

static void sync_done(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_sync_group *g = PLOG_CONTAINER_OF(message, plog_sync_group, done);
  g->busy = false;
  plog__count(&e->counters.syncs, 1);
  plog__count(&e->counters.sync_us, g->took_us);
  for (int32_t i = 0; i < g->items_count && g->rc == 0; i++) {
    const plog_sync_item *item = &g->items[i];
    plog_partition *p = partition_of(g, item);
    if (!p) continue;
    plog__log_flush_done(p->log, &item->flush);
    p->named = true;
    plog__partition_synced(p, item->flush.end, e->now_ms);
    if (!has_too_many(p)) plog_list_remove(&p->unsynced); /* what came during the sync may wait now that it has ended */
  }
  release_items(g);
  if (g->rc) fail(g, -g->rc);
}

/* ------------------------------------------------------------------------------------------------ life */

static plog_sync_group *find(const plog_sync_groups *groups, const char *dir, size_t dir_bytes) {
  for (plog_sync_group *g = groups->first; g; g = g->next)
    if (strlen(g->dir) == dir_bytes && memcmp(g->dir, dir, dir_bytes) == 0) return g;
  return NULL;
}

void plog__sync_group_join(const plog_sync_groups *groups, plog_partition *p, int64_t synced_end, int64_t sync_from) {
  const char *dir = plog__log_dir(p->log), *name = strrchr(dir, '/');
  plog_list_remove(&p->unsynced);
  p->group = name ? find(groups, dir, (size_t)(name - dir)) : NULL;
  p->synced_end = synced_end;
  p->sync_from = sync_from;
  p->log_serial++;
  p->named = false;
  if (p->group && p->group->failed) p->failed = p->group->failed;
}

int32_t plog__sync_groups_add(plog_engine *e, const char *dir, bool always) {
  size_t dir_bytes = strlen(dir);
  if (find(&e->sync_groups, dir, dir_bytes)) return 0;
  plog_sync_group *g = calloc(1, sizeof *g + dir_bytes + 1);
  if (!g) return -ENOMEM;
  memcpy(g->dir, dir, dir_bytes);
  g->engine = e;
  g->done.run = sync_done;
  g->always = always;
  g->dir_fd = -1;
  g->retry.fire = retry;
  plog_list_init(&g->waiting);
  plog_assert(pthread_mutex_init(&g->lock, NULL) == 0);
  plog_assert(pthread_cond_init(&g->filled, NULL) == 0);
  g->next = e->sync_groups.first;
  e->sync_groups.first = g;
  return 0;
}

bool plog__sync_groups_busy(const plog_sync_groups *groups) {
  for (const plog_sync_group *g = groups->first; g; g = g->next)
    if (g->busy || !plog_list_empty(&g->waiting)) return true;
  return false;
}

void plog__sync_groups_stop(plog_sync_groups *groups) {
  for (plog_sync_group *g = groups->first; g; g = g->next) {
    if (!g->started) continue;
    pthread_mutex_lock(&g->lock);
    g->stopping = true;
    pthread_mutex_unlock(&g->lock);
    pthread_cond_signal(&g->filled);
    (void)pthread_join(g->thread, NULL);
    g->started = false;
  }
}

void plog__sync_groups_deinit(plog_sync_groups *groups) {
  while (groups->first) {
    plog_sync_group *g = groups->first;
    groups->first = g->next;
    plog_assert(!g->busy && plog_list_empty(&g->waiting));
    free(g->items);
    (void)pthread_cond_destroy(&g->filled);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
  }
}
