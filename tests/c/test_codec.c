/* test_codec.c: every codec gives back what it was given, in one piece or many, and refuses what is damaged. */
#include "codec.h"

#include "snappy.h"
#include "test.h"

static const int32_t codecs[] = {PLOG_CODEC_NONE, PLOG_CODEC_GZIP, PLOG_CODEC_SNAPPY, PLOG_CODEC_LZ4, PLOG_CODEC_ZSTD};
enum { CODECS = sizeof codecs / sizeof codecs[0] };

/* Compressible to a degree: runs of text between random bytes. */
static void fill(uint8_t *data, size_t size, uint64_t seed, int noise) {
  for (size_t i = 0; i < size; i++) {
    uint64_t r = test_random(&seed);
    data[i] = (int)(r % 100) < noise ? (uint8_t)(r >> 32) : (uint8_t) "the quick brown fox"[i % 19];
  }
}

static void round_trip(int32_t codec, int32_t level, const uint8_t *in, size_t size) {
  size_t bound = plog_codec_bound(codec, size), packed_size, back_size;
  uint8_t *packed = malloc(bound + 1), *back = malloc(size + 1);
  CHECK(packed && back);
  CHECK_EQ(plog_codec_compress(codec, level, in, size, packed, bound, &packed_size), 0);
  CHECK(packed_size <= bound);
  CHECK_EQ(plog_codec_decompress(codec, packed, packed_size, back, size, &back_size), 0);
  CHECK_EQ(back_size, size);
  CHECK(memcmp(in, back, size) == 0);
  if (size > 0)
    CHECK_EQ(plog_codec_decompress(codec, packed, packed_size, back, size - 1, &back_size), PLOG_E_BUFFER_TOO_SMALL);

  plog_decoder *d;
  CHECK_EQ(plog__decoder_open(codec, packed, packed_size, &d), 0);
  size_t done = 0, n, step = 1;
  for (;;) {
    CHECK_EQ(plog__decoder_read(d, back + done, step < size - done ? step : size - done + 1, &n), 0);
    if (n == 0) break;
    done += n;
    step = step * 2 % 5000 + 1;
  }
  CHECK_EQ(done, size);
  CHECK(memcmp(in, back, size) == 0);
  plog__decoder_close(d);

  /* cut anywhere, it must not pass for whole (snappy blocks and bare bytes end where they end) */
  if (codec == PLOG_CODEC_GZIP || codec == PLOG_CODEC_LZ4 || codec == PLOG_CODEC_ZSTD)
    for (size_t cut = 1; cut < packed_size; cut += packed_size / 13 + 1)
      CHECK_EQ(plog_codec_decompress(codec, packed, cut, back, size + 1, &back_size), PLOG_CORRUPT_MESSAGE);
  free(packed);
  free(back);
}

static void round_trips(void) {
  static uint8_t data[300000];
  const size_t sizes[] = {0,  1,   2,   3,   4,    5,     15,    16,    17,    60,    61,
                          64, 100, 255, 257, 1000, 32767, 32768, 32769, 65537, 300000};
  for (int noise = 0; noise <= 100; noise += 25) {
    fill(data, sizeof data, (uint64_t)noise + 1, noise);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
      for (int c = 0; c < CODECS; c++) round_trip(codecs[c], INT32_MIN, data, sizes[s]);
  }
  round_trip(PLOG_CODEC_GZIP, 1, data, 5000);
  round_trip(PLOG_CODEC_LZ4, 9, data, 5000);
  round_trip(PLOG_CODEC_LZ4, 12, data, 5000);
  round_trip(PLOG_CODEC_ZSTD, -5, data, 5000);
  round_trip(PLOG_CODEC_ZSTD, 19, data, 5000);
}

static void members_follow_members(void) {
  const int32_t both[] = {PLOG_CODEC_GZIP, PLOG_CODEC_SNAPPY, PLOG_CODEC_ZSTD};
  for (int i = 0; i < 3; i++) {
    uint8_t packed[1000], back[100];
    size_t first, second, n;
    CHECK_EQ(plog_codec_compress(both[i], INT32_MIN, (const uint8_t *)"one ", 4, packed, 500, &first), 0);
    CHECK_EQ(plog_codec_compress(both[i], INT32_MIN, (const uint8_t *)"two", 3, packed + first, 500, &second), 0);
    CHECK_EQ(plog_codec_decompress(both[i], packed, first + second, back, sizeof back, &n), 0);
    CHECK_EQ(n, 7);
    CHECK(memcmp(back, "one two", 7) == 0);
  }
}

static void raw_snappy_block(void) {
  /* as librdkafka writes it: one block without framing */
  static uint8_t data[20000], block[40000], back[20000];
  fill(data, sizeof data, 7, 30);
  size_t n, size = plog__snappy_encode(data, sizeof data, block);
  CHECK_EQ(plog_codec_decompress(PLOG_CODEC_SNAPPY, block, size, back, sizeof back, &n), 0);
  CHECK_EQ(n, sizeof data);
  CHECK(memcmp(data, back, n) == 0);
  CHECK_EQ(plog_codec_decompress(PLOG_CODEC_SNAPPY, block, size - 1, back, sizeof back, &n), PLOG_CORRUPT_MESSAGE);
}

/* What a snappy block may say that ours never writes: copies with an offset of 32 bits, long literals. */
static void snappy_elements(void) {
  const uint8_t far_copy[] = {8, 3 << 2, 'a', 'b', 'c', 'd', 3 << 2 | 3, 4, 0, 0, 0};
  const uint8_t long_literal[] = {3, 63 << 2, 2, 0, 0, 0, 'x', 'y', 'z'};
  const uint8_t pattern[] = {9, 0, 'a', 7 << 2 | 2, 1, 0};
  const uint8_t zero_offset[] = {5, 0, 'a', 3 << 2 | 2, 0, 0};
  const uint8_t before_start[] = {5, 0, 'a', 3 << 2 | 2, 2, 0};
  uint8_t out[16];
  CHECK_EQ(plog__snappy_decode(far_copy, sizeof far_copy, out, 8), 0);
  CHECK(memcmp(out, "abcdabcd", 8) == 0);
  CHECK_EQ(plog__snappy_decode(long_literal, sizeof long_literal, out, 3), 0);
  CHECK(memcmp(out, "xyz", 3) == 0);
  CHECK_EQ(plog__snappy_decode(pattern, sizeof pattern, out, 9), 0);
  CHECK(memcmp(out, "aaaaaaaaa", 9) == 0);
  CHECK_EQ(plog__snappy_decode(zero_offset, sizeof zero_offset, out, 5), PLOG_CORRUPT_MESSAGE);
  CHECK_EQ(plog__snappy_decode(before_start, sizeof before_start, out, 5), PLOG_CORRUPT_MESSAGE);
}

static void promises_are_not_believed(void) {
  /* a raw block of a few bytes that promises four gigabytes */
  const uint8_t bomb[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'a'};
  uint8_t out[16];
  size_t n;
  CHECK_EQ(plog_codec_decompress(PLOG_CODEC_SNAPPY, bomb, sizeof bomb, out, sizeof out, &n), PLOG_CORRUPT_MESSAGE);
  CHECK_EQ(plog_codec_decompress(5, bomb, sizeof bomb, out, sizeof out, &n), PLOG_E_UNKNOWN_CODEC);
  CHECK_EQ(plog_codec_compress(7, INT32_MIN, bomb, sizeof bomb, out, sizeof out, &n), PLOG_E_UNKNOWN_CODEC);
}

static void small_buffers_are_refused(void) {
  static uint8_t data[5000], out[6000];
  fill(data, sizeof data, 9, 100);
  for (int c = 0; c < CODECS; c++) {
    size_t n;
    CHECK_EQ(plog_codec_compress(codecs[c], INT32_MIN, data, sizeof data, out, 1000, &n), PLOG_E_BUFFER_TOO_SMALL);
  }
}

int main(void) {
  RUN(round_trips);
  RUN(members_follow_members);
  RUN(raw_snappy_block);
  RUN(snappy_elements);
  RUN(promises_are_not_believed);
  RUN(small_buffers_are_refused);
  return 0;
}
