/* test_topic.c: the table finds what it hosts by name, id and number, however much comes and goes. */
#include "topic.h"

#include "test.h"

#define COUNT 2000

static plog_topics topics;

static void id_of(const char *name, uint8_t *out) {
  memset(out, 0, PLOG_TOPIC_ID_BYTES);
  memcpy(out, name, strlen(name));
}

static int32_t add(const char *name, int32_t index, plog_partition *p) {
  uint8_t id[PLOG_TOPIC_ID_BYTES];
  id_of(name, id);
  return plog__topics_add(&topics, name, id, index, p);
}

static plog_partition *by_name(const char *name, int32_t index) {
  return plog__topic_partition(plog__topics_by_name(&topics, (const uint8_t *)name, strlen(name)), index);
}

static void comes_and_goes(void) {
  static plog_partition partitions[COUNT];
  static char names[COUNT][8];
  uint64_t seed = 11;
  bool hosted[COUNT] = {false};
  int64_t last_number[COUNT] = {0};
  for (int i = 0; i < COUNT; i++) (void)snprintf(names[i], sizeof names[i], "t%d", i / 3);
  for (int step = 0; step < 20000; step++) {
    int i = (int)(test_random(&seed) % COUNT);
    int64_t generation = topics.generation;
    if (hosted[i]) {
      plog__topics_remove(&topics, &partitions[i]);
    } else {
      CHECK_EQ(add(names[i], i % 3, &partitions[i]), 0);
      CHECK(partitions[i].number > last_number[i]);
      last_number[i] = partitions[i].number;
    }
    CHECK(topics.generation != generation);
    hosted[i] = !hosted[i];
    CHECK(by_name(names[i], i % 3) == (hosted[i] ? &partitions[i] : NULL));
    CHECK(plog__topics_by_number(&topics, last_number[i]) == (hosted[i] ? &partitions[i] : NULL));
  }
  for (int i = 0; i < COUNT; i++) {
    uint8_t id[PLOG_TOPIC_ID_BYTES];
    id_of(names[i], id);
    plog_partition *expected = hosted[i] ? &partitions[i] : NULL;
    CHECK(by_name(names[i], i % 3) == expected);
    CHECK(plog__topic_partition(plog__topics_by_id(&topics, id), i % 3) == expected);
    if (hosted[i]) plog__topics_remove(&topics, &partitions[i]);
  }
  CHECK_EQ(topics.index.count, 0);
}

static void refusals(void) {
  plog_partition a = {0}, b = {0};
  uint8_t zero[PLOG_TOPIC_ID_BYTES] = {0}, id[PLOG_TOPIC_ID_BYTES];
  CHECK_EQ(plog__topics_add(&topics, "old", zero, 0, &a), 0); /* a topic from before ids */
  CHECK(!plog__topics_by_id(&topics, zero));
  id_of("new", id);
  CHECK_EQ(plog__topics_add(&topics, "old", id, 1, &b), PLOG_INCONSISTENT_TOPIC_ID);
  CHECK_EQ(plog__topics_add(&topics, "old", zero, 0, &b), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(plog__topics_add(&topics, "old", zero, -1, &b), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(plog__topics_add(&topics, "old", zero, INT32_MAX, &b), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(plog__topics_add(&topics, "", id, 0, &b), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK(!by_name("old", -1));
  CHECK(!by_name("old", 1));
  CHECK(!by_name("ol", 0));
  CHECK(!plog__topics_by_number(&topics, -1));
  CHECK(!plog__topics_by_number(&topics, INT64_MAX));
  plog__topics_remove(&topics, &a);
}

int main(void) {
  plog__topics_init(&topics, 12345);
  RUN(comes_and_goes);
  RUN(refusals);
  plog__topics_deinit(&topics);
  return 0;
}
