#include "clean_batch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "codec.h"
#include "record.h"

#define NO_TIMESTAMP (-1)

/* What a batch may become when it is decompressed; a broker refused it long before. */
#define PLAIN_MAX_BYTES (1u << 30)

void plog__batch_cleaner_init(plog_batch_cleaner *c) {
  memset(c, 0, sizeof *c);
  plog_writer_init(&c->plain);
  plog_writer_init(&c->fresh);
}

void plog__batch_cleaner_deinit(plog_batch_cleaner *c) {
  free(c->records);
  plog_writer_deinit(&c->plain);
  plog_writer_deinit(&c->fresh);
  memset(c, 0, sizeof *c);
}

/* ---------------------------------------------------------------------------------------------- taking */

static int32_t decompress(plog_writer *plain, const uint8_t *data, const plog_batch_header *header) {
  enum { STEP_BYTES = 64 * 1024 };
  plog_decoder *decoder;
  int32_t rc = plog__decoder_open(header->attributes & PLOG_ATTR_CODEC_MASK, data + PLOG_BATCH_OVERHEAD,
                                  header->size_bytes - PLOG_BATCH_OVERHEAD, &decoder);
  if (rc != 0) return rc == PLOG_CORRUPT_MESSAGE ? PLOG_E_UNREADABLE : rc;
  plog_writer_reset(plain);
  while (rc == 0) {
    uint8_t *room = plog_write_room(plain, STEP_BYTES);
    if (!room) {
      rc = plain->status;
      break;
    }
    size_t n;
    rc = plog__decoder_read(decoder, room, STEP_BYTES, &n);
    plain->size_bytes -= STEP_BYTES;
    if (rc != 0 || n == 0) break;
    plain->size_bytes += n;
    if (plain->size_bytes > PLAIN_MAX_BYTES) rc = PLOG_E_UNREADABLE;
  }
  plog__decoder_close(decoder);
  return rc == PLOG_CORRUPT_MESSAGE ? PLOG_E_UNREADABLE : rc; /* the batch's checksum was right */
}

/* As plog__take_record(), keeping where its parts are; the key's bytes go to *key. */
static bool take_record(const uint8_t **p, const uint8_t *end, plog_clean_record *out, const uint8_t **key,
                        int32_t *key_bytes) {
  int32_t length, value_bytes, headers_count;
  const uint8_t *value;
  out->start = *p;
  if (!plog__take_varint(p, end, &length) || length < 1 || length > end - *p) return false;
  const uint8_t *at = *p + 1, *stop = *p + length;
  if (!plog__take_varlong(&at, stop, &out->timestamp_delta) || !plog__take_varint(&at, stop, &out->offset_delta))
    return false;
  out->rest = at;
  if (!plog__take_bytes(&at, stop, key, key_bytes) || !plog__take_bytes(&at, stop, &value, &value_bytes)) return false;
  if (!plog__take_varint(&at, stop, &headers_count) || headers_count < 0 || headers_count > stop - at) return false;
  if (headers_count > 0 && !plog__skip_headers(&at, stop, headers_count)) return false;
  out->stop = stop;
  out->has_key = *key != NULL;
  out->has_value = value != NULL;
  *p = stop;
  return at == stop;
}

static int32_t reserve_record(plog_batch_cleaner *c) {
  if (c->records_count < c->records_capacity) return 0;
  int32_t capacity = PLOG_MAX(c->records_capacity * 2, 256);
  plog_clean_record *records = realloc(c->records, (size_t)capacity * sizeof *records);
  if (!records) return -ENOMEM;
  c->records = records;
  c->records_capacity = capacity;
  return 0;
}

int32_t plog__batch_cleaner_take(plog_batch_cleaner *c, const plog_key_map *map, const uint8_t *data,
                                 const plog_batch_header *header) {
  const uint8_t *p = data + PLOG_BATCH_OVERHEAD, *end = data + header->size_bytes;
  c->records_count = 0;
  if (header->records_count > 0 && (header->attributes & PLOG_ATTR_CODEC_MASK) != PLOG_CODEC_NONE) {
    int32_t rc = decompress(&c->plain, data, header);
    if (rc != 0) return rc;
    p = c->plain.data;
    end = p + c->plain.size_bytes;
  }
  for (int32_t i = 0; i < header->records_count; i++) {
    int32_t rc = reserve_record(c), key_bytes;
    if (rc != 0) return rc;
    plog_clean_record *record = &c->records[c->records_count];
    const uint8_t *key;
    if (!take_record(&p, end, record, &key, &key_bytes)) return PLOG_INVALID_RECORD;
    if (record->offset_delta < 0 || record->offset_delta > header->last_offset_delta) return PLOG_INVALID_RECORD;
    if (key) {
      record->hash = plog__key_hash(map, key, (size_t)key_bytes);
      plog__key_map_prefetch(map, record->hash);
    }
    c->records_count++;
  }
  return p == end ? 0 : PLOG_INVALID_RECORD;
}

/* ---------------------------------------------------------------------------------------------- deciding */

static inline bool record_stays(const plog_clean_rules *rules, const plog_batch_header *header,
                                const plog_clean_record *record) {
  int64_t offset = header->base_offset + record->offset_delta;
  if (offset >= rules->map_end) return true;
  if (!record->has_key || offset < plog__key_map_get(rules->map, record->hash)) return false;
  return record->has_value || !(header->attributes & PLOG_ATTR_DELETE_HORIZON) || rules->now_ms < header->base_timestamp;
}

/* Leave the records that stay. Says whether there is a tombstone among them. */
static bool drop_records(plog_batch_cleaner *c, const plog_clean_rules *rules, const plog_batch_header *header) {
  bool is_control = (header->attributes & PLOG_ATTR_CONTROL) != 0, has_tombstone = false;
  int32_t kept = 0;
  for (int32_t i = 0; i < c->records_count; i++) {
    const plog_clean_record *record = &c->records[i];
    if (!is_control && !record_stays(rules, header, record)) continue;
    has_tombstone |= !record->has_value;
    if (kept != i) c->records[kept] = *record;
    kept++;
  }
  c->records_count = kept;
  return has_tombstone;
}

/* ---------------------------------------------------------------------------------------------- writing */

/* Fill in a header in front of the records at data[PLOG_BATCH_OVERHEAD..size_bytes). */
static void put_header(uint8_t *data, size_t size_bytes, plog_batch_header *header) {
  header->batch_length = (int32_t)(size_bytes - PLOG_LOG_OVERHEAD);
  header->size_bytes = (uint32_t)size_bytes;
  plog__batch_stamp(data, header->base_offset, header->partition_leader_epoch);
  plog_put_i32(data + PLOG_BATCH_AT_LENGTH, header->batch_length);
  data[PLOG_BATCH_AT_MAGIC] = 2;
  plog_put_i16(data + PLOG_BATCH_AT_ATTRIBUTES, (int16_t)header->attributes);
  plog_put_i32(data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, header->last_offset_delta);
  plog_put_i64(data + PLOG_BATCH_AT_BASE_TIMESTAMP, header->base_timestamp);
  plog_put_i64(data + PLOG_BATCH_AT_MAX_TIMESTAMP, header->max_timestamp);
  plog_put_i64(data + PLOG_BATCH_AT_PRODUCER_ID, header->producer_id);
  plog_put_i16(data + PLOG_BATCH_AT_PRODUCER_EPOCH, (int16_t)header->producer_epoch);
  plog_put_i32(data + PLOG_BATCH_AT_BASE_SEQUENCE, header->base_sequence);
  plog_put_i32(data + PLOG_BATCH_AT_COUNT, header->records_count);
  header->crc = plog_crc32c(0, data + PLOG_BATCH_AT_ATTRIBUTES, size_bytes - PLOG_BATCH_AT_ATTRIBUTES);
  plog_put_u32(data + PLOG_BATCH_AT_CRC, header->crc);
}

static int32_t write_empty(const plog_batch_header *header, plog_writer *out, plog_batch_header *written) {
  uint8_t *data = plog_write_room(out, PLOG_BATCH_OVERHEAD);
  if (!data) return out->status;
  *written = *header;
  written->attributes &= PLOG_ATTR_LOG_APPEND_TIME | PLOG_ATTR_TRANSACTIONAL | PLOG_ATTR_CONTROL;
  written->base_timestamp = NO_TIMESTAMP;
  written->records_count = 0;
  put_header(data, PLOG_BATCH_OVERHEAD, written);
  return 0;
}

/* The records that stay, with their timestamps against another base. Neighbours that need no change go in one piece. */
static void write_records(const plog_batch_cleaner *c, const plog_batch_header *header, int64_t base_timestamp,
                          plog_writer *w) {
  const uint8_t *run = NULL, *run_end = NULL;
  for (int32_t i = 0; i < c->records_count; i++) {
    const plog_clean_record *record = &c->records[i];
    int64_t timestamp = plog__record_timestamp(header, record->timestamp_delta);
    int64_t delta = (int64_t)((uint64_t)timestamp - (uint64_t)base_timestamp);
    if (delta == record->timestamp_delta && record->start == run_end) {
      run_end = record->stop;
      continue;
    }
    if (run) plog_write_raw(w, run, (size_t)(run_end - run));
    run = run_end = NULL;
    if (delta == record->timestamp_delta) {
      run = record->start;
      run_end = record->stop;
      continue;
    }
    size_t rest_bytes = (size_t)(record->stop - record->rest);
    plog_write_varint(w, (int32_t)(1 + plog_uvarint_size(plog_zigzag64(delta)) +
                                   plog_uvarint_size(plog_zigzag32(record->offset_delta)) + rest_bytes));
    plog_write_i8(w, 0);
    plog_write_varlong(w, delta);
    plog_write_varint(w, record->offset_delta);
    plog_write_raw(w, record->rest, rest_bytes);
  }
  if (run) plog_write_raw(w, run, (size_t)(run_end - run));
}

static int64_t largest_timestamp(const plog_batch_cleaner *c, const plog_batch_header *header) {
  int64_t largest = NO_TIMESTAMP;
  for (int32_t i = 0; i < c->records_count; i++)
    largest = PLOG_MAX(largest, plog__record_timestamp(header, c->records[i].timestamp_delta));
  return largest;
}

static int32_t write_anew(plog_batch_cleaner *c, const plog_batch_header *header, int64_t horizon_ms, plog_writer *out,
                          plog_batch_header *written) {
  int32_t codec = header->attributes & PLOG_ATTR_CODEC_MASK;
  size_t start = out->size_bytes;
  *written = *header;
  written->attributes &= ~PLOG_ATTR_DELETE_HORIZON;
  written->max_timestamp = largest_timestamp(c, header);
  written->records_count = c->records_count;
  if (horizon_ms >= 0) {
    written->attributes |= PLOG_ATTR_DELETE_HORIZON;
    written->base_timestamp = horizon_ms;
  } else {
    written->base_timestamp = plog__record_timestamp(header, c->records[0].timestamp_delta);
  }
  (void)plog_write_room(out, PLOG_BATCH_OVERHEAD);
  if (codec == PLOG_CODEC_NONE) {
    write_records(c, header, written->base_timestamp, out);
  } else {
    plog_writer_reset(&c->fresh);
    write_records(c, header, written->base_timestamp, &c->fresh);
    if (c->fresh.status != 0) return c->fresh.status;
    size_t bound = plog_codec_bound(codec, c->fresh.size_bytes), n;
    uint8_t *room = plog_write_room(out, bound);
    if (!room) return out->status;
    int32_t rc = plog_codec_compress(codec, INT32_MIN, c->fresh.data, c->fresh.size_bytes, room, bound, &n);
    if (rc != 0) return rc;
    out->size_bytes -= bound - n;
  }
  if (out->status != 0) return out->status;
  if (out->size_bytes - start > INT32_MAX) return -EINVAL;
  put_header(out->data + start, out->size_bytes - start, written);
  return 0;
}

int32_t plog__batch_cleaner_write(plog_batch_cleaner *c, const plog_clean_rules *rules, const plog_batch_fate *fate,
                                  const uint8_t *data, const plog_batch_header *header, plog_writer *out,
                                  int32_t *kept_count, plog_batch_header *written) {
  bool has_tombstone = false;
  if (fate->discard)
    c->records_count = 0;
  else
    has_tombstone = drop_records(c, rules, header);
  *kept_count = c->records_count;
  written->size_bytes = 0;
  if (c->records_count == 0) return fate->keep_empty ? write_empty(header, out, written) : 0;

  int64_t horizon_ms = header->attributes & PLOG_ATTR_DELETE_HORIZON ? header->base_timestamp : NO_TIMESTAMP;
  bool needs_horizon = (has_tombstone || fate->spent_marker) && !(header->attributes & PLOG_ATTR_DELETE_HORIZON);
  if (needs_horizon) horizon_ms = plog__add_wrapping(rules->now_ms, rules->delete_retention_ms);
  if (c->records_count < header->records_count || needs_horizon) return write_anew(c, header, horizon_ms, out, written);
  plog_write_raw(out, data, header->size_bytes);
  *written = *header;
  return out->status;
}
