/*
 * plog.h: the whole public API of the C library.
 *
 * The block between the cdef markers is what cffi reads, word for word (csrc/ffi_build.py cuts it out), so the C compiler
 * and Python cannot disagree. It stays in the subset cffi parses: no macros but integer #defines, no attributes.
 *
 * Conventions, true of every function below unless its comment says otherwise:
 *   returns   int32_t: 0 fine; 1..999 a Kafka error code; >= 1000 a condition of ours (PLOG_E_*); negative -errno.
 *             Results go to out-parameters, written only on success.
 *   pointers  are borrowed for the call. "takes" says that ownership passes, and then only on success.
 *   threads   "any": callable from any thread at any time. "owner": one thread at a time; once a log or a partition has been
 *             given to a started engine, its owner is the engine's reactor, and the engine's functions must be used instead.
 *   offset    is a record's number in the log; position is a byte position in a file; sizes are _bytes, times _ms.
 */
#ifndef PLOG_H
#define PLOG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef:begin */

/* ------------------------------------------------------------------------------------------------ return codes */

/* Kafka's codes that C itself says; the complete table is pylog/errors.py. */
#define PLOG_NONE 0
#define PLOG_OFFSET_OUT_OF_RANGE 1
#define PLOG_CORRUPT_MESSAGE 2
#define PLOG_UNKNOWN_TOPIC_OR_PARTITION 3
#define PLOG_NOT_LEADER_OR_FOLLOWER 6
#define PLOG_REQUEST_TIMED_OUT 7
#define PLOG_REPLICA_NOT_AVAILABLE 9
#define PLOG_MESSAGE_TOO_LARGE 10
#define PLOG_COORDINATOR_NOT_AVAILABLE 15
#define PLOG_NOT_COORDINATOR 16
#define PLOG_INVALID_TOPIC_EXCEPTION 17
#define PLOG_RECORD_LIST_TOO_LARGE 18
#define PLOG_NOT_ENOUGH_REPLICAS 19
#define PLOG_NOT_ENOUGH_REPLICAS_AFTER_APPEND 20
#define PLOG_INVALID_REQUIRED_ACKS 21
#define PLOG_INVALID_COMMIT_OFFSET_SIZE 28
#define PLOG_TOPIC_AUTHORIZATION_FAILED 29
#define PLOG_CLUSTER_AUTHORIZATION_FAILED 31
#define PLOG_INVALID_TIMESTAMP 32
#define PLOG_UNSUPPORTED_VERSION 35
#define PLOG_INVALID_REQUEST 42
#define PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT 43
#define PLOG_OUT_OF_ORDER_SEQUENCE_NUMBER 45
#define PLOG_DUPLICATE_SEQUENCE_NUMBER 46
#define PLOG_INVALID_PRODUCER_EPOCH 47
#define PLOG_INVALID_TXN_STATE 48
#define PLOG_INVALID_PRODUCER_ID_MAPPING 49
#define PLOG_TRANSACTION_COORDINATOR_FENCED 52
#define PLOG_TRANSACTIONAL_ID_AUTHORIZATION_FAILED 53
#define PLOG_KAFKA_STORAGE_ERROR 56
#define PLOG_FETCH_SESSION_ID_NOT_FOUND 70
#define PLOG_INVALID_FETCH_SESSION_EPOCH 71
#define PLOG_FENCED_LEADER_EPOCH 74
#define PLOG_UNKNOWN_LEADER_EPOCH 75
#define PLOG_UNSUPPORTED_COMPRESSION_TYPE 76
#define PLOG_INVALID_RECORD 87
#define PLOG_UNKNOWN_TOPIC_ID 100
#define PLOG_INCONSISTENT_TOPIC_ID 103
#define PLOG_FETCH_SESSION_TOPIC_ID_ERROR 106

/* Conditions of ours. */
#define PLOG_E_SHORT 1000     /* the bytes end before the thing they hold does */
#define PLOG_E_MALFORMED 1001 /* the bytes are there but break the format */
#define PLOG_E_BUFFER_TOO_SMALL 1002
#define PLOG_E_SEGMENT_FULL 1003 /* the batch does not fit: roll first */
#define PLOG_E_NOT_FOUND 1004
#define PLOG_E_CLOSED 1005 /* the connection, partition or engine is gone */
#define PLOG_E_STOPPED 1006
#define PLOG_E_DUPLICATE 1007     /* an idempotent producer's batch that the log has already; success for the client */
#define PLOG_E_CODEC_MISSING 1008 /* the codec's shared library is not on this machine */
#define PLOG_E_AGAIN 1009         /* not in the page cache; ask the disk pool */
#define PLOG_E_UNKNOWN_CODEC 1010
#define PLOG_E_UNREADABLE 1011 /* compressed records that their codec cannot read */

/* ------------------------------------------------------------------------------------------------ system calls */

/** The table of every system call and clock the library uses, plus armed faults. Everything hangs off one of these. */
typedef struct plog_sys plog_sys;

/* Calls that can be counted and failed. */
#define PLOG_SYS_OPEN 0
#define PLOG_SYS_PWRITEV 1
#define PLOG_SYS_PWRITE 2
#define PLOG_SYS_PREAD 3
#define PLOG_SYS_FTRUNCATE 4
#define PLOG_SYS_FSYNC 5
#define PLOG_SYS_FDATASYNC 6
#define PLOG_SYS_RENAME 7
#define PLOG_SYS_UNLINK 8
#define PLOG_SYS_MMAP 9
#define PLOG_SYS_FALLOCATE 10
#define PLOG_SYS_SENDFILE 11
#define PLOG_SYS_RECV 12
#define PLOG_SYS_SEND 13
#define PLOG_SYS_ACCEPT 14
#define PLOG_SYS_CONNECT 15
#define PLOG_SYS_SYNCFS 16
#define PLOG_SYS_CALL_COUNT 17

/** A table bound to the kernel. any */
plog_sys *plog_sys_open(void);
void plog_sys_close(plog_sys *sys);
/**
 * Arm one fault: the nth call from now (1 = the next) of `call` fails with `error` (> 0: an errno), or transfers only
 * `short_bytes` bytes (error 0). repeat: how many calls in a row fail, -1 for all that follow. call -1: any call. any
 */
int32_t plog_sys_fault(plog_sys *sys, int32_t call, int64_t nth, int32_t error, int64_t short_bytes, int64_t repeat);
/** How often `call` was made (call -1: all of them together). any */
int64_t plog_sys_count(plog_sys *sys, int32_t call);
/** For a broker: let the process have as many descriptors as it may (the soft limit becomes the hard one, as in a JVM) and logs
    that are written to nearly half of them. Returns how many it may have, -errno. any */
int64_t plog_sys_use_descriptors(plog_sys *sys);
/** Bytes of segments that openings checked so far: grows while one is under way. any */
int64_t plog_sys_checked_bytes(plog_sys *sys);
/**
 * Does plog_sys_sync_all(fd) tell of every write that failed since fd was opened? 0: it does. -ENOSYS: not before Linux 5.17.
 * -EOPNOTSUPP: not that we knew, of such a file system. -errno: it cannot be said. any
 */
int32_t plog_sys_syncs_all(plog_sys *sys, int32_t fd);
/**
 * Make durable what was written so far to any file of the file system of fd, a regular file, names included. -errno: some of it
 * may be lost, now or since fd was opened, whoever wrote it, and no later call would tell. any; long
 */
int32_t plog_sys_sync_all(plog_sys *sys, int32_t fd);

/* ------------------------------------------------------------------------------------------------ checksums, codecs */

/** CRC-32C (Castagnoli) of data, continued from crc (0 at first). any */
uint32_t plog_crc32c(uint32_t crc, const uint8_t *data, size_t size_bytes);
/** Which implementation this CPU uses: "table", "sse42", "clmul", ... ; static text. any */
const char *plog_crc32c_name(void);

/* Codecs as in the attributes of a record batch. Snappy is read in both framings (Java's stream and one raw block) and
   written in Java's stream framing; lz4 is the LZ4 frame. */
#define PLOG_CODEC_NONE 0
#define PLOG_CODEC_GZIP 1
#define PLOG_CODEC_SNAPPY 2
#define PLOG_CODEC_LZ4 3
#define PLOG_CODEC_ZSTD 4

/** Upper bound of the compressed size of size_bytes. any */
size_t plog_codec_bound(int32_t codec, size_t size_bytes);
/** level: the codec's own; INT32_MIN for its default. Fails with PLOG_E_CODEC_MISSING, PLOG_E_BUFFER_TOO_SMALL. any */
int32_t plog_codec_compress(int32_t codec, int32_t level, const uint8_t *in, size_t in_bytes, uint8_t *out,
                            size_t out_capacity_bytes, size_t *out_bytes);
/**
 * Decompress everything. PLOG_E_BUFFER_TOO_SMALL when the result is larger than the capacity (nothing is ever taken on
 * the data's word), PLOG_CORRUPT_MESSAGE when the data are not what the codec writes. any
 */
int32_t plog_codec_decompress(int32_t codec, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_capacity_bytes,
                              size_t *out_bytes);

/* ------------------------------------------------------------------------------------------------ record batches */

#define PLOG_BATCH_OVERHEAD 61 /* bytes of a v2 batch before its first record */
#define PLOG_LOG_OVERHEAD 12   /* base offset and length, the part every format shares */
#define PLOG_ATTR_CODEC_MASK 0x07
#define PLOG_ATTR_LOG_APPEND_TIME 0x08
#define PLOG_ATTR_TRANSACTIONAL 0x10
#define PLOG_ATTR_CONTROL 0x20
#define PLOG_ATTR_DELETE_HORIZON 0x40

/** The header of one record batch v2, in host byte order. */
typedef struct {
  int64_t base_offset;
  int32_t batch_length; /* bytes after this field; the whole is batch_length + 12 */
  int32_t partition_leader_epoch;
  int32_t magic;
  uint32_t crc;
  int32_t attributes;
  int32_t last_offset_delta;
  int64_t base_timestamp; /* ms */
  int64_t max_timestamp;  /* ms */
  int64_t producer_id;
  int32_t producer_epoch;
  int32_t base_sequence;
  int32_t records_count;
  uint32_t size_bytes; /* of the whole batch */
} plog_batch_header;

/** One record inside a decompressed records section. Pointers go into that section. */
typedef struct {
  int64_t offset;
  int64_t timestamp;      /* ms; the batch's append time when it is LogAppendTime */
  const uint8_t *key;     /* NULL: no key */
  int32_t key_bytes;      /* -1: no key */
  const uint8_t *value;   /* NULL: no value */
  int32_t value_bytes;    /* -1: no value */
  const uint8_t *headers; /* the encoded headers, after their count */
  int32_t headers_bytes;
  int32_t headers_count;
} plog_record;

/**
 * Read the header of the batch at data. PLOG_E_SHORT when fewer than its bytes are there (out->size_bytes then says how
 * many it needs, or 0 when even the length is not there), PLOG_CORRUPT_MESSAGE when the length or the magic is impossible.
 * Only magic 2. any
 */
int32_t plog_batch_header_read(const uint8_t *data, size_t size_bytes, plog_batch_header *out);
/** Header and CRC of the batch at data. any */
int32_t plog_batch_check(const uint8_t *data, size_t size_bytes, plog_batch_header *out);
/**
 * Walk the records of one whole batch, decompressing if need be, into out[0..capacity). *count is what was written. The
 * scratch holds decompressed bytes and backs the pointers; PLOG_E_BUFFER_TOO_SMALL when either is too small (*count is then
 * the number of records in the header; try a larger scratch). PLOG_INVALID_RECORD when the records break the format. any
 */
int32_t plog_batch_records(const uint8_t *data, size_t size_bytes, uint8_t *scratch, size_t scratch_bytes, plog_record *out,
                           int32_t capacity, int32_t *count);

/** One batch as plog_batches_scan met it. */
typedef struct {
  plog_batch_header header;
  int64_t position; /* in the bytes scanned */
  int32_t crc_ok;   /* 1 also when it was not asked for */
  int32_t reserved;
} plog_scanned_batch;

/**
 * The headers of the batches in data, up to capacity of them; CRCs are summed when check != 0. *used_bytes: of those batches.
 *   returns  0: all bytes are used or all room is; or why there is none at *used_bytes: PLOG_E_SHORT (*needed_bytes: its whole
 *            size, 0 when even that is cut), PLOG_CORRUPT_MESSAGE. The results are written in every case. any
 */
int32_t plog_batches_scan(const uint8_t *data, size_t size_bytes, int32_t check, plog_scanned_batch *out, int32_t capacity,
                          int32_t *count, size_t *used_bytes, uint32_t *needed_bytes);

/** Builds one record batch v2. Not thread-safe. */
typedef struct plog_batch_builder plog_batch_builder;
plog_batch_builder *plog_batch_builder_open(void);
void plog_batch_builder_close(plog_batch_builder *b);
/** Start anew. attributes: the codec and the flags of the batch. producer_id -1, epoch -1, sequence -1 for none. */
void plog_batch_builder_reset(plog_batch_builder *b, int64_t base_offset, int32_t attributes, int64_t producer_id,
                              int32_t producer_epoch, int32_t base_sequence, int32_t partition_leader_epoch);
/** headers: encoded pairs (v-int length + key, v-int length or -1 + value), headers_count of them; NULL and 0 for none. */
int32_t plog_batch_builder_add(plog_batch_builder *b, int64_t timestamp, const uint8_t *key, int32_t key_bytes,
                               const uint8_t *value, int32_t value_bytes, const uint8_t *headers, int32_t headers_bytes,
                               int32_t headers_count);
/** Compress, fill the header, sum the CRC. *out is valid until the next reset. level as in plog_codec_compress. */
int32_t plog_batch_builder_finish(plog_batch_builder *b, int32_t level, const uint8_t **out, size_t *out_bytes);

/* ------------------------------------------------------------------------------------------------ the log of a partition */

/** The segments of one partition directory with their indexes, producer state and leader epochs. */
typedef struct plog_log plog_log;

/** What Kafka's topic settings mean to the C side; may be changed at any time with plog_log_configure. */
typedef struct {
  int64_t segment_bytes;        /* segment.bytes */
  int64_t segment_ms;           /* segment.ms less the jitter drawn for the active segment */
  int64_t segment_jitter_ms;    /* segment.jitter.ms: the log draws from its own seeded generator at each roll */
  int64_t segment_index_bytes;  /* segment.index.bytes: preallocated size of an index */
  int64_t index_interval_bytes; /* index.interval.bytes */
  int64_t flush_messages;       /* flush.messages; INT64_MAX: never */
  int32_t preallocate;          /* preallocate: reserve segment_bytes on creation */
  uint32_t jitter_seed;         /* 0: the directory's name is the seed */
} plog_log_config;

/** One segment, for listing. Sizes in bytes, times in ms; -1 where unknown. */
typedef struct {
  int64_t base_offset;
  int64_t next_offset; /* one past its last */
  int64_t size_bytes;
  int64_t index_bytes;     /* entries in use × 8 */
  int64_t timeindex_bytes; /* entries in use × 12 */
  int64_t max_timestamp;   /* largest record timestamp, -1 when it has no record */
  int64_t max_timestamp_offset;
  int64_t last_modified_ms;
} plog_segment_info;

/** A snapshot of a log's ends. */
typedef struct {
  int64_t log_start_offset;
  int64_t log_end_offset;
  int64_t recovery_point;           /* everything below is on stable storage */
  int64_t last_stable_offset_limit; /* first offset of the oldest open transaction, or the log start; INT64_MAX: none */
  int64_t size_bytes;
  int32_t segment_count;
  int32_t latest_epoch; /* newest leader epoch that has a record, -1 none */
  int32_t producer_count;
  int64_t first_base_offset; /* of the first segment: at or below log_start_offset */
} plog_log_info;

/** What opening found, for the log line that says so. */
typedef struct {
  int64_t recovered_segments; /* segments whose batches were all checked */
  int64_t recovered_bytes;
  int64_t truncated_bytes;  /* torn tail that was cut */
  int64_t deleted_segments; /* segments after a damaged one, set aside as .deleted */
  int64_t rebuilt_indexes;  /* of segments that are not in recovered_segments: missing, or of no use */
  int64_t replayed_batches; /* read to bring the producer state up to the end */
  int64_t unusable_files;   /* snapshots and transaction indexes that break their format: made again from batches */
  int32_t epochs_changed;   /* the leader epochs are not those that were handed over */
} plog_log_open_report;

/**
 * Open or create the log in directory dir, which must exist.
 *   segments        base offsets of the .log files in it, ascending; the caller has listed them and removed leftovers
 *   log_start       from log-start-offset-checkpoint, or 0
 *   recovery_point  from recovery-point-offset-checkpoint, or 0; segments at or past it are checked unless clean != 0
 *   clean           the directory was closed in order: nothing is read but the ends of the last segment and a snapshot
 *   epochs          the entries of leader-epoch-checkpoint as (epoch, start offset) pairs; epochs_count pairs; when the file
 *                   was missing or broken pass -1: they are rebuilt from the batches
 * Cuts the torn tail, rebuilds what is missing (indexes, time indexes, producer state). Never deletes a readable batch: whole
 * segments behind a damaged batch are renamed to .deleted, as Kafka does. any
 */
int32_t plog_log_open(plog_sys *sys, const char *dir, const plog_log_config *config, const int64_t *segments,
                      int32_t segments_count, int64_t log_start, int64_t recovery_point, int32_t clean,
                      const int64_t *epochs, int32_t epochs_count, int64_t now_ms, plog_log **out,
                      plog_log_open_report *report);

#define PLOG_DIRECTORY_EPOCHS_MAX 128

/** A log that was opened, and what lies beside it. */
typedef struct {
  plog_log *log;
  int32_t segments_count;
  int32_t has_topic_id;
  uint8_t topic_id[16]; /* of partition.metadata */
  int32_t epochs_count; /* pairs in leader-epoch-checkpoint */
  int64_t epochs[2 * PLOG_DIRECTORY_EPOCHS_MAX];
  plog_log_open_report report;
} plog_opened;

/**
 * The same, looking into the directory by itself.
 *   returns  the same | PLOG_E_MALFORMED: nothing was opened, look name by name: something was left half done (.deleted,
 *            .cleaned, .swap, an index without a .log), a side file is missing or not as it is written, no segment is there, or
 *            more than fits. any
 */
int32_t plog_log_open_directory(plog_sys *sys, const char *dir, const plog_log_config *config, int64_t log_start,
                                int64_t recovery_point, int32_t clean, int64_t now_ms, plog_opened *out);
/** How a log is closed: just let go; so that the next open reads nothing; the same, but that it is durable is left to the caller
    (plog_sys_sync_all), who may not call it so before. */
#define PLOG_CLOSE_LET_GO 0
#define PLOG_CLOSE_CLEAN 1
#define PLOG_CLOSE_UNSYNCED 2
/**
 * Close it. Not PLOG_CLOSE_LET_GO: flush, trim the indexes, append the last time index entry, write the producer snapshot at the
 * end offset. The handle is gone in any case. owner
 */
int32_t plog_log_close(plog_log *log, int32_t how);
/** Would a clean close wait for the disk? owner */
int32_t plog_log_close_waits(plog_log *log);
int32_t plog_log_configure(plog_log *log, const plog_log_config *config); /* owner */
void plog_log_info_read(plog_log *log, plog_log_info *out);               /* any */
/** How many indexes of closed segments were found missing or wrong, and built anew, since the last call. any */
int32_t plog_log_take_rebuilt_indexes(plog_log *log);
/** Up to capacity segments, ascending, each as it is when it is looked at; returns how many there are. any */
int32_t plog_log_segments(plog_log *log, plog_segment_info *out, int32_t capacity);
/** Leader epochs as (epoch, start offset) pairs; returns how many there are. any */
int32_t plog_log_epochs(plog_log *log, int64_t *out_pairs, int32_t capacity_pairs);
/**
 * Append batches that are stamped already (base offset, leader epoch), as a follower or a library does. They are checked
 * (header, CRC, offsets ascending from the end), written, indexed, and entered in the producer state and the epochs. owner
 *   out_last  the last offset appended
 */
int32_t plog_log_append(plog_log *log, const uint8_t *data, size_t size_bytes, int64_t now_ms, int64_t *out_last);
/**
 * Copy whole batches from `offset` on (the first one holds it or follows it) into out, at most capacity bytes, all below
 * max_offset. One batch larger than the capacity: PLOG_E_BUFFER_TOO_SMALL, and *out_bytes is its size. Checks the CRC of
 * what it copies when check != 0 (PLOG_CORRUPT_MESSAGE). *out_bytes 0: the end. PLOG_OFFSET_OUT_OF_RANGE. any
 */
int32_t plog_log_read(plog_log *log, int64_t offset, int64_t max_offset, int32_t check, uint8_t *out, size_t capacity_bytes,
                      size_t *out_bytes);
/** First record with timestamp >= ts and offset >= log start; PLOG_E_NOT_FOUND when none. Reads batches. any */
int32_t plog_log_offset_for_timestamp(plog_log *log, int64_t ts, int64_t max_offset, int64_t *out_offset, int64_t *out_ts,
                                      int32_t *out_epoch);
/** The record with the largest timestamp (the earliest of equals); PLOG_E_NOT_FOUND when the log is empty. any */
int32_t plog_log_max_timestamp(plog_log *log, int64_t *out_offset, int64_t *out_ts, int32_t *out_epoch);
/** Kafka's OffsetForLeaderEpoch: the largest epoch <= epoch with records, and the offset it ends at. any */
int32_t plog_log_end_offset_for_epoch(plog_log *log, int32_t epoch, int32_t *out_epoch, int64_t *out_end_offset);
/** Cut everything at and above offset. owner */
int32_t plog_log_truncate(plog_log *log, int64_t offset, int64_t now_ms);
/** Drop everything and start empty at offset. owner */
int32_t plog_log_truncate_fully(plog_log *log, int64_t offset, int64_t now_ms);
/** Close the active segment and start the next, unless it is empty. owner */
int32_t plog_log_roll(plog_log *log, int64_t now_ms);
/** Raise the log start offset (DeleteRecords, retention); segments stay. owner */
int32_t plog_log_set_start(plog_log *log, int64_t offset);
/**
 * Rename the files of the segments below the active one whose next offset is <= upto to .deleted and forget them; readers
 * that hold them finish. *count: how many. Unlinking is the caller's. owner
 */
int32_t plog_log_delete_segments(plog_log *log, int64_t upto, int32_t *count);
/** Make everything below the present end durable, and the recovery point with it. any; long: never on the reactor */
int32_t plog_log_flush(plog_log *log, int64_t *out_recovery_point);
/** What a plog_sys_sync_all that begins now makes durable of a log. */
typedef struct {
  int64_t end;
  int64_t newest_base; /* of the last segment */
  int64_t cuts_count;
} plog_sync_point;
void plog_log_sync_point(plog_log *log, plog_sync_point *out);       /* any */
void plog_log_synced(plog_log *log, const plog_sync_point *durable); /* that it is. any */

/** One producer id known to a log, as DescribeProducers and .snapshot show it. */
typedef struct {
  int64_t producer_id;
  int32_t producer_epoch;
  int32_t last_sequence; /* -1 none */
  int64_t last_offset;
  int32_t offset_delta;
  int64_t last_timestamp;           /* ms */
  int32_t coordinator_epoch;        /* -1 none */
  int64_t current_txn_first_offset; /* -1 none */
} plog_producer_info;
/** Up to capacity producers; returns how many there are. any */
int32_t plog_log_producers(plog_log *log, plog_producer_info *out, int32_t capacity);
/** Forget producers without open transaction that were idle since before_ms. owner; *count: how many */
int32_t plog_log_expire_producers(plog_log *log, int64_t before_ms, int32_t *count);
/** Aborted transactions that overlap [from, to): out receives (producer id, first offset, last offset) triples. any */
int32_t plog_log_aborted(plog_log *log, int64_t from, int64_t to, int64_t *out_triples, int32_t capacity, int32_t *count);

/* Kafka's .snapshot format, for tools. encode returns PLOG_E_BUFFER_TOO_SMALL with *out_bytes the size it needs. any */
int32_t plog_snapshot_encode(const plog_producer_info *in, int32_t count, uint8_t *out, size_t capacity_bytes,
                             size_t *out_bytes);
int32_t plog_snapshot_decode(const uint8_t *data, size_t size_bytes, plog_producer_info *out, int32_t capacity,
                             int32_t *count);

/* ------------------------------------------------------------------------------------------------ compaction */

/** At which offset each key was last written, in a table of fixed size. One thread at a time. */
typedef struct plog_key_map plog_key_map;
#define PLOG_KEY_ENTRY_BYTES 24 /* of memory per slot */
/** slots: more than max_keys, at which it is full. secret: 16 random bytes, so that nobody can prepare keys that are taken for
    one another. -EINVAL: impossible sizes. */
int32_t plog_key_map_open(plog_sys *sys, int64_t slots, int64_t max_keys, const uint8_t *secret, plog_key_map **out);
void plog_key_map_close(plog_key_map *map);
int64_t plog_key_map_count(const plog_key_map *map);

typedef struct {
  int64_t first_dirty;         /* keys from here on are entered in the map */
  int64_t upto;                /* to here: the base offset of the first segment that may not be cleaned yet */
  int64_t now_ms;              /* wall clock */
  int64_t delete_retention_ms; /* delete.retention.ms */
  int64_t io_bytes;            /* read at once; a larger batch is read whole all the same */
} plog_cleaning_settings;

typedef struct {
  int64_t next_dirty_offset; /* below it the map knows every key */
  int64_t bytes_indexed;
  int64_t records_indexed;
  int64_t bytes_read; /* in both walks */
  int64_t bytes_written;
  int64_t records_read; /* in the second one */
  int64_t records_kept;
  int64_t groups; /* put in place */
} plog_cleaning_stats;

/**
 * One pass of compaction over a log, by Kafka's rules: index until done; then for each group of segments begin, copy until
 * done, finish, plog_log_replace (the owner) and sync; close. The log and the map are borrowed until close. One thread at a
 * time, any; one pass over a log at a time. Every function may say PLOG_E_STOPPED: the log was cut, or a segment is gone;
 * PLOG_CORRUPT_MESSAGE, PLOG_INVALID_RECORD, PLOG_E_UNREADABLE: a batch is damaged; -errno. After any of them: close.
 */
typedef struct plog_cleaning plog_cleaning;
int32_t plog_cleaning_open(plog_log *log, plog_key_map *map, const plog_cleaning_settings *settings, plog_cleaning **out);
/** Removes the files of a group that was not put in place. */
void plog_cleaning_close(plog_cleaning *c);
/** Enter the keys of about io_bytes of the dirty section. *done: all of it, or the map is full. */
int32_t plog_cleaning_index(plog_cleaning *c, int32_t *done);
/** The segments of these base offsets, closed and neighbours, become one. */
int32_t plog_cleaning_begin(plog_cleaning *c, const int64_t *base_offsets, int32_t count);
/** Copy what stays of about io_bytes of the group. */
int32_t plog_cleaning_copy(plog_cleaning *c, int32_t *done);
/** Complete the files of the new segment and make them durable. */
int32_t plog_cleaning_finish(plog_cleaning *c);
/** Make what plog_log_replace renamed durable, before the files that it set aside are removed; and remove the indexes of those
    that no segment has the name of any more. */
int32_t plog_cleaning_sync(plog_cleaning *c);
void plog_cleaning_stats_read(const plog_cleaning *c, plog_cleaning_stats *out);
/** Where a pass says that a batch is damaged: the segment's base offset and the position in its file. -1, -1: nowhere. */
void plog_cleaning_position(const plog_cleaning *c, int64_t *out_base, int64_t *out_position);
/**
 * Put the finished group's segment in its place; the files of the old ones become .deleted, and readers that hold them
 * finish. Unlinking is the caller's. PLOG_E_STOPPED: the segments are not what was copied. owner
 */
int32_t plog_log_replace(plog_log *log, plog_cleaning *c);
/**
 * Append to `to` what follows in `from`, at most about most_bytes, at least one batch; *out_bytes 0: there is no more. A copy that
 * is longer than `from` is cut, one that ends before `from` begins is begun anew. *out_bytes is written on failure too: -1 when
 * reading failed, else it was writing. any for from, owner for to
 */
int32_t plog_log_copy(plog_log *from, plog_log *to, uint32_t most_bytes, int64_t now_ms, int64_t *out_bytes);
/** Give the log's directory another name, not longer than the one it has. The parent's entry is the caller's to sync. owner */
int32_t plog_log_rename(plog_log *log, const char *dir);
/** The largest timestamp of the first batch of the segment that begins at base_offset; PLOG_E_NOT_FOUND when there is no such
    segment or it is empty. Reads its beginning. any */
int32_t plog_log_first_timestamp(plog_log *log, int64_t base_offset, int64_t *out_timestamp);

/* ------------------------------------------------------------------------------------------------ records as columns */

/** Where records of many batches are laid out as columns; its memory is used again by the next decode. One thread at a time. */
typedef struct plog_columns plog_columns;
plog_columns *plog_columns_open(void); /* NULL: no memory */
void plog_columns_close(plog_columns *c);
uint8_t *plog_pages_open(size_t size_bytes); /* room to read batches into, from the beginning of a page; NULL: no memory */
void plog_pages_close(uint8_t *pages);

/** Which records are wanted. */
typedef struct {
  int64_t floor_offset;   /* batches that begin below, or below the one before them, are damaged: no CRC covers an offset */
  int64_t ceiling_offset; /* batches that begin here or above are damaged too */
  int64_t from_offset;    /* records below are left out */
  int64_t max_offset;     /* records from here on are left out; a batch that begins there is not looked at */
  int64_t decided_offset; /* transactions of batches below have ended; INT64_MAX: do not ask */
  const int64_t *aborted; /* (producer id, first offset, last offset) of batches to leave out */
  int32_t aborted_count;
} plog_columns_query;

/** A column of byte strings: number i is data[ends[i] .. ends[i + 1]), or null. */
typedef struct {
  const uint8_t *data;
  const int64_t *ends;  /* count + 1, the first is 0 */
  const uint8_t *nulls; /* count, 1: null */
  int64_t size_bytes;
  int64_t nulls_count;
} plog_bytes_column;

/** What a decode found; the arrays are the handle's, until its next decode. */
typedef struct {
  int64_t count;
  const int64_t *offsets;
  const int64_t *timestamps; /* ms; the batch's append time when it is LogAppendTime */
  const int32_t *headers_counts;
  plog_bytes_column keys;
  plog_bytes_column values;
  plog_bytes_column headers; /* encoded, after their count */
  int64_t next_offset;       /* behind the last batch taken in or passed over, at most max_offset; -1: none was */
  size_t used_bytes;         /* of those batches */
  uint32_t needed_bytes;     /* stopped PLOG_E_SHORT: the size of the batch that is cut, 0 when even that is */
  int32_t stopped; /* 0: all bytes are used. Else why the batch at used_bytes is not in: PLOG_E_SHORT; PLOG_E_STOPPED: it
                      begins at max_offset or later; PLOG_E_AGAIN: it is transactional and not below decided_offset;
                      PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT: magic 0 or 1; PLOG_CORRUPT_MESSAGE; what its records say */
} plog_columns_view;

/** Lay out the records of the whole batches in data, CRCs checked from from_offset on; control batches and aborted ones are
    passed over. any */
int32_t plog_columns_decode(plog_columns *c, const uint8_t *data, size_t size_bytes, const plog_columns_query *query,
                            plog_columns_view *out);

/* ------------------------------------------------------------------------------------------------ appending records */

/** The writer's end of a log: records in, batches out, from any thread. */
typedef struct plog_appender plog_appender;

#define PLOG_NOW 0x7fffffffffffffff /* a timestamp: the wall clock's */

typedef struct {
  int32_t codec;             /* PLOG_CODEC_* */
  int32_t level;             /* INT32_MIN: the codec's default */
  int32_t log_append_time;   /* message.timestamp.type is LogAppendTime */
  int32_t compacted;         /* cleanup.policy has compact: records need keys */
  int32_t max_message_bytes; /* max.message.bytes */
  int32_t leader_epoch;      /* written into the batches */
  int32_t batch_records;     /* at most so many records in one batch, */
  int32_t batch_bytes;       /* and so many bytes before compression, but for a single record */
  int32_t mapped_tail;       /* after so many small writes in a row they go through a mapping of the file's end; 0: never */
} plog_appender_config;

/** Borrows log until plog_appender_release; its owner's functions may then be called under plog_appender_lock only. any */
int32_t plog_appender_open(plog_sys *sys, plog_log *log, const plog_appender_config *config, plog_appender **out);
/** The log is the caller's again; whoever appends or waits gets PLOG_E_CLOSED. any */
void plog_appender_release(plog_appender *a);
void plog_appender_close(plog_appender *a); /* after release, when no other thread is inside */
int32_t plog_appender_configure(plog_appender *a, const plog_appender_config *config); /* any */
void plog_appender_lock(plog_appender *a);
void plog_appender_unlock(plog_appender *a);

/**
 * Append one record as a batch of its own. value, key: NULL for null. timestamp: ms, -1 none, PLOG_NOW.
 *   returns  its offset; -offset - 2 when plog_appender_take_attention has something to say; -1: plog_appender_error. any
 */
int64_t plog_appender_append(plog_appender *a, const uint8_t *value, int32_t value_bytes, const uint8_t *key,
                             int32_t key_bytes, int64_t timestamp);
/** The return code behind the last -1. any */
int32_t plog_appender_error(plog_appender *a);
#define PLOG_ATTENTION_FLUSH 1 /* the log rolled, or flush.messages was reached: flush it */
#define PLOG_ATTENTION_EPOCH 2 /* a leader epoch got its first record: write leader-epoch-checkpoint */
/** PLOG_ATTENTION_* bits: what happened since the last call. any */
int32_t plog_appender_take_attention(plog_appender *a);

#define PLOG_COLUMN_NULL 0 /* every one is null */
#define PLOG_COLUMN_FIXED 1
#define PLOG_COLUMN_OFFSETS32 2
#define PLOG_COLUMN_OFFSETS64 3

/** A column of byte strings to be written. Checked as it is read: offsets outside data or falling give -EINVAL. */
typedef struct {
  int32_t kind;  /* PLOG_COLUMN_* */
  int32_t width; /* FIXED: bytes of each */
  const uint8_t *data;
  int64_t data_bytes;
  const void *offsets;  /* count + 1 of int32_t or int64_t */
  const uint8_t *nulls; /* NULL: none is null; else count, not 0: null */
} plog_column;

typedef struct {
  int64_t count;
  int32_t codec; /* PLOG_CODEC_*; -1: the appender's, with its level */
  plog_column keys;
  plog_column values;
  plog_column headers;           /* encoded as plog_batch_builder_add takes them */
  const int32_t *headers_counts; /* NULL: none has headers */
  const int64_t *timestamps;     /* ms, -1 none, PLOG_NOW; NULL: PLOG_NOW */
} plog_record_columns;

/** Who writes, when it is in a transaction. */
typedef struct {
  int64_t producer_id;
  int32_t producer_epoch;
  int32_t base_sequence; /* of the first record */
} plog_producer_stamp;

typedef struct {
  int64_t first_offset;
  int64_t end_offset; /* one past the last; set when the call fails too: records before it are in the log */
  int32_t attention;  /* not 0: plog_appender_take_attention has something to say */
} plog_appended;

/** Append records in as many batches as they take, one behind the other. producer NULL: no transaction. any */
int32_t plog_appender_append_columns(plog_appender *a, const plog_record_columns *in, const plog_producer_stamp *producer,
                                     plog_appended *out);
/** Append one whole batch; base offset and leader epoch are stamped here, in place. any */
int32_t plog_appender_append_batch(plog_appender *a, uint8_t *batch, size_t size_bytes, int64_t *out_last);
/** Wait until the log end offset is above offset: 0, PLOG_REQUEST_TIMED_OUT, PLOG_E_CLOSED. any */
int32_t plog_appender_wait(plog_appender *a, int64_t offset, int64_t timeout_ms);

/** What one step of a scrub has found. */
typedef struct {
  int64_t next_position; /* where the next step begins; at or behind size_bytes: the segment is done */
  int64_t size_bytes;
  int32_t damaged;          /* a batch, with which the step has ended */
  uint32_t damaged_bytes;   /* 0: it cannot be told */
  int64_t damaged_position; /* -1 none */
  int64_t first_offset;     /* -1: it cannot be told */
  int64_t last_offset;
} plog_scrub_result;
#define PLOG_SCRUB_STEP_BYTES 1048576
/**
 * Compare the CRCs of the batches that begin in most_bytes (up to PLOG_SCRUB_STEP_BYTES) from position on, where one begins, of the
 * closed segment at base_offset, and leave in the page cache what was there before. Who serves a damaged segment looks at it anew.
 *   returns  0 | PLOG_E_NOT_FOUND: no such segment is closed | -errno: it cannot be read. any
 */
int32_t plog_log_scrub(plog_log *log, int64_t base_offset, int64_t position, int64_t most_bytes, plog_scrub_result *out);

/* ------------------------------------------------------------------------------------------------ the engine */

/** Reactor, hosted partitions, connections, purgatory and the upcall ring: the data plane of one broker. */
typedef struct plog_engine plog_engine;

typedef struct {
  int32_t broker_id;
  int32_t max_request_bytes;       /* socket.request.max.bytes */
  int32_t send_buffer_bytes;       /* socket.send.buffer.bytes; -1: the system's */
  int32_t receive_buffer_bytes;    /* socket.receive.buffer.bytes; -1: the system's */
  int64_t connections_max_idle_ms; /* connections.max.idle.ms; -1: never */
  int32_t max_connections;         /* max.connections */
  int32_t max_connections_per_ip;  /* max.connections.per.ip */
  int32_t fetch_max_bytes;         /* fetch.max.bytes */
  int32_t fetch_session_slots;     /* max.incremental.fetch.session.cache.slots */
  int32_t disk_threads;            /* threads for reads that are not in the page cache */
  int32_t send_mode;               /* 0 sendfile, 1 pread + send, 2 send from a mapping */
  int64_t answer_cache_bytes;      /* room for answers that Python marked cacheable; 0: none */
  int64_t replica_lag_time_max_ms; /* replica.lag.time.max.ms */
  int64_t max_upcall_bytes;        /* requests that Python has not answered; beyond it connections are not read */
} plog_engine_config;

int32_t plog_engine_open(plog_sys *sys, const plog_engine_config *config, plog_engine **out);
/** Start the reactor thread. any */
int32_t plog_engine_start(plog_engine *e);
/** Stop accepting and reading, send what is ready for at most drain_ms, end the threads; plog_engine_poll then says
    PLOG_E_STOPPED. Partitions stay. any */
int32_t plog_engine_stop(plog_engine *e, int32_t drain_ms);
/** Free everything, partitions with their logs included (closed as clean says). After plog_engine_stop. */
int32_t plog_engine_close(plog_engine *e, int32_t clean);

/**
 * Listen on an IPv4 or IPv6 address in text ("" = any) and a port (0 = a free one).
 * listener_id comes back with each request. *out_port: the port bound. any
 */
int32_t plog_engine_listen(plog_engine *e, const char *address, int32_t port, int32_t listener_id, int32_t *out_port);

#define PLOG_ROLE_OFFLINE 0 /* hosted but failed: every request gets KAFKA_STORAGE_ERROR */
#define PLOG_ROLE_LEADER 1
#define PLOG_ROLE_FOLLOWER 2

/** All that Python decides about a hosted partition; published whole, taken up between two requests. */
typedef struct {
  int32_t role; /* PLOG_ROLE_* */
  int32_t leader_epoch;
  int32_t leader_id;       /* -1 none */
  const int32_t *replicas; /* broker ids, copied */
  int32_t replicas_count;
  const int32_t *isr; /* broker ids, copied */
  int32_t isr_count;
  const int32_t *joining; /* broker ids that the controller has been asked to add to the ISR, copied: what they lack is not
                             committed, but for min.insync.replicas they do not count */
  int32_t joining_count;
  int32_t min_insync_replicas;     /* min.insync.replicas; capped at the replica count */
  int32_t max_message_bytes;       /* max.message.bytes */
  int32_t timestamp_type;          /* 0 CreateTime, 1 LogAppendTime */
  int64_t timestamp_before_max_ms; /* message.timestamp.before.max.ms */
  int64_t timestamp_after_max_ms;  /* message.timestamp.after.max.ms */
  int32_t compression;             /* -1: as the producer sent it; else a PLOG_CODEC_* to store with */
  int32_t compression_level;       /* INT32_MIN: the codec's default */
  int32_t compacted;               /* cleanup.policy has compact: records need keys */
  int32_t internal;                /* clients may not produce to it: INVALID_TOPIC_EXCEPTION */
  int64_t high_watermark; /* used only when the partition is added or becomes leader; -1: the log's end for one replica */
} plog_partition_state;

/** A partition as it is now. */
typedef struct {
  int32_t role;
  int32_t leader_epoch;
  int64_t log_start_offset;
  int64_t log_end_offset;
  int64_t high_watermark;
  int64_t last_stable_offset;
  int64_t size_bytes;
} plog_partition_info;

/**
 * Host a partition. takes log. topic_id: 16 bytes. *out_partition: its number for the calls below and in upcalls; never
 * reused. Same topic name with another id while partitions of the old id are hosted: PLOG_INCONSISTENT_TOPIC_ID. any
 */
int32_t plog_engine_add_partition(plog_engine *e, const char *topic, const uint8_t *topic_id, int32_t index, plog_log *log,
                                  const plog_partition_state *state, int64_t *out_partition);

/** One of many partitions to host: what plog_engine_add_partition takes, and what it says. */
typedef struct {
  const char *topic;
  const uint8_t *topic_id;
  plog_log *log; /* taken when rc is 0. NULL: its directory has failed, every request gets KAFKA_STORAGE_ERROR */
  const plog_partition_state *state;
  int64_t partition; /* out */
  int32_t index;
  int32_t rc; /* out */
} plog_hosting;

/**
 * Host many partitions, each for itself, with a wait for the reactor per some hundreds instead of one for each; between
 * those the reactor serves. any
 */
void plog_engine_add_partitions(plog_engine *e, plog_hosting *hostings, int32_t count);
/** any; returns when the reactor has taken it up */
int32_t plog_engine_publish(plog_engine *e, int64_t partition, const plog_partition_state *state);

/** What is true of one of many partitions. */
typedef struct {
  int64_t partition;
  const plog_partition_state *state;
  int32_t rc; /* out: what plog_engine_publish says */
  int32_t reserved;
} plog_publication;

/** The same for many, each for itself: requests that wait for some of them look again once per some hundreds. any */
void plog_engine_publish_all(plog_engine *e, plog_publication *publications, int32_t count);
/**
 * Stop hosting: parked requests are answered with `error`, later ones as those for any partition that is not hosted (see
 * plog_engine_publish_leaders); slices in flight are finished from files still open. *out_log: the caller's again. any
 */
int32_t plog_engine_remove_partition(plog_engine *e, int64_t partition, int32_t error, plog_log **out_log);
/** The same for many at once; out_logs: as many, NULL where none was hosted under that number. any */
void plog_engine_remove_partitions(plog_engine *e, const int64_t *partitions, int32_t count, int32_t error,
                                   plog_log **out_logs);
/**
 * The directory of these partitions has failed: who waits gets KAFKA_STORAGE_ERROR, and so does whoever asks later, until they
 * are removed. The functions about a partition say PLOG_E_CLOSED. out_logs: as many, the caller's again, NULL where none was. any
 */
void plog_engine_take_offline(plog_engine *e, const int64_t *partitions, int32_t count, plog_log **out_logs);
/**
 * Go on with another log: the partition's own log is copied to its end into `log`, whose directory is then renamed to `dir`
 * (plog_log_rename), and from then on is what is read and written. takes log. *out_old: the caller's again.
 *   returns  0 | PLOG_E_AGAIN: more than most_bytes are missing; some were copied | PLOG_KAFKA_STORAGE_ERROR | what writing to log
 *            says. any
 */
int32_t plog_engine_exchange_log(plog_engine *e, int64_t partition, plog_log *log, const char *dir, uint32_t most_bytes,
                                 plog_log **out_old);
/**
 * Keep room on the disk of the data directory dir: when less is left than the larger of the two, records that clients send to
 * its partitions are refused with KAFKA_STORAGE_ERROR; both 0: never. PLOG_UP_ROOM tells when that begins and ends. any
 */
int32_t plog_engine_keep_room(plog_engine *e, const char *dir, int64_t reserve_bytes, double reserve_percent);
/**
 * Partitions of the data directory dir that are hosted from now on, with logs that are on the disk to their ends (plog_log_flush):
 * an answer to acks != 0 waits for a sync that all partitions of the directory share, and consumers read what is on the disk.
 * always: of every record, otherwise when a log's flush_messages records or more are not on the disk yet.
 * A sync that fails is the last one: everybody who waits, and whoever writes later, gets KAFKA_STORAGE_ERROR; PLOG_UP_SYNC_FAILED. any
 */
int32_t plog_engine_keep_synced(plog_engine *e, const char *dir, int32_t always);
int32_t plog_engine_partition_info(plog_engine *e, int64_t partition, plog_partition_info *out); /* any */
/** The same of many, each of its own moment; role -1: it is not hosted. any */
void plog_engine_partition_infos(plog_engine *e, const int64_t *partitions, int32_t count, plog_partition_info *out);
/** The log behind a partition, borrowed: for the plog_log functions marked "any", while the partition is hosted. any */
plog_log *plog_engine_partition_log(plog_engine *e, int64_t partition);
/**
 * Append one batch as the leader, offsets and leader epoch stamped here (the coordinators' way in). acks -1: PLOG_UP_COMMITTED
 * follows when the high watermark passes it (at once with one replica: then *out_committed is 1 and none follows).
 * PLOG_NOT_LEADER_OR_FOLLOWER, PLOG_NOT_ENOUGH_REPLICAS, PLOG_KAFKA_STORAGE_ERROR, ... any
 */
int32_t plog_engine_append(plog_engine *e, int64_t partition, const uint8_t *batch, size_t size_bytes, int64_t token,
                           int64_t *out_base, int64_t *out_last, int32_t *out_committed);
/** One of many appends. Of base, last and committed nothing is said when rc is not 0. */
typedef struct {
  int64_t partition;
  const uint8_t *batch;
  size_t size_bytes;
  int64_t token;
  int64_t
      heard; /* where the last PLOG_UP_OFFSETS of the partition ended that whoever decided this had heard: rc is PLOG_E_AGAIN
                        if there are later ones. INT64_MAX: whatever there is, as with plog_engine_append */
  int64_t base;      /* out */
  int64_t last;      /* out */
  int32_t committed; /* out */
  int32_t rc;        /* out: what plog_engine_append says */
} plog_appending;

/** The same for many, in order, each for itself, with a wait for the reactor for some dozens of them. any */
void plog_engine_append_all(plog_engine *e, plog_appending *items, int32_t count);
/**
 * Append batches fetched from the leader, stamped by it, to a partition whose role is follower, and take over the leader's
 * high watermark (as far as the log reaches) and log start. size_bytes 0: only those. *out_last: the last offset in the log.
 * PLOG_NOT_LEADER_OR_FOLLOWER, PLOG_KAFKA_STORAGE_ERROR, or what plog_log_append says. any
 */
int32_t plog_engine_append_follower(plog_engine *e, int64_t partition, const uint8_t *batches, size_t size_bytes,
                                    int64_t leader_high_watermark, int64_t leader_log_start, int64_t *out_last);
/** The owner's functions of plog_log, run on the reactor. any */
int32_t plog_engine_configure_log(plog_engine *e, int64_t partition, const plog_log_config *config);
int32_t plog_engine_roll(plog_engine *e, int64_t partition);
int32_t plog_engine_truncate(plog_engine *e, int64_t partition, int64_t offset, int32_t fully);
/** DeleteRecords: offset -1 means the high watermark. *out_start: the new log start. PLOG_OFFSET_OUT_OF_RANGE. any */
int32_t plog_engine_delete_records(plog_engine *e, int64_t partition, int64_t offset, int64_t *out_start);
int32_t plog_engine_delete_segments(plog_engine *e, int64_t partition, int64_t upto, int32_t *count);
int32_t plog_engine_expire_producers(plog_engine *e, int64_t partition, int64_t before_ms, int32_t *count);
int32_t plog_engine_replace(plog_engine *e, int64_t partition, plog_cleaning *c);

/* Upcalls: what C tells Python. */
#define PLOG_UP_REQUEST 1       /* a request that Python answers */
#define PLOG_UP_CLOSED 2        /* a connection that handed over a request is gone; conn only */
#define PLOG_UP_COMMITTED 3     /* plog_engine_append(token) passed the high watermark; error != 0: it will not */
#define PLOG_UP_ROLLED 4        /* partition rolled: offset = the new base */
#define PLOG_UP_EPOCH 5         /* a new leader epoch got its first record: write leader-epoch-checkpoint */
#define PLOG_UP_STORAGE_ERROR 6 /* a write or sync failed: error = errno. Produce is refused until it is published again */
#define PLOG_UP_ISR \
  8 /* a follower caught up (a = broker id, b = 1, token = the broker epoch it said) or fell behind (b = 0) */
#define PLOG_UP_GRANT 9 /* what may principal a do to resource b (PLOG_RESOURCE_*) whose name is body? conn waits */
#define PLOG_UP_ROOM 10 /* a = 0: too little room is left in data directory body; 1: enough; b: bytes above the reserve */
#define PLOG_UP_SYNC_FAILED 11 /* data directory body could not be synced: error = errno. It is lost */
#define PLOG_UP_DAMAGE \
  12 /* a batch in file body, at position token, is damaged: offset (-1: unknown) to a, b bytes; error: errno,
                                   it cannot be read. Once for each while the segment is open */
#define PLOG_UP_FOLLOW \
  13 /* what a leader answered about partition when it was asked for offset in leader epoch slot by fetcher token. error 0: the
        logs diverge, the leader's epoch a ends at offset b; else Kafka's code. Paused until it is followed again when error is 0
        or a = 1; with a = 0 it is asked for again after backoff_ms, and this is told once until the error changes */
#define PLOG_UP_FETCHER \
  14 /* fetcher token: a = 1 connected; 0 not so, for the reason error (an errno; told once until it changes); 2 its leader
        answers Kafka's error `error` to whole requests. It goes on trying */

#define PLOG_UP_VERIFY \
  15 /* are these partitions part of a transaction (KIP-890)? body: its id (int16 length, text), producer id (int64) and epoch
        (int16), count (int32) and so many partition numbers (int64). plog_engine_verified answers; conn waits for it by slot */
#define PLOG_UP_OFFSETS \
  16 /* offsets that C took from members of groups are in partition, from offset on: body has a records, each: int32 size, key, int32
        size, value. slot: the leader epoch; b: the high watermark: if that has not passed them, PLOG_UP_COMMITTED follows */

typedef struct {
  int32_t kind; /* PLOG_UP_* */
  int32_t error;
  int64_t conn; /* connection number, never reused */
  int64_t slot; /* which answer of the connection this will be */
  int64_t partition;
  int64_t offset;
  int64_t token;
  int64_t a;
  int64_t b;
  int32_t api_key;
  int32_t api_version;
  int32_t correlation_id;
  int32_t listener_id;
  int64_t received_ms;      /* monotonic */
  const uint8_t *client_id; /* not terminated; NULL: null */
  int32_t client_id_bytes;
  const uint8_t *body; /* the request behind its client id: with a flexible header, tags first; until release */
  uint32_t body_bytes;
  int64_t generation; /* of the answer cache when the request was handed over; of the grants when they were asked for */
} plog_upcall;

/** Wait at most timeout_ms (-1: for ever) and take up to capacity upcalls. *count 0: time is up, or plog_engine_wake. One
    thread at a time; PLOG_E_STOPPED when the engine has stopped and nothing is left. */
int32_t plog_engine_poll(plog_engine *e, int32_t timeout_ms, plog_upcall *out, int32_t capacity, int32_t *count);
void plog_engine_wake(plog_engine *e); /* any */
/** Give back the bytes of one upcall that has a body. any */
void plog_engine_release(plog_engine *e, const plog_upcall *upcall);
/** Where a connection comes from and arrived: "ip" texts of at most 46 bytes with the terminator. PLOG_E_CLOSED. any */
int32_t plog_engine_peer(plog_engine *e, int64_t conn, char *peer_address, int32_t *peer_port, char *local_address,
                         int32_t *local_port);

/**
 * Answer a request. data: the response from its header on (the size is put in front here), copied. cacheable != 0: the same
 * request bytes (key, version, body) on the same listener and local address are answered by C from now on with these bytes
 * (correlation id replaced), until plog_engine_invalidate; `generation` is the upcall's, and an old one is not cached. any
 */
int32_t plog_engine_answer(plog_engine *e, int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes,
                           int32_t cacheable, int64_t generation);
/** The same, not cacheable, for one of many: they go out together, at the latest when plog_engine_poll is called next. The
    thread that polls */
int32_t plog_engine_answer_soon(plog_engine *e, int64_t conn, int64_t slot, const uint8_t *data, size_t size_bytes);
/** on != 0: records of Produce that would begin a transaction in a partition are asked about with PLOG_UP_VERIFY before they are
    taken. Those of version 12 and up always are, because their partitions are to be added to the transaction. any */
void plog_engine_verify_transactions(plog_engine *e, int32_t on);
/** Answer a PLOG_UP_VERIFY: Kafka's error for each of its partitions, 0 for those that are part of the transaction. any */
int32_t plog_engine_verified(plog_engine *e, int64_t conn, int64_t slot, const int16_t *errors, int32_t count);
/** A request that gets no answer (acks=0 kinds). any */
int32_t plog_engine_skip(plog_engine *e, int64_t conn, int64_t slot);
/** Forget all cached answers: call after the new truth is readable, before a change is answered. any */
void plog_engine_invalidate(plog_engine *e);
/** Do not read from conn for ms (quota). any */
int32_t plog_engine_throttle(plog_engine *e, int64_t conn, int32_t ms);
int32_t plog_engine_disconnect(plog_engine *e, int64_t conn); /* any */

/** A broker's address on a listener, told (Produce 10, Fetch 16 and up) to clients that came to the wrong broker. host NULL:
    forget it; rack NULL: none. any */
int32_t plog_engine_publish_node(plog_engine *e, int32_t listener_id, int32_t broker_id, const char *host, int32_t port,
                                 const char *rack);

/** Who leads a partition. */
typedef struct {
  int32_t leader_id;    /* -1: nobody now */
  int32_t leader_epoch; /* -1: there is no such partition */
} plog_leader;

/** What is told of one of many topics of the cluster: the leaders of some of its partitions; what is known of the others stays,
    but for those of another topic_id. */
typedef struct {
  const char *topic;
  const uint8_t *topic_id; /* 16 bytes; all zeros: it has none */
  const int32_t *indexes;
  const plog_leader *leaders; /* as many */
  int32_t count;              /* 0: the topic is gone */
  int32_t internal;           /* clients may not produce to it */
  int32_t rc;                 /* out: 0 | PLOG_INVALID_TOPIC_EXCEPTION: name or index impossible | -ENOMEM */
  int32_t reserved;
} plog_topic_leaders;

/** Tell of partitions wherever they are: requests for one that is not hosted here get NOT_LEADER_OR_FOLLOWER with its leader, while
    those for one that nobody told of get UNKNOWN_TOPIC_OR_PARTITION (or UNKNOWN_TOPIC_ID). any */
void plog_engine_publish_leaders(plog_engine *e, plog_topic_leaders *topics, int32_t count);

/* ------------------------------------------------------------------------------------------------ following */

/** How partitions are fetched from one leader. Texts are copied. */
typedef struct {
  int32_t leader_id;
  const char *host; /* an address or a name, which is looked up anew for each connection */
  int32_t port;
  const char *client_id;
  int32_t replica_id;           /* this broker's */
  int64_t broker_epoch;         /* this broker's, -1 unknown; leaders are told from version 15 on */
  int32_t max_wait_ms;          /* replica.fetch.wait.max.ms */
  int32_t min_bytes;            /* replica.fetch.min.bytes */
  int32_t max_bytes;            /* replica.fetch.response.max.bytes */
  int32_t partition_max_bytes;  /* replica.fetch.max.bytes */
  int32_t backoff_ms;           /* replica.fetch.backoff.ms */
  int32_t receive_buffer_bytes; /* replica.socket.receive.buffer.bytes; -1: the system's */
  int32_t connect_timeout_ms;   /* socket.connection.setup.timeout.ms */
  int32_t request_timeout_ms;   /* replica.socket.timeout.ms */
  int32_t fetch_version;        /* 12..17; 12 also while a topic without an id is followed */
} plog_fetcher_config;

/** A connection to a leader, made when there is something to follow. -EINVAL: an impossible setting. any */
int32_t plog_engine_open_fetcher(plog_engine *e, const plog_fetcher_config *config, int64_t *out_fetcher);
/** Its partitions are followed no more. PLOG_E_NOT_FOUND: no such fetcher, and so with the next ones. any */
int32_t plog_engine_close_fetcher(plog_engine *e, int64_t fetcher);
/** The leader is somewhere else, where it is asked at once, or our broker epoch is another. any */
int32_t plog_engine_configure_fetcher(plog_engine *e, int64_t fetcher, const char *host, int32_t port,
                                      int64_t broker_epoch);
/**
 * Fetch partitions whose role is follower, from the end of their logs on, with their leader epochs as they were published; also
 * those that were paused, or that another fetcher had. They are followed until plog_engine_unfollow, another role, or their removal.
 *   results  for each: 0 | PLOG_E_CLOSED: it is not hosted | PLOG_NOT_LEADER_OR_FOLLOWER: it is no follower | -ENOMEM. any
 */
int32_t plog_engine_follow(plog_engine *e, int64_t fetcher, const int64_t *partitions, int32_t count, int32_t *results);
/** Stop: once this returns nothing more is appended to them. Harmless for those that are not followed. any */
void plog_engine_unfollow(plog_engine *e, const int64_t *partitions, int32_t count);

/** A replica as its leader sees it. */
typedef struct {
  int32_t broker_id;
  int32_t in_isr;
  int32_t joining;
  int32_t reserved;
  int64_t log_end;   /* -1: it has not fetched in this leader epoch, and so the next three */
  int64_t log_start; /* of its log */
  int64_t lag_ms;    /* since it had everything */
  int64_t broker_epoch;
} plog_replica_info;
/** The replicas of a partition that is led here, as many as fit; *count: how many there are. Its own entry has the log's ends.
    PLOG_NOT_LEADER_OR_FOLLOWER. any */
int32_t plog_engine_replicas(plog_engine *e, int64_t partition, plog_replica_info *out, int32_t capacity, int32_t *count);

/** The replicas of one of many partitions: what plog_engine_replicas takes, and what it says. */
typedef struct {
  int64_t partition;
  plog_replica_info *out;
  int32_t capacity;
  int32_t count; /* out */
  int32_t rc;    /* out */
  int32_t reserved;
} plog_replica_list;
/** any */
void plog_engine_replicas_of(plog_engine *e, plog_replica_list *lists, int32_t count);

#define PLOG_THROTTLED_LEADING 1   /* leader.replication.throttled.replicas names this replica */
#define PLOG_THROTTLED_FOLLOWING 2 /* follower.replication.throttled.replicas does */
/** Which of the rates below bind these partitions: PLOG_THROTTLED_* bits. any */
void plog_engine_mark_throttled(plog_engine *e, const int64_t *partitions, int32_t count, int32_t sides);
/** leader.replication.throttled.rate and follower.replication.throttled.rate, bytes per second; -1: none. Replicas in sync are
    not held back. any */
void plog_engine_throttle_replication(plog_engine *e, int64_t leader_rate, int64_t follower_rate);
/** on != 0: consumers that say their rack are sent to an in-sync replica in it (replica.selector.class is RackAware), by the racks
    that plog_engine_publish_node was told for their listener. any */
void plog_engine_select_by_rack(plog_engine *e, int32_t on);

/* ------------------------------------------------------------------------------------------------ authorization */

/* Every connection belongs to a principal, a number that Python gives out: one for each thing that the answer may depend on
   (the name, and the host where rules name hosts). For each Produce and Fetch, C asks what its principal may do to what the
   request names; what has not been published is asked with PLOG_UP_GRANT, and the connection is not served until then. */
#define PLOG_PRINCIPAL_ANY 2147483647

/* Kafka's ResourceType. */
#define PLOG_RESOURCE_ANY 1 /* everything; without a name */
#define PLOG_RESOURCE_TOPIC 2
#define PLOG_RESOURCE_GROUP 3
#define PLOG_RESOURCE_CLUSTER 4 /* without a name */
#define PLOG_RESOURCE_TRANSACTIONAL_ID 5

/* What may be done: bit n is Kafka's AclOperation n. */
#define PLOG_GRANT_READ 8             /* Fetch of a topic; Heartbeat of a group */
#define PLOG_GRANT_WRITE 16           /* Produce to a topic; transactional records under a transactional id */
#define PLOG_GRANT_CLUSTER_ACTION 512 /* Fetch as a follower */
#define PLOG_GRANT_ALL 536

/**
 * What principal may do to a resource: all of it, what is not among operations (PLOG_GRANT_*) is denied. PLOG_RESOURCE_ANY:
 * these operations on every resource; with PLOG_PRINCIPAL_ANY, for every principal (no authorizer). Grants add up.
 * generation: the upcall's, and the answer to a question that was asked before a revocation is ignored; 0: it holds now. any
 */
int32_t plog_engine_publish_grant(plog_engine *e, int32_t principal, int32_t resource, const uint8_t *name,
                                  size_t name_bytes, uint32_t operations, int64_t generation);
/** Forget all grants: call after the new rules are readable, before their change is answered; no request that comes later is
    served by an old one. Those already being served go on, as in Kafka. any */
int32_t plog_engine_revoke_grants(plog_engine *e);
/** The connection is principal's from its next request on; 0: its listener's. Asked about anew when it waits. PLOG_E_CLOSED. any
 */
int32_t plog_engine_set_principal(plog_engine *e, int64_t conn, int32_t principal);
/** The principal of the connections of a listener that were given none; 0 at first. listener_id: 0..PLOG_LISTENER_ID_MAX. any */
int32_t plog_engine_set_listener_principal(plog_engine *e, int32_t listener_id, int32_t principal);
#define PLOG_LISTENER_ID_MAX 1023

/* ------------------------------------------------------------------------------------------------ members of groups */

/* The heartbeat of a member that was published, that says just what was published, finds nothing changed: C answers it, when its
   principal may read the group (nothing is asked for it: what is not known is an upcall), and notes when it came. Every other
   heartbeat is an upcall. Members are one after the other in Kafka's encoding of strings with 16 bits of length.
   So is a plain OffsetCommit of such a member (offset_commit.h), if it was published with a partition to keep the offsets. */

/** Take offsets from now on: metadata of at most metadata_max_bytes, answers within timeout_ms. 0 | -ENOMEM. any */
int32_t plog_engine_take_offsets(plog_engine *e, int32_t timeout_ms, int32_t metadata_max_bytes);
/** From now on these members' heartbeats are C's in this epoch (a classic group's generation), and their offsets, which are written
    to partition offsets; -1: not those. Each: its id, and its instance id or null. When each was heard before stays known.
    0 | -ENOMEM: the rest is not published | -EINVAL. any */
int32_t plog_engine_publish_members(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, int32_t epoch,
                                    int64_t offsets, const uint8_t *members, size_t members_bytes);
/** What a heartbeat of a member of the consumer protocol (KIP-848) has to say, and what it is told. */
typedef struct {
  int32_t epoch;
  int32_t heartbeat_interval_ms;
  int32_t commits_since; /* offsets are taken in this version of OffsetCommit and later ones */
  int64_t offsets;       /* as of plog_engine_publish_members */
  int64_t topics;        /* the number of the topics for which that was decided */
} plog_consumer_terms;

/** Likewise of one member of the consumer protocol, for whom C answers ConsumerGroupHeartbeat, as long as it says nothing but who it
    is, with the same client id from the same address, and the topics have not changed. member: its id, its instance id or null,
    the client id and the address as plog_engine_peer gives it. Its offsets are taken, whatever the topics: they are no sign of
    life of it. 0 | -ENOMEM | -EINVAL. any */
int32_t plog_engine_publish_consumer(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *member,
                                     size_t member_bytes, const plog_consumer_terms *terms);
/** The number of the topics, which rises with every change: when this has returned, no heartbeat of a member that was published with
    another is answered by C. 0. any */
int32_t plog_engine_topics_changed(plog_engine *e, int64_t topics);
/** When this has returned, no heartbeat of these members (ids alone) is answered by C, and no offset is taken. forget != 0: nor is
    it known any more when they were heard; every member that is published is forgotten in the end. 0 | -EINVAL. any */
int32_t plog_engine_withdraw_members(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *members,
                                     size_t members_bytes, int32_t forget);
/** How many ms ago C last answered a heartbeat of this member, or took offsets; -1: never, or it was forgotten. any */
int64_t plog_engine_member_heard(plog_engine *e, const uint8_t *group_id, size_t group_id_bytes, const uint8_t *member_id,
                                 size_t member_id_bytes);

/** Which versions C answers itself for Produce (0) and Fetch (1); outside, the connection is closed as Kafka does. any */
int32_t plog_engine_serve(plog_engine *e, int32_t api_key, int32_t min_version, int32_t max_version);

/** Counters since start; all monotonic but the ones marked now. */
typedef struct {
  int64_t connections_now;
  int64_t connections;
  int64_t requests;
  int64_t produce_requests;
  int64_t fetch_requests;
  int64_t upcalls;
  int64_t cached_answers;
  int64_t heartbeats;     /* answered without Python */
  int64_t offset_commits; /* likewise */
  int64_t bytes_in;
  int64_t bytes_out;
  int64_t records_in;
  int64_t batches_in;
  int64_t failed_produce;
  int64_t failed_fetch;
  int64_t malformed;
  int64_t delayed_now; /* parked produce and fetch requests */
  int64_t cold_reads;
  int64_t fetch_sessions_now;
  int64_t buffer_bytes_now; /* receive and send buffers held */
  int64_t turns;
  int64_t syncs;           /* of groups of partitions */
  int64_t sync_us;         /* that they took */
  int64_t checked_bytes;   /* compared with their CRCs before they were served */
  int64_t damaged_batches; /* that were found so */
  int64_t produced_bytes;  /* of record batches, as clients sent them */
  int64_t fetched_bytes;   /* of record batches, given to clients */
  int64_t replicated_in_bytes;
  int64_t replicated_out_bytes;
} plog_engine_stats;
void plog_engine_stats_read(plog_engine *e, plog_engine_stats *out); /* any */

#define PLOG_COUNTED_APIS 96
#define PLOG_KIND_FOLLOWER_FETCH 96 /* the other kinds of requests are API keys; Fetch is that of clients */
#define PLOG_REQUEST_KINDS 97
#define PLOG_TIME_BUCKETS 42

/** Requests of one kind, from when they are noticed until the kernel has their answers. Times are those that have it, by how long
    it took; of that they waited for what they asked to wait for, and the rest is ours. */
typedef struct {
  int64_t requests; /* that came */
  int64_t bytes_in; /* with the size before them */
  int64_t bytes_out;
  int64_t total_ns;
  int64_t waited_ns;
  int64_t total[PLOG_TIME_BUCKETS];
  int64_t ours[PLOG_TIME_BUCKETS];
  int64_t waited; /* how many of them did */
} plog_request_times;
/** 0 | -EINVAL: there is no such kind. any */
int32_t plog_engine_request_times(plog_engine *e, int32_t kind, plog_request_times *out);
/** The longest time that a bucket counts and the one before does not; -1: the last one, which has no bound. any */
int64_t plog_time_bound_us(int32_t bucket);

/** What clients have put into the partitions of a topic that are here, and been given, since its first was hosted. */
typedef struct {
  int64_t records_in;
  int64_t bytes_in;
  int64_t bytes_out;
} plog_topic_stats;
/** Of the topic of a partition. 0 | PLOG_E_CLOSED: it is not hosted. any */
int32_t plog_engine_topic_stats(plog_engine *e, int64_t partition, plog_topic_stats *out);

/* cdef:end */

#ifdef __cplusplus
}
#endif
#endif
