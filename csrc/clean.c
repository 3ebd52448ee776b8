#include "clean.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "clean_batch.h"
#include "clean_txns.h"
#include "key_map.h"
#include "log_state.h"
#include "wire.h"

#define NO_TIMESTAMP (-1)

/* Output is written in lumps of this size. */
enum { LUMP_BYTES = 1 << 20, ABORTED_VERSION = 0 };

enum { FILE_LOG, FILE_INDEX, FILE_TIME_INDEX, FILE_ABORTED, FILE_COUNT };
static const char *const cleaned_suffixes[FILE_COUNT] = {".log.cleaned", ".index.cleaned", ".timeindex.cleaned",
                                                         ".txnindex.cleaned"};

/* The segment being read. */
typedef struct {
  plog_segment *segment; /* a reference, NULL: none */
  int64_t size_bytes;
  int64_t next_base; /* of the segment behind it */
  int64_t position;
} source;

/* The segment being written: its .log file is open, the rest is in memory until it is finished. */
typedef struct {
  int64_t base_offset;
  int fd; /* -1: none */
  int64_t size_bytes;
  plog_writer pending; /* the end of it, not written yet */
  plog_writer offsets, times, aborted;
  int64_t since_entry_bytes;
  int64_t max_timestamp, max_timestamp_offset;
  int64_t last_time_entry; /* NO_TIMESTAMP: none */
  int64_t last_modified_ms;
} target;

struct plog_cleaning {
  plog_log *log;
  plog_key_map *map;
  plog_cleaning_settings settings;
  int64_t cuts_count;
  int64_t interval_bytes;
  plog_batch_cleaner batches;
  plog_clean_txns txns; /* of the walk under way: first over the dirty section, then over all groups */
  plog_clean_rules rules;
  plog_cleaning_stats stats;

  plog_producer_info *producers; /* by id; the producers that are known when a group begins */
  int32_t producers_count;

  source in;
  uint8_t *buffer;
  size_t buffer_bytes;
  target out;

  int64_t *group_bases; /* of the segments of the group, and their sizes when they were copied */
  int64_t *group_sizes;
  int32_t group_count;
  int32_t group_done;
  bool group_finished;
  int32_t replaced_count; /* of the group's segments, when it is in place and some files of theirs are still there */
};

/* ---------------------------------------------------------------------------------------------- reading segments */

static void leave_source(plog_cleaning *c) {
  if (c->in.segment) plog__segment_release(c->in.segment);
  c->in.segment = NULL;
}

/* The aborted transactions that have something in [from, to). The lock is held. */
static int32_t add_aborted(plog_cleaning *c, int32_t i, int64_t from, int64_t to) {
  const plog_log *log = c->log;
  for (; i < log->segments_count; i++) {
    plog_segment *s = log->segments[i];
    int32_t rc = plog__segment_load_aborted(s);
    if (rc != 0) return rc;
    for (int32_t k = 0; k < s->aborted_count; k++) {
      const plog_aborted *a = &s->aborted[k];
      if (a->last_offset >= from && a->first_offset < to) {
        rc = plog__clean_txns_add(&c->txns, a, 1);
        if (rc != 0) return rc;
      }
      if (a->last_stable_offset >= to) return 0; /* all that come later begin at or above it */
    }
  }
  return 0;
}

/*
 * Read on in the closed segment that holds `offset`. PLOG_E_STOPPED: it is the active one, or gone, or the log was cut since
 * the pass began.
 */
static int32_t enter_source(plog_cleaning *c, int64_t offset, bool exactly) {
  plog_log *log = c->log;
  plog__log_lock(log);
  int32_t i = plog__log_find_segment(log, offset), rc = 0;
  plog_segment *s = log->segments[i];
  if (log->cuts_count != c->cuts_count || i + 1 >= log->segments_count || s->base_offset > offset ||
      (exactly && s->base_offset != offset))
    rc = PLOG_E_STOPPED;
  if (rc == 0) rc = plog__segment_acquire(s);
  if (rc == 0) {
    c->in = (source){s, s->size_bytes, log->segments[i + 1]->base_offset, 0};
    if (offset > s->base_offset) c->in.position = plog__segment_hint(s, offset);
    rc = add_aborted(c, i, PLOG_MAX(offset, s->base_offset), c->in.next_base);
  }
  plog__log_unlock(log);
  if (rc == 0 && offset > s->base_offset) {
    plog_place place = {.position = c->in.size_bytes};
    rc = plog__segment_locate(s, offset, c->in.position, c->in.size_bytes, &place);
    c->in.position = place.position;
    if (rc == PLOG_E_NOT_FOUND) rc = 0;
  }
  if (rc != 0) leave_source(c);
  return rc;
}

/* The next whole batches of the segment, at least one, with *out_bytes of the file in the buffer. */
static int32_t read_source(plog_cleaning *c, size_t *out_bytes) {
  int64_t left = c->in.size_bytes - c->in.position;
  size_t wanted = (size_t)PLOG_MIN(left, (int64_t)c->buffer_bytes);
  for (;;) {
    int32_t rc = plog__sys_pread_all(c->log->sys, c->in.segment->fd, c->buffer, wanted, c->in.position);
    if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
    plog_batch_header header;
    rc = plog_batch_header_read(c->buffer, wanted, &header);
    *out_bytes = wanted;
    if (rc != PLOG_E_SHORT) return rc;
    if (header.size_bytes <= wanted || header.size_bytes > left) return PLOG_CORRUPT_MESSAGE;
    uint8_t *larger = realloc(c->buffer, header.size_bytes); /* the file is at least as long */
    if (!larger) return -ENOMEM;
    c->buffer = larger;
    wanted = c->buffer_bytes = header.size_bytes;
  }
}

typedef int32_t batch_fn(plog_cleaning *c, const uint8_t *data, const plog_batch_header *header);

/* Call fn for the batches of one read. PLOG_E_STOPPED from fn ends the walk where it is, and is returned. */
static int32_t walk_source(plog_cleaning *c, batch_fn *fn) {
  size_t size_bytes, at = 0;
  int32_t rc = read_source(c, &size_bytes);
  while (rc == 0 && at < size_bytes) {
    plog_batch_header header;
    rc = plog_batch_header_read(c->buffer + at, size_bytes - at, &header);
    if (rc == PLOG_E_SHORT) return at > 0 ? 0 : PLOG_CORRUPT_MESSAGE;
    if (rc == 0 && !plog__batch_crc_ok(c->buffer + at, &header)) rc = PLOG_CORRUPT_MESSAGE;
    if (rc == 0) rc = fn(c, c->buffer + at, &header);
    if (rc != 0) break;
    at += header.size_bytes;
    c->in.position += header.size_bytes;
    c->stats.bytes_read += header.size_bytes;
  }
  return rc;
}

/* ---------------------------------------------------------------------------------------------- opening, closing */

int32_t plog_cleaning_open(plog_log *log, plog_key_map *map, const plog_cleaning_settings *settings, plog_cleaning **out) {
  if (settings->io_bytes < PLOG_BATCH_OVERHEAD || settings->first_dirty < 0 || settings->upto < settings->first_dirty)
    return -EINVAL;
  plog_cleaning *c = calloc(1, sizeof *c);
  uint8_t *buffer = malloc((size_t)settings->io_bytes);
  if (!c || !buffer) {
    free(c);
    free(buffer);
    return -ENOMEM;
  }
  c->log = log;
  c->map = map;
  c->settings = *settings;
  c->buffer = buffer;
  c->buffer_bytes = (size_t)settings->io_bytes;
  c->out.fd = -1;
  plog__batch_cleaner_init(&c->batches);
  plog__clean_txns_init(&c->txns);
  c->rules = (plog_clean_rules){map, settings->first_dirty, settings->now_ms, settings->delete_retention_ms};
  c->stats.next_dirty_offset = settings->first_dirty;
  plog__log_lock(log);
  c->cuts_count = log->cuts_count;
  c->interval_bytes = log->config.index_interval_bytes;
  plog__log_unlock(log);
  *out = c;
  return 0;
}

/* Remove the files of the group that is being written. */
static void drop_target(plog_cleaning *c) {
  if (c->group_count == 0) return;
  if (c->out.fd >= 0) (void)plog__sys_close(c->log->sys, c->out.fd);
  c->out.fd = -1;
  for (int32_t i = 0; i < FILE_COUNT; i++) {
    char path[PLOG_PATH_BYTES];
    if (plog__segment_path(c->log->dir, c->out.base_offset, cleaned_suffixes[i], path) == 0)
      (void)plog__sys_unlink(c->log->sys, path); /* what stays is removed at the next opening */
  }
  c->group_count = 0;
}

void plog_cleaning_close(plog_cleaning *c) {
  leave_source(c);
  drop_target(c);
  plog_writer_deinit(&c->out.pending);
  plog_writer_deinit(&c->out.offsets);
  plog_writer_deinit(&c->out.times);
  plog_writer_deinit(&c->out.aborted);
  plog__batch_cleaner_deinit(&c->batches);
  plog__clean_txns_deinit(&c->txns);
  free(c->producers);
  free(c->group_bases);
  free(c->group_sizes);
  free(c->buffer);
  free(c);
}

void plog_cleaning_stats_read(const plog_cleaning *c, plog_cleaning_stats *out) {
  *out = c->stats;
}

/* ---------------------------------------------------------------------------------------------- the map */

/* The map knows everything below offset. */
static void map_reaches(plog_cleaning *c, int64_t offset) {
  c->rules.map_end = c->stats.next_dirty_offset = PLOG_MAX(offset, c->rules.map_end);
}

static int32_t index_batch(plog_cleaning *c, const uint8_t *data, const plog_batch_header *header) {
  bool aborted = false;
  int32_t rc = 0;
  if (header->attributes & PLOG_ATTR_CONTROL) {
    plog_aborted left;
    rc = plog__clean_txns_marker(&c->txns, data, header, &aborted, &left);
  } else {
    rc = plog__clean_txns_batch(&c->txns, header, &aborted);
    if (rc == 0 && !aborted) {
      rc = plog__batch_cleaner_take(&c->batches, c->map, data, header);
      for (int32_t i = 0; rc == 0 && i < c->batches.records_count; i++) {
        const plog_clean_record *record = &c->batches.records[i];
        int64_t offset = header->base_offset + record->offset_delta;
        if (!record->has_key || offset < c->settings.first_dirty) continue;
        if (plog__key_map_full(c->map)) return PLOG_E_STOPPED;
        plog__key_map_put(c->map, record->hash, offset);
        map_reaches(c, offset + 1);
      }
    }
  }
  if (rc == 0 && plog__batch_last_offset(header) >= c->settings.first_dirty)
    map_reaches(c, plog__batch_last_offset(header) + 1);
  c->stats.records_indexed += header->records_count;
  return rc;
}

/* The walk over the dirty section is over; the one over the groups begins with nothing known of transactions. */
static void end_indexing(plog_cleaning *c) {
  leave_source(c);
  plog__clean_txns_deinit(&c->txns);
  plog__clean_txns_init(&c->txns);
}

int32_t plog_cleaning_index(plog_cleaning *c, int32_t *done) {
  *done = 0;
  int64_t read_before = c->stats.bytes_read;
  if (!c->in.segment) {
    if (c->rules.map_end >= c->settings.upto) {
      *done = 1;
      end_indexing(c);
      return 0;
    }
    int32_t rc = enter_source(c, c->rules.map_end, false);
    if (rc != 0) return rc;
  }
  int32_t rc = c->in.position < c->in.size_bytes ? walk_source(c, index_batch) : 0;
  c->stats.bytes_indexed += c->stats.bytes_read - read_before;
  if (rc == PLOG_E_STOPPED) { /* full */
    *done = 1;
    end_indexing(c);
    return 0;
  }
  if (rc != 0) return rc;
  if (c->in.position >= c->in.size_bytes) {
    map_reaches(c, PLOG_MIN(c->in.next_base, c->settings.upto)); /* what is missing behind its last batch is gone */
    leave_source(c);
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- a group */

static int by_producer_id(const void *a, const void *b) {
  int64_t x = ((const plog_producer_info *)a)->producer_id, y = ((const plog_producer_info *)b)->producer_id;
  return x < y ? -1 : x > y;
}

static int32_t load_producers(plog_cleaning *c) {
  free(c->producers);
  c->producers = NULL;
  plog__log_lock(c->log);
  c->producers_count = plog__producers_count(c->log->producers);
  if (c->producers_count > 0) {
    c->producers = calloc((size_t)c->producers_count, sizeof *c->producers);
    if (c->producers) (void)plog__producers_list(c->log->producers, c->producers, c->producers_count);
  }
  plog__log_unlock(c->log);
  if (c->producers_count == 0) return 0;
  if (!c->producers) return -ENOMEM;
  qsort(c->producers, (size_t)c->producers_count, sizeof *c->producers, by_producer_id);
  return 0;
}

/* Its producer goes on from this batch: its last sequence, or epoch, is found here after a crash. */
static bool is_last_of_producer(const plog_cleaning *c, const plog_batch_header *header) {
  if (header->producer_id < 0 || c->producers_count == 0) return false;
  const plog_producer_info wanted = {.producer_id = header->producer_id};
  const plog_producer_info *p =
      bsearch(&wanted, c->producers, (size_t)c->producers_count, sizeof *c->producers, by_producer_id);
  if (!p) return false;
  if (p->last_offset >= 0) return plog__batch_last_offset(header) == p->last_offset;
  return (header->attributes & PLOG_ATTR_CONTROL) && header->producer_epoch == p->producer_epoch;
}

static void begin_target(target *t, int64_t base_offset, int fd) {
  t->base_offset = base_offset;
  t->fd = fd;
  t->size_bytes = 0;
  plog_writer_reset(&t->pending);
  plog_writer_reset(&t->offsets);
  plog_writer_reset(&t->times);
  plog_writer_reset(&t->aborted);
  t->since_entry_bytes = 0;
  t->max_timestamp = NO_TIMESTAMP;
  t->max_timestamp_offset = base_offset;
  t->last_time_entry = NO_TIMESTAMP;
}

int32_t plog_cleaning_begin(plog_cleaning *c, const int64_t *base_offsets, int32_t count) {
  if (count < 1 || c->in.segment) return -EINVAL;
  drop_target(c);
  free(c->group_bases);
  free(c->group_sizes);
  c->group_bases = malloc((size_t)count * sizeof *c->group_bases);
  c->group_sizes = calloc((size_t)count, sizeof *c->group_sizes);
  if (!c->group_bases || !c->group_sizes) return -ENOMEM;
  memcpy(c->group_bases, base_offsets, (size_t)count * sizeof *c->group_bases);
  c->group_done = 0;
  c->group_finished = false;
  c->replaced_count = 0;
  char path[PLOG_PATH_BYTES];
  int32_t rc = load_producers(c);
  if (rc == 0) rc = plog__segment_path(c->log->dir, base_offsets[0], cleaned_suffixes[FILE_LOG], path);
  if (rc != 0) return rc;
  int fd = plog__sys_open(c->log->sys, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return fd;
  begin_target(&c->out, base_offsets[0], fd);
  c->group_count = count; /* from now on there are files to remove */
  return 0;
}

/* ---------------------------------------------------------------------------------------------- copying */

static int32_t write_pending(plog_cleaning *c) {
  target *t = &c->out;
  int32_t rc = t->pending.status;
  if (rc == 0 && t->pending.size_bytes > 0)
    rc = plog__sys_pwrite_all(c->log->sys, t->fd, t->pending.data, t->pending.size_bytes,
                              t->size_bytes - (int64_t)t->pending.size_bytes);
  plog_writer_reset(&t->pending);
  return rc;
}

static void add_time_entry(target *t) {
  if (t->max_timestamp <= t->last_time_entry) return;
  plog_write_i64(&t->times, t->max_timestamp);
  plog_write_i32(&t->times, (int32_t)(t->max_timestamp_offset - t->base_offset));
  t->last_time_entry = t->max_timestamp;
}

/* Enter a batch that was appended to pending in the indexes, by the rule of segment.h. */
static int32_t enter_target(plog_cleaning *c, const plog_batch_header *header) {
  target *t = &c->out;
  int64_t last_offset = plog__batch_last_offset(header), position = t->size_bytes;
  if (last_offset - t->base_offset > INT32_MAX || position + header->size_bytes > INT32_MAX)
    return PLOG_RECORD_LIST_TOO_LARGE;
  if (header->max_timestamp > t->max_timestamp) {
    t->max_timestamp = header->max_timestamp;
    t->max_timestamp_offset = last_offset;
  }
  if (t->since_entry_bytes > c->interval_bytes) {
    plog_write_i32(&t->offsets, (int32_t)(last_offset - t->base_offset));
    plog_write_i32(&t->offsets, (int32_t)position);
    add_time_entry(t);
    t->since_entry_bytes = 0;
  }
  t->since_entry_bytes += header->size_bytes;
  t->size_bytes += header->size_bytes;
  c->stats.bytes_written += header->size_bytes;
  return t->offsets.status ? t->offsets.status : t->times.status;
}

static void keep_aborted(target *t, const plog_aborted *aborted) {
  plog_write_i16(&t->aborted, ABORTED_VERSION);
  plog_write_i64(&t->aborted, aborted->producer_id);
  plog_write_i64(&t->aborted, aborted->first_offset);
  plog_write_i64(&t->aborted, aborted->last_offset);
  plog_write_i64(&t->aborted, aborted->last_stable_offset);
}

static int32_t decide_fate(plog_cleaning *c, const uint8_t *data, const plog_batch_header *header, plog_batch_fate *fate) {
  bool discard;
  int32_t rc;
  if (header->attributes & PLOG_ATTR_CONTROL) {
    plog_aborted kept;
    rc = plog__clean_txns_marker(&c->txns, data, header, &discard, &kept);
    if (rc == 0 && kept.producer_id >= 0) keep_aborted(&c->out, &kept);
    fate->spent_marker = discard;
    discard = discard && (header->attributes & PLOG_ATTR_DELETE_HORIZON) && header->base_timestamp <= c->rules.now_ms;
  } else {
    rc = plog__clean_txns_batch(&c->txns, header, &discard);
    fate->spent_marker = false;
  }
  fate->discard = discard;
  fate->keep_empty = is_last_of_producer(c, header);
  return rc;
}

static int32_t copy_batch(plog_cleaning *c, const uint8_t *data, const plog_batch_header *header) {
  plog_batch_fate fate;
  plog_batch_header written = {0};
  int32_t rc = decide_fate(c, data, header, &fate), kept = 0;
  if (rc == 0 && !fate.discard) rc = plog__batch_cleaner_take(&c->batches, c->map, data, header);
  if (rc == 0)
    rc = plog__batch_cleaner_write(&c->batches, &c->rules, &fate, data, header, &c->out.pending, &kept, &written);
  c->stats.records_read += header->records_count;
  c->stats.records_kept += kept;
  if (rc == 0 && written.size_bytes > 0) {
    rc = enter_target(c, &written);
    if (rc == 0 && c->out.pending.size_bytes >= LUMP_BYTES) rc = write_pending(c);
  }
  return rc;
}

int32_t plog_cleaning_copy(plog_cleaning *c, int32_t *done) {
  *done = 0;
  if (c->group_count == 0 || c->group_finished) return -EINVAL;
  if (!c->in.segment) {
    if (c->group_done == c->group_count) {
      *done = 1;
      return 0;
    }
    int32_t rc = enter_source(c, c->group_bases[c->group_done], true);
    if (rc != 0) return rc;
    c->group_sizes[c->group_done] = c->in.size_bytes;
    struct stat st;
    rc = plog__sys_fstat(c->log->sys, c->in.segment->fd, &st);
    if (rc != 0) return rc;
    c->out.last_modified_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
  }
  int32_t rc = c->in.position < c->in.size_bytes ? walk_source(c, copy_batch) : 0;
  if (rc != 0) return rc;
  if (c->in.position >= c->in.size_bytes) {
    leave_source(c);
    c->group_done++;
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- finishing a group */

static int32_t write_side_file(plog_cleaning *c, int32_t file, const plog_writer *w) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = w->status ? w->status : plog__segment_path(c->log->dir, c->out.base_offset, cleaned_suffixes[file], path);
  if (rc != 0) return rc;
  int fd = plog__sys_open(c->log->sys, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return fd;
  rc = plog__sys_pwrite_all(c->log->sys, fd, w->data, w->size_bytes, 0);
  if (rc == 0) rc = plog__sys_fdatasync(c->log->sys, fd);
  (void)plog__sys_close(c->log->sys, fd);
  return rc;
}

static int32_t sync_directory(plog_cleaning *c) {
  int fd = plog__sys_open(c->log->sys, c->log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int32_t rc = plog__sys_fsync(c->log->sys, fd);
  (void)plog__sys_close(c->log->sys, fd);
  return rc;
}

/* What belonged to the .log files that the owner set aside, the first one's apart: nobody opens it any more. After a cut other
   segments may have the names; then the next opening tells. */
static void remove_companions(plog_cleaning *c) {
  static const char *const suffixes[] = {".index", ".timeindex", ".txnindex", ".snapshot"};
  for (int32_t i = 1; i < c->replaced_count; i++) {
    plog__log_lock(c->log);
    for (size_t k = 0; c->log->cuts_count == c->cuts_count && k < PLOG_COUNT_OF(suffixes); k++) {
      char path[PLOG_PATH_BYTES];
      if (plog__segment_path(c->log->dir, c->group_bases[i], suffixes[k], path) == 0)
        (void)plog__sys_unlink(c->log->sys, path);
    }
    plog__log_unlock(c->log);
  }
  c->replaced_count = 0;
}

int32_t plog_cleaning_sync(plog_cleaning *c) {
  int32_t rc = sync_directory(c);
  if (rc == 0) remove_companions(c);
  return rc;
}

int32_t plog_cleaning_finish(plog_cleaning *c) {
  if (c->group_count == 0 || c->group_done < c->group_count || c->in.segment) return -EINVAL;
  target *t = &c->out;
  add_time_entry(t);
  int32_t rc = write_pending(c);
  /* retention goes by the age of the file where no record has a timestamp */
  if (rc == 0) rc = plog__sys_set_modified(c->log->sys, t->fd, t->last_modified_ms);
  if (rc == 0) rc = plog__sys_fsync(c->log->sys, t->fd);
  (void)plog__sys_close(c->log->sys, t->fd);
  t->fd = -1;
  if (rc == 0) rc = write_side_file(c, FILE_INDEX, &t->offsets);
  if (rc == 0) rc = write_side_file(c, FILE_TIME_INDEX, &t->times);
  if (rc == 0 && t->aborted.size_bytes > 0) rc = write_side_file(c, FILE_ABORTED, &t->aborted);
  if (rc == 0) rc = sync_directory(c);
  if (rc == 0) c->group_finished = true;
  return rc;
}

int32_t plog__cleaning_replacement(const plog_cleaning *c, plog_replacement *out) {
  if (c->group_count == 0 || !c->group_finished) return PLOG_E_NOT_FOUND;
  const target *t = &c->out;
  *out =
      (plog_replacement){c->log,        c->cuts_count,    c->group_bases,          c->group_sizes,           c->group_count,
                         t->size_bytes, t->max_timestamp, t->max_timestamp_offset, t->aborted.size_bytes > 0};
  return 0;
}

void plog__cleaning_replaced(plog_cleaning *c) {
  c->replaced_count = c->group_count;
  c->group_count = 0;
  c->stats.groups++;
}

void plog_cleaning_position(const plog_cleaning *c, int64_t *out_base, int64_t *out_position) {
  *out_base = c->in.segment ? c->in.segment->base_offset : -1;
  *out_position = c->in.segment ? c->in.position : -1;
}

/* ---------------------------------------------------------------------------------------------- what policy asks */

int32_t plog_log_first_timestamp(plog_log *log, int64_t base_offset, int64_t *out_timestamp) {
  plog__log_lock(log);
  plog_segment *s = log->segments[plog__log_find_segment(log, base_offset)];
  int64_t size_bytes = s->size_bytes;
  int32_t rc = s->base_offset == base_offset ? plog__segment_acquire(s) : PLOG_E_NOT_FOUND;
  plog__log_unlock(log);
  if (rc != 0) return rc;
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, 0, size_bytes);
  rc = plog__scan_next(&scan, &header);
  plog__segment_release(s);
  if (rc == 0) *out_timestamp = header.max_timestamp;
  return rc;
}
