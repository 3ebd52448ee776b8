/*
 * Making a log durable. The recovery point is what a start after a crash trusts without looking, so it moves only after
 * everything below it is on disk: records, the sealed indexes of closed segments, and the names of the files.
 * A flush runs on any thread beside the owner: it works on references and on an end taken at its beginning. Of many logs at once
 * it is one sync of their file system, which takes neither descriptors nor a wait for each. After a failed
 * sync nothing is tried again and the recovery point stays: what was to be written may be lost (the kernel forgets).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base.h"
#include "log_flush.h"
#include "log_state.h"

static int32_t sync_file(plog_sys *sys, const char *dir, int64_t base_offset, const char *suffix) {
  char path[PLOG_PATH_BYTES];
  int32_t rc = plog__segment_path(dir, base_offset, suffix, path);
  if (rc != 0) return rc;
  int fd = plog__sys_open(sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd == -ENOENT) return 0; /* set aside meanwhile, or there is none */
  if (fd < 0) return fd;
  rc = plog__sys_fdatasync(sys, fd);
  (void)plog__sys_close(sys, fd);
  return rc;
}

static int32_t sync_indexes(const plog_segment *s) {
  int32_t rc = sync_file(s->sys, s->dir, s->base_offset, ".index");
  if (rc == 0) rc = sync_file(s->sys, s->dir, s->base_offset, ".timeindex");
  if (rc == 0) rc = sync_file(s->sys, s->dir, s->base_offset, ".txnindex");
  return rc;
}

int32_t plog__log_sync_ends(plog_log *log) {
  static const char *const suffixes[] = {".index", ".timeindex", ".txnindex"};
  const plog_segment *active = plog__log_active(log);
  int32_t rc = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes) && rc == 0; i++)
    rc = sync_file(log->sys, active->dir, active->base_offset, suffixes[i]);
  if (rc == 0) rc = sync_file(log->sys, log->dir, log->snapshot_offset, ".snapshot");
  plog__log_lock(log);
  log->synced_dir_base = -1; /* the snapshot's name is new */
  plog__log_unlock(log);
  return rc;
}

/* References to the segments that hold anything from there on, and to one that ends there: it may have been closed since, and
   then its indexes were completed. Free *out. The lock is held. */
static int32_t take_segments(plog_log *log, int64_t from, plog_segment ***out, int32_t *count) {
  int32_t first = plog__log_find_segment(log, from > 0 ? from - 1 : 0);
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

int32_t plog__log_flush_begin(plog_log *log, int64_t from, plog_flush *out) {
  *out = (plog_flush){.sys = log->sys, .dir_fd = -1, .whole = from == PLOG_FROM_RECOVERY_POINT};
  if (out->whole) from = atomic_load(&log->recovery_point);
  plog__log_lock(log);
  out->end = plog__log_end(log);
  out->newest_base = plog__log_active(log)->base_offset;
  out->cuts_count = log->cuts_count + log->zeros_cut_count;
  bool names_new = out->newest_base > log->synced_dir_base;
  int32_t rc = 0;
  if (out->end > from || names_new) rc = take_segments(log, from, &out->segments, &out->segments_count);
  if (rc == 0 && names_new) {
    out->dir_fd = plog__sys_open(log->sys, log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (out->dir_fd < 0) rc = out->dir_fd;
  }
  plog__log_unlock(log);
  if (rc != 0) plog__flush_release(out);
  return rc;
}

int32_t plog__flush_run(const plog_flush *f) {
  int32_t rc = 0;
  for (int32_t i = 0; i < f->segments_count && rc == 0; i++) {
    rc = plog__sys_fdatasync(f->sys, f->segments[i]->fd);
    if (rc != 0 || !f->whole) continue;
    /* A start after a crash reads the active segment whatever the recovery point is; unless it was closed at just that
       offset: then its indexes are made anew, but what transactions it aborted is believed. */
    if (i + 1 < f->segments_count)
      rc = sync_indexes(f->segments[i]);
    else
      rc = sync_file(f->sys, f->segments[i]->dir, f->segments[i]->base_offset, ".txnindex");
  }
  if (rc == 0 && f->dir_fd >= 0) rc = plog__sys_fsync(f->sys, f->dir_fd);
  return rc;
}

/* The names of all segments up to newest_base, and everything below end, are on the disk; -1: nothing was done about that. */
static void note_durable(plog_log *log, int64_t cuts_count, int64_t newest_base, int64_t end) {
  plog__log_lock(log);
  /* after a cut, records above it are others than those that were flushed */
  if (log->cuts_count + log->zeros_cut_count == cuts_count) {
    log->synced_dir_base = PLOG_MAX(log->synced_dir_base, newest_base);
    if (end > atomic_load(&log->recovery_point)) atomic_store(&log->recovery_point, end);
  }
  plog__log_unlock(log);
}

void plog__log_flush_done(plog_log *log, const plog_flush *f) {
  note_durable(log, f->cuts_count, f->dir_fd >= 0 ? f->newest_base : -1, f->whole ? f->end : -1);
}

void plog__flush_release(plog_flush *f) {
  for (int32_t i = 0; i < f->segments_count; i++) plog__segment_release(f->segments[i]);
  free(f->segments);
  if (f->dir_fd >= 0) (void)plog__sys_close(f->sys, f->dir_fd);
  *f = (plog_flush){.dir_fd = -1};
}

int32_t plog_log_flush(plog_log *log, int64_t *out_recovery_point) {
  plog_flush flush;
  int32_t rc = plog__log_flush_begin(log, PLOG_FROM_RECOVERY_POINT, &flush);
  if (rc != 0) return rc;
  rc = plog__flush_run(&flush);
  if (rc == 0) {
    plog__log_flush_done(log, &flush);
    *out_recovery_point = atomic_load(&log->recovery_point);
  }
  plog__flush_release(&flush);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- all logs at once */

void plog_log_sync_point(plog_log *log, plog_sync_point *out) {
  plog__log_lock(log);
  *out = (plog_sync_point){plog__log_end(log), plog__log_active(log)->base_offset, log->cuts_count + log->zeros_cut_count};
  plog__log_unlock(log);
}

void plog_log_synced(plog_log *log, const plog_sync_point *durable) {
  note_durable(log, durable->cuts_count, durable->newest_base, durable->end);
}

int32_t plog_sys_syncs_all(plog_sys *sys, int32_t fd) {
  return plog__sys_syncfs_tells(sys, fd);
}

int32_t plog_sys_sync_all(plog_sys *sys, int32_t fd) {
  int32_t rc = plog__sys_syncfs(sys, fd);
  /* ext4 without a journal writes inodes after it had the disk empty its cache, XFS asks for that only with its log: a file's own
     sync does in any case */
  return rc == 0 ? plog__sys_fsync(sys, fd) : rc;
}
