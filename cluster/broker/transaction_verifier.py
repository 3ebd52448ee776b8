"""Is a partition part of a producer's open transaction? Asked of the transaction's coordinator before the first records
are taken (KIP-890); what producers of the second transaction version write to is added with it, for they do not.

What stays true:
- every question is answered once, by the coordinator's word or by an error that says that it could not be reached;
- offsets that were sent before the end of a transaction are not taken after it: a marker makes the answers to questions
  that were asked before it void. For other records the data plane sees to that.

Control thread, but for `_exchange`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from cluster.broker.apis import ReplyHere
from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC
from cluster.coordinator.context import RequestContext
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.runtime import Runtime
from cluster.coordinator.transaction_coordinator import TransactionCoordinator
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, error_code
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.broker_channel import BrokerChannel
    from cluster.broker.peer import Peer
    from pylog._engine import Upcall

Partition = tuple[str, int]
Errors = dict[Partition, ErrorCode]

_VERSIONS: Final = (4, 5)
_TXN_ID_SIZE: Final = struct.Struct(">h")
_HEAD: Final = struct.Struct(">qhi")

#: Versions of Produce and TxnOffsetCommit from which clients know TRANSACTION_ABORTABLE, and from which their
#: partitions are to be added.
_PRODUCE_KNOWS_ABORTABLE, _PRODUCE_ADDS = 11, 12
_OFFSETS_KNOW_ABORTABLE, _OFFSETS_ADD = 4, 5

#: To a producer the coordinator is somebody that its leader asks: it is to try again, and need not look for anybody.
_TRY_AGAIN: Final = frozenset(
    {
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    }
)


class Question(NamedTuple):
    """`add`: not only asked about, but added. `knows_abortable`: the client understands TRANSACTION_ABORTABLE. `then`:
    told what is wrong with each partition."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    partitions: tuple[Partition, ...]
    add: bool
    knows_abortable: bool
    then: Callable[[Errors], None]


class TransactionVerifier:
    def __init__(self, broker: Broker, runtime: Runtime) -> None:
        self._broker = broker
        self._runtime = runtime
        self._channels: dict[int, BrokerChannel] = {}
        #: Who may write to a partition until a marker comes.
        self._offsets_open: dict[int, set[tuple[int, int]]] = {}
        self._offsets_asked: dict[tuple[int, int], int] = {}
        self._number = 0

    def stop(self) -> None:
        for channel in self._channels.values():
            channel.stop()

    # ------------------------------------------------------------------------------------------------- who asks

    def produce(self, upcall: Upcall) -> None:
        """The data plane has records that would begin a transaction in some partitions."""
        body, version = upcall.body, upcall.api_version
        (size,) = _TXN_ID_SIZE.unpack_from(body)
        at = _TXN_ID_SIZE.size + size
        transactional_id = body[_TXN_ID_SIZE.size : at].decode("utf-8", "replace")
        producer_id, epoch, count = _HEAD.unpack_from(body, at)
        numbers = struct.unpack_from(f">{count}q", body, at + _HEAD.size)
        hosted = [self._broker.replicas.by_number(number) for number in numbers]
        partitions = [None if each is None else (each.topic, each.index) for each in hosted]
        add = version >= _PRODUCE_ADDS

        def then(errors: Errors) -> None:
            found = [
                ErrorCode.NOT_LEADER_OR_FOLLOWER if each is None else _produce_error(errors[each], add=add)
                for each in partitions
            ]
            self._broker.engine.verified(upcall.conn, upcall.slot, found)

        known = tuple(dict.fromkeys(each for each in partitions if each is not None))
        self._ask(Question(transactional_id, producer_id, epoch, known, add, version >= _PRODUCE_KNOWS_ABORTABLE, then))

    def offsets(
        self, request: m.TxnOffsetCommitRequest, version: int, index: int, then: Callable[[ErrorCode], None]
    ) -> None:
        """A group coordinator is to write offsets of a transaction to this partition of its topic."""
        producer = (request.producer_id, request.producer_epoch)
        add = version >= _OFFSETS_ADD
        if self._is_open(index, producer) or not (
            add or self._broker.config.bool("transaction.partition.verification.enable")
        ):
            then(ErrorCode.NONE)
            return
        partition = (GROUP_METADATA_TOPIC, index)
        guard = (index, request.producer_id)
        number = self._offsets_asked.get(guard)
        if number is None:
            self._number += 1
            number = self._offsets_asked[guard] = self._number

        def answered(errors: Errors) -> None:
            error = errors[partition]
            holds = self._offsets_asked.get(guard) == number
            if holds:
                del self._offsets_asked[guard]
            if error is ErrorCode.NONE and not holds and producer not in self._offsets_open.get(index, ()):
                error = ErrorCode.INVALID_TXN_STATE
            if error is ErrorCode.NONE:
                self._offsets_open.setdefault(index, set()).add(producer)
            then(_OFFSETS_ERRORS.get(error, error))

        # What follows writes: not in the middle of somebody's effects.
        post = self._broker.loop.post
        self._ask(
            Question(
                request.transactional_id,
                *producer,
                (partition,),
                add,
                version >= _OFFSETS_KNOW_ABORTABLE,
                lambda errors: post(lambda: answered(errors)),
            )
        )

    def _is_open(self, index: int, producer: tuple[int, int]) -> bool:
        """Whether offsets of its transaction are held there: that it was allowed to write some does not make it so."""
        machine = self._runtime.machine(GROUP_METADATA_TOPIC, index)
        allowed = producer in self._offsets_open.get(index, ())
        return allowed and isinstance(machine, GroupCoordinator) and machine.holds_offsets_of(producer[0])

    def ended(self, index: int, producer_id: int) -> None:
        """A marker is in this partition of the group coordinator's topic."""
        self._offsets_asked.pop((index, producer_id), None)
        producers = self._offsets_open.get(index)
        if producers is not None:
            self._offsets_open[index] = {each for each in producers if each[0] != producer_id}

    def unloaded(self, index: int) -> None:
        self._offsets_open.pop(index, None)
        for guard in [each for each in self._offsets_asked if each[0] == index]:
            del self._offsets_asked[guard]

    # ------------------------------------------------------------------------------------------------- asking

    def _ask(self, question: Question) -> None:
        broker = self._broker
        index = self._runtime.partition_for(question.transactional_id, TRANSACTION_STATE_TOPIC)
        known = broker.metadata.partition(TRANSACTION_STATE_TOPIC, index)
        if known is None or known.leader not in broker.metadata.brokers:
            _give_all(question, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        elif known.leader == broker.broker_id and not question.add:
            self._look(question, index)
        elif known.leader == broker.broker_id:
            request = m.AddPartitionsToTxnRequest(transactions=[_transaction(question)])
            to = ReplyHere(lambda answer: _give(question, answer.results_by_transaction[0]))
            ctx = RequestContext(to, ApiKey.ADD_PARTITIONS_TO_TXN, _VERSIONS[1])
            broker.loop.apply(self._runtime.request(index, ctx, request, broker.now_ms()))
        else:
            channel = self._channel(known.leader)
            if channel is None:
                _give_all(question, ErrorCode.COORDINATOR_NOT_AVAILABLE)
            else:
                channel.send(question)

    def _look(self, question: Question, index: int) -> None:
        """The coordinator is here: without a request, which is half of what a small transaction would cost."""
        machine = self._runtime.machine(TRANSACTION_STATE_TOPIC, index)
        if isinstance(machine, ErrorCode):
            _give_all(question, machine)
            return
        assert isinstance(machine, TransactionCoordinator)
        found = machine.verify(
            question.transactional_id, question.producer_id, question.producer_epoch, question.partitions
        )
        knows = question.knows_abortable
        question.then({each: _client_error(error, knows_abortable=knows) for each, error in found.items()})

    def _channel(self, broker_id: int) -> BrokerChannel | None:
        from cluster.broker.broker_channel import channel_to

        return channel_to(
            self._broker, self._channels, broker_id, "txn-verify", exchange=self._exchange, failed=self._failed
        )

    def _exchange(self, peer: Peer, items: Sequence[object]) -> Callable[[], None]:
        """All questions that wait for a broker. The channel's thread. Raises PeerError."""
        from cluster.broker.broker_channel import rounds
        from cluster.broker.peer import UnsupportedApiError

        questions = [each for each in items if isinstance(each, Question)]
        heard: list[Callable[[], None]] = []
        for some in rounds(questions, lambda each: each.transactional_id):
            request = m.AddPartitionsToTxnRequest(transactions=[_transaction(each) for each in some.values()])
            try:
                answer = peer.request(request, m.AddPartitionsToTxnResponse, versions=_VERSIONS)
            except UnsupportedApiError:
                # A broker of old cannot be asked: it trusts its clients, and so do we.
                heard += [_later(_give_all, each, ErrorCode.NONE) for each in some.values()]
                continue
            for result in answer.results_by_transaction:
                if result.transactional_id in some:
                    heard.append(_later(_give, some.pop(result.transactional_id), result))
            error = error_code(answer.error_code) if answer.error_code else ErrorCode.UNKNOWN_SERVER_ERROR
            heard += [_later(_give_all, each, error) for each in some.values()]

        def tell() -> None:
            for each in heard:
                each()

        return tell

    @staticmethod
    def _failed(items: Sequence[object]) -> None:
        for each in items:
            assert isinstance(each, Question)
            _give_all(each, ErrorCode.NETWORK_EXCEPTION)


def _transaction(question: Question) -> m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction:
    topics: dict[str, list[int]] = {}
    for topic, index in question.partitions:
        topics.setdefault(topic, []).append(index)
    return m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
        transactional_id=question.transactional_id,
        producer_id=question.producer_id,
        producer_epoch=question.producer_epoch,
        verify_only=not question.add,
        topics=[
            m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=name, partitions=indexes)
            for name, indexes in topics.items()
        ],
    )


def _give(question: Question, result: m.AddPartitionsToTxnResponse.AddPartitionsToTxnResult) -> None:
    errors = dict.fromkeys(question.partitions, ErrorCode.UNKNOWN_SERVER_ERROR)
    for topic in result.topic_results:
        for each in topic.results_by_partition:
            errors[topic.name, each.partition_index] = _client_error(
                error_code(each.partition_error_code), knows_abortable=question.knows_abortable
            )
    question.then(errors)


def _give_all(question: Question, error: ErrorCode) -> None:
    question.then(dict.fromkeys(question.partitions, error))


def _later(give: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: give(*arguments)


def _client_error(error: ErrorCode, *, knows_abortable: bool) -> ErrorCode:
    if error is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if error is ErrorCode.TRANSACTION_ABORTABLE and not knows_abortable:
        return ErrorCode.INVALID_TXN_STATE
    return error


def _produce_error(error: ErrorCode, *, add: bool) -> ErrorCode:
    if error in _TRY_AGAIN or (error is ErrorCode.CONCURRENT_TRANSACTIONS and not add):
        return ErrorCode.NOT_ENOUGH_REPLICAS
    return error


_OFFSETS_ERRORS: Final = {
    ErrorCode.NETWORK_EXCEPTION: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
}
