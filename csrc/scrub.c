/*
 * scrub.c: read a closed segment slowly, compare every CRC, and leave the page cache as it was.
 *
 * What stays true: only pages that were not in memory before are dropped after, so that a scrub takes nothing from those who
 * read; it has a descriptor of its own, which neither reads ahead nor pushes out the open files of others; who serves the
 * segment hears of damage by `doubted`, and compares anew what it held to be sound. Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "log_state.h"
#include "range_check.h"

#define PAGE_BYTES 4096
#define BLOCK_PAGES 32
/* Pages that one step may touch: its range, the rest of the batch at its end, and what is read with that. */
#define PAGES_MAX ((PLOG_SCRUB_STEP_BYTES + 2 * 1024 * 1024) / PAGE_BYTES)

/* Which pages from `first` on were in memory before. */
typedef struct {
  plog_sys *sys;
  int fd;
  int64_t first; /* number of a page */
  int64_t count;
  bool resident[PAGES_MAX];
} cache_view;

static bool is_resident(const cache_view *v, int64_t page) {
  int64_t n = plog__sys_cachestat(v->sys, v->fd, page * PAGE_BYTES, PAGE_BYTES);
  if (n >= 0) return n > 0;
  uint8_t byte;
  struct iovec one = {&byte, 1};
  n = plog__sys_preadv2(v->sys, v->fd, &one, 1, page * PAGE_BYTES, RWF_NOWAIT);
  return n != -EAGAIN; /* what cannot be told stays */
}

static void look(cache_view *v, int64_t from, int64_t to) {
  v->first = from / PAGE_BYTES;
  v->count = PLOG_MIN((to + PAGE_BYTES - 1) / PAGE_BYTES - v->first, PAGES_MAX);
  for (int64_t i = 0; i < v->count; i += BLOCK_PAGES) {
    int64_t pages = PLOG_MIN(BLOCK_PAGES, v->count - i);
    int64_t there = plog__sys_cachestat(v->sys, v->fd, (v->first + i) * PAGE_BYTES, pages * PAGE_BYTES);
    for (int64_t k = i; k < i + pages; k++)
      v->resident[k] = there == 0 ? false : there == pages || is_resident(v, v->first + k);
  }
}

/* Drop the pages that came in since. */
static void restore(const cache_view *v) {
  for (int64_t i = 0, end; i < v->count; i = end + 1) {
    for (end = i; end < v->count && !v->resident[end];) end++;
    if (end > i)
      (void)plog__sys_fadvise(v->sys, v->fd, (v->first + i) * PAGE_BYTES, (end - i) * PAGE_BYTES, POSIX_FADV_DONTNEED);
  }
}

/* The closed segment that begins there, NULL when there is none. The lock is held. */
static plog_segment *find_closed(const plog_log *log, int64_t base_offset) {
  int32_t i = plog__log_find_segment(log, base_offset);
  plog_segment *s = log->segments[i];
  return s->base_offset == base_offset && i + 1 < log->segments_count ? s : NULL;
}

/* Open the segment by its name; what is to be checked of it goes to *check. */
static int32_t open_segment(plog_log *log, int64_t base_offset, plog_range_check *check) {
  char path[PLOG_PATH_BYTES];
  plog__log_lock(log);
  const plog_segment *s = find_closed(log, base_offset);
  int32_t rc = s ? plog__segment_path(s->dir, base_offset, ".log", path) : PLOG_E_NOT_FOUND;
  if (rc == 0) {
    check->fd = plog__sys_open(log->sys, path, O_RDONLY | O_CLOEXEC, 0);
    rc = check->fd < 0 ? check->fd : 0;
    check->limit_bytes = s->size_bytes;
    check->limit_offset = s->next_offset > base_offset ? s->next_offset : INT64_MAX;
  }
  plog__log_unlock(log);
  return rc;
}

/* Nothing says where the batch behind a damaged one begins, but an index: the first that it knows behind position. */
static int64_t find_behind(plog_segment *s, int64_t position, int64_t limit_bytes) {
  int64_t low = s->base_offset, high = s->base_offset + INT32_MAX; /* the hint of low is at or before position */
  if (plog__segment_hint(s, high) <= position) return limit_bytes;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (plog__segment_hint(s, middle) <= position)
      low = middle;
    else
      high = middle;
  }
  return plog__segment_hint(s, high);
}

/* Tell those who serve it, and find where to go on. */
static int64_t pass_damage(plog_log *log, int64_t base_offset, const plog_range_check *check, const plog_range_result *r) {
  int64_t next = r->sound_to + r->damaged_bytes;
  plog__log_lock(log);
  plog_segment *s = find_closed(log, base_offset);
  if (s) atomic_store(&s->doubted, true);
  if (r->damaged_bytes == 0) {
    next = check->limit_bytes;
    if (s && plog__segment_acquire(s) == 0) {
      next = find_behind(s, r->sound_to, check->limit_bytes);
      plog__segment_release(s);
    }
  }
  plog__log_unlock(log);
  return next;
}

int32_t plog_log_scrub(plog_log *log, int64_t base_offset, int64_t position, int64_t most_bytes, plog_scrub_result *out) {
  plog_range_check check = {.sys = log->sys, .fd = -1, .from = position, .least_offset = base_offset, .compare = true};
  if (position < 0 || most_bytes < 1 || most_bytes > PLOG_SCRUB_STEP_BYTES) return -EINVAL;
  uint8_t *scratch = plog__pages_alloc(PLOG_CHECK_SCRATCH_BYTES);
  cache_view *view = malloc(sizeof *view);
  int32_t rc = scratch && view ? open_segment(log, base_offset, &check) : -ENOMEM;
  plog_range_result r = {.sound_to = position};
  if (rc == 0) {
    check.to = PLOG_MIN(position + most_bytes, check.limit_bytes);
    view->sys = log->sys;
    view->fd = check.fd;
    (void)plog__sys_fadvise(log->sys, check.fd, 0, 0, POSIX_FADV_RANDOM);
    look(view, position, PLOG_MIN(check.to + 2 * 1024 * 1024, check.limit_bytes));
    rc = plog__range_check_run(&check, scratch, &r);
    restore(view);
    (void)plog__sys_close(log->sys, check.fd);
  }
  free(view);
  free(scratch);
  if (rc != 0) return rc;
  *out = (plog_scrub_result){.next_position = r.damaged ? pass_damage(log, base_offset, &check, &r) : r.sound_to,
                             .size_bytes = check.limit_bytes,
                             .damaged = r.damaged,
                             .damaged_position = r.damaged ? r.sound_to : -1,
                             .damaged_bytes = r.damaged_bytes,
                             .first_offset = r.first_offset,
                             .last_offset = r.last_offset};
  return 0;
}
