/*
 * test_group_commit.c: answers that wait for the disk. The disk is a gate in the test's hands: a sync ends when the test says so,
 * and as it says.
 */
#include <pthread.h>

#include "engine_fixture.h"

/* Every fdatasync waits here, while the gate is shut. */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t moved;
  bool shut;
  int32_t slow_us; /* each takes so long */
  int32_t inside;  /* calls that wait */
  int64_t passed;  /* calls so far */
  int32_t error;   /* what they say */
} gate;

static gate disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static int gated_sync(void *context, int fd) {
  (void)context;
  pthread_mutex_lock(&disk.lock);
  disk.inside++;
  pthread_cond_broadcast(&disk.moved);
  while (disk.shut) pthread_cond_wait(&disk.moved, &disk.lock);
  disk.inside--;
  disk.passed++;
  int error = disk.error;
  pthread_mutex_unlock(&disk.lock);
  if (disk.slow_us) (void)usleep((useconds_t)disk.slow_us);
  return error ? -error : fdatasync(fd) < 0 ? -errno : 0;
}

static void set_gate(bool shut, int32_t error) {
  pthread_mutex_lock(&disk.lock);
  disk.shut = shut;
  disk.error = error;
  pthread_cond_broadcast(&disk.moved);
  pthread_mutex_unlock(&disk.lock);
}

/* Somebody waits in the gate. */
static void await_sync(void) {
  struct timespec until;
  CHECK_EQ(clock_gettime(CLOCK_REALTIME, &until), 0);
  until.tv_sec += WAIT_S;
  pthread_mutex_lock(&disk.lock);
  while (disk.inside == 0) CHECK_EQ(pthread_cond_timedwait(&disk.moved, &disk.lock, &until), 0);
  pthread_mutex_unlock(&disk.lock);
}

static void open_gate(engine_fixture *f) {
  f->sys->calls.fdatasync = gated_sync;
  disk.passed = 0;
  disk.slow_us = 0;
  set_gate(false, 0);
}

static void begin(engine_fixture *f, int32_t partitions_count) {
  engine_begin(f, partitions_count);
  open_gate(f);
  engine_start(f, true);
}

static void begin_with(engine_fixture *f, int64_t flush_messages) {
  engine_begin(f, 1);
  f->log_config.flush_messages = flush_messages;
  open_gate(f);
  engine_start(f, false);
}

/* Wait until the reactor has taken everything that was sent before: it has appended so many records. */
static void await_appended(engine_fixture *f, int32_t index, int64_t end) {
  plog_partition_info info = {0};
  for (int i = 0; i < WAIT_S * 1000 && info.log_end_offset < end; i++) {
    CHECK_EQ(plog_engine_partition_info(f->engine, f->partitions[index], &info), 0);
    if (info.log_end_offset < end) (void)usleep(1000);
  }
  CHECK_EQ(info.log_end_offset, end);
}

static plog_partition_info info_of(engine_fixture *f, int32_t index) {
  plog_partition_info info;
  CHECK_EQ(plog_engine_partition_info(f->engine, f->partitions[index], &info), 0);
  return info;
}

static void nobody_is_ahead_of_the_disk(void) {
  for (int16_t acks = -1; acks <= 1; acks += 2) {
    engine_fixture f;
    begin(&f, 1);
    set_gate(true, 0);
    int producer = client_open(&f), consumer = client_open(&f);
    client_produce(producer, 0, acks, 10);
    await_sync();
    await_appended(&f, 0, 1);
    CHECK_EQ(info_of(&f, 0).high_watermark, 0);
    client_fetch(consumer, 0, 0, 0, 1000);
    fetched before = client_fetched(consumer);
    CHECK_EQ(before.batches, 0);
    CHECK_EQ(before.high_watermark, 0);
    client_fetch(consumer, 0, 0, WAIT_S * 1000, 1000); /* parks */
    CHECK(client_is_quiet(producer));
    set_gate(false, 0);
    int64_t offset;
    CHECK_EQ(client_produced(producer, &offset), 0);
    CHECK_EQ(offset, 0);
    CHECK_EQ(client_fetched(consumer).next_offset, 1);
    CHECK_EQ(info_of(&f, 0).high_watermark, 1);
    (void)close(producer);
    (void)close(consumer);
    engine_end(&f);
  }
}

static void acks_0_waits_for_nobody_and_is_synced(void) {
  engine_fixture f;
  begin(&f, 1);
  set_gate(true, 0);
  int producer = client_open(&f);
  client_produce(producer, 0, 0, 10);
  await_sync();
  await_appended(&f, 0, 1);
  set_gate(false, 0);
  client_produce(producer, 0, -1, 10);
  CHECK_EQ(client_produced(producer, NULL), 0);
  CHECK_EQ(info_of(&f, 0).high_watermark, 2);
  (void)close(producer);
  engine_end(&f);
}

/* flush.messages: all but so many records are on the disk when anybody hears of them; the one that is too many waits for a sync.
   Nobody else does, on a disk that is slower than a request either: records 3, 6, 9, ... begin one. */
static void as_many_wait_as_flush_messages_says(void) {
  for (int round = 0; round < 4; round++) {
    int16_t acks = round % 2 ? 1 : -1;
    engine_fixture f;
    begin_with(&f, 3);
    disk.slow_us = round / 2 * 2000;
    set_gate(true, 0);
    int producer = client_open(&f);
    for (int64_t i = 0, offset; i < 2; i++) {
      client_produce(producer, 0, acks, 10);
      CHECK_EQ(client_produced(producer, &offset), 0);
      CHECK_EQ(offset, i);
    }
    CHECK_EQ(info_of(&f, 0).high_watermark, 2);
    CHECK_EQ(disk.inside, 0);
    client_produce(producer, 0, acks, 10);
    await_sync();
    await_appended(&f, 0, 3);
    CHECK_EQ(info_of(&f, 0).high_watermark, 2);
    client_produce(producer, 0, acks, 10); /* too late for that sync, and one of two that may wait after it */
    await_appended(&f, 0, 4);
    CHECK(client_is_quiet(producer));
    set_gate(false, 0);
    CHECK_EQ(client_produced(producer, NULL), 0);
    CHECK_EQ(client_produced(producer, NULL), 0);
    CHECK_EQ(info_of(&f, 0).high_watermark, 4);
    for (int i = 0; i < 20; i++) {
      client_produce(producer, 0, acks, 10);
      CHECK_EQ(client_produced(producer, NULL), 0);
    }
    CHECK_EQ(disk.passed, 8);
    set_gate(false, EIO);
    int32_t error = 0;
    for (int i = 0; i < 3 && error == 0; i++) {
      client_produce(producer, 0, acks, 10);
      error = client_produced(producer, NULL);
    }
    CHECK_EQ(error, PLOG_KAFKA_STORAGE_ERROR);
    (void)close(producer);
    engine_end(&f);
  }
}

/* What comes during a sync, to any partition of the directory, shares the next one. */
static void a_sync_is_shared(void) {
  enum { CLIENTS = 6 };
  engine_fixture f;
  begin(&f, 2);
  set_gate(true, 0);
  int first = client_open(&f), clients[CLIENTS];
  client_produce(first, 0, -1, 10);
  await_sync();
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = client_open(&f);
    client_produce(clients[i], i % 2, i % 3 ? -1 : 1, 10);
  }
  await_appended(&f, 0, 1 + CLIENTS / 2);
  await_appended(&f, 1, CLIENTS / 2);
  plog_engine_stats stats;
  plog_engine_stats_read(f.engine, &stats);
  CHECK_EQ(stats.syncs, 0);
  set_gate(false, 0);
  CHECK_EQ(client_produced(first, NULL), 0);
  for (int i = 0; i < CLIENTS; i++) CHECK_EQ(client_produced(clients[i], NULL), 0);
  plog_engine_stats_read(f.engine, &stats);
  CHECK_EQ(stats.syncs, 2);
  CHECK_EQ(disk.passed, 3); /* one file, then both */
  (void)close(first);
  for (int i = 0; i < CLIENTS; i++) (void)close(clients[i]);
  engine_end(&f);
}

/* A new segment: what the old one has, the new one, and then the names. */
static void a_roll_is_synced_whole(void) {
  engine_fixture f;
  begin(&f, 1);
  int producer = client_open(&f);
  client_produce(producer, 0, -1, 600000);
  CHECK_EQ(client_produced(producer, NULL), 0);
  int64_t names = plog_sys_count(f.sys, PLOG_SYS_FSYNC), files = disk.passed;
  client_produce(producer, 0, -1, 10);
  CHECK_EQ(client_produced(producer, NULL), 0);
  CHECK_EQ(disk.passed, files + 1);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FSYNC), names); /* no name is new */
  set_gate(true, 0);
  client_produce(producer, 0, -1, 10);
  await_sync();
  int other = client_open(&f);
  client_produce(other, 0, -1, 100); /* in the old segment still, and waits for the next sync */
  await_appended(&f, 0, 4);
  client_produce(other, 0, -1, 600000);
  await_appended(&f, 0, 5);
  files = disk.passed;
  set_gate(false, 0);
  CHECK_EQ(client_produced(producer, NULL), 0);
  CHECK_EQ(client_produced(other, NULL), 0);
  CHECK_EQ(client_produced(other, NULL), 0);
  CHECK_EQ(disk.passed, files + 1 + 2);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_FSYNC), names + 1);
  (void)close(producer);
  (void)close(other);
  engine_end(&f);
}

static void a_failed_sync_is_the_last(void) {
  engine_fixture f;
  begin(&f, 2);
  set_gate(true, 0);
  int acks_all = client_open(&f), acks_1 = client_open(&f), other = client_open(&f);
  client_produce(acks_all, 0, -1, 10);
  await_sync();
  client_produce(acks_1, 0, 1, 10);
  client_produce(other, 1, -1, 10);
  await_appended(&f, 0, 2);
  await_appended(&f, 1, 1);
  set_gate(false, EIO);
  CHECK_EQ(client_produced(acks_all, NULL), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(client_produced(acks_1, NULL), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(client_produced(other, NULL), PLOG_KAFKA_STORAGE_ERROR);
  plog_upcall up = engine_await(&f, PLOG_UP_SYNC_FAILED);
  CHECK_EQ(up.error, EIO);
  CHECK_EQ(up.body_bytes, strlen(f.data_dir));
  CHECK_EQ(memcmp(up.body, f.data_dir, up.body_bytes), 0);
  plog_engine_release(f.engine, &up);
  /* the disk says that all is well again, and is not believed: not even when the partition is published anew */
  set_gate(false, 0);
  int64_t tried = disk.passed;
  CHECK_EQ(tried, 1);
  for (int32_t i = 0; i < 2; i++) CHECK_EQ(plog_engine_publish(f.engine, f.partitions[i], &engine_leader), 0);
  client_produce(acks_all, 0, -1, 10);
  CHECK_EQ(client_produced(acks_all, NULL), PLOG_KAFKA_STORAGE_ERROR);
  client_produce(other, 1, 1, 10);
  CHECK_EQ(client_produced(other, NULL), PLOG_KAFKA_STORAGE_ERROR);
  CHECK_EQ(disk.passed, tried);
  CHECK_EQ(info_of(&f, 0).high_watermark, 0);
  (void)close(acks_all);
  (void)close(acks_1);
  (void)close(other);
  engine_end(&f);
}

/* What a sync is about goes away, or is cut and written anew, while it is under way. */
static void partitions_change_under_a_sync(void) {
  engine_fixture f;
  begin(&f, 2);
  set_gate(true, 0);
  int one = client_open(&f), two = client_open(&f);
  client_produce(one, 0, 1, 10);
  await_sync();
  client_produce(two, 1, 1, 10);
  await_appended(&f, 1, 1);
  plog_log *log;
  CHECK_EQ(plog_engine_remove_partition(f.engine, f.partitions[0], PLOG_NOT_LEADER_OR_FOLLOWER, &log), 0);
  CHECK_EQ(client_produced(one, NULL), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(plog_log_close(log, 0), 0);
  plog_partition_state follower = engine_leader;
  follower.role = PLOG_ROLE_FOLLOWER;
  follower.leader_epoch = 1;
  CHECK_EQ(plog_engine_publish(f.engine, f.partitions[1], &follower), 0);
  CHECK_EQ(client_produced(two, NULL), PLOG_NOT_LEADER_OR_FOLLOWER);
  CHECK_EQ(plog_engine_truncate(f.engine, f.partitions[1], 0, 0), 0);
  set_gate(false, 0);
  plog_partition_state leader = engine_leader;
  leader.leader_epoch = 2;
  CHECK_EQ(plog_engine_publish(f.engine, f.partitions[1], &leader), 0);
  client_produce(two, 1, -1, 10);
  int64_t offset;
  CHECK_EQ(client_produced(two, &offset), 0);
  CHECK_EQ(offset, 0);
  CHECK_EQ(info_of(&f, 1).high_watermark, 1);
  (void)close(one);
  (void)close(two);
  engine_end(&f);
}

/* No descriptor to be had says nothing of the disk: the records wait, and are synced when there is one. */
static void a_shortage_passes(void) {
  engine_fixture f;
  begin(&f, 2);
  set_gate(true, 0);
  int one = client_open(&f), two = client_open(&f);
  client_produce(one, 0, -1, 10);
  await_sync();
  client_produce(two, 1, -1, 10);
  await_appended(&f, 1, 1);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_OPEN, 1, EMFILE, 0, 2), 0);
  set_gate(false, 0);
  CHECK_EQ(client_produced(one, NULL), 0);
  CHECK_EQ(client_produced(two, NULL), 0);
  CHECK_EQ(info_of(&f, 1).high_watermark, 1);
  (void)close(one);
  (void)close(two);
  engine_end(&f);
}

static void stops_under_a_sync(void) {
  engine_fixture f;
  begin(&f, 1);
  set_gate(true, 0);
  int producer = client_open(&f);
  client_produce(producer, 0, -1, 10);
  await_sync();
  CHECK_EQ(plog_engine_stop(f.engine, 0), 0);
  set_gate(false, 0);
  CHECK_EQ(plog_engine_close(f.engine, 1), 0);
  f.engine = NULL;
  (void)close(producer);
  /* and answers first, when it is given the time */
  engine_start(&f, true);
  producer = client_open(&f);
  client_produce(producer, 0, -1, 10);
  await_appended(&f, 0, 2);
  CHECK_EQ(plog_engine_stop(f.engine, WAIT_S * 1000), 0);
  CHECK_EQ(client_produced(producer, NULL), 0);
  (void)close(producer);
  engine_end(&f);
}

int main(void) {
  RUN(nobody_is_ahead_of_the_disk);
  RUN(acks_0_waits_for_nobody_and_is_synced);
  RUN(as_many_wait_as_flush_messages_says);
  RUN(a_sync_is_shared);
  RUN(a_roll_is_synced_whole);
  RUN(a_failed_sync_is_the_last);
  RUN(partitions_change_under_a_sync);
  RUN(a_shortage_passes);
  RUN(stops_under_a_sync);
  return 0;
}
