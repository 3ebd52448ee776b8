/* Reading: slices for fetches, copies for libraries, the end of an epoch, listings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "log_state.h"

/* ---------------------------------------------------------------------------------------------- slices */

/* What a reader needs of a segment, taken in one piece under the lock, or by the owner. */
typedef struct {
  plog_segment *segment; /* a reference */
  int64_t size_bytes;
  int64_t next_offset;
  int64_t from;       /* where to look for the offset */
  int64_t limit_from; /* where to look for the limit */
} view;

static int32_t take_view(plog_log *log, int32_t i, int64_t offset, int64_t limit, view *out) {
  plog_segment *s = log->segments[i];
  int32_t rc = plog__segment_acquire(s);
  if (rc != 0) return rc;
  out->segment = s;
  out->size_bytes = s->size_bytes;
  out->next_offset = s->next_offset;
  out->from = plog__segment_hint(s, offset);
  out->limit_from = limit < s->next_offset ? plog__segment_hint(s, limit) : 0;
  return 0;
}

/* Up to where the segment may be read when nothing at or above limit may be. */
static int32_t limit_position(const view *v, int64_t limit, int64_t *out) {
  *out = v->size_bytes;
  if (limit >= v->next_offset) return 0;
  plog_place place;
  int32_t rc = plog__segment_locate(v->segment, limit, v->limit_from, v->size_bytes, &place);
  if (rc == 0) *out = place.position;
  return rc == PLOG_E_NOT_FOUND ? 0 : rc;
}

static const plog_place *find_recent(const plog_log *log, const plog_segment *s, int64_t offset) {
  for (int32_t i = 0; i < log->recent_count; i++)
    if (log->recent[i].segment == s && log->recent[i].place.base_offset == offset) return &log->recent[i].place;
  return NULL;
}

static int32_t cut_slice(const plog_log *log, const view *v, int64_t offset, int64_t limit, uint32_t max_bytes,
                         bool at_least_one, bool any_thread, plog_slice *out) {
  plog_place place;
  const plog_place *recent = any_thread ? NULL : find_recent(log, v->segment, offset);
  int32_t rc = 0;
  if (recent)
    place = *recent;
  else
    rc = plog__segment_locate(v->segment, offset, v->from, v->size_bytes, &place);
  int64_t end;
  if (rc == 0) rc = limit_position(v, limit, &end);
  if (rc != 0) return rc;
  if (place.last_offset >= limit) return 0;
  int64_t size_bytes = PLOG_MAX((int64_t)max_bytes, at_least_one ? (int64_t)place.size_bytes : 0);
  size_bytes = PLOG_MIN(size_bytes, end - place.position);
  if (size_bytes == 0) return 0;
  out->segment = v->segment;
  out->fd = v->segment->fd;
  out->position = place.position;
  out->size_bytes = (uint32_t)size_bytes;
  out->first_offset = place.base_offset;
  return 0;
}

int32_t plog__log_slice(plog_log *log, int64_t offset, int64_t max_offset, uint32_t max_bytes, bool at_least_one,
                        bool any_thread, plog_slice *out) {
  *out = (plog_slice){NULL, -1, 0, 0, -1};
  int64_t end = plog__log_end(log), limit = PLOG_MIN(max_offset, end);
  if (offset < plog__log_start(log) || offset > end) return PLOG_OFFSET_OUT_OF_RANGE;
  if (offset >= limit || (max_bytes == 0 && !at_least_one)) return 0;
  for (int64_t base = offset;;) {
    view v = {0};
    if (any_thread) plog__log_lock(log);
    int32_t i = plog__log_find_segment(log, base);
    int64_t next_base = i + 1 < log->segments_count ? log->segments[i + 1]->base_offset : INT64_MAX;
    int32_t rc = take_view(log, i, offset, limit, &v);
    if (any_thread) plog__log_unlock(log);
    if (rc != 0) return rc;
    rc = cut_slice(log, &v, offset, limit, max_bytes, at_least_one, any_thread, out);
    if (out->size_bytes > 0) return 0; /* the reference goes along */
    plog__segment_release(v.segment);
    if (rc != PLOG_E_NOT_FOUND) return rc;
    if (next_base >= limit) return 0; /* the rest of this segment was compacted away, and the next is out of bounds */
    base = next_base;
  }
}

/* ---------------------------------------------------------------------------------------------- copies */

/* Leave whole batches only; check their CRCs if asked. *kept 0: the first one is cut, and needs *needed bytes. */
static int32_t keep_whole(const uint8_t *data, size_t size_bytes, bool check, size_t *kept, size_t *needed) {
  *kept = 0;
  while (*kept < size_bytes) {
    plog_batch_header header;
    int32_t rc = plog_batch_header_read(data + *kept, size_bytes - *kept, &header);
    if (rc == PLOG_E_SHORT) {
      *needed = header.size_bytes;
      return 0;
    }
    if (rc == 0 && check && !plog__batch_crc_ok(data + *kept, &header)) rc = PLOG_CORRUPT_MESSAGE;
    if (rc != 0) return *kept > 0 ? 0 : rc; /* what is sound comes first; the next read meets the damage */
    *kept += header.size_bytes;
  }
  return 0;
}

int32_t plog_log_read(plog_log *log, int64_t offset, int64_t max_offset, int32_t check, uint8_t *out, size_t capacity_bytes,
                      size_t *out_bytes) {
  plog_slice slice;
  uint32_t max_bytes = (uint32_t)PLOG_MIN(capacity_bytes, (size_t)INT32_MAX);
  int32_t rc = plog__log_slice(log, offset, max_offset, max_bytes, true, true, &slice);
  if (rc != 0) return rc;
  if (slice.size_bytes == 0) {
    *out_bytes = 0;
    return 0;
  }
  if (slice.size_bytes > max_bytes) {
    *out_bytes = slice.size_bytes; /* that is the first batch's */
    plog__slice_release(&slice);
    return PLOG_E_BUFFER_TOO_SMALL;
  }
  rc = plog__sys_pread_all(log->sys, slice.fd, out, slice.size_bytes, slice.position);
  size_t kept = 0, needed = 0;
  if (rc == PLOG_E_SHORT) rc = PLOG_CORRUPT_MESSAGE; /* the file was cut under us */
  if (rc == 0) rc = keep_whole(out, slice.size_bytes, check != 0, &kept, &needed);
  plog__slice_release(&slice);
  if (rc == 0 && kept == 0) rc = needed > capacity_bytes ? PLOG_E_BUFFER_TOO_SMALL : PLOG_CORRUPT_MESSAGE;
  if (rc == 0) *out_bytes = kept;
  if (rc == PLOG_E_BUFFER_TOO_SMALL) *out_bytes = needed;
  return rc;
}

int32_t plog__log_read_batch(plog_segment *s, int64_t position, uint32_t size_bytes, uint8_t **out) {
  uint8_t *data = malloc(size_bytes);
  if (!data) return -ENOMEM;
  int32_t rc = plog__sys_pread_all(s->sys, s->fd, data, size_bytes, position);
  if (rc != 0) {
    free(data);
    return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
  }
  *out = data;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- by epoch */

void plog__log_end_of_epoch(plog_log *log, int32_t begun, int32_t epoch, int32_t *out_epoch, int64_t *out_end) {
  plog__log_lock(log);
  plog__epochs_end(&log->epochs, begun, epoch, plog__log_end(log), out_epoch, out_end);
  plog__log_unlock(log);
}

int32_t plog_log_end_offset_for_epoch(plog_log *log, int32_t epoch, int32_t *out_epoch, int64_t *out_end_offset) {
  plog__log_end_of_epoch(log, -1, epoch, out_epoch, out_end_offset);
  return 0;
}

int32_t plog_log_epochs(plog_log *log, int64_t *out_pairs, int32_t capacity_pairs) {
  plog__log_lock(log);
  int32_t count = log->epochs.count;
  for (int32_t i = 0; i < count && i < capacity_pairs; i++) {
    out_pairs[2 * i] = log->epochs.items[i].epoch;
    out_pairs[2 * i + 1] = log->epochs.items[i].start_offset;
  }
  plog__log_unlock(log);
  return count;
}

/* ---------------------------------------------------------------------------------------------- listings */

int32_t plog_log_take_rebuilt_indexes(plog_log *log) {
  int32_t count = 0;
  plog__log_lock(log);
  for (int32_t i = 0; i < log->segments_count; i++) count += atomic_exchange(&log->segments[i]->rebuilt_indexes, 0);
  plog__log_unlock(log);
  return count;
}

void plog_log_info_read(plog_log *log, plog_log_info *out) {
  plog__log_lock(log);
  out->log_start_offset = plog__log_start(log);
  out->log_end_offset = plog__log_end(log);
  out->recovery_point = atomic_load(&log->recovery_point);
  out->last_stable_offset_limit = PLOG_MAX(plog__producers_first_open(log->producers), out->log_start_offset);
  out->size_bytes = 0;
  for (int32_t i = 0; i < log->segments_count; i++) out->size_bytes += log->segments[i]->size_bytes;
  out->segment_count = log->segments_count;
  out->first_base_offset = log->segments[0]->base_offset;
  out->latest_epoch = plog__epochs_latest(&log->epochs);
  out->producer_count = plog__producers_count(log->producers);
  plog__log_unlock(log);
}

static int64_t file_size(plog_segment *s, const char *suffix) {
  char path[PLOG_PATH_BYTES];
  struct stat st;
  if (plog__segment_path(s->dir, s->base_offset, suffix, path) != 0 || plog__sys_stat(s->sys, path, &st) != 0) return -1;
  return st.st_size;
}

static void describe_segment(plog_segment *s, plog_segment_info *out) {
  out->base_offset = s->base_offset;
  out->next_offset = s->next_offset;
  out->size_bytes = s->size_bytes;
  /* a segment that is not written to is sealed: its indexes are as long as they are full */
  out->index_bytes = s->writable ? (int64_t)plog__index_bytes(&s->offsets) : file_size(s, ".index");
  out->timeindex_bytes = s->writable ? (int64_t)plog__index_bytes(&s->times) : file_size(s, ".timeindex");
  bool known = plog__segment_load_max(s) == 0;
  out->max_timestamp = known ? s->max_timestamp : -1;
  out->max_timestamp_offset = known ? s->max_timestamp_offset : -1;
  char path[PLOG_PATH_BYTES];
  struct stat st;
  out->last_modified_ms = -1;
  if (plog__segment_path(s->dir, s->base_offset, ".log", path) == 0 && plog__sys_stat(s->sys, path, &st) == 0)
    out->last_modified_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

/* Describing a segment asks the file system several times, so whoever appends gets the lock between two of them. */
int32_t plog_log_segments(plog_log *log, plog_segment_info *out, int32_t capacity) {
  int64_t described = INT64_MIN; /* base offset of the last one */
  for (int32_t count = 0;; count++) {
    plog__log_lock(log);
    int32_t i = plog__log_find_segment(log, described);
    if (log->segments[i]->base_offset <= described) i++;
    int32_t left = log->segments_count - i;
    if (left > 0 && count < capacity) {
      describe_segment(log->segments[i], &out[count]);
      described = log->segments[i]->base_offset;
    }
    plog__log_unlock(log);
    if (left == 0 || count == capacity) return count + left;
  }
}

int32_t plog_log_producers(plog_log *log, plog_producer_info *out, int32_t capacity) {
  plog__log_lock(log);
  int32_t count = plog__producers_list(log->producers, out, capacity);
  plog__log_unlock(log);
  return count;
}

/* ---------------------------------------------------------------------------------------------- aborted transactions */

typedef int32_t aborted_fn(void *context, const plog_aborted *aborted);

/* Those that overlap [from, to), by last offset. The lock is held. */
static int32_t each_aborted(plog_log *log, int64_t from, int64_t to, aborted_fn *fn, void *context) {
  for (int32_t i = plog__log_find_segment(log, from); i < log->segments_count; i++) {
    plog_segment *s = log->segments[i];
    int32_t rc = plog__segment_load_aborted(s);
    if (rc != 0) return rc;
    for (int32_t k = 0; k < s->aborted_count; k++) {
      const plog_aborted *a = &s->aborted[k];
      if (a->last_offset >= from && a->first_offset < to) {
        rc = fn(context, a);
        if (rc != 0) return rc;
      }
      if (a->last_stable_offset >= to) return 0; /* all that come later begin at or above it */
    }
  }
  return 0;
}

typedef struct {
  plog_aborted_fn *fn;
  void *context;
} aborted_call;

static int32_t call_aborted(void *context, const plog_aborted *aborted) {
  const aborted_call *call = context;
  call->fn(call->context, aborted->producer_id, aborted->first_offset);
  return 0;
}

/*
 * What may be in the slice begins below this. As far as Kafka looks, so that readers are told the same: to the first batch behind
 * the slice that the offset index knows, else to the end of the segment.
 */
static int64_t upper_bound(const plog_log *log, const plog_slice *slice) {
  const plog_segment *s = slice->segment;
  plog_index_entry entry;
  bool trusted = !atomic_load_explicit(&s->distrusted, memory_order_relaxed);
  if (trusted && plog__index_ceil_position(&s->offsets, log->sys, slice->position + slice->size_bytes, &entry) == 0)
    return s->base_offset + entry.relative_offset;
  int32_t next = plog__log_find_segment(log, s->base_offset) + 1;
  return next < log->segments_count ? log->segments[next]->base_offset : plog__log_end(log);
}

int32_t plog__log_aborted(plog_log *log, int64_t from, const plog_slice *slice, plog_aborted_fn *fn, void *context) {
  aborted_call call = {fn, context};
  plog__log_lock(log);
  int32_t rc = each_aborted(log, from, upper_bound(log, slice), call_aborted, &call);
  plog__log_unlock(log);
  return rc;
}

typedef struct {
  int64_t *out;
  int32_t capacity;
  int32_t count;
} aborted_sink;

static int32_t keep_aborted(void *context, const plog_aborted *aborted) {
  aborted_sink *sink = context;
  if (sink->count < sink->capacity) {
    sink->out[3 * (int64_t)sink->count] = aborted->producer_id;
    sink->out[3 * (int64_t)sink->count + 1] = aborted->first_offset;
    sink->out[3 * (int64_t)sink->count + 2] = aborted->last_offset;
  }
  sink->count++;
  return 0;
}

int32_t plog_log_aborted(plog_log *log, int64_t from, int64_t to, int64_t *out_triples, int32_t capacity, int32_t *count) {
  aborted_sink sink = {out_triples, capacity, 0};
  plog__log_lock(log);
  int32_t rc = each_aborted(log, from, to, keep_aborted, &sink);
  plog__log_unlock(log);
  if (rc == 0) *count = sink.count;
  return rc;
}
