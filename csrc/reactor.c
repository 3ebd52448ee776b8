/*
 * reactor.c: see reactor.h.
 *
 * Sockets are watched edge-triggered, for reading and writing at once, and never again touched: a connection remembers that it
 * is readable or that its socket is full, so back-pressure costs no system call. A connection that is to be looked at without
 * a new event is put into the list `ready`; the loop does not sleep while that list or `flush` holds something.
 *
 * Produce and Fetch go first. Connections that asked for something else are in lists of their own, `control_ready` and
 * `control_flush`: what a turn does for them is bounded, so that no record waits while a hundred members of a group are told
 * of a rebalance, and they get half of the reactor at least when there is no end of records.
 */
#include "reactor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "fetch.h"
#include "listener.h"
#include "offset_commit.h"
#include "produce.h"
#include "soundness.h"
#include "wire.h"

#define EVENTS_MAX 256
#define READ_BUDGET_BYTES (1024 * 1024)      /* of one connection in one turn */
#define SEND_BUDGET_BYTES (2 * 1024 * 1024)  /* likewise */
#define SETTLE_BYTES (1024 * 1024)           /* staged: settle before reading more */
#define WARM_BUFFER_BYTES (24 * 1024 * 1024) /* kept when nothing uses them */
#define IDLE_GRAIN_MAX_MS 1000
#define CONTROL_SHARE_NS \
  50000                 /* requests that are neither Produce nor Fetch have that long in each half of a turn at least */
#define SLICE_NS 100000 /* of the processor, the shortest there is: who asks for it runs soon after it is woken */
#define SLOT_BITS 32

#define CONN_OF(node, member) PLOG_CONTAINER_OF(node, plog_conn, member)

static void serve(plog_engine *e, plog_conn *conn);

void plog__reactor_refresh_clock(plog_engine *e) {
  e->turn_ns = plog__sys_monotonic_ns(e->sys);
  e->now_ms = e->turn_ns / 1000000;
  e->wall_ms = plog__sys_wall_ms(e->sys);
}

static void move_to(plog_link *list, plog_link *node) {
  plog_list_remove(node);
  plog_list_insert(list, node);
}

/* ------------------------------------------------------------------------------------------------ what goes first */

static plog_link *ready_list(plog_engine *e, const plog_conn *conn) {
  return conn->data ? &e->ready : &e->control_ready;
}

static plog_link *flush_list(plog_engine *e, const plog_conn *conn) {
  return conn->data ? &e->flush : &e->control_flush;
}

/* What a connection asked last says how soon its next request is looked at and its answers are sent. */
static void note_kind(plog_engine *e, plog_conn *conn, int16_t api_key) {
  bool data = api_key == PLOG_API_PRODUCE || api_key == PLOG_API_FETCH;
  if (conn->data == data) return;
  conn->data = data;
  if (!plog_list_empty(&conn->flush)) move_to(flush_list(e, conn), &conn->flush);
}

/* When control has had its share of this half of the turn: as long as the turn has taken so far. Nobody waits in a stop. */
static int64_t control_until_ns(const plog_engine *e) {
  if (e->stopping) return PLOG_NEVER;
  int64_t now_ns = plog__sys_monotonic_ns(e->sys);
  return now_ns + PLOG_MAX(now_ns - e->turn_ns, CONTROL_SHARE_NS);
}

static bool is_over(const plog_engine *e, int64_t until_ns) {
  return until_ns != PLOG_NEVER && plog__sys_monotonic_ns(e->sys) >= until_ns;
}

/* ------------------------------------------------------------------------------------------------ connections */

static int64_t free_slot(plog_engine *e) {
  for (uint32_t i = 0; (uint32_t)e->conns_open < e->conns_used && i < e->conns_used; i++)
    if (!e->conns[i]) return i;
  if (e->conns_used == e->conns_capacity) {
    uint32_t capacity = e->conns_capacity ? e->conns_capacity * 2 : 64;
    plog_conn **conns = realloc(e->conns, capacity * sizeof(plog_conn *));
    if (!conns) return -ENOMEM;
    e->conns = conns;
    e->conns_capacity = capacity;
  }
  e->conns[e->conns_used] = NULL;
  return e->conns_used++;
}

static void throttle_over(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  plog_conn *conn = CONN_OF(timer, throttle);
  conn->throttled = false;
  plog__reactor_serve_later(conn->engine, conn);
}

static void arm_idle_timer(plog_engine *e) {
  if (e->config.connections_max_idle_ms < 0 || plog_list_empty(&e->idle) || e->idle_timer.place) return;
  const plog_conn *oldest = CONN_OF(e->idle.next, idle);
  (void)plog__timers_arm(&e->timers, &e->idle_timer, oldest->active_ms + e->config.connections_max_idle_ms + 1);
}

plog_conn *plog__reactor_add_conn(plog_engine *e, int fd, int32_t listener_id) {
  pthread_mutex_lock(&e->conns_lock);
  int64_t slot = free_slot(e);
  pthread_mutex_unlock(&e->conns_lock);
  if (slot < 0) return NULL;
  plog_conn *conn = plog__conn_open(++e->conn_serial << SLOT_BITS | slot, fd, listener_id);
  if (!conn) return NULL;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
  event.data.u64 = (uint64_t)(uintptr_t)conn;
  if (plog__sys_epoll_ctl(e->sys, e->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
    free(conn);
    return NULL;
  }
  conn->engine = e;
  conn->answers.times = &e->times;
  conn->throttle.fire = throttle_over;
  conn->active_ms = e->now_ms;
  plog_list_insert(&e->idle, &conn->idle);
  arm_idle_timer(e);
  pthread_mutex_lock(&e->conns_lock);
  e->conns[slot] = conn;
  e->conns_open++;
  pthread_mutex_unlock(&e->conns_lock);
  plog__count(&e->counters.connections, 1);
  plog__count(&e->counters.connections_now, 1);
  return conn;
}

static void free_conn(plog_engine *e, plog_conn *conn) {
  plog_assert(!conn->reading);
  plog__timers_disarm(&e->timers, &conn->throttle);
  if (conn->upcalled) {
    plog_upcall closed = {.kind = PLOG_UP_CLOSED, .conn = conn->number, .slot = -1, .partition = -1, .offset = -1};
    (void)plog__upcalls_collect(&e->upcalls, &closed);
  }
  pthread_mutex_lock(&e->conns_lock);
  e->conns[(uint32_t)conn->number] = NULL;
  e->conns_open--;
  pthread_mutex_unlock(&e->conns_lock);
  plog__count(&e->counters.connections_now, -1);
  plog__conn_close(conn, e->sys, e->epoll_fd, &e->buffers);
}

plog_conn *plog__reactor_conn(const plog_engine *e, int64_t number) {
  uint32_t slot = (uint32_t)number;
  plog_conn *conn = number >= 0 && slot < e->conns_used ? e->conns[slot] : NULL;
  return conn && conn->number == number ? conn : NULL;
}

void plog__reactor_disconnect(plog_engine *e, plog_conn *conn) {
  if (conn->closes) return;
  conn->closes = true;
  plog_list_remove(&conn->ready);
  move_to(&e->closing, &conn->closing);
}

void plog__reactor_serve_later(plog_engine *e, plog_conn *conn) {
  if (!conn->closes) move_to(ready_list(e, conn), &conn->ready);
}

void plog__reactor_send_later(plog_engine *e, plog_conn *conn) {
  if (plog_list_empty(&conn->flush)) plog_list_insert(flush_list(e, conn), &conn->flush);
}

void plog__reactor_throttle(plog_engine *e, plog_conn *conn, int64_t ms) {
  if (ms <= 0 || plog__timers_arm(&e->timers, &conn->throttle, e->now_ms + ms)) return;
  conn->throttled = true;
}

void plog__reactor_upcall_bytes(plog_engine *e, int64_t more) {
  e->upcall_bytes += more;
  plog_assert(e->upcall_bytes >= 0);
  if (e->upcall_bytes >= e->config.max_upcall_bytes) return;
  while (!plog_list_empty(&e->stalled)) plog__reactor_serve_later(e, CONN_OF(e->stalled.next, ready));
}

/* Connections that are to go; one whose slice a disk thread reads stays until that has come back. */
static void close_closing(plog_engine *e) {
  for (plog_link *at = e->closing.next, *next; at != &e->closing; at = next) {
    next = at->next;
    plog_conn *conn = CONN_OF(at, closing);
    if (!conn->reading) free_conn(e, conn);
  }
  plog__listeners_update(e);
}

void plog__reactor_close_conns(plog_engine *e) {
  for (uint32_t i = 0; i < e->conns_used; i++)
    if (e->conns[i]) plog__reactor_disconnect(e, e->conns[i]);
  close_closing(e);
}

static void note_activity(plog_engine *e, plog_conn *conn) {
  if (e->now_ms - conn->active_ms < e->idle_grain_ms || conn->closes) return;
  conn->active_ms = e->now_ms;
  move_to(&e->idle, &conn->idle);
}

static bool waits_for_us(const plog_conn *conn) {
  return conn->waiting > 0 || conn->reading || !plog_list_empty(&conn->flush);
}

/* In the middle of a large frame bytes come without an event, as long as they are few: they are fetched, which says that they came. */
static void look_for_bytes(plog_engine *e, plog_conn *conn) {
  plog_list_remove(&conn->ready);
  conn->readable = true;
  serve(e, conn);
}

/* Who has neither sent nor taken anything for so long goes, unless it waits for us. */
static void close_idle(plog_timer *timer, int64_t now_ms) {
  plog_engine *e = PLOG_CONTAINER_OF(timer, plog_engine, idle_timer);
  int64_t since = now_ms - e->config.connections_max_idle_ms;
  while (!plog_list_empty(&e->idle)) {
    plog_conn *conn = CONN_OF(e->idle.next, idle);
    if (conn->active_ms >= since) break;
    if (conn->low_water > 1 && !conn->closes) look_for_bytes(e, conn);
    if (conn->active_ms >= since) continue;
    if (waits_for_us(conn)) {
      conn->active_ms = now_ms;
      move_to(&e->idle, &conn->idle);
    } else {
      plog__reactor_disconnect(e, conn);
      plog_list_remove(&conn->idle);
    }
  }
  arm_idle_timer(e);
}

/* ------------------------------------------------------------------------------------------------ settling */

void plog__reactor_mark_dirty(plog_engine *e, plog_partition *p) {
  if (plog_list_empty(&p->dirty)) plog_list_insert(&e->dirty, &p->dirty);
}

static void tell(plog_engine *e, const plog_partition *p, int32_t kind, int32_t error, int64_t offset) {
  plog_upcall upcall = {.kind = kind, .error = error, .conn = -1, .slot = -1, .partition = p->number, .offset = offset};
  (void)plog__upcalls_collect(&e->upcalls, &upcall); /* without memory this news is lost; the next of its kind is told */
}

void plog__reactor_report(plog_engine *e, plog_partition *p, int32_t storage_error) {
  plog_log_facts facts;
  plog__log_take_facts(p->log, &facts);
  if (facts.rolled) tell(e, p, PLOG_UP_ROLLED, 0, facts.rolled_base);
  if (facts.epoch_started) tell(e, p, PLOG_UP_EPOCH, 0, plog__log_end(p->log));
  if (storage_error) tell(e, p, PLOG_UP_STORAGE_ERROR, storage_error, plog__log_end(p->log));
  for (const plog_replica *r; (r = plog__partition_take_isr_fact(p)) != NULL;) {
    plog_upcall upcall = {.kind = PLOG_UP_ISR,
                          .conn = -1,
                          .slot = -1,
                          .partition = p->number,
                          .offset = -1,
                          .token = r->broker_epoch,
                          .a = r->broker_id,
                          .b = r->joining};
    (void)plog__upcalls_collect(&e->upcalls, &upcall);
  }
}

int32_t plog__reactor_commit(plog_engine *e, plog_partition *p) {
  plog_list_remove(&p->dirty);
  int32_t rc = plog__partition_commit(p, e->wall_ms, e->now_ms);
  plog__partition_fire(p, e->now_ms);
  plog__reactor_report(e, p, rc < 0 ? -rc : 0);
  return rc;
}

void plog__reactor_complete(plog_engine *e, plog_request *request) {
  plog__conn_done(request);
  if (request->waits_ns) request->waits_ns = e->turn_ns - request->waits_ns;
  plog__reactor_send_later(e, request->conn);
}

/* May the connection's service go on? Says why not. */
static bool may_serve(plog_engine *e, plog_conn *conn) {
  if (conn->closes || conn->throttled || plog__conn_is_loaded(conn) || e->stopping) return false;
  if (conn->blocked && conn->waiting > 0) return false;
  conn->blocked = false;
  if (e->upcall_bytes < e->config.max_upcall_bytes) return true;
  move_to(&e->stalled, &conn->ready);
  return false;
}

static void send_answers(plog_engine *e, plog_conn *conn) {
  if (conn->socket_full || conn->reading) return;
  int32_t rc = plog__conn_write_answers(conn);
  int64_t sent = 0;
  int32_t sent_rc = plog__out_send(&conn->out, &e->sender, conn->fd, SEND_BUDGET_BYTES, &sent, &conn->cold);
  plog__times_sent(&conn->answers, sent);
  if (sent) {
    plog__count(&e->counters.bytes_out, sent);
    note_activity(e, conn);
  }
  if (sent_rc == PLOG_E_AGAIN) {
    plog__count(&e->counters.cold_reads, 1);
    sent_rc = plog__sound_cold(e, conn);
  } else if (sent_rc == -EAGAIN) {
    conn->socket_full = true;
    sent_rc = 0;
  } else if (sent_rc == 0 && (conn->out.pending_bytes > 0 || (conn->first && conn->first->done)) && rc == 0) {
    plog__reactor_send_later(e, conn); /* its share of this turn is used up */
  }
  if (rc || sent_rc) plog__reactor_disconnect(e, conn);
  if (conn->paused && may_serve(e, conn)) plog__reactor_serve_later(e, conn);
}

static void flush_conns(plog_engine *e, plog_link *list, int64_t until_ns) {
  plog_list_insert(list, &e->flush_end); /* those that come back while we go are for the next turn */
  while (list->next != &e->flush_end) {
    plog_conn *conn = CONN_OF(list->next, flush);
    plog_list_remove(&conn->flush);
    send_answers(e, conn);
    if (is_over(e, until_ns)) break;
  }
  plog_list_remove(&e->flush_end);
}

/* A disk whose room has run short, or is there again. */
static void tell_rooms(plog_engine *e) {
  for (const plog_room *room; (room = plog__rooms_take_news(&e->rooms)) != NULL;) {
    plog_upcall upcall = {.kind = PLOG_UP_ROOM,
                          .conn = -1,
                          .slot = -1,
                          .partition = -1,
                          .offset = -1,
                          .a = room->lacking ? 0 : 1,
                          .b = room->left_bytes,
                          .body = (const uint8_t *)room->dir,
                          .body_bytes = (uint32_t)strlen(room->dir)};
    (void)plog__upcalls_collect(&e->upcalls, &upcall);
  }
}

void plog__reactor_settle(plog_engine *e) {
  plog__offset_commits_settle(e);
  while (!plog_list_empty(&e->dirty) || !plog_list_empty(&e->woken)) {
    while (!plog_list_empty(&e->dirty))
      (void)plog__reactor_commit(e, PLOG_CONTAINER_OF(e->dirty.next, plog_partition, dirty));
    plog__fetch_run_woken(e);
  }
  e->staged_bytes = 0;
  plog__intake_settle(&e->intake);
  plog__sync_groups_start(e);
  flush_conns(e, &e->flush, PLOG_NEVER);
  if (!plog_list_empty(&e->control_flush)) flush_conns(e, &e->control_flush, control_until_ns(e));
  tell_rooms(e);
  plog__upcalls_publish(&e->upcalls);
}

/* ------------------------------------------------------------------------------------------------ serving */

static bool is_served(const plog_engine *e, const plog_frame *frame) {
  return frame->api_version >= atomic_load_explicit(&e->served_min[frame->api_key], memory_order_relaxed) &&
         frame->api_version <= atomic_load_explicit(&e->served_max[frame->api_key], memory_order_relaxed);
}

/* Nothing is before the frame any more: from now on its time is ours, though it may be looked at again. */
static void take_up(const plog_engine *e, plog_conn *conn) {
  if (conn->came_ns == 0) conn->came_ns = conn->noticed_ns ? conn->noticed_ns : e->turn_ns;
}

/* 0 | PLOG_E_AGAIN: it must wait for what is before it | anything else: close the connection */
static int32_t dispatch(plog_engine *e, plog_conn *conn, const plog_frame *frame) {
  int16_t waits_for = conn->waiting ? conn->last->api_key : -1;
  note_kind(e, conn, frame->api_key);
  if (frame->api_key == PLOG_API_PRODUCE) {
    if (!is_served(e, frame)) return PLOG_E_CLOSED;
    if (conn->waiting && waits_for != PLOG_API_PRODUCE) return PLOG_E_AGAIN;
    take_up(e, conn);
    return plog__produce_handle(e, conn, frame);
  }
  if (frame->api_key == PLOG_API_FETCH) {
    if (!is_served(e, frame)) return PLOG_E_CLOSED;
    if (conn->waiting) return PLOG_E_AGAIN;
    take_up(e, conn);
    return plog__fetch_handle(e, conn, frame);
  }
  if (conn->waiting && (waits_for == PLOG_API_PRODUCE || waits_for == PLOG_API_FETCH)) return PLOG_E_AGAIN;
  take_up(e, conn);
  return plog__control_handle(e, conn, frame);
}

/* What the times of a request that was taken are told with. */
static int32_t kind_of(const plog_conn *conn, const plog_frame *frame) {
  if (frame->api_key == PLOG_API_FETCH) return conn->last->kind;
  return frame->api_key < PLOG_COUNTED_APIS ? frame->api_key : PLOG_KIND_NONE;
}

/* Hand out every whole frame of the view. */
static void serve_frames(plog_engine *e, plog_conn *conn) {
  while (may_serve(e, conn)) {
    plog_frame frame;
    int32_t rc = plog__conn_frame(conn, &e->intake, &frame);
    if (rc == PLOG_E_SHORT) return;
    if (rc == 0) rc = dispatch(e, conn, &frame);
    if (rc == PLOG_E_AGAIN) {
      conn->blocked = true;
      return;
    }
    if (rc) {
      if (rc == PLOG_E_MALFORMED) plog__count(&e->counters.malformed, 1);
      plog__reactor_disconnect(e, conn);
      return;
    }
    plog__count(&e->counters.requests, 1);
    plog__times_came(&e->times, kind_of(conn, &frame), frame.body + frame.body_bytes - conn->view);
    conn->came_ns = 0;
    plog__conn_consume(conn);
  }
}

/* One receive. False: there is nothing more for now. */
static bool receive(plog_engine *e, plog_conn *conn, int64_t *budget_bytes) {
  bool drained;
  int64_t n = plog__conn_receive(conn, &e->intake, &drained);
  if (n == 0 || (n < 0 && n != -EAGAIN)) {
    plog__reactor_disconnect(e, conn);
    return false;
  }
  if (n == -EAGAIN || (drained && !conn->hung_up)) conn->readable = false;
  if (n < 0) return false;
  *budget_bytes -= n;
  plog__count(&e->counters.bytes_in, n);
  note_activity(e, conn);
  return true;
}

/* Make room where frames are received and staged, when it is used up. */
static int32_t settle_if_full(plog_engine *e, plog_conn *conn) {
  if (plog__intake_has_room(&e->intake) && e->staged_bytes < SETTLE_BYTES) return 0;
  int32_t rc = plog__conn_keep_rest(conn, &e->intake);
  plog__reactor_settle(e);
  return rc;
}

static void serve(plog_engine *e, plog_conn *conn) {
  int64_t budget_bytes = READ_BUDGET_BYTES;
  conn->paused = false;
  for (;;) {
    serve_frames(e, conn);
    if (conn->closes) break;
    if (!may_serve(e, conn)) {
      conn->paused = true;
      if (conn->reset) plog__reactor_disconnect(e, conn);
      break;
    }
    if (conn->blocked || !conn->readable) break;
    if (budget_bytes <= 0) {
      plog__reactor_serve_later(e, conn);
      break;
    }
    if (settle_if_full(e, conn)) {
      plog__reactor_disconnect(e, conn);
      break;
    }
    if (!receive(e, conn, &budget_bytes)) break;
  }
  conn->noticed_ns = 0;
  if (plog__conn_keep_rest(conn, &e->intake) || plog__conn_await(conn, &e->intake)) plog__reactor_disconnect(e, conn);
}

/* Those that are ready now; one that is put back meanwhile is for the next turn. */
static void serve_list(plog_engine *e, plog_link *list, int64_t until_ns) {
  plog_list_insert(list, &e->serve_end);
  while (list->next != &e->serve_end) {
    plog_conn *conn = CONN_OF(list->next, ready);
    plog_list_remove(&conn->ready);
    serve(e, conn);
    if (is_over(e, until_ns)) break;
  }
  plog_list_remove(&e->serve_end);
}

static void serve_ready(plog_engine *e) {
  serve_list(e, &e->ready, PLOG_NEVER);
  if (!plog_list_empty(&e->control_ready)) serve_list(e, &e->control_ready, control_until_ns(e));
}

/* ------------------------------------------------------------------------------------------------ topics, here and elsewhere */

plog_leader plog__reactor_leader(const plog_engine *e, const uint8_t *id, plog_bytes name, int32_t index) {
  const plog_topic *hosted =
      id ? plog__topics_by_id(&e->topics, id) : plog__topics_by_name(&e->topics, name.data, name.size_bytes);
  const plog_partition *p = plog__topic_partition(hosted, index);
  if (p) return (plog_leader){p->leader_id, plog__partition_leader_epoch(p)};
  const plog_leader *leader = plog__led_partition(plog__leaders_topic(&e->leaders, id, name), index);
  return leader ? *leader : (plog_leader){-1, PLOG_NO_PARTITION};
}

plog_bytes plog__reactor_topic_name(const plog_engine *e, const uint8_t *id) {
  const plog_topic_key *key = plog__topic_index_by_id(&e->topics.index, id);
  if (!key) key = plog__topic_index_by_id(&e->leaders.topics, id);
  return key ? (plog_bytes){(const uint8_t *)key->name, key->name_bytes} : (plog_bytes){NULL, 0};
}

/* ------------------------------------------------------------------------------------------------ the loop */

static void take_event(plog_engine *e, const struct epoll_event *event, bool *woken) {
  uint64_t tag = event->data.u64 & 3;
  if (tag == PLOG_EVENT_WAKE) {
    *woken = true;
    return;
  }
  if (tag == PLOG_EVENT_LISTENER) {
    plog__listener_accept(e, (plog_listener *)(uintptr_t)(event->data.u64 & ~(uint64_t)3));
    return;
  }
  if (tag == PLOG_EVENT_FETCHER) {
    plog__fetcher_event((plog_fetcher *)(uintptr_t)(event->data.u64 & ~(uint64_t)3), event->events);
    return;
  }
  plog_conn *conn = (plog_conn *)(uintptr_t)event->data.u64;
  if (conn->closes) return;
  if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->hung_up = true;
  if (event->events & (EPOLLHUP | EPOLLERR)) conn->reset = true;
  if (conn->reset && conn->paused) {
    plog__reactor_disconnect(e, conn); /* reading would not tell while it is paused, and no other event comes */
    return;
  }
  if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
    conn->readable = true;
    if (!conn->paused) {
      if (conn->noticed_ns == 0) conn->noticed_ns = e->turn_ns;
      plog__reactor_serve_later(e, conn);
    }
  }
  if ((event->events & EPOLLOUT) && conn->socket_full) {
    conn->socket_full = false;
    plog__reactor_send_later(e, conn);
  }
}

static int wait_timeout_ms(plog_engine *e) {
  if (!plog_list_empty(&e->ready) || !plog_list_empty(&e->flush) || !plog_list_empty(&e->fetchers.ready)) return 0;
  if (!plog_list_empty(&e->control_ready) || !plog_list_empty(&e->control_flush)) return 0;
  int64_t next = plog__timers_next(&e->timers);
  if (e->stopping) next = PLOG_MIN(next, e->stop_by_ms);
  if (next == PLOG_NEVER) return -1;
  int64_t left = next - plog__sys_monotonic_ms(e->sys);
  return (int)PLOG_MAX(0, PLOG_MIN(left, INT32_MAX));
}

static void wait_for_events(plog_engine *e) {
  struct epoll_event events[EVENTS_MAX];
  int timeout_ms = wait_timeout_ms(e);
  bool sleeps = timeout_ms != 0 && plog__inbox_sleep(&e->inbox);
  int count = plog__sys_epoll_wait(e->sys, e->epoll_fd, events, EVENTS_MAX, sleeps ? timeout_ms : 0);
  bool woken = false;
  plog__reactor_refresh_clock(e);
  for (int i = 0; i < count; i++) take_event(e, &events[i], &woken);
  if (sleeps || woken) plog__inbox_awake(&e->inbox, woken);
}

/* Stopping: is there an answer that could still go out? */
static bool has_output(const plog_engine *e) {
  for (uint32_t i = 0; i < e->conns_used; i++) {
    const plog_conn *conn = e->conns[i];
    if (conn && !conn->closes && (conn->out.pending_bytes > 0 || (conn->first && conn->first->done))) return true;
  }
  return false;
}

void plog__reactor_run(plog_engine *e) {
  (void)plog__sys_ask_slice(e->sys, SLICE_NS); /* refused: then as others */
  plog__reactor_refresh_clock(e);
  plog__sync_groups_start(e); /* of what was written before the reactor ran */
  while (!e->stopping || (e->now_ms < e->stop_by_ms && (has_output(e) || plog__sync_groups_busy(&e->sync_groups)))) {
    wait_for_events(e);
    plog__inbox_run(&e->inbox, e);
    serve_ready(e);
    plog__fetchers_run(e);
    plog__reactor_settle(e);
    if (plog__timers_next(&e->timers) <= e->now_ms) {
      plog__timers_run(&e->timers, e->now_ms);
      plog__reactor_settle(e);
    }
    if (!plog_list_empty(&e->closing)) close_closing(e);
    plog__upcalls_publish(&e->upcalls);
    plog__count(&e->counters.turns, 1);
  }
}

void plog__reactor_stop(plog_engine *e, int64_t drain_ms) {
  e->stopping = true;
  e->stop_by_ms = e->now_ms + drain_ms;
  plog__listeners_close(e);
  plog__fetchers_stop(e);
}

/* ------------------------------------------------------------------------------------------------ life */

static void retry_accepting(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  plog__listeners_update(PLOG_CONTAINER_OF(timer, plog_engine, accept_timer));
}

static int64_t lag_period(const plog_engine *e) {
  return PLOG_MAX(1, e->config.replica_lag_time_max_ms / 2);
}

static void check_lag(plog_timer *timer, int64_t now_ms) {
  plog_engine *e = PLOG_CONTAINER_OF(timer, plog_engine, lag_timer);
  for (plog_link *at = e->lagging.next, *next; at != &e->lagging; at = next) {
    next = at->next;
    plog_partition *p = PLOG_CONTAINER_OF(at, plog_partition, lagging);
    if (!plog__partition_check_lag(p, now_ms)) plog_list_remove(&p->lagging);
    plog__reactor_report(e, p, 0);
  }
  if (!plog_list_empty(&e->lagging)) (void)plog__timers_arm(&e->timers, &e->lag_timer, now_ms + lag_period(e));
}

void plog__reactor_watch_lag(plog_engine *e, plog_partition *p) {
  if (!plog__partition_watches_lag(p) || !plog_list_empty(&p->lagging)) return;
  plog_list_insert(&e->lagging, &p->lagging);
  if (!e->lag_timer.place) (void)plog__timers_arm(&e->timers, &e->lag_timer, e->now_ms + lag_period(e));
}

int32_t plog__reactor_init(plog_engine *e) {
  e->epoll_fd = plog__sys_epoll_create1(e->sys, EPOLL_CLOEXEC);
  if (e->epoll_fd < 0) return e->epoll_fd;
  int32_t rc = plog__inbox_init(&e->inbox, e->sys);
  if (rc) {
    (void)plog__sys_close(e->sys, e->epoll_fd);
    return rc;
  }
  struct epoll_event event = {.events = EPOLLIN};
  event.data.u64 = PLOG_EVENT_WAKE;
  rc = plog__sys_epoll_ctl(e->sys, e->epoll_fd, EPOLL_CTL_ADD, e->inbox.wake_fd, &event);
  if (rc) {
    plog__inbox_deinit(&e->inbox);
    (void)plog__sys_close(e->sys, e->epoll_fd);
    return rc;
  }
  plog_link *lists[] = {&e->listeners, &e->ready,   &e->stalled, &e->flush,  &e->closing,          &e->idle,
                        &e->dirty,     &e->lagging, &e->woken,   &e->checks, &e->commits.gathering};
  for (size_t i = 0; i < PLOG_COUNT_OF(lists); i++) plog_list_init(lists[i]);
  plog_link *of_turns[] = {&e->control_ready, &e->control_flush, &e->serve_end, &e->flush_end};
  for (size_t i = 0; i < PLOG_COUNT_OF(of_turns); i++) plog_list_init(of_turns[i]);
  e->accept_timer.fire = retry_accepting;
  e->idle_timer.fire = close_idle;
  e->lag_timer.fire = check_lag;
  e->idle_grain_ms = (int32_t)PLOG_MAX(0, PLOG_MIN(IDLE_GRAIN_MAX_MS, e->config.connections_max_idle_ms / 8));
  e->accepting = true;
  plog__timers_init(&e->timers);
  plog__times_init(&e->times, e->sys);
  plog__upcalls_init(&e->upcalls, e->sys);
  plog__buffers_init(&e->buffers, WARM_BUFFER_BYTES);
  plog__intake_init(&e->intake, e->sys, &e->buffers, e->config.max_request_bytes);
  e->sender = (plog_sender){.sys = e->sys, .buffers = &e->buffers, .mode = e->config.send_mode};
  plog__disk_pool_init(&e->disk, e->sys, &e->inbox, e->config.disk_threads);
  plog__fetchers_init(&e->fetchers, e->sys, &e->inbox);
  plog__throttle_init(&e->leading);
  plog__throttle_init(&e->following);
  plog__topics_init(&e->topics, e->hash_key);
  plog__leaders_init(&e->leaders, e->hash_key);
  plog__answer_cache_init(&e->answers, e->config.answer_cache_bytes, e->hash_key);
  plog__fetch_sessions_init(&e->sessions, e->config.fetch_session_slots, e->hash_key);
  plog_assert(pthread_mutex_init(&e->conns_lock, NULL) == 0);
  plog__reactor_refresh_clock(e);
  return 0;
}

void plog__reactor_quiesce(plog_engine *e) {
  plog__listeners_close(e);
  plog__disk_pool_deinit(&e->disk); /* its last messages are in the inbox now */
  plog__fetchers_quiesce(&e->fetchers);
  plog__sync_groups_stop(&e->sync_groups);
  plog__inbox_run(&e->inbox, e);
  plog__fetchers_deinit(&e->fetchers);
  plog__reactor_close_conns(e);
}

void plog__reactor_deinit(plog_engine *e) {
  plog__fetch_sessions_deinit(&e->sessions);
  plog__answer_cache_deinit(&e->answers);
  plog__topics_deinit(&e->topics);
  plog__leaders_deinit(&e->leaders);
  plog__sender_deinit(&e->sender);
  plog__intake_deinit(&e->intake);
  plog__buffers_deinit(&e->buffers);
  plog_batch_builder_close(e->commits.builder);
  plog__upcalls_deinit(&e->upcalls);
  plog__timers_deinit(&e->timers);
  plog__times_deinit(&e->times);
  plog__sync_groups_deinit(&e->sync_groups);
  plog__nodes_deinit(&e->nodes);
  plog__rooms_deinit(&e->rooms);
  plog__inbox_deinit(&e->inbox);
  (void)plog__sys_close(e->sys, e->epoll_fd);
  (void)pthread_mutex_destroy(&e->conns_lock);
  free(e->conns);
}
