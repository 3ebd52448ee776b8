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

int main(void) {
  only_as_it_was_published();
  what_was_heard_stays_known();
  many();
  withdrawn_means_withdrawn();
  every_version_is_read();
  every_version_is_answered();
  return 0;
}
