/*
 * directory.h: listing a directory through sys.
 */
#ifndef PLOG_DIRECTORY_H
#define PLOG_DIRECTORY_H

#include "sys.h"

/* Told each name but . and .. ; what is not 0 ends the listing, with that. */
typedef int32_t plog_name_fn(void *context, const char *name);

int32_t plog__directory_list(plog_sys *sys, const char *path, plog_name_fn *fn, void *context);

#endif
