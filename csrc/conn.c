/*
 * conn.c: see conn.h.
 */
#include "conn.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define ARENA_BYTES (1024u * 1024u)
#define ARENA_READ_BYTES (256u * 1024u) /* most that one receive puts into the arena */
#define LARGE_FRAME_BYTES (64u * 1024u) /* from here a frame is received into a buffer of its own */
#define EXPECT_BYTES_MAX (4u * 1024u * 1024u)
#define GROWTH 2                       /* a buffer is made for at most so many times what has come */
#define OVERSHOOT_BYTES 4096u          /* how far a receive may run into the next frame, which then has to move */
#define SMALL_ROOM_BYTES 512u          /* the same for small ones */
#define LOW_WATER_BYTES (512u * 1024u) /* of a large frame, worth waking up for */
#define HEADER_BYTES_MIN 8             /* API key, version, correlation id */
#define PENDING_BYTES_MAX (4 * 1024 * 1024)
#define REQUESTS_MAX 512

/* ------------------------------------------------------------------------------------------------ intake */

/* A kernel that takes any low water (Linux before 4.18) may wait for more than its window lets in, for ever. */
static uint32_t find_low_water_max(plog_sys *sys) {
  int fd = plog__sys_socket(sys, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  int value = INT_MAX;
  socklen_t value_bytes = sizeof value;
  bool told = plog__sys_setsockopt(sys, fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value) == 0 &&
              plog__sys_getsockopt(sys, fd, SOL_SOCKET, SO_RCVLOWAT, &value, &value_bytes) == 0;
  (void)plog__sys_close(sys, fd);
  return told && value < INT_MAX ? LOW_WATER_BYTES : 0;
}

void plog__intake_init(plog_intake *intake, plog_sys *sys, plog_buffers *buffers, int32_t max_request_bytes) {
  intake->sys = sys;
  intake->buffers = buffers;
  intake->max_request_bytes = max_request_bytes;
  intake->low_water_max = find_low_water_max(sys);
  intake->arena = NULL;
  intake->retired = NULL;
}

void plog__intake_settle(plog_intake *intake) {
  while (intake->retired) {
    plog_buffer *buffer = intake->retired;
    intake->retired = buffer->next;
    plog__buffers_give(intake->buffers, buffer);
  }
  if (intake->arena) intake->arena->end = 0;
}

void plog__intake_deinit(plog_intake *intake) {
  plog__intake_settle(intake);
  if (intake->arena) plog__buffers_give(intake->buffers, intake->arena);
}

bool plog__intake_has_room(const plog_intake *intake) {
  return !intake->arena || intake->arena->capacity_bytes - intake->arena->end >= ARENA_READ_BYTES;
}

static void retire(plog_intake *intake, plog_buffer *buffer) {
  buffer->next = intake->retired;
  intake->retired = buffer;
}

/* ------------------------------------------------------------------------------------------------ life */

plog_conn *plog__conn_open(int64_t number, int fd, int32_t listener_id) {
  plog_conn *conn = calloc(1, sizeof *conn);
  if (!conn) return NULL;
  conn->number = number;
  conn->fd = fd;
  conn->listener_id = listener_id;
  conn->low_water = 1;
  plog_list_init(&conn->ready);
  plog_list_init(&conn->flush);
  plog_list_init(&conn->closing);
  plog_list_init(&conn->idle);
  plog__out_init(&conn->out);
  return conn;
}

void plog__conn_close(plog_conn *conn, plog_sys *sys, int epoll_fd, plog_buffers *buffers) {
  while (conn->first) {
    plog_request *request = conn->first;
    conn->first = request->next;
    request->ops->close(request);
  }
  plog_list_remove(&conn->ready);
  plog_list_remove(&conn->flush);
  plog_list_remove(&conn->closing);
  plog_list_remove(&conn->idle);
  if (conn->in) plog__buffers_give(buffers, conn->in);
  plog__out_deinit(&conn->out, buffers);
  plog__sys_close_watched(sys, epoll_fd, conn->fd);
  plog__times_drop(&conn->answers);
  free(conn->verdicts);
  free(conn);
}

/* ------------------------------------------------------------------------------------------------ receiving */

/* Size of the frame at the view's start with its length field; 0 when that is not known yet. Checked by plog__conn_frame. */
static uint32_t frame_bytes(const plog_conn *conn) {
  return conn->view_bytes >= 4 ? plog_get_u32(conn->view) + 4 : 0;
}

/* How much of the frame under way its buffer may be made for: that follows what has come, or came last time. */
static uint32_t fair_need(const plog_conn *conn) {
  uint32_t frame = frame_bytes(conn);
  uint64_t wanted = frame ? frame : conn->expect_bytes;
  uint64_t most = PLOG_MAX((uint64_t)conn->view_bytes * GROWTH, PLOG_MAX(LARGE_FRAME_BYTES, conn->expect_bytes));
  return (uint32_t)PLOG_MIN(wanted, most);
}

/* The size of a new buffer for that: large frames leave room to run into the next one. */
static uint32_t fair_capacity(const plog_conn *conn) {
  uint32_t need = PLOG_MAX(fair_need(conn), conn->view_bytes);
  return need < LARGE_FRAME_BYTES ? need + need / 8 + SMALL_ROOM_BYTES : need + OVERSHOOT_BYTES;
}

/* A new buffer of its own that begins with the rest of the view. */
static int32_t move_view(plog_conn *conn, plog_intake *intake, uint32_t capacity) {
  plog_buffer *buffer = plog__buffers_take(intake->buffers, capacity);
  if (!buffer) return -ENOMEM;
  if (conn->view_bytes) memcpy(buffer->data, conn->view, conn->view_bytes);
  buffer->end = conn->view_bytes;
  if (conn->in) retire(intake, conn->in);
  conn->in = buffer;
  conn->view = buffer->data;
  return 0;
}

/* Room at the end of its own buffer for the rest of the frame under way, or for as much of it as is fair. */
static int32_t make_room(plog_conn *conn, plog_intake *intake) {
  if (conn->in) {
    uint32_t used = (uint32_t)(conn->view - conn->in->data);
    bool frame_fits = conn->in->capacity_bytes - used >= fair_need(conn);
    bool some_room = conn->in->capacity_bytes > conn->in->end;
    if (frame_fits && some_room) return 0;
  }
  return move_view(conn, intake, fair_capacity(conn));
}

static int64_t receive_own(plog_conn *conn, plog_intake *intake, bool *out_drained) {
  int32_t rc = make_room(conn, intake);
  if (rc) return rc;
  uint32_t frame = frame_bytes(conn);
  uint32_t room = conn->in->capacity_bytes - conn->in->end;
  uint32_t likely = frame ? frame : conn->expect_bytes;
  if (likely > conn->view_bytes) room = PLOG_MIN(room, likely - conn->view_bytes + OVERSHOOT_BYTES);
  int64_t n = plog__sys_recv(intake->sys, conn->fd, conn->in->data + conn->in->end, room, MSG_DONTWAIT);
  if (n > 0) {
    conn->in->end += (uint32_t)n;
    conn->view_bytes += (uint32_t)n;
  }
  *out_drained = n < (int64_t)room;
  return n;
}

static int64_t receive_arena(plog_conn *conn, plog_intake *intake, bool *out_drained) {
  if (!intake->arena) intake->arena = plog__buffers_take(intake->buffers, ARENA_BYTES);
  plog_buffer *arena = intake->arena;
  if (!arena) return -ENOMEM;
  uint32_t room = PLOG_MIN(arena->capacity_bytes - arena->end, ARENA_READ_BYTES);
  plog_assert(room > 0);
  int64_t n = plog__sys_recv(intake->sys, conn->fd, arena->data + arena->end, room, MSG_DONTWAIT);
  if (n > 0) {
    conn->view = arena->data + arena->end;
    conn->view_bytes = (uint32_t)n;
    arena->end += (uint32_t)n;
  }
  *out_drained = n < (int64_t)room;
  return n;
}

int64_t plog__conn_receive(plog_conn *conn, plog_intake *intake, bool *out_drained) {
  *out_drained = true;
  if (conn->in || conn->view_bytes || conn->expect_bytes) return receive_own(conn, intake, out_drained);
  return receive_arena(conn, intake, out_drained);
}

int32_t plog__conn_frame(const plog_conn *conn, const plog_intake *intake, plog_frame *out) {
  if (conn->view_bytes < 4) return PLOG_E_SHORT;
  int32_t size = plog_get_i32(conn->view);
  if (size < HEADER_BYTES_MIN || size > intake->max_request_bytes) return PLOG_E_MALFORMED;
  if (conn->view_bytes - 4 < (uint32_t)size) return PLOG_E_SHORT;
  uint8_t *frame = conn->view + 4;
  out->api_key = plog_get_i16(frame);
  out->api_version = plog_get_i16(frame + 2);
  out->correlation_id = plog_get_i32(frame + 4);
  out->client_id = NULL;
  out->client_id_bytes = 0;
  uint32_t at = HEADER_BYTES_MIN;
  /* ControlledShutdown 0 is the one request whose header has no client id. */
  if (!(out->api_key == 7 && out->api_version == 0)) {
    if ((uint32_t)size < at + 2) return PLOG_E_MALFORMED;
    int16_t length = plog_get_i16(frame + at);
    at += 2;
    if (length < -1 || (length > 0 && (uint32_t)length > (uint32_t)size - at)) return PLOG_E_MALFORMED;
    if (length >= 0) {
      out->client_id = frame + at;
      out->client_id_bytes = length;
      at += (uint32_t)length;
    }
  }
  out->body = frame + at;
  out->body_bytes = (uint32_t)size - at;
  return 0;
}

void plog__conn_consume(plog_conn *conn) {
  uint32_t size = frame_bytes(conn);
  plog_assert(size >= 4 && size <= conn->view_bytes);
  conn->view += size;
  conn->view_bytes -= size;
  conn->expect_bytes = size >= LARGE_FRAME_BYTES ? PLOG_MIN(size, EXPECT_BYTES_MAX) : 0;
}

int32_t plog__conn_keep_rest(plog_conn *conn, plog_intake *intake) {
  if (conn->view_bytes == 0) {
    if (conn->in) retire(intake, conn->in);
    conn->in = NULL;
    conn->view = NULL;
    return 0;
  }
  return conn->in ? 0 : move_view(conn, intake, fair_capacity(conn));
}

int32_t plog__conn_await(plog_conn *conn, plog_intake *intake) {
  uint32_t frame = frame_bytes(conn), low_water = 1;
  if (frame >= LARGE_FRAME_BYTES && frame > conn->view_bytes)
    low_water = PLOG_MAX(low_water, PLOG_MIN(frame - conn->view_bytes, intake->low_water_max));
  if (low_water == conn->low_water) return 0;
  int value = (int)low_water;
  int rc = plog__sys_setsockopt(intake->sys, conn->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
  if (rc == 0) conn->low_water = low_water;
  return low_water < conn->low_water ? rc : 0; /* to be told too soon is no harm */
}

/* ------------------------------------------------------------------------------------------------ answering */

void plog__conn_enqueue(plog_conn *conn, plog_request *request) {
  request->next = NULL;
  request->conn = conn;
  request->slot = conn->next_slot++;
  request->came_ns = conn->came_ns;
  request->kind = request->api_key < PLOG_COUNTED_APIS ? request->api_key : PLOG_KIND_NONE;
  request->done = false;
  if (conn->last)
    conn->last->next = request;
  else
    conn->first = request;
  conn->last = request;
  conn->requests_count++;
  conn->waiting++;
}

void plog__conn_done(plog_request *request) {
  plog_assert(!request->done);
  request->done = true;
  request->conn->waiting--;
}

plog_request *plog__conn_find(const plog_conn *conn, int64_t slot) {
  plog_request *request = conn->first;
  while (request && request->slot != slot) request = request->next;
  return request;
}

int32_t plog__conn_write_answers(plog_conn *conn) {
  while (conn->first && conn->first->done && conn->out.pending_bytes < PENDING_BYTES_MAX) {
    plog_request *request = conn->first;
    int64_t before = conn->out.pending_bytes;
    int32_t rc = request->ops->write(request, &conn->out);
    if (rc) return rc;
    int64_t pending = conn->out.pending_bytes;
    plog__times_answered(&conn->answers, request->kind, request->came_ns, request->waits_ns, pending - before, pending);
    conn->first = request->next;
    if (!conn->first) conn->last = NULL;
    conn->requests_count--;
    request->ops->close(request);
  }
  return 0;
}

bool plog__conn_is_loaded(const plog_conn *conn) {
  return conn->out.pending_bytes >= PENDING_BYTES_MAX || conn->requests_count >= REQUESTS_MAX;
}
