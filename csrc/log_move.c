#include "log_move.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log_state.h"

#define READ_BYTES_MIN 65536

const char *plog__log_dir(const plog_log *log) {
  return log->dir;
}

plog_sys *plog__log_sys(const plog_log *log) {
  return log->sys;
}

static int32_t latest_epoch(plog_log *log) {
  plog_log_info info;
  plog_log_info_read(log, &info);
  return info.latest_epoch;
}

/*
 * Where the copy's log parts from the other one, as far as its last epoch tells: a follower's log is cut, and goes on in another
 * epoch, perhaps above where it was. A leader writes an epoch once, so the two are the same up to where the largest epoch that both
 * have ends in the one where it ends first.
 */
static int64_t parting_offset(plog_log *from, plog_log *to) {
  int64_t end = PLOG_MIN(plog__log_end(to), plog__log_end(from));
  int32_t epoch = PLOG_MIN(latest_epoch(to), latest_epoch(from));
  if (epoch < 0) return end;
  int32_t there, here;
  int64_t there_end, here_end;
  plog__log_end_of_epoch(from, -1, epoch, &there, &there_end);
  if (there < 0) return end;
  plog__log_end_of_epoch(to, -1, there, &here, &here_end);
  if (here == there) end = PLOG_MIN(end, there_end);
  return here < 0 ? end : PLOG_MIN(end, here_end);
}

/* Bring the copy's end into what the other log holds: that may have been cut, or have lost its beginning. */
static int32_t meet(plog_log *from, plog_log *to, int64_t now_ms) {
  int32_t rc = 0;
  int64_t offset;
  while (rc == 0 && (offset = parting_offset(from, to)) < plog__log_end(to)) {
    if (offset <= plog__log_start(to)) return plog_log_truncate_fully(to, plog__log_start(from), now_ms);
    rc = plog_log_truncate(to, offset, now_ms);
  }
  if (rc == 0 && plog__log_end(to) < plog__log_start(from)) rc = plog_log_truncate_fully(to, plog__log_start(from), now_ms);
  return rc;
}

/* Whole batches from the copy's end on. Free *out. */
static int32_t read_next(plog_log *from, int64_t offset, size_t most_bytes, uint8_t **out, size_t *out_bytes) {
  size_t capacity = PLOG_MAX(most_bytes, (size_t)READ_BYTES_MIN);
  for (;;) {
    uint8_t *data = malloc(capacity);
    if (!data) return -ENOMEM;
    *out_bytes = 0;
    int32_t rc = plog_log_read(from, offset, INT64_MAX, 0, data, capacity, out_bytes);
    if (rc == 0) {
      *out = data;
      return 0;
    }
    free(data);
    if (rc != PLOG_E_BUFFER_TOO_SMALL || *out_bytes <= capacity) return rc;
    capacity = *out_bytes;
  }
}

static int32_t take_over(plog_log *to, const uint8_t *data, size_t size_bytes, int64_t now_ms) {
  plog_batch_header first;
  int32_t rc = plog_batch_header_read(data, size_bytes, &first);
  if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_CORRUPT_MESSAGE : rc;
  /* records may be deleted up to the middle of a batch: the copy begins with that batch all the same */
  int64_t end = plog__log_end(to), last;
  if (first.base_offset < end && plog__log_start(to) == end) rc = plog_log_truncate_fully(to, first.base_offset, now_ms);
  return rc == 0 ? plog_log_append(to, data, size_bytes, now_ms, &last) : rc;
}

int32_t plog_log_copy(plog_log *from, plog_log *to, uint32_t most_bytes, int64_t now_ms, int64_t *out_bytes) {
  uint8_t *data = NULL;
  size_t size_bytes = 0;
  *out_bytes = 0;
  int32_t rc = meet(from, to, now_ms);
  if (rc == 0) {
    rc = read_next(from, plog__log_end(to), most_bytes, &data, &size_bytes);
    if (rc != 0) *out_bytes = -1;
  }
  if (rc == 0 && size_bytes > 0) rc = take_over(to, data, size_bytes, now_ms);
  free(data);
  int64_t start = plog__log_start(from);
  if (rc == 0 && start > plog__log_start(to) && start <= plog__log_end(to)) rc = plog_log_set_start(to, start);
  if (rc == 0) *out_bytes = (int64_t)size_bytes;
  return rc;
}

int32_t plog__log_catch_up(plog_log *from, plog_log *to, uint32_t most_bytes, int64_t now_ms) {
  for (int64_t left = most_bytes; left > 0;) {
    int64_t copied;
    int32_t rc = plog_log_copy(from, to, (uint32_t)left, now_ms, &copied);
    if (rc < 0 && copied < 0) return PLOG_KAFKA_STORAGE_ERROR; /* it is not the copy's disk that failed */
    if (rc != 0) return rc;
    if (plog__log_end(to) == plog__log_end(from)) return 0;
    if (copied == 0) return PLOG_E_MALFORMED; /* nothing to read below the end: there is no copying that */
    left -= copied;
  }
  return PLOG_E_AGAIN;
}

int32_t plog_log_rename(plog_log *log, const char *dir) {
  size_t dir_bytes = strlen(dir) + 1;
  if (dir_bytes > strlen(log->dir) + 1) return -EINVAL; /* the new name goes where the old one was */
  plog__log_lock(log); /* before the name changes: a reader may be about to open a segment by the old one */
  int32_t rc = plog__sys_rename(log->sys, log->dir, dir);
  if (rc == 0) {
    memcpy(log->dir, dir, dir_bytes);
    for (int32_t i = 0; i < log->segments_count; i++) memcpy(log->segments[i]->dir, dir, dir_bytes);
  }
  plog__log_unlock(log);
  return rc;
}
