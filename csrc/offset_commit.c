/*
 * offset_commit.c: see offset_commit.h.
 *
 * Commits that are taken for a partition gather in a batch (p->offsets). Settling makes records of it, which are staged and written
 * at once; the batch then watches its partition, answers its requests when it is committed or their time is up, and goes when it is
 * committed or will not be. The partitions outlive their batches: whoever takes one away ends what waits for it first.
 */
#include "offset_commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "purgatory.h"

#define BATCH_BYTES_MAX (512 * 1024)   /* as Python's; more in one turn is Python's to write */
#define RECORD_OVERHEAD_BYTES 32       /* beside key and value */
#define BEHIND_BYTES_MAX (1024 * 1024) /* untold to Python: more, and it is asked, so that clients wait for it */
#define KEY_VERSION 1
#define VALUE_VERSION 3
#define UNKNOWN_SERVER_ERROR (-1)

typedef struct plog_offset_batch plog_offset_batch;
struct plog_offset_batch {
  plog_watch watch;
  plog_timer timer;
  plog_engine *engine;
  plog_partition *partition;
  plog_link requests;
  plog_writer records; /* as plog__offset_record_write puts them */
  int32_t count;
  bool staged;
  plog_upcall_entry *news; /* until it is told */
};

typedef struct {
  plog_request request;
  plog_link link; /* in its batch */
  plog_engine *engine;
  uint32_t answer_bytes;
  uint8_t answer[]; /* whole, with its size; no error, until there is one */
} plog_commit;

static const plog_request_ops commit_ops;

bool plog__offset_commit_is(const plog_request *request) {
  return request->ops == &commit_ops;
}

/* ------------------------------------------------------------------------------------------------ answers */

static int32_t give_answer(plog_request *request, plog_out *out) {
  const plog_commit *commit = PLOG_CONTAINER_OF(request, plog_commit, request);
  return plog__out_copy(out, &commit->engine->buffers, commit->answer, commit->answer_bytes);
}

static void close_commit(plog_request *request) {
  plog_commit *commit = PLOG_CONTAINER_OF(request, plog_commit, request);
  plog_list_remove(&commit->link);
  free(commit);
}

static const plog_request_ops commit_ops = {give_answer, close_commit};

/* What a failed append means to those who commit. */
static int32_t client_error(int32_t rc) {
  switch (rc) {
  case PLOG_NOT_ENOUGH_REPLICAS:
  case PLOG_NOT_ENOUGH_REPLICAS_AFTER_APPEND: return PLOG_COORDINATOR_NOT_AVAILABLE;
  case PLOG_NOT_LEADER_OR_FOLLOWER:
  case PLOG_KAFKA_STORAGE_ERROR: return PLOG_NOT_COORDINATOR;
  case PLOG_MESSAGE_TOO_LARGE:
  case PLOG_RECORD_LIST_TOO_LARGE: return PLOG_INVALID_COMMIT_OFFSET_SIZE;
  default:
    if (rc >= 1000 || rc == -ENOMEM) return UNKNOWN_SERVER_ERROR;
    return rc < 0 ? PLOG_NOT_COORDINATOR : rc;
  }
}

/* ------------------------------------------------------------------------------------------------ the batch and its end */

static void answer(plog_offset_batch *b, int32_t error) {
  while (!plog_list_empty(&b->requests)) {
    plog_commit *commit = PLOG_CONTAINER_OF(b->requests.next, plog_commit, link);
    plog_list_remove(&commit->link);
    if (error) plog__offset_answer_refuse(commit->answer, commit->answer_bytes, commit->request.api_version, error);
    plog__reactor_complete(b->engine, &commit->request);
  }
}

static void end(plog_offset_batch *b, int32_t error) {
  answer(b, error ? client_error(error) : 0);
  plog__timers_disarm(&b->engine->timers, &b->timer);
  plog__upcall_drop(b->news);
  plog_writer_deinit(&b->records);
  free(b);
}

/* Who has waited too long is told so. It may be committed all the same, and then Python hears of it. */
static void expire(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  answer(PLOG_CONTAINER_OF(timer, plog_offset_batch, timer), PLOG_REQUEST_TIMED_OUT);
}

static void written(plog_offset_batch *b) {
  plog_engine *e = b->engine;
  plog_partition *p = b->partition;
  p->offsets_end = b->watch.offset;
  plog_upcall *news = plog__upcall_of(b->news);
  news->offset = b->watch.offset - b->count;
  news->b = plog__partition_high_watermark(p);
  plog__upcalls_put(&e->upcalls, b->news);
  b->news = NULL;
  if (news->b >= b->watch.offset) {
    end(b, plog__partition_enough_replicas(p));
    return;
  }
  for (plog_link *at = b->requests.next; at != &b->requests; at = at->next)
    plog__reactor_waits(e, &PLOG_CONTAINER_OF(at, plog_commit, link)->request);
  plog__watch_offset(&p->offset_watches, &b->watch, b->watch.offset);
  if (plog__timers_arm(&e->timers, &b->timer, e->now_ms + e->commits.timeout_ms)) answer(b, PLOG_REQUEST_TIMED_OUT);
}

static void committed(plog_offset_batch *b) {
  plog_upcall upcall = {
      .kind = PLOG_UP_COMMITTED, .conn = -1, .slot = -1, .partition = b->partition->number, .offset = b->watch.offset - 1};
  (void)plog__upcalls_collect(&b->engine->upcalls, &upcall); /* without memory, the next one says as much */
  end(b, plog__partition_enough_replicas(b->partition));
}

static void fired(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)now_ms;
  plog_offset_batch *b = PLOG_CONTAINER_OF(watch, plog_offset_batch, watch);
  bool was_staged = b->staged;
  b->staged = false;
  if (error)
    end(b, error);
  else if (was_staged)
    written(b);
  else
    committed(b);
}

static plog_offset_batch *begin(plog_engine *e, plog_partition *p) {
  plog_offset_batch *b = calloc(1, sizeof *b);
  if (!b) return NULL;
  plog__watch_init(&b->watch, fired);
  b->timer.fire = expire;
  b->engine = e;
  b->partition = p;
  plog_list_init(&b->requests);
  plog_writer_init(&b->records);
  p->offsets = b;
  plog_list_insert(&e->commits.gathering, &p->gathering);
  return b;
}

/* ------------------------------------------------------------------------------------------------ writing */

void plog__offset_record_write(plog_writer *w, plog_bytes group_id, plog_bytes topic, const plog_offset_entry *entry,
                               int64_t commit_ms) {
  plog_write_i32(w, (int32_t)(10 + group_id.size_bytes + topic.size_bytes));
  plog_write_i16(w, KEY_VERSION);
  plog_write_string(w, false, group_id.data, group_id.size_bytes);
  plog_write_string(w, false, topic.data, topic.size_bytes);
  plog_write_i32(w, entry->index);
  plog_write_i32(w, (int32_t)(24 + entry->metadata.size_bytes));
  plog_write_i16(w, VALUE_VERSION);
  plog_write_i64(w, entry->offset);
  plog_write_i32(w, entry->leader_epoch);
  plog_write_i16(w, (int16_t)entry->metadata.size_bytes); /* a null one is kept as an empty one */
  if (entry->metadata.size_bytes) plog_write_raw(w, entry->metadata.data, entry->metadata.size_bytes);
  plog_write_i64(w, commit_ms);
}

static int32_t build(plog_engine *e, const plog_offset_batch *b, const uint8_t **out, size_t *out_bytes) {
  plog_batch_builder *builder = e->commits.builder;
  plog_batch_builder_reset(builder, 0, 0, -1, -1, -1, -1);
  plog_reader r;
  plog_reader_init(&r, b->records.data, b->records.size_bytes);
  for (int32_t i = 0; i < b->count; i++) {
    plog_bytes key = plog_read_bytes(&r, false), value = plog_read_bytes(&r, false);
    int32_t rc = plog_batch_builder_add(builder, e->wall_ms, key.data, (int32_t)key.size_bytes, value.data,
                                        (int32_t)value.size_bytes, NULL, 0, 0);
    if (rc) return rc;
  }
  plog_assert(plog_reader_status(&r) == 0 && r.left == 0);
  return plog_batch_builder_finish(builder, 0, out, out_bytes);
}

/* What Python will be told, before anything is written that it has to know of. */
static int32_t prepare_news(plog_offset_batch *b) {
  plog_upcall upcall = {.kind = PLOG_UP_OFFSETS,
                        .conn = -1,
                        .slot = plog__partition_leader_epoch(b->partition),
                        .partition = b->partition->number,
                        .a = b->count,
                        .body = b->records.data,
                        .body_bytes = (uint32_t)b->records.size_bytes};
  b->news = plog__upcall_make(&upcall);
  return b->news ? 0 : -ENOMEM;
}

static void settle(plog_engine *e, plog_partition *p) {
  plog_offset_batch *b = p->offsets;
  plog_assert(b); /* a partition that gathers has one */
  p->offsets = NULL;
  plog_list_remove(&p->gathering);
  const uint8_t *data;
  size_t size_bytes;
  plog_append result = {.rewritten = NULL};
  int32_t rc = build(e, b, &data, &size_bytes);
  if (rc == 0) rc = prepare_news(b);
  if (rc == 0) rc = plog__partition_append(p, (uint8_t *)data, size_bytes, PLOG_ACKS_ALL, false, e->wall_ms, &result);
  if (rc) {
    end(b, rc);
    if (rc < 0 && rc != -ENOMEM) {
      plog__partition_fire(p, e->now_ms);
      plog__reactor_report(e, p, -rc);
    }
    return;
  }
  b->staged = true;
  plog__watch_offset(&p->staged_watches, &b->watch, result.last_offset + 1);
  (void)plog__reactor_commit(e, p); /* the builder's memory is the next batch's */
  free(result.rewritten);
}

void plog__offset_commits_settle(plog_engine *e) {
  while (!plog_list_empty(&e->commits.gathering))
    settle(e, PLOG_CONTAINER_OF(e->commits.gathering.next, plog_partition, gathering));
}

/* ------------------------------------------------------------------------------------------------ taking */

/* Whether there is such a partition: in a cluster as the controller told it, on a single node as it is hosted. */
static bool is_known(const plog_engine *e, const plog_offset_topic *topic, int32_t index) {
  if (e->leaders.topics.count > 0)
    return plog__led_partition(plog__leaders_topic(&e->leaders, topic->id, topic->name), index) != NULL;
  const plog_topic *hosted = topic->id ? plog__topics_by_id(&e->topics, topic->id)
                                       : plog__topics_by_name(&e->topics, topic->name.data, topic->name.size_bytes);
  return plog__topic_partition(hosted, index) != NULL;
}

static bool are_known(const plog_engine *e, const plog_offset_commit *commit, int16_t version) {
  plog_reader r = commit->topics;
  for (int32_t t = 0; t < commit->topics_count; t++) {
    plog_offset_topic topic;
    plog__offset_topic_read(&r, version, &topic);
    for (int32_t i = 0; i < topic.entries_count; i++) {
      plog_offset_entry entry;
      plog__offset_entry_read(&r, version, &entry);
      if (!is_known(e, &topic, entry.index)) return false;
    }
    plog__offset_topic_end(&r, version);
  }
  return true;
}

/* Add its records to what is gathered. False: they do not fit, and nothing has changed. */
static bool gather(plog_engine *e, plog_offset_batch *b, const plog_offset_commit *commit, int16_t version) {
  size_t before = b->records.size_bytes;
  plog_reader r = commit->topics;
  for (int32_t t = 0; t < commit->topics_count; t++) {
    plog_offset_topic topic;
    plog__offset_topic_read(&r, version, &topic);
    plog_bytes name = topic.id ? plog__reactor_topic_name(e, topic.id) : topic.name;
    for (int32_t i = 0; i < topic.entries_count; i++) {
      plog_offset_entry entry;
      plog__offset_entry_read(&r, version, &entry);
      plog__offset_record_write(&b->records, commit->who.group_id, name, &entry, e->wall_ms);
    }
    plog__offset_topic_end(&r, version);
  }
  size_t bytes = b->records.size_bytes + (size_t)(b->count + commit->entries_count) * RECORD_OVERHEAD_BYTES;
  size_t most = PLOG_MIN((size_t)BATCH_BYTES_MAX, (size_t)PLOG_MAX(b->partition->rules.max_message_bytes, 0));
  if (plog_writer_status(&b->records) || bytes + PLOG_BATCH_OVERHEAD > most) {
    b->records.size_bytes = before;
    b->records.status = 0;
    return false;
  }
  b->count += commit->entries_count;
  e->staged_bytes += (int64_t)(b->records.size_bytes - before);
  return true;
}

static plog_commit *open_commit(plog_engine *e, const plog_offset_commit *commit, const plog_frame *frame) {
  size_t room = frame->body_bytes + PLOG_OFFSET_ANSWER_EXTRA_BYTES;
  plog_commit *made = malloc(sizeof *made + room);
  if (!made) return NULL;
  memset(made, 0, sizeof *made);
  made->request.ops = &commit_ops;
  made->request.correlation_id = frame->correlation_id;
  made->request.api_key = frame->api_key;
  made->request.api_version = frame->api_version;
  made->engine = e;
  plog_writer w;
  plog_writer_fixed(&w, made->answer, room);
  plog__offset_answer_write(&w, commit, frame);
  plog_assert(plog_writer_status(&w) == 0);
  made->answer_bytes = (uint32_t)w.size_bytes;
  return made;
}

/* The partition that keeps the group's offsets, when the commit is one that Python would take. */
static plog_partition *keeper_of(plog_engine *e, const plog_frame *frame, plog_offset_commit *commit) {
  if (e->commits.timeout_ms <= 0 || !plog__grants_everyone(&e->grants, PLOG_GRANT_READ)) return NULL;
  if (plog__upcalls_behind(&e->upcalls) > BEHIND_BYTES_MAX) return NULL;
  if (!plog__offset_commit_read(frame, e->commits.metadata_max_bytes, commit)) return NULL;
  if (!are_known(e, commit, frame->api_version)) return NULL;
  int64_t number = plog__members_commits_to(&e->members, &commit->who, frame->api_version, e->now_ms);
  plog_partition *p = number < 0 ? NULL : plog__topics_by_number(&e->topics, number);
  return p && p->log ? p : NULL;
}

bool plog__offset_commit_take(plog_engine *e, plog_conn *conn, const plog_frame *frame) {
  plog_offset_commit commit;
  plog_partition *p = keeper_of(e, frame, &commit);
  if (!p) return false;
  plog_commit *made = open_commit(e, &commit, frame);
  if (!made) return false;
  plog_offset_batch *b = p->offsets ? p->offsets : begin(e, p);
  if (!b || !gather(e, b, &commit, frame->api_version)) {
    if (b && b->count == 0) { /* it was begun for nothing */
      p->offsets = NULL;
      plog_list_remove(&p->gathering);
      end(b, 0);
    }
    free(made);
    return false;
  }
  plog_list_insert(&b->requests, &made->link);
  plog__conn_enqueue(conn, &made->request);
  plog__count(&e->counters.offset_commits, 1);
  return true;
}
