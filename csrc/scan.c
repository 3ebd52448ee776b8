/*
 * scan.c: the headers of many batches in one crossing, for whoever looks at logs as a whole: verification, statistics.
 *
 * What stays true: nothing is said of a batch that is not wholly in the bytes; what is no batch stops the scan and is told,
 * a wrong CRC is noted and passed over, for the batch behind it can be found by its length.
 */
#include "base.h"
#include "batch.h"
#include "plog.h"

int32_t plog_batches_scan(const uint8_t *data, size_t size_bytes, int32_t check, plog_scanned_batch *out, int32_t capacity,
                          int32_t *count, size_t *used_bytes, uint32_t *needed_bytes) {
  size_t position = 0;
  int32_t n = 0, rc = 0;
  *needed_bytes = 0;
  while (n < capacity && position < size_bytes) {
    plog_scanned_batch *batch = &out[n];
    rc = plog_batch_header_read(data + position, size_bytes - position, &batch->header);
    if (rc != 0) {
      *needed_bytes = batch->header.size_bytes;
      break;
    }
    batch->position = (int64_t)position;
    batch->crc_ok = check ? plog__batch_crc_ok(data + position, &batch->header) : 1;
    position += batch->header.size_bytes;
    n++;
  }
  plog_assert(position <= size_bytes);
  *count = n;
  *used_bytes = position;
  return rc;
}
