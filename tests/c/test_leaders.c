/* test_leaders.c: what a controller told of topics is found by name and by id, and nothing of what it took back. */
#include "leaders.h"

#include "test.h"

#define TOPICS 500
#define PARTITIONS 4

static plog_leaders leaders;

static plog_bytes bytes_of(const char *name) {
  return (plog_bytes){(const uint8_t *)name, strlen(name)};
}

static int32_t tell(const char *name, uint8_t id, const int32_t *indexes, const plog_leader *told, int32_t count) {
  uint8_t topic_id[PLOG_TOPIC_ID_BYTES] = {0};
  topic_id[0] = id;
  plog_topic_leaders topic = {.topic = name, .topic_id = topic_id, .indexes = indexes, .leaders = told, .count = count};
  return plog__leaders_publish(&leaders, &topic);
}

static const plog_leader *by_name(const char *name, int32_t index) {
  return plog__led_partition(plog__leaders_topic(&leaders, NULL, bytes_of(name)), index);
}

static const plog_leader *by_id(uint8_t first, int32_t index) {
  uint8_t id[PLOG_TOPIC_ID_BYTES] = {0};
  id[0] = first;
  return plog__led_partition(plog__leaders_topic(&leaders, id, (plog_bytes){NULL, 0}), index);
}

static void some_of_a_topic(void) {
  CHECK_EQ(tell("t", 7, (int32_t[]){2, 0}, (plog_leader[]){{5, 1}, {-1, 3}}, 2), 0);
  CHECK_EQ(by_name("t", 2)->leader_id, 5);
  CHECK_EQ(by_id(7, 0)->leader_id, -1); /* nobody leads it, but it is there */
  CHECK(!by_name("t", 1) && !by_name("t", 3) && !by_name("t", -1) && !by_name("u", 2));
  CHECK_EQ(tell("t", 7, (int32_t[]){1, 2}, (plog_leader[]){{6, 0}, {6, 2}}, 2), 0);
  CHECK_EQ(by_name("t", 0)->leader_epoch, 3);
  CHECK_EQ(by_id(7, 2)->leader_epoch, 2);
  CHECK_EQ(tell("t", 7, (int32_t[]){0, 2}, (plog_leader[]){{-1, PLOG_NO_PARTITION}, {-1, PLOG_NO_PARTITION}}, 2), 0);
  CHECK(!by_name("t", 0) && !by_name("t", 2));
  CHECK_EQ(by_name("t", 1)->leader_id, 6);
  CHECK_EQ(tell("t", 7, (int32_t[]){1}, (plog_leader[]){{-1, PLOG_NO_PARTITION}}, 1), 0);
  CHECK(!plog__leaders_topic(&leaders, NULL, bytes_of("t")));
  CHECK_EQ(leaders.topics.count, 0);
}

static void made_again(void) {
  CHECK_EQ(tell("t", 1, (int32_t[]){0, 1}, (plog_leader[]){{1, 9}, {2, 9}}, 2), 0);
  CHECK_EQ(tell("t", 2, (int32_t[]){0}, (plog_leader[]){{3, 0}}, 1), 0);
  CHECK_EQ(by_name("t", 0)->leader_id, 3);
  CHECK(!by_name("t", 1) && !by_id(1, 0));
  CHECK_EQ(tell("u", 2, (int32_t[]){0}, (plog_leader[]){{4, 0}}, 1), 0);
  CHECK(!by_name("t", 0));
  CHECK_EQ(by_id(2, 0)->leader_id, 4);
  CHECK_EQ(tell("u", 9, NULL, NULL, 0), 0); /* gone, whatever its id was */
  CHECK_EQ(tell("never", 0, NULL, NULL, 0), 0);
  CHECK_EQ(leaders.topics.count, 0);
}

static void without_ids(void) {
  CHECK_EQ(tell("old", 0, (int32_t[]){0}, (plog_leader[]){{1, 0}}, 1), 0);
  CHECK_EQ(tell("older", 0, (int32_t[]){0}, (plog_leader[]){{2, 0}}, 1), 0);
  CHECK_EQ(by_name("old", 0)->leader_id, 1);
  CHECK(!by_id(0, 0));
}

static void refusals(void) {
  char name[PLOG_TOPIC_NAME_MAX + 2];
  memset(name, 'n', sizeof name);
  name[PLOG_TOPIC_NAME_MAX + 1] = 0;
  plog_leader one = {1, 0};
  CHECK_EQ(tell(name, 3, (int32_t[]){0}, &one, 1), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(tell("", 3, (int32_t[]){0}, &one, 1), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(tell("t", 3, (int32_t[]){-1}, &one, 1), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK_EQ(tell("t", 3, (int32_t[]){1 << 30}, &one, 1), PLOG_INVALID_TOPIC_EXCEPTION);
  CHECK(!by_id(3, 0));
}

static void many(void) {
  static plog_leader expected[TOPICS][PARTITIONS];
  uint64_t seed = 5;
  for (int t = 0; t < TOPICS; t++)
    for (int p = 0; p < PARTITIONS; p++) expected[t][p] = (plog_leader){-1, PLOG_NO_PARTITION};
  char name[16];
  for (int step = 0; step < 20000; step++) {
    int t = (int)(test_random(&seed) % TOPICS);
    int32_t index = (int32_t)(test_random(&seed) % PARTITIONS);
    plog_leader leader = {(int32_t)(test_random(&seed) % 9), (int32_t)(test_random(&seed) % 4) - 1};
    (void)snprintf(name, sizeof name, "topic-%d", t);
    CHECK_EQ(tell(name, 0, &index, &leader, 1), 0);
    expected[t][index] = leader;
  }
  for (int t = 0; t < TOPICS; t++) {
    (void)snprintf(name, sizeof name, "topic-%d", t);
    for (int p = 0; p < PARTITIONS; p++) {
      const plog_leader *found = by_name(name, p);
      if (expected[t][p].leader_epoch == PLOG_NO_PARTITION)
        CHECK(!found);
      else
        CHECK(found && found->leader_id == expected[t][p].leader_id);
    }
  }
}

int main(void) {
  plog__leaders_init(&leaders, 99);
  RUN(some_of_a_topic);
  RUN(made_again);
  RUN(without_ids);
  RUN(refusals);
  RUN(many);
  plog__leaders_deinit(&leaders); /* whatever is left */
  return 0;
}
