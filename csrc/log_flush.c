/*
 * Making a log durable. The recovery point is what a start after a crash trusts without looking, so it moves only after
 * everything below it is on disk: records, the sealed indexes of closed segments, and the names of the files.
 * A flush runs on any thread beside the owner: it works on references and on an end taken at its beginning. After a failed
 * sync nothing is tried again and the recovery point stays: what was to be written may be lost (the kernel forgets).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base.h"
#include "log_state.h"

static int32_t sync_file(plog_log *log, const char *dir, int64_t base_offset, const char *suffix) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(dir, base_offset, suffix, path);
  if (rc != 0) return rc;
  int fd = plog__sys_open(log->sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd == -ENOENT) return 0; /* set aside meanwhile, or there is none */
  if (fd < 0) return fd;
  rc = plog__sys_fdatasync(log->sys, fd);
  (void)plog__sys_close(log->sys, fd);
  return rc;
}

static int32_t sync_directory(plog_log *log) {
  int fd = plog__sys_open(log->sys, log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int32_t rc = plog__sys_fsync(log->sys, fd);
  (void)plog__sys_close(log->sys, fd);
  return rc;
}

static int32_t sync_segment(plog_log *log, plog_segment *s, bool closed) {
  int32_t rc = plog__sys_fdatasync(log->sys, s->fd);
  if (!closed) return rc; /* a start after a crash reads the active segment whatever the recovery point is */
  if (rc == 0) rc = sync_file(log, s->dir, s->base_offset, ".index");
  if (rc == 0) rc = sync_file(log, s->dir, s->base_offset, ".timeindex");
  if (rc == 0) rc = sync_file(log, s->dir, s->base_offset, ".txnindex");
  return rc;
}

int32_t plog__log_sync_ends(plog_log *log) {
  static const char *const suffixes[] = {".index", ".timeindex", ".txnindex"};
  const plog_segment *active = plog__log_active(log);
  int32_t rc = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes) && rc == 0; i++)
    rc = sync_file(log, active->dir, active->base_offset, suffixes[i]);
  if (rc == 0) rc = sync_file(log, log->dir, log->snapshot_offset, ".snapshot");
  plog__log_lock(log);
  log->synced_dir_base = -1; /* the snapshot's name is new */
  plog__log_unlock(log);
  return rc;
}

/* References to the segments that hold anything from the recovery point on. Free *out. The lock is held. */
static int32_t take_segments(plog_log *log, int64_t from, plog_segment ***out, int32_t *count) {
  int32_t first = plog__log_find_segment(log, from);
  plog_segment **segments = calloc((size_t)(log->segments_count - first), sizeof(plog_segment *));
  if (!segments) return -ENOMEM;
  int32_t n = 0, rc = 0;
  for (int32_t i = first; i < log->segments_count && rc == 0; i++) {
    rc = plog__segment_acquire(log->segments[i]);
    if (rc == 0) segments[n++] = log->segments[i];
  }
  if (rc != 0) {
    for (int32_t i = 0; i < n; i++) plog__segment_release(segments[i]);
    free(segments);
    return rc;
  }
  *out = segments;
  *count = n;
  return 0;
}

int32_t plog_log_flush(plog_log *log, int64_t *out_recovery_point) {
  plog_segment **segments = NULL;
  int32_t count = 0;
  plog__log_lock(log);
  int64_t end = plog__log_end(log), point = atomic_load(&log->recovery_point), cuts = log->cuts_count;
  int64_t newest = plog__log_active(log)->base_offset;
  bool names_new = newest > log->synced_dir_base;
  int32_t rc = end > point || names_new ? take_segments(log, point, &segments, &count) : 0;
  plog__log_unlock(log);

  for (int32_t i = 0; i < count && rc == 0; i++) rc = sync_segment(log, segments[i], i + 1 < count);
  for (int32_t i = 0; i < count; i++) plog__segment_release(segments[i]);
  free(segments);
  if (rc == 0 && names_new) rc = sync_directory(log);
  if (rc != 0) return rc;

  plog__log_lock(log);
  if (names_new) log->synced_dir_base = PLOG_MAX(log->synced_dir_base, newest);
  /* after a cut, records above it are others than those that were flushed */
  if (log->cuts_count == cuts && end > atomic_load(&log->recovery_point)) atomic_store(&log->recovery_point, end);
  *out_recovery_point = atomic_load(&log->recovery_point);
  plog__log_unlock(log);
  return 0;
}
