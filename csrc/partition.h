/*
 * partition.h: one hosted replica of a partition: its role, what its followers have, the high watermark, and the appends.
 *
 * A partition whose directory has failed stays hosted without a log, in role OFFLINE for good: it refuses everybody.
 *
 * What stays true:
 *   log start <= high watermark <= log end, for a leader of this epoch; the high watermark never goes back but by truncation;
 *   everything below the high watermark is on every in-sync replica, and on those that are about to be in sync;
 *   a batch is accepted only by a leader, and an acks=all batch only with min.insync.replicas in sync;
 *   nobody is told of a batch before its bytes are written (staged, then committed once per loop turn).
 * No sockets and no clock: now_ms (monotonic) and wall_ms are brought along. The owner's thread calls everything; the fields
 * marked shared may be read by any thread.
 */
#ifndef PLOG_PARTITION_H
#define PLOG_PARTITION_H

#include <stdatomic.h>

#include "base.h"
#include "batch.h"
#include "guards.h"
#include "log.h"
#include "plog.h"
#include "room.h"

#define PLOG_ACKS_ALL (-1)

/* A follower as its leader sees it (the leader's own entry has only broker_id and in_isr). */
typedef struct {
  int32_t broker_id;
  bool in_isr;
  bool joining; /* about to be in sync: what it lacks is not committed. Published so, or Python was told that it caught up;
                           then until the next publish */
  bool told_behind;     /* Python was told that it fell behind; once until the next publish */
  bool fact;            /* joining or told_behind is news that plog__partition_take_isr_fact has not given yet */
  int64_t log_end;      /* -1: not heard of since this leader began */
  int64_t log_start;    /* -1 likewise */
  int64_t caught_up_ms; /* when it last had everything; a large negative number: never */
  int64_t fetch_ms;     /* its last fetch, and the leader's log end then */
  int64_t fetch_leader_end;
  int64_t broker_epoch; /* as it said with its last fetch, -1 unknown */
} plog_replica;

typedef struct plog_partition plog_partition;
struct plog_partition {
  int64_t number; /* given by the engine */
  struct plog_topic *topic;
  int32_t index;
  plog_log *log;     /* NULL: its directory has failed */
  plog_room *room;   /* of its directory; NULL: not watched */
  int32_t broker_id; /* of this replica */
  int64_t lag_max_ms;
  _Atomic int32_t role;           /* shared */
  _Atomic int32_t leader_epoch;   /* shared */
  _Atomic int64_t high_watermark; /* shared */
  _Atomic int64_t last_stable;    /* shared: the last stable offset */
  int32_t leader_id;
  int32_t min_isr; /* capped at the replica count */
  int32_t isr_count;
  int32_t replicas_count;
  plog_replica *replicas;
  plog_batch_rules rules; /* now_ms is filled in at each append */
  bool internal;
  int32_t failed;                 /* errno that stops appends until the partition is published again; 0: none */
  int64_t epoch_start;            /* log end when this leader epoch was taken up */
  int64_t appended_bytes;         /* since it was opened; tells a waiting fetch cheaply that there cannot be enough yet */
  plog_link dirty;                /* in the engine's list of partitions with staged batches */
  plog_link lagging;              /* in the engine's list of leaders that watch followers */
  plog_link staged_watches;       /* of staged batches, each with the offset after its last record */
  plog_link offset_watches;       /* fire when the high watermark passes */
  plog_link fetch_watches;        /* fire when the end, the high watermark or the role moves */
  struct plog_sync_group *group;  /* that syncs what is written (group_commit.h); NULL: it counts when it is written */
  int64_t synced_end;             /* with a group: everything below is on the disk */
  int64_t sync_from;              /* where the next sync begins: synced_end, or below it after a move to another disk */
  int64_t log_serial;             /* changes when the log is another one, or is cut */
  bool named;                     /* the partition's directory is known to be on the disk */
  plog_link unsynced;             /* in the group's list of those with something to sync */
  plog_link sync_watches;         /* fire when the durable end passes */
  struct plog_followed *followed; /* by which it is fetched from its leader; NULL: nobody fetches it */
  struct plog_offset_batch *offsets; /* of members of groups, taken in this turn (offset_commit.h); NULL: none */
  plog_link gathering;               /* in the engine's list of those that have some */
  int64_t offsets_end;               /* behind the last that was written: Python was told so far. 0: none ever was */
  int32_t throttled;                 /* PLOG_THROTTLED_* */
  plog_guards guards;                /* transactions whose coordinator is asked before they begin here */
};

int32_t plog__partition_open(int32_t broker_id, int64_t lag_max_ms, plog_log *log, const plog_partition_state *state,
                             int64_t now_ms, plog_partition **out);
/* Refuse everybody from now on; the log is the caller's. Nothing waits any more. */
void plog__partition_take_offline(plog_partition *p);
/* The log stays the caller's. Nothing waits any more. */
void plog__partition_close(plog_partition *p);
/* Take up a state. *out_ceased: it was the leader and is not now. One of another epoch has its log still, and
   what waits there is committed in its time. 0 | -ENOMEM: it is as it was. */
int32_t plog__partition_publish(plog_partition *p, const plog_partition_state *state, int64_t now_ms, bool *out_ceased);

/* What a staged append got, or why not. */
typedef struct {
  int64_t base_offset; /* -1 on failure */
  int64_t last_offset;
  int64_t append_ms;    /* -1 with CreateTime */
  int64_t log_start;    /* -1 when Kafka does not tell it with this error */
  int32_t record_error; /* index of the bad record, -1 none */
  bool duplicate;
  uint8_t *rewritten; /* the caller frees it after the commit; NULL mostly */
  int32_t records_count;
} plog_append;

/*
 * Check and stage one client's (or, from_client false, coordinator's) record set: data is stamped in place and borrowed until
 * the commit. A duplicate is success.
 *   returns 0 | Kafka's error code | PLOG_E_UNKNOWN_CODEC (answered as -1) | -errno: the disk; KAFKA_STORAGE_ERROR to a client
 */
int32_t plog__partition_append(plog_partition *p, uint8_t *data, size_t size_bytes, int32_t acks, bool from_client,
                               int64_t wall_ms, plog_append *out);
/* Has this producer an open transaction here, of this epoch? What is staged counts. */
bool plog__partition_in_transaction(const plog_partition *p, int64_t producer_id, int32_t producer_epoch);
/* Is there something of a later epoch of this producer? Nobody needs to be asked about it then, and it leaves no guard behind. */
bool plog__partition_is_fenced(const plog_partition *p, int64_t producer_id, int32_t producer_epoch);
/*
 * Write what is staged. 0 | -errno: every staged batch has failed. ENOSPC does not stop later appends, any other error does.
 * Call plog__partition_fire next, before anything else is staged; and so after plog__partition_append returned -errno, for
 * the log may have written or lost what was staged before while it rolled.
 */
int32_t plog__partition_commit(plog_partition *p, int64_t wall_ms, int64_t now_ms);
/* Append batches as a follower, stamped by the leader; then the leader's high watermark and log start are taken over. */
int32_t plog__partition_append_follower(plog_partition *p, const uint8_t *data, size_t size_bytes,
                                        int64_t leader_high_watermark, int64_t leader_log_start, int64_t wall_ms,
                                        int64_t *out_last);
/* A sync of the log, as it was when the sync began, has ended: everything below end is on the disk. */
void plog__partition_synced(plog_partition *p, int64_t end, int64_t now_ms);
/* What is written will never be known to be on the disk: whoever waits for that hears so, and nothing more is taken. */
void plog__partition_sync_failed(plog_partition *p, int32_t error, int64_t now_ms);
/* What this replica has for good: its end, or with a group what of it is on the disk. */
int64_t plog__partition_durable_end(const plog_partition *p);
/* Raise the high watermark if the replicas allow it; false: it stayed. */
bool plog__partition_advance(plog_partition *p, int64_t now_ms);
/*
 * Fire what waits, after a commit or when the high watermark may have moved: staged watches with 0 when they are written, with
 * KAFKA_STORAGE_ERROR when they will not be, and not at all while they are staged; those that wait for the high watermark;
 * fetches.
 */
void plog__partition_fire(plog_partition *p, int64_t now_ms);
/* After acks=all passed: 0 | PLOG_NOT_ENOUGH_REPLICAS_AFTER_APPEND */
int32_t plog__partition_enough_replicas(const plog_partition *p);

/* Who reads decides how far. */
typedef enum { PLOG_READ_UNCOMMITTED, PLOG_READ_COMMITTED, PLOG_READ_LOG_END } plog_isolation;

/* FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR or 0. epoch -1: not checked. */
int32_t plog__partition_check_read(const plog_partition *p, int32_t epoch, bool leader_only);
/* The largest epoch <= epoch and where it ends, as the leader of this epoch says it: its own has begun without a record too, so
   that a follower with records of an epoch which we never had learns where we part. -1 and -1 when it cannot be said. */
void plog__partition_end_of_epoch(const plog_partition *p, int32_t epoch, int32_t *out_epoch, int64_t *out_end);
int64_t plog__partition_readable_end(const plog_partition *p, plog_isolation isolation);
bool plog__partition_has_replica(const plog_partition *p, int32_t broker_id);
/*
 * A follower has everything below offset. Moves its progress, tells the ISR fact, and *out_moved: the high watermark moved.
 * Call it after the read succeeded. 0 | PLOG_NOT_LEADER_OR_FOLLOWER: not one of the replicas, or it has been started anew since
 */
int32_t plog__partition_follower_fetched(plog_partition *p, int32_t broker_id, int64_t broker_epoch, int64_t offset,
                                         int64_t log_start, int64_t now_ms, bool *out_moved);
/* A follower that is not in sync is held back by the leader's rate, when the partition is marked. */
bool plog__partition_holds_back(const plog_partition *p, int32_t broker_id);
/* Followers that fell behind become facts. True: there is a follower in sync to watch further. */
bool plog__partition_check_lag(plog_partition *p, int64_t now_ms);
bool plog__partition_watches_lag(const plog_partition *p);
/* The next ISR fact: broker_id and broker_epoch are the follower's, joining whether it caught up. NULL: none left */
const plog_replica *plog__partition_take_isr_fact(plog_partition *p);

/* Cut the log at offset; fully: empty it and start at offset. The high watermark goes back as far as it must. */
int32_t plog__partition_truncate(plog_partition *p, int64_t offset, bool fully, int64_t wall_ms);
/* DeleteRecords; offset -1: the high watermark. */
int32_t plog__partition_delete_records(plog_partition *p, int64_t offset, int64_t *out_start);

static inline int32_t plog__partition_role(const plog_partition *p) {
  return atomic_load_explicit(&p->role, memory_order_relaxed);
}
static inline int64_t plog__partition_high_watermark(const plog_partition *p) {
  return atomic_load_explicit(&p->high_watermark, memory_order_relaxed);
}
static inline int32_t plog__partition_leader_epoch(const plog_partition *p) {
  return atomic_load_explicit(&p->leader_epoch, memory_order_relaxed);
}

#endif
