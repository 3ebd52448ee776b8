"""How far groups are behind, as it is read from logs that are led here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cluster.broker.metrics import lag as module
from cluster.broker.metrics.lag import Lags
from cluster.broker.metrics.leaders import Here
from cluster.broker.metrics.replicas import Hosting
from cluster.coordinator.group_figures import CLASSIC, GroupSeen
from cluster.coordinator.offsets import Committed
from pylog._engine import PartitionColumns
from pylog.errors import ErrorCode, KafkaError
from pylog.records import EndMarker, NewRecord, RecordBatchBuilder
from tests.unit.cluster.broker.metrics.stand import Stand, stands

if TYPE_CHECKING:
    from cluster.broker.replica_manager import HostedPartition
    from pylog._engine import Engine as RealEngine

NOW_S = 1_800_000_000


class Log:
    """Batches by their base offsets, and how often they were read."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []
        self.start = self.end = 0
        self.reads = 0
        self.closed = False
        self.damaged = False

    def add(self, *ages_s: int) -> None:
        builder = RecordBatchBuilder()
        self._add(
            builder.build([NewRecord((NOW_S - age) * 1000, None, b"v") for age in ages_s], base_offset=self.end),
            len(ages_s),
        )
        builder.close()

    def add_marker(self) -> None:
        builder = RecordBatchBuilder()
        marker = EndMarker(True, 0)
        self._add(
            builder.build_end_marker(
                marker, timestamp=NOW_S * 1000, producer_id=1, producer_epoch=0, base_offset=self.end
            ),
            1,
        )
        builder.close()

    def _add(self, data: bytes, count: int) -> None:
        self.batches.append((self.end, self.end + count, data))
        self.end += count

    def if_open(self, action: object) -> bool:
        assert callable(action)
        if not self.closed:
            action()
        return not self.closed

    def read(self, offset: int, max_bytes: int, *, max_offset: int) -> bytes:
        assert max_offset == self.end
        self.reads += 1
        if self.damaged:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE)
        return next((data for base, end, data in self.batches if base <= offset < end), b"")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    steady = [1000.0]
    monkeypatch.setattr(time, "time", lambda: float(NOW_S))
    monkeypatch.setattr(time, "monotonic", lambda: steady[0])
    yield steady


def group(offsets: dict[tuple[str, int], int], group_id: str = "g") -> GroupSeen:
    committed = {where: Committed(offset, -1, "", 0, -1, 0) for where, offset in offsets.items()}
    return GroupSeen(group_id, CLASSIC, "Empty", 0, committed)


class Engine:
    """Every partition is the same log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def partition_infos(self, numbers: list[int]) -> PartitionColumns:
        log = self._log
        return PartitionColumns(*[[each] * len(numbers) for each in (1, log.start, log.end, log.end, log.end, 0)])


def here(log: Log, partitions: int) -> Here:
    state = SimpleNamespace(replicas=[1], isr=[1], min_insync_replicas=1)
    hosted = [
        SimpleNamespace(source=log, topic="t", index=index, number=index, state=state, leads=True)
        for index in range(partitions)
    ]
    return Here(Hosting().look_at(cast("RealEngine", Engine(log)), cast("list[HostedPartition]", hosted)))


def lags(told: Lags, log: Log, *groups: GroupSeen, partitions: int = 1) -> list[Stand]:
    leader = here(log, partitions)
    return stands(told.of(groups, {("t", partition): leader for partition in range(partitions)}))


def seconds(log: Log, offset: int) -> float | None:
    (lag,) = lags(Lags(), log, group({("t", 0): offset}))
    return lag.seconds


def test_records_and_seconds() -> None:
    log = Log()
    log.add(90, 80, 70)
    log.add(60)
    wanted = [(0, 4, 90.0), (2, 2, 70.0), (3, 1, 60.0), (4, 0, 0.0), (9, 0, 0.0)]
    for offset, records, age_s in wanted:
        assert lags(Lags(), log, group({("t", 0): offset})) == [Stand("g", "t", 0, offset, records, age_s)]


def test_in_order_and_only_what_is_led_here() -> None:
    log = Log()
    log.add(90)
    told = lags(Lags(), log, group({("u", 0): 7, ("t", 0): 0}, "b"), group({("t", 0): 1}, "a"))
    assert told == [Stand("a", "t", 0, 1, 0, 0.0), Stand("b", "t", 0, 0, 1, 90.0), Stand("b", "u", 0, 7, None, None)]


def test_what_retention_has_left() -> None:
    log = Log()
    log.add(90, 80)
    log.add(60)
    log.start = 1
    assert seconds(log, 0) == 80


def test_markers_are_no_records() -> None:
    log = Log()
    log.add(90)
    log.add_marker()
    assert seconds(log, 1) == 0
    log.add(60)
    assert seconds(log, 1) == 60


def test_more_markers_than_are_looked_through() -> None:
    log = Log()
    for _ in range(40):
        log.add_marker()
    log.add(60)
    assert seconds(log, 0) is None
    assert log.reads == 32


def test_what_cannot_be_read_is_not_known() -> None:
    log = Log()
    log.add(90)
    log.closed = True
    assert seconds(log, 0) is None
    log.closed, log.damaged = False, True
    assert seconds(log, 0) is None


def test_a_record_without_a_time() -> None:
    log = Log()
    log.add(NOW_S + 1)
    assert seconds(log, 0) is None


def test_what_is_known_is_not_read_again_for_a_while(now: list[float]) -> None:
    log = Log()
    log.add(90, 80)
    told = Lags()
    for offset, reads in [(0, 1), (0, 1), (1, 2), (0, 3), (0, 3)]:  # what nobody asks for is forgotten
        (lag,) = lags(told, log, group({("t", 0): offset}))
        assert (lag.seconds, log.reads) == (90 - 10 * offset, reads)
    now[0] += module.KEPT_S
    lags(told, log, group({("t", 0): 0}))
    assert log.reads == 4


def test_a_page_ends_in_time_and_the_next_begins_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.add(90, 80, 70)
    monkeypatch.setattr(module, "READ_BYTES", 2 * len(log.batches[0][2]))
    monkeypatch.setattr(module, "_PARTITIONS_AT_ONCE", 1)
    told = Lags()
    known = []
    for offset in (0, 1, 2):  # the group has moved on in all partitions, each time
        behind = group({("t", partition): offset for partition in range(4)})
        known.append([lag.partition for lag in lags(told, log, behind, partitions=4) if lag.seconds is not None])
    assert known == [[0, 1], [2, 3], [0, 1]]
