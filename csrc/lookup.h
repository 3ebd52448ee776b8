/*
 * lookup.h: from the name of a host to its addresses, on a thread that may wait for a name server.
 *
 * An address in text is its own answer, at once. The result is good for one connection: it is looked up anew for the next.
 */
#ifndef PLOG_LOOKUP_H
#define PLOG_LOOKUP_H

#include <sys/socket.h>

#include "disk_pool.h"

#define PLOG_LOOKUP_MAX 8

typedef struct {
  int32_t count; /* 0: there is no such host, or nobody says */
  struct sockaddr_storage found[PLOG_LOOKUP_MAX];
} plog_addresses;

/* An address in text. False: it is none. */
bool plog__lookup_text(const char *host, int32_t port, plog_addresses *out);

typedef struct {
  plog_disk_task task; /* task.done.run is the asker's */
  plog_addresses addresses;
  int32_t port;
  char host[];
} plog_lookup;

/* Look it up; its message comes with the addresses, and the lookup is the asker's to free. 0 | -ENOMEM | -errno: no thread */
int32_t plog__lookup_start(plog_disk_pool *pool, plog_lookup *lookup);

#endif
