"""A store beside lists: whatever is done to both, closing, crashing and cutting power off writes included, every way of
reading says what the lists say, inside the process and from outside."""

import os
import shutil
import tempfile
import unittest.mock
from typing import NamedTuple, TypeAlias

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pylog
from pylog.types import TopicPartition

PARTITIONS = (TopicPartition("t", 0), TopicPartition("t", 1))
SMALL = {"segment.bytes": "900", "index.interval.bytes": "100", "segment.index.bytes": "96"}
PWRITEV = 1  # PLOG_SYS_PWRITEV

some_bytes = st.none() | st.binary(max_size=60)
rows = st.lists(st.tuples(some_bytes, some_bytes, st.integers(0, 99)), min_size=1, max_size=12)
where = st.sampled_from(PARTITIONS)
codecs = st.sampled_from(["none", "gzip", "snappy"])


Row: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Key, value, timestamp."""


class Kept(NamedTuple):
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def copy_sparse(source: str, target: str) -> None:
    """The indexes of active segments are megabytes of zeros behind a few entries."""
    size = os.path.getsize(source)
    with open(source, "rb") as file, open(target, "wb") as copy:
        copy.write(file.read(1 << 20).rstrip(b"\0") if size > 1 << 20 else file.read())
        copy.truncate(size)


class StoreMachine(RuleBasedStateMachine):
    """`kept` has every record that a read_committed reader sees; `ends` where each log ends."""

    def __init__(self) -> None:
        super().__init__()
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of syncs
        self.directory = tempfile.mkdtemp(prefix="store-machine-", dir=in_memory)
        self.path = os.path.join(self.directory, "store")
        self.kept: dict[TopicPartition, list[Kept]] = {which: [] for which in PARTITIONS}
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.starts = dict.fromkeys(PARTITIONS, 0)
        self.positions: dict[str, int] = {}
        self.copies = 0

    @initialize(mapped_tail=st.booleans())
    def begin(self, mapped_tail: bool) -> None:
        self.mapped_tail = mapped_tail
        self.open()
        self.store.create_topic("t", 2, config=SMALL)

    def open(self) -> None:
        """With a mapped tail, mapped from the second small write on: no segment has many."""
        with unittest.mock.patch("pylog.partition.MAPPED_AFTER", 1):
            self.store = pylog.open(self.path, mapped_tail=self.mapped_tail)
            for which in PARTITIONS:
                if which.topic in self.store:
                    self.store.partition(*which)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        shutil.rmtree(self.directory)

    def partition(self, which: TopicPartition) -> pylog.Partition:
        return self.store.partition(*which)

    def keep(self, which: TopicPartition, offsets: range, records: list[Row]) -> None:
        assert offsets == range(self.ends[which], self.ends[which] + len(records))
        self.kept[which] += [Kept(o, t, k, v) for o, (k, v, t) in zip(offsets, records, strict=True)]
        self.ends[which] = offsets.stop

    # ------------------------------------------------------------------------------------------------ appending

    @rule(which=where, record=rows.map(lambda some: some[0]))
    def append_one(self, which: TopicPartition, record: Row) -> None:
        key, value, timestamp = record
        offset = self.partition(which).append(value, key, timestamp_ms=timestamp)
        self.keep(which, range(offset, offset + 1), [record])

    @rule(which=where, records=rows, codec=codecs)
    def append_columns(self, which: TopicPartition, records: list[Row], codec: str) -> None:
        keys, values, times = zip(*records, strict=True)
        offsets = self.partition(which).append_columns(
            values, keys=keys, timestamps_ms=np.array(times, np.int64), codec=codec
        )
        self.keep(which, offsets, records)

    @rule(which=where, records=rows)
    def fail_to_append(self, which: TopicPartition, records: list[Row]) -> None:
        keys, values, times = zip(*records, strict=True)
        self.store._sys.fault(PWRITEV, 1, 28)
        try:
            offsets = self.partition(which).append_columns(values, keys=keys, timestamps_ms=times)
        except OSError:
            return
        finally:
            self.store._sys.fault(-1, 1, 0, repeat=0)
        assert self.mapped_tail, "a full disk took records for which it had not kept room"
        self.keep(which, offsets, records)

    @rule(records=rows, commit=st.booleans(), position=st.integers(0, 9))
    def transact(self, records: list[Row], commit: bool, position: int) -> None:
        tx = self.store.transaction()
        keys, values, times = zip(*records, strict=True)
        offsets = {w: tx.append_columns(w, values, keys=keys, timestamps_ms=times) for w in PARTITIONS}
        tx.commit_positions("in tx", {PARTITIONS[0]: position})
        self.check_all()
        if commit:
            tx.commit()
            self.positions["in tx"] = position
        else:
            tx.abort()
        for which in PARTITIONS:
            if commit:
                self.keep(which, offsets[which], records)
            self.ends[which] = offsets[which].stop + 1  # the marker

    @rule(position=st.integers(0, 99))
    def commit_position(self, position: int) -> None:
        self.store.commit("plain", {PARTITIONS[0]: position})
        self.positions["plain"] = position

    @precondition(lambda self: any(self.kept.values()))
    @rule(which=where, share=st.floats(0, 1))
    def delete(self, which: TopicPartition, share: float) -> None:
        partition = self.partition(which)
        first = partition.log_start_offset()
        start = first + int((self.ends[which] - first) * share)
        assert partition.delete_records(start) == start
        self.store._manager.clean_up()
        self.kept[which] = [record for record in self.kept[which] if record.offset >= start]
        self.starts[which] = start

    # ------------------------------------------------------------------------------------------------ ends

    @rule()
    def close_and_open(self) -> None:
        self.store.close()
        self.open()

    @rule(in_transaction=st.booleans())
    def crash(self, in_transaction: bool) -> None:
        """What kill -9 leaves: the files as they are, without the lock."""
        if in_transaction:
            tx = self.store.transaction()
            for which in PARTITIONS:
                self.ends[which] = tx.append(which, b"never seen") + 2
        self.copies += 1
        left = os.path.join(self.directory, f"left-{self.copies}")
        self.store.flush()
        self.store._manager.checkpoint_log_starts()
        shutil.copytree(self.path, left, ignore=shutil.ignore_patterns(".lock"), copy_function=copy_sparse)
        self.store.close()
        shutil.rmtree(self.path)
        os.rename(left, self.path)
        self.open()

    # ------------------------------------------------------------------------------------------------ what is seen

    @invariant()
    def check_all(self) -> None:
        if not hasattr(self, "store"):
            return
        with pylog.open(self.path, "r") as outside:
            for which in PARTITIONS:
                self.check(self.partition(which), which)
                self.check(outside.partition(*which), which)
            for reader, offset in self.positions.items():
                for table in (self.store, outside):
                    position = table.committed(reader, *PARTITIONS[0])
                    assert position is not None
                    assert position.offset == offset

    def check(self, partition: pylog.PartitionReader, which: TopicPartition) -> None:
        """From outside, records below the log's start are there until their files go, or a checkpoint tells."""
        expected = self.kept[which]
        assert partition.log_start_offset() <= self.starts[which]
        records = [record for record in partition.read() if record.offset >= self.starts[which]]
        assert [Kept(*record[:4]) for record in records] == expected
        columns = list(partition.read_columns(self.starts[which]))
        assert [value for part in columns for value in part.value.to_list()] == [record.value for record in expected]
        assert [key for part in columns for key in part.key.to_list()] == [record.key for record in expected]
        assert [offset for part in columns for offset in part.offset.tolist()] == [record.offset for record in expected]
        if expected:
            middle = expected[len(expected) // 2]
            assert next(partition.read(middle.offset)).offset == middle.offset
            found = partition.offset_for_timestamp(middle.timestamp_ms)
            everything = partition.read(isolation="read_uncommitted")
            assert found == next(r.offset for r in everything if r.timestamp_ms >= middle.timestamp_ms)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
