/*
 * index.h: the offset index and the time index of one segment: sorted entries of fixed size, in Kafka's bytes.
 *
 * What stays true:
 *   - the entries in memory are the index; the file follows. Entries reach the file in lumps (PLOG_INDEX_LUMP_BYTES), when
 *     the index is sealed, and never later than that: an index whose segment is still written to is rebuilt after a crash
 *     anyway, so a system call per entry would buy nothing;
 *   - the file of an index that is written to is as long as it may become, the rest zeros; sealing cuts it to its entries;
 *   - a sealed index is read from a mapping of a file that nobody cuts. It is never written through a mapping: a full disk
 *     would kill the process.
 * One thread changes an index. Others read it under the log's lock.
 */
#ifndef PLOG_INDEX_H
#define PLOG_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "plog.h"
#include "sys.h"

#define PLOG_INDEX_LUMP_BYTES 4096

/* Sizes of entries: {relative offset, position}, {timestamp, relative offset}. */
enum { PLOG_OFFSET_ENTRY_BYTES = 8, PLOG_TIME_ENTRY_BYTES = 12 };

typedef struct {
  uint8_t *entries; /* count of them, as they are in the file */
  uint32_t entry_bytes;
  uint32_t count;
  uint32_t written_count; /* of them in the file */
  size_t capacity_bytes;  /* of a heap buffer; 0 when entries are mapped */
  size_t mapped_bytes;    /* of a mapping; 0 when entries are on the heap */
  int fd;                 /* open for writing, or -1 */
} plog_index;

void plog__index_init(plog_index *index, uint32_t entry_bytes);
/* Let go of memory and file; the file keeps what was written. */
void plog__index_deinit(plog_index *index, plog_sys *sys);

/*
 * Read a sealed index from its file. Trailing zeros (an index that was never sealed) are left out. PLOG_E_MALFORMED: the
 * file is no such index; -ENOENT and so on. The caller judges the entries.
 */
int32_t plog__index_load(plog_index *index, plog_sys *sys, const char *path);
/* Open the file for appending and make it file_bytes long, holding the entries there are; creates it. */
int32_t plog__index_open_writable(plog_index *index, plog_sys *sys, const char *path, int64_t file_bytes);
/* Room for so many more entries. -ENOMEM */
int32_t plog__index_reserve(plog_index *index, uint32_t entries_count);
/* Add an entry in memory. -ENOMEM */
int32_t plog__index_append_offset(plog_index *index, uint32_t relative_offset, uint32_t position);
int32_t plog__index_append_time(plog_index *index, int64_t timestamp, uint32_t relative_offset);
/* Write what the file lacks. */
int32_t plog__index_write(plog_index *index, plog_sys *sys);
/* Enough is waiting to be worth a call. */
bool plog__index_write_due(const plog_index *index);
/* Write what the file lacks and cut it to its entries: then it is sealed, and its file may be closed. */
int32_t plog__index_trim(plog_index *index, plog_sys *sys);
void plog__index_close_file(plog_index *index, plog_sys *sys);
/* Drop all entries but the first count, on the heap only; the caller opens it writable afterwards. -ENOMEM */
int32_t plog__index_truncate(plog_index *index, plog_sys *sys, uint32_t count);

static inline size_t plog__index_bytes(const plog_index *index) {
  return (size_t)index->count * index->entry_bytes;
}
uint32_t plog__index_relative_offset(const plog_index *index, uint32_t i); /* of an entry of either kind */
uint32_t plog__index_position(const plog_index *index, uint32_t i);        /* offset index */
int64_t plog__index_timestamp(const plog_index *index, uint32_t i);        /* time index */

/* How many entries have a relative offset, or a timestamp, at most this. */
uint32_t plog__index_count_upto_offset(const plog_index *index, int64_t relative_offset);
uint32_t plog__index_count_upto_timestamp(const plog_index *index, int64_t timestamp);

#endif
