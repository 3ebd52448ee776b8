"""How far groups are behind, in records and in time, as `pylog groups describe` says it.

What stays true:
- the end is the high watermark; nothing is owed of what is committed beyond it;
- the time is that of the first record not committed, or, where retention has removed that, of the first that is left;
- what cannot be known is None and not guessed: no leader here, or a batch that cannot be read;
- a page reads no more than READ_BYTES and for no longer than READ_S of logs; what it does not come to is None, and the
  next page begins with it. What was read is remembered as long as the group stands where it stood, and read anew after
  KEPT_S, for compaction may have removed it.

One thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from cluster.broker.metrics.replicas import Replica
from cluster.coordinator.group_figures import GroupSeen
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final
from pylog.unread import Fetched

if TYPE_CHECKING:
    from pylog.log import Log

READ_BYTES: Final = 64 << 20
READ_S: Final = 0.5
KEPT_S: Final = 300.0
_AT_ONCE_BYTES: Final = 16 << 10
#: Buffers that are looked through for a record behind markers of transactions.
_TRIES: Final = 32


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

    topic: str
    partition: int
    offset: int


class _Read(NamedTuple):
    """`time_ms`: of the first record from a place on; None: it cannot be read."""

    time_ms: int | None
    read_s: float


class Lags:
    """Those of all groups, page after page."""

    def __init__(self) -> None:
        self._known: dict[_Place, _Read] = {}
        self._missed: set[tuple[str, int]] = set()

    def of(self, groups: Iterable[GroupSeen], replicas: Mapping[tuple[str, int], Replica]) -> list[Lag]:
        """replicas: of the partitions that are led here."""
        search = _Search(self._known, self._missed)
        found: list[tuple[GroupSeen, str, int, int, int | None, _Place | None]] = []
        for group in sorted(groups, key=lambda group: group.group_id):
            for (topic, partition), committed in sorted(group.committed.items()):
                replica = replicas.get((topic, partition))
                if replica is None:
                    found.append((group, topic, partition, committed.offset, None, None))
                    continue
                info = replica.info
                records = max(0, info.high_watermark - committed.offset)
                place = None
                if records:
                    place = _Place(topic, partition, max(committed.offset, info.log_start_offset))
                    search.wanted[place] = (replica.hosted.source, info.high_watermark)
                found.append((group, topic, partition, committed.offset, records, place))
        ages = search.run()
        self._known, self._missed = search.known, search.missed
        return [
            Lag(
                group.group_id,
                topic,
                partition,
                offset,
                records,
                None if records is None else 0.0 if place is None else ages.get(place),
            )
            for group, topic, partition, offset, records, place in found
        ]


class _Search:
    """`wanted`: the log of each place, and where it ends. Afterwards, `known`: what is to be remembered of them;
    `missed`: the partitions that the page did not come to."""

    def __init__(self, known: dict[_Place, _Read], missed: set[tuple[str, int]]) -> None:
        self.wanted: dict[_Place, tuple[Log, int]] = {}
        self._known_before, self._missed_before = known, missed
        self.known: dict[_Place, _Read] = {}
        self.missed: set[tuple[str, int]] = set()
        self._bytes = 0

    def run(self) -> dict[_Place, float]:
        """The ages that could be found, in seconds."""
        now_s = time.monotonic()
        fresh: list[_Place] = []
        for place in self.wanted:
            before = self._known_before.get(place)
            if before is not None and now_s - before.read_s < KEPT_S:
                self.known[place] = before
            else:
                fresh.append(place)
        fresh.sort(key=lambda place: place[:2] not in self._missed_before)
        nothing_left: dict[_Place, float] = {}
        for place in fresh:
            read_s = time.monotonic()
            if self._bytes > READ_BYTES or read_s - now_s > READ_S:
                self.missed.add(place[:2])
                continue
            log, end = self.wanted[place]
            try:
                time_ms = self._first_time(log, place.offset, end)
            except (KafkaError, OSError):
                time_ms = None
            if time_ms == _NOTHING:
                nothing_left[place] = 0.0
            else:
                self.known[place] = _Read(time_ms, read_s)
        wall_ms = time.time() * 1000
        ages = {
            place: max(0.0, wall_ms - read.time_ms) / 1000
            for place, read in self.known.items()
            if read.time_ms is not None and read.time_ms >= 0
        }
        return ages | nothing_left

    def _first_time(self, log: Log, offset: int, end: int) -> int | None:
        """_NOTHING: there are only markers up to the end. Raises KafkaError, OSError."""
        for _ in range(_TRIES):
            data = _read(log, offset, end)
            self._bytes += len(data)
            fetched = Fetched(data)
            if fetched.end <= offset:
                return None  # closed meanwhile, or cut
            first = fetched.first_record(offset)
            if first.go_on < 0:
                return first.time_ms
            if first.go_on >= end:
                return _NOTHING
            offset = first.go_on
        return None


_NOTHING: Final = -(1 << 63)


def _read(log: Log, offset: int, end: int) -> bytes:
    """Whole batches; nothing when the log is closed. Nobody closes it meanwhile."""
    data = b""

    def read() -> None:
        nonlocal data
        data = log.read(offset, _AT_ONCE_BYTES, max_offset=end)

    log.if_open(read)
    return data
