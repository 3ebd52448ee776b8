/*
 * throttle.h: a limit on the bytes per second of replication, measured as Kafka does: over the last eleven seconds, or as long as
 * it has been measured when that is less.
 *
 * Nobody is made to wait here: whoever would move bytes asks whether the rate is exceeded, and tells what it has moved. Reactor.
 */
#ifndef PLOG_THROTTLE_H
#define PLOG_THROTTLE_H

#include "base.h"

#define PLOG_THROTTLE_SAMPLES 11 /* replication.quota.window.num, of a second each */

typedef struct {
  int64_t rate; /* bytes per second; -1: no limit */
  int64_t seconds[PLOG_THROTTLE_SAMPLES];
  int64_t bytes[PLOG_THROTTLE_SAMPLES];
} plog_throttle;

void plog__throttle_init(plog_throttle *t);
void plog__throttle_set(plog_throttle *t, int64_t rate);
void plog__throttle_moved(plog_throttle *t, int64_t size_bytes, int64_t now_ms);
bool plog__throttle_exceeded(const plog_throttle *t, int64_t now_ms);
static inline bool plog__throttle_on(const plog_throttle *t) {
  return t->rate >= 0;
}

#endif
