/*
 * test_log_faults.c: the n-th system call fails, or moves too little, for every n of a life of a log.
 *
 * Whatever happens: a failed append leaves the published end where it was; what was acknowledged can be read; and the next
 * start finds all of it, in order, and nothing else, with one exception. What a failed append wrote is cut off, or, on a disk that
 * refuses that, stays behind the end: nothing is written behind it in this life, and the next start takes whole batches for
 * records (nobody was told that they are not there). So behind what was acknowledged there may be the first batches of one
 * failed turn, and from then on they count as acknowledged: they were served.
 */
#include "log_fixture.h"
#include "log_state.h"

enum { TURNS = 14, PER_TURN = 3, MAX_BATCHES = 400 };

typedef struct {
  int64_t base, last;
  uint32_t crc;
} handed_batch;

typedef struct {
  handed_batch acked[MAX_BATCHES];
  int acked_count;
  handed_batch failed[MAX_BATCHES]; /* turns since the last acknowledged batch whose bytes were not cut off */
  int failed_turn[MAX_BATCHES];
  int failed_count;
  int turns;
  int64_t end;            /* one past the last acknowledged */
  int64_t recovery_point; /* as the last flush that succeeded said */
  int attempts;           /* no two batches that were ever handed over are alike */
  bool closed_clean;
} history;

static fixture f;
static int leftovers; /* batches that a start found although their append had failed */

static void note_acked(history *h, handed_batch b) {
  CHECK(h->acked_count < MAX_BATCHES);
  h->acked[h->acked_count++] = b;
  h->end = b.last + 1;
  h->failed_count = 0;
}

/* A batch that failed: is it there, or some of it, behind the published end? Nothing is where the file could be cut. */
static void note_failed(history *h, handed_batch b) {
  const plog_segment *active = plog__log_active(f.log);
  int64_t size_bytes = fixture_size(&f, active->base_offset, ".log");
  CHECK(size_bytes >= active->size_bytes && (size_bytes == active->size_bytes || f.log->tail_dirty));
  if (size_bytes == active->size_bytes) {
    h->failed_count = 0;
    return;
  }
  CHECK(h->failed_count < MAX_BATCHES);
  h->failed_turn[h->failed_count] = h->turns;
  h->failed[h->failed_count++] = b;
}

/* A turn of three batches, two of a producer; acknowledged as a whole, or as far as they are below the published end. */
static void one_turn(history *h) {
  stamped s[PER_TURN];
  int32_t rc = 0;
  int64_t base = plog__log_end(f.log), before = base;
  CHECK(base >= h->end);
  int staged = 0;
  for (int i = 0; i < PER_TURN && rc == 0; i++) {
    plog_batch_header header;
    int transactional = i == 1 ? PLOG_ATTR_TRANSACTIONAL : 0;
    stamp(&s[i], base, 2, h->attempts / 5, 1000 + h->attempts, 60 + h->attempts % 7, i == 2 ? -1 : i,
          i == 2 ? -1 : h->attempts * 2, transactional);
    h->attempts++;
    CHECK_EQ(plog_batch_header_read(s[i].data, s[i].size, &header), 0);
    rc = plog__log_stage(f.log, s[i].data, &header, header.base_offset + 1, false, 0, NULL);
    if (rc == 0) {
      staged++;
      base += 2;
    }
  }
  int32_t committed = plog__log_commit(f.log, 0);
  int64_t end = plog__log_end(f.log);
  if (rc == 0 && committed == 0) CHECK_EQ(end, base);
  CHECK(end >= before && end <= base);
  CHECK_EQ(plog__log_staged_end(f.log), end);
  h->turns++;
  for (int i = 0; i < staged; i++) {
    handed_batch b = {s[i].base, s[i].last, plog_get_u32(s[i].data + PLOG_BATCH_AT_CRC)};
    if (b.last < end)
      note_acked(h, b);
    else
      note_failed(h, b);
  }
  CHECK_EQ(h->end, end);
}

/* The marker that aborts what producer 1 has open. */
static void end_transaction(history *h) {
  stamped s;
  int64_t end = plog__log_end(f.log), last;
  stamp_marker(&s, end, 1, 1);
  h->attempts++;
  int32_t rc = plog_log_append(f.log, s.data, s.size, 0, &last);
  CHECK_EQ(plog__log_end(f.log), rc == 0 ? end + 1 : end);
  h->turns++;
  handed_batch b = {end, end, plog_get_u32(s.data + PLOG_BATCH_AT_CRC)};
  if (rc == 0)
    note_acked(h, b);
  else
    note_failed(h, b);
}

/* A life: open, append, roll, flush, end a transaction, close. Faults may strike anywhere. */
static void live(history *h, bool clean) {
  int32_t rc = fixture_try_open(&f, 0, h->recovery_point, 0);
  if (rc != 0) {
    CHECK(f.log == NULL);
    return;
  }
  CHECK(plog__log_end(f.log) >= h->end);
  for (int turn = 0; turn < TURNS; turn++) {
    one_turn(h);
    int64_t point;
    if (turn == 5 && plog_log_flush(f.log, &point) == 0) {
      CHECK(point <= h->end);
      h->recovery_point = point;
    }
    if (turn == 8) (void)plog_log_roll(f.log, 0);
    if (turn == 9 || turn == 11) end_transaction(h);
  }
  rc = plog_log_close(f.log, clean);
  f.log = NULL;
  h->closed_clean = clean && rc == 0;
}

/* A batch behind all that were acknowledged: the next one of a turn that failed and was not cut off? */
static bool is_leftover(const history *h, const plog_batch_header *header, int *turn, int *at) {
  for (int i = *turn < 0 ? 0 : *at; i < h->failed_count; i++) {
    if (*turn >= 0 && h->failed_turn[i] != *turn) return false;
    if (h->failed[i].base == header->base_offset && h->failed[i].crc == header->crc) {
      /* the first ones of the turn that was not published are before it */
      bool begins = i == 0 || h->failed_turn[i - 1] != h->failed_turn[i];
      if (*turn < 0 && !begins) return false;
      *turn = h->failed_turn[i];
      *at = i + 1;
      return true;
    }
    if (*turn >= 0) return false;
  }
  return false;
}

/* Every acknowledged batch is there, and what else is there may be. */
static void check_survivors(history *h) {
  static uint8_t out[1 << 16];
  fixture_open(&f, 0, h->closed_clean ? h->end : h->recovery_point, h->closed_clean);
  int64_t end = plog__log_end(f.log), offset = 0;
  CHECK(end >= h->end);
  if (h->failed_count == 0) CHECK_EQ(end, h->end);
  int next = 0, left_turn = -1, left_at = 0;
  handed_batch left[PER_TURN];
  int left_count = 0;
  while (offset < end) {
    size_t n;
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    CHECK(n > 0);
    plog_batch_header header;
    for (size_t at = 0; at < n; at += header.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, n - at, &header), 0);
      CHECK_EQ(header.base_offset, offset); /* no hole, no overlap */
      if (next < h->acked_count) {
        CHECK_EQ(header.base_offset, h->acked[next].base);
        CHECK_EQ(header.crc, h->acked[next].crc);
        next++;
      } else {
        CHECK(is_leftover(h, &header, &left_turn, &left_at));
        left[left_count++] = (handed_batch){header.base_offset, plog__batch_last_offset(&header), header.crc};
      }
      offset = plog__batch_last_offset(&header) + 1;
    }
  }
  CHECK_EQ(next, h->acked_count);
  for (int i = 0; i < left_count; i++) note_acked(h, left[i]);
  h->failed_count = 0;
  leftovers += left_count;
  /* indexes, transactions and producers agree with the batches */
  for (int64_t at = 0; at < end; at += 5) {
    plog_slice slice;
    CHECK_EQ(plog__log_slice(f.log, at, INT64_MAX, 1, true, true, &slice), 0);
    CHECK(slice.first_offset <= at && slice.first_offset >= at - 1);
    plog__slice_release(&slice);
  }
  int64_t derived[90], rebuilt[90];
  int32_t derived_count, rebuilt_count;
  CHECK_EQ(plog_log_aborted(f.log, 0, end, derived, 30, &derived_count), 0);
  plog_producer_info producers[8], again[8];
  memset(producers, 0, sizeof producers);
  memset(again, 0, sizeof again);
  int32_t producers_count = plog_log_producers(f.log, producers, 8);
  fixture_close(&f, 0);
  fixture_open(&f, 0, 0, 0); /* once more, from nothing but the batches */
  CHECK_EQ(plog__log_end(f.log), end);
  CHECK_EQ(plog_log_aborted(f.log, 0, end, rebuilt, 30, &rebuilt_count), 0);
  CHECK_EQ(rebuilt_count, derived_count);
  CHECK(memcmp(derived, rebuilt, sizeof derived[0] * 3 * (size_t)derived_count) == 0);
  CHECK_EQ(plog_log_producers(f.log, again, 8), producers_count);
  for (int32_t i = 0; i < producers_count; i++) {
    bool found = false;
    for (int32_t k = 0; k < producers_count; k++) found |= memcmp(&producers[i], &again[k], sizeof again[k]) == 0;
    CHECK(found);
  }
  fixture_close(&f, 0);
}

typedef struct {
  int32_t call, error;
  int64_t short_bytes, repeat;
} fault;

/* One life with the fault at the nth call, then one without, then a look. shut: every write opens its file, for none stays open.
   False: the nth call was never made. */
static bool survive(const fault *what, int64_t nth, bool clean, bool shut) {
  static history h;
  memset(&h, 0, sizeof h);
  fixture_begin(&f);
  f.config.segment_bytes = 1500;
  f.config.index_interval_bytes = 200;
  f.config.segment_index_bytes = 2000;
  if (shut) plog__open_files_limit(&f.sys->open_files, PLOG_FILES_ACTIVE, 0);
  live(&h, false); /* there is something to recover */
  int64_t made = plog_sys_count(f.sys, what->call);
  CHECK_EQ(plog_sys_fault(f.sys, what->call, nth, what->error, what->short_bytes, what->repeat), 0);
  live(&h, clean);
  bool struck = plog_sys_count(f.sys, what->call) - made >= nth;
  CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
  check_survivors(&h);
  live(&h, !clean);
  check_survivors(&h);
  fixture_end(&f);
  return struck;
}

static void every_call_once(void) {
  const fault faults[] = {
      {-1, EIO, 0, 1},
      {-1, ENOSPC, 0, 3},
      {PLOG_SYS_PWRITEV, 0, 100, 1}, /* short, and then it goes on */
      {PLOG_SYS_PWRITEV, 0, 0, 1},
      {PLOG_SYS_PWRITE, 0, 3, 2},
      {PLOG_SYS_PREAD, 0, 5, 2},
  };
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    int64_t nth = 1;
    while (survive(&faults[i], nth, nth % 2, nth / 2 % 2)) nth++;
    (void)fprintf(stderr, "  call %d error %d short %d: %d places\n", faults[i].call, faults[i].error,
                  (int)faults[i].short_bytes, (int)nth - 1);
    CHECK(nth > 5);
  }
}

/* From the nth call on nothing works any more: a disk that died, or one that is full until the next start. */
static void for_good(void) {
  const fault faults[] = {
      {-1, EIO, 0, -1},
      {PLOG_SYS_PWRITEV, ENOSPC, 0, -1},
      {PLOG_SYS_PWRITE, ENOSPC, 0, -1},
      {PLOG_SYS_FTRUNCATE, EIO, 0, -1},
      {PLOG_SYS_OPEN, EMFILE, 0, -1},
      {PLOG_SYS_RENAME, EIO, 0, -1},
      {PLOG_SYS_PWRITEV, 0, 70, -1}, /* short for ever: slow, but it goes on */
  };
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
    for (int shut = 0; shut <= 1; shut++)
      for (int64_t nth = 1; survive(&faults[i], nth, nth % 2, shut); nth += 1 + nth / (shut ? 6 : 20)) continue;
  CHECK(leftovers > 0); /* or the exception is none */
}

/* A table whose files take one more write of 200 bytes and then nothing, and cannot be cut. */
static int64_t (*real_pwritev)(void *, int, const struct iovec *, int, int64_t);
static int (*real_ftruncate)(void *, int, int64_t);
static int64_t writes_left;

static int64_t dying_pwritev(void *context, int fd, const struct iovec *pieces, int count, int64_t position) {
  (void)count;
  if (writes_left-- <= 0) return -EIO;
  struct iovec part = {pieces[0].iov_base, PLOG_MIN(pieces[0].iov_len, (size_t)200)};
  return real_pwritev(context, fd, &part, 1, position);
}
static int no_ftruncate(void *context, int fd, int64_t size_bytes) {
  (void)context;
  (void)fd;
  (void)size_bytes;
  return -EIO;
}

/* A write that failed half-way, and a file that could not be cut: nothing is written until it is, so that what the failed
   write left does not come back behind a shorter batch. */
static void leftovers_do_not_come_back(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  fixture_fill(&f, 2, 1, 10);
  int64_t size = fixture_info(&f).size_bytes;
  stamped s[3];
  plog_batch_header h;
  for (int i = 0; i < 3; i++) {
    stamp(&s[i], 2 + i, 1, 0, 7000 + i, 20, -1, -1, 0);
    CHECK(s[i].size < 100);
    CHECK_EQ(plog_batch_header_read(s[i].data, s[i].size, &h), 0);
  }
  uint8_t all[1024];
  memcpy(all, s[0].data, s[0].size);
  memcpy(all + s[0].size, s[1].data, s[1].size);
  memcpy(all + s[0].size + s[1].size, s[2].data, s[2].size);
  real_pwritev = f.sys->calls.pwritev;
  real_ftruncate = f.sys->calls.ftruncate;
  writes_left = 1;
  f.sys->calls.pwritev = dying_pwritev;
  f.sys->calls.ftruncate = no_ftruncate;
  int64_t last;
  CHECK_EQ(plog_log_append(f.log, all, s[0].size + s[1].size + s[2].size, 0, &last), -EIO);
  CHECK_EQ(fixture_size(&f, 0, ".log"), size + 200); /* two whole batches lie behind the end */
  CHECK_EQ(plog__log_end(f.log), 2);
  f.sys->calls.pwritev = real_pwritev;
  stamped small;
  stamp(&small, 2, 1, 0, 8000, 20, -1, -1, 0);
  CHECK_EQ(small.size, s[0].size); /* the stale second batch would follow it seamlessly */
  CHECK_EQ(fixture_append(&f, &small), -EIO);
  f.sys->calls.ftruncate = real_ftruncate;
  CHECK_EQ(fixture_append(&f, &small), 0);
  fixture_close(&f, 0);
  fixture_open(&f, 0, 0, 0);
  CHECK_EQ(plog__log_end(f.log), 3);
  fixture_end(&f);
}

/* A roll fails, and so does removing what it left: then nothing is cut either, for a start would take the left file for the end
   of the log, and with it for a log with a hole. */
static void a_leftover_does_not_survive_a_cut(void) {
  for (int fully = 0; fully <= 1; fully++) {
    fixture_begin(&f);
    fixture_open(&f, 0, 0, 1);
    fixture_fill(&f, 6, 1, 10);
    CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_UNLINK, 1, EIO, 0, -1), 0);
    CHECK_EQ(plog_log_roll(f.log, 0), -EIO);
    CHECK_EQ(fixture_size(&f, 6, ".log"), 0);
    CHECK_EQ(fully ? plog_log_truncate_fully(f.log, 2, 0) : plog_log_truncate(f.log, 2, 0), -EIO);
    CHECK_EQ(plog__log_end(f.log), 6);
    CHECK_EQ(plog_sys_fault(f.sys, -1, 1, 0, 0, 0), 0);
    CHECK_EQ(fully ? plog_log_truncate_fully(f.log, 2, 0) : plog_log_truncate(f.log, 2, 0), 0);
    CHECK_EQ(fixture_size(&f, 6, ".log"), -1);
    fixture_close(&f, 0);
    fixture_open(&f, 0, 0, 0);
    CHECK_EQ(plog__log_end(f.log), 2);
    CHECK_EQ(fixture_info(&f).segment_count, 1);
    fixture_end(&f);
  }
}

static void rename_segment(int64_t from_base, int64_t to_base) {
  static const char *const suffixes[] = {".log", ".index", ".timeindex", ".snapshot"};
  for (size_t i = 0; i < PLOG_COUNT_OF(suffixes); i++) {
    char from[512], to[512];
    (void)snprintf(from, sizeof from, "%s/%020" PRId64 "%s", f.dir, from_base, suffixes[i]);
    (void)snprintf(to, sizeof to, "%s/%020" PRId64 "%s", f.dir, to_base, suffixes[i]);
    CHECK(rename(from, to) == 0 || (i == 3 && from_base == 0));
  }
}

/* Segments of 4, 4 and 4 batches of one record. */
static void begin_three_segments(void) {
  fixture_begin(&f);
  fixture_open(&f, 0, 0, 1);
  for (int i = 0; i < 3; i++) {
    if (i > 0) CHECK_EQ(plog_log_roll(f.log, 0), 0);
    fixture_fill(&f, 4, 1, 10);
  }
  fixture_close(&f, 0);
}

/* Read from the start: the offsets are 0, 1, .. up to the end, each once. */
static void check_whole(int64_t end) {
  static uint8_t out[1 << 16];
  CHECK_EQ(plog__log_end(f.log), end);
  int64_t offset = 0;
  while (offset < end) {
    size_t n;
    plog_batch_header header;
    CHECK_EQ(plog_log_read(f.log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    CHECK(n > 0);
    for (size_t at = 0; at < n; at += header.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, n - at, &header), 0);
      CHECK_EQ(header.base_offset, offset++);
    }
  }
  CHECK_EQ(offset, end);
}

/* An empty segment that begins where the one before it has records is older than they are, and goes; whatever the recovery point
   says, for they may have been flushed. */
static void empty_segments_hide_no_records(void) {
  for (int32_t base = 6; base <= 10; base += 4) /* in the second segment, and in the last one */
    for (int64_t point = 0; point < base + 2; point++) {
      begin_three_segments();
      char path[512];
      (void)snprintf(path, sizeof path, "%s/%020d.log", f.dir, base);
      int fd = open(path, O_CREAT | O_WRONLY, 0644);
      CHECK(fd >= 0 && close(fd) == 0);
      fixture_open(&f, 0, point, 0);
      check_whole(12);
      CHECK(f.report.deleted_segments == 1 && f.report.truncated_bytes == 0);
      CHECK_EQ(fixture_info(&f).segment_count, 3);
      CHECK_EQ(fixture_size(&f, base, ".log"), -1);
      fixture_end(&f);
    }
}

/* A segment with records that reaches into one with records: one of them has the wrong name. The log ends before they meet. */
static void segments_do_not_overlap(void) {
  begin_three_segments();
  rename_segment(4, 3);
  fixture_open(&f, 0, 0, 0);
  check_whole(3);
  CHECK(f.report.deleted_segments == 2 && f.report.truncated_bytes > 0);
  CHECK_EQ(fixture_info(&f).segment_count, 1);
  fixture_fill(&f, 4, 1, 10);
  fixture_close(&f, 0);
  fixture_open(&f, 0, 0, 0);
  check_whole(7);
  fixture_end(&f);
}

int main(void) {
  RUN(every_call_once);
  RUN(for_good);
  RUN(leftovers_do_not_come_back);
  RUN(a_leftover_does_not_survive_a_cut);
  RUN(empty_segments_hide_no_records);
  RUN(segments_do_not_overlap);
  return 0;
}
