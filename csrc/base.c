#include "base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void plog__assert_fail(const char *condition, const char *file, int line) {
  (void)fprintf(stderr, "pylog: broken promise at %s:%d: %s; stopped to keep the data safe\n", file, line, condition);
  abort();
}
