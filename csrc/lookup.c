/*
 * lookup.c: see lookup.h.
 */
#include "lookup.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

static void look_up(const char *host, int32_t port, int flags, plog_addresses *out) {
  char service[16];
  (void)snprintf(service, sizeof service, "%d", (int)port);
  struct addrinfo hints, *list;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  memset(out, 0, sizeof *out);
  if (getaddrinfo(host, service, &hints, &list)) return;
  for (const struct addrinfo *at = list; at && out->count < PLOG_LOOKUP_MAX; at = at->ai_next)
    if (at->ai_addrlen <= sizeof out->found[0]) memcpy(&out->found[out->count++], at->ai_addr, at->ai_addrlen);
  freeaddrinfo(list);
}

bool plog__lookup_text(const char *host, int32_t port, plog_addresses *out) {
  look_up(host, port, AI_NUMERICHOST, out);
  return out->count > 0;
}

static void work(plog_disk_task *task, plog_sys *sys, uint8_t *scratch) {
  (void)sys;
  (void)scratch;
  plog_lookup *lookup = PLOG_CONTAINER_OF(task, plog_lookup, task);
  look_up(lookup->host, lookup->port, 0, &lookup->addresses);
}

int32_t plog__lookup_start(plog_disk_pool *pool, plog_lookup *lookup) {
  lookup->task.work = work;
  return plog__disk_pool_put(pool, &lookup->task);
}
