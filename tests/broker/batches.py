"""Record batches made by hand, byte by byte, right or wrong on purpose.

Independent of the project's own builder and checksum, so that it can fault them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_POLYNOMIAL = 0x82F63B78


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_CRC = _table()


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def record(offset_delta: int, key: bytes | None, value: bytes | None, timestamp_delta: int = 0) -> bytes:
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(0)
    return varint(len(body)) + body


def batch(
    records: Sequence[tuple[bytes | None, bytes | None]] = ((b"k", b"v"),),
    *,
    base_offset: int = 0,
    attributes: int = 0,
    timestamp: int = 1_700_000_000_000,
    producer: tuple[int, int, int] = (-1, -1, -1),
    count: int | None = None,
    last_delta: int | None = None,
    magic: int = 2,
    crc_error: int = 0,
) -> bytes:
    """One batch v2. count, last_delta, magic and crc_error make it wrong."""
    payload = b"".join(record(i, key, value) for i, (key, value) in enumerate(records))
    count = len(records) if count is None else count
    last_delta = len(records) - 1 if last_delta is None else last_delta
    producer_id, epoch, sequence = producer
    covered = (
        struct.pack(">hiqqqhii", attributes, last_delta, timestamp, timestamp, producer_id, epoch, sequence, count)
        + payload
    )
    crc = crc32c(covered) ^ crc_error
    tail = struct.pack(">ibI", -1, magic, crc) + covered
    return struct.pack(">qi", base_offset, len(tail)) + tail
