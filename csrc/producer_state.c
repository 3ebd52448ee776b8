#include "producer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "wire.h"

enum { BATCHES_KEPT = 5, BUCKETS_AT_FIRST = 16 };

#define NO_EPOCH (-1)
#define NO_SEQUENCE (-1)

typedef struct {
  int32_t last_sequence;
  int32_t offset_delta;
  int64_t last_offset;
  int64_t timestamp;
} kept_batch;

typedef struct producer producer;
struct producer {
  producer *next; /* in its bucket */
  int64_t id;
  int32_t epoch; /* NO_EPOCH until the first batch or marker */
  int32_t coordinator_epoch;
  int64_t last_timestamp;
  int64_t txn_first_offset; /* -1 none open */
  int32_t batches_count;
  kept_batch batches[BATCHES_KEPT]; /* oldest first */
};

typedef struct {
  int64_t producer_id;
  int64_t first_offset;
  int64_t last_offset; /* of the marker, -1 while it is open */
} txn;

typedef struct {
  txn *items; /* ascending first offsets */
  int32_t count;
  int32_t capacity;
} txn_list;

typedef enum { TXN_UNCHANGED, TXN_BEGAN, TXN_ENDED } txn_change;

typedef struct {
  producer before; /* what the producer was; next is of no meaning */
  producer *changed;
  bool was_new;
  txn_change change;
  txn ended; /* as it was when open */
} undo_step;

struct plog_producers {
  producer **buckets;   /* each in the order in which its producers came */
  size_t buckets_count; /* a power of two */
  int32_t count;
  txn_list open;
  txn_list ended; /* whose marker was not below the high watermark when last asked */
  undo_step *steps;
  int32_t steps_count;
  int32_t steps_capacity;
};

/* ---------------------------------------------------------------------------------------------- the table
 *
 * It is laid out and grows as a Java HashMap does, because Kafka keeps producers in one and writes them into a snapshot in its
 * order: so ours are the same bytes. What is taken back must leave no trace in it, so it grows when producers are kept.
 */

static size_t bucket_of(const plog_producers *p, int64_t id) {
  uint32_t hash = (uint32_t)((uint64_t)id ^ (uint64_t)id >> 32);
  return (hash ^ hash >> 16) & (p->buckets_count - 1);
}

static producer *find(const plog_producers *p, int64_t id) {
  if (p->buckets_count == 0) return NULL;
  producer *it = p->buckets[bucket_of(p, id)];
  while (it && it->id != id) it = it->next;
  return it;
}

static void add_last(plog_producers *p, producer *it) {
  producer **link = &p->buckets[bucket_of(p, it->id)];
  while (*link) link = &(*link)->next;
  it->next = NULL;
  *link = it;
}

/* When there are more than three for four buckets. Without memory for it, the next time. */
static void grow_table(plog_producers *p) {
  while ((size_t)p->count > p->buckets_count / 4 * 3) {
    producer **old = p->buckets, **buckets = calloc(p->buckets_count * 2, sizeof(producer *));
    if (!buckets) return;
    size_t old_count = p->buckets_count;
    p->buckets = buckets;
    p->buckets_count *= 2;
    for (size_t i = 0; i < old_count; i++) {
      for (producer *it = old[i], *next; it; it = next) {
        next = it->next;
        add_last(p, it);
      }
    }
    free(old);
  }
}

static producer *add(plog_producers *p, int64_t id) {
  if (p->buckets_count == 0) {
    p->buckets = calloc(BUCKETS_AT_FIRST, sizeof(producer *));
    if (!p->buckets) return NULL;
    p->buckets_count = BUCKETS_AT_FIRST;
  }
  producer *it = calloc(1, sizeof *it);
  if (!it) return NULL;
  it->id = id;
  it->epoch = NO_EPOCH;
  it->coordinator_epoch = -1;
  it->last_timestamp = -1;
  it->txn_first_offset = -1;
  add_last(p, it);
  p->count++;
  return it;
}

static void drop(plog_producers *p, producer *it) {
  producer **link = &p->buckets[bucket_of(p, it->id)];
  while (*link != it) link = &(*link)->next;
  *link = it->next;
  free(it);
  p->count--;
}

/* ---------------------------------------------------------------------------------------------- transactions */

static int32_t txn_reserve(txn_list *list) {
  if (list->count < list->capacity) return 0;
  int32_t capacity = PLOG_MAX(list->capacity * 2, 4);
  txn *items = realloc(list->items, (size_t)capacity * sizeof *items);
  if (!items) return -ENOMEM;
  list->items = items;
  list->capacity = capacity;
  return 0;
}

static void txn_insert(txn_list *list, txn t) {
  plog_assert(list->count < list->capacity);
  int32_t i = list->count;
  for (; i > 0 && list->items[i - 1].first_offset > t.first_offset; i--) list->items[i] = list->items[i - 1];
  list->items[i] = t;
  list->count++;
}

static txn txn_remove(txn_list *list, int64_t producer_id, int64_t first_offset) {
  int32_t i = 0;
  while (i < list->count && !(list->items[i].producer_id == producer_id && list->items[i].first_offset == first_offset))
    i++;
  plog_assert(i < list->count);
  txn t = list->items[i];
  memmove(list->items + i, list->items + i + 1, (size_t)(list->count - i - 1) * sizeof *list->items);
  list->count--;
  return t;
}

int64_t plog__producers_first_open(const plog_producers *p) {
  return p->open.count > 0 ? p->open.items[0].first_offset : INT64_MAX;
}

int64_t plog__producers_first_unstable(plog_producers *p, int64_t high_watermark) {
  int32_t kept = 0;
  for (int32_t i = 0; i < p->ended.count; i++)
    if (p->ended.items[i].last_offset >= high_watermark) p->ended.items[kept++] = p->ended.items[i];
  p->ended.count = kept;
  int64_t first = plog__producers_first_open(p);
  return kept > 0 && p->ended.items[0].first_offset < first ? p->ended.items[0].first_offset : first;
}

/* ---------------------------------------------------------------------------------------------- sequences */

static int32_t sequence_plus(int32_t sequence, int32_t n) {
  return sequence > INT32_MAX - n ? n - (INT32_MAX - sequence) - 1 : sequence + n;
}
static int32_t sequence_minus(int32_t sequence, int32_t n) {
  return sequence < n ? INT32_MAX - (n - sequence) + 1 : sequence - n;
}
static bool follows(int32_t last, int32_t next) {
  return next == (int64_t)last + 1 || (next == 0 && last == INT32_MAX);
}

static const kept_batch *find_duplicate(const producer *it, const plog_batch_header *header) {
  if (it->epoch != header->producer_epoch) return NULL;
  int32_t first = header->base_sequence, last = sequence_plus(first, header->last_offset_delta);
  for (int32_t i = 0; i < it->batches_count; i++) {
    const kept_batch *b = &it->batches[i];
    if (b->last_sequence == last && sequence_minus(last, b->offset_delta) == first) return b;
  }
  return NULL;
}

static int32_t check_sequence(const producer *it, const plog_batch_header *header) {
  if (it->epoch == NO_EPOCH) return 0;
  if (header->producer_epoch != it->epoch) return header->base_sequence == 0 ? 0 : PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER;
  int32_t last = it->batches_count > 0 ? it->batches[it->batches_count - 1].last_sequence : NO_SEQUENCE;
  return follows(last, header->base_sequence) ? 0 : PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER;
}

/* ---------------------------------------------------------------------------------------------- appending */

/* Remember what the producer was, so that the append can be taken back; it is new when it was just added. */
static undo_step *push_step(plog_producers *p, producer *it, bool was_new) {
  undo_step *step = &p->steps[p->steps_count++];
  step->before = *it;
  step->changed = it;
  step->was_new = was_new;
  step->change = TXN_UNCHANGED;
  return step;
}

/* Everything an append may need, so that it cannot fail half-way. */
static int32_t reserve(plog_producers *p) {
  if (p->steps_count == p->steps_capacity) {
    int32_t capacity = PLOG_MAX(p->steps_capacity * 2, 4);
    undo_step *steps = realloc(p->steps, (size_t)capacity * sizeof *steps);
    if (!steps) return -ENOMEM;
    p->steps = steps;
    p->steps_capacity = capacity;
  }
  int32_t rc = txn_reserve(&p->open);
  return rc != 0 ? rc : txn_reserve(&p->ended);
}

static void set_epoch(producer *it, int32_t epoch) {
  if (it->epoch == epoch) return;
  it->epoch = epoch;
  it->batches_count = 0;
}

static void keep_batch(producer *it, const plog_batch_header *header) {
  if (it->batches_count == BATCHES_KEPT) {
    memmove(it->batches, it->batches + 1, sizeof *it->batches * (BATCHES_KEPT - 1));
    it->batches_count--;
  }
  kept_batch *b = &it->batches[it->batches_count++];
  b->last_sequence =
      header->base_sequence < 0 ? NO_SEQUENCE : sequence_plus(header->base_sequence, header->last_offset_delta);
  b->offset_delta = header->last_offset_delta;
  b->last_offset = plog__batch_last_offset(header);
  b->timestamp = header->max_timestamp;
  it->last_timestamp = header->max_timestamp;
}

static int32_t check_data(const producer *it, const plog_batch_header *header, plog_origin origin,
                          plog_duplicate *duplicate) {
  bool transactional = (header->attributes & PLOG_ATTR_TRANSACTIONAL) != 0;
  if (origin == PLOG_ORIGIN_CLIENT) {
    const kept_batch *b = find_duplicate(it, header);
    if (b) {
      duplicate->base_offset = b->last_offset - b->offset_delta;
      duplicate->last_offset = b->last_offset;
      duplicate->timestamp = b->timestamp;
      return PLOG_E_DUPLICATE;
    }
  }
  if (origin != PLOG_ORIGIN_REPLICATION && header->producer_epoch < it->epoch) return PLOG_INVALID_PRODUCER_EPOCH;
  if (origin == PLOG_ORIGIN_CLIENT) {
    int32_t rc = check_sequence(it, header);
    if (rc != 0) return rc;
  }
  if (origin != PLOG_ORIGIN_REPLICATION && it->txn_first_offset >= 0 && !transactional) return PLOG_INVALID_TXN_STATE;
  return 0;
}

static int32_t check_marker(const producer *it, const plog_batch_header *header, const plog_marker *marker,
                            plog_origin origin) {
  if (origin == PLOG_ORIGIN_REPLICATION) return 0;
  if (header->producer_epoch < it->epoch) return PLOG_INVALID_PRODUCER_EPOCH;
  return it->coordinator_epoch > marker->coordinator_epoch ? PLOG_TRANSACTION_COORDINATOR_FENCED : 0;
}

static void apply_data(plog_producers *p, producer *it, const plog_batch_header *header, undo_step *step) {
  set_epoch(it, header->producer_epoch);
  keep_batch(it, header);
  if (it->txn_first_offset >= 0 || !(header->attributes & PLOG_ATTR_TRANSACTIONAL)) return;
  it->txn_first_offset = header->base_offset;
  txn_insert(&p->open, (txn){it->id, header->base_offset, -1});
  step->change = TXN_BEGAN;
}

static void apply_marker(plog_producers *p, producer *it, const plog_batch_header *header, const plog_marker *marker,
                         undo_step *step, plog_ended_txn *ended, bool *has_ended) {
  if (it->txn_first_offset >= 0) {
    txn t = txn_remove(&p->open, it->id, it->txn_first_offset);
    step->change = TXN_ENDED;
    step->ended = t;
    t.last_offset = header->base_offset;
    txn_insert(&p->ended, t);
    *has_ended = true;
    ended->producer_id = it->id;
    ended->first_offset = t.first_offset;
    ended->last_offset = t.last_offset;
    ended->aborted = marker->abort;
    ended->last_stable_offset = p->open.count > 0 ? p->open.items[0].first_offset : t.last_offset + 1;
    it->txn_first_offset = -1;
  }
  set_epoch(it, header->producer_epoch);
  it->coordinator_epoch = marker->coordinator_epoch;
  it->last_timestamp = marker->timestamp;
}

int32_t plog__producers_append(plog_producers *p, const plog_batch_header *header, const plog_marker *marker,
                               plog_origin origin, plog_duplicate *duplicate, plog_ended_txn *ended, bool *has_ended) {
  plog_assert(header->producer_id >= 0);
  *has_ended = false;
  int32_t rc = reserve(p);
  if (rc != 0) return rc;
  producer *it = find(p, header->producer_id);
  bool is_new = it == NULL;
  if (is_new && !(it = add(p, header->producer_id))) return -ENOMEM;
  rc = marker ? check_marker(it, header, marker, origin) : check_data(it, header, origin, duplicate);
  if (rc != 0) {
    if (is_new) drop(p, it);
    return rc;
  }
  undo_step *step = push_step(p, it, is_new);
  if (marker)
    apply_marker(p, it, header, marker, step, ended, has_ended);
  else
    apply_data(p, it, header, step);
  return 0;
}

void plog__producers_keep(plog_producers *p) {
  p->steps_count = 0;
  grow_table(p);
}

void plog__producers_undo(plog_producers *p) {
  while (p->steps_count > 0) {
    undo_step *step = &p->steps[--p->steps_count];
    producer *it = step->changed;
    if (step->change == TXN_BEGAN) (void)txn_remove(&p->open, it->id, it->txn_first_offset);
    if (step->change == TXN_ENDED) {
      (void)txn_remove(&p->ended, it->id, step->ended.first_offset);
      txn_insert(&p->open, step->ended); /* there is room: it was in there */
    }
    if (step->was_new) {
      drop(p, it);
    } else {
      producer *next = it->next;
      *it = step->before;
      it->next = next;
    }
  }
}

/* ---------------------------------------------------------------------------------------------- whole states */

plog_producers *plog__producers_open(void) {
  return calloc(1, sizeof(plog_producers));
}

void plog__producers_clear(plog_producers *p) {
  for (size_t i = 0; i < p->buckets_count; i++) {
    for (producer *it = p->buckets[i], *next; it; it = next) {
      next = it->next;
      free(it);
    }
    p->buckets[i] = NULL;
  }
  p->count = 0;
  p->open.count = 0;
  p->ended.count = 0;
  p->steps_count = 0;
}

void plog__producers_close(plog_producers *p) {
  if (!p) return;
  plog__producers_clear(p);
  free(p->buckets);
  free(p->open.items);
  free(p->ended.items);
  free(p->steps);
  free(p);
}

bool plog__producers_in_transaction(const plog_producers *p, int64_t producer_id, int32_t producer_epoch) {
  const producer *it = find(p, producer_id);
  return it && it->txn_first_offset >= 0 && it->epoch == producer_epoch;
}

int32_t plog__producers_epoch(const plog_producers *p, int64_t producer_id) {
  const producer *it = find(p, producer_id);
  return it ? it->epoch : NO_EPOCH;
}

int32_t plog__producers_count(const plog_producers *p) {
  return p->count;
}

static void describe(const producer *it, plog_producer_info *out) {
  const kept_batch *b = it->batches_count > 0 ? &it->batches[it->batches_count - 1] : NULL;
  out->producer_id = it->id;
  out->producer_epoch = it->epoch;
  out->last_sequence = b ? b->last_sequence : NO_SEQUENCE;
  out->last_offset = b ? b->last_offset : -1;
  out->offset_delta = b ? b->offset_delta : 0;
  out->last_timestamp = it->last_timestamp;
  out->coordinator_epoch = it->coordinator_epoch;
  out->current_txn_first_offset = it->txn_first_offset;
}

int32_t plog__producers_list(const plog_producers *p, plog_producer_info *out, int32_t capacity) {
  int32_t n = 0;
  for (size_t i = 0; i < p->buckets_count; i++)
    for (const producer *it = p->buckets[i]; it && n < capacity; it = it->next) describe(it, &out[n++]);
  return p->count;
}

/* A snapshot's checksum says that it was written so, not that it makes sense. */
static bool makes_sense(const plog_producer_info *in) {
  return in->producer_id >= 0 && in->last_sequence >= NO_SEQUENCE && in->last_offset >= -1 && in->offset_delta >= 0 &&
         (in->last_offset < 0 || in->offset_delta <= in->last_offset) && in->current_txn_first_offset >= -1;
}

int32_t plog__producers_load(plog_producers *p, const plog_producer_info *in, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (!makes_sense(&in[i])) return PLOG_E_MALFORMED;
    int32_t rc = reserve(p);
    if (rc != 0) return rc;
    producer *it = find(p, in[i].producer_id);
    if (it) continue; /* a snapshot names a producer once */
    if (!(it = add(p, in[i].producer_id))) return -ENOMEM;
    grow_table(p);
    it->epoch = in[i].producer_epoch;
    it->coordinator_epoch = in[i].coordinator_epoch;
    it->last_timestamp = in[i].last_timestamp;
    if (in[i].last_offset >= 0) {
      it->batches_count = 1;
      it->batches[0] = (kept_batch){in[i].last_sequence, in[i].offset_delta, in[i].last_offset, in[i].last_timestamp};
    }
    if (in[i].current_txn_first_offset >= 0) {
      it->txn_first_offset = in[i].current_txn_first_offset;
      txn_insert(&p->open, (txn){it->id, it->txn_first_offset, -1});
    }
  }
  return 0;
}

int32_t plog__producers_expire(plog_producers *p, int64_t before_ms) {
  if (p->steps_count > 0) return 0; /* a step points to its producer: another time */
  int32_t expired = 0;
  for (size_t i = 0; i < p->buckets_count; i++) {
    for (producer *it = p->buckets[i], *next; it; it = next) {
      next = it->next;
      if (it->txn_first_offset >= 0 || it->last_timestamp > before_ms) continue;
      drop(p, it);
      expired++;
    }
  }
  return expired;
}

/* ---------------------------------------------------------------------------------------------- snapshots */

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEADER_BYTES = 10, SNAPSHOT_CRC_FROM = 6, SNAPSHOT_ENTRY_BYTES = 46 };

int32_t plog_snapshot_encode(const plog_producer_info *in, int32_t count, uint8_t *out, size_t capacity_bytes,
                             size_t *out_bytes) {
  if (count < 0) return -EINVAL;
  *out_bytes = SNAPSHOT_HEADER_BYTES + (size_t)count * SNAPSHOT_ENTRY_BYTES;
  if (*out_bytes > capacity_bytes) return PLOG_E_BUFFER_TOO_SMALL;
  plog_writer w;
  plog_writer_fixed(&w, out, capacity_bytes);
  plog_write_i16(&w, SNAPSHOT_VERSION);
  plog_write_u32(&w, 0);
  plog_write_i32(&w, count);
  for (int32_t i = 0; i < count; i++) {
    plog_write_i64(&w, in[i].producer_id);
    plog_write_i16(&w, (int16_t)in[i].producer_epoch);
    plog_write_i32(&w, in[i].last_sequence);
    plog_write_i64(&w, in[i].last_offset);
    plog_write_i32(&w, in[i].offset_delta);
    plog_write_i64(&w, in[i].last_timestamp);
    plog_write_i32(&w, in[i].coordinator_epoch);
    plog_write_i64(&w, in[i].current_txn_first_offset);
  }
  plog_assert(w.status == 0 && w.size_bytes == *out_bytes);
  plog_put_u32(out + 2, plog_crc32c(0, out + SNAPSHOT_CRC_FROM, w.size_bytes - SNAPSHOT_CRC_FROM));
  return 0;
}

int32_t plog_snapshot_decode(const uint8_t *data, size_t size_bytes, plog_producer_info *out, int32_t capacity,
                             int32_t *count) {
  plog_reader r;
  plog_reader_init(&r, data, size_bytes);
  int16_t version = plog_read_i16(&r);
  uint32_t crc = plog_read_u32(&r);
  int32_t entries = plog_read_i32(&r);
  if (plog_reader_status(&r) != 0 || version != SNAPSHOT_VERSION || entries < 0) return PLOG_E_MALFORMED;
  if (r.left != (uint64_t)entries * SNAPSHOT_ENTRY_BYTES) return PLOG_E_MALFORMED;
  if (plog_crc32c(0, data + SNAPSHOT_CRC_FROM, size_bytes - SNAPSHOT_CRC_FROM) != crc) return PLOG_CORRUPT_MESSAGE;
  *count = entries;
  if (entries > capacity) return PLOG_E_BUFFER_TOO_SMALL;
  for (int32_t i = 0; i < entries; i++) {
    out[i].producer_id = plog_read_i64(&r);
    out[i].producer_epoch = plog_read_i16(&r);
    out[i].last_sequence = plog_read_i32(&r);
    out[i].last_offset = plog_read_i64(&r);
    out[i].offset_delta = plog_read_i32(&r);
    out[i].last_timestamp = plog_read_i64(&r);
    out[i].coordinator_epoch = plog_read_i32(&r);
    out[i].current_txn_first_offset = plog_read_i64(&r);
  }
  return 0;
}
