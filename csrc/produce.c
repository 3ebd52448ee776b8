/*
 * produce.c: see produce.h.
 *
 * Each partition of a request is an entry that goes STAGED → (WAITING →) SETTLED. Staged: its batch is to be written when the
 * turn settles. Waiting (acks=all): written, and the high watermark has yet to pass; with group commit, the disk. The request
 * is complete when all its entries are settled, or when its time is up. Entries watch their partition (purgatory.h); when it goes away they are
 * settled with the error that the watch brings.
 *
 * Nothing is looked up, let alone appended, before it is known what the principal may write; a topic that it may not write
 * to is refused before anybody asks whether it exists.
 *
 * What is refused because its partition is led elsewhere is answered with its leader, as that is known when the answer is written.
 *
 * A null record set is answered with INVALID_RECORD, like an empty one; Kafka never answers it.
 */
#include "produce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "authorize.h"
#include "produce_request.h"
#include "verify.h"
#include "wire.h"

#define LEADER_VERSION 10  /* whoever came to the wrong broker is told of the right one */
#define ENTRIES_MAX 100000 /* in one request: the memory an entry takes is many times its bytes on the wire */
#define UNKNOWN_SERVER_ERROR (-1)
#define ADMIN_CLIENT_ID "__admin_client" /* the client that Kafka lets produce to internal topics */

typedef struct plog_produce plog_produce;

typedef struct {
  plog_watch watch;
  plog_produce *produce;
  plog_partition *partition; /* while it waits */
  uint8_t *rewritten;        /* a recompressed batch, until it is written */
  bool staged;
  bool is_unverified; /* refused by the coordinator of its transaction */
  int16_t error;
  int32_t index;
  int32_t record_error;
  int64_t base_offset;
  int64_t append_ms;
  int64_t log_start;
} plog_produce_entry;

typedef struct {
  uint8_t id[PLOG_TOPIC_ID_BYTES];
  const uint8_t *name; /* in the request's own memory */
  uint32_t name_bytes;
  int32_t entries_count;
} plog_produce_topic;

/* What was found out about the principal when the request came. */
typedef struct {
  bool restricted; /* it may not simply write everywhere: each topic is looked up */
  int32_t principal;
  int32_t refused; /* 0, or the error of every entry */
} plog_produce_rights;

struct plog_produce {
  plog_request request;
  plog_engine *engine;
  plog_timer timer;
  int64_t deadline_ms;
  int32_t acks;
  int32_t unsettled; /* entries, and one while it is being decoded */
  plog_produce_rights rights;
  int32_t topics_count;
  int32_t entries_count;
  plog_produce_topic *topics;
  plog_produce_entry *entries;
};

/* ------------------------------------------------------------------------------------------------ completion */

static void settle_one(plog_produce *produce) {
  plog_assert(produce->unsettled > 0);
  if (--produce->unsettled > 0) return;
  if (produce->timer.place) {
    plog__timers_disarm(&produce->engine->timers, &produce->timer);
    plog__count(&produce->engine->counters.delayed_now, -1);
  }
  plog__reactor_complete(produce->engine, &produce->request);
}

/* Time is up: those that wait still answer so, with the offset they have. */
static void expire(plog_timer *timer, int64_t now_ms) {
  (void)now_ms;
  plog_produce *produce = PLOG_CONTAINER_OF(timer, plog_produce, timer);
  plog__count(&produce->engine->counters.delayed_now, -1);
  for (int32_t i = 0; i < produce->entries_count; i++) {
    plog_produce_entry *entry = &produce->entries[i];
    if (!plog__watch_waits(&entry->watch)) continue;
    plog__watch_cancel(&entry->watch);
    entry->error = PLOG_REQUEST_TIMED_OUT;
    settle_one(produce);
  }
}

static void refuse(plog_produce_entry *entry, int32_t error) {
  entry->error = (int16_t)error;
  entry->base_offset = -1;
  entry->append_ms = -1;
  if (error == PLOG_KAFKA_STORAGE_ERROR || error == PLOG_NOT_LEADER_OR_FOLLOWER) entry->log_start = -1;
}

/* Wait for the entry's offset; without memory for a timer, not at all. */
static void wait_in(plog_link *list, plog_produce_entry *entry) {
  plog_produce *produce = entry->produce;
  plog__watch_offset(list, &entry->watch, entry->watch.offset);
  plog__reactor_waits(produce->engine, &produce->request);
  if (produce->timer.place) return;
  if (plog__timers_arm(&produce->engine->timers, &produce->timer, produce->deadline_ms) == 0) {
    plog__count(&produce->engine->counters.delayed_now, 1);
    return;
  }
  plog__watch_cancel(&entry->watch);
  entry->error = PLOG_REQUEST_TIMED_OUT;
  settle_one(produce);
}

/* What was waited for has come. */
static void reached(plog_produce_entry *entry) {
  if (entry->produce->acks == PLOG_ACKS_ALL) entry->error = (int16_t)plog__partition_enough_replicas(entry->partition);
  settle_one(entry->produce);
}

/* The batch is written: done, or wait for the followers and the disk. */
static void written(plog_produce_entry *entry) {
  plog_partition *p = entry->partition;
  int32_t acks = entry->produce->acks;
  if (acks == PLOG_ACKS_ALL && plog__partition_high_watermark(p) < entry->watch.offset)
    wait_in(&p->offset_watches, entry);
  else if (acks != 0 && plog__partition_durable_end(p) < entry->watch.offset)
    wait_in(&p->sync_watches, entry);
  else
    reached(entry);
}

static void fired(plog_watch *watch, int32_t error, int64_t now_ms) {
  (void)now_ms;
  plog_produce_entry *entry = PLOG_CONTAINER_OF(watch, plog_produce_entry, watch);
  bool was_staged = entry->staged;
  entry->staged = false;
  free(entry->rewritten);
  entry->rewritten = NULL;
  if (error) {
    if (was_staged)
      refuse(entry, error);
    else
      entry->error = (int16_t)error; /* it is in the log all the same: Kafka leaves the offset in the answer */
    settle_one(entry->produce);
  } else if (was_staged) {
    written(entry);
  } else {
    reached(entry);
  }
}

/* ------------------------------------------------------------------------------------------------ appending */

/* What Kafka's client sees for a code of ours. */
static int32_t client_error(int32_t rc) {
  if (rc == PLOG_E_CODEC_MISSING) return PLOG_UNSUPPORTED_COMPRESSION_TYPE;
  if (rc == PLOG_E_SHORT || rc == PLOG_E_MALFORMED) return PLOG_INVALID_RECORD;
  if (rc >= 1000 || rc == -ENOMEM) return UNKNOWN_SERVER_ERROR;
  return rc < 0 ? PLOG_KAFKA_STORAGE_ERROR : rc;
}

static bool is_admin_client(const plog_frame *frame) {
  size_t size = sizeof ADMIN_CLIENT_ID - 1;
  return frame->client_id && (size_t)frame->client_id_bytes == size && memcmp(frame->client_id, ADMIN_CLIENT_ID, size) == 0;
}

/* What refuses an entry wherever its partition is. */
static int32_t check_anywhere(const plog_produce *produce, const plog_frame *frame, bool internal, plog_bytes records) {
  int32_t attributes = plog__produce_peek_attributes(records);
  if (!records.data) return PLOG_INVALID_RECORD;
  if (frame->api_version < 7 && (attributes & PLOG_ATTR_CODEC_MASK) == PLOG_CODEC_ZSTD)
    return PLOG_UNSUPPORTED_COMPRESSION_TYPE;
  if (produce->acks < -1 || produce->acks > 1) return PLOG_INVALID_REQUIRED_ACKS;
  return internal && !is_admin_client(frame) ? PLOG_INVALID_TOPIC_EXCEPTION : 0;
}

static bool verifies(const plog_engine *e, const plog_frame *frame) {
  return frame->api_version >= PLOG_PRODUCE_ADDS_VERSION || atomic_load_explicit(&e->verifies, memory_order_relaxed);
}

/* May these records of a transaction be taken? Those that go on with it may; those that begin it, by the coordinator's word, unless
 * a marker has come since that was asked for. What nobody was asked about, because the partition was not led here then, is to be
 * sent again; so is what came with the next epoch while the marker of the last transaction was on its way: a producer of version 12
 * goes on when the end is decided, before it is written everywhere. */
static int32_t check_transaction(plog_produce_entry *entry, const plog_frame *frame, const plog_partition *p,
                                 plog_bytes records) {
  const plog_produce *produce = entry->produce;
  if (!verifies(produce->engine, frame) || plog__partition_role(p) != PLOG_ROLE_LEADER) return 0;
  const plog_verdict_item *verdict =
      plog__verdicts_find(produce->request.conn->verdicts, (int32_t)(entry - produce->entries));
  entry->is_unverified = verdict && verdict->error;
  if (entry->is_unverified) return verdict->error;
  int64_t producer_id = plog_get_i64(records.data + PLOG_BATCH_AT_PRODUCER_ID);
  int32_t epoch = plog_get_i16(records.data + PLOG_BATCH_AT_PRODUCER_EPOCH);
  if (plog__partition_in_transaction(p, producer_id, epoch)) return 0;
  if (plog__partition_is_fenced(p, producer_id, epoch)) return PLOG_INVALID_PRODUCER_EPOCH;
  if (!verdict) return PLOG_NOT_ENOUGH_REPLICAS;
  if (plog__guards_hold(&p->guards, producer_id, verdict->guard)) return 0;
  return frame->api_version >= PLOG_PRODUCE_ADDS_VERSION ? PLOG_NOT_ENOUGH_REPLICAS : PLOG_INVALID_TXN_STATE;
}

/* Everything that refuses an entry before the partition looks at it. */
static int32_t check_entry(plog_produce_entry *entry, const plog_frame *frame, const plog_partition *p,
                           plog_bytes records) {
  int32_t rc = check_anywhere(entry->produce, frame, p->internal, records);
  if (rc) return rc;
  return plog__produce_is_transactional(records) ? check_transaction(entry, frame, p, records) : 0;
}

/* Whether there is one whole batch of today's format, and nothing else. Kafka looks before it asks the partition, and then
 * tells nothing of its log. */
static bool is_one_batch(plog_bytes records) {
  return records.size_bytes >= PLOG_BATCH_OVERHEAD && records.data[PLOG_BATCH_AT_MAGIC] == 2 &&
         plog_get_i32(records.data + PLOG_BATCH_AT_LENGTH) == (int64_t)records.size_bytes - PLOG_LOG_OVERHEAD;
}

static void append(plog_produce_entry *entry, plog_partition *p, plog_bytes records) {
  plog_produce *produce = entry->produce;
  plog_engine *e = produce->engine;
  plog_append result;
  int32_t rc =
      plog__partition_append(p, (uint8_t *)records.data, records.size_bytes, produce->acks, true, e->wall_ms, &result);
  if (rc) {
    refuse(entry, client_error(rc));
    entry->log_start = is_one_batch(records) ? result.log_start : -1;
    entry->record_error = result.record_error;
    settle_one(produce);
    if (rc < 0 && rc != -ENOMEM) {
      plog__partition_fire(p, e->now_ms);
      plog__reactor_report(e, p, -rc);
    }
    return;
  }
  entry->partition = p;
  entry->base_offset = result.base_offset;
  entry->append_ms = result.append_ms;
  entry->log_start = result.log_start;
  entry->rewritten = result.rewritten;
  entry->staged = true;
  entry->watch.offset = result.last_offset + 1;
  if (!result.duplicate) {
    plog__count(&e->counters.batches_in, 1);
    plog__count(&e->counters.records_in, result.records_count);
    plog__count(&e->counters.produced_bytes, (int64_t)records.size_bytes);
    plog__count(&p->topic->records_in, result.records_count);
    plog__count(&p->topic->bytes_in, (int64_t)records.size_bytes);
    e->staged_bytes += (int64_t)records.size_bytes;
    plog__reactor_mark_dirty(e, p);
  }
  if (result.duplicate && entry->watch.offset <= plog__log_end(p->log)) {
    entry->staged = false;
    written(entry);
  } else {
    plog__watch_offset(&p->staged_watches, &entry->watch, entry->watch.offset);
  }
}

/* ------------------------------------------------------------------------------------------------ decoding */

typedef struct {
  int32_t topics;
  int32_t entries;
  size_t name_bytes;
  bool transactional; /* an entry's records are */
} plog_produce_size;

/* Walk the whole request once: is it well formed, and how much memory does it need? */
static int32_t measure(plog_reader r, int16_t version, plog_produce_size *out) {
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  memset(out, 0, sizeof *out);
  out->topics = plog__produce_read_topics_count(&r, version);
  for (int32_t t = 0; t < out->topics && r.status == 0; t++) {
    const uint8_t *id;
    out->name_bytes += plog__produce_read_topic(&r, version, &id).size_bytes;
    int32_t entries = plog__produce_read_entries_count(&r, flexible);
    out->entries += entries;
    if (out->entries > ENTRIES_MAX || out->topics > ENTRIES_MAX) return PLOG_E_MALFORMED;
    for (int32_t i = 0; i < entries && r.status == 0; i++) {
      (void)plog_read_i32(&r);
      plog_bytes records = plog_read_nullable_bytes(&r, flexible);
      if (plog__produce_peek_attributes(records) & PLOG_ATTR_TRANSACTIONAL) out->transactional = true;
      if (flexible) plog_skip_tags(&r);
    }
    if (flexible) plog_skip_tags(&r);
  }
  if (flexible) plog_skip_tags(&r);
  return r.status ? PLOG_E_MALFORMED : 0;
}

/* Ask what is not known yet of the topics that the request names; bytes that measure() found well formed. */
static void authorize_topics(plog_authorizer *a, plog_reader r, int16_t version) {
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  for (int32_t topics = plog__produce_read_topics_count(&r, version); topics > 0 && a->status == 0; topics--) {
    const uint8_t *id;
    plog_bytes name = plog__produce_read_topic(&r, version, &id);
    plog__authorize_topic(a, id, name);
    for (int32_t entries = plog__produce_read_entries_count(&r, flexible); entries > 0; entries--) {
      (void)plog_read_i32(&r);
      (void)plog_read_nullable_bytes(&r, flexible);
      if (flexible) plog_skip_tags(&r);
    }
    if (flexible) plog_skip_tags(&r);
  }
}

static const plog_request_ops produce_ops;

static plog_produce *open_produce(plog_engine *e, const plog_frame *frame, const plog_produce_size *size, int32_t acks,
                                  int32_t timeout_ms) {
  size_t topics_bytes = (size_t)size->topics * sizeof(plog_produce_topic);
  size_t entries_bytes = (size_t)size->entries * sizeof(plog_produce_entry);
  plog_produce *produce = malloc(sizeof *produce + topics_bytes + entries_bytes + size->name_bytes);
  if (!produce) return NULL;
  memset(produce, 0, sizeof *produce);
  produce->request.ops = &produce_ops;
  produce->request.correlation_id = frame->correlation_id;
  produce->request.api_key = PLOG_API_PRODUCE;
  produce->request.api_version = frame->api_version;
  produce->engine = e;
  produce->timer.fire = expire;
  produce->deadline_ms = e->now_ms + PLOG_MAX(timeout_ms, 0);
  produce->acks = acks;
  produce->unsettled = 1;
  produce->topics_count = size->topics;
  produce->entries_count = size->entries;
  produce->entries = (plog_produce_entry *)(produce + 1);
  produce->topics = (plog_produce_topic *)(produce->entries + size->entries);
  return produce;
}

static void init_entry(plog_produce_entry *entry, plog_produce *produce, int32_t index) {
  memset(entry, 0, sizeof *entry);
  plog__watch_init(&entry->watch, fired);
  entry->produce = produce;
  entry->index = index;
  entry->record_error = -1;
  entry->base_offset = -1;
  entry->append_ms = -1;
  entry->log_start = -1;
  produce->unsettled++;
}

/* What the whole topic is refused with, or 0. */
static int32_t check_topic(const plog_produce *produce, const uint8_t *id, plog_bytes name) {
  const plog_produce_rights *rights = &produce->rights;
  if (rights->refused || !rights->restricted) return rights->refused;
  if (id) name = plog__reactor_topic_name(produce->engine, id);
  if (id && !name.data) return 0; /* an id that means nothing here tells nothing about a topic */
  plog_grant_key key = {rights->principal, PLOG_RESOURCE_TOPIC, name.data, (uint32_t)name.size_bytes};
  plog_verdict verdict = plog__grants_find(&produce->engine->grants, &key, PLOG_GRANT_WRITE);
  return verdict == PLOG_ALLOWED ? 0 : PLOG_TOPIC_AUTHORIZATION_FAILED;
}

/* A topic of the request. */
typedef struct {
  const uint8_t *id; /* NULL: by name */
  plog_bytes name;
  int32_t refused;          /* 0, or the error of every entry */
  const plog_topic *hosted; /* NULL: none of it is here */
} plog_produce_target;

static plog_produce_target find_target(const plog_produce *produce, const uint8_t *id, plog_bytes name) {
  const plog_engine *e = produce->engine;
  const plog_topic *hosted =
      id ? plog__topics_by_id(&e->topics, id) : plog__topics_by_name(&e->topics, name.data, name.size_bytes);
  return (plog_produce_target){id, name, check_topic(produce, id, name), hosted};
}

/* Why an entry is refused whose partition is not here. */
static int32_t check_elsewhere(const plog_produce_entry *entry, const plog_frame *frame, const plog_produce_target *target,
                               plog_bytes records) {
  const plog_led_topic *led = plog__leaders_topic(&entry->produce->engine->leaders, target->id, target->name);
  if (target->id && !target->hosted && !led) return PLOG_UNKNOWN_TOPIC_ID;
  if (!plog__led_partition(led, entry->index)) return PLOG_UNKNOWN_TOPIC_OR_PARTITION;
  int32_t rc = check_anywhere(entry->produce, frame, led->internal, records);
  if (rc) return rc;
  return is_one_batch(records) ? PLOG_NOT_LEADER_OR_FOLLOWER : PLOG_INVALID_RECORD;
}

static void take_entry(plog_produce_entry *entry, const plog_frame *frame, const plog_produce_target *target,
                       plog_bytes records) {
  plog_partition *p = plog__topic_partition(target->hosted, entry->index);
  int32_t error = target->refused;
  if (error == 0) error = p ? check_entry(entry, frame, p, records) : check_elsewhere(entry, frame, target, records);
  if (error == 0) {
    append(entry, p, records);
  } else {
    refuse(entry, error);
    settle_one(entry->produce);
  }
}

/* The second walk, over bytes that measure() found well formed. */
static void take_entries(plog_produce *produce, const plog_frame *frame, plog_reader *r) {
  int16_t version = frame->api_version;
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  plog_produce_entry *entry = produce->entries;
  uint8_t *names = (uint8_t *)(produce->topics + produce->topics_count);
  (void)plog__produce_read_topics_count(r, version);
  for (int32_t t = 0; t < produce->topics_count; t++) {
    plog_produce_topic *topic = &produce->topics[t];
    const uint8_t *id;
    plog_bytes name = plog__produce_read_topic(r, version, &id);
    if (id) memcpy(topic->id, id, PLOG_TOPIC_ID_BYTES);
    if (name.size_bytes) memcpy(names, name.data, name.size_bytes);
    topic->name = names;
    topic->name_bytes = (uint32_t)name.size_bytes;
    names += name.size_bytes;
    plog_produce_target target = find_target(produce, id, name);
    topic->entries_count = plog__produce_read_entries_count(r, flexible);
    for (int32_t i = 0; i < topic->entries_count; i++, entry++) {
      int32_t index = plog_read_i32(r);
      plog_bytes records = plog_read_nullable_bytes(r, flexible);
      if (flexible) plog_skip_tags(r);
      init_entry(entry, produce, index);
      take_entry(entry, frame, &target, records);
    }
    if (flexible) plog_skip_tags(r);
  }
  plog_assert(entry == produce->entries + produce->entries_count);
}

/*
 * What the request may do, as Kafka has it: transactional records need a transactional id that the principal may write under,
 * else the whole request is refused; then each topic is asked about. Idempotent records need no right of their own.
 * 0 | what plog__authorize_end says
 */
static int32_t authorize(plog_engine *e, plog_conn *conn, const plog_frame *frame, bool transactional,
                         plog_produce_rights *out) {
  plog_reader r;
  bool flexible = frame->api_version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  plog_reader_init(&r, frame->body, frame->body_bytes);
  if (flexible) plog_skip_tags(&r);
  plog_bytes id = plog_read_nullable_string(&r, flexible);
  (void)plog_read_i16(&r); /* acks */
  (void)plog_read_i32(&r); /* timeout */
  plog_authorizer a;
  plog__authorize_begin(&a, e, conn, PLOG_GRANT_WRITE);
  out->principal = a.principal;
  if (transactional) {
    plog_verdict verdict = PLOG_DENIED;
    if (id.data) verdict = plog__authorize(&a, PLOG_RESOURCE_TRANSACTIONAL_ID, id.data, id.size_bytes);
    if (verdict == PLOG_DENIED) {
      out->refused = PLOG_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
      return 0;
    }
  }
  authorize_topics(&a, r, frame->api_version);
  return plog__authorize_end(&a, frame);
}

/* An entry whose records would begin a transaction here is to be asked about. Those of two producers cannot be in one transaction. */
static int32_t look_at_entry(plog_engine *e, plog_partition *p, int32_t ordinal, plog_bytes records,
                             plog_txn_producer *producer, plog_verdicts **verdicts) {
  int64_t producer_id = plog_get_i64(records.data + PLOG_BATCH_AT_PRODUCER_ID);
  int32_t epoch = plog_get_i16(records.data + PLOG_BATCH_AT_PRODUCER_EPOCH);
  if (producer->producer_id < 0) {
    producer->producer_id = producer_id;
    producer->producer_epoch = epoch;
  }
  if (producer->producer_id != producer_id || producer->producer_epoch != epoch) return PLOG_INVALID_PRODUCER_ID_MAPPING;
  bool is_led = p && p->log && plog__partition_role(p) == PLOG_ROLE_LEADER;
  if (!is_led || p->internal || plog__partition_in_transaction(p, producer_id, epoch)) return 0;
  if (plog__partition_is_fenced(p, producer_id, epoch)) return 0; /* check_transaction refuses it */
  return plog__verify_add(verdicts, ordinal, p, records.data, producer->adds, e->now_ms);
}

/* The walk over all entries; r is behind the timeout. 0 | as look_at_entry says */
static int32_t look_at_transactions(plog_engine *e, plog_reader r, int16_t version, plog_txn_producer *producer,
                                    plog_verdicts **verdicts) {
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  int32_t rc = 0, ordinal = 0;
  for (int32_t topics = plog__produce_read_topics_count(&r, version); topics > 0 && rc == 0; topics--) {
    const uint8_t *id;
    plog_bytes name = plog__produce_read_topic(&r, version, &id);
    const plog_topic *hosted =
        id ? plog__topics_by_id(&e->topics, id) : plog__topics_by_name(&e->topics, name.data, name.size_bytes);
    for (int32_t left = plog__produce_read_entries_count(&r, flexible); left > 0 && rc == 0; left--, ordinal++) {
      int32_t index = plog_read_i32(&r);
      plog_bytes records = plog_read_nullable_bytes(&r, flexible);
      if (plog__produce_is_transactional(records))
        rc = look_at_entry(e, plog__topic_partition(hosted, index), ordinal, records, producer, verdicts);
      if (flexible) plog_skip_tags(&r);
    }
    if (flexible) plog_skip_tags(&r);
  }
  return rc;
}

/* Have the coordinator asked about the transaction that the request is part of, if it was not, and is to be.
 * 0 | a Kafka error code of every entry | PLOG_E_AGAIN: the connection waits | -ENOMEM */
static int32_t verify(plog_engine *e, plog_conn *conn, const plog_frame *frame, plog_reader r,
                      plog_bytes transactional_id) {
  if (conn->verdicts) return 0;
  plog_verdicts *verdicts = NULL;
  plog_txn_producer producer = {transactional_id, -1, -1, frame->api_version >= PLOG_PRODUCE_ADDS_VERSION};
  int32_t rc = look_at_transactions(e, r, frame->api_version, &producer, &verdicts);
  if (rc == 0 && verdicts && verifies(e, frame)) return plog__verify_ask(e, conn, frame, &producer, verdicts);
  free(verdicts);
  return rc;
}

int32_t plog__produce_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame) {
  plog_reader r;
  bool flexible = frame->api_version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  plog_reader_init(&r, frame->body, frame->body_bytes);
  if (flexible) plog_skip_tags(&r);
  plog_bytes transactional_id = plog_read_nullable_string(&r, flexible);
  int32_t acks = plog_read_i16(&r);
  int32_t timeout_ms = plog_read_i32(&r);
  plog_produce_size size;
  if (r.status || measure(r, frame->api_version, &size)) return PLOG_E_MALFORMED;
  plog_produce_rights rights = {.restricted = !plog__grants_everyone(&e->grants, PLOG_GRANT_WRITE)};
  if (rights.restricted || size.transactional) {
    int32_t rc = authorize(e, conn, frame, size.transactional, &rights);
    if (rc) return rc;
  }
  if (size.transactional && !rights.refused) {
    int32_t rc = verify(e, conn, frame, r, transactional_id);
    if (rc == PLOG_E_AGAIN || rc < 0) return rc;
    rights.refused = rc;
  }
  plog_produce *produce = open_produce(e, frame, &size, acks, timeout_ms);
  if (!produce) return -ENOMEM;
  produce->rights = rights;
  plog__count(&e->counters.produce_requests, 1);
  plog__conn_enqueue(conn, &produce->request);
  take_entries(produce, frame, &r);
  free(conn->verdicts);
  conn->verdicts = NULL;
  settle_one(produce);
  return 0;
}

/* ------------------------------------------------------------------------------------------------ answering */

static const char *message_of(const plog_produce_entry *entry) {
  if (entry->error == PLOG_INVALID_TIMESTAMP) return "One or more records have been rejected due to invalid timestamp";
  if (entry->error == PLOG_INVALID_RECORD && entry->record_error >= 0) return "a record breaks the rules of its topic";
  if (entry->error == PLOG_INVALID_TXN_STATE && entry->is_unverified) return "the partition is not part of the transaction";
  return NULL; /* of a batch that is wrong as a whole Kafka says no more than the code */
}

static bool names_leader(const plog_produce *produce, const plog_produce_entry *entry) {
  return produce->request.api_version >= LEADER_VERSION && entry->error == PLOG_NOT_LEADER_OR_FOLLOWER;
}

/* As it is known now, which may be more than when the entry was refused. */
static plog_leader leader_of(const plog_produce *produce, const plog_produce_topic *topic,
                             const plog_produce_entry *entry) {
  const uint8_t *id = produce->request.api_version >= PLOG_PRODUCE_TOPIC_ID_VERSION ? topic->id : NULL;
  return plog__reactor_leader(produce->engine, id, (plog_bytes){topic->name, topic->name_bytes}, entry->index);
}

static void write_entry(plog_writer *w, const plog_produce *produce, const plog_produce_topic *topic,
                        const plog_produce_entry *entry) {
  int16_t version = produce->request.api_version;
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  plog_write_i32(w, entry->index);
  plog_write_i16(w, entry->error);
  plog_write_i64(w, entry->base_offset);
  plog_write_i64(w, entry->append_ms);
  if (version >= 5) plog_write_i64(w, entry->log_start);
  if (version >= 8) {
    const char *message = message_of(entry);
    size_t message_bytes = message ? strlen(message) : 0;
    bool names_record = message && entry->record_error >= 0;
    plog_write_array(w, flexible, names_record ? 1 : 0);
    if (names_record) {
      plog_write_i32(w, entry->record_error);
      plog_write_string(w, flexible, message, message_bytes);
      if (flexible) plog_write_no_tags(w);
    }
    plog_write_string(w, flexible, message, message_bytes);
  }
  if (flexible) {
    plog_leader leader = {-1, PLOG_NO_PARTITION};
    if (names_leader(produce, entry)) leader = leader_of(produce, topic, entry);
    plog_write_uvarint(w, leader.leader_epoch >= 0 ? 1 : 0);
    if (leader.leader_epoch >= 0) plog__write_leader_tag(w, 0, leader.leader_id, leader.leader_epoch);
  }
}

static void write_topics(plog_writer *w, const plog_produce *produce) {
  int16_t version = produce->request.api_version;
  bool flexible = version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  const plog_produce_entry *entry = produce->entries;
  plog_write_array(w, flexible, produce->topics_count);
  for (int32_t t = 0; t < produce->topics_count; t++) {
    const plog_produce_topic *topic = &produce->topics[t];
    if (version >= PLOG_PRODUCE_TOPIC_ID_VERSION)
      plog_write_raw(w, topic->id, PLOG_TOPIC_ID_BYTES);
    else
      plog_write_string(w, flexible, topic->name, topic->name_bytes);
    plog_write_array(w, flexible, topic->entries_count);
    for (int32_t i = 0; i < topic->entries_count; i++) write_entry(w, produce, topic, entry++);
    if (flexible) plog_write_no_tags(w);
  }
}

/* Upper bound of the answer, and the leaders it names. */
static size_t bound_answer(const plog_produce *produce, plog_named_nodes *named) {
  size_t bound = 64;
  const plog_produce_entry *entry = produce->entries;
  for (int32_t t = 0; t < produce->topics_count; t++) {
    const plog_produce_topic *topic = &produce->topics[t];
    bound += topic->name_bytes + 32;
    for (int32_t i = 0; i < topic->entries_count; i++, entry++) {
      const char *message = message_of(entry);
      bound += 64 + (message ? 2 * strlen(message) : 0);
      if (names_leader(produce, entry))
        plog__named_nodes_add(named, &produce->engine->nodes, produce->request.conn->listener_id,
                              leader_of(produce, topic, entry).leader_id);
    }
  }
  return bound + plog__named_nodes_bound(named);
}

static bool has_error(const plog_produce *produce) {
  for (int32_t i = 0; i < produce->entries_count; i++)
    if (produce->entries[i].error) return true;
  return false;
}

static int32_t write_answer(plog_request *request, plog_out *out) {
  plog_produce *produce = PLOG_CONTAINER_OF(request, plog_produce, request);
  plog_engine *e = produce->engine;
  bool failed = has_error(produce);
  if (failed) plog__count(&e->counters.failed_produce, 1);
  if (produce->acks == 0) return failed ? PLOG_E_CLOSED : 0;
  bool flexible = request->api_version >= PLOG_PRODUCE_FLEXIBLE_VERSION;
  plog_named_nodes named = {.count = 0};
  size_t bound = bound_answer(produce, &named);
  uint8_t *room = plog__out_room(out, &e->buffers, (uint32_t)bound);
  if (!room) return -ENOMEM;
  plog_writer w;
  plog_writer_fixed(&w, room, bound);
  plog_write_i32(&w, 0); /* the size, below */
  plog_write_i32(&w, request->correlation_id);
  if (flexible) plog_write_no_tags(&w);
  write_topics(&w, produce);
  plog_write_i32(&w, 0); /* throttle time */
  if (flexible) plog__write_named_nodes(&w, &named);
  plog_assert(plog_writer_status(&w) == 0);
  plog_put_i32(room, (int32_t)w.size_bytes - 4);
  plog__out_wrote(out, (uint32_t)w.size_bytes);
  return 0;
}

static void close_produce(plog_request *request) {
  plog_produce *produce = PLOG_CONTAINER_OF(request, plog_produce, request);
  if (produce->timer.place) {
    plog__timers_disarm(&produce->engine->timers, &produce->timer);
    plog__count(&produce->engine->counters.delayed_now, -1);
  }
  for (int32_t i = 0; i < produce->entries_count; i++) {
    plog__watch_cancel(&produce->entries[i].watch);
    free(produce->entries[i].rewritten);
  }
  free(produce);
}

static const plog_request_ops produce_ops = {write_answer, close_produce};
