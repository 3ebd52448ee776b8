/*
 * open_files.h: which files stay open although nobody uses them now: of each kind as many as its capacity says, those used
 * longest ago go first. So descriptors grow neither with the number of segments on disk nor with that of partitions, and a
 * segment that is read or written to again and again is not opened again and again. Who reads through old segments pushes out
 * none that is written to.
 *
 * What is in here owns its item (an open segment), and knows what to close. Any thread.
 */
#ifndef PLOG_OPEN_FILES_H
#define PLOG_OPEN_FILES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base.h"

typedef enum {
  PLOG_FILES_CLOSED, /* of closed segments: a .log and its two indexes */
  PLOG_FILES_ACTIVE, /* of segments that are written to: the .log */
  PLOG_FILES_KINDS,
} plog_files_kind;

typedef struct {
  plog_link link;
  plog_files_kind kind; /* guarded by the lock */
  bool present;         /* guarded by the lock */
  _Atomic bool used;    /* since it was last looked at */
} plog_open_item;

typedef struct {
  plog_link items; /* the next to go first */
  int32_t count;
  int32_t capacity;
} plog_open_list;

typedef struct {
  pthread_mutex_t lock;
  plog_open_list lists[PLOG_FILES_KINDS];
} plog_open_files;

/* Capacities when nobody says otherwise: 128 times three descriptors and 320, below the usual limit of 1024. */
enum { PLOG_OPEN_CLOSED_DEFAULT = 128, PLOG_OPEN_ACTIVE_DEFAULT = 320 };

void plog__open_files_init(plog_open_files *files);
void plog__open_files_deinit(plog_open_files *files); /* empty by then */
void plog__open_item_init(plog_open_item *item);

/* Put it in. False: it is in already, and stays of the kind it is of. */
bool plog__open_files_add(plog_open_files *files, plog_files_kind kind, plog_open_item *item);
/* Take it out. False: it is not in. */
bool plog__open_files_remove(plog_open_files *files, plog_open_item *item);
/* Take out one that is too many of its kind, NULL when none is. */
plog_open_item *plog__open_files_excess(plog_open_files *files, plog_files_kind kind);
void plog__open_files_limit(plog_open_files *files, plog_files_kind kind, int32_t capacity);
int32_t plog__open_files_count(plog_open_files *files, plog_files_kind kind);

/* It was used just now: it goes later. */
static inline void plog__open_item_used(plog_open_item *item) {
  if (!atomic_load_explicit(&item->used, memory_order_relaxed))
    atomic_store_explicit(&item->used, true, memory_order_relaxed);
}

#endif
