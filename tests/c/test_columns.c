/* test_columns.c: records of many batches as columns: what is taken in, what is left out, and what ends it. */
#include "log_fixture.h"

/* Three batches of ten records each at 100, 110 and 120, in memory of exactly their size. */
typedef struct {
  uint8_t *data;
  size_t size, one; /* all, and each */
} three;

static three make_three(int32_t attributes, int64_t producer_id) {
  three t = {0};
  for (int32_t i = 0; i < 3; i++) {
    stamped s;
    stamp(&s, 100 + 10 * i, 10, 0, 1000 + i, 20, producer_id, producer_id < 0 ? -1 : 10 * i, attributes);
    t.data = realloc(t.data, t.size + s.size);
    CHECK(t.data);
    memcpy(t.data + t.size, s.data, s.size);
    t.size += s.size;
    t.one = s.size;
  }
  return t;
}

static const plog_columns_query everything = {0, INT64_MAX, 0, INT64_MAX, INT64_MAX, NULL, 0};

static plog_columns_view decode(plog_columns *c, const uint8_t *data, size_t size, const plog_columns_query *q) {
  plog_columns_view v;
  CHECK_EQ(plog_columns_decode(c, data, size, q, &v), 0);
  return v;
}

static void test_everything_there_is(void) {
  for (int32_t codec = PLOG_CODEC_NONE; codec <= PLOG_CODEC_SNAPPY; codec += PLOG_CODEC_SNAPPY) {
    three t = make_three(codec, -1);
    plog_columns *c = plog_columns_open();
    plog_columns_view v = decode(c, t.data, t.size, &everything);
    CHECK_EQ(v.stopped, 0);
    CHECK_EQ(v.used_bytes, t.size);
    CHECK_EQ(v.next_offset, 130);
    CHECK_EQ(v.count, 30);
    CHECK_EQ(v.keys.ends[0], 0);
    for (int32_t i = 0; i < 30; i++) {
      int32_t key;
      memcpy(&key, v.keys.data + v.keys.ends[i], sizeof key);
      CHECK_EQ(key, i % 10);
      CHECK_EQ(v.offsets[i], 100 + i);
      CHECK_EQ(v.timestamps[i], 1000 + i / 10);
      CHECK_EQ(v.keys.ends[i + 1], 4 * (i + 1));
      CHECK_EQ(v.values.ends[i + 1], 20 * (i + 1));
      CHECK_EQ(v.values.nulls[i], 0);
      CHECK_EQ(v.headers_counts[i], 0);
    }
    CHECK_EQ(v.values.size_bytes, 600);
    CHECK_EQ(v.keys.nulls_count + v.values.nulls_count, 0);
    plog_columns_close(c);
    free(t.data);
  }
}

enum { MIXED = 200, MIXED_MAX_BYTES = 20000 };

/* Sizes of fields, -1 for null, around those that are treated differently. */
static const int32_t mixed_sizes[] = {
    -1, 0, 1, 31, 32, 33, 63, 64, 100, 255, 256, 257, 4095, 4096, 8191, 8192, MIXED_MAX_BYTES};
static const uint8_t mixed_headers[] = {2, 'k', 2, 'v', 2, 'n', 1};

typedef struct {
  int64_t timestamp;
  int32_t key_bytes, value_bytes, headers_count; /* every byte of record i is i */
} mixed_record;

/* Records of every kind beside one another, in memory of exactly their size. */
static uint8_t *build_mixed(uint32_t seed, mixed_record records[MIXED], size_t *out_bytes) {
  static uint8_t bytes[MIXED_MAX_BYTES];
  plog_batch_builder *b = plog_batch_builder_open();
  plog_batch_builder_reset(b, 1000, 0, -1, -1, -1, 0);
  uint32_t draw = seed * 2654435761u + 1;
  for (int32_t i = 0; i < MIXED; i++) {
    draw = draw * 1664525u + 1013904223u;
    mixed_record *r = &records[i];
    r->key_bytes = draw >> 30 ? -1 : mixed_sizes[(draw >> 8) % PLOG_COUNT_OF(mixed_sizes)];
    r->value_bytes = mixed_sizes[(draw >> 16) % PLOG_COUNT_OF(mixed_sizes)];
    r->headers_count = draw % 7 == 0 ? 2 : 0;
    r->timestamp = 5000 + (draw % 5 == 0 ? (int64_t)draw << 10 : i);
    memset(bytes, i, sizeof bytes);
    CHECK_EQ(plog_batch_builder_add(b, r->timestamp, r->key_bytes < 0 ? NULL : bytes, r->key_bytes,
                                    r->value_bytes < 0 ? NULL : bytes, r->value_bytes, mixed_headers,
                                    r->headers_count ? sizeof mixed_headers : 0, r->headers_count),
             0);
  }
  const uint8_t *built;
  CHECK_EQ(plog_batch_builder_finish(b, 0, &built, out_bytes), 0);
  uint8_t *data = malloc(*out_bytes);
  CHECK(data);
  memcpy(data, built, *out_bytes);
  plog_batch_builder_close(b);
  return data;
}

/* Number i of a column is so many bytes, each of them `byte`. */
static void check_field(const plog_bytes_column *column, int64_t i, int32_t size_bytes, uint8_t byte) {
  CHECK_EQ(column->nulls[i], size_bytes < 0);
  CHECK_EQ(column->ends[i + 1] - column->ends[i], size_bytes < 0 ? 0 : size_bytes);
  for (int64_t at = column->ends[i]; at < column->ends[i + 1]; at++) CHECK_EQ(column->data[at], byte);
}

static void test_records_of_every_kind(void) {
  plog_columns *c = plog_columns_open(); /* whose memory is not fresh after the first */
  for (uint32_t seed = 0; seed < 20; seed++) {
    mixed_record records[MIXED];
    size_t size;
    uint8_t *data = build_mixed(seed, records, &size);
    plog_columns_query q = everything;
    q.from_offset = 1000 + seed;
    plog_columns_view v = decode(c, data, size, &q);
    CHECK_EQ(v.count, MIXED - seed);
    int64_t nulls = 0;
    for (int64_t i = 0; i < v.count; i++) {
      const mixed_record *r = &records[i + seed];
      CHECK_EQ(v.offsets[i], 1000 + i + seed);
      CHECK_EQ(v.timestamps[i], r->timestamp);
      check_field(&v.keys, i, r->key_bytes, (uint8_t)(i + seed));
      check_field(&v.values, i, r->value_bytes, (uint8_t)(i + seed));
      CHECK_EQ(v.headers_counts[i], r->headers_count);
      CHECK_EQ(v.headers.ends[i + 1] - v.headers.ends[i], r->headers_count ? (int64_t)sizeof mixed_headers : 0);
      if (r->headers_count) CHECK_EQ(memcmp(v.headers.data + v.headers.ends[i], mixed_headers, sizeof mixed_headers), 0);
      nulls += r->key_bytes < 0;
    }
    CHECK_EQ(v.keys.nulls_count, nulls);
    CHECK_EQ(v.headers.nulls_count, 0);
    free(data);
  }
  plog_columns_close(c);
}

static void test_from_and_below(void) {
  three t = make_three(0, -1);
  plog_columns *c = plog_columns_open();
  plog_columns_query q = everything;
  q.from_offset = 113;
  q.max_offset = 125;
  plog_columns_view v = decode(c, t.data, t.size, &q);
  CHECK_EQ(v.count, 12);
  CHECK_EQ(v.offsets[0], 113);
  CHECK_EQ(v.offsets[11], 124);
  CHECK_EQ(v.next_offset, 125);
  q.max_offset = 120;
  v = decode(c, t.data, t.size, &q);
  CHECK_EQ(v.count, 7);
  CHECK_EQ(v.stopped, PLOG_E_STOPPED);
  CHECK_EQ(v.used_bytes, 2 * t.one);
  q.from_offset = INT64_MAX;
  q.max_offset = INT64_MAX;
  v = decode(c, t.data, t.size, &q);
  CHECK_EQ(v.count, 0);
  CHECK_EQ(v.next_offset, 130);
  v = decode(c, t.data, 0, &everything);
  CHECK_EQ(v.count, 0);
  CHECK_EQ(v.next_offset, -1);
  CHECK_EQ(v.values.ends[0], 0);
  plog_columns_close(c);
  free(t.data);
}

static void test_every_cut(void) {
  three t = make_three(0, -1);
  plog_columns *c = plog_columns_open();
  for (size_t size = 0; size < t.size; size++) {
    uint8_t *cut = malloc(size ? size : 1);
    CHECK(cut);
    memcpy(cut, t.data, size);
    plog_columns_view v = decode(c, cut, size, &everything);
    size_t whole = size / t.one;
    CHECK_EQ(v.count, 10 * whole);
    CHECK_EQ(v.used_bytes, whole * t.one);
    CHECK_EQ(v.stopped, size % t.one ? PLOG_E_SHORT : 0);
    if (size % t.one >= PLOG_LOG_OVERHEAD) CHECK_EQ(v.needed_bytes, t.one);
    free(cut);
  }
  plog_columns_close(c);
  free(t.data);
}

/* No bit of the second batch can flip unseen, but those of its leader epoch, which nothing covers. */
static void test_every_flipped_bit(void) {
  three t = make_three(0, -1);
  plog_columns *c = plog_columns_open();
  plog_columns_query q = everything;
  q.floor_offset = 100;
  q.ceiling_offset = 200;
  for (size_t bit = 8 * t.one; bit < 16 * t.one; bit++) {
    size_t at = bit / 8 - t.one;
    if (at >= PLOG_BATCH_AT_LEADER_EPOCH && at < PLOG_BATCH_AT_MAGIC) continue;
    t.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    plog_columns_view v = decode(c, t.data, t.size, &q);
    t.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    CHECK(v.stopped != 0);
    CHECK_EQ(v.count, 10);
    CHECK_EQ(v.used_bytes, t.one);
  }
  plog_columns_close(c);
  free(t.data);
}

static void test_transactions(void) {
  three t = make_three(PLOG_ATTR_TRANSACTIONAL, 7);
  plog_columns *c = plog_columns_open();
  plog_columns_query q = everything;
  q.decided_offset = 120;
  plog_columns_view v = decode(c, t.data, t.size, &q);
  CHECK_EQ(v.stopped, PLOG_E_AGAIN);
  CHECK_EQ(v.count, 20);
  const int64_t aborted[] = {8, 100, 129, 7, 110, 119};
  q.decided_offset = INT64_MAX;
  q.aborted = aborted;
  q.aborted_count = 2;
  v = decode(c, t.data, t.size, &q);
  CHECK_EQ(v.stopped, 0);
  CHECK_EQ(v.count, 20);
  CHECK_EQ(v.offsets[10], 120);
  stamped marker;
  stamp_marker(&marker, 130, 7, 0);
  v = decode(c, marker.data, marker.size, &q);
  CHECK_EQ(v.count, 0);
  CHECK_EQ(v.next_offset, 131);
  plog_columns_close(c);
  free(t.data);
}

static void test_what_is_no_batch(void) {
  plog_columns *c = plog_columns_open();
  uint8_t zeros[100] = {0};
  CHECK_EQ(decode(c, zeros, sizeof zeros, &everything).stopped, PLOG_CORRUPT_MESSAGE);
  three t = make_three(0, -1);
  t.data[PLOG_BATCH_AT_MAGIC] = 1;
  CHECK_EQ(decode(c, t.data, t.size, &everything).stopped, PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT);
  t.data[PLOG_BATCH_AT_MAGIC] = 3;
  CHECK_EQ(decode(c, t.data, t.size, &everything).stopped, PLOG_CORRUPT_MESSAGE);
  t.data[PLOG_BATCH_AT_MAGIC] = 2;
  /* more records than its bytes can hold, under a right CRC */
  plog_put_i32(t.data + PLOG_BATCH_AT_COUNT, INT32_MAX);
  plog_put_u32(t.data + PLOG_BATCH_AT_CRC,
               plog_crc32c(0, t.data + PLOG_BATCH_AT_ATTRIBUTES, t.one - PLOG_BATCH_AT_ATTRIBUTES));
  plog_columns_view v = decode(c, t.data, t.size, &everything);
  CHECK_EQ(v.stopped, PLOG_INVALID_RECORD);
  CHECK_EQ(v.count, 0);
  plog_columns_close(c);
  free(t.data);
}

/* ---------------------------------------------------------------------------------------------- records that are alike */

typedef struct {
  const plog_columns_view *view;
  const plog_columns_query *query;
  int64_t n; /* of the view */
} comparison;

static void check_bytes(const plog_bytes_column *column, int64_t i, const uint8_t *data, int64_t size_bytes) {
  CHECK_EQ(column->ends[i + 1] - column->ends[i], PLOG_MAX(size_bytes, 0));
  if (size_bytes > 0) CHECK_EQ(memcmp(column->data + column->ends[i], data, (size_t)size_bytes), 0);
}

static int32_t compare_record(void *context, int32_t index, const plog_record *r) {
  comparison *c = context;
  const plog_columns_view *v = c->view;
  (void)index;
  if (r->offset < c->query->from_offset || r->offset >= c->query->max_offset) return 0;
  int64_t i = c->n++;
  CHECK(i < v->count);
  CHECK_EQ(v->offsets[i], r->offset);
  CHECK_EQ(v->timestamps[i], r->timestamp);
  CHECK_EQ(v->keys.nulls[i], !r->key);
  CHECK_EQ(v->values.nulls[i], !r->value);
  CHECK_EQ(v->headers_counts[i], r->headers_count);
  check_bytes(&v->keys, i, r->key, r->key_bytes);
  check_bytes(&v->values, i, r->value, r->value_bytes);
  check_bytes(&v->headers, i, r->headers, r->headers_bytes);
  return 0;
}

static int32_t pass(void *context, int32_t index, const plog_record *record) {
  (void)context, (void)index, (void)record;
  return 0;
}

/* What a decode gives of one batch is what walking its records one by one gives, of which it is neither more nor less. */
static void compare(plog_columns *c, const uint8_t *data, size_t size, const plog_columns_query *q) {
  plog_batch_header header;
  plog__batch_parse(data, &header);
  plog_columns_view v = decode(c, data, size, q);
  if (plog__batch_each(data, &header, size, pass, NULL) != 0) {
    CHECK_EQ(v.stopped, PLOG_INVALID_RECORD);
    CHECK_EQ(v.count, 0);
    return;
  }
  CHECK_EQ(v.stopped, 0);
  comparison all = {&v, q, 0};
  CHECK_EQ(plog__batch_each(data, &header, size, compare_record, &all), 0);
  CHECK_EQ(all.n, v.count);
  CHECK_EQ(v.keys.ends[v.count], v.keys.size_bytes);
  CHECK_EQ(v.values.ends[v.count], v.values.size_bytes);
}

/* Records in runs that are alike: of one size, of one time; in memory of exactly their size. */
static uint8_t *build_runs(uint64_t *chance, int32_t count, size_t *out_bytes) {
  static const int32_t sizes[] = {-1, 0, 1, 8, 20, 63, 64, 100, 300};
  static uint8_t bytes[512];
  plog_batch_builder *b = plog_batch_builder_open();
  plog_batch_builder_reset(b, 1000, 0, -1, -1, -1, 0);
  int32_t left = 0, key = 0, value = 0, headers = 0;
  int64_t timestamp = 5000;
  for (int32_t i = 0; i < count; i++) {
    if (left-- == 0) {
      left = (int32_t)(test_random(chance) % (test_random(chance) % 4 ? 400 : 4));
      key = test_random(chance) % 2 ? -1 : sizes[test_random(chance) % PLOG_COUNT_OF(sizes)];
      value = sizes[test_random(chance) % PLOG_COUNT_OF(sizes)];
      headers = test_random(chance) % 8 == 0;
      timestamp += (int64_t)(test_random(chance) % 3 * (test_random(chance) % 200));
    }
    for (size_t k = 0; k < sizeof bytes; k += 8) memcpy(bytes + k, &(uint64_t){test_random(chance)}, 8);
    CHECK_EQ(plog_batch_builder_add(b, timestamp, key < 0 ? NULL : bytes, key, value < 0 ? NULL : bytes + 100, value,
                                    mixed_headers, headers ? sizeof mixed_headers : 0, headers ? 2 : 0),
             0);
  }
  const uint8_t *built;
  CHECK_EQ(plog_batch_builder_finish(b, 0, &built, out_bytes), 0);
  uint8_t *data = malloc(*out_bytes);
  CHECK(data);
  memcpy(data, built, *out_bytes);
  plog_batch_builder_close(b);
  return data;
}

static void test_runs_of_records_alike(void) {
  plog_columns *c = plog_columns_open();
  uint64_t chance = 7;
  for (int32_t round = 0; round < 60; round++) {
    const int32_t count = round % 20 ? 700 : 9000; /* beyond what an offset of two bytes can say */
    size_t size;
    uint8_t *data = build_runs(&chance, count, &size);
    compare(c, data, size, &everything);
    plog_columns_query q = everything;
    q.from_offset = 1000 + (int64_t)(test_random(&chance) % (uint64_t)count);
    compare(c, data, size, &q);
    q.max_offset = q.from_offset + 1 + (int64_t)(test_random(&chance) % (uint64_t)count);
    compare(c, data, size, &q);
    free(data);
  }
  plog_columns_close(c);
}

/* Whatever byte of such records is another one, under a CRC that is right: they are read as they stand, or not at all. */
static void test_records_nearly_alike(void) {
  static const uint8_t others[] = {0, 1, 2, 0x7f, 0x80, 0xff};
  plog_columns *c = plog_columns_open();
  uint64_t chance = 11;
  for (int32_t round = 0; round < 6; round++) {
    size_t size;
    uint8_t *data = build_runs(&chance, 130, &size);
    for (size_t at = PLOG_BATCH_OVERHEAD; at < size; at += round < 2 ? 1 : 7) {
      const uint8_t was = data[at];
      data[at] = (uint8_t)(test_random(&chance) % 2 ? was + 1 : others[test_random(&chance) % sizeof others]);
      plog_put_u32(data + PLOG_BATCH_AT_CRC,
                   plog_crc32c(0, data + PLOG_BATCH_AT_ATTRIBUTES, size - PLOG_BATCH_AT_ATTRIBUTES));
      compare(c, data, size, &everything);
      data[at] = was;
    }
    free(data);
  }
  plog_columns_close(c);
}

int main(void) {
  RUN(test_everything_there_is);
  RUN(test_records_of_every_kind);
  RUN(test_runs_of_records_alike);
  RUN(test_records_nearly_alike);
  RUN(test_from_and_below);
  RUN(test_every_cut);
  RUN(test_every_flipped_bit);
  RUN(test_transactions);
  RUN(test_what_is_no_batch);
  return 0;
}
