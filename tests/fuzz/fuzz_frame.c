/*
 * fuzz_frame.c: any bytes from a client, in pieces of any size: frames come out whole or the stream is refused; what was handed
 * out stays as it was until the intake settles; memory follows the bytes that came. The first byte seeds the pieces.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "conn.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { MAX_REQUEST = 1 << 20, HELD_MAX = 64 };

typedef struct {
  const uint8_t *data;
  size_t left;
  uint32_t random;
} stream;

static int64_t receive(void *context, int socket, void *data, size_t size_bytes, int flags) {
  (void)socket;
  (void)flags;
  stream *s = context;
  s->random = s->random * 1664525 + 1013904223;
  size_t n = PLOG_MIN(PLOG_MIN(1 + (s->random >> 20) % 600, size_bytes), s->left);
  memcpy(data, s->data, n);
  s->data += n;
  s->left -= n;
  return n ? (int64_t)n : -EAGAIN;
}

/* A frame that was handed out, and where it stood in the stream. */
typedef struct {
  plog_frame frame;
  const uint8_t *original;
} held;

static void check_and_settle(plog_intake *intake, const held *frames, int count) {
  for (int i = 0; i < count; i++) {
    const plog_frame *f = &frames[i].frame;
    plog_assert(f->body_bytes == 0 || memcmp(f->body, frames[i].original, f->body_bytes) == 0);
  }
  plog__intake_settle(intake);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 1) return 0;
  stream s = {data + 1, size_bytes - 1, data[0]};
  plog_sys *sys = plog_sys_open();
  plog_assert(sys);
  sys->calls.context = &s;
  sys->calls.recv = receive;
  plog_buffers buffers;
  plog_intake intake;
  plog__buffers_init(&buffers, 1 << 20);
  plog__intake_init(&intake, sys, &buffers, MAX_REQUEST);
  plog_conn *conn = plog__conn_open(1, dup(0), 0);
  plog_assert(conn);
  held frames[HELD_MAX];
  int count = 0;
  size_t consumed = 0;
  int32_t rc = PLOG_E_SHORT;
  while (rc == PLOG_E_SHORT && s.left > 0) {
    bool drained;
    plog_assert(plog__conn_receive(conn, &intake, &drained) > 0);
    plog_frame frame;
    while ((rc = plog__conn_frame(conn, &intake, &frame)) == 0) {
      const uint8_t *at = data + 1 + consumed;
      uint32_t total = plog_get_u32(at) + 4;
      plog_assert(frame.body_bytes <= total - 12 && frame.client_id_bytes <= (int32_t)total);
      frames[count++] = (held){frame, at + total - frame.body_bytes};
      consumed += total;
      plog__conn_consume(conn);
      if (count == HELD_MAX) break;
    }
    plog_assert(plog__conn_keep_rest(conn, &intake) == 0);
    plog_assert(atomic_load(&buffers.held_bytes) <= (int64_t)(2 << 20) + 8 * (int64_t)size_bytes + 300000);
    if (count == HELD_MAX || !plog__intake_has_room(&intake) || (s.random & 7) == 0) {
      check_and_settle(&intake, frames, count);
      count = 0;
    }
    if (rc == 0) rc = PLOG_E_SHORT;
  }
  check_and_settle(&intake, frames, count);
  plog__conn_close(conn, sys, -1, &buffers);
  plog__intake_deinit(&intake);
  plog_assert(atomic_load(&buffers.held_bytes) == 0);
  plog__buffers_deinit(&buffers);
  plog_sys_close(sys);
  return 0;
}
