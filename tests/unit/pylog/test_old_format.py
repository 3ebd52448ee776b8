"""Messages of formats 0 and 1 that nobody should have written; what Kafka wrote of them is read in tests/golden."""

import gzip
import struct
import zlib
from pathlib import Path

import pytest

from pylog.compression import Codec
from pylog.errors import ErrorCode, KafkaError
from pylog.old_format import OldBatch, old_batch
from pylog.records import batches, file_batches

APPEND_TIME = 0x08


def message(
    magic: int, offset: int, value: bytes | None, *, attributes: int = 0, timestamp: int = 5, key: bytes | None = b"k"
) -> bytes:
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", timestamp) if magic else b"")
    for field in (key, value):
        body += struct.pack(">i", -1) if field is None else struct.pack(">i", len(field)) + field
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


def wrapper(magic: int, offset: int, inner: bytes, *, attributes: int = 0, timestamp: int = 9) -> bytes:
    """A gzip set."""
    packed = gzip.compress(inner, mtime=0)
    return message(magic, offset, packed, attributes=Codec.GZIP | attributes, timestamp=timestamp, key=None)


def test_sets_of_both_formats_are_batches() -> None:
    v0 = message(0, 0, b"a") + wrapper(0, 2, message(0, 1, b"b") + message(0, 2, None))
    v1 = wrapper(1, 5, b"".join(message(1, i, b"%d" % i, timestamp=100 + i) for i in range(3)))
    found = list(batches(v0 + v1))
    assert [(b.header.base_offset, b.last_offset, b.header.records_count) for b in found] == [
        (0, 0, 1),
        (1, 2, 2),
        (3, 5, 3),
    ]
    assert [(r.offset, r.timestamp, r.value) for b in found for r in b.records()] == [
        (0, -1, b"a"),
        (1, -1, b"b"),
        (2, -1, None),
        (3, 100, b"0"),
        (4, 101, b"1"),
        (5, 102, b"2"),
    ]
    assert all(b.check() and not b.transactional and not b.control and b.last_sequence == -1 for b in found)


def test_a_compacted_set_of_format_1_ends_at_its_offset() -> None:
    inner = message(1, 0, b"x") + message(1, 4, b"y")
    (batch,) = batches(wrapper(1, 14, inner))
    assert [r.offset for r in batch.records()] == [10, 14]
    assert batch.header.base_offset == 10


def test_log_append_time_is_that_of_the_wrapper() -> None:
    (batch,) = batches(wrapper(1, 0, message(1, 0, b"x"), attributes=APPEND_TIME, timestamp=77))
    assert batch.log_append_time
    assert [r.timestamp for r in batch.records()] == [77]


@pytest.mark.parametrize("magic", [0, 1])
def test_every_flipped_bit_fails_the_check_or_moves_the_message(magic: int) -> None:
    """The CRC covers all but offset and size."""
    good = wrapper(magic, 1, message(magic, 0, b"a") + message(magic, 1, b"b"))
    for bit in range(8 * 12, 8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            found = list(batches(bytes(bad)))
        except KafkaError:
            assert bit // 8 == 16  # the magic: of no format
            continue
        assert not (found and found[0].check()), bit


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        b"garbage",
        message(1, 0, b"x")[:-1],
        message(0, 0, b"x"),
        message(1, 1, b"x") + message(1, 1, b"y"),
        wrapper(1, 0, message(1, 0, b"x")),
        message(1, 9, b"x") + message(1, 8, b"x"),
        message(1, -5, b"x") + message(1, 8, b"x"),
    ],
)
def test_what_no_producer_packs_is_corrupt(inner: bytes) -> None:
    (batch,) = batches(wrapper(1, 3, inner))
    assert isinstance(batch, OldBatch) and batch.check()
    assert (batch.header.base_offset, batch.last_offset) == (3, 3)
    with pytest.raises(KafkaError) as caught:
        batch.records()
    assert caught.value.code == ErrorCode.CORRUPT_MESSAGE


def test_lengths_that_lie_are_corrupt() -> None:
    good = bytearray(message(1, 3, b"value"))
    good[-6] = 0x40
    batch = old_batch(bytes(good))
    assert not batch.check()
    with pytest.raises(KafkaError):
        batch.records()


def test_what_is_cut_or_zero_ends_a_file(tmp_path: Path) -> None:
    path = tmp_path / "00000000000000000000.log"
    one, two = message(0, 0, b"a"), message(1, 1, b"b")
    for tail in (b"", two[:-1], two[:17], two[:5], bytes(100)):
        path.write_bytes(one + tail)
        assert [(at, batch.last_offset) for at, batch in file_batches(str(path))] == [(0, 0)]
    path.write_bytes(one + two)
    assert [(at, batch.last_offset) for at, batch in file_batches(str(path))] == [(0, 0), (len(one), 1)]
