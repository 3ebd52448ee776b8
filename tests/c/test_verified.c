/*
 * test_verified.c: which bytes are known to be sound, against a map with one entry per byte.
 */
#include "test.h"
#include "verified.h"

enum { BYTES = 1500, STEPS = 100000 };

static void against_a_map(void) {
  uint64_t random = 7;
  plog_verified v = {0};
  bool sound[BYTES] = {false};
  int64_t size = 0, most_ranges = 0;
  for (int step = 0; step < STEPS; step++) {
    int64_t from = (int64_t)(test_random(&random) % BYTES), to = from + (int64_t)(test_random(&random) % 6);
    switch (test_random(&random) % 60) {
    case 0: /* the file is cut */
      size = from < size ? from : size;
      plog__verified_cut(&v, size);
      memset(sound + size, 0, (size_t)(BYTES - size));
      break;
    case 1: /* bytes left memory */
      if (from > size) break;
      plog__verified_forget(&v, from, size);
      memset(sound + from, 0, (size_t)(size - from));
      break;
    case 2:
    case 3: /* this process writes */
      if (size == BYTES) break;
      sound[size++] = true;
      break;
    default: /* it has compared what is there */
      to = to < size ? to : size;
      if (from >= to) break;
      plog__verified_add(&v, from, to);
      memset(sound + from, 1, (size_t)(to - from));
    }
    if (v.read && v.read->count > most_ranges) most_ranges = v.read->count;
    int64_t at = (int64_t)(test_random(&random) % BYTES);
    int64_t upto = plog__verified_upto(&v, at);
    CHECK(upto >= at);
    for (int64_t i = at; i < upto && i < size; i++) CHECK(sound[i]); /* never more than is true */
    if (!v.read || v.read->count < PLOG_VERIFIED_RANGES) continue;
    /* and when there is no room for all ranges, the map forgets as much */
    for (int64_t i = 0; i < size; i++) sound[i] = plog__verified_upto(&v, i) > i;
  }
  CHECK_EQ(most_ranges, PLOG_VERIFIED_RANGES);
  plog__verified_deinit(&v);
}

static void remembers_all_while_there_is_room(void) {
  plog_verified v = {.own_from = 1000};
  CHECK_EQ(plog__verified_upto(&v, 0), 0);
  plog__verified_add(&v, 100, 200);
  plog__verified_add(&v, 300, 400);
  CHECK_EQ(plog__verified_upto(&v, 100), 200);
  CHECK_EQ(plog__verified_upto(&v, 250), 250);
  plog__verified_add(&v, 200, 300);
  CHECK_EQ(v.read->count, 1);
  CHECK_EQ(plog__verified_upto(&v, 150), 400);
  plog__verified_add(&v, 400, 1000);
  CHECK_EQ(plog__verified_upto(&v, 150), INT64_MAX); /* it goes on with what this process wrote */
  plog__verified_forget(&v, 500, 2000);
  CHECK_EQ(plog__verified_upto(&v, 150), 500);
  CHECK_EQ(plog__verified_upto(&v, 1500), 1500);
  CHECK_EQ(plog__verified_upto(&v, 2000), INT64_MAX);
  plog__verified_deinit(&v);
}

static void damages(void) {
  plog_verified v = {.own_from = 1 << 20};
  CHECK(!plog__verified_is_damaged(&v, 5));
  CHECK(plog__verified_add_damage(&v, 5));
  CHECK(!plog__verified_add_damage(&v, 5));
  for (int i = 0; i < PLOG_VERIFIED_DAMAGES; i++) CHECK(plog__verified_add_damage(&v, 100 + i));
  CHECK(!plog__verified_is_damaged(&v, 5)); /* the oldest is found anew when somebody asks */
  CHECK(plog__verified_is_damaged(&v, 100));
  plog__verified_cut(&v, 50);
  CHECK(!plog__verified_is_damaged(&v, 100));
  plog__verified_deinit(&v);
}

int main(void) {
  RUN(against_a_map);
  RUN(remembers_all_while_there_is_room);
  RUN(damages);
  return 0;
}
