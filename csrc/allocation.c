/*
 * allocation.c: see allocation.h.
 */
#include "allocation.h"

#include <fcntl.h>

#define MEGABYTE (1024 * 1024)
#define FROM_BYTES (4 * MEGABYTE) /* smaller files are left alone */
#define STEP_BYTES_MAX (8 * MEGABYTE)
#define PART 8 /* of what is written, that much may be ahead */
#define STAT_BLOCK_BYTES 512
#define SLACK_BYTES (16 * 1024) /* the rest of the last block, and blocks that list blocks */

void plog__allocation_init(plog_allocation *a, const struct stat *st) {
  a->end_bytes = (int64_t)st->st_blocks * STAT_BLOCK_BYTES;
  if (a->end_bytes <= st->st_size + SLACK_BYTES) a->end_bytes = 0;
  a->refused = false;
}

void plog__allocation_grow(plog_allocation *a, plog_sys *sys, int fd, int64_t size_bytes, int64_t more_bytes,
                           int64_t limit_bytes) {
  int64_t needed = size_bytes + more_bytes;
  if (needed <= a->end_bytes || a->refused || needed < FROM_BYTES) return;
  int64_t step = PLOG_MAX(MEGABYTE, PLOG_MIN(size_bytes / PART, STEP_BYTES_MAX)) / MEGABYTE * MEGABYTE;
  int64_t from = PLOG_MAX(a->end_bytes, size_bytes), end = PLOG_MIN((needed / MEGABYTE + 1) * MEGABYTE + step, limit_bytes);
  if (end < needed) return; /* a batch that is larger than segments are: they end with it */
  a->refused = plog__sys_fallocate(sys, fd, FALLOC_FL_KEEP_SIZE, from, end - from) != 0;
  a->end_bytes = end;
  if (a->refused)
    (void)plog__allocation_trim(a, sys, fd, size_bytes); /* a full disk gave what it had: others need it too */
}

int32_t plog__allocation_trim(plog_allocation *a, plog_sys *sys, int fd, int64_t size_bytes) {
  if (a->end_bytes <= size_bytes) return 0;
  int32_t rc = plog__sys_ftruncate(sys, fd, size_bytes);
  if (rc == 0) a->end_bytes = 0;
  return rc;
}
