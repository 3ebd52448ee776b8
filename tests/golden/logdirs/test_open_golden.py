"""Opening the directories that Kafka brokers left, and leaving them as Kafka would."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog._native import Sys
from pylog.checkpoint import OffsetCheckpoint
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.dump import Dump, DumpOptions
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.producer_snapshot import read_producer_snapshot
from pylog.records import batches, file_batches
from pylog.types import TopicPartition

# log.index.size.max.bytes of those brokers; one topic has the default.
CONFIG = LogConfig(segment_index_bytes=102_400)
CopyOf = Callable[[str], Path]


@pytest.fixture
def open_directory() -> Iterator[Callable[[Path], LogManager]]:
    system = Sys()
    opened: list[LogManager] = []

    def open_one(path: Path) -> LogManager:
        manager = LogManager(
            LogManagerConfig((str(path),)),
            sys=system,
            clock=ManualClock(1_795_346_000_000),
            config_of=lambda topic: CONFIG._replace(segment_index_bytes=10 << 20) if topic == "defaultidx" else CONFIG,
        )
        opened.append(manager)
        manager.load()
        return manager

    yield open_one
    for manager in opened:
        manager.shutdown(clean=False)
    system.close()


def by_partition(manager: LogManager) -> dict[TopicPartition, Log]:
    return {log.partition: log for log in manager.logs()}


def ends_by_full_parse(directory: Path) -> dict[TopicPartition, int]:
    """Log ends from nothing but the .log files."""
    ends: dict[TopicPartition, int] = {}
    for path in sorted(directory.glob("*/*.log")):
        topic, _, number = path.parent.name.rpartition("-")
        partition = TopicPartition(topic, int(number))
        ends[partition] = int(path.name[:20])
        for _, batch in file_batches(str(path)):
            ends[partition] = batch.next_offset
    return ends


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def without_empty_epochs(found: dict[str, bytes], ends: dict[TopicPartition, int], name: str) -> bytes:
    """A leader notes its epoch before it has a record of it; whoever opens the log, Kafka too, drops that entry. Ours
    stays where the log is empty."""
    data = found[name]
    folder = name.partition("/")[0]
    if not any(log for other, log in found.items() if other.startswith(folder + "/") and other.endswith(".log")):
        return data
    topic, _, number = folder.rpartition("-")
    end = ends[TopicPartition(topic, int(number))]
    kept = [line for line in data.split(b"\n")[2:-1] if int(line.split()[1]) < end]
    return b"\n".join([b"0", b"%d" % len(kept), *kept, b""])


def records_of(log: Log) -> list[tuple[int, bytes | None, bytes | None]]:
    found = []
    offset = log.info().log_start_offset
    while data := log.read(offset, 1 << 20):
        for batch in batches(data):
            found += [(r.offset, r.key, r.value) for r in batch.records() if r.offset >= offset]
            offset = batch.next_offset
    return found


def test_a_clean_directory_opens_without_reading_records(
    copy_of: CopyOf, open_directory: Callable[[Path], LogManager]
) -> None:
    directory = copy_of("broker1-clean")
    ends = ends_by_full_parse(directory)
    # Damage that only reading would find.
    for path in directory.glob("*/*.log"):
        data = bytearray(path.read_bytes())
        if len(data) > 200:
            data[150] ^= 0xFF
            path.write_bytes(data)
    logs = by_partition(open_directory(directory))
    assert len(logs) == 30
    for partition, log in logs.items():
        assert log.open_report == (0,) * 7, partition
        assert log.info().log_end_offset == ends[partition]


def test_what_a_clean_directory_says_of_itself(
    golden: Path, copy_of: CopyOf, open_directory: Callable[[Path], LogManager]
) -> None:
    directory = copy_of("broker1-clean")
    recovery_points = OffsetCheckpoint(str(directory), "recovery-point-offset-checkpoint").read()
    manager = open_directory(directory)
    logs = by_partition(manager)
    assert {partition: log.info().log_end_offset for partition, log in logs.items()} == recovery_points
    assert logs[TopicPartition("trimmed", 0)].info().log_start_offset == 37
    assert logs[TopicPartition("txn", 0)].info().last_stable_offset_limit == 140
    assert logs[TopicPartition("a_Topic1", 0)].epochs() == [(0, 0), (1, 108)]
    for partition, log in logs.items():
        newest = max((golden / "broker1-clean" / str(partition)).glob("*.snapshot"), default=None)
        if newest is not None and int(newest.name[:20]) == log.info().log_end_offset:
            assert sorted(log.producers()) == sorted(read_producer_snapshot(str(newest))), partition
        assert log.topic_id is not None
    assert (
        manager.read_high_watermarks()
        == OffsetCheckpoint(str(golden / "broker1-clean"), "replication-offset-checkpoint").read()
    )


def test_every_record_is_read(copy_of: CopyOf, open_directory: Callable[[Path], LogManager]) -> None:
    directory = copy_of("broker1-clean")
    expected: dict[str, list[tuple[int, bytes | None, bytes | None]]] = {}
    for path in sorted(directory.glob("*/*.log")):
        records = [r for _, batch in file_batches(str(path)) for r in batch.records()]
        expected.setdefault(path.parent.name, []).extend((r.offset, r.key, r.value) for r in records)
    for partition, log in by_partition(open_directory(directory)).items():
        start = log.info().log_start_offset
        assert records_of(log) == [r for r in expected[str(partition)] if r[0] >= start], partition


def test_open_and_close_leave_a_clean_directory_as_it_was(
    copy_of: CopyOf, open_directory: Callable[[Path], LogManager]
) -> None:
    directory = copy_of("broker1-clean")
    before = {name: data for name, data in files(directory).items() if not name.endswith(".deleted")}
    open_directory(directory).shutdown(clean=True)
    after = files(directory)
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint"):
        assert sorted(after.pop(name).split(b"\n")) == sorted(before.pop(name).split(b"\n"))
    assert after.keys() == before.keys()
    ends = ends_by_full_parse(directory)
    for name, data in before.items():
        expected = data if not name.endswith("/leader-epoch-checkpoint") else without_empty_epochs(before, ends, name)
        assert after[name] == expected, name


def test_a_killed_directory_is_recovered(copy_of: CopyOf, open_directory: Callable[[Path], LogManager]) -> None:
    directory = copy_of("broker2-killed")
    ends = ends_by_full_parse(directory)
    logs_before = {name: data for name, data in files(directory).items() if name.endswith(".log")}
    manager = open_directory(directory)
    logs = by_partition(manager)
    assert {partition: log.info().log_end_offset for partition, log in logs.items()} == ends
    for partition, log in logs.items():
        assert log.open_report.truncated_bytes == 0, partition
        assert log.open_report.deleted_segments == 0, partition
        assert log.open_report.recovered_segments >= 1, partition
    manager.shutdown(clean=True)
    after = files(directory)
    assert {name: data for name, data in after.items() if name.endswith(".log")} == logs_before
    assert ".kafka_cleanshutdown" in after and ".lock" not in after
    assert not [name for name in after if name.endswith((".deleted", ".tmp"))]
    assert OffsetCheckpoint(str(directory), "recovery-point-offset-checkpoint").read() == ends
    problems = []
    for path in directory.glob("*/*.*"):
        if path.suffix in (".log", ".index", ".timeindex", ".txnindex", ".snapshot"):
            dump = Dump(str(path), DumpOptions(deep_iteration=True))
            assert [line for line in dump.lines() if line]
            problems += dump.problems
    assert problems == []
    again = by_partition(open_directory(directory))
    assert all(log.open_report == (0,) * 7 for log in again.values())
    assert {partition: log.info().log_end_offset for partition, log in again.items()} == ends


def test_what_is_derived_may_be_lost(copy_of: CopyOf, open_directory: Callable[[Path], LogManager]) -> None:
    """Only .log files and topic ids: everything else is made again."""
    directory = copy_of("broker2-killed")
    ends = ends_by_full_parse(directory)
    for path in directory.glob("*/*"):
        if path.suffix in (".index", ".timeindex", ".txnindex", ".snapshot") or path.name == "leader-epoch-checkpoint":
            path.unlink()
    for path in directory.glob("*-checkpoint"):
        path.unlink()
    logs = by_partition(open_directory(directory))
    assert {partition: log.info().log_end_offset for partition, log in logs.items()} == ends
    assert logs[TopicPartition("txn", 0)].info().last_stable_offset_limit == 140
    assert logs[TopicPartition("txn", 0)].aborted(0, 143) != []
    assert logs[TopicPartition("a_Topic1", 0)].epochs()[0] == (0, 0)


def test_a_killed_directory_read_twice_is_the_same(
    copy_of: CopyOf, open_directory: Callable[[Path], LogManager], tmp_path: Path
) -> None:
    """A crash during recovery: the second one begins from what the first left."""
    directory = copy_of("broker2-killed")
    ends = ends_by_full_parse(directory)
    manager = open_directory(directory)
    shutil.copytree(directory, tmp_path / "again", ignore=shutil.ignore_patterns(".lock"))
    manager.shutdown(clean=False)
    logs = by_partition(open_directory(tmp_path / "again"))
    assert {partition: log.info().log_end_offset for partition, log in logs.items()} == ends
