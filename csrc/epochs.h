/*
 * epochs.h: the leader epochs of a log that have records, each with the offset of its first one (leader-epoch-checkpoint).
 * Epochs and offsets strictly rise.
 */
#ifndef PLOG_EPOCHS_H
#define PLOG_EPOCHS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
  int32_t epoch;
  int64_t start_offset;
} plog_epoch;

typedef struct {
  plog_epoch *items;
  int32_t count;
  int32_t capacity;
} plog_epochs;

void plog__epochs_deinit(plog_epochs *e);
int32_t plog__epochs_copy(plog_epochs *to, const plog_epochs *from); /* -ENOMEM */
/* The batch at offset is of this epoch: does that add an entry? */
bool plog__epochs_is_news(const plog_epochs *e, int32_t epoch, int64_t offset);
/* Add it; entries that it contradicts (epoch or offset not below) go. -ENOMEM */
int32_t plog__epochs_assign(plog_epochs *e, int32_t epoch, int64_t offset);
/* Nothing at or above offset is left. */
void plog__epochs_cut_end(plog_epochs *e, int64_t offset);
/* Nothing below offset is left. */
void plog__epochs_cut_start(plog_epochs *e, int64_t offset);
int32_t plog__epochs_latest(const plog_epochs *e); /* -1 none */
/* The largest epoch <= epoch, and where it ends in a log that ends at log_end; -1 and -1 when that cannot be said.
   begun: the epoch in which the log's leader leads, whether or not it has written in it; -1 when it is not led here. */
void plog__epochs_end(const plog_epochs *e, int32_t begun, int32_t epoch, int64_t log_end, int32_t *out_epoch,
                      int64_t *out_end);

#endif
