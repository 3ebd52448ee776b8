"""A worker of the transaction story: reads a partition of input, writes what it read to two partitions of output, and
commits how far it has read, all in one transaction; again and again.

What stays true: it does what Kafka's producers do. Up to transaction version 1 it begins anew, with another epoch, when
an answer to its coordinator did not come: with the epoch it has, a request that is still on its way could end the next
transaction. From version 2 on it asks again. Records are sent again with their sequences either way.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.transaction_host import Answered, DataPartition, ShardHost, Verifier, call
from tests.sim.world import Process, Violation, World
from tests.transcripts.transaction_driver import add_request, added, end_request, init_request

GROUP = "g"
INPUT = "in"
OUTPUT = "out"
OFFSETS = ("__consumer_offsets", 0)
TIMEOUT_MS = 4_000
_RETRY_US = 50_000
_LOSS_US = 100_000
_SLOW_US = 1_200_000

_RETRIABLE = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)


class Books:
    """What workers tried and were told. An attempt is a transaction: (worker, number); `told`: whether it committed."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], int] = {}
        self.told: dict[tuple[str, int], bool] = {}

    def ended(self, attempt: tuple[str, int], *, commit: bool) -> None:
        if self.told.setdefault(attempt, commit) != commit:
            raise Violation(f"{attempt} was told of both ends")


class Worker:
    """One life of a process. `number`: of its transactional id and of its input; `who`: in the group."""

    who: tuple[str, int] = ("", -1)

    def __init__(
        self,
        name: str,
        number: int,
        world: World,
        coordinator: ShardHost,
        group: ShardHost,
        outputs: list[DataPartition],
        books: Books,
        *,
        bumping: bool,
        loss: float,
    ) -> None:
        self.name = name
        self.process = Process(name)
        self.loss = loss
        self.is_fenced = False
        self._input = number
        self._id = f"w{number}"
        self._world = world
        self._coordinator = coordinator
        self._group = group
        self._outputs = outputs
        self._books = books
        self._bumping = bumping
        self._producer = (-1, -1)
        self._sequences = [0, 0]
        self._attempts = 0
        self._attempt = (name, 0)
        self._position = 0
        self._left: list[tuple[int, int]] = []  # output and offset of what is still to be written
        self._count = 0
        self._sending = 0
        self._again(self._init)

    # Asking -------------------------------------------------------------------------------------------------------

    def _again(self, step: Callable[[], None]) -> None:
        self._world.after(self._world.random.randrange(_RETRY_US), self.process, step)

    def _call(self, host: ShardHost, message: Message, version: int, then: Answered) -> None:
        call(self._world, host, self.process, message, version, then, self.loss)

    def _failed(self, error: ErrorCode | None, step: Callable[[], None]) -> None:
        """None: there was no answer."""
        if error is None and not self._bumping:
            self._again(self._init)
        elif error is None or error in _RETRIABLE:
            self._again(step)
        elif error in (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH):
            self.is_fenced = True
        else:
            self._again(self._init)

    # One transaction ----------------------------------------------------------------------------------------------

    def _init(self) -> None:
        def then(answer: Message | None) -> None:
            if answer is None:
                self._again(self._init)
                return
            assert isinstance(answer, m.InitProducerIdResponse)
            if answer.error_code:
                self._again(self._init)
                return
            self._adopt((answer.producer_id, answer.producer_epoch))
            self._fetch()

        self._call(self._coordinator, init_request(self._id, timeout_ms=TIMEOUT_MS), 5, then)

    def _adopt(self, producer: tuple[int, int]) -> None:
        if producer != self._producer:
            self._sequences = [0, 0]
        self._producer = producer

    def _fetch(self) -> None:
        """Where to begin with its input."""
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopics(name=INPUT, partition_indexes=[self._input])
        group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=GROUP, topics=[asked])
        if self.who[0]:
            group.member_id, group.member_epoch = self.who
        request = m.OffsetFetchRequest(groups=[group], require_stable=True)

        def then(answer: Message | None) -> None:
            if not isinstance(answer, m.OffsetFetchResponse) or answer.groups[0].error_code:
                self._again(self._fetch)
                return
            (found,) = answer.groups[0].topics[0].partitions
            if found.error_code:
                self._again(self._fetch)
                return
            self._position = max(found.committed_offset, 0)
            self._begin()

        self._call(self._group, request, 9 if self.who[0] else 8, then)

    def _next(self) -> None:
        """Another transaction, from where the last one ended."""
        self._begin()

    def _begin(self) -> None:
        random = self._world.random
        self._attempts += 1
        self._attempt = (self.name, self._attempts)
        self._count = random.randint(1, 4)
        self._left = [(random.randrange(2), self._position + each) for each in range(self._count)]
        self._books.values[self._attempt] = self._count
        if self._bumping:
            self._write()
        else:
            self._add()

    def _add(self) -> None:
        partitions = sorted({(OUTPUT, output) for output, _ in self._left})
        request = add_request(self._id, self._producer, partitions, 3)

        def then(answer: Message | None) -> None:
            errors = set(added(answer)) if isinstance(answer, m.AddPartitionsToTxnResponse) else {None}
            if errors == {ErrorCode.NONE}:
                self._write()
            else:
                self._failed(errors.pop(), self._add)

        self._call(self._coordinator, request, 3, then)

    def _write(self) -> None:
        """One record after the other; the answer may be lost, and the record is sent again."""
        if not self._left:
            self._offsets()
            return
        output, offset = self._left[0]
        partition, sequence, producer = self._outputs[output], self._sequences[output], self._producer
        value = (self._input, offset, self._attempt)
        self._sending += 1
        sending = self._sending

        def then(error: ErrorCode) -> None:
            if not error:
                error = partition.append(producer, sequence, value)
            if sending != self._sending:
                return  # it has been sent again since
            self._sending += 1
            if self._world.random.random() < self.loss or error is ErrorCode.REQUEST_TIMED_OUT:
                self._world.after(_LOSS_US, self.process, self._write)
            elif error:
                self._world.after(0, self.process, self._failed, error, self._write)
            else:
                self._world.after(self._world.random.randrange(3_000), self.process, self._written, output)

        def arrive() -> None:
            verifier = Verifier(self._world, self._coordinator, self.loss)
            where = (OUTPUT, output)
            verifier.admit(lambda: partition.gate, where, self._id, producer, bumping=self._bumping, then=then)

        random = self._world.random
        is_slow = random.random() < self.loss
        if is_slow:  # when it comes it has been sent again, or its transaction has ended
            late = self._write_again if random.random() < 0.5 else self._give_up
            self._world.after(_LOSS_US, self.process, late, sending)
        self._world.after(random.randrange(_SLOW_US if is_slow else 3_000), None, arrive)

    def _write_again(self, sending: int) -> None:
        if sending == self._sending:
            self._write()

    def _give_up(self, sending: int) -> None:
        """The record may still come: its sequence cannot be used again, and so not its epoch."""
        if sending == self._sending:
            self._sending += 1
            self._send_end(commit=False, anew=True)

    def _written(self, output: int) -> None:
        self._sequences[output] += 1
        del self._left[0]
        self._write()

    def _offsets(self) -> None:
        if self._bumping:
            self._commit_offsets()
            return
        request = m.AddOffsetsToTxnRequest(
            transactional_id=self._id,
            producer_id=self._producer[0],
            producer_epoch=self._producer[1],
            group_id=GROUP,
        )

        def then(answer: Message | None) -> None:
            error = ErrorCode(answer.error_code) if isinstance(answer, m.AddOffsetsToTxnResponse) else None
            if error is ErrorCode.NONE:
                self._commit_offsets()
            else:
                self._failed(error, self._offsets)

        self._call(self._coordinator, request, 3, then)

    def _commit_offsets(self) -> None:
        group = self._group
        request = m.TxnOffsetCommitRequest(
            transactional_id=self._id,
            group_id=GROUP,
            producer_id=self._producer[0],
            producer_epoch=self._producer[1],
            member_id=self.who[0],
            generation_id=self.who[1],
            topics=[
                m.TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(
                    name=INPUT,
                    partitions=[
                        m.TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(
                            partition_index=self._input, committed_offset=self._position + self._count
                        )
                    ],
                )
            ],
        )

        def then(answer: Message | None) -> None:
            error = None
            if isinstance(answer, m.TxnOffsetCommitResponse):
                error = ErrorCode(answer.topics[0].partitions[0].error_code)
            if error is ErrorCode.NONE:
                self._end()
            else:
                self._failed(error, self._commit_offsets)

        def verified(error: ErrorCode) -> None:
            if error:
                timed_out = error is ErrorCode.REQUEST_TIMED_OUT
                self._world.after(0, self.process, self._failed, None if timed_out else error, self._commit_offsets)
            else:
                self._call(group, request, 3, then)

        verifier = Verifier(self._world, self._coordinator, self.loss)
        verifier.admit(lambda: group.gate, OFFSETS, self._id, self._producer, bumping=self._bumping, then=verified)

    def _end(self) -> None:
        self._send_end(commit=self._world.random.random() < 0.8)

    def _send_end(self, *, commit: bool, anew: bool = False) -> None:
        attempt = self._attempt

        def then(answer: Message | None) -> None:
            error = ErrorCode(answer.error_code) if isinstance(answer, m.EndTxnResponse) else None
            if error is not ErrorCode.NONE:
                self._failed(error, lambda: self._send_end(commit=commit, anew=anew))
                return
            assert isinstance(answer, m.EndTxnResponse)
            self._books.ended(attempt, commit=commit)
            if self._bumping:
                self._adopt((answer.producer_id, answer.producer_epoch))
            self._position += self._count if commit else 0
            if anew:
                self._again(self._init)
            elif self._world.random.random() < 0.2:
                self._again(self._fetch)
            else:
                self._next()

        version = 5 if self._bumping else 3
        self._call(self._coordinator, end_request(self._id, self._producer, commit=commit), version, then)
