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
  plog__open_item_init(&s->item);
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
  plog_assert(s->fd < 0 && !s->tail.window);
  plog__index_deinit(&s->offsets, s->sys); /* one that was written to has them in memory */
  plog__index_deinit(&s->times, s->sys);
  plog__verified_deinit(&s->verified);
  free(s->aborted);
  (void)pthread_mutex_destroy(&s->open_lock);
  free(s);
}

static void drop_reference(plog_segment *s) {
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
  plog__allocation_init(&s->allocation, &st);
  s->verified.own_from = st.st_size;
  if (next_offset >= 0) s->next_offset = next_offset;
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

/* Is there a batch so far behind that the offset index cannot be empty? Not every batch with the interval before it has an
   entry: a broker begins to count anew when it starts. */
static bool wants_offset_entry(plog_segment *s) {
  enum { STARTS = 16 }; /* that may have come between */
  int64_t unindexed_bytes = s->interval_bytes * STARTS;
  if (s->size_bytes <= unindexed_bytes) return false;
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, 0, s->size_bytes);
  while (plog__scan_next(&scan, &header) == 0)
    if (scan.position - header.size_bytes > unindexed_bytes) return true;
  return false;
}

/* A batch with a time? Then a closed segment has an entry in the time index. */
static bool wants_time_entry(plog_segment *s) {
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, 0, s->size_bytes);
  return plog__scan_next(&scan, &header) == 0 && header.max_timestamp > NO_TIMESTAMP;
}

/* Can a record of the segment have this offset? Where it ends is not known of one that was not looked into yet. */
static bool offset_fits(const plog_segment *s, uint32_t relative_offset) {
  return relative_offset <= INT32_MAX &&
         (s->next_offset == s->base_offset || s->base_offset + relative_offset < s->next_offset);
}

/* The first and the last entry fit the segment. What lies between is believed until it leads astray. */
static bool offsets_fit(plog_segment *s) {
  const plog_index *x = &s->offsets;
  if (x->count == 0) return !wants_offset_entry(s);
  return x->last.position < s->size_bytes && x->last.relative_offset <= INT32_MAX &&
         x->first.position <= x->last.position && (x->count == 1 || x->first.relative_offset < x->last.relative_offset);
}

/* The batch of the last offset entry is later than the last time entry, which was the latest of all: some are missing. */
static bool times_cut(plog_segment *s) {
  const plog_index *x = &s->offsets;
  if (x->count == 0 || x->last.relative_offset <= s->times.last.relative_offset) return false;
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, x->last.position, s->size_bytes);
  return plog__scan_next(&scan, &header) == 0 && header.max_timestamp > s->times.last.timestamp;
}

static bool times_fit(plog_segment *s) {
  const plog_index *x = &s->times;
  if (x->count == 0) return !wants_time_entry(s);
  return offset_fits(s, x->last.relative_offset) && x->first.timestamp >= 0 && x->first.timestamp <= x->last.timestamp &&
         x->first.relative_offset <= x->last.relative_offset && !times_cut(s);
}

/* Enter the batches of a closed segment in both indexes, in memory. */
static int32_t index_batches(plog_segment *s) {
  int64_t last_entry = 0, largest = NO_TIMESTAMP, largest_offset = s->base_offset, indexed = NO_TIMESTAMP;
  plog_scan scan;
  plog__scan_init(&scan, s, 0, s->size_bytes);
  plog_batch_header header;
  int32_t rc;
  while ((rc = plog__scan_next(&scan, &header)) == 0) {
    int64_t position = scan.position - header.size_bytes, last = plog__batch_last_offset(&header) - s->base_offset;
    if (last < 0 || last > INT32_MAX) {
      rc = PLOG_CORRUPT_MESSAGE;
      break;
    }
    if (header.max_timestamp > largest) {
      largest = header.max_timestamp;
      largest_offset = last + s->base_offset;
    }
    if (position - last_entry <= s->interval_bytes) continue;
    rc = plog__index_append_offset(&s->offsets, (uint32_t)last, (uint32_t)position);
    if (rc == 0 && largest > indexed)
      rc = plog__index_append_time(&s->times, largest, (uint32_t)(largest_offset - s->base_offset));
    if (rc != 0) return rc;
    indexed = largest;
    last_entry = position;
  }
  /* damage in a closed segment ends its indexes; whoever reads there will meet it */
  if (rc != PLOG_E_NOT_FOUND && rc != PLOG_E_SHORT && rc != PLOG_CORRUPT_MESSAGE) return rc;
  return largest > indexed ? plog__index_append_time(&s->times, largest, (uint32_t)(largest_offset - s->base_offset)) : 0;
}

/* An index that was made anew goes to its file, durably, and is read from there, if the disk takes it; else it stays in
   memory. */
static void write_anew(plog_segment *s, plog_index *index, const char *suffix) {
  char path[PLOG_PATH_BYTES];
  if (plog__segment_path(s->dir, s->base_offset, suffix, path) == 0 && plog__index_grow(index, s->sys, path, 0) == 0 &&
      plog__index_trim(index, s->sys, path) == 0 && plog__sys_fdatasync(s->sys, index->fd) == 0)
    plog__index_seal(index);
  else
    plog__index_shut_file(index, s->sys);
}

/* Build both indexes of a closed segment from its batches. */
static int32_t rebuild_indexes(plog_segment *s) {
  plog__index_deinit(&s->offsets, s->sys);
  plog__index_deinit(&s->times, s->sys);
  int32_t rc = index_batches(s);
  if (rc != 0) return rc;
  write_anew(s, &s->offsets, ".index");
  write_anew(s, &s->times, ".timeindex");
  return 0;
}

/* An index that cannot be used, as opposed to a machine that cannot open it now. */
static bool is_broken(int32_t rc) {
  return rc == -ENOENT || rc == -EIO || rc == PLOG_E_MALFORMED;
}

static int32_t open_indexes(plog_segment *s) {
  bool distrusted = atomic_load(&s->distrusted);
  int32_t rc = load_index(s, &s->offsets, ".index");
  bool offsets_bad = is_broken(rc) || (rc == 0 && (distrusted || !offsets_fit(s)));
  if (rc != 0 && !offsets_bad) return rc;
  rc = load_index(s, &s->times, ".timeindex");
  bool times_bad = is_broken(rc) || (rc == 0 && (distrusted || !times_fit(s)));
  if (rc != 0 && !times_bad) return rc;
  if (!offsets_bad && !times_bad) return 0;
  rc = rebuild_indexes(s);
  if (rc != 0) return rc;
  atomic_store(&s->distrusted, false);
  atomic_fetch_add(&s->rebuilt_indexes, (int32_t)offsets_bad + (int32_t)times_bad);
  return 0;
}

int32_t plog__segment_check_files(plog_segment *s, int32_t *out) {
  static const struct {
    const char *suffix;
    int32_t entry_bytes;
  } files[] = {{".index", PLOG_OFFSET_ENTRY_BYTES}, {".timeindex", PLOG_TIME_ENTRY_BYTES}};
  int32_t broken = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(files); i++) {
    char path[PLOG_PATH_BYTES];
    struct stat st;
    int32_t rc = plog__segment_path(s->dir, s->base_offset, files[i].suffix, path);
    if (rc == 0) rc = plog__sys_stat(s->sys, path, &st);
    if (rc != 0 && rc != -ENOENT) return rc;
    if (rc != 0 || st.st_size % files[i].entry_bytes != 0) broken++;
  }
  *out = broken;
  return 0;
}

int32_t plog__segment_check_empty(plog_segment *s, bool *out) {
  static const char *const suffixes[] = {".index", ".timeindex"};
  bool empty = s->size_bytes == 0;
  for (size_t i = 0; empty && i < PLOG_COUNT_OF(suffixes); i++) {
    char path[PLOG_PATH_BYTES];
    struct stat st;
    int32_t rc = plog__segment_path(s->dir, s->base_offset, suffixes[i], path);
    if (rc == 0) rc = plog__sys_stat(s->sys, path, &st);
    if (rc != 0 && rc != -ENOENT) return rc;
    empty = rc == 0 && st.st_size == 0;
  }
  if (empty) s->max_known = true;
  *out = empty;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- using files */

/* The files are open, in fd and perhaps the indexes, and the caller uses them. Holds the lock, or is alone. */
static void begin_use(plog_segment *s, int fd) {
  plog_assert(atomic_load(&s->users) == 0);
  s->fd = fd;
  atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
  atomic_store_explicit(&s->users, 1, memory_order_release);
}

/* Holds the lock. */
static void shut_files(plog_segment *s) {
  if (!s->writable) {
    plog__index_deinit(&s->offsets, s->sys);
    plog__index_deinit(&s->times, s->sys);
  }
  if (s->fd >= 0) (void)plog__sys_close(s->sys, s->fd);
  s->fd = -1;
}

/* One more user, if there is one. */
static bool join_users(plog_segment *s) {
  int32_t users = atomic_load_explicit(&s->users, memory_order_relaxed);
  while (users > 0)
    if (atomic_compare_exchange_weak_explicit(&s->users, &users, users + 1, memory_order_acquire, memory_order_relaxed))
      return true;
  return false;
}

void plog__segment_retain(plog_segment *s) {
  int32_t before = atomic_fetch_add_explicit(&s->users, 1, memory_order_relaxed);
  plog_assert(before > 0);
}

void plog__segment_release(plog_segment *s) {
  int32_t users = atomic_load_explicit(&s->users, memory_order_relaxed);
  plog_assert(users > 0);
  while (users > 1)
    if (atomic_compare_exchange_weak_explicit(&s->users, &users, users - 1, memory_order_release, memory_order_relaxed))
      return;
  /* the last one, as it seems: as long as we hold the lock nobody becomes the first */
  atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
  (void)pthread_mutex_lock(&s->open_lock);
  bool last = atomic_fetch_sub_explicit(&s->users, 1, memory_order_acq_rel) == 1;
  if (last) shut_files(s);
  (void)pthread_mutex_unlock(&s->open_lock);
  if (last) drop_reference(s); /* of the open files */
  drop_reference(s);
}

/* Leave the files open for the next user: the caller's use becomes that of the open files, where others may have to go. */
static void leave_open(plog_segment *s) {
  plog_open_files *files = &s->sys->open_files;
  plog_files_kind kind = s->writable ? PLOG_FILES_ACTIVE : PLOG_FILES_CLOSED;
  if (!plog__open_files_add(files, kind, &s->item)) plog__segment_release(s); /* they are kept already */
  for (plog_open_item *item; (item = plog__open_files_excess(files, kind));)
    plog__segment_release(PLOG_CONTAINER_OF(item, plog_segment, item));
}

/* Keep them open no longer than somebody uses them. */
static void leave_to_users(plog_segment *s) {
  if (plog__open_files_remove(&s->sys->open_files, &s->item)) plog__segment_release(s);
}

void plog__segment_drop(plog_segment *s) {
  plog__mapped_tail_unmap(&s->tail, s->sys);
  (void)pthread_mutex_lock(&s->open_lock);
  s->writable = false;
  (void)pthread_mutex_unlock(&s->open_lock);
  leave_to_users(s);
  drop_reference(s);
}

static int32_t open_and_use(plog_segment *s, bool bare) {
  int fd;
  int32_t rc = open_file(s, ".log", O_RDWR, &fd); /* a cut may make it the active one again */
  if (rc != 0) return rc;
  s->fd = fd;
  if (!bare && !s->writable) rc = open_indexes(s);
  if (rc == 0)
    begin_use(s, fd);
  else
    shut_files(s);
  return rc;
}

/* How the files are opened, when they are shut. */
typedef enum {
  TO_STAY,    /* they stay open for the next user, as long as there is room */
  IN_PASSING, /* nobody is expected to come back soon */
  BARE,       /* the same, and without the indexes */
} opening;

static int32_t acquire(plog_segment *s, opening how) {
  if (join_users(s)) {
    plog__open_item_used(&s->item);
    return 0;
  }
  (void)pthread_mutex_lock(&s->open_lock);
  bool joined = join_users(s);
  int32_t rc = joined ? 0 : open_and_use(s, how == BARE);
  (void)pthread_mutex_unlock(&s->open_lock);
  if (rc == 0 && !joined && how == TO_STAY) {
    plog__segment_retain(s);
    leave_open(s);
  }
  return rc;
}

int32_t plog__segment_acquire(plog_segment *s) {
  return acquire(s, TO_STAY);
}

int32_t plog__segment_acquire_bare(plog_segment *s) {
  return acquire(s, BARE);
}

void plog__segment_distrust(plog_segment *s) {
  atomic_store(&s->distrusted, true);
  leave_to_users(s);
}

int32_t plog__segment_create(plog_sys *sys, const char *dir, int64_t base_offset, const plog_log_config *config,
                             int64_t now_ms, plog_segment **out) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(dir, base_offset, ".log", path);
  if (rc != 0) return rc;
  plog_segment *s = new_segment(sys, dir, base_offset, config->index_interval_bytes, now_ms);
  if (!s) return -ENOMEM;
  /* no record has this offset yet: what an earlier attempt may have left under the name is nobody's */
  int fd = plog__sys_open(sys, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    drop_reference(s);
    return fd;
  }
  begin_use(s, fd);
  if (plog__segment_path(dir, base_offset, ".txnindex", path) == 0) {
    rc = plog__sys_unlink(sys, path);
    if (rc == -ENOENT) rc = 0;
  }
  if (rc == 0 && config->preallocate) {
    rc = plog__sys_fallocate(sys, fd, FALLOC_FL_KEEP_SIZE, 0, config->segment_bytes);
    s->allocation.end_bytes = config->segment_bytes;
  }
  s->max_known = true;
  s->aborted_known = true;
  if (rc == 0) rc = plog__segment_make_writable(s, config);
  plog__segment_release(s);
  if (rc != 0) {
    plog__segment_drop(s);
    return rc;
  }
  *out = s;
  return 0;
}

/* Make one file of a new segment, empty. */
static int32_t make_file(plog_segment *s, const char *suffix, int64_t reserved_bytes) {
  int fd;
  int32_t rc = open_file(s, suffix, O_WRONLY | O_CREAT | O_TRUNC, &fd);
  if (rc != 0) return rc;
  if (reserved_bytes > 0) rc = plog__sys_fallocate(s->sys, fd, FALLOC_FL_KEEP_SIZE, 0, reserved_bytes);
  (void)plog__sys_close(s->sys, fd);
  return rc;
}

int32_t plog__segment_make(plog_sys *sys, const char *dir, int64_t base_offset, const plog_log_config *config,
                           int64_t now_ms, plog_segment **out) {
  plog_segment *s = new_segment(sys, dir, base_offset, config->index_interval_bytes, now_ms);
  if (!s) return -ENOMEM;
  s->max_known = true;
  s->aborted_known = true;
  if (config->preallocate) s->allocation.end_bytes = config->segment_bytes;
  int32_t rc = make_file(s, ".log", s->allocation.end_bytes);
  if (rc == 0) rc = make_file(s, ".index", 0);
  if (rc == 0) rc = make_file(s, ".timeindex", 0);
  if (rc != 0) {
    plog__segment_drop(s);
    return rc;
  }
  *out = s;
  return 0;
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

int64_t plog__segment_hint(plog_segment *s, int64_t offset) {
  if (atomic_load_explicit(&s->distrusted, memory_order_relaxed)) return 0;
  /* the entry of the batch that holds offset may have a larger offset: its last. The one before it starts below. */
  plog_index_entry entry;
  uint32_t count;
  if (plog__index_floor_offset(&s->offsets, s->sys, offset - s->base_offset, &count, &entry) != 0) {
    plog__segment_distrust(s);
    return 0;
  }
  return count == 0 ? 0 : entry.position;
}

void plog__segment_time_hint(plog_segment *s, int64_t timestamp, int64_t *out_timestamp, int64_t *offset) {
  *out_timestamp = NO_TIMESTAMP;
  *offset = s->base_offset;
  if (atomic_load_explicit(&s->distrusted, memory_order_relaxed)) return;
  plog_index_entry entry;
  uint32_t count;
  if (plog__index_floor_timestamp(&s->times, s->sys, timestamp, &count, &entry) != 0) {
    plog__segment_distrust(s);
  } else if (count > 0) {
    *out_timestamp = entry.timestamp;
    *offset = s->base_offset + entry.relative_offset;
  }
}

int32_t plog__segment_locate(plog_segment *s, int64_t offset, int64_t start, int64_t limit_bytes, plog_place *out) {
  plog_scan scan;
  plog__scan_init(&scan, s, start, limit_bytes);
  plog_batch_header header;
  for (bool guessed = start > 0;; guessed = false) {
    int32_t rc = plog__scan_next(&scan, &header);
    if (guessed && rc >= 0 && (rc != 0 || header.base_offset > offset || header.base_offset < s->base_offset)) {
      /* the index led to where no batch begins, or past the one that is looked for */
      plog__segment_distrust(s);
      plog__scan_init(&scan, s, 0, limit_bytes);
      continue;
    }
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

/* Let both indexes grow. */
static int32_t grow_indexes(plog_segment *s, int64_t file_bytes) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(s->dir, s->base_offset, ".index", path);
  if (rc == 0)
    rc = plog__index_grow(&s->offsets, s->sys, path, file_bytes / PLOG_OFFSET_ENTRY_BYTES * PLOG_OFFSET_ENTRY_BYTES);
  if (rc == 0) rc = plog__segment_path(s->dir, s->base_offset, ".timeindex", path);
  if (rc == 0) rc = plog__index_grow(&s->times, s->sys, path, file_bytes / PLOG_TIME_ENTRY_BYTES * PLOG_TIME_ENTRY_BYTES);
  return rc;
}

int32_t plog__segment_make_writable(plog_segment *s, const plog_log_config *config) {
  if (s->writable) return 0;
  int32_t rc = acquire(s, IN_PASSING);
  if (rc != 0) return rc;
  rc = plog__segment_load_max(s);
  if (rc == 0) rc = plog__segment_load_aborted(s);
  if (rc == 0) rc = grow_indexes(s, config->segment_index_bytes);
  if (rc != 0) {
    plog__segment_release(s);
    return rc;
  }
  leave_to_users(s); /* from now on they are files of the other kind */
  s->writable = true;
  leave_open(s);
  return 0;
}

static bool time_entry_due(const plog_segment *s) {
  if (s->max_timestamp <= NO_TIMESTAMP) return false;
  return s->times.count == 0 || s->max_timestamp > plog__index_last(&s->times).timestamp;
}

static int32_t add_time_entry(plog_segment *s) {
  if (!time_entry_due(s)) return 0;
  return plog__index_append_time(&s->times, s->max_timestamp, (uint32_t)(s->max_timestamp_offset - s->base_offset));
}

/* Complete the files of both indexes, and read them there from now on; or neither. */
static int32_t seal_indexes(plog_segment *s) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(s->dir, s->base_offset, ".index", path);
  if (rc == 0) rc = plog__index_trim(&s->offsets, s->sys, path);
  if (rc == 0) rc = plog__segment_path(s->dir, s->base_offset, ".timeindex", path);
  if (rc == 0) rc = plog__index_trim(&s->times, s->sys, path);
  if (rc != 0) {
    plog__index_shut_file(&s->offsets, s->sys);
    return rc;
  }
  plog__index_seal(&s->offsets);
  plog__index_seal(&s->times);
  return 0;
}

int32_t plog__segment_seal(plog_segment *s) {
  if (!s->writable) return 0;
  int32_t rc = add_time_entry(s);
  if (rc == 0) rc = acquire(s, IN_PASSING);
  if (rc != 0) return rc;
  rc = plog__mapped_tail_end(&s->tail, s->sys, s->fd, s->size_bytes);
  if (rc == 0) rc = seal_indexes(s);
  if (rc != 0) {
    plog__segment_release(s);
    return rc; /* still writable */
  }
  (void)plog__allocation_trim(&s->allocation, s->sys, s->fd, s->size_bytes); /* else they go when the file goes */
  leave_to_users(s); /* from now on they are files of the other kind */
  s->writable = false;
  if (atomic_load(&s->distrusted))
    plog__segment_release(s); /* to be built anew when it is opened again */
  else
    leave_open(s); /* who reads the tail reads here */
  return 0;
}

void plog__segment_write_lumps(plog_segment *s) {
  char path[PLOG_PATH_BYTES];
  if (plog__index_write_due(&s->offsets) && plog__segment_path(s->dir, s->base_offset, ".index", path) == 0)
    (void)plog__index_write(&s->offsets, s->sys, path);
  if (plog__index_write_due(&s->times) && plog__segment_path(s->dir, s->base_offset, ".timeindex", path) == 0)
    (void)plog__index_write(&s->times, s->sys, path);
}

/* Cut the .log file, which is used. */
static int32_t cut_file(plog_segment *s, int64_t size_bytes) {
  plog__mapped_tail_unmap(&s->tail, s->sys);
  int32_t rc = plog__sys_ftruncate(s->sys, s->fd, size_bytes);
  if (rc != 0) return rc;
  s->allocation.end_bytes = 0;
  s->tail.end_bytes = 0;
  return 0;
}

int32_t plog__segment_cut_tail(plog_segment *s) {
  int32_t rc = acquire(s, IN_PASSING);
  if (rc != 0) return rc;
  rc = cut_file(s, s->size_bytes);
  plog__segment_release(s);
  return rc;
}

void plog__segment_allocate(plog_segment *s, const plog_log_config *config, uint64_t more_bytes) {
  plog__allocation_grow(&s->allocation, s->sys, s->fd, s->size_bytes, (int64_t)more_bytes, config->segment_bytes);
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
  plog__index_deinit(&s->offsets, s->sys);
  plog__index_deinit(&s->times, s->sys);
  atomic_store(&s->distrusted, false);
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
  int32_t rc = plog__segment_path(s->dir, s->base_offset, ".txnindex", path);
  if (rc == 0) rc = plog__sys_unlink(s->sys, path);
  return rc == -ENOENT ? 0 : rc;
}

int32_t plog__segment_load_max(plog_segment *s) {
  if (s->max_known) return 0;
  int32_t rc = acquire(s, IN_PASSING); /* who asks all segments is not to push out those that are read */
  if (rc != 0) return rc;
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  if (s->times.count > 0) {
    s->max_timestamp = plog__index_last(&s->times).timestamp;
    s->max_timestamp_offset = s->base_offset + plog__index_last(&s->times).relative_offset;
  }
  s->max_known = true;
  plog__segment_release(s);
  return 0;
}

/* ---------------------------------------------------------------------------------------------- truncating */

/* Largest timestamp of what is left: from the time index, and from the batches behind its last entry. */
static int32_t find_max(plog_segment *s) {
  s->max_timestamp = NO_TIMESTAMP;
  s->max_timestamp_offset = s->base_offset;
  if (s->times.count > 0) {
    s->max_timestamp = plog__index_last(&s->times).timestamp;
    s->max_timestamp_offset = s->base_offset + plog__index_last(&s->times).relative_offset;
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

/* Keep the entries up to a relative offset, of an index that grows. */
static void cut_index(plog_index *index, plog_sys *sys, int64_t relative_offset) {
  uint32_t count;
  plog_index_entry entry;
  int32_t rc = plog__index_floor_offset(index, sys, relative_offset, &count, &entry);
  plog_assert(rc == 0); /* it is in memory */
  plog__index_truncate(index, count);
}

int32_t plog__segment_truncate(plog_segment *s, int64_t offset, int64_t *out_end) {
  plog_assert(s->writable);
  plog_place place;
  int32_t rc = plog__segment_locate(s, offset, plog__segment_hint(s, offset), s->size_bytes, &place);
  int64_t size_bytes = s->size_bytes, end = offset;
  if (rc == 0) {
    size_bytes = place.position;
    end = PLOG_MIN(offset, place.base_offset);
    rc = cut_file(s, size_bytes);
  } else if (rc == PLOG_E_NOT_FOUND) {
    rc = 0;
  }
  if (rc != 0) return rc;
  s->size_bytes = size_bytes;
  plog__verified_cut(&s->verified, size_bytes);
  s->next_offset = *out_end = PLOG_MIN(s->next_offset, end);
  cut_index(&s->offsets, s->sys, offset - s->base_offset - 1);
  cut_index(&s->times, s->sys, offset - s->base_offset - 1);
  s->since_entry_bytes = 0;
  if (size_bytes == 0) s->rolling_known = false;
  while (s->aborted_count > 0 && s->aborted[s->aborted_count - 1].last_offset >= offset) s->aborted_count--;
  rc = find_max(s);
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

/* Entries as a log writes them: of this segment's markers, in their order. */
static int32_t decode_aborted(const plog_segment *s, const uint8_t *data, int32_t count, plog_aborted *out) {
  plog_reader r;
  plog_reader_init(&r, data, (size_t)count * ABORTED_ENTRY_BYTES);
  int64_t before = s->base_offset - 1;
  for (int32_t i = 0; i < count; i++) {
    int16_t version = plog_read_i16(&r);
    plog_aborted *a = &out[i];
    a->producer_id = plog_read_i64(&r);
    a->first_offset = plog_read_i64(&r);
    a->last_offset = plog_read_i64(&r);
    a->last_stable_offset = plog_read_i64(&r);
    if (version != ABORTED_VERSION || a->producer_id < 0 || a->first_offset < 0 || a->first_offset >= a->last_offset ||
        a->last_offset <= before || a->last_offset - s->base_offset > INT32_MAX)
      return PLOG_E_MALFORMED;
    before = a->last_offset;
  }
  return 0;
}

/* The bytes of the transaction index; free *data. No file: none. */
static int32_t read_aborted(plog_segment *s, uint8_t **data, int32_t *count) {
  int fd;
  *data = NULL;
  *count = 0;
  int32_t rc = open_file(s, ".txnindex", O_RDONLY, &fd);
  if (rc != 0) return rc == -ENOENT ? 0 : rc;
  struct stat st;
  rc = plog__sys_fstat(s->sys, fd, &st);
  if (rc == 0 && (st.st_size % ABORTED_ENTRY_BYTES != 0 || st.st_size / ABORTED_ENTRY_BYTES > INT32_MAX / 2))
    rc = PLOG_E_MALFORMED;
  if (rc == 0 && st.st_size > 0) {
    *data = malloc((size_t)st.st_size);
    rc = *data ? plog__sys_pread_all(s->sys, fd, *data, (size_t)st.st_size, 0) : -ENOMEM;
    *count = (int32_t)(st.st_size / ABORTED_ENTRY_BYTES);
  }
  (void)plog__sys_close(s->sys, fd);
  return rc == PLOG_E_SHORT ? PLOG_E_MALFORMED : rc;
}

int32_t plog__segment_load_aborted(plog_segment *s) {
  if (s->aborted_known) return 0;
  uint8_t *data;
  int32_t count;
  int32_t rc = read_aborted(s, &data, &count);
  if (rc == 0) rc = reserve_aborted(s, count);
  if (rc == 0) rc = decode_aborted(s, data, count, s->aborted);
  free(data);
  if (rc != 0) return rc;
  s->aborted_count = s->aborted_written = count;
  s->aborted_known = true;
  return 0;
}

int32_t plog__segment_check_aborted(plog_segment *s) {
  char path[PLOG_PATH_BYTES];
  struct stat st;
  int32_t rc = plog__segment_path(s->dir, s->base_offset, ".txnindex", path);
  if (rc == 0) rc = plog__sys_stat(s->sys, path, &st);
  if (rc != 0) return rc == -ENOENT ? 0 : rc;
  rc = plog__segment_load_aborted(s);
  free(s->aborted); /* until somebody wants them */
  s->aborted = NULL;
  s->aborted_count = s->aborted_capacity = s->aborted_written = 0;
  s->aborted_known = false;
  return rc;
}
