/*
 * test_power_cut.c: the power goes at every change of the disk in turn, in lives of logs, and then what a journaling file system
 * may have lost is lost (disk_model.h).
 *
 * Whatever survives: the log opens; everything below the last flush that succeeded is there; what else is there was handed over,
 * in order; and indexes, transactions, producers and leader epochs are what the batches say. The caller's part (checkpoints,
 * listing, what a half-done compaction left) is done here as pylog/log.py, files.py and segment.py do it.
 *
 * PLOG_FAULT_SCRIPTS=n: n lives of each kind instead of a few (make fault). test_power_cut faults|cuts FIRST STEP: only lives in
 * which calls fail, or the power, and of those only FIRST, FIRST + STEP and so on: several processes share them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "disk_model.h"
#include "log.h"
#include "test.h"
#include "wire.h"

enum { HANDED_MAX = 1024, SEGMENTS_MAX = 128, EPOCHS_MAX = 64, STEPS = 26, KEYS = 12, GAPS_MAX = 16 };

typedef struct {
  int64_t base, last;
  int32_t epoch;
  uint32_t crc;
  bool kept; /* acknowledged, and not cut since */
} batch;

/* What the side files say: replaced as a whole, aside and with syncs. */
typedef struct {
  int64_t recovery_point, log_start;
  int32_t clean;
  int32_t epochs_count; /* -1: no such file */
  int64_t epochs[2 * EPOCHS_MAX];
} side_files;

typedef struct {
  disk_model *disk;
  plog_sys *sys;
  plog_log_config config;
  plog_log *log;   /* NULL: closed */
  uint64_t random; /* the script's */
  batch handed[HANDED_MAX];
  int handed_count;
  int64_t durable_end; /* what is below is on the disk */
  int64_t start;       /* the largest log start there was */
  int32_t epoch;
  int64_t gaps[GAPS_MAX][2]; /* offsets that were lost, not cut */
  int gaps_count;
  bool compacts;
  bool maps;                         /* small batches are written through a mapping */
  bool shares;                       /* a clean stop is one sync of the file system */
  int lock_fd;                       /* of a file that is open from before the log is until after it; -1: not */
  bool refused;                      /* an append failed: whoever asked was told so, and the life goes on */
  int64_t written[KEYS][HANDED_MAX]; /* compacting lives: offsets each key was written at, ~offset when that failed */
  int written_count[KEYS];
} life;

/* With PLOG_FAULT_TELL set, the story of what fails is the end of what is told. */
static void tell(const char *format, ...) {
  static int wanted = -1;
  if (wanted < 0) wanted = getenv("PLOG_FAULT_TELL") != NULL;
  if (!wanted) return;
  va_list arguments;
  va_start(arguments, format);
  (void)vfprintf(stderr, format, arguments);
  va_end(arguments);
  (void)fputc('\n', stderr);
}

/* ---------------------------------------------------------------------------------------------- side files */

static int32_t sync_directory(plog_sys *sys) {
  int fd = plog__sys_open(sys, DISK_DIRECTORY, O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return fd;
  int32_t rc = plog__sys_fsync(sys, fd);
  (void)plog__sys_close(sys, fd);
  return rc;
}

/* Write a file's next content beside it. */
static int32_t write_aside(plog_sys *sys, const char *name, const void *data, size_t size_bytes, bool synced) {
  char aside[128];
  (void)snprintf(aside, sizeof aside, "%s/%s.tmp", DISK_DIRECTORY, name);
  int fd = plog__sys_open(sys, aside, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) return fd;
  int32_t rc = plog__sys_pwrite_all(sys, fd, data, size_bytes, 0);
  if (rc == 0 && synced) rc = plog__sys_fsync(sys, fd);
  (void)plog__sys_close(sys, fd);
  return rc;
}

static int32_t put_in_place(plog_sys *sys, const char *name) {
  char path[128], aside[128];
  (void)snprintf(path, sizeof path, "%s/%s", DISK_DIRECTORY, name);
  (void)snprintf(aside, sizeof aside, "%s/%s.tmp", DISK_DIRECTORY, name);
  return plog__sys_rename(sys, aside, path);
}

static int32_t replace_file(plog_sys *sys, const char *name, const void *data, size_t size_bytes) {
  int32_t rc = write_aside(sys, name, data, size_bytes, true);
  if (rc == 0) rc = put_in_place(sys, name);
  return rc == 0 ? sync_directory(sys) : rc;
}

static int32_t write_epochs(life *l, bool aside) {
  int64_t pairs[2 * EPOCHS_MAX];
  int32_t count = plog_log_epochs(l->log, pairs, EPOCHS_MAX);
  CHECK(count <= EPOCHS_MAX);
  if (aside) return write_aside(l->sys, "epochs", pairs, (size_t)count * 16, false);
  return replace_file(l->sys, "epochs", pairs, (size_t)count * 16);
}

static int32_t write_ends(life *l) {
  plog_log_info info;
  plog_log_info_read(l->log, &info);
  const int64_t ends[2] = {info.recovery_point, info.log_start_offset};
  return replace_file(l->sys, "ends", ends, sizeof ends);
}

static void read_side_files(life *l, side_files *out) {
  size_t size_bytes;
  memset(out, 0, sizeof *out);
  const uint8_t *data = disk_file(l->disk, "ends", &size_bytes);
  if (data) {
    CHECK_EQ(size_bytes, 16); /* all of the old or all of the new */
    memcpy(&out->recovery_point, data, 8);
    memcpy(&out->log_start, data + 8, 8);
  }
  data = disk_file(l->disk, "epochs", &size_bytes);
  out->epochs_count = data ? (int32_t)(size_bytes / 16) : -1;
  CHECK(out->epochs_count <= EPOCHS_MAX && (!data || size_bytes % 16 == 0));
  if (out->epochs_count > 0) memcpy(out->epochs, data, size_bytes);
  out->clean = disk_file(l->disk, "clean", &size_bytes) != NULL;
}

/* ---------------------------------------------------------------------------------------------- what is in the directory */

typedef struct {
  life *life;
  int64_t base[SEGMENTS_MAX];
  int32_t count;
  int64_t unfinished_from; /* the lowest .cleaned, INT64_MAX none */
  int64_t swap_base, swap_end;
  int32_t rc;
} listing;

static bool has_state(const char *name, const char *state) {
  size_t n = strlen(name), m = strlen(state);
  return n > m && strcmp(name + n - m, state) == 0;
}
static bool is_segment_file(const char *name) {
  return strlen(name) > 21 && strspn(name, "0123456789") == 20 && name[20] == '.';
}
static int64_t base_of(const char *name) {
  return strtoll(name, NULL, 10);
}

static void remove_file(listing *s, const char *name) {
  char path[128];
  (void)snprintf(path, sizeof path, "%s/%s", DISK_DIRECTORY, name);
  int32_t rc = plog__sys_unlink(s->life->sys, path);
  if (s->rc == 0) s->rc = rc;
}

static void see_cleaned(void *context, const char *name) {
  listing *s = context;
  if (is_segment_file(name) && has_state(name, ".cleaned"))
    s->unfinished_from = PLOG_MIN(s->unfinished_from, base_of(name));
}

/* A swap that counts: where the segment it holds begins and ends. */
static void see_swap(void *context, const char *name) {
  listing *s = context;
  if (!is_segment_file(name) || !has_state(name, ".log.swap") || base_of(name) >= s->unfinished_from) return;
  CHECK(s->swap_base < 0); /* one group at a time */
  size_t size_bytes;
  const uint8_t *data = disk_file(s->life->disk, name, &size_bytes);
  s->swap_base = s->swap_end = base_of(name);
  plog_batch_header header;
  for (size_t at = 0; at < size_bytes; at += header.size_bytes) {
    CHECK_EQ(plog_batch_check(data + at, size_bytes - at, &header), 0); /* what counts was synced before */
    s->swap_end = plog__batch_last_offset(&header) + 1;
  }
}

static void remove_void_swap(void *context, const char *name) {
  listing *s = context;
  if (is_segment_file(name) && has_state(name, ".swap") && base_of(name) >= s->unfinished_from) remove_file(s, name);
}
static void remove_rest(void *context, const char *name) {
  listing *s = context;
  if (!is_segment_file(name)) return;
  bool final = !has_state(name, ".cleaned") && !has_state(name, ".deleted") && !has_state(name, ".swap");
  bool replaced = final && !has_state(name, ".snapshot") && base_of(name) >= s->swap_base && base_of(name) < s->swap_end;
  if (has_state(name, ".cleaned") || has_state(name, ".deleted") || (s->swap_base >= 0 && replaced)) remove_file(s, name);
}
static void place_swap(void *context, const char *name) {
  listing *s = context;
  if (!is_segment_file(name) || !has_state(name, ".swap")) return;
  if (base_of(name) != s->swap_base) {
    remove_file(s, name); /* of a segment that has its name already */
    return;
  }
  char from[128], to[128];
  (void)snprintf(from, sizeof from, "%s/%s", DISK_DIRECTORY, name);
  (void)snprintf(to, sizeof to, "%s/%.*s", DISK_DIRECTORY, (int)(strlen(name) - strlen(".swap")), name);
  int32_t rc = plog__sys_rename(s->life->sys, from, to);
  if (s->rc == 0) s->rc = rc;
}
static void see_log(void *context, const char *name) {
  listing *s = context;
  if (!is_segment_file(name) || strlen(name) != 24 || !has_state(name, ".log")) return;
  CHECK(s->count < SEGMENTS_MAX);
  int32_t at = s->count++;
  for (; at > 0 && s->base[at - 1] > base_of(name); at--) s->base[at] = s->base[at - 1];
  s->base[at] = base_of(name);
}
static void remove_orphan(void *context, const char *name) {
  listing *s = context;
  if (!is_segment_file(name) || has_state(name, ".snapshot")) return;
  for (int32_t i = 0; i < s->count; i++)
    if (s->base[i] == base_of(name)) return;
  remove_file(s, name);
}

/* Put the directory right and list its segments, by the rules and in the order of pylog/segment.py. */
static int32_t settle(life *l, listing *s) {
  *s = (listing){.life = l, .unfinished_from = INT64_MAX, .swap_base = -1};
  disk_list(l->disk, see_cleaned, s);
  disk_list(l->disk, see_swap, s);
  disk_list(l->disk, remove_void_swap, s);
  disk_list(l->disk, remove_rest, s);
  disk_list(l->disk, place_swap, s);
  disk_list(l->disk, see_log, s);
  disk_list(l->disk, remove_orphan, s);
  return s->rc != 0 ? s->rc : sync_directory(l->sys);
}

/* ---------------------------------------------------------------------------------------------- opening and closing */

static void let_go(life *l) {
  if (l->log) (void)plog_log_close(l->log, PLOG_CLOSE_LET_GO);
  l->log = NULL;
  if (l->lock_fd >= 0) (void)plog__sys_close(l->sys, l->lock_fd);
  l->lock_fd = -1;
}

/* Open what is on the disk. The marker of a clean stop is gone, durably, before anything else changes. */
static int32_t open_life(life *l) {
  l->lock_fd = plog__sys_open(l->sys, DISK_DIRECTORY "/.lock", O_RDWR | O_CREAT, 0644);
  if (l->lock_fd < 0) return l->lock_fd;
  side_files said;
  read_side_files(l, &said);
  int32_t rc = 0;
  if (said.clean) {
    rc = plog__sys_unlink(l->sys, DISK_DIRECTORY "/clean");
    if (rc == 0) rc = sync_directory(l->sys);
  }
  listing found;
  if (rc == 0) rc = settle(l, &found);
  plog_log_open_report report;
  if (rc == 0)
    rc = plog_log_open(l->sys, DISK_DIRECTORY, &l->config, found.base, found.count, said.log_start, said.recovery_point,
                       said.clean, said.epochs, said.epochs_count, 0, &l->log, &report);
  if (rc != 0) return rc;
  if (l->maps) plog__log_map_tail(l->log, 0);
  if (said.clean) CHECK_EQ(report.recovered_segments + report.truncated_bytes + report.rebuilt_indexes, 0);
  rc = write_epochs(l, false);
  if (rc != 0) let_go(l);
  return rc;
}

static int32_t flush_life(life *l) {
  int64_t point;
  int32_t rc = write_epochs(l, false); /* a recovery point must not pass an epoch that only memory knows */
  if (rc == 0) rc = plog_log_flush(l->log, &point);
  if (rc == 0) l->durable_end = PLOG_MAX(l->durable_end, point);
  return rc == 0 ? write_ends(l) : rc;
}

/* Close the log, which is on the disk then. */
static int32_t close_log(life *l) {
  int32_t rc = write_epochs(l, l->shares), how = PLOG_CLOSE_LET_GO;
  if (rc == 0) how = l->shares ? PLOG_CLOSE_UNSYNCED : PLOG_CLOSE_CLEAN;
  int32_t closed = plog_log_close(l->log, how);
  l->log = NULL;
  if (rc == 0) rc = closed;
  if (rc != 0 || !l->shares) return rc;
  rc = plog_sys_sync_all(l->sys, l->lock_fd);
  if (rc == 0) rc = put_in_place(l->sys, "epochs");
  return rc == 0 ? plog_sys_sync_all(l->sys, l->lock_fd) : rc;
}

/* Stop in order: logs, then checkpoints, the marker last. */
static int32_t close_clean(life *l) {
  int64_t ends[2] = {plog__log_end(l->log), plog__log_start(l->log)};
  int32_t rc = close_log(l);
  let_go(l);
  if (rc == 0) l->durable_end = ends[0];
  if (rc == 0) rc = replace_file(l->sys, "ends", ends, sizeof ends);
  return rc == 0 ? replace_file(l->sys, "clean", "", 0) : rc;
}

/* ---------------------------------------------------------------------------------------------- steps of a life */

static uint64_t draw(life *l, uint64_t below) {
  return test_random(&l->random) % below;
}

static batch *hand_over(life *l, const uint8_t *data) {
  plog_batch_header h;
  plog__batch_parse(data, &h);
  CHECK(l->handed_count < HANDED_MAX);
  batch *b = &l->handed[l->handed_count++];
  *b = (batch){h.base_offset, plog__batch_last_offset(&h), h.partition_leader_epoch, h.crc, false};
  return b;
}

/* What was appended was acknowledged, when it was. */
static int32_t append_built(life *l, plog_batch_builder *b) {
  const uint8_t *data;
  size_t size_bytes;
  CHECK_EQ(plog_batch_builder_finish(b, INT32_MIN, &data, &size_bytes), 0);
  batch *one = hand_over(l, data);
  int64_t last, before = plog__log_end(l->log);
  int32_t rc = plog_log_append(l->log, data, size_bytes, 0, &last);
  CHECK_EQ(plog__log_end(l->log), rc == 0 ? one->last + 1 : before);
  one->kept = rc == 0;
  l->refused = rc != 0;
  for (int key = 0; key < KEYS && l->compacts && rc != 0; key++)
    for (int i = 0; i < l->written_count[key]; i++)
      if (l->written[key][i] >= before) l->written[key][i] = ~l->written[key][i];
  plog_batch_builder_close(b);
  return rc;
}

static int32_t append_records(life *l) {
  static const uint8_t filler[700] = {'x'};
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  int64_t end = plog__log_end(l->log);
  int32_t count = 1 + (int32_t)draw(l, 3), producer = (int32_t)draw(l, 4);
  int32_t attributes = producer == 1 ? PLOG_ATTR_TRANSACTIONAL : 0;
  if (producer == 3 || l->compacts) producer = -1, attributes = 0;
  plog_batch_builder_reset(b, end, attributes, producer, producer < 0 ? -1 : 0, producer < 0 ? -1 : l->handed_count * 3,
                           l->epoch);
  for (int32_t i = 0; i < count; i++) {
    int32_t key = (int32_t)draw(l, KEYS), size_bytes = 8 + (int32_t)draw(l, draw(l, 4) == 0 ? 600 : 40);
    uint8_t value[708];
    memcpy(value, filler, sizeof filler);
    plog_put_i64(value, end + i);
    /* no two batches are alike: the time says which one this is */
    CHECK_EQ(plog_batch_builder_add(b, 1000 + l->handed_count, (const uint8_t *)&key, 4, value, size_bytes, NULL, 0, 0), 0);
    if (l->compacts) {
      CHECK(l->written_count[key] < HANDED_MAX);
      l->written[key][l->written_count[key]++] = end + i;
    }
  }
  return append_built(l, b);
}

/* The marker that ends what producer 1 has open. */
static int32_t end_transaction(life *l) {
  const uint8_t key[4] = {0, 0, 0, (uint8_t)draw(l, 2)}, value[6] = {0};
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, plog__log_end(l->log), PLOG_ATTR_CONTROL | PLOG_ATTR_TRANSACTIONAL, 1, 0, -1, l->epoch);
  CHECK_EQ(plog_batch_builder_add(b, 1000 + l->handed_count, key, 4, value, 6, NULL, 0, 0), 0);
  return append_built(l, b);
}

/* Records from an offset on are not wanted any more; whether or not it works, they may be gone. */
static int32_t cut(life *l, bool fully) {
  int64_t start = plog__log_start(l->log), end = plog__log_end(l->log);
  int64_t at = fully ? end + (int64_t)draw(l, 3) : start + (int64_t)draw(l, (uint64_t)(end - start + 1));
  for (int i = 0; i < l->handed_count; i++) {
    if (!l->handed[i].kept || (!fully && l->handed[i].last < at)) continue;
    l->handed[i].kept = false;
    l->durable_end = PLOG_MIN(l->durable_end, l->handed[i].base); /* batches are cut whole */
  }
  l->durable_end = fully ? 0 : PLOG_MIN(l->durable_end, at);
  int32_t rc = fully ? plog_log_truncate_fully(l->log, at, 0) : plog_log_truncate(l->log, at, 0);
  if (rc == 0) {
    l->durable_end = PLOG_MIN(l->durable_end, plog__log_end(l->log));
    for (int i = 0; i < l->handed_count; i++)
      if (l->handed[i].last >= plog__log_end(l->log)) l->handed[i].kept = false;
  }
  l->epoch++;
  if (rc == 0) rc = write_epochs(l, false);
  return rc == 0 ? write_ends(l) : rc;
}

/* Delete records, and the segments that only they were in. */
static int32_t delete_records(life *l) {
  int64_t start = plog__log_start(l->log), end = plog__log_end(l->log);
  int64_t at = start + (int64_t)draw(l, (uint64_t)(end - start) / 2 + 1);
  int32_t count, rc = plog_log_set_start(l->log, at);
  l->start = PLOG_MAX(l->start, at);
  if (rc == 0) rc = plog_log_delete_segments(l->log, at, &count);
  return rc == 0 ? write_epochs(l, false) : rc;
}

static void remove_if_deleted(void *context, const char *name) {
  listing *s = context;
  if (has_state(name, ".deleted")) remove_file(s, name);
}

static int32_t sweep(life *l) {
  listing s = {.life = l};
  disk_list(l->disk, remove_if_deleted, &s);
  return s.rc;
}

/* One pass of compaction over all closed segments, in groups. What is to be cleaned is durable first. */
static int32_t compact(life *l) {
  plog_segment_info segments[SEGMENTS_MAX];
  int32_t rc = flush_life(l);
  if (rc != 0) return rc;
  int32_t n = plog_log_segments(l->log, segments, SEGMENTS_MAX);
  if (n < 2) return 0;
  const uint8_t secret[16] = {7};
  plog_key_map *map;
  rc = plog_key_map_open(l->sys, 64, 50, secret, &map);
  if (rc != 0) return rc;
  plog_cleaning_settings settings = {segments[0].base_offset, segments[n - 1].base_offset, 100, 1 << 20, 700};
  plog_cleaning *c;
  rc = plog_cleaning_open(l->log, map, &settings, &c);
  if (rc != 0) {
    plog_key_map_close(map);
    return rc;
  }
  for (int32_t done = 0; rc == 0 && !done;) rc = plog_cleaning_index(c, &done);
  for (int32_t i = 0; rc == 0 && i + 1 < n;) {
    int64_t bases[SEGMENTS_MAX];
    int32_t count = 0, most = 1 + (int32_t)draw(l, 3);
    while (count < most && i + 1 < n) bases[count++] = segments[i++].base_offset;
    rc = plog_cleaning_begin(c, bases, count);
    for (int32_t done = 0; rc == 0 && !done;) rc = plog_cleaning_copy(c, &done);
    if (rc == 0) rc = plog_cleaning_finish(c);
    if (rc == 0) rc = plog_log_replace(l->log, c);
    if (rc == 0) rc = plog_cleaning_sync(c);
  }
  plog_cleaning_close(c);
  plog_key_map_close(map);
  return rc;
}

static int32_t one_step(life *l) {
  uint64_t what = draw(l, 32);
  tell("    step %d: end %d, durable %d, changes %d", (int)what, (int)plog__log_end(l->log), (int)l->durable_end,
       (int)disk_changes(l->disk));
  if (what < 18) return append_records(l);
  if (what < 20) return l->compacts ? append_records(l) : end_transaction(l);
  if (what < 23) return flush_life(l);
  if (what < 25) return plog_log_roll(l->log, 0);
  if (what < 27) return l->compacts ? compact(l) : cut(l, false);
  if (what < 28) return l->compacts ? compact(l) : cut(l, draw(l, 3) == 0);
  if (what < 29) return l->compacts ? sweep(l) : delete_records(l);
  if (what < 30) return sweep(l);
  if (what < 31) {
    l->epoch++;
    return 0;
  }
  int32_t rc = close_clean(l);
  return rc == 0 ? open_life(l) : rc;
}

/* ---------------------------------------------------------------------------------------------- what must be so */

static const batch *find_handed(const life *l, const plog_batch_header *header) {
  for (int i = 0; i < l->handed_count; i++)
    if (l->handed[i].base == header->base_offset && l->handed[i].crc == header->crc) return &l->handed[i];
  return NULL;
}

typedef struct {
  int32_t epochs_count;
  int64_t epochs[2 * EPOCHS_MAX];
  int64_t last[KEYS];
  int64_t latest; /* timestamp */
} derived;

static int32_t see_record(void *context, int32_t index, const plog_record *record) {
  derived *d = context;
  (void)index;
  int32_t key;
  CHECK_EQ(record->key_bytes, 4);
  memcpy(&key, record->key, 4);
  CHECK_EQ(plog_get_i64(record->value), record->offset);
  d->last[key] = record->offset;
  return 0;
}

/* Where the records from `from` on are missing, the log goes on at `to`: may that be? A closed segment whose end was never flushed
   can lose it although the next one is there, and whether compaction took it nobody can say. Known from then on. */
static bool may_miss(life *l, int64_t from, int64_t to) {
  for (int i = 0; i < l->gaps_count; i++)
    if (l->gaps[i][0] == from && (l->gaps[i][1] == to || to < 0)) return true;
  if (from < l->durable_end || l->gaps_count == GAPS_MAX) return false;
  l->gaps[l->gaps_count][0] = from;
  l->gaps[l->gaps_count++][1] = to;
  return true;
}

/* All batches, from the first segment on. */
static void check_batches(life *l, derived *d) {
  static uint8_t out[1 << 16];
  memset(d, 0, sizeof *d);
  for (int i = 0; i < KEYS; i++) d->last[i] = -1;
  plog_log_info info;
  plog_log_info_read(l->log, &info);
  int64_t offset = info.log_start_offset, end = info.log_end_offset, next = -1;
  CHECK(info.recovery_point <= end && offset <= end && end >= l->durable_end);
  bool seen[HANDED_MAX] = {false};
  while (offset < end) {
    size_t n;
    CHECK_EQ(plog_log_read(l->log, offset, INT64_MAX, 1, out, sizeof out, &n), 0);
    if (n == 0) {
      CHECK(l->compacts || may_miss(l, offset, end));
      break;
    }
    plog_batch_header header;
    for (size_t at = 0; at < n; at += header.size_bytes) {
      CHECK_EQ(plog_batch_check(out + at, n - at, &header), 0);
      CHECK(header.base_offset >= next && plog__batch_last_offset(&header) >= offset);
      if (!l->compacts) {
        if (header.base_offset > offset) {
          CHECK(may_miss(l, offset, header.base_offset));
          offset = next = header.base_offset;
        }
        CHECK(next < 0 || header.base_offset == next); /* no hole, no overlap */
        const batch *b = find_handed(l, &header);
        CHECK(b); /* nothing is invented */
        seen[b - l->handed] = true;
      } else if (header.records_count > 0) {
        CHECK_EQ(plog__batch_each(out + at, &header, 1 << 20, see_record, d), 0);
      }
      if (d->epochs_count == 0 || d->epochs[2 * d->epochs_count - 2] != header.partition_leader_epoch) {
        CHECK(d->epochs_count == 0 || header.partition_leader_epoch > d->epochs[2 * d->epochs_count - 2]);
        CHECK(d->epochs_count < EPOCHS_MAX);
        d->epochs[2 * d->epochs_count] = header.partition_leader_epoch;
        d->epochs[2 * d->epochs_count++ + 1] = PLOG_MAX(header.base_offset, info.log_start_offset);
      }
      d->latest = PLOG_MAX(d->latest, header.max_timestamp);
      next = offset = plog__batch_last_offset(&header) + 1;
    }
  }
  for (int i = 0; i < l->handed_count && !l->compacts; i++) {
    const batch *b = &l->handed[i];
    bool wanted = b->kept && b->last < l->durable_end && b->last >= PLOG_MAX(l->start, info.log_start_offset);
    if (wanted && !seen[i])
      tell("  %d..%d is gone; log %d..%d", (int)b->base, (int)b->last, (int)info.log_start_offset, (int)end);
    CHECK(!wanted || seen[i]);
    l->handed[i].kept = seen[i]; /* what is there counts from now on, the rest was never promised */
  }
  for (int key = 0; key < KEYS && l->compacts; key++) {
    int64_t durable = -1;
    int left = 0;
    bool written = d->last[key] < 0;
    for (int i = 0; i < l->written_count[key]; i++) {
      int64_t stored = l->written[key][i], at = stored < 0 ? ~stored : stored;
      if (stored >= 0 && at < l->durable_end) durable = PLOG_MAX(durable, at);
      written |= at == d->last[key];
      if (at < d->last[key]) l->written[key][left++] = stored; /* what came later was not promised, and is lost */
      if (at == d->last[key]) l->written[key][left++] = at;
    }
    l->written_count[key] = left;
    if (!written || d->last[key] < durable)
      tell("  key %d: last %d, written %d, durable %d", key, (int)d->last[key], written, (int)durable);
    CHECK(written && d->last[key] >= durable);
  }
}

/* What is derived from batches. */
typedef struct {
  int64_t aborted[3 * 64];
  int32_t aborted_count;
  plog_producer_info producers[8];
  int32_t producers_count;
  int64_t end, start;
} side_state;

static void take_side_state(life *l, side_state *out) {
  memset(out, 0, sizeof *out);
  out->start = plog__log_start(l->log);
  out->end = plog__log_end(l->log);
  CHECK_EQ(plog_log_aborted(l->log, out->start, out->end, out->aborted, 64, &out->aborted_count), 0);
  out->producers_count = plog_log_producers(l->log, out->producers, 8);
  CHECK(out->producers_count <= 8);
}

/* Drop those that begin at or below an offset; how many are left. */
static int32_t drop_epochs(int64_t *pairs, int32_t count, int64_t offset) {
  int32_t below = 0;
  while (below < count && pairs[2 * below + 1] <= offset) below++;
  memmove(pairs, pairs + (size_t)below * 2, (size_t)(count - below) * 16);
  return count - below;
}

static void check_log(life *l) {
  derived d;
  check_batches(l, &d);
  plog_log_info info;
  plog_log_info_read(l->log, &info);
  int64_t pairs[2 * EPOCHS_MAX];
  if (!l->compacts) {
    int32_t count = plog_log_epochs(l->log, pairs, EPOCHS_MAX);
    /* epochs below a log start are forgotten, and stay so when a crash takes the start back; an empty log may know which one is
       in force, and no batch says so */
    int64_t upto = info.log_start_offset == info.log_end_offset ? PLOG_MAX(l->start, info.log_end_offset) : l->start;
    count = drop_epochs(pairs, count, upto);
    CHECK_EQ(count, drop_epochs(d.epochs, d.epochs_count, upto));
    CHECK(memcmp(pairs, d.epochs, (size_t)count * 16) == 0);
  }
  for (int64_t at = info.log_start_offset; at < info.log_end_offset; at += 2) {
    plog_slice slice;
    CHECK_EQ(plog__log_slice(l->log, at, INT64_MAX, 1, true, true, &slice), 0);
    plog__slice_release(&slice);
  }
  int64_t offset, timestamp;
  int32_t epoch;
  if (d.latest > 0) {
    CHECK_EQ(plog_log_offset_for_timestamp(l->log, d.latest, INT64_MAX, &offset, &timestamp, &epoch), 0);
    CHECK_EQ(timestamp, d.latest);
  }
  CHECK_EQ(plog_log_offset_for_timestamp(l->log, PLOG_MAX(d.latest, 1) + 1, INT64_MAX, &offset, &timestamp, &epoch),
           PLOG_E_NOT_FOUND);
}

/* The segments, for the story. */
static void tell_segments(life *l) {
  plog_segment_info segments[SEGMENTS_MAX];
  int32_t n = plog_log_segments(l->log, segments, SEGMENTS_MAX);
  for (int32_t i = 0; i < n; i++)
    tell("    segment %d..%d, %d bytes", (int)segments[i].base_offset, (int)segments[i].next_offset,
         (int)segments[i].size_bytes);
}

/* What survived opens, is right, goes on, and is right again after a cut that loses all that is not synced. */
static void check_survivors(life *l) {
  CHECK_EQ(open_life(l), 0);
  tell("  survived: %d..%d", (int)plog__log_start(l->log), (int)plog__log_end(l->log));
  tell_segments(l);
  check_log(l);
  side_state now, again;
  l->epoch++;
  CHECK_EQ(append_records(l), 0);
  CHECK_EQ(flush_life(l), 0);
  let_go(l);
  disk_restart(l->disk, DISK_KEEP_NONE, 0);
  CHECK_EQ(open_life(l), 0);
  CHECK_EQ(plog__log_end(l->log), l->durable_end);
  check_log(l);
  CHECK_EQ(close_clean(l), 0);
  disk_restart(l->disk, DISK_KEEP_NONE, 0);
  CHECK_EQ(open_life(l), 0);
  CHECK_EQ(plog__log_end(l->log), l->durable_end);
  check_log(l);
  take_side_state(l, &now);
  /* once more from nothing but the batches */
  let_go(l);
  listing found;
  CHECK_EQ(settle(l, &found), 0);
  plog_log_open_report report;
  CHECK_EQ(plog_log_open(l->sys, DISK_DIRECTORY, &l->config, found.base, found.count, now.start, 0, 0, NULL, -1, 0, &l->log,
                         &report),
           0);
  tell("  from nothing: %d..%d, %d bytes cut, %d segments gone", (int)plog__log_start(l->log), (int)plog__log_end(l->log),
       (int)report.truncated_bytes, (int)report.deleted_segments);
  tell_segments(l);
  CHECK_EQ(report.truncated_bytes + report.deleted_segments, 0);
  take_side_state(l, &again);
  CHECK_EQ(again.end, now.end);
  if (l->start > 0 || now.start > 0) return; /* the beginnings of transactions are gone */
  CHECK_EQ(again.aborted_count, now.aborted_count);
  CHECK(memcmp(again.aborted, now.aborted, sizeof now.aborted) == 0);
  CHECK_EQ(again.producers_count, now.producers_count);
}

/* ---------------------------------------------------------------------------------------------- lives */

static life *begin_life(uint64_t script, bool compacts) {
  life *l = calloc(1, sizeof *l);
  CHECK(l);
  l->disk = disk_open();
  l->sys = plog_sys_open();
  CHECK(l->sys);
  disk_attach(l->disk, l->sys);
  if (script % 2) plog__open_files_limit(&l->sys->open_files, PLOG_FILES_ACTIVE, 0); /* every write opens its file */
  l->config = (plog_log_config){1200, INT64_MAX / 2, 0, 480, 150, INT64_MAX, 0, 1};
  l->random = script;
  l->compacts = compacts;
  l->maps = script / 2 % 2;
  l->shares = script % 3 != 1;
  l->lock_fd = -1;
  return l;
}

static void end_life(life *l) {
  let_go(l);
  plog_sys_close(l->sys);
  CHECK_EQ(disk_open_files(l->disk), 0);
  disk_close(l->disk);
  free(l);
}

/* Live by a script until the power goes at the nth change, and perhaps again while what survived is opened. False: it was not
   that long. */
static bool survive(uint64_t script, bool compacts, int64_t nth, disk_survivors survivors, uint64_t seed,
                    int64_t again_at) {
  life *l = begin_life(script, compacts);
  disk_cut_at(l->disk, nth);
  int32_t rc = open_life(l);
  for (int step = 0; rc == 0 && step < STEPS; step++) rc = one_step(l);
  if (rc == 0 && l->shares) rc = close_clean(l);
  bool died = disk_is_dead(l->disk);
  if (!died) CHECK_EQ(rc, 0);
  let_go(l);
  CHECK_EQ(disk_open_files(l->disk), 0);
  disk_restart(l->disk, survivors, seed);
  if (again_at > 0) {
    disk_cut_at(l->disk, again_at);
    rc = open_life(l);
    CHECK(rc == 0 || disk_is_dead(l->disk));
    let_go(l);
    disk_restart(l->disk, DISK_KEEP_SOME, seed + 1);
  }
  check_survivors(l);
  end_life(l);
  return died;
}

/* The lives that this process is to go through. */
static uint64_t first_script = 1, scripts_step = 1;

static int scripts_count(int usual) {
  const char *wanted = getenv("PLOG_FAULT_SCRIPTS");
  return wanted ? atoi(wanted) : usual;
}

/* ---------------------------------------------------------------------------------------------- calls that fail */

typedef struct {
  int32_t call, error;
  int64_t short_bytes, repeat;
} fault;

/*
 * Live by a script in which the nth call fails. Appends may fail again and again; any other failure ends the process, as it takes
 * a data directory offline. The page cache survives that, unless power_cut. False: the nth call was never made.
 */
static bool endure(uint64_t script, bool compacts, const fault *what, int64_t nth, bool power_cut) {
  life *l = begin_life(script, compacts);
  CHECK_EQ(plog_sys_fault(l->sys, what->call, nth, what->error, what->short_bytes, what->repeat), 0);
  int32_t rc = open_life(l);
  for (int step = 0; rc == 0 && step < STEPS; step++) {
    l->refused = false;
    rc = one_step(l);
    if (l->refused) rc = 0;
  }
  if (rc == 0 && l->shares) rc = close_clean(l);
  bool struck = plog_sys_count(l->sys, what->call) >= nth;
  if (!struck) CHECK_EQ(rc, 0);
  CHECK_EQ(plog_sys_fault(l->sys, -1, 1, 0, 0, 0), 0);
  /* what a truncation that failed has left is not promised */
  if (l->log && !power_cut && rc == 0) l->durable_end = PLOG_MAX(l->durable_end, plog__log_end(l->log));
  let_go(l);
  CHECK_EQ(disk_open_files(l->disk), 0);
  disk_restart(l->disk, power_cut ? DISK_KEEP_SOME : DISK_KEEP_ALL, script * 1000003 + (uint64_t)nth);
  check_survivors(l);
  end_life(l);
  return struck;
}

static void fail_everywhere(bool compacts, int scripts) {
  static const fault faults[] = {
      {-1, EIO, 0, 1},
      {-1, ENOSPC, 0, -1}, /* full until the next start */
      {-1, EINTR, 0, 1},
      {-1, 0, 3, 1}, /* short, where bytes are moved */
      {PLOG_SYS_PWRITE, 0, 0, 1},
      {PLOG_SYS_FTRUNCATE, EIO, 0, -1},
      {PLOG_SYS_RENAME, EIO, 0, -1},
  };
  int64_t places = 0;
  for (uint64_t script = first_script; script <= (uint64_t)scripts; script += scripts_step)
    for (size_t i = 0; i < PLOG_COUNT_OF(faults); i++) {
      int64_t nth = 1;
      for (bool struck = true; struck; nth++) {
        tell("script %d, call %d fails with %d from %d on", (int)script, faults[i].call, faults[i].error, (int)nth);
        struck = endure(script, compacts, &faults[i], nth, false);
        if (nth % 3 == 0) (void)endure(script, compacts, &faults[i], nth, true);
        places++;
      }
      CHECK(nth > 3);
    }
  (void)fprintf(stderr, "  %d faults\n", (int)places);
}

/* ---------------------------------------------------------------------------------------------- cuts */

static const char *const survivor_names[] = {"all", "nothing", "sizes", "data", "some"};

static void cut_everywhere(bool compacts, int scripts) {
  int64_t places = 0;
  for (uint64_t script = first_script; script <= (uint64_t)scripts; script += scripts_step) {
    bool died = true;
    int64_t nth = 1;
    for (; died; nth++) {
      for (int how = DISK_KEEP_ALL; how <= DISK_KEEP_SOME + 2; how++) {
        disk_survivors survivors = (disk_survivors)PLOG_MIN(how, (int)DISK_KEEP_SOME);
        uint64_t seed = script * 1000003 + (uint64_t)nth * 31 + (uint64_t)how;
        int64_t again_at = how == DISK_KEEP_SOME + 2 ? 1 + nth % 23 : 0;
        tell("script %d, cut at %d, survives: %s, seed %d", (int)script, (int)nth, survivor_names[survivors], (int)seed);
        died = survive(script, compacts, nth, survivors, seed, again_at);
        places++;
      }
    }
    CHECK(nth > 30);
  }
  (void)fprintf(stderr, "  %d cuts\n", (int)places);
}

static void lives_with_cuts_and_deletions(void) {
  cut_everywhere(false, scripts_count(6));
}
static void lives_with_compaction(void) {
  cut_everywhere(true, scripts_count(3));
}

static void faults_in_cuts_and_deletions(void) {
  fail_everywhere(false, scripts_count(2));
}
static void faults_in_compaction(void) {
  fail_everywhere(true, scripts_count(1));
}

/* ---------------------------------------------------------------------------------------------- stories */

static int32_t append_one(life *l, int32_t value_bytes) {
  static const uint8_t filler[708] = {'x'};
  const uint8_t key[4] = {0};
  plog_batch_builder *b = plog_batch_builder_open();
  CHECK(b);
  plog_batch_builder_reset(b, plog__log_end(l->log), 0, -1, -1, -1, l->epoch);
  CHECK_EQ(plog_batch_builder_add(b, 1000 + l->handed_count, key, 4, filler, value_bytes, NULL, 0, 0), 0);
  return append_built(l, b);
}

/* A roll fails; a smaller batch goes where the one that was refused did not fit, and is flushed. After a power cut that took back
   as much of the directory's changes as it could, the file that the roll had made must not stand in its way. */
static void a_failed_roll_hides_nothing(void) {
  for (uint64_t seed = 0; seed < 64; seed++) {
    life *l = begin_life(0, false);
    CHECK_EQ(open_life(l), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(append_one(l, 200), 0);
    CHECK_EQ(flush_life(l), 0);
    CHECK_EQ(plog_sys_fault(l->sys, PLOG_SYS_FTRUNCATE, 1, EIO, 0, 1), 0); /* sealing the segment */
    CHECK_EQ(append_one(l, 700), -EIO);
    CHECK_EQ(append_one(l, 20), 0);
    if (seed % 2) CHECK_EQ(flush_life(l), 0);
    CHECK_EQ(plog__log_end(l->log), 4);
    let_go(l);
    disk_restart(l->disk, DISK_KEEP_SOME, seed);
    check_survivors(l);
    end_life(l);
  }
}

/* The kernel wrote back, in vain, what was appended to a log whose files are shut: their own syncs would not tell, the one of the
   file system does, and there is no marker. What had been flushed before is there. */
static void a_lost_write_is_no_clean_stop(void) {
  for (uint64_t seed = 0; seed < 8; seed++) {
    life *l = begin_life(5, false); /* shares, and opens a file for every write */
    CHECK_EQ(open_life(l), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(append_one(l, 200), 0);
    CHECK_EQ(flush_life(l), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(append_one(l, 200), 0);
    disk_fail_writeback(l->disk);
    CHECK_EQ(close_clean(l), -EIO);
    size_t size_bytes;
    CHECK(!disk_file(l->disk, "clean", &size_bytes));
    disk_restart(l->disk, seed == 0 ? DISK_KEEP_NONE : DISK_KEEP_SOME, seed);
    CHECK_EQ(l->durable_end, 3);
    check_survivors(l);
    end_life(l);
  }
}

int main(int argc, char **argv) {
  bool faults = true, cuts = true;
  if (argc == 4) {
    faults = strcmp(argv[1], "faults") == 0;
    cuts = strcmp(argv[1], "cuts") == 0;
    first_script = strtoull(argv[2], NULL, 10);
    scripts_step = strtoull(argv[3], NULL, 10);
    CHECK(faults != cuts && first_script > 0 && scripts_step > 0);
  }
  if (faults) {
    RUN(a_failed_roll_hides_nothing);
    RUN(a_lost_write_is_no_clean_stop);
    RUN(faults_in_cuts_and_deletions);
    RUN(faults_in_compaction);
  }
  if (cuts) {
    RUN(lives_with_cuts_and_deletions);
    RUN(lives_with_compaction);
  }
  return 0;
}
