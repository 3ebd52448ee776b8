/*
 * Opening and closing a log.
 *
 * After a clean stop nothing is read but the end of the last segment and a snapshot. Otherwise every batch from the segment of
 * the recovery point on is checked; the first one that is cut or wrong ends the log: its segment is cut there, and segments
 * behind it are set aside as .deleted, newest first, so that a crash in the middle leaves no hole. So does a batch that reaches
 * into the next segment, unless there is nothing in that one: then the segment goes, for it was there before the batch. Indexes,
 * transaction indexes, producer state and leader epochs of what was checked are built anew. A read that fails is no damage:
 * opening fails and nothing is cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "crc32c.h"
#include "directory.h"
#include "log_state.h"
#include "wire.h"

/* Read in pieces that stay in the CPU's cache between the copy and the checksum. Not mapped: a bad sector would be a SIGBUS. */
enum { READ_BYTES = 256 * 1024 };

/* ---------------------------------------------------------------------------------------------- checking a file */

/* Walks all bytes of a .log file from its beginning. */
typedef struct {
  plog_log *log;
  plog_segment *segment;
  int64_t file_bytes;
  int64_t limit;     /* the offset that no batch reaches */
  int64_t position;  /* of the next batch */
  uint8_t *buffer;   /* READ_BYTES of it */
  int64_t buffer_at; /* position in the file of its first byte */
  size_t buffer_bytes;
  int64_t read_upto; /* as far as the file was read, for the progress */
} checker;

/* At least wanted (<= READ_BYTES) bytes of the file from `position` on, if the file has them; else NULL and *rc. */
static const uint8_t *check_bytes(checker *c, int64_t position, size_t wanted, int32_t *rc) {
  plog_assert(wanted <= READ_BYTES);
  *rc = 0;
  if (position < c->buffer_at || position + (int64_t)wanted > c->buffer_at + (int64_t)c->buffer_bytes) {
    size_t n = (size_t)PLOG_MIN((int64_t)READ_BYTES, c->file_bytes - position);
    c->buffer_bytes = 0;
    *rc = n < wanted ? PLOG_E_SHORT : plog__sys_pread_all(c->log->sys, c->segment->fd, c->buffer, n, position);
    if (*rc != 0) return NULL;
    int64_t news = position + (int64_t)n - PLOG_MAX(c->read_upto, position); /* the rest was read before */
    if (news > 0) atomic_fetch_add_explicit(&c->log->sys->checked_bytes, news, memory_order_relaxed);
    c->read_upto = PLOG_MAX(c->read_upto, position + (int64_t)n);
    c->buffer_at = position;
    c->buffer_bytes = n;
  }
  return c->buffer + (position - c->buffer_at);
}

/* The CRC of file bytes, read as it goes. */
static int32_t check_crc(checker *c, int64_t position, int64_t size_bytes, uint32_t *out) {
  *out = 0;
  while (size_bytes > 0) {
    int32_t rc;
    const uint8_t *p = check_bytes(c, position, 1, &rc);
    if (!p) return rc;
    int64_t n = PLOG_MIN(size_bytes, c->buffer_at + (int64_t)c->buffer_bytes - position);
    *out = plog_crc32c(*out, p, (size_t)n);
    position += n;
    size_bytes -= n;
  }
  return 0;
}

/* Is there a whole message of before Kafka 0.11 (its own CRC-32 says so)? Such a log is not ours to cut. */
static bool is_old_message(checker *c, int64_t position) {
  enum { OLD_CRC_AT = 12, OLD_CRC_FROM = 16, OLD_MIN_LENGTH = 14, OLD_MAX_BYTES = 64 << 20 };
  int32_t rc;
  const uint8_t *p = check_bytes(c, position, PLOG_BATCH_AT_MAGIC + 1, &rc);
  if (!p || p[PLOG_BATCH_AT_MAGIC] > 1) return false;
  int64_t size_bytes = (int64_t)plog_get_i32(p + PLOG_BATCH_AT_LENGTH) + PLOG_LOG_OVERHEAD;
  uint32_t stored = plog_get_u32(p + OLD_CRC_AT), crc = 0xffffffffu;
  if (size_bytes < OLD_MIN_LENGTH + PLOG_LOG_OVERHEAD || size_bytes > OLD_MAX_BYTES ||
      size_bytes > c->file_bytes - position)
    return false;
  for (int64_t at = OLD_CRC_FROM; at < size_bytes; at++) {
    p = check_bytes(c, position + at, 1, &rc);
    if (!p) return false;
    crc ^= *p;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc == stored;
}

/* The next batch, whole and right. PLOG_E_NOT_FOUND: the end of the file; PLOG_CORRUPT_MESSAGE: nothing more is of use;
   anything else: the file cannot be read, or not by us. */
static int32_t check_next(checker *c, plog_batch_header *header) {
  int64_t left = c->file_bytes - c->position;
  if (left == 0) return PLOG_E_NOT_FOUND;
  int32_t rc;
  const uint8_t *p = check_bytes(c, c->position, (size_t)PLOG_MIN(left, (int64_t)PLOG_BATCH_OVERHEAD), &rc);
  if (!p) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
  rc = plog_batch_header_read(p, (size_t)PLOG_MIN(left, (int64_t)PLOG_BATCH_OVERHEAD), header);
  if (rc == PLOG_CORRUPT_MESSAGE && is_old_message(c, c->position)) return PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT;
  if ((rc != 0 && rc != PLOG_E_SHORT) || header->size_bytes == 0 || header->size_bytes > left) return PLOG_CORRUPT_MESSAGE;
  int64_t relative = header->base_offset - c->segment->base_offset;
  if (header->last_offset_delta < 0 || header->base_offset < c->segment->next_offset || relative > INT32_MAX ||
      relative + header->last_offset_delta > INT32_MAX || plog__batch_last_offset(header) >= c->limit)
    return PLOG_CORRUPT_MESSAGE;
  uint32_t crc = 0;
  rc = check_crc(c, c->position + PLOG_BATCH_AT_ATTRIBUTES, (int64_t)header->size_bytes - PLOG_BATCH_AT_ATTRIBUTES, &crc);
  if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
  if (crc != header->crc) return PLOG_CORRUPT_MESSAGE;
  c->position += header->size_bytes;
  return 0;
}

/* ---------------------------------------------------------------------------------------------- replaying producers */

/* Enter a batch that lies at position into the producer state, as a leader's word. */
static int32_t replay_batch(plog_log *log, plog_segment *s, const plog_batch_header *header, int64_t position,
                            plog_ended_txn *ended, bool *has_ended) {
  *has_ended = false;
  if (header->producer_id < 0) return 0;
  plog_marker marker;
  bool is_marker = false;
  if (header->attributes & PLOG_ATTR_CONTROL) {
    uint8_t *data;
    int32_t rc = plog__log_read_batch(s, position, header->size_bytes, &data);
    if (rc != 0) return rc;
    is_marker = plog__batch_marker(data, header->size_bytes, header, &marker) == 0;
    free(data);
    if (!is_marker) return 0;
  }
  int32_t rc = plog__producers_append(log->producers, header, is_marker ? &marker : NULL, PLOG_ORIGIN_REPLICATION, NULL,
                                      ended, has_ended);
  plog__producers_keep(log->producers);
  return rc;
}

/* All of a snapshot; free *out. One read is enough for most. */
static int32_t read_snapshot(plog_sys *sys, int fd, uint8_t **out, size_t *size_bytes) {
  enum { MOST_BYTES = 4096 };
  struct stat st;
  uint8_t *data = malloc(MOST_BYTES);
  if (!data) return -ENOMEM;
  int64_t got = plog__sys_pread(sys, fd, data, MOST_BYTES, 0);
  if (got >= 0 && got < MOST_BYTES) {
    *out = data;
    *size_bytes = (size_t)got;
    return 0;
  }
  free(data);
  if (got < 0) return (int32_t)got;
  int32_t rc = plog__sys_fstat(sys, fd, &st);
  if (rc == 0 && st.st_size > INT32_MAX) rc = PLOG_E_NOT_FOUND;
  if (rc != 0) return rc;
  data = malloc((size_t)st.st_size + 1);
  if (!data) return -ENOMEM;
  rc = plog__sys_pread_all(sys, fd, data, (size_t)st.st_size, 0);
  if (rc != 0) {
    free(data);
    return rc;
  }
  *out = data;
  *size_bytes = (size_t)st.st_size;
  return 0;
}

/* Load <offset>.snapshot. PLOG_E_NOT_FOUND: there is none, or none that can be used. */
static int32_t load_snapshot(plog_log *log, int64_t offset, plog_log_open_report *report) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(log->dir, offset, ".snapshot", path);
  if (rc != 0) return rc;
  int fd = plog__sys_open(log->sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd == -ENOENT) return PLOG_E_NOT_FOUND;
  if (fd < 0) return fd;
  uint8_t *data = NULL;
  plog_producer_info *producers = NULL;
  size_t size_bytes = 0;
  int32_t count = 0;
  rc = read_snapshot(log->sys, fd, &data, &size_bytes);
  if (rc == 0) {
    int32_t capacity = (int32_t)(size_bytes / 46 + 1); /* the format's entry size: more cannot be in there */
    producers = calloc((size_t)capacity, sizeof *producers);
    rc = producers ? plog_snapshot_decode(data, size_bytes, producers, capacity, &count) : -ENOMEM;
  }
  if (rc == 0) {
    plog__producers_clear(log->producers);
    rc = plog__producers_load(log->producers, producers, count);
  }
  (void)plog__sys_close(log->sys, fd);
  free(data);
  free(producers);
  if (rc <= 0 && rc != -EIO) return rc;
  plog__producers_clear(log->producers);
  report->unusable_files++;
  return PLOG_E_NOT_FOUND; /* torn, foreign, on a bad sector: the batches say the same */
}

/* A scan ended: at the end, or at damage below the recovery point, which whoever reads it will meet and be told. */
static bool is_end(int32_t rc) {
  return rc == 0 || rc == PLOG_E_NOT_FOUND || rc == PLOG_E_SHORT || rc == PLOG_CORRUPT_MESSAGE;
}

/* Read the batches of segment s in [from, upto) into the producer state. */
static int32_t replay_segment(plog_log *log, plog_segment *s, int64_t from, int64_t upto, int64_t *replayed) {
  int32_t rc = plog__segment_acquire(s);
  if (rc != 0) return rc;
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, from > s->base_offset ? plog__segment_hint(s, from) : 0, s->size_bytes);
  while ((rc = plog__scan_next(&scan, &header)) == 0) {
    if (header.base_offset < from) continue;
    if (header.base_offset >= upto) break;
    plog_ended_txn ended;
    bool has_ended;
    rc = replay_batch(log, s, &header, scan.position - header.size_bytes, &ended, &has_ended);
    if (rc != 0) break;
    ++*replayed;
  }
  plog__segment_release(s);
  return is_end(rc) ? 0 : rc;
}

int32_t plog__log_load_producers(plog_log *log, int64_t offset, plog_log_open_report *report) {
  plog__log_lock(log);
  plog__producers_clear(log->producers);
  int64_t from = offset;
  int32_t rc = load_snapshot(log, offset, report), i = plog__log_find_segment(log, offset);
  /* else from the snapshot that the newest segment at or below began with, or from the very beginning */
  for (; rc == PLOG_E_NOT_FOUND && i >= 0; i--) {
    from = log->segments[i]->base_offset;
    if (from >= offset) continue;
    rc = load_snapshot(log, from, report);
    if (rc != PLOG_E_NOT_FOUND) break;
  }
  if (rc == 0) log->snapshot_offset = from;
  if (rc == PLOG_E_NOT_FOUND) {
    from = log->segments[0]->base_offset;
    rc = 0;
  }
  for (i = plog__log_find_segment(log, from); rc == 0 && i < log->segments_count && from < offset; i++) {
    if (log->segments[i]->base_offset >= offset) break;
    rc = replay_segment(log, log->segments[i], from, offset, &report->replayed_batches);
  }
  plog__log_unlock(log);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- recovering */

/* Enter a checked batch into everything that is derived from batches. */
static int32_t take_up(plog_log *log, plog_segment *s, const plog_batch_header *header, int64_t position) {
  int32_t rc = plog__segment_reserve(s, 1);
  if (rc != 0) return rc;
  if (plog__epochs_is_news(&log->epochs, header->partition_leader_epoch, header->base_offset) &&
      header->partition_leader_epoch > plog__epochs_latest(&log->epochs)) {
    rc = plog__epochs_assign(&log->epochs, header->partition_leader_epoch, header->base_offset);
    if (rc != 0) return rc;
  }
  plog_ended_txn ended;
  bool has_ended;
  rc = replay_batch(log, s, header, position, &ended, &has_ended);
  if (rc == 0 && has_ended && ended.aborted) rc = plog__segment_add_aborted(s, &ended);
  if (rc == 0) plog__segment_index_batch(s, header, plog__batch_last_offset(header));
  return rc;
}

/* Check all of a segment, whose files are open. *cut: bytes behind its last good batch. */
static int32_t check_segment(plog_log *log, plog_segment *s, int64_t limit, int64_t *cut) {
  struct stat st;
  int32_t rc = plog__sys_fstat(s->sys, s->fd, &st);
  if (rc == 0) rc = plog__segment_reset_indexes(s); /* good or bad, they are not wanted */
  if (rc != 0) return rc;
  checker c = {log, s, st.st_size, limit, 0, plog__pages_alloc(READ_BYTES), 0, 0, 0};
  if (!c.buffer) return -ENOMEM;
  plog_batch_header header = {0};
  for (;;) {
    int64_t position = c.position;
    rc = check_next(&c, &header);
    if (rc == 0) rc = take_up(log, s, &header, position);
    if (rc != 0) break;
  }
  free(c.buffer);
  if (rc != PLOG_E_NOT_FOUND && rc != PLOG_CORRUPT_MESSAGE) return rc;
  *cut = st.st_size - s->size_bytes;
  return 0;
}

/* Put the files of a recovered segment right: the .log cut, durably, lest it be trusted with its torn tail once another segment
   follows; indexes written and trimmed. Of the active one too: who appends to it opens them again, and after a start ten
   thousand logs are not ten thousand open files. */
static int32_t settle_segment(plog_log *log, plog_segment *s, int64_t cut, bool active) {
  int32_t rc = cut > 0 ? plog__segment_cut_tail(s) : 0;
  if (rc == 0 && cut > 0) rc = plog__sys_fdatasync(s->sys, s->fd);
  if (rc == 0) rc = plog__segment_make_writable(s, &log->config);
  if (rc == 0) rc = plog__segment_write_aborted(s);
  if (rc == 0) rc = plog__segment_seal(s);
  if (active && (rc == -ENOSPC || rc == -EDQUOT)) rc = 0; /* then it goes on as one that is written to, in memory */
  return rc;
}

/* Set aside the segments from index `from` to below `upto`, newest first; durably, for they would hide what is appended before
   them. */
static int32_t set_aside(plog_log *log, int32_t from, int32_t upto, plog_log_open_report *report) {
  if (upto <= from) return 0;
  while (upto-- > from) {
    plog_segment *s = log->segments[upto];
    int32_t rc = plog__log_set_aside(log, s);
    if (rc != 0) return rc;
    report->truncated_bytes += s->size_bytes;
    report->deleted_segments++;
    log->segments_count--;
    memmove(log->segments + upto, log->segments + upto + 1, (size_t)(log->segments_count - upto) * sizeof(plog_segment *));
    plog__segment_drop(s);
  }
  return plog__log_sync_names(log);
}

/* Where segment i must have ended: the next one with a batch in it begins there. */
static int64_t limit_of(const plog_log *log, int32_t i) {
  while (++i < log->segments_count)
    if (log->segments[i]->size_bytes > 0) return log->segments[i]->base_offset;
  return INT64_MAX;
}

/* The index behind the segments after i, empty ones, that begin below the end of it: what is left of rolls that failed, whereupon
   its records were written into segment i. */
static int32_t passed_by(const plog_log *log, int32_t i) {
  int32_t upto = i + 1;
  while (upto < log->segments_count && log->segments[upto]->base_offset < log->segments[i]->next_offset) upto++;
  return upto;
}

/* Check segment i, and cut the log where it is damaged. */
static int32_t recover_segment(plog_log *log, int32_t i, plog_log_open_report *report) {
  plog_segment *s = log->segments[i];
  int64_t cut;
  int32_t rc = plog__segment_acquire_bare(s);
  if (rc != 0) return rc;
  rc = check_segment(log, s, limit_of(log, i), &cut);
  if (rc == 0) rc = set_aside(log, i + 1, cut > 0 ? log->segments_count : passed_by(log, i), report);
  if (rc == 0) rc = settle_segment(log, s, cut, i + 1 == log->segments_count);
  plog__segment_release(s);
  if (rc != 0) return rc;
  s->verified.own_from = 0; /* every batch was compared just now */
  report->recovered_segments++;
  report->recovered_bytes += s->size_bytes;
  report->truncated_bytes += cut;
  if (i + 1 < log->segments_count) s->next_offset = log->segments[i + 1]->base_offset;
  return 0;
}

static int32_t recover(plog_log *log, int32_t from, plog_log_open_report *report) {
  plog__epochs_cut_end(&log->epochs, log->segments[from]->base_offset);
  int32_t rc = plog__log_load_producers(log, log->segments[from]->base_offset, report);
  for (int32_t i = from; rc == 0 && i < log->segments_count; i++) {
    /* The snapshot there is may know of batches that are lost: it goes, and a new one is a shortcut, if there is room. */
    if (i > from) (void)plog__log_write_snapshot(log, log->segments[i]->base_offset);
    rc = recover_segment(log, i, report);
  }
  return rc;
}

/* ---------------------------------------------------------------------------------------------- a clean end */

/* Where the last segment ends, by the last entries of its indexes and the headers behind them. PLOG_CORRUPT_MESSAGE: it does
   not end with a whole batch, so that the stop was not as clean as it said. */
static int32_t find_end(plog_segment *s) {
  bool empty;
  int32_t rc = plog__segment_check_empty(s, &empty);
  if (rc != 0 || empty) return rc;
  bool small = s->size_bytes <= (int64_t)sizeof((plog_scan *)NULL)->buffer; /* one read says more than its indexes */
  int32_t broken = 0;
  if (small) rc = plog__segment_check_files(s, &broken);
  small = small && broken == 0;
  if (rc == 0) rc = small ? plog__segment_acquire_bare(s) : plog__segment_acquire(s);
  if (rc != 0) return rc;
  int64_t from = s->offsets.count > 0 ? plog__index_last(&s->offsets).position : 0;
  if (small)
    s->max_known = true; /* soon */
  else
    rc = plog__segment_load_max(s);
  plog_scan scan;
  plog_batch_header header;
  plog__scan_init(&scan, s, from, s->size_bytes);
  s->next_offset = s->base_offset;
  while (rc == 0 && (rc = plog__scan_next(&scan, &header)) == 0) {
    if (header.base_offset < s->next_offset || plog__batch_last_offset(&header) - s->base_offset > INT32_MAX) {
      rc = PLOG_CORRUPT_MESSAGE;
      break;
    }
    s->next_offset = plog__batch_last_offset(&header) + 1;
    if (header.max_timestamp > s->max_timestamp) {
      s->max_timestamp = header.max_timestamp;
      s->max_timestamp_offset = plog__batch_last_offset(&header);
    }
  }
  plog__segment_release(s);
  if (rc == PLOG_E_NOT_FOUND) return 0;
  return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
}

/* Has a closed segment records at or above an offset, as far as can be seen without reading it? Then the empty one that begins
   there is what a failed roll left, and also below the recovery point it takes a check to put that right. */
static int32_t reaches(plog_segment *s, int64_t offset, bool *out) {
  int64_t next_offset = s->next_offset;
  int32_t rc = find_end(s);
  *out = rc == PLOG_CORRUPT_MESSAGE || s->next_offset > offset;
  s->next_offset = next_offset;
  s->max_known = false; /* this was by indexes that may have to be made anew */
  return rc == PLOG_CORRUPT_MESSAGE ? 0 : rc;
}

/* Leader epochs from the headers of all batches in segments below `upto`. */
static int32_t rebuild_epochs(plog_log *log, int32_t upto) {
  log->epochs.count = 0;
  for (int32_t i = 0; i < upto; i++) {
    plog_segment *s = log->segments[i];
    if (s->size_bytes == 0) continue;
    int32_t rc = plog__segment_acquire(s);
    if (rc != 0) return rc;
    plog_scan scan;
    plog_batch_header header;
    plog__scan_init(&scan, s, 0, s->size_bytes);
    while ((rc = plog__scan_next(&scan, &header)) == 0) {
      if (header.partition_leader_epoch <= plog__epochs_latest(&log->epochs)) continue;
      rc = plog__epochs_assign(&log->epochs, header.partition_leader_epoch, header.base_offset);
      if (rc != 0) break;
    }
    plog__segment_release(s);
    if (!is_end(rc)) return rc;
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- opening */

static void free_log(plog_log *log) {
  for (int32_t i = 0; i < log->segments_count; i++) plog__segment_drop(log->segments[i]);
  free(log->segments);
  free(log->latest);
  plog__producers_close(log->producers);
  plog__epochs_deinit(&log->epochs);
  plog__epochs_deinit(&log->epochs_before);
  free(log->recent);
  free(log->staged);
  free(log->pieces);
  free(log->ended);
  (void)pthread_mutex_destroy(&log->lock);
  free(log->dir);
  free(log);
}

static plog_log *new_log(plog_sys *sys, const char *dir, const plog_log_config *config) {
  plog_log *log = calloc(1, sizeof *log);
  if (!log) return NULL;
  if (pthread_mutex_init(&log->lock, NULL) != 0) {
    free(log);
    return NULL;
  }
  log->sys = sys;
  log->config = *config;
  const char *name = strrchr(dir, '/');
  name = name ? name + 1 : dir;
  log->jitter_state = config->jitter_seed ? config->jitter_seed : plog_crc32c(0, (const uint8_t *)name, strlen(name));
  log->stray_snapshot = -1;
  log->leftover_base = -1;
  log->maps_after = PLOG_MAPPED_TAIL_NEVER;
  log->synced_dir_base = -1;
  log->dir = strdup(dir);
  log->producers = plog__producers_open();
  if (!log->dir || !log->producers) {
    free_log(log);
    return NULL;
  }
  return log;
}

/* What is known of the directory before its log is opened. */
typedef struct {
  const int64_t *segments;
  int32_t segments_count;
  const int64_t *epochs;
  int32_t epochs_count; /* -1: to be found in the batches */
  bool epochs_if_empty; /* that there are none is believed of a log without a record, and of no other */
  bool no_aborted;      /* no transaction index */
  bool no_snapshot;
} contents;

static int32_t open_segments(plog_log *log, const contents *in, int64_t log_start, int64_t now_ms) {
  const int64_t *bases = in->segments;
  const int32_t count = in->segments_count;
  for (int32_t i = 0; i < count; i++) {
    if (bases[i] < 0 || (i > 0 && bases[i] <= bases[i - 1])) return -EINVAL;
    plog_segment *s;
    int32_t rc = plog__segment_open(log->sys, log->dir, bases[i], i + 1 < count ? bases[i + 1] : -1,
                                    log->config.index_interval_bytes, now_ms, &s);
    if (rc != 0) return rc;
    if (in->epochs_if_empty && s->size_bytes > 0) rc = PLOG_E_MALFORMED;
    if (rc == 0) rc = plog__log_push_segment(log, s);
    if (rc != 0) {
      plog__segment_drop(s);
      return rc;
    }
    s->aborted_known = in->no_aborted;
  }
  if (count > 0) return 0;
  plog_segment *s;
  int32_t rc = plog__segment_make(log->sys, log->dir, log_start, &log->config, now_ms, &s);
  if (rc != 0) return rc;
  log->pristine = log_start == 0;
  rc = plog__log_push_segment(log, s);
  if (rc != 0) plog__segment_drop(s);
  return rc;
}

/* Look at the files beside segment i, without reading it; build its indexes anew when one is missing. */
static int32_t check_beside(plog_log *log, int32_t i) {
  plog_segment *s = log->segments[i];
  int32_t broken = 0, rc = 0;
  if (atomic_load(&s->users) == 0 && !s->max_known)
    rc = plog__segment_check_files(s, &broken); /* else that was seen when it was opened */
  if (rc == 0 && broken > 0) {
    rc = plog__segment_acquire(s); /* which sees it too, and does it */
    if (rc == 0) plog__segment_release(s);
  }
  return rc == 0 && !s->aborted_known ? plog__segment_check_aborted(s) : rc;
}

/*
 * The segments before *first_checked are believed, as far as the files beside them can be. A transaction index that cannot be
 * read is made from batches and from the producers before them: then everything from its segment on is checked.
 */
static int32_t check_trusted(plog_log *log, int32_t *first_checked, plog_log_open_report *report) {
  for (int32_t i = 0; i < *first_checked; i++) {
    int32_t rc = check_beside(log, i);
    if (rc == PLOG_E_MALFORMED) {
      report->unusable_files++;
      *first_checked = i;
    } else if (rc != 0) {
      return rc;
    }
  }
  return 0;
}

static int32_t load_epochs(plog_log *log, const int64_t *epochs, int32_t count, int32_t first_checked) {
  if (count < 0) return rebuild_epochs(log, first_checked);
  for (int32_t i = 0; i < count; i++) {
    if (epochs[2 * i] < 0 || epochs[2 * i] > INT32_MAX || epochs[2 * i + 1] < 0) return -EINVAL;
    int32_t rc = plog__epochs_assign(&log->epochs, (int32_t)epochs[2 * i], epochs[2 * i + 1]);
    if (rc != 0) return rc;
  }
  return 0;
}

static bool same_epochs(const plog_epochs *found, const int64_t *epochs, int32_t count) {
  bool same = found->count == count;
  for (int32_t i = 0; same && i < count; i++)
    same = found->items[i].epoch == epochs[2 * i] && found->items[i].start_offset == epochs[2 * i + 1];
  return same;
}

/* The log ends below where it is said to begin (its records were deleted, then a crash took the end): begin there, empty. */
static int32_t start_over(plog_log *log, int64_t log_start, int64_t now_ms, plog_log_open_report *report) {
  int32_t rc = set_aside(log, 1, log->segments_count, report);
  plog_segment *old = log->segments[0], *fresh;
  if (rc == 0) rc = plog__log_set_aside(log, old);
  if (rc == 0) rc = plog__segment_create(log->sys, log->dir, log_start, &log->config, now_ms, &fresh);
  if (rc != 0) return rc;
  report->deleted_segments++;
  report->truncated_bytes += old->size_bytes;
  plog__segment_drop(old);
  log->segments[0] = fresh;
  log->epochs.count = 0;
  plog__producers_clear(log->producers);
  return 0;
}

/* Producers of a log that ends in order. */
static int32_t load_last_producers(plog_log *log, const contents *in, plog_log_open_report *report) {
  const plog_segment *active = plog__log_active(log);
  log->snapshot_offset = -1;
  if (in->no_snapshot && log->segments_count == 1 && active->size_bytes == 0) return 0; /* nobody has written */
  int32_t rc = plog__log_load_producers(log, active->next_offset, report);
  if (log->snapshot_offset == active->next_offset) {
    log->stray_snapshot = log->snapshot_offset;
    log->stray_is_empty = plog__producers_count(log->producers) == 0;
  }
  return rc;
}

static int32_t open_log(plog_sys *sys, const char *dir, const plog_log_config *config, const contents *in,
                        int64_t log_start, int64_t recovery_point, int32_t clean, int64_t now_ms, plog_log **out,
                        plog_log_open_report *report) {
  const int32_t segments_count = in->segments_count;
  if (segments_count < 0 || log_start < 0 || recovery_point < 0 || strlen(dir) + 64 > PLOG_PATH_BYTES) return -EINVAL;
  plog_log_open_report found = {0};
  plog_log *log = new_log(sys, dir, config);
  if (!log) return -ENOMEM;
  int32_t rc = plog_log_configure(log, config);
  if (rc == 0) rc = open_segments(log, in, log_start, now_ms);

  int32_t last = log->segments_count - 1, first_checked = last + 1;
  if (rc == 0 && segments_count > 0) {
    if (clean) {
      rc = find_end(log->segments[last]);
      if (rc == PLOG_CORRUPT_MESSAGE) {
        rc = 0;
        first_checked = last;
      }
    } else {
      first_checked = plog__log_find_segment(log, recovery_point);
      while (rc == 0 && first_checked > 0 && log->segments[first_checked]->size_bytes == 0) {
        bool passes;
        rc = reaches(log->segments[first_checked - 1], log->segments[first_checked]->base_offset, &passes);
        if (!passes) break;
        first_checked--;
      }
      /* the one before may have been closed after the recovery point was taken: who reads there builds its indexes anew */
      if (rc == 0 && first_checked > 0 && log->segments[first_checked]->base_offset == recovery_point)
        plog__segment_distrust(log->segments[first_checked - 1]);
    }
  }
  if (rc == 0 && segments_count > 0) rc = check_trusted(log, &first_checked, &found);
  if (rc == 0) rc = load_epochs(log, in->epochs, in->epochs_count, first_checked);
  if (rc == 0 && first_checked <= last) {
    rc = recover(log, first_checked, &found);
  } else if (rc == 0 && segments_count > 0) {
    rc = load_last_producers(log, in, &found);
  }
  if (rc == 0 && plog__log_active(log)->next_offset < log_start) rc = start_over(log, log_start, now_ms, &found);
  if (rc != 0) {
    free_log(log);
    return rc;
  }

  found.rebuilt_indexes += plog_log_take_rebuilt_indexes(log);
  plog_segment *active = plog__log_active(log);
  active->jitter_ms = plog__log_draw_jitter(log);
  int64_t end = active->next_offset, start = PLOG_MAX(log_start, log->segments[0]->base_offset);
  log->staged_end = log->flushed_end = end;
  if (clean && segments_count > 0) log->synced_dir_base = active->base_offset;
  log->snapshot_offset = PLOG_MAX(log->snapshot_offset, start);
  atomic_store(&log->end, end);
  atomic_store(&log->start, start);
  atomic_store(&log->recovery_point, clean ? end : PLOG_MIN(recovery_point, end));
  /* an entry at the end has no record and goes, but where all records were deleted: there it says which epoch is in force */
  plog__epochs_cut_end(&log->epochs, start < end ? end : end + 1);
  plog__epochs_cut_start(&log->epochs, start);
  found.epochs_changed = !same_epochs(&log->epochs, in->epochs, in->epochs_count);
  *out = log;
  if (report) *report = found;
  return 0;
}

int32_t plog_log_open(plog_sys *sys, const char *dir, const plog_log_config *config, const int64_t *segments,
                      int32_t segments_count, int64_t log_start, int64_t recovery_point, int32_t clean,
                      const int64_t *epochs, int32_t epochs_count, int64_t now_ms, plog_log **out,
                      plog_log_open_report *report) {
  const contents in = {segments, segments_count, epochs, epochs_count, false, false, false};
  return open_log(sys, dir, config, &in, log_start, recovery_point, clean, now_ms, out, report);
}

int32_t plog_log_open_directory(plog_sys *sys, const char *dir, const plog_log_config *config, int64_t log_start,
                                int64_t recovery_point, int32_t clean, int64_t now_ms, plog_opened *out) {
  plog_directory found;
  int32_t rc = plog__directory_read(sys, dir, &found);
  if (rc != 0) return rc;
  const contents in = {.segments = found.segments,
                       .segments_count = found.segments_count,
                       .epochs = found.epochs,
                       .epochs_count = found.epochs_count,
                       .epochs_if_empty = found.epochs_empty,
                       .no_aborted = !found.has_aborted,
                       .no_snapshot = !found.has_snapshot};
  rc = open_log(sys, dir, config, &in, log_start, recovery_point, clean, now_ms, &out->log, &out->report);
  if (rc != 0) return rc;
  out->segments_count = found.segments_count;
  out->has_topic_id = found.has_topic_id;
  memcpy(out->topic_id, found.topic_id, sizeof out->topic_id);
  out->epochs_count = found.epochs_count;
  memcpy(out->epochs, found.epochs, (size_t)found.epochs_count * 2 * sizeof out->epochs[0]);
  return 0;
}

/* ---------------------------------------------------------------------------------------------- closing */

/* Nothing that could be lost: a start that finds none of it makes it again. */
static bool never_written(const plog_log *log) {
  return log->pristine && log->cuts_count == 0;
}

int32_t plog_log_close_waits(plog_log *log) {
  int64_t end = plog__log_end(log);
  if (never_written(log)) return 0;
  return end > log->snapshot_offset || end > atomic_load(&log->recovery_point) ||
         plog__log_active(log)->base_offset > log->synced_dir_base;
}

static int32_t close_clean(plog_log *log, bool synced) {
  plog__log_abort(log);
  plog_segment *active = plog__log_active(log);
  int32_t rc = plog__log_settle_leftover(log);
  if (rc == 0 && log->tail_dirty) rc = plog__segment_cut_tail(active);
  if (rc == 0) {
    plog__log_lock(log);
    rc = plog__segment_seal(active);
    plog__log_unlock(log);
  }
  int64_t end = plog__log_end(log), point;
  if (rc == 0 && never_written(log)) return 0;
  if (rc == 0 && end > log->snapshot_offset) {
    rc = plog__log_write_snapshot(log, end);
    if (rc == 0 && synced) rc = plog__log_sync_ends(log);
  }
  if (rc == 0 && synced) rc = plog_log_flush(log, &point);
  return rc;
}

int32_t plog_log_close(plog_log *log, int32_t how) {
  int32_t rc = how == PLOG_CLOSE_LET_GO ? 0 : close_clean(log, how == PLOG_CLOSE_CLEAN);
  free_log(log);
  return rc;
}
