/*
 * test.h: what every C test uses. A test is a static void function listed in main with RUN; CHECK stops the program at the
 * first thing that is not so, with the values that were compared.
 */
#ifndef PLOG_TEST_H
#define PLOG_TEST_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                      \
    }                                                                               \
  } while (0)

#define CHECK_EQ(actual, expected)                                                                                         \
  do {                                                                                                                     \
    int64_t check_a = (int64_t)(actual), check_e = (int64_t)(expected);                                                    \
    if (check_a != check_e) {                                                                                              \
      (void)fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", __FILE__, __LINE__, #actual, check_a, check_e); \
      abort();                                                                                                             \
    }                                                                                                                      \
  } while (0)

#define RUN(test)                      \
  do {                                 \
    (void)fprintf(stderr, #test "\n"); \
    test();                            \
  } while (0)

/* A small generator, so that every run of a test is the same run. */
static inline uint64_t test_random(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

#endif
