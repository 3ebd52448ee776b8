/*
 * fetch_answer.c: see fetch_answer.h.
 */
#include "fetch_answer.h"

#define TOPIC_ID_BYTES 16
#define ABORTED_BYTES 17   /* producer id, first offset, tags */
#define PARTITION_BYTES 37 /* the least that one takes: everything up to an empty set of tags */
#define TOPIC_BYTES_BY_NAME 3
#define TOPIC_BYTES_BY_ID 18

static int32_t read_count(plog_reader *r, size_t element_min_bytes) {
  int32_t count = plog_read_array(r, true, element_min_bytes);
  if (count < 0) plog_reader_fail(r, PLOG_E_MALFORMED);
  return PLOG_MAX(count, 0);
}

int32_t plog__fetch_answer_begin(plog_fetch_answer *a, int16_t version, int32_t correlation_id, const uint8_t *data,
                                 size_t size_bytes) {
  *a = (plog_fetch_answer){.version = version};
  plog_reader *r = &a->reader;
  plog_reader_init(r, data, size_bytes);
  bool ours = plog_read_i32(r) == correlation_id;
  plog_skip_tags(r);
  (void)plog_read_i32(r); /* throttle time: followers are not held back by it */
  a->error = plog_read_i16(r);
  a->session_id = plog_read_i32(r);
  bool by_id = version >= PLOG_FETCH_ANSWER_ID_VERSION;
  a->topics_left = read_count(r, by_id ? TOPIC_BYTES_BY_ID : TOPIC_BYTES_BY_NAME);
  return ours && r->status == 0 ? 0 : PLOG_E_MALFORMED;
}

static void read_topic(plog_fetch_answer *a) {
  plog_reader *r = &a->reader;
  bool by_id = a->version >= PLOG_FETCH_ANSWER_ID_VERSION;
  a->topic_id = by_id ? plog_read_raw(r, TOPIC_ID_BYTES) : NULL;
  a->topic_name = by_id ? (plog_bytes){NULL, 0} : plog_read_string(r, true);
  a->partitions_left = read_count(r, PARTITION_BYTES);
}

static void skip_aborted(plog_reader *r) {
  for (int32_t left = plog_read_array(r, true, ABORTED_BYTES); left > 0 && r->status == 0; left--) {
    (void)plog_read_i64(r);
    (void)plog_read_i64(r);
    plog_skip_tags(r);
  }
}

static void read_tag(plog_fetch_answer_partition *out, uint32_t tag, plog_reader *r) {
  if (tag == 0) {
    out->diverging_epoch = plog_read_i32(r);
    out->diverging_end = plog_read_i64(r);
    plog_skip_tags(r);
    /* what it would be without the tag; Kafka's way to say that there is none */
    out->diverging = out->diverging_epoch >= 0 || out->diverging_end >= 0;
  } else if (tag == 1) {
    out->leader_id = plog_read_i32(r);
    out->leader_epoch = plog_read_i32(r);
    plog_skip_tags(r);
  }
}

static void read_tags(plog_reader *r, plog_fetch_answer_partition *out) {
  for (uint32_t left = plog_read_uvarint(r); left > 0 && r->status == 0; left--) {
    uint32_t tag = plog_read_uvarint(r);
    uint32_t size_bytes = plog_read_uvarint(r);
    const uint8_t *value = plog_read_raw(r, size_bytes);
    if (!value) return;
    plog_reader inside;
    plog_reader_init(&inside, value, size_bytes);
    read_tag(out, tag, &inside);
    if (inside.status) plog_reader_fail(r, PLOG_E_MALFORMED);
  }
}

static void read_partition(plog_fetch_answer *a, plog_fetch_answer_partition *out) {
  plog_reader *r = &a->reader;
  *out = (plog_fetch_answer_partition){
      .topic_id = a->topic_id, .topic_name = a->topic_name, .leader_id = -1, .leader_epoch = -1};
  out->index = plog_read_i32(r);
  out->error = plog_read_i16(r);
  out->high_watermark = plog_read_i64(r);
  (void)plog_read_i64(r); /* last stable offset */
  out->log_start = plog_read_i64(r);
  skip_aborted(r);
  (void)plog_read_i32(r); /* preferred read replica: a consumer's affair */
  out->records = plog_read_nullable_bytes(r, true);
  read_tags(r, out);
}

bool plog__fetch_answer_next(plog_fetch_answer *a, plog_fetch_answer_partition *out) {
  plog_reader *r = &a->reader;
  while (a->partitions_left == 0) {
    if (a->topics_left == 0 || r->status) return false;
    a->topics_left--;
    read_topic(a);
    if (a->partitions_left == 0) plog_skip_tags(r);
  }
  read_partition(a, out);
  if (--a->partitions_left == 0) plog_skip_tags(r);
  if (r->status) a->topics_left = a->partitions_left = 0;
  return r->status == 0;
}

int32_t plog__fetch_answer_check(const plog_fetch_answer *a) {
  plog_fetch_answer ahead = *a;
  plog_fetch_answer_partition partition;
  while (plog__fetch_answer_next(&ahead, &partition)) {
  }
  plog_skip_tags(&ahead.reader); /* addresses of brokers, for clients that came to the wrong one */
  return ahead.reader.status == 0 && ahead.reader.left == 0 ? 0 : PLOG_E_MALFORMED;
}
