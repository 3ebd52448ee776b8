"""Messages of formats 0 and 1, from before Kafka 0.11: read as record batches, never written.

Keeps true: an old message is seen as a batch of one record, and a compressed wrapper message as a batch of what is
inside it, with absolute offsets, so that whoever reads batches reads these too. What formats 0 and 1 do not know
(producer, leader epoch, headers) is -1 or empty. Only the CRC-32 of the outer message says whether it is whole: garbage
is given as a batch whose `check` fails, and its records raise CORRUPT_MESSAGE.

    offset 8 | size 4 | CRC-32 4 of what follows | magic 1 | attributes 1 | [format 1: timestamp 8] | key | value

Key and value have their length (4, -1 null) in front. The offset of a wrapper is that of its last record; offsets
inside are absolute in format 0, and count from 0 in format 1.
"""

from __future__ import annotations

import struct
import zlib

from pylog._native import BatchHeader
from pylog.compression import LARGEST_BATCH_BYTES, Codec, decompress
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.records import CODEC_MASK, LOG_APPEND_TIME, NO_SEQUENCE, Record, RecordBatch

NO_TIMESTAMP = -1
"""What a record of format 0 has."""

_OVERHEAD_BYTES = 12
_CRC_AT = 12
_MAGIC_AT = 16
_ATTRIBUTES_AT = 17
_TIMESTAMP_AT = 18
_PAYLOAD_AT = (18, 26)
"""Where the key begins, by format."""
_SMALLEST_BYTES = (26, 34)
_HEAD = struct.Struct(">qiIbb")
_INT64 = struct.Struct(">q")
_INT32 = struct.Struct(">i")

_LZ4_CHECKSUM_AT = 6
_LZ4_CONTENT_SIZE_FLAG = 0x08


class OldMessage(NamedTuple):
    """One message that is no wrapper; its offset is absolute. `valid`: its own CRC is right."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    crc: int
    valid: bool


class OldBatch(RecordBatch):
    """A message of format 0 or 1 with what is in it, as a record batch. Its header's base offset is that of the first
    record inside, which only decompressing tells: where that fails it is the message's own."""

    __slots__ = ()

    def check(self) -> bool:
        return zlib.crc32(self.data[_MAGIC_AT:]) == self.header.crc

    @property
    def offset(self) -> int:
        """The message's own: that of its last record."""
        return self.last_offset

    def messages(self, limit_bytes: int = LARGEST_BATCH_BYTES) -> list[OldMessage]:
        """What is in it. Raises CORRUPT_MESSAGE, MESSAGE_TOO_LARGE."""
        return _messages(bytes(self.data), limit_bytes)

    def records(self, limit_bytes: int = LARGEST_BATCH_BYTES) -> list[Record]:
        return [Record(m.offset, m.timestamp, m.key, m.value) for m in self.messages(limit_bytes)]

    def first_timestamp(self, offset: int, limit_bytes: int = LARGEST_BATCH_BYTES) -> int | None:
        found = next((m.timestamp for m in self.messages(limit_bytes) if m.offset >= offset), None)
        return self.header.max_timestamp if found is not None and self.log_append_time else found


def is_old(head: bytes | memoryview) -> bool:
    """Whether what begins with these bytes claims to be of format 0 or 1 (zeros do too: see `old_size`)."""
    return len(head) > _MAGIC_AT and head[_MAGIC_AT] < 2


def old_size(head: bytes | memoryview) -> int | None:
    """The bytes of the old message that begins with these, None when it cannot be one."""
    size = _OVERHEAD_BYTES + _INT32.unpack_from(head, 8)[0]
    return size if size >= _SMALLEST_BYTES[head[_MAGIC_AT]] and _INT64.unpack_from(head)[0] >= 0 else None


def old_batch(data: bytes | memoryview) -> OldBatch:
    """The message that data holds, all of it. Never raises: `check` tells."""
    offset, _, crc, magic, attributes = _HEAD.unpack_from(data)
    timestamp = NO_TIMESTAMP if magic == 0 else _INT64.unpack_from(data, _TIMESTAMP_AT)[0]
    first, count = offset, 1
    if attributes & CODEC_MASK:
        try:
            inner = _messages(bytes(data), LARGEST_BATCH_BYTES)
            first, count = inner[0].offset, len(inner)
        except KafkaError:
            pass
    header = BatchHeader(
        base_offset=first,
        batch_length=len(data) - _OVERHEAD_BYTES,
        partition_leader_epoch=-1,
        magic=magic,
        crc=crc,
        attributes=attributes,
        last_offset_delta=offset - first,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=NO_SEQUENCE,
        records_count=count,
        size_bytes=len(data),
    )
    return OldBatch(header, data)


# -------------------------------------------------------------------------------------------------- inside


class _Raw(NamedTuple):
    """A message as its bytes say it."""

    offset: int
    timestamp: int
    attributes: int
    key: bytes | None
    value: bytes | None
    crc: int
    valid: bool


def _messages(data: bytes, limit_bytes: int) -> list[OldMessage]:
    outer = _raw(data, 0, len(data))
    codec = outer.attributes & CODEC_MASK
    if not codec:
        return [OldMessage(outer.offset, outer.timestamp, outer.key, outer.value, outer.crc, outer.valid)]
    magic = data[_MAGIC_AT]
    inner = _inner(_decompressed(codec, magic, outer.value, limit_bytes), magic)
    shift = outer.offset - inner[-1].offset if magic else 0
    if not 0 <= inner[0].offset + shift <= inner[-1].offset + shift <= outer.offset:
        raise _corrupt(f"the offsets in the message at {outer.offset} do not end there")
    appended = outer.timestamp if outer.attributes & LOG_APPEND_TIME else None
    return [
        OldMessage(m.offset + shift, m.timestamp if appended is None else appended, m.key, m.value, m.crc, m.valid)
        for m in inner
    ]


def _inner(data: bytes, magic: int) -> list[_Raw]:
    found: list[_Raw] = []
    position = 0
    while position < len(data):
        head = data[position : position + _ATTRIBUTES_AT + 1]
        size = old_size(head) if is_old(head) else None
        if size is None or size > len(data) - position or head[_MAGIC_AT] != magic:
            raise _corrupt("a compressed message holds no whole messages of its own format")
        message = _raw(data, position, position + size)
        if message.attributes & CODEC_MASK:
            raise _corrupt("a compressed message within a compressed message")
        if found and message.offset <= found[-1].offset:
            raise _corrupt("offsets within a compressed message do not rise")
        found.append(message)
        position += size
    if not found:
        raise _corrupt("a compressed message is empty")
    return found


def _raw(data: bytes, position: int, end: int) -> _Raw:
    offset, _, crc, magic, attributes = _HEAD.unpack_from(data, position)
    timestamp = NO_TIMESTAMP if magic == 0 else _INT64.unpack_from(data, position + _TIMESTAMP_AT)[0]
    key, at = _field(data, position + _PAYLOAD_AT[magic], end)
    value, at = _field(data, at, end)
    if at != end:
        raise _corrupt(f"{end - at} bytes behind the value of the message at {offset}")
    return _Raw(offset, timestamp, attributes, key, value, crc, zlib.crc32(data[position + _MAGIC_AT : end]) == crc)


def _field(data: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    if end - at < _INT32.size:
        raise _corrupt("a message breaks off")
    size = _INT32.unpack_from(data, at)[0]
    at += _INT32.size
    if size == -1:
        return None, at
    if not 0 <= size <= end - at:
        raise _corrupt("a key or value is longer than its message")
    return data[at : at + size], at + size


def _decompressed(codec: int, magic: int, value: bytes | None, limit_bytes: int) -> bytes:
    if value is None or codec > Codec.LZ4:
        raise _corrupt("a compressed message without a value, or of a codec that its format does not have")
    if codec == Codec.LZ4 and magic == 0:
        value = _with_frame_checksum(value)
    return decompress(Codec(codec), value, limit_bytes)


def _with_frame_checksum(frame: bytes) -> bytes:
    """Format 0 sums the LZ4 frame's magic number into the header checksum, which the LZ4 format does not."""
    from xxhash import xxh32_intdigest

    at = _LZ4_CHECKSUM_AT + (8 if len(frame) > 4 and frame[4] & _LZ4_CONTENT_SIZE_FLAG else 0)
    if len(frame) <= at:
        raise _corrupt("an LZ4 frame breaks off")
    return frame[:at] + bytes([xxh32_intdigest(frame[4:at]) >> 8 & 0xFF]) + frame[at + 1 :]


def _corrupt(what: str) -> KafkaError:
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, what)
