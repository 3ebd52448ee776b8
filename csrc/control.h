/*
 * control.h: requests that Python answers: handed over as upcalls, answered later by connection and slot, or at once from what
 * Python has said before: the answer cache, and the members whose heartbeats find nothing changed.
 */
#ifndef PLOG_CONTROL_H
#define PLOG_CONTROL_H

#include "reactor.h"

/* Take one request: copied for Python, or answered at once. 0 | -ENOMEM: close */
int32_t plog__control_handle(plog_engine *e, plog_conn *conn, const plog_frame *frame);

/* Python's answer on its way to the reactor. data is the whole frame: 4 bytes of size, then the response. */
typedef struct {
  plog_message message;
  int64_t conn;
  int64_t slot;
  int64_t generation;
  bool cacheable;
  bool skip; /* there is no answer */
  uint32_t size_bytes;
  uint8_t data[];
} plog_answer;

/* A message for the inbox. data NULL: the request gets no answer. NULL: no memory */
plog_answer *plog__answer_open(int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes);

#endif
