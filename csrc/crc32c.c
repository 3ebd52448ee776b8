#include "crc32c.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base.h"

/*
 * All implementations work on the register of a running CRC, bit-reflected as the x86 instruction has it; plog_crc32c()
 * complements it on the way in and out. Multiplying by x^n modulo the polynomial moves a register n bits further down the
 * message, which is what every constant below is:
 *
 *   SHIFT(n)     x^(8n-33): the register n bytes further, with clmul and one crc32 of the 64-bit product
 *   FOLD_LO(d)   x^(d+31), FOLD_HI(d) x^(d-33): the first and the second half of 16 bytes d bits further, with clmul
 */

/* ---------------------------------------------------------------------------------------------- the table */

/* table[k][b]: the register after byte b and k zero bytes. */
static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[0][b] = crc;
  }
  for (uint32_t b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xff];
}

static uint32_t run_table(uint32_t crc, const uint8_t *p, size_t n) {
  (void)pthread_once(&table_once, fill_table);
  for (; n >= 8; n -= 8, p += 8) {
    uint32_t lo = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    crc = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^ table[4][lo >> 24] ^ table[3][p[4]] ^
          table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
  }
  for (; n > 0; n--, p++) crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
  return crc;
}

#if defined(__x86_64__)

#include <immintrin.h>

/* ---------------------------------------------------------------------------------------------- SSE4.2, one way */

__attribute__((target("sse4.2"))) static uint32_t run_sse42(uint32_t crc, const uint8_t *p, size_t n) {
  uint64_t c = crc, v;
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(&v, p, 8);
    c = _mm_crc32_u64(c, v);
  }
  crc = (uint32_t)c;
  if (n >= 4) {
    uint32_t w;
    memcpy(&w, p, 4);
    crc = _mm_crc32_u32(crc, w);
    n -= 4;
    p += 4;
  }
  for (; n > 0; n--, p++) crc = _mm_crc32_u8(crc, *p);
  return crc;
}

/* ---------------------------------------------------------------------------------------------- SSE4.2, three ways */

/* The instruction takes three cycles and can start every cycle: three stretches side by side, put together by clmul. */
#define WAY_BYTES 512
#define SHIFT_1_WAY 0xdd7e3b0cu  /* x^(8*512-33) */
#define SHIFT_2_WAYS 0x170076fau /* x^(8*1024-33) */

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t shift(uint64_t crc, uint32_t power) {
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)power), 0);
  return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t run_sse42x3(uint32_t crc, const uint8_t *p, size_t n) {
  while (n >= 3 * WAY_BYTES) {
    uint64_t a = crc, b = 0, c = 0, va, vb, vc;
    for (size_t i = 0; i < WAY_BYTES; i += 8) {
      memcpy(&va, p + i, 8);
      memcpy(&vb, p + WAY_BYTES + i, 8);
      memcpy(&vc, p + 2 * WAY_BYTES + i, 8);
      a = _mm_crc32_u64(a, va);
      b = _mm_crc32_u64(b, vb);
      c = _mm_crc32_u64(c, vc);
    }
    crc = (uint32_t)(shift(a, SHIFT_2_WAYS) ^ shift(b, SHIFT_1_WAY) ^ c);
    p += 3 * WAY_BYTES;
    n -= 3 * WAY_BYTES;
  }
  return run_sse42(crc, p, n);
}

/* ---------------------------------------------------------------------------------------------- folding with PCLMUL */

/* Under this many bytes the one-way loop wins. */
#define FOLD_MIN_BYTES 256

#define FOLD_LO_128 0xf20c0dfell
#define FOLD_HI_128 0x493c7d27ll
#define FOLD_LO_256 0x3da6d0cbll
#define FOLD_HI_256 0xba4fc28ell
#define FOLD_LO_512 0x740eef02ll
#define FOLD_HI_512 0x9e4addf8ll
#define FOLD_LO_1024 0x6992cea2ll
#define FOLD_HI_1024 0x0d3b6092ll

__attribute__((target("sse4.2,pclmul"))) static inline __m128i load(const uint8_t *p) {
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}
/* x moved as far as k says, onto y. */
__attribute__((target("sse4.2,pclmul"))) static inline __m128i fold(__m128i x, __m128i k, __m128i y) {
  __m128i lo = _mm_clmulepi64_si128(x, k, 0x00), hi = _mm_clmulepi64_si128(x, k, 0x11);
  return _mm_xor_si128(_mm_xor_si128(lo, hi), y);
}
/* The register after the 16 bytes x, which have the register before them in them already. */
__attribute__((target("sse4.2,pclmul"))) static inline uint32_t finish(__m128i x) {
  uint64_t crc = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(x));
  return (uint32_t)_mm_crc32_u64(crc, (uint64_t)_mm_extract_epi64(x, 1));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t run_clmul(uint32_t crc, const uint8_t *p, size_t n) {
  if (n < FOLD_MIN_BYTES) return run_sse42(crc, p, n);
  __m128i a = _mm_xor_si128(load(p), _mm_cvtsi32_si128((int)crc)), b = load(p + 16), c = load(p + 32), d = load(p + 48);
  __m128i k = _mm_set_epi64x(FOLD_HI_512, FOLD_LO_512);
  for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
    a = fold(a, k, load(p));
    b = fold(b, k, load(p + 16));
    c = fold(c, k, load(p + 32));
    d = fold(d, k, load(p + 48));
  }
  k = _mm_set_epi64x(FOLD_HI_128, FOLD_LO_128);
  a = fold(fold(fold(a, k, b), k, c), k, d);
  for (; n >= 16; p += 16, n -= 16) a = fold(a, k, load(p));
  return run_sse42(finish(a), p, n);
}

/* ---------------------------------------------------------------------------------------------- folding with VPCLMUL */

#define WIDE __attribute__((target("sse4.2,pclmul,avx,avx2,vpclmulqdq")))

WIDE static inline __m256i load_wide(const uint8_t *p) {
  return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
WIDE static inline __m256i fold_wide(__m256i x, __m256i k, __m256i y) {
  __m256i lo = _mm256_clmulepi64_epi128(x, k, 0x00), hi = _mm256_clmulepi64_epi128(x, k, 0x11);
  return _mm256_xor_si256(_mm256_xor_si256(lo, hi), y);
}

/* Both halves of x, which follow one another, in one. */
WIDE static inline __m128i narrow(__m256i x) {
  return fold(_mm256_castsi256_si128(x), _mm_set_epi64x(FOLD_HI_128, FOLD_LO_128), _mm256_extracti128_si256(x, 1));
}
/* The same of four that were folded side by side. */
WIDE static inline __m256i join_wide(__m256i a, __m256i b, __m256i c, __m256i d) {
  __m256i k = _mm256_set_epi64x(FOLD_HI_256, FOLD_LO_256, FOLD_HI_256, FOLD_LO_256);
  return fold_wide(fold_wide(fold_wide(a, k, b), k, c), k, d);
}

WIDE static uint32_t run_vclmul(uint32_t crc, const uint8_t *p, size_t n) {
  if (n < FOLD_MIN_BYTES) return run_sse42(crc, p, n);
  __m256i a = _mm256_xor_si256(load_wide(p), _mm256_castsi128_si256(_mm_cvtsi32_si128((int)crc)));
  __m256i b = load_wide(p + 32), c = load_wide(p + 64), d = load_wide(p + 96);
  __m256i k = _mm256_set_epi64x(FOLD_HI_1024, FOLD_LO_1024, FOLD_HI_1024, FOLD_LO_1024);
  for (p += 128, n -= 128; n >= 128; p += 128, n -= 128) {
    a = fold_wide(a, k, load_wide(p));
    b = fold_wide(b, k, load_wide(p + 32));
    c = fold_wide(c, k, load_wide(p + 64));
    d = fold_wide(d, k, load_wide(p + 96));
  }
  k = _mm256_set_epi64x(FOLD_HI_256, FOLD_LO_256, FOLD_HI_256, FOLD_LO_256);
  a = join_wide(a, b, c, d);
  for (; n >= 32; p += 32, n -= 32) a = fold_wide(a, k, load_wide(p));
  return run_sse42(finish(narrow(a)), p, n);
}

/* ---------------------------------------------------------------------------------------------- both at once */

/* Folding and the instruction use different units of the processor: one stretch is folded while three are stepped through. */
#define FUSED_STEPS 64
#define FUSED_FOLD_BYTES (FUSED_STEPS * 128)
#define FUSED_WAY_BYTES (FUSED_STEPS * 32)
#define FUSED_BYTES (FUSED_FOLD_BYTES + 3 * FUSED_WAY_BYTES)
#define SHIFT_1_FUSED 0xa51b6135u /* x^(8*2048-33) */
#define SHIFT_2_FUSED 0x82f89c77u /* x^(8*4096-33) */
#define SHIFT_3_FUSED 0xb9d68d49u /* x^(8*6144-33) */

/* 32 bytes each of three stretches. */
WIDE static inline void step_ways(uint64_t *a, uint64_t *b, uint64_t *c, const uint8_t *p) {
  for (size_t i = 0; i < 32; i += 8) {
    uint64_t va, vb, vc;
    memcpy(&va, p + i, 8);
    memcpy(&vb, p + FUSED_WAY_BYTES + i, 8);
    memcpy(&vc, p + 2 * FUSED_WAY_BYTES + i, 8);
    *a = _mm_crc32_u64(*a, va);
    *b = _mm_crc32_u64(*b, vb);
    *c = _mm_crc32_u64(*c, vc);
  }
}

WIDE static uint32_t run_fused(uint32_t crc, const uint8_t *p, size_t n) {
  const __m256i k = _mm256_set_epi64x(FOLD_HI_1024, FOLD_LO_1024, FOLD_HI_1024, FOLD_LO_1024);
  for (; n >= FUSED_BYTES; p += FUSED_BYTES, n -= FUSED_BYTES) {
    const uint8_t *ways = p + FUSED_FOLD_BYTES;
    uint64_t first = 0, second = 0, third = 0;
    __m256i a = _mm256_xor_si256(load_wide(p), _mm256_castsi128_si256(_mm_cvtsi32_si128((int)crc)));
    __m256i b = load_wide(p + 32), c = load_wide(p + 64), d = load_wide(p + 96);
    step_ways(&first, &second, &third, ways);
    for (size_t i = 1; i < FUSED_STEPS; i++) {
      const uint8_t *at = p + i * 128;
      a = fold_wide(a, k, load_wide(at));
      b = fold_wide(b, k, load_wide(at + 32));
      c = fold_wide(c, k, load_wide(at + 64));
      d = fold_wide(d, k, load_wide(at + 96));
      step_ways(&first, &second, &third, ways + i * 32);
    }
    uint64_t folded = finish(narrow(join_wide(a, b, c, d)));
    crc = (uint32_t)(shift(folded, SHIFT_3_FUSED) ^ shift(first, SHIFT_2_FUSED) ^ shift(second, SHIFT_1_FUSED) ^ third);
  }
  return run_vclmul(crc, p, n);
}

static bool can_sse42(void) {
  return __builtin_cpu_supports("sse4.2");
}
static bool can_clmul(void) {
  return can_sse42() && __builtin_cpu_supports("pclmul");
}
static bool can_vclmul(void) {
  return can_clmul() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
}

#endif

/* ---------------------------------------------------------------------------------------------- which one */

typedef struct {
  const char *name;
  uint32_t (*run)(uint32_t crc, const uint8_t *data, size_t size_bytes);
  bool (*can)(void);
} implementation;

/* Slowest first; this machine takes the last it can. */
static const implementation implementations[] = {
    {"table", run_table, NULL},
#if defined(__x86_64__)
    {"sse42", run_sse42, can_sse42},    {"clmul", run_clmul, can_clmul},  {"sse42x3", run_sse42x3, can_clmul},
    {"vclmul", run_vclmul, can_vclmul}, {"fused", run_fused, can_vclmul},
#endif
};

int plog__crc32c_kind(int i, plog_crc32c_kind *out) {
  if (i < 0 || i >= (int)PLOG_COUNT_OF(implementations)) return 0;
  out->name = implementations[i].name;
  out->run = !implementations[i].can || implementations[i].can() ? implementations[i].run : NULL;
  return 1;
}

/* The choice is a fact about the CPU, so that two threads that make it at once make the same. */
static const implementation *choose(void) {
  static _Atomic(const implementation *) chosen;
  const implementation *best = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (best) return best;
  for (size_t i = 0; i < PLOG_COUNT_OF(implementations); i++)
    if (!implementations[i].can || implementations[i].can()) best = &implementations[i];
  atomic_store_explicit(&chosen, best, memory_order_relaxed);
  return best;
}

uint32_t plog_crc32c(uint32_t crc, const uint8_t *data, size_t size_bytes) {
  return ~choose()->run(~crc, data, size_bytes);
}

const char *plog_crc32c_name(void) {
  return choose()->name;
}
