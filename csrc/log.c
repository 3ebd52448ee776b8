#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "log_state.h"
#include "wire.h"

/* ---------------------------------------------------------------------------------------------- ends */

int64_t plog__log_staged_end(const plog_log *log) {
  return log->staged_end;
}
int64_t plog__log_end(const plog_log *log) {
  return atomic_load_explicit(&log->end, memory_order_acquire);
}
int64_t plog__log_flush_messages(const plog_log *log) {
  return log->config.flush_messages;
}
int64_t plog__log_start(const plog_log *log) {
  return atomic_load_explicit(&log->start, memory_order_acquire);
}
int64_t plog__log_first_unstable(const plog_log *log) {
  return plog__producers_first_open(log->producers);
}
int64_t plog__log_stable_end(plog_log *log, int64_t high_watermark) {
  plog__log_lock(log);
  int64_t first = plog__producers_first_unstable(log->producers, high_watermark);
  plog__log_unlock(log);
  return PLOG_MIN(PLOG_MAX(first, plog__log_start(log)), high_watermark);
}
bool plog__log_has_staged(const plog_log *log) {
  return log->staged_count > 0 || log->turn_error != 0;
}

void plog__log_take_facts(plog_log *log, plog_log_facts *out) {
  *out = log->facts;
  memset(&log->facts, 0, sizeof log->facts);
}

/* ---------------------------------------------------------------------------------------------- segments */

int32_t plog__log_find_segment(const plog_log *log, int64_t offset) {
  int32_t low = 0, high = log->segments_count; /* those below low begin at or before offset, those from high on after */
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (log->segments[middle]->base_offset <= offset)
      low = middle + 1;
    else
      high = middle;
  }
  return low > 0 ? low - 1 : 0;
}

int32_t plog__log_push_segment(plog_log *log, plog_segment *s) {
  if (log->segments_count == log->segments_capacity) {
    int32_t capacity = PLOG_MAX(log->segments_capacity * 2, 4);
    plog_segment **segments = realloc(log->segments, (size_t)capacity * sizeof(plog_segment *));
    if (!segments) return -ENOMEM;
    log->segments = segments;
    log->segments_capacity = capacity;
  }
  log->segments[log->segments_count++] = s;
  return 0;
}

int64_t plog__log_draw_jitter(plog_log *log) {
  int64_t most = PLOG_MIN(log->config.segment_jitter_ms, log->config.segment_ms);
  if (most <= 0) return 0;
  uint64_t z = (log->jitter_state += 0x9e3779b97f4a7c15ull);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return (int64_t)((z ^ z >> 31) % (uint64_t)most);
}

/* *files: a bit for each kind of file that is to be renamed; on return, that was. */
static int32_t rename_files(plog_log *log, const plog_segment *s, const char *from_end, const char *to_end,
                            uint32_t *files) {
  static const char *const suffixes[] = {".log", ".index", ".timeindex", ".txnindex", ".snapshot"};
  uint32_t wanted = *files;
  *files = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes); i++) {
    if (!(wanted & 1u << i)) continue;
    char from_suffix[32], to_suffix[32], from[PLOG_PATH_BYTES], to[PLOG_PATH_BYTES];
    (void)snprintf(from_suffix, sizeof from_suffix, "%s%s", suffixes[i], from_end);
    (void)snprintf(to_suffix, sizeof to_suffix, "%s%s", suffixes[i], to_end);
    int32_t rc = plog__segment_path(log->dir, s->base_offset, from_suffix, from);
    if (rc == 0) rc = plog__segment_path(log->dir, s->base_offset, to_suffix, to);
    if (rc == 0) rc = plog__sys_rename(log->sys, from, to);
    if (rc == 0) *files |= 1u << i;
    /* with the .log the segment goes; the rest, when it stays behind, is removed at the next listing */
    if (rc != 0 && i == 0) return rc;
  }
  return 0;
}

int32_t plog__log_set_aside(plog_log *log, const plog_segment *s) {
  uint32_t files = UINT32_MAX;
  return rename_files(log, s, "", ".deleted", &files);
}

int32_t plog__log_sync_names(plog_log *log) {
  int fd = plog__sys_open(log->sys, log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int32_t rc = plog__sys_fsync(log->sys, fd);
  (void)plog__sys_close(log->sys, fd);
  return rc;
}

void plog__log_forget_recent(plog_log *log) {
  log->recent_count = 0;
}

/* ---------------------------------------------------------------------------------------------- snapshots */

static void remove_snapshot(plog_log *log, int64_t offset) {
  char path[PLOG_PATH_BYTES];
  if (plog__segment_path(log->dir, offset, ".snapshot", path) == 0) (void)plog__sys_unlink(log->sys, path);
}

static bool begins_segment(const plog_log *log, int64_t offset) {
  return log->segments[plog__log_find_segment(log, offset)]->base_offset == offset;
}

static bool has_stray(const plog_log *log, int64_t offset) {
  return log->stray_snapshot >= 0 && log->stray_snapshot != offset && !begins_segment(log, log->stray_snapshot);
}

/* Two snapshots without producers differ in their names: one is renamed, where making a file and removing one costs ten times as
   much. Whichever name a power cut leaves, what it says is so. */
static bool rename_empty_stray(plog_log *log, int64_t offset) {
  char from[PLOG_PATH_BYTES], to[PLOG_PATH_BYTES];
  return log->stray_is_empty && plog__producers_count(log->producers) == 0 && has_stray(log, offset) &&
         plog__segment_path(log->dir, log->stray_snapshot, ".snapshot", from) == 0 &&
         plog__segment_path(log->dir, offset, ".snapshot", to) == 0 && plog__sys_rename(log->sys, from, to) == 0;
}

int32_t plog__log_write_snapshot(plog_log *log, int64_t offset) {
  if (rename_empty_stray(log, offset)) {
    log->stray_snapshot = -1;
    log->snapshot_offset = offset;
    return 0;
  }
  int32_t count = plog__producers_count(log->producers);
  size_t size_bytes = 10 + (size_t)count * 46;
  plog_producer_info *producers = calloc((size_t)count + 1, sizeof *producers);
  uint8_t *data = malloc(size_bytes);
  char path[PLOG_PATH_BYTES];
  int32_t rc = producers && data ? plog__segment_path(log->dir, offset, ".snapshot", path) : -ENOMEM;
  if (rc == 0) {
    (void)plog__producers_list(log->producers, producers, count);
    rc = plog_snapshot_encode(producers, count, data, size_bytes, &size_bytes);
  }
  if (rc == 0) {
    (void)plog__sys_unlink(log->sys, path); /* after a power cut it is the new one, whole, or none: not the old one */
    int fd = plog__sys_open(log->sys, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    rc = fd < 0 ? fd : plog__sys_pwrite_all(log->sys, fd, data, size_bytes, 0);
    if (fd >= 0) (void)plog__sys_close(log->sys, fd);
    if (rc != 0) (void)plog__sys_unlink(log->sys, path);
  }
  free(producers);
  free(data);
  if (rc != 0) return rc;
  /* the one before, when no segment begins with it, was only good for a start that has happened */
  if (has_stray(log, offset)) remove_snapshot(log, log->stray_snapshot);
  log->stray_snapshot = -1;
  log->snapshot_offset = offset;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- rolling */

/* Remove the files of a segment that could not be started. */
static int32_t unlink_leftover(plog_log *log) {
  static const char *const suffixes[] = {".log", ".index", ".timeindex"};
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes); i++) {
    char path[PLOG_PATH_BYTES];
    int32_t rc = plog__segment_path(log->dir, log->leftover_base, suffixes[i], path);
    if (rc == 0) rc = plog__sys_unlink(log->sys, path);
    if (rc != 0 && rc != -ENOENT) return rc;
  }
  return 0;
}

int32_t plog__log_settle_leftover(plog_log *log) {
  if (log->leftover_base < 0) return 0;
  int32_t rc = unlink_leftover(log);
  if (rc == 0) rc = plog__log_sync_names(log);
  if (rc == 0) log->leftover_base = -1;
  return rc;
}

/* Make the files of a segment that begins at base. */
static int32_t create_segment(plog_log *log, int64_t base, int64_t now_ms, plog_segment **out) {
  /* one that is tried again needs no sync: on a full disk that would be one for every append */
  int32_t rc = log->leftover_base == base ? unlink_leftover(log) : plog__log_settle_leftover(log);
  if (rc == 0) rc = plog__segment_create(log->sys, log->dir, base, &log->config, now_ms, out);
  if (rc != 0) {
    if (log->leftover_base < 0) log->leftover_base = base;
    (void)unlink_leftover(log); /* else before the next change */
    return rc;
  }
  log->leftover_base = -1;
  (*out)->jitter_ms = plog__log_draw_jitter(log);
  return 0;
}

/*
 * Zeros behind the active segment's end go before another segment is there: who reads meets no zeros in a closed one. When
 * they are on the disk and all before them too, a start would believe them: then the cut is to be on the disk as well. A flush
 * under way may just have put them there, so it is not to raise the recovery point.
 */
static void mark_zeros(plog_log *log) {
  plog__log_lock(log);
  log->tail_dirty = true;
  if (atomic_load(&log->recovery_point) >= plog__log_end(log)) log->tail_unsynced = true;
  log->zeros_cut_count++;
  plog__log_unlock(log);
}

/* What failed writes left behind the active segment's end is cut off, for good. */
static int32_t settle_tail(plog_log *log) {
  plog_segment *s = plog__log_active(log);
  if (plog__mapped_tail_extends(&s->tail, s->size_bytes)) mark_zeros(log);
  int32_t rc = log->tail_dirty ? plog__segment_cut_tail(s) : 0;
  if (rc != 0) return rc;
  log->tail_dirty = false;
  if (!log->tail_unsynced) return 0;
  rc = plog__segment_acquire(s);
  if (rc != 0) return rc;
  rc = plog__sys_fdatasync(log->sys, s->fd); /* a start may trust a closed segment: it must not come back behind it */
  plog__segment_release(s);
  if (rc == 0) log->tail_unsynced = false;
  return rc;
}

int32_t plog__log_start_segment(plog_log *log, int64_t base, int64_t now_ms) {
  plog_assert(log->staged_count == 0);
  plog_segment *old = plog__log_active(log), *fresh;
  plog_assert(base >= log->staged_end && base > old->base_offset);
  int32_t rc = settle_tail(log);
  if (rc != 0) return rc;
  rc = create_segment(log, base, now_ms, &fresh);
  if (rc != 0) return rc;
  plog__log_lock(log);
  rc = plog__segment_seal(old);
  if (rc == 0) rc = plog__log_push_segment(log, fresh);
  plog__log_unlock(log);
  if (rc != 0) {
    plog__segment_drop(fresh);
    log->leftover_base = base;
    (void)unlink_leftover(log);
    return rc;
  }
  log->staged_end = base; /* a follower may leave a gap where its leader compacted */
  atomic_store_explicit(&log->end, base, memory_order_release);
  log->facts.rolled = true;
  log->facts.rolled_base = base;
  /* The snapshot is only a shortcut for the next start, which can read the batches instead: no reason to refuse records. */
  (void)plog__log_write_snapshot(log, base);
  return 0;
}

/* The first batch's largest timestamp, which decides how old the active segment is. */
static int32_t load_rolling_timestamp(plog_segment *s) {
  if (s->rolling_known || s->size_bytes == 0) return 0;
  int32_t rc = plog__segment_acquire(s);
  if (rc != 0) return rc;
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, 0, s->size_bytes);
  rc = plog__scan_next(&scan, &header);
  if (rc == 0) {
    s->rolling_timestamp = header.max_timestamp;
    s->rolling_known = true;
  }
  plog__segment_release(s);
  return rc;
}

/* Kafka's shouldRoll: does this batch belong into the next segment? */
static int32_t should_roll(plog_log *log, const plog_batch_header *header, int64_t now_ms, bool *out) {
  plog_segment *s = plog__log_active(log);
  const plog_log_config *c = &log->config;
  int64_t size_bytes = s->size_bytes + (int64_t)log->staged_bytes;
  *out = false;
  if (size_bytes == 0) {
    *out = plog__log_active(log)->base_offset < header->base_offset &&
           plog__batch_last_offset(header) - s->base_offset > INT32_MAX;
    return 0;
  }
  int32_t rc = load_rolling_timestamp(s);
  if (rc != 0) return rc;
  int64_t first = s->rolling_known ? s->rolling_timestamp : log->staged[0].header.max_timestamp;
  int64_t waited_ms = first >= 0 ? header->max_timestamp - first : now_ms - s->created_ms;
  /* staged batches may bring an index entry each */
  bool index_full =
      s->offsets.count + (uint32_t)log->staged_count >= (uint64_t)c->segment_index_bytes / PLOG_OFFSET_ENTRY_BYTES ||
      s->times.count + (uint32_t)log->staged_count + 1 >= (uint64_t)c->segment_index_bytes / PLOG_TIME_ENTRY_BYTES;
  *out = size_bytes > c->segment_bytes - (int64_t)header->size_bytes || waited_ms > c->segment_ms - s->jitter_ms ||
         index_full || plog__batch_last_offset(header) - s->base_offset > INT32_MAX;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- staging */

/* Room for one more. From one on: of ten thousand logs most get a batch now and then. */
static int32_t grow(void **items, int32_t *capacity, int32_t count, size_t item_bytes) {
  if (count < *capacity) return 0;
  int32_t wanted = PLOG_MAX(*capacity * 2, 1);
  void *grown = realloc(*items, (size_t)wanted * item_bytes);
  if (!grown) return -ENOMEM;
  *items = grown;
  *capacity = wanted;
  return 0;
}

static int32_t reserve_staged(plog_log *log, const plog_batch_header *header) {
  int32_t rc = grow((void **)&log->staged, &log->staged_capacity, log->staged_count, sizeof *log->staged);
  if (rc == 0) rc = grow((void **)&log->pieces, &log->pieces_capacity, log->pieces_count, sizeof *log->pieces);
  if (rc == 0 && header->attributes & PLOG_ATTR_CONTROL)
    rc = grow((void **)&log->ended, &log->ended_capacity, log->ended_count, sizeof *log->ended);
  return rc;
}

static int32_t enter_producer(plog_log *log, const uint8_t *data, const plog_batch_header *header, plog_origin origin,
                              plog_duplicate *duplicate, plog_ended_txn *ended, bool *has_ended) {
  *has_ended = false;
  if (header->producer_id < 0) return 0;
  plog_marker marker;
  bool is_marker = false;
  if (header->attributes & PLOG_ATTR_CONTROL) {
    if (plog__batch_marker(data, header->size_bytes, header, &marker) != 0) return 0; /* of another kind, or emptied */
    is_marker = true;
  }
  plog__log_lock(log);
  int32_t rc =
      plog__producers_append(log->producers, header, is_marker ? &marker : NULL, origin, duplicate, ended, has_ended);
  plog__log_unlock(log);
  return rc;
}

static void undo_producers(plog_log *log) {
  plog__log_lock(log);
  plog__producers_undo(log->producers);
  plog__log_unlock(log);
}

static int32_t enter_epoch(plog_log *log, const plog_batch_header *header) {
  if (!plog__epochs_is_news(&log->epochs, header->partition_leader_epoch, header->base_offset)) return 0;
  plog__log_lock(log);
  int32_t rc = log->epochs_changed ? 0 : plog__epochs_copy(&log->epochs_before, &log->epochs);
  if (rc == 0) rc = plog__epochs_assign(&log->epochs, header->partition_leader_epoch, header->base_offset);
  if (rc == 0) log->epochs_changed = true;
  plog__log_unlock(log);
  return rc;
}

/* The first batch after a start, or after a cut: the active segment's indexes are not in memory yet. */
static int32_t make_writable(plog_log *log) {
  plog_segment *s = plog__log_active(log);
  if (s->writable) return 0;
  log->pristine = false;
  plog__log_lock(log);
  int32_t rc = plog__segment_make_writable(s, &log->config);
  plog__log_unlock(log);
  return rc;
}

static int32_t stage(plog_log *log, const uint8_t *data, const plog_batch_header *header, int64_t max_ts_offset,
                     plog_origin origin, int64_t now_ms, plog_duplicate *duplicate) {
  plog_assert(header->base_offset >= log->staged_end);
  if (log->turn_error != 0) return log->turn_error;
  if (origin != PLOG_ORIGIN_REPLICATION && header->size_bytes > (uint64_t)log->config.segment_bytes)
    return PLOG_RECORD_LIST_TOO_LARGE;
  bool roll;
  int32_t rc = make_writable(log);
  if (rc == 0) rc = should_roll(log, header, now_ms, &roll);
  if (rc == 0 && roll && log->staged_count > 0) {
    rc = plog__log_commit(log, now_ms);
    if (rc != 0) log->turn_error = rc;
  }
  if (rc == 0) rc = reserve_staged(log, header);
  if (rc != 0) return rc;

  plog_ended_txn ended;
  bool has_ended;
  rc = enter_producer(log, data, header, origin, duplicate, &ended, &has_ended);
  if (rc != 0) return rc;
  if (roll) {
    undo_producers(log); /* the segment's snapshot says what was before this batch */
    rc = plog__log_start_segment(log, header->base_offset, now_ms);
    if (rc == 0) rc = enter_producer(log, data, header, origin, duplicate, &ended, &has_ended);
    if (rc != 0) return rc;
  }
  rc = enter_epoch(log, header);
  if (rc != 0) {
    plog__log_abort(log); /* out of memory in the middle of a turn: all of it fails */
    log->turn_error = rc;
    return rc;
  }

  plog_assert(log->pieces && log->staged); /* reserve_staged saw to it */
  struct iovec *last = log->pieces_count > 0 ? &log->pieces[log->pieces_count - 1] : NULL;
  if (last && (const uint8_t *)last->iov_base + last->iov_len == data)
    last->iov_len += header->size_bytes;
  else
    log->pieces[log->pieces_count++] = (struct iovec){(void *)(uintptr_t)data, header->size_bytes};
  log->staged[log->staged_count++] = (plog_staged){*header, max_ts_offset};
  log->staged_bytes += header->size_bytes;
  log->staged_end = plog__batch_last_offset(header) + 1;
  if (!has_ended || !ended.aborted) return 0;
  plog_assert(log->ended); /* only a control batch ends a transaction */
  log->ended[log->ended_count++] = ended;
  return 0;
}

int32_t plog__log_stage(plog_log *log, const uint8_t *data, const plog_batch_header *header, int64_t max_ts_offset,
                        bool from_client, int64_t now_ms, plog_duplicate *out_duplicate) {
  plog_assert(log->turn_error != 0 || header->base_offset == log->staged_end);
  return stage(log, data, header, max_ts_offset, from_client ? PLOG_ORIGIN_CLIENT : PLOG_ORIGIN_COORDINATOR, now_ms,
               out_duplicate);
}

int32_t plog__log_producer_epoch(const plog_log *log, int64_t producer_id) {
  return plog__producers_epoch(log->producers, producer_id);
}

bool plog__log_in_transaction(const plog_log *log, int64_t producer_id, int32_t producer_epoch) {
  return plog__producers_in_transaction(log->producers, producer_id, producer_epoch);
}

static void clear_staged(plog_log *log) {
  log->staged_count = 0;
  log->pieces_count = 0;
  log->staged_bytes = 0;
  log->ended_count = 0;
  log->epochs_changed = false;
  log->staged_end = atomic_load_explicit(&log->end, memory_order_relaxed);
}

void plog__log_abort(plog_log *log) {
  plog__log_lock(log);
  plog__producers_undo(log->producers);
  if (log->epochs_changed) {
    plog_epochs taken_back = log->epochs;
    log->epochs = log->epochs_before;
    log->epochs_before = taken_back;
  }
  plog__log_unlock(log);
  clear_staged(log);
  log->turn_error = 0;
}

/* ---------------------------------------------------------------------------------------------- committing */

void plog__log_map_tail(plog_log *log, int32_t run) {
  log->maps_after = run;
}

/* Write the staged pieces behind the active segment's published bytes. */
static int32_t write_pieces(plog_log *log) {
  plog_segment *s = plog__log_active(log);
  int64_t position = s->size_bytes;
  if (log->maps_after >= 0 && plog__mapped_tail_write(&s->tail, log->sys, s->fd, log->maps_after, log->pieces,
                                                      log->pieces_count, position, log->staged_bytes))
    return 0;
  struct iovec *at = log->pieces;
  int32_t left = log->pieces_count;
  while (left > 0) {
    int64_t n = plog__sys_pwritev(log->sys, s->fd, at, PLOG_MIN(left, IOV_MAX), position);
    if (n <= 0) return n < 0 ? (int32_t)n : -EIO; /* took nothing and said nothing */
    position += n;
    while (left > 0 && (uint64_t)n >= at->iov_len) {
      n -= (int64_t)at->iov_len;
      at++;
      left--;
    }
    if (left > 0) {
      at->iov_base = (uint8_t *)at->iov_base + n;
      at->iov_len -= (size_t)n;
    }
  }
  return 0;
}

static int32_t write_aborted(plog_log *log) {
  if (log->ended_count == 0) return 0;
  plog_segment *s = plog__log_active(log);
  plog__log_lock(log);
  int32_t before = s->aborted_count, rc = 0;
  for (int32_t i = 0; i < log->ended_count && rc == 0; i++) rc = plog__segment_add_aborted(s, &log->ended[i]);
  if (rc == 0) rc = plog__segment_write_aborted(s);
  if (before == 0) log->synced_dir_base = -1; /* the file is new */
  if (rc != 0 && s->aborted_count > before)
    s->aborted_count = before; /* a torn entry is written over, or cut at the start */
  plog__log_unlock(log);
  return rc;
}

static void remember_recent(plog_log *log, plog_segment *s, const plog_batch_header *header, int64_t position) {
  plog_recent *r;
  if (log->recent_count < PLOG_RECENT_COUNT &&
      grow((void **)&log->recent, &log->recent_capacity, log->recent_count, sizeof *log->recent) == 0)
    r = &log->recent[log->recent_count++];
  else if (log->recent_count > 0)
    r = &log->recent[log->recent_next++ % (uint32_t)log->recent_count];
  else
    return;
  r->segment = s;
  r->place = (plog_place){header->base_offset, plog__batch_last_offset(header), position, header->size_bytes};
}

static void publish(plog_log *log) {
  plog_segment *s = plog__log_active(log);
  remember_recent(log, s, &log->staged[0].header, s->size_bytes);
  plog__log_lock(log);
  for (int32_t i = 0; i < log->staged_count; i++)
    plog__segment_index_batch(s, &log->staged[i].header, log->staged[i].max_ts_offset);
  plog__producers_keep(log->producers);
  plog__log_unlock(log);
  if (log->epochs_changed) log->facts.epoch_started = true;
  atomic_store_explicit(&log->end, log->staged_end, memory_order_release);
  plog__segment_write_lumps(s);
  if (log->staged_end - log->flushed_end >= log->config.flush_messages) {
    log->facts.flush_due = true;
    log->flushed_end = log->staged_end;
  }
}

/* Bring what is staged into the file of the active segment, which is used; or cut off what came there. */
static int32_t write_staged(plog_log *log, plog_segment *s) {
  plog__log_lock(log);
  int32_t rc = plog__segment_reserve(s, (uint32_t)log->staged_count);
  plog__log_unlock(log);
  if (rc == 0) rc = plog__log_settle_leftover(log);
  if (rc == 0 && log->tail_dirty) rc = plog__segment_cut_tail(s);
  if (rc != 0) return rc;
  log->tail_dirty = false;
  plog__segment_allocate(s, &log->config, log->staged_bytes);
  rc = write_pieces(log);
  if (rc == 0) rc = write_aborted(log);
  if (rc != 0) {
    log->tail_dirty = plog__segment_cut_tail(s) != 0;
    log->tail_unsynced = true;
  }
  return rc;
}

int32_t plog__log_commit(plog_log *log, int64_t now_ms) {
  (void)now_ms;
  if (log->staged_count == 0) {
    int32_t rc = log->turn_error;
    log->turn_error = 0;
    return rc;
  }
  plog_segment *s = plog__log_active(log);
  plog_assert(s->writable); /* since the first batch was staged */
  int32_t rc = plog__segment_acquire(s);
  if (rc == 0) {
    rc = write_staged(log, s);
    plog__segment_release(s);
  }
  if (rc != 0) {
    plog__log_abort(log);
    return rc;
  }
  publish(log);
  clear_staged(log);
  return 0;
}

/* Everything that can be wrong with the batches themselves, before any of them is staged. */
static int32_t check_batches(const plog_log *log, const uint8_t *data, size_t size_bytes) {
  int64_t end = log->staged_end;
  for (size_t at = 0; at < size_bytes;) {
    plog_batch_header header;
    int32_t rc = plog_batch_check(data + at, size_bytes - at, &header);
    if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
    if (header.base_offset < end) return PLOG_OFFSET_OUT_OF_RANGE;
    end = plog__batch_last_offset(&header) + 1;
    at += header.size_bytes;
  }
  return size_bytes > 0 ? 0 : PLOG_INVALID_RECORD;
}

int32_t plog_log_append(plog_log *log, const uint8_t *data, size_t size_bytes, int64_t now_ms, int64_t *out_last) {
  plog_assert(!plog__log_has_staged(log));
  int32_t rc = check_batches(log, data, size_bytes);
  for (size_t at = 0; rc == 0 && at < size_bytes;) {
    plog_batch_header header;
    plog__batch_parse(data + at, &header);
    rc = stage(log, data + at, &header, plog__batch_last_offset(&header), PLOG_ORIGIN_REPLICATION, now_ms, NULL);
    at += header.size_bytes;
  }
  if (rc != 0) {
    plog__log_abort(log);
    return rc;
  }
  rc = plog__log_commit(log, now_ms);
  if (rc == 0) *out_last = plog__log_end(log) - 1;
  return rc;
}

/* ---------------------------------------------------------------------------------------------- changes by the owner */

int32_t plog_log_configure(plog_log *log, const plog_log_config *config) {
  if (config->segment_bytes < 1 || config->segment_index_bytes < PLOG_TIME_ENTRY_BYTES || config->index_interval_bytes < 0)
    return -EINVAL;
  plog__log_lock(log);
  log->config = *config;
  plog__log_unlock(log);
  return 0;
}

int32_t plog_log_roll(plog_log *log, int64_t now_ms) {
  int32_t rc = plog__log_commit(log, now_ms);
  if (rc != 0) return rc;
  if (plog__log_active(log)->size_bytes == 0) return 0;
  return plog__log_start_segment(log, log->staged_end, now_ms);
}

static void raise_start(plog_log *log, int64_t offset) {
  plog__log_lock(log);
  if (offset > atomic_load_explicit(&log->start, memory_order_relaxed)) {
    atomic_store_explicit(&log->start, offset, memory_order_release);
    plog__epochs_cut_start(&log->epochs, offset);
  }
  plog__log_unlock(log);
}

int32_t plog_log_set_start(plog_log *log, int64_t offset) {
  if (offset > plog__log_end(log)) return PLOG_OFFSET_OUT_OF_RANGE;
  plog_assert(log->staged_count == 0);
  raise_start(log, offset);
  return 0;
}

int32_t plog_log_delete_segments(plog_log *log, int64_t upto, int32_t *count) {
  int32_t rc = 0, gone = 0;
  plog__log_forget_recent(log);
  plog__log_lock(log); /* a segment whose files are shut is opened by name: while it is listed it must have it */
  while (gone + 1 < log->segments_count) {
    plog_segment *s = log->segments[gone];
    if (log->segments[gone + 1]->base_offset > upto) break; /* that is where s ends, whatever gap compaction left */
    rc = plog__log_set_aside(log, s);
    if (rc != 0) break;
    gone++;
  }
  for (int32_t i = 0; i < gone; i++) plog__segment_drop(log->segments[i]);
  memmove(log->segments, log->segments + gone, (size_t)(log->segments_count - gone) * sizeof(plog_segment *));
  log->segments_count -= gone;
  if (gone > 0) plog__log_segments_changed(log, 0);
  plog__log_unlock(log);
  if (gone > 0) raise_start(log, log->segments[0]->base_offset);
  if (rc == 0) *count = gone;
  return rc;
}

int32_t plog_log_expire_producers(plog_log *log, int64_t before_ms, int32_t *count) {
  plog__log_lock(log);
  *count = plog__producers_expire(log->producers, before_ms);
  plog__log_unlock(log);
  return 0;
}

/* ---------------------------------------------------------------------------------------------- truncating */

/* Everything that depends on the end is put back to a log that ends at `end`. */
static int32_t settle_after_cut(plog_log *log, int64_t end) {
  plog__log_lock(log);
  log->cuts_count++;
  log->synced_dir_base = -1; /* segments may begin below it again */
  atomic_store_explicit(&log->end, end, memory_order_release);
  if (atomic_load(&log->recovery_point) > end) atomic_store(&log->recovery_point, end);
  if (atomic_load(&log->start) > end) atomic_store_explicit(&log->start, end, memory_order_release);
  plog__epochs_cut_end(&log->epochs, end);
  plog__log_unlock(log);
  log->staged_end = end;
  log->flushed_end = PLOG_MIN(log->flushed_end, end);
  if (log->stray_snapshot > end || log->snapshot_offset > end) {
    if (log->snapshot_offset > end) remove_snapshot(log, log->snapshot_offset);
    if (log->stray_snapshot > end) remove_snapshot(log, log->stray_snapshot);
    log->stray_snapshot = -1;
    log->snapshot_offset = plog__log_start(log);
  }
  plog_log_open_report found = {0};
  return plog__log_load_producers(log, end, &found);
}

/* The files of a segment, first those that make it one. */
static int32_t unlink_files(plog_log *log, const plog_segment *s) {
  static const char *const suffixes[] = {".snapshot", ".log", ".txnindex", ".index", ".timeindex"};
  enum { ESSENTIAL = 2 };
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes); i++) {
    char path[PLOG_PATH_BYTES];
    int32_t rc = plog__segment_path(log->dir, s->base_offset, suffixes[i], path);
    if (rc == 0) rc = plog__sys_unlink(log->sys, path);
    if (rc != 0 && rc != -ENOENT && i < ESSENTIAL) return rc;
  }
  return 0;
}

/*
 * Unlink the segments from index `from` on, newest first, so that what a crash leaves is a log without a hole. With its .log a
 * segment is gone; its snapshot goes before, lest it be taken for one of other records later. Durable on return: segments that
 * came back behind what is appended from now on would hide it.
 */
static int32_t drop_segments(plog_log *log, int32_t from) {
  if (log->segments_count <= from) return 0;
  int32_t rc = 0;
  plog__log_lock(log);
  while (log->segments_count > from) {
    plog_segment *s = plog__log_active(log);
    rc = unlink_files(log, s);
    if (rc != 0) break;
    log->segments_count--;
    plog__log_segments_changed(log, log->segments_count - 1); /* what is last now is not closed any more */
    plog__segment_drop(s);
  }
  plog__log_unlock(log);
  return rc == 0 ? plog__log_sync_names(log) : rc;
}

/* Cut the active segment at offset, durably: or old records may follow new ones after a power cut. */
static int32_t cut_segment(plog_log *log, plog_segment *s, int64_t offset, int64_t *out_end) {
  plog__log_lock(log);
  int32_t rc = plog__segment_make_writable(s, &log->config);
  if (rc == 0) rc = plog__segment_acquire(s);
  if (rc != 0) {
    plog__log_unlock(log);
    return rc;
  }
  rc = plog__segment_truncate(s, offset, out_end);
  plog__log_unlock(log);
  if (rc == 0) rc = plog__sys_fsync(log->sys, s->fd);
  plog__segment_release(s);
  return rc;
}

int32_t plog_log_truncate(plog_log *log, int64_t offset, int64_t now_ms) {
  plog__log_abort(log);
  if (offset >= plog__log_end(log)) return 0;
  if (offset < log->segments[0]->base_offset) return plog_log_truncate_fully(log, offset, now_ms);
  int32_t rc = plog__log_settle_leftover(log);
  if (rc != 0) return rc;
  plog__log_forget_recent(log);
  int32_t keep = plog__log_find_segment(log, offset) + 1;
  rc = drop_segments(log, keep);
  plog_segment *s = plog__log_active(log);
  int64_t end = 0;
  if (rc == 0) rc = cut_segment(log, s, offset, &end);
  if (rc != 0) end = s->next_offset; /* as far as it came */
  if (rc == 0) log->tail_dirty = false;
  int32_t settled = settle_after_cut(log, PLOG_MIN(end, plog__log_end(log)));
  return rc != 0 ? rc : settled;
}

/* The only segment is replaced by an empty one at offset. */
static int32_t replace_segment(plog_log *log, int64_t offset, int64_t now_ms) {
  plog_segment *old = log->segments[0], *fresh;
  if (old->base_offset == offset) {
    int64_t end;
    return cut_segment(log, old, offset, &end);
  }
  plog__log_lock(log);
  /* the old one goes first: with both there, a start after a crash would see one log with a hole */
  uint32_t files = UINT32_MAX;
  int32_t rc = rename_files(log, old, "", ".deleted", &files);
  if (rc == 0) {
    rc = create_segment(log, offset, now_ms, &fresh);
    if (rc != 0) (void)rename_files(log, old, ".deleted", "", &files);
  }
  if (rc == 0) {
    log->segments[0] = fresh;
    plog__log_segments_changed(log, 0);
    plog__segment_drop(old);
  }
  plog__log_unlock(log);
  return rc == 0 ? plog__log_sync_names(log) : rc;
}

int32_t plog_log_truncate_fully(plog_log *log, int64_t offset, int64_t now_ms) {
  plog__log_abort(log);
  int32_t rc = plog__log_settle_leftover(log);
  if (rc != 0) return rc;
  plog__log_forget_recent(log);
  rc = drop_segments(log, 1);
  if (rc == 0) rc = replace_segment(log, offset, now_ms);
  if (rc != 0) {
    (void)settle_after_cut(log, PLOG_MIN(plog__log_active(log)->next_offset, plog__log_end(log)));
    return rc;
  }
  log->tail_dirty = false;
  plog__log_lock(log);
  plog__producers_clear(log->producers);
  log->epochs.count = 0;
  log->cuts_count++;
  log->synced_dir_base = -1;
  atomic_store_explicit(&log->start, offset, memory_order_release);
  atomic_store_explicit(&log->end, offset, memory_order_release);
  atomic_store(&log->recovery_point, PLOG_MIN(atomic_load(&log->recovery_point), offset));
  plog__log_unlock(log);
  if (log->stray_snapshot >= 0) remove_snapshot(log, log->stray_snapshot);
  log->stray_snapshot = -1;
  log->snapshot_offset = offset;
  log->staged_end = offset;
  log->flushed_end = offset;
  return 0;
}
