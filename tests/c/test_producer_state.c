/* test_producer_state.c: idempotence and transactions by Kafka's rules, taking back, snapshots. */
#include "producer_state.h"

#include "test.h"

static plog_producers *p;
static int64_t next_offset;

static plog_batch_header batch(int64_t id, int32_t epoch, int32_t sequence, int32_t count, bool transactional) {
  plog_batch_header h = {0};
  h.base_offset = next_offset;
  h.last_offset_delta = count - 1;
  h.records_count = count;
  h.producer_id = id;
  h.producer_epoch = epoch;
  h.base_sequence = sequence;
  h.max_timestamp = 1000 + next_offset;
  h.attributes = transactional ? PLOG_ATTR_TRANSACTIONAL : 0;
  return h;
}

static plog_duplicate duplicate;
static plog_ended_txn ended;
static bool has_ended;

static int32_t append_as(plog_origin origin, plog_batch_header h, const plog_marker *marker) {
  int32_t rc = plog__producers_append(p, &h, marker, origin, &duplicate, &ended, &has_ended);
  if (rc == 0) next_offset += h.last_offset_delta + 1;
  return rc;
}
static int32_t append(int64_t id, int32_t epoch, int32_t sequence, int32_t count) {
  return append_as(PLOG_ORIGIN_CLIENT, batch(id, epoch, sequence, count, false), NULL);
}
static int32_t append_txn(int64_t id, int32_t epoch, int32_t sequence, int32_t count) {
  return append_as(PLOG_ORIGIN_CLIENT, batch(id, epoch, sequence, count, true), NULL);
}
static int32_t mark(int64_t id, int32_t epoch, int32_t coordinator_epoch, bool abort_it) {
  plog_marker marker = {abort_it, coordinator_epoch, 5000 + next_offset};
  plog_batch_header h = batch(id, epoch, -1, 1, true);
  h.attributes |= PLOG_ATTR_CONTROL;
  return append_as(PLOG_ORIGIN_COORDINATOR, h, &marker);
}

static void begin(void) {
  p = plog__producers_open();
  CHECK(p);
  next_offset = 0;
}
static void end(void) {
  plog__producers_close(p);
}

static void sequences(void) {
  begin();
  CHECK_EQ(append(1, 0, 0, 1), 0);
  CHECK_EQ(append(1, 0, 0, 1), PLOG_E_DUPLICATE);
  CHECK_EQ(duplicate.base_offset, 0);
  CHECK_EQ(duplicate.last_offset, 0);
  CHECK_EQ(duplicate.timestamp, 1000);
  CHECK_EQ(append(1, 0, 5, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  for (int32_t i = 1; i < 8; i++) CHECK_EQ(append(1, 0, i, 1), 0);
  CHECK_EQ(append(1, 0, 3, 1), PLOG_E_DUPLICATE); /* the fifth from the end */
  CHECK_EQ(duplicate.base_offset, 3);
  CHECK_EQ(append(1, 0, 2, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER); /* forgotten */
  CHECK_EQ(append(1, 0, 6, 2), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER); /* no batch was 6 to 7 */
  CHECK_EQ(append(1, 1, 3, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER); /* a new epoch begins at 0 */
  CHECK_EQ(append(1, 1, 0, 1), 0);
  CHECK_EQ(append(1, 0, 8, 1), PLOG_INVALID_PRODUCER_EPOCH);
  CHECK_EQ(append(1, 0, 7, 1), PLOG_INVALID_PRODUCER_EPOCH); /* what the old epoch wrote is no duplicate any more */
  CHECK_EQ(append(2, 3, 9, 4), 0);                           /* never seen: anywhere */
  CHECK_EQ(append(2, 3, 13, 1), 0);
  CHECK_EQ(plog__producers_count(p), 2);
  end();
}

static void sequences_wrap(void) {
  begin();
  CHECK_EQ(append(1, 0, INT32_MAX - 2, 2), 0);
  CHECK_EQ(append(1, 0, INT32_MAX, 4), 0); /* 2^31 - 1, 0, 1, 2 */
  CHECK_EQ(append(1, 0, INT32_MAX, 4), PLOG_E_DUPLICATE);
  CHECK_EQ(duplicate.base_offset, 2);
  CHECK_EQ(duplicate.last_offset, 5);
  CHECK_EQ(append(1, 0, 4, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  CHECK_EQ(append(1, 0, 3, 1), 0);
  CHECK_EQ(append(2, 0, INT32_MAX, 1), 0);
  CHECK_EQ(append(2, 0, 0, 1), 0);
  end();
}

static void others_are_believed(void) {
  begin();
  CHECK_EQ(append_as(PLOG_ORIGIN_REPLICATION, batch(1, 5, 10, 1, false), NULL), 0);
  CHECK_EQ(append_as(PLOG_ORIGIN_REPLICATION, batch(1, 5, 99, 1, false), NULL), 0);
  CHECK_EQ(append_as(PLOG_ORIGIN_REPLICATION, batch(1, 4, 0, 1, false), NULL), 0);
  CHECK_EQ(append_as(PLOG_ORIGIN_COORDINATOR, batch(1, 4, 50, 1, false), NULL), 0);
  CHECK_EQ(append_as(PLOG_ORIGIN_COORDINATOR, batch(1, 3, 0, 1, false), NULL), PLOG_INVALID_PRODUCER_EPOCH);
  end();
}

/* Step by step what a Kafka 3.9 broker answered. */
static void refusals(void) {
  begin();
  CHECK_EQ(mark(9, 0, 5, false), 0); /* never seen */
  CHECK_EQ(mark(9, 0, 4, false), PLOG_TRANSACTION_COORDINATOR_FENCED);
  CHECK_EQ(append_txn(9, 0, 0, 2), 0);
  CHECK_EQ(append(9, 0, 2, 1), PLOG_INVALID_TXN_STATE);
  CHECK_EQ(append_txn(9, 0, 3, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  CHECK_EQ(append_txn(9, 0, 0, 2), PLOG_E_DUPLICATE);
  CHECK_EQ(duplicate.base_offset, 1);
  CHECK_EQ(mark(9, 0, 4, true), PLOG_TRANSACTION_COORDINATOR_FENCED);
  CHECK_EQ(mark(9, 0, 5, true), 0);
  CHECK(has_ended);
  CHECK_EQ(mark(9, 0, 5, true), 0); /* nothing to end */
  CHECK(!has_ended);
  CHECK_EQ(append(9, 0, 2, 1), 0);
  CHECK_EQ(mark(9, 2, 6, false), 0); /* raises the epoch */
  CHECK_EQ(append_txn(9, 1, 0, 1), PLOG_INVALID_PRODUCER_EPOCH);
  CHECK_EQ(append_txn(9, 2, 5, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER); /* known from a marker only */
  CHECK_EQ(append_txn(9, 2, 0, 1), 0);
  CHECK_EQ(append_txn(9, 3, 1, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  CHECK_EQ(append_txn(9, 3, 0, 1), 0); /* a new epoch in the middle of a transaction */
  CHECK_EQ(mark(9, 3, 6, true), 0);
  CHECK(has_ended);
  CHECK_EQ(ended.first_offset, 7);
  CHECK_EQ(append_txn(9, 3, 1, 1), 0);
  CHECK_EQ(mark(9, 4, 7, true), 0); /* how a coordinator fences: the epoch after */
  CHECK_EQ(append_txn(9, 3, 2, 1), PLOG_INVALID_PRODUCER_EPOCH);
  CHECK_EQ(mark(9, 3, 7, true), PLOG_INVALID_PRODUCER_EPOCH);
  CHECK_EQ(append_txn(10, 0, 7, 1), 0);
  CHECK_EQ(append_txn(10, 0, 8, 1), 0);
  CHECK_EQ(append(11, 5, 0, 1), 0);
  CHECK_EQ(append_txn(11, 5, 1, 1), 0);
  CHECK_EQ(append(11, 6, 0, 1), PLOG_INVALID_TXN_STATE);
  CHECK_EQ(mark(11, 6, 0, false), 0);
  CHECK_EQ(mark(11, 6, -1, false), PLOG_TRANSACTION_COORDINATOR_FENCED);
  CHECK_EQ(append(11, 6, 0, 1), 0);
  CHECK_EQ(next_offset, 18);
  end();
}

/* Java's order of these ids, in a table that was never larger than what was kept. */
static void order_of_snapshots(void) {
  static const int64_t few[] = {16, 17, 1, 3000, 1001, 2000, (int64_t)1 << 32, 32};
  static const int64_t few_sorted[] = {16, 2000, 32, 17, 1, (int64_t)1 << 32, 3000, 1001};
  plog_producer_info found[64];
  begin();
  for (size_t i = 0; i < 8; i++) CHECK_EQ(append(few[i], 0, 0, 1), 0);
  plog__producers_keep(p);
  for (int64_t id = 100; id < 150; id++) CHECK_EQ(append(id, 0, 0, 1), 0);
  plog__producers_undo(p);
  CHECK_EQ(plog__producers_list(p, found, 64), 8);
  for (size_t i = 0; i < 8; i++) CHECK_EQ(found[i].producer_id, few_sorted[i]);
  for (int64_t id = 4; id < 9; id++) CHECK_EQ(append(id, 0, 0, 1), 0); /* the thirteenth doubles the table */
  plog__producers_keep(p);
  CHECK_EQ(plog__producers_list(p, found, 64), 13);
  static const int64_t more_sorted[] = {32, 1, (int64_t)1 << 32, 4, 5, 6, 7, 8, 1001, 16, 2000, 17, 3000};
  for (size_t i = 0; i < 13; i++) CHECK_EQ(found[i].producer_id, more_sorted[i]);
  end();
}

static void transactions(void) {
  begin();
  CHECK_EQ(plog__producers_first_open(p), INT64_MAX);
  CHECK_EQ(append_txn(1, 0, 0, 2), 0); /* offsets 0, 1 */
  CHECK_EQ(append_txn(2, 0, 0, 1), 0); /* 2 */
  CHECK_EQ(append_txn(1, 0, 2, 1), 0); /* 3 */
  CHECK_EQ(plog__producers_first_open(p), 0);
  CHECK_EQ(append(1, 0, 3, 1), PLOG_INVALID_TXN_STATE);
  CHECK_EQ(mark(1, 0, 7, true), 0); /* 4 */
  CHECK(has_ended && ended.aborted);
  CHECK_EQ(ended.producer_id, 1);
  CHECK_EQ(ended.first_offset, 0);
  CHECK_EQ(ended.last_offset, 4);
  CHECK_EQ(ended.last_stable_offset, 2);
  CHECK_EQ(plog__producers_first_open(p), 2);
  /* the marker is not replicated: readers still stop before the transaction */
  CHECK_EQ(plog__producers_first_unstable(p, 3), 0);
  CHECK_EQ(plog__producers_first_unstable(p, 4), 0);
  CHECK_EQ(plog__producers_first_unstable(p, 5), 2);
  CHECK_EQ(mark(2, 0, 6, false), 0); /* 5 */
  CHECK(has_ended && !ended.aborted);
  CHECK_EQ(ended.last_stable_offset, 6);
  CHECK_EQ(plog__producers_first_unstable(p, 6), INT64_MAX);
  CHECK_EQ(mark(1, 0, 6, false), PLOG_TRANSACTION_COORDINATOR_FENCED);
  CHECK_EQ(mark(1, 0, 8, false), 0); /* nothing was open */
  CHECK(!has_ended);
  CHECK_EQ(mark(1, 1, 8, true), 0); /* a marker raises the epoch, and sequences begin anew */
  CHECK_EQ(append_txn(1, 1, 5, 1), PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER);
  CHECK_EQ(append_txn(1, 1, 0, 1), 0);
  CHECK_EQ(mark(1, 0, 8, true), PLOG_INVALID_PRODUCER_EPOCH);
  end();
}

static int by_id(const void *a, const void *b) {
  const plog_producer_info *x = a, *y = b;
  return x->producer_id < y->producer_id ? -1 : x->producer_id > y->producer_id;
}

static int32_t list(plog_producer_info *out, int32_t capacity) {
  memset(out, 0, sizeof *out * (size_t)capacity);
  int32_t n = plog__producers_list(p, out, capacity);
  qsort(out, (size_t)n, sizeof *out, by_id);
  return n;
}

/* Whatever is staged in whatever order, taking it back leaves what was there. */
static void taking_back(void) {
  begin();
  uint64_t seed = 5;
  plog_producer_info before[64], after[64];
  for (int turn = 0; turn < 300; turn++) {
    plog__producers_keep(p);
    int32_t n = list(before, 64);
    int64_t first = plog__producers_first_open(p), offset = next_offset;
    bool undo = test_random(&seed) % 2;
    for (int i = (int)(test_random(&seed) % 8); i > 0; i--) {
      int64_t id = (int64_t)(test_random(&seed) % 20);
      int32_t epoch = (int32_t)(test_random(&seed) % 3);
      if (test_random(&seed) % 4 == 0) {
        plog_marker marker = {test_random(&seed) % 2, 0, 1};
        plog_batch_header h = batch(id, epoch, -1, 1, true);
        (void)append_as(PLOG_ORIGIN_REPLICATION, h, &marker);
      } else {
        (void)append_as(PLOG_ORIGIN_REPLICATION,
                        batch(id, epoch, turn, 1 + (int32_t)(test_random(&seed) % 3), test_random(&seed) % 2), NULL);
      }
    }
    if (!undo) continue;
    plog__producers_undo(p);
    next_offset = offset;
    CHECK_EQ(list(after, 64), n);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_EQ(plog__producers_first_open(p), first);
  }
  end();
}

static void snapshots(void) {
  begin();
  CHECK_EQ(append(5, 0, 0, 3), 0);
  CHECK_EQ(append_txn(6, 1, 0, 1), 0);
  CHECK_EQ(append_txn(7, 1, 0, 1), 0);
  CHECK_EQ(mark(7, 1, 2, true), 0);
  CHECK_EQ(mark(8, 0, 3, true), 0); /* only a marker */
  plog_producer_info before[8], decoded[8], after[8];
  int32_t n = list(before, 8), count;
  CHECK_EQ(n, 4);
  uint8_t data[512];
  size_t size;
  CHECK_EQ(plog_snapshot_encode(before, n, data, 10, &size), PLOG_E_BUFFER_TOO_SMALL);
  CHECK_EQ(size, 10 + 46 * 4);
  CHECK_EQ(plog_snapshot_encode(before, n, data, sizeof data, &size), 0);
  CHECK_EQ(plog_snapshot_decode(data, size, decoded, 3, &count), PLOG_E_BUFFER_TOO_SMALL);
  CHECK_EQ(count, 4);
  memset(decoded, 0, sizeof decoded);
  CHECK_EQ(plog_snapshot_decode(data, size, decoded, 8, &count), 0);
  CHECK(memcmp(before, decoded, sizeof before[0] * 4) == 0);
  for (size_t i = 0; i < size; i++) {
    data[i] ^= 1;
    CHECK(plog_snapshot_decode(data, size, decoded, 8, &count) != 0);
    data[i] ^= 1;
  }
  for (size_t cut = 0; cut < size; cut++) CHECK(plog_snapshot_decode(data, cut, decoded, 8, &count) != 0);
  end();
  begin();
  CHECK_EQ(plog__producers_load(p, before, n), 0);
  CHECK_EQ(list(after, 8), n);
  CHECK(memcmp(before, after, sizeof before[0] * 4) == 0);
  CHECK_EQ(plog__producers_first_open(p), 3);
  next_offset = 10;
  CHECK_EQ(append(5, 0, 0, 3), PLOG_E_DUPLICATE); /* the last batch is known, those before are not */
  CHECK_EQ(append(5, 0, 3, 1), 0);
  end();
}

static void expiry(void) {
  begin();
  for (int64_t id = 0; id < 100; id++) CHECK_EQ(append(id, 0, 0, 1), 0); /* last used at 1000 + id */
  CHECK_EQ(append_txn(200, 0, 0, 1), 0);
  plog__producers_keep(p);
  CHECK_EQ(plog__producers_expire(p, 1049), 50);
  CHECK_EQ(plog__producers_count(p), 51);
  CHECK_EQ(plog__producers_expire(p, INT64_MAX), 50); /* but the open transaction */
  CHECK_EQ(plog__producers_first_open(p), 100);
  CHECK_EQ(append(7, 0, 33, 1), 0); /* forgotten: anywhere again */
  end();
}

int main(void) {
  RUN(sequences);
  RUN(sequences_wrap);
  RUN(others_are_believed);
  RUN(refusals);
  RUN(transactions);
  RUN(taking_back);
  RUN(snapshots);
  RUN(order_of_snapshots);
  RUN(expiry);
  return 0;
}
