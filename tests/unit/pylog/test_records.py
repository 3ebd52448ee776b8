"""Record batches: what is built is read back; headers, markers, torn buffers, old formats."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylog.compression import Codec
from pylog.errors import ErrorCode, KafkaError
from pylog.records import (
    EndMarker,
    Header,
    NewRecord,
    RecordBatch,
    RecordBatchBuilder,
    batches,
    decode_headers,
    encode_headers,
    end_marker,
    end_of_log_file,
    file_batches,
    sequence_after,
)

maybe_bytes = st.none() | st.binary(max_size=200)
header_lists = st.lists(st.builds(Header, st.text(max_size=20), maybe_bytes), max_size=4).map(tuple)
new_records = st.builds(NewRecord, st.integers(0, 1 << 45), maybe_bytes, maybe_bytes, header_lists)


@pytest.fixture
def builder() -> RecordBatchBuilder:
    return RecordBatchBuilder()


def only(data: bytes) -> RecordBatch:
    (batch,) = batches(data)
    return batch


@given(
    records=st.lists(new_records, min_size=1, max_size=30),
    codec=st.sampled_from(list(Codec)),
    base=st.integers(0, 1 << 60),
)
def test_round_trip(records: list[NewRecord], codec: Codec, base: int) -> None:
    builder = RecordBatchBuilder()
    batch = only(
        builder.build(records, base_offset=base, codec=codec, producer_id=5, producer_epoch=1, base_sequence=7)
    )
    builder.close()
    assert batch.check()
    assert batch.codec is codec
    assert batch.next_offset == base + len(records)
    assert batch.header.max_timestamp == max(record.timestamp for record in records)
    assert batch.last_sequence == 7 + len(records) - 1
    found = batch.records()
    assert [tuple(record)[1:] for record in found] == [tuple(record) for record in records]
    assert [record.offset for record in found] == list(range(base, base + len(records)))


def test_flags(builder: RecordBatchBuilder) -> None:
    batch = only(builder.build([NewRecord(1, None, b"")], log_append_time=True, transactional=True, leader_epoch=3))
    assert batch.log_append_time and batch.transactional and not batch.control
    assert batch.delete_horizon_ms is None
    assert batch.header.partition_leader_epoch == 3


def test_end_markers(builder: RecordBatchBuilder) -> None:
    for marker in (EndMarker(True, 4), EndMarker(False, 0)):
        data = builder.build_end_marker(marker, timestamp=9, producer_id=1, producer_epoch=0, base_offset=6)
        batch = only(data)
        assert len(data) == 78
        assert batch.control and batch.transactional and batch.header.base_sequence == -1
        (record,) = batch.records()
        assert end_marker(record) == marker
        assert record.offset == 6


def test_a_marker_as_a_kafka_broker_wrote_it() -> None:
    data = bytes.fromhex(
        "0000000000000006 00000042 00000000 02 4286114e 0030 00000000 000001a202ed2eae 000001a202ed2eae"
        "0000000000000001 0000 ffffffff 00000001 20 00 00 00 08 00000001 0c 000000000000 00"
    )
    batch = only(data)
    assert batch.check()
    assert end_marker(batch.records()[0]) == EndMarker(True, 0)


def test_several_batches_and_a_torn_one(builder: RecordBatchBuilder) -> None:
    one = builder.build([NewRecord(1, b"k", b"v")] * 3)
    two = builder.build([NewRecord(1, b"k", b"v")] * 2, base_offset=3)
    for cut in (1, 20, 61, len(two) - 1):
        assert [batch.last_offset for batch in batches(one + two + two[:cut])] == [2, 4]


def test_garbage_is_refused(builder: RecordBatchBuilder) -> None:
    one = builder.build([NewRecord(1, b"k", b"v")])
    with pytest.raises(KafkaError) as caught:
        list(batches(one + b"\xff" * 100))
    assert caught.value.code == ErrorCode.CORRUPT_MESSAGE


def test_a_changed_byte_fails_the_check(builder: RecordBatchBuilder) -> None:
    data = bytearray(builder.build([NewRecord(1, b"k", b"v")]))
    data[-2] ^= 1
    assert not only(bytes(data)).check()


@given(header_lists)
def test_headers_round_trip(headers: tuple[Header, ...]) -> None:
    assert decode_headers(encode_headers(headers), len(headers)) == headers


def test_header_keys_that_are_not_utf8_survive() -> None:
    assert encode_headers(decode_headers(b"\x02\xff\x01", 1)) == b"\x02\xff\x01"


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02a", b"\x01\x01", b"\x02a\x04b", b"\xff" * 6, b"\x03"])
def test_broken_headers(data: bytes) -> None:
    with pytest.raises(KafkaError) as caught:
        decode_headers(data, 1)
    assert caught.value.code == ErrorCode.INVALID_RECORD


def test_sequences_wrap() -> None:
    assert sequence_after(-1, 5) == -1
    assert sequence_after((1 << 31) - 1, 1) == 0
    assert sequence_after((1 << 31) - 2, 3) == 1
    assert sequence_after(1, -3) == (1 << 31) - 2


def test_a_log_file(tmp_path: Path, builder: RecordBatchBuilder) -> None:
    path = tmp_path / "00000000000000000010.log"
    path.write_bytes(b"")
    assert end_of_log_file(str(path)) == 10
    one = builder.build([NewRecord(1, b"k", b"v")] * 3, base_offset=10)
    two = builder.build([NewRecord(1, b"k", b"v" * 5_000)], base_offset=13)
    for tail in (b"", two[:30], two[:-1], b"\0" * 100, b"\xff" * 100):
        path.write_bytes(one + two + tail)
        assert [(position, batch.last_offset) for position, batch in file_batches(str(path))] == [
            (0, 12),
            (len(one), 13),
        ]
        assert end_of_log_file(str(path)) == 14
    assert [bytes(batch.data) for _, batch in file_batches(str(path), len(one))] == [two]
