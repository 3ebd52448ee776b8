/*
 * What lies in a partition directory, found without opening more than the directory and its two small files.
 *
 * It says what is there when nothing is unusual, which is all that a start with ten thousand of them has time for. Whatever is
 * left half done, does not fit, or is written otherwise than Kafka and we write it, is said to be so and left to those who know
 * what to do about it (pylog/log.py).
 */
#include "directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "segment.h"

enum { LIST_BYTES = 16 * 1024, OFFSET_DIGITS = 20, SMALL_FILE_BYTES = 2048 };

int32_t plog__directory_list(plog_sys *sys, const char *path, plog_name_fn *fn, void *context) {
  _Alignas(struct dirent) char entries[LIST_BYTES];
  int fd = plog__sys_open(sys, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int32_t rc = 0;
  int64_t n;
  while (rc == 0 && (n = plog__sys_getdents(sys, fd, entries, sizeof entries)) != 0) {
    if (n < 0) rc = (int32_t)n;
    for (int64_t at = 0; rc == 0 && at < n;) {
      const struct dirent *entry = (const struct dirent *)(const void *)(entries + at);
      if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) rc = fn(context, entry->d_name);
      at += entry->d_reclen;
    }
  }
  (void)plog__sys_close(sys, fd);
  return rc;
}

/* ---------------------------------------------------------------------------------------------- a partition's */

typedef struct {
  plog_directory *out;
  int64_t indexed[PLOG_DIRECTORY_SEGMENTS_MAX * 3]; /* base offsets of index files */
  int32_t indexed_count;
  bool has_metadata;
  bool has_epochs;
} listing;

static bool ends_with(const char *name, size_t name_bytes, const char *suffix) {
  size_t n = strlen(suffix);
  return name_bytes >= n && memcmp(name + name_bytes - n, suffix, n) == 0;
}

/* The offset that 20 digits say, -1 when they are none. */
static int64_t offset_of(const char *digits) {
  uint64_t offset = 0;
  for (int i = 0; i < OFFSET_DIGITS; i++) {
    unsigned digit = (unsigned)digits[i] - '0';
    if (digit > 9 || offset > ((uint64_t)INT64_MAX - digit) / 10) return -1;
    offset = offset * 10 + digit;
  }
  return (int64_t)offset;
}

/* PLOG_E_MALFORMED: this is not the plain case. */
static int32_t sort_in(void *context, const char *name) {
  static const char *const leftovers[] = {".deleted", ".cleaned", ".swap"};
  static const char *const indexes[] = {".index", ".timeindex", ".txnindex"};
  listing *l = context;
  plog_directory *out = l->out;
  size_t n = strlen(name);
  if (strcmp(name, "partition.metadata") == 0) l->has_metadata = true;
  if (ends_with(name, n, ".snapshot")) out->has_snapshot = true;
  if (ends_with(name, n, ".txnindex")) out->has_aborted = true;
  if (strcmp(name, "leader-epoch-checkpoint") == 0) l->has_epochs = true;
  for (size_t i = 0; i < PLOG_COUNT_OF(leftovers); i++)
    if (ends_with(name, n, leftovers[i])) return PLOG_E_MALFORMED;
  bool is_log = ends_with(name, n, ".log"), is_index = false;
  for (size_t i = 0; i < PLOG_COUNT_OF(indexes); i++) is_index |= ends_with(name, n, indexes[i]);
  if (!is_log && !is_index) return 0;
  const char *dot = strchr(name, '.');
  int64_t offset = dot == name + OFFSET_DIGITS ? offset_of(name) : -1;
  if (offset < 0 || strchr(dot + 1, '.')) return PLOG_E_MALFORMED;
  if (is_log) {
    if (out->segments_count == PLOG_DIRECTORY_SEGMENTS_MAX) return PLOG_E_MALFORMED;
    out->segments[out->segments_count++] = offset;
  } else {
    if (l->indexed_count == (int32_t)PLOG_COUNT_OF(l->indexed)) return PLOG_E_MALFORMED;
    l->indexed[l->indexed_count++] = offset;
  }
  return 0;
}

static int by_offset(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* Every index belongs to a segment. */
static bool no_orphans(const listing *l) {
  const plog_directory *out = l->out;
  for (int32_t i = 0; i < l->indexed_count; i++)
    if (!bsearch(&l->indexed[i], out->segments, (size_t)out->segments_count, sizeof out->segments[0], by_offset))
      return false;
  return true;
}

/* ---------------------------------------------------------------------------------------------- its small files */

/* All of a small file; PLOG_E_MALFORMED when it is not that small. */
static int32_t read_small(plog_sys *sys, const char *dir, const char *name, char out[SMALL_FILE_BYTES],
                          int32_t *size_bytes) {
  char path[PLOG_PATH_BYTES];
  int n = snprintf(path, sizeof path, "%s/%s", dir, name);
  if (n < 0 || n >= (int)sizeof path) return -ENAMETOOLONG;
  int fd = plog__sys_open(sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int64_t got = plog__sys_pread(sys, fd, out, SMALL_FILE_BYTES, 0);
  (void)plog__sys_close(sys, fd);
  if (got < 0) return (int32_t)got;
  *size_bytes = (int32_t)got;
  return got == SMALL_FILE_BYTES ? PLOG_E_MALFORMED : 0; /* there may be more */
}

/* What a digit of URL-safe base64 stands for, -1 when it is none. */
static int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* The 16 bytes behind 22 digits. */
static int32_t decode_id(const char *digits, uint8_t out[16]) {
  enum { DIGITS = 22 };
  uint32_t bits = 0;
  int count = 0, at = 0;
  for (int i = 0; i < DIGITS; i++) {
    int value = value_of(digits[i]);
    if (value < 0) return PLOG_E_MALFORMED;
    bits = bits << 6 | (uint32_t)value;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out[at++] = (uint8_t)(bits >> count);
  }
  return (bits & ((1u << count) - 1)) == 0 ? 0 : PLOG_E_MALFORMED;
}

static int32_t read_topic_id(plog_sys *sys, const char *dir, plog_directory *out) {
  static const char before[] = "version: 0\ntopic_id: ";
  enum { BEFORE = sizeof before - 1, ALL = BEFORE + 22 };
  char text[SMALL_FILE_BYTES];
  int32_t size_bytes, rc = read_small(sys, dir, "partition.metadata", text, &size_bytes);
  if (rc != 0) return rc;
  if (size_bytes != ALL || memcmp(text, before, BEFORE) != 0) return PLOG_E_MALFORMED;
  out->has_topic_id = true;
  return decode_id(text + BEFORE, out->topic_id);
}

/* The number that stands at *at, and is followed by that byte, which is passed too; -1 when there is none such. */
static int64_t take_number(const char **at, const char *end, char behind) {
  int64_t number = 0;
  const char *p = *at;
  for (; p < end && *p >= '0' && *p <= '9'; p++) {
    if (number > (INT64_MAX - 9) / 10) return -1;
    number = number * 10 + (*p - '0');
  }
  if (p == *at || p == end || *p != behind) return -1;
  *at = p + 1;
  return number;
}

static int32_t read_epochs(plog_sys *sys, const char *dir, plog_directory *out) {
  char text[SMALL_FILE_BYTES];
  int32_t size_bytes, rc = read_small(sys, dir, "leader-epoch-checkpoint", text, &size_bytes);
  if (rc != 0) return rc;
  out->epochs_empty = size_bytes == 0;
  if (size_bytes == 0) return 0;
  const char *at = text, *end = text + size_bytes;
  if (take_number(&at, end, '\n') != 0) return PLOG_E_MALFORMED; /* the version */
  int64_t count = take_number(&at, end, '\n');
  if (count < 0 || count > PLOG_DIRECTORY_EPOCHS_MAX) return PLOG_E_MALFORMED;
  for (int64_t i = 0; i < count; i++) {
    int64_t epoch = take_number(&at, end, ' '), start = epoch < 0 ? -1 : take_number(&at, end, '\n');
    bool rises = i == 0 || (epoch > out->epochs[2 * i - 2] && start > out->epochs[2 * i - 1]);
    if (start < 0 || epoch > INT32_MAX || !rises) return PLOG_E_MALFORMED;
    out->epochs[2 * i] = epoch;
    out->epochs[2 * i + 1] = start;
  }
  out->epochs_count = (int32_t)count;
  return at == end ? 0 : PLOG_E_MALFORMED;
}

int32_t plog__directory_read(plog_sys *sys, const char *dir, plog_directory *out) {
  listing l;
  l.out = out;
  l.indexed_count = 0;
  l.has_metadata = l.has_epochs = false;
  out->segments_count = out->epochs_count = 0;
  out->epochs_empty = out->has_topic_id = out->has_aborted = out->has_snapshot = false;
  int32_t rc = plog__directory_list(sys, dir, sort_in, &l);
  if (rc != 0) return rc;
  if (out->segments_count == 0 || !l.has_epochs) return PLOG_E_MALFORMED;
  qsort(out->segments, (size_t)out->segments_count, sizeof out->segments[0], by_offset);
  if (!no_orphans(&l)) return PLOG_E_MALFORMED;
  if (l.has_metadata) rc = read_topic_id(sys, dir, out);
  return rc == 0 ? read_epochs(sys, dir, out) : rc;
}
