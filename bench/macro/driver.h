/*
 * driver.h: what the load generators have in common: ending with a reason, clocks, options that are numbers.
 *
 * What stays true: the first thing that is wrong ends the run with exit code 1 and one line that says what; a figure is never
 * printed after it.
 */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((format(printf, 1, 2), noreturn)) static inline void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)fprintf(stderr, "%s: ", program_invocation_short_name);
  (void)vfprintf(stderr, format, arguments);
  (void)fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static inline int64_t clock_ns(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now) != 0) fail("clock: %s", strerror(errno));
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t now_ns(void) {
  return clock_ns(CLOCK_MONOTONIC);
}

/* CPU of another process, from its own clock, so exact to nanoseconds; 0 when none is asked about. */
static inline int64_t process_cpu_ns(int pid) {
  clockid_t clock;
  if (pid == 0) return 0;
  if (clock_getcpuclockid(pid, &clock) != 0) fail("no process %d", pid);
  return clock_ns(clock);
}

static inline int64_t number(const char *name, const char *text, int64_t low, int64_t high) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value < low || value > high) {
    fail("%s is %s, not a number from %" PRId64 " to %" PRId64, name, text, low, high);
  }
  return value;
}

#endif
