"""One partition's log: its files, its side files, retention, faults, and giving it to an owner."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog import _native
from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.errors import ErrorCode, KafkaError
from pylog.files import FlushError
from pylog.leader_epoch import EpochEntry
from pylog.log import Log, create_log, open_log
from pylog.log_owner import HostedOwner
from pylog.records import NewRecord, RecordBatchBuilder, batches
from pylog.types import TopicPartition

ORDERS = TopicPartition("orders", 0)
TOPIC_ID = bytes(range(16))
SMALL = LogConfig(segment_bytes=1_000, index_interval_bytes=100, segment_index_bytes=1_000)

MakeBatch = Callable[..., bytes]
OpenLog = Callable[..., Log]


@pytest.fixture
def log(tmp_path: Path, system: Sys, clock: ManualClock) -> Iterator[Log]:
    created = create_log(
        system, ORDERS, str(tmp_path), config=SMALL, topic_id=TOPIC_ID, now_ms=0, wall_ms=clock.wall_ms()
    )
    yield created
    created.unhost()
    created.close(clean=False)


@pytest.fixture
def reopen(tmp_path: Path, system: Sys, clock: ManualClock) -> Iterator[OpenLog]:
    opened: list[Log] = []

    def open_again(*, clean: bool, recovery_point: int = 0, log_start: int = 0, config: LogConfig = SMALL) -> Log:
        log = open_log(
            system,
            ORDERS,
            str(tmp_path / "orders-0"),
            config=config,
            recovery_point=recovery_point,
            log_start=log_start,
            clean=clean,
            now_ms=0,
            wall_ms=clock.wall_ms(),
        )
        opened.append(log)
        return log

    yield open_again
    for log in opened:
        log.close(clean=False)


def names(path: str) -> set[str]:
    return set(os.listdir(path))


def fill(log: Log, make_batch: MakeBatch, count: int, **more: int) -> None:
    for _ in range(count):
        log.append(make_batch(log.info().log_end_offset, **more), 0)


def test_a_new_log(log: Log, tmp_path: Path) -> None:
    assert log.path == str(tmp_path / "orders-0")
    assert (tmp_path / "orders-0" / "leader-epoch-checkpoint").read_bytes() == b""
    assert (tmp_path / "orders-0" / "partition.metadata").stat().st_size == 43
    assert "00000000000000000000.log" in names(log.path)
    assert log.info()[:2] == (0, 0)
    assert log.read(0, 1_000) == b""


def test_it_is_not_made_twice(log: Log, tmp_path: Path, system: Sys) -> None:
    with pytest.raises(FileExistsError):
        create_log(system, ORDERS, str(tmp_path), config=SMALL, topic_id=None, now_ms=0, wall_ms=0)
    assert names(log.path) >= {"partition.metadata"}


def test_what_a_failed_creation_leaves_is_removed(tmp_path: Path, system: Sys, log: Log) -> None:
    system.fault(-1, 1, 5)
    other = TopicPartition("other", 0)
    with pytest.raises(OSError):
        create_log(system, other, str(tmp_path), config=SMALL, topic_id=TOPIC_ID, now_ms=0, wall_ms=0)
    assert names(str(tmp_path)) == {"orders-0"}
    create_log(system, other, str(tmp_path), config=SMALL, topic_id=TOPIC_ID, now_ms=0, wall_ms=0).close(clean=True)


def test_append_and_read(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 10)
    assert log.info().log_end_offset == 30
    assert log.info().segment_count > 1
    offsets = [record.offset for batch in batches(log.read(0, 1 << 20)) for record in batch.records()]
    assert offsets[0] == 0 and offsets == list(range(len(offsets)))
    assert [batch.header.base_offset for batch in batches(log.read(4, 1))] == [3]
    assert log.read(30, 100) == b""
    with pytest.raises(KafkaError) as caught:
        log.read(31, 100)
    assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_a_batch_out_of_place_is_refused(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 1)
    with pytest.raises(KafkaError):
        log.append(make_batch(2), 0)
    assert log.info().log_end_offset == 3


def test_changes_are_announced_and_caught_up(log: Log, make_batch: MakeBatch, tmp_path: Path) -> None:
    told: list[Log] = []
    log.on_change(told.append)
    log.configure(SMALL._replace(segment_bytes=1 << 20))
    fill(log, make_batch, 1, leader_epoch=2)
    assert told == [log]
    log.catch_up(now_ms=7)
    checkpoint = tmp_path / "orders-0" / "leader-epoch-checkpoint"
    assert checkpoint.read_bytes() == b"0\n1\n2 0\n"
    fill(log, make_batch, 1, leader_epoch=2)
    assert told == [log]
    fill(log, make_batch, 1, leader_epoch=5)
    assert told == [log, log]
    log.catch_up(now_ms=8)
    assert checkpoint.read_bytes() == b"0\n2\n2 0\n5 6\n"
    assert log.info().recovery_point == 0
    log.configure(SMALL)
    fill(log, make_batch, 5, leader_epoch=5)
    assert len(told) > 2
    log.catch_up(now_ms=9)
    assert log.info().recovery_point == log.info().log_end_offset
    assert log.last_flush_ms == 9


def test_a_clean_close_reads_nothing_at_the_next_open(log: Log, make_batch: MakeBatch, reopen: OpenLog) -> None:
    fill(log, make_batch, 10, leader_epoch=3)
    end = log.info().log_end_offset
    log.close(clean=True)
    log.close(clean=True)
    again = reopen(clean=True, recovery_point=end)
    assert again.open_report == (0,) * 7
    assert again.info().log_end_offset == end
    assert again.epochs() == [EpochEntry(3, 0)]
    assert again.topic_id == TOPIC_ID


@pytest.mark.parametrize("cut", [1, 61, 100])
def test_a_torn_tail_is_cut(log: Log, make_batch: MakeBatch, reopen: OpenLog, cut: int) -> None:
    fill(log, make_batch, 10)
    active = log.segments()[-1]
    log.close(clean=False)
    path = os.path.join(log.path, f"{active.base_offset:020d}.log")
    os.truncate(path, active.size_bytes - cut)
    again = reopen(clean=False)
    assert again.info().log_end_offset == 27
    assert again.open_report.truncated_bytes == len(make_batch(27)) - cut
    assert again.append(make_batch(27), 0) == 29


def test_leader_epochs_that_never_reached_the_file_are_found(
    log: Log, make_batch: MakeBatch, reopen: OpenLog, tmp_path: Path
) -> None:
    fill(log, make_batch, 2, leader_epoch=1)
    fill(log, make_batch, 2, leader_epoch=4)
    log.close(clean=False)
    assert (tmp_path / "orders-0" / "leader-epoch-checkpoint").read_bytes() == b""
    again = reopen(clean=False)
    assert again.epochs() == [EpochEntry(1, 0), EpochEntry(4, 6)]
    assert (tmp_path / "orders-0" / "leader-epoch-checkpoint").read_bytes() == b"0\n2\n1 0\n4 6\n"


@pytest.mark.parametrize("damage", [b"0\n7\n", b"\0" * 10, None])
def test_a_lost_leader_epoch_file_is_made_again(
    log: Log, make_batch: MakeBatch, reopen: OpenLog, tmp_path: Path, damage: bytes | None
) -> None:
    fill(log, make_batch, 4, leader_epoch=1)
    fill(log, make_batch, 4, leader_epoch=4)
    end = log.info().log_end_offset
    log.close(clean=True)
    path = tmp_path / "orders-0" / "leader-epoch-checkpoint"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert reopen(clean=True, recovery_point=end).epochs() == [EpochEntry(1, 0), EpochEntry(4, 12)]
    assert path.read_bytes() == b"0\n2\n1 0\n4 12\n"


def test_a_lost_topic_id_can_be_said_again(log: Log, reopen: OpenLog, tmp_path: Path) -> None:
    log.close(clean=True)
    path = tmp_path / "orders-0" / "partition.metadata"
    path.write_bytes(b"")
    again = reopen(clean=True)
    assert again.topic_id is None
    again.assign_topic_id(bytes(16))
    assert again.topic_id is None
    again.assign_topic_id(TOPIC_ID)
    again.assign_topic_id(TOPIC_ID)
    assert path.stat().st_size == 43
    with pytest.raises(KafkaError) as caught:
        again.assign_topic_id(bytes(15) + b"x")
    assert caught.value.code == ErrorCode.INCONSISTENT_TOPIC_ID


def test_retention_by_size(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 20)
    segments = log.segments()
    size = log.info().size_bytes
    log.configure(
        SMALL._replace(retention_bytes=size - segments[0].size_bytes - segments[1].size_bytes, retention_ms=-1)
    )
    deletion = log.retain(wall_ms=0)
    assert deletion is not None and deletion.segment_count == 2
    assert [s.base_offset for s in log.segments()] == [s.base_offset for s in segments[2:]]
    assert log.info().log_start_offset == segments[2].base_offset
    gone = {f"{s.base_offset:020d}.log.deleted" for s in segments[:2]}
    assert gone <= {os.path.basename(path) for path in log.deleted_files()}
    assert not any(f"{segments[0].base_offset:020d}.log" == name for name in names(log.path))
    assert log.retain(wall_ms=0) is None
    with pytest.raises(KafkaError):
        log.read(0, 100)


def test_retention_by_time_takes_the_active_segment_too(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 20, timestamp=1_000)
    log.configure(SMALL._replace(retention_ms=500))
    deletion = log.retain(wall_ms=1_000_000)
    assert deletion is not None and deletion.roll_first
    assert [s.base_offset for s in log.segments()] == [60]
    assert log.info()[:2] == (60, 60)
    assert log.append(make_batch(60), 0) == 62


def test_a_compacted_log_loses_only_what_its_start_has_passed(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 20, timestamp=1_000)
    log.configure(SMALL._replace(retention_ms=0, retention_bytes=0, cleanup_policy=("compact",)))
    assert log.retain(wall_ms=1_000_000) is None
    second = log.segments()[1].base_offset
    assert log.set_start(second + 1) == second + 1
    deletion = log.retain(wall_ms=1_000_000)
    assert deletion is not None and deletion.segment_count == 1
    assert log.info().log_start_offset == second + 1


def test_flush_when_due(log: Log, make_batch: MakeBatch) -> None:
    log.configure(SMALL._replace(flush_ms=100))
    assert not log.flush_if_due(now_ms=1_000)
    fill(log, make_batch, 1)
    assert not log.flush_if_due(now_ms=99)
    assert log.flush_if_due(now_ms=100)
    assert log.info().recovery_point == 3
    fill(log, make_batch, 1)
    assert not log.flush_if_due(now_ms=199)
    assert log.flush_if_due(now_ms=200)


def test_a_failed_flush_says_so(log: Log, make_batch: MakeBatch, system: Sys) -> None:
    fill(log, make_batch, 1)
    for call in (_native.lib.PLOG_SYS_FSYNC, _native.lib.PLOG_SYS_FDATASYNC):
        system.fault(call, 1, 28, repeat=-1)
    with pytest.raises(FlushError):
        log.flush(now_ms=0)
    assert log.info().recovery_point == 0


def test_truncate(log: Log, make_batch: MakeBatch, tmp_path: Path) -> None:
    fill(log, make_batch, 5, leader_epoch=1)
    fill(log, make_batch, 5, leader_epoch=2)
    log.flush(now_ms=0)
    log.truncate(9, wall_ms=0)
    assert log.info().log_end_offset == 9
    assert log.info().recovery_point <= 9
    assert (tmp_path / "orders-0" / "leader-epoch-checkpoint").read_bytes() == b"0\n1\n1 0\n"
    log.truncate_fully(100, wall_ms=0)
    assert log.info()[:2] == (100, 100)
    assert log.append(make_batch(100), 0) == 102


def test_condemned(log: Log, tmp_path: Path) -> None:
    path = log.condemn()
    assert log.closed
    assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert path.endswith("-delete")
    log.flush(now_ms=0)
    assert log.retain(wall_ms=0) is None
    assert log.expire_producers(0) == 0
    assert log.durable_ends() is None


class RecordingEngine:
    """Says what it was asked, in the words of the engine."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    class Info:
        high_watermark = 42

    def configure_log(self, partition: int, settings: _native.LogSettings) -> None:
        self.calls.append(("configure", partition, settings.segment_bytes))

    def roll(self, partition: int) -> None:
        self.calls.append(("roll", partition))

    def truncate(self, partition: int, offset: int, fully: bool) -> None:
        self.calls.append(("truncate", partition, offset, fully))

    def delete_records(self, partition: int, offset: int) -> int:
        self.calls.append(("delete_records", partition, offset))
        return offset

    def delete_segments(self, partition: int, upto: int) -> int:
        self.calls.append(("delete_segments", partition, upto))
        return 1

    def expire_producers(self, partition: int, before_ms: int) -> int:
        self.calls.append(("expire_producers", partition, before_ms))
        return 2

    def partition_info(self, partition: int) -> Info:
        return self.Info()


def idempotent_batch(base_offset: int) -> bytes:
    builder = RecordBatchBuilder()
    records = [NewRecord(1_000, b"key", b"value")] * 3
    batch = builder.build(
        records, base_offset=base_offset, leader_epoch=0, producer_id=4, producer_epoch=0, base_sequence=0
    )
    builder.close()
    return batch


def test_a_log_without_producers_does_not_wake_the_engine(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 1)
    engine = RecordingEngine()
    log.host(HostedOwner(engine, 7))
    assert log.expire_producers(9) == 0
    assert engine.calls == []
    log.unhost()


def test_a_hosted_log_is_changed_through_the_engine(log: Log, make_batch: MakeBatch) -> None:
    fill(log, make_batch, 9, timestamp=1_000)
    log.append(idempotent_batch(27), 0)
    engine = RecordingEngine()
    log.host(HostedOwner(engine, 7))
    assert log.hosted
    log.configure(SMALL._replace(segment_bytes=2_000, retention_ms=0))
    log.roll(wall_ms=0)
    log.truncate(5, wall_ms=0)
    log.truncate_fully(6, wall_ms=0)
    assert log.set_start(3) == 3
    assert log.expire_producers(9) == 2
    assert log.owner.high_watermark() == 42
    deletion = log.retain(wall_ms=1_000_000)
    assert deletion is not None and deletion.roll_first
    assert engine.calls == [
        ("configure", 7, 2_000),
        ("roll", 7),
        ("truncate", 7, 5, False),
        ("truncate", 7, 6, True),
        ("delete_records", 7, 3),
        ("expire_producers", 7, 9),
        ("roll", 7),
        ("delete_records", 7, deletion.start_offset),
        ("delete_segments", 7, deletion.start_offset),
    ]
    with pytest.raises(RuntimeError, match="written by the engine"):
        log.append(make_batch(30), 0)
    with pytest.raises(RuntimeError, match="still hosted"):
        log.close(clean=True)
    log.unhost()
    assert log.append(make_batch(30), 0) == 32
