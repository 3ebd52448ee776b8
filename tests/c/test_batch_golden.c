/* test_batch_golden.c: some 240 record sets, right and wrong, are judged and stored as a Kafka broker did (golden/produce). */
#include "batch.h"

#include "test.h"

enum { FIELDS = 13, LINE_BYTES = 1 << 16 };

static size_t from_hex(const char *text, uint8_t *out) {
  if (strcmp(text, "-") == 0) return 0;
  size_t n = strlen(text) / 2;
  for (size_t i = 0; i < n; i++) {
    unsigned byte;
    CHECK_EQ(sscanf(text + 2 * i, "%2x", &byte), 1);
    out[i] = (uint8_t)byte;
  }
  return n;
}

typedef struct {
  plog_record records[16];
  uint8_t scratch[1 << 16];
  int32_t count;
} unpacked;

static void unpack(const uint8_t *data, size_t size, unpacked *out) {
  CHECK_EQ(plog_batch_records(data, size, out->scratch, sizeof out->scratch, out->records, 16, &out->count), 0);
}

/* What another compressor made: header and records say the same. */
static void check_alike(const uint8_t *ours, size_t ours_size, const uint8_t *theirs, size_t theirs_size) {
  static unpacked a, b;
  plog_batch_header x, y;
  CHECK_EQ(plog_batch_check(ours, ours_size, &x), 0);
  CHECK_EQ(plog_batch_check(theirs, theirs_size, &y), 0);
  x.batch_length = y.batch_length = 0;
  x.size_bytes = y.size_bytes = x.crc = y.crc = 0;
  CHECK(memcmp(&x, &y, sizeof x) == 0);
  unpack(ours, ours_size, &a);
  unpack(theirs, theirs_size, &b);
  CHECK_EQ(a.count, b.count);
  for (int32_t i = 0; i < a.count; i++) {
    const plog_record *r = &a.records[i], *s = &b.records[i];
    CHECK_EQ(r->offset, s->offset);
    CHECK_EQ(r->timestamp, s->timestamp);
    CHECK_EQ(r->key_bytes, s->key_bytes);
    CHECK_EQ(r->value_bytes, s->value_bytes);
    if (r->key_bytes > 0) CHECK(memcmp(r->key, s->key, (size_t)r->key_bytes) == 0);
    if (r->value_bytes > 0) CHECK(memcmp(r->value, s->value, (size_t)r->value_bytes) == 0);
  }
}

static void judge(char **field) {
  static uint8_t sent[LINE_BYTES], stored[LINE_BYTES];
  size_t sent_size = from_hex(field[11], sent), stored_size = from_hex(field[12], stored);
  plog_batch_rules rules = {.max_message_bytes = atoi(field[1]),
                            .timestamp_type = atoi(field[2]),
                            .timestamp_before_max_ms = atoll(field[3]),
                            .timestamp_after_max_ms = atoll(field[4]),
                            .compression = atoi(field[5]),
                            .compression_level = INT32_MIN,
                            .compacted = atoi(field[6]),
                            .from_client = 1,
                            .now_ms = atoll(field[7])};
  bool on_purpose = strcmp(field[10], "-") != 0;
  int expected = atoi(on_purpose ? field[10] : field[9]);
  plog_batch_accepted out;
  int32_t rc = plog__batch_accept(&rules, sent, sent_size, atoll(field[8]), 0, &out);
  CHECK_EQ(rc >= 1000 ? -1 : rc, expected);
  if (rc != 0 || on_purpose) {
    if (rc == 0) free(out.rewritten);
    return;
  }
  if (out.rewritten) {
    check_alike(out.data, out.size_bytes, stored, stored_size);
    free(out.rewritten);
    return;
  }
  CHECK_EQ(out.size_bytes, stored_size);
  CHECK(memcmp(out.data, stored, stored_size) == 0);
}

static void as_kafka_does(void) {
  FILE *file = fopen(PLOG_GOLDEN "/produce/validation.txt", "r");
  CHECK(file);
  static char line[LINE_BYTES];
  int judged = 0;
  while (fgets(line, sizeof line, file)) {
    if (line[0] == '#') continue;
    char *field[FIELDS], *at = line;
    line[strcspn(line, "\n")] = 0;
    for (int i = 0; i < FIELDS; i++) {
      CHECK(at);
      field[i] = strsep(&at, "|");
    }
    CHECK(at == NULL);
    (void)fprintf(stderr, "  %s\n", field[0]);
    judge(field);
    judged++;
  }
  CHECK_EQ(ferror(file), 0);
  (void)fclose(file);
  CHECK(judged > 200);
}

int main(void) {
  RUN(as_kafka_does);
  return 0;
}
