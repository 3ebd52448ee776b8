"""A named reader: several partitions read on from where it committed last.

Keeps true: what `poll` returned and `commit` was then called for is not returned to the next reader of that name; what
was not committed is. A position is committed only for records that were handed out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from pylog.facts import NamedTuple
from pylog.partition import Durability
from pylog.partition_reader import PartitionReader
from pylog.position import PositionTable
from pylog.record import Record
from pylog.records import Header
from pylog.store_errors import StoreClosedError
from pylog.typed import Self
from pylog.types import TopicPartition

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.016


class PolledRecord(NamedTuple):
    """A record, and where it comes from."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class _Place:
    """One partition of a reader."""

    __slots__ = ("iterator", "next_offset", "partition")

    def __init__(self, partition: PartitionReader, next_offset: int) -> None:
        self.partition = partition
        self.next_offset = next_offset
        self.iterator: Iterator[Record] | None = None

    def take(self, max_records: int) -> list[Record]:
        """The next records, none at the end of the log."""
        records: list[Record] = []
        for _ in range(2):  # an iteration that came to the end does not see what was appended since
            fresh = self.iterator is None
            if self.iterator is None:
                self.iterator = self.partition.read(self.next_offset)
            records += islice(self.iterator, max_records - len(records))
            if records:
                self.next_offset = records[-1].offset + 1
            if len(records) >= max_records:
                break
            self.iterator = None
            if fresh:
                break
        return records


class Reader:
    """Reads partitions in turn. One thread. Got from `Store.reader` or `StoreReader.reader`."""

    __slots__ = ("_closed", "_places", "_table", "_turn", "name")

    def __init__(
        self,
        name: str,
        partitions: Sequence[PartitionReader],
        table: PositionTable,
        start: Literal["earliest", "latest"],
    ) -> None:
        """A committed position below the log's start (retention went over it) becomes the log's start."""
        self.name = name
        self._table = table
        self._closed = False
        self._turn = 0
        self._places: dict[TopicPartition, _Place] = {}
        for partition in partitions:
            committed = table.committed(name, partition.topic_partition)
            if committed is not None:
                at = max(committed.offset, partition.log_start_offset())
            else:
                at = partition.log_start_offset() if start == "earliest" else partition.log_end_offset()
            self._places[partition.topic_partition] = _Place(partition, at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[PolledRecord]:
        """Everything up to the present end of all partitions; commits nothing."""
        while records := self.poll():
            yield from records

    def close(self) -> None:
        """Commits nothing. Once is enough."""
        self._closed = True

    def positions(self) -> dict[TopicPartition, int]:
        """The offset that each partition is read on from."""
        return {partition: place.next_offset for partition, place in self._places.items()}

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on from offset in this partition. Raises KeyError when it is none of this reader's."""
        place = self._places[TopicPartition(topic, partition)]
        place.next_offset = offset
        place.iterator = None

    def poll(self, max_records: int = 500, *, timeout_ms: int | None = 0) -> list[PolledRecord]:
        """The next records of the partitions, in turn; at most max_records. [] when there is none.

        timeout_ms: how long to wait for the first one; 0: not, None: for ever. Raises as PartitionReader.read does.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        pause_s = _FIRST_PAUSE_S
        while True:
            if self._closed:
                raise StoreClosedError(f"reader {self.name} is closed")
            records = self._take(max_records)
            left_s = pause_s if deadline is None else deadline - time.monotonic()
            if records or left_s <= 0:
                return records
            time.sleep(min(pause_s, left_s))  # sleep: several logs, perhaps other processes', have no common signal
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _take(self, max_records: int) -> list[PolledRecord]:
        taken: list[PolledRecord] = []
        places = list(self._places.items())
        for step in range(len(places)):
            (topic, number), place = places[(self._turn + step) % len(places)]
            taken += [PolledRecord(topic, number, *record) for record in place.take(max_records - len(taken))]
            if len(taken) >= max_records:
                break
        self._turn += 1
        return taken

    def commit(
        self, positions: Mapping[TopicPartition, int] | None = None, *, durability: Durability | None = None
    ) -> None:
        """Note that everything polled is done with, or what `positions` says. Raises ReadOnlyError, OSError, ..."""
        self._table.commit(self.name, self.positions() if positions is None else positions, durability)
