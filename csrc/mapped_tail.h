/*
 * mapped_tail.h: the end of a growing .log file, mapped, so that small batches reach the page cache without a system call.
 *
 * A window of the file behind its last batch is written with zeros, in one call, and mapped with its pages present and writable;
 * a batch is then copied there. What stays true:
 *   - the length in a batch's header is stored after everything else of it: a batch whose length is zero is not written yet,
 *     for readers in other processes, for a start after a kill, and for Kafka, which ends such a log at the same place;
 *   - the file is longer than its batches by zeros, at most PLOG_MAPPED_TAIL_MAX_BYTES (and a batch) of them, while it is
 *     written to. They are cut off (plog__mapped_tail_end) before anything follows or trusts its end: a roll, a cut, a clean stop;
 *   - blocks are reserved by the write of zeros: a full disk is an error there, and then the window is given up, and this
 *     file is written as any other;
 *   - nothing is mapped that is not in use: some small writes in a row make a window, a small one first.
 *
 * What it costs: pages that the kernel cleaned in between are made writable again as they are touched, and a disk that fails
 * just then is a SIGBUS instead of an error. So it is for those who ask for it. The owner's thread alone.
 */
#ifndef PLOG_MAPPED_TAIL_H
#define PLOG_MAPPED_TAIL_H

#include <stdbool.h>
#include <sys/uio.h>

#include "sys.h"

enum {
  PLOG_MAPPED_TAIL_MAX_BYTES = 128 * 1024,
  PLOG_MAPPED_TAIL_SMALL_BYTES = 32 * 1024, /* larger writes gain nothing */
  PLOG_MAPPED_TAIL_NEVER = -1,
};

/* All zeros: nothing is mapped. */
typedef struct {
  uint8_t *window;   /* NULL: none */
  int64_t from, to;  /* where in the file it lies */
  int64_t end_bytes; /* the file may be so long; at or below its batches' end: it is as long as they are */
  int32_t step_bytes;
  int32_t run;
  bool refused; /* by the file system, or a full disk: not asked again for this file */
} plog_mapped_tail;

/* Put the pieces, size_bytes, whose first begins with the header of a batch, at position: the end of the file's batches. False:
   nothing was written, and the caller is to do it. run: how many small writes in a row are made as others are. */
bool plog__mapped_tail_write(plog_mapped_tail *t, plog_sys *sys, int fd, int32_t run, const struct iovec *pieces,
                             int32_t count, int64_t position, uint64_t size_bytes);
/* Are there zeros behind size_bytes, the end of the batches? */
static inline bool plog__mapped_tail_extends(const plog_mapped_tail *t, int64_t size_bytes) {
  return t->end_bytes > size_bytes;
}
/* Cut them off, and map nothing. -errno: they are still there */
int32_t plog__mapped_tail_end(plog_mapped_tail *t, plog_sys *sys, int fd, int64_t size_bytes);
/* Map nothing any more; the file stays as it is. */
void plog__mapped_tail_unmap(plog_mapped_tail *t, plog_sys *sys);

#endif
