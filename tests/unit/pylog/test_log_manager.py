"""All logs of a process: placement, start and stop, checkpoints, retention, deletion, and a directory that fails."""

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog import _native
from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.data_dir import DirectoryInUse
from pylog.errors import ErrorCode, KafkaError
from pylog.log import Log
from pylog.log_manager import DuplicateLogError, LogManager, LogManagerConfig
from pylog.types import TopicPartition

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)
TOPIC_ID = bytes(range(16))
SYS_OPEN, SYS_FSYNC, SYS_FDATASYNC = 0, 5, 6
SMALL = LogConfig(segment_bytes=1_000, index_interval_bytes=100, segment_index_bytes=1_000, file_delete_delay_ms=60_000)

MakeBatch = Callable[..., bytes]


class Store:
    """Managers over the same directories, one after the other."""

    def __init__(self, root: Path, system: Sys, clock: ManualClock, directories: int = 2) -> None:
        self.root = root
        self.system = system
        self.clock = clock
        self.paths = [str(root / f"d{i}") for i in range(directories)]
        self.configs: dict[str, LogConfig] = {}
        self.failed: list[tuple[str, list[Log]]] = []
        self.manager: LogManager | None = None

    def open(self, threads: int = 1, told: bool = False) -> LogManager:
        self.manager = LogManager(
            LogManagerConfig(tuple(self.paths), num_recovery_threads_per_data_dir=threads),
            sys=self.system,
            clock=self.clock,
            config_of=lambda topic: self.configs.get(topic, SMALL),
            on_directory_failure=(lambda path, logs: self.failed.append((path, logs))) if told else None,
        )
        self.manager.load()
        return self.manager

    def pass_time(self, ms: int) -> None:
        assert self.manager is not None
        self.clock.advance(ms)
        self.manager.run_pending(self.clock.monotonic_ms())

    def shutdown(self, clean: bool) -> None:
        if self.manager is not None:
            self.manager.shutdown(clean)
            self.manager = None


@pytest.fixture
def store(tmp_path: Path, system: Sys, clock: ManualClock) -> Iterator[Store]:
    made = Store(tmp_path, system, clock)
    yield made
    made.shutdown(clean=False)


@pytest.fixture
def fill(make_batch: MakeBatch) -> Callable[..., None]:
    def append(log: Log, count: int, **more: int) -> None:
        for _ in range(count):
            log.append(make_batch(log.info().log_end_offset, **more), 0)

    return append


def test_directories_are_made_and_locked(store: Store) -> None:
    manager = store.open()
    assert manager.live_directories() == store.paths
    with pytest.raises(DirectoryInUse):
        Store(store.root, store.system, store.clock).open()
    store.shutdown(clean=True)
    store.open()


def test_the_directory_with_the_fewest_partitions_gets_the_next(store: Store) -> None:
    manager = store.open()
    logs = [manager.create(TopicPartition("t", i), TOPIC_ID) for i in range(4)]
    assert [os.path.dirname(log.path) for log in logs] == [*store.paths, *store.paths]
    manager.delete(TopicPartition("t", 1))
    manager.delete(TopicPartition("t", 3))
    assert os.path.dirname(manager.create(A0, TOPIC_ID).path) == store.paths[1]
    assert os.path.dirname(manager.create(B0, TOPIC_ID, store.paths[0]).path) == store.paths[0]
    with pytest.raises(KafkaError) as caught:
        manager.create(A1, TOPIC_ID, str(store.root / "elsewhere"))
    assert caught.value.code == ErrorCode.LOG_DIR_NOT_FOUND


def test_creating_twice_is_once_and_checks_the_topic_id(store: Store) -> None:
    manager = store.open()
    assert manager.create(A0, TOPIC_ID) is manager.create(A0, TOPIC_ID) is manager.get(A0)
    with pytest.raises(KafkaError) as caught:
        manager.create(A0, bytes(15) + b"x")
    assert caught.value.code == ErrorCode.INCONSISTENT_TOPIC_ID


def test_many_are_made_and_deleted_at_once(store: Store) -> None:
    manager = store.open()
    partitions = [TopicPartition("many", i) for i in range(10)]
    os.makedirs(os.path.join(store.paths[0], "many-4"))  # in the way of one of them
    made = manager.create_all(partitions, TOPIC_ID)
    refused = made.pop(4)
    assert isinstance(refused, KafkaError) and refused.code == ErrorCode.KAFKA_STORAGE_ERROR
    logs = [log for log in made if isinstance(log, Log)]
    assert len(logs) == 9 and manager.logs() == logs
    in_first = sum(os.path.dirname(log.path) == store.paths[0] for log in logs)
    assert in_first in (4, 5), "spread as single ones are"
    assert manager.create_all(partitions[:2], TOPIC_ID) == logs[:2], "those that are there are there"
    assert manager.delete_all([*partitions, B0]) == 9
    assert manager.logs() == []
    left = [name for path in store.paths for name in os.listdir(path) if name.endswith("-delete")]
    assert len(left) == 9
    store.pass_time(60_000)
    left = [name for path in store.paths for name in os.listdir(path) if name.startswith("many-")]
    assert left == ["many-4"]


def test_a_new_log_has_what_kafka_puts_there_and_nothing_is_synced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka too syncs a log's files with the first flush; until then nothing in it is promised."""
    manager = store.open()
    before = store.system.count(SYS_FSYNC) + store.system.count(SYS_FDATASYNC)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = manager.create(A0, TOPIC_ID)
    assert store.system.count(SYS_FSYNC) + store.system.count(SYS_FDATASYNC) == before and not synced
    zeros = "0" * 20
    assert sorted(os.listdir(log.path)) == [
        f"{zeros}.index",
        f"{zeros}.log",
        f"{zeros}.timeindex",
        "leader-epoch-checkpoint",
        "partition.metadata",
    ]
    assert log.topic_id == TOPIC_ID and log.epochs() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_clean_stop_and_start(store: Store, fill: Callable[..., None], threads: int) -> None:
    manager = store.open(threads)
    for partition in (A0, A1, B0):
        fill(manager.create(partition, TOPIC_ID), 8)
    manager.create(A1, TOPIC_ID).set_start(1)
    store.shutdown(clean=True)
    for path in store.paths:
        assert Path(path, ".kafka_cleanshutdown").read_bytes() == b'{"version":0,"brokerEpoch":-1}'
        assert not Path(path, ".lock").exists()
    assert Path(store.paths[0], "recovery-point-offset-checkpoint").read_bytes() == b"0\n2\na 0 24\nb 0 24\n"
    assert Path(store.paths[1], "log-start-offset-checkpoint").read_bytes() == b"0\n1\na 1 1\n"
    assert Path(store.paths[0], "log-start-offset-checkpoint").read_bytes() == b"0\n0\n"
    manager = store.open(threads)
    assert not Path(store.paths[0], ".kafka_cleanshutdown").exists()
    for log in manager.logs():
        assert log.open_report == (0,) * 7
        assert log.info().log_end_offset == 24
    assert {log.partition: log.info().log_start_offset for log in manager.logs()} == {A0: 0, A1: 1, B0: 0}


def test_after_a_crash_everything_past_the_recovery_point_is_checked(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 8)
    fill(manager.create(A1, TOPIC_ID), 8)
    flushed = manager.get(A0)
    assert flushed is not None and manager.flush(flushed)
    manager.checkpoint_recovery_points()
    store.shutdown(clean=False)
    again = store.open()
    found = {log.partition: log for log in again.logs()}
    assert found[A0].open_report.recovered_segments <= 1
    assert found[A1].open_report.recovered_segments == found[A1].info().segment_count
    assert {log.info().log_end_offset for log in again.logs()} == {24}


@pytest.mark.parametrize("name", ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"])
def test_a_broken_checkpoint_costs_time_not_records(store: Store, fill: Callable[..., None], name: str) -> None:
    fill(store.open().create(A0, TOPIC_ID), 8)
    store.shutdown(clean=True)
    Path(store.paths[0], name).write_bytes(b"0\n1\n")
    Path(store.paths[0], ".kafka_cleanshutdown").unlink()
    (log,) = store.open().logs()
    assert log.info()[:2] == (0, 24)


def test_deleted_logs_go_later_and_can_be_made_anew_at_once(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 8)
    assert manager.delete(A0)
    assert not manager.delete(A0)
    assert manager.get(A0) is None
    new = manager.create(A0, bytes(15) + b"x")
    assert new.info().log_end_offset == 0
    assert len([name for name in os.listdir(store.paths[0]) if name.endswith("-delete")]) == 1
    store.pass_time(59_999)
    assert len([name for name in os.listdir(store.paths[0]) if name.endswith("-delete")]) == 1
    store.pass_time(1)
    assert not [name for name in os.listdir(store.paths[0]) if name.endswith("-delete")]
    assert os.path.isdir(new.path)


def test_deletions_that_a_stop_interrupted_are_finished(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 8)
    manager.delete(A0)
    store.shutdown(clean=True)
    assert store.open().logs() == []
    store.pass_time(60_000)
    assert sorted(os.listdir(store.paths[0])) == [
        ".lock",
        "log-start-offset-checkpoint",
        "recovery-point-offset-checkpoint",
    ]


def test_retention_runs_by_the_schedule_and_unlinks_later(store: Store, fill: Callable[..., None]) -> None:
    store.configs["a"] = SMALL._replace(retention_bytes=1_000, retention_ms=-1)
    log = store.open().create(A0, TOPIC_ID)
    fill(log, 20)
    before = log.info().segment_count
    store.pass_time(29_999)
    assert log.info().segment_count == before
    store.pass_time(1)
    assert log.info().segment_count < before
    deleted = [name for name in os.listdir(log.path) if name.endswith(".deleted")]
    assert deleted
    store.pass_time(59_999)
    assert [name for name in os.listdir(log.path) if name.endswith(".deleted")] == deleted
    store.pass_time(1)
    assert not [name for name in os.listdir(log.path) if name.endswith(".deleted")]
    start = log.info().log_start_offset
    store.shutdown(clean=False)
    (again,) = store.open().logs()
    assert again.info().log_start_offset == start


def test_changed_settings_reach_the_logs(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    a, b = manager.create(A0, TOPIC_ID), manager.create(B0, TOPIC_ID)
    store.configs["a"] = SMALL._replace(segment_bytes=1 << 20)
    manager.configure_topic("a")
    fill(a, 20)
    fill(b, 20)
    assert a.info().segment_count == 1
    assert b.info().segment_count > 1


def test_truncation_takes_the_recovery_point_along(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 8)
    manager.flush(log)
    manager.checkpoint_recovery_points()
    checkpoint = Path(store.paths[0], "recovery-point-offset-checkpoint")
    assert checkpoint.read_bytes() == b"0\n1\na 0 24\n"
    manager.truncate({A0: 6})
    assert int(checkpoint.read_bytes().split()[-1]) <= 6
    manager.truncate_fully(A0, 50)
    assert log.info()[:2] == (50, 50)
    assert int(checkpoint.read_bytes().split()[-1]) <= 50


@pytest.mark.parametrize("fully", [False, True])
def test_a_cut_that_the_disk_refuses_is_said(store: Store, fill: Callable[..., None], fully: bool) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 8)
    end = log.info().log_end_offset

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    owner = log.owner
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KafkaError) as refused:
        patched.setattr(type(owner), "truncate_fully" if fully else "truncate", refuse)
        manager.truncate_fully(A0, 50) if fully else manager.truncate({A0: 6})
    assert refused.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert log.info().log_end_offset == end and not manager.offline_directories()
    manager.truncate({A0: 6})
    assert log.info().log_end_offset == 6


def test_rolled_segments_are_flushed_soon(store: Store, fill: Callable[..., None]) -> None:
    log = store.open().create(A0, TOPIC_ID)
    fill(log, 1)
    store.pass_time(0)
    assert log.info().recovery_point == 0
    assert Path(log.path, "leader-epoch-checkpoint").read_bytes() == b"0\n1\n0 0\n"
    fill(log, 8)
    store.pass_time(0)
    assert log.info().recovery_point == 27


def test_flush_ms(store: Store, fill: Callable[..., None], tmp_path: Path) -> None:
    store.configs["a"] = SMALL._replace(segment_bytes=1 << 20, flush_ms=1_000)
    config = LogManagerConfig((str(tmp_path / "x"),), log_flush_scheduler_interval_ms=100)
    manager = LogManager(config, sys=store.system, clock=store.clock, config_of=lambda topic: store.configs["a"])
    manager.load()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 1)
    for _ in range(9):
        store.clock.advance(100)
        manager.run_pending(store.clock.monotonic_ms())
    assert log.info().recovery_point == 0
    store.clock.advance(30_100)
    manager.run_pending(store.clock.monotonic_ms())
    assert log.info().recovery_point == 3
    manager.shutdown(clean=True)


def test_a_directory_that_fails_takes_only_its_logs_along(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open(told=True)
    a, b = manager.create(A0, TOPIC_ID), manager.create(B0, TOPIC_ID)
    fill(a, 1)
    fill(b, 1)
    for call in (_native.lib.PLOG_SYS_FSYNC, _native.lib.PLOG_SYS_FDATASYNC):
        store.system.fault(call, 1, 5)
    assert not manager.flush(a)
    for call in (_native.lib.PLOG_SYS_FSYNC, _native.lib.PLOG_SYS_FDATASYNC):
        store.system.fault(call, 1 << 40, 5)
    assert manager.live_directories() == [store.paths[1]]
    assert list(manager.offline_directories()) == [store.paths[0]]
    assert store.failed == [(store.paths[0], [a])]
    assert manager.logs() == [b]
    assert a.read(0, 1_000)
    a.close(clean=False)
    assert manager.flush(b)
    assert os.path.dirname(manager.create(A1, TOPIC_ID).path) == store.paths[1]
    with pytest.raises(KafkaError) as caught:
        manager.create(TopicPartition("c", 0), TOPIC_ID, store.paths[0])
    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    store.shutdown(clean=True)
    assert not Path(store.paths[0], ".kafka_cleanshutdown").exists()
    assert Path(store.paths[1], ".kafka_cleanshutdown").exists()
    assert {log.partition for log in store.open().logs()} == {A0, A1, B0}


def test_a_full_disk_fails_nothing(store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 1)

    def full(path: str | int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pylog.checkpoint.replace_file", full)
        patched.setattr("pylog.leader_epoch.replace_file", full)
        patched.setattr("pylog.partition_metadata.write_all", full)
        manager.checkpoint_recovery_points()
        manager.run_pending(store.clock.monotonic_ms())
        with pytest.raises(KafkaError) as caught:
            manager.create(A1, TOPIC_ID)
        assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert manager.live_directories() == store.paths
    manager.create(A1, TOPIC_ID)
    manager.checkpoint_recovery_points()
    assert Path(store.paths[0], "recovery-point-offset-checkpoint").read_bytes() == b"0\n1\na 0 0\n"


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_process_lacks_fails_no_directory(store: Store, error: int) -> None:
    """A topic with more partitions than files can be open is refused; the disk is not to blame."""
    manager = store.open()
    manager.create(A0, TOPIC_ID)
    store.system.fault(SYS_OPEN, 1, error, repeat=2)
    made = manager.create_all([A0, A1, B0], TOPIC_ID)
    assert [isinstance(log, Log) for log in made] == [True, False, False]
    assert isinstance(made[1], KafkaError) and made[1].code == ErrorCode.KAFKA_STORAGE_ERROR
    assert manager.live_directories() == store.paths
    assert not [name for path in store.paths for name in os.listdir(path) if name.startswith(("a-1", "b-"))]
    assert isinstance(manager.create(A1, TOPIC_ID), Log)


def test_a_directory_that_cannot_be_used_leaves_the_others(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_bytes(b"")
    store.paths[0] = str(tmp_path / "file" / "below")
    manager = store.open()
    assert manager.live_directories() == [store.paths[1]]
    assert store.paths[0] in manager.offline_directories()
    store.shutdown(clean=True)
    store.paths[1] = str(tmp_path / "file" / "below too")
    with pytest.raises(KafkaError, match="no log directory can be used"):
        store.open()


def test_the_same_partition_twice_is_a_question_for_a_person(store: Store) -> None:
    store.open().create(A0, TOPIC_ID)
    store.shutdown(clean=True)
    os.mkdir(os.path.join(store.paths[1], "a-0"))
    with pytest.raises(DuplicateLogError, match="a-0 lies in two"):
        store.open()


def test_high_watermarks(store: Store) -> None:
    manager = store.open()
    manager.create(A0, TOPIC_ID)
    manager.create(A1, TOPIC_ID)
    assert manager.read_high_watermarks() == {}
    manager.checkpoint_high_watermarks({A0: 5, A1: 6, B0: 7})
    assert Path(store.paths[0], "replication-offset-checkpoint").read_bytes() == b"0\n1\na 0 5\n"
    assert manager.read_high_watermarks() == {A0: 5, A1: 6}
    Path(store.paths[0], "replication-offset-checkpoint").write_bytes(b"?")
    assert manager.read_high_watermarks() == {A1: 6}


def test_a_copy_being_built_is_kept_apart(store: Store) -> None:
    store.open().create(A0, TOPIC_ID)
    store.shutdown(clean=True)
    os.rename(os.path.join(store.paths[0], "a-0"), os.path.join(store.paths[0], f"a-0.{'0' * 32}-future"))
    manager = store.open()
    assert manager.get(A0) is None
    assert manager.future_log(A0) is not None
    store.shutdown(clean=True)


def test_old_message_formats_are_refused_after_a_crash(store: Store, make_batch: MakeBatch) -> None:
    """Recovery would take them for damage and cut them away."""
    log = store.open().create(A0, TOPIC_ID)
    store.shutdown(clean=False)
    path = Path(log.path, "00000000000000000000.log")
    body = struct.pack(">bbqi2si1s", 1, 0, 5, 2, b"k0", 1, b"v")
    old = struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body
    path.write_bytes(old)
    with pytest.raises(KafkaError, match="holds messages from before Kafka"):
        store.open()
    assert path.read_bytes() == old


def test_idle_logs_write_nothing(store: Store, fill: Callable[..., None]) -> None:
    fill(store.open().create(A0, TOPIC_ID), 1)
    store.pass_time(30_000)
    checkpoint = Path(store.paths[0], "recovery-point-offset-checkpoint")
    written = checkpoint.stat().st_ino
    for _ in range(5):
        store.pass_time(60_000)
    assert checkpoint.stat().st_ino == written
