/* fuzz_columns.c: whatever bytes a .log file holds, columns of it stay inside them, and agree with themselves. */
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "batch.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void check_column(const plog_bytes_column *column, int64_t count) {
  plog_assert(column->ends[0] == 0);
  for (int64_t i = 0; i < count; i++) plog_assert(column->ends[i] <= column->ends[i + 1]);
  plog_assert(column->ends[count] == column->size_bytes);
  uint32_t sum = 0; /* touch every byte */
  for (int64_t i = 0; i < column->size_bytes; i++) sum += column->data[i];
  plog_assert(sum != 0xffffffffu);
}

static void decode_once(const uint8_t *data, size_t size_bytes, const plog_columns_query *query) {
  plog_columns *c = plog_columns_open();
  plog_assert(c != NULL);
  plog_columns_view view;
  if (plog_columns_decode(c, data, size_bytes, query, &view) == 0) {
    plog_assert(view.used_bytes <= size_bytes);
    plog_assert(view.stopped != 0 || view.used_bytes == size_bytes);
    for (int64_t i = 0; i < view.count; i++)
      plog_assert(view.offsets[i] >= query->from_offset && view.offsets[i] < query->max_offset);
    check_column(&view.keys, view.count);
    check_column(&view.values, view.count);
    check_column(&view.headers, view.count);
  }
  plog_columns_close(c);
}

/* The first two bytes are the question; the CRC of the first batch is put right, or nothing would get past it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 2) return 0;
  const int64_t aborted[] = {data[1], 0, data[0]};
  const plog_columns_query query = {
      0,       data[0] & 1 ? 1 << 20 : INT64_MAX, data[1] & 3,        data[0] & 2 ? data[1] : INT64_MAX,
      data[0], data[0] & 4 ? aborted : NULL,      data[0] & 4 ? 1 : 0};
  size_bytes -= 2;
  uint8_t *copy = malloc(size_bytes ? size_bytes : 1);
  plog_assert(copy != NULL);
  memcpy(copy, data + 2, size_bytes);
  decode_once(copy, size_bytes, &query);
  plog_batch_header header;
  if (plog_batch_header_read(copy, size_bytes, &header) == 0) {
    plog_put_u32(copy + PLOG_BATCH_AT_CRC,
                 plog_crc32c(0, copy + PLOG_BATCH_AT_ATTRIBUTES, header.size_bytes - PLOG_BATCH_AT_ATTRIBUTES));
    decode_once(copy, size_bytes, &query);
  }
  free(copy);
  return 0;
}
