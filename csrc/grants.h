/*
 * grants.h: what each principal may do to each resource, as Python's authorizer has said.
 *
 * What stays true:
 *   - nothing is allowed that was not published since the last revocation; grants add up, and none of them takes away;
 *   - a pair of principal and resource is asked for once: it stays in the table, unanswered, until it is published;
 *   - whatever takes an unanswered pair out fires those who wait for it, so that they ask again and nobody is forgotten;
 *   - memory is bounded: pairs enter the young span; when that is full the old one is dropped and the young one grows old. So a
 *     pair outlives PLOG_GRANTS_SPAN_BYTES of newer ones, and a request that names no more than that finds all of its pairs
 *     together in the end.
 * Reactor thread only.
 */
#ifndef PLOG_GRANTS_H
#define PLOG_GRANTS_H

#include "base.h"
#include "plog.h"

#define PLOG_GRANTS_SPAN_BYTES (16u * 1024u * 1024u)

typedef enum { PLOG_DENIED, PLOG_ALLOWED, PLOG_UNKNOWN } plog_verdict;

/* Principal and resource; the name is borrowed. */
typedef struct {
  int32_t principal;
  int32_t resource; /* PLOG_RESOURCE_* */
  const uint8_t *name;
  uint32_t name_bytes;
} plog_grant_key;

typedef struct plog_grant plog_grant;

/* Whoever waits for a pair; out of its list when it fires. */
typedef struct plog_grant_wait plog_grant_wait;
struct plog_grant_wait {
  plog_link link;
  plog_grant *grant;
  void (*fire)(plog_grant_wait *wait);
};

typedef struct {
  plog_grant **buckets;
  uint32_t bucket_count; /* a power of two; 0: nothing was ever entered */
  uint32_t count;
  uint64_t held_bytes;
} plog_grant_span;

typedef struct {
  uint32_t everyone; /* PLOG_GRANT_* of every principal on every resource */
  plog_grant_span young;
  plog_grant_span old;
  plog_link unanswered;
  int64_t generation; /* raised by each revocation; from 1 */
  uint64_t hash_key;
  uint32_t span_bytes;
  int32_t *listener_principals; /* by listener id */
  int32_t listener_count;
} plog_grants;

void plog__grants_init(plog_grants *g, uint64_t hash_key, uint32_t span_bytes);
void plog__grants_deinit(plog_grants *g); /* nobody waits by then */

/* May every principal do all of these to everything? What a broker without an authorizer pays for the question. */
static inline bool plog__grants_everyone(const plog_grants *g, uint32_t operations) {
  return (g->everyone & operations) == operations;
}
plog_verdict plog__grants_find(const plog_grants *g, const plog_grant_key *key, uint32_t operation);
/* What a pair counts against the bound. */
uint64_t plog__grant_bytes(uint32_t name_bytes);
/* The pair, unanswered, to wait for; *out_first: nobody has asked for it yet. Good until the next call; NULL: no memory */
plog_grant *plog__grants_ask(plog_grants *g, const plog_grant_key *key, bool *out_first);
void plog__grants_wait(plog_grant *grant, plog_grant_wait *wait);
/* Nobody answers it: forget that it was asked. */
void plog__grants_forget(plog_grants *g, plog_grant *grant);
/*
 * Python's word. generation: of the question, and ignored when that is over; 0: it is true now. Resource PLOG_RESOURCE_ANY
 * is about every resource, principal PLOG_PRINCIPAL_ANY with it about everybody. 0 | -ENOMEM
 */
int32_t plog__grants_publish(plog_grants *g, const plog_grant_key *key, uint32_t operations, int64_t generation);
/* Nothing is known any more. */
void plog__grants_revoke(plog_grants *g);

/* Who a connection is as long as nobody has said so: its listener's principal. 0 | -ENOMEM */
int32_t plog__grants_set_listener(plog_grants *g, int32_t listener_id, int32_t principal);
int32_t plog__grants_listener_principal(const plog_grants *g, int32_t listener_id);

#endif
