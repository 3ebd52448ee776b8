/*
 * members.c: see members.h.
 */
#include "members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define BUCKETS_FIRST 64u

struct plog_member {
  plog_member *next; /* in its bucket */
  uint64_t hash;
  int64_t heard_ms; /* -1: never */
  int64_t offsets;  /* -1: not here */
  int32_t epoch;
  bool published;
  bool is_static;
  uint16_t group_bytes;
  uint16_t member_bytes;
  uint16_t instance_bytes;
  uint8_t text[]; /* group id, member id, instance id */
};

void plog__members_init(plog_members *m, uint64_t hash_key) {
  memset(m, 0, sizeof *m);
  m->hash_key = hash_key;
  plog_assert(pthread_mutex_init(&m->lock, NULL) == 0);
}

void plog__members_deinit(plog_members *m) {
  for (uint32_t i = 0; i < m->bucket_count; i++) {
    while (m->buckets[i]) {
      plog_member *member = m->buckets[i];
      m->buckets[i] = member->next;
      free(member);
    }
  }
  free(m->buckets);
  (void)pthread_mutex_destroy(&m->lock);
}

/* ------------------------------------------------------------------------------------------------ finding */

static bool same(const uint8_t *text, size_t text_bytes, plog_bytes other) {
  return text_bytes == other.size_bytes && (text_bytes == 0 || memcmp(text, other.data, text_bytes) == 0);
}

static uint64_t hash_of(const plog_members *m, plog_bytes group_id, plog_bytes member_id) {
  uint64_t group = plog__hash(m->hash_key, group_id.data ? group_id.data : (const uint8_t *)"", group_id.size_bytes);
  return plog__hash(group, member_id.data ? member_id.data : (const uint8_t *)"", member_id.size_bytes);
}

static plog_member **bucket_of(const plog_members *m, uint64_t hash) {
  return &m->buckets[hash & (m->bucket_count - 1)];
}

/* Where the member is linked, or would be at the end of its chain. Holding the lock, with buckets. */
static plog_member **place_of(const plog_members *m, uint64_t hash, plog_bytes group_id, plog_bytes member_id) {
  plog_member **at = bucket_of(m, hash);
  for (; *at; at = &(*at)->next) {
    const plog_member *member = *at;
    if (member->hash != hash) continue;
    if (!same(member->text, member->group_bytes, group_id)) continue;
    if (same(member->text + member->group_bytes, member->member_bytes, member_id)) break;
  }
  return at;
}

/* The member, if this is what was published. Holding the lock. */
static plog_member *find_published(const plog_members *m, const plog_heartbeat *h, uint64_t hash) {
  plog_member *member = m->count ? *place_of(m, hash, h->group_id, h->member_id) : NULL;
  if (!member || !member->published || member->epoch != h->epoch) return NULL;
  const uint8_t *instance = member->text + member->group_bytes + member->member_bytes;
  /* Who does not say the instance id is asked for its member id alone, as Kafka does. */
  bool is_it = !h->instance_id.data || (member->is_static && same(instance, member->instance_bytes, h->instance_id));
  return is_it ? member : NULL;
}

bool plog__members_hear(plog_members *m, const plog_heartbeat *h, int64_t now_ms) {
  uint64_t hash = hash_of(m, h->group_id, h->member_id);
  pthread_mutex_lock(&m->lock);
  plog_member *member = find_published(m, h, hash);
  if (member) member->heard_ms = now_ms;
  pthread_mutex_unlock(&m->lock);
  return member != NULL;
}

int64_t plog__members_commits_to(plog_members *m, const plog_heartbeat *who, int64_t now_ms) {
  uint64_t hash = hash_of(m, who->group_id, who->member_id);
  pthread_mutex_lock(&m->lock);
  plog_member *member = find_published(m, who, hash);
  int64_t offsets = member ? member->offsets : -1;
  if (offsets >= 0) member->heard_ms = now_ms;
  pthread_mutex_unlock(&m->lock);
  return offsets;
}

int64_t plog__members_heard_ms(plog_members *m, plog_bytes group_id, plog_bytes member_id) {
  uint64_t hash = hash_of(m, group_id, member_id);
  pthread_mutex_lock(&m->lock);
  const plog_member *member = m->count ? *place_of(m, hash, group_id, member_id) : NULL;
  int64_t heard_ms = member ? member->heard_ms : -1;
  pthread_mutex_unlock(&m->lock);
  return heard_ms;
}

/* ------------------------------------------------------------------------------------------------ entering, leaving */

/* Room for one more; without memory for more buckets the chains just get longer. Holding the lock. */
static int32_t grow(plog_members *m) {
  if (m->count < m->bucket_count) return 0;
  uint32_t count = m->bucket_count ? m->bucket_count * 4 : BUCKETS_FIRST;
  plog_member **buckets = calloc(count, sizeof(plog_member *));
  if (!buckets) return m->bucket_count ? 0 : -ENOMEM;
  for (uint32_t i = 0; i < m->bucket_count; i++) {
    for (plog_member *member = m->buckets[i], *next; member; member = next) {
      next = member->next;
      member->next = buckets[member->hash & (count - 1)];
      buckets[member->hash & (count - 1)] = member;
    }
  }
  free(m->buckets);
  m->buckets = buckets;
  m->bucket_count = count;
  return 0;
}

static plog_member *make(uint64_t hash, const plog_heartbeat *as, int64_t offsets) {
  plog_assert(as->group_id.size_bytes <= UINT16_MAX);
  plog_assert(as->member_id.size_bytes <= UINT16_MAX);
  plog_assert(as->instance_id.size_bytes <= UINT16_MAX);
  plog_assert(as->instance_id.data || as->instance_id.size_bytes == 0);
  plog_member *member =
      malloc(sizeof *member + as->group_id.size_bytes + as->member_id.size_bytes + as->instance_id.size_bytes);
  if (!member) return NULL;
  *member = (plog_member){.hash = hash,
                          .heard_ms = -1,
                          .offsets = offsets,
                          .epoch = as->epoch,
                          .published = true,
                          .is_static = as->instance_id.data != NULL,
                          .group_bytes = (uint16_t)as->group_id.size_bytes,
                          .member_bytes = (uint16_t)as->member_id.size_bytes,
                          .instance_bytes = (uint16_t)as->instance_id.size_bytes};
  uint8_t *at = member->text;
  const plog_bytes parts[] = {as->group_id, as->member_id, as->instance_id};
  for (size_t i = 0; i < PLOG_COUNT_OF(parts); i++) {
    if (parts[i].size_bytes) memcpy(at, parts[i].data, parts[i].size_bytes);
    at += parts[i].size_bytes;
  }
  return member;
}

int32_t plog__members_publish(plog_members *m, const plog_heartbeat *as, int64_t offsets) {
  uint64_t hash = hash_of(m, as->group_id, as->member_id);
  plog_member *fresh = make(hash, as, offsets);
  if (!fresh) return -ENOMEM;
  plog_member *former = NULL;
  pthread_mutex_lock(&m->lock);
  int32_t rc = grow(m);
  if (rc == 0) {
    plog_member **at = place_of(m, hash, as->group_id, as->member_id);
    former = *at;
    if (former) {
      fresh->heard_ms = former->heard_ms;
      fresh->next = former->next;
    } else {
      m->count++;
    }
    *at = fresh;
  }
  pthread_mutex_unlock(&m->lock);
  free(rc == 0 ? former : fresh);
  return rc;
}

void plog__members_withdraw(plog_members *m, plog_bytes group_id, plog_bytes member_id, bool forget) {
  uint64_t hash = hash_of(m, group_id, member_id);
  plog_member *gone = NULL;
  pthread_mutex_lock(&m->lock);
  if (m->count) {
    plog_member **at = place_of(m, hash, group_id, member_id);
    if (*at && forget) {
      gone = *at;
      *at = gone->next;
      m->count--;
    } else if (*at) {
      (*at)->published = false;
    }
  }
  pthread_mutex_unlock(&m->lock);
  free(gone);
}
