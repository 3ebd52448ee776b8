/* test_scan.c: headers of many batches at once: what is whole, what is cut, what is damaged. */
#include "plog.h"

#include "test.h"
#include "wire.h"

static size_t put_batch(uint8_t *out, int64_t base_offset) {
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, base_offset, 0, -1, -1, -1, 3);
  CHECK_EQ(plog_batch_builder_add(b, 7, NULL, -1, (const uint8_t *)"value", 5, NULL, 0, 0), 0);
  const uint8_t *data;
  size_t size;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &size), 0);
  memcpy(out, data, size);
  plog_batch_builder_close(b);
  return size;
}

int main(void) {
  uint8_t data[1024];
  size_t one = put_batch(data, 10), all = one + put_batch(data + one, 11);
  plog_scanned_batch out[4];
  int32_t count;
  size_t used;
  uint32_t needed;

  CHECK_EQ(plog_batches_scan(data, all, 1, out, 4, &count, &used, &needed), 0);
  CHECK_EQ(count, 2);
  CHECK_EQ(used, all);
  CHECK_EQ(out[1].header.base_offset, 11);
  CHECK_EQ(out[1].header.partition_leader_epoch, 3);
  CHECK_EQ(out[1].position, (int64_t)one);
  CHECK_EQ(out[0].crc_ok + out[1].crc_ok, 2);

  /* no more than there is room for */
  CHECK_EQ(plog_batches_scan(data, all, 1, out, 1, &count, &used, &needed), 0);
  CHECK_EQ(count, 1);
  CHECK_EQ(used, one);
  CHECK_EQ(plog_batches_scan(data, 0, 1, out, 4, &count, &used, &needed), 0);
  CHECK_EQ(count, 0);

  /* a cut one says how much it needs, as soon as it can */
  for (size_t size = one + 1; size < all; size++) {
    CHECK_EQ(plog_batches_scan(data, size, 1, out, 4, &count, &used, &needed), PLOG_E_SHORT);
    CHECK_EQ(count, 1);
    CHECK_EQ(used, one);
    CHECK_EQ(needed, size - one < PLOG_LOG_OVERHEAD ? 0 : all - one);
  }

  /* a wrong CRC is passed over, and only seen when it is asked for */
  data[one - 1] ^= 1;
  CHECK_EQ(plog_batches_scan(data, all, 1, out, 4, &count, &used, &needed), 0);
  CHECK_EQ(count, 2);
  CHECK_EQ(out[0].crc_ok, 0);
  CHECK_EQ(out[1].crc_ok, 1);
  CHECK_EQ(plog_batches_scan(data, all, 0, out, 4, &count, &used, &needed), 0);
  CHECK_EQ(out[0].crc_ok, 1);

  /* what is no batch ends it */
  data[one + 16] = 1;
  CHECK_EQ(plog_batches_scan(data, all, 1, out, 4, &count, &used, &needed), PLOG_CORRUPT_MESSAGE);
  CHECK_EQ(count, 1);
  CHECK_EQ(used, one);
  return 0;
}
