/*
 * test_clean.c: compaction: the map of keys, what a pass leaves of a log, and putting that in place under readers, a writer and
 * failing system calls.
 *
 * Whatever happens, the last value of every key is what the appends say, and offsets rise.
 */
#include <pthread.h>

#include "key_map.h"
#include "log_fixture.h"

enum { KEYS = 40, GROUP_MAX = 64 };

static fixture f;

/* ---------------------------------------------------------------------------------------------- the map */

static int32_t open_map(int64_t max_keys, plog_key_map **out) {
  uint8_t secret[16];
  for (int i = 0; i < 16; i++) secret[i] = (uint8_t)i;
  return plog_key_map_open(f.sys, max_keys + max_keys / 4 + 1, max_keys, secret, out);
}

static plog_key_map *new_map(int64_t max_keys) {
  plog_key_map *map;
  CHECK_EQ(open_map(max_keys, &map), 0);
  return map;
}

/* The vectors published with SipHash-2-4, 128 bits: secret 00 01 .. 0f, input 00 01 .. */
static void hash_is_siphash(void) {
  fixture_begin(&f);
  plog_key_map *map = new_map(8);
  const uint8_t input[2] = {0, 1},
                none[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
  const uint8_t one[16] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
  plog_key_hash h = plog__key_hash(map, input, 0);
  CHECK(memcmp(&h, none, 16) == 0);
  h = plog__key_hash(map, input, 1);
  CHECK(memcmp(&h, one, 16) == 0);
  plog_key_map_close(map);
  fixture_end(&f);
}

static void map_holds_what_was_put(void) {
  enum { COUNT = 5000 };
  fixture_begin(&f);
  plog_key_map *map = new_map(COUNT);
  for (int round = 0; round < 2; round++)
    for (int32_t i = 0; i < COUNT; i++) {
      plog_key_hash h = plog__key_hash(map, (const uint8_t *)&i, sizeof i);
      CHECK_EQ(plog__key_map_get(map, h), round == 0 ? -1 : i);
      plog__key_map_put(map, h, round == 0 ? i : 100000 + i);
    }
  CHECK(plog__key_map_full(map));
  CHECK_EQ(plog_key_map_count(map), COUNT);
  int32_t other = COUNT;
  CHECK_EQ(plog__key_map_get(map, plog__key_hash(map, (const uint8_t *)&other, sizeof other)), -1);
  other = 77;
  CHECK_EQ(plog__key_map_get(map, plog__key_hash(map, (const uint8_t *)&other, sizeof other)), 100077);
  plog_key_map_close(map);
  const uint8_t secret[16] = {0};
  CHECK_EQ(plog_key_map_open(f.sys, 10, 10, secret, &map), -EINVAL); /* no free slot to end a search */
  CHECK_EQ(plog_key_map_open(f.sys, 10, 0, secret, &map), -EINVAL);
  CHECK_EQ(plog_key_map_open(f.sys, INT64_MAX / 24, 1, secret, &map), -ENOMEM);
  fixture_end(&f);
}

/* ---------------------------------------------------------------------------------------------- a log of keys */

typedef struct {
  int64_t last[KEYS]; /* value of a key: the offset it was written at, -1 never, -2 tombstone */
} model;

/* One batch of `count` records with keys drawn at random. */
static void append_keys(model *m, uint64_t *seed, int32_t count, int32_t codec, int64_t producer_id, int32_t sequence) {
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  int64_t end = plog__log_end(f.log);
  plog_batch_builder_reset(b, end, codec, producer_id, producer_id < 0 ? -1 : 0, sequence, 0);
  for (int32_t i = 0; i < count; i++) {
    uint64_t r = test_random(seed);
    int32_t key = (int32_t)(r % KEYS);
    int64_t value = end + i;
    bool tombstone = (r >> 20) % 8 == 0;
    CHECK_EQ(plog_batch_builder_add(b, 5000 + value, (const uint8_t *)&key, sizeof key,
                                    tombstone ? NULL : (const uint8_t *)&value, tombstone ? -1 : (int32_t)sizeof value,
                                    NULL, 0, 0),
             0);
    if (m) m->last[key] = tombstone ? -2 : value;
  }
  const uint8_t *data;
  size_t size_bytes;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &size_bytes), 0);
  int64_t last;
  CHECK_EQ(plog_log_append(f.log, data, size_bytes, 0, &last), 0);
  plog_batch_builder_close(b);
}

typedef struct {
  model found;
  int64_t next; /* offset the next record must not be below */
  int64_t records, tombstones;
} reading;

static int32_t see_record(void *context, int32_t index, const plog_record *record) {
  reading *r = context;
  (void)index;
  CHECK(record->offset >= r->next && record->timestamp == 5000 + record->offset);
  r->next = record->offset + 1;
  int32_t key;
  CHECK_EQ(record->key_bytes, (int)sizeof key);
  memcpy(&key, record->key, sizeof key);
  int64_t value = -2;
  if (record->value) memcpy(&value, record->value, sizeof value);
  CHECK(value == -2 || value == record->offset);
  r->found.last[key] = value;
  r->records++;
  r->tombstones += record->value == NULL;
  return 0;
}

static void read_all(reading *r) {
  static uint8_t out[1 << 18];
  memset(r, 0, sizeof *r);
  for (int i = 0; i < KEYS; i++) r->found.last[i] = -1;
  int64_t offset = 0, end = plog__log_end(f.log);
  while (offset < end) {
    size_t n;
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    if (n == 0) return; /* the rest was compacted away */
    plog_batch_header header;
    for (size_t at = 0; at < n; at += header.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, n - at, &header), 0);
      CHECK(plog__batch_last_offset(&header) >= offset && header.base_offset >= r->next);
      if (header.records_count > 0) CHECK_EQ(plog__batch_each(out + at, &header, 1 << 20, see_record, r), 0);
      r->next = offset = plog__batch_last_offset(&header) + 1;
    }
  }
}

/* A tombstone that is gone and a key that never was look alike. */
static void check_state(const model *m) {
  reading r;
  read_all(&r);
  for (int i = 0; i < KEYS; i++) {
    int64_t wanted = m->last[i] < 0 ? -1 : m->last[i], found = r.found.last[i] < 0 ? -1 : r.found.last[i];
    CHECK_EQ(found, wanted);
  }
  /* a read from anywhere begins at the first batch that is not below */
  int64_t end = plog__log_end(f.log);
  for (int64_t at = 0; at < end; at += 3) {
    plog_slice slice;
    CHECK_EQ(plog__log_slice(f.log, at, INT64_MAX, 1, true, true, &slice), 0);
    plog__slice_release(&slice);
  }
}

/* ---------------------------------------------------------------------------------------------- a pass */

typedef struct {
  int64_t now_ms, delete_retention_ms, max_keys, io_bytes;
  int32_t per_group;
  int64_t next_dirty; /* out */
  plog_cleaning_stats stats;
} pass;

static int32_t clean_group(plog_cleaning *c, const int64_t *bases, int32_t count) {
  int32_t done = 0, rc = plog_cleaning_begin(c, bases, count);
  while (rc == 0 && !done) rc = plog_cleaning_copy(c, &done);
  if (rc == 0) rc = plog_cleaning_finish(c);
  if (rc == 0) rc = plog_log_replace(f.log, c);
  if (rc == 0) rc = plog_cleaning_sync(c);
  return rc;
}

/* Clean everything below the active segment, keys from first_dirty on. */
static int32_t clean(pass *p, int64_t first_dirty) {
  static plog_segment_info segments[FIXTURE_MAX_SEGMENTS];
  int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS);
  plog_key_map *map;
  int32_t rc = open_map(p->max_keys, &map);
  if (rc != 0) return rc;
  plog_cleaning_settings settings = {first_dirty, segments[n - 1].base_offset, p->now_ms, p->delete_retention_ms,
                                     p->io_bytes};
  plog_cleaning *c;
  int32_t done = 0;
  rc = plog_cleaning_open(f.log, map, &settings, &c);
  if (rc == 0) {
    while (rc == 0 && !done) rc = plog_cleaning_index(c, &done);
    plog_cleaning_stats_read(c, &p->stats);
    for (int32_t i = 0; rc == 0 && i + 1 < n && segments[i].base_offset < p->stats.next_dirty_offset;) {
      int64_t bases[GROUP_MAX];
      int32_t count = 0;
      while (count < p->per_group && i + 1 < n) bases[count++] = segments[i++].base_offset;
      rc = clean_group(c, bases, count);
    }
    plog_cleaning_stats_read(c, &p->stats);
    plog_cleaning_close(c);
  }
  plog_key_map_close(map);
  p->next_dirty = p->stats.next_dirty_offset;
  return rc;
}

static pass usual_pass(void) {
  return (pass){.now_ms = 1000000, .delete_retention_ms = 1000, .max_keys = 1000, .io_bytes = 700, .per_group = 3};
}

static void begin_log(model *m, uint64_t *seed, int batches) {
  fixture_begin(&f);
  f.config.segment_bytes = 900;
  f.config.index_interval_bytes = 100;
  f.config.segment_index_bytes = 2000;
  fixture_open(&f, 0, 0, 1);
  for (int i = 0; i < KEYS; i++) m->last[i] = -1;
  for (int i = 0; i < batches; i++)
    append_keys(m, seed, 1 + (int32_t)(test_random(seed) % 6), i % 5 == 0 ? PLOG_CODEC_SNAPPY : 0, -1, -1);
}

static void keeps_the_last_of_each_key(void) {
  model m;
  uint64_t seed = 1;
  begin_log(&m, &seed, 120);
  reading before, after;
  read_all(&before);
  int32_t segments = fixture_info(&f).segment_count;
  pass p = usual_pass();
  CHECK_EQ(clean(&p, 0), 0);
  check_state(&m);
  read_all(&after);
  CHECK(after.records < before.records / 2 && after.tombstones > 0);
  CHECK_EQ(p.stats.records_read - p.stats.records_kept, before.records - after.records);
  CHECK(fixture_info(&f).segment_count <= segments / 3 + 2);
  CHECK_EQ(p.stats.groups, fixture_info(&f).segment_count - 1);
  /* tombstones go when their time has come, and nothing else does */
  p.now_ms += p.delete_retention_ms - 1;
  CHECK_EQ(clean(&p, p.next_dirty), 0);
  reading again;
  read_all(&again);
  CHECK_EQ(again.records, after.records);
  p.now_ms++;
  CHECK_EQ(clean(&p, p.next_dirty), 0);
  read_all(&again);
  CHECK(again.tombstones < after.tombstones); /* the active segment has some */
  CHECK_EQ(again.records - again.tombstones, after.records - after.tombstones);
  check_state(&m);
  fixture_close(&f, 1);
  fixture_open(&f, 0, 0, 0);
  check_state(&m);
  fixture_end(&f);
}

static void a_small_map_takes_several_passes(void) {
  model m;
  uint64_t seed = 2;
  begin_log(&m, &seed, 150);
  pass p = usual_pass();
  p.max_keys = KEYS / 4;
  int64_t dirty = 0;
  int passes = 0;
  plog_segment_info segments[FIXTURE_MAX_SEGMENTS];
  for (;; passes++) {
    int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS);
    if (dirty >= segments[n - 1].base_offset) break;
    CHECK_EQ(clean(&p, dirty), 0);
    CHECK(p.next_dirty > dirty);
    dirty = p.next_dirty;
    check_state(&m);
  }
  CHECK(passes > 5);
  fixture_end(&f);
}

static void the_last_batch_of_a_producer_stays(void) {
  model m;
  uint64_t seed = 3;
  begin_log(&m, &seed, 0);
  append_keys(&m, &seed, 2, 0, 9, 0);
  append_keys(&m, &seed, 3, PLOG_CODEC_SNAPPY, 9, 2);
  for (int i = 0; i < 60; i++) append_keys(&m, &seed, 5, 0, -1, -1);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  pass p = usual_pass();
  CHECK_EQ(clean(&p, 0), 0);
  check_state(&m);
  static uint8_t out[1 << 16];
  size_t n;
  plog_batch_header header;
  CHECK_EQ(plog_log_read(f.log, 0, INT64_MAX, 1, out, sizeof out, &n), 0);
  CHECK_EQ(plog_batch_header_read(out, n, &header), 0);
  CHECK_EQ(header.size_bytes, PLOG_BATCH_OVERHEAD); /* the first is gone, of the second the header is left */
  CHECK(header.base_offset == 2 && header.last_offset_delta == 2 && header.records_count == 0);
  CHECK(header.producer_id == 9 && header.base_sequence == 2 && header.attributes == 0 && header.base_timestamp == -1);
  fixture_close(&f, 0);
  fixture_open(&f, 0, 0, 0);
  plog_producer_info producer[4];
  CHECK_EQ(plog_log_producers(f.log, producer, 4), 1);
  CHECK(producer[0].last_sequence == 4 && producer[0].last_offset == 4);
  CHECK_EQ(plog_log_expire_producers(f.log, INT64_MAX, &(int32_t){0}), 0);
  CHECK_EQ(clean(&p, p.next_dirty), 0); /* nobody knows it any more */
  CHECK_EQ(plog_log_read(f.log, 0, INT64_MAX, 1, out, sizeof out, &n), 0);
  CHECK_EQ(plog_batch_header_read(out, n, &header), 0);
  CHECK(header.base_offset > 2);
  fixture_end(&f);
}

/* ---------------------------------------------------------------------------------------------- transactions */

static void append_txn(int64_t producer_id, int32_t sequence, int32_t key) {
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  int64_t end = plog__log_end(f.log), last;
  plog_batch_builder_reset(b, end, PLOG_ATTR_TRANSACTIONAL, producer_id, 0, sequence, 0);
  CHECK_EQ(plog_batch_builder_add(b, 5000 + end, (const uint8_t *)&key, 4, (const uint8_t *)&end, 8, NULL, 0, 0), 0);
  const uint8_t *data;
  size_t size_bytes;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &size_bytes), 0);
  CHECK_EQ(plog_log_append(f.log, data, size_bytes, 0, &last), 0);
  plog_batch_builder_close(b);
}
static void append_marker(int64_t producer_id, int abort_it) {
  stamped s;
  stamp_marker(&s, plog__log_end(f.log), producer_id, abort_it);
  CHECK_EQ(fixture_append(&f, &s), 0);
}

typedef struct {
  int32_t data, empty, markers, horizons;
} batch_counts;

static batch_counts count_batches(void) {
  static uint8_t out[1 << 16];
  batch_counts found = {0};
  int64_t offset = 0;
  size_t n = 1;
  while (offset < plog__log_end(f.log) && n > 0) {
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    plog_batch_header h;
    for (size_t at = 0; at < n; at += h.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, n - at, &h), 0);
      if (h.records_count == 0)
        found.empty++;
      else if (h.attributes & PLOG_ATTR_CONTROL)
        found.markers++;
      else
        found.data++;
      found.horizons += (h.attributes & PLOG_ATTR_DELETE_HORIZON) != 0;
      offset = plog__batch_last_offset(&h) + 1;
    }
  }
  return found;
}

static void aborted_records_and_spent_markers_go(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 400;
  fixture_open(&f, 0, 0, 1);
  append_txn(1, 0, 7); /* aborted */
  append_txn(2, 0, 8); /* committed */
  append_txn(1, 1, 9);
  append_marker(1, 1);
  append_marker(2, 0);
  append_txn(3, 0, 10); /* aborted; the last batch of its producer */
  append_marker(3, 1);
  append_txn(1, 2, 11); /* so that the last batches of 1 and 2 are others */
  append_txn(2, 1, 12);
  append_marker(1, 0);
  append_marker(2, 0);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  pass p = usual_pass();
  p.per_group = 2;
  CHECK_EQ(clean(&p, 0), 0);
  batch_counts found = count_batches();
  /* data 8, 11, 12 stay, 10 as an empty header; all markers are still needed, for each met a batch of its transaction */
  CHECK(found.data == 3 && found.empty == 1 && found.markers == 5 && found.horizons == 0);
  int64_t triples[30];
  int32_t count;
  CHECK_EQ(plog_log_aborted(f.log, 0, INT64_MAX, triples, 10, &count), 0);
  CHECK_EQ(count, 2);
  p.now_ms += 10;
  CHECK_EQ(clean(&p, p.next_dirty), 0);
  found = count_batches(); /* the marker of the first transaction of 1 meets nothing now, and gets its horizon */
  CHECK(found.data == 3 && found.empty == 1 && found.markers == 5 && found.horizons == 1);
  CHECK_EQ(plog_log_aborted(f.log, 0, INT64_MAX, triples, 10, &count), 0);
  CHECK(count == 1 && triples[0] == 3);
  p.now_ms += p.delete_retention_ms;
  CHECK_EQ(clean(&p, p.next_dirty), 0);
  found = count_batches();
  CHECK(found.data == 3 && found.empty == 1 && found.markers == 4 && found.horizons == 0);
  fixture_close(&f, 0);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(fixture_info(&f).last_stable_offset_limit, INT64_MAX);
  fixture_end(&f);
}

/* ---------------------------------------------------------------------------------------------- readers, refusals, faults */

static void readers_of_old_segments_finish(void) {
  model m;
  uint64_t seed = 4;
  begin_log(&m, &seed, 60);
  plog_slice slice;
  CHECK_EQ(plog__log_slice(f.log, 0, INT64_MAX, 1 << 20, true, true, &slice), 0);
  uint8_t *before = malloc(slice.size_bytes), *after = malloc(slice.size_bytes);
  CHECK(before && after);
  CHECK_EQ(plog__sys_pread_all(f.sys, slice.fd, before, slice.size_bytes, slice.position), 0);
  pass p = usual_pass();
  CHECK_EQ(clean(&p, 0), 0);
  CHECK_EQ(plog__sys_pread_all(f.sys, slice.fd, after, slice.size_bytes, slice.position), 0);
  CHECK(memcmp(before, after, slice.size_bytes) == 0);
  plog__slice_release(&slice);
  free(before);
  free(after);
  check_state(&m);
  fixture_end(&f);
}

/* What happened to the log between the copy and the swap. */
static void refused_when_the_log_changed(void) {
  for (int what = 0; what < 3; what++) {
    model m;
    uint64_t seed = 5;
    begin_log(&m, &seed, 60);
    plog_segment_info segments[FIXTURE_MAX_SEGMENTS];
    int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS), done = 0, count;
    CHECK(n > 4);
    plog_key_map *map = new_map(1000);
    plog_cleaning_settings settings = {0, segments[n - 1].base_offset, 0, 0, 4096};
    plog_cleaning *c;
    CHECK_EQ(plog_cleaning_open(f.log, map, &settings, &c), 0);
    while (!done) CHECK_EQ(plog_cleaning_index(c, &done), 0);
    CHECK_EQ(plog_log_replace(f.log, c), PLOG_E_NOT_FOUND);
    int64_t bases[2] = {segments[0].base_offset, segments[1].base_offset};
    CHECK_EQ(plog_cleaning_begin(c, bases, 2), 0);
    for (done = 0; !done;) CHECK_EQ(plog_cleaning_copy(c, &done), 0);
    CHECK_EQ(plog_cleaning_finish(c), 0);
    if (what == 0) CHECK_EQ(plog_log_delete_segments(f.log, segments[1].base_offset, &count), 0);
    if (what == 1) CHECK_EQ(plog_log_truncate(f.log, plog__log_end(f.log) - 1, 0), 0);
    if (what == 2) CHECK_EQ(plog_log_truncate_fully(f.log, 0, 0), 0);
    CHECK_EQ(plog_log_replace(f.log, c), PLOG_E_STOPPED);
    CHECK_EQ(plog_cleaning_begin(c, bases, 2), 0); /* nor does it begin again */
    CHECK_EQ(plog_cleaning_copy(c, &done), PLOG_E_STOPPED);
    plog_cleaning_close(c);
    plog_key_map_close(map);
    CHECK_EQ(fixture_size(&f, bases[0], ".log.cleaned"), -1);
    CHECK_EQ(fixture_size(&f, bases[0], ".log.swap"), -1);
    fixture_end(&f);
  }
}

static void damage_ends_a_pass(void) {
  model m;
  uint64_t seed = 6;
  begin_log(&m, &seed, 60);
  char path[512];
  plog_segment_info segments[FIXTURE_MAX_SEGMENTS];
  int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS);
  (void)snprintf(path, sizeof path, "%s/%020" PRId64 ".log", f.dir, segments[1].base_offset);
  int fd = open(path, O_RDWR);
  CHECK(fd >= 0);
  uint8_t byte;
  CHECK_EQ(pread(fd, &byte, 1, segments[1].size_bytes - 1), 1);
  byte ^= 1;
  CHECK_EQ(pwrite(fd, &byte, 1, segments[1].size_bytes - 1), 1);
  (void)close(fd);
  pass p = usual_pass();
  CHECK_EQ(clean(&p, 0), PLOG_CORRUPT_MESSAGE);
  CHECK_EQ(clean(&p, segments[n - 1].base_offset), PLOG_CORRUPT_MESSAGE); /* met while copying */
  CHECK_EQ(plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS), n);
  fixture_end(&f);
}

/* The nth system call of a pass fails: the log goes on as it is, and the next pass does it all. */
static void every_call_fails_once(void) {
  const int32_t errors[] = {EIO, ENOSPC};
  for (size_t e = 0; e < 2; e++) {
    int64_t nth = 1;
    for (bool struck = true; struck; nth++) {
      model m;
      uint64_t seed = 7;
      begin_log(&m, &seed, 40);
      int64_t made = plog_sys_count(f.sys, -1);
      CHECK_EQ(plog_sys_fault(f.sys, -1, nth, errors[e], 0, e == 0 ? 1 : 2), 0);
      pass p = usual_pass();
      int32_t rc = clean(&p, 0);
      struck = plog_sys_count(f.sys, -1) - made >= nth;
      CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
      if (rc == -EIO &&
          errors[e] != EIO) { /* two in a row: nor could it be taken back, and test_power_cut opens such logs */
        fixture_end(&f);
        continue;
      }
      CHECK(rc == 0 || rc == -errors[e]);
      check_state(&m);
      append_keys(&m, &seed, 3, 0, -1, -1);
      CHECK_EQ(clean(&p, 0), 0);
      check_state(&m);
      fixture_end(&f);
    }
    CHECK(nth > 30);
    (void)fprintf(stderr, "  error %d: %d places\n", errors[e], (int)nth - 2);
  }
}

/* What an earlier pass set aside is still there, under the very names that the next one gives: when a rename of that one fails,
   it takes back what it moved itself, and nothing else. */
static void only_its_own_files_are_taken_back(void) {
  int64_t nth = 1;
  for (bool struck = true; struck; nth++) {
    model m;
    uint64_t seed = 8;
    begin_log(&m, &seed, 0);
    append_txn(4, 0, 3);
    append_marker(4, 1);
    CHECK_EQ(plog_log_expire_producers(f.log, INT64_MAX, &(int32_t){0}), 0); /* or its last batch would stay */
    for (int i = 0; i < 30; i++) append_keys(&m, &seed, 5, 0, -1, -1);
    pass p = usual_pass();
    for (int i = 0; i < 3; i++) { /* the records of the transaction go, then its index, then its marker */
      CHECK_EQ(clean(&p, i == 0 ? 0 : p.next_dirty), 0);
      p.now_ms += 2 * p.delete_retention_ms;
    }
    int64_t txnindex_bytes = fixture_size(&f, 0, ".txnindex");
    CHECK(fixture_size(&f, 0, ".log.deleted") > 0 && fixture_size(&f, 0, ".txnindex.deleted") > 0 && txnindex_bytes < 0);
    for (int i = 0; i < 30; i++) append_keys(&m, &seed, 5, 0, -1, -1);
    int64_t made = plog_sys_count(f.sys, PLOG_SYS_RENAME), end = plog__log_end(f.log);
    CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_RENAME, nth, EIO, 0, 1), 0);
    int32_t rc = clean(&p, p.next_dirty);
    struck = plog_sys_count(f.sys, PLOG_SYS_RENAME) - made >= nth;
    CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
    CHECK(rc == 0 || (struck && rc == -EIO));
    CHECK_EQ(fixture_size(&f, 0, ".txnindex"), txnindex_bytes);
    fixture_close(&f, 0); /* open files hide what the names lead to */
    fixture_open(&f, 0, 0, 0);
    CHECK(plog__log_end(f.log) == end && f.report.truncated_bytes == 0);
    check_state(&m);
    fixture_end(&f);
  }
  CHECK(nth > 10);
}

/* ---------------------------------------------------------------------------------------------- threads */

static _Atomic bool stop_reading;

static void *read_on(void *context) {
  (void)context;
  uint8_t out[8192];
  while (!atomic_load(&stop_reading)) {
    int64_t end = plog__log_end(f.log), next = 0;
    for (int64_t offset = 0; offset < end;) {
      plog_slice slice;
      CHECK_EQ(plog__log_slice(f.log, offset, end, sizeof out, false, true, &slice), 0);
      if (slice.size_bytes == 0) break;
      CHECK_EQ(plog__sys_pread_all(f.sys, slice.fd, out, slice.size_bytes, slice.position), 0);
      plog_batch_header h;
      size_t at = 0;
      for (; plog_batch_check(out + at, slice.size_bytes - at, &h) == 0; at += h.size_bytes) {
        CHECK(h.base_offset >= next);
        next = plog__batch_last_offset(&h) + 1;
      }
      CHECK(at > 0);
      plog__slice_release(&slice);
      offset = next;
    }
    plog_segment_info segments[64];
    (void)plog_log_segments(f.log, segments, 64);
  }
  return NULL;
}

/* The cleaner has a thread of its own; only the swap is the owner's. */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  plog_cleaning *offered;
  int32_t result;
  bool answered;
} handover;
static handover h;

static int32_t ask_owner(plog_cleaning *c) {
  (void)pthread_mutex_lock(&h.lock);
  h.offered = c;
  h.answered = false;
  while (!h.answered) (void)pthread_cond_wait(&h.changed, &h.lock);
  int32_t rc = h.result;
  (void)pthread_mutex_unlock(&h.lock);
  return rc;
}

static void answer_cleaner(void) {
  (void)pthread_mutex_lock(&h.lock);
  if (h.offered) {
    h.result = plog_log_replace(f.log, h.offered);
    h.offered = NULL;
    h.answered = true;
    (void)pthread_cond_signal(&h.changed);
  }
  (void)pthread_mutex_unlock(&h.lock);
}

static _Atomic int32_t groups_replaced, rounds, cleaner_done;

static void *clean_on(void *context) {
  (void)context;
  while (!atomic_load(&stop_reading)) {
    static plog_segment_info segments[FIXTURE_MAX_SEGMENTS];
    int32_t n = plog_log_segments(f.log, segments, FIXTURE_MAX_SEGMENTS), done = 0;
    if (n < 3) continue;
    plog_key_map *map = new_map(1000);
    plog_cleaning_settings settings = {0, segments[n - 1].base_offset, 0, 0, 4096};
    plog_cleaning *c;
    CHECK_EQ(plog_cleaning_open(f.log, map, &settings, &c), 0);
    int32_t rc = 0;
    while (rc == 0 && !done) rc = plog_cleaning_index(c, &done);
    int64_t bases[2] = {segments[0].base_offset, segments[1].base_offset};
    if (rc == 0) rc = plog_cleaning_begin(c, bases, 2);
    for (done = 0; rc == 0 && !done;) rc = plog_cleaning_copy(c, &done);
    if (rc == 0) rc = plog_cleaning_finish(c);
    if (rc == 0) rc = ask_owner(c);
    if (rc == 0) rc = plog_cleaning_sync(c);
    CHECK(rc == 0 || rc == PLOG_E_STOPPED);
    groups_replaced += rc == 0;
    plog_cleaning_close(c);
    plog_key_map_close(map);
    rounds++;
  }
  cleaner_done = 1;
  return NULL;
}

static void readers_a_writer_and_a_cleaner(void) {
  model m;
  uint64_t seed = 8;
  begin_log(&m, &seed, 30);
  pthread_t readers[2], cleaner;
  stop_reading = false;
  groups_replaced = rounds = cleaner_done = 0;
  h = (handover){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
  for (int i = 0; i < 2; i++) CHECK_EQ(pthread_create(&readers[i], NULL, read_on, NULL), 0);
  CHECK_EQ(pthread_create(&cleaner, NULL, clean_on, NULL), 0);
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < 30; i++) append_keys(&m, &seed, 4, 0, -1, -1);
    if (round % 8 == 7) { /* a cut takes records with it that the model knows: write all keys anew */
      CHECK_EQ(plog_log_truncate(f.log, plog__log_end(f.log) - 40, 0), 0);
      for (int i = 0; i < 300; i++) append_keys(&m, &seed, 4, 0, -1, -1);
    }
    for (int32_t seen = rounds; rounds < seen + 2;) answer_cleaner();
  }
  CHECK(groups_replaced > 20);
  stop_reading = true;
  while (!cleaner_done) answer_cleaner();
  (void)pthread_join(cleaner, NULL);
  for (int i = 0; i < 2; i++) (void)pthread_join(readers[i], NULL);
  check_state(&m);
  fixture_end(&f);
}

int main(void) {
  RUN(hash_is_siphash);
  RUN(map_holds_what_was_put);
  RUN(keeps_the_last_of_each_key);
  RUN(a_small_map_takes_several_passes);
  RUN(the_last_batch_of_a_producer_stays);
  RUN(aborted_records_and_spent_markers_go);
  RUN(readers_of_old_segments_finish);
  RUN(refused_when_the_log_changed);
  RUN(damage_ends_a_pass);
  RUN(every_call_fails_once);
  RUN(only_its_own_files_are_taken_back);
  RUN(readers_a_writer_and_a_cleaner);
  return 0;
}
