/*
 * open_files.h: which files stay open although nobody uses them now: as many as the capacity says, those used longest ago
 * go first. So descriptors do not grow with the number of segments on disk, and a segment that is read again and again is
 * not opened again and again.
 *
 * What is in here owns its item (an open segment), and knows what to close. Any thread.
 */
#ifndef PLOG_OPEN_FILES_H
#define PLOG_OPEN_FILES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base.h"

typedef struct {
  plog_link link;
  bool present;      /* guarded by the lock */
  _Atomic bool used; /* since it was last looked at */
} plog_open_item;

typedef struct {
  pthread_mutex_t lock;
  plog_link items; /* the next to go first */
  int32_t count;
  int32_t capacity;
} plog_open_files;

/* Capacity when nobody says otherwise: three descriptors each, below the usual limit of 1024. */
enum { PLOG_OPEN_FILES_DEFAULT = 128 };

void plog__open_files_init(plog_open_files *files);
void plog__open_files_deinit(plog_open_files *files); /* empty by then */
void plog__open_item_init(plog_open_item *item);

/* Put it in. False: it is in already. */
bool plog__open_files_add(plog_open_files *files, plog_open_item *item);
/* Take it out. False: it is not in. */
bool plog__open_files_remove(plog_open_files *files, plog_open_item *item);
/* Take out one that is too many, NULL when none is. */
plog_open_item *plog__open_files_excess(plog_open_files *files);
void plog__open_files_limit(plog_open_files *files, int32_t capacity);
int32_t plog__open_files_count(plog_open_files *files);

/* It was used just now: it goes later. */
static inline void plog__open_item_used(plog_open_item *item) {
  if (!atomic_load_explicit(&item->used, memory_order_relaxed))
    atomic_store_explicit(&item->used, true, memory_order_relaxed);
}

#endif
