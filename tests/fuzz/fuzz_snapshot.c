/* fuzz_snapshot.c: producer snapshots: refused, or they come back as the same bytes; and any is a state to go on from. */
#include "base.h"
#include "producer_state.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  static plog_producer_info producers[2000];
  int32_t count;
  uint8_t *fixed = malloc(size_bytes ? size_bytes : 1);
  plog_assert(fixed != NULL);
  if (size_bytes) memcpy(fixed, data, size_bytes);
  if (size_bytes >= 6) plog_put_u32(fixed + 2, plog_crc32c(0, fixed + 6, size_bytes - 6));
  (void)plog_snapshot_decode(data, size_bytes, producers, 2000, &count);
  if (plog_snapshot_decode(fixed, size_bytes, producers, 2000, &count) == 0) {
    uint8_t *again = malloc(size_bytes);
    size_t again_bytes;
    plog_assert(again != NULL);
    plog_assert(plog_snapshot_encode(producers, count, again, size_bytes, &again_bytes) == 0);
    plog_assert(again_bytes == size_bytes && memcmp(again, fixed, size_bytes) == 0);
    free(again);
    plog_producers *p = plog__producers_open();
    plog_assert(p != NULL);
    if (plog__producers_load(p, producers, count) != 0) plog__producers_clear(p);
    plog_batch_header h = {.base_offset = 1000,
                           .producer_id = count > 0 && producers[0].producer_id >= 0 ? producers[0].producer_id : 1,
                           .base_sequence = 5,
                           .records_count = 1,
                           .attributes = PLOG_ATTR_TRANSACTIONAL};
    plog_marker marker = {true, 1, 1};
    plog_duplicate duplicate;
    plog_ended_txn ended;
    bool has_ended;
    (void)plog__producers_append(p, &h, NULL, PLOG_ORIGIN_CLIENT, &duplicate, &ended, &has_ended);
    (void)plog__producers_append(p, &h, NULL, PLOG_ORIGIN_REPLICATION, &duplicate, &ended, &has_ended);
    (void)plog__producers_append(p, &h, &marker, PLOG_ORIGIN_REPLICATION, &duplicate, &ended, &has_ended);
    plog__producers_undo(p);
    (void)plog__producers_expire(p, 0);
    plog__producers_close(p);
  }
  free(fixed);
  return 0;
}
