/*
 * directory.h: listing a directory through sys, and what lies in a partition's.
 */
#ifndef PLOG_DIRECTORY_H
#define PLOG_DIRECTORY_H

#include <stdbool.h>

#include "plog.h"
#include "sys.h"

/* Told each name but . and .. ; what is not 0 ends the listing, with that. */
typedef int32_t plog_name_fn(void *context, const char *name);

int32_t plog__directory_list(plog_sys *sys, const char *path, plog_name_fn *fn, void *context);

enum { PLOG_DIRECTORY_SEGMENTS_MAX = 64 };

/* A partition directory in which nothing is unusual. */
typedef struct {
  int32_t segments_count;
  int32_t epochs_count;
  bool epochs_empty; /* leader-epoch-checkpoint has 0 bytes: right as long as there is no record */
  bool has_topic_id;
  bool has_aborted;  /* some .txnindex is there */
  bool has_snapshot; /* some .snapshot is there */
  uint8_t topic_id[16];
  int64_t segments[PLOG_DIRECTORY_SEGMENTS_MAX]; /* base offsets, ascending */
  int64_t epochs[2 * PLOG_DIRECTORY_EPOCHS_MAX]; /* (epoch, start offset), both ascending */
} plog_directory;

/* PLOG_E_MALFORMED: it is not of that kind. -errno */
int32_t plog__directory_read(plog_sys *sys, const char *dir, plog_directory *out);

#endif
