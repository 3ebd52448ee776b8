/*
 * test_verify.c: the first records of a transaction are taken by the coordinator's word alone, and by none that was given before a
 * marker; those that go on with it, and all others, are asked about by nobody.
 */
#include "engine_fixture.h"
#include "guards.h"

enum { PRODUCER = 7, OTHER = 8 };

static engine_fixture f;
static int16_t epoch; /* that everybody sends with */

static size_t transactional_batch(plog_batch_builder *b, int64_t producer, int32_t sequence, bool marker,
                                  const uint8_t **out) {
  size_t size;
  int32_t attributes = PLOG_ATTR_TRANSACTIONAL | (marker ? PLOG_ATTR_CONTROL : 0);
  plog_batch_builder_reset(b, 0, attributes, producer, epoch, marker ? -1 : sequence, -1);
  const uint8_t key[] = {0, 0, 0, 1}, value[] = {0, 0, 0, 0, 0, 0};
  CHECK_EQ(plog_batch_builder_add(b, 1790000000000, key, 4, value, 6, NULL, 0, 0), 0);
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, out, &size), 0);
  return size;
}

static void send_records(int fd, int64_t producer, int32_t sequence) {
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *batch;
  size_t size = transactional_batch(b, producer, sequence, false, &batch);
  plog_writer w;
  client_begin(&w, 0, 3, 7);
  plog_write_string(&w, false, "txn", 3);
  plog_write_i16(&w, -1);
  plog_write_i32(&w, 30000);
  plog_write_i32(&w, 1);
  plog_write_string(&w, false, "t", 1);
  plog_write_i32(&w, 1);
  plog_write_i32(&w, 0);
  plog_write_bytes(&w, false, batch, size);
  plog_batch_builder_close(b);
  client_send(fd, &w);
}

/* The same in a version that adds the partition to the transaction, and so goes on without asking first. */
static void send_records_of_12(int fd, int64_t producer, int32_t sequence) {
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *batch;
  size_t size = transactional_batch(b, producer, sequence, false, &batch);
  plog_writer w;
  client_begin(&w, 0, 12, 7);
  plog_write_no_tags(&w);
  plog_write_string(&w, true, "txn", 3);
  plog_write_i16(&w, -1);
  plog_write_i32(&w, 30000);
  plog_write_array(&w, true, 1);
  plog_write_string(&w, true, "t", 1);
  plog_write_array(&w, true, 1);
  plog_write_i32(&w, 0);
  plog_write_bytes(&w, true, batch, size);
  for (int i = 0; i < 3; i++) plog_write_no_tags(&w);
  plog_batch_builder_close(b);
  client_send(fd, &w);
}

static int32_t error_of_12(int fd) {
  uint8_t answer[256];
  CHECK(client_receive(fd, answer, sizeof answer) > 15);
  return plog_get_i16(answer + 4 + 1 + 1 + 2 + 1 + 4);
}

static void write_marker(int64_t producer) {
  plog_batch_builder *b = plog_batch_builder_open();
  const uint8_t *batch;
  size_t size = transactional_batch(b, producer, -1, true, &batch);
  int64_t base, last;
  int32_t committed;
  CHECK_EQ(plog_engine_append(f.engine, f.partitions[0], batch, size, -2, &base, &last, &committed), 0);
  CHECK(committed);
  plog_batch_builder_close(b);
}

static void answer(const plog_upcall *question, int16_t error) {
  const uint8_t *body = question->body;
  CHECK_EQ(question->body_bytes, 2 + 3 + 8 + 2 + 4 + 8);
  CHECK_EQ(plog_get_i16(body), 3);
  CHECK_EQ(memcmp(body + 2, "txn", 3), 0);
  CHECK_EQ(plog_get_i16(body + 13), epoch);
  CHECK_EQ(plog_get_i32(body + 15), 1);
  CHECK_EQ(plog_get_i64(body + 19), f.partitions[0]);
  CHECK_EQ(plog_engine_verified(f.engine, question->conn, question->slot, &error, 1), 0);
  plog_engine_release(f.engine, question);
}

static void begin(bool on) {
  engine_begin(&f, 1);
  engine_start(&f, false);
  plog_engine_verify_transactions(f.engine, on);
}

static void by_the_coordinators_word(void) {
  begin(true);
  int fd = client_open(&f), other = client_open(&f);
  int64_t offset;
  send_records(fd, PRODUCER, 0);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  client_produce(other, 0, -1, 10); /* others are served meanwhile */
  CHECK_EQ(client_produced(other, &offset), 0);
  CHECK_EQ(offset, 0);
  CHECK(client_is_quiet(fd));
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), 0);
  CHECK_EQ(offset, 1);
  send_records(fd, PRODUCER, 1); /* goes on with it: nobody is asked */
  CHECK_EQ(client_produced(fd, &offset), 0);
  CHECK_EQ(offset, 2);
  write_marker(PRODUCER);
  send_records(fd, PRODUCER, 2); /* begins another */
  question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, PLOG_INVALID_TXN_STATE);
  CHECK_EQ(client_produced(fd, &offset), PLOG_INVALID_TXN_STATE);
  CHECK_EQ(offset, -1);
  (void)close(fd);
  (void)close(other);
  engine_end(&f);
}

static void not_after_a_marker(void) {
  begin(true);
  int fd = client_open(&f);
  int64_t offset;
  send_records(fd, PRODUCER, 0);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  write_marker(OTHER); /* says nothing about this one */
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), 0);
  CHECK_EQ(offset, 1);
  write_marker(PRODUCER);
  send_records(fd, PRODUCER, 1);
  question = engine_await(&f, PLOG_UP_VERIFY);
  write_marker(PRODUCER); /* the transaction that was asked about is over */
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), PLOG_INVALID_TXN_STATE);
  send_records_of_12(fd, PRODUCER, 1);
  question = engine_await(&f, PLOG_UP_VERIFY);
  write_marker(PRODUCER); /* of the transaction before, perhaps: the next question will tell */
  answer(&question, 0);
  CHECK_EQ(error_of_12(fd), PLOG_NOT_ENOUGH_REPLICAS);
  send_records_of_12(fd, PRODUCER, 1);
  question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, 0);
  CHECK_EQ(error_of_12(fd), 0);
  (void)close(fd);
  engine_end(&f);
}

static void whoever_goes_away(void) {
  begin(true);
  int fd = client_open(&f);
  send_records(fd, PRODUCER, 0);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  (void)close(fd);
  answer(&question, 0); /* there may be nobody to hear it */
  fd = client_open(&f);
  send_records(fd, OTHER, 0);
  question = engine_await(&f, PLOG_UP_VERIFY);
  plog_engine_release(f.engine, &question);
  (void)close(fd); /* the engine ends with a question unanswered */
  engine_end(&f);
}

static void nobody_is_asked(void) {
  begin(false);
  int fd = client_open(&f);
  int64_t offset;
  send_records(fd, PRODUCER, 0);
  CHECK_EQ(client_produced(fd, &offset), 0);
  CHECK_EQ(offset, 0);
  (void)close(fd);
  engine_end(&f);
}

static void guards_of_producers(void) {
  plog_guards g = {0};
  int64_t first = plog__guards_begin(&g, 1, 0, 0, false, 0);
  CHECK(first > 0);
  CHECK_EQ(plog__guards_begin(&g, 1, 0, 0, false, 5), first); /* as long as it is not used */
  for (int64_t i = 2; i < 20; i++) CHECK(plog__guards_begin(&g, i, 0, 0, false, 0) > first);
  CHECK(plog__guards_hold(&g, 1, first));
  CHECK(!plog__guards_hold(&g, 2, first));
  plog__guards_end(&g, 1);
  plog__guards_end(&g, 1);
  CHECK(!plog__guards_hold(&g, 1, first));
  CHECK(plog__guards_begin(&g, 1, 0, 0, false, 0) > first);
  int32_t held = g.capacity;
  for (int64_t i = 0; i < 1000; i++) CHECK(plog__guards_begin(&g, 100 + i, 0, 0, false, i * 1000000) > 0);
  CHECK_EQ(g.capacity, held); /* those that are old have made room */
  int64_t last = g.last_number;
  plog__guards_clear(&g);
  CHECK(!plog__guards_hold(&g, 1099, last));
  CHECK(plog__guards_begin(&g, 1, 0, 0, false, 0) > last);
  plog__guards_clear(&g);
}

static void guards_know_what_comes_first(void) {
  plog_guards g = {0};
  CHECK(!plog__guards_is_ahead(&g, 1, 5));
  (void)plog__guards_begin(&g, 1, 3, 5, false, 0);
  (void)plog__guards_begin(&g, 1, 3, 7, false, 0);
  CHECK(!plog__guards_is_ahead(&g, 1, 5));
  CHECK(plog__guards_is_ahead(&g, 1, 6));
  CHECK(!plog__guards_is_ahead(&g, 2, 6));
  (void)plog__guards_begin(&g, 1, 3, 4, false, 0);
  CHECK(plog__guards_is_ahead(&g, 1, 5));
  (void)plog__guards_begin(&g, 1, 2, 0, false, 0); /* an epoch that is over says nothing */
  CHECK(!plog__guards_is_ahead(&g, 1, 4));
  (void)plog__guards_begin(&g, 1, 4, 9, false, 0); /* the next begins anew */
  CHECK(!plog__guards_is_ahead(&g, 1, 9));
  CHECK(plog__guards_is_ahead(&g, 1, 10));
  plog__guards_clear(&g);
}

/* Two batches are on their way. The first is refused and comes again: the second must not have been taken meanwhile. */
static void not_before_what_was_refused(void) {
  begin(true);
  int fd = client_open(&f);
  int64_t offset;
  send_records(fd, PRODUCER, 0);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, PLOG_NOT_ENOUGH_REPLICAS);
  CHECK_EQ(client_produced(fd, &offset), PLOG_NOT_ENOUGH_REPLICAS);
  send_records(fd, PRODUCER, 1);
  question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  for (int32_t sequence = 0; sequence < 2; sequence++) {
    send_records(fd, PRODUCER, sequence);
    if (sequence == 0) {
      question = engine_await(&f, PLOG_UP_VERIFY);
      answer(&question, 0);
    }
    CHECK_EQ(client_produced(fd, &offset), 0);
    CHECK_EQ(offset, sequence);
  }
  (void)close(fd);
  engine_end(&f);
}

/* Where nothing is known of a producer, the first of its records come first: so does one whose epoch rises with each transaction,
   and whatever it sent before is gone with the log's start or never came. Others go on anywhere. */
static void from_the_first_sequence(void) {
  begin(true);
  int fd = client_open(&f);
  int64_t offset;
  for (int32_t sequence = 1; sequence >= 0; sequence--) {
    send_records_of_12(fd, PRODUCER, sequence);
    plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
    answer(&question, 0);
    CHECK_EQ(error_of_12(fd), sequence == 0 ? 0 : PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  }
  send_records_of_12(fd, PRODUCER, 1);
  CHECK_EQ(error_of_12(fd), 0);
  send_records(fd, OTHER, 5);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), 0);
  (void)close(fd);
  engine_end(&f);
}

/* Who was locked out is told so without a question, and leaves nothing behind that would hold up who locked it out. */
static void not_for_an_old_epoch(void) {
  begin(true);
  int fd = client_open(&f), zombie = client_open(&f);
  int64_t offset;
  epoch = 1;
  send_records(fd, PRODUCER, 0);
  plog_upcall question = engine_await(&f, PLOG_UP_VERIFY);
  answer(&question, 0);
  CHECK_EQ(client_produced(fd, &offset), 0);
  epoch = 0;
  send_records(zombie, PRODUCER, 0);
  CHECK_EQ(client_produced(zombie, &offset), PLOG_INVALID_PRODUCER_EPOCH);
  epoch = 1;
  send_records(fd, PRODUCER, 1);
  CHECK_EQ(client_produced(fd, &offset), 0);
  CHECK_EQ(offset, 1);
  epoch = 0;
  (void)close(zombie);
  (void)close(fd);
  engine_end(&f);
}

int main(void) {
  RUN(guards_of_producers);
  RUN(by_the_coordinators_word);
  RUN(guards_know_what_comes_first);
  RUN(not_after_a_marker);
  RUN(not_before_what_was_refused);
  RUN(from_the_first_sequence);
  RUN(not_for_an_old_epoch);
  RUN(whoever_goes_away);
  RUN(nobody_is_asked);
  return 0;
}
