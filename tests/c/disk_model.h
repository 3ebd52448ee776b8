/*
 * disk_model.h: a disk in memory, with one directory, that loses what was not synced when its power is cut.
 *
 * It stands in for the kernel in the file calls of a plog_sys. Everything is kept twice: as programs see it, and as it is on the
 * platters, with the list of changes between the two. What a cut leaves is chosen from that list, no kinder than a journaling
 * file system such as ext4 is:
 *   - of the data written to a file since its last fsync or fdatasync, every sector of 512 bytes may survive or not, whatever the
 *     others do, in this file and in others; a sector that does not holds what it held before, or zeros;
 *   - a file's size is one that it had since then, whichever of its data survived;
 *   - creations, renames and removals since the last fsync of the directory are taken back from the last one on, as far as one
 *     likes: a journal keeps their order. A file's own fsync does not make its name durable.
 * What was synced survives; syncfs syncs every file and the names. A file without a name is gone. What is stored into a mapping of a file counts as written when the
 * next call is made. One thread at a time.
 */
#ifndef PLOG_DISK_MODEL_H
#define PLOG_DISK_MODEL_H

#include "sys.h"

typedef struct disk_model disk_model;

/* What survives a cut. */
typedef enum {
  DISK_KEEP_ALL,   /* as when only the process dies */
  DISK_KEEP_NONE,  /* what was synced and no more */
  DISK_KEEP_SIZES, /* names and sizes, but no data: zeros */
  DISK_KEEP_DATA,  /* data and sizes of files, but no names */
  DISK_KEEP_SOME,  /* by the seed */
} disk_survivors;

#define DISK_DIRECTORY "/disk" /* the only one; files are DISK_DIRECTORY/<name> */

disk_model *disk_open(void);
void disk_close(disk_model *d);
/* From now on the file calls of sys go to this disk; the rest still to the kernel. */
void disk_attach(disk_model *d, plog_sys *sys);

/* The kernel writes back all that was written to files, and fails: the data are not on the platters and never will be, though
   programs see them. Only a syncfs tells, once to each descriptor that is open, as the kernel does when the files are open no
   more. */
void disk_fail_writeback(disk_model *d);

/* The power goes during the nth change from now (1: the next). That call is done as far as programs could see, but not synced if
   it is a sync; it and all calls after it give -EIO. 0: never. */
void disk_cut_at(disk_model *d, int64_t nth);
bool disk_is_dead(const disk_model *d);
/* Changes so far, syncs included. */
int64_t disk_changes(const disk_model *d);
/* The power is back: descriptors are gone, and what survived is on the platters. */
void disk_restart(disk_model *d, disk_survivors survivors, uint64_t seed);

/* Call fn for each name in the directory; fn may remove and rename. */
void disk_list(disk_model *d, void (*fn)(void *context, const char *name), void *context);
/* The bytes of a file as programs see it, NULL when there is none. Valid until the next change. */
const uint8_t *disk_file(disk_model *d, const char *name, size_t *size_bytes);
/* Change bytes of a file behind everybody's back. */
uint8_t *disk_file_bytes(disk_model *d, const char *name, size_t *size_bytes);
/* How many descriptors are open. */
int disk_open_files(const disk_model *d);

#endif
