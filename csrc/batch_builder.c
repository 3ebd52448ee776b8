/* Building record batches. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "record.h"
#include "wire.h"

#define NO_TIMESTAMP (-1)

struct plog_batch_builder {
  plog_writer records; /* PLOG_BATCH_OVERHEAD bytes for the header, then the records */
  plog_writer compressed;
  int64_t base_offset;
  int32_t attributes;
  int64_t producer_id;
  int32_t producer_epoch;
  int32_t base_sequence;
  int32_t leader_epoch;
  int32_t count;
  int64_t base_timestamp;
  int64_t max_timestamp;
};

plog_batch_builder *plog_batch_builder_open(void) {
  plog_batch_builder *b = calloc(1, sizeof *b);
  if (!b) return NULL;
  plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
  return b;
}

void plog_batch_builder_close(plog_batch_builder *b) {
  if (!b) return;
  plog_writer_deinit(&b->records);
  plog_writer_deinit(&b->compressed);
  free(b);
}

void plog_batch_builder_reset(plog_batch_builder *b, int64_t base_offset, int32_t attributes, int64_t producer_id,
                              int32_t producer_epoch, int32_t base_sequence, int32_t partition_leader_epoch) {
  plog_writer_reset(&b->records);
  plog_writer_reset(&b->compressed);
  (void)plog_write_room(&b->records, PLOG_BATCH_OVERHEAD);
  b->base_offset = base_offset;
  b->attributes = attributes;
  b->producer_id = producer_id;
  b->producer_epoch = producer_epoch;
  b->base_sequence = base_sequence;
  b->leader_epoch = partition_leader_epoch;
  b->count = 0;
  b->base_timestamp = NO_TIMESTAMP;
  b->max_timestamp = NO_TIMESTAMP;
}

/* A record takes at least and less than so many bytes beside its key, value and headers. */
enum { RECORD_OVERHEAD_MIN_BYTES = 7, RECORD_OVERHEAD_MAX_BYTES = 40 };

static inline uint8_t *put_varint(uint8_t *p, uint64_t v) {
  for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
  *p++ = (uint8_t)v;
  return p;
}
static inline uint8_t *put_field(uint8_t *p, const uint8_t *data, int32_t size_bytes) {
  if (!data) return put_varint(p, plog_zigzag32(-1));
  p = put_varint(p, plog_zigzag32(size_bytes));
  plog__copy_field(p, data, (size_t)size_bytes);
  return p + size_bytes;
}

/* Put the length in front of a record for which `room` bytes were left; nearly always it takes as many. Returns its end. */
static inline uint8_t *put_length(uint8_t *p, size_t room, uint8_t *end) {
  size_t length = (size_t)(end - p) - room, taken = plog_uvarint_size(plog_zigzag32((int32_t)length));
  if (taken != room) memmove(p + taken, p + room, length);
  (void)put_varint(p, plog_zigzag32((int32_t)length));
  return p + taken + length;
}

int32_t plog_batch_builder_add(plog_batch_builder *b, int64_t timestamp, const uint8_t *key, int32_t key_bytes,
                               const uint8_t *value, int32_t value_bytes, const uint8_t *headers, int32_t headers_bytes,
                               int32_t headers_count) {
  if ((key && key_bytes < 0) || (value && value_bytes < 0) || headers_bytes < 0 || headers_count < 0) return -EINVAL;
  if (b->count == INT32_MAX) return PLOG_MESSAGE_TOO_LARGE;
  if (b->count == 0) b->base_timestamp = timestamp;
  int64_t timestamp_delta = (int64_t)((uint64_t)timestamp - (uint64_t)b->base_timestamp);
  size_t fields = (key ? (size_t)key_bytes : 0) + (value ? (size_t)value_bytes : 0) + (size_t)headers_bytes;
  plog_writer *w = &b->records;
  if (fields + RECORD_OVERHEAD_MAX_BYTES + w->size_bytes > INT32_MAX) return PLOG_MESSAGE_TOO_LARGE;
  uint8_t *begin = plog_write_room(w, fields + RECORD_OVERHEAD_MAX_BYTES); /* and what is not needed is given back */
  if (!begin) return w->status;
  size_t length_bytes = plog_uvarint_size(plog_zigzag32((int32_t)fields + RECORD_OVERHEAD_MIN_BYTES));
  uint8_t *p = begin + length_bytes;
  *p++ = 0; /* its attributes */
  p = put_varint(p, plog_zigzag64(timestamp_delta));
  p = put_varint(p, plog_zigzag32(b->count));
  p = put_field(p, key, key_bytes);
  p = put_field(p, value, value_bytes);
  p = put_varint(p, plog_zigzag32(headers_count));
  plog__copy_field(p, headers, (size_t)headers_bytes);
  w->size_bytes = (size_t)(put_length(begin, length_bytes, p + headers_bytes) - w->data);
  b->count++;
  if (timestamp > b->max_timestamp) b->max_timestamp = timestamp;
  return 0;
}

int32_t plog__batch_builder_add_alike(plog_batch_builder *b, int64_t timestamp, const uint8_t *values, int32_t value_bytes,
                                      int32_t count) {
  enum {
    HEAD_BYTES = 16,
    TAIL_BYTES = 8
  }; /* length, attributes, time; no key, the value's length: at most, and 2 beyond */
  plog_assert(value_bytes >= 0 && count > 0 && count <= INT32_MAX - b->count);
  plog_writer *w = &b->records;
  const size_t most = (size_t)value_bytes + RECORD_OVERHEAD_MAX_BYTES;
  if ((INT32_MAX - w->size_bytes) / most < (size_t)count) return PLOG_MESSAGE_TOO_LARGE;
  uint8_t *p = plog_write_room(w, most * (size_t)count);
  if (!p) return w->status;
  if (b->count == 0) b->base_timestamp = timestamp;
  const uint64_t time = plog_zigzag64((int64_t)((uint64_t)timestamp - (uint64_t)b->base_timestamp));
  uint8_t head[HEAD_BYTES] = {0}, tail[TAIL_BYTES] = {0};
  const size_t tail_bytes = (size_t)(put_varint(put_varint(tail, plog_zigzag32(-1)), plog_zigzag32(value_bytes)) - tail);
  size_t head_bytes = 0;
  for (int32_t i = 0, below = 0; i < count; i++, b->count++) {
    if (b->count >= below) { /* from here on an offset takes more bytes */
      const size_t offset_bytes = plog_uvarint_size(plog_zigzag32(b->count));
      const size_t length = 1 + plog_uvarint_size(time) + offset_bytes + tail_bytes + (size_t)value_bytes + 1;
      uint8_t *at = put_varint(head, plog_zigzag32((int32_t)length));
      *at++ = 0; /* its attributes */
      head_bytes = (size_t)(put_varint(at, time) - head);
      below = offset_bytes < 5 ? 1 << (7 * offset_bytes - 1) : INT32_MAX;
    }
    memcpy(p, head, HEAD_BYTES);
    p = put_varint(p + head_bytes, plog_zigzag32(b->count));
    memcpy(p, tail, TAIL_BYTES);
    p += tail_bytes;
    plog__copy_field(p, values, (size_t)value_bytes);
    p += value_bytes;
    values += value_bytes;
    *p++ = 0; /* no headers */
  }
  w->size_bytes = (size_t)(p - w->data);
  if (timestamp > b->max_timestamp) b->max_timestamp = timestamp;
  return 0;
}

int32_t plog_batch_builder_finish(plog_batch_builder *b, int32_t level, const uint8_t **out, size_t *out_bytes) {
  plog_writer *w = &b->records;
  if (w->status != 0) return w->status;
  if (b->count == 0) return -EINVAL; /* a batch has a record */
  int32_t codec = b->attributes & PLOG_ATTR_CODEC_MASK;
  if (codec != PLOG_CODEC_NONE) {
    size_t records_bytes = w->size_bytes - PLOG_BATCH_OVERHEAD, bound = plog_codec_bound(codec, records_bytes), n;
    plog_writer_reset(&b->compressed);
    uint8_t *room = plog_write_room(&b->compressed, PLOG_BATCH_OVERHEAD + bound);
    if (!room) return b->compressed.status;
    int32_t rc = plog_codec_compress(codec, level, w->data + PLOG_BATCH_OVERHEAD, records_bytes, room + PLOG_BATCH_OVERHEAD,
                                     bound, &n);
    if (rc != 0) return rc;
    w = &b->compressed;
    w->size_bytes = PLOG_BATCH_OVERHEAD + n;
  }
  uint8_t *data = w->data;
  plog__batch_stamp(data, b->base_offset, b->leader_epoch);
  plog_put_i32(data + PLOG_BATCH_AT_LENGTH, (int32_t)(w->size_bytes - PLOG_LOG_OVERHEAD));
  data[PLOG_BATCH_AT_MAGIC] = 2;
  plog_put_i16(data + PLOG_BATCH_AT_ATTRIBUTES, (int16_t)b->attributes);
  plog_put_i32(data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, b->count - 1);
  plog_put_i64(data + PLOG_BATCH_AT_BASE_TIMESTAMP, b->base_timestamp);
  plog_put_i64(data + PLOG_BATCH_AT_MAX_TIMESTAMP, b->max_timestamp);
  plog_put_i64(data + PLOG_BATCH_AT_PRODUCER_ID, b->producer_id);
  plog_put_i16(data + PLOG_BATCH_AT_PRODUCER_EPOCH, (int16_t)b->producer_epoch);
  plog_put_i32(data + PLOG_BATCH_AT_BASE_SEQUENCE, b->base_sequence);
  plog_put_i32(data + PLOG_BATCH_AT_COUNT, b->count);
  plog_put_u32(data + PLOG_BATCH_AT_CRC,
               plog_crc32c(0, data + PLOG_BATCH_AT_ATTRIBUTES, w->size_bytes - PLOG_BATCH_AT_ATTRIBUTES));
  *out = data;
  *out_bytes = w->size_bytes;
  return 0;
}
