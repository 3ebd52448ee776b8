/* The leader's side: what a client's batch must be like, in the order in which Kafka looks, and the stamps it gets. */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "codec.h"
#include "record.h"
#include "wire.h"

#define NO_TIMESTAMP (-1)

/* What a batch may become in memory when it has to be rewritten with another codec. */
#define REWRITE_MAX_BYTES (256u << 20)

/* ---------------------------------------------------------------------------------------------- the records' findings */

/* What the walk over the records of a client's batch found. */
typedef struct {
  int64_t min_timestamp; /* allowed */
  int64_t max_timestamp; /* allowed */
  bool check_timestamps;
  bool refuse_append_time; /* the batch says LogAppendTime, which producers must not */
  bool keys_needed;
  int64_t largest_timestamp;
  int32_t first_error;  /* index of the first record that must be refused, -1 none */
  bool timestamp_error; /* a record was refused for its timestamp, which decides the code */
  bool in_order;        /* offsets count up from 0 */
} record_findings;

static int64_t subtract_clamped(int64_t a, int64_t b) {
  int64_t v;
  return __builtin_sub_overflow(a, b, &v) ? (b > 0 ? INT64_MIN : INT64_MAX) : v;
}
static int64_t add_clamped(int64_t a, int64_t b) {
  int64_t v;
  return __builtin_add_overflow(a, b, &v) ? (b > 0 ? INT64_MAX : INT64_MIN) : v;
}

static void findings_init(record_findings *f, const plog_batch_rules *rules, const plog_batch_header *header) {
  f->check_timestamps = rules->timestamp_type == 0;
  f->min_timestamp = rules->timestamp_before_max_ms == INT64_MAX
                         ? INT64_MIN
                         : subtract_clamped(rules->now_ms, rules->timestamp_before_max_ms);
  f->max_timestamp = add_clamped(rules->now_ms, rules->timestamp_after_max_ms);
  f->refuse_append_time = (header->attributes & PLOG_ATTR_LOG_APPEND_TIME) != 0;
  f->keys_needed = rules->compacted != 0;
  f->largest_timestamp = NO_TIMESTAMP;
  f->first_error = -1;
  f->timestamp_error = false;
  f->in_order = true;
}

static inline void look_at_record(record_findings *f, int32_t index, int32_t delta, int64_t timestamp, bool has_key) {
  f->in_order &= delta == index;
  if (timestamp > f->largest_timestamp) f->largest_timestamp = timestamp;
  bool bad_key = f->keys_needed && !has_key;
  bool bad_timestamp = f->check_timestamps && timestamp != NO_TIMESTAMP
                           ? timestamp < f->min_timestamp || timestamp > f->max_timestamp
                           : f->refuse_append_time;
  if (__builtin_expect(bad_key || bad_timestamp, 0)) {
    if (f->first_error < 0) f->first_error = index;
    if (!bad_key) f->timestamp_error = true;
  }
}

/*
 * An unsigned varint of one to three bytes at *p, of which three can be read; anything longer gives false. Three cover lengths
 * to a megabyte, and predict well: neighbouring records are alike.
 */
static inline bool take_short(const uint8_t **p, uint32_t *out) {
  const uint8_t *at = *p;
  uint32_t v = at[0];
  if (v < 0x80) {
    *p = at + 1;
  } else if (at[1] < 0x80) {
    v = (v & 0x7f) | (uint32_t)at[1] << 7;
    *p = at + 2;
  } else if (at[2] < 0x80) {
    v = (v & 0x7f) | (uint32_t)(at[1] & 0x7f) << 7 | (uint32_t)at[2] << 14;
    *p = at + 3;
  } else {
    return false;
  }
  *out = v;
  return true;
}

/* Bytes behind a position that the loop below may touch without asking. */
#define FAST_MARGIN 16

/*
 * The records from *p on, as long as they are of the usual kind: short varints, no headers, some way before the end. What is
 * unusual, or wrong, is left for plog__take_record() to judge; *index is the next record.
 */
static void walk_usual(const uint8_t **p, const uint8_t *end, const plog_batch_header *header, record_findings *f,
                       int32_t *index) {
  int64_t min = f->check_timestamps ? f->min_timestamp : INT64_MIN,
          max = f->check_timestamps ? f->max_timestamp : INT64_MAX;
  int64_t largest = f->largest_timestamp;
  uint32_t out_of_order = 0;
  int32_t i = *index;
  const uint8_t *next = *p;
  while (i < header->records_count && end - next >= FAST_MARGIN) {
    const uint8_t *at = next;
    uint32_t length, timestamp_delta, delta, key, value;
    if (!take_short(&at, &length) || (length & 1) || length < 2 || length >> 1 > (size_t)(end - at)) break;
    const uint8_t *stop = at + (length >> 1);
    at++; /* the attributes of a record say nothing yet */
    if (!take_short(&at, &timestamp_delta) || !take_short(&at, &delta) || !take_short(&at, &key)) break;
    if (!(key & 1)) {
      if (key >> 1 > (size_t)(end - at)) break;
      at += key >> 1;
      if (end - at < FAST_MARGIN) break;
    }
    if (!take_short(&at, &value)) break;
    if (!(value & 1)) {
      if (value >> 1 >= (size_t)(end - at)) break;
      at += value >> 1;
    }
    if (at + 1 != stop || *at != 0) break; /* headers, or a record that does not end where it says */
    int64_t timestamp = plog__add_wrapping(header->base_timestamp, plog_unzigzag32(timestamp_delta));
    bool bad = (timestamp < min || timestamp > max) && timestamp != NO_TIMESTAMP;
    if (__builtin_expect(bad || (f->keys_needed && (key & 1)), 0)) break;
    out_of_order |= plog_zigzag32(i) ^ delta;
    if (timestamp > largest) largest = timestamp;
    next = stop;
    i++;
  }
  f->in_order &= out_of_order == 0;
  f->largest_timestamp = largest;
  *p = next;
  *index = i;
}

static int32_t walk_plain(const uint8_t *data, const plog_batch_header *header, record_findings *f) {
  const uint8_t *p = data + PLOG_BATCH_OVERHEAD, *end = data + header->size_bytes;
  for (int32_t i = 0; i < header->records_count; i++) {
    if (!f->refuse_append_time) walk_usual(&p, end, header, f, &i);
    if (i == header->records_count) break;
    plog_record record;
    int32_t delta;
    int64_t timestamp_delta;
    if (!plog__take_record(&p, end, &record, &delta, &timestamp_delta)) return PLOG_INVALID_RECORD;
    look_at_record(f, i, delta, plog__record_timestamp(header, timestamp_delta), record.key != NULL);
  }
  return p == end ? 0 : PLOG_INVALID_RECORD;
}

/* Bytes as they come out of a codec, so that a batch is walked in bounded memory whatever it becomes. */
typedef struct {
  plog_decoder *decoder;
  const uint8_t *at;
  const uint8_t *end;
  int64_t taken;  /* bytes handed out */
  int32_t status; /* 0, or why there are no more: PLOG_E_SHORT at the end */
  uint8_t buffer[16384];
} stream;

static bool stream_fill(stream *s) {
  if (s->status != 0) return false;
  size_t n;
  s->status = plog__decoder_read(s->decoder, s->buffer, sizeof s->buffer, &n);
  if (s->status == 0 && n == 0) s->status = PLOG_E_SHORT;
  if (s->status != 0) return false;
  s->at = s->buffer;
  s->end = s->buffer + n;
  return true;
}

static uint64_t stream_varint(stream *s, unsigned max_shift) {
  uint64_t v = 0;
  for (unsigned shift = 0; shift <= max_shift; shift += 7) {
    if (s->at == s->end && !stream_fill(s)) return 0;
    uint8_t byte = *s->at++;
    s->taken++;
    v |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return v;
  }
  if (s->status == 0) s->status = PLOG_INVALID_RECORD;
  return 0;
}
static int32_t stream_int(stream *s) {
  return plog_unzigzag32((uint32_t)stream_varint(s, 28));
}

static void stream_skip(stream *s, int64_t size_bytes) {
  while (size_bytes > 0) {
    if (s->at == s->end && !stream_fill(s)) return;
    int64_t n = PLOG_MIN(size_bytes, (int64_t)(s->end - s->at));
    s->at += n;
    s->taken += n;
    size_bytes -= n;
  }
}

static int32_t walk_stream(stream *s, const plog_batch_header *header, record_findings *f) {
  for (int32_t i = 0; i < header->records_count; i++) {
    int32_t length = stream_int(s);
    int64_t stop = s->taken + length;
    if (length < 1) return s->status ? s->status : PLOG_INVALID_RECORD;
    stream_skip(s, 1);
    int64_t timestamp_delta = plog_unzigzag64(stream_varint(s, 63));
    int32_t delta = stream_int(s);
    int32_t key_bytes = stream_int(s);
    if (key_bytes > stop - s->taken) return s->status ? s->status : PLOG_INVALID_RECORD;
    stream_skip(s, key_bytes);
    int32_t value_bytes = stream_int(s);
    if (value_bytes > stop - s->taken) return s->status ? s->status : PLOG_INVALID_RECORD;
    stream_skip(s, value_bytes);
    int32_t headers_count = stream_int(s);
    if (headers_count < 0 || headers_count > stop - s->taken) return s->status ? s->status : PLOG_INVALID_RECORD;
    for (int32_t h = 0; h < headers_count && s->status == 0; h++) {
      int32_t name_bytes = stream_int(s);
      if (name_bytes < 0 || name_bytes > stop - s->taken) return s->status ? s->status : PLOG_INVALID_RECORD;
      stream_skip(s, name_bytes);
      int32_t content_bytes = stream_int(s);
      if (content_bytes > stop - s->taken) return s->status ? s->status : PLOG_INVALID_RECORD;
      stream_skip(s, content_bytes);
    }
    if (s->status != 0) return s->status;
    if (s->taken != stop) return PLOG_INVALID_RECORD;
    look_at_record(f, i, delta, plog__record_timestamp(header, timestamp_delta), key_bytes >= 0);
  }
  if (s->at != s->end || stream_fill(s)) return PLOG_INVALID_RECORD; /* more than the header counts */
  return s->status == PLOG_E_SHORT ? 0 : s->status;
}

static int32_t walk_compressed(const uint8_t *data, const plog_batch_header *header, record_findings *f) {
  stream s;
  s.at = s.end = s.buffer;
  s.taken = 0;
  s.status = 0;
  int32_t rc = plog__decoder_open(header->attributes & PLOG_ATTR_CODEC_MASK, data + PLOG_BATCH_OVERHEAD,
                                  header->size_bytes - PLOG_BATCH_OVERHEAD, &s.decoder);
  if (rc != 0) return rc;
  rc = walk_stream(&s, header, f);
  plog__decoder_close(s.decoder);
  if (rc == PLOG_CORRUPT_MESSAGE) return PLOG_E_UNREADABLE; /* the checksum was right: it was sent so */
  return rc == PLOG_E_SHORT ? PLOG_INVALID_RECORD : rc;
}

/* ---------------------------------------------------------------------------------------------- rewriting */

static int32_t rebuild_record(void *context, int32_t index, const plog_record *record) {
  (void)index;
  return plog_batch_builder_add(context, record->timestamp, record->key, record->key_bytes, record->value,
                                record->value_bytes, record->headers, record->headers_bytes, record->headers_count);
}

/* The same records in a batch of our own making: with `codec`, and offsets that count up. Free *out. */
static int32_t rebuild(const uint8_t *data, const plog_batch_header *header, int32_t codec, const plog_batch_rules *rules,
                       uint8_t **out, size_t *out_bytes) {
  plog_batch_builder *builder = plog_batch_builder_open();
  if (!builder) return -ENOMEM;
  int32_t attributes = codec | (header->attributes & (PLOG_ATTR_TRANSACTIONAL | PLOG_ATTR_CONTROL));
  plog_batch_builder_reset(builder, header->base_offset, attributes, header->producer_id, header->producer_epoch,
                           header->base_sequence, header->partition_leader_epoch);
  const uint8_t *built;
  int32_t rc = plog__batch_each(data, header, REWRITE_MAX_BYTES, rebuild_record, builder);
  if (rc == PLOG_E_BUFFER_TOO_SMALL) rc = PLOG_MESSAGE_TOO_LARGE;
  if (rc == 0) rc = plog_batch_builder_finish(builder, rules->compression_level, &built, out_bytes);
  if (rc == 0 && *out_bytes > (size_t)rules->max_message_bytes) rc = PLOG_MESSAGE_TOO_LARGE;
  if (rc == 0) {
    *out = malloc(*out_bytes);
    if (*out)
      memcpy(*out, built, *out_bytes);
    else
      rc = -ENOMEM;
  }
  plog_batch_builder_close(builder);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- accepting */

/* Kafka's smallest length field of any format, below which it calls the whole thing corrupt. */
#define MIN_LENGTH_ANY_FORMAT 14

/* Is there a whole batch at data, going by length and magic alone? 0 yes | PLOG_E_SHORT no | PLOG_CORRUPT_MESSAGE */
static int32_t frame_batch(const uint8_t *data, size_t size_bytes, size_t *batch_bytes) {
  if (size_bytes < PLOG_LOG_OVERHEAD) return PLOG_E_SHORT;
  int32_t length = plog_get_i32(data + PLOG_BATCH_AT_LENGTH);
  if (length < MIN_LENGTH_ANY_FORMAT) return PLOG_CORRUPT_MESSAGE;
  if (size_bytes <= PLOG_BATCH_AT_MAGIC) return PLOG_E_SHORT;
  if (data[PLOG_BATCH_AT_MAGIC] > 2) return PLOG_CORRUPT_MESSAGE;
  *batch_bytes = (size_t)length + PLOG_LOG_OVERHEAD;
  return *batch_bytes > size_bytes ? PLOG_E_SHORT : 0;
}

/* What can be said without looking at the records, in the order in which Kafka says it. */
static int32_t check_envelope(const plog_batch_rules *rules, const uint8_t *data, size_t size_bytes,
                              plog_batch_header *header) {
  size_t batch_bytes, next_bytes;
  int32_t rc = frame_batch(data, size_bytes, &batch_bytes);
  if (rc != 0) return rc == PLOG_E_SHORT ? PLOG_INVALID_RECORD : rc;
  if (data[PLOG_BATCH_AT_MAGIC] != 2) return PLOG_INVALID_RECORD;
  if (size_bytes > batch_bytes) {
    rc = frame_batch(data + batch_bytes, size_bytes - batch_bytes, &next_bytes);
    if (rc != PLOG_E_SHORT) return rc == 0 ? PLOG_INVALID_RECORD : rc; /* one batch, not two */
  }
  if (rules->from_client && plog_get_i64(data) != 0) return PLOG_INVALID_RECORD;
  if (batch_bytes > (size_t)rules->max_message_bytes) return PLOG_MESSAGE_TOO_LARGE;
  if (batch_bytes < PLOG_BATCH_OVERHEAD) return PLOG_CORRUPT_MESSAGE;
  plog__batch_parse(data, header);
  if (!plog__batch_crc_ok(data, header)) return PLOG_CORRUPT_MESSAGE;
  if ((header->attributes & PLOG_ATTR_CODEC_MASK) > PLOG_CODEC_ZSTD) return PLOG_E_UNKNOWN_CODEC;
  if (header->last_offset_delta < 0 || header->records_count <= 0 || header->records_count - 1 != header->last_offset_delta)
    return PLOG_INVALID_RECORD;
  if (rules->from_client) {
    if (header->attributes & PLOG_ATTR_CONTROL) return PLOG_INVALID_RECORD;
    if (header->producer_id > -1 && header->base_sequence < 0) return PLOG_INVALID_RECORD;
  }
  return 0;
}

static void renew_crc(uint8_t *data, plog_batch_header *header) {
  header->crc = plog_crc32c(0, data + PLOG_BATCH_AT_ATTRIBUTES, header->size_bytes - PLOG_BATCH_AT_ATTRIBUTES);
  plog_put_u32(data + PLOG_BATCH_AT_CRC, header->crc);
}

int32_t plog__batch_accept(const plog_batch_rules *rules, uint8_t *data, size_t size_bytes, int64_t base_offset,
                           int32_t leader_epoch, plog_batch_accepted *out) {
  plog_batch_header header;
  out->record_error_index = -1;
  int32_t rc = check_envelope(rules, data, size_bytes, &header);
  if (rc != 0) return rc;

  record_findings found;
  findings_init(&found, rules, &header);
  int32_t codec = header.attributes & PLOG_ATTR_CODEC_MASK;
  rc = codec == PLOG_CODEC_NONE ? walk_plain(data, &header, &found) : walk_compressed(data, &header, &found);
  if (rc != 0) return rc;
  if (found.first_error >= 0) {
    out->record_error_index = found.first_error;
    return found.timestamp_error ? PLOG_INVALID_TIMESTAMP : PLOG_INVALID_RECORD;
  }

  uint8_t *rewritten = NULL;
  int32_t target = rules->compression < 0 || (codec == PLOG_CODEC_NONE && (header.attributes & PLOG_ATTR_CONTROL))
                       ? codec
                       : rules->compression;
  if (target != codec || !found.in_order) {
    rc = rebuild(data, &header, target, rules, &rewritten, &size_bytes);
    if (rc != 0) return rc;
    data = rewritten;
    plog__batch_parse(data, &header);
  }

  int64_t max_timestamp = rules->timestamp_type == 0 ? found.largest_timestamp : rules->now_ms;
  int32_t attributes =
      (header.attributes & ~PLOG_ATTR_LOG_APPEND_TIME) | (rules->timestamp_type == 0 ? 0 : PLOG_ATTR_LOG_APPEND_TIME);
  if (attributes != header.attributes || max_timestamp != header.max_timestamp) {
    header.attributes = attributes;
    header.max_timestamp = max_timestamp;
    plog_put_i16(data + PLOG_BATCH_AT_ATTRIBUTES, (int16_t)attributes);
    plog_put_i64(data + PLOG_BATCH_AT_MAX_TIMESTAMP, max_timestamp);
    renew_crc(data, &header);
  }
  plog__batch_stamp(data, base_offset, leader_epoch);
  header.base_offset = base_offset;
  header.partition_leader_epoch = leader_epoch;

  out->header = header;
  out->data = data;
  out->size_bytes = header.size_bytes;
  out->max_timestamp_offset = plog__batch_last_offset(&header);
  out->rewritten = rewritten;
  return 0;
}
