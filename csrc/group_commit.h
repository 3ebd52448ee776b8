/*
 * group_commit.h: records that are answered for only when they are on the disk: one sync for all partitions of a data directory.
 * Of all records, or of partitions whose flush.messages says how many may wait: there the first that is one too many begins a sync.
 *
 * What stays true, of a directory that has a group:
 *   - a partition's synced_end says that everything below it is on the disk, the names of its files included; the high watermark
 *     of a leader does not pass it by more records than may wait, so neither an answer to acks != 0 nor a consumer does;
 *   - at most one sync is under way. What is written meanwhile joins the next, which begins the moment that one ends; so an idle
 *     disk adds its own time and nothing else, and a busy one gets as many records in one sync as came during the one before;
 *   - a sync that failed was the last: the kernel forgets what it could not write, and a second one would say that all is well.
 *     From then on the directory's partitions refuse records, and nobody who waits is told that his are safe.
 *
 * Each group has a thread of its own, started with the first sync: reads that wait for a disk and syncs that wait for it do not
 * wait for each other. The thread sees only what a plog_flush holds; all else is the reactor's.
 */
#ifndef PLOG_GROUP_COMMIT_H
#define PLOG_GROUP_COMMIT_H

#include <pthread.h>

#include "base.h"
#include "inbox.h"
#include "log_flush.h"
#include "timer.h"

typedef struct plog_sync_group plog_sync_group;
struct plog_partition;
struct plog_engine;

/* One partition's part of a sync. */
typedef struct {
  plog_flush flush;
  int64_t partition;  /* its number */
  int64_t log_serial; /* of the partition when it began: another now, and it is another log, or a cut one */
  int metadata_fd;    /* of the file with the topic's id, when it and the directory may not be on disk; else -1 */
} plog_sync_item;

struct plog_sync_group {
  plog_sync_group *next;
  struct plog_engine *engine;
  plog_link waiting; /* partitions with records to be synced */
  bool always;       /* no record may wait, whatever flush.messages says */
  int32_t failed;    /* errno of the sync that was the last */
  bool busy;         /* a sync is under way: the items are the thread's */
  plog_sync_item *items;
  int32_t items_count;
  int32_t items_capacity;
  int dir_fd; /* the data directory, when it has a partition's name that may not be on disk; else -1 */
  int32_t rc; /* the thread's result */
  int64_t took_us;
  plog_message done;
  plog_timer retry; /* after a shortage of memory or descriptors */
  /* the thread */
  bool started;
  pthread_t thread;
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t filled;
  bool full;
  bool stopping;
  char dir[];
};

/* The groups of an engine. */
typedef struct {
  plog_sync_group *first;
} plog_sync_groups;

/* Answer for records in partitions of dir when they are on the disk: always, or as flush.messages says. For partitions that are
   hosted later, and whose logs are on the disk to their ends as far as anybody was told. -ENOMEM. reactor */
int32_t plog__sync_groups_add(struct plog_engine *e, const char *dir, bool always);
/* The partition's log lies in a data directory that may have a group. What is below synced_end is on a disk, and from sync_from
   on may not be on this one. reactor */
void plog__sync_group_join(const plog_sync_groups *groups, struct plog_partition *p, int64_t synced_end, int64_t sync_from);
/* How many records of p may be answered for that are not on the disk. INT64_MAX: any. reactor */
int64_t plog__sync_group_spares(const struct plog_partition *p);
/* p has more records; are they too many to wait? reactor */
void plog__sync_group_wants(struct plog_partition *p);
/* Begin the syncs that can begin. reactor */
void plog__sync_groups_start(struct plog_engine *e);
/* Something is being synced, or is to be. reactor */
bool plog__sync_groups_busy(const plog_sync_groups *groups);
/* End the threads, after the syncs that are under way; their messages are in the inbox then. */
void plog__sync_groups_stop(plog_sync_groups *groups);
void plog__sync_groups_deinit(plog_sync_groups *groups); /* after their messages were run */

#endif
