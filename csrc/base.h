/*
 * base.h: what every other file may use: assertions that stay on, min/max, memory by the page, and an intrusive doubly linked
 * list.
 */
#ifndef PLOG_BASE_H
#define PLOG_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void plog__assert_fail(const char *condition, const char *file, int line);

/* On in every build: a broken promise inside stops the process before it can damage a log. */
#define plog_assert(condition) ((condition) ? (void)0 : plog__assert_fail(#condition, __FILE__, __LINE__))

#define PLOG_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PLOG_MAX(a, b) ((a) > (b) ? (a) : (b))
#define PLOG_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PLOG_CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/*
 * Memory that begins at a page, for lumps of files; free it with free(). NULL when there is none. malloc puts large blocks 16
 * bytes behind a page's beginning, and AMD's processors copy ten times slower to addresses that lie 1 to 31 bytes (modulo 4096)
 * behind those copied from: reading a file from a page's beginning cost 0.36 s per GB instead of 0.04.
 */
void *plog__pages_alloc(size_t size_bytes);

/* A list node, and a list's head; a node that is in no list points to itself. */
typedef struct plog_link plog_link;
struct plog_link {
  plog_link *prev;
  plog_link *next;
};

static inline void plog_list_init(plog_link *l) {
  l->prev = l;
  l->next = l;
}

static inline bool plog_list_empty(const plog_link *l) {
  return l->next == l;
}

/* Insert node before `at`: at a head, that is the end of its list. */
static inline void plog_list_insert(plog_link *at, plog_link *node) {
  node->prev = at->prev;
  node->next = at;
  at->prev->next = node;
  at->prev = node;
}

/* Take node out; harmless when it is in no list. */
static inline void plog_list_remove(plog_link *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  plog_list_init(node);
}

/* Take the first node out of a list that has one. */
static inline plog_link *plog_list_take(plog_link *l) {
  plog_link *node = l->next;
  plog_list_remove(node);
  plog_assert(l->next != node);
  return node;
}

#endif
