/*
 * segment.h: one .log file of a partition with its offset index and time index.
 */
#ifndef PLOG_SEGMENT_H
#define PLOG_SEGMENT_H

#include "plog.h"
#include "sys.h"

typedef struct plog_segment plog_segment; /* reference counted; files stay open while referenced, deleted or not */

/* A range of a segment's .log file. */
typedef struct {
  plog_segment *segment; /* a reference, NULL when size_bytes is 0 */
  int fd;                /* of the .log file, open for reading while the reference lives */
  int64_t position;
  uint32_t size_bytes;
  int64_t first_offset; /* base offset of the first batch in it, -1 when empty */
} plog_slice;

void plog__slice_release(plog_slice *slice); /* any thread */

#endif
