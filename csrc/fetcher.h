/*
 * fetcher.h: what fetches partitions from one leader: a connection, one request at a time, appends of what it answers.
 *
 * A fetcher is always in one of these states:
 *
 *   RESTING    nothing is followed, no connection
 *   LOOKING    the host's name is being looked up                     → CONNECTING, WAITING
 *   CONNECTING                                                        → READY, the next address, WAITING
 *   WAITING    after a failure, until the timer                       → LOOKING
 *   READY      connected, nothing to ask; the timer says when to look → ASKING, RESTING
 *   ASKING     a request is under way, the timer says when it is over → APPENDING, WAITING
 *   APPENDING  an answer is here, and worked off over some turns      → READY
 *
 * What stays true:
 *   - an answer is checked whole before anything of it is done; each partition's records are appended with one write, and only if
 *     they follow the end of the log they were asked for, in the leader epoch they were asked for;
 *   - after unfollow nothing is appended; a partition that is followed is a hosted follower;
 *   - whatever fails, somebody is told, and it is tried again: what the retry would not mend is paused until Python says more.
 * Reactor thread only.
 */
#ifndef PLOG_FETCHER_H
#define PLOG_FETCHER_H

#include "base.h"
#include "disk_pool.h"
#include "fetch_answer.h"
#include "follow_session.h"
#include "lookup.h"
#include "partition.h"
#include "timer.h"
#include "uplink.h"

typedef enum {
  PLOG_FETCHER_RESTING,
  PLOG_FETCHER_LOOKING,
  PLOG_FETCHER_CONNECTING,
  PLOG_FETCHER_WAITING,
  PLOG_FETCHER_READY,
  PLOG_FETCHER_ASKING,
  PLOG_FETCHER_APPENDING
} plog_fetcher_state;

typedef struct plog_fetcher plog_fetcher;
struct plog_fetcher {
  int64_t number;
  struct plog_engine *engine;
  plog_link link;  /* in the engine's list of all */
  plog_link ready; /* … of those with something to do */
  plog_fetcher_state state;
  plog_timer timer;
  /* where to */
  char *host;
  int32_t port;
  int32_t leader_id;
  int32_t receive_buffer_bytes;
  int32_t backoff_ms;
  int32_t connect_timeout_ms;
  int32_t request_timeout_ms;
  plog_addresses addresses;
  int32_t address_next; /* the next to try */
  plog_lookup *lookup;  /* under way; it frees itself when this is NULL */
  bool writable;
  int32_t lost_error;  /* that Python was told last, until it is connected again; 0 none */
  int32_t whole_error; /* of whole requests, likewise */
  /* what is asked */
  char *client_id;
  plog_follow_terms terms;
  plog_follow_session session;
  plog_uplink uplink;
  int32_t correlation_id;
  int16_t asked_version;
  plog_fetch_answer answer; /* APPENDING: what is left of it */
};

typedef struct {
  plog_link all;
  plog_link ready;
  plog_link turn_end; /* in ready while a turn works it off */
  int64_t serial;
  plog_disk_pool lookups;
} plog_fetchers;

void plog__fetchers_init(plog_fetchers *fetchers, plog_sys *sys, plog_inbox *inbox);
/* Close all connections and leave them closed: the engine stops. */
void plog__fetchers_stop(struct plog_engine *e);
/* End the thread that looks up names; its messages are in the inbox then. */
void plog__fetchers_quiesce(plog_fetchers *fetchers);
/* Free all; what they followed is followed no more. */
void plog__fetchers_deinit(plog_fetchers *fetchers);

/* 0 | -EINVAL | -ENOMEM */
int32_t plog__fetcher_open(struct plog_engine *e, const plog_fetcher_config *config, int64_t *out_number);
plog_fetcher *plog__fetcher_find(const plog_fetchers *fetchers, int64_t number);
void plog__fetcher_close(plog_fetcher *f);
/* 0 | -EINVAL | -ENOMEM */
int32_t plog__fetcher_configure(plog_fetcher *f, const char *host, int32_t port, int64_t broker_epoch);
/* 0 | PLOG_NOT_LEADER_OR_FOLLOWER | -ENOMEM */
int32_t plog__fetcher_follow(plog_fetcher *f, plog_partition *p);
/* Begin what was followed: after one or many. */
void plog__fetcher_go(plog_fetcher *f);
/* Harmless when nobody follows it. */
void plog__fetcher_unfollow(plog_partition *p);
/* The log of a followed partition was cut, or begins elsewhere. Harmless when nobody follows it. */
void plog__fetcher_log_changed(plog_partition *p);

/* epoll says something about its connection. */
void plog__fetcher_event(plog_fetcher *f, uint32_t events);
/* Go on with those that have something to do. */
void plog__fetchers_run(struct plog_engine *e);

#endif
