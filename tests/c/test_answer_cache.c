/* test_answer_cache.c: only the same question gets the answer, only while it is true, and the room is bounded. */
#include "answer_cache.h"

#include "test.h"

static uint8_t address[PLOG_ADDRESS_BYTES];

static plog_question ask(int32_t key, const char *body) {
  return (plog_question){.api_key = key,
                         .api_version = 9,
                         .listener_id = 1,
                         .local_address = address,
                         .body = (const uint8_t *)body,
                         .body_bytes = (uint32_t)strlen(body)};
}

static bool answers(plog_answer_cache *c, plog_question q, const char *expected) {
  uint32_t size;
  const uint8_t *answer = plog__answer_cache_find(c, &q, &size);
  return answer && size == strlen(expected) && memcmp(answer, expected, size) == 0;
}

static bool silent(plog_answer_cache *c, plog_question q) {
  uint32_t size;
  return !plog__answer_cache_find(c, &q, &size);
}

static void keep(plog_answer_cache *c, plog_question q, const char *answer, int64_t generation) {
  plog__answer_cache_keep(c, &q, (const uint8_t *)answer, (uint32_t)strlen(answer), generation);
}

static void whole_key_counts(void) {
  plog_answer_cache c;
  plog__answer_cache_init(&c, 10000, 42);
  int64_t now = plog__answer_cache_generation(&c);
  keep(&c, ask(3, "a"), "answer", now);
  CHECK(answers(&c, ask(3, "a"), "answer"));
  CHECK(silent(&c, ask(18, "a")));
  CHECK(silent(&c, ask(3, "b")));
  CHECK(silent(&c, ask(3, "")));
  CHECK(silent(&c, ask(3, "aa")));
  plog_question other = ask(3, "a");
  other.api_version = 8;
  CHECK(silent(&c, other));
  other = ask(3, "a");
  other.listener_id = 2;
  CHECK(silent(&c, other));
  address[17]++;
  CHECK(silent(&c, ask(3, "a")));
  address[17]--;
  keep(&c, ask(3, "a"), "better", now);
  CHECK(answers(&c, ask(3, "a"), "better"));
  keep(&c, ask(3, ""), "empty", now);
  CHECK(answers(&c, ask(3, ""), "empty"));
  plog__answer_cache_deinit(&c);
}

static void only_while_true(void) {
  plog_answer_cache c;
  plog__answer_cache_init(&c, 10000, 42);
  int64_t before = plog__answer_cache_generation(&c);
  keep(&c, ask(3, "a"), "old", before);
  plog__answer_cache_invalidate(&c);
  CHECK(silent(&c, ask(3, "a")));
  CHECK_EQ(c.held_bytes, 0);
  keep(&c, ask(3, "a"), "old", before); /* made before the change, answered after it */
  CHECK(silent(&c, ask(3, "a")));
  keep(&c, ask(3, "a"), "new", plog__answer_cache_generation(&c));
  CHECK(answers(&c, ask(3, "a"), "new"));
  plog__answer_cache_deinit(&c);
}

static void bounded(void) {
  plog_answer_cache c;
  plog__answer_cache_init(&c, 4000, 42);
  int64_t now = plog__answer_cache_generation(&c);
  char body[16];
  keep(&c, ask(3, "first"), "kept", now);
  for (int i = 0; i < 1000; i++) {
    (void)snprintf(body, sizeof body, "%d", i);
    keep(&c, ask(3, body), body, now);
    CHECK(c.held_bytes <= 4000);
    CHECK(answers(&c, ask(3, "first"), "kept")); /* used all the time, so never pushed out */
  }
  CHECK(silent(&c, ask(3, "1")));
  CHECK(answers(&c, ask(3, "999"), "999"));
  static char large[5000];
  memset(large, 'x', sizeof large - 1);
  keep(&c, ask(3, "large"), large, now);
  CHECK(silent(&c, ask(3, "large")));
  CHECK(answers(&c, ask(3, "first"), "kept"));
  plog__answer_cache_deinit(&c);
  plog__answer_cache_init(&c, 0, 42);
  keep(&c, ask(3, "a"), "none", now);
  CHECK(silent(&c, ask(3, "a")));
  plog__answer_cache_deinit(&c);
}

int main(void) {
  RUN(whole_key_counts);
  RUN(only_while_true);
  RUN(bounded);
  return 0;
}
