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

#include "alike.h"
#include "base.h"
#include "batch.h"
#include "record.h"

/* Length, attributes, two deltas, key, value and header count: no record is smaller. */
#define RECORD_MIN_BYTES 7
/* What a batch may decompress to. */
#define RECORDS_MAX_BYTES (1u << 30)

enum { KEYS, VALUES, HEADERS, BYTES_COLUMNS };

/*
 * One column of bytes: record i has data[ends[i]..ends[i + 1]). What nearly all records have, no key, a value, no headers, is
 * written down when one comes that has not: `told` records have it in the arrays. Until then a column has what all that are
 * like it share (plog_columns).
 */
typedef struct {
  uint8_t *data;
  size_t size_bytes;
  size_t capacity_bytes;
  int64_t *ends;
  uint8_t *nulls; /* of headers: none */
  int64_t nulls_count;
  int64_t told; /* keys: ends and nulls; values: nulls; headers: ends and counts */
} bytes_column;

struct plog_columns {
  int64_t count;
  int64_t capacity; /* records that the arrays below have room for; ends for one more */
  int64_t *offsets;
  int64_t *timestamps;
  int32_t *headers_counts;
  bytes_column bytes[BYTES_COLUMNS];
  int64_t *zeros; /* capacity + 1; never written, as are */
  uint8_t *ones;  /* capacity */
};

plog_columns *plog_columns_open(void) {
  return calloc(1, sizeof(plog_columns));
}

void plog_columns_close(plog_columns *c) {
  if (!c) return;
  free(c->offsets);
  free(c->timestamps);
  free(c->headers_counts);
  free(c->zeros);
  free(c->ones);
  for (int32_t i = 0; i < BYTES_COLUMNS; i++) {
    free(c->bytes[i].data);
    free(c->bytes[i].ends);
    free(c->bytes[i].nulls);
  }
  free(c);
}

uint8_t *plog_pages_open(size_t size_bytes) {
  void *pages;
  return posix_memalign(&pages, 4096, size_bytes) == 0 ? pages : NULL;
}

void plog_pages_close(uint8_t *pages) {
  free(pages);
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
    if (rc == 0 && i != HEADERS) rc = grow_array(&c->bytes[i].nulls, 1, capacity);
  }
  if (rc == 0) rc = grow_array(&c->zeros, sizeof *c->zeros, capacity + 1);
  if (rc == 0) rc = grow_array(&c->ones, 1, capacity);
  if (rc != 0) return rc;
  memset(c->zeros, 0, sizeof *c->zeros * (size_t)(capacity + 1));
  memset(c->ones, 1, (size_t)capacity);
  c->capacity = capacity;
  return 0;
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

/* Write down of records up to `to` that they have no key, */
static inline void tell_keys(bytes_column *keys, int64_t to) {
  put_nothing(keys, keys->told, to);
  memset(keys->nulls + keys->told, 1, (size_t)(to - keys->told));
  keys->told = to;
}

/* that they have a value, */
static inline void tell_values(bytes_column *values, int64_t to) {
  memset(values->nulls + values->told, 0, (size_t)(to - values->told));
  values->told = to;
}

/* that they have no headers. */
static inline void tell_headers(bytes_column *headers, int32_t *counts, int64_t to) {
  put_nothing(headers, headers->told, to);
  memset(counts + headers->told, 0, (size_t)(to - headers->told) * sizeof *counts);
  headers->told = to;
}

/* What the records of a batch are laid out in: copies of the columns, for through pointers every byte stored might change them,
   for all the compiler knows. */
typedef struct {
  bytes_column keys, values, headers;
  int64_t *offsets, *timestamps;
  int32_t *headers_counts;
  int64_t n;
} layout;

static inline void put_record(layout *l, const plog_record *r, int64_t offset, int64_t timestamp) {
  const int64_t n = l->n++;
  l->offsets[n] = offset;
  l->timestamps[n] = timestamp;
  if (r->key) {
    tell_keys(&l->keys, n);
    put_bytes(&l->keys, n, r->key, r->key_bytes);
    l->keys.nulls[n] = 0;
    l->keys.nulls_count--;
    l->keys.told = n + 1;
  }
  if (r->value) {
    put_bytes(&l->values, n, r->value, r->value_bytes);
  } else {
    tell_values(&l->values, n);
    put_nothing(&l->values, n, n + 1);
    l->values.nulls[n] = 1;
    l->values.nulls_count++;
    l->values.told = n + 1;
  }
  if (r->headers_count > 0) {
    tell_headers(&l->headers, l->headers_counts, n);
    put_bytes(&l->headers, n, r->headers, r->headers_bytes);
    l->headers_counts[n] = r->headers_count;
    l->headers.told = n + 1;
  }
}

/* Put as many records as are alike, at most `most`, beginning at *p with this offset delta; the last one put had the delta
   before it and this timestamp. */
__attribute__((noinline)) static int32_t put_alike(layout *l, const plog_alike *like, const uint8_t **p, const uint8_t *end,
                                                   int32_t delta, int64_t most) {
  const plog_alike a = *like; /* its own, so that it stays in registers */
  const uint8_t *at = *p;
  const int64_t n = l->n, offset = l->offsets[n - 1] + 1, timestamp = l->timestamps[n - 1];
  const size_t size_bytes = (size_t)a.size_bytes, value_bytes = (size_t)a.value_bytes;
  int64_t i = 0, fit = (end - at - PLOG_ALIKE_SLACK_BYTES) / a.size_bytes;
  most = PLOG_MIN(PLOG_MIN(most, fit), (int64_t)a.delta_max - delta + 1);
  uint8_t *values = l->values.data + l->values.size_bytes;
  int64_t *offsets = l->offsets + n, *timestamps = l->timestamps + n, *ends = l->values.ends + n + 1;
  for (; i < most && plog__is_alike(&a, at, (uint32_t)(delta + i)); i++) {
    plog__copy_field(values, at + a.value_at, value_bytes);
    values += value_bytes;
    at += size_bytes;
  }
  int64_t value_end = ends[-1];
  for (int64_t k = 0; k < i; k++) offsets[k] = offset + k;
  for (int64_t k = 0; k < i; k++) timestamps[k] = timestamp;
  for (int64_t k = 0; k < i; k++) ends[k] = value_end += a.value_bytes;
  l->values.size_bytes = (size_t)(values - l->values.data);
  if (a.key_bytes >= 0 && i > 0) {
    tell_keys(&l->keys, n);
    const uint8_t *key = *p + a.key_at;
    for (int64_t k = n; k < n + i; k++, key += size_bytes) put_bytes(&l->keys, k, key, a.key_bytes);
    memset(l->keys.nulls + n, 0, (size_t)i);
    l->keys.nulls_count -= i;
    l->keys.told = n + i;
  }
  l->n = n + i;
  *p = at;
  return (int32_t)i;
}

static int32_t take_records(plog_columns *c, const plog_batch_header *header, const uint8_t *records, size_t size_bytes,
                            int64_t from, int64_t below) {
  const uint8_t *p = records, *end = records + size_bytes;
  layout l = {c->bytes[KEYS], c->bytes[VALUES], c->bytes[HEADERS], c->offsets, c->timestamps, c->headers_counts, c->count};
  const plog_batch_header h = *header;
  int64_t before = 0; /* the size of the record before */
  for (int32_t i = 0; i < h.records_count; i++) {
    plog_record r;
    int32_t delta;
    int64_t timestamp_delta;
    const uint8_t *begin = p;
    bool plain = plog__take_plain_record(&p, end, &r, &delta, &timestamp_delta);
    if (!plain && !plog__take_record(&p, end, &r, &delta, &timestamp_delta)) return PLOG_INVALID_RECORD;
    int64_t offset = plog__add_wrapping(h.base_offset, delta);
    if (offset < from || offset >= below) continue;
    put_record(&l, &r, offset, plog__record_timestamp(&h, timestamp_delta));
    const int64_t size = p - begin;
    plog_alike alike;
    if (plain && size == before && delta >= 0 && offset >= 0 && plog__alike_to(begin, &r, &alike))
      i += put_alike(&l, &alike, &p, end, delta + 1, PLOG_MIN(h.records_count - i - 1, below - 1 - offset));
    before = size;
  }
  if (p != end) return PLOG_INVALID_RECORD;
  l.keys.nulls_count += l.n - c->count;
  c->bytes[KEYS] = l.keys;
  c->bytes[VALUES] = l.values;
  c->bytes[HEADERS] = l.headers;
  c->count = l.n;
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
    c->bytes[i].told = 0;
    c->bytes[i].ends[0] = 0;
  }
}

static plog_bytes_column show(const bytes_column *b, const int64_t *ends, const uint8_t *nulls) {
  return (plog_bytes_column){b->data, ends, nulls, (int64_t)b->size_bytes, b->nulls_count};
}

static void describe(plog_columns *c, plog_columns_view *out) {
  bytes_column *keys = &c->bytes[KEYS], *values = &c->bytes[VALUES], *headers = &c->bytes[HEADERS];
  bool any_key = keys->told > 0, any_null = values->told > 0, any_headers = headers->told > 0;
  const uint8_t *none = (const uint8_t *)c->zeros;
  if (any_key) tell_keys(keys, c->count);
  if (any_null) tell_values(values, c->count);
  if (any_headers) tell_headers(headers, c->headers_counts, c->count);
  out->count = c->count;
  out->offsets = c->offsets;
  out->timestamps = c->timestamps;
  out->headers_counts = any_headers ? c->headers_counts : (const int32_t *)c->zeros;
  out->keys = show(keys, any_key ? keys->ends : c->zeros, any_key ? keys->nulls : c->ones);
  out->values = show(values, values->ends, any_null ? values->nulls : none);
  out->headers = show(headers, any_headers ? headers->ends : c->zeros, none);
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
