/*
 * throttle.c: see throttle.h.
 */
#include "throttle.h"

#include <string.h>

#define NO_SECOND (-1)

void plog__throttle_init(plog_throttle *t) {
  t->rate = -1;
  for (int i = 0; i < PLOG_THROTTLE_SAMPLES; i++) {
    t->seconds[i] = NO_SECOND;
    t->bytes[i] = 0;
  }
}

void plog__throttle_set(plog_throttle *t, int64_t rate) {
  t->rate = rate < 0 ? -1 : rate;
}

void plog__throttle_moved(plog_throttle *t, int64_t size_bytes, int64_t now_ms) {
  int64_t second = now_ms / 1000;
  int i = (int)(second % PLOG_THROTTLE_SAMPLES);
  if (t->seconds[i] != second) {
    t->seconds[i] = second;
    t->bytes[i] = 0;
  }
  t->bytes[i] += size_bytes;
}

bool plog__throttle_exceeded(const plog_throttle *t, int64_t now_ms) {
  if (!plog__throttle_on(t)) return false;
  int64_t second = now_ms / 1000, oldest = second, sum = 0;
  for (int i = 0; i < PLOG_THROTTLE_SAMPLES; i++) {
    if (t->seconds[i] == NO_SECOND || t->seconds[i] <= second - PLOG_THROTTLE_SAMPLES) continue;
    oldest = PLOG_MIN(oldest, t->seconds[i]);
    sum += t->bytes[i];
  }
  int64_t elapsed_ms = PLOG_MAX(now_ms - oldest * 1000, 1000);
  return (double)sum * 1000 > (double)t->rate * (double)elapsed_ms;
}
