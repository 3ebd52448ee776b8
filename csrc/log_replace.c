/*
 * Putting a compacted segment in the place of the segments it was made of, under readers, and so that a crash between any two
 * system calls leaves either the old or the new.
 *
 *   .cleaned → .swap      the new files are whole and on disk; with the last of them renamed the new segment counts, and an
 *                         opening completes what follows. While any is still .cleaned, all of it is dropped.
 *   old → .deleted        readers that hold the old segments go on with them. Of those that no new segment has the name of it
 *                         is only the .log: what goes with it can go later (plog_cleaning_sync), for the owner has no time
 *   .swap → final names   the .log first: an index that stays behind is made anew when it is needed
 *
 * On an error before the new one counts nothing has happened; after it, everything is put back: first the old names, then the
 * new segment ceases to count. So at any moment one of them is what an opening takes, also where the way back ends half way.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "clean.h"
#include "log_state.h"

enum { FILE_LOG, FILE_INDEX, FILE_TIME_INDEX, FILE_ABORTED, NEW_FILES, FILE_SNAPSHOT = NEW_FILES };
static const char *const suffixes[NEW_FILES] = {".log", ".index", ".timeindex", ".txnindex"};

static int32_t rename_file(plog_log *log, int64_t base_offset, int32_t file, const char *from_end, const char *to_end) {
  char from_suffix[32], to_suffix[32], from[PLOG_PATH_BYTES], to[PLOG_PATH_BYTES];
  (void)snprintf(from_suffix, sizeof from_suffix, "%s%s", suffixes[file], from_end);
  (void)snprintf(to_suffix, sizeof to_suffix, "%s%s", suffixes[file], to_end);
  int32_t rc = plog__segment_path(log->dir, base_offset, from_suffix, from);
  if (rc == 0) rc = plog__segment_path(log->dir, base_offset, to_suffix, to);
  return rc == 0 ? plog__sys_rename(log->sys, from, to) : rc;
}

static int32_t remove_file(plog_log *log, int64_t base_offset, int32_t file, const char *end) {
  char suffix[32], path[PLOG_PATH_BYTES];
  (void)snprintf(suffix, sizeof suffix, "%s%s", suffixes[file], end);
  int32_t rc = plog__segment_path(log->dir, base_offset, suffix, path);
  return rc == 0 ? plog__sys_unlink(log->sys, path) : rc;
}

static int32_t new_files(const plog_replacement *r) {
  return r->has_aborted ? NEW_FILES : FILE_ABORTED;
}

/* ---------------------------------------------------------------------------------------------- the steps */

/* The index in the log of the first segment that is to go, when all of them are as they were copied, and closed. */
static int32_t find_group(const plog_log *log, const plog_replacement *r, int32_t *out) {
  if (log->cuts_count != r->cuts_count) return PLOG_E_STOPPED;
  int32_t first = plog__log_find_segment(log, r->base_offsets[0]);
  if (first + r->count >= log->segments_count) return PLOG_E_STOPPED;
  for (int32_t i = 0; i < r->count; i++) {
    const plog_segment *s = log->segments[first + i];
    if (s->base_offset != r->base_offsets[i] || s->size_bytes != r->segment_bytes[i]) return PLOG_E_STOPPED;
  }
  *out = first;
  return 0;
}

/* The new files go from .cleaned to .swap; on an error none of them counts. -EIO when that cannot be seen to: once the pass has
   removed what is still .cleaned, an opening would complete what was given up. */
static int32_t offer(plog_log *log, const plog_replacement *r) {
  for (int32_t file = 0; file < new_files(r); file++) {
    int32_t rc = rename_file(log, r->base_offsets[0], file, ".cleaned", ".swap");
    if (rc == 0) continue;
    while (file-- > 0)
      if (remove_file(log, r->base_offsets[0], file, ".swap") != 0) rc = -EIO; /* the rest is the pass's to remove */
    return rc;
  }
  return 0;
}

/* How many kinds of files of an old segment are set aside here. The snapshot of the first one is the new one's too. */
static int32_t old_files(int32_t i) {
  return i == 0 ? FILE_SNAPSHOT : FILE_LOG + 1;
}

/* *moved: a bit for each kind of file that was. Others of that name may lie there from an earlier pass, not removed yet. */
static int32_t set_aside(plog_log *log, const plog_replacement *r, int32_t i, uint32_t *moved) {
  *moved = 0;
  for (int32_t file = FILE_LOG; file < old_files(i); file++) {
    int32_t rc = rename_file(log, r->base_offsets[i], file, "", ".deleted");
    if (rc == 0) *moved |= 1u << file;
    if (rc != 0 && (rc != -ENOENT || file == FILE_LOG)) return rc;
  }
  return 0;
}

/* The new segment does not count any more. A .log.swap that loses its indexes first can still be completed, and is whole. */
static int32_t withdraw(plog_log *log, const plog_replacement *r) {
  int64_t base = r->base_offsets[0];
  if (rename_file(log, base, FILE_LOG, ".swap", ".cleaned") == 0) return 0;
  for (int32_t file = new_files(r) - 1; file >= FILE_LOG; file--) {
    int32_t rc = remove_file(log, base, file, ".swap");
    if (rc != 0 && rc != -ENOENT) return rc;
  }
  return 0;
}

/*
 * Give up with `cause` after the new segment counted: of the first old segment the files in `moved` are set aside, and the .log
 * of those behind it up to `count`. -EIO when that fails too: then the next opening will complete what this process does not
 * know of, and nobody may write here before.
 */
static int32_t take_back(plog_log *log, const plog_replacement *r, uint32_t moved, int32_t count, int32_t cause) {
  for (int32_t i = 0; i < count; i++)
    for (int32_t file = FILE_LOG; file < old_files(i); file++) {
      if (i == 0 && !(moved & 1u << file)) continue;
      int32_t rc = rename_file(log, r->base_offsets[i], file, ".deleted", "");
      if (rc != 0 && file == FILE_LOG) return -EIO;
    }
  if (withdraw(log, r) != 0) return -EIO;
  for (int32_t file = FILE_INDEX; file < new_files(r); file++) (void)remove_file(log, r->base_offsets[0], file, ".swap");
  return cause;
}

static int32_t put_in_place(plog_log *log, const plog_replacement *r) {
  uint32_t moved, its_log;
  int32_t rc = set_aside(log, r, 0, &moved), count = 1;
  while (rc == 0 && count < r->count) {
    rc = set_aside(log, r, count, &its_log);
    if (rc == 0) count++;
  }
  if (rc == 0) rc = rename_file(log, r->base_offsets[0], FILE_LOG, ".swap", "");
  if (rc != 0) return take_back(log, r, moved, count, rc);
  for (int32_t file = FILE_INDEX; file < new_files(r); file++)
    if (rename_file(log, r->base_offsets[0], file, ".swap", "") != 0)
      (void)remove_file(log, r->base_offsets[0], file, ".swap");
  return 0;
}

/* The lock is held: a segment whose files are shut is opened by name, which must not lead to the files of another. */
static void exchange(plog_log *log, int32_t first, int32_t count, plog_segment *fresh) {
  for (int32_t i = 0; i < count; i++) plog__segment_drop(log->segments[first + i]);
  log->segments[first] = fresh;
  memmove(log->segments + first + 1, log->segments + first + count,
          (size_t)(log->segments_count - first - count) * sizeof(plog_segment *));
  log->segments_count -= count - 1;
  plog__log_segments_changed(log, first);
}

int32_t plog_log_replace(plog_log *log, plog_cleaning *cleaning) {
  plog_replacement r;
  int32_t first;
  plog_segment *fresh;
  int32_t rc = plog__cleaning_replacement(cleaning, &r);
  if (rc == 0 && r.log != log) rc = -EINVAL;
  if (rc == 0) rc = find_group(log, &r, &first);
  /* made while the old file has the name, so that nothing can be missing once the new one has it */
  if (rc == 0)
    rc = plog__segment_open(log->sys, log->dir, r.base_offsets[0], log->segments[first + r.count]->base_offset,
                            log->config.index_interval_bytes, 0, &fresh);
  if (rc != 0) return rc;
  fresh->size_bytes = r.size_bytes;
  fresh->max_timestamp = r.max_timestamp;
  fresh->max_timestamp_offset = r.max_timestamp_offset;
  fresh->max_known = true;
  rc = offer(log, &r);
  if (rc == 0) {
    plog__log_lock(log);
    rc = put_in_place(log, &r);
    if (rc == 0) exchange(log, first, r.count, fresh);
    plog__log_unlock(log);
  }
  if (rc != 0) {
    plog__segment_drop(fresh);
    return rc;
  }
  plog__cleaning_replaced(cleaning);
  return 0;
}
