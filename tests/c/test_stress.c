/*
 * test_stress.c: writers, readers, retention, compaction, flushes and rolls on one log at once, each on threads of its own.
 *
 * What stays true for everybody at any moment: a read gives whole batches with ascending offsets, or says that its offset is
 * deleted; of one key, values come in the order in which they were written. In the end, and after a start, the last value of each
 * key is there unless retention passed it. Everyone works on until all have done their share. For the thread sanitizer above all.
 */
#include <pthread.h>
#include <time.h>

#include "log_fixture.h"

enum {
  WRITERS = 2,
  READERS = 3,
  KEYS = 40,
  RECORDS = 3000,
  SCANS = 20,
  PASSES = 12,
  DELETIONS = 10,
  FLUSHES = 40,
  GROUP = 4
};
enum { DEADLINE_S = 100 };

static fixture f;
static plog_appender *appender;
static _Atomic int working; /* threads that have not done their share */
static _Atomic int64_t deleted_upto;

/* By key: what its writer wrote last, and where. Its writer's alone until all have ended. */
static int64_t last_sequence[WRITERS * KEYS], last_offset[WRITERS * KEYS];

/* Count of the own share; false when everybody is done. */
static bool go_on(int64_t *done, int64_t share) {
  if (++*done == share) atomic_fetch_sub(&working, 1);
  return atomic_load(&working) > 0;
}

/* ---------------------------------------------------------------------------------------------- writers */

static void *write_on(void *context) {
  int32_t writer = (int32_t)(intptr_t)context;
  uint64_t random = (uint64_t)writer + 1;
  uint8_t value[200] = {0};
  int64_t done = 0;
  do {
    int32_t key = writer * KEYS + (int32_t)(test_random(&random) % KEYS);
    plog_put_i64(value, done);
    int32_t size_bytes = 8 + (int32_t)(test_random(&random) % 150);
    int64_t offset = plog_appender_append(appender, value, size_bytes, (const uint8_t *)&key, sizeof key, 1000000 + done);
    if (offset < -1) {
      CHECK(plog_appender_take_attention(appender) >= 0);
      offset = -offset - 2;
    }
    CHECK(offset >= 0 && offset > last_offset[key]);
    CHECK(plog__log_end(f.log) > offset); /* published when it is acknowledged */
    last_sequence[key] = done;
    last_offset[key] = offset;
    if (done > RECORDS) (void)usleep(100); /* enough for the others to work on */
  } while (go_on(&done, RECORDS));
  return NULL;
}

/* ---------------------------------------------------------------------------------------------- readers */

typedef struct {
  int64_t next;
  int64_t sequence[WRITERS * KEYS], offset[WRITERS * KEYS]; /* of each key, -1: not seen */
} scan_state;

static void scan_begin(scan_state *s) {
  memset(s, 0xff, sizeof *s);
}

static int32_t see_record(void *context, int32_t index, const plog_record *record) {
  scan_state *s = context;
  int32_t key;
  (void)index;
  CHECK_EQ(record->key_bytes, sizeof key);
  memcpy(&key, record->key, sizeof key);
  CHECK(key >= 0 && key < WRITERS * KEYS && record->value_bytes >= 8);
  int64_t sequence = plog_get_i64(record->value);
  CHECK(sequence > s->sequence[key] && record->offset > s->offset[key]);
  s->sequence[key] = sequence;
  s->offset[key] = record->offset;
  return 0;
}

static void see_batches(scan_state *s, const uint8_t *data, size_t size_bytes, bool whole) {
  plog_batch_header h;
  size_t at = 0;
  for (; at < size_bytes && plog_batch_check(data + at, size_bytes - at, &h) == 0; at += h.size_bytes) {
    CHECK(h.base_offset >= s->next);
    if (h.records_count > 0) CHECK_EQ(plog__batch_each(data + at, &h, 1 << 20, see_record, s), 0);
    s->next = plog__batch_last_offset(&h) + 1;
  }
  CHECK(at > 0 && (!whole || at == size_bytes));
}

/* From the start to the end by copies. */
static void scan_copies(scan_state *s) {
  uint8_t out[16384];
  scan_begin(s);
  s->next = plog__log_start(f.log);
  int64_t end = plog__log_end(f.log);
  while (s->next < end) {
    size_t n;
    int32_t rc = plog_log_read(f.log, s->next, end, 1, out, sizeof out, &n);
    if (rc == PLOG_OFFSET_OUT_OF_RANGE) { /* deleted before we came */
      CHECK(plog__log_start(f.log) > s->next);
      s->next = plog__log_start(f.log);
      continue;
    }
    CHECK_EQ(rc, 0);
    if (n == 0) break;
    see_batches(s, out, n, true);
  }
}

/* The same by slices of files, which stay readable although their segment is deleted or replaced. */
static void scan_slices(scan_state *s) {
  uint8_t out[16384];
  scan_begin(s);
  s->next = plog__log_start(f.log);
  int64_t end = plog__log_end(f.log);
  while (s->next < end) {
    plog_slice slice;
    int32_t rc = plog__log_slice(f.log, s->next, end, sizeof out, true, true, &slice);
    if (rc == PLOG_OFFSET_OUT_OF_RANGE) {
      CHECK(plog__log_start(f.log) > s->next);
      s->next = plog__log_start(f.log);
      continue;
    }
    CHECK_EQ(rc, 0);
    if (slice.size_bytes == 0) break;
    CHECK(slice.size_bytes <= sizeof out);
    size_t size_bytes = slice.size_bytes;
    CHECK_EQ(plog__sys_pread_all(f.sys, slice.fd, out, size_bytes, slice.position), 0);
    plog__slice_release(&slice);
    see_batches(s, out, size_bytes, false);
  }
}

/* Everything that may be asked at any time. */
static void ask(uint64_t *random) {
  plog_segment_info segments[64];
  int64_t pairs[8], offset, timestamp, end;
  int32_t epoch;
  plog_log_info info;
  plog_log_info_read(f.log, &info);
  CHECK(info.log_start_offset <= info.log_end_offset && info.segment_count > 0);
  int32_t n = plog_log_segments(f.log, segments, 64);
  for (int32_t i = 1; i < n && i < 64; i++) CHECK(segments[i].base_offset >= segments[i - 1].next_offset);
  CHECK(plog_log_epochs(f.log, pairs, 4) <= 1);
  CHECK_EQ(plog_log_end_offset_for_epoch(f.log, 0, &epoch, &end), 0);
  int64_t wanted = 1000000 + (int64_t)(test_random(random) % RECORDS);
  int32_t rc = plog_log_offset_for_timestamp(f.log, wanted, INT64_MAX, &offset, &timestamp, &epoch);
  CHECK(rc == 0 || rc == PLOG_E_NOT_FOUND);
  if (rc == 0) CHECK(timestamp >= wanted && offset < plog__log_end(f.log));
  rc = plog_log_max_timestamp(f.log, &offset, &timestamp, &epoch);
  CHECK(rc == 0 || rc == PLOG_E_NOT_FOUND);
}

static void *read_on(void *context) {
  int32_t reader = (int32_t)(intptr_t)context;
  uint64_t random = (uint64_t)reader + 100;
  scan_state *s = malloc(sizeof *s);
  CHECK(s);
  int64_t done = 0;
  do {
    if (reader == 0) scan_copies(s);
    if (reader == 1) scan_slices(s);
    if (reader == 2) ask(&random);
  } while (go_on(&done, SCANS));
  free(s);
  return NULL;
}

/* ---------------------------------------------------------------------------------------------- retention, flushes, compaction */

static void remove_deleted(void) {
  DIR *d = opendir(f.dir);
  CHECK(d);
  for (struct dirent *e; (e = readdir(d));) {
    char path[512];
    if (!strstr(e->d_name, ".deleted")) continue;
    (void)snprintf(path, sizeof path, "%s/%s", f.dir, e->d_name);
    CHECK(unlink(path) == 0 || errno == ENOENT);
  }
  (void)closedir(d);
}

/* Delete the oldest quarter, records and then segments, when there is something to delete. */
static void *delete_on(void *context) {
  (void)context;
  int64_t done = 0;
  for (bool more = true; more;) {
    int64_t start = plog__log_start(f.log), end = plog__log_end(f.log), upto = start + (end - start) / 4;
    int32_t count = 0;
    if (end - start > RECORDS / 2) {
      atomic_store(&deleted_upto, upto);
      plog_appender_lock(appender);
      CHECK_EQ(plog_log_set_start(f.log, upto), 0);
      CHECK_EQ(plog_log_delete_segments(f.log, upto, &count), 0);
      plog_appender_unlock(appender);
      more = go_on(&done, DELETIONS);
    } else {
      more = atomic_load(&working) > 0;
      (void)usleep(500);
    }
    remove_deleted();
  }
  return NULL;
}

static void *flush_on(void *context) {
  (void)context;
  int64_t done = 0, before = 0, point;
  do {
    CHECK_EQ(plog_log_flush(f.log, &point), 0);
    CHECK(point >= before && point <= plog__log_end(f.log));
    before = point;
    if (done % 8 == 0) {
      plog_appender_lock(appender);
      CHECK_EQ(plog_log_roll(f.log, 0), 0);
      plog_appender_unlock(appender);
    }
    (void)usleep(200);
  } while (go_on(&done, FLUSHES));
  return NULL;
}

/* A pass over the closed segments, in groups. PLOG_E_STOPPED: retention was quicker. */
static int32_t clean_once(int64_t *groups) {
  plog_segment_info segments[FIXTURE_MAX_SEGMENTS / 8];
  int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS / 8);
  if (n < 3 || n > FIXTURE_MAX_SEGMENTS / 8) return PLOG_E_STOPPED;
  const uint8_t secret[16] = {3};
  plog_key_map *map;
  plog_cleaning *c;
  plog_cleaning_settings settings = {segments[0].base_offset, segments[n - 1].base_offset, 0, 0, 8192};
  CHECK_EQ(plog_key_map_open(f.sys, 256, 200, secret, &map), 0);
  CHECK_EQ(plog_cleaning_open(f.log, map, &settings, &c), 0);
  int32_t rc = 0;
  for (int32_t done = 0; rc == 0 && !done;) rc = plog_cleaning_index(c, &done);
  for (int32_t i = 0; rc == 0 && i + 1 < n;) {
    int64_t bases[GROUP];
    int32_t count = 0;
    while (count < GROUP && i + 1 < n) bases[count++] = segments[i++].base_offset;
    rc = plog_cleaning_begin(c, bases, count);
    for (int32_t done = 0; rc == 0 && !done;) rc = plog_cleaning_copy(c, &done);
    if (rc == 0) rc = plog_cleaning_finish(c);
    if (rc == 0) {
      plog_appender_lock(appender);
      rc = plog_log_replace(f.log, c);
      plog_appender_unlock(appender);
    }
    if (rc == 0) rc = plog_cleaning_sync(c);
    if (rc == 0) ++*groups;
  }
  plog_cleaning_close(c);
  plog_key_map_close(map);
  return rc;
}

static void *clean_on(void *context) {
  int64_t *groups = context, done = 0;
  for (bool more = true; more;) {
    int32_t rc = clean_once(groups);
    CHECK(rc == 0 || rc == PLOG_E_STOPPED);
    more = rc == 0 ? go_on(&done, PASSES) : atomic_load(&working) > 0;
    if (rc != 0) (void)usleep(500);
  }
  return NULL;
}

/* ---------------------------------------------------------------------------------------------- all of them */

static void check_last_values(void) {
  scan_state *s = malloc(sizeof *s);
  CHECK(s);
  scan_copies(s);
  int64_t start = plog__log_start(f.log);
  for (int key = 0; key < WRITERS * KEYS; key++) {
    if (last_offset[key] < start) continue;
    CHECK_EQ(s->sequence[key], last_sequence[key]);
    CHECK_EQ(s->offset[key], last_offset[key]);
  }
  free(s);
}

static void live_at_once(int32_t mapped_tail) {
  fixture_begin(&f);
  f.config.segment_bytes = 20000;
  f.config.index_interval_bytes = 500;
  f.config.segment_index_bytes = 4000;
  fixture_open(&f, 0, 0, 1);
  plog__open_files_limit(&f.sys->open_files, PLOG_FILES_CLOSED,
                         4); /* closed segments are shut and opened by name all the time */
  plog_appender_config config = {.level = INT32_MIN,
                                 .compacted = 1,
                                 .max_message_bytes = 1 << 20,
                                 .batch_records = 100,
                                 .batch_bytes = 16384,
                                 .mapped_tail = mapped_tail};
  CHECK_EQ(plog_appender_open(f.sys, f.log, &config, &appender), 0);
  memset(last_offset, 0xff, sizeof last_offset);
  memset(last_sequence, 0xff, sizeof last_sequence);
  int64_t groups = 0;
  pthread_t threads[WRITERS + READERS + 3];
  int n = 0;
  atomic_store(&working, WRITERS + READERS + 3);
  for (intptr_t i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&threads[n++], NULL, write_on, (void *)i), 0);
  for (intptr_t i = 0; i < READERS; i++) CHECK_EQ(pthread_create(&threads[n++], NULL, read_on, (void *)i), 0);
  CHECK_EQ(pthread_create(&threads[n++], NULL, delete_on, NULL), 0);
  CHECK_EQ(pthread_create(&threads[n++], NULL, flush_on, NULL), 0);
  CHECK_EQ(pthread_create(&threads[n++], NULL, clean_on, &groups), 0);
  struct timespec deadline;
  (void)clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += DEADLINE_S;
  for (int i = 0; i < n; i++) CHECK_EQ(pthread_timedjoin_np(threads[i], NULL, &deadline), 0);
  CHECK(groups >= PASSES && plog__log_start(f.log) >= atomic_load(&deleted_upto));
  check_last_values();
  int64_t start = plog__log_start(f.log), end = plog__log_end(f.log);
  (void)fprintf(stderr, "  log %" PRId64 "..%" PRId64 ", %" PRId64 " groups compacted\n", start, end, groups);
  plog_appender_release(appender);
  plog_appender_close(appender);
  fixture_close(&f, 0);
  fixture_open(&f, start, 0, 0);                           /* as after kill -9 */
  if (!mapped_tail) CHECK_EQ(f.report.truncated_bytes, 0); /* else zeros */
  CHECK_EQ(plog__log_end(f.log), end);
  check_last_values();
  fixture_end(&f);
}

static void everything_at_once(void) {
  live_at_once(0);
}

static void everything_at_once_with_a_mapped_tail(void) {
  atomic_store(&deleted_upto, 0);
  live_at_once(1);
}

int main(void) {
  RUN(everything_at_once);
  RUN(everything_at_once_with_a_mapped_tail);
  return 0;
}
