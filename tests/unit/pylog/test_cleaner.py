"""Compaction of many logs: which one is next, who may be in it, what is noted, what a bad log does to the others."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._cleaning import KeyMap
from pylog._native import Sys
from pylog.checkpoint import CLEANER_FILE
from pylog.cleaner import Cleaner, Throttle, io_bytes, max_keys
from pylog.cleaner_offsets import CleanerOffsets
from pylog.clock import ManualClock
from pylog.compaction import CleanerConfig
from pylog.config import LogConfig
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.records import NewRecord, RecordBatchBuilder, batches
from pylog.types import TopicPartition

COMPACTED = LogConfig(
    segment_bytes=600,
    index_interval_bytes=100,
    segment_index_bytes=1_000,
    retention_ms=-1,
    cleanup_policy=("compact",),
    file_delete_delay_ms=1_000,
)
A, B = TopicPartition("a", 0), TopicPartition("b", 0)
WAIT_S = 20
SYS_PWRITE = 2


class Store:
    """A manager with a cleaner that is driven by hand."""

    def __init__(self, root: Path, clock: ManualClock) -> None:
        self.path = str(root / "data")
        self.clock = clock
        self.system = Sys()
        self.configs = {A.topic: COMPACTED, B.topic: COMPACTED}
        self.cleaner_config = CleanerConfig()
        self.builder = RecordBatchBuilder()
        self.open()

    def open(self) -> None:
        self.manager = LogManager(
            LogManagerConfig((self.path,)),
            sys=self.system,
            clock=self.clock,
            config_of=lambda topic: self.configs[topic],
            cleaner_config=lambda: self.cleaner_config,
        )
        self.manager.load()

    @property
    def cleaner(self) -> Cleaner:
        return self.manager._compaction.cleaner()

    def create(self, partition: TopicPartition, batches_count: int = 30) -> Log:
        log = self.manager.create(partition, None)
        self.fill(log, batches_count)
        return log

    def fill(self, log: Log, batches_count: int) -> None:
        """Batches of three records over five keys, so that nearly all of it may go."""
        now = self.clock.wall_ms()
        for number in range(batches_count):
            records = [NewRecord(now, b"key %d" % ((number + i) % 5), b"v%d" % number * 20) for i in range(3)]
            log.append(self.builder.build(records, base_offset=log.info().log_end_offset, leader_epoch=0), now)

    def noted(self) -> dict[str, int]:
        """What the checkpoint says."""
        lines = Path(self.path, CLEANER_FILE).read_text().splitlines()
        assert int(lines[1]) == len(lines) - 2
        return {line.split()[0]: int(line.split()[2]) for line in lines[2:]}

    def close(self) -> None:
        self.manager.shutdown(clean=False)
        self.builder.close()
        self.system.close()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    made = Store(tmp_path, clock)
    yield made
    made.close()


def values(log: Log) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = log.info().log_start_offset
    while data := log.read(at, 1 << 16):
        for batch in batches(data):
            for record in batch.records():
                assert record.key is not None and record.value is not None
                found[record.key] = record.value
            at = batch.next_offset
    return found


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(WAIT_S)


# ---------------------------------------------------------------------------------- one pass after the other


def test_the_dirtiest_log_is_first(store: Store) -> None:
    a, b = store.create(A, 60), store.create(B, 60)
    before = values(a), values(b)
    assert store.cleaner.clean_one() and store.cleaner.clean_one()
    assert not store.cleaner.clean_one(), "nothing is dirty"
    small = a.info().size_bytes
    assert store.noted() == {"a": a.segments()[-1].base_offset, "b": b.segments()[-1].base_offset}
    assert (values(a), values(b)) == before and small < 1_500
    store.fill(a, 15)
    store.fill(b, 60)
    dirty_a, dirty_b = a.segments()[-1].base_offset, b.segments()[-1].base_offset
    assert store.cleaner.clean_one()
    assert store.noted()["b"] == dirty_b and store.noted()["a"] < dirty_a, "b was the dirtier one"
    assert values(b) == before[1]


def test_a_log_that_is_clean_enough_waits(store: Store) -> None:
    a = store.create(A, 60)
    store.cleaner.clean_one()
    a.roll(store.clock.wall_ms())
    store.fill(a, 1)
    store.configs["a"] = COMPACTED._replace(min_cleanable_dirty_ratio=1.0)
    store.manager.configure_topic("a")
    assert not store.cleaner.clean_one()
    store.configs["a"] = COMPACTED._replace(min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=10_000)
    store.manager.configure_topic("a")
    assert not store.cleaner.clean_one(), "not dirty enough, and not old enough"
    store.clock.advance(20_000)
    assert store.cleaner.clean_one(), "max.compaction.lag.ms has passed"


def test_young_records_and_other_policies_are_left_alone(store: Store) -> None:
    store.configs["a"] = COMPACTED._replace(min_compaction_lag_ms=5_000)
    store.configs["b"] = COMPACTED._replace(cleanup_policy=("delete",))
    a, b = store.create(A), store.create(B)
    size = b.info().size_bytes
    assert not store.cleaner.clean_one()
    store.clock.advance(5_000)
    assert store.cleaner.clean_one() and not store.cleaner.clean_one()
    assert a.info().size_bytes < size == b.info().size_bytes


def test_old_files_go_after_a_while(store: Store) -> None:
    a = store.create(A)
    assert store.cleaner.clean_one()
    assert len(a.deleted_files()) >= 3
    kept = {f"{segment.base_offset:020d}" for segment in a.segments()}
    assert {name[:20] for name in os.listdir(a.path) if name.endswith("index")} == kept, "indexes go at once"
    store.clock.advance(1_000)
    store.manager.run_pending(store.clock.monotonic_ms())
    assert a.deleted_files() == []


def test_what_is_cleaned_is_durable(store: Store) -> None:
    """Else a power cut could take a value for which its predecessor went."""
    a = store.create(A)
    assert a.info().recovery_point < a.segments()[-1].base_offset
    assert store.cleaner.clean_one()
    assert a.info().recovery_point >= a.segments()[-1].base_offset


def test_a_map_of_few_keys_comes_back(store: Store) -> None:
    store.cleaner_config = CleanerConfig(dedupe_buffer_size=24 * 5, io_buffer_load_factor=0.9)
    assert max_keys(store.cleaner_config) == 4
    a = store.create(A, 60)
    before = values(a)
    passes = 0
    while store.cleaner.clean_one():
        passes += 1
    assert passes > 3
    assert values(a) == before


def test_sizes_are_shared_by_the_threads(store: Store) -> None:
    assert max_keys(CleanerConfig()) == int((128 << 20) // 24 * 0.9)
    assert max_keys(CleanerConfig(threads=4)) == int((32 << 20) // 24 * 0.9)
    assert max_keys(CleanerConfig(dedupe_buffer_size=1)) == 1
    assert io_bytes(CleanerConfig()) == 256 << 10
    assert io_bytes(CleanerConfig(threads=2)) == 128 << 10
    with pytest.raises(OSError, match="Invalid argument"):
        KeyMap(store.system, 3, 3)


# ---------------------------------------------------------------------------------- what is noted


def test_a_start_goes_on_from_the_checkpoint(store: Store) -> None:
    a = store.create(A)
    assert store.cleaner.clean_one()
    noted = store.noted()
    store.manager.shutdown(clean=True)
    store.open()
    a = store.manager.logs()[0]
    assert not store.cleaner.clean_one()
    store.fill(a, 60)
    assert store.cleaner.clean_one()
    assert store.noted()["a"] > noted["a"]


@pytest.mark.parametrize("content", [b"", b"0\n1\n", b"\0" * 40, b"0\n1\na 0 99999\n", b"0\n1\na 0 -5\n"])
def test_a_checkpoint_that_cannot_be_costs_a_pass(store: Store, content: bytes) -> None:
    store.create(A)
    Path(store.path, CLEANER_FILE).write_bytes(content)
    store.manager.shutdown(clean=True)
    store.open()
    a = store.manager.logs()[0]
    before = values(a)
    assert store.cleaner.clean_one() and not store.cleaner.clean_one()
    assert values(a) == before and store.noted() == {"a": a.segments()[-1].base_offset}


def test_what_is_cut_is_dirty_again(store: Store) -> None:
    a, _ = store.create(A), store.create(B)
    while store.cleaner.clean_one():
        pass
    store.manager.truncate({A: 20})
    assert store.noted()["a"] == a.segments()[-1].base_offset <= 20
    store.manager.truncate_fully(A, 500)
    assert store.noted()["a"] <= 20
    store.fill(a, 30)
    assert store.cleaner.clean_one(), "a checkpoint below the start of the log does not count"
    assert store.noted()["a"] > 500
    store.manager.delete(A)
    assert "a" not in store.noted() and "b" in store.noted()
    assert Path(store.path, CLEANER_FILE).read_bytes().startswith(b"0\n1\nb 0 ")


def test_offsets_of_logs_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    there = [A, B]
    offsets = CleanerOffsets(lambda directory: there)
    offsets.put(str(tmp_path), A, 5)
    offsets.put(str(tmp_path), B, 6)
    there.remove(A)
    offsets.put(str(tmp_path), B, 7)
    assert (tmp_path / CLEANER_FILE).read_bytes() == b"0\n1\nb 0 7\n"
    assert offsets.get(str(tmp_path), A) is None
    offsets.cut(str(tmp_path), B, 8)
    assert offsets.get(str(tmp_path), B) == 7
    offsets.cut(str(tmp_path), B, 3)
    assert (tmp_path / CLEANER_FILE).read_bytes() == b"0\n1\nb 0 3\n"


# ---------------------------------------------------------------------------------- what goes wrong


def test_a_damaged_log_is_told_once_and_left_alone(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = store.create(A), store.create(B)
    segment = a.segments()[1]
    with open(os.path.join(a.path, f"{segment.base_offset:020d}.log"), "r+b") as file:
        file.seek(segment.size_bytes - 1)
        file.write(b"\xff")
    size = a.info().size_bytes
    assert store.cleaner.clean_one() and store.cleaner.clean_one() and not store.cleaner.clean_one()
    assert a.info().size_bytes == size > b.info().size_bytes
    told = [line for line in capfd.readouterr().err.splitlines() if "not compacted any more" in line]
    assert len(told) == 1 and f"{segment.base_offset:020d}.log at " in told[0]


@pytest.mark.parametrize(("error", "offline"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_an_error_of_the_disk(store: Store, error: int, offline: bool) -> None:
    store.create(A)
    store.system.fault(SYS_PWRITE, 1, error)
    assert store.cleaner.clean_one()
    assert bool(store.manager.offline_directories()) == offline
    if not offline:
        assert store.cleaner.clean_one(), "it is tried again"
        assert store.noted()


# ---------------------------------------------------------------------------------- who is in which log


class Gate:
    """Holds a pass up between two of its pieces."""

    def __init__(self, cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()
        pace = cleaner._pace

        def held(partition: TopicPartition, moved_bytes: int) -> None:
            self.inside.set()
            wait_for(self.go_on)
            pace(partition, moved_bytes)

        monkeypatch.setattr(Cleaner, "_pace", lambda _, partition, moved: held(partition, moved))


@pytest.mark.parametrize("what", ["truncate", "delete", "fail", "stop"])
def test_whoever_changes_a_log_waits_for_the_pass_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    a = store.create(A)
    cleaner = store.cleaner
    gate = Gate(cleaner, monkeypatch)
    done = threading.Event()
    worker = threading.Thread(target=cleaner.clean_one)
    worker.start()
    wait_for(gate.inside)

    def change() -> None:
        if what == "truncate":
            store.manager.truncate({A: 20})
        elif what == "delete":
            store.manager.delete(A)
        elif what == "fail":
            store.manager.fail_directory(store.path, OSError(errno.EIO, "gone"))
        else:
            store.manager.stop_cleaning()
        done.set()

    changer = threading.Thread(target=change)
    changer.start()
    if what == "stop":
        wait_for(cleaner._stopping)
    else:
        with cleaner._changed:
            assert cleaner._changed.wait_for(lambda: A in cleaner._aborted, WAIT_S)
        assert not done.is_set()
    gate.go_on.set()
    changer.join(WAIT_S)
    worker.join(WAIT_S)
    assert done.is_set() and not worker.is_alive()
    assert not os.path.exists(os.path.join(store.path, CLEANER_FILE)), "it came to no end"
    assert cleaner.cleaned_count == 0
    if what in ("truncate", "stop"):
        assert not [name for name in os.listdir(a.path) if name.endswith((".cleaned", ".swap"))]
    if what == "truncate":
        assert a.info().log_end_offset <= 20
        store.fill(a, 30)
        assert cleaner.clean_one()


def test_pauses_are_counted(store: Store) -> None:
    store.create(A)
    cleaner = store.cleaner
    cleaner.pause(A)
    cleaner.pause(A)
    assert not cleaner.clean_one()
    cleaner.resume(A)
    assert not cleaner.clean_one()
    cleaner.resume(A)
    assert cleaner.clean_one()


def test_threads_start_when_there_is_something_to_clean(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.cleaner_config = CleanerConfig(threads=2, backoff_ms=1)
    compaction = store.manager._compaction
    compaction.start_when_needed()
    assert compaction._cleaner is None
    a, b = store.create(A), store.create(B)
    before = values(a), values(b)
    watch = Watch()
    monkeypatch.setattr(store.cleaner, "_on_replaced", watch)
    compaction.start_when_needed()
    assert len(store.cleaner._threads) == 2
    wait_for(watch.both)
    store.manager.stop_cleaning()
    assert not any(thread.is_alive() for thread in store.cleaner._threads.values())
    assert (values(a), values(b)) == before
    compaction.start_when_needed()
    assert not any(thread.is_alive() for thread in store.cleaner._threads.values()), "it was stopped"


class Watch:
    """Told of logs in which something was replaced; sets `both` when that is two."""

    def __init__(self) -> None:
        self.both = threading.Event()
        self._logs: set[str] = set()

    def __call__(self, log: Log) -> None:
        self._logs.add(log.path)
        if len(self._logs) == 2:
            self.both.set()


def test_the_throttle_keeps_to_its_rate(clock: ManualClock) -> None:
    throttle = Throttle(clock)
    assert throttle.wait_s(1 << 30, float("inf")) == 0
    assert throttle.wait_s(500, 1_000) == 0.5
    assert throttle.wait_s(500, 1_000) == 1.0, "what others moved counts"
    clock.advance(2_000)
    assert throttle.wait_s(100, 1_000) == 0.1, "what was not used is not saved up"


def test_a_store_of_the_library_is_compacted_too(tmp_path: Path) -> None:
    import pylog

    with pylog.open(str(tmp_path)) as store:
        topic = store.create_topic("state", config={"cleanup.policy": "compact", "segment.bytes": "1000"})
        for number in range(60):
            topic.append(b"%d" % number * 20, key=b"key %d" % (number % 3))
        assert store._manager._compaction.cleaner().clean_one()
        values = {record.key: record.value for record in topic[0].read()}
        assert len(values) == 3 and values[b"key 2"] == b"59" * 20


def test_compacted_and_deleted(store: Store) -> None:
    """With both policies what compaction left goes by its age, and the checkpoint follows the start of the log."""
    store.configs["a"] = COMPACTED._replace(cleanup_policy=("compact", "delete"), retention_ms=5_000)
    a = store.create(A)
    then_s = store.clock.wall_ms() / 1000
    for segment in a.segments():
        os.utime(os.path.join(a.path, f"{segment.base_offset:020d}.log"), (then_s, then_s))
    assert store.cleaner.clean_one()
    assert a.segments()[0].last_modified_ms == store.clock.wall_ms(), (
        "an empty segment is as old as what it was made of"
    )
    assert a.info().log_start_offset == 0
    store.clock.advance(4_000)
    store.fill(a, 30)
    store.clock.advance(2_000)
    store.manager.clean_up()
    assert a.info().log_start_offset > 0
    before = values(a)
    store.fill(a, 1)
    assert store.cleaner.clean_one()
    assert store.noted()["a"] == a.segments()[-1].base_offset
    assert set(values(a)) == set(before)
