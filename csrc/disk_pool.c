/*
 * disk_pool.c: see disk_pool.h.
 */
#include "disk_pool.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES (128u * 1024u)

void plog__disk_pool_init(plog_disk_pool *pool, plog_sys *sys, plog_inbox *inbox, int32_t thread_count) {
  memset(pool, 0, sizeof *pool);
  pool->sys = sys;
  pool->inbox = inbox;
  pool->thread_count = PLOG_MAX(1, PLOG_MIN(thread_count, PLOG_DISK_THREADS_MAX));
  plog_assert(pthread_mutex_init(&pool->lock, NULL) == 0);
  plog_assert(pthread_cond_init(&pool->filled, NULL) == 0);
}

/* An error is left for the sender to meet again, where it closes the connection. */
static void read_range(plog_disk_pool *pool, const plog_cold *cold, uint8_t *scratch) {
  uint32_t done = 0;
  while (done < cold->size_bytes) {
    uint32_t size = PLOG_MIN(cold->size_bytes - done, READ_BYTES);
    int64_t n = plog__sys_pread(pool->sys, cold->fd, scratch, size, cold->position + done);
    if (n <= 0) return;
    done += (uint32_t)n;
  }
}

static void *thread_main(void *argument) {
  plog_disk_pool *pool = argument;
  uint8_t *scratch = malloc(READ_BYTES);
  plog_assert(scratch);
  pthread_mutex_lock(&pool->lock);
  for (;;) {
    while (!pool->first && !pool->stopping) pthread_cond_wait(&pool->filled, &pool->lock);
    plog_conn *conn = pool->first;
    if (!conn) break;
    pool->first = conn->cold_next;
    if (!pool->first) pool->last = NULL;
    pthread_mutex_unlock(&pool->lock);
    read_range(pool, &conn->cold, scratch);
    plog__inbox_put(pool->inbox, &conn->cold_done);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  free(scratch);
  return NULL;
}

int32_t plog__disk_pool_read(plog_disk_pool *pool, plog_conn *conn) {
  while (pool->started < pool->thread_count) {
    int rc = pthread_create(&pool->threads[pool->started], NULL, thread_main, pool);
    if (rc && pool->started == 0) return -rc;
    if (rc) break;
    pool->started++;
  }
  conn->reading = true;
  conn->cold_next = NULL;
  pthread_mutex_lock(&pool->lock);
  if (pool->last)
    pool->last->cold_next = conn;
  else
    pool->first = conn;
  pool->last = conn;
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
