/* test_fetch_session.c: sets keep their order and find their partitions; the cache evicts as Kafka does. */
#include "fetch_session.h"

#include "test.h"

static plog_fetch_topic *topic_named(const char *name) {
  plog_fetch_topic *topic = plog__fetch_topic_open(NULL, (const uint8_t *)name, strlen(name));
  CHECK(topic);
  return topic;
}

static void fill(plog_fetch_set *set, const char *name, int32_t count) {
  plog_fetch_topic *topic = topic_named(name);
  plog__fetch_set_init(set, 99);
  for (int32_t i = 0; i < count; i++) CHECK(plog__fetch_set_put(set, topic, i));
  plog__fetch_topic_close(topic);
}

static void check_order(const plog_fetch_set *set, const int32_t *expected, int count) {
  const plog_link *at = set->order.next;
  for (int i = 0; i < count; i++, at = at->next)
    CHECK_EQ(PLOG_CONTAINER_OF(at, plog_fetch_partition, order)->index, expected[i]);
  CHECK(at == &set->order);
}

static void sets(void) {
  plog_fetch_set set;
  fill(&set, "t", 5);
  plog_fetch_topic *t = topic_named("t");
  plog_fetch_topic *u = topic_named("u");
  CHECK(plog__fetch_set_put(&set, t, 3) == plog__fetch_set_find(&set, t, 3)); /* found, not added */
  CHECK_EQ(set.count, 5);
  CHECK(!plog__fetch_set_find(&set, u, 3));
  plog__fetch_set_move_last(&set, plog__fetch_set_find(&set, t, 1));
  plog__fetch_set_remove(&set, plog__fetch_set_find(&set, t, 3));
  check_order(&set, (int32_t[]){0, 2, 4, 1}, 4);
  uint8_t id[PLOG_TOPIC_ID_BYTES] = {1};
  plog_fetch_topic *by_id = plog__fetch_topic_open(id, NULL, 0);
  CHECK(!plog__fetch_set_find(&set, by_id, 0)); /* a name and an id are never the same topic */
  plog__fetch_topic_close(t);
  plog__fetch_topic_close(u);
  plog__fetch_topic_close(by_id);
  plog__fetch_set_deinit(&set);
}

static void large_sets(void) {
  plog_fetch_set set;
  fill(&set, "t", 3000);
  plog_fetch_topic *t = topic_named("t");
  for (int32_t i = 0; i < 3000; i++) CHECK_EQ(plog__fetch_set_find(&set, t, i)->index, i);
  for (int32_t i = 0; i < 3000; i += 2) plog__fetch_set_remove(&set, plog__fetch_set_find(&set, t, i));
  for (int32_t i = 0; i < 3000; i++) CHECK((plog__fetch_set_find(&set, t, i) != NULL) == (i % 2 == 1));
  CHECK_EQ(set.count, 1500);
  plog__fetch_topic_close(t);
  plog__fetch_set_deinit(&set);
}

static plog_fetch_session *add(plog_fetch_sessions *s, int32_t partitions, bool follower, int64_t now_ms) {
  plog_fetch_set set;
  fill(&set, "t", partitions);
  plog_fetch_session *session = plog__fetch_sessions_add(s, &set, follower, false, now_ms);
  CHECK_EQ(set.count, session ? 0 : partitions);
  plog__fetch_set_deinit(&set);
  return session;
}

static void sessions(void) {
  plog_fetch_sessions s;
  CHECK_EQ(plog__fetch_sessions_init(&s, 2, 7), 0);
  plog_fetch_session *a = add(&s, 3, false, 1000);
  CHECK(a && a->id > 0 && a->epoch == 1);
  check_order(&a->set, (int32_t[]){0, 1, 2}, 3);
  CHECK(plog__fetch_sessions_find(&s, a->id) == a);
  CHECK(!plog__fetch_sessions_find(&s, 0));
  a->epoch = INT32_MAX;
  plog__fetch_sessions_touch(&s, a, 1000);
  CHECK_EQ(a->epoch, 1);
  plog__fetch_session_hold(a);
  plog__fetch_sessions_remove(&s, a);
  CHECK(!plog__fetch_sessions_find(&s, a->id));
  CHECK_EQ(a->set.count, 3); /* still alive for its holder */
  plog__fetch_session_release(a);
  CHECK_EQ(s.count, 0);
  plog__fetch_sessions_deinit(&s);
}

static void eviction(void) {
  plog_fetch_sessions s;
  CHECK_EQ(plog__fetch_sessions_init(&s, 2, 7), 0);
  int32_t small = add(&s, 2, false, 0)->id;
  int32_t large = add(&s, 9, false, 0)->id;
  CHECK(!add(&s, 50, false, 1000)); /* both are young: a consumer does not push them out */
  CHECK(add(&s, 1, true, 1000));    /* a follower does, the smaller first */
  CHECK(!plog__fetch_sessions_find(&s, small));
  CHECK(plog__fetch_sessions_find(&s, large));
  CHECK(add(&s, 1, true, 2000));
  CHECK(!plog__fetch_sessions_find(&s, large));
  CHECK(!add(&s, 50, true, 3000));         /* young followers are safe from each other */
  CHECK(add(&s, 1, false, 1000 + 120001)); /* idle for two minutes: anybody's */
  CHECK_EQ(s.count, 2);
  plog__fetch_sessions_deinit(&s);

  CHECK_EQ(plog__fetch_sessions_init(&s, 1, 7), 0);
  plog_fetch_session *used = add(&s, 5, false, 0);
  plog__fetch_sessions_touch(&s, used, 130000);
  CHECK(!add(&s, 4, false, 130000)); /* older than two minutes and in use: a smaller one does not push it out */
  CHECK(add(&s, 6, false, 130000));  /* a larger one does */
  plog__fetch_sessions_deinit(&s);

  CHECK_EQ(plog__fetch_sessions_init(&s, 0, 7), 0);
  CHECK(!add(&s, 1, false, 0));
  plog__fetch_sessions_deinit(&s);
}

int main(void) {
  RUN(sets);
  RUN(large_sets);
  RUN(sessions);
  RUN(eviction);
  return 0;
}
