/*
 * reactor.h: the loop that owns connections and partitions, and what produce.c and fetch.c may ask of it.
 *
 * One turn: wait → take the inbox → accept, read, parse, stage → append what was fetched → settle → close → timers. To settle is: write each dirty
 * partition's staged batches with one pwritev, complete what waited for that, look again at woken fetches, send. A turn that
 * has read much settles in between, so that buffers are used again while they are warm in the processor's cache.
 *
 * Before the reactor runs and after it has stopped, the thread inside the engine's lifecycle lock is the owner.
 */
#ifndef PLOG_REACTOR_H
#define PLOG_REACTOR_H

#include <pthread.h>
#include <stdatomic.h>

#include "answer_cache.h"
#include "buffer.h"
#include "conn.h"
#include "disk_pool.h"
#include "fetch_session.h"
#include "fetcher.h"
#include "grants.h"
#include "group_commit.h"
#include "inbox.h"
#include "leaders.h"
#include "members.h"
#include "node.h"
#include "partition.h"
#include "plog.h"
#include "request_times.h"
#include "sys.h"
#include "throttle.h"
#include "timer.h"
#include "topic.h"
#include "upcall.h"

#define PLOG_SERVED_APIS 2 /* Produce, Fetch */

/* What an event's number says besides its pointer (pointers are multiples of four); 0: a connection. */
#define PLOG_EVENT_LISTENER 1
#define PLOG_EVENT_WAKE 2
#define PLOG_EVENT_FETCHER 3

/* As plog_engine_stats, written by the reactor alone. */
typedef struct {
  _Atomic int64_t connections_now, connections, requests, produce_requests, fetch_requests, upcalls, cached_answers,
      heartbeats, offset_commits, bytes_in, bytes_out, records_in, batches_in, failed_produce, failed_fetch, malformed,
      delayed_now, cold_reads, turns, syncs, sync_us, checked_bytes, damaged_batches, produced_bytes, fetched_bytes,
      replicated_in_bytes, replicated_out_bytes;
} plog_counters;

static inline void plog__count(_Atomic int64_t *counter, int64_t more) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

enum { PLOG_ENGINE_IDLE, PLOG_ENGINE_RUNNING, PLOG_ENGINE_STOPPING, PLOG_ENGINE_STOPPED };

/* What is taken of offset commits (offset_commit.h). */
typedef struct {
  plog_link gathering;         /* partitions with some that are not written */
  plog_batch_builder *builder; /* NULL: none is taken */
  int32_t timeout_ms;          /* 0: none is taken */
  int32_t metadata_max_bytes;
} plog_offset_commits;

struct plog_engine {
  plog_sys *sys;
  plog_engine_config config;
  /* life */
  pthread_mutex_t lifecycle; /* guards state, laid_count, and ownership while no reactor runs */
  uint32_t laid_count;       /* messages that were posted without haste, ever */
  int32_t state;
  pthread_t thread;
  /* the reactor's */
  int epoll_fd;
  bool stopping;
  int64_t stop_by_ms;
  int64_t now_ms;  /* monotonic, of this turn */
  int64_t wall_ms; /* of this turn */
  int64_t turn_ns; /* when it began */
  plog_inbox inbox;
  plog_upcalls upcalls;
  plog_timers timers;
  plog_buffers buffers;
  plog_intake intake;
  plog_sender sender;
  plog_disk_pool disk;
  plog_topics topics;
  plog_leaders leaders;
  plog_answer_cache answers;
  plog_grants grants;
  plog_members members; /* under its own lock */
  plog_offset_commits commits;
  plog_fetch_sessions sessions;
  uint64_t hash_key;
  plog_link listeners;
  bool accepting;
  plog_timer accept_timer; /* accept again, after it failed */
  plog_timer idle_timer;
  plog_timer lag_timer;
  plog_conn **conns; /* by the low half of the number; changed under conns_lock */
  uint32_t conns_capacity;
  uint32_t conns_used;
  int32_t conns_open;
  int32_t idle_grain_ms; /* activity is noted no finer than that */
  int64_t conn_serial;
  pthread_mutex_t conns_lock;
  plog_link ready; /* connections to be looked at: those that produce or fetch, and all others */
  plog_link control_ready;
  plog_link stalled; /* connections not read until Python has caught up */
  plog_link flush;   /* … with answers to send, likewise */
  plog_link control_flush;
  plog_link serve_end; /* marks, while a list of those is gone through, what is for the next turn */
  plog_link flush_end;
  plog_link closing;
  plog_link idle;
  plog_link dirty;   /* partitions with staged batches */
  plog_link lagging; /* partitions whose followers are watched */
  plog_link woken;   /* fetches to be looked at again */
  plog_link checks;  /* ranges of segments that are being compared with their CRCs */
  int64_t staged_bytes;
  int64_t upcall_bytes; /* of requests that Python has not answered */
  plog_rooms rooms;
  plog_sync_groups sync_groups;
  plog_nodes nodes;
  bool select_by_rack;
  _Atomic bool verifies; /* records that would begin a transaction are asked about */
  plog_fetchers fetchers;
  plog_throttle leading;   /* what followers that are not in sync fetch of marked partitions */
  plog_throttle following; /* what is fetched of marked partitions */
  _Atomic int32_t served_min[PLOG_SERVED_APIS];
  _Atomic int32_t served_max[PLOG_SERVED_APIS];
  plog_counters counters;
  plog_times times;
};

int32_t plog__reactor_init(plog_engine *e);
/* End the disk threads, close every connection and listener: no request watches a partition any more. */
void plog__reactor_quiesce(plog_engine *e);
/* Free everything; partitions are gone by then. */
void plog__reactor_deinit(plog_engine *e);
/* The loop, until plog__reactor_stop. */
void plog__reactor_run(plog_engine *e);
void plog__reactor_stop(plog_engine *e, int64_t drain_ms);
/* Host a new connection: in the table, and watched. NULL: no memory, or no room in epoll; then fd is still the caller's. */
plog_conn *plog__reactor_add_conn(plog_engine *e, int fd, int32_t listener_id);
void plog__reactor_refresh_clock(plog_engine *e);

/* Who leads a partition, hosted or elsewhere, as far as is known now; topics by id unless that is NULL. */
plog_leader plog__reactor_leader(const plog_engine *e, const uint8_t *id, plog_bytes name, int32_t index);
/* The name of the topic that has this id, hosted or elsewhere. data NULL: none has. */
plog_bytes plog__reactor_topic_name(const plog_engine *e, const uint8_t *id);

/* The request waits for what it asked to wait for. */
static inline void plog__reactor_waits(const plog_engine *e, plog_request *request) {
  if (request->waits_ns == 0) request->waits_ns = e->turn_ns;
}
/* The request is complete: its answer goes out when those before it have. */
void plog__reactor_complete(plog_engine *e, plog_request *request);
/* Close conn at the end of the turn. */
void plog__reactor_disconnect(plog_engine *e, plog_conn *conn);
/* Look at conn again in this turn or the next. */
void plog__reactor_serve_later(plog_engine *e, plog_conn *conn);
/* Send what conn has to say when this turn settles, or in the next. */
void plog__reactor_send_later(plog_engine *e, plog_conn *conn);
plog_conn *plog__reactor_conn(const plog_engine *e, int64_t number);
/* p has staged batches: it is committed when this turn settles. */
void plog__reactor_mark_dirty(plog_engine *e, plog_partition *p);
/* Commit what p has staged now and fire what waits for it. */
int32_t plog__reactor_commit(plog_engine *e, plog_partition *p);
/* Tell Python what the partition and its log have to tell. storage_error: 0 or an errno. */
void plog__reactor_report(plog_engine *e, plog_partition *p, int32_t storage_error);
/* Watch p's followers for falling behind, when it has some. */
void plog__reactor_watch_lag(plog_engine *e, plog_partition *p);
/* Commit, complete, send: nothing is staged afterwards. */
void plog__reactor_settle(plog_engine *e);
/* Bytes with Python became more or less. */
void plog__reactor_upcall_bytes(plog_engine *e, int64_t more);
/* Do not read conn for ms. */
void plog__reactor_throttle(plog_engine *e, plog_conn *conn, int64_t ms);
/* Close every connection, at once. */
void plog__reactor_close_conns(plog_engine *e);

#endif
