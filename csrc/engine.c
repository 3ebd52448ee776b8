/*
 * engine.c: the public engine functions, all but those about following (following.c), about members of groups
 * (membership.c) and about appends of Python's as the leader (appends.c). What they do is done by commands.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "authorize.h"
#include "command.h"
#include "control.h"
#include "listener.h"
#include "log_move.h"
#include "purgatory.h"
#include "reactor.h"
#include "verify.h"

/* ------------------------------------------------------------------------------------------------ life */

static int32_t draw_key(plog_sys *sys, uint64_t *out) {
  int fd = plog__sys_open(sys, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int64_t n = plog__sys_read(sys, fd, out, sizeof *out);
  (void)plog__sys_close(sys, fd);
  return n == (int64_t)sizeof *out ? 0 : -EIO;
}

int32_t plog_engine_open(plog_sys *sys, const plog_engine_config *config, plog_engine **out) {
  plog_engine *e = calloc(1, sizeof *e);
  if (!e) return -ENOMEM;
  e->sys = sys;
  e->config = *config;
  e->state = PLOG_ENGINE_IDLE;
  for (int i = 0; i < PLOG_SERVED_APIS; i++) {
    atomic_init(&e->served_min[i], INT32_MAX);
    atomic_init(&e->served_max[i], -1);
  }
  int32_t rc = draw_key(sys, &e->hash_key);
  plog__grants_init(&e->grants, e->hash_key, PLOG_GRANTS_SPAN_BYTES);
  plog__members_init(&e->members, e->hash_key);
  if (rc == 0) rc = plog__reactor_init(e);
  if (rc) {
    plog__members_deinit(&e->members);
    free(e);
    return rc;
  }
  plog_assert(pthread_mutex_init(&e->lifecycle, NULL) == 0);
  *out = e;
  return 0;
}

static void *thread_main(void *argument) {
  plog_engine *e = argument;
  plog__reactor_run(e);
  return NULL;
}

/* The reactor's thread takes no signals: those are the main thread's. */
static int32_t start_thread(plog_engine *e) {
  sigset_t all, before;
  (void)sigfillset(&all);
  int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (rc) return -rc;
  rc = pthread_create(&e->thread, NULL, thread_main, e);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -rc;
}

int32_t plog_engine_start(plog_engine *e) {
  pthread_mutex_lock(&e->lifecycle);
  int32_t rc = e->state == PLOG_ENGINE_IDLE ? start_thread(e) : PLOG_E_STOPPED;
  if (rc == 0) e->state = PLOG_ENGINE_RUNNING;
  pthread_mutex_unlock(&e->lifecycle);
  return rc;
}

typedef struct {
  plog_message message;
  int32_t drain_ms;
} plog_stop;

static void stop_reactor(plog_message *message, void *reactor) {
  plog__reactor_stop(reactor, PLOG_CONTAINER_OF(message, plog_stop, message)->drain_ms);
}

int32_t plog_engine_stop(plog_engine *e, int32_t drain_ms) {
  plog_stop stop = {.message = {NULL, stop_reactor}, .drain_ms = PLOG_MAX(drain_ms, 0)};
  pthread_mutex_lock(&e->lifecycle);
  if (e->state == PLOG_ENGINE_RUNNING) {
    e->state = PLOG_ENGINE_STOPPING;
    plog__inbox_put(&e->inbox, &stop.message);
    pthread_mutex_unlock(&e->lifecycle);
    (void)pthread_join(e->thread, NULL);
    pthread_mutex_lock(&e->lifecycle);
    e->state = PLOG_ENGINE_STOPPED;
    plog__reactor_refresh_clock(e);
    plog__inbox_run(&e->inbox, e); /* what was posted while the reactor ended */
    plog__reactor_settle(e);
    plog__reactor_close_conns(e);
  } else if (e->state == PLOG_ENGINE_IDLE) {
    e->state = PLOG_ENGINE_STOPPED;
  }
  if (e->state == PLOG_ENGINE_STOPPED) {
    plog__upcalls_publish(&e->upcalls);
    plog__upcalls_stop(&e->upcalls);
  }
  pthread_mutex_unlock(&e->lifecycle);
  return 0;
}

/* Everything that waits for p ends with error; p is in no list afterwards. */
static void end_waiting(plog_engine *e, plog_partition *p, int32_t error) {
  if (!plog_list_empty(&p->dirty)) (void)plog__reactor_commit(e, p);
  plog__watches_fire_all(&p->sync_watches, error, e->now_ms);
  plog__watches_fire_all(&p->offset_watches, error, e->now_ms);
  plog__watches_fire_all(&p->fetch_watches, error, e->now_ms);
}

int32_t plog_engine_close(plog_engine *e, int32_t clean) {
  (void)plog_engine_stop(e, 0);
  plog__reactor_quiesce(e);
  int32_t first_error = 0;
  for (uint32_t i = 0; i < e->topics.slots_used; i++) {
    plog_partition *p = e->topics.slots[i];
    if (!p) continue;
    end_waiting(e, p, PLOG_NOT_LEADER_OR_FOLLOWER);
    plog_log *log = p->log;
    plog__topics_remove(&e->topics, p);
    plog__partition_close(p);
    int32_t rc = log ? plog_log_close(log, clean) : 0;
    if (rc && !first_error) first_error = rc;
  }
  plog__grants_deinit(&e->grants);
  plog__reactor_deinit(e);
  plog__members_deinit(&e->members);
  (void)pthread_mutex_destroy(&e->lifecycle);
  free(e);
  return first_error;
}

typedef struct {
  const char *address;
  int32_t port;
  int32_t listener_id;
  int32_t *out_port;
} plog_listen_arguments;

static int32_t act_listen(plog_engine *e, void *arguments) {
  const plog_listen_arguments *a = arguments;
  return plog__listener_open(e, a->address, a->port, a->listener_id, a->out_port);
}

int32_t plog_engine_listen(plog_engine *e, const char *address, int32_t port, int32_t listener_id, int32_t *out_port) {
  plog_listen_arguments a = {address, port, listener_id, out_port};
  return plog__command_run(e, act_listen, &a);
}

/* ------------------------------------------------------------------------------------------------ partitions */

#define PARTITIONS_PER_COMMAND 256 /* of a command about many: about a millisecond of the reactor's time */

typedef struct {
  plog_hosting *hostings;
  int32_t count;
} plog_add_arguments;

static int32_t add_partition(plog_engine *e, plog_hosting *h) {
  plog_partition *p;
  int32_t rc =
      plog__partition_open(e->config.broker_id, e->config.replica_lag_time_max_ms, h->log, h->state, e->now_ms, &p);
  if (rc) return rc;
  rc = plog__topics_add(&e->topics, h->topic, h->topic_id, h->index, p);
  if (rc) {
    plog__partition_close(p);
    return rc;
  }
  plog__reactor_watch_lag(e, p);
  if (h->log) p->room = plog__rooms_find(&e->rooms, plog__log_dir(h->log));
  if (h->log) plog__sync_group_join(&e->sync_groups, p, plog__log_end(h->log), plog__log_end(h->log));
  h->partition = p->number;
  return 0;
}

static int32_t act_add(plog_engine *e, void *arguments) {
  const plog_add_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) a->hostings[i].rc = add_partition(e, &a->hostings[i]);
  return 0;
}

void plog_engine_add_partitions(plog_engine *e, plog_hosting *hostings, int32_t count) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_add_arguments a = {hostings + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND)};
    (void)plog__command_run(e, act_add, &a);
  }
}

int32_t plog_engine_add_partition(plog_engine *e, const char *topic, const uint8_t *topic_id, int32_t index, plog_log *log,
                                  const plog_partition_state *state, int64_t *out_partition) {
  plog_hosting hosting = {.topic = topic, .topic_id = topic_id, .log = log, .state = state, .index = index};
  plog_engine_add_partitions(e, &hosting, 1);
  if (hosting.rc == 0) *out_partition = hosting.partition;
  return hosting.rc;
}

/* A command about one partition; what it means is the act's. */
typedef struct {
  int64_t partition;
  const plog_partition_state *state;
  const plog_log_config *config;
  const uint8_t *data;
  size_t size_bytes;
  uint8_t *copy;
  int64_t token;
  int64_t offset;
  int64_t log_start;
  int32_t error;
  bool fully;
  int64_t result;
  int64_t second_result;
  int32_t count;
  plog_cleaning *cleaning;
} plog_partition_arguments;

/* One that is hosted with a log. */
static plog_partition *find_number(const plog_engine *e, int64_t number) {
  plog_partition *p = plog__topics_by_number(&e->topics, number);
  return p && p->log ? p : NULL;
}

static plog_partition *find(const plog_engine *e, const plog_partition_arguments *a) {
  return find_number(e, a->partition);
}

static int32_t publish(plog_engine *e, int64_t number, const plog_partition_state *state) {
  plog_partition *p = find_number(e, number);
  if (!p) return PLOG_E_CLOSED;
  if (!plog_list_empty(&p->dirty)) (void)plog__reactor_commit(e, p);
  bool ceased;
  int32_t rc = plog__partition_publish(p, state, e->now_ms, &ceased);
  if (rc) return rc;
  if (state->role != PLOG_ROLE_FOLLOWER)
    plog__fetcher_unfollow(p);
  else
    plog__fetcher_log_changed(p); /* it is asked for with its leader epoch */
  if (ceased) {
    plog__watches_fire_all(&p->sync_watches, PLOG_NOT_LEADER_OR_FOLLOWER, e->now_ms);
    plog__watches_fire_all(&p->offset_watches, PLOG_NOT_LEADER_OR_FOLLOWER, e->now_ms);
  }
  plog__partition_fire(p, e->now_ms);
  plog__watches_fire_all(&p->fetch_watches, PLOG_E_AGAIN, e->now_ms);
  plog__reactor_watch_lag(e, p);
  return 0;
}

typedef struct {
  plog_publication *publications;
  int32_t count;
} plog_publish_arguments;

static int32_t act_publish(plog_engine *e, void *arguments) {
  const plog_publish_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) {
    plog_publication *each = &a->publications[i];
    each->rc = publish(e, each->partition, each->state);
  }
  return 0;
}

void plog_engine_publish_all(plog_engine *e, plog_publication *publications, int32_t count) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_publish_arguments a = {publications + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND)};
    (void)plog__command_run(e, act_publish, &a);
  }
}

int32_t plog_engine_publish(plog_engine *e, int64_t partition, const plog_partition_state *state) {
  plog_publication publication = {.partition = partition, .state = state};
  plog_engine_publish_all(e, &publication, 1);
  return publication.rc;
}

typedef struct {
  const int64_t *partitions;
  plog_log **logs;
  int32_t count;
  int32_t error;
} plog_remove_arguments;

static plog_log *remove_partition(plog_engine *e, int64_t number, int32_t error) {
  plog_partition *p = plog__topics_by_number(&e->topics, number);
  if (!p) return NULL;
  plog__fetcher_unfollow(p);
  end_waiting(e, p, error);
  plog_log *log = p->log;
  plog__topics_remove(&e->topics, p);
  plog__partition_close(p);
  return log;
}

static int32_t act_remove(plog_engine *e, void *arguments) {
  const plog_remove_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) a->logs[i] = remove_partition(e, a->partitions[i], a->error);
  return 0;
}

void plog_engine_remove_partitions(plog_engine *e, const int64_t *partitions, int32_t count, int32_t error,
                                   plog_log **out_logs) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_remove_arguments a = {partitions + at, out_logs + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND), error};
    (void)plog__command_run(e, act_remove, &a);
  }
}

int32_t plog_engine_remove_partition(plog_engine *e, int64_t partition, int32_t error, plog_log **out_log) {
  plog_log *log;
  plog_engine_remove_partitions(e, &partition, 1, error, &log);
  if (!log) return PLOG_E_CLOSED;
  *out_log = log;
  return 0;
}

static int32_t act_take_offline(plog_engine *e, void *arguments) {
  const plog_remove_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) {
    plog_partition *p = find_number(e, a->partitions[i]);
    a->logs[i] = NULL;
    if (!p) continue;
    plog__fetcher_unfollow(p);
    end_waiting(e, p, PLOG_KAFKA_STORAGE_ERROR);
    a->logs[i] = p->log;
    pthread_mutex_lock(&e->topics.lock); /* another thread may be asking for the log */
    plog__partition_take_offline(p);
    pthread_mutex_unlock(&e->topics.lock);
  }
  return 0;
}

void plog_engine_take_offline(plog_engine *e, const int64_t *partitions, int32_t count, plog_log **out_logs) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_remove_arguments a = {partitions + at, out_logs + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND), 0};
    (void)plog__command_run(e, act_take_offline, &a);
  }
}

typedef struct {
  int64_t partition;
  plog_log *log;
  const char *dir;
  uint32_t most_bytes;
  plog_log *old;
} plog_exchange_arguments;

static int32_t act_exchange_log(plog_engine *e, void *arguments) {
  plog_exchange_arguments *a = arguments;
  plog_partition *p = find_number(e, a->partition);
  if (!p) return PLOG_E_CLOSED;
  if (p->failed) return PLOG_KAFKA_STORAGE_ERROR;
  if (!plog_list_empty(&p->dirty) && plog__reactor_commit(e, p) != 0) return PLOG_KAFKA_STORAGE_ERROR;
  int32_t rc = plog__log_catch_up(p->log, a->log, a->most_bytes, e->wall_ms);
  if (rc == 0) rc = plog_log_rename(a->log, a->dir);
  if (rc != 0) return rc;
  plog__reactor_report(e, p, 0);
  a->old = p->log;
  pthread_mutex_lock(&e->topics.lock);
  p->log = a->log;
  pthread_mutex_unlock(&e->topics.lock);
  p->room = plog__rooms_find(&e->rooms, a->dir);
  /* what is acknowledged is on the old disk until its files are removed, and before that on the new one */
  plog__sync_group_join(&e->sync_groups, p, p->synced_end, plog__log_start(p->log));
  plog__partition_fire(p, e->now_ms);
  plog__watches_fire_all(&p->fetch_watches, PLOG_E_AGAIN, e->now_ms);
  return 0;
}

int32_t plog_engine_exchange_log(plog_engine *e, int64_t partition, plog_log *log, const char *dir, uint32_t most_bytes,
                                 plog_log **out_old) {
  plog_exchange_arguments a = {partition, log, dir, most_bytes, NULL};
  int32_t rc = plog__command_run(e, act_exchange_log, &a);
  if (rc == 0) *out_old = a.old;
  return rc;
}

typedef struct {
  const char *dir;
  int64_t reserve_bytes;
  double reserve_percent;
} plog_room_arguments;

static int32_t act_keep_room(plog_engine *e, void *arguments) {
  const plog_room_arguments *a = arguments;
  int32_t rc = plog__rooms_keep(&e->rooms, a->dir, a->reserve_bytes, a->reserve_percent);
  for (uint32_t i = 0; i < e->topics.slots_used && rc == 0; i++) {
    plog_partition *p = e->topics.slots[i];
    if (p && p->log) p->room = plog__rooms_find(&e->rooms, plog__log_dir(p->log));
  }
  return rc;
}

int32_t plog_engine_keep_room(plog_engine *e, const char *dir, int64_t reserve_bytes, double reserve_percent) {
  if (reserve_bytes < 0 || !(reserve_percent >= 0 && reserve_percent <= 100)) return -EINVAL;
  plog_room_arguments a = {dir, reserve_bytes, reserve_percent};
  return plog__command_run(e, act_keep_room, &a);
}

typedef struct {
  const char *dir;
  bool always;
} plog_sync_arguments;

static int32_t act_keep_synced(plog_engine *e, void *arguments) {
  const plog_sync_arguments *a = arguments;
  return plog__sync_groups_add(e, a->dir, a->always);
}

int32_t plog_engine_keep_synced(plog_engine *e, const char *dir, int32_t always) {
  plog_sync_arguments a = {dir, always != 0};
  return plog__command_run(e, act_keep_synced, &a);
}

int32_t plog_engine_partition_info(plog_engine *e, int64_t partition, plog_partition_info *out) {
  pthread_mutex_lock(&e->topics.lock);
  plog_partition *p = find_number(e, partition);
  if (p) {
    plog_log_info info;
    plog_log_info_read(p->log, &info);
    out->role = atomic_load(&p->role);
    out->leader_epoch = atomic_load(&p->leader_epoch);
    out->log_start_offset = info.log_start_offset;
    out->high_watermark = atomic_load(&p->high_watermark);
    out->last_stable_offset = atomic_load(&p->last_stable);
    /* The end was read first and may have been passed meanwhile. */
    out->log_end_offset = PLOG_MAX(info.log_end_offset, out->high_watermark);
    out->size_bytes = info.size_bytes;
  }
  pthread_mutex_unlock(&e->topics.lock);
  return p ? 0 : PLOG_E_CLOSED;
}

void plog_engine_partition_infos(plog_engine *e, const int64_t *partitions, int32_t count, plog_partition_info *out) {
  for (int32_t i = 0; i < count; i++)
    if (plog_engine_partition_info(e, partitions[i], &out[i])) out[i].role = -1;
}

int32_t plog_engine_topic_stats(plog_engine *e, int64_t partition, plog_topic_stats *out) {
  pthread_mutex_lock(&e->topics.lock);
  plog_partition *p = find_number(e, partition);
  if (p) {
    out->records_in = atomic_load_explicit(&p->topic->records_in, memory_order_relaxed);
    out->bytes_in = atomic_load_explicit(&p->topic->bytes_in, memory_order_relaxed);
    out->bytes_out = atomic_load_explicit(&p->topic->bytes_out, memory_order_relaxed);
  }
  pthread_mutex_unlock(&e->topics.lock);
  return p ? 0 : PLOG_E_CLOSED;
}

plog_log *plog_engine_partition_log(plog_engine *e, int64_t partition) {
  pthread_mutex_lock(&e->topics.lock);
  plog_partition *p = plog__topics_by_number(&e->topics, partition);
  plog_log *log = p ? p->log : NULL;
  pthread_mutex_unlock(&e->topics.lock);
  return log;
}

/* ------------------------------------------------------------------------------------------------ appends */

static int32_t act_append_follower(plog_engine *e, void *arguments) {
  plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  if (!p) return PLOG_E_CLOSED;
  int32_t rc = plog__partition_append_follower(p, a->data, a->size_bytes, a->offset, a->log_start, e->wall_ms, &a->result);
  plog__fetcher_log_changed(p);
  plog__partition_fire(p, e->now_ms);
  plog__reactor_report(e, p, rc < 0 && rc != -ENOMEM ? -rc : 0);
  return rc < 0 && rc != -ENOMEM ? PLOG_KAFKA_STORAGE_ERROR : rc;
}

int32_t plog_engine_append_follower(plog_engine *e, int64_t partition, const uint8_t *batches, size_t size_bytes,
                                    int64_t leader_high_watermark, int64_t leader_log_start, int64_t *out_last) {
  plog_partition_arguments a = {.partition = partition,
                                .data = batches,
                                .size_bytes = size_bytes,
                                .offset = leader_high_watermark,
                                .log_start = leader_log_start};
  int32_t rc = plog__command_run(e, act_append_follower, &a);
  if (rc == 0) *out_last = a.result;
  return rc;
}

/* ------------------------------------------------------------------------------------------------ the owner's log functions */

static int32_t act_configure_log(plog_engine *e, void *arguments) {
  const plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  return p ? plog_log_configure(p->log, a->config) : PLOG_E_CLOSED;
}

int32_t plog_engine_configure_log(plog_engine *e, int64_t partition, const plog_log_config *config) {
  plog_partition_arguments a = {.partition = partition, .config = config};
  return plog__command_run(e, act_configure_log, &a);
}

static int32_t act_roll(plog_engine *e, void *arguments) {
  plog_partition *p = find(e, arguments);
  if (!p) return PLOG_E_CLOSED;
  int32_t rc = plog_log_roll(p->log, e->wall_ms);
  plog__reactor_report(e, p, rc < 0 ? -rc : 0);
  return rc;
}

int32_t plog_engine_roll(plog_engine *e, int64_t partition) {
  plog_partition_arguments a = {.partition = partition};
  return plog__command_run(e, act_roll, &a);
}

static int32_t act_truncate(plog_engine *e, void *arguments) {
  const plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  if (!p) return PLOG_E_CLOSED;
  int32_t rc = plog__partition_truncate(p, a->offset, a->fully, e->wall_ms);
  plog__fetcher_log_changed(p);
  if (rc == 0) plog__watches_fire_all(&p->fetch_watches, PLOG_E_AGAIN, e->now_ms);
  return rc;
}

int32_t plog_engine_truncate(plog_engine *e, int64_t partition, int64_t offset, int32_t fully) {
  plog_partition_arguments a = {.partition = partition, .offset = offset, .fully = fully != 0};
  return plog__command_run(e, act_truncate, &a);
}

static int32_t act_delete_records(plog_engine *e, void *arguments) {
  plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  if (!p) return PLOG_E_CLOSED;
  int32_t rc = plog__partition_delete_records(p, a->offset, &a->result);
  plog__fetcher_log_changed(p);
  if (rc == 0) plog__watches_fire_all(&p->fetch_watches, PLOG_E_AGAIN, e->now_ms);
  return rc;
}

int32_t plog_engine_delete_records(plog_engine *e, int64_t partition, int64_t offset, int64_t *out_start) {
  plog_partition_arguments a = {.partition = partition, .offset = offset};
  int32_t rc = plog__command_run(e, act_delete_records, &a);
  if (rc == 0) *out_start = a.result;
  return rc;
}

static int32_t act_delete_segments(plog_engine *e, void *arguments) {
  plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  if (!p) return PLOG_E_CLOSED;
  int32_t rc = plog_log_delete_segments(p->log, a->offset, &a->count);
  plog__fetcher_log_changed(p);
  plog__watches_fire_all(&p->fetch_watches, PLOG_E_AGAIN, e->now_ms);
  return rc;
}

int32_t plog_engine_delete_segments(plog_engine *e, int64_t partition, int64_t upto, int32_t *count) {
  plog_partition_arguments a = {.partition = partition, .offset = upto};
  int32_t rc = plog__command_run(e, act_delete_segments, &a);
  if (rc == 0) *count = a.count;
  return rc;
}

static int32_t act_replace(plog_engine *e, void *arguments) {
  const plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  return p ? plog_log_replace(p->log, a->cleaning) : PLOG_E_CLOSED;
}

int32_t plog_engine_replace(plog_engine *e, int64_t partition, plog_cleaning *c) {
  plog_partition_arguments a = {.partition = partition, .cleaning = c};
  return plog__command_run(e, act_replace, &a);
}

static int32_t act_expire_producers(plog_engine *e, void *arguments) {
  plog_partition_arguments *a = arguments;
  plog_partition *p = find(e, a);
  return p ? plog_log_expire_producers(p->log, a->offset, &a->count) : PLOG_E_CLOSED;
}

int32_t plog_engine_expire_producers(plog_engine *e, int64_t partition, int64_t before_ms, int32_t *count) {
  plog_partition_arguments a = {.partition = partition, .offset = before_ms};
  int32_t rc = plog__command_run(e, act_expire_producers, &a);
  if (rc == 0) *count = a.count;
  return rc;
}

/* ------------------------------------------------------------------------------------------------ upcalls and answers */

int32_t plog_engine_poll(plog_engine *e, int32_t timeout_ms, plog_upcall *out, int32_t capacity, int32_t *count) {
  plog__inbox_tell(&e->inbox); /* of answers that were given soon */
  return plog__upcalls_poll(&e->upcalls, timeout_ms, out, capacity, count);
}

void plog_engine_wake(plog_engine *e) {
  plog__upcalls_wake(&e->upcalls);
}

void plog_engine_release(plog_engine *e, const plog_upcall *upcall) {
  (void)e;
  plog__upcall_release(upcall);
}

int32_t plog_engine_peer(plog_engine *e, int64_t conn, char *peer_address, int32_t *peer_port, char *local_address,
                         int32_t *local_port) {
  pthread_mutex_lock(&e->conns_lock);
  const plog_conn *found = plog__reactor_conn(e, conn);
  if (found) {
    plog__address_text(found->peer, peer_address, peer_port);
    plog__address_text(found->local, local_address, local_port);
  }
  pthread_mutex_unlock(&e->conns_lock);
  return found ? 0 : PLOG_E_CLOSED;
}

static int32_t post_answer(plog_engine *e, plog_answer *answer, bool soon) {
  if (!answer) return -ENOMEM;
  if (soon ? plog__command_post_soon(e, &answer->message) : plog__command_post(e, &answer->message)) return 0;
  pthread_mutex_unlock(&e->lifecycle);
  free(answer);
  return PLOG_E_STOPPED;
}

int32_t plog_engine_answer(plog_engine *e, int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes,
                           int32_t cacheable, int64_t generation) {
  if (size_bytes < 4 || size_bytes > INT32_MAX - 4) return -EINVAL;
  plog_answer *answer = plog__answer_open(conn, slot, data, size_bytes);
  if (answer) {
    answer->cacheable = cacheable != 0;
    answer->generation = generation;
  }
  return post_answer(e, answer, false);
}

int32_t plog_engine_answer_soon(plog_engine *e, int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes) {
  if (size_bytes < 4 || size_bytes > INT32_MAX - 4) return -EINVAL;
  return post_answer(e, plog__answer_open(conn, slot, data, size_bytes), true);
}

void plog_engine_verify_transactions(plog_engine *e, int32_t on) {
  atomic_store_explicit(&e->verifies, on != 0, memory_order_relaxed);
}

int32_t plog_engine_verified(plog_engine *e, int64_t conn, int64_t slot, const int16_t *errors, int32_t count) {
  plog_message *answer = plog__verify_answer(conn, slot, errors, PLOG_MAX(count, 0));
  if (!answer) return -ENOMEM;
  if (plog__command_post(e, answer)) return 0;
  pthread_mutex_unlock(&e->lifecycle);
  free(answer); /* the message comes first in it */
  return PLOG_E_STOPPED;
}

int32_t plog_engine_skip(plog_engine *e, int64_t conn, int64_t slot) {
  return post_answer(e, plog__answer_open(conn, slot, NULL, 0), false);
}

void plog_engine_invalidate(plog_engine *e) {
  plog__answer_cache_invalidate(&e->answers);
}

typedef struct {
  int64_t conn;
  int32_t ms;
} plog_conn_arguments;

static int32_t act_throttle(plog_engine *e, void *arguments) {
  const plog_conn_arguments *a = arguments;
  plog_conn *conn = plog__reactor_conn(e, a->conn);
  if (!conn) return PLOG_E_CLOSED;
  plog__reactor_throttle(e, conn, a->ms);
  return 0;
}

int32_t plog_engine_throttle(plog_engine *e, int64_t conn, int32_t ms) {
  plog_conn_arguments a = {conn, ms};
  return plog__command_run(e, act_throttle, &a);
}

static int32_t act_disconnect(plog_engine *e, void *arguments) {
  const plog_conn_arguments *a = arguments;
  plog_conn *conn = plog__reactor_conn(e, a->conn);
  if (!conn) return PLOG_E_CLOSED;
  plog__reactor_disconnect(e, conn);
  return 0;
}

int32_t plog_engine_disconnect(plog_engine *e, int64_t conn) {
  plog_conn_arguments a = {conn, 0};
  return plog__command_run(e, act_disconnect, &a);
}

/* ------------------------------------------------------------------------------------------------ authorization */

typedef struct {
  plog_grant_key key;
  uint32_t operations;
  int64_t generation;
} plog_grant_arguments;

static int32_t act_publish_grant(plog_engine *e, void *arguments) {
  const plog_grant_arguments *a = arguments;
  return plog__grants_publish(&e->grants, &a->key, a->operations, a->generation);
}

static bool has_name(int32_t resource) {
  return resource == PLOG_RESOURCE_TOPIC || resource == PLOG_RESOURCE_GROUP || resource == PLOG_RESOURCE_TRANSACTIONAL_ID;
}

int32_t plog_engine_publish_grant(plog_engine *e, int32_t principal, int32_t resource, const uint8_t *name,
                                  size_t name_bytes, uint32_t operations, int64_t generation) {
  bool nameless = resource == PLOG_RESOURCE_ANY || resource == PLOG_RESOURCE_CLUSTER;
  if (!nameless && !has_name(resource)) return -EINVAL;
  if (nameless && name_bytes > 0) return -EINVAL;
  if (principal < 0 || (principal == PLOG_PRINCIPAL_ANY && resource != PLOG_RESOURCE_ANY)) return -EINVAL;
  if (name_bytes > UINT32_MAX) return -EINVAL;
  plog_grant_arguments a = {
      {principal, resource, name ? name : (const uint8_t *)"", (uint32_t)name_bytes}, operations, generation};
  return plog__command_run(e, act_publish_grant, &a);
}

static int32_t act_revoke_grants(plog_engine *e, void *arguments) {
  (void)arguments;
  plog__grants_revoke(&e->grants);
  return 0;
}

int32_t plog_engine_revoke_grants(plog_engine *e) {
  return plog__command_run(e, act_revoke_grants, NULL);
}

typedef struct {
  int64_t conn;
  int32_t listener_id;
  int32_t principal;
} plog_principal_arguments;

static int32_t act_set_principal(plog_engine *e, void *arguments) {
  const plog_principal_arguments *a = arguments;
  plog_conn *conn = plog__reactor_conn(e, a->conn);
  if (!conn) return PLOG_E_CLOSED;
  plog__authorize_as(e, conn, a->principal);
  return 0;
}

int32_t plog_engine_set_principal(plog_engine *e, int64_t conn, int32_t principal) {
  plog_principal_arguments a = {.conn = conn, .principal = principal};
  return principal < 0 || principal == PLOG_PRINCIPAL_ANY ? -EINVAL : plog__command_run(e, act_set_principal, &a);
}

static int32_t act_set_listener_principal(plog_engine *e, void *arguments) {
  const plog_principal_arguments *a = arguments;
  return plog__grants_set_listener(&e->grants, a->listener_id, a->principal);
}

int32_t plog_engine_set_listener_principal(plog_engine *e, int32_t listener_id, int32_t principal) {
  plog_principal_arguments a = {.listener_id = listener_id, .principal = principal};
  if (listener_id < 0 || listener_id > PLOG_LISTENER_ID_MAX) return -EINVAL;
  if (principal < 0 || principal == PLOG_PRINCIPAL_ANY) return -EINVAL;
  return plog__command_run(e, act_set_listener_principal, &a);
}

/* ------------------------------------------------------------------------------------------------ settings, counters */

int32_t plog_engine_serve(plog_engine *e, int32_t api_key, int32_t min_version, int32_t max_version) {
  if (api_key < 0 || api_key >= PLOG_SERVED_APIS) return -EINVAL;
  int32_t lowest = api_key == 0 ? 3 : 4;
  int32_t highest = api_key == 0 ? 13 : 18;
  if (min_version < lowest || max_version > highest) return PLOG_UNSUPPORTED_VERSION;
  atomic_store(&e->served_min[api_key], min_version);
  atomic_store(&e->served_max[api_key], max_version);
  return 0;
}

typedef struct {
  int32_t listener_id;
  int32_t broker_id;
  const char *host;
  int32_t port;
  const char *rack;
} plog_node_arguments;

static int32_t act_publish_node(plog_engine *e, void *arguments) {
  const plog_node_arguments *a = arguments;
  return plog__nodes_publish(&e->nodes, a->listener_id, a->broker_id, a->host, a->port, a->rack);
}

int32_t plog_engine_publish_node(plog_engine *e, int32_t listener_id, int32_t broker_id, const char *host, int32_t port,
                                 const char *rack) {
  plog_node_arguments a = {listener_id, broker_id, host, port, rack};
  return plog__command_run(e, act_publish_node, &a);
}

typedef struct {
  plog_topic_leaders *topics;
  int32_t count;
} plog_leaders_arguments;

static int32_t act_publish_leaders(plog_engine *e, void *arguments) {
  const plog_leaders_arguments *a = arguments;
  for (int32_t i = 0; i < a->count; i++) a->topics[i].rc = plog__leaders_publish(&e->leaders, &a->topics[i]);
  return 0;
}

void plog_engine_publish_leaders(plog_engine *e, plog_topic_leaders *topics, int32_t count) {
  for (int32_t at = 0; at < count; at += PARTITIONS_PER_COMMAND) {
    plog_leaders_arguments a = {topics + at, PLOG_MIN(count - at, PARTITIONS_PER_COMMAND)};
    (void)plog__command_run(e, act_publish_leaders, &a);
  }
}

void plog_engine_stats_read(plog_engine *e, plog_engine_stats *out) {
#define READ(name) out->name = atomic_load_explicit(&e->counters.name, memory_order_relaxed)
  READ(connections_now);
  READ(connections);
  READ(requests);
  READ(produce_requests);
  READ(fetch_requests);
  READ(upcalls);
  READ(cached_answers);
  READ(heartbeats);
  READ(offset_commits);
  READ(bytes_in);
  READ(bytes_out);
  READ(records_in);
  READ(batches_in);
  READ(failed_produce);
  READ(failed_fetch);
  READ(malformed);
  READ(delayed_now);
  READ(cold_reads);
  READ(turns);
  READ(syncs);
  READ(sync_us);
  READ(checked_bytes);
  READ(damaged_batches);
  READ(produced_bytes);
  READ(fetched_bytes);
  READ(replicated_in_bytes);
  READ(replicated_out_bytes);
#undef READ
  out->fetch_sessions_now = atomic_load_explicit(&e->sessions.count, memory_order_relaxed);
  out->buffer_bytes_now = atomic_load_explicit(&e->buffers.held_bytes, memory_order_relaxed);
}

int32_t plog_engine_request_times(plog_engine *e, int32_t kind, plog_request_times *out) {
  if (kind < 0 || kind >= PLOG_REQUEST_KINDS) return -EINVAL;
  plog__times_read(&e->times, kind, out);
  return 0;
}
