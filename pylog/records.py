"""Record batches from Python: build them, walk them, read their records.

Keeps true: what is built is what Kafka's Java client would send (format 2); what is read was checked for its bounds in
C. The bytes of a batch are never changed here, and one crossing into C is made per batch, not per record, when reading.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pylog._native import (
    BatchBuilder,
    BatchHeader,
    ShortBatch,
    batch_records,
    check_batch,
    first_timestamp,
    read_batch_header,
)
from pylog.compression import LARGEST_BATCH_BYTES, Codec
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple

CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

BATCH_OVERHEAD_BYTES = 61
_MAGIC_AT = 16
NO_SEQUENCE = -1
_SEQUENCES = 1 << 31


class Header(NamedTuple):
    """A record header. Bytes of the key that are not UTF-8 survive as surrogates."""

    key: str
    value: bytes | None


class Record(NamedTuple):
    """One record as a consumer sees it. timestamp: ms; the append time where the topic says so."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class NewRecord(NamedTuple):
    """One record to be written. timestamp: ms."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class EndMarker(NamedTuple):
    """The record of a control batch: the end of a transaction."""

    committed: bool
    coordinator_epoch: int


class RecordBatch:
    """One whole record batch: its header, and its bytes, borrowed."""

    __slots__ = ("data", "header")

    def __init__(self, header: BatchHeader, data: bytes | memoryview) -> None:
        self.header = header
        self.data = data

    @property
    def last_offset(self) -> int:
        return self.header.base_offset + self.header.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.last_offset + 1

    @property
    def codec(self) -> Codec:
        return Codec(self.header.attributes & CODEC_MASK)

    @property
    def log_append_time(self) -> bool:
        return bool(self.header.attributes & LOG_APPEND_TIME)

    @property
    def transactional(self) -> bool:
        return bool(self.header.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.header.attributes & CONTROL)

    @property
    def delete_horizon_ms(self) -> int | None:
        """When its tombstones may go, None before the first compaction has seen them."""
        return self.header.base_timestamp if self.header.attributes & DELETE_HORIZON else None

    @property
    def last_sequence(self) -> int:
        return sequence_after(self.header.base_sequence, self.header.last_offset_delta)

    def check(self) -> bool:
        """Whether its CRC is right."""
        try:
            check_batch(self.data)
        except KafkaError as e:
            if e.code != ErrorCode.CORRUPT_MESSAGE:
                raise
            return False
        return True

    def records(self, limit_bytes: int = LARGEST_BATCH_BYTES) -> list[Record]:
        """Its records. limit_bytes: what they may decompress to. Raises INVALID_RECORD, CORRUPT_MESSAGE."""
        return [
            Record(r.offset, r.timestamp, r.key, r.value, decode_headers(r.headers, r.headers_count))
            for r in batch_records(self.data, limit_bytes)
        ]

    def first_timestamp(self, offset: int, limit_bytes: int = LARGEST_BATCH_BYTES) -> int | None:
        """That of its first record at or behind offset, None when there is none. Raises as `records` does."""
        found = first_timestamp(self.data, offset, limit_bytes)
        return self.header.max_timestamp if found is not None and self.log_append_time else found


def sequence_after(sequence: int, steps: int) -> int:
    """A producer's sequence number `steps` later: after 2^31 - 1 comes 0; none stays none."""
    return sequence if sequence == NO_SEQUENCE else (sequence + steps) % _SEQUENCES


def batches(data: bytes | memoryview) -> Iterator[RecordBatch]:
    """The whole batches in data; a torn one at its end, as a fetch may bring, is left out. Raises CORRUPT_MESSAGE."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        size = _old_size(view[position : position + BATCH_OVERHEAD_BYTES])
        if size is not None:
            if size > len(view) - position:
                return
            yield _old_batch(view[position : position + size])
            position += size
            continue
        try:
            header = read_batch_header(view[position:])
        except ShortBatch:
            return
        yield RecordBatch(header, view[position : position + header.size_bytes])
        position += header.size_bytes


def _old_size(head: bytes | memoryview) -> int | None:
    """The size of the message of format 0 or 1 that begins with head, None when none does."""
    if len(head) <= _MAGIC_AT or head[_MAGIC_AT] > 1:
        return None
    from pylog.old_format import old_size  # few ever meet one

    return old_size(head)


def _old_batch(data: bytes | memoryview) -> RecordBatch:
    from pylog.old_format import old_batch

    return old_batch(data)


class FileBatch(NamedTuple):
    """A batch of a .log file and where it begins."""

    position: int
    batch: RecordBatch


def file_batches(path: str, position: int = 0, *, headers_only: bool = False) -> Iterator[FileBatch]:
    """The batches of a .log file from position on, up to its end or to the first thing that is no whole batch.

    headers_only: their data is not kept, and is empty; of formats 0 and 1 it is. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        while position < size:
            head = os.pread(fd, BATCH_OVERHEAD_BYTES, position)
            old = _old_size(head)
            if old is not None:
                if old > size - position:
                    return
                yield FileBatch(position, _old_batch(os.pread(fd, old, position)))
                position += old
                continue
            try:
                header = read_batch_header(head)
                needed = header.size_bytes
            except ShortBatch as short:
                needed = short.needed_bytes
            except KafkaError:
                return
            if not BATCH_OVERHEAD_BYTES <= needed <= size - position:
                return
            data = os.pread(fd, needed, position)
            yield FileBatch(position, RecordBatch(read_batch_header(data), b"" if headers_only else data))
            position += needed
    finally:
        os.close(fd)


def end_of_log_file(path: str) -> int:
    """One past the last record of a .log file; its base offset when it has none."""
    end = int(os.path.basename(path).partition(".")[0])
    for _, batch in file_batches(path, headers_only=True):
        end = batch.next_offset
    return end


class RecordBatchBuilder:
    """Builds one record batch after the other. One thread at a time."""

    __slots__ = ("_native",)

    def __init__(self) -> None:
        self._native = BatchBuilder()

    def build(
        self,
        records: Iterable[NewRecord],
        *,
        base_offset: int = 0,
        codec: Codec = Codec.NONE,
        level: int | None = None,
        log_append_time: bool = False,
        transactional: bool = False,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = NO_SEQUENCE,
        leader_epoch: int = -1,
    ) -> bytes:
        """The bytes of a batch of these records, at least one. level: the codec's, None for its default."""
        attributes = codec | (LOG_APPEND_TIME if log_append_time else 0) | (TRANSACTIONAL if transactional else 0)
        native = self._native
        native.reset(
            base_offset,
            attributes,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            partition_leader_epoch=leader_epoch,
        )
        for timestamp, key, value, headers in records:
            native.add(timestamp, key, value, encode_headers(headers) if headers else b"", len(headers))
        return native.finish(level)

    def build_end_marker(
        self,
        marker: EndMarker,
        *,
        timestamp: int,
        producer_id: int,
        producer_epoch: int,
        base_offset: int = 0,
        leader_epoch: int = -1,
    ) -> bytes:
        """The control batch that ends a transaction of this producer."""
        native = self._native
        native.reset(
            base_offset,
            CONTROL | TRANSACTIONAL,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=NO_SEQUENCE,
            partition_leader_epoch=leader_epoch,
        )
        key = _MARKER_VERSION + int(marker.committed).to_bytes(2, "big")
        native.add(timestamp, key, _MARKER_VERSION + marker.coordinator_epoch.to_bytes(4, "big", signed=True))
        return native.finish()

    def close(self) -> None:
        self._native.close()


_MARKER_VERSION = b"\0\0"
_MARKER_KEY_BYTES = 4
_MARKER_VALUE_BYTES = 6
_ABORT, _COMMIT = 0, 1


def end_marker(record: Record) -> EndMarker | None:
    """What a control batch's record says, None for kinds of control record that end no transaction (Raft's)."""
    key, value = record.key, record.value
    if key is None or len(key) < _MARKER_KEY_BYTES:
        raise KafkaError(ErrorCode.INVALID_RECORD, f"control record at {record.offset} has no type")
    kind = int.from_bytes(key[2:4], "big", signed=True)
    if kind not in (_ABORT, _COMMIT):
        return None
    if value is None or len(value) < _MARKER_VALUE_BYTES:
        raise KafkaError(ErrorCode.INVALID_RECORD, f"end marker at {record.offset} has no coordinator epoch")
    return EndMarker(kind == _COMMIT, int.from_bytes(value[2:6], "big", signed=True))


def encode_headers(headers: Iterable[Header]) -> bytes:
    """Headers as they stand in a record, after their count."""
    out = bytearray()
    for key, value in headers:
        encoded = key.encode("utf-8", "surrogateescape")
        _put_varint(out, len(encoded))
        out += encoded
        _put_varint(out, -1 if value is None else len(value))
        out += value or b""
    return bytes(out)


def decode_headers(data: bytes, count: int) -> tuple[Header, ...]:
    """`count` headers as they stand in a record, after their count. Raises INVALID_RECORD."""
    if not count:
        return ()
    headers = []
    position = 0
    for _ in range(count):
        key, position = _take_bytes(data, position)
        value, position = _take_bytes(data, position)
        if key is None:
            raise KafkaError(ErrorCode.INVALID_RECORD, "a record header without a key")
        headers.append(Header(key.decode("utf-8", "surrogateescape"), value))
    return tuple(headers)


def _put_varint(out: bytearray, value: int) -> None:
    """Zig-zag, seven bits a byte, lowest first."""
    rest = (value << 1) ^ (value >> 31)
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)


def _take_bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    """A length and that many bytes; None for length -1."""
    raw = shift = 0
    while True:
        if position >= len(data) or shift > 28:
            raise KafkaError(ErrorCode.INVALID_RECORD, "a record header breaks off")
        byte = data[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    size = (raw >> 1) ^ -(raw & 1)
    if size == -1:
        return None, position
    if not 0 <= size <= len(data) - position:
        raise KafkaError(ErrorCode.INVALID_RECORD, "a record header is longer than its record")
    return data[position : position + size], position + size
