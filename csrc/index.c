#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "wire.h"

/* What one look into a sealed index reads: a page of the file or a little more. */
enum { WINDOW_BYTES = 4096 };

/* Most of ten thousand logs get a few entries. */
enum { ENTRIES_BYTES_MIN = 24 };

void plog__index_init(plog_index *index, uint32_t entry_bytes) {
  memset(index, 0, sizeof *index);
  index->entry_bytes = entry_bytes;
  index->fd = -1;
}

void plog__index_deinit(plog_index *index, plog_sys *sys) {
  free(index->entries);
  if (index->fd >= 0) (void)plog__sys_close(sys, index->fd);
  plog__index_init(index, index->entry_bytes);
}

/* ---------------------------------------------------------------------------------------------- entries */

static plog_index_entry decode(const plog_index *index, const uint8_t *p) {
  if (index->entry_bytes == PLOG_TIME_ENTRY_BYTES) return (plog_index_entry){plog_get_u32(p + 8), 0, plog_get_i64(p)};
  return (plog_index_entry){plog_get_u32(p), plog_get_u32(p + 4), 0};
}

plog_index_entry plog__index_last(const plog_index *index) {
  plog_assert(index->count > 0);
  return index->sealed ? index->last : decode(index, index->entries + plog__index_bytes(index) - index->entry_bytes);
}

/* What a search goes by. */
typedef enum { BY_OFFSET, BY_POSITION, BY_TIMESTAMP } key_kind;

static int64_t key_of(plog_index_entry entry, key_kind kind) {
  if (kind == BY_TIMESTAMP) return entry.timestamp;
  return kind == BY_OFFSET ? entry.relative_offset : entry.position;
}

/* How many of the entries at p have a key at most this. */
static uint32_t count_upto(const plog_index *index, const uint8_t *p, uint32_t count, key_kind kind, int64_t key) {
  uint32_t low = 0, high = count; /* entries below low are at most it, those from high on are above */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (key_of(decode(index, p + (size_t)middle * index->entry_bytes), kind) <= key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Where the key would be if entries rose evenly, as they nearly do. */
static uint32_t guess(const plog_index *index, key_kind kind, int64_t key) {
  int64_t first = key_of(index->first, kind), last = key_of(index->last, kind);
  if (key <= first) return 0;
  if (key >= last) return index->count - 1;
  double part = ((double)key - (double)first) / ((double)last - (double)first);
  return (uint32_t)(part * (double)(index->count - 1));
}

static int32_t read_window(const plog_index *index, plog_sys *sys, uint32_t from, uint32_t n, uint8_t *window) {
  return plog__sys_pread_all(sys, index->fd, window, (size_t)n * index->entry_bytes, (int64_t)from * index->entry_bytes);
}

/* The same in the file: a window where the key should be, then, when it is not there, windows that halve what is left. */
static int32_t floor_in_file(const plog_index *index, plog_sys *sys, key_kind kind, int64_t key, uint32_t *count,
                             plog_index_entry *out) {
  uint8_t window[WINDOW_BYTES];
  const uint32_t window_entries = WINDOW_BYTES / index->entry_bytes;
  uint32_t low = 0, high = index->count; /* entries below low are at most the key, those from high on are above */
  uint32_t middle = guess(index, kind, key);
  while (low < high) {
    uint32_t from = middle - PLOG_MIN(middle - low, window_entries / 2);
    uint32_t n = PLOG_MIN(high - from, window_entries);
    int32_t rc =
        plog__sys_pread_all(sys, index->fd, window, (size_t)n * index->entry_bytes, (int64_t)from * index->entry_bytes);
    if (rc != 0) return rc;
    uint32_t found = count_upto(index, window, n, kind, key);
    if (found > 0) {
      *out = decode(index, window + (size_t)(found - 1) * index->entry_bytes);
      low = from + found;
    }
    if (found < n) high = from + found;
    middle = low + (high - low) / 2;
  }
  *count = low;
  return 0;
}

static int32_t find_floor(const plog_index *index, plog_sys *sys, key_kind kind, int64_t key, uint32_t *count,
                          plog_index_entry *out) {
  *count = 0;
  if (index->count == 0) return 0;
  plog_index_entry last = plog__index_last(index);
  if (key >= key_of(last, kind)) { /* who reads the tail asks for what is behind it */
    *count = index->count;
    *out = last;
    return 0;
  }
  if (index->sealed) return key < key_of(index->first, kind) ? 0 : floor_in_file(index, sys, kind, key, count, out);
  *count = count_upto(index, index->entries, index->count, kind, key);
  if (*count > 0) *out = decode(index, index->entries + (size_t)(*count - 1) * index->entry_bytes);
  return 0;
}

int32_t plog__index_floor_offset(const plog_index *index, plog_sys *sys, int64_t relative_offset, uint32_t *count,
                                 plog_index_entry *out) {
  return find_floor(index, sys, BY_OFFSET, relative_offset, count, out);
}

int32_t plog__index_floor_timestamp(const plog_index *index, plog_sys *sys, int64_t timestamp, uint32_t *count,
                                    plog_index_entry *out) {
  plog_assert(index->entry_bytes == PLOG_TIME_ENTRY_BYTES);
  return find_floor(index, sys, BY_TIMESTAMP, timestamp, count, out);
}

static int32_t read_entry(const plog_index *index, plog_sys *sys, uint32_t i, plog_index_entry *out) {
  uint8_t entry[PLOG_TIME_ENTRY_BYTES];
  int32_t rc = 0;
  if (index->sealed)
    rc = read_window(index, sys, i, 1, entry);
  else
    memcpy(entry, index->entries + (size_t)i * index->entry_bytes, index->entry_bytes);
  if (rc == 0) *out = decode(index, entry);
  return rc;
}

int32_t plog__index_ceil_position(const plog_index *index, plog_sys *sys, int64_t position, plog_index_entry *out) {
  plog_assert(index->entry_bytes == PLOG_OFFSET_ENTRY_BYTES);
  uint32_t below_count;
  plog_index_entry below;
  int32_t rc = find_floor(index, sys, BY_POSITION, position - 1, &below_count, &below);
  if (rc == 0) rc = below_count < index->count ? read_entry(index, sys, below_count, out) : PLOG_E_NOT_FOUND;
  if (rc != 0 || below_count > 0 || out->position != position) return rc;
  return index->count > 1 ? read_entry(index, sys, 1, out) : PLOG_E_NOT_FOUND;
}

/* ---------------------------------------------------------------------------------------------- growing */

int32_t plog__index_reserve(plog_index *index, uint32_t entries_count) {
  size_t wanted = plog__index_bytes(index) + (size_t)entries_count * index->entry_bytes;
  plog_assert(!index->sealed);
  if (index->capacity_bytes >= wanted) return 0;
  size_t capacity = PLOG_MAX(index->capacity_bytes * 2, PLOG_MAX(wanted, (size_t)ENTRIES_BYTES_MIN));
  uint8_t *entries = realloc(index->entries, capacity);
  if (!entries) return -ENOMEM;
  index->entries = entries;
  index->capacity_bytes = capacity;
  return 0;
}

int32_t plog__index_append_offset(plog_index *index, uint32_t relative_offset, uint32_t position) {
  int32_t rc = plog__index_reserve(index, 1);
  if (rc != 0) return rc;
  uint8_t *entry = index->entries + plog__index_bytes(index);
  plog_put_u32(entry, relative_offset);
  plog_put_u32(entry + 4, position);
  index->count++;
  return 0;
}

int32_t plog__index_append_time(plog_index *index, int64_t timestamp, uint32_t relative_offset) {
  int32_t rc = plog__index_reserve(index, 1);
  if (rc != 0) return rc;
  uint8_t *entry = index->entries + plog__index_bytes(index);
  plog_put_i64(entry, timestamp);
  plog_put_u32(entry + 8, relative_offset);
  index->count++;
  return 0;
}

void plog__index_truncate(plog_index *index, uint32_t count) {
  plog_assert(!index->sealed && count <= index->count);
  index->count = count;
  index->written_count = PLOG_MIN(index->written_count, count);
}

/* ---------------------------------------------------------------------------------------------- the file */

bool plog__index_write_due(const plog_index *index) {
  return (size_t)(index->count - index->written_count) * index->entry_bytes >= PLOG_INDEX_LUMP_BYTES;
}

void plog__index_shut_file(plog_index *index, plog_sys *sys) {
  plog_assert(!index->sealed);
  if (index->fd >= 0) (void)plog__sys_close(sys, index->fd);
  index->fd = -1;
}

static int32_t open_file(plog_index *index, plog_sys *sys, const char *path, int flags) {
  int fd = plog__sys_open(sys, path, O_RDWR | O_CLOEXEC | flags, 0644);
  if (fd < 0) return fd;
  index->fd = fd;
  return 0;
}

/* Open the file of a growing index, unless it is. One that somebody has removed is made again, from its beginning. */
static int32_t reopen_file(plog_index *index, plog_sys *sys, const char *path) {
  int32_t rc = index->fd >= 0 ? 0 : open_file(index, sys, path, 0);
  if (rc != -ENOENT) return rc;
  index->written_count = 0;
  return open_file(index, sys, path, O_CREAT);
}

/* Write what the open file lacks. */
static int32_t write_rest(plog_index *index, plog_sys *sys) {
  plog_assert(index->fd >= 0 && !index->sealed && index->written_count <= index->count);
  size_t from = (size_t)index->written_count * index->entry_bytes, to = plog__index_bytes(index);
  if (from == to) return 0;
  int32_t rc = plog__sys_pwrite_all(sys, index->fd, index->entries + from, to - from, (int64_t)from);
  if (rc == 0) index->written_count = index->count;
  return rc;
}

int32_t plog__index_write(plog_index *index, plog_sys *sys, const char *path) {
  plog_assert(!index->sealed);
  if (index->written_count == index->count) return 0;
  int32_t rc = reopen_file(index, sys, path);
  if (rc == 0) rc = write_rest(index, sys);
  plog__index_shut_file(index, sys);
  return rc;
}

int32_t plog__index_trim(plog_index *index, plog_sys *sys, const char *path) {
  plog_assert(!index->sealed);
  int32_t rc = reopen_file(index, sys, path);
  if (rc == 0) rc = write_rest(index, sys);
  if (rc == 0) rc = plog__sys_ftruncate(sys, index->fd, (int64_t)plog__index_bytes(index));
  if (rc != 0) plog__index_shut_file(index, sys);
  return rc;
}

void plog__index_seal(plog_index *index) {
  plog_assert(index->fd >= 0 && !index->sealed && index->written_count == index->count);
  if (index->count > 0) {
    index->first = decode(index, index->entries);
    index->last = plog__index_last(index);
  }
  free(index->entries);
  index->entries = NULL;
  index->capacity_bytes = 0;
  index->sealed = true;
}

/* Bring the entries of a sealed index into memory. */
static int32_t read_entries(plog_index *index, plog_sys *sys, uint8_t **out, size_t *capacity_bytes) {
  size_t used = plog__index_bytes(index);
  *capacity_bytes = PLOG_MAX(used + used / 2, (size_t)ENTRIES_BYTES_MIN);
  uint8_t *entries = malloc(*capacity_bytes);
  if (!entries) return -ENOMEM;
  int32_t rc = used > 0 ? plog__sys_pread_all(sys, index->fd, entries, used, 0) : 0;
  if (rc != 0) {
    free(entries);
    return rc;
  }
  *out = entries;
  return 0;
}

/* A sealed index: its entries in memory from now on, and its file open for writing; all of it or nothing. */
static int32_t unseal(plog_index *index, plog_sys *sys, const char *path) {
  uint8_t *entries;
  size_t capacity_bytes;
  int32_t rc = read_entries(index, sys, &entries, &capacity_bytes);
  if (rc != 0) return rc;
  int for_reading = index->fd;
  rc = open_file(index, sys, path, O_CREAT);
  if (rc != 0) {
    free(entries);
    return rc;
  }
  (void)plog__sys_close(sys, for_reading);
  index->entries = entries;
  index->capacity_bytes = capacity_bytes;
  index->sealed = false;
  return 0;
}

int32_t plog__index_grow(plog_index *index, plog_sys *sys, const char *path, int64_t file_bytes) {
  plog_assert(index->sealed || index->fd < 0);
  int32_t rc = index->sealed ? unseal(index, sys, path) : open_file(index, sys, path, O_CREAT);
  if (rc != 0) return rc;
  /* what the file holds behind our entries is not ours to keep: cut first, then lengthen with zeros */
  index->written_count = 0;
  rc = plog__sys_ftruncate(sys, index->fd, 0);
  if (rc == 0) rc = plog__sys_ftruncate(sys, index->fd, PLOG_MAX(file_bytes, (int64_t)plog__index_bytes(index)));
  if (rc == 0) rc = write_rest(index, sys);
  plog__index_shut_file(index, sys);
  /* a full disk is no reason not to open the log: the entries are in memory, and the file follows when there is room */
  return rc == -ENOSPC || rc == -EDQUOT ? 0 : rc;
}

/* ---------------------------------------------------------------------------------------------- opening */

static bool is_zero(const uint8_t *p, uint32_t size_bytes) {
  for (uint32_t i = 0; i < size_bytes; i++)
    if (p[i]) return false;
  return true;
}

/* Of count entries at p, those before the zeros, which are all at the end. */
static uint32_t count_nonzero(const plog_index *index, const uint8_t *p, uint32_t count) {
  uint32_t low = 0, high = count; /* entries below low are there, those from high on are zeros */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (is_zero(p + (size_t)middle * index->entry_bytes, index->entry_bytes))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Find the first and the last entry of a file that has room for count. */
static int32_t find_ends(plog_index *index, plog_sys *sys, uint32_t count) {
  uint8_t window[WINDOW_BYTES];
  const uint32_t window_entries = WINDOW_BYTES / index->entry_bytes;
  bool first_seen = false;
  uint32_t low = 0, high = count; /* entries below low are there, those from high on are zeros */
  /* the last window first: it has the last entry, if the file is sealed */
  for (uint32_t from = count - PLOG_MIN(count, window_entries); low < high;
       from = low + (high - low) / 2 - PLOG_MIN((high - low) / 2, window_entries / 2)) {
    uint32_t n = PLOG_MIN(high - from, window_entries);
    int32_t rc = read_window(index, sys, from, n, window);
    if (rc != 0) return rc;
    uint32_t found = count_nonzero(index, window, n);
    if (found > 0) {
      index->last = decode(index, window + (size_t)(found - 1) * index->entry_bytes);
      low = from + found;
    }
    if (found < n) high = from + found;
    if (from == 0) {
      index->first = decode(index, window);
      first_seen = true;
    }
  }
  index->count = low;
  if (first_seen || low == 0) return 0;
  int32_t rc = read_window(index, sys, 0, 1, window);
  if (rc == 0) index->first = decode(index, window);
  return rc;
}

int32_t plog__index_load(plog_index *index, plog_sys *sys, const char *path) {
  plog_assert(index->entries == NULL && index->fd < 0);
  int fd = plog__sys_open(sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  index->fd = fd;
  struct stat st;
  int32_t rc = plog__sys_fstat(sys, fd, &st);
  if (rc == 0 && (st.st_size % index->entry_bytes != 0 || (uint64_t)st.st_size / index->entry_bytes > UINT32_MAX))
    rc = PLOG_E_MALFORMED;
  if (rc == 0 && st.st_size > 0) rc = find_ends(index, sys, (uint32_t)((uint64_t)st.st_size / index->entry_bytes));
  if (rc == PLOG_E_SHORT) rc = PLOG_E_MALFORMED; /* cut while we looked */
  if (rc != 0) {
    plog__index_deinit(index, sys);
    return rc;
  }
  index->sealed = true;
  return 0;
}
