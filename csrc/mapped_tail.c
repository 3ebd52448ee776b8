/*
 * mapped_tail.c: see mapped_tail.h.
 */
#include "mapped_tail.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base.h"
#include "batch.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { PAGE_BYTES = 4096, STEP_MIN_BYTES = PAGE_BYTES };

void plog__mapped_tail_unmap(plog_mapped_tail *t, plog_sys *sys) {
  if (t->window) (void)plog__sys_munmap(sys, t->window, (size_t)(t->to - t->from));
  t->window = NULL;
  t->from = t->to = 0;
}

int32_t plog__mapped_tail_end(plog_mapped_tail *t, plog_sys *sys, int fd, int64_t size_bytes) {
  plog__mapped_tail_unmap(t, sys); /* first: what is touched behind the end of a file is a SIGBUS */
  if (!plog__mapped_tail_extends(t, size_bytes)) return 0;
  int32_t rc = plog__sys_ftruncate(sys, fd, size_bytes);
  if (rc == 0) t->end_bytes = 0;
  return rc;
}

/* Zeros up to `end`. Written, not allocated: so the pages are there, large ones, and dirty, which makes mapping them cheap. */
static int32_t write_zeros(plog_mapped_tail *t, plog_sys *sys, int fd, int64_t from, int64_t end) {
  static uint8_t zeros[PLOG_MAPPED_TAIL_MAX_BYTES]; /* never written to: no memory but one page */
  int32_t rc = 0;
  while (rc == 0 && from < end) {
    size_t n = (size_t)PLOG_MIN(end - from, (int64_t)sizeof zeros);
    t->end_bytes = from + (int64_t)n; /* perhaps, also when it fails */
    rc = plog__sys_pwrite_all(sys, fd, zeros, n, from);
    from += (int64_t)n;
  }
  return rc;
}

static int32_t open_window(plog_mapped_tail *t, plog_sys *sys, int fd, int64_t position, int64_t needed) {
  plog__mapped_tail_unmap(t, sys);
  int64_t step = PLOG_MAX(t->step_bytes, STEP_MIN_BYTES);
  int64_t from = position / PAGE_BYTES * PAGE_BYTES, to = (needed + step - 1) / step * step;
  int32_t rc = write_zeros(t, sys, fd, PLOG_MAX(position, t->end_bytes), to);
  void *window = NULL;
  if (rc == 0) rc = plog__sys_mmap(sys, (size_t)(to - from), PROT_READ | PROT_WRITE, MAP_SHARED, fd, from, &window);
  if (rc != 0) return rc;
  t->window = window;
  t->from = from;
  t->to = to;
  t->step_bytes = (int32_t)PLOG_MIN(2 * step, PLOG_MAPPED_TAIL_MAX_BYTES);
  return plog__sys_madvise(sys, window, (size_t)(to - from), MADV_POPULATE_WRITE);
}

#if defined(__GNUC__) && __GNUC__ >= 11
#pragma GCC diagnostic ignored "-Wtsan" /* the fence is for other processes, of which ThreadSanitizer knows nothing */
#endif

/* The length of the first batch comes last: until then there is nothing, whatever else was stored. */
static void store(uint8_t *to, const struct iovec *pieces, int32_t count) {
  enum { LENGTH_BYTES = 4, BEHIND_LENGTH = PLOG_BATCH_AT_LENGTH + LENGTH_BYTES };
  const uint8_t *first = pieces->iov_base;
  plog_assert(pieces->iov_len >= PLOG_BATCH_OVERHEAD);
  memcpy(to, first, PLOG_BATCH_AT_LENGTH);
  memcpy(to + BEHIND_LENGTH, first + BEHIND_LENGTH, pieces->iov_len - BEHIND_LENGTH);
  uint8_t *at = to + pieces->iov_len;
  for (int32_t i = 1; i < count; i++) {
    memcpy(at, pieces[i].iov_base, pieces[i].iov_len);
    at += pieces[i].iov_len;
  }
  atomic_thread_fence(memory_order_release);
  memcpy(to + PLOG_BATCH_AT_LENGTH, first + PLOG_BATCH_AT_LENGTH, LENGTH_BYTES);
}

bool plog__mapped_tail_write(plog_mapped_tail *t, plog_sys *sys, int fd, int32_t run, const struct iovec *pieces,
                             int32_t count, int64_t position, uint64_t size_bytes) {
  if (t->refused) return false;
  if (size_bytes > PLOG_MAPPED_TAIL_SMALL_BYTES) {
    t->run = 0;
    t->step_bytes = 0;
    (void)plog__mapped_tail_end(t, sys, fd,
                                position); /* so that a reader sees by the file's size how far the write has come */
    return false;
  }
  int64_t end = position + (int64_t)size_bytes;
  if (!t->window || end > t->to) {
    if (t->run < run) {
      t->run++;
      return false;
    }
    if (open_window(t, sys, fd, position, end) != 0) {
      t->refused = true;
      (void)plog__mapped_tail_end(t, sys, fd, position); /* a full disk gave what it had; else it goes at the next cut */
      return false;
    }
  }
  plog_assert(position >= t->from && end <= t->to);
  store(t->window + (position - t->from), pieces, count);
  return true;
}
