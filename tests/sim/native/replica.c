/*
 * replica.c: see replica.h.
 */
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk_model.h"
#include "partition.h"
#include "test.h"

enum { SEGMENTS_MAX = 128, READ_BYTES = 1 << 18 };
static const int64_t wall_ms = 1790000000000;

struct sim_replica {
  disk_model *disk;
  plog_sys *sys;
  plog_log_config config;
  plog_log *log;
  plog_partition *partition; /* NULL: not hosted */
  uint8_t scratch[READ_BYTES];
};

/* ---------------------------------------------------------------------------------------------- the log on its disk */

typedef struct {
  int64_t base[SEGMENTS_MAX];
  int32_t count;
  char stale[SEGMENTS_MAX][64];
  int32_t stale_count;
} listing;

static bool ends_with(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n > m && strcmp(name + n - m, end) == 0;
}

static void see(void *context, const char *name) {
  listing *s = context;
  if (ends_with(name, ".deleted")) {
    CHECK(s->stale_count < SEGMENTS_MAX);
    (void)snprintf(s->stale[s->stale_count++], sizeof s->stale[0], "%s", name);
  } else if (strlen(name) == 24 && ends_with(name, ".log")) {
    CHECK(s->count < SEGMENTS_MAX);
    int64_t base = strtoll(name, NULL, 10);
    int32_t at = s->count++;
    for (; at > 0 && s->base[at - 1] > base; at--) s->base[at] = s->base[at - 1];
    s->base[at] = base;
  }
}

/* As pylog/segment.py and log.py: what was set aside is removed, the rest is opened; epochs are made of the batches. */
static int32_t open_log(sim_replica *r, int64_t log_start, int64_t recovery_point) {
  static listing found;
  memset(&found, 0, sizeof found);
  disk_list(r->disk, see, &found);
  for (int32_t i = 0; i < found.stale_count; i++) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", DISK_DIRECTORY, found.stale[i]);
    (void)plog__sys_unlink(r->sys, path);
  }
  plog_log_open_report report;
  return plog_log_open(r->sys, DISK_DIRECTORY, &r->config, found.base, found.count, log_start, recovery_point, 0, NULL, -1,
                       wall_ms, &r->log, &report);
}

sim_replica *sim_open(int64_t segment_bytes) {
  sim_replica *r = calloc(1, sizeof *r);
  CHECK(r);
  r->disk = disk_open();
  r->sys = plog_sys_open();
  disk_attach(r->disk, r->sys);
  r->config = (plog_log_config){.segment_bytes = segment_bytes,
                                .segment_ms = INT64_MAX,
                                .segment_index_bytes = 1024,
                                .index_interval_bytes = 512,
                                .flush_messages = INT64_MAX,
                                .jitter_seed = 1};
  int32_t rc = open_log(r, 0, 0);
  CHECK_EQ(rc, 0);
  return r;
}

void sim_close(sim_replica *r) {
  sim_unhost(r);
  if (r->log) (void)plog_log_close(r->log, 0);
  plog_sys_close(r->sys);
  disk_close(r->disk);
  free(r);
}

int32_t sim_crash(sim_replica *r, int32_t survivors, uint64_t seed, int64_t log_start, int64_t recovery_point) {
  sim_unhost(r);
  if (r->log) (void)plog_log_close(r->log, 0);
  r->log = NULL;
  disk_restart(r->disk, (disk_survivors)survivors, seed);
  return open_log(r, log_start, recovery_point);
}

/* ---------------------------------------------------------------------------------------------- what is published */

int32_t sim_publish(sim_replica *r, int32_t broker_id, int64_t lag_max_ms, const sim_state *state, int64_t now_ms) {
  plog_partition_state full = {.role = state->role,
                               .leader_epoch = state->leader_epoch,
                               .leader_id = state->leader_id,
                               .replicas = state->replicas,
                               .replicas_count = state->replicas_count,
                               .isr = state->isr,
                               .isr_count = state->isr_count,
                               .joining = state->joining,
                               .joining_count = state->joining_count,
                               .min_insync_replicas = state->min_insync_replicas,
                               .max_message_bytes = 1 << 20,
                               .timestamp_before_max_ms = INT64_MAX,
                               .timestamp_after_max_ms = INT64_MAX,
                               .compression = -1,
                               .compression_level = INT32_MIN,
                               .high_watermark = state->high_watermark};
  if (!r->partition) return plog__partition_open(broker_id, lag_max_ms, r->log, &full, now_ms, &r->partition);
  bool ceased;
  return plog__partition_publish(r->partition, &full, now_ms, &ceased);
}

void sim_unhost(sim_replica *r) {
  if (r->partition) plog__partition_close(r->partition);
  r->partition = NULL;
}

/* ---------------------------------------------------------------------------------------------- appends */

int32_t sim_append(sim_replica *r, uint8_t *data, size_t size_bytes, int32_t acks, int64_t now_ms, sim_appended *out) {
  plog_append appended;
  int32_t rc = plog__partition_append(r->partition, data, size_bytes, acks, true, wall_ms, &appended);
  if (rc == 0) rc = plog__partition_commit(r->partition, wall_ms, now_ms);
  plog__partition_fire(r->partition, now_ms);
  free(appended.rewritten);
  *out = (sim_appended){rc ? -1 : appended.base_offset, rc ? -1 : appended.last_offset, appended.duplicate};
  return rc;
}

int32_t sim_enough_replicas(const sim_replica *r) {
  return plog__partition_enough_replicas(r->partition);
}

int32_t sim_append_follower(sim_replica *r, const uint8_t *data, size_t size_bytes, int64_t leader_high_watermark,
                            int64_t leader_log_start) {
  int64_t last;
  return plog__partition_append_follower(r->partition, data, size_bytes, leader_high_watermark, leader_log_start, wall_ms,
                                         &last);
}

/* ---------------------------------------------------------------------------------------------- a follower's fetch */

/* check_reader, check_divergence and read_hosted of fetch.c, for a follower. */
static int32_t check_fetch(plog_partition *p, int32_t replica_id, int32_t current_epoch, int32_t last_epoch, int64_t offset,
                           sim_fetched *out) {
  int32_t rc = plog__partition_check_read(p, current_epoch, true);
  if (rc) return rc;
  if (!plog__partition_has_replica(p, replica_id)) return PLOG_UNKNOWN_LEADER_EPOCH;
  if (offset < plog__log_start(p->log)) return PLOG_OFFSET_OUT_OF_RANGE;
  if (last_epoch >= 0) {
    plog__partition_end_of_epoch(p, last_epoch, &out->diverging_epoch, &out->diverging_end);
    if (out->diverging_epoch < 0) return PLOG_OFFSET_OUT_OF_RANGE;
    out->diverging = out->diverging_epoch < last_epoch || out->diverging_end < offset;
    if (out->diverging) return 0;
  }
  return offset > plog__log_end(p->log) ? PLOG_OFFSET_OUT_OF_RANGE : 0;
}

void sim_fetch(sim_replica *r, int32_t replica_id, int64_t broker_epoch, int32_t current_epoch, int32_t last_epoch,
               int64_t offset, int64_t log_start, int32_t notes_progress, int64_t now_ms, uint8_t *buffer,
               size_t capacity_bytes, sim_fetched *out) {
  plog_partition *p = r->partition;
  *out = (sim_fetched){0};
  int32_t rc = check_fetch(p, replica_id, current_epoch, last_epoch, offset, out);
  if (rc == 0 && !out->diverging) {
    rc = plog_log_read(p->log, offset, plog__log_end(p->log), 1, buffer, capacity_bytes, &out->size_bytes);
    bool moved = false;
    if (rc == 0 && notes_progress)
      rc = plog__partition_follower_fetched(p, replica_id, broker_epoch, offset, log_start, now_ms, &moved);
    if (moved) plog__partition_fire(p, now_ms);
    out->high_watermark_moved = moved;
  }
  out->error = rc;
  if (rc) out->size_bytes = 0;
  out->high_watermark = plog__partition_high_watermark(p);
  out->log_start = plog__log_start(p->log);
}

int32_t sim_check_lag(sim_replica *r, int64_t now_ms) {
  return plog__partition_check_lag(r->partition, now_ms);
}

int32_t sim_take_isr_fact(sim_replica *r, int32_t *caught_up) {
  const plog_replica *about = plog__partition_take_isr_fact(r->partition);
  if (!about) return -1;
  *caught_up = about->joining;
  return about->broker_id;
}

/* describe_replica of following.c. */
int32_t sim_followers(sim_replica *r, int64_t now_ms, sim_follower *out, int32_t capacity) {
  const plog_partition *p = r->partition;
  CHECK(p->replicas_count <= capacity);
  for (int32_t i = 0; i < p->replicas_count; i++) {
    const plog_replica *of = &p->replicas[i];
    bool own = of->broker_id == p->broker_id;
    bool heard = own || of->log_end >= 0;
    out[i] = (sim_follower){.broker_id = of->broker_id,
                            .in_isr = of->in_isr,
                            .joining = of->joining,
                            .log_end = own ? plog__log_end(p->log) : of->log_end,
                            .log_start = own ? plog__log_start(p->log) : of->log_start,
                            .lag_ms = own     ? 0
                                      : heard ? now_ms - of->caught_up_ms
                                              : -1,
                            .broker_epoch = of->broker_epoch};
  }
  return p->replicas_count;
}

/* ---------------------------------------------------------------------------------------------- looking and cutting */

void sim_info_read(const sim_replica *r, sim_info *out) {
  plog_log_info info;
  plog_log_info_read(r->log, &info);
  const plog_partition *p = r->partition;
  *out = (sim_info){.role = p ? plog__partition_role(p) : 0,
                    .leader_epoch = p ? plog__partition_leader_epoch(p) : -1,
                    .latest_epoch = info.latest_epoch,
                    .isr_count = p ? p->isr_count : 0,
                    .log_start = info.log_start_offset,
                    .log_end = info.log_end_offset,
                    .high_watermark = p ? plog__partition_high_watermark(p) : -1};
}

int32_t sim_truncate(sim_replica *r, int64_t offset, int32_t fully) {
  return plog__partition_truncate(r->partition, offset, fully != 0, wall_ms);
}

void sim_epoch_end(sim_replica *r, int32_t epoch, int32_t *out_epoch, int64_t *out_end) {
  (void)plog_log_end_offset_for_epoch(r->log, epoch, out_epoch, out_end);
}

int32_t sim_delete_records(sim_replica *r, int64_t offset, int64_t *out_start) {
  return plog__partition_delete_records(r->partition, offset, out_start);
}

int32_t sim_flush(sim_replica *r, int64_t *out_recovery_point) {
  return plog_log_flush(r->log, out_recovery_point);
}

int32_t sim_forget_producers(sim_replica *r) {
  int32_t count;
  return plog_log_expire_producers(r->log, INT64_MAX, &count);
}

int32_t sim_batches(sim_replica *r, int64_t from, int64_t to, sim_batch *out, int32_t capacity) {
  int32_t count = 0;
  while (from < to) {
    size_t size_bytes;
    int32_t rc = plog_log_read(r->log, from, to, 1, r->scratch, sizeof r->scratch, &size_bytes);
    if (rc) return rc > 0 ? -rc : rc;
    if (size_bytes == 0) break;
    plog_batch_header h;
    for (size_t at = 0; at < size_bytes; at += h.size_bytes) {
      plog__batch_parse(r->scratch + at, &h);
      if (count == capacity) return count;
      out[count++] = (sim_batch){h.base_offset, plog__batch_last_offset(&h), h.partition_leader_epoch, h.crc};
      from = plog__batch_last_offset(&h) + 1;
    }
  }
  return count;
}
