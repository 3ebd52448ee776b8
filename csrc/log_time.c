/*
 * Searching a log by time. Which segment is said by the largest timestamp of each, which a closed segment's time index ends
 * with: it is read once, and kept as a running maximum, so that the next search asks no file. Within the segment both indexes
 * lead near the batch, and the batches there have the last word: an index that they contradict is not followed.
 */
#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "log_state.h"
#include "record.h"

enum { ASKED_AT_ONCE = 64 }; /* so many segments without letting others have the lock */
/* A batch that has to be looked into for one record may become this large. */
#define SEARCH_MAX_BYTES (1u << 30)

/* ---------------------------------------------------------------------------------------------- which segment */

void plog__log_segments_changed(plog_log *log, int32_t from) {
  log->latest_count = PLOG_MIN(log->latest_count, from);
}

/* Note the largest timestamp of the next closed segment. */
static int32_t extend_latest(plog_log *log) {
  int32_t i = log->latest_count;
  plog_segment *s = log->segments[i];
  int32_t rc = plog__segment_load_max(s);
  if (rc != 0) return rc;
  if (i == log->latest_capacity) {
    int32_t capacity = PLOG_MAX(i * 2, 16);
    int64_t *latest = realloc(log->latest, (size_t)capacity * sizeof *latest);
    if (!latest) return -ENOMEM;
    log->latest = latest;
    log->latest_capacity = capacity;
  }
  log->latest[i] = i > 0 ? PLOG_MAX(log->latest[i - 1], s->max_timestamp) : s->max_timestamp;
  log->latest_count++;
  return 0;
}

/* Of the segments whose times are noted, the first one with a record at or after ts. */
static int32_t first_noted(const plog_log *log, int64_t ts) {
  int32_t low = 0, high = log->latest_count; /* those below low are all before, with those from high on one is not */
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (log->latest[middle] < ts)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* The first segment from index `from` on with a record at or after ts. PLOG_E_NOT_FOUND, PLOG_E_AGAIN: ask once more */
static int32_t find_by_time(plog_log *log, int32_t from, int64_t ts, int32_t *out) {
  int32_t closed = log->segments_count - 1, asked = 0;
  for (; log->latest_count < closed && (log->latest_count == 0 || log->latest[log->latest_count - 1] < ts); asked++) {
    if (asked == ASKED_AT_ONCE) return PLOG_E_AGAIN;
    int32_t rc = extend_latest(log);
    if (rc != 0) return rc;
  }
  /* the segment where the running maximum reaches ts is the one that has it; behind it each one has to be asked */
  for (int32_t i = PLOG_MAX(from, first_noted(log, ts)); i < log->segments_count; i++) {
    int32_t rc = plog__segment_load_max(log->segments[i]);
    if (rc != 0) return rc;
    if (log->segments[i]->max_timestamp >= ts) {
      *out = i;
      return 0;
    }
  }
  return PLOG_E_NOT_FOUND;
}

/* ---------------------------------------------------------------------------------------------- within a segment */

/* A segment to be searched, used, and what its indexes say. */
typedef struct {
  plog_segment *segment;
  int64_t next_base; /* of the segment behind it */
  int64_t size_bytes;
  int64_t position; /* where to begin, at or before the batch of from_offset */
  int64_t from_offset;
  int64_t indexed_offset; /* this offset's batch has indexed_timestamp for its largest; -1: nothing is said */
  int64_t indexed_timestamp;
} candidate;

typedef struct {
  int64_t wanted_timestamp; /* at least this */
  int64_t from_offset;
  int64_t below_offset;
  int64_t offset;
  int64_t timestamp;
  int32_t epoch;
} time_search;

/* Look at times and offsets alone: a batch has hundreds of records, and one is wanted. PLOG_E_STOPPED: there it is. */
static int32_t search_records(const plog_batch_header *header, const uint8_t *records, size_t size_bytes,
                              time_search *search) {
  const uint8_t *p = records, *end = records + size_bytes;
  for (int32_t i = 0; i < header->records_count; i++) {
    int32_t length, delta;
    int64_t timestamp_delta;
    if (!plog__take_varint(&p, end, &length) || length < 1 || length > end - p) return PLOG_INVALID_RECORD;
    const uint8_t *at = p + 1, *stop = p + length;
    if (!plog__take_varlong(&at, stop, &timestamp_delta) || !plog__take_varint(&at, stop, &delta))
      return PLOG_INVALID_RECORD;
    p = stop;
    int64_t timestamp = plog__record_timestamp(header, timestamp_delta);
    if (timestamp < search->wanted_timestamp) continue;
    int64_t offset = plog__add_wrapping(header->base_offset, delta);
    if (offset < search->from_offset) continue;
    if (offset >= search->below_offset) return PLOG_E_NOT_FOUND;
    search->offset = offset;
    search->timestamp = timestamp;
    return PLOG_E_STOPPED;
  }
  return p == end && header->records_count >= 0 ? 0 : PLOG_INVALID_RECORD;
}

/* Look into one batch. PLOG_E_STOPPED: there it is. */
static int32_t search_batch(plog_segment *s, int64_t position, const plog_batch_header *header, time_search *search) {
  uint8_t *data, *decompressed = NULL;
  int32_t rc = plog__log_read_batch(s, position, header->size_bytes, &data);
  if (rc != 0) return rc;
  const uint8_t *records = data + PLOG_BATCH_OVERHEAD;
  size_t size_bytes = header->size_bytes - PLOG_BATCH_OVERHEAD;
  if (!plog__batch_crc_ok(data, header)) {
    rc = PLOG_CORRUPT_MESSAGE;
  } else if ((header->attributes & PLOG_ATTR_CODEC_MASK) != PLOG_CODEC_NONE) {
    rc = plog__batch_decompress(data, header, SEARCH_MAX_BYTES, &decompressed, &size_bytes);
    records = decompressed;
  }
  if (rc == 0) rc = search_records(header, records, size_bytes, search);
  free(decompressed);
  free(data);
  search->epoch = header->partition_leader_epoch;
  return rc;
}

/* Does the first batch that is seen contradict the offset index, or one up to the time index's entry that entry? */
static bool contradicts(const candidate *c, const plog_batch_header *header, bool first) {
  if (first && c->position > 0 && (header->base_offset > c->from_offset || header->base_offset < c->segment->base_offset))
    return true;
  if (c->indexed_offset < header->base_offset) return false;
  bool is_entrys = plog__batch_last_offset(header) >= c->indexed_offset;
  return is_entrys ? header->max_timestamp != c->indexed_timestamp : header->max_timestamp >= c->indexed_timestamp;
}

/* Search from c->position on. PLOG_E_NOT_FOUND: none of the records matches; PLOG_E_MALFORMED: the indexes led astray. */
static int32_t search_batches(const candidate *c, time_search *search) {
  plog_scan scan;
  plog__scan_init(&scan, c->segment, c->position, c->size_bytes);
  plog_batch_header header;
  int64_t seen = -1; /* the last offset that was */
  for (bool first = true;; first = false) {
    int32_t rc = plog__scan_next(&scan, &header);
    bool astray = rc == 0 ? contradicts(c, &header, first) : rc > 0 && seen < c->indexed_offset;
    if (astray || (rc > 0 && first && c->position > 0)) return PLOG_E_MALFORMED;
    if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
    seen = plog__batch_last_offset(&header);
    if (header.base_offset >= search->below_offset && seen >= c->indexed_offset) return PLOG_E_NOT_FOUND;
    if (header.max_timestamp < search->wanted_timestamp || seen < search->from_offset) continue;
    rc = search_batch(c->segment, scan.position - header.size_bytes, &header, search);
    if (rc != 0) return rc == PLOG_E_STOPPED ? 0 : rc;
  }
}

/* Search a segment, and let go of it. */
static int32_t search_candidate(candidate *c, time_search *search) {
  int32_t rc = search_batches(c, search);
  if (rc == PLOG_E_MALFORMED) {
    plog__segment_distrust(c->segment);
    c->position = 0;
    c->indexed_offset = -1;
    rc = search_batches(c, search);
  }
  plog__segment_release(c->segment);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- searches */

/* Use segment i. The lock is held. */
static int32_t take_candidate(plog_log *log, int32_t i, candidate *out) {
  plog_segment *s = log->segments[i];
  int32_t rc = plog__segment_acquire(s);
  if (rc != 0) return rc;
  int64_t next_base = i + 1 < log->segments_count ? log->segments[i + 1]->base_offset : INT64_MAX;
  *out = (candidate){s, next_base, s->size_bytes, 0, s->base_offset, -1, -1};
  return 0;
}

/* The next segment from offset `base` on that may have a record at or after ts; start: below it records do not count. */
static int32_t next_candidate(plog_log *log, int64_t base, int64_t start, int64_t ts, candidate *out) {
  int32_t i;
  plog__log_lock(log);
  int32_t rc = find_by_time(log, plog__log_find_segment(log, base), ts, &i);
  if (rc == 0) rc = take_candidate(log, i, out);
  if (rc == 0) {
    int64_t indexed;
    plog__segment_time_hint(out->segment, ts, &out->indexed_timestamp, &indexed);
    if (out->indexed_timestamp >= 0 && indexed >= start) out->indexed_offset = indexed;
    out->from_offset = PLOG_MAX(indexed, start);
    out->position = plog__segment_hint(out->segment, out->from_offset);
  }
  plog__log_unlock(log);
  return rc;
}

int32_t plog_log_offset_for_timestamp(plog_log *log, int64_t ts, int64_t max_offset, int64_t *out_offset, int64_t *out_ts,
                                      int32_t *out_epoch) {
  int64_t start = plog__log_start(log), end = plog__log_end(log);
  time_search search = {ts, start, PLOG_MIN(max_offset, end), -1, -1, -1};
  int32_t rc = PLOG_E_NOT_FOUND;
  for (int64_t base = start; base < search.below_offset;) {
    candidate c;
    rc = next_candidate(log, base, start, ts, &c);
    if (rc == PLOG_E_AGAIN) continue;
    if (rc == 0)
      rc = search_candidate(&c, &search);
    else
      break;
    if (rc != PLOG_E_NOT_FOUND) break;
    base = c.next_base;
  }
  if (rc != 0) return rc;
  *out_offset = search.offset;
  *out_ts = search.timestamp;
  *out_epoch = search.epoch;
  return 0;
}

/* The first of the segments with the largest timestamp. PLOG_E_NOT_FOUND, PLOG_E_AGAIN: ask once more. The lock is held. */
static int32_t find_latest(plog_log *log, int32_t *out) {
  plog_segment *active = plog__log_active(log);
  int32_t rc = plog__segment_load_max(active);
  for (int32_t asked = 0; rc == 0 && log->latest_count < log->segments_count - 1; asked++)
    rc = asked < ASKED_AT_ONCE ? extend_latest(log) : PLOG_E_AGAIN;
  if (rc != 0) return rc;
  int64_t closed = log->latest_count > 0 ? log->latest[log->latest_count - 1] : -1;
  int64_t largest = PLOG_MAX(closed, active->max_timestamp);
  *out = first_noted(log, largest); /* all of the closed ones are noted: else it is the active one */
  return largest >= 0 ? 0 : PLOG_E_NOT_FOUND;
}

int32_t plog_log_max_timestamp(plog_log *log, int64_t *out_offset, int64_t *out_ts, int32_t *out_epoch) {
  time_search search = {-1, plog__log_start(log), INT64_MAX, -1, -1, -1};
  candidate c;
  int32_t rc, i;
  do {
    plog__log_lock(log);
    rc = find_latest(log, &i);
    if (rc == 0) rc = take_candidate(log, i, &c);
    if (rc == 0) {
      search.wanted_timestamp = c.segment->max_timestamp;
      c.from_offset = c.segment->max_timestamp_offset;
      c.position = plog__segment_hint(c.segment, c.from_offset);
    }
    plog__log_unlock(log);
  } while (rc == PLOG_E_AGAIN);
  if (rc != 0) return rc;
  rc = search_candidate(&c, &search);
  if (rc != 0) return rc;
  *out_offset = search.offset;
  *out_ts = search.timestamp;
  *out_epoch = search.epoch;
  return 0;
}
