/*
 * disk_pool.h: threads that wait for a disk, so that the reactor does not.
 *
 * A task is work that a thread does with the file that the task holds open; its message then goes into the inbox, and what the
 * task is part of is not freed before. Threads start with the first task.
 */
#ifndef PLOG_DISK_POOL_H
#define PLOG_DISK_POOL_H

#include <pthread.h>

#include "inbox.h"
#include "sys.h"

#define PLOG_DISK_THREADS_MAX 64
#define PLOG_DISK_SCRATCH_BYTES (128u * 1024u)

typedef struct plog_disk_task plog_disk_task;
struct plog_disk_task {
  plog_message done;
  plog_disk_task *next;
  /* Runs on a thread of the pool, with PLOG_DISK_SCRATCH_BYTES to use. */
  void (*work)(plog_disk_task *task, plog_sys *sys, uint8_t *scratch);
};

typedef struct {
  plog_sys *sys;
  plog_inbox *inbox;
  int32_t thread_count; /* wanted */
  int32_t started;
  pthread_t threads[PLOG_DISK_THREADS_MAX];
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t filled;
  plog_disk_task *first;
  plog_disk_task *last;
  bool stopping;
} plog_disk_pool;

void plog__disk_pool_init(plog_disk_pool *pool, plog_sys *sys, plog_inbox *inbox, int32_t thread_count);
/* Ends the threads after the tasks they are at and those that wait. */
void plog__disk_pool_deinit(plog_disk_pool *pool);
/* Have it done. Reactor. 0 | -errno: no thread could be started */
int32_t plog__disk_pool_put(plog_disk_pool *pool, plog_disk_task *task);

#endif
