/*
 * range_check.h: compare the CRCs of the batches in a range of a .log file, reading it piece by piece, however large they are.
 *
 * What the CRC does not cover is held against what must be so: batches follow one another without overlap, and their offsets go
 * up and stay in the segment. Any thread; the file is open for as long as it takes.
 */
#ifndef PLOG_RANGE_CHECK_H
#define PLOG_RANGE_CHECK_H

#include "sys.h"

#define PLOG_CHECK_SCRATCH_BYTES (128u * 1024u)

typedef struct {
  plog_sys *sys;
  int fd;
  int64_t from;        /* where a batch begins */
  int64_t to;          /* batches that begin before it are checked */
  int64_t limit_bytes; /* the end of the file, as far as it is written: where a batch ends at the latest */
  int64_t least_offset;
  int64_t limit_offset; /* of the segment: its records are below */
  bool compare;         /* false: only walk to `to` */
} plog_range_check;

typedef struct {
  int64_t sound_to;       /* the end of the last batch that is sound, all before it being so; `from` at first */
  bool damaged;           /* what begins at sound_to is not */
  uint32_t damaged_bytes; /* what it says of its size, when that is possible; else 0 */
  int64_t first_offset;   /* what it says of itself; -1 when that is impossible */
  int64_t last_offset;
} plog_range_result;

/* scratch: PLOG_CHECK_SCRATCH_BYTES. 0 | -errno: it could not be read; *out is how far it came */
int32_t plog__range_check_run(const plog_range_check *c, uint8_t *scratch, plog_range_result *out);

#endif
