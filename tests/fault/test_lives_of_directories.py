"""A data directory through a life of a log manager in which the n-th call fails, Python's or C's, for every n.

The life makes logs, appends, flushes, checkpoints, deletes records and segments, truncates, and stops in order.
Whatever fails, the next start finds every acknowledged record that was neither deleted nor cut, nothing else, and goes
on.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

import pytest

from pylog import data_dir, files, log, partition_metadata, removal, segment, shared_sync
from pylog._native import Sys
from pylog.checkpoint import RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.errors import ErrorCode, KafkaError
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.records import NewRecord, RecordBatchBuilder, batches
from pylog.types import TopicPartition
from tests.support.faulty_os import FaultyOs, replaced_in

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
MODULES = (data_dir, files, log, partition_metadata, removal, segment)
ONE, OTHER = PARTITIONS = (TopicPartition("t", 0), TopicPartition("t", 1))
TOPIC_ID = bytes(range(16))
CONFIG = LogConfig(
    segment_bytes=700, index_interval_bytes=100, segment_index_bytes=1_000, file_delete_delay_ms=1_000, retention_ms=-1
)
EVERY_CALL = -1
FOR_EVER = -1


class Promises:
    """What was said of one log."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        self.end = 0
        """Records below it are there."""
        self.start = 0
        """Records below it may be gone."""

    def check(self, log: Log) -> None:
        info = log.info()
        assert info.log_start_offset <= self.start
        ends = [base + 2 for base, _ in self.batches]
        assert info.log_end_offset >= self.end and info.log_end_offset in [0, *ends]
        first = max(info.log_start_offset, log.segments()[0].base_offset)
        at, found = first, []
        while data := log.read(at, 4_000):
            for batch in batches(data):
                found.append((batch.header.base_offset, b"".join(record.value or b"" for record in batch.records())))
                at = batch.next_offset
        assert found == [
            (base, value) for base, value in self.batches if base + 2 > first and base < info.log_end_offset
        ]
        # an epoch's beginning that was deleted stays so, also when a crash takes the log start back
        assert [entry.epoch for entry in log.epochs() if first <= entry.start_offset <= max(first, self.start)] == (
            [0] if found else []
        )
        # what is there now was seen, and stays
        self.batches = [(base, value) for base, value in self.batches if base < info.log_end_offset]
        self.end = info.log_end_offset


class Life:
    """Managers of one directory, one after the other."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clock = ManualClock()
        self.builder = RecordBatchBuilder()
        self.promises = {partition: Promises() for partition in PARTITIONS}
        self.attempts = 0

    def open(self, system: Sys) -> LogManager:
        manager = LogManager(
            LogManagerConfig((self.path,), log_initial_task_delay_ms=0),
            sys=system,
            clock=self.clock,
            config_of=lambda _: CONFIG,
        )
        try:
            manager.load()
        except BaseException:
            manager.shutdown(clean=False)
            raise
        return manager

    def live(self, system: Sys) -> None:
        """Everything that is done to logs, each as far as the faults let it."""
        try:
            manager = self.open(system)
        except (OSError, KafkaError):
            return
        steps: list[Callable[[LogManager, TopicPartition], None]] = [
            self.append,
            self.append,
            lambda manager, partition: self.on(manager, partition, manager.flush),
            lambda manager, _: manager.checkpoint_recovery_points(),
            self.append,
            self.delete_records,
            lambda manager, _: manager.clean_up(),
            lambda manager, _: manager.checkpoint_log_starts(),
            self.append,
            self.truncate,
            self.append,
            lambda manager, _: self.pass_time(manager),
        ]
        try:
            for partition in PARTITIONS:
                try:
                    manager.create(partition, TOPIC_ID)
                except KafkaError:
                    continue
            for step in steps:
                for partition in PARTITIONS:
                    step(manager, partition)
        finally:
            manager.shutdown(clean=True)

    def on(self, manager: LogManager, partition: TopicPartition, action: Callable[[Log], object]) -> None:
        found = manager.get(partition)
        if found is not None and not found.closed:
            action(found)

    def append(self, manager: LogManager, partition: TopicPartition) -> None:
        self.on(manager, partition, lambda log: self.append_some(log, self.promises[partition]))

    def append_some(self, log: Log, promised: Promises) -> None:
        for _ in range(3):
            self.attempts += 1
            base = log.info().log_end_offset
            value = b"%d" % self.attempts + b"x" * 100
            records = [NewRecord(self.clock.wall_ms(), None, value), NewRecord(self.clock.wall_ms(), None, b"")]
            data = self.builder.build(records, base_offset=base, leader_epoch=0)
            try:
                log.append(data, self.clock.wall_ms())
            except OSError:
                assert log.info().log_end_offset == base
                return
            promised.batches.append((base, value))
            promised.end = base + 2

    def delete_records(self, manager: LogManager, partition: TopicPartition) -> None:
        def delete(log: Log) -> None:
            promised = self.promises[partition]
            info = log.info()
            promised.start = max(promised.start, info.log_start_offset + 6)
            try:
                log.set_start(info.log_start_offset + 6)
            except (OSError, KafkaError):
                return

        self.on(manager, partition, delete)

    def truncate(self, manager: LogManager, partition: TopicPartition) -> None:
        found = manager.get(partition)
        if found is None or found.closed or found.info().log_end_offset < 8:
            return
        promised = self.promises[partition]
        target = found.info().log_end_offset - 4
        promised.end = min(promised.end, target)
        promised.start = min(promised.start, target)
        with contextlib.suppress(KafkaError):  # the checkpoints cannot be lowered, and nothing is cut
            manager.truncate({partition: target})
        found = manager.get(partition)
        if found is not None:
            end = found.info().log_end_offset
            promised.batches = [(base, value) for base, value in promised.batches if base < end]

    def pass_time(self, manager: LogManager) -> None:
        self.clock.advance(2_000)
        manager.run_pending(self.clock.monotonic_ms())

    def check(self) -> None:
        """A start without faults. Where the stop said that it was in order, the checkpoints knew the ends."""
        in_order = data_dir.clean_shutdown_epoch(self.path) is not None
        points = OffsetCheckpoint(self.path, RECOVERY_POINT_FILE).read()
        system = Sys()
        manager = self.open(system)
        marked = []
        for partition, promised in self.promises.items():
            found = manager.get(partition)
            if found is None:
                assert not promised.batches
            else:
                assert not in_order or points[partition] == found.info().log_end_offset
                promised.check(found)
                marked.append(found.topic_id)
        assert all(topic_id == TOPIC_ID for topic_id in marked)
        manager.shutdown(clean=True)
        system.close()
        assert data_dir.clean_shutdown_epoch(self.path) == -1


def one_life(root: str, python: tuple[int, int, int] | None, native: tuple[int, int, int] | None) -> tuple[bool, int]:
    """A life without faults, one with a fault (nth, errno, times), one more without. Whether the nth call was made."""
    path = tempfile.mkdtemp(dir=root)
    life = Life(path)
    system = Sys()
    life.live(system)
    disk = FaultyOs(path)
    if python is not None:
        nth, code, times = python
        disk.fail(nth, OSError(code, os.strerror(code)), times)
    if native is not None:
        nth, code, times = native
        system.fault(EVERY_CALL, nth, code, repeat=times)
    made = system.count()
    with replaced_in(disk, *MODULES):
        life.live(system)
    struck = (python is not None and disk.calls >= python[0]) or (
        native is not None and system.count() - made >= native[0]
    )
    system.close()
    life.check()
    system = Sys()
    life.live(system)
    system.close()
    life.check()
    life.builder.close()
    shutil.rmtree(path)
    return struck, disk.calls


@pytest.fixture
def root() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="lives-", dir=MEMORY)
    yield made
    shutil.rmtree(made)


FAULTS = [(errno.EIO, 1), (errno.ENOSPC, FOR_EVER), (errno.EIO, FOR_EVER), (errno.EINTR, 1)]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is one sync of the file system, of two logs too."""
    monkeypatch.setattr(shared_sync, "SHARED_FROM", 1)
    monkeypatch.setattr(data_dir.DataDirectory, "syncs_all", lambda directory, sys: None)


@pytest.mark.usefixtures("together")
def test_the_nth_call_of_python_fails_where_a_stop_is_one_sync(root: str) -> None:
    nth = 1
    while one_life(root, (nth, errno.EIO, 1), None)[0]:
        nth += 1
    assert nth > 30


@pytest.mark.usefixtures("together")
def test_the_nth_call_of_c_fails_where_a_stop_is_one_sync(root: str) -> None:
    nth = 1
    while one_life(root, None, (nth, errno.EIO, 1))[0]:
        nth += 1 + nth // 25
    assert nth > 100


@pytest.mark.parametrize(("code", "times"), FAULTS)
def test_the_nth_call_of_python_fails(root: str, code: int, times: int) -> None:
    nth = 1
    while one_life(root, (nth, code, times), None)[0]:
        nth += 1
    assert nth > 30


@pytest.mark.parametrize(("code", "times"), FAULTS)
def test_the_nth_call_of_c_fails(root: str, code: int, times: int) -> None:
    nth = 1
    while one_life(root, None, (nth, code, times))[0]:
        nth += 1 + nth // 25
    assert nth > 100


def filled(life: Life, system: Sys) -> tuple[LogManager, Log]:
    """Two segments and more, all below the recovery point in the checkpoint; the log start is in the second one."""
    manager = life.open(system)
    log = manager.create(ONE, TOPIC_ID)
    for _ in range(4):
        life.append(manager, ONE)
    log.flush(0)
    segments = log.segments()
    assert len(segments) > 3
    log.set_start(segments[1].base_offset + 2)
    manager.checkpoint_recovery_points()
    manager.checkpoint_log_starts()
    return manager, log


def flip_a_byte(log: Log, offset: int, position: int) -> None:
    base = max(segment.base_offset for segment in log.segments() if segment.base_offset <= offset)
    with open(os.path.join(log.path, f"{base:020d}.log"), "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("fully", [False, True])
def test_what_follows_a_cut_is_checked_whatever_could_be_written(root: str, fully: bool) -> None:
    """The disk is full from the nth call on. Where the log is cut at all, the next start compares what was written
    behind the cut, though it lies below the old recovery point and, emptied, below the old log start."""
    refused = cut = 0
    for nth in range(1, 40):
        life = Life(tempfile.mkdtemp(dir=root))
        system = Sys()
        manager, log = filled(life, system)
        end = log.info().log_end_offset
        target = 2 if fully else end - 4
        disk = FaultyOs(life.path)
        disk.fail(nth, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FOR_EVER)
        with replaced_in(disk, *MODULES):
            try:
                manager.truncate_fully(ONE, target) if fully else manager.truncate({ONE: target})
            except KafkaError as e:
                assert e.code == ErrorCode.KAFKA_STORAGE_ERROR
                assert log.info().log_end_offset == end
                refused += 1
            else:
                assert log.info().log_end_offset == target
                cut += 1
                position = log.segments()[-1].size_bytes
                while log.info().log_end_offset < end + 10:
                    life.append(manager, ONE)
                flip_a_byte(log, target, position + 80)
        manager.shutdown(clean=False)
        manager = life.open(system)
        found = manager.get(ONE)
        assert found is not None and found.info().log_end_offset in ((target,) if cut else (end,))
        manager.shutdown(clean=False)
        system.close()
        life.builder.close()
        if disk.calls < nth:
            break
    assert refused > 3 and cut > 3


def test_a_recovery_point_does_not_pass_an_epoch_that_the_file_does_not_know(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch begins while the file of epochs is written, and its first records are flushed with the rest."""
    life = Life(root)
    system = Sys()
    manager = life.open(system)
    log_file = manager.create(ONE, TOPIC_ID)
    life.append(manager, ONE)
    begun = log_file.info().log_end_offset
    write = log.write_leader_epochs

    def write_and_begin(path: str, epochs: Sequence[tuple[int, int]]) -> None:
        write(path, epochs)
        data = life.builder.build([NewRecord(0, None, b"x")], base_offset=begun, leader_epoch=3)
        log_file.append(data, 0)

    with monkeypatch.context() as patch:
        patch.setattr(log, "write_leader_epochs", write_and_begin)
        log_file.flush(0)
    assert log_file.info().recovery_point == begun + 1
    assert log_file.durable_ends() == (0, 0, begun)
    manager.checkpoint_recovery_points()
    manager.shutdown(clean=False)
    manager = life.open(system)
    found = manager.get(ONE)
    assert found is not None and [entry.epoch for entry in found.epochs()] == [0, 3]
    found.flush(0)
    assert found.durable_ends() == (0, 0, begun + 1)
    manager.shutdown(clean=False)
    system.close()
    life.builder.close()
