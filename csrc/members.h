/*
 * members.h: the members of groups whose heartbeats need nobody's thought, and when each was last heard.
 *
 * What stays true:
 *   - a member is here from when Python publishes it until Python forgets it: what Python published bounds the table;
 *   - it is heard only while it is published, in the epoch it was published with; once a withdrawal has returned, no later
 *     heartbeat of it is: those go to Python again;
 *   - what was heard of it stays known over withdrawals and publications, until it is forgotten;
 *   - its commits are taken as its heartbeats are, if Python said with it which partition keeps the offsets;
 *   - a member is of one kind of group, and heard by the heartbeats of that kind only;
 *   - one of the consumer protocol is heard only while the topics are what they were when it was decided to publish it, and only
 *     where it came from then: whatever else decides what Python would answer comes with a withdrawal.
 * Python's threads write and the reactor reads, each for a moment, under the one lock. It is a leaf: nothing is called with it.
 */
#ifndef PLOG_MEMBERS_H
#define PLOG_MEMBERS_H

#include <pthread.h>

#include "base.h"
#include "wire.h"

#define PLOG_HOST_BYTES 16 /* a connection's addresses begin with them */

typedef struct plog_member plog_member;

typedef struct {
  pthread_mutex_t lock;
  plog_member **buckets;
  uint32_t bucket_count; /* a power of two; 0: nobody was ever published */
  uint32_t count;
  uint64_t hash_key;
  int64_t topics; /* rises with each change of what consumers are decided upon besides their group */
} plog_members;

/* What a heartbeat says. Its texts are borrowed. */
typedef struct {
  plog_bytes group_id;
  plog_bytes member_id;
  plog_bytes instance_id; /* data NULL: it does not say */
  int32_t epoch;          /* of the member; the generation of a classic group */
} plog_heartbeat;

/* The same of the consumer protocol (KIP-848), from somewhere. */
typedef struct {
  plog_heartbeat says;
  plog_bytes client_id;
  const uint8_t *host; /* PLOG_HOST_BYTES */
} plog_consumer_heartbeat;

void plog__members_init(plog_members *m, uint64_t hash_key);
void plog__members_deinit(plog_members *m);

/* Heartbeats that say just this are heard from now on. instance_id.data NULL: not a static member. offsets: the number of the
   partition that keeps what it commits; -1: its commits are Python's. 0 | -ENOMEM. any */
int32_t plog__members_publish(plog_members *m, const plog_heartbeat *as, int64_t offsets);
/* Likewise of a consumer: with these terms. 0 | -ENOMEM. any */
int32_t plog__members_publish_consumer(plog_members *m, const plog_consumer_heartbeat *as,
                                       const plog_consumer_terms *terms);
/* Consumers that were published with another number of the topics are not heard any more. any */
void plog__members_topics_changed(plog_members *m, int64_t topics);
/* They are not any more; forget: nothing is known of it any more either. Harmless when it is not here. any */
void plog__members_withdraw(plog_members *m, plog_bytes group_id, plog_bytes member_id, bool forget);
/* A heartbeat came: is it what was published, in every part? Then it is noted. any */
bool plog__members_hear(plog_members *m, const plog_heartbeat *heartbeat, int64_t now_ms);
/* … of a consumer? Returns its heartbeat interval; -1: it is not. any */
int32_t plog__members_hear_consumer(plog_members *m, const plog_consumer_heartbeat *heartbeat, int64_t now_ms);
/* The same of one who commits, in a version of OffsetCommit: the partition that keeps its offsets. -1: it is not what was published,
   or its commits are Python's, and nothing is noted. That a consumer lives is told by its heartbeats alone. any */
int64_t plog__members_commits_to(plog_members *m, const plog_heartbeat *who, int16_t version, int64_t now_ms);
/* When a member was last heard here; -1: never. any */
int64_t plog__members_heard_ms(plog_members *m, plog_bytes group_id, plog_bytes member_id);

#endif
