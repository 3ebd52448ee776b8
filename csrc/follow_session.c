/*
 * follow_session.c: see follow_session.h.
 */
#include "follow_session.h"

#include <stdlib.h>
#include <string.h>

#include "fetch_answer.h"
#include "timer.h"
#include "topic.h"

#define NO_SESSION 0
#define FIRST_EPOCH 0
#define CLUSTER_STATE_TAG 1 /* ReplicaState: who asks, from version 15 on */
#define REPLICA_STATE_VERSION 15

#define QUEUED(node) PLOG_CONTAINER_OF(node, plog_followed, queued)
#define ORDERED(node) PLOG_CONTAINER_OF(node, plog_followed, order)

/* A partition that the leader is to forget. It may not be hosted any more. */
typedef struct {
  plog_link link;
  uint8_t topic_id[PLOG_TOPIC_ID_BYTES];
  int32_t index;
  uint32_t name_bytes;
  char name[];
} plog_leaving;

void plog__follow_session_init(plog_follow_session *s) {
  memset(s, 0, sizeof *s);
  plog_list_init(&s->all);
  plog_list_init(&s->changed);
  plog_list_init(&s->delayed);
  plog_list_init(&s->leaving);
}

static void forget_leaving(plog_follow_session *s) {
  while (!plog_list_empty(&s->leaving)) free(PLOG_CONTAINER_OF(plog_list_take(&s->leaving), plog_leaving, link));
}

void plog__follow_session_deinit(plog_follow_session *s) {
  while (!plog_list_empty(&s->all)) plog__follow_remove(s, ORDERED(plog_list_take(&s->all)));
  forget_leaving(s);
  free(s->chosen);
}

void plog__follow_doubt(plog_follow_session *s) {
  s->epoch = FIRST_EPOCH;
  s->doubtful = true;
}

/* ------------------------------------------------------------------------------------------------ partitions */

static void move_to(plog_link *list, plog_link *node) {
  plog_list_remove(node);
  plog_list_insert(list, node);
}

void plog__follow_changed(plog_follow_session *s, plog_followed *f) {
  if (f->state == PLOG_FOLLOW_DELAYED) return; /* it is looked at when that is over */
  if (plog_list_empty(&f->queued)) plog_list_insert(&s->changed, &f->queued);
}

void plog__follow_resume(plog_follow_session *s, plog_followed *f) {
  plog_log_info info;
  plog_log_info_read(f->partition->log, &info);
  f->last_epoch = info.latest_epoch;
  f->state = PLOG_FOLLOW_ASKED;
  f->reported = 0;
  move_to(&s->changed, &f->queued);
}

plog_followed *plog__follow_add(plog_follow_session *s, struct plog_fetcher *fetcher, plog_partition *p) {
  plog_assert(!p->followed);
  plog_followed *f = calloc(1, sizeof *f);
  if (!f) return NULL;
  f->partition = p;
  f->fetcher = fetcher;
  f->leader_high_watermark = -1;
  plog_list_init(&f->order);
  plog_list_init(&f->queued);
  plog_list_insert(&s->all, &f->order);
  s->count++;
  if (!p->topic->key.has_id) s->unnamed_count++;
  p->followed = f;
  plog__follow_resume(s, f);
  return f;
}

/* It is not to be in the session any more. */
static void leave(plog_follow_session *s, plog_followed *f) {
  if (!f->in_session) return;
  f->in_session = false;
  s->session_count--;
  const plog_topic *topic = f->partition->topic;
  plog_leaving *leaving = malloc(sizeof *leaving + topic->key.name_bytes);
  if (!leaving) {
    plog__follow_doubt(s);
    return;
  }
  memcpy(leaving->topic_id, topic->key.id, PLOG_TOPIC_ID_BYTES);
  leaving->index = f->partition->index;
  leaving->name_bytes = topic->key.name_bytes;
  memcpy(leaving->name, topic->name, topic->key.name_bytes);
  plog_list_init(&leaving->link);
  plog_list_insert(&s->leaving, &leaving->link);
}

void plog__follow_remove(plog_follow_session *s, plog_followed *f) {
  leave(s, f);
  plog_list_remove(&f->order);
  plog_list_remove(&f->queued);
  s->count--;
  if (!f->partition->topic->key.has_id) s->unnamed_count--;
  f->partition->followed = NULL;
  free(f);
}

void plog__follow_pause(plog_follow_session *s, plog_followed *f) {
  f->state = PLOG_FOLLOW_PAUSED;
  move_to(&s->changed, &f->queued);
}

void plog__follow_delay(plog_follow_session *s, plog_followed *f, int64_t due_ms) {
  leave(s, f);
  f->state = PLOG_FOLLOW_DELAYED;
  f->due_ms = due_ms;
  plog_link *before = &s->delayed;
  plog_list_remove(&f->queued);
  while (before->prev != &s->delayed && QUEUED(before->prev)->due_ms > due_ms) before = before->prev;
  plog_list_insert(before, &f->queued);
}

/* ------------------------------------------------------------------------------------------------ choosing */

static void end_delays(plog_follow_session *s, int64_t now_ms) {
  while (!plog_list_empty(&s->delayed) && QUEUED(s->delayed.next)->due_ms <= now_ms) {
    plog_followed *f = QUEUED(plog_list_take(&s->delayed));
    f->state = PLOG_FOLLOW_ASKED;
    plog_list_insert(&s->changed, &f->queued);
  }
}

/* Who is in sync is not held back, lest it fall out. */
static bool is_held(const plog_followed *f, bool exceeded) {
  const plog_partition *p = f->partition;
  bool in_sync = f->leader_high_watermark >= 0 && f->leader_high_watermark <= plog__log_end(p->log);
  return exceeded && (p->throttled & PLOG_THROTTLED_FOLLOWING) && !in_sync;
}

static plog_follow_ask ask_of(const plog_followed *f) {
  const plog_partition *p = f->partition;
  return (plog_follow_ask){.offset = plog__log_end(p->log),
                           .log_start = plog__log_start(p->log),
                           .leader_epoch = plog__partition_leader_epoch(p),
                           .last_epoch = f->last_epoch};
}

static bool same_ask(const plog_follow_ask *a, const plog_follow_ask *b) {
  return a->offset == b->offset && a->log_start == b->log_start && a->leader_epoch == b->leader_epoch &&
         a->last_epoch == b->last_epoch;
}

/* It is asked for again before the leader was told to forget it. */
static void stay(plog_follow_session *s, const plog_followed *f) {
  const plog_topic *topic = f->partition->topic;
  for (plog_link *at = s->leaving.next; at != &s->leaving; at = at->next) {
    plog_leaving *leaving = PLOG_CONTAINER_OF(at, plog_leaving, link);
    if (leaving->index != f->partition->index) continue;
    bool same_name =
        leaving->name_bytes == topic->key.name_bytes && !memcmp(leaving->name, topic->name, topic->key.name_bytes);
    if (s->by_id ? memcmp(leaving->topic_id, topic->key.id, PLOG_TOPIC_ID_BYTES) != 0 : !same_name) continue;
    plog_list_remove(at);
    free(leaving);
    return;
  }
}

/* A partition's place in the next request. True: it is held, and has to be looked at again. */
static bool choose(plog_follow_session *s, plog_followed *f, bool exceeded, int32_t *count) {
  bool held = f->state == PLOG_FOLLOW_ASKED && is_held(f, exceeded);
  if (held || f->state != PLOG_FOLLOW_ASKED) {
    leave(s, f);
    return held;
  }
  plog_follow_ask ask = ask_of(f);
  if (f->in_session && same_ask(&ask, &f->asked)) return false;
  if (!f->in_session) {
    stay(s, f);
    s->session_count++;
  }
  f->in_session = true;
  f->asked = ask;
  s->chosen[(*count)++] = f;
  return false;
}

static bool reserve_chosen(plog_follow_session *s) {
  if (s->chosen_capacity >= s->count) return true;
  int32_t capacity = PLOG_MAX(s->count, s->chosen_capacity * 2);
  plog_followed **chosen = realloc(s->chosen, (size_t)capacity * sizeof(plog_followed *));
  if (!chosen) return false;
  s->chosen = chosen;
  s->chosen_capacity = capacity;
  return true;
}

/* Begin anew: everything is as if it had never been asked for. */
static void begin_full(plog_follow_session *s) {
  forget_leaving(s);
  s->session_count = 0;
  for (plog_link *at = s->all.next; at != &s->all; at = at->next) {
    plog_followed *f = ORDERED(at);
    f->in_session = false;
    plog__follow_changed(s, f);
  }
}

/* With a rate, whoever is bound by it is looked at each time, not only when it has moved. */
static void look_at_throttled(plog_follow_session *s) {
  for (plog_link *at = s->all.next; at != &s->all; at = at->next)
    if (ORDERED(at)->partition->throttled & PLOG_THROTTLED_FOLLOWING) plog__follow_changed(s, ORDERED(at));
}

/* *out_held: some are held back. Returns how many were chosen. */
static int32_t choose_all(plog_follow_session *s, bool exceeded, bool *out_held) {
  int32_t count = 0;
  plog_link held;
  plog_list_init(&held);
  while (!plog_list_empty(&s->changed)) {
    plog_followed *f = QUEUED(plog_list_take(&s->changed));
    if (choose(s, f, exceeded, &count)) plog_list_insert(&held, &f->queued);
  }
  *out_held = !plog_list_empty(&held);
  while (!plog_list_empty(&held)) plog_list_insert(&s->changed, plog_list_take(&held));
  return count;
}

/* ------------------------------------------------------------------------------------------------ writing */

static void write_topic(plog_writer *w, bool by_id, const uint8_t *id, const char *name, uint32_t name_bytes) {
  if (by_id)
    plog_write_raw(w, id, PLOG_TOPIC_ID_BYTES);
  else
    plog_write_string(w, true, name, name_bytes);
}

/* How many from `at` on are of one topic. */
static int32_t run_of(const plog_follow_session *s, int32_t at, int32_t count) {
  const plog_topic *topic = s->chosen[at]->partition->topic;
  int32_t end = at;
  while (end < count && s->chosen[end]->partition->topic == topic) end++;
  return end - at;
}

static void write_chosen(const plog_follow_session *s, int32_t count, int32_t max_bytes, plog_writer *w) {
  int32_t runs = 0;
  for (int32_t at = 0; at < count; at += run_of(s, at, count)) runs++;
  plog_write_array(w, true, runs);
  for (int32_t at = 0; at < count;) {
    const plog_topic *topic = s->chosen[at]->partition->topic;
    int32_t end = at + run_of(s, at, count);
    write_topic(w, s->by_id, topic->key.id, topic->name, topic->key.name_bytes);
    plog_write_array(w, true, end - at);
    for (; at < end; at++) {
      const plog_followed *f = s->chosen[at];
      plog_write_i32(w, f->partition->index);
      plog_write_i32(w, f->asked.leader_epoch);
      plog_write_i64(w, f->asked.offset);
      plog_write_i32(w, f->asked.last_epoch);
      plog_write_i64(w, f->asked.log_start);
      plog_write_i32(w, max_bytes);
      plog_write_no_tags(w);
    }
    plog_write_no_tags(w);
  }
}

static void write_leaving(const plog_follow_session *s, plog_writer *w) {
  int32_t count = 0;
  for (const plog_link *at = s->leaving.next; at != &s->leaving; at = at->next) count++;
  plog_write_array(w, true, count);
  for (const plog_link *at = s->leaving.next; at != &s->leaving; at = at->next) {
    const plog_leaving *leaving = PLOG_CONTAINER_OF(at, plog_leaving, link);
    write_topic(w, s->by_id, leaving->topic_id, leaving->name, leaving->name_bytes);
    plog_write_array(w, true, 1);
    plog_write_i32(w, leaving->index);
    plog_write_no_tags(w);
  }
}

static void write_request(plog_follow_session *s, const plog_follow_terms *terms, int16_t version, int32_t count,
                          plog_writer *w) {
  if (version < REPLICA_STATE_VERSION) plog_write_i32(w, terms->replica_id);
  plog_write_i32(w, terms->max_wait_ms);
  plog_write_i32(w, terms->min_bytes);
  plog_write_i32(w, terms->max_bytes);
  plog_write_i8(w, 0); /* isolation level: followers read everything */
  plog_write_i32(w, s->id);
  plog_write_i32(w, s->epoch);
  write_chosen(s, count, terms->partition_max_bytes, w);
  write_leaving(s, w);
  plog_write_string(w, true, "", 0); /* rack: a consumer's affair */
  if (version < REPLICA_STATE_VERSION) {
    plog_write_no_tags(w);
    return;
  }
  plog_write_uvarint(w, 1);
  plog_write_uvarint(w, CLUSTER_STATE_TAG);
  plog_write_uvarint(w, 4 + 8 + 1);
  plog_write_i32(w, terms->replica_id);
  plog_write_i64(w, terms->broker_epoch);
  plog_write_no_tags(w);
}

int16_t plog__follow_version(const plog_follow_session *s, const plog_follow_terms *terms) {
  return s->unnamed_count > 0 ? PLOG_FETCH_ANSWER_ID_VERSION - 1 : terms->version;
}

bool plog__follow_write(plog_follow_session *s, const plog_follow_terms *terms, const plog_throttle *throttle,
                        int64_t now_ms, int64_t hold_ms, plog_writer *w, int64_t *out_look_ms) {
  int16_t version = plog__follow_version(s, terms);
  bool by_id = version >= PLOG_FETCH_ANSWER_ID_VERSION;
  if (s->by_id != by_id) plog__follow_doubt(s); /* a session keeps to one of them */
  s->by_id = by_id;
  end_delays(s, now_ms);
  if (plog__throttle_on(throttle)) look_at_throttled(s);
  bool held = false;
  int32_t count = 0;
  *out_look_ms = PLOG_NEVER;
  if (!reserve_chosen(s)) {
    *out_look_ms = now_ms + hold_ms;
    return false;
  }
  s->full = s->epoch == FIRST_EPOCH;
  s->doubtful = false;
  if (s->full) begin_full(s);
  count = choose_all(s, plog__throttle_exceeded(throttle, now_ms), &held);
  if (s->doubtful) { /* no memory for what the leader is to forget: the next one is full */
    *out_look_ms = now_ms;
    return false;
  }
  if (s->session_count == 0 && plog_list_empty(&s->leaving)) {
    if (held) *out_look_ms = now_ms + hold_ms;
    if (!plog_list_empty(&s->delayed)) *out_look_ms = PLOG_MIN(*out_look_ms, QUEUED(s->delayed.next)->due_ms);
    return false;
  }
  write_request(s, terms, version, count, w);
  forget_leaving(s);
  return true;
}

void plog__follow_answered(plog_follow_session *s, int32_t error, int32_t session_id) {
  if (error == PLOG_FETCH_SESSION_ID_NOT_FOUND || (!error && session_id == NO_SESSION)) s->id = NO_SESSION;
  if (!error && s->full) s->id = session_id;
  if (error || s->doubtful || s->id == NO_SESSION || session_id != s->id)
    s->epoch = FIRST_EPOCH;
  else
    s->epoch = s->full || s->epoch == INT32_MAX ? FIRST_EPOCH + 1 : s->epoch + 1;
}
