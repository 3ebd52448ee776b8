/*
 * driver.c: runs a fuzz target without libFuzzer: every file of a corpus as it is, then mutations of them from a fixed seed
 * until the time is up. usage: fuzz_x [--seconds N] [corpus file or directory]...
 * The run is the same every time as far as it comes: a crash is found again.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { MAX_INPUTS = 1000, MAX_BYTES = 1 << 16 };

typedef struct {
  uint8_t *data;
  size_t size_bytes;
} input;

static input inputs[MAX_INPUTS];
static int inputs_count;
static uint64_t seed = 1;

static uint64_t next_random(void) {
  uint64_t z = (seed += 0x9e3779b97f4a7c15ull);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

static void fail(const char *what, const char *path) {
  (void)fprintf(stderr, "%s: %s\n", what, path);
  exit(2);
}

static void add_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail("cannot read", path);
  if (inputs_count == MAX_INPUTS) fail("too many inputs", path);
  input *in = &inputs[inputs_count++];
  in->data = malloc(MAX_BYTES);
  if (!in->data) fail("no memory", path);
  in->size_bytes = fread(in->data, 1, MAX_BYTES, file);
  (void)fclose(file);
}

static void add(const char *path) {
  struct stat st;
  if (stat(path, &st) != 0) fail("no such corpus", path);
  if (!S_ISDIR(st.st_mode)) {
    add_file(path);
    return;
  }
  struct dirent **entries;
  int n = scandir(path, &entries, NULL, alphasort); /* in an order, so that a run can be repeated */
  for (int i = 0; i < n; i++) {
    char name[4096];
    if (entries[i]->d_name[0] != '.') {
      (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
      add_file(name);
    }
    free(entries[i]);
  }
  if (n >= 0) free(entries);
}

/* The input is copied to a piece of memory of exactly its size, so that reading past it is noticed. */
static void run(const uint8_t *data, size_t size_bytes) {
  uint8_t *copy = malloc(size_bytes ? size_bytes : 1);
  if (!copy) fail("no memory", "");
  memcpy(copy, data, size_bytes);
  (void)LLVMFuzzerTestOneInput(copy, size_bytes);
  free(copy);
}

static size_t mutate(uint8_t *data, size_t size_bytes) {
  static const uint8_t odd[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0xfe, 0x0f, 0xf0};
  for (int rounds = 1 + (int)(next_random() % 5); rounds > 0; rounds--) {
    uint64_t r = next_random();
    size_t at = size_bytes ? (size_t)(r >> 8) % size_bytes : 0;
    switch (r % 8) {
    case 0:
      if (size_bytes) data[at] ^= (uint8_t)(1u << (r >> 56) % 8);
      break;
    case 1:
      if (size_bytes) data[at] = (uint8_t)(r >> 56);
      break;
    case 2:
      if (size_bytes) data[at] = odd[(r >> 56) % sizeof odd];
      break;
    case 3: /* a number in big-endian order */
      for (size_t i = 0; i < 4 && at + i < size_bytes; i++) data[at + i] = odd[(r >> 40) % sizeof odd];
      break;
    case 4: /* cut */ size_bytes = at; break;
    case 5: { /* take out */
      size_t n = (size_t)(r >> 48) % 16;
      if (at + n <= size_bytes) {
        memmove(data + at, data + at + n, size_bytes - at - n);
        size_bytes -= n;
      }
      break;
    }
    case 6: { /* repeat */
      size_t n = (size_t)(r >> 48) % 64;
      if (at + n <= size_bytes && size_bytes + n <= MAX_BYTES) {
        memmove(data + at + n, data + at, size_bytes - at);
        size_bytes += n;
      }
      break;
    }
    default: { /* the end of another input */
      const input *other = &inputs[(r >> 32) % (uint64_t)inputs_count];
      size_t from = other->size_bytes ? (size_t)(r >> 16) % other->size_bytes : 0, n = other->size_bytes - from;
      if (at + n <= MAX_BYTES) {
        memcpy(data + at, other->data + from, n);
        size_bytes = at + n;
      }
    }
    }
  }
  return size_bytes;
}

int main(int argc, char **argv) {
  int seconds = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
      seconds = atoi(argv[++i]);
    else
      add(argv[i]);
  }
  if (inputs_count == 0) fail("no input", "give a corpus");
  for (int i = 0; i < inputs_count; i++) run(inputs[i].data, inputs[i].size_bytes);
  static uint8_t data[MAX_BYTES];
  uint64_t runs = 0;
  for (time_t end = time(NULL) + seconds; time(NULL) < end;) {
    for (int i = 0; i < 50; i++, runs++) {
      const input *in = &inputs[next_random() % (uint64_t)inputs_count];
      memcpy(data, in->data, in->size_bytes);
      run(data, mutate(data, in->size_bytes));
    }
  }
  (void)fprintf(stderr, "%d inputs, %llu mutations\n", inputs_count, (unsigned long long)runs);
  return 0;
}
