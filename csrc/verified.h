/*
 * verified.h: which bytes of a .log file are known to be sound batches, so that nothing is served whose CRC nobody has compared,
 * and nothing is compared twice.
 *
 * Known is what this process wrote (it compared the CRCs when it took the batches) and what it has read and compared since. A
 * part that was found to have left memory is forgotten from there on: what comes back from the disk is read anew, with whatever
 * the kernel reads ahead of it. Ranges begin and end with batches. The owner's thread alone.
 */
#ifndef PLOG_VERIFIED_H
#define PLOG_VERIFIED_H

#include <stdbool.h>
#include <stdint.h>

enum { PLOG_VERIFIED_RANGES = 16, PLOG_VERIFIED_DAMAGES = 64 };

typedef struct {
  int64_t from;
  int64_t to;
} plog_range;

/* What is rarely there: of a segment that this process did not write. */
typedef struct {
  int32_t count;
  plog_range ranges[PLOG_VERIFIED_RANGES]; /* ascending, not touching */
  int32_t damages_count;
  int32_t damages_next;
  int64_t damages[PLOG_VERIFIED_DAMAGES]; /* positions of batches that are known to be damaged; the newest */
} plog_verified_read;

typedef struct {
  int64_t own_from;         /* everything from here on was written by this process */
  plog_verified_read *read; /* NULL: nothing */
} plog_verified;

void plog__verified_deinit(plog_verified *v);
/* The end of what is known from position on; position itself when that is not. */
int64_t plog__verified_upto(const plog_verified *v, int64_t position);
/* Memory for what the next two add, which say nothing of it and forget what there is no room for. -ENOMEM */
int32_t plog__verified_prepare(plog_verified *v);
/* [from, to) is sound. Another range may be forgotten for it. */
void plog__verified_add(plog_verified *v, int64_t from, int64_t to);
/* Nothing is known of [from, size) any more; what is appended later is. */
void plog__verified_forget(plog_verified *v, int64_t from, int64_t size_bytes);
/* The file was cut. */
void plog__verified_cut(plog_verified *v, int64_t size_bytes);

bool plog__verified_is_damaged(const plog_verified *v, int64_t position);
/* A damaged batch lies here. False: that was known. */
bool plog__verified_add_damage(plog_verified *v, int64_t position);

#endif
