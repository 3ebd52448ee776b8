/*
 * buffer.h: memory for what comes from and goes to sockets, in size classes that are kept warm.
 *
 * First touch of memory costs more than copying it, so buffers go back to a free list, last in first out, and only what is
 * beyond keep_bytes goes back to the system. Reactor thread only; held_bytes may be read by any thread.
 */
#ifndef PLOG_BUFFER_H
#define PLOG_BUFFER_H

#include <stdatomic.h>

#include "base.h"

/* Capacities are these or, above the last, what was asked for. The slack holds a frame around a batch of a round size. */
#define PLOG_BUFFER_CLASSES 9
#define PLOG_BUFFER_SLACK 8192

typedef struct plog_buffer plog_buffer;
struct plog_buffer {
  plog_buffer *next; /* for whoever holds it */
  uint32_t capacity_bytes;
  uint32_t start; /* the bytes in use are data[start..end) */
  uint32_t end;
  int32_t class_index; /* -1: of no class */
  uint8_t data[];
};

typedef struct {
  plog_buffer *free[PLOG_BUFFER_CLASSES];
  int64_t free_bytes;
  int64_t keep_bytes;
  _Atomic int64_t held_bytes; /* given out */
} plog_buffers;

void plog__buffers_init(plog_buffers *b, int64_t keep_bytes);
void plog__buffers_deinit(plog_buffers *b);
/* A buffer of at least size_bytes, empty; NULL when there is no memory. */
plog_buffer *plog__buffers_take(plog_buffers *b, uint32_t size_bytes);
void plog__buffers_give(plog_buffers *b, plog_buffer *buffer);
/* What plog__buffers_take(size_bytes) would hold: a class's capacity, or size_bytes. */
uint32_t plog__buffers_capacity(uint32_t size_bytes);

#endif
