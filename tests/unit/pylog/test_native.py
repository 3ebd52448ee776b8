"""The typed wrappers of the C library's lower half: values go in and come out as they are, codes become exceptions, and
handles end once."""

import errno
import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylog import _native
from pylog._native import (
    INT64_MAX,
    BatchBuilder,
    Log,
    LogSettings,
    NativeError,
    ProducerInfo,
    ShortBatch,
    Sys,
    batch_records,
    batch_rows,
    check,
    check_batch,
    compress,
    crc32c,
    decode_snapshot,
    decompress,
    encode_snapshot,
    read_batch_header,
)
from pylog.errors import ErrorCode, KafkaError

CODECS = [0, 1, 2, 3, 4]
SETTINGS = LogSettings(600, 1 << 40, 0, 10_000, 200, INT64_MAX, False, 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)


def build(base: int = 0, count: int = 3, codec: int = 0, value: bytes = b"value" * 10) -> bytes:
    builder = BatchBuilder()
    builder.reset(base, codec, partition_leader_epoch=2)
    for i in range(count):
        builder.add(1000 + i, b"key" if i else None, value if i != 1 else None)
    data = builder.finish()
    builder.close()
    return data


# ------------------------------------------------------------------------------------------------ return codes


def test_return_codes_become_exceptions() -> None:
    check(0)
    with pytest.raises(OSError, match="where") as no_space:
        check(-errno.ENOSPC, "where")
    assert no_space.value.errno == errno.ENOSPC
    with pytest.raises(KafkaError) as kafka:
        check(ErrorCode.OFFSET_OUT_OF_RANGE)
    assert kafka.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
    with pytest.raises(NativeError) as ours:
        check(_native.lib.PLOG_E_NOT_FOUND)
    assert ours.value.code == _native.lib.PLOG_E_NOT_FOUND


# ------------------------------------------------------------------------------------------------ checksums, codecs


def test_known_checksums() -> None:
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283


@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_a_checksum_is_continued_anywhere(data: bytes, cut: int) -> None:
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60)
@given(st.binary(max_size=2000), st.integers(1, 60))
def test_codecs_give_back_what_they_got(codec: int, data: bytes, times: int) -> None:
    data = data * times
    packed = compress(codec, data)
    assert decompress(codec, packed, max(len(data), 1)) == data
    if data:
        with pytest.raises(KafkaError) as too_large:
            decompress(codec, packed, len(data) - 1)
        assert too_large.value.code == ErrorCode.MESSAGE_TOO_LARGE


@given(st.binary(max_size=5000))
def test_gzip_is_everybodys_gzip(data: bytes) -> None:
    assert gzip.decompress(compress(1, data)) == data
    assert decompress(1, gzip.compress(data) + gzip.compress(b"more"), 10_000) == data + b"more"


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60)
@given(st.binary(max_size=500), st.data())
def test_damage_is_refused_or_harmless(codec: int, data: bytes, draw: st.DataObject) -> None:
    packed = bytearray(compress(codec, data))
    if packed:
        packed[draw.draw(st.integers(0, len(packed) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        decompress(codec, bytes(packed), 10_000)
    except KafkaError as e:
        assert e.code in (ErrorCode.CORRUPT_MESSAGE, ErrorCode.MESSAGE_TOO_LARGE)


def test_unknown_codecs() -> None:
    for codec in (5, 7, -1):
        with pytest.raises(KafkaError) as unknown:
            compress(codec, b"x")
        assert unknown.value.code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


# ------------------------------------------------------------------------------------------------ record batches

RECORDS = st.lists(
    st.tuples(INT64, st.none() | st.binary(max_size=50), st.none() | st.binary(max_size=300)), min_size=1, max_size=80
)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=40)
@given(RECORDS, INT64.map(lambda n: n >> 2 if n >= 0 else 0), INT16, INT32)
def test_records_come_back(
    codec: int, records: list[tuple[int, bytes | None, bytes | None]], base: int, epoch: int, leader_epoch: int
) -> None:
    builder = BatchBuilder()
    builder.reset(
        base, codec | 0x10, producer_id=77, producer_epoch=epoch, base_sequence=5, partition_leader_epoch=leader_epoch
    )
    for timestamp, key, value in records:
        builder.add(timestamp, key, value, b"\x02h\x01", 1)
    data = builder.finish()
    builder.close()
    header = check_batch(data)
    assert header == read_batch_header(b"???" + data, 3)
    assert header.size_bytes == len(data)
    assert (header.base_offset, header.records_count, header.last_offset_delta) == (
        base,
        len(records),
        len(records) - 1,
    )
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (77, epoch, 5)
    assert header.partition_leader_epoch == leader_epoch
    assert header.base_timestamp == records[0][0]
    assert header.max_timestamp == max(-1, *(timestamp for timestamp, _, _ in records))
    found = batch_records(data, 1 << 20)
    assert [(r.timestamp, r.key, r.value) for r in found] == records
    assert [r.offset for r in found] == list(range(base, base + len(records)))
    assert {(r.headers, r.headers_count) for r in found} == {(b"\x02h\x01", 1)}
    assert batch_rows(data, 1 << 20) == [(r.offset, r.key, r.value) for r in found]


def test_short_and_broken_batches() -> None:
    data = build()
    for size, needed in ((0, 0), (11, 0), (12, len(data)), (len(data) - 1, len(data))):
        with pytest.raises(ShortBatch) as short:
            read_batch_header(data[:size])
        assert short.value.needed_bytes == needed
    for at, value in ((16, 1), (16, 3), (8, 0xFF)):
        broken = bytearray(data)
        broken[at] = value
        with pytest.raises(KafkaError) as corrupt:
            read_batch_header(bytes(broken))
        assert corrupt.value.code == ErrorCode.CORRUPT_MESSAGE
    broken = bytearray(data)
    broken[-1] ^= 1
    assert read_batch_header(bytes(broken)).records_count == 3
    with pytest.raises(KafkaError):
        check_batch(bytes(broken))


def test_records_larger_than_the_limit() -> None:
    data = build(codec=4, value=bytes(100_000))
    assert len(data) < 1000
    assert [len(r.value or b"") for r in batch_records(data, 1 << 20)] == [100_000, 0, 100_000]
    with pytest.raises(KafkaError) as too_large:
        batch_records(data, 10_000)
    assert [len(value or b"") for _, _, value in batch_rows(data, 1 << 20)] == [100_000, 0, 100_000]
    assert too_large.value.code == ErrorCode.MESSAGE_TOO_LARGE


def test_a_batch_has_a_record() -> None:
    builder = BatchBuilder()
    builder.reset(0, 0)
    with pytest.raises(OSError, match="Invalid"):
        builder.finish()
    builder.close()
    builder.close()
    with pytest.raises(ValueError, match="closed"):
        builder.add(0, None, None)


# ------------------------------------------------------------------------------------------------ snapshots

PRODUCERS = st.lists(st.builds(ProducerInfo, INT64, INT16, INT32, INT64, INT32, INT64, INT32, INT64), max_size=20)


@given(PRODUCERS)
def test_snapshots_come_back(producers: list[ProducerInfo]) -> None:
    data = encode_snapshot(producers)
    assert len(data) == 10 + 46 * len(producers)
    assert struct.unpack_from(">hIi", data) == (1, crc32c(data[6:]), len(producers))
    assert decode_snapshot(data) == producers
    with pytest.raises(KafkaError):
        decode_snapshot(data[:-1])
    with pytest.raises(KafkaError):
        decode_snapshot(data[:2] + bytes([data[2] ^ 1]) + data[3:])


# ------------------------------------------------------------------------------------------------ logs


def open_log(sys: Sys, path: Path, segments: list[int], *, clean: bool = True, recovery_point: int = 0) -> Log:
    log, _ = Log.open(
        sys,
        str(path),
        SETTINGS,
        segments,
        log_start=0,
        recovery_point=recovery_point,
        clean=clean,
        epochs=None,
        now_ms=0,
    )
    return log


def test_a_log_from_end_to_end(system: Sys, tmp_path: Path) -> None:
    log = open_log(system, tmp_path, [])
    batches = [build(base) for base in range(0, 60, 3)]
    assert log.append(batches[0] + batches[1], 0) == 5
    for data in batches[2:]:
        log.append(data, 0)
    info = log.info()
    assert (info.log_start_offset, info.log_end_offset, info.recovery_point, info.latest_epoch) == (0, 60, 0, 2)
    assert info.size_bytes == sum(map(len, batches))
    segments = log.segments()
    assert len(segments) == info.segment_count > 1
    assert [s.next_offset for s in segments[:-1]] == [s.base_offset for s in segments[1:]]
    assert log.read(4, INT64_MAX, 1, True) == batches[1]
    assert log.read(4, 9, 1 << 20, True) == batches[1] + batches[2]
    assert log.read(60, INT64_MAX, 1, True) == b""
    with pytest.raises(KafkaError) as beyond:
        log.read(61, INT64_MAX, 1, True)
    assert beyond.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert log.offset_for_timestamp(1002) == (2, 1002, 2)
    assert log.offset_for_timestamp(2000) is None
    assert log.max_timestamp() == (2, 1002, 2)
    assert log.end_offset_for_epoch(2) == (2, 60)
    assert log.epochs() == [(2, 0)]
    assert log.flush() == 60
    log.truncate(30, 0)
    assert log.info().recovery_point == 30
    log.set_start(10)
    assert log.delete_segments(10) >= 1
    log.roll(0)
    bases = [s.base_offset for s in log.segments()]
    log.close(clean=True)
    log.close(clean=True)
    with pytest.raises(ValueError, match="closed"):
        log.info()
    again = open_log(system, tmp_path, bases, clean=False)
    assert again.info().log_end_offset == 30
    again.truncate_fully(100, 0)
    assert again.info()[:2] == (100, 100)
    again.close(clean=False)


def test_faults_reach_the_caller(system: Sys, tmp_path: Path) -> None:
    log = open_log(system, tmp_path, [])
    log.append(build(0), 0)
    writes = system.count(_native.lib.PLOG_SYS_PWRITEV)
    system.fault(_native.lib.PLOG_SYS_PWRITEV, 1, errno.ENOSPC)
    with pytest.raises(OSError, match="No space") as full:
        log.append(build(3), 0)
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(tmp_path)
    assert system.count(_native.lib.PLOG_SYS_PWRITEV) == writes + 1
    assert log.info().log_end_offset == 3
    assert log.append(build(3), 0) == 5
    log.close(clean=False)
    with pytest.raises(OSError, match="Invalid"):
        system.fault(99, 1, errno.EIO)


def test_a_closed_table_is_refused() -> None:
    table = Sys()
    table.close()
    table.close()
    with pytest.raises(ValueError, match="closed"):
        table.count()
