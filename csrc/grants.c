/*
 * grants.c: see grants.h.
 */
#include "grants.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define BUCKETS_FIRST 64u

struct plog_grant {
  plog_grant *next; /* in its bucket */
  plog_link unanswered;
  plog_link waits; /* while it is unanswered */
  uint32_t operations;
  bool known;
  int32_t principal;
  int32_t resource;
  uint32_t name_bytes;
  uint8_t name[];
};

void plog__grants_init(plog_grants *g, uint64_t hash_key, uint32_t span_bytes) {
  memset(g, 0, sizeof *g);
  plog_list_init(&g->unanswered);
  g->hash_key = hash_key;
  g->generation = 1;
  g->span_bytes = span_bytes;
}

uint64_t plog__grant_bytes(uint32_t name_bytes) {
  return sizeof(plog_grant) + name_bytes;
}

/* ------------------------------------------------------------------------------------------------ letting go */

static void fire_waits(plog_grant *grant) {
  plog_link waits;
  plog_list_init(&waits);
  while (!plog_list_empty(&grant->waits)) plog_list_insert(&waits, plog_list_take(&grant->waits));
  while (!plog_list_empty(&waits)) {
    plog_grant_wait *wait = PLOG_CONTAINER_OF(plog_list_take(&waits), plog_grant_wait, link);
    wait->grant = NULL;
    wait->fire(wait);
  }
}

static void free_grant(plog_grant *grant) {
  plog_list_remove(&grant->unanswered);
  fire_waits(grant);
  free(grant);
}

static void drop_span(plog_grant_span *span) {
  for (uint32_t i = 0; i < span->bucket_count; i++) {
    while (span->buckets[i]) {
      plog_grant *grant = span->buckets[i];
      span->buckets[i] = grant->next;
      free_grant(grant);
    }
  }
  free(span->buckets);
  memset(span, 0, sizeof *span);
}

void plog__grants_revoke(plog_grants *g) {
  g->generation++;
  g->everyone = 0;
  drop_span(&g->young);
  drop_span(&g->old);
}

void plog__grants_deinit(plog_grants *g) {
  drop_span(&g->young);
  drop_span(&g->old);
  free(g->listener_principals);
}

/* ------------------------------------------------------------------------------------------------ finding */

static plog_grant **bucket_of(const plog_grants *g, const plog_grant_span *span, const plog_grant_key *key) {
  uint64_t who = plog__hash_mix((uint64_t)(uint32_t)key->principal << 8 | (uint32_t)key->resource, g->hash_key | 1);
  return &span->buckets[plog__hash(who ^ g->hash_key, key->name, key->name_bytes) & (span->bucket_count - 1)];
}

static bool is_about(const plog_grant *grant, const plog_grant_key *key) {
  return grant->principal == key->principal && grant->resource == key->resource && grant->name_bytes == key->name_bytes &&
         memcmp(grant->name, key->name, key->name_bytes) == 0;
}

static plog_grant *find_in(const plog_grants *g, const plog_grant_span *span, const plog_grant_key *key) {
  if (!span->bucket_count) return NULL;
  plog_grant *grant = *bucket_of(g, span, key);
  while (grant && !is_about(grant, key)) grant = grant->next;
  return grant;
}

static plog_grant *find(const plog_grants *g, const plog_grant_key *key) {
  plog_grant *grant = find_in(g, &g->young, key);
  return grant ? grant : find_in(g, &g->old, key);
}

static plog_grant_key whole_of(int32_t principal) {
  return (plog_grant_key){
      .principal = principal, .resource = PLOG_RESOURCE_ANY, .name = (const uint8_t *)"", .name_bytes = 0};
}

plog_verdict plog__grants_find(const plog_grants *g, const plog_grant_key *key, uint32_t operation) {
  if (plog__grants_everyone(g, operation)) return PLOG_ALLOWED;
  const plog_grant *grant = find(g, key);
  if (grant && (grant->operations & operation)) return PLOG_ALLOWED;
  plog_grant_key whole = whole_of(key->principal);
  const plog_grant *everything = find(g, &whole);
  if (everything && (everything->operations & operation)) return PLOG_ALLOWED;
  return grant && grant->known ? PLOG_DENIED : PLOG_UNKNOWN;
}

/* ------------------------------------------------------------------------------------------------ entering */

static void link_grant(const plog_grants *g, plog_grant_span *span, plog_grant *grant) {
  plog_grant_key key = {grant->principal, grant->resource, grant->name, grant->name_bytes};
  plog_grant **bucket = bucket_of(g, span, &key);
  grant->next = *bucket;
  *bucket = grant;
}

/* Room for one more; without memory for more buckets the chains just get longer. */
static int32_t grow(const plog_grants *g, plog_grant_span *span) {
  if (span->count < span->bucket_count) return 0;
  plog_grant_span wider = *span;
  wider.bucket_count = span->bucket_count ? span->bucket_count * 4 : BUCKETS_FIRST;
  wider.buckets = calloc(wider.bucket_count, sizeof(plog_grant *));
  if (!wider.buckets) return span->bucket_count ? 0 : -ENOMEM;
  for (uint32_t i = 0; i < span->bucket_count; i++) {
    for (plog_grant *grant = span->buckets[i], *next; grant; grant = next) {
      next = grant->next;
      link_grant(g, &wider, grant);
    }
  }
  free(span->buckets);
  *span = wider;
  return 0;
}

/* A new pair in the young span, unanswered. NULL: no memory */
static plog_grant *enter(plog_grants *g, const plog_grant_key *key) {
  uint64_t size_bytes = plog__grant_bytes(key->name_bytes);
  if (g->young.held_bytes + size_bytes > g->span_bytes && g->young.count > 0) {
    drop_span(&g->old);
    g->old = g->young;
    memset(&g->young, 0, sizeof g->young);
  }
  if (grow(g, &g->young)) return NULL;
  plog_grant *grant = malloc(size_bytes);
  if (!grant) return NULL;
  grant->operations = 0;
  grant->known = false;
  grant->principal = key->principal;
  grant->resource = key->resource;
  grant->name_bytes = key->name_bytes;
  memcpy(grant->name, key->name, key->name_bytes);
  plog_list_init(&grant->waits);
  plog_list_init(&grant->unanswered);
  plog_list_insert(&g->unanswered, &grant->unanswered);
  link_grant(g, &g->young, grant);
  g->young.count++;
  g->young.held_bytes += size_bytes;
  return grant;
}

plog_grant *plog__grants_ask(plog_grants *g, const plog_grant_key *key, bool *out_first) {
  plog_grant *grant = find(g, key);
  *out_first = !grant;
  if (!grant) grant = enter(g, key);
  plog_assert(!grant || !grant->known);
  return grant;
}

void plog__grants_wait(plog_grant *grant, plog_grant_wait *wait) {
  plog_assert(!grant->known);
  wait->grant = grant;
  plog_list_init(&wait->link);
  plog_list_insert(&grant->waits, &wait->link);
}

void plog__grants_forget(plog_grants *g, plog_grant *grant) {
  plog_assert(!grant->known);
  plog_grant_key key = {grant->principal, grant->resource, grant->name, grant->name_bytes};
  plog_grant_span *span = find_in(g, &g->young, &key) == grant ? &g->young : &g->old;
  plog_grant **at = bucket_of(g, span, &key);
  while (*at != grant) at = &(*at)->next;
  *at = grant->next;
  span->count--;
  span->held_bytes -= plog__grant_bytes(grant->name_bytes);
  free_grant(grant);
}

/* What was asked about this principal may be answered by what holds for all resources: whoever waits looks again. */
static void forget_unanswered(plog_grants *g, int32_t principal) {
  plog_link kept;
  plog_list_init(&kept);
  while (!plog_list_empty(&g->unanswered)) {
    plog_grant *grant = PLOG_CONTAINER_OF(plog_list_take(&g->unanswered), plog_grant, unanswered);
    if (principal == PLOG_PRINCIPAL_ANY || grant->principal == principal)
      plog__grants_forget(g, grant);
    else
      plog_list_insert(&kept, &grant->unanswered);
  }
  while (!plog_list_empty(&kept)) plog_list_insert(&g->unanswered, plog_list_take(&kept));
}

int32_t plog__grants_publish(plog_grants *g, const plog_grant_key *key, uint32_t operations, int64_t generation) {
  if (generation != 0 && generation != g->generation) return 0;
  if (key->principal == PLOG_PRINCIPAL_ANY) {
    plog_assert(key->resource == PLOG_RESOURCE_ANY);
    g->everyone = operations;
    forget_unanswered(g, PLOG_PRINCIPAL_ANY);
    return 0;
  }
  plog_grant_key whole = whole_of(key->principal);
  plog_grant_key about = key->resource == PLOG_RESOURCE_ANY ? whole : *key;
  plog_grant *grant = find(g, &about);
  if (!grant) grant = enter(g, &about);
  if (!grant) return -ENOMEM;
  grant->known = true;
  grant->operations = operations;
  plog_list_remove(&grant->unanswered);
  fire_waits(grant);
  if (about.resource == PLOG_RESOURCE_ANY) forget_unanswered(g, about.principal);
  return 0;
}

/* ------------------------------------------------------------------------------------------------ listeners */

int32_t plog__grants_set_listener(plog_grants *g, int32_t listener_id, int32_t principal) {
  if (listener_id >= g->listener_count) {
    int32_t *grown = realloc(g->listener_principals, ((size_t)listener_id + 1) * sizeof *grown);
    if (!grown) return -ENOMEM;
    g->listener_principals = grown;
    while (g->listener_count <= listener_id) grown[g->listener_count++] = 0;
  }
  g->listener_principals[listener_id] = principal;
  return 0;
}

int32_t plog__grants_listener_principal(const plog_grants *g, int32_t listener_id) {
  return listener_id < g->listener_count ? g->listener_principals[listener_id] : 0;
}
