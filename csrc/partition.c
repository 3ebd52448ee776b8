/*
 * partition.c: see partition.h.
 */
#include "partition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "group_commit.h"
#include "log_move.h"
#include "purgatory.h"

#define LONG_AGO_MS (INT64_MIN / 4) /* far enough that "caught up within the lag" is false, near enough not to overflow */

static void set_high_watermark(plog_partition *p, int64_t offset) {
  atomic_store_explicit(&p->high_watermark, offset, memory_order_release);
}

/* The last stable offset follows the high watermark and the oldest transaction that is not over. */
static void refresh_last_stable(plog_partition *p) {
  int64_t stable = plog__log_stable_end(p->log, plog__partition_high_watermark(p));
  atomic_store_explicit(&p->last_stable, stable, memory_order_release);
}

static plog_replica *find_replica(const plog_partition *p, int32_t broker_id) {
  for (int32_t i = 0; i < p->replicas_count; i++)
    if (p->replicas[i].broker_id == broker_id) return &p->replicas[i];
  return NULL;
}

static bool contains(const int32_t *ids, int32_t count, int32_t id) {
  for (int32_t i = 0; i < count; i++)
    if (ids[i] == id) return true;
  return false;
}

/* ------------------------------------------------------------------------------------------------ state */

/* Keep what is known of a follower while the leader goes on leading; a new leader has heard of nobody. */
static void carry_replica(plog_replica *r, const plog_replica *old, bool new_leader, int64_t now_ms) {
  if (new_leader || !old) {
    r->caught_up_ms = r->in_isr ? now_ms : LONG_AGO_MS;
    r->log_end = -1;
    r->log_start = -1;
    r->fetch_leader_end = -1;
    r->fetch_ms = LONG_AGO_MS;
    r->broker_epoch = -1;
    return;
  }
  r->log_end = old->log_end;
  r->log_start = old->log_start;
  r->caught_up_ms = old->caught_up_ms;
  r->fetch_leader_end = old->fetch_leader_end;
  r->fetch_ms = old->fetch_ms;
  r->broker_epoch = old->broker_epoch;
}

static int32_t build_replicas(const plog_partition *p, const plog_partition_state *state, bool new_leader, int64_t now_ms,
                              plog_replica **out) {
  size_t count = state->replicas_count > 0 ? (size_t)state->replicas_count : 1;
  plog_replica *replicas = calloc(count, sizeof *replicas);
  if (!replicas) return -ENOMEM;
  for (int32_t i = 0; i < state->replicas_count; i++) {
    replicas[i].broker_id = state->replicas[i];
    replicas[i].in_isr = contains(state->isr, state->isr_count, state->replicas[i]);
    replicas[i].joining = !replicas[i].in_isr && contains(state->joining, state->joining_count, state->replicas[i]);
    carry_replica(&replicas[i], find_replica(p, state->replicas[i]), new_leader, now_ms);
  }
  *out = replicas;
  return 0;
}

static void copy_limits(plog_partition *p, const plog_partition_state *state) {
  p->leader_id = state->leader_id;
  p->isr_count = state->isr_count;
  p->min_isr = PLOG_MIN(state->min_insync_replicas, state->replicas_count);
  p->internal = state->internal != 0;
  p->rules.max_message_bytes = state->max_message_bytes;
  p->rules.timestamp_type = state->timestamp_type;
  p->rules.timestamp_before_max_ms = state->timestamp_before_max_ms;
  p->rules.timestamp_after_max_ms = state->timestamp_after_max_ms;
  p->rules.compression = state->compression;
  p->rules.compression_level = state->compression_level;
  p->rules.compacted = state->compacted;
}

int32_t plog__partition_publish(plog_partition *p, const plog_partition_state *state, int64_t now_ms, bool *out_ceased) {
  int32_t old_role = plog__partition_role(p);
  int32_t old_epoch = plog__partition_leader_epoch(p);
  bool leads = state->role == PLOG_ROLE_LEADER;
  bool new_leader = leads && (old_role != PLOG_ROLE_LEADER || old_epoch != state->leader_epoch);
  plog_replica *replicas = NULL;
  int32_t rc = build_replicas(p, state, new_leader, now_ms, &replicas);
  if (rc) return rc;
  free(p->replicas);
  p->replicas = replicas;
  p->replicas_count = state->replicas_count;
  copy_limits(p, state);
  p->failed = p->group ? p->group->failed : 0;
  atomic_store_explicit(&p->role, state->role, memory_order_release);
  atomic_store_explicit(&p->leader_epoch, state->leader_epoch, memory_order_release);
  int64_t end = plog__log_end(p->log);
  if (new_leader) {
    p->epoch_start = end;
    if (state->high_watermark >= 0)
      set_high_watermark(p, PLOG_MAX(PLOG_MIN(state->high_watermark, end), plog__log_start(p->log)));
    if (state->replicas_count <= 1)
      set_high_watermark(p, PLOG_MAX(plog__partition_durable_end(p), plog__partition_high_watermark(p)));
  }
  plog__partition_advance(p, now_ms);
  refresh_last_stable(p);
  /* what others write in between is not seen here */
  if (old_role == PLOG_ROLE_LEADER && (!leads || old_epoch != state->leader_epoch)) plog__guards_clear(&p->guards);
  *out_ceased = old_role == PLOG_ROLE_LEADER && !leads;
  return 0;
}

void plog__partition_take_offline(plog_partition *p) {
  p->log = NULL;
  p->room = NULL;
  plog_list_remove(&p->unsynced);
  p->leader_id = -1;
  atomic_store_explicit(&p->role, PLOG_ROLE_OFFLINE, memory_order_release);
}

int32_t plog__partition_open(int32_t broker_id, int64_t lag_max_ms, plog_log *log, const plog_partition_state *state,
                             int64_t now_ms, plog_partition **out) {
  plog_partition *p = calloc(1, sizeof *p);
  if (!p) return -ENOMEM;
  p->log = log;
  p->broker_id = broker_id;
  p->lag_max_ms = lag_max_ms;
  p->rules.from_client = 1;
  plog_list_init(&p->dirty);
  plog_list_init(&p->lagging);
  plog_list_init(&p->gathering);
  plog_list_init(&p->staged_watches);
  plog_list_init(&p->offset_watches);
  plog_list_init(&p->fetch_watches);
  plog_list_init(&p->unsynced);
  plog_list_init(&p->sync_watches);
  int64_t start = log ? plog__log_start(log) : 0;
  int64_t end = log ? plog__log_end(log) : 0;
  int64_t high_watermark = state->high_watermark < 0 ? start : PLOG_MAX(PLOG_MIN(state->high_watermark, end), start);
  atomic_init(&p->role, PLOG_ROLE_OFFLINE);
  atomic_init(&p->leader_epoch, -1);
  atomic_init(&p->high_watermark, high_watermark);
  atomic_init(&p->last_stable, high_watermark);
  if (!log) {
    plog__partition_take_offline(p);
    *out = p;
    return 0;
  }
  bool ceased;
  int32_t rc = plog__partition_publish(p, state, now_ms, &ceased);
  if (rc) {
    free(p);
    return rc;
  }
  *out = p;
  return 0;
}

void plog__partition_close(plog_partition *p) {
  plog_assert(plog_list_empty(&p->staged_watches) && plog_list_empty(&p->offset_watches));
  plog_assert(plog_list_empty(&p->fetch_watches) && plog_list_empty(&p->sync_watches));
  plog_assert(!p->followed && !p->offsets);
  plog_list_remove(&p->unsynced);
  plog_list_remove(&p->dirty);
  plog_list_remove(&p->lagging);
  plog__guards_clear(&p->guards);
  free(p->replicas);
  free(p);
}

/* ------------------------------------------------------------------------------------------------ append */

/* Kafka tells the log start offset with errors about the batch, not with those about who may append. */
static int32_t refuse(plog_partition *p, plog_append *out, int32_t error) {
  bool about_batch =
      error > 0 && error != PLOG_CORRUPT_MESSAGE && error != PLOG_MESSAGE_TOO_LARGE && error != PLOG_RECORD_LIST_TOO_LARGE;
  out->log_start = about_batch ? plog__log_start(p->log) : -1;
  return error;
}

/* A full disk may have room again for the next batch, and a process memory or descriptors for the next file, before which
   nothing was written; after any other error nothing is retried until Python has looked. */
static void note_failure(plog_partition *p, int32_t rc) {
  bool passes = rc == -ENOSPC || rc == -EDQUOT || rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM;
  if (!passes) p->failed = -rc;
}

static int32_t check_append(const plog_partition *p, int32_t acks) {
  int32_t role = plog__partition_role(p);
  if (role == PLOG_ROLE_OFFLINE || p->failed) return PLOG_KAFKA_STORAGE_ERROR;
  if (role != PLOG_ROLE_LEADER) return PLOG_NOT_LEADER_OR_FOLLOWER;
  if (acks == PLOG_ACKS_ALL && p->isr_count < p->min_isr) return PLOG_NOT_ENOUGH_REPLICAS;
  return 0;
}

bool plog__partition_in_transaction(const plog_partition *p, int64_t producer_id, int32_t producer_epoch) {
  return plog__log_in_transaction(p->log, producer_id, producer_epoch);
}

bool plog__partition_is_fenced(const plog_partition *p, int64_t producer_id, int32_t producer_epoch) {
  return producer_epoch < plog__log_producer_epoch(p->log, producer_id);
}

/* Records of a transaction that come before those with which it is to begin here. A fenced producer is told that first. */
static bool is_ahead(const plog_partition *p, const plog_batch_header *header) {
  int32_t known_epoch = plog__log_producer_epoch(p->log, header->producer_id);
  bool skips = known_epoch < 0 && header->base_sequence != 0;
  return (skips && plog__guards_from_zero(&p->guards, header->producer_id)) ||
         (plog__guards_is_ahead(&p->guards, header->producer_id, header->base_sequence) &&
          header->producer_epoch >= known_epoch);
}

int32_t plog__partition_append(plog_partition *p, uint8_t *data, size_t size_bytes, int32_t acks, bool from_client,
                               int64_t wall_ms, plog_append *out) {
  *out = (plog_append){.base_offset = -1, .last_offset = -1, .append_ms = -1, .log_start = -1, .record_error = -1};
  int32_t rc = check_append(p, acks);
  if (rc) return rc;
  /* the same answer as when the disk is full, before it is: clients ask for metadata and try again */
  bool needs_room = p->room && from_client && !p->internal;
  if (needs_room && !plog__room_admits(plog__log_sys(p->log), p->room, (int64_t)size_bytes, wall_ms))
    return PLOG_KAFKA_STORAGE_ERROR;
  plog_batch_rules rules = p->rules;
  rules.now_ms = wall_ms;
  rules.from_client = from_client;
  plog_batch_accepted accepted = {.record_error_index = -1};
  rc = plog__batch_accept(&rules, data, size_bytes, plog__log_staged_end(p->log), plog__partition_leader_epoch(p),
                          &accepted);
  if (rc) {
    out->record_error = accepted.record_error_index;
    return refuse(p, out, rc);
  }
  if (from_client && is_ahead(p, &accepted.header)) {
    free(accepted.rewritten);
    return refuse(p, out, PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  }
  plog_duplicate duplicate;
  rc = plog__log_stage(p->log, accepted.data, &accepted.header, accepted.max_timestamp_offset, from_client, wall_ms,
                       &duplicate);
  if (rc == PLOG_E_DUPLICATE) {
    free(accepted.rewritten);
    out->base_offset = duplicate.base_offset;
    out->last_offset = duplicate.last_offset;
    out->append_ms = duplicate.timestamp; /* whatever the timestamp type, as Kafka has it */
    out->log_start = plog__log_start(p->log);
    out->duplicate = true;
    return 0;
  }
  if (rc) {
    free(accepted.rewritten);
    if (rc < 0) note_failure(p, rc);
    return refuse(p, out, rc);
  }
  if (accepted.header.attributes & PLOG_ATTR_TRANSACTIONAL) plog__guards_end(&p->guards, accepted.header.producer_id);
  p->appended_bytes += (int64_t)accepted.size_bytes;
  out->rewritten = accepted.rewritten;
  out->base_offset = accepted.header.base_offset;
  out->last_offset = accepted.header.base_offset + accepted.header.last_offset_delta;
  out->append_ms = p->rules.timestamp_type ? wall_ms : -1;
  out->log_start = plog__log_start(p->log);
  out->records_count = accepted.header.records_count;
  return 0;
}

int32_t plog__partition_commit(plog_partition *p, int64_t wall_ms, int64_t now_ms) {
  int32_t rc = plog__log_commit(p->log, wall_ms);
  if (rc) {
    note_failure(p, rc);
    return rc;
  }
  plog__partition_advance(p, now_ms);
  refresh_last_stable(p);
  return 0;
}

int32_t plog__partition_append_follower(plog_partition *p, const uint8_t *data, size_t size_bytes,
                                        int64_t leader_high_watermark, int64_t leader_log_start, int64_t wall_ms,
                                        int64_t *out_last) {
  if (plog__partition_role(p) != PLOG_ROLE_FOLLOWER) return PLOG_NOT_LEADER_OR_FOLLOWER;
  if (p->failed) return PLOG_KAFKA_STORAGE_ERROR;
  int64_t last = plog__log_end(p->log) - 1;
  if (size_bytes > 0) {
    int32_t rc = plog_log_append(p->log, data, size_bytes, wall_ms, &last);
    if (rc < 0) note_failure(p, rc);
    if (rc) return rc;
    p->appended_bytes += (int64_t)size_bytes;
  }
  int64_t high_watermark = PLOG_MIN(leader_high_watermark, plog__log_end(p->log));
  if (high_watermark > plog__partition_high_watermark(p)) set_high_watermark(p, high_watermark);
  /* a leader deletes only what is committed, whatever one says that is out of its mind */
  if (leader_log_start > plog__log_start(p->log) && leader_log_start <= plog__partition_high_watermark(p)) {
    int32_t rc = plog_log_set_start(p->log, leader_log_start);
    if (rc) return rc;
  }
  refresh_last_stable(p);
  *out_last = last;
  return 0;
}

/* ------------------------------------------------------------------------------------------------ the high watermark */

static bool caught_up(const plog_partition *p, const plog_replica *r, int64_t leader_end, int64_t now_ms) {
  return r->log_end == leader_end || now_ms - r->caught_up_ms <= p->lag_max_ms;
}

bool plog__partition_advance(plog_partition *p, int64_t now_ms) {
  if (plog__partition_role(p) != PLOG_ROLE_LEADER || p->isr_count < p->min_isr) return false;
  int64_t leader_end = plog__log_end(p->log);
  int64_t reached = plog__partition_durable_end(p);
  for (int32_t i = 0; i < p->replicas_count; i++) {
    const plog_replica *r = &p->replicas[i];
    if (r->broker_id == p->broker_id) continue;
    if ((r->in_isr || r->joining || caught_up(p, r, leader_end, now_ms)) && r->log_end < reached) reached = r->log_end;
  }
  if (reached <= plog__partition_high_watermark(p)) return false;
  set_high_watermark(p, reached);
  refresh_last_stable(p);
  return true;
}

int64_t plog__partition_durable_end(const plog_partition *p) {
  int64_t end = plog__log_end(p->log);
  return !p->group || end - p->synced_end <= plog__sync_group_spares(p) ? end : p->synced_end;
}

void plog__partition_synced(plog_partition *p, int64_t end, int64_t now_ms) {
  plog_assert(p->group && end <= plog__log_end(p->log));
  p->synced_end = p->sync_from = PLOG_MAX(p->synced_end, end);
  plog__watches_fire_upto(&p->sync_watches, plog__partition_durable_end(p), now_ms);
  if (!plog__partition_advance(p, now_ms)) return;
  plog__watches_fire_upto(&p->offset_watches, plog__partition_high_watermark(p), now_ms);
  plog__watches_fire_all(&p->fetch_watches, 0, now_ms);
}

void plog__partition_sync_failed(plog_partition *p, int32_t error, int64_t now_ms) {
  p->failed = error;
  plog__watches_fire_all(&p->sync_watches, PLOG_KAFKA_STORAGE_ERROR, now_ms);
  plog__watches_fire_all(&p->offset_watches, PLOG_KAFKA_STORAGE_ERROR, now_ms);
}

void plog__partition_fire(plog_partition *p, int64_t now_ms) {
  plog__sync_group_wants(p);
  plog__partition_advance(p, now_ms);
  refresh_last_stable(p);
  int64_t end = plog__log_end(p->log);
  plog__watches_fire_upto(&p->staged_watches, end, now_ms);
  /* what is neither written nor staged any more is lost; the rest of the turn's batches are about to be written */
  if (plog__log_staged_end(p->log) == end) plog__watches_fire_all(&p->staged_watches, PLOG_KAFKA_STORAGE_ERROR, now_ms);
  plog__watches_fire_upto(&p->offset_watches, plog__partition_high_watermark(p), now_ms);
  plog__watches_fire_all(&p->fetch_watches, 0, now_ms);
}

int32_t plog__partition_enough_replicas(const plog_partition *p) {
  int32_t in_sync = p->isr_count;
  for (int32_t i = 0; i < p->replicas_count; i++) in_sync += p->replicas[i].joining && !p->replicas[i].in_isr;
  return in_sync < p->min_isr ? PLOG_NOT_ENOUGH_REPLICAS_AFTER_APPEND : 0;
}

/* ------------------------------------------------------------------------------------------------ readers and followers */

int32_t plog__partition_check_read(const plog_partition *p, int32_t epoch, bool leader_only) {
  int32_t role = plog__partition_role(p);
  if (role == PLOG_ROLE_OFFLINE) return PLOG_KAFKA_STORAGE_ERROR;
  if (epoch >= 0 && epoch < plog__partition_leader_epoch(p)) return PLOG_FENCED_LEADER_EPOCH;
  if (epoch >= 0 && epoch > plog__partition_leader_epoch(p)) return PLOG_UNKNOWN_LEADER_EPOCH;
  return leader_only && role != PLOG_ROLE_LEADER ? PLOG_NOT_LEADER_OR_FOLLOWER : 0;
}

void plog__partition_end_of_epoch(const plog_partition *p, int32_t epoch, int32_t *out_epoch, int64_t *out_end) {
  bool leads = plog__partition_role(p) == PLOG_ROLE_LEADER;
  plog__log_end_of_epoch(p->log, leads ? plog__partition_leader_epoch(p) : -1, epoch, out_epoch, out_end);
}

int64_t plog__partition_readable_end(const plog_partition *p, plog_isolation isolation) {
  if (isolation == PLOG_READ_LOG_END) return plog__log_end(p->log);
  if (isolation == PLOG_READ_COMMITTED) return atomic_load_explicit(&p->last_stable, memory_order_relaxed);
  return plog__partition_high_watermark(p);
}

bool plog__partition_has_replica(const plog_partition *p, int32_t broker_id) {
  return broker_id != p->broker_id && find_replica(p, broker_id);
}

int32_t plog__partition_follower_fetched(plog_partition *p, int32_t broker_id, int64_t broker_epoch, int64_t offset,
                                         int64_t log_start, int64_t now_ms, bool *out_moved) {
  plog_replica *r = find_replica(p, broker_id);
  if (!r || broker_id == p->broker_id || plog__partition_role(p) != PLOG_ROLE_LEADER) return PLOG_NOT_LEADER_OR_FOLLOWER;
  if (broker_epoch >= 0 && broker_epoch < r->broker_epoch) return PLOG_NOT_LEADER_OR_FOLLOWER; /* from before its restart */
  r->broker_epoch = broker_epoch;
  int64_t leader_end = plog__log_end(p->log);
  if (offset >= leader_end)
    r->caught_up_ms = PLOG_MAX(r->caught_up_ms, now_ms);
  else if (offset >= r->fetch_leader_end && r->fetch_leader_end >= 0)
    r->caught_up_ms = PLOG_MAX(r->caught_up_ms, r->fetch_ms);
  r->log_end = offset;
  r->log_start = log_start;
  r->fetch_ms = now_ms;
  r->fetch_leader_end = leader_end;
  /* In sync again: it has all that is committed and has seen this epoch begin. */
  if (!r->in_isr && !r->joining && offset >= plog__partition_high_watermark(p) && offset >= p->epoch_start) {
    r->joining = true;
    r->fact = true;
  }
  *out_moved = plog__partition_advance(p, now_ms);
  return 0;
}

bool plog__partition_watches_lag(const plog_partition *p) {
  return plog__partition_role(p) == PLOG_ROLE_LEADER && p->isr_count > 1;
}

bool plog__partition_check_lag(plog_partition *p, int64_t now_ms) {
  if (!plog__partition_watches_lag(p)) return false;
  int64_t leader_end = plog__log_end(p->log);
  for (int32_t i = 0; i < p->replicas_count; i++) {
    plog_replica *r = &p->replicas[i];
    if (!r->in_isr || r->told_behind || r->broker_id == p->broker_id) continue;
    if (caught_up(p, r, leader_end, now_ms)) continue;
    r->told_behind = true;
    r->fact = true;
  }
  return true;
}

const plog_replica *plog__partition_take_isr_fact(plog_partition *p) {
  for (int32_t i = 0; i < p->replicas_count; i++) {
    if (!p->replicas[i].fact) continue;
    p->replicas[i].fact = false;
    return &p->replicas[i];
  }
  return NULL;
}

bool plog__partition_holds_back(const plog_partition *p, int32_t broker_id) {
  const plog_replica *r = find_replica(p, broker_id);
  return (p->throttled & PLOG_THROTTLED_LEADING) && r && !r->in_isr;
}

/* ------------------------------------------------------------------------------------------------ cutting */

int32_t plog__partition_truncate(plog_partition *p, int64_t offset, bool fully, int64_t wall_ms) {
  int32_t rc = fully ? plog_log_truncate_fully(p->log, offset, wall_ms) : plog_log_truncate(p->log, offset, wall_ms);
  int64_t end = plog__log_end(p->log);
  p->log_serial++;
  p->synced_end = fully ? end : PLOG_MIN(p->synced_end, end);
  p->sync_from = PLOG_MIN(p->sync_from, p->synced_end);
  /* what failed may have cut some of it */
  int64_t high_watermark = fully && rc == 0 ? end : PLOG_MIN(plog__partition_high_watermark(p), end);
  set_high_watermark(p, PLOG_MAX(high_watermark, plog__log_start(p->log)));
  refresh_last_stable(p);
  return rc;
}

int32_t plog__partition_delete_records(plog_partition *p, int64_t offset, int64_t *out_start) {
  int64_t high_watermark = plog__partition_high_watermark(p);
  if (offset == -1) offset = high_watermark;
  if (offset < 0 || offset > high_watermark) return PLOG_OFFSET_OUT_OF_RANGE;
  if (offset > plog__log_start(p->log)) {
    int32_t rc = plog_log_set_start(p->log, offset);
    if (rc) return rc;
    refresh_last_stable(p);
  }
  *out_start = plog__log_start(p->log);
  return 0;
}
