/* test_inbox.c: many threads put, one takes and sleeps in between: nothing is lost, left lying or taken out of its sender's order; what
   is laid down wakes nobody until it is told of. */
#include "inbox.h"

#include <poll.h>

#include "test.h"

#define SENDERS 4
#define PER_SENDER 5000

typedef struct {
  plog_message message;
  int sender;
  int number;
} note;

static plog_inbox inbox;
static note notes[SENDERS][PER_SENDER];
static int next_of[SENDERS];
static int taken;

static void take(plog_message *message, void *reactor) {
  CHECK(reactor == &inbox);
  note *n = PLOG_CONTAINER_OF(message, note, message);
  CHECK_EQ(n->number, next_of[n->sender]);
  next_of[n->sender]++;
  taken++;
}

static void *send_notes(void *argument) {
  int sender = (int)(intptr_t)argument;
  for (int i = 0; i < PER_SENDER; i++) {
    notes[sender][i] = (note){.message = {NULL, take}, .sender = sender, .number = i};
    plog__inbox_put(&inbox, &notes[sender][i].message);
  }
  return NULL;
}

static void nothing_is_lost(void) {
  pthread_t threads[SENDERS];
  for (intptr_t i = 0; i < SENDERS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, send_notes, (void *)i), 0);
  while (taken < SENDERS * PER_SENDER) {
    struct pollfd wait = {.fd = inbox.wake_fd, .events = POLLIN};
    bool sleeps = plog__inbox_sleep(&inbox);
    int ready = poll(&wait, 1, sleeps ? 20000 : 0);
    CHECK(ready > 0 || !sleeps); /* time is up only when a wake-up was lost */
    plog__inbox_awake(&inbox, ready > 0);
    plog__inbox_run(&inbox, &inbox);
  }
  for (int i = 0; i < SENDERS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static bool is_woken(void) {
  struct pollfd look = {.fd = inbox.wake_fd, .events = POLLIN};
  return poll(&look, 1, 0) > 0;
}

/* What is laid down wakes nobody until it is told of, once, and is taken by whoever wakes for something else. */
static void what_is_laid_waits_to_be_told_of(void) {
  taken = 0;
  memset(next_of, 0, sizeof next_of);
  for (int i = 0; i < 3; i++) notes[0][i] = (note){.message = {NULL, take}, .sender = 0, .number = i};
  CHECK(plog__inbox_sleep(&inbox));
  plog__inbox_tell(&inbox);
  CHECK(!is_woken()); /* there is nothing to tell */
  plog__inbox_lay(&inbox, &notes[0][0].message);
  plog__inbox_lay(&inbox, &notes[0][1].message);
  CHECK(!is_woken());
  plog__inbox_tell(&inbox);
  CHECK(is_woken());
  plog__inbox_awake(&inbox, true);
  CHECK(!is_woken());
  plog__inbox_run(&inbox, &inbox);
  CHECK_EQ(taken, 2);
  plog__inbox_lay(&inbox, &notes[0][2].message);
  CHECK(!plog__inbox_sleep(&inbox)); /* the last look before sleep sees it */
  plog__inbox_run(&inbox, &inbox);
  CHECK_EQ(taken, 3);
}

int main(void) {
  plog_sys *sys = plog_sys_open();
  CHECK(sys);
  CHECK_EQ(plog__inbox_init(&inbox, sys), 0);
  RUN(nothing_is_lost);
  RUN(what_is_laid_waits_to_be_told_of);
  plog__inbox_deinit(&inbox);
  plog_sys_close(sys);
  return 0;
}
