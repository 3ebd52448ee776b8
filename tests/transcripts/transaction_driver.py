"""Drives the transaction coordinator: markers and producer ids of its own, and what its clients ask.

What stays true, beside what ShardDriver says: a marker for a transaction that has the other one already is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.runtime import AskKey
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.coordinator.transaction_records import Fact, decode
from cluster.effects import Append, Ask, CancelAsk, Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.shard_driver import FewTopics, ShardDriver

STATE = "__transaction_state"
FIRST_ID = 1_000
Told = tuple[ErrorCode, int, int]
"""An error, or NONE with a producer id and its epoch."""


class Driver(ShardDriver):
    """See ShardDriver. `marks`, `gives_ids`: whether questions are answered at once. `host`: whether all shards are
    loaded at once."""

    def __init__(self, config: TransactionConfig | None = None, *, partitions: int = 1, host: bool = True) -> None:
        self.config = config or TransactionConfig()
        self.next_id = FIRST_ID
        self.questions: dict[AskKey, NewProducerId | WriteMarkers] = {}
        self.marked: list[WriteMarkers] = []
        self.marks = True
        self.gives_ids = True
        super().__init__(STATE, FewTopics({STATE: partitions, "__consumer_offsets": 5, "t": 4, "u": 2}))
        if host:
            self.load_all()

    # What the broker does -----------------------------------------------------------------------------------------

    def kind(self) -> TransactionKind:
        return TransactionKind(self.config, self.topics)

    def written(self, append: Append, base_offset: int) -> None:
        assert append.producer is None, "what is said of transactions is in none"

    def unload(self, partition: int = 0) -> None:
        super().unload(partition)
        of_others = [key for key in self.questions if key.shard.partition != partition]
        assert len(of_others) == len(self.questions), "nobody called off what the shard had asked"

    def ask_of(self, ask: Ask) -> None:
        assert isinstance(ask.key, AskKey)
        assert ask.key not in self.questions
        assert isinstance(ask.question, (NewProducerId, WriteMarkers))
        self.questions[ask.key] = ask.question

    def call_off(self, ask: CancelAsk) -> None:
        assert isinstance(ask.key, AskKey)
        del self.questions[ask.key]

    def answer_questions(self) -> None:
        for key, question in list(self.questions.items()):
            if isinstance(question, NewProducerId):
                if self.gives_ids:
                    self.next_id += 1
                    self.tell(key, self.next_id - 1)
            elif self.marks:
                self.tell(key, ErrorCode.NONE)

    def tell(self, key: AskKey, answer: object) -> None:
        """Answer a question, if it is still asked."""
        question = self.questions.pop(key, None)
        if question is None:
            return
        if isinstance(question, WriteMarkers) and answer is ErrorCode.NONE:
            for other in self.marked:
                if (other.producer_id, other.producer_epoch) == (question.producer_id, question.producer_epoch):
                    # With transaction version 2 an epoch has one transaction, before it a producer has many: but none
                    # is ended twice in a row without a record in between.
                    assert question.transaction_version < 2 or other.commit == question.commit, "ended both ways"
            self.marked.append(question)
        self.carry_out(self.runtime.told(key, answer, self.now_ms))

    def stored(self, partition: int = 0) -> list[Fact | None]:
        return [decode(key, value) for key, value in self.logs.get(Shard(STATE, partition), [])]

    # What clients do ----------------------------------------------------------------------------------------------

    def init(
        self,
        transactional_id: str = "a",
        *,
        timeout_ms: int = 60_000,
        known: tuple[int, int] = (-1, -1),
        version: int = 4,
    ) -> Told:
        answer = self.ask(
            init_request(transactional_id, timeout_ms=timeout_ms, known=known), version, m.InitProducerIdResponse
        )
        return ErrorCode(answer.error_code), answer.producer_id, answer.producer_epoch

    def add(
        self,
        producer: tuple[int, int],
        *partitions: tuple[str, int],
        transactional_id: str = "a",
        version: int = 3,
        verify: bool = False,
    ) -> list[ErrorCode]:
        request = add_request(transactional_id, producer, partitions, version, verify=verify)
        return added(self.ask(request, version, m.AddPartitionsToTxnResponse))

    def add_offsets(
        self, producer: tuple[int, int], group: str = "g", *, transactional_id: str = "a", version: int = 3
    ) -> ErrorCode:
        request = m.AddOffsetsToTxnRequest(
            transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], group_id=group
        )
        return ErrorCode(self.ask(request, version, m.AddOffsetsToTxnResponse).error_code)

    def end(
        self, producer: tuple[int, int], *, commit: bool = True, transactional_id: str = "a", version: int = 3
    ) -> Told:
        request = end_request(transactional_id, producer, commit=commit)
        answer = self.ask(request, version, m.EndTxnResponse)
        return ErrorCode(answer.error_code), answer.producer_id, answer.producer_epoch

    def describe(self, transactional_id: str = "a") -> m.DescribeTransactionsResponse.TransactionState:
        request = m.DescribeTransactionsRequest(transactional_ids=[transactional_id])
        (state,) = self.ask(request, 0, m.DescribeTransactionsResponse).transaction_states
        return state

    def state(self, transactional_id: str = "a") -> str:
        described = self.describe(transactional_id)
        return described.transaction_state or ErrorCode(described.error_code).name

    def begun(
        self, *partitions: tuple[str, int], transactional_id: str = "a", timeout_ms: int = 60_000
    ) -> tuple[int, int]:
        """A producer with a transaction in these partitions; its id and epoch."""
        error, *producer = self.init(transactional_id, timeout_ms=timeout_ms)
        assert error is ErrorCode.NONE, error
        known = (producer[0], producer[1])
        if partitions:
            assert set(self.add(known, *partitions, transactional_id=transactional_id)) == {ErrorCode.NONE}
        return known


def init_request(
    transactional_id: str | None, *, timeout_ms: int = 60_000, known: tuple[int, int] = (-1, -1)
) -> m.InitProducerIdRequest:
    return m.InitProducerIdRequest(
        transactional_id=transactional_id,
        transaction_timeout_ms=timeout_ms,
        producer_id=known[0],
        producer_epoch=known[1],
    )


def end_request(transactional_id: str, producer: tuple[int, int], *, commit: bool) -> m.EndTxnRequest:
    return m.EndTxnRequest(
        transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], committed=commit
    )


def add_request(
    transactional_id: str,
    producer: tuple[int, int],
    partitions: Iterable[tuple[str, int]],
    version: int,
    *,
    verify: bool = False,
) -> m.AddPartitionsToTxnRequest:
    """For one transaction, as the version says it."""
    topics: dict[str, m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic] = {}
    for name, partition in partitions:
        topic = topics.setdefault(name, m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=name))
        topic.partitions.append(partition)
    if version < 4:
        assert not verify
        return m.AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=transactional_id,
            v3_and_below_producer_id=producer[0],
            v3_and_below_producer_epoch=producer[1],
            v3_and_below_topics=list(topics.values()),
        )
    return m.AddPartitionsToTxnRequest(
        transactions=[
            m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
                transactional_id=transactional_id,
                producer_id=producer[0],
                producer_epoch=producer[1],
                verify_only=verify,
                topics=list(topics.values()),
            )
        ]
    )


def added(answer: m.AddPartitionsToTxnResponse) -> list[ErrorCode]:
    """The error of each partition."""
    topics = [
        *answer.results_by_topic_v3_and_below,
        *(topic for result in answer.results_by_transaction for topic in result.topic_results),
    ]
    return [ErrorCode(each.partition_error_code) for topic in topics for each in topic.results_by_partition]
