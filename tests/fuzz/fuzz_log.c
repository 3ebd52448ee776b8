/*
 * fuzz_log.c: a partition directory of any content. The input is cut into a .log, an .index, a .timeindex, a .txnindex and a
 * .snapshot of segment 0 and a .log of segment 1000; the log is opened, clean or not, read, searched, appended to, cut and
 * opened again. It may refuse, it may cut; it must not crash, and what it serves is whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base.h"
#include "log.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static char dir[64];
static plog_sys *table;

static void write_file(const char *name, const uint8_t *data, size_t size_bytes) {
  char path[256];
  (void)snprintf(path, sizeof path, "%s/%s", dir, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  plog_assert(fd >= 0);
  plog_assert(write(fd, data, size_bytes) == (ssize_t)size_bytes);
  (void)close(fd);
}

static void empty_directory(void) {
  DIR *d = opendir(dir);
  plog_assert(d != NULL);
  char path[512];
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    (void)unlink(path);
  }
  (void)closedir(d);
}

static void leave(void) {
  empty_directory();
  (void)rmdir(dir);
  plog_sys_close(table);
}

/* What is read is whole; and in order, when the log was checked at the start. */
static void look(plog_log *log, bool checked) {
  static uint8_t out[1 << 16];
  plog_log_info info;
  plog_log_info_read(log, &info);
  plog_assert(info.log_start_offset <= info.log_end_offset);
  int64_t offset = info.log_start_offset;
  for (int i = 0; i < 50 && offset < info.log_end_offset; i++) {
    size_t n;
    if (plog_log_read(log, offset, INT64_MAX, 1, out, sizeof out, &n) != 0 || n == 0) break;
    for (size_t at = 0; at < n;) {
      plog_batch_header h;
      plog_assert(plog_batch_check(out + at, n - at, &h) == 0);
      if (checked) plog_assert(plog__batch_last_offset(&h) >= offset);
      offset = plog__batch_last_offset(&h) + 1;
      at += h.size_bytes;
    }
  }
  int64_t found, ts, triples[30];
  int32_t epoch, count;
  (void)plog_log_offset_for_timestamp(log, 1000, INT64_MAX, &found, &ts, &epoch);
  (void)plog_log_max_timestamp(log, &found, &ts, &epoch);
  (void)plog_log_aborted(log, 0, INT64_MAX, triples, 10, &count);
  plog_segment_info segments[4];
  (void)plog_log_segments(log, segments, 4);
  for (int64_t at = info.log_start_offset; at < info.log_end_offset && at < info.log_start_offset + 20; at++) {
    plog_slice slice;
    if (plog__log_slice(log, at, INT64_MAX, 100, true, true, &slice) == 0) plog__slice_release(&slice);
  }
}

static void change(plog_log *log) {
  plog_batch_builder *b = plog_batch_builder_open();
  plog_assert(b != NULL);
  const uint8_t *batch;
  size_t batch_bytes;
  int64_t end = plog__log_end(log), last;
  if (end > INT64_MAX - 10) {
    plog_batch_builder_close(b);
    return;
  }
  plog_batch_builder_reset(b, end, 0, 7, 0, 0, 5);
  plog_assert(plog_batch_builder_add(b, 5000, NULL, -1, (const uint8_t *)"v", 1, NULL, 0, 0) == 0);
  plog_assert(plog_batch_builder_finish(b, 0, &batch, &batch_bytes) == 0);
  if (plog_log_append(log, batch, batch_bytes, 0, &last) == 0) plog_assert(plog__log_end(log) == end + 1);
  plog_batch_builder_close(b);
  (void)plog_log_roll(log, 0);
  (void)plog_log_truncate(log, plog__log_start(log) + (end - plog__log_start(log)) / 2, 0);
}

static const char *const names[] = {"00000000000000000000.log",       "00000000000000000000.index",
                                    "00000000000000000000.timeindex", "00000000000000000000.txnindex",
                                    "00000000000000000000.snapshot",  "00000000000000001000.log"};

/* Input: a byte of flags, then for each file a size of two bytes and the bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  if (!table) {
    strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/plog_fuzz_XXXXXX" : "/tmp/plog_fuzz_XXXXXX");
    plog_assert(mkdtemp(dir) != NULL);
    table = plog_sys_open();
    plog_assert(table != NULL);
    (void)atexit(leave);
  }
  plog_reader r;
  plog_reader_init(&r, data, size_bytes);
  int flags = plog_read_i8(&r);
  int64_t bases[2] = {0, 1000};
  int32_t bases_count = 1;
  for (size_t i = 0; i < PLOG_COUNT_OF(names); i++) {
    size_t n = plog_read_u16(&r);
    if (n > r.left) n = r.left;
    if (n == 0 && i > 0) continue;
    write_file(names[i], plog_read_raw(&r, n), n);
    if (i == 5) bases_count = 2;
  }
  plog_log_config config = {20000, 1000000, 0, 1000, 200, INT64_MAX, 0, 1};
  int clean = flags & 1;
  for (int round = 0; round < 2; round++) {
    plog_log *log;
    plog_log_open_report report;
    if (plog_log_open(table, dir, &config, bases, bases_count, 0, flags & 2 ? 1000 : 0, clean, NULL, -1, 0, &log,
                      &report) != 0)
      break;
    /* one file: two that overlap are both whole, and nothing says which is right */
    bool checked = !clean && !(flags & 2) && bases_count == 1;
    look(log, checked);
    if (flags & 4) change(log);
    look(log, checked);
    plog_segment_info segments[4];
    int32_t n = plog_log_segments(log, segments, 4);
    if (plog_log_close(log, flags & 8) != 0 || n > 2 || (flags & 4)) break;
    bases_count = n;
    for (int32_t i = 0; i < n; i++) bases[i] = segments[i].base_offset;
    clean = (flags & 8) != 0;
  }
  empty_directory();
  return 0;
}
