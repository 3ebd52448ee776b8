/*
 * request_times.h: how long requests take, by what they ask for.
 *
 * A request came when the reactor noticed the last of its bytes (the start of that turn), or when all before it on its connection
 * was answered. It is over when the kernel has the last byte of its answer. What of that it waited for by intention (for records,
 * for the high watermark or the disk, for a timeout) is told apart: the rest is what we needed.
 *
 * The reactor writes; any thread may read: each figure is right, and they are of nearly the same moment.
 */
#ifndef PLOG_REQUEST_TIMES_H
#define PLOG_REQUEST_TIMES_H

#include <stdatomic.h>

#include "base.h"
#include "plog.h"
#include "sys.h"

/* An answer that has left its request and is on its way to the kernel. */
typedef struct plog_unsent plog_unsent;
struct plog_unsent {
  plog_unsent *next;
  int64_t end; /* the last of it, in bytes of its connection */
  int64_t came_ns;
  int64_t waited_ns;
  int32_t kind;
};

typedef struct {
  _Atomic int64_t requests, bytes_in, bytes_out, total_ns, waited_ns;
  _Atomic int64_t at_once[PLOG_TIME_BUCKETS];      /* those that did not wait */
  _Atomic int64_t waiting[PLOG_TIME_BUCKETS];      /* those that did, with the wait */
  _Atomic int64_t waiting_ours[PLOG_TIME_BUCKETS]; /* … and without */
} plog_kind_times;

typedef struct {
  plog_sys *sys;
  plog_unsent *spare;
  int32_t spare_count;
  plog_kind_times kinds[PLOG_REQUEST_KINDS];
} plog_times;

/* Those of one connection. times NULL: nobody wants to know. */
typedef struct {
  plog_times *times;
  plog_unsent *first;
  plog_unsent *last;
  int64_t sent_bytes;
} plog_answers;

void plog__times_init(plog_times *t, plog_sys *sys);
void plog__times_deinit(plog_times *t);

/* A request of so many bytes came. kind: its API key, or PLOG_KIND_FOLLOWER_FETCH; others are not counted. */
void plog__times_came(plog_times *t, int32_t kind, int64_t size_bytes);
/* Its answer of so many bytes, which may be none, is the last of pending_bytes that the kernel is to have. */
void plog__times_answered(plog_answers *answers, int32_t kind, int64_t came_ns, int64_t waited_ns, int64_t size_bytes,
                          int64_t pending_bytes);
/* The kernel took so many bytes more. */
void plog__times_sent(plog_answers *answers, int64_t sent_bytes);
/* Nothing more is sent: what is unsent is not counted. */
void plog__times_drop(plog_answers *answers);
/* What is known of a kind now. Any thread. */
void plog__times_read(const plog_times *t, int32_t kind, plog_request_times *out);
static inline int64_t plog__counted(const _Atomic int64_t *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}
/* The first bucket whose bound is no less. */
int32_t plog__time_bucket(int64_t ns);

#endif
