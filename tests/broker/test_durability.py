"""What is on the disk when: pylog.durability, flush.messages, flush.ms and the checkpoints, seen by the system calls.

The broker runs inside the test, so that its table of system calls can be counted and failed.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.broker.broker import Broker
from cluster.config import load
from cluster.protocol import messages as m
from pylog.log import Log
from pylog.types import TopicPartition
from tests.broker.batches import batch
from tests.broker.raw import Raw

PWRITEV, FSYNC, FDATASYNC = 1, 5, 6
CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR = 2, 56
WAIT_S = 20


@contextmanager
def running(directory: Path, settings: Mapping[str, str], dirs: int = 1) -> Iterator[tuple[Broker, Raw]]:
    """A broker and a connection to it. Its first data directory, with the metadata tree, is its own."""
    paths = ",".join(str(directory / f"d{i}") for i in range(dirs))
    broker = Broker(load(None, {"log.dirs": paths, "listeners": "PLAINTEXT://127.0.0.1:0", **settings}))
    broker.start()
    try:
        raw = Raw(int(broker.ready_line().split("127.0.0.1:")[1].split()[0]))
        try:
            yield broker, raw
        finally:
            raw.close()
    finally:
        broker.stop()


def create(raw: Raw, name: str, partitions: int = 1, **configs: str) -> None:
    topic = m.CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    topic.configs = [
        m.CreateTopicsRequest.CreatableTopicConfig(name=key.replace("_", "."), value=value)
        for key, value in configs.items()
    ]
    answer = raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000), 5)
    assert answer.topics[0].error_code == 0, answer.topics[0].error_message


def produce(raw: Raw, name: str, index: int = 0, acks: int = -1) -> int:
    """The error of one record to one partition."""
    part = m.ProduceRequest.PartitionProduceData(index=index, records=batch())
    topic = m.ProduceRequest.TopicProduceData(name=name, partition_data=[part])
    answer = raw.ask(m.ProduceRequest(acks=acks, timeout_ms=15_000, topic_data=[topic]), 8)
    return int(answer.responses[0].partition_responses[0].error_code)


def log_of(broker: Broker, name: str, index: int = 0) -> Log:
    log = broker.logs.get(TopicPartition(name, index))
    assert log is not None
    return log


def wait_for(condition: Callable[[], bool]) -> None:
    turn = threading.Event()
    for _ in range(WAIT_S * 200):
        if condition():
            return
        turn.wait(0.005)
    raise AssertionError("never came true")


def test_page_cache_waits_for_no_disk(tmp_path: Path) -> None:
    with running(tmp_path, {}) as (broker, raw):
        create(raw, "t")
        before = broker.sys.count(FDATASYNC)
        for acks in (1, -1):
            assert produce(raw, "t", acks=acks) == 0
        assert broker.sys.count(FDATASYNC) == before
        assert broker.engine.stats().syncs == 0


def test_group_commit_answers_when_it_is_on_the_disk(tmp_path: Path) -> None:
    with running(tmp_path, {"pylog.durability": "group-commit"}) as (broker, raw):
        create(raw, "t", partitions=2)
        names = broker.sys.count(FSYNC)
        for turn, acks in enumerate((1, -1, -1), 1):
            before = broker.sys.count(FDATASYNC)
            assert produce(raw, "t", acks=acks) == 0
            assert broker.sys.count(FDATASYNC) > before
            assert broker.engine.stats().syncs == turn
        # the names of the segment and of the partition were made durable with the first record, and then no more
        assert broker.sys.count(FSYNC) == names + 2


def test_flush_messages_says_how_many_are_answered_before_they_are_on_the_disk(tmp_path: Path) -> None:
    with running(tmp_path, {"log.flush.interval.messages": "3"}) as (broker, raw):
        create(raw, "t")
        for number in range(1, 9):
            before = broker.sys.count(FDATASYNC)
            assert produce(raw, "t", acks=-1 if number % 2 else 1) == 0
            assert (broker.sys.count(FDATASYNC) > before) == (number % 3 == 0)
            assert broker.engine.stats().syncs == number // 3


def test_group_commit_makes_durable_what_a_crash_left(tmp_path: Path) -> None:
    with running(tmp_path, {}) as (broker, raw):
        create(raw, "t")
        assert produce(raw, "t") == 0
    (tmp_path / "d0" / ".kafka_cleanshutdown").unlink()
    checkpoint = tmp_path / "d0" / "recovery-point-offset-checkpoint"
    checkpoint.write_text("0\n1\nt 0 0\n")
    with running(tmp_path, {"pylog.durability": "group-commit"}) as (broker, _):
        info = log_of(broker, "t").info()
        assert info.recovery_point == info.log_end_offset == 1


def test_a_failed_sync_takes_its_directory_offline_and_no_other(tmp_path: Path) -> None:
    with running(tmp_path, {"pylog.durability": "group-commit"}, dirs=2) as (broker, raw):
        create(raw, "t", partitions=2)
        lost, kept = log_of(broker, "t", 0).directory, log_of(broker, "t", 1).directory
        assert lost != kept
        assert produce(raw, "t", 0) == produce(raw, "t", 1) == 0
        broker.sys.fault(FDATASYNC, 1, errno.EIO)
        assert produce(raw, "t", 0) == KAFKA_STORAGE_ERROR
        wait_for(lambda: lost in broker.logs.offline_directories())
        assert broker.logs.live_directories() == [kept]
        assert produce(raw, "t", 0) != 0
        assert produce(raw, "t", 1) == 0


def fetched(raw: Raw, name: str) -> tuple[int, int]:
    """The error of a fetch from the start of partition 0, and how many bytes of records came."""
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(topic=name, partitions=[part])
    answer = raw.ask(m.FetchRequest(replica_id=-1, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[topic]), 7)
    found = answer.responses[0].partitions[0]
    return found.error_code, len(found.records or b"")


def test_a_write_that_fails_in_the_only_directory_leaves_reads_going_on(tmp_path: Path) -> None:
    """A second directory would be a reason to take this one offline; alone it is all there is to serve."""
    with running(tmp_path, {}) as (broker, raw):
        create(raw, "t")
        create(raw, "other")
        assert produce(raw, "t") == 0
        held = fetched(raw, "t")
        assert held[0] == 0 and held[1] > 0
        broker.sys.fault(PWRITEV, 1, errno.EIO)
        assert produce(raw, "t") == KAFKA_STORAGE_ERROR
        assert produce(raw, "t") == KAFKA_STORAGE_ERROR
        assert produce(raw, "other") == 0
        assert fetched(raw, "t") == held
        assert broker.logs.offline_directories() == {}


@pytest.mark.parametrize(
    ("settings", "configs"),
    [({"log.flush.interval.messages": "3"}, {}), ({}, {"flush_messages": "3"})],
    ids=["broker", "topic"],
)
def test_flush_messages(tmp_path: Path, settings: dict[str, str], configs: dict[str, str]) -> None:
    with running(tmp_path, settings) as (broker, raw):
        create(raw, "t", **configs)
        log = log_of(broker, "t")
        before = broker.sys.count(FDATASYNC)
        for _ in range(2):
            assert produce(raw, "t") == 0
        assert broker.sys.count(FDATASYNC) == before
        assert log.info().recovery_point == 0
        assert produce(raw, "t") == 0
        wait_for(lambda: log.info().recovery_point == 3)
        assert broker.sys.count(FDATASYNC) > before


@pytest.mark.parametrize(
    ("settings", "configs"),
    [({"log.flush.interval.ms": "1"}, {}), ({}, {"flush_ms": "1"})],
    ids=["broker", "topic"],
)
def test_flush_ms_and_the_checkpoint(tmp_path: Path, settings: dict[str, str], configs: dict[str, str]) -> None:
    often = {
        "log.flush.scheduler.interval.ms": "5",
        "log.flush.offset.checkpoint.interval.ms": "5",
        "log.initial.task.delay.ms": "0",
    }
    with running(tmp_path, {**often, **settings}) as (broker, raw):
        create(raw, "t", **configs)
        assert produce(raw, "t") == 0
        wait_for(lambda: log_of(broker, "t").info().recovery_point == 1)
        checkpoint = tmp_path / "d0" / "recovery-point-offset-checkpoint"
        wait_for(lambda: checkpoint.exists() and "t 0 1" in checkpoint.read_text())


# ---------------------------------------------------------------------------------- damage


def fetch(raw: Raw, name: str, offset: int) -> tuple[int, int]:
    """The error of a fetch, and how many bytes of records it has."""
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(topic=name, partitions=[part])
    asked = m.FetchRequest(replica_id=-1, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=[topic])
    answer = raw.ask(asked, 11).responses[0].partitions[0]
    return int(answer.error_code), len(answer.records or b"")


def damage(path: Path) -> int:
    """Flip a bit in the second batch; returns the size of one."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[8:12], "big") + 12
    data[size + 65] ^= 1
    path.write_bytes(data)
    return size


def test_a_damaged_batch_is_refused_and_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, {}) as (_, raw):
        create(raw, "t")
        for _ in range(4):
            assert produce(raw, "t") == 0
    size = damage(tmp_path / "d0" / "t-0" / f"{0:020d}.log")
    with running(tmp_path, {}) as (broker, raw):
        assert fetch(raw, "t", 0) == (0, size)
        for _ in range(3):
            assert fetch(raw, "t", 1) == (CORRUPT_MESSAGE, 0)
        assert fetch(raw, "t", 2) == (0, 2 * size)
        wait_for(lambda: broker.damages.batches == 1)
        assert broker.engine.stats().damaged_batches == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "damaged batch" in line]
    assert f"position={size}" in line
    assert "offsets=1-1" in line


def test_the_scrub_finds_damage_under_a_running_broker(tmp_path: Path) -> None:
    settings = {"log.initial.task.delay.ms": "0", "pylog.scrub.interval.ms": "5"}
    with running(tmp_path, settings) as (broker, raw):
        create(raw, "t", segment_bytes=str(4 * len(batch())))
        for _ in range(6):
            assert produce(raw, "t") == 0
        assert fetch(raw, "t", 1)[0] == 0  # sound, and known to be
        size = damage(tmp_path / "d0" / "t-0" / f"{0:020d}.log")
        wait_for(lambda: broker.damages.batches == 1)
        assert fetch(raw, "t", 0) == (0, size)
        assert fetch(raw, "t", 1) == (CORRUPT_MESSAGE, 0)
        assert broker.scrub is not None
        passes = broker.scrub.passes
        wait_for(lambda: broker.scrub is not None and broker.scrub.passes > passes + 1)
        assert broker.damages.batches == 1
