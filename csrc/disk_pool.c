/*
 * disk_pool.c: see disk_pool.h.
 */
#include "disk_pool.h"

#include <stdlib.h>
#include <string.h>

void plog__disk_pool_init(plog_disk_pool *pool, plog_sys *sys, plog_inbox *inbox, int32_t thread_count) {
  memset(pool, 0, sizeof *pool);
  pool->sys = sys;
  pool->inbox = inbox;
  pool->thread_count = PLOG_MAX(1, PLOG_MIN(thread_count, PLOG_DISK_THREADS_MAX));
  plog_assert(pthread_mutex_init(&pool->lock, NULL) == 0);
  plog_assert(pthread_cond_init(&pool->filled, NULL) == 0);
}

static void *thread_main(void *argument) {
  plog_disk_pool *pool = argument;
  uint8_t *scratch = plog__pages_alloc(PLOG_DISK_SCRATCH_BYTES);
  plog_assert(scratch);
  pthread_mutex_lock(&pool->lock);
  for (;;) {
    while (!pool->first && !pool->stopping) pthread_cond_wait(&pool->filled, &pool->lock);
    plog_disk_task *task = pool->first;
    if (!task) break;
    pool->first = task->next;
    if (!pool->first) pool->last = NULL;
    pthread_mutex_unlock(&pool->lock);
    task->work(task, pool->sys, scratch);
    plog__inbox_put(pool->inbox, &task->done);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  free(scratch);
  return NULL;
}

int32_t plog__disk_pool_put(plog_disk_pool *pool, plog_disk_task *task) {
  while (pool->started < pool->thread_count) {
    int rc = pthread_create(&pool->threads[pool->started], NULL, thread_main, pool);
    if (rc && pool->started == 0) return -rc;
    if (rc) break;
    pool->started++;
  }
  task->next = NULL;
  pthread_mutex_lock(&pool->lock);
  if (pool->last)
    pool->last->next = task;
  else
    pool->first = task;
  pool->last = task;
  pthread_mutex_unlock(&pool->lock);
  pthread_cond_signal(&pool->filled);
  return 0;
}

void plog__disk_pool_deinit(plog_disk_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  pool->stopping = true;
  pthread_mutex_unlock(&pool->lock);
  pthread_cond_broadcast(&pool->filled);
  for (int32_t i = 0; i < pool->started; i++) (void)pthread_join(pool->threads[i], NULL);
  (void)pthread_cond_destroy(&pool->filled);
  (void)pthread_mutex_destroy(&pool->lock);
}
