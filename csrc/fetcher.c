/*
 * fetcher.c: see fetcher.h.
 */
#include "fetcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "reactor.h"
#include "topic.h"

#define API_FETCH 1
#define VERSION_MIN 12
#define VERSION_MAX 17
#define APPEND_BUDGET_BYTES (1024 * 1024)      /* of one fetcher in one turn: clients wait no longer than that */
#define RECEIVE_BUDGET_BYTES (2 * 1024 * 1024) /* likewise */
#define ANSWER_SLACK_BYTES (1024 * 1024)       /* around the records that were asked for */

/* ------------------------------------------------------------------------------------------------ telling */

static void tell(plog_fetcher *f, int32_t what, int32_t error) {
  plog_upcall upcall = {.kind = PLOG_UP_FETCHER,
                        .error = error,
                        .conn = -1,
                        .slot = -1,
                        .partition = -1,
                        .offset = -1,
                        .token = f->number,
                        .a = what};
  (void)plog__upcalls_collect(&f->engine->upcalls, &upcall);
}

/* a, b: as PLOG_UP_FOLLOW has them. */
static void tell_followed(const plog_followed *followed, int32_t error, int64_t a, int64_t b) {
  const plog_fetcher *f = followed->fetcher;
  plog_upcall upcall = {.kind = PLOG_UP_FOLLOW,
                        .error = error,
                        .conn = -1,
                        .slot = followed->asked.leader_epoch,
                        .partition = followed->partition->number,
                        .offset = followed->asked.offset,
                        .token = f->number,
                        .a = a,
                        .b = b};
  (void)plog__upcalls_collect(&f->engine->upcalls, &upcall);
}

/* ------------------------------------------------------------------------------------------------ connecting */

static void run_later(plog_fetcher *f) {
  if (plog_list_empty(&f->ready)) plog_list_insert(&f->engine->fetchers.ready, &f->ready);
}

/* The timer is armed always, for never if need be: to move it takes no memory. */
static void enter(plog_fetcher *f, plog_fetcher_state state, int64_t due_ms) {
  f->state = state;
  plog_assert(plog__timers_arm(&f->engine->timers, &f->timer, due_ms) == 0);
}

/* Without a connection now, for the reason error; after a while it is tried again. */
static void lose(plog_fetcher *f, int32_t error) {
  plog__uplink_close(&f->uplink);
  plog__follow_doubt(&f->session);
  f->addresses.count = 0;
  if (f->session.count == 0) {
    enter(f, PLOG_FETCHER_RESTING, PLOG_NEVER);
    return;
  }
  if (f->lost_error != error) tell(f, 0, error);
  f->lost_error = error;
  enter(f, PLOG_FETCHER_WAITING, f->engine->now_ms + f->backoff_ms);
}

/* Connect to the first of the addresses left that lets us begin. error: why the last one did not */
static void try_addresses(plog_fetcher *f, int32_t error) {
  plog_engine *e = f->engine;
  while (f->address_next < f->addresses.count) {
    const struct sockaddr_storage *to = &f->addresses.found[f->address_next++];
    uint64_t tag = (uint64_t)(uintptr_t)f | PLOG_EVENT_FETCHER;
    int32_t rc = plog__uplink_connect(&f->uplink, to, f->receive_buffer_bytes, e->epoll_fd, tag);
    if (rc == 0) {
      f->writable = false;
      enter(f, PLOG_FETCHER_CONNECTING, e->now_ms + f->connect_timeout_ms);
      return;
    }
    error = -rc;
  }
  lose(f, error);
}

static void connect_failed(plog_fetcher *f, int32_t error) {
  plog__uplink_close(&f->uplink);
  try_addresses(f, error);
}

static void looked_up(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_lookup *lookup = PLOG_CONTAINER_OF(message, plog_lookup, task.done);
  for (plog_link *at = e->fetchers.all.next; at != &e->fetchers.all; at = at->next) {
    plog_fetcher *f = PLOG_CONTAINER_OF(at, plog_fetcher, link);
    if (f->lookup != lookup) continue;
    f->lookup = NULL;
    f->addresses = lookup->addresses;
    f->address_next = 0;
    if (f->state == PLOG_FETCHER_LOOKING) try_addresses(f, EHOSTUNREACH);
  }
  free(lookup);
}

static int32_t look_up(plog_fetcher *f) {
  size_t host_bytes = strlen(f->host) + 1;
  plog_lookup *lookup = calloc(1, sizeof *lookup + host_bytes);
  if (!lookup) return -ENOMEM;
  lookup->task.done.run = looked_up;
  lookup->port = f->port;
  memcpy(lookup->host, f->host, host_bytes);
  int32_t rc = plog__lookup_start(&f->engine->fetchers.lookups, lookup);
  if (rc) {
    free(lookup);
    return rc;
  }
  f->lookup = lookup;
  return 0;
}

static void begin_connecting(plog_fetcher *f) {
  if (f->session.count == 0 || f->engine->stopping) {
    enter(f, PLOG_FETCHER_RESTING, PLOG_NEVER);
    return;
  }
  f->address_next = 0;
  if (plog__lookup_text(f->host, f->port, &f->addresses)) {
    try_addresses(f, EHOSTUNREACH);
    return;
  }
  enter(f, PLOG_FETCHER_LOOKING, PLOG_NEVER);
  int32_t rc = f->lookup ? 0 : look_up(f);
  if (rc) lose(f, -rc);
}

/* ------------------------------------------------------------------------------------------------ asking */

static void send_rest(plog_fetcher *f) {
  int32_t rc = plog__uplink_send(&f->uplink);
  if (rc == -EAGAIN)
    f->writable = false;
  else if (rc)
    lose(f, rc < 0 ? -rc : EPROTO);
}

/* Connected and nothing under way: ask what there is to ask. */
static void ask(plog_fetcher *f) {
  plog_engine *e = f->engine;
  plog_follow_session *s = &f->session;
  f->asked_version = plog__follow_version(s, &f->terms);
  plog_writer *w = plog__uplink_begin(&f->uplink);
  plog_write_i16(w, API_FETCH);
  plog_write_i16(w, f->asked_version);
  plog_write_i32(w, ++f->correlation_id);
  plog_write_string(w, false, f->client_id, strlen(f->client_id));
  plog_write_no_tags(w);
  int64_t look_ms;
  if (!plog__follow_write(s, &f->terms, &e->following, e->now_ms, f->backoff_ms, w, &look_ms)) {
    plog_writer_reset(w);
    enter(f, PLOG_FETCHER_READY, look_ms);
    return;
  }
  enter(f, PLOG_FETCHER_ASKING, e->now_ms + f->request_timeout_ms);
  send_rest(f);
}

static void connected(plog_fetcher *f) {
  f->lost_error = 0;
  f->whole_error = 0;
  tell(f, 1, 0);
  ask(f);
}

/* ------------------------------------------------------------------------------------------------ appending */

static plog_followed *find_followed(const plog_fetcher *f, const plog_fetch_answer_partition *in) {
  const plog_topics *topics = &f->engine->topics;
  const plog_topic *topic = in->topic_id ? plog__topics_by_id(topics, in->topic_id)
                                         : plog__topics_by_name(topics, in->topic_name.data, in->topic_name.size_bytes);
  plog_partition *p = plog__topic_partition(topic, in->index);
  plog_followed *followed = p ? p->followed : NULL;
  return followed && followed->fetcher == f ? followed : NULL;
}

static void pause(plog_followed *followed, int32_t error, int64_t a, int64_t b) {
  plog__follow_pause(&followed->fetcher->session, followed);
  tell_followed(followed, error, a, b);
}

/* It is asked for again after a while. Told once for as long as it lasts. */
static void delay(plog_followed *followed, int32_t error) {
  plog_fetcher *f = followed->fetcher;
  plog__follow_delay(&f->session, followed, f->engine->now_ms + f->backoff_ms);
  if (followed->reported != error) tell_followed(followed, error, 0, 0);
  followed->reported = error;
}

/* The batches that are there whole: a leader may cut the last one. */
typedef struct {
  size_t size_bytes;
  int64_t first_offset;
  int64_t first_end; /* of the first batch */
  int32_t last_epoch;
} plog_whole_batches;

static int32_t find_whole(const plog_bytes *records, plog_whole_batches *out) {
  *out = (plog_whole_batches){.first_offset = -1, .first_end = -1, .last_epoch = -1};
  while (out->size_bytes < records->size_bytes) {
    plog_batch_header header;
    int32_t rc = plog_batch_header_read(records->data + out->size_bytes, records->size_bytes - out->size_bytes, &header);
    if (rc == PLOG_E_SHORT) return 0;
    if (rc) return rc;
    if (out->size_bytes == 0) {
      out->first_offset = header.base_offset;
      out->first_end = plog__batch_last_offset(&header) + 1;
    }
    out->last_epoch = header.partition_leader_epoch;
    out->size_bytes += header.size_bytes;
  }
  return 0;
}

/*
 * A log that is still empty begins in the middle of its leader's first batch, after DeleteRecords: the whole batch is taken, below
 * the log start too, as the leader has it.
 */
static int32_t append_from_below(plog_engine *e, plog_partition *p, const plog_bytes *records,
                                 const plog_whole_batches *whole, const plog_fetch_answer_partition *in) {
  int64_t start = plog__log_start(p->log), last;
  int32_t rc = plog__partition_truncate(p, whole->first_offset, true, e->wall_ms);
  if (rc) return rc;
  return plog__partition_append_follower(p, records->data, whole->size_bytes, in->high_watermark,
                                         PLOG_MAX(start, in->log_start), e->wall_ms, &last);
}

static int32_t append(plog_engine *e, plog_followed *followed, const plog_fetch_answer_partition *in) {
  plog_partition *p = followed->partition;
  plog_whole_batches whole;
  int32_t rc = find_whole(&in->records, &whole);
  if (rc) return rc;
  int64_t start = plog__log_start(p->log), end = plog__log_end(p->log), last;
  bool from_below = whole.size_bytes > 0 && start == end && whole.first_offset < end && whole.first_end > end;
  if (from_below)
    rc = append_from_below(e, p, &in->records, &whole, in);
  else
    rc = plog__partition_append_follower(p, in->records.data, whole.size_bytes, in->high_watermark, in->log_start,
                                         e->wall_ms, &last);
  if (rc == 0 && whole.size_bytes > 0) {
    followed->last_epoch = whole.last_epoch;
    plog__count(&e->counters.replicated_in_bytes, (int64_t)whole.size_bytes);
  }
  if (rc == 0 && (p->throttled & PLOG_THROTTLED_FOLLOWING))
    plog__throttle_moved(&e->following, (int64_t)whole.size_bytes, e->now_ms);
  return rc;
}

/* What Kafka's follower takes for passing, and asks again. */
static bool passes(const plog_partition *p, int32_t rc) {
  if (rc < 0) return !p->failed; /* a full disk, no memory or descriptors */
  return rc == PLOG_CORRUPT_MESSAGE || rc == PLOG_INVALID_RECORD;
}

static void take_records(plog_fetcher *f, plog_followed *followed, const plog_fetch_answer_partition *in) {
  plog_engine *e = f->engine;
  plog_partition *p = followed->partition;
  int32_t rc = append(e, followed, in);
  plog__partition_fire(p, e->now_ms);
  plog__reactor_report(e, p, rc < 0 && rc != -ENOMEM ? -rc : 0);
  if (rc == 0) {
    followed->reported = 0;
    followed->leader_high_watermark = in->high_watermark;
    plog__follow_changed(&f->session, followed);
    return;
  }
  int32_t error = rc < 0 ? PLOG_KAFKA_STORAGE_ERROR : rc;
  if (passes(p, rc))
    delay(followed, error);
  else
    pause(followed, error == PLOG_OFFSET_OUT_OF_RANGE ? PLOG_INVALID_RECORD : error, 1, 0);
}

/* What comes for it is about the log as it is: what was asked would be asked again. */
static bool is_answer_to(const plog_followed *followed) {
  const plog_partition *p = followed->partition;
  return followed->in_session && followed->state == PLOG_FOLLOW_ASKED &&
         followed->asked.leader_epoch == plog__partition_leader_epoch(p) && followed->asked.offset == plog__log_end(p->log);
}

static void take_partition(plog_fetcher *f, const plog_fetch_answer_partition *in) {
  plog_followed *followed = find_followed(f, in);
  if (!followed) return;
  if (!is_answer_to(followed)) {
    /* things have moved on since it was asked; what the leader has told now it would not tell again in this session */
    plog__follow_doubt(&f->session);
    plog__follow_changed(&f->session, followed);
    return;
  }
  if (in->error == PLOG_OFFSET_OUT_OF_RANGE || in->error == PLOG_FENCED_LEADER_EPOCH)
    pause(followed, in->error, 1, 0);
  else if (in->error)
    delay(followed, in->error);
  else if (in->diverging)
    pause(followed, 0, in->diverging_epoch, in->diverging_end);
  else
    take_records(f, followed, in);
}

/* A part of the answer, or what is left of it. */
static void work_off(plog_fetcher *f) {
  int64_t left_bytes = APPEND_BUDGET_BYTES;
  plog_fetch_answer_partition in;
  while (left_bytes > 0) {
    if (!plog__fetch_answer_next(&f->answer, &in)) {
      plog__uplink_consume(&f->uplink);
      ask(f);
      return;
    }
    left_bytes -= (int64_t)in.records.size_bytes;
    take_partition(f, &in);
  }
  run_later(f);
}

static bool is_about_session(int32_t error) {
  return error == PLOG_FETCH_SESSION_ID_NOT_FOUND || error == PLOG_INVALID_FETCH_SESSION_EPOCH ||
         error == PLOG_FETCH_SESSION_TOPIC_ID_ERROR;
}

static void take_answer(plog_fetcher *f, const plog_bytes *data) {
  plog_fetch_answer *a = &f->answer;
  int32_t rc = plog__fetch_answer_begin(a, f->asked_version, f->correlation_id, data->data, data->size_bytes);
  if (rc == 0) rc = plog__fetch_answer_check(a);
  if (rc) {
    lose(f, EPROTO);
    return;
  }
  bool in_session = !f->session.full;
  plog__follow_answered(&f->session, a->error, a->session_id);
  if (a->error && !is_about_session(a->error) && a->error != f->whole_error) tell(f, 2, a->error);
  if (!is_about_session(a->error)) f->whole_error = a->error;
  if (a->error) {
    plog__uplink_consume(&f->uplink);
    bool anew = in_session && is_about_session(a->error); /* with a full request, at once */
    enter(f, PLOG_FETCHER_READY, f->engine->now_ms + (anew ? 0 : f->backoff_ms));
    return;
  }
  enter(f, PLOG_FETCHER_APPENDING, PLOG_NEVER);
  work_off(f);
}

/* ------------------------------------------------------------------------------------------------ running */

static void receive(plog_fetcher *f) {
  int64_t budget_bytes = RECEIVE_BUDGET_BYTES;
  plog_bytes answer;
  int32_t rc = plog__uplink_receive(&f->uplink, &budget_bytes, &answer);
  plog__count(&f->engine->counters.bytes_in, RECEIVE_BUDGET_BYTES - budget_bytes);
  bool asked = f->state == PLOG_FETCHER_ASKING && plog__uplink_is_sent(&f->uplink);
  if (rc < 0 && rc != -EAGAIN)
    lose(f, -rc);
  else if (rc == PLOG_E_MALFORMED || (!asked && plog__uplink_has_received(&f->uplink)))
    lose(f, EPROTO); /* no answer, or one to nothing */
  else if (rc == PLOG_E_AGAIN)
    run_later(f);
  else if (rc == 0)
    take_answer(f, &answer);
}

static void step(plog_fetcher *f) {
  if (f->state == PLOG_FETCHER_CONNECTING && (f->writable || f->uplink.readable)) {
    int32_t rc = plog__uplink_connected(&f->uplink);
    if (rc)
      connect_failed(f, -rc);
    else if (f->writable)
      connected(f);
  } else if (f->state == PLOG_FETCHER_ASKING) {
    if (f->writable && !plog__uplink_is_sent(&f->uplink)) send_rest(f);
    if (f->state == PLOG_FETCHER_ASKING) receive(f);
  } else if (f->state == PLOG_FETCHER_APPENDING) {
    work_off(f);
  } else if (f->state == PLOG_FETCHER_READY) {
    receive(f); /* the other side may have ended */
  }
}

static void timed_out(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  plog_fetcher *f = PLOG_CONTAINER_OF(timer, plog_fetcher, timer);
  if (f->state == PLOG_FETCHER_CONNECTING)
    connect_failed(f, ETIMEDOUT);
  else if (f->state == PLOG_FETCHER_WAITING)
    begin_connecting(f);
  else if (f->state == PLOG_FETCHER_READY)
    ask(f);
  else if (f->state == PLOG_FETCHER_ASKING)
    lose(f, ETIMEDOUT);
}

void plog__fetcher_event(plog_fetcher *f, uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) f->uplink.readable = true;
  if (events & EPOLLOUT) f->writable = true;
  run_later(f);
}

void plog__fetchers_run(plog_engine *e) {
  plog_fetchers *fetchers = &e->fetchers;
  plog_list_insert(&fetchers->ready, &fetchers->turn_end); /* those that come back while we go are for the next turn */
  while (fetchers->ready.next != &fetchers->turn_end) {
    plog_fetcher *f = PLOG_CONTAINER_OF(fetchers->ready.next, plog_fetcher, ready);
    plog_list_remove(&f->ready);
    step(f);
  }
  plog_list_remove(&fetchers->turn_end);
}

/* ------------------------------------------------------------------------------------------------ following */

int32_t plog__fetcher_follow(plog_fetcher *f, plog_partition *p) {
  if (plog__partition_role(p) != PLOG_ROLE_FOLLOWER) return PLOG_NOT_LEADER_OR_FOLLOWER;
  if (p->followed && p->followed->fetcher == f) {
    plog__follow_resume(&f->session, p->followed);
    return 0;
  }
  plog__fetcher_unfollow(p);
  return plog__follow_add(&f->session, f, p) ? 0 : -ENOMEM;
}

void plog__fetcher_go(plog_fetcher *f) {
  if (f->state == PLOG_FETCHER_RESTING)
    begin_connecting(f);
  else if (f->state == PLOG_FETCHER_READY && !f->whole_error)
    ask(f);
}

void plog__fetcher_unfollow(plog_partition *p) {
  if (p->followed) plog__follow_remove(&p->followed->fetcher->session, p->followed);
}

void plog__fetcher_log_changed(plog_partition *p) {
  if (!p->followed) return;
  plog_log_info info;
  plog_log_info_read(p->log, &info);
  p->followed->last_epoch = info.latest_epoch;
  plog__follow_changed(&p->followed->fetcher->session, p->followed);
}

/* ------------------------------------------------------------------------------------------------ life */

static bool is_possible(const plog_fetcher_config *c) {
  return c->host && c->host[0] && c->port > 0 && c->port <= 65535 && c->client_id && strlen(c->client_id) <= INT16_MAX &&
         c->fetch_version >= VERSION_MIN && c->fetch_version <= VERSION_MAX && c->replica_id >= 0 && c->max_wait_ms >= 0 &&
         c->min_bytes >= 0 && c->max_bytes >= 0 && c->partition_max_bytes >= 0 && c->backoff_ms >= 0 &&
         c->connect_timeout_ms > 0 && c->request_timeout_ms > 0;
}

static void free_fetcher(plog_fetcher *f) {
  plog__follow_session_deinit(&f->session);
  plog__uplink_deinit(&f->uplink);
  free(f->host);
  free(f->client_id);
  free(f);
}

int32_t plog__fetcher_open(plog_engine *e, const plog_fetcher_config *config, int64_t *out_number) {
  if (!is_possible(config)) return -EINVAL;
  plog_fetcher *f = calloc(1, sizeof *f);
  if (!f) return -ENOMEM;
  f->engine = e;
  f->host = strdup(config->host);
  f->client_id = strdup(config->client_id);
  f->port = config->port;
  f->leader_id = config->leader_id;
  f->receive_buffer_bytes = config->receive_buffer_bytes;
  f->backoff_ms = PLOG_MAX(config->backoff_ms, 1);
  f->connect_timeout_ms = config->connect_timeout_ms;
  f->request_timeout_ms = config->request_timeout_ms;
  f->terms = (plog_follow_terms){.version = (int16_t)config->fetch_version,
                                 .replica_id = config->replica_id,
                                 .broker_epoch = config->broker_epoch,
                                 .max_wait_ms = config->max_wait_ms,
                                 .min_bytes = config->min_bytes,
                                 .max_bytes = config->max_bytes,
                                 .partition_max_bytes = config->partition_max_bytes};
  uint32_t asked_bytes = (uint32_t)PLOG_MIN(config->max_bytes, INT32_MAX - ANSWER_SLACK_BYTES) + ANSWER_SLACK_BYTES;
  plog__uplink_init(&f->uplink, e->sys, &e->buffers, asked_bytes);
  plog__follow_session_init(&f->session);
  f->timer.fire = timed_out;
  plog_list_init(&f->link);
  plog_list_init(&f->ready);
  if (!f->host || !f->client_id || plog__timers_arm(&e->timers, &f->timer, PLOG_NEVER)) {
    free_fetcher(f);
    return -ENOMEM;
  }
  plog_list_insert(&e->fetchers.all, &f->link);
  f->number = *out_number = ++e->fetchers.serial;
  return 0;
}

plog_fetcher *plog__fetcher_find(const plog_fetchers *fetchers, int64_t number) {
  for (plog_link *at = fetchers->all.next; at != &fetchers->all; at = at->next) {
    plog_fetcher *f = PLOG_CONTAINER_OF(at, plog_fetcher, link);
    if (f->number == number) return f;
  }
  return NULL;
}

void plog__fetcher_close(plog_fetcher *f) {
  plog__timers_disarm(&f->engine->timers, &f->timer);
  plog_list_remove(&f->link);
  plog_list_remove(&f->ready);
  free_fetcher(f);
}

int32_t plog__fetcher_configure(plog_fetcher *f, const char *host, int32_t port, int64_t broker_epoch) {
  if (!host || !host[0] || port <= 0 || port > 65535) return -EINVAL;
  f->terms.broker_epoch = broker_epoch;
  if (port == f->port && strcmp(host, f->host) == 0) return 0;
  char *copy = strdup(host);
  if (!copy) return -ENOMEM;
  free(f->host);
  f->host = copy;
  f->port = port;
  f->lookup = NULL; /* of the old name */
  plog__uplink_close(&f->uplink);
  plog__follow_doubt(&f->session);
  begin_connecting(f);
  return 0;
}

void plog__fetchers_init(plog_fetchers *fetchers, plog_sys *sys, plog_inbox *inbox) {
  plog_list_init(&fetchers->all);
  plog_list_init(&fetchers->ready);
  plog_list_init(&fetchers->turn_end);
  fetchers->serial = 0;
  plog__disk_pool_init(&fetchers->lookups, sys, inbox, 1);
}

void plog__fetchers_stop(plog_engine *e) {
  for (plog_link *at = e->fetchers.all.next; at != &e->fetchers.all; at = at->next) {
    plog_fetcher *f = PLOG_CONTAINER_OF(at, plog_fetcher, link);
    plog__uplink_close(&f->uplink);
    plog__follow_doubt(&f->session);
    plog_list_remove(&f->ready);
    enter(f, PLOG_FETCHER_RESTING, PLOG_NEVER);
  }
}

void plog__fetchers_quiesce(plog_fetchers *fetchers) {
  plog__disk_pool_deinit(&fetchers->lookups);
}

void plog__fetchers_deinit(plog_fetchers *fetchers) {
  while (!plog_list_empty(&fetchers->all))
    plog__fetcher_close(PLOG_CONTAINER_OF(plog_list_take(&fetchers->all), plog_fetcher, link));
}
