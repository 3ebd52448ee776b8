/*
 * out.h: what a connection still has to send: pieces of memory and slices of files, in order.
 *
 * Memory pieces are buffers of the pool that are filled and never moved, so a frame's size may be written into it after the
 * frame is complete. Slices hold their segment until they are sent. Reactor thread only.
 */
#ifndef PLOG_OUT_H
#define PLOG_OUT_H

#include "base.h"
#include "buffer.h"
#include "segment.h"
#include "sys.h"

typedef struct plog_piece plog_piece;

typedef struct {
  plog_piece *first;
  plog_piece *last;
  plog_piece *memory; /* the newest memory piece still here */
  int64_t pending_bytes;
} plog_out;

/* How large slices are sent: config.send_mode. Small ones are always read and sent. */
enum { PLOG_SEND_FILE = 0, PLOG_SEND_READ = 1, PLOG_SEND_MAPPED = 2 };

/* What sending needs besides the connection; one per reactor. */
typedef struct {
  plog_sys *sys;
  plog_buffers *buffers;
  int32_t mode;
  uint8_t *scratch; /* where the bytes of small slices pass through; taken at first use */
} plog_sender;

void plog__out_init(plog_out *out);
/* Give everything back unsent. */
void plog__out_deinit(plog_out *out, plog_buffers *buffers);

/* Room for size_bytes in one run at the end; NULL when there is no memory. Say with plog__out_wrote how much was used. */
uint8_t *plog__out_room(plog_out *out, plog_buffers *buffers, uint32_t size_bytes);
void plog__out_wrote(plog_out *out, uint32_t size_bytes);
/* Append bytes. 0 | -ENOMEM */
int32_t plog__out_copy(plog_out *out, plog_buffers *buffers, const uint8_t *data, uint32_t size_bytes);
/* Append a slice, which is taken (slice->segment becomes NULL). 0 | -ENOMEM, and then it is still the caller's */
int32_t plog__out_slice(plog_out *out, plog_slice *slice);

/* Move everything of from to the end of out. */
void plog__out_splice(plog_out *out, plog_out *from);

/* What of a slice must be read, and compared with its CRCs, before sending can go on. */
typedef struct {
  int fd;
  int64_t position;
  uint32_t size_bytes;
  plog_segment *segment; /* the slice's */
  int64_t sound_to;      /* where a batch begins, at or before which the slice's bytes are sound or sent */
} plog_cold;

/*
 * Send until it is empty, the socket is full or about budget_bytes are sent; adds what it sent to *sent_bytes.
 *   returns 0: empty, or the budget is used up (see pending_bytes) | -EAGAIN: the socket is full | PLOG_E_AGAIN: *cold is not
 *           in the page cache, or follows what was not: plog__out_sound says when it is sound | PLOG_E_SHORT: the file was cut below the slice | -errno: the connection is lost
 */
int32_t plog__out_send(plog_out *out, plog_sender *sender, int socket, int64_t budget_bytes, int64_t *sent_bytes,
                       plog_cold *cold);
/* The slice that was cold is sound up to this position. */
void plog__out_sound(plog_out *out, int64_t position);
void plog__sender_deinit(plog_sender *sender);

#endif
