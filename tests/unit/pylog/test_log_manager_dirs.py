"""Several data directories: where a log is made, how it moves to another one, and what a crash on the way leaves."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog import future_log
from pylog._native import Sys
from pylog.clock import SystemClock
from pylog.config import LogConfig
from pylog.data_dir import list_partition_directories
from pylog.disk_space import DiskSpace, Reserve, room_left
from pylog.errors import ErrorCode, KafkaError
from pylog.future_log import STEP_BYTES, MoveConfig, Pace, step_bytes
from pylog.log import Log
from pylog.log_manager import DuplicateLogError, LogManager, LogManagerConfig
from pylog.types import TopicPartition

A0, B0 = TopicPartition("a", 0), TopicPartition("b", 0)
TOPIC_ID = bytes(range(16))
SMALL = LogConfig(segment_bytes=1_000, index_interval_bytes=100, segment_index_bytes=1_000, file_delete_delay_ms=60_000)
SYS_PWRITEV, SYS_PWRITE = 1, 2
EIO, ENOSPC = 5, 28

MakeBatch = Callable[..., bytes]


class Store:
    """Managers over the same directories, one after the other."""

    def __init__(self, root: Path, system: Sys) -> None:
        self.root = root
        self.system = system
        self.paths = [str(root / f"d{i}") for i in range(3)]
        self.moves = MoveConfig()
        self.config = SMALL
        self.manager: LogManager | None = None

    def open(self) -> LogManager:
        self.manager = LogManager(
            LogManagerConfig(tuple(self.paths)),
            sys=self.system,
            clock=SystemClock(),
            config_of=lambda topic: self.config,
            move_config=lambda: self.moves,
        )
        self.manager.load()
        return self.manager

    def shutdown(self, clean: bool) -> None:
        if self.manager is not None:
            self.manager.shutdown(clean)
            self.manager = None


@pytest.fixture
def store(tmp_path: Path, system: Sys) -> Iterator[Store]:
    made = Store(tmp_path, system)
    yield made
    made.shutdown(clean=False)


@pytest.fixture
def fill(make_batch: MakeBatch) -> Callable[..., None]:
    def append(log: Log, count: int) -> None:
        for _ in range(count):
            log.append(make_batch(log.info().log_end_offset), 0)

    return append


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)  # sleep: another thread moves, and nobody is told when


def wait_moved(manager: LogManager, partition: TopicPartition, directory: str) -> Log:
    wait_until(lambda: bool((log := manager.get(partition)) and log.directory == directory), f"not in {directory}")
    wait_until(lambda: not moving_files(directory), "the move is not over")
    log = manager.get(partition)
    assert log is not None
    return log


def moving_files(directory: str) -> list[Path]:
    return list(Path(directory).glob(f"*/{future_log.MOVING_PREFIX}*"))


def names(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir() if path.is_dir())


def everything(log: Log) -> bytes:
    info = log.info()
    return b"" if info.log_start_offset == info.log_end_offset else b"".join(batches(log))


def batches(log: Log) -> Iterator[bytes]:
    offset = log.info().log_start_offset
    while offset < log.info().log_end_offset:
        data = log.read(offset, 500)
        yield data
        offset = _next(data)


def _next(data: bytes) -> int:
    at = 0
    end = 0
    while at < len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
        base = int.from_bytes(data[at : at + 8], "big")
        end = base + int.from_bytes(data[at + 23 : at + 27], "big") + 1
        at += size
    return end


# -------------------------------------------------------------------------------------------------- placement


def test_a_preferred_directory_gets_the_partition_once(store: Store) -> None:
    manager = store.open()
    manager.prefer(A0, store.paths[2])
    assert manager.create(A0, TOPIC_ID).directory == store.paths[2]
    manager.delete(A0)
    assert manager.create(A0, TOPIC_ID).directory == store.paths[0], "a preference that is met is forgotten"
    with pytest.raises(KafkaError) as caught:
        manager.prefer(A0, str(store.root))
    assert caught.value.code == ErrorCode.LOG_DIR_NOT_FOUND


def test_the_next_directory_takes_what_a_failed_one_cannot(store: Store) -> None:
    manager = store.open()
    shutil.rmtree(store.paths[0])
    assert manager.create(A0, TOPIC_ID).directory == store.paths[1]
    assert list(manager.offline_directories()) == [store.paths[0]]
    assert manager.create(B0, TOPIC_ID).directory == store.paths[2]


def test_the_order_of_directories_may_change(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    for index in range(4):
        fill(manager.create(TopicPartition("t", index), TOPIC_ID), index + 1)
    before = {log.partition: (log.directory, log.info().log_end_offset) for log in manager.logs()}
    store.shutdown(clean=True)
    store.paths.reverse()
    manager = store.open()
    assert {log.partition: (log.directory, log.info().log_end_offset) for log in manager.logs()} == before


# -------------------------------------------------------------------------------------------------- moving


def test_a_log_moves_with_all_it_has(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 30)
    log.set_start(5)
    expected, source = everything(log), log.directory
    manager.move(A0, store.paths[1])
    moved = wait_moved(manager, A0, store.paths[1])
    assert everything(moved) == expected and moved.topic_id == TOPIC_ID
    assert moved.info().log_start_offset == 5
    assert manager.future_log(A0) is None and log.closed
    wait_until(lambda: names(source) != ["a-0"], "the old directory is still there")
    assert [name.rpartition("-")[2] for name in names(source)] == ["delete"]
    fill(moved, 3)
    expected = everything(moved)
    store.shutdown(clean=True)
    manager = store.open()
    found = manager.get(A0)
    assert found is not None and found.directory == store.paths[1] and everything(found) == expected


def test_a_log_that_is_written_moves(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 20)
    store.moves = MoveConfig(bytes_per_second=100_000)
    manager.move(A0, store.paths[1])
    for _ in range(20):  # the one thread that writes is also the one that lets copies take places
        fill(log, 1)

        if log.closed:
            break
    store.moves = MoveConfig()
    moved = wait_moved(manager, A0, store.paths[1])
    assert moved.info().log_end_offset >= 60


def test_where_it_lies_already_nothing_moves(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 3)
    manager.move(A0, store.paths[0])
    assert manager.future_logs() == []
    store.moves = MoveConfig(bytes_per_second=0)
    manager.move(A0, store.paths[1])
    copy = manager.future_log(A0)
    assert copy is not None and copy.directory == store.paths[1] and copy.path.endswith("-future")
    manager.move(A0, store.paths[1])
    assert manager.future_log(A0) is copy
    manager.move(A0, store.paths[0])  # cancelled
    assert manager.future_logs() == [] and copy.closed
    assert [name.rpartition("-")[2] for name in names(store.paths[1])] == ["delete"]
    manager.move(A0, store.paths[1])
    manager.move(A0, store.paths[2])  # elsewhere
    copy = manager.future_log(A0)
    assert copy is not None and copy.directory == store.paths[2]


def test_nothing_moves_while_a_directory_is_offline(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 3)
    manager.fail_directory(store.paths[2], OSError(EIO, "broken"))
    with pytest.raises(KafkaError) as caught:
        manager.move(A0, store.paths[1])
    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    with pytest.raises(KafkaError) as caught:
        manager.move(A0, store.paths[2])
    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR


def test_an_unfinished_copy_goes_on_after_a_restart(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 30)
    expected = everything(log)
    store.moves = MoveConfig(bytes_per_second=20_000)
    manager.move(A0, store.paths[1])
    copy = manager.future_log(A0)
    assert copy is not None
    wait_until(lambda: (copy.end_offset() or 0) > 0, "nothing was copied")
    store.moves = MoveConfig(bytes_per_second=0)
    store.shutdown(clean=False)
    manager = store.open()
    manager.resume_moves()
    found = manager.future_log(A0)
    assert found is not None and found.path == copy.path
    store.moves = MoveConfig()
    assert everything(wait_moved(manager, A0, store.paths[1])) == expected


def test_a_copy_that_is_longer_than_its_log_is_cut(
    store: Store, fill: Callable[..., None], make_batch: MakeBatch
) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 5)
    store.moves = MoveConfig(bytes_per_second=0)
    manager.move(A0, store.paths[1])
    copy = manager.future_log(A0)
    assert copy is not None
    for base in range(0, 30, 3):
        copy.append(make_batch(base), 0)
    store.shutdown(clean=True)
    manager = store.open()
    manager.resume_moves()
    copy, log = manager.future_log(A0), manager.get(A0)  # type: ignore[assignment]
    assert copy is not None and copy.info().log_end_offset == log.info().log_end_offset == 15
    fill(log, 2)
    expected = everything(log)
    store.moves = MoveConfig()
    assert everything(wait_moved(manager, A0, store.paths[1])) == expected


def test_deleting_a_log_ends_its_move(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 3)
    store.moves = MoveConfig(bytes_per_second=0)
    manager.move(A0, store.paths[1])
    assert manager.delete(A0)
    assert manager.future_logs() == [] and manager.logs() == []
    assert [name.rpartition("-")[2] for path in store.paths[:2] for name in names(path)] == ["delete", "delete"]
    assert manager.create(A0, TOPIC_ID).info().log_end_offset == 0


def test_a_failed_destination_leaves_the_log_alone(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 10)
    store.system.fault(SYS_PWRITEV, 1, error=EIO, repeat=1)
    manager.move(A0, store.paths[1])
    wait_until(lambda: store.paths[1] in manager.offline_directories(), "the directory serves on")
    assert manager.get(A0) is log and manager.future_logs() == []
    fill(log, 1)


def test_a_full_destination_is_waited_for(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(future_log, "_NO_ROOM_WAIT_MS", 1)
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 10)
    expected = everything(log)
    store.system.fault(SYS_PWRITEV, 1, error=ENOSPC, repeat=3)
    manager.move(A0, store.paths[1])
    assert everything(wait_moved(manager, A0, store.paths[1])) == expected
    assert manager.offline_directories() == {}


def test_a_copy_keeps_the_reserve_free(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(future_log, "_NO_ROOM_WAIT_MS", 1)
    space = [DiskSpace(100 << 20, 10 << 20)]
    asked = threading.Semaphore(0)

    def now(path: str) -> DiskSpace:
        asked.release()
        return space[0]

    monkeypatch.setattr(future_log, "disk_space", now)
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 3)
    store.moves = MoveConfig(reserve=Reserve(0, 10))
    manager.move(A0, store.paths[1])
    for _ in range(3):
        assert asked.acquire(timeout=10)
    copy = manager.future_log(A0)
    assert copy is not None and copy.info().log_end_offset == 0
    space[0] = DiskSpace(100 << 20, 20 << 20)
    wait_moved(manager, A0, store.paths[1])


# -------------------------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("expired", [False, True])
def test_retention_needs_no_room(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch, expired: bool
) -> None:
    """Neither the epochs' file nor, when every segment has had its time, a new active segment can be written."""
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 30)
    count = log.info().segment_count
    limits = {"retention_ms": 1} if expired else {"retention_bytes": 1}
    store.config = SMALL.__class__(**{**SMALL._asdict(), **limits, "file_delete_delay_ms": 0})
    manager.configure_topic("a")

    def no_room(path: str, data: object) -> None:
        raise OSError(ENOSPC, "no room", path)

    monkeypatch.setattr("pylog.log.write_leader_epochs", no_room)
    store.system.fault(SYS_PWRITE, 1, error=ENOSPC, repeat=-1)
    manager.clean_up()
    assert log.info().segment_count == 1 and log.info().log_start_offset == log.segments()[0].base_offset > 0
    manager.run_pending(SystemClock().monotonic_ms() + 1)
    assert len(list(Path(log.path).glob("*.log*"))) == 1 < count
    store.system.fault(SYS_PWRITE, 1, error=ENOSPC, repeat=0)
    monkeypatch.undo()
    fill(log, 3)
    expected = everything(log)
    store.shutdown(clean=False)
    found = store.open().get(A0)
    assert found is not None and everything(found) == expected and manager.offline_directories() == {}


def test_a_log_opens_on_a_full_disk(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 8)
    assert manager.flush(log)
    manager.checkpoint_recovery_points()
    expected = everything(log)
    store.shutdown(clean=False)
    store.system.fault(SYS_PWRITE, 1, error=ENOSPC, repeat=-1)
    manager = store.open()
    found = manager.get(A0)
    assert found is not None and everything(found) == expected
    store.system.fault(SYS_PWRITE, 1, error=ENOSPC, repeat=0)
    fill(found, 20)
    expected = everything(found)
    store.shutdown(clean=True)
    found = store.open().get(A0)
    assert found is not None and everything(found) == expected


# -------------------------------------------------------------------------------------------------- crashes


def snapshots(store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], bytes]:
    """The directories as they are after every change that a move makes to them, and what is in the log."""
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 6)
    expected = everything(log)
    taken: list[Path] = []

    def take() -> None:
        to = store.root / f"snapshot{len(taken)}"
        to.mkdir()
        for path in store.paths:
            shutil.copytree(path, to / os.path.basename(path))
        taken.append(to)

    def spy(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: object, **more: object) -> object:
            take()
            result = real(*arguments, **more)
            take()
            return result

        monkeypatch.setattr(owner, name, call)

    spy(Log, "copy_from")
    spy(future_log, "announce_move")
    spy(future_log, "unlink_if_there")
    spy(Log, "take_place_of")
    spy(Log, "condemn")
    spy(future_log, "sync_directory")
    manager.move(A0, store.paths[1])
    wait_moved(manager, A0, store.paths[1])
    wait_until(lambda: not any(t.name == "alter-log-dirs" for t in threading.enumerate()), "threads are left")
    monkeypatch.undo()
    store.shutdown(clean=False)
    return taken, expected


def test_a_crash_at_any_moment_of_a_move(
    store: Store, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch, make_batch: MakeBatch
) -> None:
    taken, expected = snapshots(store, fill, monkeypatch)
    assert len(taken) > 12
    seen = set()
    for at, root in enumerate(taken):
        store.paths = [str(root / f"d{i}") for i in range(3)]
        held = [list_partition_directories(path) for path in store.paths]
        seen.add(tuple((len(one.current), len(one.future), len(one.deleted)) for one in held[:2]))
        manager = store.open()
        log = manager.get(A0)
        assert log is not None and everything(log) == expected, at
        manager.resume_moves()
        if manager.future_log(A0) is not None:
            log = wait_moved(manager, A0, store.paths[1])
            assert everything(log) == expected, at
        store.shutdown(clean=True)
        manager = store.open()
        log = manager.get(A0)
        assert log is not None and everything(log) == expected, at
        store.shutdown(clean=False)
    # the log and an unfinished copy; both with the partition's name; the old one on its way out
    assert {((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (1, 0, 0)), ((0, 0, 1), (1, 0, 0))} <= seen


def test_a_copy_that_had_records_of_its_own_counts(
    store: Store, fill: Callable[..., None], make_batch: MakeBatch
) -> None:
    """Switched over and written to, then the power goes before the new name is durable."""
    manager = store.open()
    log = manager.create(A0, TOPIC_ID)
    fill(log, 5)
    store.moves = MoveConfig(bytes_per_second=0)
    manager.move(A0, store.paths[1])
    copy = manager.future_log(A0)
    assert copy is not None
    future_log.announce_move(log.path, copy.path)
    for base in range(0, 24, 3):
        copy.append(make_batch(base), 0)
    expected = everything(copy)
    store.shutdown(clean=False)
    manager = store.open()
    found = manager.get(A0)
    assert found is not None and found.directory == store.paths[1] and everything(found) == expected
    assert found.path.endswith("a-0") and manager.future_logs() == []


def test_two_logs_of_one_partition_are_refused(store: Store, fill: Callable[..., None]) -> None:
    manager = store.open()
    fill(manager.create(A0, TOPIC_ID), 3)
    store.shutdown(clean=True)
    shutil.copytree(f"{store.paths[0]}/a-0", f"{store.paths[1]}/a-0")
    with pytest.raises(DuplicateLogError, match=r"partition a-0 lies in two log directories, .*/d0/a-0 and .*/d1/a-0"):
        store.open()


# -------------------------------------------------------------------------------------------------- how fast, how full


def test_the_pace_of_moves() -> None:
    pace = Pace(0)
    assert pace.wait_ms(0, 1_000) == 0
    pace.moved(500)
    assert pace.wait_ms(0, 1_000) == 500
    assert pace.wait_ms(400, 1_000) == 100
    assert pace.wait_ms(400, 100) == 1_000, "a new rate holds for what was moved before"
    assert pace.wait_ms(400, 0) == float("inf")
    assert pace.wait_ms(400, None) == 0
    assert pace.wait_ms(400, 1) == 0, "without a limit nothing is owed"


def test_how_much_is_copied_at_once() -> None:
    assert step_bytes(None) == STEP_BYTES
    assert step_bytes(10 * STEP_BYTES) == STEP_BYTES
    assert step_bytes(1_000_000) == 100_000
    assert 0 < step_bytes(0) < STEP_BYTES


def test_room_is_what_is_left_above_the_larger_reserve() -> None:
    space = DiskSpace(total=1_000, usable=300)
    assert room_left(space, Reserve()) == 300
    assert room_left(space, Reserve(100, 0)) == 200
    assert room_left(space, Reserve(100, 20)) == 100
    assert room_left(space, Reserve(0, 40)) == -100
