/* test_out.c: what is put in comes out of the socket in order, in every send mode, through full sockets and cut files. */
#include "out.h"

#include <errno.h>
#include <fcntl.h>

#include "test.h"

#define FILE_BYTES 700000u

static plog_sys *sys;
static plog_buffers buffers;
static plog_segment *segment;
static uint8_t content[FILE_BYTES];
static char dir[] = "/tmp/plog_test_out_XXXXXX";

static void open_segment(void) {
  CHECK(mkdtemp(dir));
  plog_log_config config = {.segment_bytes = 1 << 30,
                            .segment_ms = INT64_MAX,
                            .segment_index_bytes = 4096,
                            .index_interval_bytes = 4096,
                            .flush_messages = INT64_MAX};
  CHECK_EQ(plog__segment_create(sys, dir, 0, &config, 0, &segment), 0);
  uint64_t seed = 5;
  for (uint32_t i = 0; i < FILE_BYTES; i++) content[i] = (uint8_t)test_random(&seed);
  CHECK_EQ(plog__sys_pwrite_all(sys, segment->fd, content, FILE_BYTES, 0), 0);
}

static void remove_dir(void) {
  char command[256];
  (void)snprintf(command, sizeof command, "rm -r %s", dir);
  CHECK_EQ(system(command), 0);
}

static plog_slice slice_of(int64_t position, uint32_t size_bytes) {
  plog__segment_retain(segment);
  return (plog_slice){.segment = segment, .fd = segment->fd, .position = position, .size_bytes = size_bytes};
}

static void open_pair(int pair[2]) {
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

/* The expected bytes beside the output that must give them. */
typedef struct {
  uint8_t *bytes;
  size_t size;
} expectation;

static void expect(expectation *x, const void *data, size_t size) {
  x->bytes = realloc(x->bytes, x->size + size);
  CHECK(x->bytes);
  memcpy(x->bytes + x->size, data, size);
  x->size += size;
}

static void add_slice(plog_out *out, expectation *x, int64_t position, uint32_t size) {
  plog_slice slice = slice_of(position, size);
  CHECK_EQ(plog__out_slice(out, &slice), 0);
  CHECK(!slice.segment);
  expect(x, content + position, size);
}

static void add_copy(plog_out *out, expectation *x, const uint8_t *data, uint32_t size) {
  CHECK_EQ(plog__out_copy(out, &buffers, data, size), 0);
  expect(x, data, size);
}

/* Send through a socket that is read in small bites, and compare. */
static void drain(plog_out *out, int32_t mode, expectation *x) {
  plog_sender sender = {.sys = sys, .buffers = &buffers, .mode = mode};
  int pair[2];
  open_pair(pair);
  size_t got = 0;
  int64_t sent = 0;
  static uint8_t bite[30011];
  while (got < x->size) {
    plog_cold cold;
    int32_t rc = plog__out_send(out, &sender, pair[0], 100000, &sent, &cold);
    CHECK(rc == 0 || rc == -EAGAIN);
    ssize_t n = read(pair[1], bite, sizeof bite);
    CHECK(n > 0);
    CHECK(got + (size_t)n <= x->size);
    CHECK(memcmp(bite, x->bytes + got, (size_t)n) == 0);
    got += (size_t)n;
  }
  CHECK_EQ(sent, x->size);
  CHECK_EQ(out->pending_bytes, 0);
  CHECK(!out->first && !out->last);
  CHECK_EQ(read(pair[1], bite, 1), -1);
  plog__sender_deinit(&sender);
  (void)close(pair[0]);
  (void)close(pair[1]);
  free(x->bytes);
}

static void order(void) {
  for (int32_t mode = PLOG_SEND_FILE; mode <= PLOG_SEND_MAPPED; mode++) {
    plog_out out;
    plog__out_init(&out);
    expectation x = {NULL, 0};
    add_copy(&out, &x, content, 5);
    add_slice(&out, &x, 1, 600000);
    add_copy(&out, &x, content + 9, 3000);
    add_copy(&out, &x, content + 99, 3000); /* does not fit the first buffer's rest */
    add_slice(&out, &x, 699999, 1);
    add_slice(&out, &x, 4095, 4098);
    add_copy(&out, &x, content, 100000);
    for (int i = 0; i < 200; i++) { /* more pieces than one call gathers */
      add_copy(&out, &x, content + i, 7);
      add_slice(&out, &x, i * 100, 3);
    }
    CHECK_EQ(out.pending_bytes, x.size);
    drain(&out, mode, &x);
    CHECK_EQ(buffers.held_bytes, 0);
  }
}

static void spliced(void) {
  plog_out out, more;
  plog__out_init(&out);
  plog__out_init(&more);
  expectation x = {NULL, 0};
  add_copy(&out, &x, content, 50);
  plog__out_splice(&out, &more); /* nothing */
  add_slice(&more, &x, 10, 100);
  add_copy(&more, &x, content + 5, 60);
  plog__out_splice(&out, &more);
  CHECK(!more.first && more.pending_bytes == 0);
  add_copy(&out, &x, content + 6, 70);
  drain(&out, PLOG_SEND_FILE, &x);
  CHECK_EQ(buffers.held_bytes, 0);
}

static void patched_size(void) {
  plog_out out;
  plog__out_init(&out);
  uint8_t *size_at = plog__out_room(&out, &buffers, 4);
  plog__out_wrote(&out, 4);
  expectation x = {NULL, 0};
  expect(&x, "size", 4);
  add_slice(&out, &x, 0, 20);
  add_copy(&out, &x, content, 4000);
  add_copy(&out, &x, content, 4000);
  memcpy(size_at, "size", 4);
  drain(&out, PLOG_SEND_FILE, &x);
}

static void cut_file(void) {
  for (int32_t mode = PLOG_SEND_FILE; mode <= PLOG_SEND_MAPPED; mode++) {
    plog_out out;
    plog__out_init(&out);
    plog_slice slice = slice_of(FILE_BYTES - 10, 100); /* says more than there is */
    CHECK_EQ(plog__out_slice(&out, &slice), 0);
    plog_sender sender = {.sys = sys, .buffers = &buffers, .mode = mode};
    int pair[2];
    open_pair(pair);
    int64_t sent = 0;
    plog_cold cold;
    int32_t rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) rc = plog__out_send(&out, &sender, pair[0], 1 << 20, &sent, &cold);
    CHECK_EQ(rc, PLOG_E_SHORT);
    plog__out_deinit(&out, &buffers);
    plog__sender_deinit(&sender);
    (void)close(pair[0]);
    (void)close(pair[1]);
  }
}

static void lost_connection(void) {
  plog_out out;
  plog__out_init(&out);
  CHECK_EQ(plog__out_copy(&out, &buffers, content, 100), 0);
  plog_slice slice = slice_of(0, 1000);
  CHECK_EQ(plog__out_slice(&out, &slice), 0);
  plog_sender sender = {.sys = sys, .buffers = &buffers, .mode = PLOG_SEND_FILE};
  int pair[2];
  open_pair(pair);
  (void)close(pair[1]);
  int64_t sent = 0;
  plog_cold cold;
  CHECK_EQ(plog__out_send(&out, &sender, pair[0], 1 << 20, &sent, &cold), -EPIPE);
  (void)close(pair[0]);
  plog__out_deinit(&out, &buffers);
  plog__sender_deinit(&sender);
  CHECK_EQ(buffers.held_bytes, 0);
}

/* What is not in the page cache is reported, and sent once it has been read; the kernel may have kept or fetched pages. */
static void cold_file(void) {
  int reported = 0;
  static uint8_t scratch[FILE_BYTES];
  for (int32_t mode = PLOG_SEND_FILE; mode <= PLOG_SEND_MAPPED; mode++) {
    CHECK_EQ(plog__sys_fsync(sys, segment->fd), 0);
    CHECK_EQ(posix_fadvise(segment->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    plog_out out;
    plog__out_init(&out);
    plog_slice slice = slice_of(0, FILE_BYTES);
    CHECK_EQ(plog__out_slice(&out, &slice), 0);
    plog_sender sender = {.sys = sys, .buffers = &buffers, .mode = mode};
    int pair[2];
    open_pair(pair);
    int64_t sent = 0, got = 0;
    while (got < FILE_BYTES) {
      plog_cold cold = {.fd = -1, .position = -1};
      int32_t rc = plog__out_send(&out, &sender, pair[0], 1 << 20, &sent, &cold);
      CHECK(rc == 0 || rc == -EAGAIN || rc == PLOG_E_AGAIN);
      if (rc == PLOG_E_AGAIN) {
        CHECK_EQ(cold.fd, segment->fd);
        CHECK(cold.position >= sent && cold.size_bytes > 0 && cold.position + cold.size_bytes <= FILE_BYTES);
        CHECK(cold.segment == segment && cold.sound_to >= 0 && cold.sound_to <= cold.position + cold.size_bytes);
        CHECK_EQ(plog__sys_pread_all(sys, cold.fd, scratch, cold.size_bytes, cold.position), 0);
        plog__out_sound(&out, cold.position + cold.size_bytes);
        reported++;
      }
      ssize_t n;
      while (got < sent && (n = read(pair[1], scratch, sizeof scratch)) > 0) {
        CHECK(memcmp(scratch, content + got, (size_t)n) == 0);
        got += n;
      }
    }
    CHECK_EQ(out.pending_bytes, 0);
    plog__out_deinit(&out, &buffers);
    plog__sender_deinit(&sender);
    (void)close(pair[0]);
    (void)close(pair[1]);
  }
  (void)fprintf(stderr, "  cold ranges: %d\n", reported);
}

int main(void) {
  sys = plog_sys_open();
  CHECK(sys);
  plog__buffers_init(&buffers, 1 << 20);
  open_segment();
  RUN(order);
  RUN(spliced);
  RUN(patched_size);
  RUN(cut_file);
  RUN(cold_file);
  RUN(lost_connection);
  plog__segment_drop(segment);
  plog__buffers_deinit(&buffers);
  plog_sys_close(sys);
  remove_dir();
  return 0;
}
