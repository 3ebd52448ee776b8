/*
 * test_members.c: a heartbeat is heard only as it was published and while it is; what was heard stays known until it is forgotten;
 * a withdrawal that has returned is heeded by every thread.
 */
#include "members.h"

#include <stdatomic.h>
#include <stdio.h>

#include "heartbeat.h"
#include "test.h"

static plog_members m;

static plog_bytes text(const char *s) {
  return (plog_bytes){(const uint8_t *)s, s ? strlen(s) : 0};
}

static plog_heartbeat says(const char *group, const char *member, const char *instance, int32_t epoch) {
  return (plog_heartbeat){text(group), text(member), text(instance), epoch};
}

static void publish(plog_heartbeat as) {
  CHECK_EQ(plog__members_publish(&m, &as, -1), 0);
}

static bool hear(plog_heartbeat heartbeat, int64_t now_ms) {
  return plog__members_hear(&m, &heartbeat, now_ms);
}

static int64_t heard_ms(const char *group, const char *member) {
  return plog__members_heard_ms(&m, text(group), text(member));
}

static void only_as_it_was_published(void) {
  plog__members_init(&m, 7);
  CHECK(!hear(says("g", "a", NULL, 1), 5));
  CHECK_EQ(heard_ms("g", "a"), -1);
  publish(says("g", "a", NULL, 1));
  publish(says("g", "s", "i", 1));
  publish(says("g", "", "", 1));
  CHECK_EQ(heard_ms("g", "a"), -1);
  CHECK(hear(says("g", "a", NULL, 1), 5));
  CHECK_EQ(heard_ms("g", "a"), 5);
  CHECK(!hear(says("g", "a", NULL, 2), 6));
  CHECK(!hear(says("g", "a", NULL, 0), 6));
  CHECK(!hear(says("g", "b", NULL, 1), 6));
  CHECK(!hear(says("ga", "", NULL, 1), 6));
  CHECK(!hear(says("", "ga", NULL, 1), 6));
  CHECK(!hear(says("g", "a", "i", 1), 6)); /* it is no static member */
  CHECK(!hear(says("g", "a", "", 1), 6));
  CHECK(!hear(says("g", "s", "j", 1), 6));
  CHECK(!hear(says("g", "s", "", 1), 6));
  CHECK_EQ(heard_ms("g", "a"), 5);
  CHECK_EQ(heard_ms("g", "s"), -1);
  CHECK(hear(says("g", "s", "i", 1), 7));
  CHECK(hear(says("g", "s", NULL, 1), 8));
  CHECK(hear(says("g", "", "", 1), 9));
  CHECK_EQ(heard_ms("g", "s"), 8);
  plog__members_deinit(&m);
}

static void what_was_heard_stays_known(void) {
  plog__members_init(&m, 7);
  publish(says("g", "a", NULL, 1));
  publish(says("g", "b", NULL, 1));
  CHECK(hear(says("g", "a", NULL, 1), 5));
  plog__members_withdraw(&m, text("g"), text("a"), false);
  CHECK(!hear(says("g", "a", NULL, 1), 6));
  CHECK(hear(says("g", "b", NULL, 1), 6));
  CHECK_EQ(heard_ms("g", "a"), 5);
  publish(says("g", "a", "i", 2));
  CHECK_EQ(heard_ms("g", "a"), 5);
  CHECK(!hear(says("g", "a", NULL, 1), 7));
  CHECK(hear(says("g", "a", "i", 2), 8));
  plog__members_withdraw(&m, text("g"), text("a"), true);
  CHECK_EQ(heard_ms("g", "a"), -1);
  CHECK(!hear(says("g", "a", "i", 2), 9));
  plog__members_withdraw(&m, text("g"), text("a"), true);
  plog__members_withdraw(&m, text("h"), text("a"), false);
  CHECK_EQ(m.count, 1);
  publish(says("g", "a", NULL, 3));
  CHECK_EQ(heard_ms("g", "a"), -1);
  plog__members_deinit(&m);
}

static void many(void) {
  enum { COUNT = 3000 };
  char member[16];
  plog__members_init(&m, 7);
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < COUNT; i++) {
      (void)snprintf(member, sizeof member, "m%d", i);
      publish(says("g", member, NULL, round));
    }
    CHECK_EQ(m.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
      (void)snprintf(member, sizeof member, "m%d", i);
      CHECK_EQ(heard_ms("g", member), round ? i : -1);
      CHECK(hear(says("g", member, NULL, round), i));
    }
  }
  for (int i = 0; i < COUNT; i++) {
    (void)snprintf(member, sizeof member, "m%d", i);
    plog__members_withdraw(&m, text("g"), text(member), true);
  }
  CHECK_EQ(m.count, 0);
  plog__members_deinit(&m);
}

/* ------------------------------------------------------------------------------------------------ consumers */

static const uint8_t here[PLOG_HOST_BYTES] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
static const uint8_t elsewhere[PLOG_HOST_BYTES] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 2};
static const plog_consumer_terms terms = {
    .epoch = 4, .heartbeat_interval_ms = 5000, .commits_since = 9, .offsets = 77, .topics = 3};

static plog_consumer_heartbeat consumer(const char *member, const char *instance, int32_t epoch, const char *client,
                                        const uint8_t *host) {
  return (plog_consumer_heartbeat){says("g", member, instance, epoch), text(client), host};
}

static void publish_consumer(const char *member, const char *instance, plog_consumer_terms with) {
  plog_consumer_heartbeat as = consumer(member, instance, with.epoch, "c", here);
  CHECK_EQ(plog__members_publish_consumer(&m, &as, &with), 0);
}

static int32_t hear_consumer(plog_consumer_heartbeat heartbeat, int64_t now_ms) {
  return plog__members_hear_consumer(&m, &heartbeat, now_ms);
}

static int64_t commits_to(const char *member, int32_t epoch, int16_t version, int64_t now_ms) {
  plog_heartbeat who = says("g", member, NULL, epoch);
  return plog__members_commits_to(&m, &who, version, now_ms);
}

static void consumers_say_all_that_was_published(void) {
  plog__members_init(&m, 7);
  plog__members_topics_changed(&m, 3);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 5), -1);
  publish_consumer("a", NULL, terms);
  publish_consumer("s", "i", terms);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 5), 5000);
  CHECK_EQ(heard_ms("g", "a"), 5);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 3, "c", here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 5, "c", here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "d", here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "cc", here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, NULL, here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", elsewhere), 6), -1);
  CHECK_EQ(hear_consumer(consumer("a", "i", 4, "c", here), 6), -1);
  CHECK_EQ(hear_consumer(consumer("s", "j", 4, "c", here), 6), -1);
  CHECK_EQ(heard_ms("g", "a"), 5);
  CHECK_EQ(heard_ms("g", "s"), -1);
  CHECK_EQ(hear_consumer(consumer("s", "i", 4, "c", here), 7), 5000);
  CHECK_EQ(hear_consumer(consumer("s", NULL, 4, "c", here), 8), 5000);
  CHECK_EQ(heard_ms("g", "s"), 8);
  plog__members_withdraw(&m, text("g"), text("a"), false);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 9), -1);
  CHECK_EQ(heard_ms("g", "a"), 5);
  plog__members_deinit(&m);
}

/* Each protocol's heartbeats are of its own members. */
static void kinds_do_not_mix(void) {
  plog__members_init(&m, 7);
  plog__members_topics_changed(&m, 3);
  publish_consumer("a", NULL, terms);
  publish(says("g", "b", NULL, 4));
  CHECK(!hear(says("g", "a", NULL, 4), 5));
  CHECK_EQ(hear_consumer(consumer("b", NULL, 4, NULL, here), 5), -1);
  CHECK_EQ(hear_consumer(consumer("b", NULL, 4, "c", here), 5), -1);
  CHECK_EQ(heard_ms("g", "a"), -1);
  CHECK_EQ(heard_ms("g", "b"), -1);
  static const uint8_t nowhere[PLOG_HOST_BYTES];
  plog__members_topics_changed(&m, 0);
  CHECK_EQ(hear_consumer(consumer("b", NULL, 4, NULL, nowhere), 5), -1);
  CHECK_EQ(heard_ms("g", "b"), -1);
  publish(says("g", "a", NULL, 4)); /* its group has become a classic one */
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 6), -1);
  CHECK(hear(says("g", "a", NULL, 4), 6));
  plog__members_deinit(&m);
}

/* What was decided for other topics than there are is void, whichever of the two came first. */
static void topics_that_change_void_what_was_published(void) {
  plog__members_init(&m, 7);
  plog__members_topics_changed(&m, 3);
  publish_consumer("a", NULL, terms);
  plog__members_topics_changed(&m, 4);
  publish_consumer("late", NULL, terms);
  publish(says("g", "classic", NULL, 1));
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 5), -1);
  CHECK_EQ(hear_consumer(consumer("late", NULL, 4, "c", here), 5), -1);
  CHECK(hear(says("g", "classic", NULL, 1), 5));
  CHECK_EQ(commits_to("a", 4, 9, 5), 77);
  plog_consumer_terms anew = terms;
  anew.topics = 4;
  publish_consumer("a", NULL, anew);
  CHECK_EQ(hear_consumer(consumer("a", NULL, 4, "c", here), 6), 5000);
  plog__members_deinit(&m);
}

static void offsets_of_consumers_are_no_sign_of_life(void) {
  plog__members_init(&m, 7);
  publish_consumer("a", NULL, terms);
  CHECK_EQ(commits_to("a", 4, 9, 5), 77);
  CHECK_EQ(commits_to("a", 4, 10, 5), 77);
  CHECK_EQ(commits_to("a", 4, 8, 5), -1);
  CHECK_EQ(commits_to("a", 3, 9, 5), -1);
  CHECK_EQ(commits_to("a", 5, 9, 5), -1);
  CHECK_EQ(heard_ms("g", "a"), -1);
  plog_consumer_terms without = terms;
  without.offsets = -1;
  publish_consumer("a", NULL, without);
  CHECK_EQ(commits_to("a", 4, 9, 5), -1);
  plog_heartbeat classic = says("g", "b", NULL, 1);
  CHECK_EQ(plog__members_publish(&m, &classic, 77), 0);
  CHECK_EQ(commits_to("b", 1, 2, 6), 77);
  CHECK_EQ(heard_ms("g", "b"), 6);
  plog__members_deinit(&m);
}

/* ------------------------------------------------------------------------------------------------ two threads */

enum { ROUNDS = 2000 };
static _Atomic int32_t said; /* the heartbeat's epoch; -1: end */
static _Atomic int64_t answered;

static void *send_heartbeats(void *nothing) {
  for (int32_t epoch; (epoch = atomic_load(&said)) >= 0;)
    if (hear(says("g", "a", NULL, epoch), epoch)) atomic_fetch_add(&answered, 1);
  return nothing;
}

/* What the other thread is answered in one round belongs to that round's publication: after a withdrawal nothing is. */
static void withdrawn_means_withdrawn(void) {
  plog__members_init(&m, 7);
  atomic_init(&said, 0);
  atomic_init(&answered, 0);
  pthread_t other;
  CHECK_EQ(pthread_create(&other, NULL, send_heartbeats, NULL), 0);
  int64_t last_heard = -1;
  for (int32_t epoch = 0; epoch < ROUNDS; epoch++) {
    atomic_store(&said, epoch);
    publish(says("g", "a", NULL, epoch));
    if (epoch % 16 == 0)
      while (heard_ms("g", "a") != epoch) sched_yield();
    plog__members_withdraw(&m, text("g"), text("a"), epoch % 5 == 4);
    int64_t now_known = heard_ms("g", "a");
    CHECK(now_known >= last_heard || epoch % 5 == 4);
    CHECK(now_known <= epoch);
    for (int i = 0; i < 20; i++) CHECK_EQ(heard_ms("g", "a"), now_known);
    last_heard = now_known;
  }
  atomic_store(&said, -1);
  CHECK_EQ(pthread_join(other, NULL), 0);
  CHECK(atomic_load(&answered) >= ROUNDS / 16);
  plog__members_deinit(&m);
}

/* Each at another time, so that each that is heard is seen to be. */
static void *send_consumer_heartbeats(void *nothing) {
  for (int64_t now_ms = 0; atomic_load(&said) >= 0; now_ms++)
    if (hear_consumer(consumer("a", NULL, 4, "c", here), now_ms) >= 0) atomic_fetch_add(&answered, 1);
  return nothing;
}

/* Once the number has risen nothing is answered that was decided before, be it published before or after. */
static void void_means_void(void) {
  plog__members_init(&m, 7);
  atomic_store(&said, 0);
  atomic_store(&answered, 0);
  pthread_t other;
  CHECK_EQ(pthread_create(&other, NULL, send_consumer_heartbeats, NULL), 0);
  plog_consumer_terms with = terms;
  for (int32_t round = 0; round < ROUNDS; round++) {
    int64_t before = atomic_load(&answered);
    with.topics = round;
    plog__members_topics_changed(&m, round);
    publish_consumer("a", NULL, with);
    if (round % 16 == 0)
      while (atomic_load(&answered) == before) sched_yield();
    plog__members_topics_changed(&m, round + 1);
    if (round % 3 == 0) publish_consumer("a", NULL, with);
    int64_t now_known = heard_ms("g", "a");
    for (int i = 0; i < 20; i++) CHECK_EQ(heard_ms("g", "a"), now_known);
  }
  atomic_store(&said, -1);
  CHECK_EQ(pthread_join(other, NULL), 0);
  CHECK(atomic_load(&answered) >= ROUNDS / 16 - 1);
  plog__members_deinit(&m);
}

/* ------------------------------------------------------------------------------------------------ the request */

static plog_frame frame_of(int16_t version, uint8_t *body, size_t body_bytes) {
  return (plog_frame){.api_key = PLOG_API_HEARTBEAT,
                      .api_version = version,
                      .correlation_id = 0x01020304,
                      .body = body,
                      .body_bytes = (uint32_t)body_bytes};
}

static void every_version_is_read(void) {
  uint8_t bytes[64];
  for (int16_t version = 0; version <= 4; version++) {
    bool flexible = version == 4;
    plog_writer w = {0};
    plog_writer_init(&w);
    if (flexible) plog_write_no_tags(&w);
    plog_write_string(&w, flexible, "group", 5);
    plog_write_i32(&w, 9);
    plog_write_string(&w, flexible, "member", 6);
    if (version >= 3) plog_write_string(&w, flexible, "instance", 8);
    if (flexible) plog_write_raw(&w, "\1\5\2xy", 5); /* a tagged field that nobody knows */
    CHECK(w.size_bytes < sizeof bytes);
    memcpy(bytes, w.data, w.size_bytes);
    plog_heartbeat h;
    plog_frame frame = frame_of(version, bytes, w.size_bytes);
    CHECK(plog__heartbeat_read(&frame, &h));
    CHECK_EQ(h.epoch, 9);
    CHECK(h.group_id.size_bytes == 5 && memcmp(h.group_id.data, "group", 5) == 0);
    CHECK(h.member_id.size_bytes == 6 && memcmp(h.member_id.data, "member", 6) == 0);
    CHECK(version < 3 ? h.instance_id.data == NULL : memcmp(h.instance_id.data, "instance", 8) == 0);
    for (size_t cut = 0; cut < w.size_bytes; cut++) {
      frame = frame_of(version, bytes, cut);
      CHECK(!plog__heartbeat_read(&frame, &h));
    }
    plog_writer_deinit(&w);
  }
  plog_frame unknown = frame_of(5, bytes, sizeof bytes);
  plog_heartbeat h;
  CHECK(!plog__heartbeat_read(&unknown, &h));
  unknown.api_version = -1;
  CHECK(!plog__heartbeat_read(&unknown, &h));
}

static void every_version_is_answered(void) {
  static const uint32_t sizes[] = {6, 10, 10, 10, 12};
  for (int16_t version = 0; version <= 4; version++) {
    uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX];
    plog_frame frame = frame_of(version, NULL, 0);
    CHECK_EQ(plog__heartbeat_answer(&frame, out), sizes[version]);
    CHECK(memcmp(out, "\1\2\3\4\0\0\0\0\0\0\0\0", sizes[version]) == 0);
  }
}

/* ------------------------------------------------------------------------------------------------ a consumer's request */

/* What a consumer may say besides who it is; none of it is said in `nothing`. */
typedef struct {
  int8_t rack, topics, regex, assignor, partitions;
  int32_t rebalance_timeout_ms;
} more;

static const more nothing = {.rebalance_timeout_ms = -1};

static void put_consumer(plog_writer *w, int16_t version, const more *says_more) {
  plog_writer_init(w);
  plog_write_no_tags(w);
  plog_write_string(w, true, "group", 5);
  plog_write_string(w, true, "member", 6);
  plog_write_i32(w, 9);
  plog_write_string(w, true, "instance", 8);
  plog_write_i8(w, says_more->rack); /* 1: an empty string, or list */
  plog_write_i32(w, says_more->rebalance_timeout_ms);
  plog_write_i8(w, says_more->topics);
  if (version >= 1) plog_write_i8(w, says_more->regex);
  plog_write_i8(w, says_more->assignor);
  plog_write_i8(w, says_more->partitions);
  plog_write_raw(w, "\1\5\2xy", 5); /* a tagged field that nobody knows */
}

static bool read_consumer(int16_t version, const uint8_t *body, size_t body_bytes, plog_heartbeat *out) {
  plog_frame frame = frame_of(version, (uint8_t *)body, body_bytes);
  return plog__consumer_heartbeat_read(&frame, out);
}

static void consumers_are_read_when_they_say_nothing_more(void) {
  static const more talkers[] = {
      {1, 0, 0, 0, 0, -1}, {0, 1, 0, 0, 0, -1}, {0, 0, 1, 0, 0, -1}, {0, 0, 0, 1, 0, -1},
      {0, 0, 0, 0, 1, -1}, {0, 0, 0, 0, 0, 0},  {0, 0, 0, 0, 0, 1},
  };
  plog_heartbeat h;
  for (int16_t version = 0; version <= 1; version++) {
    plog_writer w;
    put_consumer(&w, version, &nothing);
    CHECK(read_consumer(version, w.data, w.size_bytes, &h));
    CHECK_EQ(h.epoch, 9);
    CHECK(h.group_id.size_bytes == 5 && memcmp(h.group_id.data, "group", 5) == 0);
    CHECK(h.member_id.size_bytes == 6 && memcmp(h.member_id.data, "member", 6) == 0);
    CHECK(h.instance_id.size_bytes == 8 && memcmp(h.instance_id.data, "instance", 8) == 0);
    CHECK(!read_consumer((int16_t)(1 - version), w.data, w.size_bytes, &h));
    for (size_t cut = 0; cut < w.size_bytes; cut++) {
      uint8_t *part = malloc(cut + 1); /* so that a sanitizer sees a look past its end */
      CHECK(part);
      memcpy(part, w.data, cut);
      CHECK(!read_consumer(version, part, cut, &h));
      free(part);
    }
    plog_write_i8(&w, 0);
    CHECK(!read_consumer(version, w.data, w.size_bytes, &h));
    plog_writer_deinit(&w);
    for (size_t i = 0; i < PLOG_COUNT_OF(talkers); i++) {
      put_consumer(&w, version, &talkers[i]);
      CHECK_EQ(read_consumer(version, w.data, w.size_bytes, &h), version == 0 && talkers[i].regex);
      plog_writer_deinit(&w);
    }
  }
  plog_writer w;
  put_consumer(&w, 1, &nothing);
  CHECK(!read_consumer(2, w.data, w.size_bytes, &h));
  CHECK(!read_consumer(-1, w.data, w.size_bytes, &h));
  plog_writer_deinit(&w);
}

static void consumers_are_told_who_they_are(void) {
  static const uint8_t expected[] = {1,   2,   3, 4, 0, 0, 0, 0, 0,    0,    0,    0, 3,
                                     'a', 'b', 0, 0, 0, 9, 0, 0, 0x13, 0x88, 0xff, 0};
  uint8_t out[PLOG_HEARTBEAT_ANSWER_BYTES_MAX];
  plog_frame frame = frame_of(1, NULL, 0);
  plog_heartbeat h = says("g", "ab", NULL, 9);
  CHECK_EQ(plog__consumer_heartbeat_answer(&frame, &h, 5000, out), sizeof expected);
  CHECK(memcmp(out, expected, sizeof expected) == 0);
  uint8_t longest[PLOG_HEARTBEAT_MEMBER_BYTES_MAX] = {0};
  h.member_id = (plog_bytes){longest, sizeof longest};
  CHECK_EQ(plog__consumer_heartbeat_answer(&frame, &h, 5000, out), sizeof out);
}

int main(void) {
  only_as_it_was_published();
  what_was_heard_stays_known();
  many();
  withdrawn_means_withdrawn();
  every_version_is_read();
  every_version_is_answered();
  void_means_void();
  consumers_say_all_that_was_published();
  kinds_do_not_mix();
  topics_that_change_void_what_was_published();
  offsets_of_consumers_are_no_sign_of_life();
  consumers_are_read_when_they_say_nothing_more();
  consumers_are_told_who_they_are();
  return 0;
}
