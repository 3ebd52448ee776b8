/* test_timer.c: timers fire in the order they are due, however they are armed, moved and disarmed. */
#include "timer.h"

#include "test.h"

#define COUNT 500

typedef struct {
  plog_timer timer;
  int64_t fired_at;
} probe;

static plog_timers timers;
static int64_t last_due;
static int fired_count;

static void fire(plog_timer *timer, int64_t now_ms) {
  CHECK(timer->due_ms >= last_due);
  CHECK(timer->due_ms <= now_ms);
  CHECK_EQ(timer->place, 0);
  last_due = timer->due_ms;
  fired_count++;
  PLOG_CONTAINER_OF(timer, probe, timer)->fired_at = now_ms;
}

static void random_order(void) {
  static probe probes[COUNT];
  uint64_t seed = 1;
  plog__timers_init(&timers);
  int armed = 0;
  for (int i = 0; i < COUNT; i++) {
    probes[i].timer.fire = fire;
    CHECK_EQ(plog__timers_arm(&timers, &probes[i].timer, (int64_t)(test_random(&seed) % 1000)), 0);
    armed++;
  }
  for (int i = 0; i < COUNT; i += 3)
    CHECK_EQ(plog__timers_arm(&timers, &probes[i].timer, (int64_t)(test_random(&seed) % 1000)), 0);
  for (int i = 0; i < COUNT; i += 7, armed--) plog__timers_disarm(&timers, &probes[i].timer);
  plog__timers_disarm(&timers, &probes[0].timer); /* harmless twice */
  for (int64_t now = 0; now <= 1000; now += 10) {
    plog__timers_run(&timers, now);
    CHECK(plog__timers_next(&timers) > now);
  }
  CHECK_EQ(fired_count, armed);
  CHECK_EQ(plog__timers_next(&timers), PLOG_NEVER);
  plog__timers_deinit(&timers);
}

static int again_count;

static void fire_again(plog_timer *timer, int64_t now_ms) {
  if (++again_count < 3) CHECK_EQ(plog__timers_arm(&timers, timer, now_ms + 5), 0);
}

static void rearmed_while_firing(void) {
  plog_timer timer = {.fire = fire_again};
  plog__timers_init(&timers);
  CHECK_EQ(plog__timers_arm(&timers, &timer, 10), 0);
  for (int64_t now = 0; now < 40; now++) plog__timers_run(&timers, now);
  CHECK_EQ(again_count, 3);
  CHECK_EQ(timers.count, 0);
  plog__timers_deinit(&timers);
}

int main(void) {
  RUN(random_order);
  RUN(rearmed_while_firing);
  return 0;
}
