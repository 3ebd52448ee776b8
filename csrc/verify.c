/*
 * verify.c: see verify.h. A connection waits by a request of its own that is answered with nothing, as in authorize.c.
 */
#include "verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN_SERVER_ERROR (-1)

typedef struct {
  plog_request request;
  plog_verdicts *verdicts; /* NULL: they are the connection's */
} plog_verification;

int32_t plog__verify_add(plog_verdicts **verdicts, int32_t ordinal, plog_partition *p, const uint8_t *batch, bool from_zero,
                         int64_t now_ms) {
  plog_verdicts *v = *verdicts;
  if (!v || v->count == v->capacity) {
    int32_t capacity = v ? v->capacity * 2 : 4;
    v = realloc(v, sizeof *v + (size_t)capacity * sizeof v->items[0]);
    if (!v) return -ENOMEM;
    if (!*verdicts) v->count = 0;
    v->capacity = capacity;
    *verdicts = v;
  }
  int64_t guard = plog__guards_begin(&p->guards, plog_get_i64(batch + PLOG_BATCH_AT_PRODUCER_ID),
                                     plog_get_i16(batch + PLOG_BATCH_AT_PRODUCER_EPOCH),
                                     plog_get_i32(batch + PLOG_BATCH_AT_BASE_SEQUENCE), from_zero, now_ms);
  if (guard < 0) return -ENOMEM;
  v->items[v->count++] = (plog_verdict_item){ordinal, 0, p->number, guard};
  return 0;
}

const plog_verdict_item *plog__verdicts_find(const plog_verdicts *verdicts, int32_t ordinal) {
  int32_t low = 0, high = verdicts ? verdicts->count : 0;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (verdicts->items[middle].ordinal < ordinal)
      low = middle + 1;
    else
      high = middle;
  }
  return verdicts && low < verdicts->count && verdicts->items[low].ordinal == ordinal ? &verdicts->items[low] : NULL;
}

static int32_t write_nothing(plog_request *request, plog_out *out) {
  (void)request;
  (void)out;
  return 0;
}

static void close_verification(plog_request *request) {
  plog_verification *v = PLOG_CONTAINER_OF(request, plog_verification, request);
  free(v->verdicts);
  free(v);
}

static const plog_request_ops verification_ops = {write_nothing, close_verification};

static int32_t tell(plog_engine *e, const plog_conn *conn, const plog_frame *frame, const plog_txn_producer *producer,
                    const plog_verification *v) {
  plog_writer w;
  plog_writer_init(&w);
  plog_write_string(&w, false, (const char *)producer->transactional_id.data, producer->transactional_id.size_bytes);
  plog_write_i64(&w, producer->producer_id);
  plog_write_i16(&w, (int16_t)producer->producer_epoch);
  plog_write_i32(&w, v->verdicts->count);
  for (int32_t i = 0; i < v->verdicts->count; i++) plog_write_i64(&w, v->verdicts->items[i].partition);
  plog_upcall upcall = {.kind = PLOG_UP_VERIFY,
                        .conn = conn->number,
                        .slot = v->request.slot,
                        .partition = -1,
                        .offset = -1,
                        .api_key = frame->api_key,
                        .api_version = frame->api_version,
                        .listener_id = conn->listener_id,
                        .received_ms = e->now_ms,
                        .body = w.data,
                        .body_bytes = (uint32_t)w.size_bytes};
  int32_t rc = plog_writer_status(&w);
  if (rc == 0) rc = plog__upcalls_collect(&e->upcalls, &upcall);
  plog_writer_deinit(&w);
  return rc;
}

int32_t plog__verify_ask(plog_engine *e, plog_conn *conn, const plog_frame *frame, const plog_txn_producer *producer,
                         plog_verdicts *verdicts) {
  plog_verification *v = calloc(1, sizeof *v);
  if (!v) {
    free(verdicts);
    return -ENOMEM;
  }
  v->request.ops = &verification_ops;
  v->request.api_key = frame->api_key;
  v->request.api_version = frame->api_version;
  v->request.correlation_id = frame->correlation_id;
  v->verdicts = verdicts;
  plog__conn_enqueue(conn, &v->request);
  v->request.kind = PLOG_KIND_NONE;
  int32_t rc = tell(e, conn, frame, producer, v);
  return rc == 0 ? PLOG_E_AGAIN : rc;
}

/* ------------------------------------------------------------------------------------------------ the answer */

typedef struct {
  plog_message message;
  int64_t conn;
  int64_t slot;
  int32_t count;
  int16_t errors[];
} plog_verified_message;

/* Runs on the reactor. */
static void take_verified(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_verified_message *answer = PLOG_CONTAINER_OF(message, plog_verified_message, message);
  plog_conn *conn = plog__reactor_conn(e, answer->conn);
  plog_request *request = conn ? plog__conn_find(conn, answer->slot) : NULL;
  if (request && !request->done && request->ops == &verification_ops) {
    plog_verification *v = PLOG_CONTAINER_OF(request, plog_verification, request);
    for (int32_t i = 0; i < v->verdicts->count; i++)
      v->verdicts->items[i].error = i < answer->count ? answer->errors[i] : UNKNOWN_SERVER_ERROR;
    free(conn->verdicts);
    conn->verdicts = v->verdicts;
    v->verdicts = NULL;
    plog__reactor_complete(e, request);
  }
  free(answer);
}

plog_message *plog__verify_answer(int64_t conn, int64_t slot, const int16_t *errors, int32_t count) {
  plog_verified_message *answer = malloc(sizeof *answer + (size_t)count * sizeof *errors);
  if (!answer) return NULL;
  answer->message.next = NULL;
  answer->message.run = take_verified;
  answer->conn = conn;
  answer->slot = slot;
  answer->count = count;
  if (count > 0) memcpy(answer->errors, errors, (size_t)count * sizeof *errors);
  return &answer->message;
}
