/*
 * purgatory.c: see purgatory.h.
 */
#include "purgatory.h"

#define WATCH_OF(node) PLOG_CONTAINER_OF(node, plog_watch, link)

void plog__watch_init(plog_watch *watch, void (*fire)(plog_watch *watch, int32_t error, int64_t now_ms)) {
  plog_list_init(&watch->link);
  watch->offset = 0;
  watch->fire = fire;
}

void plog__watch_offset(plog_link *list, plog_watch *watch, int64_t offset) {
  plog_assert(!plog__watch_waits(watch));
  watch->offset = offset;
  plog_link *before = list;
  while (before->prev != list && WATCH_OF(before->prev)->offset > offset) before = before->prev;
  plog_list_insert(before, &watch->link);
}

void plog__watch_any(plog_link *list, plog_watch *watch) {
  plog_assert(!plog__watch_waits(watch));
  plog_list_insert(list, &watch->link);
}

void plog__watch_cancel(plog_watch *watch) {
  plog_list_remove(&watch->link);
}

void plog__watches_fire_upto(plog_link *list, int64_t reached, int64_t now_ms) {
  while (!plog_list_empty(list)) {
    plog_watch *watch = WATCH_OF(list->next);
    if (watch->offset > reached) break;
    plog_list_remove(&watch->link);
    watch->fire(watch, 0, now_ms);
  }
}

void plog__watches_fire_all(plog_link *list, int32_t error, int64_t now_ms) {
  if (plog_list_empty(list)) return;
  /* Moved to a list of our own first, so that a watch set again meanwhile is not fired twice. */
  plog_link firing;
  plog_list_init(&firing);
  firing.next = list->next;
  firing.prev = list->prev;
  firing.next->prev = &firing;
  firing.prev->next = &firing;
  plog_list_init(list);
  while (!plog_list_empty(&firing)) {
    plog_watch *watch = WATCH_OF(firing.next);
    plog_list_remove(&watch->link);
    watch->fire(watch, error, now_ms);
  }
}
