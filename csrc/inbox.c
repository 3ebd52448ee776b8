/*
 * inbox.c: see inbox.h.
 */
#include "inbox.h"

#include <sys/eventfd.h>

int32_t plog__inbox_init(plog_inbox *inbox, plog_sys *sys) {
  atomic_init(&inbox->newest, NULL);
  atomic_init(&inbox->asleep, false);
  inbox->sys = sys;
  inbox->wake_fd = plog__sys_eventfd(sys, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  return inbox->wake_fd < 0 ? inbox->wake_fd : 0;
}

void plog__inbox_deinit(plog_inbox *inbox) {
  plog_assert(atomic_load(&inbox->newest) == NULL);
  (void)plog__sys_close(inbox->sys, inbox->wake_fd);
}

void plog__inbox_wake(plog_inbox *inbox) {
  /* Whoever turns asleep off writes; the eventfd's counter cannot overflow, so the write does not fail. */
  if (atomic_exchange(&inbox->asleep, false)) {
    uint64_t one = 1;
    (void)plog__sys_write(inbox->sys, inbox->wake_fd, &one, sizeof one);
  }
}

void plog__inbox_lay(plog_inbox *inbox, plog_message *message) {
  plog_message *newest = atomic_load_explicit(&inbox->newest, memory_order_relaxed);
  do {
    message->next = newest;
  } while (!atomic_compare_exchange_weak(&inbox->newest, &newest, message));
}

void plog__inbox_put(plog_inbox *inbox, plog_message *message) {
  plog__inbox_lay(inbox, message);
  plog__inbox_wake(inbox);
}

void plog__inbox_tell(plog_inbox *inbox) {
  if (atomic_load(&inbox->newest)) plog__inbox_wake(inbox);
}

void plog__inbox_run(plog_inbox *inbox, void *reactor) {
  if (!atomic_load_explicit(&inbox->newest, memory_order_relaxed)) return;
  plog_message *message = atomic_exchange(&inbox->newest, NULL);
  plog_message *oldest = NULL;
  while (message) {
    plog_message *next = message->next;
    message->next = oldest;
    oldest = message;
    message = next;
  }
  while (oldest) {
    message = oldest;
    oldest = message->next;
    message->run(message, reactor);
  }
}

bool plog__inbox_sleep(plog_inbox *inbox) {
  atomic_store(&inbox->asleep, true);
  if (!atomic_load(&inbox->newest)) return true;
  atomic_store(&inbox->asleep, false);
  return false;
}

void plog__inbox_awake(plog_inbox *inbox, bool drained) {
  atomic_store(&inbox->asleep, false);
  if (drained) {
    uint64_t count;
    (void)plog__sys_read(inbox->sys, inbox->wake_fd, &count, sizeof count);
  }
}
