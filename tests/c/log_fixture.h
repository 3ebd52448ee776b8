/*
 * log_fixture.h: a log in a directory of its own, batches to put in it, and ways to look at what is there. For tests of logs.
 */
#ifndef PLOG_LOG_FIXTURE_H
#define PLOG_LOG_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "log.h"
#include "test.h"
#include "wire.h"

enum { FIXTURE_MAX_SEGMENTS = 8192 };

typedef struct {
  char dir[64];
  plog_sys *sys;
  plog_log_config config;
  plog_log *log; /* NULL: closed */
  plog_log_open_report report;
  bool epoch_zero; /* the checkpoint of leader epochs is there, and says (0, 0) */
} fixture;

static inline void fixture_begin(fixture *f) {
  memset(f, 0, sizeof *f);
  /* in memory where that can be: thousands of synced little files */
  strcpy(f->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/plog_log_XXXXXX" : "/tmp/plog_log_XXXXXX");
  CHECK(mkdtemp(f->dir));
  f->sys = plog_sys_open();
  CHECK(f->sys);
  f->config = (plog_log_config){1 << 30, INT64_MAX / 2, 0, 10 << 20, 4096, INT64_MAX, 0, 1};
}

static inline void fixture_empty_directory(const char *dir) {
  DIR *d = opendir(dir);
  CHECK(d);
  char path[512];
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    CHECK_EQ(unlink(path), 0);
  }
  (void)closedir(d);
}

static inline void fixture_empty(fixture *f) {
  fixture_empty_directory(f->dir);
}

static inline void fixture_end(fixture *f) {
  if (f->log) (void)plog_log_close(f->log, 0);
  fixture_empty(f);
  CHECK_EQ(rmdir(f->dir), 0);
  plog_sys_close(f->sys);
}

static inline int compare_bases(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* The segments there are, as a library lists them; index files without a .log and what was set aside are removed. */
static inline int32_t fixture_list(fixture *f, int64_t *bases) {
  DIR *d = opendir(f->dir);
  CHECK(d);
  int32_t n = 0;
  char path[512];
  for (struct dirent *e; (e = readdir(d));) {
    if (strlen(e->d_name) == 24 && strcmp(e->d_name + 20, ".log") == 0) {
      CHECK(n < FIXTURE_MAX_SEGMENTS);
      bases[n++] = strtoll(e->d_name, NULL, 10);
    } else if (strstr(e->d_name, ".deleted")) {
      (void)snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
      (void)unlink(path);
    }
  }
  (void)closedir(d);
  qsort(bases, (size_t)n, sizeof *bases, compare_bases);
  return n;
}

static inline int32_t fixture_try_open(fixture *f, int64_t log_start, int64_t recovery_point, int clean) {
  static _Thread_local int64_t bases[FIXTURE_MAX_SEGMENTS];
  int32_t n = fixture_list(f, bases);
  CHECK(f->log == NULL);
  const int64_t epochs[2] = {0, 0};
  return plog_log_open(f->sys, f->dir, &f->config, bases, n, log_start, recovery_point, clean,
                       f->epoch_zero ? epochs : NULL, f->epoch_zero ? 1 : -1, 0, &f->log, &f->report);
}
static inline void fixture_open(fixture *f, int64_t log_start, int64_t recovery_point, int clean) {
  CHECK_EQ(fixture_try_open(f, log_start, recovery_point, clean), 0);
}
static inline void fixture_close(fixture *f, int clean) {
  CHECK_EQ(plog_log_close(f->log, clean), 0);
  f->log = NULL;
}

/* A stamped batch. */
typedef struct {
  uint8_t data[4096];
  size_t size;
  int64_t base, last;
} stamped;

static inline void stamp(stamped *out, int64_t base, int32_t count, int32_t epoch, int64_t timestamp, int32_t value_bytes,
                         int64_t producer_id, int32_t sequence, int32_t attributes) {
  static const uint8_t filler[2048] = {'x'};
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, base, attributes, producer_id, producer_id < 0 ? -1 : 0, sequence, epoch);
  for (int32_t i = 0; i < count; i++)
    CHECK_EQ(plog_batch_builder_add(b, timestamp, (const uint8_t *)&i, 4, filler, value_bytes, NULL, 0, 0), 0);
  const uint8_t *data;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &out->size), 0);
  CHECK(out->size <= sizeof out->data);
  memcpy(out->data, data, out->size);
  out->base = base;
  out->last = base + count - 1;
  plog_batch_builder_close(b);
}

/* A marker that ends the transaction of a producer. */
static inline void stamp_marker(stamped *out, int64_t base, int64_t producer_id, int abort_it) {
  const uint8_t key[4] = {0, 0, 0, (uint8_t)!abort_it}, value[6] = {0};
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, base, PLOG_ATTR_CONTROL | PLOG_ATTR_TRANSACTIONAL, producer_id, 0, -1, 0);
  CHECK_EQ(plog_batch_builder_add(b, 1000 + base, key, 4, value, 6, NULL, 0, 0), 0);
  const uint8_t *data;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &out->size), 0);
  memcpy(out->data, data, out->size);
  out->base = out->last = base;
  plog_batch_builder_close(b);
}

static inline int32_t fixture_append(fixture *f, const stamped *s) {
  int64_t last = -1;
  int32_t rc = plog_log_append(f->log, s->data, s->size, 0, &last);
  if (rc == 0) CHECK_EQ(last, s->last);
  return rc;
}

/* Append `batches` batches of `count` records at the end. */
static inline void fixture_fill(fixture *f, int batches, int32_t count, int32_t value_bytes) {
  for (int i = 0; i < batches; i++) {
    stamped s;
    int64_t end = plog__log_end(f->log);
    stamp(&s, end, count, 0, 1000 + end, value_bytes, -1, -1, 0);
    CHECK_EQ(fixture_append(f, &s), 0);
  }
}

static inline plog_log_info fixture_info(fixture *f) {
  plog_log_info info;
  plog_log_info_read(f->log, &info);
  return info;
}

static inline int64_t fixture_size(fixture *f, int64_t base, const char *suffix) {
  char path[512];
  struct stat st;
  (void)snprintf(path, sizeof path, "%s/%020" PRId64 "%s", f->dir, base, suffix);
  return stat(path, &st) == 0 ? st.st_size : -1;
}

#endif
