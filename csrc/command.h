/*
 * command.h: how any thread hands work to the reactor and waits until it is done.
 *
 * A command runs on the reactor while that runs, and on the caller's thread, under the lifecycle lock, before and after. So
 * partitions and connections have one owner at any moment.
 */
#ifndef PLOG_COMMAND_H
#define PLOG_COMMAND_H

#include "inbox.h"
#include "reactor.h"

typedef int32_t plog_act(plog_engine *e, void *arguments);

/* Have act done, and say what it says. any */
int32_t plog__command_run(plog_engine *e, plog_act *act, void *arguments);
/* Give message to the reactor; false: none runs, and the lifecycle lock is held. any */
bool plog__command_post(plog_engine *e, plog_message *message);
/* The same without haste: the reactor is woken for many at once, at the latest by the next plog_engine_poll. The polling thread */
bool plog__command_post_soon(plog_engine *e, plog_message *message);

#endif
