/*
 * index.h: the offset index and the time index of one segment: sorted entries of fixed size, in Kafka's bytes.
 *
 * An index is in one of three states, and starts shut:
 *   shut      holds nothing;
 *   sealed    the file is open, its entries stay in it and are looked up with pread: no memory, and no mapping that a bad
 *             sector could turn into a SIGBUS. Only the first and the last entry are kept;
 *   growing   the entries in memory are the index; the file follows. Entries reach the file in lumps (PLOG_INDEX_LUMP_BYTES),
 *             when the index is sealed, and never later than that: an index whose segment is still written to is rebuilt after
 *             a crash anyway, so a system call per entry would buy nothing. Between lumps the file is not open: a log that is
 *             written to would hold three descriptors, and there may be ten thousand. The file is as long as it may become,
 *             the rest zeros; sealing cuts it to its entries.
 * One thread changes an index. Others look things up under the log's lock.
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

/* One entry of either kind. */
typedef struct {
  uint32_t relative_offset;
  uint32_t position; /* offset index */
  int64_t timestamp; /* time index */
} plog_index_entry;

typedef struct {
  uint32_t entry_bytes;
  uint32_t count;
  int fd; /* of a sealed one, or between trimming and sealing; else -1 */
  bool sealed;
  uint8_t *entries; /* growing: count of them, as they are in the file */
  size_t capacity_bytes;
  uint32_t written_count; /* growing: of them in the file */
  plog_index_entry first; /* of a sealed index that has entries */
  plog_index_entry last;
} plog_index;

void plog__index_init(plog_index *index, uint32_t entry_bytes);
/* Shut it: let go of memory and file; the file keeps what was written. */
void plog__index_deinit(plog_index *index, plog_sys *sys);

/*
 * Open the file of a sealed index. Trailing zeros (an index that was never sealed) are left out. PLOG_E_MALFORMED: the file
 * is no such index; -ENOENT and so on. The caller judges the entries.
 */
int32_t plog__index_load(plog_index *index, plog_sys *sys, const char *path);
/* Let it grow: its entries in memory, the file file_bytes long and holding them; creates it. -EIO and PLOG_E_SHORT when a
   sealed one cannot be read, and then it is as it was. On a full disk the file follows later. path: always the same file. */
int32_t plog__index_grow(plog_index *index, plog_sys *sys, const char *path, int64_t file_bytes);
/* Write what the file lacks and cut it to its entries. It still grows; the file stays open, to be sealed. */
int32_t plog__index_trim(plog_index *index, plog_sys *sys, const char *path);
/* Trimmed just now: from now on it is sealed. */
void plog__index_seal(plog_index *index);
/* It is not to be sealed after all. */
void plog__index_shut_file(plog_index *index, plog_sys *sys);

/* Growing or shut: room for so many more entries. -ENOMEM */
int32_t plog__index_reserve(plog_index *index, uint32_t entries_count);
/* Add an entry in memory. -ENOMEM */
int32_t plog__index_append_offset(plog_index *index, uint32_t relative_offset, uint32_t position);
int32_t plog__index_append_time(plog_index *index, int64_t timestamp, uint32_t relative_offset);
/* Write what the file lacks. */
int32_t plog__index_write(plog_index *index, plog_sys *sys, const char *path);
/* Enough is waiting to be worth a call. */
bool plog__index_write_due(const plog_index *index);
/* Drop all entries but the first count, in memory only; the file follows when it is sealed. */
void plog__index_truncate(plog_index *index, uint32_t count);

static inline size_t plog__index_bytes(const plog_index *index) {
  return (size_t)index->count * index->entry_bytes;
}
/* The last entry; there is one. */
plog_index_entry plog__index_last(const plog_index *index);

/*
 * The last entry whose relative offset, or whose timestamp, is at most the key: *out; *count: how many there are up to it,
 * 0 for none, and then *out is not written. PLOG_E_SHORT, -errno: a sealed one that cannot be read.
 */
int32_t plog__index_floor_offset(const plog_index *index, plog_sys *sys, int64_t relative_offset, uint32_t *count,
                                 plog_index_entry *out);
int32_t plog__index_floor_timestamp(const plog_index *index, plog_sys *sys, int64_t timestamp, uint32_t *count,
                                    plog_index_entry *out);
/*
 * The first entry of an offset index at or behind a position, as Kafka searches: it passes over the very first one when that lies
 * exactly there. PLOG_E_NOT_FOUND: none; PLOG_E_SHORT, -errno as above.
 */
int32_t plog__index_ceil_position(const plog_index *index, plog_sys *sys, int64_t position, plog_index_entry *out);

#endif
