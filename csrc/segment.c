#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "wire.h"

#define NO_TIMESTAMP (-1)

enum { ABORTED_ENTRY_BYTES = 34, ABORTED_VERSION = 0 };

int32_t plog__segment_path(const char *dir, int64_t base_offset, const char *suffix, char out[PLOG_PATH_BYTES]) {
  int n = snprintf(out, PLOG_PATH_BYTES, "%s/%020" PRId64 "%s", dir, base_offset, suffix);
  return n < 0 || n >= PLOG_PATH_BYTES ? -ENAMETOOLONG : 0;
}

/* ---------------------------------------------------------------------------------------------- lifetime */

static plog_segment *new_segment(plog_sys *sys, const char *dir, int64_t base_offset, int64_t interval_bytes,
                                 int64_t now_ms) {
  size_t dir_bytes = strlen(dir) + 1;
  plog_segment *s = calloc(1, sizeof *s + dir_bytes);
  if (!s) return NULL;
  if (pthread_mutex_init(&s->open_lock, NULL) != 0) {
    free(s);
    return NULL;
  }
  memcpy(s->dir, dir, dir_bytes);
  atomic_store(&s->references, 1);
  s->sys = sys;
  s->base_offset = base_offset;
  s->fd = -1;
  plog__index_init(&s->offsets, PLOG_OFFSET_ENTRY_BYTES);
  plog__index_init(&s->times, PLOG_TIME_ENTRY_BYTES);
  s->next_offset = base_offset;
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = base_offset;
  s->created_ms = now_ms;
  s->interval_bytes = interval_bytes;
  return s;
}

static void free_segment(plog_segment *s) {
  plog__index_deinit(&s->offsets, s->sys);
  plog__index_deinit(&s->times, s->sys);
  if (s->fd >= 0) (void)plog__sys_close(s->sys, s->fd);
  free(s->aborted);
  (void)pthread_mutex_destroy(&s->open_lock);
  free(s);
}

void plog__segment_retain(plog_segment *s) {
  int32_t before = atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
  plog_assert(before > 0);
}

void plog__segment_release(plog_segment *s) {
  int32_t before = atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel);
  plog_assert(before > 0);
  if (before == 1) free_segment(s);
}

void plog__slice_release(plog_slice *slice) {
  if (slice->segment) plog__segment_release(slice->segment);
  slice->segment = NULL;
  slice->fd = -1;
  slice->size_bytes = 0;
}

int32_t plog__segment_open(plog_sys *sys, const char *dir, int64_t base_offset, int64_t next_offset, int64_t interval_bytes,
                           int64_t now_ms, plog_segment **out) {
  char path[PLOG_PATH_BYTES];
  struct stat st;
  int32_t rc = plog__segment_path(dir, base_offset, ".log", path);
  if (rc == 0) rc = plog__sys_stat(sys, path, &st);
  if (rc != 0) return rc;
  plog_segment *s = new_segment(sys, dir, base_offset, interval_bytes, now_ms);
  if (!s) return -ENOMEM;
  s->size_bytes = st.st_size;
  if (next_offset >= 0) s->next_offset = next_offset;
  *out = s;
  return 0;
}

int32_t plog__segment_create(plog_sys *sys, const char *dir, int64_t base_offset, const plog_log_config *config,
                             int64_t now_ms, plog_segment **out) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(dir, base_offset, ".log", path);
  if (rc != 0) return rc;
  plog_segment *s = new_segment(sys, dir, base_offset, config->index_interval_bytes, now_ms);
  if (!s) return -ENOMEM;
  /* no record has this offset yet: what an earlier attempt may have left under the name is nobody's */
  s->fd = plog__sys_open(sys, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  rc = s->fd < 0 ? s->fd : 0;
  if (rc == 0 && plog__segment_path(dir, base_offset, ".txnindex", path) == 0) {
    rc = plog__sys_unlink(sys, path);
    if (rc == -ENOENT) rc = 0;
  }
  if (rc == 0 && config->preallocate) rc = plog__sys_fallocate(sys, s->fd, FALLOC_FL_KEEP_SIZE, 0, config->segment_bytes);
  atomic_store_explicit(&s->is_open, true, memory_order_release);
  s->max_known = true;
  s->aborted_known = true;
  if (rc == 0) rc = plog__segment_make_writable(s, config);
  if (rc != 0) {
    plog__segment_release(s);
    return rc;
  }
  *out = s;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- opening files */

static int32_t open_file(plog_segment *s, const char *suffix, int flags, int *fd) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(s->dir, s->base_offset, suffix, path);
  if (rc != 0) return rc;
  *fd = plog__sys_open(s->sys, path, flags | O_CLOEXEC, 0644);
  return *fd < 0 ? *fd : 0;
}

static int32_t load_index(plog_segment *s, plog_index *index, const char *suffix) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(s->dir, s->base_offset, suffix, path);
  return rc != 0 ? rc : plog__index_load(index, s->sys, path);
}

/* The last entries fit the segment. What lies between is trusted: a clean stop, or a recovery, wrote it. */
static bool indexes_plausible(const plog_segment *s) {
  if (s->offsets.count > 0) {
    uint32_t last = s->offsets.count - 1;
    if (plog__index_position(&s->offsets, last) >= s->size_bytes) return false;
    if (plog__index_relative_offset(&s->offsets, last) > INT32_MAX) return false;
    if (last > 0 && plog__index_relative_offset(&s->offsets, 0) >= plog__index_relative_offset(&s->offsets, last))
      return false;
  }
  if (s->times.count > 0) {
    uint32_t last = s->times.count - 1;
    if (plog__index_relative_offset(&s->times, last) > INT32_MAX) return false;
    if (plog__index_timestamp(&s->times, 0) > plog__index_timestamp(&s->times, last)) return false;
  }
  return true;
}

/* Build both indexes of a closed segment from its batches, in memory; the files are put right when they can be. */
static int32_t rebuild_indexes(plog_segment *s) {
  plog__index_deinit(&s->offsets, s->sys);
  plog__index_deinit(&s->times, s->sys);
  int64_t last_entry = 0, largest = NO_TIMESTAMP, largest_offset = s->base_offset;
  plog_scan scan;
  plog__scan_init(&scan, s, 0, s->size_bytes);
  plog_batch_header header;
  int32_t rc;
  while ((rc = plog__scan_next(&scan, &header)) == 0) {
    int64_t position = scan.position - header.size_bytes, last = plog__batch_last_offset(&header) - s->base_offset;
    if (last < 0 || last > INT32_MAX) return PLOG_CORRUPT_MESSAGE;
    if (header.max_timestamp > largest) {
      largest = header.max_timestamp;
      largest_offset = last + s->base_offset;
    }
    if (position - last_entry <= s->interval_bytes) continue;
    rc = plog__index_append_offset(&s->offsets, (uint32_t)last, (uint32_t)position);
    if (rc == 0 && (s->times.count == 0 || largest > plog__index_timestamp(&s->times, s->times.count - 1)) &&
        largest > NO_TIMESTAMP)
      rc = plog__index_append_time(&s->times, largest, (uint32_t)(largest_offset - s->base_offset));
    if (rc != 0) return rc;
    last_entry = position;
  }
  /* damage in a closed segment ends its indexes; whoever reads there will meet it */
  if (rc != PLOG_E_NOT_FOUND && rc != PLOG_E_SHORT && rc != PLOG_CORRUPT_MESSAGE) return rc;
  if (largest > NO_TIMESTAMP && (s->times.count == 0 || largest > plog__index_timestamp(&s->times, s->times.count - 1))) {
    rc = plog__index_append_time(&s->times, largest, (uint32_t)(largest_offset - s->base_offset));
    if (rc != 0) return rc;
  }
  char path[PLOG_PATH_BYTES];
  if (plog__segment_path(s->dir, s->base_offset, ".index", path) == 0 &&
      plog__index_open_writable(&s->offsets, s->sys, path, 0) == 0)
    plog__index_close_file(&s->offsets, s->sys);
  if (plog__segment_path(s->dir, s->base_offset, ".timeindex", path) == 0 &&
      plog__index_open_writable(&s->times, s->sys, path, 0) == 0)
    plog__index_close_file(&s->times, s->sys);
  return 0;
}

static int32_t open_files(plog_segment *s) {
  int32_t rc = open_file(s, ".log", O_RDWR, &s->fd); /* a cut may make it the active one again */
  if (rc != 0) return rc;
  rc = load_index(s, &s->offsets, ".index");
  if (rc == 0) rc = load_index(s, &s->times, ".timeindex");
  if (rc == -ENOENT || rc == PLOG_E_MALFORMED || (rc == 0 && !indexes_plausible(s))) rc = rebuild_indexes(s);
  if (rc != 0) {
    plog__index_deinit(&s->offsets, s->sys);
    plog__index_deinit(&s->times, s->sys);
    (void)plog__sys_close(s->sys, s->fd);
    s->fd = -1;
  }
  return rc;
}

static int32_t ensure_open(plog_segment *s) {
  if (atomic_load_explicit(&s->is_open, memory_order_acquire)) return 0;
  int32_t rc = 0;
  (void)pthread_mutex_lock(&s->open_lock);
  if (!atomic_load_explicit(&s->is_open, memory_order_relaxed)) {
    rc = open_files(s);
    if (rc == 0) atomic_store_explicit(&s->is_open, true, memory_order_release);
  }
  (void)pthread_mutex_unlock(&s->open_lock);
  return rc;
}

int32_t plog__segment_acquire(plog_segment *s) {
  int32_t rc = ensure_open(s);
  if (rc == 0) plog__segment_retain(s);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- scanning */

void plog__scan_init(plog_scan *scan, plog_segment *s, int64_t position, int64_t limit_bytes) {
  scan->segment = s;
  scan->position = position;
  scan->limit_bytes = limit_bytes;
  scan->buffer_at = 0;
  scan->buffer_bytes = 0;
}

int32_t plog__scan_next(plog_scan *scan, plog_batch_header *out) {
  int64_t left = scan->limit_bytes - scan->position;
  if (left <= 0) return PLOG_E_NOT_FOUND;
  if (left < PLOG_BATCH_OVERHEAD) return PLOG_E_SHORT;
  int64_t at = scan->position - scan->buffer_at; /* in the buffer, when it is in there */
  if (at < 0 || at + PLOG_BATCH_OVERHEAD > (int64_t)scan->buffer_bytes) {
    size_t wanted = (size_t)PLOG_MIN(left, (int64_t)sizeof scan->buffer);
    scan->buffer_bytes = 0;
    int32_t rc = plog__sys_pread_all(scan->segment->sys, scan->segment->fd, scan->buffer, wanted, scan->position);
    if (rc != 0) return rc;
    scan->buffer_at = scan->position;
    scan->buffer_bytes = wanted;
    at = 0;
  }
  int32_t rc = plog_batch_header_read(scan->buffer + at, PLOG_BATCH_OVERHEAD, out);
  if (rc != 0 && rc != PLOG_E_SHORT) return rc;
  if (out->size_bytes > left) return PLOG_E_SHORT;
  if (out->base_offset < 0 || out->last_offset_delta < 0 || out->base_offset > INT64_MAX - out->last_offset_delta - 1)
    return PLOG_CORRUPT_MESSAGE;
  scan->position += out->size_bytes;
  return 0;
}

int64_t plog__segment_hint(const plog_segment *s, int64_t offset) {
  /* the entry of the batch that holds offset may have a larger offset: its last. The one before it starts below. */
  uint32_t n = plog__index_count_upto_offset(&s->offsets, offset - s->base_offset);
  return n == 0 ? 0 : plog__index_position(&s->offsets, n - 1);
}

int32_t plog__segment_locate(plog_segment *s, int64_t offset, int64_t start, int64_t limit_bytes, plog_place *out) {
  plog_scan scan;
  plog__scan_init(&scan, s, start, limit_bytes);
  plog_batch_header header;
  for (;;) {
    int32_t rc = plog__scan_next(&scan, &header);
    if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc; /* whole batches were published */
    if (plog__batch_last_offset(&header) < offset) continue;
    out->base_offset = header.base_offset;
    out->last_offset = plog__batch_last_offset(&header);
    out->position = scan.position - header.size_bytes;
    out->size_bytes = header.size_bytes;
    return 0;
  }
}

/* ---------------------------------------------------------------------------------------------- writing */

int32_t plog__segment_make_writable(plog_segment *s, const plog_log_config *config) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = ensure_open(s);
  if (rc == 0) rc = plog__segment_load_max(s);
  if (rc == 0) rc = plog__segment_load_aborted(s);
  if (rc == 0) rc = plog__segment_path(s->dir, s->base_offset, ".index", path);
  if (rc == 0)
    rc = plog__index_open_writable(&s->offsets, s->sys, path,
                                   config->segment_index_bytes / PLOG_OFFSET_ENTRY_BYTES * PLOG_OFFSET_ENTRY_BYTES);
  if (rc == 0) rc = plog__segment_path(s->dir, s->base_offset, ".timeindex", path);
  if (rc == 0)
    rc = plog__index_open_writable(&s->times, s->sys, path,
                                   config->segment_index_bytes / PLOG_TIME_ENTRY_BYTES * PLOG_TIME_ENTRY_BYTES);
  if (rc == 0) s->writable = true;
  return rc;
}

static bool time_entry_due(const plog_segment *s) {
  if (s->max_timestamp <= NO_TIMESTAMP) return false;
  return s->times.count == 0 || s->max_timestamp > plog__index_timestamp(&s->times, s->times.count - 1);
}

static int32_t add_time_entry(plog_segment *s) {
  if (!time_entry_due(s)) return 0;
  return plog__index_append_time(&s->times, s->max_timestamp, (uint32_t)(s->max_timestamp_offset - s->base_offset));
}

int32_t plog__segment_seal(plog_segment *s) {
  if (!s->writable) return 0;
  int32_t rc = add_time_entry(s);
  if (rc == 0) rc = plog__index_trim(&s->offsets, s->sys);
  if (rc == 0) rc = plog__index_trim(&s->times, s->sys);
  if (rc != 0) return rc; /* still writable */
  plog__index_close_file(&s->offsets, s->sys);
  plog__index_close_file(&s->times, s->sys);
  s->writable = false;
  return 0;
}

int32_t plog__segment_cut_tail(plog_segment *s) {
  return plog__sys_ftruncate(s->sys, s->fd, s->size_bytes);
}

bool plog__segment_index_full(const plog_segment *s, const plog_log_config *config, int64_t last_offset) {
  return s->offsets.count >= config->segment_index_bytes / PLOG_OFFSET_ENTRY_BYTES ||
         s->times.count + 1 >= config->segment_index_bytes / PLOG_TIME_ENTRY_BYTES ||
         last_offset - s->base_offset > INT32_MAX;
}

int32_t plog__segment_reserve(plog_segment *s, uint32_t batches_count) {
  int32_t rc = plog__index_reserve(&s->offsets, batches_count);
  return rc != 0 ? rc : plog__index_reserve(&s->times, batches_count + 1); /* the last entry, when it is sealed */
}

void plog__segment_index_batch(plog_segment *s, const plog_batch_header *header, int64_t max_ts_offset) {
  int64_t position = s->size_bytes, last_offset = plog__batch_last_offset(header);
  plog_assert(header->base_offset >= s->next_offset);
  plog_assert(last_offset - s->base_offset <= INT32_MAX && position <= UINT32_MAX);
  if (header->max_timestamp > s->max_timestamp) {
    s->max_timestamp = header->max_timestamp;
    s->max_timestamp_offset = max_ts_offset;
  }
  if (s->since_entry_bytes > s->interval_bytes) {
    int32_t rc = plog__index_append_offset(&s->offsets, (uint32_t)(last_offset - s->base_offset), (uint32_t)position);
    if (rc == 0) rc = add_time_entry(s);
    plog_assert(rc == 0); /* the room was reserved */
    s->since_entry_bytes = 0;
  }
  s->since_entry_bytes += header->size_bytes;
  if (position == 0) {
    s->rolling_timestamp = header->max_timestamp;
    s->rolling_known = true;
  }
  s->size_bytes = position + header->size_bytes;
  s->next_offset = last_offset + 1;
}

int32_t plog__segment_reset_indexes(plog_segment *s) {
  int32_t rc = plog__index_truncate(&s->offsets, s->sys, 0);
  if (rc == 0) rc = plog__index_truncate(&s->times, s->sys, 0);
  if (rc != 0) return rc;
  s->size_bytes = 0;
  s->next_offset = s->base_offset;
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  s->max_known = true;
  s->rolling_known = false;
  s->since_entry_bytes = 0;
  s->aborted_count = 0;
  s->aborted_written = 0;
  s->aborted_known = true;
  char path[PLOG_PATH_BYTES];
  rc = plog__segment_path(s->dir, s->base_offset, ".txnindex", path);
  if (rc == 0) rc = plog__sys_unlink(s->sys, path);
  return rc == -ENOENT ? 0 : rc;
}

/* The last entry of a sealed time index, without opening the segment. PLOG_E_MALFORMED: it is not sealed, or broken. */
static int32_t peek_max(plog_segment *s) {
  int fd;
  int32_t rc = open_file(s, ".timeindex", O_RDONLY, &fd);
  if (rc != 0) return rc;
  struct stat st;
  uint8_t entry[PLOG_TIME_ENTRY_BYTES] = {0};
  rc = plog__sys_fstat(s->sys, fd, &st);
  if (rc == 0 && st.st_size % PLOG_TIME_ENTRY_BYTES != 0) rc = PLOG_E_MALFORMED;
  if (rc == 0 && st.st_size > 0)
    rc = plog__sys_pread_all(s->sys, fd, entry, sizeof entry, st.st_size - PLOG_TIME_ENTRY_BYTES);
  (void)plog__sys_close(s->sys, fd);
  if (rc != 0) return rc;
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  if (st.st_size > 0) {
    uint32_t relative = plog_get_u32(entry + 8);
    s->max_timestamp = plog_get_i64(entry);
    s->max_timestamp_offset = s->base_offset + relative;
    if (relative > INT32_MAX || (s->max_timestamp == 0 && relative == 0)) return PLOG_E_MALFORMED;
  }
  return 0;
}

int32_t plog__segment_load_max(plog_segment *s) {
  if (s->max_known) return 0;
  if (!atomic_load_explicit(&s->is_open, memory_order_acquire) && peek_max(s) == 0) {
    s->max_known = true;
    return 0;
  }
  int32_t rc = ensure_open(s); /* which builds an index that is missing */
  if (rc != 0) return rc;
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  if (s->times.count > 0) {
    s->max_timestamp = plog__index_timestamp(&s->times, s->times.count - 1);
    s->max_timestamp_offset = s->base_offset + plog__index_relative_offset(&s->times, s->times.count - 1);
  }
  s->max_known = true;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- truncating */

/* Largest timestamp of what is left: from the time index, and from the batches behind its last entry. */
static int32_t find_max(plog_segment *s) {
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  if (s->times.count > 0) {
    s->max_timestamp = plog__index_timestamp(&s->times, s->times.count - 1);
    s->max_timestamp_offset = s->base_offset + plog__index_relative_offset(&s->times, s->times.count - 1);
  }
  plog_scan scan;
  plog__scan_init(&scan, s, plog__segment_hint(s, s->max_timestamp_offset), s->size_bytes);
  plog_batch_header header;
  int32_t rc;
  while ((rc = plog__scan_next(&scan, &header)) == 0) {
    if (header.max_timestamp <= s->max_timestamp) continue;
    s->max_timestamp = header.max_timestamp;
    s->max_timestamp_offset = plog__batch_last_offset(&header);
  }
  s->max_known = true;
  return rc == PLOG_E_NOT_FOUND ? 0 : rc;
}

int32_t plog__segment_truncate(plog_segment *s, int64_t offset, int64_t *out_end) {
  plog_assert(s->writable);
  plog_place place;
  int32_t rc = plog__segment_locate(s, offset, plog__segment_hint(s, offset), s->size_bytes, &place);
  int64_t size_bytes = s->size_bytes, end = offset;
  if (rc == 0) {
    size_bytes = place.position;
    end = PLOG_MIN(offset, place.base_offset);
    rc = plog__sys_ftruncate(s->sys, s->fd, size_bytes);
  } else if (rc == PLOG_E_NOT_FOUND) {
    rc = 0;
  }
  if (rc != 0) return rc;
  s->size_bytes = size_bytes;
  s->next_offset = *out_end = PLOG_MIN(s->next_offset, end);
  uint32_t offsets_kept = plog__index_count_upto_offset(&s->offsets, offset - s->base_offset - 1);
  uint32_t times_kept = plog__index_count_upto_offset(&s->times, offset - s->base_offset - 1);
  rc = plog__index_truncate(&s->offsets, s->sys, offsets_kept);
  if (rc == 0) rc = plog__index_truncate(&s->times, s->sys, times_kept);
  s->since_entry_bytes = 0;
  if (size_bytes == 0) s->rolling_known = false;
  while (s->aborted_count > 0 && s->aborted[s->aborted_count - 1].last_offset >= offset) s->aborted_count--;
  if (rc == 0) rc = find_max(s);
  if (rc == 0 && s->aborted_written > s->aborted_count) rc = plog__segment_write_aborted(s);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- aborted transactions */

static int32_t reserve_aborted(plog_segment *s, int32_t count) {
  if (count <= s->aborted_capacity) return 0;
  int32_t capacity = PLOG_MAX(count, PLOG_MAX(s->aborted_capacity * 2, 4));
  plog_aborted *aborted = realloc(s->aborted, (size_t)capacity * sizeof *aborted);
  if (!aborted) return -ENOMEM;
  s->aborted = aborted;
  s->aborted_capacity = capacity;
  return 0;
}

int32_t plog__segment_add_aborted(plog_segment *s, const plog_ended_txn *ended) {
  int32_t rc = plog__segment_load_aborted(s);
  if (rc == 0) rc = reserve_aborted(s, s->aborted_count + 1);
  if (rc != 0) return rc;
  s->aborted[s->aborted_count++] =
      (plog_aborted){ended->producer_id, ended->first_offset, ended->last_offset, ended->last_stable_offset};
  return 0;
}

int32_t plog__segment_write_aborted(plog_segment *s) {
  if (s->aborted_written == s->aborted_count) return 0;
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(s->dir, s->base_offset, ".txnindex", path);
  if (rc != 0) return rc;
  if (s->aborted_count == 0) { /* such a file exists only when there is an entry */
    rc = plog__sys_unlink(s->sys, path);
    if (rc == 0 || rc == -ENOENT) s->aborted_written = 0;
    return rc == -ENOENT ? 0 : rc;
  }
  int32_t from = PLOG_MIN(s->aborted_written, s->aborted_count), count = s->aborted_count - from;
  plog_writer w;
  plog_writer_init(&w);
  for (int32_t i = from; i < s->aborted_count; i++) {
    plog_write_i16(&w, ABORTED_VERSION);
    plog_write_i64(&w, s->aborted[i].producer_id);
    plog_write_i64(&w, s->aborted[i].first_offset);
    plog_write_i64(&w, s->aborted[i].last_offset);
    plog_write_i64(&w, s->aborted[i].last_stable_offset);
  }
  rc = w.status;
  int fd = -1;
  if (rc == 0) rc = open_file(s, ".txnindex", O_WRONLY | O_CREAT, &fd);
  if (rc == 0) rc = plog__sys_pwrite_all(s->sys, fd, w.data, w.size_bytes, (int64_t)from * ABORTED_ENTRY_BYTES);
  if (rc == 0 && from + count < s->aborted_written)
    rc = plog__sys_ftruncate(s->sys, fd, (int64_t)s->aborted_count * ABORTED_ENTRY_BYTES);
  if (fd >= 0) (void)plog__sys_close(s->sys, fd);
  plog_writer_deinit(&w);
  if (rc == 0) s->aborted_written = s->aborted_count;
  return rc;
}

int32_t plog__segment_load_aborted(plog_segment *s) {
  if (s->aborted_known) return 0;
  int fd;
  int32_t rc = open_file(s, ".txnindex", O_RDONLY, &fd);
  if (rc == -ENOENT) {
    s->aborted_known = true;
    return 0;
  }
  if (rc != 0) return rc;
  struct stat st;
  uint8_t *data = NULL;
  rc = plog__sys_fstat(s->sys, fd, &st);
  int64_t count = rc == 0 ? st.st_size / ABORTED_ENTRY_BYTES : 0; /* a torn last entry belongs to no published marker */
  if (count > INT32_MAX / 2) rc = PLOG_E_MALFORMED;
  if (rc == 0 && count > 0) {
    data = malloc((size_t)count * ABORTED_ENTRY_BYTES);
    rc = data ? reserve_aborted(s, (int32_t)count) : -ENOMEM;
    if (rc == 0) rc = plog__sys_pread_all(s->sys, fd, data, (size_t)count * ABORTED_ENTRY_BYTES, 0);
  }
  (void)plog__sys_close(s->sys, fd);
  if (rc == 0) {
    plog_reader r;
    plog_reader_init(&r, data, (size_t)count * ABORTED_ENTRY_BYTES);
    for (int32_t i = 0; i < count; i++) {
      (void)plog_read_i16(&r);
      s->aborted[i].producer_id = plog_read_i64(&r);
      s->aborted[i].first_offset = plog_read_i64(&r);
      s->aborted[i].last_offset = plog_read_i64(&r);
      s->aborted[i].last_stable_offset = plog_read_i64(&r);
    }
    s->aborted_count = s->aborted_written = (int32_t)count;
    s->aborted_known = true;
  }
  free(data);
  return rc;
}
