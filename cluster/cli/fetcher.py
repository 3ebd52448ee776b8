"""Reads partitions from their leaders, one fetch under way per leader while the caller works on the one before.

What it keeps true: batches of a partition come in order and once; `positions` says, for each partition, the offset
behind the last batch handed out; a leader that moves or goes away is looked for again, and reading goes on where it
stopped.
"""

from __future__ import annotations

import select

from cluster.broker.peer import Peer, PeerError, Pending
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, refusal
from cluster.cli.offsets import EARLIEST, LATEST, READ_UNCOMMITTED, TopicPartition, leaders, list_offsets
from cluster.cli.output import notice
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.records import RecordBatch, batches

# From version 13 on topics are named by their ids, which an old broker has not.
_VERSIONS = (4, 12)
_PURPOSE = "fetch"
_NO_SESSION = (0, -1)  # session id and epoch of a fetch that starts none
_CONSUMER = -1
_PARTITION_BYTES = 2 << 20
_ANSWER_BYTES = 16 << 20
_MAX_WAIT_MS = 500
_FIRST_BACKOFF_S = 0.05
_LAST_BACKOFF_S = 1.0
# Where a batch says its format, and the only one that is read.
_MAGIC_POSITION = 16
_MAGIC = 2


class Fetched(NamedTuple):
    """What one fetch brought of one partition. `start`: records below it were asked for before and are not new.

    `aborted`: producer id and first offset of the aborted transactions that reach into the batches.
    """

    partition: TopicPartition
    start: int
    batches: list[RecordBatch]
    aborted: list[tuple[int, int]]


class _UnderWay(NamedTuple):
    peer: Peer
    pending: Pending[m.FetchResponse]


class Fetcher:
    """Reads some partitions from given positions. One thread."""

    def __init__(
        self, cluster: ClusterClient, positions: dict[TopicPartition, int], *, isolation: int = READ_UNCOMMITTED
    ) -> None:
        self.positions = dict(positions)
        self._cluster = cluster
        self._isolation = isolation
        self._led: dict[int, list[TopicPartition]] | None = None
        self._under_way: dict[int, _UnderWay] = {}
        self._backoff_s = 0.0

    def close(self) -> None:
        """Forget what is under way; its connections are of no use to anybody else."""
        for under_way in self._under_way.values():
            under_way.peer.close()
        self._under_way.clear()

    def poll(self, timeout_s: float) -> list[Fetched]:
        """What has come, waiting at most `timeout_s` for something to come."""
        if not self.positions:
            self._cluster.pause(timeout_s)
            return []
        self._send_fetches()
        ready, _, _ = select.select([under_way.peer for under_way in self._under_way.values()], [], [], timeout_s)
        fetched: list[Fetched] = []
        for leader in [leader for leader, under_way in self._under_way.items() if under_way.peer in ready]:
            fetched += self._receive(leader)
        if fetched:
            self._backoff_s = 0.0
            self._send_fetches()
        return fetched

    def add(self, positions: dict[TopicPartition, int]) -> None:
        """Read more partitions, from these positions."""
        self.positions.update(positions)
        self._led = None

    def _send_fetches(self) -> None:
        if self._led is None:
            self._led = self._cluster.retry(lambda: leaders(self._cluster, self.positions))
        for leader, partitions in list(self._led.items()):
            if leader in self._under_way:
                continue
            try:
                peer = self._cluster.broker(leader, _PURPOSE)
                pending = peer.send(self._request(partitions), m.FetchResponse, versions=_VERSIONS)
            except (PeerError, KafkaError) as error:
                self._look_again(error)
                return
            self._under_way[leader] = _UnderWay(peer, pending)
            # A full answer must not starve the partitions behind it: next time others come first.
            partitions.append(partitions.pop(0))

    def _request(self, partitions: list[TopicPartition]) -> m.FetchRequest:
        topics: dict[str, list[m.FetchRequest.FetchPartition]] = {}
        for tp in partitions:
            topics.setdefault(tp.topic, []).append(
                m.FetchRequest.FetchPartition(
                    partition=tp.partition,
                    current_leader_epoch=-1,
                    fetch_offset=self.positions[tp],
                    partition_max_bytes=_PARTITION_BYTES,
                )
            )
        return m.FetchRequest(
            replica_id=_CONSUMER,
            max_wait_ms=_MAX_WAIT_MS,
            min_bytes=1,
            max_bytes=_ANSWER_BYTES,
            isolation_level=self._isolation,
            session_id=_NO_SESSION[0],
            session_epoch=_NO_SESSION[1],
            topics=[m.FetchRequest.FetchTopic(topic=name, partitions=parts) for name, parts in topics.items()],
        )

    def _receive(self, leader: int) -> list[Fetched]:
        under_way = self._under_way.pop(leader)
        try:
            answer = under_way.peer.receive(under_way.pending)
        except PeerError as error:
            self._look_again(error)
            return []
        fetched: list[Fetched] = []
        for topic in answer.responses:
            for part in topic.partitions:
                tp = TopicPartition(topic.topic, part.partition_index)
                if tp not in self.positions:
                    continue
                if part.error_code != ErrorCode.NONE:
                    self._handle_error(tp, part.error_code)
                    continue
                start = self.positions[tp]
                found = read_batches(part.records or b"", tp)
                if found:
                    self.positions[tp] = max(start, found[-1].next_offset)
                    aborted = [(entry.producer_id, entry.first_offset) for entry in part.aborted_transactions or []]
                    fetched.append(Fetched(tp, start, found, aborted))
        return fetched

    def _handle_error(self, tp: TopicPartition, code: int) -> None:
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._return_to_range(tp)
            return
        error = refusal(code)
        if not error.code.retriable:
            raise error
        self._look_again(error)

    def _return_to_range(self, tp: TopicPartition) -> None:
        """Retention overtook us: go on with what is there. A position that never existed is the user's mistake."""
        position = self.positions[tp]
        first = list_offsets(self._cluster, [tp], EARLIEST)[tp]
        if position < first:
            notice(f"{tp}: records {position} to {first - 1} are gone, reading goes on at {first}")
            self.positions[tp] = first
            return
        end = list_offsets(self._cluster, [tp], LATEST)[tp]
        if position > end:
            raise CommandError(f"{tp} holds offsets {first} to {end}; there is no {position}")

    def _look_again(self, error: PeerError | KafkaError) -> None:
        """Find the leaders anew before the next fetch, more slowly each time."""
        if self._backoff_s >= _LAST_BACKOFF_S:
            self._cluster.say_waiting(str(error))
        self._cluster.pause(self._backoff_s)
        self._backoff_s = min(max(self._backoff_s * 2, _FIRST_BACKOFF_S), _LAST_BACKOFF_S)
        self._led = None


def read_batches(records: bytes, tp: TopicPartition) -> list[RecordBatch]:
    """The whole batches in what a fetch brought, their checksums held against their bytes. Raises CommandError."""
    found: list[RecordBatch] = []
    try:
        for batch in batches(records):
            if not batch.check():
                raise CommandError(f"{tp}: the batch at offset {batch.header.base_offset} is damaged (checksum)")
            found.append(batch)
    except KafkaError as error:
        if len(records) > _MAGIC_POSITION and records[_MAGIC_POSITION] < _MAGIC:
            raise CommandError(
                f"{tp} has records in the format of Kafka before 0.11, which is not read here"
            ) from error
        raise CommandError(f"{tp}: what the broker sent is no record batch") from error
    return found
