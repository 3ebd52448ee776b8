/*
 * fetch_session.h: incremental fetch sessions (KIP-227): what a client fetches, remembered between its requests.
 *
 * A fetch set is the partitions of one fetch in the order they are served, each with what was asked, what was told last, and
 * what was read this time. A full fetch makes a set; when it is answered the set may become a session; an incremental fetch
 * changes its session's set and reads it again. A set serves one request at a time.
 *
 * The cache holds at most `slots` sessions. As in Kafka a full cache makes room by the session that was idle for two minutes,
 * else a new session may push out a smaller one (or one of a consumer, when it is a follower's) that is older than that.
 */
#ifndef PLOG_FETCH_SESSION_H
#define PLOG_FETCH_SESSION_H

#include <stdatomic.h>

#include "base.h"
#include "partition.h"
#include "purgatory.h"
#include "segment.h"
#include "topic.h"
#include "wire.h"

/* A topic as the client named it. */
typedef struct {
  int32_t refs;
  bool by_id;
  uint8_t id[PLOG_TOPIC_ID_BYTES];
  uint32_t name_bytes;
  uint8_t name[];
} plog_fetch_topic;

/* What one partition's read gave; slice and aborted are owned. */
typedef struct {
  int32_t error;
  int64_t high_watermark; /* -1 with an error, and so the next three */
  int64_t last_stable;
  int64_t log_start;
  bool diverging;
  int32_t diverging_epoch;
  int64_t diverging_end;
  bool sends_elsewhere; /* to an in-sync replica nearer to the reader, without records */
  int32_t preferred_id;
  int32_t leader_id; /* with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH */
  int32_t leader_epoch;
  plog_slice slice;
  int64_t *aborted; /* (producer id, first offset) pairs */
  int32_t aborted_count;
} plog_fetch_read;

typedef struct plog_fetch_partition plog_fetch_partition;
struct plog_fetch_partition {
  plog_link order;
  plog_fetch_partition *next; /* in its bucket */
  plog_fetch_topic *topic;
  int32_t index;
  /* asked */
  int32_t max_bytes;
  int64_t offset;
  int64_t log_start; /* of a follower */
  int32_t current_epoch;
  int32_t last_epoch;
  /* what its reader may do, found out when the request came */
  int32_t refused; /* 0, or the error it gets whatever the partition says */
  int32_t judged_principal;
  int64_t judged_generation; /* of the grants; 0: by none */
  /* told last */
  int64_t told_high_watermark;
  int64_t told_log_start;
  /* looked up; good while topics->generation is `generation` */
  plog_partition *partition;
  int64_t generation;
  /* this time */
  plog_watch watch;
  int64_t watched_bytes; /* partition's appended_bytes when the watch was set */
  int32_t forced_error;  /* the partition went away while the fetch was parked */
  bool settled;          /* parked with nothing to give, and nothing has moved since: what was read still holds */
  bool told;             /* is in the answer */
  struct plog_fetch *fetch;
  plog_fetch_read read;
};

typedef struct {
  plog_link order;
  uint32_t count;
  uint32_t bucket_count; /* 0: so few that they are searched one by one */
  plog_fetch_partition **buckets;
  uint64_t hash_key;
} plog_fetch_set;

void plog__fetch_set_init(plog_fetch_set *set, uint64_t hash_key);
void plog__fetch_set_deinit(plog_fetch_set *set);
/* A topic by name, or by id when id is not NULL; one reference, the caller's. NULL: no memory */
plog_fetch_topic *plog__fetch_topic_open(const uint8_t *id, const uint8_t *name, size_t name_bytes);
void plog__fetch_topic_close(plog_fetch_topic *topic);
plog_fetch_partition *plog__fetch_set_find(const plog_fetch_set *set, const plog_fetch_topic *topic, int32_t index);
/* Find or add at the end. NULL: no memory */
plog_fetch_partition *plog__fetch_set_put(plog_fetch_set *set, plog_fetch_topic *topic, int32_t index);
void plog__fetch_set_remove(plog_fetch_set *set, plog_fetch_partition *part);
/* Serve it last from now on. */
void plog__fetch_set_move_last(plog_fetch_set *set, plog_fetch_partition *part);
/* Let go of what was read. */
void plog__fetch_read_clear(plog_fetch_read *read);

typedef struct plog_fetch_session plog_fetch_session;
struct plog_fetch_session {
  plog_fetch_session *next; /* in its bucket */
  plog_link used;
  int32_t id;
  int32_t epoch; /* the next request's */
  int32_t refs;  /* the cache's and the requests' */
  bool cached;
  bool privileged; /* a follower's */
  bool by_id;
  int64_t created_ms;
  int64_t used_ms;
  uint32_t cached_count;    /* of partitions, when it was last used: what eviction compares */
  struct plog_fetch *fetch; /* the request that uses it now, or NULL */
  plog_fetch_set set;
};

typedef struct {
  plog_fetch_session **buckets;
  uint32_t bucket_count;
  plog_link used; /* longest unused first */
  int32_t slots;
  _Atomic int64_t count;
  uint64_t random;
} plog_fetch_sessions;

#define PLOG_SESSION_NONE 0
#define PLOG_SESSION_EPOCH_FIRST 0
#define PLOG_SESSION_EPOCH_LAST (-1)

int32_t plog__fetch_sessions_init(plog_fetch_sessions *s, int32_t slots, uint64_t seed);
void plog__fetch_sessions_deinit(plog_fetch_sessions *s);
/* The session with this id; NULL when there is none. */
plog_fetch_session *plog__fetch_sessions_find(const plog_fetch_sessions *s, int32_t id);
/*
 * Make a session of set, which it takes (set is left empty). NULL when the cache has no room for it, or no memory: the set is
 * still the caller's.
 */
plog_fetch_session *plog__fetch_sessions_add(plog_fetch_sessions *s, plog_fetch_set *set, bool privileged, bool by_id,
                                             int64_t now_ms);
/* It was used; its epoch goes on to the next. */
void plog__fetch_sessions_touch(plog_fetch_sessions *s, plog_fetch_session *session, int64_t now_ms);
/* Drop it from the cache; a request that holds it keeps it alive. */
void plog__fetch_sessions_remove(plog_fetch_sessions *s, plog_fetch_session *session);
void plog__fetch_session_hold(plog_fetch_session *session);
void plog__fetch_session_release(plog_fetch_session *session);

#endif
