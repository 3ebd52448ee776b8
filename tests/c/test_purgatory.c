/* test_purgatory.c: offset watches fire in order when reached, plain ones all at once, and one set again waits for the next time. */
#include "purgatory.h"

#include "test.h"

typedef struct {
  plog_watch watch;
  int fired;
  int32_t error;
  plog_link *again;
} probe;

static int64_t last_offset;

static void fire(plog_watch *watch, int32_t error, int64_t now_ms) {
  probe *p = PLOG_CONTAINER_OF(watch, probe, watch);
  CHECK(!plog__watch_waits(watch));
  CHECK_EQ(now_ms, 77);
  p->fired++;
  p->error = error;
  CHECK(watch->offset >= last_offset);
  last_offset = watch->offset;
  if (p->again) plog__watch_any(p->again, watch);
}

static void by_offset(void) {
  static const int64_t offsets[] = {10, 30, 20, 20, 5, 40};
  probe probes[PLOG_COUNT_OF(offsets)] = {0};
  plog_link list;
  plog_list_init(&list);
  for (size_t i = 0; i < PLOG_COUNT_OF(offsets); i++) {
    plog__watch_init(&probes[i].watch, fire);
    plog__watch_offset(&list, &probes[i].watch, offsets[i]);
  }
  last_offset = 0;
  plog__watches_fire_upto(&list, 4, 77);
  CHECK_EQ(probes[4].fired, 0);
  plog__watches_fire_upto(&list, 20, 77);
  for (size_t i = 0; i < PLOG_COUNT_OF(offsets); i++) CHECK_EQ(probes[i].fired, offsets[i] <= 20);
  plog__watch_cancel(&probes[1].watch);
  plog__watches_fire_all(&list, 6, 77);
  CHECK_EQ(probes[1].fired, 0);
  CHECK_EQ(probes[5].fired, 1);
  CHECK_EQ(probes[5].error, 6);
  CHECK(plog_list_empty(&list));
}

static void set_again(void) {
  plog_link list;
  plog_list_init(&list);
  probe probes[3] = {0};
  for (int i = 0; i < 3; i++) {
    plog__watch_init(&probes[i].watch, fire);
    plog__watch_any(&list, &probes[i].watch);
  }
  probes[1].again = &list;
  last_offset = 0;
  plog__watches_fire_all(&list, 0, 77);
  plog__watches_fire_all(&list, 0, 77);
  CHECK_EQ(probes[0].fired, 1);
  CHECK_EQ(probes[1].fired, 2);
  CHECK_EQ(probes[2].fired, 1);
  plog__watch_cancel(&probes[1].watch);
  plog__watch_cancel(&probes[1].watch);
  CHECK(plog_list_empty(&list));
  plog__watches_fire_all(&list, 0, 77);
}

int main(void) {
  RUN(by_offset);
  RUN(set_again);
  return 0;
}
