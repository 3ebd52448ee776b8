"""Reading a directory while others change it: appends, rolls, deletion, compaction, truncation, torn tails."""

import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pylog
from pylog.cursor import Cursor
from pylog.records import NewRecord, RecordBatchBuilder
from pylog.segment import segment_file_name

SMALL = {"segment.bytes": "2000", "index.interval.bytes": "200"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[pylog.Store]:
    with pylog.open(tmp_path / "store") as opened:
        opened.create_topic("t", config=SMALL)
        yield opened


@pytest.fixture
def outside(store: pylog.Store) -> pylog.PartitionReader:
    """The partition as another process sees it."""
    return pylog.open(store.path, "r").partition("t")


def append(partition: pylog.Partition, count: int, size: int = 60) -> None:
    for _ in range(count):
        partition.append(b"%0*d" % (size, partition.log_end_offset()))


def offsets(records: Iterator[pylog.Record]) -> list[int]:
    return [record.offset for record in records]


def batch(offset: int, value: bytes = b"v", count: int = 1) -> bytes:
    return RecordBatchBuilder().build([NewRecord(5, None, value)] * count, base_offset=offset, leader_epoch=0)


# ------------------------------------------------------------------------------------------------- while it is read


def test_rolls_are_followed(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    partition = store.partition("t")
    seen: list[int] = []
    reading = threading.Thread(target=lambda: seen.extend(offsets(outside.read(max_records=300, timeout_ms=30_000))))
    reading.start()
    append(partition, 300)
    reading.join(60)
    assert seen == list(range(300))
    assert len(partition._log.segments()) > 10


def test_waiting_ends_when_nothing_comes(outside: pylog.PartitionReader) -> None:
    assert list(outside.read(timeout_ms=20)) == []
    assert outside.log_end_offset() == 0


def test_deletion_behind_a_reader_does_not_disturb_it(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    partition = store.partition("t")
    append(partition, 100)
    reading = outside.read()
    first = [next(reading).offset for _ in range(3)]
    partition.delete_records(90)
    store._manager.clean_up()
    for segment in Path(partition._log.path).glob("*.deleted"):
        segment.unlink()
    rest = []
    with pytest.raises(pylog.OffsetOutOfRangeError) as caught:
        for record in reading:
            rest.append(record.offset)
    assert first + rest == list(range(len(first + rest)))  # to the end of the file that was open
    assert len(rest) > 5
    assert caught.value.earliest == partition._log.segments()[0].base_offset
    assert offsets(outside.read(90)) == list(range(90, 100))


def replace_segments(partition_dir: Path, bases: list[int], keep: Callable[[int], bool]) -> None:
    """What a finished compaction leaves: one segment at the first base in place of all, the others renamed away."""
    from pylog.records import file_batches

    kept = b""
    for base in bases:
        for _, old in file_batches(str(partition_dir / segment_file_name(base, ".log"))):
            if keep(old.header.base_offset):
                kept += bytes(old.data)
    swap = partition_dir / (segment_file_name(bases[0], ".log") + ".swap")
    swap.write_bytes(kept)
    for base in bases:
        for suffix in (".log", ".index", ".timeindex"):
            name = partition_dir / segment_file_name(base, suffix)
            os.rename(name, str(name) + ".deleted")
    os.rename(swap, partition_dir / segment_file_name(bases[0], ".log"))


def test_a_compaction_swap_is_passed(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    """The file that is being read goes on to its end; the next offset is then looked for in what replaced the rest."""
    partition = store.partition("t")
    append(partition, 100)
    bases = [segment.base_offset for segment in partition._log.segments()]
    reading = outside.read()
    seen = [next(reading).offset]
    replace_segments(Path(partition._log.path), bases[:4], lambda offset: offset % 5 == 0 or offset == bases[4] - 1)
    seen += offsets(reading)
    in_old_file = list(range(bases[1]))
    compacted = [n for n in range(bases[1], bases[4]) if n % 5 == 0 or n == bases[4] - 1]
    after = list(range(bases[4], 100))
    buffered = [n for n in seen if n < bases[4] and n not in in_old_file + compacted]
    assert buffered == []
    assert seen == in_old_file + compacted + after
    # An offset that compaction took is where the next one is.
    assert next(outside.read(bases[2] + 1)).offset == next(n for n in compacted + after if n > bases[2])


def test_a_hole_at_the_end_of_a_segment_is_jumped(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    partition = store.partition("t")
    append(partition, 60)
    bases = [segment.base_offset for segment in partition._log.segments()]
    replace_segments(Path(partition._log.path), bases[1:2], lambda offset: offset == bases[1])
    assert offsets(outside.read()) == [*range(bases[1] + 1), *range(bases[2], 60)]


def test_a_cut_below_the_reader_is_told(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    """A follower that cut its log: what was read is gone, and that is not passed over in silence."""
    partition = store.partition("t")
    append(partition, 10)
    reading = outside.read(timeout_ms=5_000)
    assert [next(reading).offset for _ in range(10)] == list(range(10))
    partition._log.truncate(4, 0)
    with pytest.raises(pylog.OffsetOutOfRangeError, match="was cut below offset 10"):
        next(reading)


def test_the_topic_goes_away(store: pylog.Store, outside: pylog.PartitionReader) -> None:
    append(store.partition("t"), 3)
    store.delete_topic("t")
    with pytest.raises(pylog.UnknownTopicError):
        list(outside.read())
    with pytest.raises(pylog.UnknownTopicError):
        pylog.open(store.path, "r").partition("t")


# --------------------------------------------------------------------------------------------------- files as found


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """The only file of a partition that nobody writes."""
    (tmp_path / "dead" / "t-0").mkdir(parents=True)
    file = tmp_path / "dead" / "t-0" / segment_file_name(0, ".log")
    file.touch()
    return file


def dead(log_file: Path) -> pylog.PartitionReader:
    return pylog.open(log_file.parents[1], "r").partition("t")


def test_every_torn_tail_is_not_there_yet(log_file: Path) -> None:
    whole, torn = batch(0), batch(1, b"the second one")
    for cut in range(len(torn)):
        log_file.write_bytes(whole + torn[:cut])
        assert offsets(dead(log_file).read()) == [0], cut
        assert dead(log_file).log_end_offset() == 1
    log_file.write_bytes(whole + torn[:-1] + b"\1")
    assert offsets(dead(log_file).read()) == [0]


def test_a_tail_that_is_completed_is_read(log_file: Path) -> None:
    torn = batch(1)
    log_file.write_bytes(batch(0) + torn[:30])
    reading = dead(log_file).read(timeout_ms=30_000)
    assert next(reading).offset == 0
    with open(log_file, "ab") as file:
        file.write(torn[30:])
    assert next(reading).offset == 1


def test_preallocated_zeros_are_the_end(log_file: Path) -> None:
    log_file.write_bytes(batch(0) + bytes(10_000))
    assert offsets(dead(log_file).read()) == [0]
    assert dead(log_file).log_end_offset() == 1


def test_a_batch_without_its_length_is_not_there_yet(log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mapped tail leaves when the writer is killed before it has stored the length; and when it stores it, which
    tells nothing to who looks at a file's size and times, he who waits is told."""
    whole, following = batch(0), batch(1)
    log_file.write_bytes(whole + following[:8] + bytes(4) + following[12:] + bytes(5_000))
    assert offsets(dead(log_file).read()) == [0]
    assert dead(log_file).log_end_offset() == 1
    assert [one.header.base_offset for one in dead(log_file).read_mapped()] == [0]

    looked = threading.Event()
    is_written = Cursor.is_written

    def tell(cursor: Cursor) -> bool:
        found = is_written(cursor)
        looked.set()
        return found

    monkeypatch.setattr(Cursor, "is_written", tell)
    reading = dead(log_file).read(timeout_ms=30_000)
    assert next(reading).offset == 0
    seen: list[pylog.Record] = []
    waiting = threading.Thread(target=lambda: seen.append(next(reading)))
    waiting.start()
    assert looked.wait(30)
    with log_file.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[len(whole) + 8 : len(whole) + 12] = following[8:12]
    waiting.join(30)
    assert [record.offset for record in seen] == [1]
    assert [one.header.base_offset for one in dead(log_file).read_mapped()] == [0, 1]


def test_a_mapped_tail_is_read_from_outside_as_it_grows(tmp_path: Path) -> None:
    with pylog.open(tmp_path, mapped_tail=True) as store:
        partition = store.create_topic("t", config=SMALL)[0]
        outside = pylog.open(tmp_path, "r").partition("t")
        for count in range(1, 60):
            append(partition, 1)
            assert offsets(outside.read()) == list(range(count))
            assert outside.log_end_offset() == partition.log_end_offset() == count
            assert [one.header.base_offset for one in outside.read_mapped()] == list(range(count))
            assert [one.header.base_offset for one in partition.read_mapped()] == list(range(count))
        partition.append_many([b"x" * 100] * 1000)
        append(partition, 20)
        assert offsets(outside.read()) == list(range(1079))
    sizes = [file.stat().st_size for file in sorted((tmp_path / "t-0").glob("*.log"))]
    with pylog.open(tmp_path) as store:
        log = store.partition("t")._log
        assert sizes == [segment.size_bytes for segment in log.native.segments()]


def test_a_torn_batch_in_the_middle_is_damage(log_file: Path) -> None:
    log_file.write_bytes(batch(0) + batch(1)[:-3])
    log_file.with_name(segment_file_name(2, ".log")).write_bytes(batch(2))
    with pytest.raises(pylog.DamagedLogError):
        list(dead(log_file).read())


def test_a_batch_larger_than_a_read(log_file: Path) -> None:
    log_file.write_bytes(batch(0, bytes(900_000)) + batch(1, bytes(300_000), 3))
    sizes = [(record.offset, len(record.value or b"")) for record in dead(log_file).read()]
    assert sizes == [(0, 900_000), (1, 300_000), (2, 300_000), (3, 300_000)]


@pytest.mark.parametrize("content", [b"", b"\1", b"\xff" * 800, bytes(800), os.urandom(800)])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_an_index_of_no_use_is_not_believed(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pylog.open(tmp_path / "store") as store:
        topic = store.create_topic("t", config=SMALL)
        for i in range(50):
            topic[0].append(b"%060d" % i, timestamp_ms=1000 + i)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    for file in (tmp_path / "copy" / "t-0").glob("*" + suffix):
        file.write_bytes(content)
    partition = pylog.open(tmp_path / "copy", "r").partition("t")
    for start in range(0, 50, 7):
        assert offsets(partition.read(start)) == list(range(start, 50))
        assert partition.offset_for_timestamp(1000 + start) == start
    assert partition.offset_for_timestamp(1050) is None
    assert partition.log_end_offset() == 50


def test_a_directory_without_segments(tmp_path: Path) -> None:
    (tmp_path / "t-0").mkdir()
    partition = pylog.open(tmp_path, "r").partition("t")
    assert (partition.log_start_offset(), partition.log_end_offset(), list(partition.read())) == (0, 0, [])


WRITER = """
import sys
import pylog
store = pylog.open(sys.argv[1], mapped_tail=sys.argv[2] == "True")
partition = store.create_topic("t", config={"segment.bytes": "20000"}, exist_ok=True)[0]
print(partition.log_end_offset(), flush=True)
while True:
    print(partition.append(b"%050d" % partition.log_end_offset()), flush=True)
"""


@pytest.mark.parametrize("mapped_tail", [False, True])
def test_a_writer_that_is_killed_again_and_again(tmp_path: Path, mapped_tail: bool) -> None:
    """Every offset that it printed is there for a reader that follows, in the order of a counter, each once."""
    seen: list[pylog.Record] = []
    following: threading.Thread | None = None
    acknowledged = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(mapped_tail)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        start = int(writer.stdout.readline())
        assert start > acknowledged or not acknowledged
        if following is None:
            records = pylog.open(tmp_path, "r").partition("t").read(timeout_ms=2_000)
            following = threading.Thread(target=seen.extend, args=(records,))
            following.start()
        for _ in range(300):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split()[:-1])])
        writer.wait()
        writer.stdout.close()
    assert following is not None
    following.join(60)
    assert [record.offset for record in seen] == list(range(len(seen)))
    assert all(record.value == b"%050d" % record.offset for record in seen)
    assert len(seen) > acknowledged
