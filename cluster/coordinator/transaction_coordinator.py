"""The transactional ids of one shard: who may use them, which partitions their transactions touch, how these end.

What stays true:
  - one step of a transactional id is on its way at a time (`Transaction.pending`); whoever comes meanwhile is told
    CONCURRENT_TRANSACTIONS. It is over when its record is replayed, or certainly not in the log;
  - an end is decided by the record that prepares it; then the producer is answered, the markers are asked for, and only
    when every partition has its own is the end complete;
  - a prepared end is carried on until it is complete, also by the coordinator after this one: `loaded`, and the check
    for overdue transactions, take up what nobody is carrying on.

    at rest --add-->                          Ongoing                        `_add_partitions`
    Ongoing --EndTxn-->                       PrepareCommit, PrepareAbort    `_end`
    Ongoing --InitProducerId, time is up-->   PrepareAbort with a new epoch  `_fence`
    Prepare* --markers written-->             Complete*                      `_complete`
    at rest --InitProducerId-->               Empty with a new epoch         `_begin_anew`
    at rest --long unused-->                  gone                           `_expire`
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from cluster.coordinator import transaction_answers as answers
from cluster.coordinator import transaction_steps as steps
from cluster.coordinator.context import RequestContext, Topics
from cluster.coordinator.find_coordinator import partition_of_key
from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.shard import Done, Step, Write
from cluster.coordinator.transaction import Parked, Transaction
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_end import end_error
from cluster.coordinator.transaction_list import Listing
from cluster.coordinator.transaction_records import (
    NO_EPOCH,
    NO_PRODUCER_ID,
    Fact,
    TopicPartition,
    TransactionalIdDeleted,
    TransactionStored,
)
from cluster.coordinator.transaction_state import (
    AT_REST,
    COMPLETE_ABORT,
    COMPLETE_COMMIT,
    DEAD,
    EMPTY,
    ONGOING,
    PREPARE_ABORT,
    PREPARE_COMMIT,
    PREPARED,
    name_of,
)
from cluster.effects import Ask, Note, Reply, SetTimer
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.transaction_log import TransactionState

OFFSETS_TOPIC = "__consumer_offsets"
_INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, "__transaction_state"})

COMPLETE_RETRY_MS = 100
"""How long after a record that completes a transaction could not be written it is tried again."""

_OVERDUE_KEY = ("overdue",)
_EXPIRY_KEY = ("expiry",)
_ID = "id"
_MARKERS = "markers"
_COMPLETE = "complete"

_EXPIRED_PER_BATCH = 200
_BATCHED_SINCE = 4  # as brokers ask; clients ask as before
_TRANSACTIONS_V2_ADD_SINCE = 4
_TRANSACTIONS_V2_END_SINCE = 5


class TransactionCoordinator:
    """`Machine` for one partition of `__transaction_state`."""

    def __init__(self, config: TransactionConfig, topics: Topics) -> None:
        self._config = config
        self._topics = topics
        self._transactions: dict[str, Transaction] = {}
        self._leader_epoch = -1

    def elected(self, leader_epoch: int) -> None:
        self._leader_epoch = leader_epoch

    def handle(self, ctx: RequestContext, message: Message, now_ms: int) -> list[Step]:
        return _HANDLERS[ctx.api_key](self, ctx, message, now_ms)

    def stored(self) -> list[TransactionStored]:
        """What is durable of every transactional id."""
        return [each.stored for each in self._transactions.values() if each.stored is not None]

    # InitProducerId -----------------------------------------------------------------------------------------------

    def _init(self, ctx: RequestContext, request: m.InitProducerIdRequest, now_ms: int) -> list[Step]:
        transactional_id = request.transactional_id
        assert transactional_id is not None
        expected = None
        if request.producer_id != NO_PRODUCER_ID:
            expected = (request.producer_id, request.producer_epoch)
        timeout_ms = request.transaction_timeout_ms
        transaction = self._transactions.get(transactional_id)
        if transaction is None:
            transaction = self._transactions[transactional_id] = Transaction(transactional_id)
            go_on = partial(self._init_first, transaction, ctx, timeout_ms)
            return self._ask_for_id(transaction, EMPTY, lambda error: [answers.init_failed(ctx, error)], go_on)
        stored = transaction.stored
        if transaction.pending is not None:
            return [answers.init_failed(ctx, ErrorCode.CONCURRENT_TRANSACTIONS)]
        assert stored is not None
        error = steps.init_error(stored, expected)
        if error:
            return [answers.init_failed(ctx, error)]
        if stored.state is ONGOING:
            # Whoever had the id is locked out. The asker comes again when the abort is complete, for an epoch of its
            # own: the one of the abort is told to nobody.
            return self._fence(transaction, now_ms, partial(self._init_fenced, transaction, ctx))
        if stored.state in PREPARED:
            return [answers.init_failed(ctx, ErrorCode.CONCURRENT_TRANSACTIONS)]
        if steps.needs_rotation(stored, expected):
            go_on = partial(self._init_rotated, transaction, ctx, timeout_ms, expected is not None)
            return self._ask_for_id(transaction, EMPTY, lambda error: [answers.init_failed(ctx, error)], go_on)
        bumped = steps.bumped(stored, timeout_ms, expected, now_ms)
        if isinstance(bumped, ErrorCode):
            return [answers.init_failed(ctx, bumped)]
        return [self._begin_anew(transaction, ctx, bumped)]

    def _init_first(
        self, transaction: Transaction, ctx: RequestContext, timeout_ms: int, producer_id: int, now_ms: int
    ) -> list[Step]:
        fact = steps.first(transaction.transactional_id, producer_id, timeout_ms, now_ms)
        return [self._begin_anew(transaction, ctx, fact)]

    def _init_rotated(
        self,
        transaction: Transaction,
        ctx: RequestContext,
        timeout_ms: int,
        is_known: bool,
        producer_id: int,
        now_ms: int,
    ) -> list[Step]:
        assert transaction.stored is not None
        fact = steps.rotated(transaction.stored, producer_id, timeout_ms, is_known=is_known, now_ms=now_ms)
        return [self._begin_anew(transaction, ctx, fact)]

    def _begin_anew(self, transaction: Transaction, ctx: RequestContext, fact: TransactionStored) -> Step:
        def done(error: ErrorCode, now_ms: int) -> list[Step]:
            if error:
                return [answers.init_failed(ctx, error)]
            note = transaction.note("Initialized", ("producer_id", fact.producer_id), ("epoch", fact.epoch))
            return [note, answers.inited(ctx, fact.producer_id, fact.epoch)]

        return self._write(transaction, fact, done)

    def _init_fenced(self, transaction: Transaction, ctx: RequestContext, error: ErrorCode, now_ms: int) -> list[Step]:
        if error:
            return [answers.init_failed(ctx, error)]
        return [
            answers.init_failed(ctx, ErrorCode.CONCURRENT_TRANSACTIONS),
            *self._send_markers(transaction, now_ms),
        ]

    def _fence(self, transaction: Transaction, now_ms: int, done: Done) -> list[Step]:
        stored, version = transaction.stored, self._config.transaction_version
        assert stored is not None

        def go_on(next_producer_id: int, now_ms: int) -> list[Step]:
            return [self._write(transaction, steps.fenced(stored, version, next_producer_id, now_ms), done)]

        if version >= steps.BUMPING_VERSION and steps.is_exhausted(stored.epoch):
            return self._ask_for_id(transaction, PREPARE_ABORT, lambda error: done(error, now_ms), go_on)
        return go_on(NO_PRODUCER_ID, now_ms)

    # Partitions ---------------------------------------------------------------------------------------------------

    def _add_partitions(self, ctx: RequestContext, request: m.AddPartitionsToTxnRequest, now_ms: int) -> list[Step]:
        """One transaction: the runtime splits a request by its transactional ids."""
        wanted = answers.adding(ctx, request)
        transactional_id, producer_id, epoch, verify_only, partitions = wanted
        if verify_only:
            return [answers.added_each(ctx, wanted, self.verify(transactional_id, producer_id, epoch, partitions))]
        errors = self._not_there(partitions, of_a_client=ctx.api_version < _BATCHED_SINCE)
        if errors is not None:
            return [answers.added_each(ctx, wanted, errors)]
        reply = partial(answers.added, ctx, wanted)
        if not transactional_id:
            return [reply(ErrorCode.INVALID_REQUEST)]
        version = steps.BUMPING_VERSION if ctx.api_version >= _TRANSACTIONS_V2_ADD_SINCE else 0
        transaction = self._transactions.get(transactional_id)
        return self._add(transaction, producer_id, epoch, partitions, version, reply, now_ms)

    def _not_there(
        self, partitions: tuple[TopicPartition, ...], *, of_a_client: bool = False
    ) -> dict[TopicPartition, ErrorCode] | None:
        """What is said of partitions of which some do not exist; None: they all do. No client writes to internal topics
        itself, whatever it may do elsewhere."""
        count = self._topics.partition_count
        internal = [each for each in partitions if of_a_client and each[0] in _INTERNAL_TOPICS]
        unknown = [each for each in partitions if each not in internal and not 0 <= each[1] < count(each[0])]
        if not internal and not unknown:
            return None
        errors = dict.fromkeys(partitions, ErrorCode.OPERATION_NOT_ATTEMPTED)
        errors |= dict.fromkeys(internal, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        return errors | dict.fromkeys(unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def _add_offsets(self, ctx: RequestContext, request: m.AddOffsetsToTxnRequest, now_ms: int) -> list[Step]:
        """The partition where the group's offsets are."""
        count = self._topics.partition_count(OFFSETS_TOPIC) or self._config.offsets_topic_partitions
        partitions = ((OFFSETS_TOPIC, partition_of_key(request.group_id, count)),)
        transaction = self._transactions.get(request.transactional_id)
        reply = partial(answers.offsets_added, ctx)
        return self._add(transaction, request.producer_id, request.producer_epoch, partitions, 0, reply, now_ms)

    def _add(
        self,
        transaction: Transaction | None,
        producer_id: int,
        epoch: int,
        partitions: tuple[TopicPartition, ...],
        version: int,
        reply: Callable[[ErrorCode], Reply],
        now_ms: int,
    ) -> list[Step]:
        error = _producer_error(transaction, producer_id, epoch)
        if transaction is None or transaction.stored is None or error:
            return [reply(error)]
        stored = transaction.stored
        if transaction.pending is not None or stored.state in PREPARED:
            return [reply(ErrorCode.CONCURRENT_TRANSACTIONS)]
        if stored.state is ONGOING and set(partitions) <= set(stored.partitions):
            return [reply(ErrorCode.NONE)]
        fact = steps.with_partitions(stored, partitions, version, now_ms)
        return [self._write(transaction, fact, lambda error, now_ms: [reply(error)])]

    def verify(
        self, transactional_id: str, producer_id: int, epoch: int, partitions: tuple[TopicPartition, ...]
    ) -> dict[TopicPartition, ErrorCode]:
        """Whether partitions are part of the open transaction, for a broker that is to take records of it."""
        errors = self._not_there(partitions)
        if errors is not None:
            return errors
        if not transactional_id:
            return dict.fromkeys(partitions, ErrorCode.INVALID_REQUEST)
        transaction = self._transactions.get(transactional_id)
        error = _producer_error(transaction, producer_id, epoch)
        if transaction is None or transaction.stored is None or error:
            return dict.fromkeys(partitions, error)
        if transaction.stored.state in PREPARED:
            return dict.fromkeys(partitions, ErrorCode.CONCURRENT_TRANSACTIONS)
        known = set(transaction.stored.partitions)
        return {each: ErrorCode.NONE if each in known else ErrorCode.TRANSACTION_ABORTABLE for each in partitions}

    # The end ------------------------------------------------------------------------------------------------------

    def _end(self, ctx: RequestContext, request: m.EndTxnRequest, now_ms: int) -> list[Step]:
        transaction = self._transactions.get(request.transactional_id)
        if transaction is None or transaction.stored is None:
            return [answers.end_failed(ctx, ErrorCode.INVALID_PRODUCER_ID_MAPPING)]
        stored = transaction.stored
        version = steps.BUMPING_VERSION if ctx.api_version >= _TRANSACTIONS_V2_END_SINCE else 0
        error = end_error(
            stored,
            request.producer_id,
            request.producer_epoch,
            commit=request.committed,
            version=version,
            is_busy=transaction.pending is not None,
        )
        if error is ErrorCode.NONE:
            return [answers.ended(ctx, stored.producer_id, stored.epoch)]
        if error is not None:
            return [answers.end_failed(ctx, error)]
        if version >= steps.BUMPING_VERSION and steps.is_exhausted(stored.epoch):
            pending = PREPARE_COMMIT if request.committed else PREPARE_ABORT
            go_on = partial(self._prepare, transaction, ctx, request.committed, version)
            return self._ask_for_id(transaction, pending, lambda error: [answers.end_failed(ctx, error)], go_on)
        return self._prepare(transaction, ctx, request.committed, version, NO_PRODUCER_ID, now_ms)

    def _prepare(
        self,
        transaction: Transaction,
        ctx: RequestContext,
        commit: bool,
        version: int,
        next_producer_id: int,
        now_ms: int,
    ) -> list[Step]:
        assert transaction.stored is not None
        fact = steps.prepared(
            transaction.stored, commit=commit, version=version, next_producer_id=next_producer_id, now_ms=now_ms
        )

        def done(error: ErrorCode, now_ms: int) -> list[Step]:
            if error:
                return [answers.end_failed(ctx, error)]
            # What the producer goes on with is what will be stored when all is complete.
            after = steps.completed(fact, now_ms)
            return [
                answers.ended(ctx, after.producer_id, after.epoch),
                *self._send_markers(transaction, now_ms),
            ]

        return [self._write(transaction, fact, done)]

    def _send_markers(self, transaction: Transaction, now_ms: int) -> list[Step]:
        """Carry on a prepared end."""
        stored = transaction.stored
        assert stored is not None
        assert stored.state in PREPARED
        transaction.pending = COMPLETE_COMMIT if stored.state is PREPARE_COMMIT else COMPLETE_ABORT
        transaction.fenced_epoch = NO_EPOCH
        if not stored.partitions:
            return self._complete(transaction, now_ms)
        question = WriteMarkers(
            stored.transactional_id,
            stored.producer_id,
            stored.epoch,
            self._leader_epoch,
            stored.state is PREPARE_COMMIT,
            stored.partitions,
            stored.client_version,
        )
        return [Ask((_MARKERS, stored.transactional_id), question)]

    def _markers_told(self, transaction: Transaction, answer: object, now_ms: int) -> list[Step]:
        if answer is ErrorCode.NONE:
            return self._complete(transaction, now_ms)
        assert isinstance(answer, ErrorCode)
        # Somebody else coordinates this id, and will end the transaction. We are to hear that our shard is not ours.
        transaction.fenced_epoch = self._leader_epoch
        return [transaction.note("Markers are written by a newer coordinator", ("error", answer.name), warning=True)]

    def _complete(self, transaction: Transaction, now_ms: int) -> list[Step]:
        assert transaction.stored is not None
        completing = transaction.pending

        def done(error: ErrorCode, now_ms: int) -> list[Step]:
            if not error or transaction.pending is not None:
                return []
            # The markers are there: nothing but this record is missing, and nothing else may happen before it.
            transaction.pending = completing
            return [SetTimer((_COMPLETE, transaction.transactional_id), now_ms + COMPLETE_RETRY_MS)]

        return [self._write(transaction, steps.completed(transaction.stored, now_ms), done)]

    # Time ---------------------------------------------------------------------------------------------------------

    def timer(self, key: Hashable, now_ms: int) -> list[Step]:
        if key == _OVERDUE_KEY:
            return self._overdue(now_ms)
        if key == _EXPIRY_KEY:
            return self._expire(now_ms)
        assert isinstance(key, tuple)
        what, transactional_id = key
        assert what == _COMPLETE
        return self._complete(self._transactions[transactional_id], now_ms)

    def _overdue(self, now_ms: int) -> list[Step]:
        """Abort what is open for too long, and carry on what nobody carries on."""
        out: list[Step] = [SetTimer(_OVERDUE_KEY, now_ms + self._config.abort_interval_ms)]
        for transaction in self._transactions.values():
            stored = transaction.stored
            if stored is None:
                continue
            if stored.state in PREPARED and self._is_left(transaction):
                out += self._send_markers(transaction, now_ms)
            elif (
                stored.state is ONGOING and transaction.pending is None and stored.start_ms + stored.timeout_ms < now_ms
            ):
                out += self._fence(transaction, now_ms, partial(self._timed_out, transaction))
        return out

    def _is_left(self, transaction: Transaction) -> bool:
        """Nobody was there when it was prepared, or its markers were refused to an epoch that is ours no more."""
        if transaction.pending is None:
            return True
        return NO_EPOCH != transaction.fenced_epoch < self._leader_epoch

    def _timed_out(self, transaction: Transaction, error: ErrorCode, now_ms: int) -> list[Step]:
        if error:
            return [transaction.note("Timed out, but could not be aborted", ("error", error.name), warning=True)]
        return [transaction.note("Timed out: aborting"), *self._send_markers(transaction, now_ms)]

    def _expire(self, now_ms: int) -> list[Step]:
        """Forget ids that nobody has used for long."""
        out: list[Step] = [SetTimer(_EXPIRY_KEY, now_ms + self._config.expiry_interval_ms)]
        oldest_ms = now_ms - self._config.id_expiration_ms
        expired = [
            transaction
            for transaction in self._transactions.values()
            if transaction.pending is None
            and transaction.stored is not None
            and transaction.stored.state in AT_REST
            and transaction.stored.update_ms <= oldest_ms
        ]
        for at in range(0, len(expired), _EXPIRED_PER_BATCH):
            batch = expired[at : at + _EXPIRED_PER_BATCH]
            for transaction in batch:
                transaction.pending = DEAD

            def done(error: ErrorCode, now_ms: int, batch: list[Transaction] = batch) -> list[Step]:
                if not error or error is ErrorCode.REQUEST_TIMED_OUT:
                    return []
                for transaction in batch:
                    transaction.pending = None
                return [Note("Transactions", "Expired ids not removed", (("error", error.name),), warning=True)]

            facts = tuple(TransactionalIdDeleted(transaction.transactional_id) for transaction in batch)
            out.append(Write(facts, done))
        return out

    # Administration -----------------------------------------------------------------------------------------------

    def _describe(self, ctx: RequestContext, request: m.DescribeTransactionsRequest, now_ms: int) -> list[Step]:
        states = [self._describe_one(each) for each in request.transactional_ids]
        return [Reply(ctx.reply_to, m.DescribeTransactionsResponse(transaction_states=states))]

    def _describe_one(self, transactional_id: str) -> m.DescribeTransactionsResponse.TransactionState:
        transaction = self._transactions.get(transactional_id)
        if transaction is None or transaction.stored is None:
            return answers.described_failed(transactional_id, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        return answers.described(transaction.stored)

    def _list(self, ctx: RequestContext, request: m.ListTransactionsRequest, now_ms: int) -> list[Step]:
        listing = Listing(request, now_ms)
        everything = [each.stored for each in self._transactions.values() if each.stored is not None]
        found = [
            m.ListTransactionsResponse.TransactionState(
                transactional_id=stored.transactional_id,
                producer_id=stored.producer_id,
                transaction_state=name_of(stored.state),
            )
            for stored in listing.found(everything)
        ]
        return [Reply(ctx.reply_to, m.ListTransactionsResponse(error_code=listing.error, transaction_states=found))]

    # What is durable ----------------------------------------------------------------------------------------------

    def _write(self, transaction: Transaction, fact: TransactionStored, done: Done) -> Step:
        """Take a step. Until it is replayed or known to have failed no other is taken: one whose answer comes too late
        may be in the log already, and then counts."""
        transaction.pending = fact.state

        def settled(error: ErrorCode, now_ms: int) -> list[Step]:
            if error and error is not ErrorCode.REQUEST_TIMED_OUT:
                transaction.pending = None
                self._drop_if_unused(transaction)
            return done(answers.write_error(error), now_ms)

        return Write((fact,), settled)

    def _drop_if_unused(self, transaction: Transaction) -> None:
        """An id whose first record could not be written was never there."""
        if transaction.stored is None:
            del self._transactions[transaction.transactional_id]

    def replay(self, fact: object, offset: int, now_ms: int, producer_id: int = -1) -> None:
        _apply(self._transactions, fact)  # type: ignore[arg-type]

    def replay_marker(self, producer_id: int, *, commit: bool) -> None:
        """These records are part of no transaction themselves."""

    def underway(self, facts: tuple[object, ...]) -> Done:
        raise AssertionError("nobody else writes what this coordinator keeps")

    def loaded(self, now_ms: int) -> list[Step]:
        out: list[Step] = [
            SetTimer(_OVERDUE_KEY, now_ms + self._config.abort_interval_ms),
            SetTimer(_EXPIRY_KEY, now_ms + self._config.expiry_interval_ms),
        ]
        for transaction in self._transactions.values():
            assert transaction.stored is not None
            if transaction.stored.state in PREPARED:
                out += self._send_markers(transaction, now_ms)
        return out

    def unloaded(self) -> list[Step]:
        out: list[Step] = []
        for transaction in self._transactions.values():
            if transaction.parked is not None:
                out += transaction.parked.refuse(ErrorCode.NOT_COORDINATOR)
        return out

    def topics_deleted(self, topics: frozenset[str], now_ms: int) -> list[Step]:
        """Partitions that are gone need no marker; who writes the markers sees to that."""
        return []

    # Questions ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _ask_for_id(
        transaction: Transaction,
        pending: TransactionState,
        refuse: Callable[[ErrorCode], list[Step]],
        go_on: Callable[[int, int], list[Step]],
    ) -> list[Step]:
        """`pending`: where it goes when there is an id. `go_on`: takes that step, with the id and the time then."""
        transaction.pending = pending
        transaction.parked = Parked(refuse, go_on)
        return [Ask((_ID, transaction.transactional_id), NewProducerId(transaction.transactional_id))]

    def told(self, key: Hashable, answer: object, now_ms: int) -> list[Step]:
        assert isinstance(key, tuple)
        what, transactional_id = key
        transaction = self._transactions[transactional_id]
        if what == _MARKERS:
            return self._markers_told(transaction, answer, now_ms)
        parked, transaction.parked = transaction.parked, None
        assert parked is not None
        if isinstance(answer, ErrorCode):
            transaction.pending = None
            self._drop_if_unused(transaction)
            return parked.refuse(answer)
        assert isinstance(answer, int)
        return parked.go_on(answer, now_ms)


def _apply(transactions: dict[str, Transaction], fact: Fact) -> None:
    if isinstance(fact, TransactionalIdDeleted):
        transactions.pop(fact.transactional_id, None)
        return
    transaction = transactions.get(fact.transactional_id)
    if transaction is None:
        transaction = transactions[fact.transactional_id] = Transaction(fact.transactional_id)
    transaction.stored = fact
    transaction.pending = None


def _producer_error(transaction: Transaction | None, producer_id: int, epoch: int) -> ErrorCode:
    if transaction is None or transaction.stored is None or transaction.stored.producer_id != producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    return ErrorCode.NONE if transaction.stored.epoch == epoch else ErrorCode.PRODUCER_FENCED


_HANDLERS: dict[int, Callable[..., list[Step]]] = {
    ApiKey.INIT_PRODUCER_ID: TransactionCoordinator._init,
    ApiKey.ADD_PARTITIONS_TO_TXN: TransactionCoordinator._add_partitions,
    ApiKey.ADD_OFFSETS_TO_TXN: TransactionCoordinator._add_offsets,
    ApiKey.END_TXN: TransactionCoordinator._end,
    ApiKey.DESCRIBE_TRANSACTIONS: TransactionCoordinator._describe,
    ApiKey.LIST_TRANSACTIONS: TransactionCoordinator._list,
}
