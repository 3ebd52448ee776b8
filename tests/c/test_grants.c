/* test_grants.c: only what was published is allowed; each pair is asked once; who waits is never forgotten; memory is bounded. */
#include "grants.h"

#include "test.h"

#define SPAN_BYTES 20000u

static plog_grants g;

typedef struct {
  plog_grant_wait wait;
  int fired;
} waiter;

static void count_fire(plog_grant_wait *wait) {
  PLOG_CONTAINER_OF(wait, waiter, wait)->fired++;
}

static plog_grant_key about(int32_t principal, int32_t resource, const char *name) {
  return (plog_grant_key){principal, resource, (const uint8_t *)name, (uint32_t)strlen(name)};
}

static plog_grant_key topic(int32_t principal, const char *name) {
  return about(principal, PLOG_RESOURCE_TOPIC, name);
}

static plog_verdict find(plog_grant_key key, uint32_t operation) {
  return plog__grants_find(&g, &key, operation);
}

static void publish(plog_grant_key key, uint32_t operations, int64_t generation) {
  CHECK_EQ(plog__grants_publish(&g, &key, operations, generation), 0);
}

/* Ask, and wait for the answer; was it the first question? */
static bool ask(plog_grant_key key, waiter *w) {
  bool first;
  plog_grant *grant = plog__grants_ask(&g, &key, &first);
  CHECK(grant);
  *w = (waiter){.wait = {.fire = count_fire}};
  plog__grants_wait(grant, &w->wait);
  return first;
}

static void open_table(void) {
  plog__grants_init(&g, 99, SPAN_BYTES);
}

/* ------------------------------------------------------------------------------------------------ what is allowed */

static void only_what_was_published(void) {
  open_table();
  CHECK_EQ(find(topic(1, "a"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  publish(topic(1, "a"), PLOG_GRANT_READ, 0);
  CHECK_EQ(find(topic(1, "a"), PLOG_GRANT_READ), PLOG_ALLOWED);
  CHECK_EQ(find(topic(1, "a"), PLOG_GRANT_WRITE), PLOG_DENIED);
  CHECK_EQ(find(topic(2, "a"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK_EQ(find(topic(1, "aa"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK_EQ(find(topic(1, ""), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK_EQ(find(about(1, PLOG_RESOURCE_TRANSACTIONAL_ID, "a"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  publish(topic(1, "a"), PLOG_GRANT_WRITE, 0); /* the new word replaces the old one */
  CHECK_EQ(find(topic(1, "a"), PLOG_GRANT_READ), PLOG_DENIED);
  CHECK_EQ(find(topic(1, "a"), PLOG_GRANT_WRITE), PLOG_ALLOWED);
  publish(topic(1, "none"), 0, 0);
  CHECK_EQ(find(topic(1, "none"), PLOG_GRANT_READ), PLOG_DENIED);
  plog__grants_deinit(&g);
}

static void everything_and_everybody(void) {
  open_table();
  publish(topic(1, "none"), 0, 0);
  publish(about(1, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_READ, 0);
  CHECK_EQ(find(topic(1, "other"), PLOG_GRANT_READ), PLOG_ALLOWED);
  CHECK_EQ(find(topic(1, ""), PLOG_GRANT_READ), PLOG_ALLOWED);
  CHECK_EQ(find(topic(1, "none"), PLOG_GRANT_READ), PLOG_ALLOWED);
  CHECK_EQ(find(topic(1, "none"), PLOG_GRANT_WRITE), PLOG_DENIED);
  CHECK_EQ(find(topic(1, "other"), PLOG_GRANT_WRITE), PLOG_UNKNOWN);
  CHECK_EQ(find(topic(2, "other"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK(!plog__grants_everyone(&g, PLOG_GRANT_READ));
  publish(about(PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_WRITE, 0);
  CHECK(plog__grants_everyone(&g, PLOG_GRANT_WRITE));
  CHECK(!plog__grants_everyone(&g, PLOG_GRANT_WRITE | PLOG_GRANT_READ));
  CHECK_EQ(find(topic(2, "other"), PLOG_GRANT_WRITE), PLOG_ALLOWED);
  CHECK_EQ(find(topic(1, "none"), PLOG_GRANT_WRITE), PLOG_ALLOWED);
  CHECK_EQ(find(topic(2, "other"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  plog__grants_deinit(&g);
}

/* ------------------------------------------------------------------------------------------------ asking */

static void each_pair_is_asked_once(void) {
  open_table();
  waiter a, b, c;
  CHECK(ask(topic(1, "x"), &a));
  CHECK(!ask(topic(1, "x"), &b));
  CHECK(ask(topic(1, "y"), &c));
  CHECK_EQ(find(topic(1, "x"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  publish(topic(1, "x"), 0, 0);
  CHECK_EQ(a.fired, 1);
  CHECK_EQ(b.fired, 1);
  CHECK_EQ(c.fired, 0);
  plog_list_remove(&c.wait.link); /* gone before the answer */
  publish(topic(1, "y"), 0, 0);
  CHECK_EQ(c.fired, 0);
  plog__grants_deinit(&g);
}

static void what_holds_for_all_answers_too(void) {
  open_table();
  waiter a, b, c;
  CHECK(ask(topic(1, "x"), &a));
  CHECK(ask(topic(1, "y"), &b));
  CHECK(ask(topic(2, "x"), &c));
  publish(about(1, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_READ, 0);
  CHECK_EQ(a.fired + b.fired, 2);
  CHECK_EQ(c.fired, 0);
  CHECK(ask(topic(1, "x"), &a)); /* to write, say: that question is open again */
  publish(about(PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_ALL, 0);
  CHECK_EQ(a.fired, 1);
  CHECK_EQ(c.fired, 1);
  plog__grants_deinit(&g);
}

static void revocation(void) {
  open_table();
  waiter a, b;
  int64_t before = g.generation;
  publish(topic(1, "x"), PLOG_GRANT_READ, before);
  publish(about(PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_WRITE, before);
  CHECK(ask(topic(1, "y"), &a));
  plog__grants_revoke(&g);
  CHECK_EQ(a.fired, 1);
  CHECK(!plog__grants_everyone(&g, PLOG_GRANT_WRITE));
  CHECK_EQ(find(topic(1, "x"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK(ask(topic(1, "y"), &b));
  publish(topic(1, "y"), PLOG_GRANT_READ, before); /* of the old rules */
  publish(about(1, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_READ, before);
  publish(about(PLOG_PRINCIPAL_ANY, PLOG_RESOURCE_ANY, ""), PLOG_GRANT_READ, before);
  CHECK_EQ(b.fired, 0);
  CHECK_EQ(find(topic(1, "y"), PLOG_GRANT_READ), PLOG_UNKNOWN);
  publish(topic(1, "y"), PLOG_GRANT_WRITE, g.generation);
  CHECK_EQ(b.fired, 1);
  CHECK_EQ(find(topic(1, "y"), PLOG_GRANT_READ), PLOG_DENIED);
  plog__grants_deinit(&g);
}

static void forgotten_questions_are_asked_again(void) {
  open_table();
  waiter a, b;
  CHECK(ask(topic(1, "x"), &a));
  plog__grants_forget(&g, a.wait.grant);
  CHECK_EQ(a.fired, 1);
  CHECK(ask(topic(1, "x"), &b));
  plog__grants_deinit(&g);
  CHECK_EQ(b.fired, 1);
}

/* ------------------------------------------------------------------------------------------------ bounds */

static plog_grant_key numbered(int i, char *name) {
  (void)snprintf(name, 16, "t%d", i);
  return topic(i % 7, name);
}

static void memory_is_bounded(void) {
  open_table();
  char name[16];
  uint64_t each = plog__grant_bytes(5);
  int span = (int)(SPAN_BYTES / each) - 1; /* surely fit into one */
  waiter lost;
  CHECK(ask(topic(0, "lost"), &lost));
  for (int i = 10000; i < 20000; i++) {
    publish(numbered(i, name), PLOG_GRANT_READ, 0);
    CHECK(g.young.held_bytes + g.old.held_bytes <= 2 * SPAN_BYTES);
    /* Not one of the last span's worth is missing, in either half of the table. */
    for (int back = 0; back < span && i - back >= 10000; back += 17)
      CHECK_EQ(find(numbered(i - back, name), PLOG_GRANT_READ), PLOG_ALLOWED);
  }
  CHECK_EQ(lost.fired, 1);
  CHECK_EQ(find(numbered(10000, name), PLOG_GRANT_READ), PLOG_UNKNOWN);
  CHECK(g.young.count + g.old.count <= 2 * (SPAN_BYTES / each + 1));
  plog__grants_deinit(&g);
}

/* A question larger than the bound is asked all the same. */
static void huge_names(void) {
  open_table();
  static uint8_t name[2 * SPAN_BYTES];
  plog_grant_key key = {1, PLOG_RESOURCE_TRANSACTIONAL_ID, name, sizeof name};
  for (int i = 0; i < 3; i++) {
    name[0] = (uint8_t)i;
    waiter w;
    CHECK(ask(key, &w));
    publish(key, PLOG_GRANT_WRITE, 0);
    CHECK_EQ(w.fired, 1);
    CHECK_EQ(find(key, PLOG_GRANT_WRITE), PLOG_ALLOWED);
  }
  plog__grants_deinit(&g);
}

/* Against a plain list of the truth: whatever comes and goes, no verdict is wrong and no waiter is left behind. */
static void random_histories(void) {
  enum { NAMES = 60, PRINCIPALS = 3, WAITERS = 40 };
  open_table();
  g.span_bytes = 30 * (uint32_t)plog__grant_bytes(3);
  uint64_t seed = 5;
  uint32_t truth[PRINCIPALS][NAMES] = {{0}};
  static waiter waiters[WAITERS];
  int next = 0;
  for (int i = 0; i < WAITERS; i++) plog_list_init(&waiters[i].wait.link);
  for (int step = 0; step < 50000; step++) {
    char name[16];
    int p = (int)(test_random(&seed) % PRINCIPALS), n = (int)(test_random(&seed) % NAMES);
    (void)snprintf(name, sizeof name, "n%d", n);
    plog_grant_key key = topic(p, name);
    uint32_t operation = test_random(&seed) & 1 ? PLOG_GRANT_READ : PLOG_GRANT_WRITE;
    plog_verdict verdict = find(key, operation);
    if (verdict != PLOG_UNKNOWN) CHECK_EQ(verdict == PLOG_ALLOWED, (truth[p][n] & operation) != 0);
    if (test_random(&seed) % 500 == 0) { /* the rules change */
      for (int i = 0; i < PRINCIPALS * NAMES; i++)
        truth[i / NAMES][i % NAMES] = (uint32_t)test_random(&seed) & PLOG_GRANT_ALL;
      plog__grants_revoke(&g);
    } else if (verdict == PLOG_UNKNOWN && plog_list_empty(&waiters[next].wait.link)) {
      (void)ask(key, &waiters[next]);
      next = (next + 1) % WAITERS;
    } else {
      publish(key, truth[p][n], g.generation);
    }
  }
  plog__grants_revoke(&g);
  CHECK(plog_list_empty(&g.unanswered));
  for (int i = 0; i < WAITERS; i++) {
    CHECK(plog_list_empty(&waiters[i].wait.link));
    CHECK_EQ(waiters[i].fired, 1);
  }
  plog__grants_deinit(&g);
}

static void listeners(void) {
  open_table();
  CHECK_EQ(plog__grants_listener_principal(&g, 0), 0);
  CHECK_EQ(plog__grants_set_listener(&g, 3, 17), 0);
  CHECK_EQ(plog__grants_set_listener(&g, 1, 5), 0);
  CHECK_EQ(plog__grants_listener_principal(&g, 0), 0);
  CHECK_EQ(plog__grants_listener_principal(&g, 1), 5);
  CHECK_EQ(plog__grants_listener_principal(&g, 3), 17);
  CHECK_EQ(plog__grants_listener_principal(&g, 4), 0);
  plog__grants_deinit(&g);
}

int main(void) {
  RUN(only_what_was_published);
  RUN(everything_and_everybody);
  RUN(each_pair_is_asked_once);
  RUN(what_holds_for_all_answers_too);
  RUN(revocation);
  RUN(forgotten_questions_are_asked_again);
  RUN(memory_is_bounded);
  RUN(huge_names);
  RUN(random_histories);
  RUN(listeners);
  return 0;
}
