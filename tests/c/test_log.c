/* test_log.c: append, roll, read, slice, truncate, delete, flush, open after every kind of end; and all of it at random
   beside a model. */
#include <fcntl.h>
#include <unistd.h>

#include "log_fixture.h"

#include <pthread.h>

static fixture f;

/* Everything from offset on, batch by batch, is what was appended. */
static void check_reads(int64_t from, int64_t end, int32_t per_batch) {
  static uint8_t out[1 << 16];
  int64_t offset = from;
  while (offset < end) {
    size_t n;
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    CHECK(n > 0);
    for (size_t at = 0; at < n;) {
      plog_batch_header h;
      CHECK_EQ(plog_batch_check(out + at, n - at, &h), 0);
      CHECK(plog__batch_last_offset(&h) >= offset);
      CHECK_EQ(h.records_count, per_batch);
      offset = plog__batch_last_offset(&h) + 1;
      at += h.size_bytes;
    }
  }
  CHECK_EQ(offset, end);
  size_t n;
  CHECK_EQ(plog_log_read(f.log, end, INT64_MAX, 1, out, sizeof out, &n), 0);
  CHECK_EQ(n, 0);
  CHECK_EQ(plog_log_read(f.log, end + 1, INT64_MAX, 1, out, sizeof out, &n), PLOG_OFFSET_OUT_OF_RANGE);
  if (from > 0) CHECK_EQ(plog_log_read(f.log, from - 1, INT64_MAX, 1, out, sizeof out, &n), PLOG_OFFSET_OUT_OF_RANGE);
}

static void append_and_read(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 20000;
  fixture_open(&f, 0, 0, 1);
  CHECK_EQ(fixture_size(&f, 0, ".index"), 0); /* until somebody writes */
  CHECK_EQ(fixture_size(&f, 0, ".timeindex"), 0);
  fixture_fill(&f, 1, 5, 100);
  CHECK_EQ(fixture_size(&f, 0, ".index"), 10 << 20);
  CHECK_EQ(fixture_size(&f, 0, ".timeindex"), (10 << 20) / 12 * 12);
  fixture_fill(&f, 199, 5, 100);
  CHECK_EQ(fixture_info(&f).log_end_offset, 1000);
  CHECK(fixture_info(&f).segment_count > 5);
  check_reads(0, 1000, 5);
  plog_segment_info segments[64];
  int32_t n = plog_log_segments(f.log, segments, 64);
  CHECK_EQ(n, fixture_info(&f).segment_count);
  for (int32_t i = 0; i + 1 < n; i++) {
    CHECK_EQ(segments[i].next_offset, segments[i + 1].base_offset);
    CHECK(segments[i].size_bytes <= 20000);
    CHECK_EQ(segments[i].max_timestamp, 1000 + segments[i].next_offset - 5);
    CHECK_EQ(fixture_size(&f, segments[i].base_offset, ".index"), segments[i].index_bytes);
    CHECK_EQ(fixture_size(&f, segments[i + 1].base_offset, ".snapshot"), 10);
  }
  fixture_end(&f);
}

static int64_t made(int32_t call) {
  return plog_sys_count(f.sys, call);
}

/* The lowest descriptor that is free. */
static int free_descriptor(void) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  CHECK_EQ(close(fd), 0);
  return fd;
}

/* Ten thousand new topics are not ten thousand syncs and open files. */
static void never_written(void) {
  fixture_begin(&f);
  int descriptor = free_descriptor();
  fixture_open(&f, 0, 0, 1);
  CHECK_EQ(free_descriptor(), descriptor);
  CHECK_EQ(made(PLOG_SYS_OPEN), 3);
  fixture_close(&f, 1);
  CHECK_EQ(made(-1), 3);
  fixture_open(&f, 0, 0, 1);
  CHECK_EQ(fixture_info(&f).log_end_offset, 0);
  fixture_fill(&f, 3, 1, 10);
  fixture_close(&f, 1);
  CHECK(made(PLOG_SYS_FDATASYNC) > 0);
  fixture_open(&f, 0, 3, 1);
  check_reads(0, 3, 1);
  fixture_end(&f);
}

/* One that was cut to nothing is not one that was never written: its names are made durable at the stop. */
static void cut_to_nothing(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 3, 1, 10);
  CHECK_EQ(plog_log_truncate(f.log, 0, 0), 0);
  fixture_close(&f, 1);
  CHECK(made(PLOG_SYS_FSYNC) > 0);
  fixture_open(&f, 0, 0, 1);
  CHECK_EQ(fixture_info(&f).log_end_offset, 0);
  fixture_end(&f);
}

/* Offsets inside batches, limits, bounds of slices. */
static void slices(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 50000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 100, 10, 50);
  stamped s;
  stamp(&s, 0, 10, 0, 1000, 50, -1, -1, 0);
  for (int any = 0; any < 2; any++) {
    for (int64_t offset = 0; offset < 1000; offset += 7) {
      plog_slice slice;
      CHECK_EQ(plog__log_slice(f.log, offset, INT64_MAX, 1, true, any, &slice), 0);
      CHECK_EQ(slice.first_offset, offset / 10 * 10);
      plog_batch_header h;
      uint8_t data[4096];
      CHECK_EQ(pread(slice.fd, data, slice.size_bytes, slice.position), slice.size_bytes);
      CHECK_EQ(plog_batch_check(data, slice.size_bytes, &h), 0); /* one whole batch and no more */
      CHECK_EQ(h.size_bytes, slice.size_bytes);
      plog__slice_release(&slice);
      CHECK_EQ(plog__log_slice(f.log, offset, INT64_MAX, 1, false, any, &slice), 0);
      CHECK_EQ(slice.size_bytes, 1);
      plog__slice_release(&slice);
      CHECK_EQ(plog__log_slice(f.log, offset, INT64_MAX, 0, false, any, &slice), 0);
      CHECK_EQ(slice.size_bytes, 0);
      /* up to a limit inside a batch: that batch is not in it */
      CHECK_EQ(plog__log_slice(f.log, offset, offset / 10 * 10 + 25, 1 << 20, true, any, &slice), 0);
      CHECK(slice.size_bytes > 0);
      int64_t last = -1;
      static uint8_t all[1 << 20];
      CHECK_EQ(pread(slice.fd, all, slice.size_bytes, slice.position), slice.size_bytes);
      for (size_t at = 0; at < slice.size_bytes; at += h.size_bytes) {
        CHECK_EQ(plog_batch_check(all + at, slice.size_bytes - at, &h), 0);
        last = plog__batch_last_offset(&h);
      }
      CHECK(last < offset / 10 * 10 + 25);
      plog__slice_release(&slice);
      CHECK_EQ(plog__log_slice(f.log, offset, offset / 10 * 10 + 9, 1 << 20, true, any, &slice), 0);
      CHECK_EQ(slice.size_bytes, 0);
      CHECK(slice.segment == NULL);
    }
    plog_slice slice;
    CHECK_EQ(plog__log_slice(f.log, 1001, INT64_MAX, 1, true, any, &slice), PLOG_OFFSET_OUT_OF_RANGE);
    CHECK_EQ(plog__log_slice(f.log, -1, INT64_MAX, 1, true, any, &slice), PLOG_OFFSET_OUT_OF_RANGE);
  }
  /* a slice keeps its file, whatever becomes of the log */
  plog_slice slice;
  CHECK_EQ(plog__log_slice(f.log, 0, INT64_MAX, 1, true, true, &slice), 0);
  int32_t count;
  CHECK_EQ(plog_log_delete_segments(f.log, 1000, &count), 0);
  CHECK(count > 0);
  fixture_close(&f, 1);
  fixture_empty(&f);
  uint8_t data[4096];
  plog_batch_header h;
  CHECK_EQ(pread(slice.fd, data, slice.size_bytes, slice.position), slice.size_bytes);
  CHECK_EQ(plog_batch_check(data, slice.size_bytes, &h), 0);
  plog__slice_release(&slice);
  fixture_end(&f);
}

static void stage_commit_abort(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  stamped s[3];
  plog_batch_header h;
  plog_duplicate d;
  for (int i = 0; i < 3; i++) stamp(&s[i], i * 2, 2, 3, 1000, 10, 9, i * 2, 0);
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(plog_batch_header_read(s[i].data, s[i].size, &h), 0);
    CHECK_EQ(plog__log_stage(f.log, s[i].data, &h, s[i].last, true, 0, &d), 0);
  }
  CHECK_EQ(plog__log_staged_end(f.log), 4);
  CHECK_EQ(plog__log_end(f.log), 0);
  CHECK(plog__log_has_staged(f.log));
  plog__log_abort(f.log);
  CHECK(!plog__log_has_staged(f.log));
  CHECK_EQ(plog__log_staged_end(f.log), 0);
  CHECK_EQ(fixture_info(&f).producer_count, 0);
  CHECK_EQ(fixture_info(&f).latest_epoch, -1);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(plog_batch_header_read(s[i].data, s[i].size, &h), 0);
    CHECK_EQ(plog__log_stage(f.log, s[i].data, &h, s[i].last, true, 0, &d), 0);
  }
  CHECK_EQ(plog_batch_header_read(s[1].data, s[1].size, &h), 0);
  h.base_offset = 6; /* the same batch again, as it would be stamped now */
  CHECK_EQ(plog__log_stage(f.log, s[1].data, &h, 7, true, 0, &d), PLOG_E_DUPLICATE);
  CHECK_EQ(d.base_offset, 2);
  CHECK_EQ(d.last_offset, 3);
  int64_t writes = plog_sys_count(f.sys, PLOG_SYS_PWRITEV);
  CHECK_EQ(plog__log_commit(f.log, 0), 0);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_PWRITEV), writes + 1);
  CHECK_EQ(plog__log_end(f.log), 6);
  CHECK_EQ(plog__log_commit(f.log, 0), 0); /* nothing staged */
  plog_log_facts facts;
  plog__log_take_facts(f.log, &facts);
  CHECK(facts.epoch_started && !facts.rolled);
  plog__log_take_facts(f.log, &facts);
  CHECK(!facts.epoch_started);
  check_reads(0, 6, 2);
  fixture_end(&f);
}

/* A roll in the middle of a turn; batches larger than a segment; old records. */
static void rolling(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 1000;
  f.config.segment_ms = 1000000;
  fixture_open(&f, 0, 0, 1);
  stamped s[10];
  plog_batch_header h;
  for (int i = 0; i < 10; i++) {
    stamp(&s[i], i, 1, 0, 1000, 300, -1, -1, 0);
    CHECK_EQ(plog_batch_header_read(s[i].data, s[i].size, &h), 0);
    CHECK_EQ(plog__log_stage(f.log, s[i].data, &h, i, true, 0, NULL), 0);
  }
  CHECK_EQ(plog__log_commit(f.log, 0), 0);
  CHECK_EQ(fixture_info(&f).segment_count, 5);
  check_reads(0, 10, 1);
  stamped large;
  stamp(&large, 10, 1, 0, 1000, 1500, -1, -1, 0);
  CHECK_EQ(plog_batch_header_read(large.data, large.size, &h), 0);
  CHECK_EQ(plog__log_stage(f.log, large.data, &h, 10, true, 0, NULL), PLOG_RECORD_LIST_TOO_LARGE);
  CHECK_EQ(fixture_append(&f, &large), 0); /* a leader with other settings took it */
  CHECK_EQ(fixture_info(&f).segment_count, 6);
  CHECK_EQ(plog_log_roll(f.log, 0), 0);
  CHECK_EQ(plog_log_roll(f.log, 0), 0); /* an empty segment stays */
  CHECK_EQ(fixture_info(&f).segment_count, 7);
  stamp(&s[0], 11, 1, 0, 5000, 10, -1, -1, 0);
  CHECK_EQ(fixture_append(&f, &s[0]), 0);
  stamp(&s[0], 12, 1, 0, 1005000, 10, -1, -1, 0);
  CHECK_EQ(fixture_append(&f, &s[0]), 0); /* just not old enough */
  CHECK_EQ(fixture_info(&f).segment_count, 7);
  stamp(&s[0], 13, 1, 0, 1005001, 10, -1, -1, 0);
  CHECK_EQ(fixture_append(&f, &s[0]), 0);
  CHECK_EQ(fixture_info(&f).segment_count, 8);
  check_reads(0, 14, 1);
  fixture_end(&f);
}

static void index_full_rolls(void) {
  fixture_begin(&f);
  f.config.segment_index_bytes = 60; /* 7 and 5 entries */
  f.config.index_interval_bytes = 0;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 50, 1, 10);
  CHECK(fixture_info(&f).segment_count >= 50 / 8);
  plog_segment_info segments[64];
  int32_t n = plog_log_segments(f.log, segments, 64);
  for (int32_t i = 0; i < n; i++) CHECK(segments[i].index_bytes <= 56 && segments[i].timeindex_bytes <= 60);
  check_reads(0, 50, 1);
  fixture_end(&f);
}

static void reopened_clean(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 9000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 30, 4, 100);
  fixture_close(&f, 1);
  CHECK_EQ(fixture_size(&f, 120, ".snapshot"), 10);
  for (int i = 0; i < 3; i++) {
    f.epoch_zero = i > 0; /* else they are rebuilt, from all batches */
    int64_t reads = plog_sys_count(f.sys, PLOG_SYS_PREAD);
    fixture_open(&f, 0, 120, 1);
    if (i > 0) CHECK(plog_sys_count(f.sys, PLOG_SYS_PREAD) - reads <= 4); /* two indexes, the end, the snapshot */
    CHECK_EQ(f.report.recovered_segments, 0);
    CHECK_EQ(fixture_info(&f).log_end_offset, 120);
    CHECK_EQ(fixture_info(&f).latest_epoch, 0);
    check_reads(0, 120, 4);
    fixture_close(&f, 1);
  }
  fixture_open(&f, 0, 120, 1);
  int64_t renames = plog_sys_count(f.sys, PLOG_SYS_RENAME);
  fixture_fill(&f, 30, 4, 100);
  CHECK_EQ(plog_sys_count(f.sys, PLOG_SYS_RENAME) - renames, 1); /* both are empty */
  check_reads(0, 240, 4);
  fixture_close(&f, 1);
  CHECK_EQ(fixture_size(&f, 120, ".snapshot"), -1); /* no segment begins there: the next one took its place */
  CHECK_EQ(fixture_size(&f, 240, ".snapshot"), 10);
  fixture_end(&f);
}

static void damage_file(int64_t base, const char *suffix, int64_t position, const void *data, size_t size) {
  char path[512];
  (void)snprintf(path, sizeof path, "%s/%020" PRId64 "%s", f.dir, base, suffix);
  int fd = open(path, O_WRONLY | O_CREAT, 0644);
  CHECK(fd >= 0);
  if (data)
    CHECK_EQ(pwrite(fd, data, size, position), size);
  else
    CHECK_EQ(ftruncate(fd, position), 0);
  (void)close(fd);
}

/* The torn tail is cut at every length of the last batch. */
static void torn_tails(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 10, 2, 20);
  int64_t before = fixture_info(&f).size_bytes;
  fixture_fill(&f, 1, 2, 20);
  int64_t after = fixture_info(&f).size_bytes;
  fixture_close(&f, 0);
  for (int64_t size = after - 1; size >= before; size--) {
    damage_file(0, ".log", size, NULL, 0);
    fixture_open(&f, 0, 0, 0);
    CHECK_EQ(f.report.truncated_bytes, size - before);
    CHECK_EQ(fixture_info(&f).log_end_offset, 20);
    CHECK_EQ(fixture_size(&f, 0, ".log"), before);
    check_reads(0, 20, 2);
    fixture_close(&f, 0);
    damage_file(0, ".log", size, NULL, 0);
  }
  fixture_end(&f);
}

static void damaged_in_the_middle(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 2000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 40, 2, 100);
  int32_t segments = fixture_info(&f).segment_count;
  plog_segment_info info[64];
  CHECK_EQ(plog_log_segments(f.log, info, 64), segments);
  fixture_close(&f, 0);
  damage_file(info[2].base_offset, ".log", 500, "\xff\xff", 2);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(f.report.deleted_segments, segments - 3);
  CHECK(f.report.truncated_bytes > 0);
  int64_t end = fixture_info(&f).log_end_offset;
  CHECK(end > info[2].base_offset && end < info[2].next_offset);
  check_reads(0, end, 2);
  fixture_fill(&f, 10, 2, 100);
  check_reads(0, end + 20, 2);
  fixture_close(&f, 1);
  fixture_open(&f, 0, end + 20, 1);
  check_reads(0, end + 20, 2);
  fixture_end(&f);
}

/* Below the recovery point nothing is looked at; what cannot be read fails the opening and cuts nothing. */
static void trusted_and_unreadable(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 2000;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 40, 2, 100);
  int64_t point;
  CHECK_EQ(plog_log_flush(f.log, &point), 0);
  CHECK_EQ(point, 80);
  int64_t size = fixture_info(&f).size_bytes;
  fixture_close(&f, 0);
  damage_file(0, ".log", 100, "\xff", 1);
  fixture_open(&f, 0, point, 0);
  CHECK_EQ(f.report.recovered_segments, 1);
  CHECK_EQ(f.report.truncated_bytes, 0);
  uint8_t out[4096];
  size_t n;
  CHECK_EQ(plog_log_read(f.log, 0, INT64_MAX, 1, out, sizeof out, &n), PLOG_CORRUPT_MESSAGE); /* never served */
  fixture_close(&f, 0);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PREAD, 1, EIO, 0, -1), 0);
  CHECK_EQ(fixture_try_open(&f, 0, 0, 0), -EIO);
  CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
  fixture_open(&f, 0, point, 0);
  CHECK_EQ(fixture_info(&f).size_bytes, size);
  fixture_end(&f);
}

/* Whatever is done to the files that are derived, an unclean start builds them anew, a clean one notices what it uses. */
static void derived_files_lost(void) {
  static const char *const suffixes[] = {".index", ".timeindex", ".snapshot"};
  for (int way = 0; way < 4; way++) {
    for (int clean = 0; clean < 2; clean++) {
      fixture_begin(&f);
      f.config.segment_bytes = 5000;
      f.config.index_interval_bytes = 300;
      fixture_open(&f, 0, 0, 1);
      stamped s;
      for (int i = 0; i < 100; i++) {
        stamp(&s, i * 2, 2, i / 30, 1000 + i, 50, 7, i * 2, 0);
        CHECK_EQ(fixture_append(&f, &s), 0);
      }
      plog_segment_info info[64];
      int32_t n = plog_log_segments(f.log, info, 64);
      fixture_close(&f, 1);
      for (int32_t i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++) {
          char path[512];
          (void)snprintf(path, sizeof path, "%s/%020" PRId64 "%s", f.dir, info[i].base_offset, suffixes[k]);
          if (way == 0) (void)unlink(path);
          if (way == 1) damage_file(info[i].base_offset, suffixes[k], 5, NULL, 0);
          if (way == 2) damage_file(info[i].base_offset, suffixes[k], 100000, NULL, 0);
          if (way == 3) {
            damage_file(info[i].base_offset, suffixes[k], 0, NULL, 0);
            damage_file(info[i].base_offset, suffixes[k], 0,
                        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                        24);
          }
        }
      }
      fixture_open(&f, 0, 0, clean);
      CHECK_EQ(fixture_info(&f).log_end_offset, 200);
      CHECK_EQ(fixture_info(&f).latest_epoch, 3);
      check_reads(0, 200, 2);
      for (int64_t offset = 0; offset < 200; offset += 13) {
        plog_slice slice;
        CHECK_EQ(plog__log_slice(f.log, offset, INT64_MAX, 1, true, true, &slice), 0);
        CHECK_EQ(slice.first_offset, offset / 2 * 2);
        plog__slice_release(&slice);
      }
      plog_producer_info producer;
      CHECK_EQ(plog_log_producers(f.log, &producer, 1), 1);
      CHECK_EQ(producer.last_sequence, 199);
      int64_t offset, ts;
      int32_t epoch;
      CHECK_EQ(plog_log_offset_for_timestamp(f.log, 1050, INT64_MAX, &offset, &ts, &epoch), 0);
      CHECK_EQ(offset, 100);
      CHECK_EQ(plog_log_max_timestamp(f.log, &offset, &ts, &epoch), 0);
      CHECK_EQ(offset, 198);
      fixture_end(&f);
    }
  }
}

static void by_time_and_epoch(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 3000;
  f.config.index_interval_bytes = 200;
  fixture_open(&f, 0, 0, 1);
  int64_t offset, ts;
  int32_t epoch;
  CHECK_EQ(plog_log_offset_for_timestamp(f.log, 0, INT64_MAX, &offset, &ts, &epoch), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_log_max_timestamp(f.log, &offset, &ts, &epoch), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_log_end_offset_for_epoch(f.log, 0, &epoch, &offset), 0);
  CHECK_EQ(epoch, -1);
  stamped s;
  for (int i = 0; i < 100; i++) { /* timestamps 0, 20, 10, 30, 50, 40, ... in epochs 2, 4, 6, ... */
    int64_t at = i * 10 + (i % 3 == 1 ? 10 : i % 3 == 2 ? -10 : 0);
    stamp(&s, i * 3, 3, i / 20 * 2 + 2, at, 30, -1, -1, i % 2 ? PLOG_CODEC_GZIP : 0);
    CHECK_EQ(fixture_append(&f, &s), 0);
  }
  for (int i = 0; i < 100; i++) {
    int64_t wanted = i * 10;
    int64_t expected = -1, expected_ts = -1;
    for (int k = 0; k < 100 && expected < 0; k++) {
      int64_t at = k * 10 + (k % 3 == 1 ? 10 : k % 3 == 2 ? -10 : 0);
      if (at >= wanted) {
        expected = k * 3;
        expected_ts = at;
      }
    }
    CHECK_EQ(plog_log_offset_for_timestamp(f.log, wanted, INT64_MAX, &offset, &ts, &epoch), 0);
    CHECK_EQ(offset, expected);
    CHECK_EQ(ts, expected_ts);
    CHECK_EQ(epoch, expected / 60 * 2 + 2);
  }
  CHECK_EQ(plog_log_offset_for_timestamp(f.log, 1001, INT64_MAX, &offset, &ts, &epoch), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_log_offset_for_timestamp(f.log, 500, 30, &offset, &ts, &epoch), PLOG_E_NOT_FOUND); /* above the limit */
  CHECK_EQ(plog_log_max_timestamp(f.log, &offset, &ts, &epoch), 0);
  CHECK_EQ(offset, 99 * 3);
  CHECK_EQ(ts, 990);
  const struct {
    int32_t asked, epoch;
    int64_t end;
  } answers[] = {{0, 0, 0}, {2, 2, 60}, {3, 2, 60}, {4, 4, 120}, {9, 8, 240}, {10, 10, 300}, {11, -1, -1}, {-1, -1, -1}};
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
    CHECK_EQ(plog_log_end_offset_for_epoch(f.log, answers[i].asked, &epoch, &offset), 0);
    CHECK_EQ(epoch, answers[i].epoch);
    CHECK_EQ(offset, answers[i].end);
  }
  CHECK_EQ(plog_log_set_start(f.log, 130), 0);
  int64_t pairs[20];
  CHECK_EQ(plog_log_epochs(f.log, pairs, 10), 3);
  CHECK_EQ(pairs[0], 6);
  CHECK_EQ(pairs[1], 130);
  CHECK_EQ(plog_log_offset_for_timestamp(f.log, 0, INT64_MAX, &offset, &ts, &epoch), 0);
  CHECK_EQ(offset, 130);
  CHECK_EQ(plog_log_truncate(f.log, 240, 0), 0);
  CHECK_EQ(plog_log_epochs(f.log, pairs, 10), 2);
  fixture_end(&f);
}

static void transactions(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 400;
  fixture_open(&f, 0, 0, 1);
  stamped s;
  const int T = PLOG_ATTR_TRANSACTIONAL;
  stamp(&s, 0, 3, 0, 1000, 10, 1, 0, T);
  CHECK_EQ(fixture_append(&f, &s), 0);
  stamp(&s, 3, 3, 0, 1000, 10, 2, 0, T);
  CHECK_EQ(fixture_append(&f, &s), 0);
  CHECK_EQ(plog__log_first_unstable(f.log), 0);
  stamp_marker(&s, 6, 1, 1);
  CHECK_EQ(fixture_append(&f, &s), 0);
  CHECK_EQ(plog__log_first_unstable(f.log), 3);
  CHECK_EQ(plog__log_stable_end(f.log, 6), 0);
  CHECK_EQ(plog__log_stable_end(f.log, 7), 3);
  fixture_fill(&f, 5, 1, 200);
  stamp_marker(&s, 12, 2, 0);
  CHECK_EQ(fixture_append(&f, &s), 0);
  CHECK_EQ(plog__log_stable_end(f.log, 13), 13);
  stamp(&s, 13, 1, 0, 1000, 10, 3, 0, T);
  CHECK_EQ(fixture_append(&f, &s), 0);
  stamp_marker(&s, 14, 3, 1);
  CHECK_EQ(fixture_append(&f, &s), 0);
  stamp(&s, 15, 1, 0, 1000, 10, 3, 1, T);
  CHECK_EQ(fixture_append(&f, &s), 0);
  for (int round = 0; round < 3; round++) {
    int64_t triples[30];
    int32_t count;
    CHECK_EQ(plog_log_aborted(f.log, 0, 16, triples, 10, &count), 0);
    CHECK_EQ(count, 2);
    CHECK_EQ(triples[0], 1);
    CHECK_EQ(triples[1], 0);
    CHECK_EQ(triples[2], 6);
    CHECK_EQ(triples[3], 3);
    CHECK_EQ(triples[4], 13);
    CHECK_EQ(triples[5], 14);
    CHECK_EQ(plog_log_aborted(f.log, 7, 13, triples, 10, &count), 0);
    CHECK_EQ(count, 0);
    CHECK_EQ(plog_log_aborted(f.log, 2, 3, triples, 10, &count), 0);
    CHECK_EQ(count, 1);
    CHECK_EQ(plog_log_aborted(f.log, 0, 16, triples, 1, &count), 0);
    CHECK_EQ(count, 2);
    CHECK_EQ(plog__log_first_unstable(f.log), 15);
    fixture_close(&f, round == 0);
    fixture_open(&f, 0, 0, round == 0); /* clean first, then recovered */
  }
  /* cutting the marker opens the transaction again */
  CHECK_EQ(plog_log_truncate(f.log, 14, 0), 0);
  CHECK_EQ(plog__log_first_unstable(f.log), 13);
  int64_t triples[30];
  int32_t count;
  CHECK_EQ(plog_log_aborted(f.log, 0, 16, triples, 10, &count), 0);
  CHECK_EQ(count, 1);
  fixture_end(&f);
}

static void truncating(void) {
  for (int64_t cut = 0; cut <= 105; cut += 3) {
    fixture_begin(&f);
    f.config.segment_bytes = 1500;
    fixture_open(&f, 0, 0, 1);
    stamped s;
    for (int i = 0; i < 50; i++) {
      stamp(&s, i * 2, 2, i / 10, 1000 + i, 50, 4, i * 2, 0);
      CHECK_EQ(fixture_append(&f, &s), 0);
    }
    int64_t point;
    CHECK_EQ(plog_log_flush(f.log, &point), 0);
    CHECK_EQ(plog_log_truncate(f.log, cut, 0), 0);
    int64_t end = cut >= 100 ? 100 : cut / 2 * 2; /* whole batches go */
    CHECK_EQ(fixture_info(&f).log_end_offset, end);
    CHECK_EQ(fixture_info(&f).recovery_point, end);
    CHECK_EQ(fixture_info(&f).latest_epoch, end == 0 ? -1 : (end / 2 - 1) / 10);
    check_reads(0, end, 2);
    plog_producer_info producer;
    CHECK_EQ(plog_log_producers(f.log, &producer, 1), end > 0);
    if (end > 0) CHECK_EQ(producer.last_sequence, end - 1);
    for (int i = 0; i < 20; i++) {
      stamp(&s, end + i * 2, 2, 9, 5000, 50, 4, (int32_t)end + i * 2, 0);
      CHECK_EQ(fixture_append(&f, &s), 0);
    }
    check_reads(0, end + 40, 2);
    fixture_close(&f, cut % 2 == 0);
    fixture_open(&f, 0, 0, cut % 2 == 0);
    CHECK_EQ(fixture_info(&f).log_end_offset, end + 40);
    check_reads(0, end + 40, 2);
    CHECK_EQ(plog_log_truncate_fully(f.log, 77, 0), 0);
    CHECK_EQ(fixture_info(&f).log_start_offset, 77);
    CHECK_EQ(fixture_info(&f).log_end_offset, 77);
    CHECK_EQ(fixture_info(&f).producer_count, 0);
    fixture_fill(&f, 3, 2, 10);
    check_reads(77, 83, 2);
    fixture_end(&f);
  }
}

static void deleting_and_starting_over(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 1500;
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 60, 2, 50);
  int32_t count;
  plog_segment_info info[64];
  int32_t n = plog_log_segments(f.log, info, 64);
  CHECK_EQ(plog_log_delete_segments(f.log, info[3].base_offset - 1, &count), 0);
  CHECK_EQ(count, 2);
  CHECK_EQ(fixture_info(&f).log_start_offset, info[2].base_offset);
  CHECK_EQ(fixture_size(&f, info[0].base_offset, ".log.deleted") > 0, 1);
  CHECK_EQ(plog_log_delete_segments(f.log, INT64_MAX, &count), 0);
  CHECK_EQ(count, n - 3); /* the active one stays */
  int64_t start = fixture_info(&f).log_start_offset;
  check_reads(start, 120, 2);
  CHECK_EQ(plog_log_set_start(f.log, 121), PLOG_OFFSET_OUT_OF_RANGE);
  CHECK_EQ(plog_log_set_start(f.log, 120), 0);
  CHECK_EQ(plog_log_set_start(f.log, 100), 0); /* never backwards */
  CHECK_EQ(fixture_info(&f).log_start_offset, 120);
  fixture_close(&f, 0);
  /* the checkpointed start is above what a crash left */
  fixture_open(&f, 500, 0, 0);
  CHECK_EQ(fixture_info(&f).log_start_offset, 500);
  CHECK_EQ(fixture_info(&f).log_end_offset, 500);
  fixture_fill(&f, 2, 2, 50);
  check_reads(500, 504, 2);
  fixture_end(&f);
}

static void gaps_of_a_compacted_leader(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 1000;
  fixture_open(&f, 0, 0, 1);
  stamped s;
  int64_t bases[] = {0, 5, 6, 100, 3000000000, 3000000005, 9000000000};
  for (int i = 0; i < 7; i++) {
    stamp(&s, bases[i], 1, 0, 1000, 100, -1, -1, 0);
    CHECK_EQ(fixture_append(&f, &s), 0);
  }
  CHECK(fixture_info(&f).segment_count >= 3); /* an index holds 2^31 offsets */
  CHECK_EQ(fixture_append(&f, &s), PLOG_OFFSET_OUT_OF_RANGE);
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 7; i++) {
      int64_t from = i == 0 ? 0 : bases[i - 1] + 1;
      plog_slice slice;
      CHECK_EQ(plog__log_slice(f.log, from, INT64_MAX, 1, true, true, &slice), 0);
      CHECK_EQ(slice.first_offset, bases[i]);
      plog__slice_release(&slice);
      CHECK_EQ(plog__log_slice(f.log, from, bases[i], 1, true, true, &slice), 0);
      CHECK_EQ(slice.size_bytes, 0);
    }
    fixture_close(&f, 0);
    fixture_open(&f, 0, 0, 0);
    CHECK_EQ(fixture_info(&f).log_end_offset, 9000000001);
  }
  fixture_end(&f);
}

static void refused_appends(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 3, 2, 50);
  stamped a, b;
  uint8_t both[8192];
  int64_t last;
  stamp(&a, 6, 2, 0, 1000, 50, -1, -1, 0);
  stamp(&b, 7, 2, 0, 1000, 50, -1, -1, 0); /* overlaps */
  memcpy(both, a.data, a.size);
  memcpy(both + a.size, b.data, b.size);
  CHECK_EQ(plog_log_append(f.log, both, a.size + b.size, 0, &last), PLOG_OFFSET_OUT_OF_RANGE);
  CHECK_EQ(plog_log_append(f.log, both, a.size + 30, 0, &last), PLOG_CORRUPT_MESSAGE);
  both[a.size - 1] ^= 1;
  CHECK_EQ(plog_log_append(f.log, both, a.size, 0, &last), PLOG_CORRUPT_MESSAGE);
  CHECK_EQ(plog_log_append(f.log, both, 0, 0, &last), PLOG_INVALID_RECORD);
  CHECK_EQ(fixture_info(&f).log_end_offset, 6); /* all or nothing */
  CHECK_EQ(fixture_append(&f, &a), 0);
  check_reads(0, 8, 2);
  fixture_end(&f);
}

/* Messages of before Kafka 0.11 are not damage: such a log is not opened, and not cut. */
static void old_messages(void) {
  static const uint8_t message[] = {/* v1: offset 0, size, crc, magic 1, attributes, timestamp, key "k0", value "old" */
                                    0, 0,    0,    0,    0,    0, 0, 0, 0, 0, 0,   27,  0, 0, 0, 0, 1,   0,   0,  0,
                                    1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 2, 'k', '0', 0, 0, 0, 3, 'o', 'l', 'd'};
  uint8_t data[sizeof message];
  memcpy(data, message, sizeof data);
  uint32_t crc = 0xffffffffu;
  for (size_t i = 16; i < sizeof data; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  plog_put_u32(data + 12, ~crc);
  fixture_begin(&f);
  damage_file(0, ".log", 0, data, sizeof data);
  CHECK_EQ(fixture_try_open(&f, 0, 0, 0), PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT);
  CHECK_EQ(fixture_size(&f, 0, ".log"), sizeof data);
  data[sizeof data - 1] ^= 1; /* but this is */
  damage_file(0, ".log", 0, data, sizeof data);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(fixture_size(&f, 0, ".log"), 0);
  fixture_end(&f);
}

/* Readers, flushes and listings on other threads beside the owner, who appends, rolls, cuts and deletes. */
typedef struct {
  _Atomic bool stop;
  _Atomic int64_t reads;
} shared;

static void *read_all_the_time(void *context) {
  shared *s = context;
  uint8_t *out = malloc(1 << 16);
  CHECK(out);
  while (!atomic_load(&s->stop)) {
    plog_log_info info;
    plog_log_info_read(f.log, &info);
    CHECK(info.log_start_offset <= info.log_end_offset);
    size_t n;
    int32_t rc = plog_log_read(f.log, info.log_start_offset + (int64_t)(atomic_load(&s->reads) % 50), INT64_MAX, 1, out,
                               1 << 16, &n);
    CHECK(rc == 0 || rc == PLOG_OFFSET_OUT_OF_RANGE || rc == PLOG_CORRUPT_MESSAGE || rc == -ENOENT);
    int64_t offset, ts;
    int32_t epoch;
    rc = plog_log_offset_for_timestamp(f.log, 1000 + info.log_start_offset, INT64_MAX, &offset, &ts, &epoch);
    CHECK(rc == 0 || rc == PLOG_E_NOT_FOUND || rc == PLOG_CORRUPT_MESSAGE || rc == -ENOENT);
    plog_segment_info segments[8];
    (void)plog_log_segments(f.log, segments, 8);
    atomic_fetch_add(&s->reads, 1);
  }
  free(out);
  return NULL;
}

static void *flush_all_the_time(void *context) {
  shared *s = context;
  while (!atomic_load(&s->stop)) {
    int64_t point;
    int32_t rc = plog_log_flush(f.log, &point);
    CHECK(rc == 0 || rc == -ENOENT);
    plog_producer_info producers[4];
    (void)plog_log_producers(f.log, producers, 4);
    int64_t triples[3];
    int32_t count;
    (void)plog_log_aborted(f.log, 0, INT64_MAX, triples, 1, &count);
  }
  return NULL;
}

static void many_threads(void) {
  fixture_begin(&f);
  f.config.segment_bytes = 3000;
  f.config.index_interval_bytes = 200;
  fixture_open(&f, 0, 0, 1);
  shared s = {false, 0};
  pthread_t threads[2];
  CHECK_EQ(pthread_create(&threads[0], NULL, read_all_the_time, &s), 0);
  CHECK_EQ(pthread_create(&threads[1], NULL, flush_all_the_time, &s), 0);
  stamped b;
  for (int i = 0; i < 2000 || atomic_load(&s.reads) < 50; i++) {
    int64_t end = plog__log_end(f.log);
    stamp(&b, end, 2, 0, 1000 + end, 40, i % 7, i, 0);
    CHECK_EQ(fixture_append(&f, &b), 0);
    if (i % 50 == 49) CHECK_EQ(plog_log_truncate(f.log, end - 11, 0), 0);
    int32_t count;
    if (i % 100 == 99) CHECK_EQ(plog_log_delete_segments(f.log, end - 100, &count), 0);
    if (i % 500 == 499) CHECK_EQ(plog_log_roll(f.log, 0), 0);
  }
  atomic_store(&s.stop, true);
  for (int i = 0; i < 2; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  fixture_end(&f);
}

/* ---------------------------------------------------------------------------------------------- at random, with a model */

typedef struct {
  int64_t base;
  size_t size;
  uint32_t crc;
} modelled;

enum { MODEL_MAX = 20000 };
static modelled model[MODEL_MAX]; /* what must be there, ascending; some below the start */
static int model_count;
static int64_t model_start, model_end;

static void check_model(void) {
  static uint8_t out[8192];
  plog_log_info info = fixture_info(&f);
  CHECK_EQ(info.log_start_offset, model_start);
  CHECK_EQ(info.log_end_offset, model_end);
  int64_t offset = model_start;
  int i = 0;
  while (i < model_count && model[i].base + 1 < offset) i++; /* two records each */
  while (offset < model_end) {
    size_t n;
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    CHECK(n > 0);
    for (size_t at = 0; at < n; i++) {
      plog_batch_header h;
      CHECK_EQ(plog_batch_header_read(out + at, n - at, &h), 0);
      CHECK(i < model_count);
      CHECK_EQ(h.base_offset, model[i].base);
      CHECK_EQ(h.size_bytes, model[i].size);
      CHECK_EQ(h.crc, model[i].crc);
      offset = plog__batch_last_offset(&h) + 1;
      at += h.size_bytes;
    }
  }
  CHECK_EQ(i, model_count);
}

static void at_random(void) {
  for (uint64_t run = 1; run <= 12; run++) {
    uint64_t seed = run;
    fixture_begin(&f);
    f.config.segment_bytes = 2500;
    f.config.index_interval_bytes = 300;
    f.config.segment_index_bytes = 400;
    model_count = 0;
    model_start = model_end = 0;
    int64_t recovery_point = 0;
    fixture_open(&f, 0, 0, 1);
    for (int step = 0; step < 400; step++) {
      uint64_t r = test_random(&seed);
      stamped s;
      int32_t count;
      switch (r % 16) {
      default: /* append */
        stamp(&s, model_end, 2, (int32_t)(step / 100), 1000 + (int64_t)(r >> 8) % 1000, (int32_t)(r >> 20 & 255), -1, -1,
              (int32_t)(r >> 40 & 0xff) % 5);
        CHECK_EQ(fixture_append(&f, &s), 0);
        model[model_count++] = (modelled){model_end, s.size, plog_get_u32(s.data + PLOG_BATCH_AT_CRC)};
        model_end += 2;
        break;
      case 9: CHECK_EQ(plog_log_roll(f.log, 0), 0); break;
      case 10: { /* cut a little */
        int64_t to = model_end - (int64_t)(r >> 8) % 20;
        if (to < model_start) to = model_start;
        CHECK_EQ(plog_log_truncate(f.log, to, 0), 0);
        if (to < model_end) model_end = to; /* or, inside a batch, where that batch began */
        for (; model_count > 0 && model[model_count - 1].base + 2 > to; model_count--)
          model_end = PLOG_MIN(to, model[model_count - 1].base);
        model_start = PLOG_MIN(model_start, model_end);
        recovery_point = PLOG_MIN(recovery_point, model_end);
        break;
      }
      case 11:
        if (model_end - model_start > 4) {
          model_start += (int64_t)(r >> 8) % ((model_end - model_start) / 2);
          CHECK_EQ(plog_log_set_start(f.log, model_start), 0);
        }
        break;
      case 12: {
        CHECK_EQ(plog_log_delete_segments(f.log, model_start, &count), 0);
        model_start = fixture_info(&f).log_start_offset;
        int gone = 0;
        plog_segment_info first;
        CHECK(plog_log_segments(f.log, &first, 1) >= 1);
        while (gone < model_count && model[gone].base < first.base_offset) gone++;
        memmove(model, model + gone, sizeof model[0] * (size_t)(model_count - gone));
        model_count -= gone;
        break;
      }
      case 13:
        CHECK_EQ(plog_log_flush(f.log, &recovery_point), 0);
        CHECK_EQ(recovery_point, model_end);
        break;
      case 14:
        fixture_close(&f, 1);
        fixture_open(&f, model_start, model_end, 1);
        CHECK_EQ(f.report.recovered_segments, 0);
        recovery_point = model_end;
        break;
      case 15:
        fixture_close(&f, 0);
        fixture_open(&f, model_start, recovery_point, 0);
        CHECK_EQ(f.report.truncated_bytes, 0);
        break;
      }
      if (step % 20 == 0) check_model();
    }
    check_model();
    fixture_end(&f);
  }
}

int main(void) {
  RUN(append_and_read);
  RUN(never_written);
  RUN(cut_to_nothing);
  RUN(slices);
  RUN(stage_commit_abort);
  RUN(rolling);
  RUN(index_full_rolls);
  RUN(reopened_clean);
  RUN(torn_tails);
  RUN(damaged_in_the_middle);
  RUN(trusted_and_unreadable);
  RUN(derived_files_lost);
  RUN(by_time_and_epoch);
  RUN(transactions);
  RUN(truncating);
  RUN(deleting_and_starting_over);
  RUN(gaps_of_a_compacted_leader);
  RUN(refused_appends);
  RUN(old_messages);
  RUN(many_threads);
  RUN(at_random);
  return 0;
}
