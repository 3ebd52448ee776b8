/*
 * following.c: the public functions about following leaders, and about what followers are given. See plog.h.
 */
#include <errno.h>

#include "command.h"
#include "fetcher.h"
#include "reactor.h"
#include "topic.h"

#define PARTITIONS_PER_COMMAND 256 /* of a command about many: about a millisecond of the reactor's time at most */

/* One that is hosted with a log. */
static plog_partition *find_partition(const plog_engine *e, int64_t number) {
  plog_partition *p = plog__topics_by_number(&e->topics, number);
  return p && p->log ? p : NULL;
}

/* ------------------------------------------------------------------------------------------------ fetchers */

typedef struct {
  const plog_fetcher_config *config;
  int64_t fetcher;
  const char *host;
  int32_t port;
  int64_t broker_epoch;
} plog_fetcher_arguments;

static int32_t act_open_fetcher(plog_engine *e, void *arguments) {
  plog_fetcher_arguments *a = arguments;
  return plog__fetcher_open(e, a->config, &a->fetcher);
}

int32_t plog_engine_open_fetcher(plog_engine *e, const plog_fetcher_config *config, int64_t *out_fetcher) {
  plog_fetcher_arguments a = {.config = config};
  int32_t rc = plog__command_run(e, act_open_fetcher, &a);
  if (rc == 0) *out_fetcher = a.fetcher;
  return rc;
}

static int32_t act_close_fetcher(plog_engine *e, void *arguments) {
  const plog_fetcher_arguments *a = arguments;
  plog_fetcher *f = plog__fetcher_find(&e->fetchers, a->fetcher);
  if (!f) return PLOG_E_NOT_FOUND;
  plog__fetcher_close(f);
  return 0;
}

int32_t plog_engine_close_fetcher(plog_engine *e, int64_t fetcher) {
  plog_fetcher_arguments a = {.fetcher = fetcher};
  return plog__command_run(e, act_close_fetcher, &a);
}

static int32_t act_configure_fetcher(plog_engine *e, void *arguments) {
  const plog_fetcher_arguments *a = arguments;
  plog_fetcher *f = plog__fetcher_find(&e->fetchers, a->fetcher);
  return f ? plog__fetcher_configure(f, a->host, a->port, a->broker_epoch) : PLOG_E_NOT_FOUND;
}

int32_t plog_engine_configure_fetcher(plog_engine *e, int64_t fetcher, const char *host, int32_t port,
                                      int64_t broker_epoch) {
  plog_fetcher_arguments a = {.fetcher = fetcher, .host = host, .port = port, .broker_epoch = broker_epoch};
  return plog__command_run(e, act_configure_fetcher, &a);
}

/* ------------------------------------------------------------------------------------------------ partitions */

typedef struct {
  int64_t fetcher;
  const int64_t *partitions;
  int32_t count;
  int32_t *results;
  int32_t sides;
} plog_follow_arguments;

static int32_t act_follow(plog_engine *e, void *arguments) {
  const plog_follow_arguments *a = arguments;
  plog_fetcher *f = plog__fetcher_find(&e->fetchers, a->fetcher);
  if (!f) return PLOG_E_NOT_FOUND;
  for (int32_t i = 0; i < a->count; i++) {
    plog_partition *p = find_partition(e, a->partitions[i]);
    a->results[i] = p ? plog__fetcher_follow(f, p) : PLOG_E_CLOSED;
  }
  plog__fetcher_go(f);
  return 0;
}

int32_t plog_engine_follow(plog_engine *e, int64_t fetcher, const int64_t *partitions, int32_t count, int32_t *results) {
  int32_t rc = 0;
  for (int32_t at = 0; at < count && rc == 0; at += PARTITIONS_PER_COMMAND) {
    plog_follow_arguments a = {.fetcher = fetcher,
                               .partitions = partitions + at,
                               .count = PLOG_MIN(count - at, PARTITIONS_PER_COMMAND),
                               .results = results + at};
    rc = plog__command_run(e, act_follow, &a);
  }
  return rc;
}

static int32_t act_unfollow(plog_engine *e, void *arguments) {
  const plog_follow_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) {
    plog_partition *p = find_partition(e, a->partitions[i]);
    if (p) plog__fetcher_unfollow(p);
  }
  return 0;
}

void plog_engine_unfollow(plog_engine *e, const int64_t *partitions, int32_t count) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_follow_arguments a = {.partitions = partitions + at, .count = PLOG_MIN(count - at, PARTITIONS_PER_COMMAND)};
    (void)plog__command_run(e, act_unfollow, &a);
  }
}

/* ------------------------------------------------------------------------------------------------ followers */

typedef struct {
  plog_replica_list *lists;
  int32_t count;
} plog_replicas_arguments;

static void describe_replica(const plog_engine *e, const plog_partition *p, const plog_replica *r, plog_replica_info *out) {
  bool own = r->broker_id == p->broker_id;
  bool heard = own || r->log_end >= 0;
  *out = (plog_replica_info){.broker_id = r->broker_id,
                             .in_isr = r->in_isr,
                             .joining = r->joining,
                             .log_end = own ? plog__log_end(p->log) : r->log_end,
                             .log_start = own ? plog__log_start(p->log) : r->log_start,
                             .lag_ms = own     ? 0
                                       : heard ? e->now_ms - r->caught_up_ms
                                               : -1,
                             .broker_epoch = r->broker_epoch};
}

static int32_t list_replicas(const plog_engine *e, plog_replica_list *list) {
  const plog_partition *p = find_partition(e, list->partition);
  if (!p) return PLOG_E_CLOSED;
  if (plog__partition_role(p) != PLOG_ROLE_LEADER) return PLOG_NOT_LEADER_OR_FOLLOWER;
  list->count = p->replicas_count;
  for (int32_t i = 0; i < PLOG_MIN(list->count, list->capacity); i++)
    describe_replica(e, p, &p->replicas[i], &list->out[i]);
  return 0;
}

static int32_t act_replicas(plog_engine *e, void *arguments) {
  const plog_replicas_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) a->lists[i].rc = list_replicas(e, &a->lists[i]);
  return 0;
}

void plog_engine_replicas_of(plog_engine *e, plog_replica_list *lists, int32_t count) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_replicas_arguments a = {lists + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND)};
    (void)plog__command_run(e, act_replicas, &a);
  }
}

int32_t plog_engine_replicas(plog_engine *e, int64_t partition, plog_replica_info *out, int32_t capacity, int32_t *count) {
  plog_replica_list list = {.partition = partition, .out = out, .capacity = capacity};
  plog_engine_replicas_of(e, &list, 1);
  if (list.rc == 0) *count = list.count;
  return list.rc;
}

static int32_t act_mark_throttled(plog_engine *e, void *arguments) {
  const plog_follow_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) {
    plog_partition *p = find_partition(e, a->partitions[i]);
    if (p) p->throttled = a->sides;
  }
  return 0;
}

void plog_engine_mark_throttled(plog_engine *e, const int64_t *partitions, int32_t count, int32_t sides) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_follow_arguments a = {
        .partitions = partitions + at, .count = PLOG_MIN(count - at, PARTITIONS_PER_COMMAND), .sides = sides};
    (void)plog__command_run(e, act_mark_throttled, &a);
  }
}

typedef struct {
  int64_t leader_rate;
  int64_t follower_rate;
} plog_throttle_arguments;

static int32_t act_throttle_replication(plog_engine *e, void *arguments) {
  const plog_throttle_arguments *a = arguments;
  plog__throttle_set(&e->leading, a->leader_rate);
  plog__throttle_set(&e->following, a->follower_rate);
  return 0;
}

void plog_engine_throttle_replication(plog_engine *e, int64_t leader_rate, int64_t follower_rate) {
  plog_throttle_arguments a = {leader_rate, follower_rate};
  (void)plog__command_run(e, act_throttle_replication, &a);
}

static int32_t act_select_by_rack(plog_engine *e, void *arguments) {
  e->select_by_rack = *(const int32_t *)arguments != 0;
  return 0;
}

void plog_engine_select_by_rack(plog_engine *e, int32_t on) {
  (void)plog__command_run(e, act_select_by_rack, &on);
}
