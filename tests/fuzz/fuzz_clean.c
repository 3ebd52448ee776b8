/* fuzz_clean.c: compaction of one batch: refused or written; what is written is a batch with the same offsets, and a part of the
   records. */
#include "clean_batch.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

typedef struct {
  int32_t count;
  int64_t last; /* sum of offsets and timestamps, to compare */
} seen;

static int32_t see_record(void *context, int32_t index, const plog_record *record) {
  seen *s = context;
  (void)index;
  s->count++;
  s->last = (int64_t)((uint64_t)s->last * 31 + (uint64_t)record->offset + (uint64_t)record->timestamp);
  return 0;
}

/* Enter every other key at a later offset, so that some records go. */
static void fill_map(plog_key_map *map, const plog_batch_cleaner *c, int64_t base_offset) {
  for (int32_t i = 0; i < c->records_count; i++) {
    const plog_clean_record *r = &c->records[i];
    if (r->has_key && !plog__key_map_full(map)) plog__key_map_put(map, r->hash, base_offset + (i & 1 ? 1 << 20 : 0));
  }
}

static void check_written(const plog_writer *out, const plog_batch_header *header, const plog_batch_header *written,
                          int32_t kept) {
  plog_batch_header again;
  plog_assert(out->size_bytes == written->size_bytes);
  if (written->size_bytes == 0) return;
  plog_assert(plog_batch_check(out->data, out->size_bytes, &again) == 0);
  plog_assert(again.base_offset == header->base_offset && again.last_offset_delta == header->last_offset_delta);
  plog_assert(again.producer_id == header->producer_id && again.base_sequence == header->base_sequence);
  plog_assert(again.records_count == kept && kept <= header->records_count);
  seen s = {0, 0};
  if (kept > 0) plog_assert(plog__batch_each(out->data, &again, 1u << 30, see_record, &s) == 0);
  plog_assert(s.count == kept);
}

/* The first byte says what is known of the batch. The CRC is the caller's to check: here the header alone must be right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
  plog_batch_header header, written;
  if (size_bytes < 2 || plog_batch_header_read(data + 2, size_bytes - 2, &header) != 0) return 0;
  uint8_t choice = data[0];
  data += 2;
  plog_sys *sys = plog_sys_open();
  plog_key_map *map;
  const uint8_t secret[16] = {1};
  plog_assert(sys && plog_key_map_open(sys, 64, 40, secret, &map) == 0);
  plog_batch_cleaner c;
  plog_writer out;
  plog__batch_cleaner_init(&c);
  plog_writer_init(&out);
  const plog_batch_fate fate = {.discard = choice & 1, .keep_empty = choice & 2, .spent_marker = choice & 4};
  if (plog__batch_cleaner_take(&c, map, data, &header) == 0) {
    fill_map(map, &c, header.base_offset);
    const plog_clean_rules rules = {map, choice & 8 ? 0 : INT64_MAX, choice & 16 ? INT64_MAX : 1000, 60000};
    int32_t kept, rc = plog__batch_cleaner_write(&c, &rules, &fate, data, &header, &out, &kept, &written);
    /* a codec may be missing here; what is copied whole has the CRC it had */
    if (rc == 0 && !(written.size_bytes == header.size_bytes && written.crc == header.crc))
      check_written(&out, &header, &written, kept);
  }
  plog_writer_deinit(&out);
  plog__batch_cleaner_deinit(&c);
  plog_key_map_close(map);
  plog_sys_close(sys);
  return 0;
}
