/*
 * range_check.c: see range_check.h.
 */
#include "range_check.h"

#include "base.h"
#include "batch.h"

/* A window of the file in the scratch. */
typedef struct {
  const plog_range_check *c;
  uint8_t *scratch;
  int64_t at; /* position of its first byte */
  uint32_t bytes;
} window;

/* Let the window begin at position, and hold at least one byte. */
static int32_t move_to(window *w, int64_t position) {
  uint32_t wanted = (uint32_t)PLOG_MIN(w->c->limit_bytes - position, (int64_t)PLOG_CHECK_SCRATCH_BYTES);
  w->bytes = 0;
  int32_t rc = plog__sys_pread_all(w->c->sys, w->c->fd, w->scratch, wanted, position);
  if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc; /* the file was cut under us */
  w->at = position;
  w->bytes = wanted;
  return 0;
}

static bool holds(const window *w, int64_t position, uint32_t size_bytes) {
  return position >= w->at && position + (int64_t)size_bytes <= w->at + (int64_t)w->bytes;
}

/* The header of the batch at position. 0 | PLOG_CORRUPT_MESSAGE | -errno */
static int32_t read_header(window *w, int64_t position, plog_batch_header *out) {
  if (w->c->limit_bytes - position < PLOG_BATCH_OVERHEAD) return PLOG_CORRUPT_MESSAGE;
  int32_t rc = holds(w, position, PLOG_BATCH_OVERHEAD) ? 0 : move_to(w, position);
  if (rc != 0) return rc;
  rc = plog_batch_header_read(w->scratch + (position - w->at), PLOG_BATCH_OVERHEAD, out);
  if (rc != 0 && rc != PLOG_E_SHORT) return PLOG_CORRUPT_MESSAGE;
  return out->size_bytes >= PLOG_BATCH_OVERHEAD && out->size_bytes <= w->c->limit_bytes - position ? 0
                                                                                                   : PLOG_CORRUPT_MESSAGE;
}

/* The CRC of what lies behind it, window by window. */
static int32_t sum(window *w, int64_t position, uint32_t size_bytes, uint32_t *out) {
  int64_t at = position + PLOG_BATCH_AT_ATTRIBUTES, end = position + size_bytes;
  *out = 0;
  while (at < end) {
    int32_t rc = holds(w, at, 1) ? 0 : move_to(w, at);
    if (rc != 0) return rc;
    size_t there = (size_t)PLOG_MIN(end, w->at + (int64_t)w->bytes) - (size_t)at;
    *out = plog_crc32c(*out, w->scratch + (at - w->at), there);
    at += (int64_t)there;
  }
  return 0;
}

static bool offsets_fit(const plog_range_check *c, const plog_batch_header *header, int64_t least_offset) {
  return header->base_offset >= least_offset && header->last_offset_delta >= 0 &&
         header->base_offset < c->limit_offset - header->last_offset_delta;
}

int32_t plog__range_check_run(const plog_range_check *c, uint8_t *scratch, plog_range_result *out) {
  window w = {.c = c, .scratch = scratch};
  int64_t least_offset = c->least_offset;
  *out = (plog_range_result){.sound_to = c->from, .first_offset = -1, .last_offset = -1};
  while (out->sound_to < c->to) {
    plog_batch_header header = {0};
    uint32_t crc = 0;
    int32_t rc = read_header(&w, out->sound_to, &header);
    bool readable = rc == 0;
    if (rc == 0 && !offsets_fit(c, &header, least_offset)) rc = PLOG_CORRUPT_MESSAGE;
    if (rc == 0 && c->compare) rc = sum(&w, out->sound_to, header.size_bytes, &crc);
    if (rc < 0) return rc;
    if (rc == PLOG_CORRUPT_MESSAGE || (c->compare && crc != header.crc)) {
      out->damaged = true;
      if (!readable) return 0;
      out->damaged_bytes = header.size_bytes;
      out->first_offset = header.base_offset;
      out->last_offset = plog__batch_last_offset(&header);
      return 0;
    }
    out->sound_to += header.size_bytes;
    least_offset = plog__batch_last_offset(&header) + 1;
  }
  return 0;
}
