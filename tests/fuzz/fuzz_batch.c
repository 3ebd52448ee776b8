/* fuzz_batch.c: a client's batch: refused or accepted; what is accepted can be read back, whatever the rules. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static int32_t count_record(void *context, int32_t index, const plog_record *record) {
  int32_t *count = context;
  plog_assert(index == (*count)++);
  uint32_t sum = 0; /* touch every byte that the record claims to have */
  for (int32_t i = 0; i < record->key_bytes; i++) sum += record->key[i];
  for (int32_t i = 0; i < record->value_bytes; i++) sum += record->value[i];
  for (int32_t i = 0; i < record->headers_bytes; i++) sum += record->headers[i];
  return sum == 0xffffffffu ? PLOG_E_STOPPED : 0;
}

static void accept_once(const plog_batch_rules *rules, const uint8_t *data, size_t size_bytes) {
  uint8_t *copy = malloc(size_bytes ? size_bytes : 1);
  plog_assert(copy != NULL);
  if (size_bytes) memcpy(copy, data, size_bytes);
  plog_batch_accepted out;
  if (plog__batch_accept(rules, copy, size_bytes, 1000, 3, &out) == 0) {
    plog_batch_header header;
    plog_assert(plog_batch_check(out.data, out.size_bytes, &header) == 0);
    plog_assert(header.base_offset == 1000 && header.partition_leader_epoch == 3);
    plog_assert(header.records_count == header.last_offset_delta + 1);
    int32_t count = 0, rc = plog__batch_each(out.data, &header, 1 << 24, count_record, &count);
    plog_assert(rc == PLOG_E_BUFFER_TOO_SMALL || (rc == 0 && count == header.records_count));
    free(out.rewritten);
  }
  free(copy);
}

/* The first two bytes are the rules; the CRC is put right, or nothing would get past it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 2) return 0;
  plog_batch_rules rules = {1 << 20,
                            data[0] & 1,
                            data[0] & 2 ? 1000 : INT64_MAX,
                            data[0] & 4 ? 1000 : INT64_MAX,
                            (data[0] >> 3) % 6 - 1,
                            INT32_MIN,
                            data[1] & 1,
                            data[1] & 2,
                            1700000000000};
  data += 2;
  size_bytes -= 2;
  accept_once(&rules, data, size_bytes);
  plog_batch_header header;
  uint8_t *fixed = malloc(size_bytes ? size_bytes : 1);
  plog_assert(fixed != NULL);
  if (size_bytes) memcpy(fixed, data, size_bytes);
  if (plog_batch_header_read(fixed, size_bytes, &header) == 0) {
    plog_put_u32(fixed + PLOG_BATCH_AT_CRC,
                 plog_crc32c(0, fixed + PLOG_BATCH_AT_ATTRIBUTES, header.size_bytes - PLOG_BATCH_AT_ATTRIBUTES));
    accept_once(&rules, fixed, size_bytes);
    plog_record records[16];
    uint8_t scratch[4096];
    int32_t count = 0;
    (void)plog_batch_records(fixed, size_bytes, scratch, sizeof scratch, records, 16, &count);
    plog_marker marker;
    (void)plog__batch_marker(fixed, size_bytes, &header, &marker);
  }
  free(fixed);
  return 0;
}
