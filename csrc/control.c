/*
 * control.c: see control.h.
 *
 * An answer for a connection or slot that is gone is dropped: the client is gone too.
 */
#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat.h"
#include "offset_commit.h"
#include "wire.h"

enum { JOIN_GROUP = 11, SYNC_GROUP = 14 };

#define CACHED_BODY_BYTES_MAX 4096 /* requests above this are not remembered for the cache */

typedef struct {
  plog_request request;
  plog_engine *engine;
  plog_answer *answer; /* once it is there; without skip */
  int64_t with_python; /* bytes counted for back-pressure */
  uint32_t body_bytes;
  bool has_body; /* kept for the cache */
  uint8_t body[];
} plog_control;

static const plog_request_ops control_ops;

static plog_control *open_control(plog_engine *e, const plog_frame *frame, uint32_t kept_bytes) {
  plog_control *control = malloc(sizeof *control + kept_bytes);
  if (!control) return NULL;
  memset(control, 0, sizeof *control);
  control->request.ops = &control_ops;
  control->request.correlation_id = frame->correlation_id;
  control->request.api_key = frame->api_key;
  control->request.api_version = frame->api_version;
  control->engine = e;
  return control;
}

static plog_question question_of(const plog_conn *conn, int16_t api_key, int16_t api_version, const uint8_t *body,
                                 uint32_t body_bytes) {
  return (plog_question){.api_key = api_key,
                         .api_version = api_version,
                         .listener_id = conn->listener_id,
                         .local_address = conn->local,
                         .body = body,
                         .body_bytes = body_bytes};
}

/* ------------------------------------------------------------------------------------------------ answers that are there */

static int32_t write_ready(plog_engine *e, plog_out *out, int32_t correlation_id, const uint8_t *answer,
                           uint32_t answer_bytes) {
  uint8_t *room = plog__out_room(out, &e->buffers, answer_bytes + 4);
  if (!room) return -ENOMEM;
  plog_put_u32(room, answer_bytes);
  plog_put_i32(room + 4, correlation_id);
  memcpy(room + 8, answer + 4, answer_bytes - 4);
  plog__out_wrote(out, answer_bytes + 4);
  return 0;
}

/* Answered at once: straight into the output when nothing is before it, else as a request that is done already. */
static int32_t answer_at_once(plog_engine *e, plog_conn *conn, const plog_frame *frame, const uint8_t *answer,
                              uint32_t answer_bytes) {
  if (!conn->first) {
    int32_t rc = write_ready(e, &conn->out, frame->correlation_id, answer, answer_bytes);
    if (rc) return rc;
    plog__times_answered(&conn->answers, frame->api_key, conn->came_ns, 0, answer_bytes + 4, conn->out.pending_bytes);
    plog__reactor_send_later(e, conn);
    return 0;
  }
  plog_answer *copy = plog__answer_open(conn->number, 0, answer, answer_bytes);
  plog_control *control = copy ? open_control(e, frame, 0) : NULL;
  if (!control) {
    free(copy);
    return -ENOMEM;
  }
  plog_put_i32(copy->data + 4, frame->correlation_id);
  control->answer = copy;
  plog__conn_enqueue(conn, &control->request);
  plog__reactor_complete(e, &control->request);
  return 0;
}

/* ------------------------------------------------------------------------------------------------ hand-over */

static int32_t hand_over(plog_engine *e, plog_conn *conn, const plog_frame *frame, int64_t generation) {
  uint32_t kept = frame->body_bytes <= CACHED_BODY_BYTES_MAX ? frame->body_bytes : 0;
  plog_control *control = open_control(e, frame, kept);
  if (!control) return -ENOMEM;
  control->has_body = frame->body_bytes <= CACHED_BODY_BYTES_MAX;
  control->body_bytes = kept;
  if (kept) memcpy(control->body, frame->body, kept);
  control->with_python = frame->body_bytes + (int64_t)sizeof(plog_upcall);
  plog__conn_enqueue(conn, &control->request);
  plog_upcall upcall = {.kind = PLOG_UP_REQUEST,
                        .conn = conn->number,
                        .slot = control->request.slot,
                        .partition = -1,
                        .offset = -1,
                        .api_key = frame->api_key,
                        .api_version = frame->api_version,
                        .correlation_id = frame->correlation_id,
                        .listener_id = conn->listener_id,
                        .received_ms = e->now_ms,
                        .client_id = frame->client_id,
                        .client_id_bytes = frame->client_id_bytes,
                        .body = frame->body,
                        .body_bytes = frame->body_bytes,
                        .generation = generation};
  int32_t rc = plog__upcalls_collect(&e->upcalls, &upcall);
  if (rc) {
    control->with_python = 0;
    return rc;
  }
  if (frame->api_key == JOIN_GROUP || frame->api_key == SYNC_GROUP)
    plog__reactor_waits(e, &control->request); /* for the other members, as far as can be seen from here */
  conn->upcalled = true;
  plog__count(&e->counters.upcalls, 1);
  plog__reactor_upcall_bytes(e, control->with_python);
  return 0;
}

/* Whether who asks is known to be allowed to read the group; what is not known is Python's to find out. */
static bool may_read_group(const plog_engine *e, const plog_conn *conn, plog_bytes group_id) {
  if (plog__grants_everyone(&e->grants, PLOG_GRANT_READ)) return true;
  plog_grant_key key = {.principal = conn->principal,
                        .resource = PLOG_RESOURCE_GROUP,
                        .name = group_id.data,
                        .name_bytes = (uint32_t)group_id.size_bytes};
  if (key.principal == 0) key.principal = plog__grants_listener_principal(&e->grants, conn->listener_id);
  return plog__grants_find(&e->grants, &key, PLOG_GRANT_READ) == PLOG_ALLOWED;
}

/* The answer to a heartbeat of a member that was published: its bytes. 0: it is Python's to judge. */
static uint32_t hear(plog_engine *e, const plog_conn *conn, const plog_frame *frame,
                     uint8_t answer[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]) {
  plog_heartbeat heartbeat;
  if (!plog__heartbeat_read(frame, &heartbeat) || !may_read_group(e, conn, heartbeat.group_id)) return 0;
  return plog__members_hear(&e->members, &heartbeat, e->now_ms) ? plog__heartbeat_answer(frame, answer) : 0;
}

static uint32_t hear_consumer(plog_engine *e, const plog_conn *conn, const plog_frame *frame,
                              uint8_t answer[PLOG_HEARTBEAT_ANSWER_BYTES_MAX]) {
  plog_consumer_heartbeat heartbeat = {.client_id = {frame->client_id, (size_t)PLOG_MAX(frame->client_id_bytes, 0)},
                                       .host = conn->peer};
  if (!plog__consumer_heartbeat_read(frame, &heartbeat.says)) return 0;
  if (!may_read_group(e, conn, heartbeat.says.group_id)) return 0;
  int32_t interval_ms = plog__members_hear_consumer(&e->members, &heartbeat, e->now_ms);
  return interval_ms < 0 ? 0 : plog__consumer_heartbeat_answer(frame, &heartbeat.says, interval_ms, answer);
}

int32_t plog__control_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame) {
  int64_t generation = plog__answer_cache_generation(&e->answers);
  if (conn->waiting == 0 && (frame->api_key == PLOG_API_HEARTBEAT || frame->api_key == PLOG_API_CONSUMER_HEARTBEAT)) {
    uint8_t answer[PLOG_HEARTBEAT_ANSWER_BYTES_MAX];
    bool is_classic = frame->api_key == PLOG_API_HEARTBEAT;
    uint32_t answer_bytes = is_classic ? hear(e, conn, frame, answer) : hear_consumer(e, conn, frame, answer);
    if (answer_bytes > 0) {
      plog__count(&e->counters.heartbeats, 1);
      return answer_at_once(e, conn, frame, answer, answer_bytes);
    }
  }
  /* Behind a request that Python has, it is Python's too: what that does comes first. */
  bool may_commit = conn->waiting == 0 || plog__offset_commit_is(conn->last);
  if (frame->api_key == PLOG_API_OFFSET_COMMIT && may_commit && plog__offset_commit_take(e, conn, frame)) return 0;
  if (conn->waiting == 0 && e->answers.count > 0) {
    uint32_t answer_bytes;
    plog_question question = question_of(conn, frame->api_key, frame->api_version, frame->body, frame->body_bytes);
    const uint8_t *answer = plog__answer_cache_find(&e->answers, &question, &answer_bytes);
    if (answer) {
      plog__count(&e->counters.cached_answers, 1);
      return answer_at_once(e, conn, frame, answer, answer_bytes);
    }
  }
  return hand_over(e, conn, frame, generation);
}

/* ------------------------------------------------------------------------------------------------ answers */

static void keep_in_cache(plog_engine *e, const plog_control *control, const plog_answer *answer) {
  const plog_request *request = &control->request;
  if (!control->has_body || answer->size_bytes < 8) return;
  plog_question question =
      question_of(request->conn, request->api_key, request->api_version, control->body, control->body_bytes);
  plog__answer_cache_keep(&e->answers, &question, answer->data + 4, answer->size_bytes - 4, answer->generation);
}

/* Runs on the reactor. */
static void take_answer(plog_message *message, void *reactor) {
  plog_engine *e = reactor;
  plog_answer *answer = PLOG_CONTAINER_OF(message, plog_answer, message);
  plog_conn *conn = plog__reactor_conn(e, answer->conn);
  plog_request *request = conn ? plog__conn_find(conn, answer->slot) : NULL;
  if (!request || request->done || request->ops != &control_ops) {
    free(answer);
    return;
  }
  plog_control *control = PLOG_CONTAINER_OF(request, plog_control, request);
  plog__reactor_upcall_bytes(e, -control->with_python);
  control->with_python = 0;
  if (answer->skip) {
    free(answer);
  } else {
    if (answer->cacheable) keep_in_cache(e, control, answer);
    control->answer = answer;
  }
  plog__reactor_complete(e, request);
}

plog_answer *plog__answer_open(int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes) {
  plog_answer *answer = malloc(sizeof *answer + (data ? size_bytes + 4 : 0));
  if (!answer) return NULL;
  memset(answer, 0, sizeof *answer);
  answer->message.run = take_answer;
  answer->conn = conn;
  answer->slot = slot;
  answer->skip = !data;
  if (data) {
    answer->size_bytes = (uint32_t)size_bytes + 4;
    plog_put_u32(answer->data, (uint32_t)size_bytes);
    memcpy(answer->data + 4, data, size_bytes);
  }
  return answer;
}

static int32_t write_answer(plog_request *request, plog_out *out) {
  plog_control *control = PLOG_CONTAINER_OF(request, plog_control, request);
  if (!control->answer) return 0;
  return plog__out_copy(out, &control->engine->buffers, control->answer->data, control->answer->size_bytes);
}

static void close_control(plog_request *request) {
  plog_control *control = PLOG_CONTAINER_OF(request, plog_control, request);
  if (control->with_python) plog__reactor_upcall_bytes(control->engine, -control->with_python);
  free(control->answer);
  free(control);
}

static const plog_request_ops control_ops = {write_answer, close_control};
