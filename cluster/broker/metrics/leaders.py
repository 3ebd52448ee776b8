"""Those who lead partitions, this broker and others: where a partition begins and ends, and what is in it.

What stays true: what is not told is not known, and nothing is guessed for it; another broker is asked as a consumer
would ask it, by a connection that lives as long as a page is made, and altogether no longer than ASK_MS.

One thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from cluster.broker.metrics.replicas import Partition, Replicas
from cluster.broker.peer import Peer, PeerError
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode, KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from pylog.log import Log

R = TypeVar("R", bound=Message)

ASK_MS: Final = 2000
READ_AT_ONCE_BYTES: Final = 16 << 10
_LIST_VERSIONS: Final = (1, 9)
#: From version 13 on topics are named by their ids.
_FETCH_VERSIONS: Final = (5, 12)
_LATEST: Final = -1
_EARLIEST: Final = -2
_CONSUMER: Final = -1
_NO_SESSION: Final = (0, -1)
_log: Final = Logger("Metrics")


#: The first offset that is kept, and the high watermark.
Bounds: TypeAlias = tuple[int, int]


class Leader(Protocol):
    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, Bounds]:
        """Of those that it leads."""

    def read(self, offsets: Mapping[Partition, int]) -> dict[Partition, bytes]:
        """Whole batches from the offset on, below the high watermark; nothing of a partition that cannot be read."""

    def close(self) -> None:
        """No more is asked."""


class Here:
    """This broker."""

    def __init__(self, replicas: Replicas) -> None:
        led = replicas.led
        starts, ends = led.pick(replicas.now.log_start_offsets), led.pick(replicas.now.high_watermarks)
        self._bounds = dict(zip(led.partitions, zip(starts, ends, strict=True), strict=True))
        self._places = dict(zip(led.partitions, led.places, strict=True))
        self._hosted = replicas.hosted

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, Bounds]:
        known = self._bounds
        return known if len(partitions) == len(known) else {each: known[each] for each in partitions}

    def read(self, offsets: Mapping[Partition, int]) -> dict[Partition, bytes]:
        found = {}
        for partition, offset in offsets.items():
            log, end = self._hosted[self._places[partition]].source, self._bounds[partition][1]
            try:
                found[partition] = _read_log(log, offset, end)
            except (KafkaError, OSError):
                continue  # damaged, or gone: who reads it hears more
        return found

    def close(self) -> None: ...


def _read_log(log: Log, offset: int, end: int) -> bytes:
    """Nothing when the log is closed. Nobody closes it meanwhile."""
    data = b""

    def read() -> None:
        nonlocal data
        data = log.read(offset, READ_AT_ONCE_BYTES, max_offset=end)

    log.if_open(read)
    return data


class Elsewhere:
    """Another broker. What it does not answer in time it is not asked again."""

    def __init__(self, host: str, port: int, client_id: str) -> None:
        self._host = host
        self._port = port
        self._client_id = client_id
        self._until_s = time.monotonic() + ASK_MS / 1000
        self._peer: Peer | None = None
        self._is_lost = False

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, Bounds]:
        starts = self._list(partitions, _EARLIEST)
        ends = self._list(partitions, _LATEST)
        return {each: (starts[each], ends[each]) for each in starts if each in ends}

    def _list(self, partitions: Sequence[Partition], timestamp: int) -> dict[Partition, int]:
        topics: dict[str, list[m.ListOffsetsRequest.ListOffsetsPartition]] = {}
        for name, index in partitions:
            asked = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=timestamp)
            topics.setdefault(name, []).append(asked)
        request = m.ListOffsetsRequest(
            replica_id=_CONSUMER,
            topics=[m.ListOffsetsRequest.ListOffsetsTopic(name=name, partitions=some) for name, some in topics.items()],
        )
        answer = self._ask(request, m.ListOffsetsResponse, _LIST_VERSIONS)
        return {
            (topic.name, part.partition_index): part.offset
            for topic in ([] if answer is None else answer.topics)
            for part in topic.partitions
            if part.error_code == ErrorCode.NONE
        }

    def read(self, offsets: Mapping[Partition, int]) -> dict[Partition, bytes]:
        topics: dict[str, list[m.FetchRequest.FetchPartition]] = {}
        for (name, index), offset in offsets.items():
            topics.setdefault(name, []).append(
                m.FetchRequest.FetchPartition(
                    partition=index,
                    current_leader_epoch=-1,
                    fetch_offset=offset,
                    partition_max_bytes=READ_AT_ONCE_BYTES,
                )
            )
        request = m.FetchRequest(
            replica_id=_CONSUMER,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=READ_AT_ONCE_BYTES * len(offsets),
            session_id=_NO_SESSION[0],
            session_epoch=_NO_SESSION[1],
            topics=[m.FetchRequest.FetchTopic(topic=name, partitions=parts) for name, parts in topics.items()],
        )
        answer = self._ask(request, m.FetchResponse, _FETCH_VERSIONS)
        return {
            (topic.topic, part.partition_index): part.records or b""
            for topic in ([] if answer is None else answer.responses)
            for part in topic.partitions
            if part.error_code == ErrorCode.NONE
        }

    def _ask(self, request: Message, answer: type[R], versions: tuple[int, int]) -> R | None:
        left_ms = int((self._until_s - time.monotonic()) * 1000)
        if self._is_lost or left_ms <= 0:
            return None
        try:
            if self._peer is None:
                self._peer = Peer(self._host, self._port, self._client_id, left_ms)
                self._peer.connect()
            return self._peer.request(request, answer, versions=versions, timeout_ms=left_ms)
        except PeerError as error:  # the next page may do better
            self._is_lost = True
            _log.warn("lag of partitions led elsewhere is not known this time", leader=error)
            return None
