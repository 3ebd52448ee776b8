/*
 * buffer.c: see buffer.h.
 */
#include "buffer.h"

#include <stdlib.h>

#define ROUND(kilobytes) ((kilobytes)*1024u + PLOG_BUFFER_SLACK)

static const uint32_t class_bytes[PLOG_BUFFER_CLASSES] = {4096,       ROUND(16),   ROUND(64),   ROUND(128), ROUND(256),
                                                          ROUND(512), ROUND(1024), ROUND(2048), ROUND(4096)};

static int32_t class_of(uint32_t size_bytes) {
  for (int32_t i = 0; i < PLOG_BUFFER_CLASSES; i++)
    if (size_bytes <= class_bytes[i]) return i;
  return -1;
}

void plog__buffers_init(plog_buffers *b, int64_t keep_bytes) {
  for (int i = 0; i < PLOG_BUFFER_CLASSES; i++) b->free[i] = NULL;
  b->free_bytes = 0;
  b->keep_bytes = keep_bytes;
  atomic_init(&b->held_bytes, 0);
}

void plog__buffers_deinit(plog_buffers *b) {
  for (int i = 0; i < PLOG_BUFFER_CLASSES; i++) {
    while (b->free[i]) {
      plog_buffer *buffer = b->free[i];
      b->free[i] = buffer->next;
      free(buffer);
    }
  }
  b->free_bytes = 0;
}

static void account(plog_buffers *b, int64_t bytes) {
  int64_t held = atomic_load_explicit(&b->held_bytes, memory_order_relaxed);
  atomic_store_explicit(&b->held_bytes, held + bytes, memory_order_relaxed);
}

uint32_t plog__buffers_capacity(uint32_t size_bytes) {
  int32_t index = class_of(size_bytes);
  return index < 0 ? size_bytes : class_bytes[index];
}

plog_buffer *plog__buffers_take(plog_buffers *b, uint32_t size_bytes) {
  int32_t index = class_of(size_bytes);
  plog_buffer *buffer = NULL;
  if (index >= 0 && b->free[index]) {
    buffer = b->free[index];
    b->free[index] = buffer->next;
    b->free_bytes -= buffer->capacity_bytes;
  } else {
    uint32_t capacity = index < 0 ? size_bytes : class_bytes[index];
    buffer = malloc(sizeof *buffer + capacity);
    if (!buffer) return NULL;
    buffer->capacity_bytes = capacity;
    buffer->class_index = index;
  }
  buffer->next = NULL;
  buffer->start = 0;
  buffer->end = 0;
  account(b, buffer->capacity_bytes);
  return buffer;
}

void plog__buffers_give(plog_buffers *b, plog_buffer *buffer) {
  account(b, -(int64_t)buffer->capacity_bytes);
  if (buffer->class_index < 0 || b->free_bytes + buffer->capacity_bytes > b->keep_bytes) {
    free(buffer);
    return;
  }
  buffer->next = b->free[buffer->class_index];
  b->free[buffer->class_index] = buffer;
  b->free_bytes += buffer->capacity_bytes;
}
