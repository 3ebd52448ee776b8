/* test_batch.c: what a leader accepts of a client's batch, with which code it refuses, and what it stores. */
#include "batch.h"

#include "test.h"
#include "wire.h"

enum { NOW = 1700000000 };

static plog_batch_rules rules(void) {
  plog_batch_rules r = {1 << 20, 0, INT64_MAX, INT64_MAX, -1, INT32_MIN, 0, 1, NOW};
  return r;
}

/* A batch of count records "k<i>" = "value <i>", one millisecond apart, in a buffer with room behind. */
typedef struct {
  uint8_t data[1 << 16];
  size_t size;
} sample;

static void make(sample *out, int32_t codec, int32_t count, int64_t producer_id, int32_t sequence) {
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, 0, codec, producer_id, producer_id < 0 ? -1 : 0, sequence, -1);
  for (int32_t i = 0; i < count; i++) {
    char key[16], value[64];
    int key_bytes = snprintf(key, sizeof key, "k%d", i), value_bytes = snprintf(value, sizeof value, "value %d", i);
    const uint8_t headers[] = {2, 'h', 6, 'a', 'b', 'c'};
    CHECK_EQ(plog_batch_builder_add(b, NOW + i, (uint8_t *)key, key_bytes, (uint8_t *)value, value_bytes, headers,
                                    i % 2 ? sizeof headers : 0, i % 2),
             0);
  }
  const uint8_t *data;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &out->size), 0);
  CHECK(out->size < sizeof out->data);
  memcpy(out->data, data, out->size);
  plog_batch_builder_close(b);
}

static void renew(sample *s) {
  plog_put_u32(s->data + PLOG_BATCH_AT_CRC,
               plog_crc32c(0, s->data + PLOG_BATCH_AT_ATTRIBUTES, s->size - PLOG_BATCH_AT_ATTRIBUTES));
}

static int32_t accept_with(const plog_batch_rules *r, sample *s, plog_batch_accepted *out) {
  return plog__batch_accept(r, s->data, s->size, 5000, 7, out);
}
static int32_t accept_code(sample *s) {
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  int32_t rc = accept_with(&r, s, &out);
  if (rc == 0) free(out.rewritten);
  return rc;
}

typedef struct {
  int64_t offset, timestamp;
  int32_t seen;
} expectation;

static int32_t expect_record(void *context, int32_t index, const plog_record *record) {
  expectation *e = context;
  char key[16], value[64];
  int key_bytes = snprintf(key, sizeof key, "k%d", index), value_bytes = snprintf(value, sizeof value, "value %d", index);
  CHECK_EQ(record->offset, e->offset + index);
  CHECK_EQ(record->timestamp, e->timestamp < 0 ? NOW + index : e->timestamp);
  CHECK_EQ(record->key_bytes, key_bytes);
  CHECK(memcmp(record->key, key, (size_t)key_bytes) == 0);
  CHECK_EQ(record->value_bytes, value_bytes);
  CHECK(memcmp(record->value, value, (size_t)value_bytes) == 0);
  CHECK_EQ(record->headers_count, index % 2);
  e->seen++;
  return 0;
}

static void check_stored(const plog_batch_accepted *out, int32_t count, int32_t codec, int64_t timestamp) {
  plog_batch_header h;
  CHECK_EQ(plog_batch_check(out->data, out->size_bytes, &h), 0);
  CHECK(memcmp(&h, &out->header, sizeof h) == 0);
  CHECK_EQ(h.base_offset, 5000);
  CHECK_EQ(h.partition_leader_epoch, 7);
  CHECK_EQ(h.attributes & PLOG_ATTR_CODEC_MASK, codec);
  CHECK_EQ(h.records_count, count);
  CHECK_EQ(h.last_offset_delta, count - 1);
  CHECK_EQ(h.max_timestamp, timestamp < 0 ? NOW + count - 1 : timestamp);
  CHECK_EQ(out->max_timestamp_offset, 5000 + count - 1);
  expectation e = {5000, timestamp, 0};
  CHECK_EQ(plog__batch_each(out->data, &h, 1 << 20, expect_record, &e), 0);
  CHECK_EQ(e.seen, count);
}

static void good_batches_are_stamped_in_place(void) {
  for (int32_t codec = 0; codec <= 4; codec++) {
    const int32_t counts[] = {1, 2, 100, 1000};
    for (int i = 0; i < 4; i++) {
      sample s;
      make(&s, codec, counts[i], -1, -1);
      uint32_t crc = plog_get_u32(s.data + PLOG_BATCH_AT_CRC);
      plog_batch_rules r = rules();
      plog_batch_accepted out;
      CHECK_EQ(accept_with(&r, &s, &out), 0);
      CHECK(out.rewritten == NULL && out.data == s.data);
      CHECK_EQ(out.header.crc, crc);
      CHECK_EQ(out.record_error_index, -1);
      check_stored(&out, counts[i], codec, -1);
    }
  }
}

static void envelopes(void) {
  sample s;
  s.size = 0;
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* no batch at all */
  make(&s, 0, 3, -1, -1);
  s.size--;
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* cut */
  for (size_t size = 0; size < 61; size++) {
    s.size = size;
    CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
  }
  make(&s, 0, 3, -1, -1);
  s.data[PLOG_BATCH_AT_MAGIC] = 5;
  CHECK_EQ(accept_code(&s), PLOG_CORRUPT_MESSAGE);
  s.data[PLOG_BATCH_AT_MAGIC] = 1;
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
  make(&s, 0, 3, -1, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_LENGTH, 13);
  CHECK_EQ(accept_code(&s), PLOG_CORRUPT_MESSAGE);
  plog_put_i32(s.data + PLOG_BATCH_AT_LENGTH, -1);
  CHECK_EQ(accept_code(&s), PLOG_CORRUPT_MESSAGE);
  plog_put_i32(s.data + PLOG_BATCH_AT_LENGTH, 20);
  CHECK_EQ(accept_code(&s) == PLOG_CORRUPT_MESSAGE || accept_code(&s) == PLOG_INVALID_RECORD, 1);
  make(&s, 0, 3, -1, -1);
  s.data[PLOG_BATCH_AT_CRC]++;
  CHECK_EQ(accept_code(&s), PLOG_CORRUPT_MESSAGE);
  make(&s, 0, 3, -1, -1);
  s.data[s.size - 1]++;
  CHECK_EQ(accept_code(&s), PLOG_CORRUPT_MESSAGE);
  make(&s, 0, 3, -1, -1);
  plog_put_i64(s.data, 1000);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* base offset */
  make(&s, 0, 3, -1, -1);
  memcpy(s.data + s.size, s.data, s.size);
  s.size *= 2;
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* two batches */
  make(&s, 0, 3, -1, -1);
  size_t whole = s.size;
  memcpy(s.data + s.size, s.data, s.size);
  s.size = 2 * whole - 1;
  CHECK_EQ(accept_code(&s), 0); /* a batch and a piece of one */
  make(&s, 0, 3, -1, -1);
  plog_put_i16(s.data + PLOG_BATCH_AT_ATTRIBUTES, 7);
  renew(&s);
  CHECK_EQ(accept_code(&s), PLOG_E_UNKNOWN_CODEC);
  make(&s, 0, 3, -1, -1);
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  r.max_message_bytes = (int32_t)s.size;
  CHECK_EQ(accept_with(&r, &s, &out), 0);
  make(&s, 0, 3, -1, -1);
  r.max_message_bytes--;
  s.data[PLOG_BATCH_AT_CRC]++; /* the size is looked at first */
  CHECK_EQ(accept_with(&r, &s, &out), PLOG_MESSAGE_TOO_LARGE);
}

static void counts_and_flags(void) {
  sample s;
  make(&s, 0, 3, -1, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_COUNT, 4);
  renew(&s);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
  make(&s, 0, 3, -1, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_COUNT, 2);
  plog_put_i32(s.data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, 1);
  renew(&s);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* a record is left over */
  make(&s, 0, 3, -1, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_COUNT, 4);
  plog_put_i32(s.data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, 3);
  renew(&s);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* one is missing */
  for (int32_t codec = 1; codec <= 4; codec++) {
    for (int32_t count = 2; count <= 4; count += 2) {
      make(&s, codec, 3, -1, -1);
      plog_put_i32(s.data + PLOG_BATCH_AT_COUNT, count);
      plog_put_i32(s.data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, count - 1);
      renew(&s);
      CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
    }
  }
  make(&s, 0, 3, -1, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_LAST_OFFSET_DELTA, -1);
  plog_put_i32(s.data + PLOG_BATCH_AT_COUNT, 0);
  renew(&s);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
  make(&s, PLOG_ATTR_CONTROL | PLOG_ATTR_TRANSACTIONAL, 1, 1, 0);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
  make(&s, 0, 1, 1, -1);
  CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD); /* a producer id needs a sequence */
  make(&s, 0, 1, 1, 0);
  CHECK_EQ(accept_code(&s), 0);
  make(&s, PLOG_ATTR_CONTROL | PLOG_ATTR_TRANSACTIONAL, 1, 1, -1);
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  r.from_client = 0;
  CHECK_EQ(accept_with(&r, &s, &out), 0); /* a coordinator writes markers */
}

static void timestamps(void) {
  sample s;
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  make(&s, 0, 10, -1, -1);
  r.timestamp_after_max_ms = 4;
  CHECK_EQ(accept_with(&r, &s, &out), PLOG_INVALID_TIMESTAMP);
  CHECK_EQ(out.record_error_index, 5);
  r = rules();
  r.now_ms = NOW + 100;
  r.timestamp_before_max_ms = 98;
  CHECK_EQ(accept_with(&r, &s, &out), PLOG_INVALID_TIMESTAMP);
  CHECK_EQ(out.record_error_index, 0);
  r.timestamp_before_max_ms = 100;
  CHECK_EQ(accept_with(&r, &s, &out), 0);

  for (int32_t codec = 0; codec <= 4; codec++) {
    make(&s, codec, 10, -1, -1);
    r = rules();
    r.timestamp_type = 1;
    r.now_ms = NOW + 12345;
    r.timestamp_after_max_ms = 0; /* of no meaning here */
    CHECK_EQ(accept_with(&r, &s, &out), 0);
    CHECK(out.header.attributes & PLOG_ATTR_LOG_APPEND_TIME);
    CHECK(out.rewritten == NULL);
    check_stored(&out, 10, codec, NOW + 12345);
    /* what a producer must not say itself */
    CHECK_EQ(plog_get_i64(s.data), 5000);
    plog_put_i64(s.data, 0);
    CHECK_EQ(accept_with(&r, &s, &out), PLOG_INVALID_TIMESTAMP);
  }

  make(&s, 0, 10, -1, -1); /* a wrong largest timestamp is put right */
  plog_put_i64(s.data + PLOG_BATCH_AT_MAX_TIMESTAMP, NOW + 100000);
  renew(&s);
  r = rules();
  CHECK_EQ(accept_with(&r, &s, &out), 0);
  check_stored(&out, 10, 0, -1);
}

static void keys_where_they_are_needed(void) {
  for (int32_t codec = 0; codec <= 4; codec++) {
    plog_batch_builder *b = plog_batch_builder_open();
    CHECK(b);
    plog_batch_builder_reset(b, 0, codec, -1, -1, -1, -1);
    CHECK_EQ(plog_batch_builder_add(b, NOW, (const uint8_t *)"", 0, NULL, -1, NULL, 0, 0), 0);
    CHECK_EQ(plog_batch_builder_add(b, NOW, NULL, -1, (const uint8_t *)"v", 1, NULL, 0, 0), 0);
    const uint8_t *data;
    sample s;
    CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &s.size), 0);
    memcpy(s.data, data, s.size);
    plog_batch_rules r = rules();
    plog_batch_accepted out;
    r.compacted = 1;
    CHECK_EQ(accept_with(&r, &s, &out), PLOG_INVALID_RECORD);
    CHECK_EQ(out.record_error_index, 1);
    r.timestamp_after_max_ms = -1; /* a bad timestamp as well decides the code */
    CHECK_EQ(accept_with(&r, &s, &out), PLOG_INVALID_TIMESTAMP);
    CHECK_EQ(out.record_error_index, 0);
    r = rules();
    CHECK_EQ(accept_with(&r, &s, &out), 0);
    plog_batch_builder_close(b);
  }
}

static void stored_with_another_codec(void) {
  for (int32_t from = 0; from <= 4; from++) {
    for (int32_t to = 0; to <= 4; to++) {
      sample s;
      make(&s, from, 50, 77, 5);
      plog_batch_rules r = rules();
      plog_batch_accepted out;
      r.compression = to;
      CHECK_EQ(accept_with(&r, &s, &out), 0);
      CHECK_EQ(out.rewritten != NULL, from != to);
      check_stored(&out, 50, to, -1);
      CHECK_EQ(out.header.producer_id, 77);
      CHECK_EQ(out.header.base_sequence, 5);
      free(out.rewritten);
    }
  }
  sample s; /* too large once it is not compressed any more */
  make(&s, PLOG_CODEC_GZIP, 1000, -1, -1);
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  r.compression = PLOG_CODEC_NONE;
  r.max_message_bytes = (int32_t)s.size;
  CHECK_EQ(accept_with(&r, &s, &out), PLOG_MESSAGE_TOO_LARGE);
}

/* Plain records, of which the walk has a fast way: what is wrong with one of them is found all the same, wherever it is. */
static void one_bad_record_among_many(void) {
  enum { COUNT = 300 };
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  static uint8_t value[200];
  for (int bad = 0; bad < COUNT; bad += 23) {
    for (int kind = 0; kind < 4; kind++) {
      plog_batch_builder_reset(b, 0, 0, -1, -1, -1, -1);
      for (int i = 0; i < COUNT; i++) {
        bool here = i == bad;
        int64_t timestamp = NOW + i % 7 + (here && kind == 1 ? 1000 : 0);
        CHECK_EQ(plog_batch_builder_add(b, timestamp, here && kind == 2 ? NULL : value, i % 3, i % 5 ? value : NULL,
                                        i % 200, NULL, 0, 0),
                 0);
      }
      const uint8_t *data;
      sample s;
      CHECK_EQ(plog_batch_builder_finish(b, 0, &data, &s.size), 0);
      CHECK(s.size <= sizeof s.data);
      memcpy(s.data, data, s.size);
      plog_batch_rules r = rules();
      plog_batch_accepted out;
      r.timestamp_after_max_ms = 100;
      r.compacted = 1;
      if (kind == 3) { /* the value of that record, one byte longer than it is */
        const uint8_t *p = s.data + PLOG_BATCH_OVERHEAD;
        plog_reader reader;
        plog_reader_init(&reader, p, s.size - PLOG_BATCH_OVERHEAD);
        for (int i = 0; i < bad; i++) (void)plog_read_raw(&reader, (size_t)plog_read_varint(&reader));
        s.data[s.size - reader.left] += 2; /* its length */
        renew(&s);
      }
      int32_t rc = accept_with(&r, &s, &out);
      CHECK_EQ(rc, kind == 0 ? 0 : kind == 1 ? PLOG_INVALID_TIMESTAMP : PLOG_INVALID_RECORD);
      CHECK_EQ(out.record_error_index, kind == 1 || kind == 2 ? bad : -1);
      if (rc == 0) CHECK_EQ(out.header.max_timestamp, NOW + 6);
    }
  }
  plog_batch_builder_close(b);
}

/* Records of which every offset delta is 0: offsets are put right by rewriting. */
static void offsets_that_do_not_count_up(void) {
  sample s;
  make(&s, 0, 3, -1, -1);
  uint8_t *p = s.data + PLOG_BATCH_OVERHEAD;
  for (int i = 0; i < 3; i++) {
    p[3] = 0; /* length, attributes, timestamp delta, offset delta: one byte each here */
    p += 1 + p[0] / 2;
  }
  renew(&s);
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  CHECK_EQ(accept_with(&r, &s, &out), 0);
  CHECK(out.rewritten);
  check_stored(&out, 3, 0, -1);
  free(out.rewritten);
}

/* Every byte of the records, changed: refused or taken, never a crash; a batch that is taken can be read. */
static void damaged_records(void) {
  for (int32_t codec = 0; codec <= 4; codec++) {
    sample s, damaged;
    make(&s, codec, 5, -1, -1);
    for (size_t at = PLOG_BATCH_OVERHEAD; at < s.size; at++) {
      for (int flip = 1; flip < 256; flip *= 2) {
        damaged = s;
        damaged.data[at] ^= (uint8_t)flip;
        renew(&damaged);
        plog_batch_rules r = rules();
        plog_batch_accepted out;
        int32_t rc = accept_with(&r, &damaged, &out);
        CHECK(rc == 0 || rc == PLOG_INVALID_RECORD || (rc == PLOG_E_UNREADABLE && codec != 0));
        if (rc != 0) continue;
        uint8_t scratch[4096];
        plog_record records[5];
        int32_t count;
        CHECK_EQ(plog_batch_records(out.data, out.size_bytes, scratch, sizeof scratch, records, 5, &count), 0);
        CHECK_EQ(count, 5);
        free(out.rewritten);
      }
    }
  }
}

/* A record whose key claims more than there is, a header count beyond all bytes, and so on. */
static void lengths_that_lie(void) {
  static const uint8_t lies[][12] = {
      {0x0c, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0}, /* key of 2^31 - 1 bytes */
      {0x0c, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 0}, /* value with a varint beyond 32 bits */
      {0x0c, 0, 0, 0, 1, 1, 0x7e, 0, 0, 0, 0},             /* 63 headers in no bytes */
      {0x0c, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0},                /* -1 headers */
      {0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0},    /* length -2^31 */
      {0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0},    /* length 2^31 - 1 */
      {0x00, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0},                /* length 0 */
  };
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
    for (int32_t codec = 0; codec <= 4; codec++) {
      sample s;
      make(&s, 0, 1, -1, -1);
      size_t n;
      CHECK_EQ(plog_codec_compress(codec, INT32_MIN, lies[i], 11, s.data + PLOG_BATCH_OVERHEAD, 1000, &n), 0);
      s.size = PLOG_BATCH_OVERHEAD + n;
      plog_put_i32(s.data + PLOG_BATCH_AT_LENGTH, (int32_t)s.size - PLOG_LOG_OVERHEAD);
      plog_put_i16(s.data + PLOG_BATCH_AT_ATTRIBUTES, (int16_t)codec);
      renew(&s);
      CHECK_EQ(accept_code(&s), PLOG_INVALID_RECORD);
    }
  }
}

/* Compressed to a thousandth: walked without holding it, refused where it would have to be held. */
static void bombs(void) {
  enum { HUGE_BYTES = 300 << 20 };
  uint8_t *value = calloc(1, HUGE_BYTES);
  CHECK(value);
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, 0, PLOG_CODEC_ZSTD, -1, -1, -1, -1);
  CHECK_EQ(plog_batch_builder_add(b, NOW, NULL, -1, value, HUGE_BYTES, NULL, 0, 0), 0);
  const uint8_t *data;
  sample s;
  CHECK_EQ(plog_batch_builder_finish(b, 1, &data, &s.size), 0);
  CHECK(s.size < sizeof s.data);
  memcpy(s.data, data, s.size);
  plog_batch_builder_close(b);
  free(value);
  CHECK_EQ(accept_code(&s), 0);
  plog_put_i64(s.data, 0);
  plog_batch_rules r = rules();
  plog_batch_accepted out;
  r.compression = PLOG_CODEC_NONE;
  CHECK_EQ(accept_with(&r, &s, &out), PLOG_MESSAGE_TOO_LARGE);
}

static void headers_read(void) {
  sample s;
  make(&s, 0, 3, 9, 4);
  plog_batch_header h;
  CHECK_EQ(plog_batch_header_read(s.data, 11, &h), PLOG_E_SHORT);
  CHECK_EQ(h.size_bytes, 0);
  CHECK_EQ(plog_batch_header_read(s.data, 12, &h), PLOG_E_SHORT);
  CHECK_EQ(h.size_bytes, s.size);
  CHECK_EQ(plog_batch_header_read(s.data, 61, &h), PLOG_E_SHORT);
  CHECK_EQ(h.producer_id, 9);
  CHECK_EQ(plog_batch_header_read(s.data, s.size, &h), 0);
  CHECK_EQ(h.base_sequence, 4);
  uint8_t scratch[1];
  plog_record records[3];
  int32_t count = -1;
  CHECK_EQ(plog_batch_records(s.data, s.size, scratch, 0, records, 2, &count), PLOG_E_BUFFER_TOO_SMALL);
  CHECK_EQ(count, 3);
  CHECK_EQ(plog_batch_records(s.data, s.size, scratch, 0, records, 3, &count), 0);
  CHECK_EQ(records[2].offset, 2);
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *data;
  size_t size;
  CHECK(plog_batch_builder_finish(b, 0, &data, &size) != 0); /* no records, no batch */
  plog_batch_builder_close(b);
}

/* Records of one size that are added at once are the bytes that adding each of them makes. */
static void records_alike_are_built_as_one_by_one(void) {
  static const struct {
    int32_t before, count, value_bytes;
  } cases[] = {{0, 1, 0},     {0, 64, 7},     {0, 65, 100},    {3, 300, 31},   {62, 3, 1},
               {0, 8193, 33}, {8190, 4, 257}, {0, 1048580, 2}, {1, 70, 100000}};
  for (size_t k = 0; k < PLOG_COUNT_OF(cases); k++) {
    const int32_t size = cases[k].value_bytes, count = cases[k].count;
    uint8_t *values = malloc((size_t)size * (size_t)count + 1);
    CHECK(values);
    for (int64_t i = 0; i < (int64_t)size * count; i++) values[i] = (uint8_t)(i * 7 + i / 251);
    plog_batch_builder *one = plog_batch_builder_open(), *other = plog_batch_builder_open();
    plog_batch_builder *both[] = {one, other};
    for (int32_t b = 0; b < 2; b++) {
      plog_batch_builder_reset(both[b], 77, 0, -1, -1, -1, 5);
      for (int32_t i = 0; i < cases[k].before; i++)
        CHECK_EQ(plog_batch_builder_add(both[b], 1000, NULL, -1, NULL, -1, NULL, 0, 0), 0);
    }
    const int64_t timestamp = k % 2 ? 900 : 123456789012345;
    for (int32_t i = 0; i < count; i++)
      CHECK_EQ(plog_batch_builder_add(one, timestamp, NULL, -1, values + (int64_t)i * size, size, NULL, 0, 0), 0);
    CHECK_EQ(plog__batch_builder_add_alike(other, timestamp, values, size, count), 0);
    const uint8_t *data[2];
    size_t bytes[2];
    for (int32_t b = 0; b < 2; b++) CHECK_EQ(plog_batch_builder_finish(both[b], 0, &data[b], &bytes[b]), 0);
    CHECK_EQ(bytes[1], bytes[0]);
    CHECK_EQ(memcmp(data[0], data[1], bytes[0]), 0);
    plog_batch_builder_close(one);
    plog_batch_builder_close(other);
    free(values);
  }
}

int main(void) {
  RUN(good_batches_are_stamped_in_place);
  RUN(envelopes);
  RUN(counts_and_flags);
  RUN(timestamps);
  RUN(keys_where_they_are_needed);
  RUN(stored_with_another_codec);
  RUN(one_bad_record_among_many);
  RUN(offsets_that_do_not_count_up);
  RUN(damaged_records);
  RUN(lengths_that_lie);
  RUN(bombs);
  RUN(headers_read);
  RUN(records_alike_are_built_as_one_by_one);
  return 0;
}
