/*
 * authorize.c: see authorize.h.
 *
 * A connection waits by a request of its own that is answered with nothing (the pause): whatever the connection does with a
 * request that takes long (order, idle time, closing) is right for the pause too, and its end resumes the connection.
 */
#include "authorize.h"

#include <errno.h>
#include <stdlib.h>

#define ASKED_MAX 1024 /* by one look: what Python is given to do on a request's word */

typedef struct {
  plog_request request;
  plog_engine *engine;
  plog_grant_wait wait;
} plog_pause;

void plog__authorize_begin(plog_authorizer *a, plog_engine *e, plog_conn *conn, uint32_t operation) {
  *a = (plog_authorizer){.engine = e, .conn = conn, .principal = conn->principal, .operation = operation};
  if (a->principal == 0) a->principal = plog__grants_listener_principal(&e->grants, conn->listener_id);
}

/* ------------------------------------------------------------------------------------------------ asking */

static int32_t ask(plog_authorizer *a, const plog_grant_key *key) {
  plog_engine *e = a->engine;
  bool first;
  plog_grant *grant = plog__grants_ask(&e->grants, key, &first);
  if (!grant) return -ENOMEM;
  a->unknown = grant;
  if (!first) return 0;
  a->asked_count++;
  plog_upcall upcall = {.kind = PLOG_UP_GRANT,
                        .conn = a->conn->number,
                        .slot = -1,
                        .partition = -1,
                        .offset = -1,
                        .a = key->principal,
                        .b = key->resource,
                        .listener_id = a->conn->listener_id,
                        .received_ms = e->now_ms,
                        .body = key->name,
                        .body_bytes = key->name_bytes,
                        .generation = e->grants.generation};
  int32_t rc = plog__upcalls_collect(&e->upcalls, &upcall);
  if (rc) {
    plog__grants_forget(&e->grants, grant);
    a->unknown = NULL;
  }
  return rc;
}

plog_verdict plog__authorize(plog_authorizer *a, int32_t resource, const uint8_t *name, size_t name_bytes) {
  plog_grant_key key = {a->principal, resource, name ? name : (const uint8_t *)"", (uint32_t)name_bytes};
  plog_verdict verdict = plog__grants_find(&a->engine->grants, &key, a->operation);
  if (verdict == PLOG_UNKNOWN && a->status == 0 && a->asked_count < ASKED_MAX) a->status = ask(a, &key);
  return verdict;
}

void plog__authorize_topic(plog_authorizer *a, const uint8_t *id, plog_bytes name) {
  if (id) {
    name = plog__reactor_topic_name(a->engine, id);
    if (!name.data) return;
  }
  a->named_bytes += plog__grant_bytes((uint32_t)name.size_bytes);
  if (a->named_bytes > a->engine->grants.span_bytes) a->status = PLOG_E_MALFORMED;
  if (a->status == 0) (void)plog__authorize(a, PLOG_RESOURCE_TOPIC, name.data, name.size_bytes);
}

static void judge(plog_authorizer *a, plog_fetch_partition *part) {
  const plog_engine *e = a->engine;
  if (part->judged_generation == e->grants.generation && part->judged_principal == a->principal) return;
  part->judged_generation = 0;
  plog_bytes name = {part->topic->name, part->topic->name_bytes};
  if (part->topic->by_id) {
    name = plog__reactor_topic_name(e, part->topic->id);
    if (!name.data) {
      part->refused = PLOG_UNKNOWN_TOPIC_ID;
      return;
    }
  }
  plog_verdict verdict = plog__authorize(a, PLOG_RESOURCE_TOPIC, name.data, name.size_bytes);
  part->refused = verdict == PLOG_ALLOWED ? 0 : PLOG_TOPIC_AUTHORIZATION_FAILED;
  if (verdict == PLOG_UNKNOWN) return;
  part->judged_principal = a->principal;
  part->judged_generation = e->grants.generation;
}

void plog__authorize_set(plog_authorizer *a, const plog_fetch_set *set) {
  for (plog_link *at = set->order.next; at != &set->order && a->status == 0; at = at->next)
    judge(a, PLOG_CONTAINER_OF(at, plog_fetch_partition, order));
}

/* ------------------------------------------------------------------------------------------------ waiting */

static void resume(plog_grant_wait *wait) {
  plog_pause *pause = PLOG_CONTAINER_OF(wait, plog_pause, wait);
  plog__reactor_complete(pause->engine, &pause->request);
}

static int32_t write_nothing(plog_request *request, plog_out *out) {
  (void)request;
  (void)out;
  return 0;
}

static void close_pause(plog_request *request) {
  plog_pause *pause = PLOG_CONTAINER_OF(request, plog_pause, request);
  plog_list_remove(&pause->wait.link);
  free(pause);
}

static const plog_request_ops pause_ops = {write_nothing, close_pause};

int32_t plog__authorize_end(plog_authorizer *a, const plog_frame *frame) {
  if (a->status || !a->unknown) return a->status;
  plog_pause *pause = calloc(1, sizeof *pause);
  if (!pause) return -ENOMEM;
  pause->request.ops = &pause_ops;
  pause->request.api_key = frame->api_key;
  pause->request.api_version = frame->api_version;
  pause->request.correlation_id = frame->correlation_id;
  pause->engine = a->engine;
  pause->wait.fire = resume;
  plog__conn_enqueue(a->conn, &pause->request);
  pause->request.kind = PLOG_KIND_NONE;
  plog__grants_wait(a->unknown, &pause->wait);
  return PLOG_E_AGAIN;
}

void plog__authorize_as(plog_engine *e, plog_conn *conn, int32_t principal) {
  conn->principal = principal;
  plog_request *last = conn->last;
  if (!last || last->ops != &pause_ops || last->done) return;
  /* Others may wait for the same pair, and Python has just not answered it: they ask again. */
  plog__grants_forget(&e->grants, PLOG_CONTAINER_OF(last, plog_pause, request)->wait.grant);
}
