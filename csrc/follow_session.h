/*
 * follow_session.h: what is followed from one leader, and the fetch session with it (KIP-227) from the follower's side.
 *
 * A full request names every partition that can be asked for; when the leader makes a session of it, later ones name only what is
 * different, and what is to be forgotten. What stays true while a session stands: the partitions marked in_session, with what was
 * asked last, are those that the leader has in it. Whatever leaves that in doubt (an error of the whole request, a connection that
 * was lost, news that came too late to be taken) makes the next request a full one, which ends the old session.
 */
#ifndef PLOG_FOLLOW_SESSION_H
#define PLOG_FOLLOW_SESSION_H

#include "partition.h"
#include "throttle.h"
#include "wire.h"

typedef enum { PLOG_FOLLOW_ASKED, PLOG_FOLLOW_DELAYED, PLOG_FOLLOW_PAUSED } plog_follow_state;

/* What a request says of one partition. */
typedef struct {
  int64_t offset;
  int64_t log_start;
  int32_t leader_epoch;
  int32_t last_epoch;
} plog_follow_ask;

/* A followed partition; the partition points to it. */
typedef struct plog_followed plog_followed;
struct plog_followed {
  plog_partition *partition;
  struct plog_fetcher *fetcher;
  plog_link order;  /* in its session's list of all */
  plog_link queued; /* … of those to look at for the next request, or of those that are delayed */
  plog_follow_state state;
  int64_t due_ms;                /* DELAYED: until then */
  int32_t last_epoch;            /* of the last record in the log, -1 none */
  int64_t leader_high_watermark; /* as it was last told, -1 not yet */
  bool in_session;
  plog_follow_ask asked; /* last; good in a session */
  int32_t reported;      /* the error that Python was told and that lasts; 0 none */
};

typedef struct {
  plog_link all;
  plog_link changed;
  plog_link delayed; /* the earliest first */
  plog_link leaving; /* in the session, and followed no more */
  int32_t id;        /* the next request's */
  int32_t epoch;
  int32_t count;          /* of all */
  int32_t session_count;  /* of them, in_session */
  int32_t unnamed_count;  /* of them, topics without an id */
  bool by_id;             /* how the session names topics */
  bool full;              /* the last request was */
  bool doubtful;          /* since then something happened that the session does not survive */
  plog_followed **chosen; /* while a request is made */
  int32_t chosen_capacity;
} plog_follow_session;

void plog__follow_session_init(plog_follow_session *s);
/* Nothing is followed any more. */
void plog__follow_session_deinit(plog_follow_session *s);
/* Follow p from the end of its log on. NULL: no memory */
plog_followed *plog__follow_add(plog_follow_session *s, struct plog_fetcher *fetcher, plog_partition *p);
void plog__follow_remove(plog_follow_session *s, plog_followed *f);
/* Ask for it (again), from the end of its log, whatever its last record is. */
void plog__follow_resume(plog_follow_session *s, plog_followed *f);
/* Something that a request says of it may be different. */
void plog__follow_changed(plog_follow_session *s, plog_followed *f);
void plog__follow_pause(plog_follow_session *s, plog_followed *f);
void plog__follow_delay(plog_follow_session *s, plog_followed *f, int64_t due_ms);

/* What every request of one fetcher says. */
typedef struct {
  int16_t version; /* of requests that name topics by id, or 12 */
  int32_t replica_id;
  int64_t broker_epoch;
  int32_t max_wait_ms;
  int32_t min_bytes;
  int32_t max_bytes;
  int32_t partition_max_bytes;
} plog_follow_terms;

/* The version of the next request. */
int16_t plog__follow_version(const plog_follow_session *s, const plog_follow_terms *terms);
/*
 * Write the body of the next request. throttle: who is marked, not in sync, and over the rate is not asked for.
 *   returns false: there is nothing to ask; *out_look_ms: when to look again, PLOG_NEVER when something must happen first
 */
bool plog__follow_write(plog_follow_session *s, const plog_follow_terms *terms, const plog_throttle *throttle,
                        int64_t now_ms, int64_t hold_ms, plog_writer *w, int64_t *out_look_ms);
/* The request was answered so. */
void plog__follow_answered(plog_follow_session *s, int32_t error, int32_t session_id);
/* What the leader has of the session is not known any more. */
void plog__follow_doubt(plog_follow_session *s);

#endif
