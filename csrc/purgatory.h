/*
 * purgatory.h: what waits for a partition to move: delayed produce and delayed fetch.
 *
 * A watch lives inside the request that waits and hangs in a list of the partition it watches:
 *   - a list of offset watches is in ascending order of the offset; when the high watermark passes, its front fires;
 *   - a list of plain watches fires whole, each time anything moves.
 * A watch is taken out of its list before it fires, so a firing watch may be set again, in another list too, or freed. How
 * long a request waits is a timer of its own (timer.h). Reactor thread, no locks.
 */
#ifndef PLOG_PURGATORY_H
#define PLOG_PURGATORY_H

#include "base.h"

typedef struct plog_watch plog_watch;
struct plog_watch {
  plog_link link;
  int64_t offset; /* fires when the high watermark is at or past it */
  /* error: 0, or the Kafka error that ends the wait. */
  void (*fire)(plog_watch *watch, int32_t error, int64_t now_ms);
};

void plog__watch_init(plog_watch *watch, void (*fire)(plog_watch *watch, int32_t error, int64_t now_ms));
/* Wait for offset, in a list ordered by offset. The newest usually waits for the largest: searched from the end. */
void plog__watch_offset(plog_link *list, plog_watch *watch, int64_t offset);
/* Wait for anything. */
void plog__watch_any(plog_link *list, plog_watch *watch);
/* Harmless when it does not wait. */
void plog__watch_cancel(plog_watch *watch);
static inline bool plog__watch_waits(const plog_watch *watch) {
  return !plog_list_empty(&watch->link);
}
/* Fire all with offset <= reached. */
void plog__watches_fire_upto(plog_link *list, int64_t reached, int64_t now_ms);
/* Fire those that wait now; what sets itself again while this runs waits for the next time. */
void plog__watches_fire_all(plog_link *list, int32_t error, int64_t now_ms);

#endif
