#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "codec.h"
#include "record.h"
#include "wire.h"

/* ---------------------------------------------------------------------------------------------- headers */

void plog__batch_parse(const uint8_t *data, plog_batch_header *out) {
  out->base_offset = plog_get_i64(data + PLOG_BATCH_AT_BASE_OFFSET);
  out->batch_length = plog_get_i32(data + PLOG_BATCH_AT_LENGTH);
  out->partition_leader_epoch = plog_get_i32(data + PLOG_BATCH_AT_LEADER_EPOCH);
  out->magic = data[PLOG_BATCH_AT_MAGIC];
  out->crc = plog_get_u32(data + PLOG_BATCH_AT_CRC);
  out->attributes = plog_get_i16(data + PLOG_BATCH_AT_ATTRIBUTES);
  out->last_offset_delta = plog_get_i32(data + PLOG_BATCH_AT_LAST_OFFSET_DELTA);
  out->base_timestamp = plog_get_i64(data + PLOG_BATCH_AT_BASE_TIMESTAMP);
  out->max_timestamp = plog_get_i64(data + PLOG_BATCH_AT_MAX_TIMESTAMP);
  out->producer_id = plog_get_i64(data + PLOG_BATCH_AT_PRODUCER_ID);
  out->producer_epoch = plog_get_i16(data + PLOG_BATCH_AT_PRODUCER_EPOCH);
  out->base_sequence = plog_get_i32(data + PLOG_BATCH_AT_BASE_SEQUENCE);
  out->records_count = plog_get_i32(data + PLOG_BATCH_AT_COUNT);
  out->size_bytes = (uint32_t)out->batch_length + PLOG_LOG_OVERHEAD;
}

int32_t plog_batch_header_read(const uint8_t *data, size_t size_bytes, plog_batch_header *out) {
  memset(out, 0, sizeof *out);
  if (size_bytes < PLOG_LOG_OVERHEAD) return PLOG_E_SHORT;
  int32_t length = plog_get_i32(data + PLOG_BATCH_AT_LENGTH);
  if (length < PLOG_BATCH_OVERHEAD - PLOG_LOG_OVERHEAD || length > INT32_MAX - PLOG_LOG_OVERHEAD)
    return PLOG_CORRUPT_MESSAGE;
  if (size_bytes > PLOG_BATCH_AT_MAGIC && data[PLOG_BATCH_AT_MAGIC] != 2) return PLOG_CORRUPT_MESSAGE;
  if (size_bytes >= PLOG_BATCH_OVERHEAD) plog__batch_parse(data, out);
  out->size_bytes = (uint32_t)length + PLOG_LOG_OVERHEAD;
  if (size_bytes < out->size_bytes) return PLOG_E_SHORT;
  /* an offset that would wrap is no offset, whatever the CRC says */
  if (out->base_offset < 0 || out->last_offset_delta < 0 || out->base_offset > INT64_MAX - out->last_offset_delta - 1)
    return PLOG_CORRUPT_MESSAGE;
  return 0;
}

bool plog__batch_crc_ok(const uint8_t *data, const plog_batch_header *header) {
  return plog_crc32c(0, data + PLOG_BATCH_AT_ATTRIBUTES, header->size_bytes - PLOG_BATCH_AT_ATTRIBUTES) == header->crc;
}

int32_t plog_batch_check(const uint8_t *data, size_t size_bytes, plog_batch_header *out) {
  int32_t rc = plog_batch_header_read(data, size_bytes, out);
  if (rc != 0) return rc;
  return plog__batch_crc_ok(data, out) ? 0 : PLOG_CORRUPT_MESSAGE;
}

void plog__batch_stamp(uint8_t *data, int64_t base_offset, int32_t leader_epoch) {
  plog_put_i64(data + PLOG_BATCH_AT_BASE_OFFSET, base_offset);
  plog_put_i32(data + PLOG_BATCH_AT_LEADER_EPOCH, leader_epoch);
}

/* ---------------------------------------------------------------------------------------------- walking batches */

int32_t plog__batch_decompress(const uint8_t *data, const plog_batch_header *header, size_t max_bytes, uint8_t **out,
                               size_t *out_bytes) {
  plog_decoder *decoder;
  int32_t rc = plog__decoder_open(header->attributes & PLOG_ATTR_CODEC_MASK, data + PLOG_BATCH_OVERHEAD,
                                  header->size_bytes - PLOG_BATCH_OVERHEAD, &decoder);
  if (rc != 0) return rc;
  uint8_t *buffer = NULL;
  size_t capacity = 0, done = 0, n;
  for (;;) {
    if (done == capacity) {
      size_t wanted = capacity ? capacity * 2 : PLOG_MAX((size_t)header->size_bytes * 2, (size_t)4096);
      if (wanted > max_bytes + 1) wanted = max_bytes + 1;
      uint8_t *larger = wanted > capacity ? realloc(buffer, wanted) : NULL;
      if (!larger) {
        rc = wanted > capacity ? -ENOMEM : PLOG_E_BUFFER_TOO_SMALL;
        break;
      }
      buffer = larger;
      capacity = wanted;
    }
    rc = plog__decoder_read(decoder, buffer + done, capacity - done, &n);
    if (rc != 0 || n == 0) break;
    done += n;
  }
  plog__decoder_close(decoder);
  if (rc == 0 && done > max_bytes) rc = PLOG_E_BUFFER_TOO_SMALL;
  if (rc != 0) {
    free(buffer);
    return rc;
  }
  *out = buffer;
  *out_bytes = done;
  return 0;
}

static int32_t each_record(const plog_batch_header *header, const uint8_t *records, size_t size_bytes, plog_record_fn *fn,
                           void *context) {
  const uint8_t *p = records, *end = records + size_bytes;
  for (int32_t i = 0; i < header->records_count; i++) {
    plog_record record;
    int32_t delta;
    int64_t timestamp_delta;
    if (!plog__take_record(&p, end, &record, &delta, &timestamp_delta)) return PLOG_INVALID_RECORD;
    record.offset = plog__add_wrapping(header->base_offset, delta);
    record.timestamp = plog__record_timestamp(header, timestamp_delta);
    int32_t rc = fn(context, i, &record);
    if (rc != 0) return rc;
  }
  return p == end && header->records_count >= 0 ? 0 : PLOG_INVALID_RECORD;
}

int32_t plog__batch_each(const uint8_t *data, const plog_batch_header *header, size_t max_bytes, plog_record_fn *fn,
                         void *context) {
  const uint8_t *records = data + PLOG_BATCH_OVERHEAD;
  size_t records_bytes = header->size_bytes - PLOG_BATCH_OVERHEAD;
  if ((header->attributes & PLOG_ATTR_CODEC_MASK) == PLOG_CODEC_NONE)
    return each_record(header, records, records_bytes, fn, context);
  uint8_t *buffer;
  int32_t rc = plog__batch_decompress(data, header, max_bytes, &buffer, &records_bytes);
  if (rc != 0) return rc;
  rc = each_record(header, buffer, records_bytes, fn, context);
  free(buffer);
  return rc;
}

typedef struct {
  plog_record *out;
  int32_t capacity;
  int32_t count;
} record_sink;

static int32_t keep_record(void *context, int32_t index, const plog_record *record) {
  record_sink *sink = context;
  (void)index;
  if (sink->count == sink->capacity) return PLOG_E_BUFFER_TOO_SMALL;
  sink->out[sink->count++] = *record;
  return 0;
}

int32_t plog_batch_records(const uint8_t *data, size_t size_bytes, uint8_t *scratch, size_t scratch_bytes, plog_record *out,
                           int32_t capacity, int32_t *count) {
  plog_batch_header header;
  int32_t rc = plog_batch_header_read(data, size_bytes, &header);
  if (rc != 0) return rc;
  const uint8_t *records = data + PLOG_BATCH_OVERHEAD;
  size_t records_bytes = header.size_bytes - PLOG_BATCH_OVERHEAD;
  record_sink sink = {out, capacity, 0};
  int32_t codec = header.attributes & PLOG_ATTR_CODEC_MASK;
  if (codec != PLOG_CODEC_NONE) {
    rc = plog_codec_decompress(codec, records, records_bytes, scratch, scratch_bytes, &records_bytes);
    records = scratch;
  }
  if (rc == 0) rc = each_record(&header, records, records_bytes, keep_record, &sink);
  if (rc == 0) *count = sink.count;
  if (rc == PLOG_E_BUFFER_TOO_SMALL) *count = header.records_count;
  return rc;
}

enum { MARKER_ABORT = 0, MARKER_COMMIT = 1 };

static int32_t read_marker(void *context, int32_t index, const plog_record *record) {
  plog_marker *out = context;
  (void)index;
  plog_reader r;
  plog_reader_init(&r, record->key, record->key ? (size_t)record->key_bytes : 0);
  (void)plog_read_i16(&r);
  int16_t type = plog_read_i16(&r);
  if (plog_reader_status(&r) != 0 || (type != MARKER_ABORT && type != MARKER_COMMIT)) return PLOG_E_NOT_FOUND;
  plog_reader_init(&r, record->value, record->value ? (size_t)record->value_bytes : 0);
  (void)plog_read_i16(&r);
  out->abort = type == MARKER_ABORT;
  out->coordinator_epoch = plog_read_i32(&r);
  out->timestamp = record->timestamp;
  return plog_reader_status(&r) == 0 ? PLOG_E_STOPPED : PLOG_E_NOT_FOUND; /* one is all there is */
}

/* A marker's records take 17 bytes; whatever claims to need this much is none. */
#define MARKER_MAX_BYTES 4096

int32_t plog__batch_marker(const uint8_t *data, size_t size_bytes, const plog_batch_header *header, plog_marker *out) {
  plog_assert(size_bytes >= header->size_bytes);
  int32_t rc = plog__batch_each(data, header, MARKER_MAX_BYTES, read_marker, out);
  return rc == PLOG_E_STOPPED ? 0 : PLOG_E_NOT_FOUND;
}
