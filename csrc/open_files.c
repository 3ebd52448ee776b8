#include "open_files.h"

void plog__open_files_init(plog_open_files *files) {
  int rc = pthread_mutex_init(&files->lock, NULL);
  plog_assert(rc == 0); /* a default mutex needs nothing that could be short */
  for (int kind = 0; kind < PLOG_FILES_KINDS; kind++) {
    plog_list_init(&files->lists[kind].items);
    files->lists[kind].count = 0;
  }
  files->lists[PLOG_FILES_CLOSED].capacity = PLOG_OPEN_CLOSED_DEFAULT;
  files->lists[PLOG_FILES_ACTIVE].capacity = PLOG_OPEN_ACTIVE_DEFAULT;
}

void plog__open_files_deinit(plog_open_files *files) {
  for (int kind = 0; kind < PLOG_FILES_KINDS; kind++) plog_assert(files->lists[kind].count == 0);
  (void)pthread_mutex_destroy(&files->lock);
}

void plog__open_item_init(plog_open_item *item) {
  plog_list_init(&item->link);
  item->present = false;
  atomic_store_explicit(&item->used, false, memory_order_relaxed);
}

bool plog__open_files_add(plog_open_files *files, plog_files_kind kind, plog_open_item *item) {
  (void)pthread_mutex_lock(&files->lock);
  bool added = !item->present;
  if (added) {
    plog_list_insert(&files->lists[kind].items, &item->link);
    item->kind = kind;
    item->present = true;
    atomic_store_explicit(&item->used, false, memory_order_relaxed);
    files->lists[kind].count++;
  }
  (void)pthread_mutex_unlock(&files->lock);
  return added;
}

static void take_out(plog_open_files *files, plog_open_item *item) {
  plog_list_remove(&item->link);
  item->present = false;
  files->lists[item->kind].count--;
}

bool plog__open_files_remove(plog_open_files *files, plog_open_item *item) {
  (void)pthread_mutex_lock(&files->lock);
  bool present = item->present;
  if (present) take_out(files, item);
  (void)pthread_mutex_unlock(&files->lock);
  return present;
}

/* One that was used since it was last looked at gets another round, and so does the newest: others are there for less. */
static plog_open_item *choose(plog_open_list *list) {
  const plog_link *newest = list->items.prev;
  for (int32_t left = 2 * list->count;; left--) {
    plog_open_item *item = PLOG_CONTAINER_OF(list->items.next, plog_open_item, link);
    bool stays = atomic_exchange_explicit(&item->used, false, memory_order_relaxed) || &item->link == newest;
    if (!stays || left == 0) return item; /* all of them are used again and again */
    plog_list_remove(&item->link);
    plog_list_insert(&list->items, &item->link);
  }
}

plog_open_item *plog__open_files_excess(plog_open_files *files, plog_files_kind kind) {
  plog_open_item *found = NULL;
  plog_open_list *list = &files->lists[kind];
  (void)pthread_mutex_lock(&files->lock);
  if (list->count > list->capacity) {
    found = choose(list);
    take_out(files, found);
  }
  (void)pthread_mutex_unlock(&files->lock);
  return found;
}

void plog__open_files_limit(plog_open_files *files, plog_files_kind kind, int32_t capacity) {
  (void)pthread_mutex_lock(&files->lock);
  files->lists[kind].capacity = capacity;
  (void)pthread_mutex_unlock(&files->lock);
}

int32_t plog__open_files_count(plog_open_files *files, plog_files_kind kind) {
  (void)pthread_mutex_lock(&files->lock);
  int32_t count = files->lists[kind].count;
  (void)pthread_mutex_unlock(&files->lock);
  return count;
}
