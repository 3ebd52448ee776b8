#include "base.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES ((size_t)4096)

_Noreturn void plog__assert_fail(const char *condition, const char *file, int line) {
  (void)fprintf(stderr, "pylog: broken promise at %s:%d: %s; stopped to keep the data safe\n", file, line, condition);
  abort();
}

void *plog__pages_alloc(size_t size_bytes) {
  return aligned_alloc(PAGE_BYTES, (size_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
}
