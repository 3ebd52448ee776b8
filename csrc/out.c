/*
 * out.c: see out.h.
 *
 * A buffer may back several memory pieces with slices between them; the last of them owns it. Pieces are sent and freed in
 * order, so the buffer outlives all that point into it.
 */
#include "out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GATHER_MAX 64 /* pieces in one sendmsg */
#define PAGE_BYTES 4096
#define CHUNK_BYTES (1024u * 1024u)      /* of a slice in one call, so that a probe for coldness stays near its use */
#define SCRATCH_BYTES (256u * 1024u)     /* small enough to stay in the processor's cache */
#define SMALL_SLICE_BYTES (128u * 1024u) /* up to here a slice is read and sent with what is before and behind it */
#define PROBE_STEP_BYTES (64u * 1024u)

struct plog_piece {
  plog_piece *next;
  plog_buffer *owned; /* given back with this piece */
  uint8_t *data;      /* NULL: a slice */
  uint32_t start;     /* unsent: [start, end) of data; of a slice, start is what was sent of its size */
  uint32_t end;
  plog_buffer *buffer; /* the one data points into */
  plog_slice slice;
  bool doubted;     /* some of the slice had left memory: from then on nothing of it is sent that was not read anew */
  int64_t sound_to; /* … up to here; where a batch begins */
};

void plog__out_init(plog_out *out) {
  out->first = NULL;
  out->last = NULL;
  out->memory = NULL;
  out->pending_bytes = 0;
}

static void drop_first(plog_out *out, plog_buffers *buffers) {
  plog_piece *piece = out->first;
  out->first = piece->next;
  if (!out->first) out->last = NULL;
  if (out->memory == piece) out->memory = NULL;
  if (piece->owned) plog__buffers_give(buffers, piece->owned);
  if (piece->slice.segment) plog__slice_release(&piece->slice);
  free(piece);
}

void plog__out_deinit(plog_out *out, plog_buffers *buffers) {
  while (out->first) drop_first(out, buffers);
  out->pending_bytes = 0;
}

static plog_piece *append_piece(plog_out *out) {
  plog_piece *piece = calloc(1, sizeof *piece);
  if (!piece) return NULL;
  if (out->last)
    out->last->next = piece;
  else
    out->first = piece;
  out->last = piece;
  return piece;
}

/* A new memory piece; after a slice it goes on in the buffer of the memory piece before, when that has room. */
static plog_piece *open_piece(plog_out *out, plog_buffers *buffers, uint32_t size_bytes) {
  plog_piece *before = out->memory;
  bool fits = before && before->buffer->capacity_bytes - before->buffer->end >= size_bytes;
  plog_buffer *buffer = fits ? before->buffer : plog__buffers_take(buffers, size_bytes);
  if (!buffer) return NULL;
  plog_piece *piece = append_piece(out);
  if (!piece) {
    if (!fits) plog__buffers_give(buffers, buffer);
    return NULL;
  }
  if (fits) before->owned = NULL;
  piece->owned = buffer;
  piece->buffer = buffer;
  piece->data = buffer->data;
  piece->start = buffer->end;
  piece->end = buffer->end;
  out->memory = piece;
  return piece;
}

uint8_t *plog__out_room(plog_out *out, plog_buffers *buffers, uint32_t size_bytes) {
  plog_piece *piece = out->last;
  bool open = piece && piece->data && piece->buffer->capacity_bytes - piece->buffer->end >= size_bytes;
  if (!open) piece = open_piece(out, buffers, size_bytes);
  return piece ? piece->data + piece->end : NULL;
}

void plog__out_wrote(plog_out *out, uint32_t size_bytes) {
  plog_piece *piece = out->last;
  plog_assert(piece && piece->data && piece->buffer->capacity_bytes - piece->end >= size_bytes);
  piece->end += size_bytes;
  piece->buffer->end = piece->end;
  out->pending_bytes += size_bytes;
}

int32_t plog__out_copy(plog_out *out, plog_buffers *buffers, const uint8_t *data, uint32_t size_bytes) {
  uint8_t *room = plog__out_room(out, buffers, size_bytes);
  if (!room) return -ENOMEM;
  memcpy(room, data, size_bytes);
  plog__out_wrote(out, size_bytes);
  return 0;
}

int32_t plog__out_slice(plog_out *out, plog_slice *slice) {
  plog_assert(slice->segment && slice->size_bytes > 0);
  plog_piece *piece = append_piece(out);
  if (!piece) return -ENOMEM;
  piece->slice = *slice;
  piece->end = slice->size_bytes;
  piece->sound_to = slice->position;
  slice->segment = NULL;
  out->pending_bytes += piece->end;
  return 0;
}

void plog__out_splice(plog_out *out, plog_out *from) {
  if (!from->first) return;
  if (out->last)
    out->last->next = from->first;
  else
    out->first = from->first;
  out->last = from->last;
  if (from->memory) out->memory = from->memory;
  out->pending_bytes += from->pending_bytes;
  plog__out_init(from);
}

/* ------------------------------------------------------------------------------------------------ sending */

/* Account for sent bytes: they come off the front. */
static void consume(plog_out *out, plog_buffers *buffers, int64_t sent_bytes) {
  out->pending_bytes -= sent_bytes;
  while (out->first) {
    plog_piece *piece = out->first;
    int64_t left = (int64_t)piece->end - piece->start;
    if (sent_bytes < left) {
      piece->start += (uint32_t)sent_bytes;
      return;
    }
    sent_bytes -= left;
    drop_first(out, buffers);
  }
  plog_assert(sent_bytes == 0);
}

static bool is_cached(plog_sender *s, int fd, int64_t position, uint32_t size_bytes) {
  int64_t first = position / PAGE_BYTES;
  int64_t last = (position + size_bytes - 1) / PAGE_BYTES;
  return plog__sys_cachestat(s->sys, fd, position, size_bytes) > last - first;
}

/* This much of the slice from position on is to be read anew. */
static int32_t doubt(plog_piece *piece, int64_t position, uint32_t size_bytes, plog_cold *cold) {
  piece->doubted = true;
  *cold = (plog_cold){piece->slice.fd, position, size_bytes, piece->slice.segment, piece->sound_to};
  return PLOG_E_AGAIN;
}

/* 0: this range is in the page cache, as far as probes at every PROBE_STEP_BYTES tell when the kernel has no word for it. */
static int32_t probe(plog_sender *s, plog_piece *piece, int64_t position, uint32_t size_bytes, plog_cold *cold) {
  int fd = piece->slice.fd;
  if (piece->doubted && position + (int64_t)size_bytes > piece->sound_to) return doubt(piece, position, size_bytes, cold);
  if (is_cached(s, fd, position, size_bytes)) return 0;
  uint8_t byte;
  struct iovec one = {&byte, 1};
  for (uint32_t at = 0;; at = PLOG_MIN(at + PROBE_STEP_BYTES, size_bytes - 1)) {
    int64_t n = plog__sys_preadv2(s->sys, fd, &one, 1, position + at, RWF_NOWAIT);
    if (n == 0) return PLOG_E_SHORT;
    if (n == -EAGAIN) return doubt(piece, position + at, size_bytes - at, cold);
    if (n == -EOPNOTSUPP) return 0; /* the file system cannot tell */
    if (n < 0) return (int32_t)n;
    if (at == size_bytes - 1) return 0;
  }
}

static int64_t send_pieces(plog_sender *s, int socket, struct iovec *pieces, int count, int more) {
  if (count == 1)
    return plog__sys_send(s->sys, socket, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT | more);
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = pieces;
  message.msg_iovlen = (size_t)count;
  return plog__sys_sendmsg(s->sys, socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT | more);
}

static int gather_memory(const plog_out *out, struct iovec *pieces, const plog_piece **out_next) {
  int count = 0;
  const plog_piece *piece = out->first;
  for (; piece && piece->data && count < GATHER_MAX; piece = piece->next)
    pieces[count++] = (struct iovec){piece->data + piece->start, piece->end - piece->start};
  *out_next = piece;
  return count;
}

static uint32_t chunk_size(const plog_piece *piece, uint32_t most) {
  return PLOG_MIN(piece->end - piece->start, most);
}

void plog__out_sound(plog_out *out, int64_t position) {
  plog_piece *piece = out->first;
  while (piece && piece->data) piece = piece->next;
  plog_assert(piece && piece->doubted);
  piece->sound_to = PLOG_MAX(piece->sound_to, position);
}

static int64_t send_file(plog_sender *s, int socket, plog_piece *piece, plog_cold *cold, int32_t *condition) {
  int64_t position = piece->slice.position + piece->start;
  uint32_t size = chunk_size(piece, CHUNK_BYTES);
  *condition = probe(s, piece, position, size, cold);
  if (*condition) return 0;
  int64_t n = plog__sys_sendfile(s->sys, socket, piece->slice.fd, &position, size);
  if (n == 0) *condition = PLOG_E_SHORT; /* the file was cut under us */
  return n;
}

static int64_t send_mapped(plog_sender *s, int socket, plog_piece *piece, plog_cold *cold, int32_t *condition) {
  int64_t position = piece->slice.position + piece->start;
  uint32_t size = chunk_size(piece, CHUNK_BYTES);
  *condition = probe(s, piece, position, size, cold);
  if (*condition) return 0;
  int64_t base = position & ~(int64_t)4095;
  size_t span = (size_t)(position - base) + size;
  void *address = NULL;
  int rc = plog__sys_mmap(s->sys, span, PROT_READ, MAP_SHARED | MAP_POPULATE, piece->slice.fd, base, &address);
  if (rc) return rc;
  /* A file cut meanwhile makes the kernel's copy fail with EFAULT: an error here, never a signal. */
  int64_t n = plog__sys_send(s->sys, socket, (uint8_t *)address + (position - base), size, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)plog__sys_munmap(s->sys, address, span);
  return n;
}

/*
 * Memory and small slices in one call, the files' bytes through the scratch buffer. What the socket does not take is read
 * again next time, so nothing is held for a slow reader.
 */
static int64_t send_read(plog_sender *s, int socket, plog_out *out, plog_cold *cold, int32_t *condition) {
  if (!s->scratch) s->scratch = malloc(SCRATCH_BYTES);
  if (!s->scratch) return -ENOMEM;
  struct iovec pieces[GATHER_MAX];
  int count = 0;
  uint32_t used = 0;
  for (plog_piece *piece = out->first; piece && count < GATHER_MAX; piece = piece->next) {
    if (piece->data) {
      pieces[count++] = (struct iovec){piece->data + piece->start, piece->end - piece->start};
      continue;
    }
    struct iovec into = {s->scratch + used, chunk_size(piece, SCRATCH_BYTES - used)};
    if (into.iov_len == 0) break;
    int64_t position = piece->slice.position + piece->start;
    bool sound = !piece->doubted || position + (int64_t)into.iov_len <= piece->sound_to;
    int64_t n = sound ? plog__sys_preadv2(s->sys, piece->slice.fd, &into, 1, position, RWF_NOWAIT) : -EAGAIN;
    if (n == -EOPNOTSUPP) n = plog__sys_pread(s->sys, piece->slice.fd, into.iov_base, into.iov_len, position);
    if (n <= 0 && count > 0) break; /* first what is there; the trouble is met again */
    if (n == -EAGAIN) {
      *condition = doubt(piece, position, chunk_size(piece, CHUNK_BYTES), cold);
      return 0;
    }
    if (n == 0) *condition = PLOG_E_SHORT; /* the file was cut under us */
    if (n <= 0) return n;
    pieces[count++] = (struct iovec){into.iov_base, (size_t)n};
    used += (uint32_t)n;
    if ((uint32_t)n < piece->end - piece->start) break;
  }
  return send_pieces(s, socket, pieces, count, 0);
}

/* A slice that is worth a system call of its own. */
static bool is_large(const plog_sender *s, const plog_piece *piece) {
  return s->mode != PLOG_SEND_READ && piece->end - piece->start > SMALL_SLICE_BYTES;
}

int32_t plog__out_send(plog_out *out, plog_sender *s, int socket, int64_t budget_bytes, int64_t *sent_bytes,
                       plog_cold *cold) {
  while (out->first && budget_bytes > 0) {
    struct iovec pieces[GATHER_MAX];
    const plog_piece *slice;
    int count = gather_memory(out, pieces, &slice);
    int32_t condition = 0;
    int64_t n;
    if (slice && !slice->data && !is_large(s, slice))
      n = send_read(s, socket, out, cold, &condition);
    else if (count)
      n = send_pieces(s, socket, pieces, count, slice ? MSG_MORE : 0);
    else if (s->mode == PLOG_SEND_MAPPED)
      n = send_mapped(s, socket, out->first, cold, &condition);
    else
      n = send_file(s, socket, out->first, cold, &condition);
    if (n < 0) return (int32_t)n;
    if (n > 0) {
      consume(out, s->buffers, n);
      *sent_bytes += n;
      budget_bytes -= n;
    }
    if (condition) return condition;
  }
  return 0;
}

void plog__sender_deinit(plog_sender *s) {
  free(s->scratch);
  s->scratch = NULL;
}
