/*
 * fetch.c: see fetch.h.
 *
 * A fetch reads its set of partitions in order until the byte limits are met. When that gives too little and nothing is wrong
 * it is parked: it watches every partition of the set and a timer, and reads anew when one of them fires. What a fetch answers
 * is encoded the moment it is complete, so that nothing of the set has to stay as it was until the socket takes it.
 *
 * Partitions that nobody knows do not end the wait of the others, as in Kafka, and neither do those that the reader is refused;
 * an error of one that is hosted, or led elsewhere, does. Who may read what is found out when a request comes, for the time that it takes, parked or not.
 */
#include "fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "authorize.h"
#include "fetch_request.h"
#include "soundness.h"
#include "wire.h"

#define NODES_VERSION 16
#define PREFERENCE_VERSION 11 /* consumers are told of a better replica, and may read from followers */
#define ANSWER_BYTES_MAX (1 << 30)
#define COPIED_SLICE_BYTES 16384u /* below this, copying costs less than a system call of its own */
#define BOUND_UNKNOWN (INT64_MAX / 2)

typedef struct plog_fetch plog_fetch;
struct plog_fetch {
  plog_request request;
  plog_engine *engine;
  plog_timer timer;
  plog_link woken;
  plog_out answer;
  int32_t replica_id;
  int64_t broker_epoch;
  int32_t max_wait_ms;
  int32_t min_bytes;
  int32_t max_bytes;
  int64_t deadline_ms;
  plog_isolation isolation;
  int32_t session_id; /* as requested */
  int32_t session_epoch;
  plog_bytes rack; /* of a consumer that may be sent to another replica: owned. NULL: of nobody else */
  int32_t top_error;
  int32_t refused;  /* 0, or the error of every partition: a follower that is none of the cluster's */
  bool restricted;  /* partitions may be refused */
  bool incremental; /* answers only what changed */
  bool parked;
  bool has_waited;             /* it was parked; what it asked for is old, and says nothing of how far a follower is now */
  int32_t checks_count;        /* ranges being read that it waits for, however long */
  int64_t bound_bytes;         /* while parked: no more than this can be there */
  plog_fetch_session *session; /* held; NULL: own_set */
  plog_fetch_set own_set;
};

#define PART_OF(node) PLOG_CONTAINER_OF(node, plog_fetch_partition, order)

static plog_fetch_set *set_of(plog_fetch *fetch) {
  return fetch->session ? &fetch->session->set : &fetch->own_set;
}

/* ------------------------------------------------------------------------------------------------ reading */

/* What one pass over the set found. */
typedef struct {
  int64_t budget_bytes;
  bool at_least_one; /* nothing was found yet: the next batch is served however large */
  int64_t total_bytes;
  int32_t hosted_count;
  bool must_answer; /* an error, a divergence, a better replica */
} plog_fetch_pass;

static plog_partition *resolve(plog_engine *e, plog_fetch_partition *part) {
  if (part->generation != e->topics.generation) {
    const plog_topic *topic = part->topic->by_id
                                  ? plog__topics_by_id(&e->topics, part->topic->id)
                                  : plog__topics_by_name(&e->topics, part->topic->name, part->topic->name_bytes);
    part->partition = plog__topic_partition(topic, part->index);
    part->generation = e->topics.generation;
  }
  return part->partition;
}

static void read_failed(const plog_fetch *fetch, plog_fetch_partition *part, int32_t error) {
  plog__fetch_read_clear(&part->read);
  part->read.error = error;
  part->read.high_watermark = -1;
  part->read.last_stable = -1;
  part->read.log_start = -1;
  const plog_fetch_topic *topic = part->topic;
  plog_leader leader = plog__reactor_leader(fetch->engine, topic->by_id ? topic->id : NULL,
                                            (plog_bytes){topic->name, topic->name_bytes}, part->index);
  part->read.leader_id = leader.leader_id;
  part->read.leader_epoch = leader.leader_epoch;
  /* Old clients do not know this code. */
  if (error == PLOG_KAFKA_STORAGE_ERROR && fetch->request.api_version <= 5) part->read.error = PLOG_NOT_LEADER_OR_FOLLOWER;
}

static int32_t check_reader(const plog_fetch *fetch, const plog_fetch_partition *part, const plog_partition *p) {
  bool follower = fetch->replica_id >= 0;
  bool leader_only = follower || fetch->request.api_version < PREFERENCE_VERSION;
  int32_t rc = plog__partition_check_read(p, part->current_epoch, leader_only);
  if (rc) return rc;
  if (follower && !plog__partition_has_replica(p, fetch->replica_id)) /* perhaps not yet, in the epoch it says */
    return part->current_epoch >= 0 ? PLOG_UNKNOWN_LEADER_EPOCH : PLOG_NOT_LEADER_OR_FOLLOWER;
  if (fetch->request.api_version < 10 && p->rules.compression == PLOG_CODEC_ZSTD) return PLOG_UNSUPPORTED_COMPRESSION_TYPE;
  return part->offset < plog__log_start(p->log) ? PLOG_OFFSET_OUT_OF_RANGE : 0;
}

/* Does the reader's log end where ours agrees? KIP-595's check, sent as the epoch of the last record it has. Whoever read
 * further than our log goes is told so by it, and is out of range only without it. */
static int32_t check_divergence(plog_fetch_partition *part, plog_partition *p) {
  if (part->last_epoch < 0) return 0;
  int32_t epoch;
  int64_t end;
  plog__partition_end_of_epoch(p, part->last_epoch, &epoch, &end);
  if (epoch < 0) return PLOG_OFFSET_OUT_OF_RANGE;
  if (epoch < part->last_epoch || end < part->offset) {
    part->read.diverging = true;
    part->read.diverging_epoch = epoch;
    part->read.diverging_end = end;
  }
  return 0;
}

typedef struct {
  int64_t *pairs;
  int32_t count;
  int32_t capacity;
  bool failed;
} plog_aborted_list;

static void add_aborted(void *context, int64_t producer_id, int64_t first_offset) {
  plog_aborted_list *list = context;
  if (list->count == list->capacity) {
    int32_t capacity = list->capacity ? list->capacity * 2 : 16;
    int64_t *pairs = realloc(list->pairs, (size_t)capacity * 2 * sizeof *pairs);
    if (!pairs) {
      list->failed = true;
      return;
    }
    list->pairs = pairs;
    list->capacity = capacity;
  }
  list->pairs[list->count * 2] = producer_id;
  list->pairs[list->count * 2 + 1] = first_offset;
  list->count++;
}

static void checked(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)now_ms;
  plog_fetch_partition *part = PLOG_CONTAINER_OF(watch, plog_fetch_partition, watch);
  plog_fetch *fetch = part->fetch;
  if (error) part->forced_error = error;
  if (--fetch->checks_count == 0) plog_list_insert(&fetch->engine->woken, &fetch->woken);
}

/* The bytes for one partition: where every slice that is served comes from. PLOG_E_AGAIN: it is being looked at, and tells */
static int32_t take_slice(plog_fetch *fetch, plog_fetch_partition *part, plog_partition *p, plog_fetch_pass *pass) {
  int64_t end = plog__partition_readable_end(p, fetch->isolation);
  int64_t most = PLOG_MIN((int64_t)PLOG_MAX(part->max_bytes, 0), pass->budget_bytes);
  if (part->offset >= end || (most == 0 && !pass->at_least_one)) return 0;
  int32_t rc = plog__log_slice(p->log, part->offset, end, (uint32_t)most, pass->at_least_one, false, &part->read.slice);
  if (rc) return rc;
  part->fetch = fetch;
  part->watch.fire = checked;
  uint32_t size_bytes = part->read.slice.size_bytes;
  rc = plog__sound_slice(fetch->engine, &part->read.slice, &part->watch);
  if (rc == PLOG_E_AGAIN) {
    pass->budget_bytes = PLOG_MAX(pass->budget_bytes - size_bytes, 0);
    pass->at_least_one = false;
    fetch->checks_count++;
  }
  if (rc) return rc;
  if (fetch->isolation == PLOG_READ_COMMITTED && part->read.slice.size_bytes > 0) {
    plog_aborted_list list = {NULL, 0, 0, false};
    rc = plog__log_aborted(p->log, part->offset, &part->read.slice, add_aborted, &list);
    part->read.aborted = list.pairs;
    part->read.aborted_count = list.count;
    return rc == 0 && list.failed ? -ENOMEM : rc;
  }
  return 0;
}

/* The in-sync replica in the reader's rack that is furthest and has what it asks for; NULL: it is served here. */
static const plog_replica *find_preferred(const plog_fetch *fetch, const plog_fetch_partition *part,
                                          const plog_partition *p) {
  if (!fetch->rack.data || plog__partition_role(p) != PLOG_ROLE_LEADER) return NULL;
  const plog_nodes *nodes = &fetch->engine->nodes;
  int32_t listener_id = fetch->request.conn->listener_id;
  if (plog__nodes_in_rack(nodes, listener_id, p->broker_id, fetch->rack)) return NULL;
  const plog_replica *best = NULL;
  for (int32_t i = 0; i < p->replicas_count; i++) {
    const plog_replica *r = &p->replicas[i];
    if (r->broker_id == p->broker_id || !r->in_isr || r->log_end < part->offset || r->log_start > part->offset) continue;
    if (!plog__nodes_in_rack(nodes, listener_id, r->broker_id, fetch->rack)) continue;
    bool better =
        !best || r->log_end > best->log_end || (r->log_end == best->log_end && r->caught_up_ms > best->caught_up_ms);
    if (better) best = r;
  }
  return best;
}

/* The follower asked for what it lacks: that is how far it is. */
static int32_t note_progress(plog_fetch *fetch, const plog_fetch_partition *part, plog_partition *p) {
  plog_engine *e = fetch->engine;
  bool moved;
  int32_t rc = plog__partition_follower_fetched(p, fetch->replica_id, fetch->broker_epoch, part->offset, part->log_start,
                                                e->now_ms, &moved);
  plog__reactor_report(e, p, 0);
  if (rc == 0 && moved) plog__partition_fire(p, e->now_ms);
  return rc;
}

static bool is_held_back(const plog_fetch *fetch, const plog_partition *p) {
  const plog_engine *e = fetch->engine;
  return fetch->replica_id >= 0 && plog__throttle_exceeded(&e->leading, e->now_ms) &&
         plog__partition_holds_back(p, fetch->replica_id);
}

static int32_t read_hosted(plog_fetch *fetch, plog_fetch_partition *part, plog_partition *p, plog_fetch_pass *pass) {
  int32_t rc = check_reader(fetch, part, p);
  const plog_replica *preferred = rc == 0 ? find_preferred(fetch, part, p) : NULL;
  if (preferred) {
    part->read.sends_elsewhere = true;
    part->read.preferred_id = preferred->broker_id;
  } else {
    if (rc == 0) rc = check_divergence(part, p);
    bool reads = rc == 0 && !part->read.diverging;
    if (reads && part->offset > plog__log_end(p->log)) rc = PLOG_OFFSET_OUT_OF_RANGE;
    if (reads && rc == 0 && !is_held_back(fetch, p)) rc = take_slice(fetch, part, p, pass);
    if (reads && rc == 0 && fetch->replica_id >= 0 && !fetch->has_waited) rc = note_progress(fetch, part, p);
  }
  if (rc) return rc;
  part->read.high_watermark = plog__partition_high_watermark(p);
  part->read.last_stable = plog__partition_readable_end(p, PLOG_READ_COMMITTED);
  part->read.log_start = plog__log_start(p->log);
  return 0;
}

/* Nothing is looked up for it, nor watched. */
static void read_refused(plog_fetch *fetch, plog_fetch_partition *part, int32_t refused) {
  part->partition = NULL;
  part->generation = 0;
  part->forced_error = 0;
  read_failed(fetch, part, refused);
}

/* Why nothing is read of a partition that is not here. */
static int32_t error_of_missing(const plog_engine *e, const plog_fetch_partition *part) {
  const plog_fetch_topic *topic = part->topic;
  const uint8_t *id = topic->by_id ? topic->id : NULL;
  const plog_led_topic *led = plog__leaders_topic(&e->leaders, id, (plog_bytes){topic->name, topic->name_bytes});
  if (plog__led_partition(led, part->index)) return PLOG_NOT_LEADER_OR_FOLLOWER;
  return id && !plog__reactor_topic_name(e, id).data ? PLOG_UNKNOWN_TOPIC_ID : PLOG_UNKNOWN_TOPIC_OR_PARTITION;
}

static void read_partition(plog_fetch *fetch, plog_fetch_partition *part, plog_fetch_pass *pass) {
  plog__fetch_read_clear(&part->read);
  int32_t refused = fetch->restricted && part->refused ? part->refused : fetch->refused;
  if (refused) {
    read_refused(fetch, part, refused);
    return;
  }
  plog_partition *p = resolve(fetch->engine, part);
  if (part->forced_error) {
    read_failed(fetch, part, part->forced_error);
    part->forced_error = 0;
    pass->must_answer = true;
    return;
  }
  if (!p) {
    int32_t error = error_of_missing(fetch->engine, part);
    read_failed(fetch, part, error);
    if (error == PLOG_NOT_LEADER_OR_FOLLOWER) pass->must_answer = true;
    return;
  }
  pass->hosted_count++;
  int32_t rc = read_hosted(fetch, part, p, pass);
  if (rc == PLOG_E_AGAIN) return;
  if (rc) {
    if (rc < 0 && rc != -ENOMEM) plog__reactor_report(fetch->engine, p, -rc);
    read_failed(fetch, part, rc < 0 || rc >= 1000 ? PLOG_KAFKA_STORAGE_ERROR : rc);
    pass->must_answer = true;
    return;
  }
  if (part->read.diverging || part->read.sends_elsewhere) pass->must_answer = true;
  uint32_t size = part->read.slice.size_bytes;
  if (size == 0) return;
  pass->at_least_one = false;
  pass->total_bytes += size;
  pass->budget_bytes = PLOG_MAX(pass->budget_bytes - size, 0);
}

/* ------------------------------------------------------------------------------------------------ encoding */

/* What an incremental answer leaves out: partitions about which there is nothing new. Remembers what it tells. */
static bool is_news(plog_fetch_partition *part) {
  const plog_fetch_read *read = &part->read;
  bool news = read->slice.size_bytes > 0 || read->diverging || read->sends_elsewhere || read->error;
  if (part->told_high_watermark != read->high_watermark || part->told_log_start != read->log_start) news = true;
  /* After an error the next good answer is news, whatever it says. */
  part->told_high_watermark = read->error ? -1 : read->high_watermark;
  part->told_log_start = read->log_start;
  return news;
}

static plog_link *skip_old(const plog_fetch_set *set, plog_link *at) {
  while (at != &set->order && !PART_OF(at)->told) at = at->next;
  return at;
}

/* The run of told partitions of one topic that begins at `at`, how long it is, and where the next run begins. */
static plog_link *run_end(const plog_fetch_set *set, plog_link *at, int32_t *out_count) {
  const plog_fetch_topic *topic = PART_OF(at)->topic;
  *out_count = 0;
  while (at != &set->order && PART_OF(at)->topic == topic) {
    (*out_count)++;
    at = skip_old(set, at->next);
  }
  return at;
}

static int32_t count_runs(const plog_fetch_set *set) {
  int32_t runs = 0;
  for (plog_link *at = skip_old(set, set->order.next); at != &set->order; runs++) {
    int32_t count;
    at = run_end(set, at, &count);
  }
  return runs;
}

static bool names_leader(const plog_fetch *fetch, const plog_fetch_read *read) {
  bool elsewhere = read->error == PLOG_NOT_LEADER_OR_FOLLOWER || read->error == PLOG_FENCED_LEADER_EPOCH;
  return elsewhere && fetch->request.api_version >= NODES_VERSION && read->leader_epoch >= 0;
}

/* Kafka lists no aborted transactions for what it does not even look up; for other errors the list is null. */
static bool is_looked_up(int32_t error) {
  return error != PLOG_TOPIC_AUTHORIZATION_FAILED && error != PLOG_UNKNOWN_TOPIC_OR_PARTITION &&
         error != PLOG_UNKNOWN_TOPIC_ID;
}

/* Everything of a partition before its records. */
static void write_partition_head(plog_writer *w, const plog_fetch *fetch, const plog_fetch_partition *part) {
  const plog_fetch_read *read = &part->read;
  int16_t version = fetch->request.api_version;
  bool flexible = version >= PLOG_FETCH_FLEXIBLE_VERSION;
  plog_write_i32(w, part->index);
  plog_write_i16(w, (int16_t)read->error);
  plog_write_i64(w, read->high_watermark);
  plog_write_i64(w, read->last_stable);
  if (version >= 5) plog_write_i64(w, read->log_start);
  bool lists_aborted = fetch->isolation == PLOG_READ_COMMITTED && !read->error && !read->diverging;
  int32_t aborted_count = lists_aborted ? read->aborted_count : is_looked_up(read->error) ? -1 : 0;
  plog_write_array(w, flexible, aborted_count);
  for (int32_t i = 0; i < aborted_count; i++) {
    plog_write_i64(w, read->aborted[i * 2]);
    plog_write_i64(w, read->aborted[i * 2 + 1]);
    if (flexible) plog_write_no_tags(w);
  }
  if (version >= PREFERENCE_VERSION) plog_write_i32(w, read->sends_elsewhere ? read->preferred_id : -1);
  if (flexible)
    plog_write_uvarint(w, read->slice.size_bytes + 1);
  else
    plog_write_i32(w, (int32_t)read->slice.size_bytes);
}

static void write_partition_tags(plog_writer *w, const plog_fetch *fetch, const plog_fetch_read *read) {
  if (fetch->request.api_version < PLOG_FETCH_FLEXIBLE_VERSION) return;
  bool leader = names_leader(fetch, read);
  plog_write_uvarint(w, (uint32_t)read->diverging + (uint32_t)leader);
  if (read->diverging) {
    plog_write_uvarint(w, 0);
    plog_write_uvarint(w, 13);
    plog_write_i32(w, read->diverging_epoch);
    plog_write_i64(w, read->diverging_end);
    plog_write_no_tags(w);
  }
  if (leader) plog__write_leader_tag(w, 1, read->leader_id, read->leader_epoch);
}

/* The records: copied when they are few and in the page cache, else as a slice, which is taken. */
static int32_t add_records(plog_fetch *fetch, plog_slice *slice) {
  plog_engine *e = fetch->engine;
  if (slice->size_bytes == 0) return 0;
  if (slice->size_bytes > COPIED_SLICE_BYTES) return plog__out_slice(&fetch->answer, slice);
  uint8_t *room = plog__out_room(&fetch->answer, &e->buffers, slice->size_bytes);
  if (!room) return -ENOMEM;
  struct iovec into = {room, slice->size_bytes};
  int64_t n = plog__sys_preadv2(e->sys, slice->fd, &into, 1, slice->position, RWF_NOWAIT);
  if (n != (int64_t)slice->size_bytes) return plog__out_slice(&fetch->answer, slice);
  plog__out_wrote(&fetch->answer, slice->size_bytes);
  return 0;
}

static int32_t add_partition(plog_fetch *fetch, plog_fetch_partition *part) {
  size_t bound = 128 + (size_t)part->read.aborted_count * 17;
  uint8_t *room = plog__out_room(&fetch->answer, &fetch->engine->buffers, (uint32_t)bound);
  if (!room) return -ENOMEM;
  plog_writer w;
  plog_writer_fixed(&w, room, bound);
  write_partition_head(&w, fetch, part);
  plog_assert(plog_writer_status(&w) == 0);
  plog__out_wrote(&fetch->answer, (uint32_t)w.size_bytes);
  int32_t rc = add_records(fetch, &part->read.slice);
  if (rc || fetch->request.api_version < PLOG_FETCH_FLEXIBLE_VERSION) return rc;
  room = plog__out_room(&fetch->answer, &fetch->engine->buffers, 64);
  if (!room) return -ENOMEM;
  plog_writer_fixed(&w, room, 64);
  write_partition_tags(&w, fetch, &part->read);
  plog_assert(plog_writer_status(&w) == 0);
  plog__out_wrote(&fetch->answer, (uint32_t)w.size_bytes);
  return 0;
}

static int32_t add_topic_head(plog_fetch *fetch, const plog_fetch_topic *topic, int32_t partitions_count) {
  bool flexible = fetch->request.api_version >= PLOG_FETCH_FLEXIBLE_VERSION;
  size_t bound = topic->name_bytes + 32;
  uint8_t *room = plog__out_room(&fetch->answer, &fetch->engine->buffers, (uint32_t)bound);
  if (!room) return -ENOMEM;
  plog_writer w;
  plog_writer_fixed(&w, room, bound);
  if (topic->by_id)
    plog_write_raw(&w, topic->id, PLOG_TOPIC_ID_BYTES);
  else
    plog_write_string(&w, flexible, topic->name, topic->name_bytes);
  plog_write_array(&w, flexible, partitions_count);
  plog_assert(plog_writer_status(&w) == 0);
  plog__out_wrote(&fetch->answer, (uint32_t)w.size_bytes);
  return 0;
}

static int32_t add_topics(plog_fetch *fetch, plog_fetch_set *set, plog_named_nodes *named) {
  static const uint8_t no_tags = 0;
  bool flexible = fetch->request.api_version >= PLOG_FETCH_FLEXIBLE_VERSION;
  plog_link *at = skip_old(set, set->order.next);
  while (at != &set->order) {
    int32_t count;
    plog_link *end = run_end(set, at, &count);
    int32_t rc = add_topic_head(fetch, PART_OF(at)->topic, count);
    for (; rc == 0 && at != end; at = skip_old(set, at->next)) {
      plog_fetch_partition *part = PART_OF(at);
      if (names_leader(fetch, &part->read))
        plog__named_nodes_add(named, &fetch->engine->nodes, fetch->request.conn->listener_id, part->read.leader_id);
      rc = add_partition(fetch, part);
    }
    if (rc == 0 && flexible) rc = plog__out_copy(&fetch->answer, &fetch->engine->buffers, &no_tags, 1);
    if (rc) return rc;
  }
  return 0;
}

static int32_t add_tail(plog_fetch *fetch, const plog_named_nodes *named) {
  if (fetch->request.api_version < PLOG_FETCH_FLEXIBLE_VERSION) return 0;
  size_t bound = plog__named_nodes_bound(named);
  uint8_t *room = plog__out_room(&fetch->answer, &fetch->engine->buffers, (uint32_t)bound);
  if (!room) return -ENOMEM;
  plog_writer w;
  plog_writer_fixed(&w, room, bound);
  plog__write_named_nodes(&w, named);
  plog_assert(plog_writer_status(&w) == 0);
  plog__out_wrote(&fetch->answer, (uint32_t)w.size_bytes);
  return 0;
}

/* The whole answer into fetch->answer. set NULL: an answer without topics. */
static int32_t encode(plog_fetch *fetch, plog_fetch_set *set, int32_t session_id) {
  int16_t version = fetch->request.api_version;
  bool flexible = version >= PLOG_FETCH_FLEXIBLE_VERSION;
  uint8_t *size_at = plog__out_room(&fetch->answer, &fetch->engine->buffers, 64);
  if (!size_at) return -ENOMEM;
  plog_writer w;
  plog_writer_fixed(&w, size_at, 64);
  plog_write_i32(&w, 0); /* the size, below */
  plog_write_i32(&w, fetch->request.correlation_id);
  if (flexible) plog_write_no_tags(&w);
  plog_write_i32(&w, 0); /* throttle time */
  if (version >= PLOG_FETCH_SESSION_VERSION) {
    plog_write_i16(&w, (int16_t)fetch->top_error);
    plog_write_i32(&w, session_id);
  }
  plog_write_array(&w, flexible, set ? count_runs(set) : 0);
  plog_assert(plog_writer_status(&w) == 0);
  plog__out_wrote(&fetch->answer, (uint32_t)w.size_bytes);
  plog_named_nodes named = {.count = 0};
  int32_t rc = set ? add_topics(fetch, set, &named) : 0;
  if (rc == 0) rc = add_tail(fetch, &named);
  if (rc) return rc;
  plog_put_i32(size_at, (int32_t)(fetch->answer.pending_bytes - 4));
  return 0;
}

/* ------------------------------------------------------------------------------------------------ completion */

static void stop_waiting(plog_fetch *fetch) {
  plog_list_remove(&fetch->woken);
  if (!fetch->parked && fetch->checks_count == 0) return;
  if (fetch->parked) plog__count(&fetch->engine->counters.delayed_now, -1);
  if (fetch->parked) plog__timers_disarm(&fetch->engine->timers, &fetch->timer);
  fetch->parked = false;
  fetch->checks_count = 0;
  plog_fetch_set *set = set_of(fetch);
  for (plog_link *at = set->order.next; at != &set->order; at = at->next) plog__watch_cancel(&PART_OF(at)->watch);
}

static void release_session(plog_fetch *fetch) {
  if (!fetch->session) return;
  if (fetch->session->fetch == fetch) fetch->session->fetch = NULL;
  plog__fetch_session_release(fetch->session);
  fetch->session = NULL;
}

static void count_given(plog_fetch *fetch, const plog_fetch_partition *part) {
  plog_counters *counters = &fetch->engine->counters;
  int64_t size = part->read.slice.size_bytes;
  if (fetch->replica_id >= 0) {
    plog__count(&counters->replicated_out_bytes, size);
    return;
  }
  plog__count(&counters->fetched_bytes, size);
  plog__count(&part->partition->topic->bytes_out, size);
}

/* Mark what is told, let go of what is not, and serve next time last what got records now. */
static void select_told(plog_fetch *fetch, plog_fetch_set *set) {
  plog_link *last = set->order.prev;
  bool more = set->count > 0;
  bool failed = false;
  for (plog_link *at = set->order.next; more;) {
    plog_fetch_partition *part = PART_OF(at);
    plog_link *next = at->next;
    more = at != last;
    bool news = is_news(part);
    part->told = news || !fetch->incremental;
    failed = failed || part->read.error;
    if (part->read.slice.size_bytes > 0) count_given(fetch, part);
    if (fetch->incremental && part->read.slice.size_bytes > 0) plog__fetch_set_move_last(set, part);
    at = next;
  }
  if (failed) plog__count(&fetch->engine->counters.failed_fetch, 1);
}

static void clear_reads(plog_fetch_set *set) {
  for (plog_link *at = set->order.next; at != &set->order; at = at->next) {
    plog__fetch_read_clear(&PART_OF(at)->read);
    PART_OF(at)->settled = false;
  }
}

static void finish(plog_fetch *fetch, int32_t rc) {
  release_session(fetch);
  if (rc) {
    plog__out_deinit(&fetch->answer, &fetch->engine->buffers);
    plog__reactor_disconnect(fetch->engine, fetch->request.conn);
  }
  plog__reactor_complete(fetch->engine, &fetch->request);
}

static void answer_top_error(plog_fetch *fetch, int32_t error) {
  stop_waiting(fetch);
  clear_reads(set_of(fetch));
  fetch->top_error = error;
  plog__count(&fetch->engine->counters.failed_fetch, 1);
  finish(fetch, encode(fetch, NULL, PLOG_SESSION_NONE));
}

/* What followers are given of partitions whose rate is limited. */
static void count_throttled(plog_fetch *fetch, const plog_fetch_set *set) {
  plog_engine *e = fetch->engine;
  if (fetch->replica_id < 0 || !plog__throttle_on(&e->leading)) return;
  for (plog_link *at = set->order.next; at != &set->order; at = at->next) {
    const plog_fetch_partition *part = PART_OF(at);
    if (part->read.slice.size_bytes > 0 && (part->partition->throttled & PLOG_THROTTLED_LEADING))
      plog__throttle_moved(&e->leading, part->read.slice.size_bytes, e->now_ms);
  }
}

/* Answer with what was read. */
static void answer(plog_fetch *fetch) {
  plog_engine *e = fetch->engine;
  plog_fetch_set *set = set_of(fetch);
  count_throttled(fetch, set);
  select_told(fetch, set);
  int32_t session_id = fetch->session ? fetch->session->id : PLOG_SESSION_NONE;
  bool wants_session = !fetch->session && fetch->session_epoch == PLOG_SESSION_EPOCH_FIRST;
  if (wants_session && fetch->request.api_version >= PLOG_FETCH_SESSION_VERSION) {
    bool by_id = fetch->request.api_version >= PLOG_FETCH_TOPIC_ID_VERSION;
    plog_fetch_session *session = plog__fetch_sessions_add(&e->sessions, set, fetch->replica_id >= 0, by_id, e->now_ms);
    if (session) {
      plog__fetch_session_hold(session);
      fetch->session = session;
      session_id = session->id;
      set = &session->set;
    }
  }
  int32_t rc = encode(fetch, set, session_id);
  clear_reads(set);
  finish(fetch, rc);
}

static void fired(plog_watch *watch, int32_t error, int64_t now_ms);

/* Wait for more. Without memory for the timer it does not wait. */
static bool park(plog_fetch *fetch, const plog_fetch_pass *pass) {
  plog_engine *e = fetch->engine;
  if (plog__timers_arm(&e->timers, &fetch->timer, fetch->deadline_ms)) return false;
  fetch->parked = fetch->has_waited = true;
  plog__reactor_waits(e, &fetch->request);
  plog__count(&e->counters.delayed_now, 1);
  fetch->bound_bytes = pass->total_bytes;
  plog_fetch_set *set = set_of(fetch);
  for (plog_link *at = set->order.next; at != &set->order; at = at->next) {
    plog_fetch_partition *part = PART_OF(at);
    part->settled = part->partition && part->read.slice.size_bytes == 0;
    if (!part->settled) plog__fetch_read_clear(&part->read);
    if (!part->partition) continue;
    part->fetch = fetch;
    part->watch.fire = fired;
    part->watched_bytes = part->partition->appended_bytes;
    if (plog__partition_readable_end(part->partition, fetch->isolation) < plog__log_end(part->partition->log))
      fetch->bound_bytes = BOUND_UNKNOWN;
    plog__watch_any(&part->partition->fetch_watches, &part->watch);
  }
  return true;
}

/* Of a fetch that was parked only what has moved is read again: sessions of followers have thousands of partitions that have not. */
static void read_set(plog_fetch *fetch, plog_fetch_set *set, plog_fetch_pass *pass) {
  int64_t generation = fetch->engine->topics.generation;
  for (plog_link *at = set->order.next; at != &set->order; at = at->next) {
    plog_fetch_partition *part = PART_OF(at);
    if (fetch->has_waited && part->settled && part->generation == generation)
      pass->hosted_count++;
    else
      read_partition(fetch, part, pass);
  }
}

static void attempt(plog_fetch *fetch, bool last_time) {
  plog_engine *e = fetch->engine;
  int64_t most = PLOG_MIN(PLOG_MIN((int64_t)fetch->max_bytes, e->config.fetch_max_bytes), ANSWER_BYTES_MAX);
  plog_fetch_pass pass = {.budget_bytes = PLOG_MAX(most, 0), .at_least_one = true};
  plog_fetch_set *set = set_of(fetch);
  read_set(fetch, set, &pass);
  bool enough = pass.total_bytes >= PLOG_MIN(fetch->min_bytes, most);
  if (fetch->checks_count > 0)
    clear_reads(set); /* it reads anew when they are done */
  else if (last_time || enough || pass.must_answer || pass.hosted_count == 0 || !park(fetch, &pass))
    answer(fetch);
}

/* A partition moved. Wakes the fetch unless the bytes that came cannot be enough yet. */
static void fired(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)now_ms;
  plog_fetch_partition *part = PLOG_CONTAINER_OF(watch, plog_fetch_partition, watch);
  plog_fetch *fetch = part->fetch;
  plog_partition *p = part->partition;
  part->settled = false;
  if (error == 0) {
    fetch->bound_bytes += p->appended_bytes - part->watched_bytes;
    part->watched_bytes = p->appended_bytes;
    if (fetch->bound_bytes < fetch->min_bytes) {
      plog__watch_any(&p->fetch_watches, watch);
      return;
    }
  } else if (error != PLOG_E_AGAIN) {
    part->forced_error = error;
  }
  if (plog_list_empty(&fetch->woken)) plog_list_insert(&fetch->engine->woken, &fetch->woken);
}

void plog__fetch_run_woken(plog_engine *e) {
  while (!plog_list_empty(&e->woken)) {
    plog_fetch *fetch = PLOG_CONTAINER_OF(e->woken.next, plog_fetch, woken);
    stop_waiting(fetch);
    attempt(fetch, e->now_ms >= fetch->deadline_ms);
  }
}

static void expire(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  plog_fetch *fetch = PLOG_CONTAINER_OF(timer, plog_fetch, timer);
  stop_waiting(fetch);
  attempt(fetch, true);
}

/* ------------------------------------------------------------------------------------------------ the request */

static bool is_full(const plog_fetch *fetch) {
  return fetch->session_epoch == PLOG_SESSION_EPOCH_FIRST || fetch->session_epoch == PLOG_SESSION_EPOCH_LAST;
}

/*
 * The session that a request goes on with, free for it. 0 | the error of the whole answer
 * Another connection's request of this session that is still parked is ended: its epoch is over.
 */
static int32_t find_session(const plog_fetch *fetch, plog_fetch_session **out) {
  plog_fetch_session *session = plog__fetch_sessions_find(&fetch->engine->sessions, fetch->session_id);
  if (!session) return PLOG_FETCH_SESSION_ID_NOT_FOUND;
  if (session->epoch != fetch->session_epoch) return PLOG_INVALID_FETCH_SESSION_EPOCH;
  if (session->by_id != (fetch->request.api_version >= PLOG_FETCH_TOPIC_ID_VERSION))
    return PLOG_FETCH_SESSION_TOPIC_ID_ERROR;
  if (session->fetch) answer_top_error(session->fetch, PLOG_INVALID_FETCH_SESSION_EPOCH);
  *out = session;
  return 0;
}

/* A request that goes on with a session. 0 | the error of the whole answer | -ENOMEM */
static int32_t continue_session(plog_fetch *fetch, const plog_fetch_request *q) {
  plog_engine *e = fetch->engine;
  plog_fetch_session *session;
  int32_t rc = find_session(fetch, &session);
  if (rc) return rc;
  rc = plog__fetch_request_put(q, &session->set, true);
  if (rc || session->set.count == 0) {
    plog__fetch_sessions_remove(&e->sessions, session);
    return rc;
  }
  plog__fetch_sessions_touch(&e->sessions, session, e->now_ms);
  plog__fetch_session_hold(session);
  session->fetch = fetch;
  fetch->session = session;
  fetch->incremental = true;
  return 0;
}

static int32_t begin(plog_fetch *fetch, const plog_fetch_request *q) {
  if (!is_full(fetch)) return continue_session(fetch, q);
  if (fetch->session_id != PLOG_SESSION_NONE) {
    plog_fetch_session *old = plog__fetch_sessions_find(&fetch->engine->sessions, fetch->session_id);
    if (old) {
      if (old->fetch) answer_top_error(old->fetch, PLOG_INVALID_FETCH_SESSION_EPOCH);
      plog__fetch_sessions_remove(&fetch->engine->sessions, old);
    }
  }
  return plog__fetch_request_put(q, &fetch->own_set, false);
}

/* ------------------------------------------------------------------------------------------------ what may be read */

/* Ask what is not known yet of a topic that the request names. */
static bool authorize_topic(void *context, const uint8_t *id, plog_bytes name) {
  plog_authorizer *a = context;
  plog__authorize_topic(a, id, name);
  return a->status == 0;
}

/*
 * May the request go on? Nothing is changed by it yet, but that nobody else is waiting with its session. As
 * plog__authorize_end
 */
static int32_t authorize(plog_fetch *fetch, plog_conn *conn, const plog_frame *frame, const plog_fetch_request *q,
                         plog_authorizer *a) {
  bool follows = fetch->replica_id >= 0;
  plog__authorize_begin(a, fetch->engine, conn, follows ? PLOG_GRANT_CLUSTER_ACTION : PLOG_GRANT_READ);
  if (follows) {
    plog_verdict verdict = plog__authorize(a, PLOG_RESOURCE_CLUSTER, NULL, 0);
    if (verdict == PLOG_DENIED) fetch->refused = PLOG_TOPIC_AUTHORIZATION_FAILED;
    return plog__authorize_end(a, frame);
  }
  fetch->restricted = true;
  plog__fetch_request_each_topic(q, authorize_topic, a);
  plog_fetch_session *session;
  if (!is_full(fetch) && find_session(fetch, &session) == 0) plog__authorize_set(a, &session->set);
  return plog__authorize_end(a, frame);
}

static const plog_request_ops fetch_ops;

static plog_fetch *open_fetch(plog_engine *e, const plog_frame *frame, const plog_fetch_request *q) {
  plog_fetch *fetch = calloc(1, sizeof *fetch);
  if (!fetch) return NULL;
  fetch->request.ops = &fetch_ops;
  fetch->request.correlation_id = frame->correlation_id;
  fetch->request.api_key = PLOG_API_FETCH;
  fetch->request.api_version = frame->api_version;
  fetch->engine = e;
  fetch->timer.fire = expire;
  plog_list_init(&fetch->woken);
  plog__out_init(&fetch->answer);
  plog__fetch_set_init(&fetch->own_set, e->hash_key);
  fetch->replica_id = q->replica_id;
  fetch->broker_epoch = q->broker_epoch;
  fetch->max_wait_ms = q->max_wait_ms;
  fetch->min_bytes = q->min_bytes;
  fetch->max_bytes = q->max_bytes;
  fetch->session_id = q->session_id;
  fetch->session_epoch = q->session_epoch;
  fetch->isolation = q->committed_only ? PLOG_READ_COMMITTED : PLOG_READ_UNCOMMITTED;
  if (q->replica_id >= 0 || q->replica_id == PLOG_FETCH_DEBUGGER) fetch->isolation = PLOG_READ_LOG_END;
  fetch->deadline_ms = e->now_ms + PLOG_MAX(q->max_wait_ms, 0);
  if (!e->select_by_rack || q->replica_id >= 0 || q->rack.size_bytes == 0) return fetch;
  uint8_t *rack = malloc(q->rack.size_bytes);
  if (!rack) return fetch; /* it is served here */
  memcpy(rack, q->rack.data, q->rack.size_bytes);
  fetch->rack = (plog_bytes){rack, q->rack.size_bytes};
  return fetch;
}

static void free_fetch(plog_fetch *fetch) {
  stop_waiting(fetch);
  if (fetch->session) clear_reads(&fetch->session->set);
  release_session(fetch);
  plog__fetch_set_deinit(&fetch->own_set);
  plog__out_deinit(&fetch->answer, &fetch->engine->buffers);
  free((void *)(uintptr_t)fetch->rack.data);
  free(fetch);
}

int32_t plog__fetch_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame) {
  plog_fetch_request q;
  if (plog__fetch_request_read(&q, frame->api_version, frame->body, frame->body_bytes)) return PLOG_E_MALFORMED;
  plog_fetch *fetch = open_fetch(e, frame, &q);
  if (!fetch) return -ENOMEM;
  plog_authorizer a;
  int32_t rc = 0;
  if (!plog__grants_everyone(&e->grants, fetch->replica_id >= 0 ? PLOG_GRANT_CLUSTER_ACTION : PLOG_GRANT_READ))
    rc = authorize(fetch, conn, frame, &q, &a);
  if (rc) {
    free_fetch(fetch);
    return rc;
  }
  plog__count(&e->counters.fetch_requests, 1);
  plog__conn_enqueue(conn, &fetch->request);
  if (fetch->replica_id >= 0) fetch->request.kind = PLOG_KIND_FOLLOWER_FETCH;
  rc = begin(fetch, &q);
  if (rc < 0) return rc; /* enqueued: freed with the connection */
  if (rc) {
    answer_top_error(fetch, rc);
    return 0;
  }
  if (fetch->restricted) plog__authorize_set(&a, set_of(fetch));
  attempt(fetch, fetch->max_wait_ms <= 0);
  return 0;
}

static int32_t write_answer(plog_request *request, plog_out *out) {
  plog__out_splice(out, &PLOG_CONTAINER_OF(request, plog_fetch, request)->answer);
  return 0;
}

static void close_fetch(plog_request *request) {
  free_fetch(PLOG_CONTAINER_OF(request, plog_fetch, request));
}

static const plog_request_ops fetch_ops = {write_answer, close_fetch};
