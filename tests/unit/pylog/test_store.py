"""A store: topics, appending in every form, reading back, errors, ends."""

import copy
import errno
import gc
import os
import random
import threading
import time
from array import array
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import pylog
from pylog.records import Header
from pylog.types import TopicPartition

PWRITEV, FDATASYNC = 1, 6  # PLOG_SYS_*


@pytest.fixture
def store(tmp_path: Path) -> Iterator[pylog.Store]:
    with pylog.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def orders(store: pylog.Store) -> pylog.Partition:
    return store.create_topic("orders")[0]


# ------------------------------------------------------------------------------------------------------ one by one


def test_records_come_back_as_they_were_given(orders: pylog.Partition) -> None:
    assert orders.append(b"value", b"key", timestamp_ms=17, headers=[("h", b"1"), ("h", None)]) == 0
    assert orders.append(None) == 1
    assert orders.append(b"", b"", timestamp_ms=-1) == 2
    first, second, third = orders.read()
    assert first == pylog.Record(0, 17, b"key", b"value", (Header("h", b"1"), Header("h", None)))
    assert (second.key, second.value, second.headers) == (None, None, ())
    assert third == pylog.Record(2, -1, b"", b"")
    assert abs(second.timestamp_ms - int(time.time() * 1000)) < 60_000
    assert (orders.log_start_offset(), orders.log_end_offset()) == (0, 3)


def test_anything_like_bytes(orders: pylog.Partition) -> None:
    orders.append(bytearray(b"ab"), memoryview(b"key"))
    orders.append(memoryview(array("H", [1, 2])))
    assert [(record.key, record.value) for record in orders.read()] == [(b"key", b"ab"), (None, b"\1\0\2\0")]
    for value in ("text", 7, object()):
        with pytest.raises(TypeError):
            orders.append(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        orders.append(b"x", timestamp_ms="now")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key: bytes-like or None is wanted, not str"):
        orders.append(b"x", "key")  # type: ignore[arg-type]
    assert orders.log_end_offset() == 2


def test_many_of_all_kinds_at_once(orders: pylog.Partition) -> None:
    assert orders.append_many([]) == range(0)
    assert orders.append_many([b"a", b"b"]) == range(2)
    mixed = [b"c", pylog.NewRecord(b"d", b"k", 5, (Header("x", b"y"),)), None]
    assert orders.append_many(iter(mixed)) == range(2, 5)
    values = [(record.key, record.value, len(record.headers)) for record in orders.read()]
    assert values == [(None, b"a", 0), (None, b"b", 0), (None, b"c", 0), (b"k", b"d", 1), (None, None, 0)]


def test_large_calls_become_batches_of_a_thousand(orders: pylog.Partition) -> None:
    values = [b"%06d" % i for i in range(2_500)]
    assert orders.append_many(values) == range(2_500)
    assert [batch.header.records_count for batch in orders.read_batches()] == [1000, 1000, 500]
    assert [record.value for record in orders.read(1_700)] == values[1_700:]
    large = [bytes(100_000)] * 3
    orders.append_many(large)
    assert [batch.header.records_count for batch in orders.read_batches(2_500)] == [1, 1, 1]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs(store: pylog.Store, codec: str) -> None:
    topic = store.create_topic(codec, config={"compression.type": "uncompressed" if codec == "none" else codec})
    values = [b"some text, again and again " * 4 + b"%d" % i for i in range(300)]
    try:
        topic[0].append_many(values)
    except pylog.KafkaError as error:
        assert error.code == pylog.ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
        pytest.skip(f"no library for {codec} here")
    assert topic[0].append(values[0]) == 300
    assert {batch.codec.kafka_name for batch in topic[0].read_batches()} == {codec}
    assert [record.value for record in topic[0].read()] == [*values, values[0]]
    views = [view.value for batch in topic[0].read_mapped() for view in batch.record_views()]
    assert [bytes(view or b"") for view in views] == [*values, values[0]]


def test_a_codec_for_one_call(store: pylog.Store) -> None:
    partition = store.create_topic("t", config={"compression.type": "snappy"})[0]
    partition.append(b"a" * 100)
    partition.append(b"b" * 100, codec="none")
    partition.append_many([b"c" * 100] * 5, codec="gzip")
    assert [batch.codec.kafka_name for batch in partition.read_batches()] == ["snappy", "none", "gzip"]
    assert [(record.value or b"")[:1] for record in partition.read()] == [b"a", b"b", *[b"c"] * 5]
    with pytest.raises(ValueError, match="unknown compression codec"):
        partition.append(b"d", codec="rar")


def test_serdes(store: pylog.Store, orders: pylog.Partition) -> None:
    typed = pylog.TypedPartition(orders, key=pylog.Serde.TEXT, value=pylog.Serde.JSON)
    assert typed.append({"n": 1, "who": "Ä"}, "key", headers=[("h", b"")]) == 0
    assert typed.append(None, "gone") == 1
    assert typed.append_many([[1, 2], None, "x"]) == range(2, 5)
    first, gone, *rest = typed.read()
    assert (first.key, first.value, first.headers) == ("key", {"n": 1, "who": "Ä"}, (Header("h", b""),))
    assert (gone.offset, gone.key, gone.value) == (1, "gone", None)
    assert [record.value for record in rest] == [[1, 2], None, "x"]
    assert next(orders.read()).value == '{"n":1,"who":"Ä"}'.encode()
    numbers = pylog.TypedPartition(store.create_topic("n")[0], key=pylog.Serde.INT64, value=pylog.Serde.DOUBLE)
    numbers.append(0.5, -2)
    raw = next(store.partition("n").read())
    assert (raw.key, raw.value) == (b"\xff" * 7 + b"\xfe", bytes.fromhex("3fe0000000000000"))
    mixed = pylog.TypedReader(store.partition("n"), key=pylog.Serde.BYTES, value=pylog.Serde.DOUBLE)
    assert [(record.key, record.value) for record in mixed.read()] == [(raw.key, 0.5)]
    orders.append(b"{")
    with pytest.raises(ValueError, match="Expecting"):
        list(typed.read(5))


# --------------------------------------------------------------------------------------------------------- columns

WORDS = [b"one", b"", b"three", b"four"]
PACKED = b"".join(WORDS)
ENDS = [0, 3, 3, 8, 12]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (WORDS, WORDS),
        ([bytearray(b"one"), None, memoryview(b"three")], [b"one", None, b"three"]),
        ([memoryview(array("i", [1, 2]))], [array("i", [1, 2]).tobytes()]),
        (iter(WORDS), WORDS),
        (pylog.Packed(PACKED, np.array(ENDS, np.int64)), WORDS),
        (pylog.Packed(np.frombuffer(PACKED, np.uint8), array("i", ENDS)), WORDS),
        (pylog.Packed(PACKED, array("q", ENDS), np.array([0, 1, 0, 0], bool)), [b"one", None, b"three", b"four"]),
        (pylog.Packed(b"", array("q", [0])), []),
        (np.array([b"ab", b"cd"]), [b"ab", b"cd"]),
        (np.array([[1, 2, 3], [4, 5, 6]], np.uint8), [b"\1\2\3", b"\4\5\6"]),
        (np.array([1, 2], ">i8"), [b"\0\0\0\0\0\0\0\1", b"\0\0\0\0\0\0\0\2"]),
        (array("H", [258]), [b"\2\1"]),
    ],
)
def test_columns_of_every_form(orders: pylog.Partition, column: object, expected: list[bytes | None]) -> None:
    assert orders.append_columns(column) == range(len(expected))
    assert [record.value for record in orders.read()] == expected


def test_keys_times_and_headers_in_columns(orders: pylog.Partition) -> None:
    times = np.array([5, 6, 7, 4], np.int64)
    orders.append_columns(WORDS, keys=[b"k", None, b"", b"l"], timestamps_ms=times, headers=[[("a", b"1")], [], (), []])
    (columns,) = orders.read_columns()
    assert columns.timestamp_ms.tolist() == [5, 6, 7, 4]
    assert columns.offset.tolist() == [0, 1, 2, 3]
    assert columns.key.to_list() == [b"k", None, b"", b"l"]
    assert (columns.key[0], columns.key[1], columns.key[-2]) == (b"k", None, b"")
    assert columns.key.null is not None
    assert columns.key.null.tolist() == [False, True, False, False]
    assert columns.value.null is None
    assert columns.value.offsets.tolist() == ENDS
    assert columns.value.data.tobytes() == PACKED
    assert columns.has_headers
    assert columns.records()[0].headers == (Header("a", b"1"),)
    assert (columns.offset.dtype, columns.timestamp_ms.dtype) == (np.int64, np.int64)
    assert (columns.value.data.dtype, columns.value.offsets.dtype) == (np.uint8, np.int64)
    with pytest.raises(ValueError, match="read-only"):
        columns.value.data[0] = 1
    with pytest.raises(IndexError):
        columns.value[4]
    orders.append_columns(columns.value, keys=columns.key, timestamps_ms=9)
    assert [(r.key, r.value, r.timestamp_ms) for r in orders.read(4)][1] == (None, b"", 9)


@pytest.mark.parametrize(
    ("column", "more", "error", "words"),
    [
        (b"abc", {}, TypeError, "one bytes is no column"),
        ("abc", {}, TypeError, "one str is no column"),
        ([b"a", "b"], {}, TypeError, "a list of bytes-like values and None"),
        (7, {}, TypeError, "no column of bytes can be made of int"),
        ([b"a"], {"keys": [b"k", b"l"]}, ValueError, "2 keys for 1 values"),
        ([b"a"], {"timestamps_ms": [1, 2]}, ValueError, "2 for 1 records"),
        ([b"a"], {"timestamps_ms": np.array([1], np.int32)}, ValueError, "array of int64"),
        ([b"a"], {"headers": []}, ValueError, "headers: 0 for 1"),
        (pylog.Packed(b"abc", array("h", [0, 3])), {}, ValueError, "int32 or int64"),
        (pylog.Packed(b"abc", array("q", [0, 3]), b"\0\0"), {}, ValueError, "one byte per value, 1"),
        (np.zeros((4, 4), np.uint8)[:, ::2], {}, ValueError, "C-contiguous"),
    ],
)
def test_columns_that_do_not_fit(
    orders: pylog.Partition, column: object, more: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        orders.append_columns(column, **more)  # type: ignore[arg-type]
    assert orders.log_end_offset() == 0


@pytest.mark.parametrize("offsets", [[0, 4], [-1, 2], [0, 2, 1], [3, 1]])
def test_offsets_outside_the_data_are_refused(orders: pylog.Partition, offsets: list[int]) -> None:
    with pytest.raises(pylog.InvalidRecordError, match="offsets of a column"):
        orders.append_columns(pylog.Packed(b"abc", array("q", offsets)))
    assert orders.log_end_offset() == 0


def test_a_column_keeps_its_memory_while_others_are_read(orders: pylog.Partition) -> None:
    """Memory of a chunk is used again only when nothing refers to it."""
    orders.append_many([b"%07d" % i for i in range(100_000)])
    values = [columns.value for columns in orders.read_columns()]
    assert len(values) > 2
    assert b"".join(column.data.tobytes() for column in values) == b"".join(b"%07d" % i for i in range(100_000))


def test_arrow_arrays(orders: pylog.Partition) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    kinds = [pyarrow.binary(), pyarrow.large_binary(), pyarrow.string(), pyarrow.large_string()]
    for kind in kinds:
        whole = pyarrow.array(["skipped", "one", None, "three", ""], kind)
        offsets = orders.append_columns(whole[1:])
        assert [record.value for record in orders.read(offsets[0])] == [b"one", None, b"three", b""]
    fixed = pyarrow.array([b"ab", None, b"ef"], pyarrow.binary(2))
    offsets = orders.append_columns(fixed[1:], keys=fixed[:2])
    assert [(r.key, r.value) for r in orders.read(offsets[0])] == [(b"ab", None), (None, b"ef")]
    assert orders.append_columns(pyarrow.array([], pyarrow.binary())) == range(offsets[-1] + 1, offsets[-1] + 1)
    with pytest.raises(TypeError, match="Arrow array of binary"):
        orders.append_columns(pyarrow.array([1, 2]))
    (columns,) = orders.read_columns(end_offset=4)
    table = columns.to_arrow()
    assert table.column("value").to_pylist() == [b"one", None, b"three", b""]
    assert table.column("offset").to_pylist() == [0, 1, 2, 3]


# ---------------------------------------------------------------------------------------------------------- reading


def test_a_record_that_was_read_is_like_one_that_was_made(orders: pylog.Partition) -> None:
    orders.append(b"value", b"key", timestamp_ms=17)
    made = pylog.Record(0, 17, b"key", b"value")
    (read,) = orders.read()
    assert (read, hash(read), repr(read)) == (made, hash(made), repr(made))
    assert isinstance(read, pylog.Record)
    assert (read.offset, read.timestamp_ms, read.key, read.value, read.headers) == tuple(made)
    assert (read._fields, read._asdict()) == (made._fields, made._asdict())
    assert read._replace(offset=5) == made._replace(offset=5)
    assert read.__reduce_ex__(2) == made.__reduce_ex__(2)  # what a pickle of it says
    for again in (copy.copy(read), copy.deepcopy(read)):
        assert type(again) is pylog.Record
        assert again == made
    match read:
        case pylog.Record(offset=offset, value=value):
            assert (offset, value) == (0, b"value")
        case _:
            raise AssertionError("it does not match its class")
    (row,) = orders.read_rows()
    assert type(row) is tuple
    assert row == made


@pytest.mark.parametrize(
    "timestamps",
    [
        [7] * 300,
        [1] * 100 + [2] * 64 + [3] * 63 + [4] * 200,
        list(range(500)),
        [5] * 100 + [3] * 100 + [5] * 100,
        [9, 1] * 100,
        [-1] * 99 + [-1],
    ],
)
def test_times_that_repeat(orders: pylog.Partition, timestamps: list[int]) -> None:
    orders.append_columns([b"x"] * len(timestamps), timestamps_ms=timestamps)
    assert [record.timestamp_ms for record in orders.read()] == timestamps
    assert [row[1] for row in orders.read_rows(3)] == timestamps[3:]


@pytest.mark.parametrize("rows", [False, True])
def test_a_record_that_is_held_never_changes(orders: pylog.Partition, rows: bool) -> None:
    """The iterator fills tuples again that nobody holds, whatever somebody else does with their neighbours."""
    kept_headers = (Header("h", b"x"), Header("none", None))
    count = 2500
    expected = [
        pylog.Record(
            offset=i,
            timestamp_ms=10 + i // 7,
            key=None if i % 3 else b"k%d" % i,
            value=b"v%d" % i if i % 5 else None,
            headers=() if i % 11 else kept_headers,
        )
        for i in range(count)
    ]
    orders.append_many([pylog.NewRecord(r.value, r.key, r.timestamp_ms, r.headers) for r in expected])

    def reading() -> Iterator[tuple[object, ...]]:
        return iter(orders.read_rows() if rows else orders.read())

    assert list(reading()) == expected
    assert list(zip(reading(), islice(reading(), 1, None), strict=False)) == list(pairwise(expected))
    assert len(set(reading())) == count
    chance = random.Random(7)
    held: dict[int, tuple[object, ...]] = {}
    for i, record in enumerate(reading()):
        assert record == expected[i]
        if chance.random() < 0.4:
            held[i] = record
        elif held and chance.random() < 0.3:
            at, old = held.popitem()
            assert old == expected[at]
        if i % 500 == 0:
            gc.collect()
    assert held and all(record == expected[i] for i, record in held.items())
    last: list[tuple[object, ...]] = []
    for record in reading():
        last = [record]
    assert last == expected[-1:]


def test_where_reading_begins_and_ends(orders: pylog.Partition) -> None:
    orders.append_columns([b"%d" % i for i in range(10)], timestamps_ms=[100 * i for i in range(10)])
    offsets = lambda **how: [record.offset for record in orders.read(**how)]  # noqa: E731
    assert offsets() == list(range(10))
    assert offsets(start=4, end_offset=7) == [4, 5, 6]
    assert offsets(start="latest") == []
    assert offsets(start=10) == []
    assert offsets(timestamp_ms=450) == [5, 6, 7, 8, 9]
    assert offsets(timestamp_ms=10_000) == []
    assert offsets(max_records=3) == [0, 1, 2]
    assert orders.offset_for_timestamp(901) is None
    with pytest.raises(pylog.OffsetOutOfRangeError) as caught:
        orders.read(11)
    assert (caught.value.earliest, caught.value.latest) == (0, 10)
    assert orders.delete_records(6) == 6
    assert offsets() == [6, 7, 8, 9]
    with pytest.raises(pylog.OffsetOutOfRangeError):
        orders.read(5)
    with pytest.raises(ValueError, match="isolation"):
        orders.read(isolation="snapshot")  # type: ignore[arg-type]


def test_waiting_for_the_next_record(orders: pylog.Partition) -> None:
    assert list(orders.read(timeout_ms=5)) == []
    seen: list[pylog.Record] = []
    done = threading.Thread(target=lambda: seen.extend(orders.read(max_records=3, timeout_ms=None)))
    done.start()
    for i in range(3):
        orders.append(b"%d" % i)
    done.join(30)
    assert [record.value for record in seen] == [b"0", b"1", b"2"]


def test_closing_ends_a_wait(tmp_path: Path) -> None:
    store = pylog.open(tmp_path)
    partition = store.create_topic("t")[0]
    waiting = threading.Event()

    def wait() -> None:
        chunks = partition.read(timeout_ms=None)
        waiting.set()
        ended.extend(chunks)

    ended: list[pylog.Record] = []
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(30)
    store.close()
    thread.join(30)
    assert not thread.is_alive()
    for use in (lambda: partition.append(b"x"), lambda: partition.read(), lambda: store.topic("t"), store.flush):
        with pytest.raises(pylog.StoreClosedError):
            use()
    store.close()


def test_rolled_segments_are_read_through(store: pylog.Store) -> None:
    topic = store.create_topic("small", config={"segment.bytes": "2000", "index.interval.bytes": "300"})
    values = [b"%04d" % i * 10 for i in range(500)]
    for value in values:
        topic[0].append(value)
    assert len(list(Path(store.path, "small-0").glob("*.log"))) > 10
    assert [record.value for record in topic[0].read()] == values
    for offset in (0, 1, 77, 250, 499):
        assert next(topic[0].read(offset)).value == values[offset]
    assert topic[0].append_many(values) == range(500, 1000), "batches are cut to what a segment holds"
    assert [record.value for record in topic[0].read(500)] == values


def test_many_threads_append(store: pylog.Store) -> None:
    partition = store.create_topic("busy", config={"segment.bytes": "20000"})[0]
    given: dict[int, list[int]] = {n: [] for n in range(4)}

    def append(number: int) -> None:
        for i in range(300):
            if i % 10 == 9:
                given[number] += partition.append_many([b"%d:%d" % (number, i)] * 3)
            else:
                given[number].append(partition.append(b"%d:%d" % (number, i)))

    threads = [threading.Thread(target=append, args=(n,)) for n in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offset for offsets in given.values() for offset in offsets) == list(range(partition.log_end_offset()))
    writers = {record.offset: int(record.value.split(b":")[0]) for record in partition.read() if record.value}
    assert all(writers[offset] == number for number, offsets in given.items() for offset in offsets)


# ----------------------------------------------------------------------------------------------------------- topics


def test_topics_come_and_go(store: pylog.Store) -> None:
    topic = store.create_topic("a.b_c-1", 3, config={"retention.ms": "1000"})
    assert (len(topic), topic.name, store.topics(), "a.b_c-1" in store) == (3, "a.b_c-1", ["a.b_c-1"], True)
    assert store.config("a.b_c-1") == {"retention.ms": "1000"}
    with pytest.raises(pylog.TopicExistsError):
        store.create_topic("a.b_c-1")
    assert len(store.create_topic("a.b_c-1", 4, exist_ok=True)) == 4
    held = store.partition("a.b_c-1", 3)
    store.delete_topic("a.b_c-1")
    assert store.topics() == []
    with pytest.raises(pylog.StorageFailedError, match="was deleted"):
        held.append(b"x")
    with pytest.raises(pylog.UnknownTopicError):
        store.topic("a.b_c-1")
    assert store.create_topic("a.b_c-1")[0].append(b"x") == 0
    assert store.config("a.b_c-1") == {}


@pytest.mark.parametrize(
    ("name", "partitions", "config"),
    [("", 1, {}), ("..", 1, {}), ("a/b", 1, {}), ("x" * 250, 1, {}), ("ok", 0, {}), ("ok", 1, {"retention.ms": "x"}),
     ("ok", 1, {"no.such": "1"})],
)  # fmt: skip
def test_topics_that_cannot_be(store: pylog.Store, name: str, partitions: int, config: dict[str, str]) -> None:
    with pytest.raises(pylog.InvalidTopicError):
        store.create_topic(name, partitions, config=config)
    assert store.topics() == []


def test_settings_are_taken_up_at_once_and_kept(tmp_path: Path) -> None:
    with pylog.open(tmp_path) as store:
        topic = store.create_topic("t")
        topic[0].append(b"no key is fine")
        store.configure_topic("t", {"cleanup.policy": "compact", "max.message.bytes": "1000"})
        with pytest.raises(pylog.InvalidRecordError):
            topic[0].append(b"no key is refused")
        with pytest.raises(pylog.RecordTooLargeError):
            topic[0].append(bytes(1000), b"key")
    with pylog.open(tmp_path) as store:
        assert store.config("t") == {"cleanup.policy": "compact", "max.message.bytes": "1000"}
        with pytest.raises(pylog.InvalidRecordError):
            store.partition("t").append(b"no key")


def test_append_time(store: pylog.Store) -> None:
    partition = store.create_topic("t", config={"message.timestamp.type": "LogAppendTime"})[0]
    partition.append(b"x", timestamp_ms=5)
    (record,) = partition.read()
    assert record.timestamp_ms > 1_700_000_000_000


def test_keys_choose_partitions_as_kafka_does(store: pylog.Store) -> None:
    """Known pairs of Kafka's own test of its murmur2."""
    from pylog.topic import murmur2

    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: murmur2(key) - (1 << 32) for key in known} == known
    topic = store.create_topic("t", 4)
    where, offset = topic.append(b"v", b"foobar")
    assert (where, offset) == (TopicPartition("t", (-790332482 & 0x7FFFFFFF) % 4), 0)
    assert topic.partition_for(b"foobar").partition == where.partition
    assert {topic.append(b"v")[0].partition for _ in range(4)} == {0, 1, 2, 3}
    with pytest.raises(pylog.UnknownTopicError):
        topic[4]


# ------------------------------------------------------------------------------------------------------------- ends


def test_one_writer_many_readers(tmp_path: Path) -> None:
    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        with pytest.raises(pylog.DirectoryInUse):
            pylog.open(tmp_path)
        with pylog.open(tmp_path, "r") as one, pylog.open(tmp_path, mode="r") as other:
            partition.append(b"x")
            assert (
                [r.value for r in one.partition("t").read()] == [r.value for r in other.topic("t")[0].read()] == [b"x"]
            )
            assert one.partition("t").log_end_offset() == 1
            assert not hasattr(one.partition("t"), "append")
        with pytest.raises(pylog.StoreClosedError):
            one.topics()
    with pytest.raises(FileNotFoundError):
        pylog.open(tmp_path / "nowhere", "r")
    with pytest.raises(ValueError, match="mode"):
        pylog.open(tmp_path, "a")  # type: ignore[call-overload]


def test_everything_is_there_again(tmp_path: Path) -> None:
    for session in range(3):
        with pylog.open(tmp_path, durability="fsync") as store:
            partition = store.create_topic("t", exist_ok=True)[0]
            assert partition.append(b"%d" % session) == session
            assert [r.value for r in partition.read()] == [b"%d" % n for n in range(session + 1)]
            assert os.path.exists(tmp_path / ".lock")
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    assert not (tmp_path / ".lock").exists()


def test_fsync_makes_the_recovery_point_follow(store: pylog.Store, orders: pylog.Partition) -> None:
    orders.append(b"x")
    assert orders._log.info().recovery_point == 0
    orders.append(b"y", durability="fsync")
    assert orders._log.info().recovery_point == 2
    orders.append_many([b"z"] * 3, durability="fsync")
    assert orders._log.info().recovery_point == 5
    orders.append(b"z")
    store.flush()
    assert orders._log.info().recovery_point == 6


def test_a_full_disk_refuses_and_goes_on(store: pylog.Store, orders: pylog.Partition) -> None:
    orders.append(b"before")
    store._sys.fault(PWRITEV, 1, errno.ENOSPC)
    with pytest.raises(OSError) as caught:
        orders.append(b"lost")
    assert caught.value.errno == errno.ENOSPC
    assert orders.append(b"after") == 1
    store._sys.fault(PWRITEV, 3, errno.ENOSPC)
    with pytest.raises(OSError) as caught:
        orders.append_many([b"%d" % i for i in range(5_000)])
    assert caught.value.__notes__ == ["2000 of 5000 records were appended, from offset 2 on"]
    assert orders.log_end_offset() == 2002
    assert len(list(orders.read())) == 2002


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_failing_disk_closes_the_store(tmp_path: Path, call: str) -> None:
    store = pylog.open(tmp_path)
    orders = store.create_topic("orders")[0]
    orders.append(b"before", durability="fsync")
    store._sys.fault(PWRITEV if call == "write" else FDATASYNC, 1, errno.EIO)
    with pytest.raises((OSError, pylog.StorageFailedError)):
        orders.append(b"lost", durability="fsync")
    for _ in range(2):
        with pytest.raises(pylog.StorageFailedError, match="failed"):
            orders.append(b"never again")
    with pytest.raises(pylog.StoreClosedError):
        store.topics()
    store.close()
    with pylog.open(tmp_path) as again:
        assert next(again.partition("orders").read()).value == b"before"


@pytest.mark.parametrize("byte", [0, 4, 10, 17, 30, 60, 80])
def test_a_damaged_batch_is_never_returned(tmp_path: Path, byte: int) -> None:
    """byte: which of a batch's; the first 12 have no CRC over them, but offsets that cannot be here are found too."""
    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        for i in range(10):
            partition.append(b"%d" % i * 50)
        (file,) = Path(partition._log.path).glob("*.log")
        data = bytearray(file.read_bytes())
        size = len(data) // 10
        data[5 * size + byte] ^= 1
        file.write_bytes(data)
        for reading in (partition.read, pylog.open(tmp_path, "r").partition("t").read):
            seen = []
            with pytest.raises(pylog.DamagedLogError) as caught:
                for record in reading():
                    seen.append(record.offset)
            assert seen == list(range(5))
            assert (caught.value.file, caught.value.position) == (str(file), 5 * size)
        with pytest.raises(pylog.DamagedLogError):
            list(partition.read_mapped())
        if byte > 12:
            assert [r.offset for r in partition.read(6)] == [6, 7, 8, 9]
