/*
 * inbox.h: how other threads reach the reactor: a lock-free list of messages and an eventfd that is written only when the
 * reactor sleeps.
 *
 * Any thread puts; the reactor takes all at once, oldest first. Before it sleeps it says so, looks once more, and only then
 * waits; a putter that sees it asleep wakes it. So a message is never left lying while the reactor sleeps.
 */
#ifndef PLOG_INBOX_H
#define PLOG_INBOX_H

#include <stdatomic.h>

#include "base.h"
#include "sys.h"

typedef struct plog_message plog_message;
struct plog_message {
  plog_message *next;
  /* Runs on the reactor; the message is the callee's from then on. */
  void (*run)(plog_message *message, void *reactor);
};

typedef struct {
  _Atomic(plog_message *) newest;
  _Atomic bool asleep;
  plog_sys *sys;
  int wake_fd;
} plog_inbox;

int32_t plog__inbox_init(plog_inbox *inbox, plog_sys *sys);
void plog__inbox_deinit(plog_inbox *inbox);
void plog__inbox_put(plog_inbox *inbox, plog_message *message); /* any thread */
/* Put without waking: whoever does has plog__inbox_tell called before it sleeps itself. Any thread. */
void plog__inbox_lay(plog_inbox *inbox, plog_message *message);
/* Wake the reactor if there is something to run. Any thread. */
void plog__inbox_tell(plog_inbox *inbox);
void plog__inbox_wake(plog_inbox *inbox); /* any thread */
/* Run everything that is there. Reactor. */
void plog__inbox_run(plog_inbox *inbox, void *reactor);
/* About to sleep: false when there is something to run instead. Reactor. */
bool plog__inbox_sleep(plog_inbox *inbox);
/* Awake again; drained: the eventfd was ready. Reactor. */
void plog__inbox_awake(plog_inbox *inbox, bool drained);

#endif
