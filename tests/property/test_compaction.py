"""Compaction of random histories: the last committed value of each key is what it was, whatever fails and whenever.

A crash is a table of system calls of which the n-th and all that follow fail: what was done before has happened,
nothing after it has. The log is then opened from what lies in its directory, as a new process does.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylog._cleaning import CleaningAborted
from pylog._native import Sys
from pylog.cleanable import dirty_section
from pylog.cleaner import clean_log
from pylog.compaction import CleanerConfig
from pylog.compression import Codec
from pylog.config import LogConfig
from pylog.log import Log, create_log, open_log
from pylog.records import EndMarker, NewRecord, Record, RecordBatchBuilder, batches
from pylog.types import TopicPartition

PARTITION = TopicPartition("compacted", 0)
CONFIG = LogConfig(
    segment_bytes=700,
    index_interval_bytes=100,
    segment_index_bytes=1_000,
    retention_ms=-1,
    cleanup_policy=("compact",),
    delete_retention_ms=1_000,
)
WALL_MS = 1_700_000_000_000
# 24 bytes a key: room for so few that some passes come only part of the way.
SMALL = CleanerConfig(dedupe_buffer_size=24 * 12, io_buffer_size=2 * 4096)
AMPLE = CleanerConfig(dedupe_buffer_size=24 * 1_000)


# Thousands of synced little files: in memory where that can be.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Step(NamedTuple):
    """One batch, and how its transaction ends: None when it is in none."""

    records: tuple[NewRecord, ...]
    codec: Codec
    producer_id: int
    committed: bool | None


keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"a longer key than the others have"])
records = st.builds(NewRecord, st.integers(0, 9).map(lambda n: WALL_MS + n), keys, st.none() | st.binary(max_size=60))
steps = st.builds(
    Step,
    st.lists(records, min_size=1, max_size=4).map(tuple),
    st.sampled_from(list(Codec)),
    st.sampled_from([-1, 1, 2]),
    st.none() | st.booleans(),
)
histories = st.lists(steps, min_size=4, max_size=30)


class History:
    """What was appended: every record by offset, and the last committed one of each key."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.last: dict[bytes, Record] = {}
        self.sequences: dict[int, int] = {}
        self.builder = RecordBatchBuilder()

    def append(self, log: Log, step: Step) -> None:
        base = log.info().log_end_offset
        transactional = step.committed is not None
        producer_id = max(step.producer_id, 1) if transactional else step.producer_id
        sequence = self.sequences.get(producer_id, 0) if producer_id >= 0 else -1
        data = self.builder.build(
            step.records,
            base_offset=base,
            codec=step.codec,
            transactional=transactional,
            producer_id=producer_id,
            producer_epoch=0 if producer_id >= 0 else -1,
            base_sequence=sequence,
            leader_epoch=0,
        )
        log.append(data, WALL_MS)
        self.sequences[producer_id] = sequence + len(step.records)
        if transactional:
            marker = self.builder.build_end_marker(
                EndMarker(bool(step.committed), 0),
                base_offset=base + len(step.records),
                producer_id=producer_id,
                producer_epoch=0,
                timestamp=WALL_MS,
                leader_epoch=0,
            )
            log.append(marker, WALL_MS)
        for i, record in enumerate(step.records):
            kept = Record(base + i, *record)
            self.records[kept.offset] = kept
            if step.committed is not False:
                assert kept.key is not None
                self.last[kept.key] = kept

    def check(self, log: Log) -> None:
        """The log reads as this says, to a reader that sees only what was committed."""
        found: dict[bytes, Record] = {}
        aborted = log.aborted(0, log.info().log_end_offset)
        at = before = log.info().log_start_offset
        while data := log.read(at, 2_000):
            for batch in batches(data):
                assert batch.header.base_offset >= at
                for record in [] if batch.control else batch.records():
                    assert record == self.records[record.offset] and record.offset >= before
                    before = record.offset + 1
                    if not (batch.transactional and _is_aborted(aborted, batch.header.producer_id, record.offset)):
                        assert record.key is not None
                        found[record.key] = record
                at = batch.next_offset
        values = {key: record for key, record in self.last.items() if record.value is not None}
        assert {key: record for key, record in found.items() if record.value is not None} == values
        # A tombstone may be gone, but nothing it deleted may be back.
        assert all(self.last[key] == record for key, record in found.items())


def _is_aborted(aborted: list[tuple[int, int, int]], producer_id: int, offset: int) -> bool:
    return any(who == producer_id and first <= offset <= last for who, first, last in aborted)


def reopen(system: Sys, directory: str) -> Log:
    return open_log(
        system,
        PARTITION,
        os.path.join(directory, str(PARTITION)),
        config=CONFIG,
        recovery_point=0,
        log_start=0,
        clean=False,
        now_ms=0,
        wall_ms=WALL_MS,
    )


def clean(system: Sys, log: Log, config: CleanerConfig, first_dirty: int, now_ms: int) -> int:
    """One pass; the first dirty offset after it."""
    info = log.info()
    section = dirty_section(
        log.segments(),
        checkpoint=first_dirty,
        log_start=info.log_start_offset,
        log_end=info.log_end_offset,
        last_stable=log.owner.last_stable_offset(),
        min_lag_ms=0,
        now_ms=now_ms,
    )
    if section.upto <= section.first_dirty:
        return first_dirty
    return clean_log(system, log, section, config, now_ms).next_dirty_offset


@contextmanager
def written(history: list[Step]) -> Iterator[tuple[str, History, Log, Sys]]:
    """A log with a history in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="compaction-", dir=MEMORY) as directory:
        system = Sys()
        log = create_log(system, PARTITION, directory, config=CONFIG, topic_id=None, now_ms=0, wall_ms=WALL_MS)
        expected = History()
        for step in history:
            expected.append(log, step)
        yield directory, expected, log, system
        expected.builder.close()


def finish(log: Log, system: Sys) -> None:
    log.close(clean=True)
    system.close()


@given(history=histories, later=histories, ample=st.booleans(), time_ms=st.sampled_from([0, 999, 1_000, 5_000]))
@settings(max_examples=30)
def test_the_last_value_of_each_key_stays(history: list[Step], later: list[Step], ample: bool, time_ms: int) -> None:
    config = AMPLE if ample else SMALL
    with written(history) as (directory, expected, log, system):
        dirty = clean(system, log, config, 0, WALL_MS)
        expected.check(log)
        for step in later:
            expected.append(log, step)
        while (further := clean(system, log, config, dirty, WALL_MS + time_ms)) > dirty:
            dirty = further
            expected.check(log)
        before = [s.size_bytes for s in log.segments()]
        clean(system, log, config, dirty, WALL_MS + time_ms)
        clean(system, log, config, dirty, WALL_MS + time_ms)
        assert sum(s.size_bytes for s in log.segments()) <= sum(before)
        log.close(clean=False)
        log = reopen(system, directory)
        assert log.open_report.truncated_bytes == 0
        expected.check(log)
        finish(log, system)


@given(history=histories, crash_at=st.integers(1, 120))
@settings(max_examples=40)
def test_a_crash_at_any_system_call(history: list[Step], crash_at: int) -> None:
    with written(history) as (directory, expected, log, system):
        crash(directory, expected, log, system, crash_at)


def crash(directory: str, expected: History, log: Log, system: Sys, crash_at: int) -> bool:
    """Whether a pass makes so many system calls. The log is closed."""
    made = system.count()
    system.fault(-1, crash_at, errno.EIO, repeat=-1)
    try:
        clean(system, log, AMPLE, 0, WALL_MS)
    except OSError as e:
        assert e.errno == errno.EIO
    reached = system.count() - made >= crash_at
    log.close(clean=False)
    system.close()
    system = Sys()
    log = reopen(system, directory)
    assert log.open_report.truncated_bytes == 0
    expected.check(log)
    names = os.listdir(log.path)
    assert not [name for name in names if name.endswith((".cleaned", ".swap", ".deleted"))]
    clean(system, log, AMPLE, 0, WALL_MS)
    expected.check(log)
    finish(log, system)
    return reached


def fixed_history() -> list[Step]:
    """Enough for several groups, with everything that makes files: transactions, tombstones, several segments each."""
    history = []
    for i in range(24):
        committed = (None, True, False)[i % 3]
        made = [NewRecord(WALL_MS, b"key %d" % (i * 5 % 7 + j), None if i % 8 == j else b"v" * 50) for j in range(3)]
        history.append(Step(tuple(made), Codec.NONE, i % 4 - 1, committed))
    return history


def test_a_crash_at_every_system_call() -> None:
    crash_at = 0
    reached = True
    while reached:
        crash_at += 1
        with written(fixed_history()) as (directory, expected, log, system):
            reached = crash(directory, expected, log, system, crash_at)
    assert crash_at > 60


@pytest.mark.parametrize("change", ["truncate", "delete"])
def test_a_log_that_changes_meanwhile(change: str) -> None:
    with written(fixed_history()) as (_, _, log, system):
        info = log.info()
        section = dirty_section(
            log.segments(),
            checkpoint=None,
            log_start=0,
            log_end=info.log_end_offset,
            last_stable=info.log_end_offset,
            min_lag_ms=0,
            now_ms=WALL_MS,
        )
        pieces = 0

        def meanwhile(moved_bytes: int) -> None:
            nonlocal pieces
            pieces += 1
            if pieces == len(log.segments()) + 1:  # the map is made, the first group under way
                if change == "truncate":
                    log.truncate(info.log_end_offset - 1, WALL_MS)
                else:
                    log.owner.delete_segments(log.segments()[1].base_offset)

        with pytest.raises(CleaningAborted):
            clean_log(system, log, section, AMPLE, WALL_MS, meanwhile)
        assert not [name for name in os.listdir(log.path) if name.endswith((".cleaned", ".swap"))]
        finish(log, system)
