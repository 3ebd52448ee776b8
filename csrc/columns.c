/*
 * Records of many batches as columns: arrays of offsets, timestamps, keys, values and headers, as a reader of analytics
 * wants them and as Python makes records of them.
 *
 * What stays true: only whole batches whose CRC is right are taken in, in order, and a batch is taken in whole or not at
 * all; the arrays belong to the handle, which keeps their memory for the next decode, because touching fresh memory costs
 * more than decoding into it. The bytes may come from anywhere: nothing is read or allocated on their word alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "batch.h"
#include "record.h"

/* Length, attributes, two deltas, key, value and header count: no record is smaller. */
#define RECORD_MIN_BYTES 7
/* What a batch may decompress to. */
#define RECORDS_MAX_BYTES (1u << 30)

enum { KEYS, VALUES, HEADERS, BYTES_COLUMNS };

/* One column of bytes: record i has data[ends[i]..ends[i + 1]). */
typedef struct {
  uint8_t *data;
  size_t size_bytes;
  size_t capacity_bytes;
  int64_t *ends;
  uint8_t *nulls;
  int64_t nulls_count;
} bytes_column;

struct plog_columns {
  int64_t count;
  int64_t capacity; /* records that the arrays below have room for; ends for one more */
  int64_t *offsets;
  int64_t *timestamps;
  int32_t *headers_counts;
  bytes_column bytes[BYTES_COLUMNS];
};

plog_columns *plog_columns_open(void) {
  return calloc(1, sizeof(plog_columns));
}

void plog_columns_close(plog_columns *c) {
  if (!c) return;
  free(c->offsets);
  free(c->timestamps);
  free(c->headers_counts);
  for (int32_t i = 0; i < BYTES_COLUMNS; i++) {
    free(c->bytes[i].data);
    free(c->bytes[i].ends);
    free(c->bytes[i].nulls);
  }
  free(c);
}

/* ---------------------------------------------------------------------------------------------- room */

static int32_t grow_array(void *array, size_t item_bytes, int64_t count) {
  void **items = array;
  void *larger = realloc(*items, item_bytes * (size_t)count);
  if (!larger) return -ENOMEM;
  *items = larger;
  return 0;
}

static int32_t reserve_records(plog_columns *c, int64_t more) {
  if (c->count + more <= c->capacity) return 0;
  int64_t capacity = PLOG_MAX(c->count + more, c->capacity + c->capacity / 2);
  int32_t rc = grow_array(&c->offsets, sizeof *c->offsets, capacity);
  if (rc == 0) rc = grow_array(&c->timestamps, sizeof *c->timestamps, capacity);
  if (rc == 0) rc = grow_array(&c->headers_counts, sizeof *c->headers_counts, capacity);
  for (int32_t i = 0; i < BYTES_COLUMNS && rc == 0; i++) {
    rc = grow_array(&c->bytes[i].ends, sizeof *c->bytes[i].ends, capacity + 1);
    if (rc == 0) rc = grow_array(&c->bytes[i].nulls, 1, capacity);
  }
  if (rc == 0) c->capacity = capacity;
  return rc;
}

/* Room for everything that the records of a batch can hold, whichever column it belongs to. */
static int32_t reserve_bytes(plog_columns *c, size_t more) {
  for (int32_t i = 0; i < BYTES_COLUMNS; i++) {
    bytes_column *b = &c->bytes[i];
    if (more <= b->capacity_bytes - b->size_bytes) continue;
    size_t capacity = PLOG_MAX(b->size_bytes + more, b->capacity_bytes + b->capacity_bytes / 2);
    uint8_t *larger = realloc(b->data, capacity);
    if (!larger) return -ENOMEM;
    b->data = larger;
    b->capacity_bytes = capacity;
  }
  return 0;
}

/* ---------------------------------------------------------------------------------------------- one batch */

/* Put a field behind the others. There is room. */
static inline void put_bytes(bytes_column *b, int64_t i, const uint8_t *data, int32_t size_bytes) {
  plog__copy_field(b->data + b->size_bytes, data, (size_t)size_bytes);
  b->size_bytes += (size_t)size_bytes;
  b->ends[i + 1] = (int64_t)b->size_bytes;
}

/* Records [from, to) have nothing in this column. */
static inline void put_nothing(bytes_column *b, int64_t from, int64_t to) {
  const int64_t end = (int64_t)b->size_bytes, four[] = {end, end, end, end};
  int64_t i = from + 1;
  for (; i + 3 <= to; i += 4) memcpy(b->ends + i, four, sizeof four);
  for (; i <= to; i++) b->ends[i] = end;
}

/* Say of the next records what nearly all records say: no key, a value, no headers. */
static void expect_records(plog_columns *c, int64_t count) {
  memset(c->bytes[KEYS].nulls + c->count, 1, (size_t)count);
  memset(c->bytes[VALUES].nulls + c->count, 0, (size_t)count);
  memset(c->bytes[HEADERS].nulls + c->count, 0, (size_t)count);
  memset(c->headers_counts + c->count, 0, (size_t)count * sizeof *c->headers_counts);
}

/* The loop works on copies of the columns: through pointers every byte stored might change them, for all the compiler knows. */
static int32_t take_records(plog_columns *c, const plog_batch_header *header, const uint8_t *records, size_t size_bytes,
                            int64_t from, int64_t below) {
  const uint8_t *p = records, *end = records + size_bytes;
  bytes_column keys = c->bytes[KEYS], values = c->bytes[VALUES], headers = c->bytes[HEADERS];
  int64_t *offsets = c->offsets, *timestamps = c->timestamps, n = c->count;
  int64_t keys_end = n, headers_end = n; /* of those that have been put */
  const plog_batch_header h = *header;
  expect_records(c, h.records_count);
  for (int32_t i = 0; i < h.records_count; i++) {
    plog_record r;
    int32_t delta;
    int64_t timestamp_delta;
    if (!plog__take_record(&p, end, &r, &delta, &timestamp_delta)) return PLOG_INVALID_RECORD;
    int64_t offset = plog__add_wrapping(h.base_offset, delta);
    if (offset < from || offset >= below) continue;
    offsets[n] = offset;
    timestamps[n] = plog__record_timestamp(&h, timestamp_delta);
    if (r.key) {
      put_nothing(&keys, keys_end, n);
      put_bytes(&keys, n, r.key, r.key_bytes);
      keys.nulls[n] = 0;
      keys.nulls_count--;
      keys_end = n + 1;
    }
    if (r.value) {
      put_bytes(&values, n, r.value, r.value_bytes);
    } else {
      put_nothing(&values, n, n + 1);
      values.nulls[n] = 1;
      values.nulls_count++;
    }
    if (r.headers_count > 0) {
      put_nothing(&headers, headers_end, n);
      put_bytes(&headers, n, r.headers, r.headers_bytes);
      c->headers_counts[n] = r.headers_count;
      headers_end = n + 1;
    }
    n++;
  }
  if (p != end) return PLOG_INVALID_RECORD;
  put_nothing(&keys, keys_end, n);
  put_nothing(&headers, headers_end, n);
  keys.nulls_count += n - c->count;
  c->bytes[KEYS] = keys;
  c->bytes[VALUES] = values;
  c->bytes[HEADERS] = headers;
  c->count = n;
  return 0;
}

/* Take in a batch whose CRC is right. When that fails the columns are as they were. */
static int32_t take_batch(plog_columns *c, const uint8_t *data, const plog_batch_header *header, int64_t from,
                          int64_t below) {
  const uint8_t *records = data + PLOG_BATCH_OVERHEAD;
  size_t size_bytes = header->size_bytes - PLOG_BATCH_OVERHEAD;
  uint8_t *decompressed = NULL;
  if ((header->attributes & PLOG_ATTR_CODEC_MASK) != PLOG_CODEC_NONE) {
    int32_t rc = plog__batch_decompress(data, header, RECORDS_MAX_BYTES, &decompressed, &size_bytes);
    if (rc != 0) return rc;
    records = decompressed;
  }
  bool possible = header->records_count >= 0 && (size_t)header->records_count <= size_bytes / RECORD_MIN_BYTES;
  int32_t rc = possible ? reserve_records(c, header->records_count) : PLOG_INVALID_RECORD;
  if (rc == 0) rc = reserve_bytes(c, size_bytes);
  if (rc == 0) rc = take_records(c, header, records, size_bytes, from, below);
  free(decompressed);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- many */

static bool is_aborted(const plog_columns_query *q, const plog_batch_header *header) {
  for (int32_t i = 0; i < q->aborted_count; i++) {
    const int64_t *triple = q->aborted + 3 * (int64_t)i;
    if (triple[0] == header->producer_id && triple[1] <= header->base_offset && header->base_offset <= triple[2])
      return true;
  }
  return false;
}

static void clear(plog_columns *c) {
  c->count = 0;
  for (int32_t i = 0; i < BYTES_COLUMNS; i++) {
    c->bytes[i].size_bytes = 0;
    c->bytes[i].nulls_count = 0;
    if (c->bytes[i].ends) c->bytes[i].ends[0] = 0;
  }
}

static void describe(const plog_columns *c, plog_columns_view *out) {
  out->count = c->count;
  out->offsets = c->offsets;
  out->timestamps = c->timestamps;
  out->headers_counts = c->headers_counts;
  plog_bytes_column *columns[BYTES_COLUMNS] = {&out->keys, &out->values, &out->headers};
  for (int32_t i = 0; i < BYTES_COLUMNS; i++) {
    const bytes_column *b = &c->bytes[i];
    *columns[i] = (plog_bytes_column){b->data, b->ends, b->nulls, (int64_t)b->size_bytes, b->nulls_count};
  }
}

static bool is_old_format(const uint8_t *data, size_t size_bytes) {
  return size_bytes > PLOG_BATCH_AT_MAGIC && data[PLOG_BATCH_AT_MAGIC] < 2 && plog_get_i32(data + PLOG_BATCH_AT_LENGTH) > 0;
}

/* A batch that leaves a gap, as compaction does, is followed by one above it; if not, its offset is not what was written. */
static bool is_displaced(const uint8_t *data, size_t size_bytes, const plog_batch_header *header, int64_t floor) {
  if (header->base_offset == floor || size_bytes < (size_t)header->size_bytes + PLOG_LOG_OVERHEAD) return false;
  int64_t following = plog_get_i64(data + header->size_bytes);
  return following >= floor && following <= plog__batch_last_offset(header);
}

int32_t plog_columns_decode(plog_columns *c, const uint8_t *data, size_t size_bytes, const plog_columns_query *q,
                            plog_columns_view *out) {
  int32_t rc = reserve_records(c, 1); /* so that there is a first end, 0 */
  if (rc != 0) return rc;
  clear(c);
  int64_t next = -1, floor = q->floor_offset;
  size_t at = 0;
  for (rc = 0; rc == 0 && at < size_bytes;) {
    plog_batch_header header;
    rc = plog_batch_header_read(data + at, size_bytes - at, &header);
    if (rc == PLOG_CORRUPT_MESSAGE && is_old_format(data + at, size_bytes - at)) rc = PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT;
    if (rc == PLOG_E_SHORT) out->needed_bytes = header.size_bytes;
    if (rc == 0 && (header.base_offset < floor || header.base_offset >= q->ceiling_offset ||
                    is_displaced(data + at, size_bytes - at, &header, floor)))
      rc = PLOG_CORRUPT_MESSAGE;
    if (rc != 0) break;
    if (header.base_offset >= q->max_offset) {
      rc = PLOG_E_STOPPED;
      break;
    }
    bool transactional = (header.attributes & PLOG_ATTR_TRANSACTIONAL) != 0;
    bool control = (header.attributes & PLOG_ATTR_CONTROL) != 0;
    bool passed = plog__batch_last_offset(&header) < q->from_offset; /* damage there is no concern of this reader's */
    if (!passed && !plog__batch_crc_ok(data + at, &header)) {
      rc = PLOG_CORRUPT_MESSAGE;
      break;
    }
    bool wanted = !control && !passed;
    if (wanted && transactional && header.base_offset >= q->decided_offset) {
      rc = PLOG_E_AGAIN;
      break;
    }
    if (wanted && transactional && is_aborted(q, &header)) wanted = false;
    if (wanted) rc = take_batch(c, data + at, &header, q->from_offset, q->max_offset);
    if (rc != 0) break;
    at += header.size_bytes;
    floor = plog__batch_last_offset(&header) + 1;
    next = PLOG_MIN(floor, q->max_offset);
  }
  if (rc < 0) return rc;
  out->stopped = rc;
  out->used_bytes = at;
  out->next_offset = next;
  describe(c, out);
  return 0;
}
