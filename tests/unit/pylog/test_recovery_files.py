"""A data directory of which one file beside the records is missing, empty, cut, garbage or zeros: it opens, holds what
it held, and says in one line what was wrong."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pylog import logger
from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.records import EndMarker, NewRecord, RecordBatchBuilder
from pylog.types import TopicPartition

PARTITION = TopicPartition("orders", 0)
TOPIC_ID = bytes(range(16))
CONFIG = LogConfig(index_interval_bytes=200, segment_index_bytes=10_000)
NOW_MS = 1_700_000_000_000


class Contents(NamedTuple):
    """What a log says of itself."""

    records: bytes
    start: int
    end: int
    epochs: list[tuple[int, int]]
    producers: list[tuple[int, ...]]
    aborted: list[tuple[int, int, int]]
    times: list[int | None]


def contents(log: Log) -> Contents:
    info = log.info()
    data, at = b"", info.log_start_offset
    while at < info.log_end_offset:
        piece = log.read(at, 1 << 20)
        data += piece
        header_at = 0
        while header_at < len(piece):
            at = int.from_bytes(piece[header_at : header_at + 8], "big")
            at += int.from_bytes(piece[header_at + 23 : header_at + 27], "big") + 1
            header_at += int.from_bytes(piece[header_at + 8 : header_at + 12], "big") + 12
    found = [log.offset_for_timestamp(NOW_MS + i) for i in range(0, 400, 37)]
    return Contents(
        data,
        info.log_start_offset,
        info.log_end_offset,
        [tuple(entry) for entry in log.epochs()],
        sorted(tuple(producer) for producer in log.producers()),
        log.aborted(0, info.log_end_offset),
        [one and one.offset for one in found],
    )


def fill(log: Log) -> None:
    """Three segments, two leader epochs, two idempotent producers, an aborted transaction in each segment."""
    builder = RecordBatchBuilder()
    try:
        sequence = 0
        for segment in range(3):
            epoch = 0 if segment == 0 else 4
            for i in range(40):
                end = log.info().log_end_offset
                records = [NewRecord(NOW_MS + end + k, b"k", b"v" * 20) for k in range(3)]
                producer = {0: -1, 1: 7, 2: 9}[i % 3]
                log.append(
                    builder.build(
                        records,
                        base_offset=end,
                        leader_epoch=epoch,
                        producer_id=producer,
                        producer_epoch=-1 if producer < 0 else 0,
                        base_sequence=-1 if producer < 0 else sequence + (i // 3) * 3,
                        transactional=producer == 9,
                    ),
                    NOW_MS,
                )
            sequence += 42
            end = log.info().log_end_offset
            marker = builder.build_end_marker(
                EndMarker(committed=False, coordinator_epoch=3),
                timestamp=NOW_MS + end,
                producer_id=9,
                producer_epoch=0,
                base_offset=end,
                leader_epoch=epoch,
            )
            log.append(marker, NOW_MS)
            if segment < 2:
                log.roll(NOW_MS)
    finally:
        builder.close()


OpenAt = Callable[[Path], LogManager]


@pytest.fixture
def open_at(system: Sys, clock: ManualClock) -> Iterator[OpenAt]:
    managers: list[LogManager] = []

    def open_one(path: Path) -> LogManager:
        config = LogManagerConfig((str(path),))
        manager = LogManager(config, sys=system, clock=clock, config_of=lambda _: CONFIG)
        managers.append(manager)
        manager.load()
        return manager

    yield open_one
    for manager in managers:
        manager.shutdown(clean=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A directory that was closed in order, and what its log says."""
    path = tmp_path_factory.mktemp("sound")
    system = Sys()
    manager = LogManager(LogManagerConfig((str(path),)), sys=system, clock=ManualClock(), config_of=lambda _: CONFIG)
    manager.load()
    log = manager.create(PARTITION, TOPIC_ID)
    fill(log)
    log.set_start(10)
    manager.checkpoint_high_watermarks({PARTITION: log.info().log_end_offset})
    said = contents(log)
    manager.shutdown()
    system.close()
    assert len(said.aborted) == 3 and len(said.epochs) == 2 and len(said.producers) == 2
    return path, said


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    def keep(level: int, line: str) -> None:
        if level >= logger.WARN:
            lines.append(line)

    monkeypatch.setattr(logger, "sink", keep)
    return lines


FIRST, MIDDLE, LAST = "00000000000000000000", "00000000000000000121", "00000000000000000242"
IN_PARTITION = [base + suffix for base in (FIRST, MIDDLE, LAST) for suffix in (".index", ".timeindex", ".txnindex")]
IN_PARTITION += [MIDDLE + ".snapshot", LAST + ".snapshot", "00000000000000000363.snapshot"]
IN_PARTITION += ["leader-epoch-checkpoint", "partition.metadata"]
OF_DIRECTORY = ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint"]
OF_DIRECTORY += ["cleaner-offset-checkpoint", ".kafka_cleanshutdown"]
DAMAGES = ["missing", "empty", "first byte", "half", "one entry less", "last byte less", "garbage", "zero"]


def damage(path: Path, how: str) -> None:
    data = path.read_bytes() if path.exists() else b"0\n1\norders 0 5\n"
    if how == "missing":
        path.unlink(missing_ok=True)
        return
    entry = {".index": 8, ".timeindex": 12, ".txnindex": 34, ".snapshot": 46}.get(path.suffix, 4)
    changed = {
        "empty": b"",
        "first byte": data[:1],
        "half": data[: len(data) // 2],
        "one entry less": data[:-entry],
        "last byte less": data[:-1],
        "garbage": random.Random(len(data)).randbytes(len(data)),
        "zero": bytes(len(data)),
    }[how]
    path.write_bytes(changed)


def file_in(directory: Path, name: str) -> Path:
    return directory / name if name in OF_DIRECTORY else directory / "orders-0" / name


def expected_of(said: Contents, name: str, how: str) -> Contents:
    """What nothing else on disk knows is lost, as in Kafka: aborted transactions of an index that ends earlier, or is
    gone, without a crash."""
    if name.endswith(".txnindex") and how in ("missing", "empty", "one entry less"):
        base = int(name.partition(".")[0])
        return said._replace(aborted=[one for one in said.aborted if not base <= one[2] < base + 121])
    return said


def same_records(found: Contents, said: Contents, name: str) -> None:
    if name == "log-start-offset-checkpoint" and found.start == 0:  # it begins with its first segment
        assert found.records.endswith(said.records)
        found = found._replace(records=said.records, start=said.start, aborted=said.aborted, epochs=said.epochs)
        found = found._replace(times=said.times)
    assert found == said


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", IN_PARTITION + OF_DIRECTORY)
def test_after_a_clean_stop(
    name: str, how: str, sound: tuple[Path, Contents], tmp_path: Path, open_at: OpenAt, warnings: list[str]
) -> None:
    directory = tmp_path / "d"
    shutil.copytree(sound[0], directory)
    path = file_in(directory, name)
    damage(path, how)
    manager = open_at(directory)
    manager.read_high_watermarks()
    log = manager.get(PARTITION)
    assert log is not None
    same_records(contents(log), expected_of(sound[1], name, how), name)
    manager.clean_up()
    assert len([line for line in warnings if "deleted" not in line]) <= 2, warnings
    check_told(name, how, path, warnings)
    # What was put right is right for good: the next start has nothing to say.
    manager.shutdown()
    warnings.clear()
    again = open_at(directory)
    reopened = again.get(PARTITION)
    assert reopened is not None
    same_records(contents(reopened), expected_of(sound[1], name, how), name)
    if name != "partition.metadata" and not (
        name.endswith(".snapshot") and not name.startswith("00000000000000000363")
    ):
        again.clean_up()
        assert not warnings


QUIET = {
    # Nothing tells that it was there.
    ("log-start-offset-checkpoint", "missing"),
    ("recovery-point-offset-checkpoint", "missing"),
    ("replication-offset-checkpoint", "missing"),
    ("partition.metadata", "missing"),
}


def check_told(name: str, how: str, path: Path, warnings: list[str]) -> None:
    """One line when something was wrong that had to be, or could not be, put right."""
    if name in ("cleaner-offset-checkpoint", ".kafka_cleanshutdown") or (name, how) in QUIET:
        return
    if name.endswith(".txnindex") and how in ("missing", "empty", "one entry less"):
        return
    if name.endswith(".index") and how in ("one entry less", "half"):
        return  # an offset index that ends early is right
    if (name in OF_DIRECTORY or name == "leader-epoch-checkpoint") and how == "last byte less":
        return  # only the line's end
    if name in (MIDDLE + ".snapshot", LAST + ".snapshot"):
        return  # not asked for after a clean stop
    assert len(warnings) == 1, warnings
    assert name.partition(".")[0].lstrip("0") in warnings[0] or "orders-0" in warnings[0] or name in warnings[0]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", IN_PARTITION + OF_DIRECTORY[:3])
def test_after_a_crash(
    name: str, how: str, sound: tuple[Path, Contents], tmp_path: Path, open_at: OpenAt, warnings: list[str]
) -> None:
    """The same without the clean stop's mark, when nothing but the first segment is known to be durable."""
    directory = tmp_path / "d"
    shutil.copytree(sound[0], directory)
    (directory / ".kafka_cleanshutdown").unlink()
    (directory / "recovery-point-offset-checkpoint").write_bytes(b"0\n1\norders 0 121\n")
    damage(file_in(directory, name), how)
    log = open_at(directory).get(PARTITION)
    assert log is not None
    expected = sound[1]
    if name.startswith(FIRST) or name.endswith("checkpoint"):
        expected = expected_of(expected, name, how)
    same_records(contents(log), expected, name)


def test_all_at_once(sound: tuple[Path, Contents], tmp_path: Path, open_at: OpenAt) -> None:
    """Nothing but the records, and no mark: everything that is derived is derived again."""
    directory = tmp_path / "d"
    shutil.copytree(sound[0], directory)
    for name in os.listdir(directory):
        if (directory / name).is_file():
            (directory / name).unlink()
    for name in os.listdir(directory / "orders-0"):
        if not name.endswith(".log"):
            (directory / "orders-0" / name).unlink()
    log = open_at(directory).get(PARTITION)
    assert log is not None
    same_records(contents(log), sound[1], "log-start-offset-checkpoint")
