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
  plog_consumer_terms terms;
  uint8_t host[PLOG_HOST_BYTES]; /* of a consumer */
  bool published;
  bool is_consumer;
  bool is_static;
  uint16_t group_bytes;
  uint16_t member_bytes;
  uint16_t instance_bytes;
  uint16_t client_bytes; /* of a consumer */
  uint8_t text[];        /* group id, member id, instance id, client id */
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
  if (!member || !member->published || member->terms.epoch != h->epoch) return NULL;
  const uint8_t *instance = member->text + member->group_bytes + member->member_bytes;
  /* Who does not say the instance id is asked for its member id alone, as Kafka does. */
  bool is_it = !h->instance_id.data || (member->is_static && same(instance, member->instance_bytes, h->instance_id));
  return is_it ? member : NULL;
}

bool plog__members_hear(plog_members *m, const plog_heartbeat *h, int64_t now_ms) {
  uint64_t hash = hash_of(m, h->group_id, h->member_id);
  pthread_mutex_lock(&m->lock);
  plog_member *member = find_published(m, h, hash);
  bool is_heard = member && !member->is_consumer;
  if (is_heard) member->heard_ms = now_ms;
  pthread_mutex_unlock(&m->lock);
  return is_heard;
}

/* Whether it comes from where it came from, to topics that are what they were. Holding the lock. */
static bool is_unmoved(const plog_members *m, const plog_member *member, const plog_consumer_heartbeat *h) {
  if (!member->is_consumer || member->terms.topics != m->topics) return false;
  const uint8_t *client = member->text + member->group_bytes + member->member_bytes + member->instance_bytes;
  return memcmp(member->host, h->host, PLOG_HOST_BYTES) == 0 && same(client, member->client_bytes, h->client_id);
}

int32_t plog__members_hear_consumer(plog_members *m, const plog_consumer_heartbeat *h, int64_t now_ms) {
  uint64_t hash = hash_of(m, h->says.group_id, h->says.member_id);
  pthread_mutex_lock(&m->lock);
  plog_member *member = find_published(m, &h->says, hash);
  bool is_heard = member && is_unmoved(m, member, h);
  if (is_heard) member->heard_ms = now_ms;
  int32_t interval_ms = is_heard ? member->terms.heartbeat_interval_ms : -1;
  pthread_mutex_unlock(&m->lock);
  return interval_ms;
}

int64_t plog__members_commits_to(plog_members *m, const plog_heartbeat *who, int16_t version, int64_t now_ms) {
  uint64_t hash = hash_of(m, who->group_id, who->member_id);
  pthread_mutex_lock(&m->lock);
  plog_member *member = find_published(m, who, hash);
  int64_t offsets = member && version >= member->terms.commits_since ? member->terms.offsets : -1;
  if (offsets >= 0 && !member->is_consumer) member->heard_ms = now_ms;
  pthread_mutex_unlock(&m->lock);
  return offsets;
}

void plog__members_topics_changed(plog_members *m, int64_t topics) {
  pthread_mutex_lock(&m->lock);
  m->topics = topics;
  pthread_mutex_unlock(&m->lock);
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

static plog_member *make(uint64_t hash, const plog_consumer_heartbeat *as, const plog_consumer_terms *terms) {
  const plog_bytes parts[] = {as->says.group_id, as->says.member_id, as->says.instance_id, as->client_id};
  size_t text_bytes = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(parts); i++) {
    plog_assert(parts[i].size_bytes <= UINT16_MAX);
    plog_assert(parts[i].data || parts[i].size_bytes == 0);
    text_bytes += parts[i].size_bytes;
  }
  plog_member *member = malloc(sizeof *member + text_bytes);
  if (!member) return NULL;
  *member = (plog_member){.hash = hash,
                          .heard_ms = -1,
                          .terms = *terms,
                          .published = true,
                          .is_consumer = as->host != NULL,
                          .is_static = as->says.instance_id.data != NULL,
                          .group_bytes = (uint16_t)as->says.group_id.size_bytes,
                          .member_bytes = (uint16_t)as->says.member_id.size_bytes,
                          .instance_bytes = (uint16_t)as->says.instance_id.size_bytes,
                          .client_bytes = (uint16_t)as->client_id.size_bytes};
  if (as->host) memcpy(member->host, as->host, PLOG_HOST_BYTES);
  uint8_t *at = member->text;
  for (size_t i = 0; i < PLOG_COUNT_OF(parts); i++) {
    if (parts[i].size_bytes) memcpy(at, parts[i].data, parts[i].size_bytes);
    at += parts[i].size_bytes;
  }
  return member;
}

static int32_t publish(plog_members *m, const plog_consumer_heartbeat *as, const plog_consumer_terms *terms) {
  uint64_t hash = hash_of(m, as->says.group_id, as->says.member_id);
  plog_member *fresh = make(hash, as, terms);
  if (!fresh) return -ENOMEM;
  plog_member *former = NULL;
  pthread_mutex_lock(&m->lock);
  int32_t rc = grow(m);
  if (rc == 0) {
    plog_member **at = place_of(m, hash, as->says.group_id, as->says.member_id);
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

int32_t plog__members_publish(plog_members *m, const plog_heartbeat *as, int64_t offsets) {
  plog_consumer_heartbeat says = {.says = *as, .host = NULL};
  plog_consumer_terms terms = {.epoch = as->epoch, .offsets = offsets};
  return publish(m, &says, &terms);
}

int32_t plog__members_publish_consumer(plog_members *m, const plog_consumer_heartbeat *as,
                                       const plog_consumer_terms *terms) {
  plog_assert(as->host && as->says.epoch == terms->epoch && terms->heartbeat_interval_ms >= 0);
  return publish(m, as, terms);
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
