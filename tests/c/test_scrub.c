/*
 * test_scrub.c: a scrub finds every damaged batch of closed segments and leaves the page cache as it was, as far as the test's
 * own page cache tells.
 */
#include "log_fixture.h"
#include "log_state.h"

enum { PAGE = 4096, PAGES = 4096 };

/* Which pages of the file are in memory, and which were dropped. */
static bool resident[PAGES], dropped[PAGES];
static bool knows_cachestat;

static int64_t test_cachestat(void *context, int fd, int64_t position, int64_t size_bytes) {
  (void)context;
  (void)fd;
  if (!knows_cachestat) return -ENOSYS;
  int64_t n = 0;
  for (int64_t page = position / PAGE; page <= (position + size_bytes - 1) / PAGE; page++) n += resident[page];
  return n;
}

static int64_t test_preadv2(void *context, int fd, const struct iovec *pieces, int count, int64_t position, int flags) {
  (void)context;
  (void)fd;
  CHECK(count == 1 && pieces->iov_len == 1 && flags == RWF_NOWAIT);
  return resident[position / PAGE] ? 1 : -EAGAIN;
}

static int test_fadvise(void *context, int fd, int64_t position, int64_t size_bytes, int advice) {
  (void)context;
  (void)fd;
  if (advice == POSIX_FADV_RANDOM) return 0;
  CHECK_EQ(advice, POSIX_FADV_DONTNEED);
  CHECK(position % PAGE == 0 && size_bytes % PAGE == 0 && size_bytes > 0);
  for (int64_t page = position / PAGE; page < (position + size_bytes) / PAGE; page++) dropped[page] = true;
  return 0;
}

/* Two closed segments and an active one, of batches of about 2 KB. */
static void begin(fixture *f) {
  fixture_begin(f);
  f->config.segment_bytes = 3000000;
  f->config.index_interval_bytes = 4096;
  fixture_open(f, 0, 0, 1);
  while (f->log->segments_count < 3) fixture_fill(f, 100, 2, 1000);
}

/* Scrub one segment to its end; how many batches were damaged. found: the last of them, NULL: never mind. */
static int32_t scrub(fixture *f, int64_t base, plog_scrub_result *found) {
  int32_t damaged = 0;
  plog_scrub_result r = {.size_bytes = 1};
  while (r.next_position < r.size_bytes) {
    int64_t before = r.next_position;
    CHECK_EQ(plog_log_scrub(f->log, base, before, 300000, &r), 0);
    CHECK(r.next_position > before);
    if (!r.damaged) continue;
    damaged++;
    if (found) *found = r;
  }
  CHECK_EQ(r.next_position, r.size_bytes);
  return damaged;
}

static void leaves_the_page_cache_alone(void) {
  for (int turn = 0; turn < 2; turn++) {
    fixture f;
    begin(&f);
    knows_cachestat = turn == 0;
    uint64_t random = 5;
    for (int i = 0; i < PAGES; i++) { /* runs of both kinds, and single pages */
      dropped[i] = false;
      resident[i] = i / 64 % 3 == 0 ? false : i / 64 % 3 == 1 ? true : test_random(&random) % 2;
    }
    f.sys->calls.cachestat = test_cachestat;
    f.sys->calls.preadv2 = test_preadv2;
    f.sys->calls.fadvise = test_fadvise;
    CHECK_EQ(scrub(&f, 0, NULL), 0);
    int64_t pages = (f.log->segments[0]->size_bytes + PAGE - 1) / PAGE;
    CHECK(pages > 700 && pages < PAGES);
    for (int64_t i = 0; i < PAGES; i++) CHECK_EQ(dropped[i], i < pages && !resident[i]);
    fixture_end(&f);
  }
}

static void flip(fixture *f, int64_t base, int64_t position) {
  char path[PLOG_PATH_BYTES];
  CHECK_EQ(plog__segment_path(f->dir, base, ".log", path), 0);
  int fd = open(path, O_RDWR);
  uint8_t byte;
  CHECK(fd >= 0);
  CHECK_EQ(pread(fd, &byte, 1, position), 1);
  byte ^= 16;
  CHECK_EQ(pwrite(fd, &byte, 1, position), 1);
  (void)close(fd);
}

static void finds_damage(void) {
  fixture f;
  begin(&f);
  int64_t base = f.log->segments[1]->base_offset;
  CHECK_EQ(scrub(&f, 0, NULL), 0);
  CHECK_EQ(scrub(&f, base, NULL), 0);
  stamped s;
  stamp(&s, 0, 2, 0, 1000, 1000, -1, -1, 0);
  int64_t batch = (int64_t)s.size;
  plog_scrub_result found;
  flip(&f, base, 10 * batch + 500);
  CHECK_EQ(scrub(&f, base, &found), 1);
  CHECK_EQ(found.damaged_position, 10 * batch);
  CHECK_EQ(found.damaged_bytes, batch);
  CHECK_EQ(found.first_offset, base + 20);
  CHECK_EQ(found.last_offset, base + 21);
  CHECK(atomic_load(&f.log->segments[1]->doubted) && !atomic_load(&f.log->segments[0]->doubted));
  CHECK_EQ(scrub(&f, 0, NULL), 0);
  /* a length that leads nowhere: it goes on where the index knows a batch */
  flip(&f, base, 100 * batch + PLOG_BATCH_AT_LENGTH);
  flip(&f, base, 1000 * batch + 70);
  CHECK_EQ(scrub(&f, base, &found), 3);
  CHECK_EQ(found.damaged_position, 1000 * batch);
  plog_scrub_result r;
  CHECK_EQ(plog_log_scrub(f.log, base, 100 * batch, 1, &r), 0);
  CHECK(r.damaged && r.damaged_bytes == 0 && r.first_offset == -1);
  CHECK(r.next_position > 100 * batch && r.next_position < 110 * batch && r.next_position % batch == 0);
  fixture_end(&f);
}

static void refuses_what_it_cannot_do(void) {
  fixture f;
  begin(&f);
  plog_scrub_result r;
  int64_t active = f.log->segments[2]->base_offset;
  CHECK_EQ(plog_log_scrub(f.log, active, 0, 1000, &r), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_log_scrub(f.log, 1, 0, 1000, &r), PLOG_E_NOT_FOUND);
  CHECK_EQ(plog_log_scrub(f.log, 0, 0, PLOG_SCRUB_STEP_BYTES + 1, &r), -EINVAL);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PREAD, 1, EIO, 0, 1), 0);
  CHECK_EQ(plog_log_scrub(f.log, 0, 0, 1000, &r), -EIO);
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_OPEN, 1, EMFILE, 0, 1), 0);
  CHECK_EQ(plog_log_scrub(f.log, 0, 0, 1000, &r), -EMFILE);
  int32_t gone;
  CHECK_EQ(plog_log_delete_segments(f.log, active, &gone), 0);
  CHECK_EQ(gone, 2);
  CHECK_EQ(plog_log_scrub(f.log, 0, 0, 1000, &r), PLOG_E_NOT_FOUND);
  fixture_end(&f);
}

int main(void) {
  RUN(leaves_the_page_cache_alone);
  RUN(finds_damage);
  RUN(refuses_what_it_cannot_do);
  return 0;
}
