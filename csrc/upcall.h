/*
 * upcall.h: what the reactor tells Python: a queue that one Python thread drains in batches.
 *
 * The reactor collects during a turn and publishes at its end, one lock for all, one wake-up when somebody waits. The bytes of
 * a request, and the name in a question about grants, live in their entry until plog__upcall_release.
 */
#ifndef PLOG_UPCALL_H
#define PLOG_UPCALL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base.h"
#include "plog.h"
#include "sys.h"

typedef struct plog_upcall_entry plog_upcall_entry;

typedef struct {
  plog_sys *sys;
  plog_upcall_entry *collected_first; /* the reactor's, not published yet */
  plog_upcall_entry *collected_last;
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t filled;
  plog_upcall_entry *first;
  plog_upcall_entry *last;
  bool waiting;
  bool woken;
  bool stopped;
  _Atomic int64_t behind_bytes; /* of offsets that Python has not taken */
} plog_upcalls;

void plog__upcalls_init(plog_upcalls *u, plog_sys *sys);
void plog__upcalls_deinit(plog_upcalls *u);
/* Copy a fact or a request (its client id and body too). Reactor. 0 | -ENOMEM */
int32_t plog__upcalls_collect(plog_upcalls *u, const plog_upcall *upcall);
/* The same in two steps, of which the second cannot fail; between them the fact may be changed, but for its bytes. NULL: no memory */
plog_upcall_entry *plog__upcall_make(const plog_upcall *upcall);
plog_upcall *plog__upcall_of(plog_upcall_entry *entry);
void plog__upcalls_put(plog_upcalls *u, plog_upcall_entry *entry); /* reactor */
void plog__upcall_drop(plog_upcall_entry *entry);                  /* one that was not put. Harmless with NULL */
/* Bytes of PLOG_UP_OFFSETS that Python has not taken yet. any */
static inline int64_t plog__upcalls_behind(const plog_upcalls *u) {
  return atomic_load_explicit(&u->behind_bytes, memory_order_relaxed);
}
void plog__upcalls_publish(plog_upcalls *u); /* reactor */
void plog__upcalls_stop(plog_upcalls *u);    /* any */
void plog__upcalls_wake(plog_upcalls *u);    /* any */
/* As plog_engine_poll says. */
int32_t plog__upcalls_poll(plog_upcalls *u, int32_t timeout_ms, plog_upcall *out, int32_t capacity, int32_t *count);
void plog__upcall_release(const plog_upcall *upcall);

#endif
