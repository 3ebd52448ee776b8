"""How old the first record is that a group has not committed yet: how far behind it is in time.

What it keeps true:
- It needs nothing of a broker but Fetch: a small one at each position, many partitions in one request to their leader.
- Only the leader's answer counts; what it does not let us read, or what cannot be decoded, is unknown and not guessed.
- No position costs more than a batch at a time, and all of them together not much more than `_TOTAL_BYTES`: those that
  are left then are unknown.
- Markers of transactions are no records: a position with nothing else behind it is not behind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from cluster.cli.client import ClusterClient
from cluster.cli.errors import refusal
from cluster.cli.offsets import EARLIEST, TopicPartition, leaders, list_offsets
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.unread import FirstUnread, first_unread

# From version 13 on topics are named by their ids, which an old broker has not.
_VERSIONS = (4, 12)
_NO_SESSION = (0, -1)  # session id and epoch of a fetch that starts none
_CONSUMER = -1
_PARTITION_BYTES = 16 << 10
_PARTITIONS_AT_ONCE = 256
_TOTAL_BYTES = 256 << 20
# A position is tried anew when a leader moved, its batch was large, or nothing but markers was found; not for ever.
_TRIES = 32


class Position(NamedTuple):
    """Where a group stands in a partition."""

    partition: TopicPartition
    offset: int


_UNKNOWN = FirstUnread(None)


def ages(cluster: ClusterClient, ends: Mapping[Position, int]) -> dict[Position, float | None]:
    """The age in seconds of the first record at or behind each position; 0: there is none; None: unknown.

    `ends`: the log end offset that was found for each position's partition. Where retention has removed what comes
    next, the first record that is left counts.
    """
    search = _Search(cluster, ends)
    cluster.retry(search.run)
    return search.found


class _Search:
    """`_from`: the positions not found yet, and the offset from which each has to be looked for; `_places`: the same by
    partition."""

    def __init__(self, cluster: ClusterClient, ends: Mapping[Position, int]) -> None:
        self.found: dict[Position, float | None] = {}
        self._cluster = cluster
        self._ends = ends
        self._from: dict[Position, int] = {}
        self._places: dict[TopicPartition, set[Position]] = {}
        self._alone: set[Position] = set()
        self._tries: dict[Position, int] = {}
        self._bytes = 0
        for position, end in ends.items():
            if position.offset >= end:
                self.found[position] = 0.0
            else:
                self._from[position] = position.offset
                self._places.setdefault(position.partition, set()).add(position)

    def run(self) -> None:
        """Find all that are missing. Raises for `retry`."""
        for leader, partitions in leaders(self._cluster, self._places).items():
            while wanted := [self._next(partition) for partition in partitions if partition in self._places]:
                for asked in self._requests(wanted):
                    self._ask(leader, asked)

    def _next(self, partition: TopicPartition) -> Position:
        """The one of a partition to ask for: what is fetched there may hold what others look for."""
        return min(self._places[partition], key=self._from.__getitem__)

    def _requests(self, positions: list[Position]) -> list[dict[TopicPartition, Position]]:
        """What to ask together; what has a large batch alone, for what stands first is sent whatever its size."""
        alone = [position for position in positions if position in self._alone]
        others = [position for position in positions if position not in self._alone]
        several = [others[at : at + _PARTITIONS_AT_ONCE] for at in range(0, len(others), _PARTITIONS_AT_ONCE)]
        return [{position.partition: position for position in some} for some in [*several, *([each] for each in alone)]]

    def _ask(self, leader: int, asked: dict[TopicPartition, Position]) -> None:
        answer = self._cluster.broker(leader).request(self._request(asked), m.FetchResponse, versions=_VERSIONS)
        parts = {
            TopicPartition(topic.topic, part.partition_index): part
            for topic in answer.responses
            for part in topic.partitions
        }
        for partition, position in asked.items():
            part = parts.get(partition)
            if part is None:
                self._take(position, _UNKNOWN)
            elif part.error_code:
                self._take(position, self._refused(position, part))
            else:
                found = self._read(position, part.records or b"", is_alone=len(asked) == 1)
                for each, read in found.items():
                    self._take(each, read)

    def _read(self, position: Position, data: bytes, *, is_alone: bool) -> dict[Position, FirstUnread]:
        """What was looked for, and what others look for in the same data."""
        self._bytes += len(data)
        start = self._from[position]
        try:
            found = {
                each: first
                for each in self._places[position.partition]
                if self._from[each] >= start and (first := first_unread(data, self._from[each])) is not None
            }
            if found:
                return found
        except KafkaError:
            return {position: _UNKNOWN}
        if is_alone:
            return {position: _UNKNOWN}  # the log ends before it, though it did not a moment ago
        self._alone.add(position)
        return {position: FirstUnread(None, start)}

    def _refused(self, position: Position, part: m.FetchResponse.PartitionData) -> FirstUnread:
        start = self._from[position]
        if part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            first = list_offsets(self._cluster, [position.partition], EARLIEST)[position.partition]
            return FirstUnread(None, first) if start < first else _UNKNOWN
        error = refusal(part.error_code)
        if error.code.retriable:
            raise error
        return _UNKNOWN

    def _take(self, position: Position, answer: FirstUnread) -> None:
        tries = self._tries[position] = self._tries.get(position, 0) + 1
        if answer.go_on >= self._ends[position]:
            self.found[position] = 0.0
        elif answer.go_on >= 0 and tries < _TRIES and self._bytes < _TOTAL_BYTES:
            self._from[position] = answer.go_on
            return
        elif answer.time_ms is None or answer.time_ms < 0:
            self.found[position] = None
        else:
            self.found[position] = max(0.0, time.time() - answer.time_ms / 1000)
        del self._from[position]
        here = self._places[position.partition]
        here.remove(position)
        if not here:
            del self._places[position.partition]

    def _request(self, asked: dict[TopicPartition, Position]) -> m.FetchRequest:
        topics: dict[str, list[m.FetchRequest.FetchPartition]] = {}
        for partition, position in asked.items():
            topics.setdefault(partition.topic, []).append(
                m.FetchRequest.FetchPartition(
                    partition=partition.partition,
                    current_leader_epoch=-1,
                    fetch_offset=self._from[position],
                    partition_max_bytes=_PARTITION_BYTES,
                )
            )
        return m.FetchRequest(
            replica_id=_CONSUMER,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=_PARTITION_BYTES * len(asked),
            session_id=_NO_SESSION[0],
            session_epoch=_NO_SESSION[1],
            topics=[m.FetchRequest.FetchTopic(topic=name, partitions=parts) for name, parts in topics.items()],
        )
