"""A clean stop of many logs: one sync of the file system, and nothing that is said before it."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog import _native, log_manager, shared_sync
from pylog._native import Sys
from pylog.checkpoint import OffsetCheckpoint
from pylog.clock import ManualClock
from pylog.closing import close_logs
from pylog.config import LogConfig
from pylog.data_dir import CLEAN_SHUTDOWN_FILE, DataDirectory
from pylog.files import FlushError
from pylog.leader_epoch import LEADER_EPOCH_FILE
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.types import TopicPartition

PARTITIONS = [TopicPartition("t", i) for i in range(8)]
TOPIC_ID = bytes(range(16))
BATCH_RECORDS = 3
EPOCHS = b"0\n1\n0 0\n"

MakeBatch = Callable[..., bytes]


class Store:
    """Managers over one directory, one after the other, whose logs share a sync from 3 on."""

    def __init__(self, path: str, system: Sys, make_batch: MakeBatch) -> None:
        self.path = path
        self.system = system
        self.clock = ManualClock()
        self.make_batch = make_batch
        self.failed: list[str] = []
        self.manager = self.open()

    def open(self) -> LogManager:
        self.manager = LogManager(
            LogManagerConfig((self.path,)),
            sys=self.system,
            clock=self.clock,
            config_of=lambda _: LogConfig(),
            on_directory_failure=self.fail,
        )
        self.manager.load()
        return self.manager

    def fail(self, path: str, logs: list[Log]) -> None:
        self.failed.append(path)
        for log in logs:
            log.close(clean=False)

    def fill(self, count: int) -> None:
        """One batch to each of so many logs."""
        for partition in PARTITIONS[:count]:
            log = self.manager.create(partition, TOPIC_ID)
            log.append(self.make_batch(log.info().log_end_offset), 0)

    def marked(self) -> bool:
        return os.path.exists(os.path.join(self.path, CLEAN_SHUTDOWN_FILE))

    def recovery_points(self) -> dict[TopicPartition, int]:
        return OffsetCheckpoint(self.path, "recovery-point-offset-checkpoint").read()

    def counts(self) -> tuple[int, int]:
        """Syncs of files, and of file systems."""
        lib = _native.lib
        return self.system.count(lib.PLOG_SYS_FDATASYNC), self.system.count(lib.PLOG_SYS_SYNCFS)

    def stop(self) -> tuple[int, int]:
        files, file_systems = self.counts()
        self.manager.shutdown(clean=True)
        return self.counts()[0] - files, self.counts()[1] - file_systems


@pytest.fixture(autouse=True)
def sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file system of the tests is, it is taken for one that tells of all errors."""
    monkeypatch.setattr(shared_sync, "SHARED_FROM", 3)
    monkeypatch.setattr(DataDirectory, "syncs_all", lambda directory, sys: None)


@pytest.fixture
def store(tmp_path: Path, system: Sys, make_batch: MakeBatch) -> Iterator[Store]:
    made = Store(str(tmp_path / "d"), system, make_batch)
    yield made
    made.manager.shutdown(clean=False)


def test_many_logs_are_one_sync(store: Store) -> None:
    store.fill(8)
    assert store.stop() == (0, 2), "the second is for the names of the leader epochs"
    assert store.marked()
    assert store.recovery_points() == dict.fromkeys(PARTITIONS, BATCH_RECORDS)
    for partition in PARTITIONS:
        path = Path(store.path, partition.directory_name)
        assert (path / LEADER_EPOCH_FILE).read_bytes() == EPOCHS
        assert not [name for name in os.listdir(path) if name.endswith(".tmp")]
        assert (path / f"{BATCH_RECORDS:020d}.snapshot").exists()
    logs = store.open().logs()
    assert [log.open_report for log in logs] == [(0,) * 7] * 8
    store.fill(8)
    assert store.stop() == (0, 1), "the epochs are known"
    assert {log.info().log_end_offset for log in store.open().logs()} == {2 * BATCH_RECORDS}
    assert store.stop() == (0, 0), "nobody appended"


def test_the_files_are_those_of_a_stop_that_syncs_every_log(
    tmp_path: Path, system: Sys, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, shared_from in enumerate((3, 1000)):
        monkeypatch.setattr(shared_sync, "SHARED_FROM", shared_from)
        store = Store(str(tmp_path / str(number)), system, make_batch)
        store.fill(8)
        file_systems = store.stop()[1]
        assert file_systems == (2 if shared_from == 3 else 0)
        root = Path(store.path)
        found.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert found[0] == found[1] and len(found[0]) > 8 * 5


def test_few_logs_are_synced_by_themselves(store: Store) -> None:
    for partition in PARTITIONS:
        store.manager.create(partition, TOPIC_ID)
    store.fill(2)
    files, file_systems = store.stop()
    assert files >= 2 and file_systems == 0
    assert store.marked()


def test_what_was_flushed_waits_for_its_indexes_all_the_same(store: Store) -> None:
    store.fill(4)
    for log in store.manager.logs():
        assert store.manager.flush(log)
    assert [log.close_waits() for log in store.manager.logs()] == [True] * 4
    assert store.stop() == (0, 1)
    assert [log.close_waits() for log in store.open().logs()] == [False] * 4


def test_data_then_epochs_then_checkpoints_then_the_marker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def note(what: str, of: type, name: str) -> None:
        whole = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *given, **named: (told.append(what), whole(*given, **named))[1])

    note("closed", Log, "close")
    note("synced", DataDirectory, "sync_all")
    note("epochs", Log, "put_epochs")
    note("checkpoint", DataDirectory, "write")
    put = log_manager.put_clean_shutdown_marker
    monkeypatch.setattr(log_manager, "put_clean_shutdown_marker", lambda path: (told.append("marker"), put(path))[1])
    store.fill(4)
    store.stop()
    order = ["closed"] * 4 + ["synced"] + ["epochs"] * 4 + ["synced"] + ["checkpoint"] * 2 + ["marker"]
    assert told[: len(order)] == order


@pytest.mark.parametrize("nth", [1, 2])
def test_a_sync_that_fails_leaves_no_marker(store: Store, capfd: pytest.CaptureFixture[str], nth: int) -> None:
    store.fill(8)
    store.system.fault(_native.lib.PLOG_SYS_SYNCFS, nth, errno.EIO)
    store.stop()
    assert not store.marked() and store.recovery_points() == {}
    assert "not closed in order, the next start recovers it" in capfd.readouterr().err
    logs = store.open().logs()
    assert {log.open_report.recovered_segments for log in logs} == {1}
    assert {log.info().log_end_offset for log in logs} == {BATCH_RECORDS}
    store.fill(8)
    store.stop()
    assert store.marked()


@pytest.mark.parametrize(
    ("error", "why"), [(errno.ENOSYS, "Linux before 5.17"), (errno.EOPNOTSUPP, "not ext4, XFS or Btrfs")]
)
def test_where_errors_are_not_told_every_log_is_synced(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: int, why: str
) -> None:
    def refuse(directory: DataDirectory, sys: Sys) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(DataDirectory, "syncs_all", refuse)
    store.fill(8)
    files, file_systems = store.stop()
    assert files >= 8 and file_systems == 0 and store.marked()
    told = capfd.readouterr().err
    assert "every log is synced by itself" in told and why in told


def test_a_log_that_lies_elsewhere_is_synced_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.fill(8)
    elsewhere = store.manager.logs()[5].path
    shares = DataDirectory.shares_file_system
    monkeypatch.setattr(
        DataDirectory, "shares_file_system", lambda directory, path: path != elsewhere and shares(directory, path)
    )
    opened: list[str] = []
    close = Log.close

    def see(log: Log, clean: bool, synced: bool = True) -> None:
        if synced and clean:
            opened.append(log.path)
        close(log, clean, synced)

    monkeypatch.setattr(Log, "close", see)
    files, file_systems = store.stop()
    assert opened == [elsewhere] and files > 0 and file_systems == 2
    assert store.marked()


def test_a_link_leads_to_another_file_system(tmp_path: Path) -> None:
    directory = DataDirectory(str(tmp_path / "d"))
    assert directory.shares_file_system(str(tmp_path))
    assert not directory.shares_file_system("/proc")
    directory.release()


def test_the_kernel_says_what_it_tells_and_syncs(tmp_path: Path, system: Sys) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.write(b"x")
        try:
            system.syncs_all(file.fileno())
        except OSError as e:
            assert e.errno in (errno.ENOSYS, errno.EOPNOTSUPP)
        system.sync_all(file.fileno())
    with open("/proc/self/stat", "rb") as file, pytest.raises(OSError) as caught:
        system.syncs_all(file.fileno())
    assert caught.value.errno in (errno.ENOSYS, errno.EOPNOTSUPP)


def test_a_stop_that_takes_long_says_how_far_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.fill(4)
    told = threading.Event()
    directory = store.manager._directories[store.path]

    class Waiting(Sys):
        __slots__ = ()

        def sync_all(self, fd: int) -> None:
            assert told.wait(10)

    class Telling:
        """Stands in for the logger of the directory."""

        def __init__(self, name: str) -> None:
            pass

        def info(self, message: str, **fields: object) -> None:
            lines.append((message, fields))
            if "waiting for the disk" in message:
                told.set()

    lines: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("pylog.closing.Logger", Telling)
    logs = store.manager.logs()
    waiting = Waiting()
    ends = close_logs(directory, logs, sys=waiting, clock=store.clock, threads=1, tell_every_s=0.001)
    waiting.close()
    assert {end for *_, end in ends.values()} == {BATCH_RECORDS}
    assert ("logs are closed, waiting for the disk", {"synced_together": 4}) in lines
    assert lines[-1][0] == "logs closed" and lines[-1][1]["logs"] == 4


def test_what_the_background_has_not_come_to_is_left_to_the_stop(store: Store) -> None:
    store.fill(8)
    store.manager.hurry()
    files, _ = store.counts()
    store.manager.run_pending(store.clock.monotonic_ms())
    path = Path(store.path, PARTITIONS[0].directory_name, LEADER_EPOCH_FILE)
    assert store.counts()[0] == files and path.read_bytes() == b""
    store.stop()
    assert path.read_bytes() == EPOCHS


def test_logs_that_a_crash_left_are_made_durable_together(store: Store) -> None:
    store.fill(8)
    store.manager.shutdown(clean=False)
    manager = store.open()
    assert {log.info().recovery_point for log in manager.logs()} == {0}
    before = store.counts()
    manager.flush_all()
    assert store.counts() == (before[0], before[1] + 1)
    assert {log.info().recovery_point for log in manager.logs()} == {BATCH_RECORDS}
    manager.checkpoint_recovery_points()
    assert store.recovery_points() == dict.fromkeys(PARTITIONS, BATCH_RECORDS)
    manager.flush_all()
    assert store.counts() == (before[0], before[1] + 1)


def test_a_directory_whose_logs_cannot_be_made_durable_is_offline(store: Store) -> None:
    store.fill(8)
    store.manager.shutdown(clean=False)
    manager = store.open()
    store.system.fault(_native.lib.PLOG_SYS_SYNCFS, 1, errno.ENOSPC)
    manager.flush_all()
    assert store.failed == [store.path] and manager.logs() == []


def test_a_failed_sync_is_called_so(store: Store) -> None:
    store.system.fault(_native.lib.PLOG_SYS_SYNCFS, 1, errno.EIO)
    with pytest.raises(FlushError) as caught:
        store.manager._directories[store.path].sync_all(store.system)
    assert caught.value.filename == store.path
