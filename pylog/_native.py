"""The only importer of the C module's lower half: system calls, codecs, record batches, logs.

Keeps true: every return code is looked at, in `check`; every handle is closed once, by its `close`, and a closed one
raises ValueError instead of reaching C. Whoever closes a handle sees to it that no other thread is inside one of its
calls. What may be called from which thread is said in csrc/plog.h: "any" and "owner" mean the same here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct

from pylog._plog import ffi, lib
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import Any

INT32_MIN = -(1 << 31)
INT64_MAX = (1 << 63) - 1

# Room for bytes that C fills: clearing it first would cost as much as filling it.
_new_bytes = ffi.new_allocator(should_clear_after_alloc=False)
_HEADER = Struct("@qiiiIiiqqqiiiI")  # plog_batch_header
assert _HEADER.size == ffi.sizeof("plog_batch_header")
_RECORD = Struct("@qqPiPiPii")  # plog_record
assert _RECORD.size == ffi.sizeof("plog_record")

_KAFKA_CODE = {
    lib.PLOG_E_SHORT: ErrorCode.CORRUPT_MESSAGE,
    lib.PLOG_E_MALFORMED: ErrorCode.CORRUPT_MESSAGE,
    lib.PLOG_E_CODEC_MISSING: ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    lib.PLOG_E_UNKNOWN_CODEC: ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    lib.PLOG_E_BUFFER_TOO_SMALL: ErrorCode.MESSAGE_TOO_LARGE,
}

_CONDITIONS = {
    lib.PLOG_E_SHORT: "the bytes end before the thing they hold does",
    lib.PLOG_E_MALFORMED: "the bytes break their format",
    lib.PLOG_E_CODEC_MISSING: "the codec's library is not on this machine",
    lib.PLOG_E_UNKNOWN_CODEC: "no such codec",
    lib.PLOG_E_BUFFER_TOO_SMALL: "larger than the limit",
}


class NativeError(Exception):
    """A condition of the C library that has no Kafka code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"condition {code}")
        self.code = code


def check(rc: int, what: str | None = None) -> None:
    """Raise what a return code means: OSError for -errno, KafkaError, NativeError. Nothing for 0. what: a path, a
    name."""
    if rc == 0:
        return
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc), what)
    if rc in _KAFKA_CODE:
        raise KafkaError(_KAFKA_CODE[rc], _CONDITIONS[rc] if what is None else f"{what}: {_CONDITIONS[rc]}")
    if rc < 1000:
        raise KafkaError(ErrorCode(rc), what and f"{what}: {ErrorCode(rc).message}")
    raise NativeError(rc)


class Sys:
    """The table of system calls, with faults to arm. Any thread."""

    __slots__ = ("_pointer",)

    def __init__(self) -> None:
        self._pointer = lib.plog_sys_open()
        if not self._pointer:
            raise MemoryError("plog_sys_open")

    @property
    def pointer(self) -> Any:
        if not self._pointer:
            raise ValueError("the system call table is closed")
        return self._pointer

    def fault(self, call: int, nth: int, error: int, *, short_bytes: int = 0, repeat: int = 1) -> None:
        """Let the nth call of `call` from now fail with errno `error`, or (0) move only short_bytes. call -1: any."""
        check(lib.plog_sys_fault(self.pointer, call, nth, error, short_bytes, repeat))

    def count(self, call: int = -1) -> int:
        """How often `call` was made; -1: all together."""
        return int(lib.plog_sys_count(self.pointer, call))

    def use_descriptors(self) -> int:
        """Let this process, a broker, have as many descriptors as it may, and logs their part of them; how many it may
        have. Raises OSError."""
        allowed = int(lib.plog_sys_use_descriptors(self.pointer))
        check(min(allowed, 0))
        return allowed

    def checked_bytes(self) -> int:
        """Bytes of segments that openings have checked so far, those under way included."""
        return int(lib.plog_sys_checked_bytes(self.pointer))

    def syncs_all(self, fd: int) -> None:
        """Raises OSError when `sync_all(fd)` would not tell of every write that failed since fd was opened: ENOSYS for
        the kernel's sake, EOPNOTSUPP for the file system's."""
        check(lib.plog_sys_syncs_all(self.pointer, fd))

    def sync_all(self, fd: int) -> None:
        """Make durable all that was written to the file system of fd, a regular file. Raises OSError; then what was
        written may be lost, and it is not told again."""
        check(lib.plog_sys_sync_all(self.pointer, fd))

    def close(self) -> None:
        if self._pointer:
            lib.plog_sys_close(self._pointer)
            self._pointer = None


# -------------------------------------------------------------------------------------------------- checksums, codecs


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of data, continued from crc."""
    return int(lib.plog_crc32c(crc, ffi.from_buffer(data), len(data)))


def crc32c_name() -> str:
    """Which implementation this CPU uses."""
    return str(ffi.string(lib.plog_crc32c_name()).decode())


def compress(codec: int, data: bytes, level: int | None = None) -> bytes:
    """Compress all of data."""
    bound = lib.plog_codec_bound(codec, len(data))
    out = _new_bytes("uint8_t[]", max(bound, 1))
    size = ffi.new("size_t *")
    check(
        lib.plog_codec_compress(
            codec, INT32_MIN if level is None else level, ffi.from_buffer(data), len(data), out, bound, size
        ),
        "compression",
    )
    return bytes(ffi.buffer(out, size[0]))


def decompress(codec: int, data: bytes, limit_bytes: int) -> bytes:
    """Decompress all of data into at most limit_bytes. Nothing is allocated on the data's word: the room doubles."""
    capacity = min(limit_bytes, max(4 * len(data), 1024))
    size = ffi.new("size_t *")
    while True:
        out = _new_bytes("uint8_t[]", max(capacity, 1))
        rc = lib.plog_codec_decompress(codec, ffi.from_buffer(data), len(data), out, capacity, size)
        if rc != lib.PLOG_E_BUFFER_TOO_SMALL or capacity >= limit_bytes:
            check(rc, "decompression")
            return bytes(ffi.buffer(out, size[0]))
        capacity = min(2 * capacity, limit_bytes)


# -------------------------------------------------------------------------------------------------- record batches


class BatchHeader(NamedTuple):
    """The header of one record batch v2."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int
    size_bytes: int


class NativeRecord(NamedTuple):
    """One record; headers as encoded in the batch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers_count: int
    headers: bytes


class ShortBatch(Exception):
    """The bytes end before the batch does. needed_bytes: what the whole batch has, 0 when not even that can be read."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"a batch of {needed_bytes} bytes is cut")
        self.needed_bytes = needed_bytes


def read_batch_header(data: bytes | memoryview, position: int = 0) -> BatchHeader:
    """The header of the batch at position. Raises ShortBatch, KafkaError CORRUPT_MESSAGE."""
    view = ffi.from_buffer(data)
    size = len(data) - position
    out = ffi.new("plog_batch_header *")
    rc = lib.plog_batch_header_read(ffi.cast("uint8_t *", view) + position, size, out)
    if rc == lib.PLOG_E_SHORT:
        raise ShortBatch(out.size_bytes)
    check(rc)
    return BatchHeader(*_HEADER.unpack(ffi.buffer(out)))


def check_batch(data: bytes | memoryview, position: int = 0) -> BatchHeader:
    """Header and CRC of the batch at position. Raises ShortBatch, KafkaError CORRUPT_MESSAGE."""
    out = ffi.new("plog_batch_header *")
    rc = lib.plog_batch_check(ffi.cast("uint8_t *", ffi.from_buffer(data)) + position, len(data) - position, out)
    if rc == lib.PLOG_E_SHORT:
        raise ShortBatch(out.size_bytes)
    check(rc)
    return BatchHeader(*_HEADER.unpack(ffi.buffer(out)))


def batch_records(batch: bytes | memoryview, limit_bytes: int) -> list[NativeRecord]:
    """The records of one whole batch, decompressed to at most limit_bytes. Raises KafkaError INVALID_RECORD, ..."""
    records, count, _section = _find_records(batch, limit_bytes)
    return [_record(records[i]) for i in range(count)]


def batch_rows(
    batch: bytes, limit_bytes: int, header: BatchHeader | None = None
) -> list[tuple[int, bytes | None, bytes | None]]:
    """The same, but of each record only its offset, key and value, for whoever reads a million of them. `header`: that
    of the batch, if it was read before."""
    records, count, section = _find_records(batch, limit_bytes, header)
    first = int(ffi.cast("uintptr_t", section))
    data = ffi.buffer(section)[:]
    return [
        (
            offset,
            None if key_bytes < 0 else data[key - first : key - first + key_bytes],
            None if value_bytes < 0 else data[value - first : value - first + value_bytes],
        )
        for offset, _, key, key_bytes, value, value_bytes, _, _, _ in _RECORD.iter_unpack(
            ffi.buffer(records, count * _RECORD.size)
        )
    ]


def first_timestamp(batch: bytes | memoryview, offset: int, limit_bytes: int) -> int | None:
    """That of the first record at or behind offset. Raises as `batch_records` does."""
    records, count, _ = _find_records(batch, limit_bytes)
    for found, timestamp, *_ in _RECORD.iter_unpack(ffi.buffer(records, count * _RECORD.size)):
        if found >= offset:
            return int(timestamp)
    return None


def _find_records(
    batch: bytes | memoryview, limit_bytes: int, header: BatchHeader | None = None
) -> tuple[Any, int, Any]:
    """Where the records of a batch are: in the batch, or in what it decompresses to. That is the last of the three."""
    if header is None:
        header = read_batch_header(batch)
    count = header.records_count
    records = ffi.new("plog_record[]", max(count, 1))
    written = ffi.new("int32_t *")
    data = ffi.from_buffer(batch)
    capacity = min(limit_bytes, max(4 * len(batch), 1024)) if header.attributes & lib.PLOG_ATTR_CODEC_MASK else 0
    while True:
        scratch = _new_bytes("uint8_t[]", capacity)
        rc = lib.plog_batch_records(data, len(batch), scratch, capacity, records, count, written)
        if rc != lib.PLOG_E_BUFFER_TOO_SMALL or not 0 < capacity < limit_bytes:
            break
        capacity = min(2 * capacity, limit_bytes)
    check(rc)
    return records, written[0], scratch if capacity else data


def _record(r: Any) -> NativeRecord:
    return NativeRecord(
        r.offset,
        r.timestamp,
        None if r.key_bytes < 0 else bytes(ffi.buffer(r.key, r.key_bytes)),
        None if r.value_bytes < 0 else bytes(ffi.buffer(r.value, r.value_bytes)),
        r.headers_count,
        bytes(ffi.buffer(r.headers, r.headers_bytes)) if r.headers_bytes else b"",
    )


def scanned_fields() -> tuple[list[tuple[str, str, int]], int]:
    """Name, NumPy format and offset of each field of what `scan_batches` fills, and the size of the whole."""
    formats = {"int64_t": "i8", "int32_t": "i4", "uint32_t": "u4"}
    batch = ffi.typeof("plog_scanned_batch")
    fields: list[tuple[str, str, int]] = []
    for name, field in batch.fields:
        if name == "header":
            fields += [(inner, formats[f.type.cname], field.offset + f.offset) for inner, f in field.type.fields]
        else:
            fields.append((name, formats[field.type.cname], field.offset))
    return fields, ffi.sizeof(batch)


class Scanned(NamedTuple):
    """Where `scan_batches` stopped. condition: 0, or the return code that says why there is no batch at used_bytes."""

    batches: int
    used_bytes: int
    condition: int
    needed_bytes: int


def scan_batches(data: Any, size_bytes: int, out: Any, *, check_crc: bool) -> Scanned:
    """Fill out (a writable buffer of scanned batches) with the headers of the batches in data[:size_bytes]."""
    room = ffi.from_buffer("plog_scanned_batch[]", out, require_writable=True)
    count, used, needed = ffi.new("int32_t *"), ffi.new("size_t *"), ffi.new("uint32_t *")
    rc = lib.plog_batches_scan(
        ffi.from_buffer("uint8_t[]", data), size_bytes, check_crc, room, len(room), count, used, needed
    )
    return Scanned(count[0], used[0], rc, needed[0])


class BatchBuilder:
    """Builds record batches, one after the other. One thread at a time."""

    __slots__ = ("_pointer",)

    def __init__(self) -> None:
        self._pointer = lib.plog_batch_builder_open()
        if not self._pointer:
            raise MemoryError("plog_batch_builder_open")

    def _live(self) -> Any:
        if not self._pointer:
            raise ValueError("the batch builder is closed")
        return self._pointer

    def reset(
        self,
        base_offset: int,
        attributes: int,
        *,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        partition_leader_epoch: int = -1,
    ) -> None:
        """Start the next batch."""
        lib.plog_batch_builder_reset(
            self._live(), base_offset, attributes, producer_id, producer_epoch, base_sequence, partition_leader_epoch
        )

    def add(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: bytes = b"", headers_count: int = 0
    ) -> None:
        """Add a record; headers as encoded in a record."""
        check(
            lib.plog_batch_builder_add(
                self._live(),
                timestamp,
                ffi.NULL if key is None else key,
                -1 if key is None else len(key),
                ffi.NULL if value is None else value,
                -1 if value is None else len(value),
                headers,
                len(headers),
                headers_count,
            )
        )

    def finish(self, level: int | None = None) -> bytes:
        """The batch: compressed, with its header and CRC. level None: the codec's default."""
        out = ffi.new("uint8_t **")
        size = ffi.new("size_t *")
        check(lib.plog_batch_builder_finish(self._live(), INT32_MIN if level is None else level, out, size))
        return bytes(ffi.buffer(out[0], size[0]))

    def close(self) -> None:
        if self._pointer:
            lib.plog_batch_builder_close(self._pointer)
            self._pointer = None


# -------------------------------------------------------------------------------------------------- logs


class LogSettings(NamedTuple):
    """plog_log_config: a topic's settings as C takes them."""

    segment_bytes: int
    segment_ms: int
    segment_jitter_ms: int
    segment_index_bytes: int
    index_interval_bytes: int
    flush_messages: int
    preallocate: bool
    jitter_seed: int = 0
    """0: the directory's name is the seed."""


class PreparedSettings:
    """The same, as C reads them: made once for all logs of a topic."""

    __slots__ = ("pointer",)

    def __init__(self, settings: LogSettings) -> None:
        self.pointer = ffi.new("plog_log_config *", settings)


class SegmentInfo(NamedTuple):
    """plog_segment_info: -1 where unknown."""

    base_offset: int
    next_offset: int
    size_bytes: int
    index_bytes: int
    timeindex_bytes: int
    max_timestamp: int
    max_timestamp_offset: int
    last_modified_ms: int


SCRUB_STEP_BYTES = 1 << 20


class SyncPoint(NamedTuple):
    """plog_sync_point: what one sync of a file system makes durable of a log."""

    end: int
    newest_base: int
    cuts_count: int


class ScrubResult(NamedTuple):
    """plog_scrub_result: a damaged batch ends a step; -1 and 0 where unknown."""

    next_position: int
    size_bytes: int
    damaged: int
    damaged_bytes: int
    damaged_position: int
    first_offset: int
    last_offset: int


class LogInfo(NamedTuple):
    """plog_log_info: the ends of a log."""

    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    last_stable_offset_limit: int
    size_bytes: int
    segment_count: int
    latest_epoch: int
    producer_count: int
    first_base_offset: int


class OpenReport(NamedTuple):
    """plog_log_open_report: what opening found."""

    recovered_segments: int
    recovered_bytes: int
    truncated_bytes: int
    deleted_segments: int
    rebuilt_indexes: int
    replayed_batches: int
    unusable_files: int


class ProducerInfo(NamedTuple):
    """plog_producer_info: one idempotent or transactional producer."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    last_timestamp: int
    coordinator_epoch: int
    current_txn_first_offset: int


class TimestampedOffset(NamedTuple):
    """A record found by its time."""

    offset: int
    timestamp: int
    leader_epoch: int


class OpenedDirectory(NamedTuple):
    """plog_opened: a log, and what lies beside it."""

    log: Log
    report: OpenReport
    segment_count: int
    topic_id: bytes | None
    """Of partition.metadata."""
    epochs: Sequence[tuple[int, int]] | None
    """What leader-epoch-checkpoint says, None: nothing."""


_NOTHING_FOUND = OpenReport(0, 0, 0, 0, 0, 0, 0)


class Log:
    """The log of one partition directory (plog_log)."""

    __slots__ = ("_pointer", "directory", "epochs_changed")

    def __init__(self, pointer: Any, directory: str, epochs_changed: bool) -> None:
        self._pointer = pointer
        self.directory = directory
        self.epochs_changed = epochs_changed
        """By opening: its leader epochs are not those that were handed over."""

    @classmethod
    def open(
        cls,
        sys: Sys,
        directory: str,
        settings: LogSettings,
        segments: list[int],
        *,
        log_start: int,
        recovery_point: int,
        clean: bool,
        epochs: Sequence[tuple[int, int]] | None,
        now_ms: int,
    ) -> tuple[Log, OpenReport]:
        """Open or create the log. epochs None: unknown, to be taken from the batches."""
        out = ffi.new("plog_log **")
        report = ffi.new("plog_log_open_report *")
        check(
            lib.plog_log_open(
                sys.pointer,
                os.fsencode(directory),
                ffi.new("plog_log_config *", settings),
                ffi.new("int64_t[]", segments),
                len(segments),
                log_start,
                recovery_point,
                clean,
                ffi.NULL if epochs is None else ffi.new("int64_t[]", [n for entry in epochs for n in entry]),
                -1 if epochs is None else len(epochs),
                now_ms,
                out,
                report,
            ),
            directory,
        )
        return cls(out[0], directory, report.epochs_changed != 0), _report(report)

    @classmethod
    def open_directory(
        cls,
        sys: Sys,
        directory: str,
        settings: PreparedSettings,
        log_start: int,
        recovery_point: int,
        clean: bool,
        now_ms: int,
    ) -> OpenedDirectory | None:
        """Open the log that lies there, by position: ten thousand are opened at a start. None when something was left
        half done, or is otherwise than it is written: look name by name. Raises OSError, KafkaError."""
        out = _new_bytes("plog_opened *")
        rc = lib.plog_log_open_directory(
            sys.pointer, os.fsencode(directory), settings.pointer, log_start, recovery_point, clean, now_ms, out
        )
        if rc == lib.PLOG_E_MALFORMED:
            return None
        check(rc, directory)
        report, count = out.report, out.epochs_count
        return OpenedDirectory(
            cls(out.log, directory, report.epochs_changed != 0),
            _report(report),
            out.segments_count,
            ffi.buffer(out.topic_id)[:] if out.has_topic_id else None,
            [(out.epochs[2 * i], out.epochs[2 * i + 1]) for i in range(count)] if count else [],
        )

    @property
    def pointer(self) -> Any:
        """For the engine, which takes it."""
        if not self._pointer:
            raise ValueError(f"{self.directory} is closed")
        return self._pointer

    def disown(self) -> None:
        """The engine has closed it."""
        self._pointer = None

    def close(self, clean: bool, synced: bool = True) -> None:
        """synced False: what a clean close leaves is not durable before a `Sys.sync_all`."""
        pointer = self._pointer
        self._pointer = None
        if pointer:
            how = lib.PLOG_CLOSE_LET_GO if not clean else lib.PLOG_CLOSE_CLEAN if synced else lib.PLOG_CLOSE_UNSYNCED
            check(lib.plog_log_close(pointer, how), self.directory)

    def close_waits(self) -> bool:
        """Whether a clean close would wait for the disk."""
        return bool(lib.plog_log_close_waits(self.pointer))

    def configure(self, settings: LogSettings) -> None:
        check(lib.plog_log_configure(self.pointer, ffi.new("plog_log_config *", settings)), self.directory)

    def info(self) -> LogInfo:
        out = ffi.new("plog_log_info *")
        lib.plog_log_info_read(self.pointer, out)
        return LogInfo(
            out.log_start_offset,
            out.log_end_offset,
            out.recovery_point,
            out.last_stable_offset_limit,
            out.size_bytes,
            out.segment_count,
            out.latest_epoch,
            out.producer_count,
            out.first_base_offset,
        )

    def end_offset(self) -> int:
        out = ffi.new("plog_log_info *")
        lib.plog_log_info_read(self.pointer, out)
        return int(out.log_end_offset)

    def segments(self) -> list[SegmentInfo]:
        capacity = 16
        while True:
            out = ffi.new("plog_segment_info[]", capacity)
            count = lib.plog_log_segments(self.pointer, out, capacity)
            if count <= capacity:
                fields = SegmentInfo._fields
                return [SegmentInfo(*(getattr(out[i], field) for field in fields)) for i in range(count)]
            capacity = count

    def take_rebuilt_indexes(self) -> int:
        """How many indexes of closed segments were built anew since the last call."""
        return int(lib.plog_log_take_rebuilt_indexes(self.pointer))

    def epochs(self) -> list[tuple[int, int]]:
        capacity = 16
        while True:
            out = ffi.new("int64_t[]", 2 * capacity)
            count = lib.plog_log_epochs(self.pointer, out, capacity)
            if count <= capacity:
                return [(out[2 * i], out[2 * i + 1]) for i in range(count)]
            capacity = count

    def append(self, data: bytes, now_ms: int) -> int:
        last = ffi.new("int64_t *")
        check(lib.plog_log_append(self.pointer, ffi.from_buffer(data), len(data), now_ms, last), self.directory)
        return int(last[0])

    def read(self, offset: int, max_offset: int, max_bytes: int, check_crc: bool) -> bytes:
        """Whole batches, at least one if there is one below max_offset; b"" at the end."""
        capacity = max(max_bytes, 1)
        size = ffi.new("size_t *")
        while True:
            out = _new_bytes("uint8_t[]", capacity)
            rc = lib.plog_log_read(self.pointer, offset, max_offset, check_crc, out, capacity, size)
            if rc != lib.PLOG_E_BUFFER_TOO_SMALL:
                check(rc, self.directory)
                return bytes(ffi.buffer(out, size[0]))
            capacity = size[0]

    def offset_for_timestamp(self, timestamp: int, max_offset: int = INT64_MAX) -> TimestampedOffset | None:
        """First record at or after timestamp, None when there is none."""
        offset, found, epoch = ffi.new("int64_t *"), ffi.new("int64_t *"), ffi.new("int32_t *")
        rc = lib.plog_log_offset_for_timestamp(self.pointer, timestamp, max_offset, offset, found, epoch)
        return self._timestamped(rc, offset, found, epoch)

    def max_timestamp(self) -> TimestampedOffset | None:
        """The record with the largest timestamp, None when there is no record."""
        offset, found, epoch = ffi.new("int64_t *"), ffi.new("int64_t *"), ffi.new("int32_t *")
        return self._timestamped(lib.plog_log_max_timestamp(self.pointer, offset, found, epoch), offset, found, epoch)

    def _timestamped(self, rc: int, offset: Any, found: Any, epoch: Any) -> TimestampedOffset | None:
        if rc == lib.PLOG_E_NOT_FOUND:
            return None
        check(rc, self.directory)
        return TimestampedOffset(offset[0], found[0], epoch[0])

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch <= epoch with records, and where it ends."""
        out_epoch, end = ffi.new("int32_t *"), ffi.new("int64_t *")
        check(lib.plog_log_end_offset_for_epoch(self.pointer, epoch, out_epoch, end), self.directory)
        return out_epoch[0], end[0]

    def truncate(self, offset: int, now_ms: int) -> None:
        check(lib.plog_log_truncate(self.pointer, offset, now_ms), self.directory)

    def truncate_fully(self, offset: int, now_ms: int) -> None:
        check(lib.plog_log_truncate_fully(self.pointer, offset, now_ms), self.directory)

    def copy_from(self, source: Log, most_bytes: int, now_ms: int) -> int:
        """Append what follows in source, at most about most_bytes; how many bytes that was. Raises OSError with the
        directory that failed as its filename, KafkaError."""
        out = ffi.new("int64_t *")
        rc = lib.plog_log_copy(source.pointer, self.pointer, most_bytes, now_ms, out)
        check(rc, source.directory if out[0] < 0 else self.directory)
        return int(out[0])

    def rename(self, directory: str) -> None:
        """Give its directory another name, not longer than the one it has."""
        check(lib.plog_log_rename(self.pointer, os.fsencode(directory)), self.directory)
        self.directory = directory

    def roll(self, now_ms: int) -> None:
        check(lib.plog_log_roll(self.pointer, now_ms), self.directory)

    def set_start(self, offset: int) -> None:
        check(lib.plog_log_set_start(self.pointer, offset), self.directory)

    def delete_segments(self, upto: int) -> int:
        """Set aside the segments below upto; how many."""
        count = ffi.new("int32_t *")
        check(lib.plog_log_delete_segments(self.pointer, upto, count), self.directory)
        return int(count[0])

    def replace(self, cleaning: Any) -> None:
        """Put the finished group of a plog_cleaning in place. Raises NativeError when the log has changed."""
        check(lib.plog_log_replace(self.pointer, cleaning), self.directory)

    def scrub(self, base_offset: int, position: int, most_bytes: int) -> ScrubResult | None:
        """Compare the CRCs of the batches that begin in most_bytes from position on, of the closed segment at
        base_offset; None when no such segment is closed. Raises OSError."""
        out = ffi.new("plog_scrub_result *")
        rc = lib.plog_log_scrub(self.pointer, base_offset, position, most_bytes, out)
        if rc == lib.PLOG_E_NOT_FOUND:
            return None
        check(rc, self.directory)
        return ScrubResult(*(getattr(out, field) for field in ScrubResult._fields))

    def first_timestamp(self, base_offset: int) -> int | None:
        """The largest timestamp of the first batch of a segment, None when there is none."""
        out = ffi.new("int64_t *")
        rc = lib.plog_log_first_timestamp(self.pointer, base_offset, out)
        if rc == lib.PLOG_E_NOT_FOUND:
            return None
        check(rc, self.directory)
        return int(out[0])

    def flush(self) -> int:
        """Make everything durable; returns the recovery point."""
        point = ffi.new("int64_t *")
        check(lib.plog_log_flush(self.pointer, point), self.directory)
        return int(point[0])

    def sync_point(self) -> SyncPoint:
        """What a `Sys.sync_all` that begins now makes durable of it."""
        out = ffi.new("plog_sync_point *")
        lib.plog_log_sync_point(self.pointer, out)
        return SyncPoint(out.end, out.newest_base, out.cuts_count)

    def synced(self, durable: SyncPoint) -> None:
        """That is durable now, and the recovery point where it ends."""
        lib.plog_log_synced(self.pointer, ffi.new("plog_sync_point *", durable))

    def producers(self) -> list[ProducerInfo]:
        capacity = 16
        while True:
            out = ffi.new("plog_producer_info[]", capacity)
            count = lib.plog_log_producers(self.pointer, out, capacity)
            if count <= capacity:
                return [_producer(out[i]) for i in range(count)]
            capacity = count

    def expire_producers(self, before_ms: int) -> int:
        count = ffi.new("int32_t *")
        check(lib.plog_log_expire_producers(self.pointer, before_ms, count), self.directory)
        return int(count[0])

    def aborted(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """(producer id, first offset, last offset) of aborted transactions that overlap [start, end)."""
        capacity = 16
        count = ffi.new("int32_t *")
        while True:
            out = ffi.new("int64_t[]", 3 * capacity)
            check(lib.plog_log_aborted(self.pointer, start, end, out, capacity, count), self.directory)
            if count[0] <= capacity:
                return [(out[3 * i], out[3 * i + 1], out[3 * i + 2]) for i in range(count[0])]
            capacity = count[0]


def _report(report: Any) -> OpenReport:
    found = OpenReport(
        report.recovered_segments,
        report.recovered_bytes,
        report.truncated_bytes,
        report.deleted_segments,
        report.rebuilt_indexes,
        report.replayed_batches,
        report.unusable_files,
    )
    return _NOTHING_FOUND if found == _NOTHING_FOUND else found  # which is kept with the log


def _producer(out: Any) -> ProducerInfo:
    return ProducerInfo(*(getattr(out, field) for field in ProducerInfo._fields))


def encode_snapshot(producers: list[ProducerInfo]) -> bytes:
    """A .snapshot file's bytes."""
    entries = ffi.new("plog_producer_info[]", [tuple(p) for p in producers])
    size = ffi.new("size_t *")
    capacity = 10 + 46 * len(producers)
    out = _new_bytes("uint8_t[]", capacity)
    check(lib.plog_snapshot_encode(entries, len(producers), out, capacity, size))
    return bytes(ffi.buffer(out, size[0]))


def decode_snapshot(data: bytes) -> list[ProducerInfo]:
    """The producers in a .snapshot file. Raises KafkaError CORRUPT_MESSAGE."""
    capacity = len(data) // 46 + 1
    out = ffi.new("plog_producer_info[]", capacity)
    count = ffi.new("int32_t *")
    check(lib.plog_snapshot_decode(ffi.from_buffer(data), len(data), out, capacity, count))
    return [_producer(out[i]) for i in range(count[0])]
