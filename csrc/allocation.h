/*
 * allocation.h: blocks that a growing file is given before its bytes come.
 *
 * A file system that has to find a block for each page as it is written spends a quarter of a large write on that; asked for
 * some megabytes at once it does so in microseconds. What stays true: the size of the file is never changed, so there is
 * nothing behind its end to be taken for records; no more is allocated than an eighth of what is written (1 MB at least, from
 * a few MB on), so that many small logs take no room; a file system that will not or cannot (full, a quota, a kind without it)
 * is not asked again for this file, and the write goes on as it would have: whether there is room is for the write to say.
 *
 * Whoever ends the writing trims; after a kill the blocks stay until that segment is sealed or deleted.
 * The owner's thread alone.
 */
#ifndef PLOG_ALLOCATION_H
#define PLOG_ALLOCATION_H

#include "base.h"
#include "sys.h"

typedef struct {
  int64_t end_bytes; /* blocks are there up to here, as far as we know; at or below the file's size: none ahead */
  bool refused;
} plog_allocation;

/* What stat says of a file that was written by somebody before. */
void plog__allocation_init(plog_allocation *a, const struct stat *st);
/* The file is about to grow from size_bytes by more_bytes; it is not expected to grow beyond limit_bytes. */
void plog__allocation_grow(plog_allocation *a, plog_sys *sys, int fd, int64_t size_bytes, int64_t more_bytes,
                           int64_t limit_bytes);
/* Give back what is behind the end. -errno: it is still there */
int32_t plog__allocation_trim(plog_allocation *a, plog_sys *sys, int fd, int64_t size_bytes);

#endif
