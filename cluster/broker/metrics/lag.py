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
from collections.abc import Iterable, Mapping, Sequence

from cluster.broker.metrics.leaders import Bounds, Leader
from cluster.broker.metrics.replicas import Partition
from cluster.broker.metrics.text import Rows, inner
from cluster.coordinator.group_figures import GroupSeen
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import Final, TypeAlias
from pylog.unread import FirstUnread, first_unread

READ_BYTES: Final = 64 << 20
READ_S: Final = 0.25
KEPT_S: Final = 300.0
_PARTITIONS_AT_ONCE: Final = 64
#: How often it is looked for a record behind markers of transactions, or alone for a large batch.
_TRIES: Final = 32
_UNKNOWN: Final = FirstUnread(None)
_NOTHING: Final = -(1 << 63)
_NO_BOUNDS: Final = (-1, -1)
#: Where a group begins to read what it has not read: a partition and an offset.
_Place: TypeAlias = tuple[Partition, int]


class Lag(NamedTuple):
    """Of a group: its partitions, sorted, and how it stands in each."""

    group_id: str
    partitions: Sequence[Partition]
    rows: Rows
    committed: list[int]
    records: list[int | None]
    seconds: list[float | None]


class _Read(NamedTuple):
    """`time_ms`: of the first record from a place on; None: it cannot be read; _NOTHING: there are markers only."""

    time_ms: int | None
    read_s: float


class _Known(NamedTuple):
    """A group's partitions as they came, and sorted, with their rows: as long as it has committed to the same."""

    asked: list[Partition]
    partitions: list[Partition]
    rows: Rows


class Lags:
    """Those of all groups, page after page."""

    def __init__(self) -> None:
        self._groups: dict[str, _Known] = {}
        self._read: dict[_Place, _Read] = {}
        self._missed: set[Partition] = set()

    def of(self, groups: Iterable[GroupSeen], leaders: Mapping[Partition, Leader]) -> list[Lag]:
        """Sorted. leaders: who leads which partition; nobody, when it is not there."""
        groups = sorted(groups, key=lambda group: group.group_id)
        self._groups = {group.group_id: self._known(group) for group in groups}
        bounds = _bounds(groups, leaders)
        standing = [self._stand(group, bounds) for group in groups]
        times = self._times([place for _, places in standing for place in places if place is not None], bounds, leaders)
        wall_ms = int(time.time() * 1000)
        for lag, places in standing:
            lag.seconds.extend(
                [
                    _seconds(times.get(place), wall_ms) if place is not None else None if owed is None else 0.0
                    for place, owed in zip(places, lag.records, strict=True)
                ]
            )
        return [lag for lag, _ in standing]

    def _known(self, group: GroupSeen) -> _Known:
        asked = list(group.committed)
        known = self._groups.get(group.group_id)
        if known is not None and known.asked == asked:
            return known
        partitions = sorted(asked)
        parts = {topic: inner(("group", group.group_id), ("topic", topic)) for topic, _ in partitions}
        rows = Rows([f'{{{parts[topic]},partition="{index}"}}' for topic, index in partitions])
        return _Known(asked, partitions, rows)

    def _stand(self, group: GroupSeen, bounds: Mapping[Partition, Bounds]) -> tuple[Lag, list[_Place | None]]:
        """Without seconds, and where these are to be found; None: nothing is owed, or it is not known."""
        known = self._groups[group.group_id]
        committed = [group.committed[partition].offset for partition in known.partitions]
        records: list[int | None] = []
        places: list[_Place | None] = []
        for partition, offset in zip(known.partitions, committed, strict=True):
            start, end = bounds.get(partition, _NO_BOUNDS)
            if offset < end:
                records.append(end - offset)
                places.append((partition, offset if offset > start else start))
            else:
                records.append(None if end < 0 else 0)
                places.append(None)
        return Lag(group.group_id, known.partitions, known.rows, committed, records, []), places

    def _times(
        self, places: Iterable[_Place], bounds: Mapping[Partition, Bounds], leaders: Mapping[Partition, Leader]
    ) -> dict[_Place, _Read]:
        """As far as they are known, or could be read now."""
        read_after_s = time.monotonic() - KEPT_S
        known: dict[_Place, _Read] = {}
        fresh: dict[Leader, dict[_Place, None]] = {}
        for place in places:
            before = self._read.get(place)
            if before is not None and before.read_s > read_after_s:
                known[place] = before
            else:
                fresh.setdefault(leaders[place[0]], {})[place] = None
        missed: set[Partition] = set()
        for leader, wanted in fresh.items():
            search = _Search(leader, bounds)
            search.run(sorted(wanted, key=lambda place: place[0] not in self._missed))
            known |= search.found
            missed |= search.missed
        self._missed = missed
        self._read = {place: read for place, read in known.items() if read.time_ms != _NOTHING}  # not for long
        return known


def _bounds(groups: Iterable[GroupSeen], leaders: Mapping[Partition, Leader]) -> dict[Partition, Bounds]:
    """Of all partitions that they have committed to, as far as these are told."""
    wanted: dict[Partition, object] = {}
    for group in groups:
        wanted.update(group.committed)
    by_leader: dict[Leader, list[Partition]] = {}
    for partition in wanted:
        if (leader := leaders.get(partition)) is not None:
            by_leader.setdefault(leader, []).append(partition)
    bounds: dict[Partition, Bounds] = {}
    for leader, partitions in by_leader.items():
        bounds |= leader.bounds(partitions)
    return bounds


def _seconds(read: _Read | None, wall_ms: int) -> float | None:
    if read is None or (time_ms := read.time_ms) is None:
        return None
    if time_ms >= 0:
        return (wall_ms - time_ms) / 1000 if wall_ms > time_ms else 0.0
    return 0.0 if time_ms == _NOTHING else None


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
            if place[0] in some or len(some) == _PARTITIONS_AT_ONCE:  # a Fetch names a partition once
                self._find(some)
                some = {}
            some[place[0]] = place
        self._find(some)

    def _find(self, places: dict[Partition, _Place]) -> None:
        """places: one of a partition."""
        if self._bytes >= READ_BYTES or time.monotonic() >= self._until_s:
            self.missed.update(places)
            return
        left = {partition: offset for partition, (_, offset) in places.items()}
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
            elif first.go_on >= self._bounds[partition][1]:
                self._take(places[partition], _NOTHING)
            else:
                left[partition] = first.go_on
        return left

    def _take(self, place: _Place, time_ms: int | None) -> None:
        self.found[place] = _Read(time_ms, time.monotonic())


def _first(data: bytes, offset: int) -> FirstUnread | None:
    """None: there is no whole batch that goes beyond the offset."""
    try:
        return first_unread(data, offset)
    except KafkaError:
        return _UNKNOWN
