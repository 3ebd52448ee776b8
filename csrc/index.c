#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base.h"
#include "wire.h"

void plog__index_init(plog_index *index, uint32_t entry_bytes) {
  memset(index, 0, sizeof *index);
  index->entry_bytes = entry_bytes;
  index->fd = -1;
}

static void drop_entries(plog_index *index, plog_sys *sys) {
  if (index->mapped_bytes)
    (void)plog__sys_munmap(sys, index->entries, index->mapped_bytes);
  else
    free(index->entries);
  index->entries = NULL;
  index->mapped_bytes = 0;
  index->capacity_bytes = 0;
  index->count = 0;
  index->written_count = 0;
}

void plog__index_deinit(plog_index *index, plog_sys *sys) {
  drop_entries(index, sys);
  if (index->fd >= 0) (void)plog__sys_close(sys, index->fd);
  index->fd = -1;
}

/* ---------------------------------------------------------------------------------------------- entries */

uint32_t plog__index_relative_offset(const plog_index *index, uint32_t i) {
  plog_assert(i < index->count);
  return plog_get_u32(index->entries + (size_t)i * index->entry_bytes +
                      (index->entry_bytes == PLOG_TIME_ENTRY_BYTES ? 8 : 0));
}

uint32_t plog__index_position(const plog_index *index, uint32_t i) {
  plog_assert(i < index->count && index->entry_bytes == PLOG_OFFSET_ENTRY_BYTES);
  return plog_get_u32(index->entries + (size_t)i * PLOG_OFFSET_ENTRY_BYTES + 4);
}

int64_t plog__index_timestamp(const plog_index *index, uint32_t i) {
  plog_assert(i < index->count && index->entry_bytes == PLOG_TIME_ENTRY_BYTES);
  return plog_get_i64(index->entries + (size_t)i * PLOG_TIME_ENTRY_BYTES);
}

uint32_t plog__index_count_upto_offset(const plog_index *index, int64_t relative_offset) {
  uint32_t low = 0, high = index->count; /* entries below low are at most it, those from high on are above */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if ((int64_t)plog__index_relative_offset(index, middle) <= relative_offset)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

uint32_t plog__index_count_upto_timestamp(const plog_index *index, int64_t timestamp) {
  uint32_t low = 0, high = index->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (plog__index_timestamp(index, middle) <= timestamp)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* ---------------------------------------------------------------------------------------------- appending */

int32_t plog__index_reserve(plog_index *index, uint32_t entries_count) {
  size_t wanted = plog__index_bytes(index) + (size_t)entries_count * index->entry_bytes;
  plog_assert(index->mapped_bytes == 0);
  if (index->capacity_bytes >= wanted) return 0;
  size_t capacity = PLOG_MAX(index->capacity_bytes * 2, PLOG_MAX(wanted, (size_t)96));
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

/* ---------------------------------------------------------------------------------------------- the file */

bool plog__index_write_due(const plog_index *index) {
  return (size_t)(index->count - index->written_count) * index->entry_bytes >= PLOG_INDEX_LUMP_BYTES;
}

int32_t plog__index_write(plog_index *index, plog_sys *sys) {
  plog_assert(index->fd >= 0 && index->written_count <= index->count);
  size_t from = (size_t)index->written_count * index->entry_bytes, to = plog__index_bytes(index);
  if (from == to) return 0;
  int32_t rc = plog__sys_pwrite_all(sys, index->fd, index->entries + from, to - from, (int64_t)from);
  if (rc == 0) index->written_count = index->count;
  return rc;
}

int32_t plog__index_trim(plog_index *index, plog_sys *sys) {
  int32_t rc = plog__index_write(index, sys);
  return rc != 0 ? rc : plog__sys_ftruncate(sys, index->fd, (int64_t)plog__index_bytes(index));
}

void plog__index_close_file(plog_index *index, plog_sys *sys) {
  if (index->fd >= 0) (void)plog__sys_close(sys, index->fd);
  index->fd = -1;
}

/* Copy mapped entries to the heap, count of them. */
static int32_t unmap(plog_index *index, plog_sys *sys, uint32_t count) {
  if (index->mapped_bytes == 0) {
    index->count = count;
    return 0;
  }
  size_t used = (size_t)count * index->entry_bytes, capacity = PLOG_MAX(used * 2, (size_t)96);
  uint8_t *entries = malloc(capacity);
  if (!entries) return -ENOMEM;
  if (used) memcpy(entries, index->entries, used);
  drop_entries(index, sys);
  index->entries = entries;
  index->capacity_bytes = capacity;
  index->count = count;
  index->written_count = count;
  return 0;
}

int32_t plog__index_truncate(plog_index *index, plog_sys *sys, uint32_t count) {
  plog_assert(count <= index->count);
  int32_t rc = unmap(index, sys, count);
  if (rc == 0) index->written_count = PLOG_MIN(index->written_count, count);
  return rc;
}

int32_t plog__index_open_writable(plog_index *index, plog_sys *sys, const char *path, int64_t file_bytes) {
  int32_t rc = unmap(index, sys, index->count);
  if (rc != 0) return rc;
  int fd = index->fd >= 0 ? index->fd : plog__sys_open(sys, path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return fd;
  index->fd = fd;
  /* what the file holds behind our entries is not ours to keep: cut first, then lengthen with zeros */
  index->written_count = 0;
  rc = plog__sys_ftruncate(sys, fd, 0);
  if (rc == 0) rc = plog__sys_ftruncate(sys, fd, PLOG_MAX(file_bytes, (int64_t)plog__index_bytes(index)));
  if (rc == 0) rc = plog__index_write(index, sys);
  return rc;
}

static bool all_zero(const uint8_t *p, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; i++)
    if (p[i]) return false;
  return true;
}

int32_t plog__index_load(plog_index *index, plog_sys *sys, const char *path) {
  plog_assert(index->entries == NULL && index->fd < 0);
  int fd = plog__sys_open(sys, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  struct stat st;
  int32_t rc = plog__sys_fstat(sys, fd, &st);
  if (rc == 0 && st.st_size % index->entry_bytes != 0) rc = PLOG_E_MALFORMED;
  if (rc == 0 && (uint64_t)st.st_size / index->entry_bytes > UINT32_MAX) rc = PLOG_E_MALFORMED;
  void *address = NULL;
  if (rc == 0 && st.st_size > 0) rc = plog__sys_mmap(sys, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0, &address);
  (void)plog__sys_close(sys, fd);
  if (rc != 0 || st.st_size == 0) return rc;
  plog_assert(address != NULL);
  index->entries = address;
  index->mapped_bytes = (size_t)st.st_size;
  uint32_t low = 0, high = (uint32_t)((uint64_t)st.st_size / index->entry_bytes); /* zeros, if any, are all at the end */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (all_zero(index->entries + (size_t)middle * index->entry_bytes, index->entry_bytes))
      high = middle;
    else
      low = middle + 1;
  }
  index->count = low;
  index->written_count = low;
  return 0;
}
