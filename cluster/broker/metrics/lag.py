"""How far groups are behind, in records and in time, as `pylog groups describe` says it.

What stays true:
- the end is the high watermark; nothing is owed of what is committed beyond it;
- the time is that of the first record not committed, or, where retention has removed that, of the first that is left;
- what cannot be known is None and not guessed: no leader, one that does not answer, a batch that cannot be read;
- of each leader a page reads no more than READ_BYTES, and begins nothing after READ_S; what it does not come to is
  None, and the next page begins with it. What was read is remembered as long as the group stands where it stood, and
  read anew after KEPT_S, for compaction may have removed it.

One thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from cluster.broker.metrics.leaders import Bounds, Leader, Partition
from cluster.coordinator.group_figures import GroupSeen
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import Final
from pylog.unread import Fetched, FirstUnread

READ_BYTES: Final = 64 << 20
READ_S: Final = 0.25
KEPT_S: Final = 300.0
_PARTITIONS_AT_ONCE: Final = 64
#: How often it is looked for a record behind markers of transactions, or alone for a large batch.
_TRIES: Final = 32
_UNKNOWN: Final = FirstUnread(None)
_NOTHING: Final = -(1 << 63)


class Lag(NamedTuple):
    """Of a group in a partition."""

    group_id: str
    topic: str
    partition: int
    committed: int
    records: int | None
    seconds: float | None


class _Place(NamedTuple):
    """Where a group begins to read what it has not read."""

    partition: Partition
    offset: int


class _Read(NamedTuple):
    """`time_ms`: of the first record from a place on; None: it cannot be read; _NOTHING: there are markers only."""

    time_ms: int | None
    read_s: float


class Lags:
    """Those of all groups, page after page."""

    def __init__(self) -> None:
        self._known: dict[_Place, _Read] = {}
        self._missed: set[Partition] = set()

    def of(self, groups: Iterable[GroupSeen], leaders: Mapping[Partition, Leader]) -> list[Lag]:
        """Sorted. leaders: who leads which partition; nobody, when it is not there."""
        groups = sorted(groups, key=lambda group: group.group_id)
        by_leader: dict[Leader, dict[Partition, None]] = {}
        for group in groups:
            for partition in group.committed:
                if (leader := leaders.get(partition)) is not None:
                    by_leader.setdefault(leader, {})[partition] = None
        bounds: dict[Partition, Bounds] = {}
        for leader, partitions in by_leader.items():
            bounds |= leader.bounds(list(partitions))
        times = self._times(groups, bounds, leaders)
        wall_ms = time.time() * 1000
        return [
            _lag(group.group_id, partition, committed.offset, bounds.get(partition), times, wall_ms)
            for group in groups
            for partition, committed in sorted(group.committed.items())
        ]

    def _times(
        self, groups: Iterable[GroupSeen], bounds: Mapping[Partition, Bounds], leaders: Mapping[Partition, Leader]
    ) -> dict[_Place, _Read]:
        """As far as they are known, or could be read now."""
        now_s = time.monotonic()
        known: dict[_Place, _Read] = {}
        fresh: dict[Leader, dict[_Place, None]] = {}
        for group in groups:
            for partition, committed in group.committed.items():
                there = bounds.get(partition)
                if there is None or committed.offset >= there.end:
                    continue
                place = _place(partition, committed.offset, there)
                before = self._known.get(place)
                if before is not None and now_s - before.read_s < KEPT_S:
                    known[place] = before
                else:
                    fresh.setdefault(leaders[partition], {})[place] = None
        missed: set[Partition] = set()
        now_known = known.copy()
        for leader, places in fresh.items():
            search = _Search(leader, bounds)
            search.run(sorted(places, key=lambda place: place.partition not in self._missed))
            now_known |= search.found
            missed |= search.missed
        self._missed = missed
        self._known = {place: read for place, read in now_known.items() if read.time_ms != _NOTHING}  # not for long
        return now_known


class _Search:
    """For the first records at places that one broker leads. `missed`: the partitions that there was no time for."""

    def __init__(self, leader: Leader, bounds: Mapping[Partition, Bounds]) -> None:
        self._leader = leader
        self._bounds = bounds
        self._bytes = 0
        self._until_s = time.monotonic() + READ_S
        self.found: dict[_Place, _Read] = {}
        self.missed: set[Partition] = set()

    def run(self, places: Iterable[_Place]) -> None:
        """In this order, as far as it comes."""
        some: dict[Partition, _Place] = {}
        for place in places:
            if place.partition in some or len(some) == _PARTITIONS_AT_ONCE:  # a Fetch names a partition once
                self._find(some)
                some = {}
            some[place.partition] = place
        self._find(some)

    def _find(self, places: dict[Partition, _Place]) -> None:
        """places: one of a partition."""
        if self._bytes >= READ_BYTES or time.monotonic() >= self._until_s:
            self.missed.update(places)
            return
        left = {partition: place.offset for partition, place in places.items()}
        for _ in range(_TRIES):
            if not left:
                return
            left = self._look(places, left)
        for partition in left:
            self._take(places[partition], None)

    def _look(self, places: dict[Partition, _Place], offsets: dict[Partition, int]) -> dict[Partition, int]:
        """One read. Returns where it has to be looked on."""
        told = self._leader.read(offsets)
        left = {}
        for partition, offset in offsets.items():
            data = told.get(partition, b"")
            self._bytes += len(data)
            first = _first(data, offset)
            if (
                first is None and partition in told and len(offsets) > 1
            ):  # a batch that only fits into an answer of its own
                alone = self._leader.read({partition: offset}).get(partition, b"")
                self._bytes += len(alone)
                first = _first(alone, offset)
            first = first or _UNKNOWN
            if first.go_on < 0:
                self._take(places[partition], first.time_ms)
            elif first.go_on >= self._bounds[partition].end:
                self._take(places[partition], _NOTHING)
            else:
                left[partition] = first.go_on
        return left

    def _take(self, place: _Place, time_ms: int | None) -> None:
        self.found[place] = _Read(time_ms, time.monotonic())


def _first(data: bytes, offset: int) -> FirstUnread | None:
    """None: there is no whole batch that goes beyond the offset."""
    try:
        fetched = Fetched(data)
        return fetched.first_record(offset) if fetched.end > offset else None
    except KafkaError:
        return _UNKNOWN


def _place(partition: Partition, offset: int, there: Bounds) -> _Place:
    return _Place(partition, max(offset, there.start))


def _lag(
    group_id: str,
    partition: Partition,
    offset: int,
    there: Bounds | None,
    times: Mapping[_Place, _Read],
    wall_ms: float,
) -> Lag:
    topic, index = partition
    if there is None:
        return Lag(group_id, topic, index, offset, None, None)
    records = max(0, there.end - offset)
    if not records:
        return Lag(group_id, topic, index, offset, 0, 0.0)
    read = times.get(_place(partition, offset, there))
    seconds = None
    if read is not None and read.time_ms is not None:
        if read.time_ms == _NOTHING:
            seconds = 0.0
        elif read.time_ms >= 0:
            seconds = max(0.0, wall_ms - read.time_ms) / 1000
    return Lag(group_id, topic, index, offset, records, seconds)
