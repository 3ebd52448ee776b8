"""A Log beside a list: whatever is done to both, crashes included, the log reads as the list says."""

import itertools
import os
import shutil
import tempfile
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pylog._native import Sys
from pylog.compression import Codec
from pylog.config import LogConfig
from pylog.log import Log, create_log, open_log
from pylog.records import NewRecord, Record, RecordBatchBuilder, batches
from pylog.types import TopicPartition

PARTITION = TopicPartition("machine", 0)
# Small enough that a few appends roll and every index gets entries.
CONFIG = LogConfig(segment_bytes=1_200, index_interval_bytes=150, segment_index_bytes=96, retention_ms=-1)
WALL_MS = 1_700_000_000_000


class Batch(NamedTuple):
    base_offset: int
    epoch: int
    size_bytes: int
    records: tuple[NewRecord, ...]

    @property
    def next_offset(self) -> int:
        return self.base_offset + len(self.records)


record_values = st.none() | st.binary(max_size=120)
new_records = st.builds(NewRecord, st.integers(0, 50).map(lambda n: WALL_MS + n), record_values, record_values)
batch_contents = st.tuples(
    st.lists(new_records, min_size=1, max_size=4).map(tuple), st.sampled_from(list(Codec)), st.booleans()
)


class LogMachine(RuleBasedStateMachine):
    """`kept` is every batch that is in the log, oldest first, whether or not the log start has passed it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="log-machine-")
        self.system = Sys()
        self.builder = RecordBatchBuilder()
        self.kept: list[Batch] = []
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.highest_start = 0
        self.checkpointed_start = 0
        self.recovery_point = 0
        self.log: Log

    @initialize()
    def create(self) -> None:
        self.log = create_log(
            self.system, PARTITION, self.directory, config=CONFIG, topic_id=None, now_ms=0, wall_ms=WALL_MS
        )

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close(clean=False)
        self.builder.close()
        self.system.close()
        shutil.rmtree(self.directory)

    # ---------------------------------------------------------------------------------- changes

    @rule(contents=st.lists(batch_contents, min_size=1, max_size=3))
    def append(self, contents: list[tuple[tuple[NewRecord, ...], Codec, bool]]) -> None:
        data = b""
        added = []
        end = self.end
        for records, codec, next_epoch in contents:
            self.epoch += next_epoch
            one = self.builder.build(records, base_offset=end, codec=codec, leader_epoch=self.epoch)
            added.append(Batch(end, self.epoch, len(one), records))
            data += one
            end += len(records)
        assert self.log.append(data, WALL_MS) == end - 1
        self.kept += added
        self.end = end

    @rule()
    def roll(self) -> None:
        self.log.roll(WALL_MS)
        assert self.log.segments()[-1].size_bytes == 0

    @rule()
    def flush(self) -> None:
        self.log.flush(now_ms=0)
        assert self.log.info().recovery_point == self.end

    @rule()
    def checkpoint(self) -> None:
        ends = self.log.durable_ends()
        assert ends is not None
        self.checkpointed_start, _, self.recovery_point = ends

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        target = self.start + round(share * (self.end - self.start))
        self.log.truncate(target, WALL_MS)
        self.kept = [batch for batch in self.kept if batch.next_offset <= target]
        self.end = self.log.info().log_end_offset
        # A batch is cut whole: the log ends where it began, below the target, and so may the start.
        assert self.end <= target
        assert self.end >= max([0, *(batch.next_offset for batch in self.kept)])
        self.start = min(self.start, self.end)
        self.checkpoint()

    @rule(ahead=st.integers(0, 5))
    def truncate_fully(self, ahead: int) -> None:
        self.log.truncate_fully(self.end + ahead, WALL_MS)
        self.end = self.start = self.end + ahead
        self.kept = []
        self.checkpoint()

    @rule(share=st.floats(0, 1))
    def set_start(self, share: float) -> None:
        target = self.start + round(share * (self.end - self.start))
        assert self.log.set_start(target) == target
        self.start = target

    @rule()
    def retain(self) -> None:
        before = len(self.log.segments())
        deletion = self.log.retain(WALL_MS)
        after = self.log.segments()
        assert before - len(after) == (0 if deletion is None else deletion.segment_count - deletion.roll_first)
        assert len(after) == 1 or after[1].base_offset > self.start

    # ---------------------------------------------------------------------------------- endings

    def reopen(self, *, clean: bool) -> None:
        self.log = open_log(
            self.system,
            PARTITION,
            os.path.join(self.directory, str(PARTITION)),
            config=CONFIG,
            recovery_point=self.recovery_point,
            log_start=self.checkpointed_start,
            clean=clean,
            now_ms=0,
            wall_ms=WALL_MS,
        )
        start = self.log.info().log_start_offset
        assert self.checkpointed_start <= start <= self.start
        self.start = start

    @rule()
    def clean_stop(self) -> None:
        info = self.log.info()
        self.log.close(clean=True)
        self.checkpointed_start, self.recovery_point = info.log_start_offset, info.log_end_offset
        self.reopen(clean=True)
        report = self.log.open_report
        # A log without a record to show needs no snapshot; what is below its start may then be read for producers.
        assert report._replace(replayed_batches=0) == (0,) * 7
        assert report.replayed_batches == 0 or self.start == self.end
        assert self.log.info().log_end_offset == self.end

    @rule()
    def kill(self) -> None:
        """The page cache survives a process: nothing is lost."""
        self.log.close(clean=False)
        self.reopen(clean=False)
        assert self.log.open_report.truncated_bytes == 0
        assert self.log.info().log_end_offset == self.end

    @rule(share=st.floats(0, 1), garbage=st.binary(max_size=80), damage=st.sampled_from(["", "gone", "zero", "noise"]))
    def power_cut(self, share: float, garbage: bytes, damage: str) -> None:
        """What was not flushed may be lost from the tail of the active segment on; what is derived may be anything."""
        info = self.log.info()
        active = self.log.segments()[-1]
        in_active = [batch for batch in self.kept if batch.base_offset >= active.base_offset]
        safe = sum(batch.size_bytes for batch in in_active if batch.next_offset <= info.recovery_point)
        self.log.close(clean=False)
        keep = safe + round(share * (active.size_bytes - safe))
        path = os.path.join(self.log.path, f"{active.base_offset:020d}")
        with open(path + ".log", "r+b") as file:
            file.truncate(keep)
            file.seek(keep)
            file.write(garbage)
        self._damage(path, damage)
        position = 0
        for batch in in_active:
            position += batch.size_bytes
            if position > keep:
                self.kept.remove(batch)
        end = self.kept[-1].next_offset if self.kept else None
        self.start_may_fall_to(end)
        self.reopen(clean=False)
        self.end = self.log.info().log_end_offset
        if end is not None and in_active:
            assert self.end == max(end, active.base_offset, self.start)

    def start_may_fall_to(self, end: int | None) -> None:
        if end is not None:
            self.checkpointed_start = min(self.checkpointed_start, end)

    def _damage(self, path: str, damage: str) -> None:
        for suffix in (".index", ".timeindex"):
            if damage == "gone" and os.path.exists(path + suffix):
                os.unlink(path + suffix)
            elif damage in ("zero", "noise"):
                with open(path + suffix, "wb") as file:
                    file.write((b"\0" if damage == "zero" else b"\xa5") * 96)

    # ---------------------------------------------------------------------------------- looking

    def visible(self) -> list[Record]:
        return [
            Record(batch.base_offset + i, *record)
            for batch in self.kept
            for i, record in enumerate(batch.records)
            if batch.base_offset + i >= self.start
        ]

    @rule(share=st.floats(0, 1), max_bytes=st.integers(1, 3_000))
    def read(self, share: float, max_bytes: int) -> None:
        offset = self.start + round(share * (self.end - self.start))
        expected = [record for record in self.visible() if record.offset >= offset]
        found: list[Record] = []
        at = offset
        while data := self.log.read(at, max_bytes):
            for batch in batches(data):
                found += [record for record in batch.records() if record.offset >= offset]
                at = batch.next_offset
        assert found == expected

    @rule(timestamp=st.integers(-1, 52).map(lambda n: WALL_MS + n))
    def find_by_time(self, timestamp: int) -> None:
        expected = next((record for record in self.visible() if record.timestamp >= timestamp), None)
        found = self.log.offset_for_timestamp(timestamp)
        assert (found and (found.offset, found.timestamp)) == (expected and (expected.offset, expected.timestamp))

    @precondition(lambda self: self.start == 0)
    @rule()
    def find_largest_time(self) -> None:
        visible = self.visible()
        found = self.log.max_timestamp()
        if not visible:
            assert found is None
            return
        largest = max(record.timestamp for record in visible)
        assert found is not None and found.timestamp == largest
        assert found.offset == next(record.offset for record in visible if record.timestamp == largest)

    @invariant()
    def ends_agree(self) -> None:
        if not hasattr(self, "log"):
            return
        info = self.log.info()
        assert (info.log_start_offset, info.log_end_offset) == (self.start, self.end)
        assert info.log_start_offset <= self.log.owner.high_watermark() <= info.log_end_offset
        assert info.recovery_point <= info.log_end_offset
        segments = self.log.segments()
        assert info.segment_count == len(segments)
        assert info.size_bytes == sum(segment.size_bytes for segment in segments)
        for before, after in itertools.pairwise(segments):
            assert before.next_offset <= after.base_offset

    @invariant()
    def epochs_agree(self) -> None:
        if not hasattr(self, "log"):
            return
        # Epochs below a log start are forgotten, and stay so when a crash takes the start back.
        self.highest_start = max(self.highest_start, self.start)
        first: dict[int, int] = {}
        for batch in self.kept:
            first.setdefault(batch.epoch, batch.base_offset)
        expected = [(epoch, offset) for epoch, offset in first.items() if offset > self.highest_start]
        assert [entry for entry in self.log.epochs() if entry.start_offset > self.highest_start] == expected


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
