/* test_appender.c: records of many threads into one log, beside waiting, owner's changes and release; and what is refused. */
#include <pthread.h>
#include <stdatomic.h>

#include "log_fixture.h"

static const plog_appender_config plain = {0, INT32_MIN, 0, 0, 1 << 20, 3, 100, 8192, 0};

static plog_appender *open_appender(fixture *f, const plog_appender_config *config) {
  plog_appender *a;
  fixture_begin(f);
  f->config.segment_bytes = 20000;
  fixture_open(f, 0, 0, 1);
  CHECK_EQ(plog_appender_open(f->sys, f->log, config, &a), 0);
  return a;
}

static void close_appender(fixture *f, plog_appender *a) {
  plog_appender_release(a);
  plog_appender_close(a);
  fixture_end(f);
}

static int64_t append_text(plog_appender *a, const char *text) {
  int64_t offset = plog_appender_append(a, (const uint8_t *)text, (int32_t)strlen(text), NULL, -1, 17);
  return offset < -1 ? -offset - 2 : offset;
}

static plog_record_columns fixed(const uint8_t *data, int64_t count, int32_t width) {
  plog_record_columns in = {0};
  in.count = count;
  in.codec = -1;
  in.values = (plog_column){PLOG_COLUMN_FIXED, width, data, count * width, NULL, NULL};
  return in;
}

/* ---------------------------------------------------------------------------------------------- threads */

enum { WRITERS = 3, EACH = 400 };

typedef struct {
  fixture *f;
  plog_appender *a;
  atomic_int running;
  atomic_int offsets[WRITERS * (EACH + EACH / 10 * 4)]; /* how often each was given */
} crowd;

static void give(crowd *c, int64_t first, int64_t end) {
  for (; first < end; first++) {
    CHECK(first >= 0 && first < (int64_t)(sizeof c->offsets / sizeof *c->offsets));
    (void)atomic_fetch_add(&c->offsets[first], 1);
  }
}

static void *write_some(void *context) {
  crowd *c = context;
  static const uint8_t data[50];
  for (int32_t i = 0; i < EACH; i++) {
    if (i % 10 == 9) {
      plog_record_columns in = fixed(data, 5, 10);
      plog_appended out;
      CHECK_EQ(plog_appender_append_columns(c->a, &in, NULL, &out), 0);
      CHECK_EQ(out.end_offset - out.first_offset, 5);
      give(c, out.first_offset, out.end_offset);
    } else {
      int64_t offset = append_text(c->a, "some text that is not short");
      CHECK(offset >= 0);
      give(c, offset, offset + 1);
    }
  }
  (void)atomic_fetch_sub(&c->running, 1);
  return NULL;
}

static void *wait_for_all(void *context) {
  crowd *c = context;
  int64_t end = 0;
  const int64_t all = WRITERS * (EACH + EACH / 10 * 4);
  while (end < all) {
    CHECK_EQ(plog_appender_wait(c->a, end, 60000), 0);
    plog_log_info info;
    plog_log_info_read(c->f->log, &info);
    CHECK(info.log_end_offset > end);
    end = info.log_end_offset;
  }
  return NULL;
}

static void *change_as_owner(void *context) {
  crowd *c = context;
  while (atomic_load(&c->running) > 0) {
    plog_appender_lock(c->a);
    CHECK_EQ(plog_log_roll(c->f->log, 0), 0);
    plog_appender_unlock(c->a);
    (void)plog_appender_take_attention(c->a);
    int64_t point;
    CHECK_EQ(plog_log_flush(c->f->log, &point), 0);
  }
  return NULL;
}

static void gather(const plog_appender_config *config) {
  static crowd c;
  fixture f;
  memset(&c, 0, sizeof c);
  c.f = &f;
  c.a = open_appender(&f, config);
  atomic_store(&c.running, WRITERS);
  pthread_t writers[WRITERS], waiter, owner;
  CHECK_EQ(pthread_create(&waiter, NULL, wait_for_all, &c), 0);
  CHECK_EQ(pthread_create(&owner, NULL, change_as_owner, &c), 0);
  for (int32_t i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&writers[i], NULL, write_some, &c), 0);
  for (int32_t i = 0; i < WRITERS; i++) (void)pthread_join(writers[i], NULL);
  (void)pthread_join(owner, NULL);
  (void)pthread_join(waiter, NULL);
  for (size_t i = 0; i < sizeof c.offsets / sizeof *c.offsets; i++) CHECK_EQ(atomic_load(&c.offsets[i]), 1);
  close_appender(&f, c.a);
}

static void test_a_crowd(void) {
  plog_appender_config mapped = plain;
  mapped.mapped_tail = 1;
  gather(&plain);
  gather(&mapped);
}

typedef struct {
  plog_appender *a;
  int32_t rc;
} waiting;

static void *wait_long(void *context) {
  waiting *w = context;
  w->rc = plog_appender_wait(w->a, 0, 60000);
  return NULL;
}

static void test_release_wakes_and_refuses(void) {
  fixture f;
  waiting w = {open_appender(&f, &plain), 0};
  CHECK_EQ(plog_appender_wait(w.a, 0, 1), PLOG_REQUEST_TIMED_OUT);
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, wait_long, &w), 0);
  plog_appender_release(w.a);
  (void)pthread_join(thread, NULL);
  CHECK_EQ(w.rc, PLOG_E_CLOSED);
  CHECK_EQ(append_text(w.a, "x"), -1);
  CHECK_EQ(plog_appender_error(w.a), PLOG_E_CLOSED);
  plog_record_columns in = fixed((const uint8_t *)"x", 1, 1);
  plog_appended out;
  CHECK_EQ(plog_appender_append_columns(w.a, &in, NULL, &out), PLOG_E_CLOSED);
  close_appender(&f, w.a);
}

/* ---------------------------------------------------------------------------------------------- alone */

static void test_attention(void) {
  fixture f;
  plog_appender *a = open_appender(&f, &plain);
  CHECK_EQ(plog_appender_append(a, NULL, -1, NULL, -1, 1), -2); /* offset 0, and a leader epoch began */
  CHECK_EQ(plog_appender_append(a, NULL, -1, NULL, -1, 1), -3);
  CHECK_EQ(plog_appender_take_attention(a), PLOG_ATTENTION_EPOCH);
  CHECK_EQ(plog_appender_take_attention(a), 0);
  CHECK_EQ(plog_appender_append(a, NULL, -1, NULL, -1, 1), 2);
  static const uint8_t data[30000];
  plog_record_columns in = fixed(data, 10, 3000);
  plog_appended out;
  CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), 0);
  CHECK(out.attention != 0);
  CHECK_EQ(plog_appender_take_attention(a), PLOG_ATTENTION_FLUSH); /* it rolled */
  close_appender(&f, a);
}

static void test_batches_have_bounds(void) {
  fixture f;
  plog_appender *a = open_appender(&f, &plain);
  static const uint8_t data[30000];
  plog_record_columns in = fixed(data, 250, 10); /* at most 100 records in a batch */
  plog_appended out;
  CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), 0);
  CHECK_EQ(out.end_offset, 250);
  in = fixed(data, 10, 3000); /* at most 8192 bytes, so two */
  CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), 0);
  uint8_t read[16384];
  size_t size;
  plog_batch_header header;
  CHECK_EQ(plog_log_read(f.log, 0, INT64_MAX, 1, read, sizeof read, &size), 0);
  CHECK_EQ(plog_batch_header_read(read, size, &header), 0);
  CHECK_EQ(header.records_count, 100);
  CHECK_EQ(header.partition_leader_epoch, 3);
  CHECK_EQ(plog_log_read(f.log, 250, INT64_MAX, 1, read, sizeof read, &size), 0);
  CHECK_EQ(plog_batch_header_read(read, size, &header), 0);
  CHECK_EQ(header.records_count, 2);
  close_appender(&f, a);
}

static void test_what_is_refused(void) {
  fixture f;
  plog_appender_config config = plain;
  config.max_message_bytes = 200;
  config.compacted = 1;
  plog_appender *a = open_appender(&f, &config);
  static const uint8_t big[200];
  CHECK_EQ(plog_appender_append(a, big, 10, NULL, -1, 5), -1);
  CHECK_EQ(plog_appender_error(a), PLOG_INVALID_RECORD);
  CHECK_EQ(plog_appender_append(a, big, 200, big, 1, 5), -1);
  CHECK_EQ(plog_appender_error(a), PLOG_MESSAGE_TOO_LARGE);
  CHECK_EQ(plog_appender_append(a, big, 10, big, 1, -5), -1);
  CHECK_EQ(plog_appender_error(a), PLOG_INVALID_TIMESTAMP);
  CHECK_EQ(plog_appender_append(a, big, 10, big, 1, 5), -2);
  config.batch_records = 0;
  CHECK_EQ(plog_appender_configure(a, &config), -EINVAL);
  close_appender(&f, a);
}

static void test_every_offset_is_checked(void) {
  static const int64_t wrong64[][3] = {{0, 2, 4}, {-1, 1, 2}, {2, 1, 3}, {0, 3, 2}, {INT64_MAX, INT64_MAX, 0}};
  static const int32_t wrong32[][3] = {{0, 2, 4}, {-1, 1, 2}, {2, 1, 3}, {0, 3, 2}, {INT32_MAX, INT32_MAX, 0}};
  fixture f;
  plog_appender *a = open_appender(&f, &plain);
  uint8_t *data = malloc(3); /* of exactly this size: reading beyond is seen by the sanitizer */
  CHECK(data);
  memset(data, 'x', 3);
  for (int32_t i = 0; i < 5; i++) {
    plog_record_columns in = {0};
    plog_appended out;
    in.count = 2;
    in.codec = -1;
    in.values = (plog_column){PLOG_COLUMN_OFFSETS64, 0, data, 3, wrong64[i], NULL};
    CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), -EINVAL);
    in.values = (plog_column){PLOG_COLUMN_OFFSETS32, 0, data, 3, wrong32[i], NULL};
    CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), -EINVAL);
    in.values = (plog_column){PLOG_COLUMN_FIXED, 2, data, 3, NULL, NULL};
    CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), -EINVAL);
    CHECK_EQ(out.end_offset, 0);
  }
  free(data);
  close_appender(&f, a);
}

static void test_batches_of_others(void) {
  fixture f;
  plog_appender *a = open_appender(&f, &plain);
  stamped s;
  stamp(&s, 0, 3, 9, 5, 10, -1, -1, 0);
  int64_t last;
  CHECK_EQ(plog_appender_append_batch(a, s.data, s.size, &last), 0);
  CHECK_EQ(last, 2);
  CHECK_EQ(plog_appender_append_batch(a, s.data, s.size, &last), 0);
  CHECK_EQ(last, 5);
  CHECK_EQ(plog_appender_append_batch(a, s.data, s.size - 1, &last), PLOG_CORRUPT_MESSAGE);
  s.data[70] ^= 1;
  CHECK_EQ(plog_appender_append_batch(a, s.data, s.size, &last), PLOG_CORRUPT_MESSAGE);
  close_appender(&f, a);
}

static void test_a_failed_write_leaves_whole_batches(void) {
  fixture f;
  plog_appender *a = open_appender(&f, &plain);
  static const uint8_t data[3000];
  plog_record_columns in = fixed(data, 300, 10);
  plog_appended out;
  CHECK_EQ(plog_sys_fault(f.sys, PLOG_SYS_PWRITEV, 3, ENOSPC, 0, 1), 0);
  CHECK_EQ(plog_appender_append_columns(a, &in, NULL, &out), -ENOSPC);
  CHECK_EQ(out.first_offset, 0);
  CHECK_EQ(out.end_offset, 200);
  CHECK_EQ(append_text(a, "goes on"), 200);
  close_appender(&f, a);
}

int main(void) {
  RUN(test_a_crowd);
  RUN(test_release_wakes_and_refuses);
  RUN(test_attention);
  RUN(test_batches_have_bounds);
  RUN(test_what_is_refused);
  RUN(test_every_offset_is_checked);
  RUN(test_batches_of_others);
  RUN(test_a_failed_write_leaves_whole_batches);
  return 0;
}
