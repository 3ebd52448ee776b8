"""Writes records into the partitions of one topic: in batches, pipelined, and nothing is lost on the way.

What it keeps true:
- Batches of a partition reach its log in the order they were closed. With idempotence each exactly once: a batch
  keeps its sequence number when it is sent again, and the broker knows it. Without, a batch may be there twice after
  a failure.
- A batch counts as acknowledged when the broker said so, and only then is it forgotten; `flush` returns when none is
  left.
- When something fails that may pass, all answers under way are awaited, and what is not acknowledged is sent again,
  oldest first, one batch of each partition at a time.

One thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import randrange

from cluster.broker.peer import Peer, PeerError, Pending, UnsupportedApiError
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, check, refusal
from cluster.cli.partitioner import partition_for_key
from cluster.protocol import messages as m
from pylog._native import BatchBuilder
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.records import Header, encode_headers

ACKS_ALL = -1

# From version 13 on topics are named by their ids, which an old broker has not.
_VERSIONS = (3, 12)
_ZSTD_VERSIONS = (7, 12)
_ZSTD = 4
_PURPOSE = "produce"
_MAX_IN_FLIGHT = 5  # as many as the broker remembers batches of an idempotent producer
_SEQUENCE_MASK = 0x7FFFFFFF
_NO_PRODUCER = (-1, -1)
_NO_SEQUENCE = -1
# What a batch costs beyond its records, and a record at most beyond its key, value and headers.
_BATCH_OVERHEAD = 61
_RECORD_OVERHEAD = 24
_ALREADY_THERE = (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER)


class _Batch(NamedTuple):
    """A closed batch. `payload_bytes`: keys and values, for the statistics."""

    partition: int
    data: bytes
    record_count: int
    payload_bytes: int


class _UnderWay(NamedTuple):
    peer: Peer
    pending: Pending[m.ProduceResponse]
    batches: list[_Batch]


class _Accumulator:
    """The open batch of one partition; open when it holds a record. `sequence`: of its first record."""

    __slots__ = ("builder", "count", "payload_bytes", "sequence", "size_bytes")

    def __init__(self) -> None:
        self.builder = BatchBuilder()
        self.sequence = 0
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.size_bytes = _BATCH_OVERHEAD
        self.payload_bytes = 0


class Producer:
    """`on_acknowledged(records, bytes)` is told of every batch the broker has (acks 0: of every batch sent)."""

    def __init__(
        self,
        cluster: ClusterClient,
        topic: str,
        *,
        acks: int,
        codec: int,
        idempotent: bool,
        batch_bytes: int,
        on_acknowledged: Callable[[int, int], None],
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._acks = acks
        self._codec = codec
        self._batch_bytes = batch_bytes
        self._on_acknowledged = on_acknowledged
        self._versions = _ZSTD_VERSIONS if codec == _ZSTD else _VERSIONS
        self._leaders = {part.partition_index: part.leader_id for part in cluster.partitions(topic, create=True)}
        self.partition_count = len(self._leaders)
        self._sticky = randrange(self.partition_count)
        self._accumulators: dict[int, _Accumulator] = {}
        self._under_way: dict[int, deque[_UnderWay]] = {}
        self._unacknowledged: dict[int, deque[_Batch]] = {}
        self._producer_id, self._producer_epoch = self._init_producer_id() if idempotent else _NO_PRODUCER

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[Header, ...],
        timestamp: int,
        partition: int | None = None,
    ) -> None:
        """Put a record into the open batch of its partition; a batch that is full is sent first."""
        chosen = partition
        if chosen is None:
            # Records without a key fill a batch of one partition before they go on to the next.
            chosen = self._sticky if key is None else partition_for_key(key, self.partition_count)
        accumulator = self._accumulators.get(chosen)
        if accumulator is None:
            accumulator = self._accumulators[chosen] = _Accumulator()
        payload_bytes = (len(key) if key else 0) + (len(value) if value else 0)
        size_bytes = payload_bytes + _RECORD_OVERHEAD
        if headers:
            size_bytes += sum(len(name) * 4 + len(data or b"") + 10 for name, data in headers)
        if not accumulator.count:
            self._begin(accumulator)
        elif accumulator.size_bytes + size_bytes > self._batch_bytes:
            self._send([self._close(chosen)])
            self.add(key, value, headers, timestamp, partition)
            return
        if headers:
            accumulator.builder.add(timestamp, key, value, encode_headers(headers), len(headers))
        else:
            accumulator.builder.add(timestamp, key, value)
        accumulator.count += 1
        accumulator.size_bytes += size_bytes
        accumulator.payload_bytes += payload_bytes

    def send_open(self) -> None:
        """Send the open batches as they are."""
        by_leader: dict[int, list[_Batch]] = {}
        for partition, accumulator in self._accumulators.items():
            if accumulator.count:
                by_leader.setdefault(self._leaders[partition], []).append(self._close(partition))
        for batches in by_leader.values():
            self._send(batches)

    def flush(self) -> None:
        """Send everything and wait until all of it is acknowledged. Raises what the broker refuses."""
        self.send_open()
        for leader, requests in list(self._under_way.items()):
            while requests:
                self._receive(leader)
        self._send_unacknowledged()

    def _begin(self, accumulator: _Accumulator) -> None:
        accumulator.builder.reset(
            0,
            self._codec,
            producer_id=self._producer_id,
            producer_epoch=self._producer_epoch,
            base_sequence=_NO_SEQUENCE if self._producer_id < 0 else accumulator.sequence,
        )

    def _close(self, partition: int) -> _Batch:
        accumulator = self._accumulators[partition]
        batch = _Batch(partition, accumulator.builder.finish(), accumulator.count, accumulator.payload_bytes)
        accumulator.sequence = (accumulator.sequence + accumulator.count) & _SEQUENCE_MASK
        accumulator.clear()
        if partition == self._sticky:
            self._sticky = (partition + 1) % self.partition_count
        return batch

    def _send(self, batches: list[_Batch]) -> None:
        """Send batches of different partitions that have the same leader."""
        while len(self._under_way.get(self._leaders[batches[0].partition], ())) >= _MAX_IN_FLIGHT:
            self._receive(self._leaders[batches[0].partition])
        for batch in batches:
            self._unacknowledged.setdefault(batch.partition, deque()).append(batch)
        leader = self._leaders[batches[0].partition]
        try:
            peer = self._cluster.broker(leader, _PURPOSE)
            if self._acks == 0:
                peer.send_unanswered(self._request(batches), versions=self._versions)
                for batch in batches:
                    self._acknowledge(batch)
                return
            pending = peer.send(self._request(batches), m.ProduceResponse, versions=self._versions)
        except UnsupportedApiError:
            raise
        except PeerError:
            self._recover()
            return
        self._under_way.setdefault(leader, deque()).append(_UnderWay(peer, pending, batches))

    def _request(self, batches: list[_Batch]) -> m.ProduceRequest:
        data = [m.ProduceRequest.PartitionProduceData(index=batch.partition, records=batch.data) for batch in batches]
        return m.ProduceRequest(
            acks=self._acks,
            timeout_ms=self._cluster.timeout_ms,
            topic_data=[m.ProduceRequest.TopicProduceData(name=self._topic, partition_data=data)],
        )

    def _receive(self, leader: int) -> None:
        """Wait for the oldest answer of a leader."""
        if not self._take_answer(self._under_way[leader].popleft()):
            self._recover()

    def _take_answer(self, under_way: _UnderWay) -> bool:
        """Note what one answer says. False: some of its batches have to be sent again. Raises what nothing can cure."""
        try:
            answer = under_way.peer.receive(under_way.pending)
        except PeerError:
            return False
        complete = True
        for batch, part in _by_batch(answer, under_way.batches):
            if part.error_code in _ALREADY_THERE:
                self._acknowledge(batch)
                continue
            error = _refusal(part)
            # A batch behind one that failed is out of order; whether it is so by itself shows when it is sent alone.
            if not error.code.retriable and error.code != ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER:
                raise error
            complete = False
        return complete

    def _acknowledge(self, batch: _Batch) -> None:
        self._unacknowledged[batch.partition].remove(batch)
        self._on_acknowledged(batch.record_count, batch.payload_bytes)

    def _recover(self) -> None:
        """Await every answer under way, then send again what is left."""
        for requests in self._under_way.values():
            while requests:
                self._take_answer(requests.popleft())
        self._send_unacknowledged()

    def _send_unacknowledged(self) -> None:
        while any(self._unacknowledged.values()):
            self._cluster.retry(self._send_oldest)

    def _send_oldest(self) -> None:
        """Send the oldest batch of each partition and await the answers. Raises for `retry`."""
        topic = self._cluster.metadata([self._topic]).topics[0]
        check(topic.error_code)
        self._leaders.update({part.partition_index: part.leader_id for part in topic.partitions})
        by_leader: dict[int, list[_Batch]] = {}
        for partition, batches in self._unacknowledged.items():
            if batches:
                by_leader.setdefault(self._leaders[partition], []).append(batches[0])
        for leader, oldest in by_leader.items():
            if leader < 0:
                raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, f"Partition {oldest[0].partition} has no leader.")
            peer = self._cluster.broker(leader, _PURPOSE)
            if self._acks == 0:
                peer.send_unanswered(self._request(oldest), versions=self._versions)
                for batch in oldest:
                    self._acknowledge(batch)
                continue
            answer = peer.request(self._request(oldest), m.ProduceResponse, versions=self._versions)
            for batch, part in _by_batch(answer, oldest):
                if part.error_code not in _ALREADY_THERE:
                    raise _refusal(part)
                self._acknowledge(batch)

    def _init_producer_id(self) -> tuple[int, int]:
        request = m.InitProducerIdRequest(transactional_id=None, producer_id=-1, producer_epoch=-1)

        def attempt() -> tuple[int, int]:
            answer = self._cluster.any_broker().request(request, m.InitProducerIdResponse)
            check(answer.error_code)
            return answer.producer_id, answer.producer_epoch

        try:
            return self._cluster.retry(attempt)
        except (UnsupportedApiError, KafkaError) as error:
            raise CommandError(f"no idempotent writes here ({error}); --no-idempotence does without") from error


def _by_batch(
    answer: m.ProduceResponse, batches: list[_Batch]
) -> list[tuple[_Batch, m.ProduceResponse.PartitionProduceResponse]]:
    sent = {batch.partition: batch for batch in batches}
    return [
        (sent[part.index], part)
        for topic in answer.responses
        for part in topic.partition_responses
        if part.index in sent
    ]


def _refusal(part: m.ProduceResponse.PartitionProduceResponse) -> KafkaError:
    message = part.error_message
    if part.record_errors and part.record_errors[0].batch_index_error_message:
        message = part.record_errors[0].batch_index_error_message
    return refusal(part.error_code, message)
