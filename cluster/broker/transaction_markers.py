"""Ends of transactions carried out: a marker in each partition, wherever it is led.

What stays true:
- a coordinator's question is answered once, when every partition that still exists has its marker, or when one of them
  says that a newer coordinator or a newer epoch of the producer was there; until then, and unless it is cancelled, what
  failed is tried again, at whoever leads the partition by then;
- a partition that no metadata know of is gone, and needs no marker;
- nothing is told to a coordinator while effects of its are being carried out: it hears by the loop's inbox.

Control thread, but for `_exchange`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial

from cluster.broker.marker_log import MarkerLog, NewMarker
from cluster.coordinator.questions import WriteMarkers
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, error_code
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.broker_channel import BrokerChannel
    from cluster.broker.peer import Peer

Partition = tuple[str, int]

_BACKOFF_MS: Final = 50
_FENCED: Final = frozenset({ErrorCode.TRANSACTION_COORDINATOR_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH})
_EXPECTED: Final = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)


class RetryKey(NamedTuple):
    """The key of the timer."""

    name: str = "transaction markers"


class _Ending:
    """`missing`: the partitions whose marker is not known to be written. `again`: those of them to be tried again."""

    __slots__ = ("again", "key", "missing", "question")

    def __init__(self, key: Hashable, question: WriteMarkers) -> None:
        self.key = key
        self.question = question
        self.missing: dict[Partition, None] = dict.fromkeys(question.partitions)
        self.again: dict[Partition, None] = {}

    def marker(self) -> NewMarker:
        asked = self.question
        return NewMarker(asked.producer_id, asked.producer_epoch, asked.coordinator_epoch, asked.commit)


class _Sent(NamedTuple):
    """What one broker is asked for one transaction."""

    ending: _Ending
    partitions: tuple[Partition, ...]


class TransactionMarkers:
    """`told`: hears the answer to a question."""

    def __init__(self, broker: Broker, log: MarkerLog, told: Callable[[Hashable, ErrorCode], None]) -> None:
        self._broker = broker
        self._marker_log = log
        self._told = told
        self._endings: dict[Hashable, _Ending] = {}
        self._retrying = False
        self._channels: dict[int, BrokerChannel] = {}
        self._log = Logger(f"TransactionMarkers {broker.broker_id}")

    def begin(self, key: Hashable, question: WriteMarkers) -> None:
        ending = self._endings[key] = _Ending(key, question)
        self._send(ending, question.partitions)

    def cancel(self, key: Hashable) -> None:
        """Nobody waits for the answer; what is under way may still be written."""
        self._endings.pop(key, None)

    def retry(self) -> None:
        """The timer has fired."""
        self._retrying = False
        for ending in list(self._endings.values()):
            if ending.again:
                partitions, ending.again = tuple(ending.again), {}
                self._send(ending, partitions)

    def stop(self) -> None:
        for channel in self._channels.values():
            channel.stop()

    # ------------------------------------------------------------------------------------------------- sending

    def _send(self, ending: _Ending, partitions: Iterable[Partition]) -> None:
        broker = self._broker
        remote: dict[int, list[Partition]] = {}
        marker = ending.marker()
        for each in partitions:
            if self._endings.get(ending.key) is not ending:
                return  # refused by one before
            known = broker.metadata.partition(*each)
            if known is None:
                self._heard(ending, each, ErrorCode.NONE)
            elif known.leader == broker.broker_id:
                self._marker_log.write(*each, marker, partial(self._heard, ending, each))
            elif known.leader in broker.metadata.brokers:
                remote.setdefault(known.leader, []).append(each)
            else:
                self._heard(ending, each, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        for broker_id, some in remote.items():
            channel = self._channel(broker_id)
            if channel is None:
                self._failed([_Sent(ending, tuple(some))])
            else:
                channel.send(_Sent(ending, tuple(some)))

    def _channel(self, broker_id: int) -> BrokerChannel | None:
        from cluster.broker.broker_channel import channel_to

        return channel_to(
            self._broker, self._channels, broker_id, "txn-markers", exchange=self._exchange, failed=self._failed
        )

    def _exchange(self, peer: Peer, items: Sequence[object]) -> Callable[[], None]:
        """All that waits for a broker in one request. The channel's thread. Raises PeerError."""
        from cluster.broker.broker_channel import rounds

        sent = [each for each in items if isinstance(each, _Sent)]
        heard: list[tuple[_Sent, dict[Partition, int]]] = []
        for some in rounds(sent, lambda each: each.ending.question.producer_id):  # by which the answer tells them apart
            request = m.WriteTxnMarkersRequest(markers=[_writable(each) for each in some.values()])
            answer = peer.request(request, m.WriteTxnMarkersResponse)
            for result in answer.markers:
                errors = {
                    (topic.name, each.partition_index): each.error_code
                    for topic in result.topics
                    for each in topic.partitions
                }
                if result.producer_id in some:
                    heard.append((some.pop(result.producer_id), errors))
            heard += [(each, {}) for each in some.values()]
        return lambda: self._answered(heard)

    def _answered(self, heard: list[tuple[_Sent, dict[Partition, int]]]) -> None:
        for sent, errors in heard:
            for each in sent.partitions:
                self._heard(sent.ending, each, error_code(errors.get(each, ErrorCode.UNKNOWN_SERVER_ERROR)))

    def _failed(self, items: Sequence[object]) -> None:
        for sent in items:
            assert isinstance(sent, _Sent)
            for each in sent.partitions:
                self._heard(sent.ending, each, ErrorCode.NOT_LEADER_OR_FOLLOWER)

    # ------------------------------------------------------------------------------------------------- hearing

    def _heard(self, ending: _Ending, partition: Partition, error: ErrorCode) -> None:
        if self._endings.get(ending.key) is not ending:
            return
        if error in (ErrorCode.NONE, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT):
            ending.missing.pop(partition, None)
            if not ending.missing:
                self._finish(ending, ErrorCode.NONE)
            return
        if error in _FENCED:
            self._finish(ending, ErrorCode.TRANSACTION_COORDINATOR_FENCED)
            return
        if error not in _EXPECTED:
            asked = ending.question
            self._log.warn(
                "marker refused, trying again",
                transactional_id=asked.transactional_id,
                partition=f"{partition[0]}-{partition[1]}",
                error=error.name,
            )
        ending.again[partition] = None
        if not self._retrying:
            self._retrying = True
            self._broker.loop.timers.set(RetryKey(), self._broker.now_ms() + _BACKOFF_MS)

    def _finish(self, ending: _Ending, answer: ErrorCode) -> None:
        del self._endings[ending.key]
        self._told(ending.key, answer)


def _writable(sent: _Sent) -> m.WriteTxnMarkersRequest.WritableTxnMarker:
    topics: dict[str, list[int]] = {}
    for topic, index in sent.partitions:
        topics.setdefault(topic, []).append(index)
    asked = sent.ending.question
    return m.WriteTxnMarkersRequest.WritableTxnMarker(
        producer_id=asked.producer_id,
        producer_epoch=asked.producer_epoch,
        transaction_result=asked.commit,
        topics=[
            m.WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=name, partition_indexes=indexes)
            for name, indexes in topics.items()
        ],
        coordinator_epoch=asked.coordinator_epoch,
        transaction_version=asked.transaction_version,
    )
