/* test_crc32c.c: every implementation gives the table's checksum, for every length and alignment. */
#include "crc32c.h"

#include "test.h"

enum { LENGTHS = 4096, ALIGNMENTS = 16 };

static void known_values(void) {
  CHECK_EQ(plog_crc32c(0, (const uint8_t *)"123456789", 9), 0xe3069283u);
  CHECK_EQ(plog_crc32c(0, NULL, 0), 0);
  uint8_t zeros[32] = {0};
  CHECK_EQ(plog_crc32c(0, zeros, 32), 0x8a9136aau);
  CHECK_EQ(plog_crc32c(plog_crc32c(0, (const uint8_t *)"1234", 4), (const uint8_t *)"56789", 5), 0xe3069283u);
}

static void all_agree(void) {
  static uint8_t data[LENGTHS + ALIGNMENTS];
  uint64_t seed = 1;
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)test_random(&seed);
  plog_crc32c_kind oracle, kind;
  CHECK(plog__crc32c_kind(0, &oracle));
  for (size_t length = 0; length <= LENGTHS; length++) {
    for (size_t at = 0; at < ALIGNMENTS; at++) {
      uint32_t start = (uint32_t)test_random(&seed);
      uint32_t expected = oracle.run(start, data + at, length);
      for (int i = 1; plog__crc32c_kind(i, &kind); i++)
        if (kind.run) CHECK_EQ(kind.run(start, data + at, length), expected);
    }
  }
}

static void large(void) {
  enum { SIZE = 1 << 20 };
  uint8_t *data = malloc(SIZE);
  CHECK(data);
  uint64_t seed = 2;
  for (size_t i = 0; i < SIZE; i++) data[i] = (uint8_t)test_random(&seed);
  plog_crc32c_kind oracle, kind;
  CHECK(plog__crc32c_kind(0, &oracle));
  uint32_t expected = oracle.run(0, data, SIZE);
  for (int i = 1; plog__crc32c_kind(i, &kind); i++)
    if (kind.run) CHECK_EQ(kind.run(0, data, SIZE), expected);
  CHECK(plog__crc32c_kind(-1, &kind) == 0);
  for (int round = 0; round < 1000; round++) {
    size_t at = test_random(&seed) % 64, length = test_random(&seed) % 65536;
    uint32_t start = (uint32_t)test_random(&seed);
    expected = oracle.run(start, data + at, length);
    for (int i = 1; plog__crc32c_kind(i, &kind); i++)
      if (kind.run) CHECK_EQ(kind.run(start, data + at, length), expected);
  }
  free(data);
}

int main(void) {
  RUN(known_values);
  RUN(all_agree);
  RUN(large);
  (void)fprintf(stderr, "this CPU: %s\n", plog_crc32c_name());
  return 0;
}
