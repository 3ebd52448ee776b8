/*
 * test_offset_commit.c: an OffsetCommit is read in every version and cut nowhere; what is not plain is not read; the record of an
 * offset is as Kafka writes it; a member's commits are taken only as it was published for them.
 */
#include "offset_commit.h"

#include "test.h"

enum { METADATA_MAX = 8 };

/* One entry of each of two topics, and what an odd test changes. */
typedef struct {
  int64_t retention_ms;
  int32_t second_index;
  int64_t offset;
  const char *second_topic;
  const char *metadata;
} plain;

static const plain usual = {-1, 5, 10, "u", "meta"};

static void put_topic(plog_writer *w, int16_t version, const char *name, int32_t index, const plain *p) {
  bool flexible = version >= 8;
  uint8_t id[16] = {0};
  memcpy(id, name, strlen(name));
  if (version >= 10)
    plog_write_raw(w, id, 16);
  else
    plog_write_string(w, flexible, name, strlen(name));
  plog_write_array(w, flexible, 2);
  for (int32_t i = 0; i < 2; i++) {
    plog_write_i32(w, i ? index : 0);
    plog_write_i64(w, p->offset);
    if (version >= 6) plog_write_i32(w, 4);
    plog_write_string(w, flexible, p->metadata, p->metadata ? strlen(p->metadata) : 0);
    if (flexible) plog_write_no_tags(w);
  }
  if (flexible) plog_write_no_tags(w);
}

static void put(plog_writer *w, int16_t version, const plain *p) {
  bool flexible = version >= 8;
  plog_writer_init(w);
  if (flexible) plog_write_no_tags(w);
  plog_write_string(w, flexible, "group", 5);
  plog_write_i32(w, 9);
  plog_write_string(w, flexible, "member", 6);
  if (version >= 7) plog_write_string(w, flexible, "instance", 8);
  if (version <= 4) plog_write_i64(w, p->retention_ms);
  plog_write_array(w, flexible, 2);
  put_topic(w, version, "t", 1, p);
  put_topic(w, version, p->second_topic, p->second_index, p);
  if (flexible) plog_write_raw(w, "\1\5\2xy", 5); /* a tagged field that nobody knows */
}

static bool decode(int16_t version, const uint8_t *body, size_t body_bytes, plog_offset_commit *out) {
  plog_frame frame = {.api_key = PLOG_API_OFFSET_COMMIT,
                      .api_version = version,
                      .body = (uint8_t *)body,
                      .body_bytes = (uint32_t)body_bytes};
  return plog__offset_commit_read(&frame, METADATA_MAX, out);
}

static bool is_read(int16_t version, const plain *p) {
  plog_writer w;
  plog_offset_commit commit;
  put(&w, version, p);
  bool found = decode(version, w.data, w.size_bytes, &commit);
  plog_writer_deinit(&w);
  return found;
}

static void every_version_is_read(void) {
  for (int16_t version = 2; version <= 10; version++) {
    plog_writer w;
    plog_offset_commit c;
    put(&w, version, &usual);
    CHECK(decode(version, w.data, w.size_bytes, &c));
    CHECK_EQ(c.who.epoch, 9);
    CHECK(c.who.group_id.size_bytes == 5 && memcmp(c.who.member_id.data, "member", 6) == 0);
    CHECK((c.who.instance_id.data != NULL) == (version >= 7));
    CHECK_EQ(c.topics_count, 2);
    CHECK_EQ(c.entries_count, 4);
    for (size_t cut = 0; cut < w.size_bytes; cut++) {
      uint8_t *part = malloc(cut + 1); /* so that a sanitizer sees a look past its end */
      CHECK(part);
      memcpy(part, w.data, cut);
      CHECK(!decode(version, part, cut, &c));
      free(part);
    }
    plog_writer_deinit(&w);
  }
  CHECK(!is_read(1, &usual));
  CHECK(!is_read(11, &usual));
  CHECK(!is_read(-1, &usual));
}

static void what_is_not_plain_is_not_read(void) {
  static const plain odd[] = {{-1, 0, 10, "u", ""}, {-1, 5, 10, "t", ""},          {-1, -5, 10, "u", ""},
                              {-1, 5, -1, "u", ""}, {-1, 5, 10, "u", "123456789"}, {-1, 5, 10, "u", "\xc3\xa9"}};
  static const plain fine[] = {{-1, 5, 0, "u", NULL}, {-1, 1, INT64_MAX, "tt", "12345678"}, {-1, INT32_MAX, 1, "u", ""}};
  static const plain retained = {0, 5, 10, "u", ""};
  for (int16_t version = 2; version <= 10; version++) {
    for (size_t i = 0; i < PLOG_COUNT_OF(odd); i++) CHECK(!is_read(version, &odd[i]));
    for (size_t i = 0; i < PLOG_COUNT_OF(fine); i++) CHECK(is_read(version, &fine[i]));
    CHECK_EQ(is_read(version, &retained), version > 4);
  }
}

static void a_record_is_as_kafka_writes_it(void) {
  static const uint8_t expected[] = {0, 0, 0,   14, 0, 1, 0, 2, 'g', 'g', 0, 2, 't', 't', 0, 0, 0, 3, /* key */
                                     0, 0, 0,   25, 0, 3, 0, 0, 0,   0,   0, 0, 0,   7,   0, 0, 0, 2,
                                     0, 1, 'm', 0,  0, 0, 0, 0, 0,   1,   44}; /* value */
  plog_writer w;
  plog_writer_init(&w);
  plog_offset_entry entry = {.index = 3, .offset = 7, .leader_epoch = 2, .metadata = {(const uint8_t *)"m", 1}};
  plog__offset_record_write(&w, (plog_bytes){(const uint8_t *)"gg", 2}, (plog_bytes){(const uint8_t *)"tt", 2}, &entry,
                            300);
  CHECK_EQ(w.size_bytes, sizeof expected);
  CHECK(memcmp(w.data, expected, sizeof expected) == 0);
  plog_writer_deinit(&w);
}

static void only_members_with_a_partition_commit(void) {
  plog_members m;
  plog__members_init(&m, 3);
  plog_heartbeat who = {.group_id = {(const uint8_t *)"g", 1}, .member_id = {(const uint8_t *)"a", 1}, .epoch = 2};
  CHECK_EQ(plog__members_publish(&m, &who, -1), 0);
  CHECK_EQ(plog__members_commits_to(&m, &who, 9, 5), -1);
  CHECK_EQ(plog__members_heard_ms(&m, who.group_id, who.member_id), -1);
  CHECK_EQ(plog__members_publish(&m, &who, 77), 0);
  CHECK_EQ(plog__members_commits_to(&m, &who, 2, 6), 77);
  CHECK_EQ(plog__members_heard_ms(&m, who.group_id, who.member_id), 6);
  who.epoch = 1;
  CHECK_EQ(plog__members_commits_to(&m, &who, 9, 7), -1);
  who.epoch = 2;
  plog__members_withdraw(&m, who.group_id, who.member_id, false);
  CHECK_EQ(plog__members_commits_to(&m, &who, 9, 8), -1);
  CHECK_EQ(plog__members_heard_ms(&m, who.group_id, who.member_id), 6);
  plog__members_deinit(&m);
}

int main(void) {
  every_version_is_read();
  what_is_not_plain_is_not_read();
  a_record_is_as_kafka_writes_it();
  only_members_with_a_partition_commit();
  return 0;
}
