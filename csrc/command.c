/*
 * command.c: see command.h.
 */
#include "command.h"

#define MESSAGES_PER_WAKE 16 /* of those that are posted without haste: waking costs as much as making an answer */

typedef struct {
  plog_message message;
  plog_act *act;
  void *arguments;
  int32_t rc;
  bool done;
  pthread_mutex_t lock; /* guards rc and done */
  pthread_cond_t finished;
} plog_command;

static void run_command(plog_message *message, void *reactor) {
  plog_command *command = PLOG_CONTAINER_OF(message, plog_command, message);
  int32_t rc = command->act(reactor, command->arguments);
  pthread_mutex_lock(&command->lock);
  command->rc = rc;
  command->done = true;
  pthread_cond_signal(&command->finished);
  pthread_mutex_unlock(&command->lock);
}

static bool reactor_runs(const plog_engine *e) {
  return e->state == PLOG_ENGINE_RUNNING || e->state == PLOG_ENGINE_STOPPING;
}

bool plog__command_post(plog_engine *e, plog_message *message) {
  pthread_mutex_lock(&e->lifecycle);
  if (!reactor_runs(e)) return false;
  plog__inbox_put(&e->inbox, message);
  pthread_mutex_unlock(&e->lifecycle);
  return true;
}

bool plog__command_post_soon(plog_engine *e, plog_message *message) {
  pthread_mutex_lock(&e->lifecycle);
  if (!reactor_runs(e)) return false;
  plog__inbox_lay(&e->inbox, message);
  if (++e->laid_count % MESSAGES_PER_WAKE == 0) plog__inbox_tell(&e->inbox);
  pthread_mutex_unlock(&e->lifecycle);
  return true;
}

int32_t plog__command_run(plog_engine *e, plog_act *act, void *arguments) {
  plog_command command = {.message = {NULL, run_command}, .act = act, .arguments = arguments};
  plog_assert(pthread_mutex_init(&command.lock, NULL) == 0);
  plog_assert(pthread_cond_init(&command.finished, NULL) == 0);
  if (plog__command_post(e, &command.message)) {
    pthread_mutex_lock(&command.lock);
    while (!command.done) pthread_cond_wait(&command.finished, &command.lock);
    pthread_mutex_unlock(&command.lock);
  } else {
    plog__reactor_refresh_clock(e);
    command.rc = act(e, arguments);
    plog__upcalls_publish(&e->upcalls);
    pthread_mutex_unlock(&e->lifecycle);
  }
  (void)pthread_cond_destroy(&command.finished);
  (void)pthread_mutex_destroy(&command.lock);
  return command.rc;
}
