/*
 * test_soundness.c: damaged batches are not served, whenever and wherever the bytes were damaged; everything else is.
 */
#include "engine_fixture.h"
#include "range_check.h"
#include "segment.h"

/* Old versions of Fetch do not know KAFKA_STORAGE_ERROR. */
#define STORAGE_ERROR_V4 PLOG_NOT_LEADER_OR_FOLLOWER

enum { BATCHES = 40, VALUE_BYTES = 3000, BATCH_BYTES = 3070 };

static const plog_batch_header *header_at(const char *path, int64_t position) {
  static plog_batch_header header;
  uint8_t head[PLOG_BATCH_OVERHEAD];
  int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  CHECK_EQ(pread(fd, head, sizeof head, position), sizeof head);
  (void)close(fd);
  (void)plog_batch_header_read(head, sizeof head, &header);
  return &header;
}

/* Forty batches in one segment, a clean stop, and a start. Returns the path of the segment. */
static const char *begin(engine_fixture *f) {
  static char path[160];
  engine_begin(f, 2);
  engine_start(f, false);
  int producer = client_open(f);
  for (int i = 0; i < BATCHES; i++) {
    client_produce(producer, 0, 1, VALUE_BYTES);
    CHECK_EQ(client_produced(producer, NULL), 0);
  }
  client_produce(producer, 1, 1, 10);
  CHECK_EQ(client_produced(producer, NULL), 0);
  (void)close(producer);
  engine_stop(f);
  (void)snprintf(path, sizeof path, "%s/%020d.log", f->dirs[0], 0);
  CHECK_EQ(header_at(path, 0)->size_bytes, BATCH_BYTES);
  return path;
}

static void flip(const char *path, int64_t position) {
  int fd = open(path, O_RDWR);
  uint8_t byte;
  CHECK(fd >= 0);
  CHECK_EQ(pread(fd, &byte, 1, position), 1);
  byte ^= 4;
  CHECK_EQ(pwrite(fd, &byte, 1, position), 1);
  (void)close(fd);
}

static fetched fetch(const engine_fixture *f, int32_t index, int64_t offset, int32_t max_bytes) {
  int consumer = client_open(f);
  client_fetch(consumer, index, offset, 0, max_bytes);
  fetched out = client_fetched(consumer);
  (void)close(consumer);
  return out;
}

static plog_engine_stats stats_of(const engine_fixture *f) {
  plog_engine_stats stats;
  plog_engine_stats_read(f->engine, &stats);
  return stats;
}

/* What was there before the start is compared once, when it is first asked for; what this process wrote is not. */
static void compared_once(void) {
  engine_fixture f;
  (void)begin(&f);
  engine_start(&f, false);
  for (int turn = 0; turn < 2; turn++) {
    fetched all = fetch(&f, 0, 0, 1 << 20);
    CHECK_EQ(all.error, 0);
    CHECK_EQ(all.batches, BATCHES);
    CHECK_EQ(stats_of(&f).checked_bytes, (int64_t)BATCHES * BATCH_BYTES);
  }
  int producer = client_open(&f);
  client_produce(producer, 0, 1, VALUE_BYTES);
  CHECK_EQ(client_produced(producer, NULL), 0);
  (void)close(producer);
  CHECK_EQ(fetch(&f, 0, BATCHES - 1, 1 << 20).batches, 2);
  CHECK_EQ(stats_of(&f).checked_bytes, (int64_t)BATCHES * BATCH_BYTES);
  engine_end(&f);
}

/* Wherever the bit is: what lies before the damaged batch is served, at it there is an error, behind it all is well. */
static void a_flipped_bit_is_not_served(void) {
  enum { DAMAGED = 7 };
  static const int64_t places[] = {PLOG_LOG_OVERHEAD - 1, 16, 17, 22, 30, 61, BATCH_BYTES - 1};
  for (size_t i = 0; i < PLOG_COUNT_OF(places); i++) {
    engine_fixture f;
    const char *path = begin(&f);
    flip(path, (int64_t)DAMAGED * BATCH_BYTES + places[i]);
    engine_start(&f, false);
    fetched before = fetch(&f, 0, 0, 1 << 20);
    CHECK_EQ(before.error, 0);
    CHECK_EQ(before.next_offset, DAMAGED);
    CHECK(!before.damaged);
    for (int turn = 0; turn < 2; turn++) {
      fetched at = fetch(&f, 0, DAMAGED, 1 << 20);
      CHECK_EQ(at.error, PLOG_CORRUPT_MESSAGE);
      CHECK_EQ(at.batches, 0);
    }
    CHECK_EQ(stats_of(&f).damaged_batches, 1);
    plog_upcall up = engine_await(&f, PLOG_UP_DAMAGE);
    CHECK_EQ(up.error, 0);
    CHECK_EQ(up.token, (int64_t)DAMAGED * BATCH_BYTES);
    CHECK(up.body_bytes == strlen(path) && memcmp(up.body, path, up.body_bytes) == 0);
    if (places[i] > 16) CHECK(up.offset == DAMAGED && up.a == DAMAGED && up.b == BATCH_BYTES);
    plog_engine_release(f.engine, &up);
    CHECK_EQ(fetch(&f, 1, 0, 1 << 20).batches, 1);
    if (places[i] > 16) { /* else nothing says where the next batch begins */
      fetched behind = fetch(&f, 0, DAMAGED + 1, 1 << 20);
      CHECK_EQ(behind.error, 0);
      CHECK_EQ(behind.batches, BATCHES - DAMAGED - 1);
      CHECK_EQ(behind.next_offset, BATCHES);
    }
    engine_end(&f);
  }
}

/* One damaged partition disturbs no other of the same fetch, nor does it end with it what waits. */
static void many_ask_at_once(void) {
  enum { CLIENTS = 8 };
  engine_fixture f;
  const char *path = begin(&f);
  flip(path, 61);
  engine_start(&f, false);
  int clients[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = client_open(&f);
    client_fetch(clients[i], 0, i % 2, 1000, 1 << 20);
  }
  for (int i = 0; i < CLIENTS; i++) {
    fetched out = client_fetched(clients[i]);
    CHECK_EQ(out.error, i % 2 ? 0 : PLOG_CORRUPT_MESSAGE);
    CHECK_EQ(out.batches, i % 2 ? BATCHES - 1 : 0);
    (void)close(clients[i]);
  }
  CHECK_EQ(stats_of(&f).damaged_batches, 1);
  engine_end(&f);
}

/* Clients that leave while their bytes are compared, and an engine that stops. */
static void nobody_waits_any_more(void) {
  engine_fixture f;
  (void)begin(&f);
  engine_start(&f, false);
  for (int i = 0; i < 20; i++) {
    int consumer = client_open(&f);
    client_fetch(consumer, 0, i, 1000, 1 << 20);
    (void)close(consumer);
  }
  int consumer = client_open(&f);
  client_fetch(consumer, 0, 5, 1000, 1 << 20);
  engine_stop(&f);
  (void)close(consumer);
  engine_end(&f);
}

/* A disk that cannot read says so to the fetch, and to Python. */
static void unreadable(void) {
  engine_fixture f;
  (void)begin(&f);
  engine_start(&f, false);
  CHECK_EQ(fetch(&f, 1, 0, 1000).batches, 1); /* the threads are there */
  CHECK_EQ(fetch(&f, 0, 39, 0).error, 0);     /* and the indexes open */
  int64_t reads = plog_sys_count(f.sys, PLOG_SYS_PREAD);
  CHECK_EQ(fetch(&f, 0, 0, 1).batches, 1);
  reads = plog_sys_count(f.sys, PLOG_SYS_PREAD) - reads; /* the last of them is of the answer, or of the check */
  engine_stop(&f);
  bool refused = false;
  for (int64_t nth = 1; nth <= reads; nth++) {
    engine_start(&f, false);
    CHECK_EQ(fetch(&f, 1, 0, 1000).batches, 1);
    CHECK_EQ(fetch(&f, 0, 39, 0).error, 0);
    CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PREAD, nth, EIO, 0, 1), 0);
    fetched out = fetch(&f, 0, 0, 1);
    CHECK(out.closed || out.error == STORAGE_ERROR_V4 || (out.error == 0 && out.batches == 1));
    refused = refused || out.error == STORAGE_ERROR_V4;
    engine_stop(&f);
  }
  CHECK(refused);
  engine_end(&f);
}

/* ------------------------------------------------------------------------------------------------ bytes that left memory */

/* What the kernel says of the page cache, in the test's hands: nothing of the file is in it until it has been read. */
static _Atomic bool evicted;
static int64_t (*real_preadv2)(void *, int, const struct iovec *, int, int64_t, int);
static int64_t (*real_pread)(void *, int, void *, size_t, int64_t);

static int64_t cold_cachestat(void *context, int fd, int64_t position, int64_t size_bytes) {
  (void)context;
  (void)fd;
  (void)position;
  return atomic_load(&evicted) ? 0 : size_bytes / 4096 + 2;
}

static int64_t cold_preadv2(void *context, int fd, const struct iovec *pieces, int count, int64_t position, int flags) {
  if (atomic_load(&evicted)) return -EAGAIN;
  return real_preadv2(context, fd, pieces, count, position, flags);
}

static int64_t warming_pread(void *context, int fd, void *data, size_t size_bytes, int64_t position) {
  if (size_bytes > sizeof((plog_scan *)0)->buffer) atomic_store(&evicted, false); /* a header brings in one page */
  return real_pread(context, fd, data, size_bytes, position);
}

static void begin_cold(engine_fixture *f, const char **path) {
  *path = begin(f);
  real_preadv2 = f->sys->calls.preadv2;
  real_pread = f->sys->calls.pread;
  f->sys->calls.preadv2 = cold_preadv2;
  f->sys->calls.pread = warming_pread;
  f->sys->calls.cachestat = cold_cachestat;
  atomic_store(&evicted, false);
  engine_start(f, false);
  CHECK_EQ(fetch(f, 0, 0, 1 << 20).batches, BATCHES); /* all of it is sound */
}

/* What comes back from the disk as it was is served, compared once more, by every way of sending. */
static void comes_back_as_it_was(void) {
  static const int32_t sizes[] = {1 << 20, 100000, 4000};
  for (size_t i = 0; i < PLOG_COUNT_OF(sizes); i++) {
    engine_fixture f;
    const char *path;
    begin_cold(&f, &path);
    int64_t before = stats_of(&f).checked_bytes;
    atomic_store(&evicted, true);
    fetched out = fetch(&f, 0, 1, sizes[i]);
    CHECK(!out.closed && out.error == 0 && out.batches > 0 && !out.damaged);
    CHECK_EQ(stats_of(&f).cold_reads, 1);
    CHECK(stats_of(&f).checked_bytes - before >= (int64_t)out.batches * BATCH_BYTES);
    engine_end(&f);
  }
}

/* What comes back damaged: the connection ends before the damage, and whoever asks again is told. */
static void comes_back_damaged(void) {
  enum { DAMAGED = 3 };
  static const int32_t sizes[] = {1 << 20, 100000, 16000};
  for (size_t i = 0; i < PLOG_COUNT_OF(sizes); i++) {
    engine_fixture f;
    const char *path;
    begin_cold(&f, &path);
    flip(path, (int64_t)DAMAGED * BATCH_BYTES + 100);
    atomic_store(&evicted, true);
    fetched out = fetch(&f, 0, 1, sizes[i]);
    CHECK(out.closed);
    CHECK_EQ(stats_of(&f).damaged_batches, 1);
    out = fetch(&f, 0, 1, sizes[i]);
    CHECK_EQ(out.error, 0);
    CHECK_EQ(out.next_offset, DAMAGED);
    CHECK_EQ(fetch(&f, 0, DAMAGED, sizes[i]).error, PLOG_CORRUPT_MESSAGE);
    CHECK(fetch(&f, 0, DAMAGED + 1, sizes[i]).batches > 0);
    CHECK_EQ(stats_of(&f).damaged_batches, 1);
    engine_end(&f);
  }
}

/* The kernel reads ahead: what followed the cold bytes is compared as well, though it is in memory when it is asked for. */
static void what_was_read_ahead_is_compared(void) {
  engine_fixture f;
  const char *path;
  begin_cold(&f, &path);
  flip(path, 30 * BATCH_BYTES + 100);
  atomic_store(&evicted, true);
  CHECK(fetch(&f, 0, 0, 10000).batches > 0);
  CHECK(!atomic_load(&evicted));
  CHECK_EQ(fetch(&f, 0, 30, 10000).error, PLOG_CORRUPT_MESSAGE);
  engine_end(&f);
}

/* ------------------------------------------------------------------------------------------------ the check itself */

/* Batches larger than what is read at once, and every place where a window may end. */
static void large_batches(void) {
  plog_sys *sys = plog_sys_open();
  CHECK(sys);
  static uint8_t scratch[PLOG_CHECK_SCRATCH_BYTES], value[500000];
  char path[] = "/tmp/plog_check_XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  static const int32_t sizes[] = {PLOG_CHECK_SCRATCH_BYTES - 75, 1, 400000, 130000, 5, 262144, 131000, 0};
  plog_batch_builder *b = plog_batch_builder_open();
  int64_t size_bytes = 0, last_from = 0;
  for (size_t i = 0; i < PLOG_COUNT_OF(sizes); i++) {
    const uint8_t *data;
    size_t batch_bytes;
    plog_batch_builder_reset(b, (int64_t)i, 0, -1, -1, -1, 0);
    CHECK_EQ(plog_batch_builder_add(b, 1, NULL, -1, value, sizes[i], NULL, 0, 0), 0);
    CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &batch_bytes), 0);
    CHECK_EQ(pwrite(fd, data, batch_bytes, size_bytes), batch_bytes);
    last_from = size_bytes;
    size_bytes += (int64_t)batch_bytes;
  }
  plog_batch_builder_close(b);
  plog_range_check check = {sys, fd, 0, size_bytes, size_bytes, 0, PLOG_COUNT_OF(sizes), true};
  plog_range_result result;
  CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
  CHECK(!result.damaged && result.sound_to == size_bytes);
  check.limit_offset--; /* the last offset is beyond the segment */
  CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
  CHECK(result.damaged && result.sound_to == last_from);
  check.limit_offset++;
  check.least_offset = 1; /* the first one below what was asked for */
  CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
  CHECK(result.damaged && result.sound_to == 0 && result.first_offset == 0);
  check.least_offset = 0;
  check.limit_bytes = size_bytes - 1; /* torn */
  CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
  CHECK(result.damaged && result.sound_to == last_from);
  check.limit_bytes = size_bytes;
  uint64_t random = 3;
  for (int i = 0; i < 60; i++) {
    int64_t at = (int64_t)(test_random(&random) % (uint64_t)size_bytes);
    uint8_t byte, changed;
    CHECK_EQ(pread(fd, &byte, 1, at), 1);
    changed = byte ^ (uint8_t)(1 << i % 8);
    CHECK_EQ(pwrite(fd, &changed, 1, at), 1);
    CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
    CHECK(result.damaged && result.sound_to <= at);
    CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
  }
  CHECK_EQ(ftruncate(fd, size_bytes - 10), 0); /* under its feet */
  CHECK_EQ(plog__range_check_run(&check, scratch, &result), 0);
  CHECK(result.damaged);
  (void)close(fd);
  CHECK_EQ(unlink(path), 0);
  plog_sys_close(sys);
}

int main(void) {
  RUN(large_batches);
  RUN(compared_once);
  RUN(a_flipped_bit_is_not_served);
  RUN(many_ask_at_once);
  RUN(nobody_waits_any_more);
  RUN(unreadable);
  RUN(comes_back_as_it_was);
  RUN(comes_back_damaged);
  RUN(what_was_read_ahead_is_compared);
  return 0;
}
