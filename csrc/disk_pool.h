/*
 * disk_pool.h: threads that read what is not in the page cache, so that the reactor does not wait for a disk.
 *
 * The reactor hands over a connection whose next slice is cold; a thread reads that range (into nothing: the page cache keeps
 * it) and puts the connection's message into the inbox. From the hand-over to that message the connection is not freed.
 * Threads start with the first cold read.
 */
#ifndef PLOG_DISK_POOL_H
#define PLOG_DISK_POOL_H

#include <pthread.h>

#include "conn.h"
#include "inbox.h"
#include "sys.h"

#define PLOG_DISK_THREADS_MAX 64

typedef struct {
  plog_sys *sys;
  plog_inbox *inbox;
  int32_t thread_count; /* wanted */
  int32_t started;
  pthread_t threads[PLOG_DISK_THREADS_MAX];
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t filled;
  plog_conn *first;
  plog_conn *last;
  bool stopping;
} plog_disk_pool;

void plog__disk_pool_init(plog_disk_pool *pool, plog_sys *sys, plog_inbox *inbox, int32_t thread_count);
/* Ends the threads after the reads they are at and those that wait. */
void plog__disk_pool_deinit(plog_disk_pool *pool);
/* Read conn->cold. Reactor. 0 | -errno: no thread could be started */
int32_t plog__disk_pool_read(plog_disk_pool *pool, plog_conn *conn);

#endif
