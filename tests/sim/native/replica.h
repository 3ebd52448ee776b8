/*
 * replica.h: one replica of a partition as the simulation has it: csrc's log and partition on a disk in memory.
 *
 * What stays true: everything is what the broker runs, but for two halves of conversations that it has over sockets:
 * sim_fetch answers a follower in the order of fetch.c, and what fetcher.c does with an answer is the caller's. Time is brought
 * along; nothing is random but what a crash leaves of unsynced bytes, which comes from its seed.
 */
#ifndef SIM_REPLICA_H
#define SIM_REPLICA_H

#include <stddef.h>
#include <stdint.h>

/* cdef:begin */
typedef struct sim_replica sim_replica;

/** What plog_partition_state says, as far as it matters here. */
typedef struct {
  int32_t role;
  int32_t leader_epoch;
  int32_t leader_id;
  const int32_t *replicas;
  int32_t replicas_count;
  const int32_t *isr;
  int32_t isr_count;
  const int32_t *joining;
  int32_t joining_count;
  int32_t min_insync_replicas;
  int64_t high_watermark;
} sim_state;

typedef struct {
  int32_t role;
  int32_t leader_epoch;
  int32_t latest_epoch; /* of the last record */
  int32_t isr_count;
  int64_t log_start;
  int64_t log_end;
  int64_t high_watermark;
} sim_info;

typedef struct {
  int64_t base_offset; /* -1 on failure */
  int64_t last_offset;
  int32_t duplicate;
} sim_appended;

/** The leader's answer to a follower; the records are in the caller's buffer. */
typedef struct {
  int32_t error;
  int32_t diverging;
  int32_t diverging_epoch;
  int32_t high_watermark_moved; /* the leader's, by what this fetch told */
  int64_t diverging_end;
  int64_t high_watermark;
  int64_t log_start;
  size_t size_bytes;
} sim_fetched;

typedef struct {
  int32_t broker_id;
  int32_t in_isr;
  int32_t joining;
  int64_t log_end;
  int64_t log_start;
  int64_t lag_ms;
  int64_t broker_epoch;
} sim_follower;

typedef struct {
  int64_t base_offset;
  int64_t last_offset;
  int32_t leader_epoch;
  uint32_t crc;
} sim_batch;

/** A new and empty disk; the log is opened on it. NULL: no memory, or the log cannot be opened. */
sim_replica *sim_open(int64_t segment_bytes);
void sim_close(sim_replica *r);
/** The process dies, and with `survivors` other than 0 the machine with it (disk_model.h); then the log is opened again, as after
    a crash. recovery_point: what was known to be flushed. 0 | why the log does not open */
int32_t sim_crash(sim_replica *r, int32_t survivors, uint64_t seed, int64_t log_start, int64_t recovery_point);

/** Host it, or change what is published. 0 | error */
int32_t sim_publish(sim_replica *r, int32_t broker_id, int64_t lag_max_ms, const sim_state *state, int64_t now_ms);
/** Host it no more; the log stays. */
void sim_unhost(sim_replica *r);

int32_t sim_append(sim_replica *r, uint8_t *data, size_t size_bytes, int32_t acks, int64_t now_ms, sim_appended *out);
/** After acks=all passed: whether enough are in sync still. */
int32_t sim_enough_replicas(const sim_replica *r);
int32_t sim_append_follower(sim_replica *r, const uint8_t *data, size_t size_bytes, int64_t leader_high_watermark,
                            int64_t leader_log_start);
/** As fetch.c answers a follower. notes_progress 0: it asks again for a request that has waited. */
void sim_fetch(sim_replica *r, int32_t replica_id, int64_t broker_epoch, int32_t current_epoch, int32_t last_epoch,
               int64_t offset, int64_t log_start, int32_t notes_progress, int64_t now_ms, uint8_t *buffer,
               size_t capacity_bytes, sim_fetched *out);
int32_t sim_check_lag(sim_replica *r, int64_t now_ms);
/** The next news about a follower: its broker id, or -1; *caught_up whether it did or fell behind. */
int32_t sim_take_isr_fact(sim_replica *r, int32_t *caught_up);
int32_t sim_followers(sim_replica *r, int64_t now_ms, sim_follower *out, int32_t capacity);
void sim_info_read(const sim_replica *r, sim_info *out);
int32_t sim_truncate(sim_replica *r, int64_t offset, int32_t fully);
void sim_epoch_end(sim_replica *r, int32_t epoch, int32_t *out_epoch, int64_t *out_end);
int32_t sim_delete_records(sim_replica *r, int64_t offset, int64_t *out_start);
/** 0: everything up to *out_recovery_point is on the disk. */
int32_t sim_flush(sim_replica *r, int64_t *out_recovery_point);
/** A mistake on purpose: who has written what is no longer known. */
int32_t sim_forget_producers(sim_replica *r);
/** The batches from `from` (inside or at the beginning of one) to `to`, at most capacity. Returns how many, or -error. */
int32_t sim_batches(sim_replica *r, int64_t from, int64_t to, sim_batch *out, int32_t capacity);
/* cdef:end */

#endif
