"""Drives the transaction coordinator as a broker would: effects on a log, a clock, timers, markers and ids of its own.

What stays true: every request and answer goes through its bytes; a second answer to one request is an error, and so is
a marker for a transaction that has the other one already; what is appended is replayed from bytes when the shard is
loaded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import TypeVar

from cluster.coordinator.context import RequestContext
from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.runtime import AskKey, Runtime, TimerKey
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.coordinator.transaction_records import Fact, decode
from cluster.effects import Append, Ask, CancelAsk, CancelTimer, Effect, Note, Reply, SetTimer, Shard
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import FewTopics

STATE = "__transaction_state"
FIRST_ID = 1_000
Response = TypeVar("Response", bound=Message)
Told = tuple[ErrorCode, int, int]
"""An error, or NONE with a producer id and its epoch."""


class Driver:
    """`commits`: whether an append is committed at once. `marks`, `gives_ids`: whether questions are answered at once.
    `write_error`: what the next appends fail with."""

    def __init__(self, config: TransactionConfig | None = None, *, partitions: int = 1, host: bool = True) -> None:
        self.config = config or TransactionConfig()
        self.partitions = partitions
        self.topics = FewTopics({STATE: partitions, "__consumer_offsets": 5, "t": 4, "u": 2})
        self.next_id = FIRST_ID
        self.now_ms = 1_000_000
        self.leader_epoch = 0
        self.runtime = Runtime([TransactionKind(self.config, self.topics)])
        self.logs: dict[Shard, list[tuple[bytes, bytes | None]]] = {}
        self.high: dict[Shard, int] = {}
        self.timers: dict[Hashable, int] = {}
        self.answers: dict[Hashable, Message] = {}
        self.asked: dict[Hashable, RequestContext] = {}
        self.seen: list[Effect] = []
        self.seen_ms: list[int] = []
        self.waiting: deque[Append] = deque()
        self.questions: dict[AskKey, NewProducerId | WriteMarkers] = {}
        self.marked: list[WriteMarkers] = []
        self.commits = True
        self.appends = True
        self.marks = True
        self.gives_ids = True
        self.write_error: ErrorCode | None = None
        if host:
            for partition in range(partitions):
                self.load(partition)

    # What the broker does -----------------------------------------------------------------------------------------

    def load(self, partition: int = 0) -> None:
        if self.runtime.load_start(STATE, partition, self.leader_epoch):
            shard = Shard(STATE, partition)
            for offset, (key, value) in enumerate(self.logs.get(shard, [])):
                self.runtime.replay(STATE, partition, key, value, offset)
            self.carry_out(self.runtime.load_done(STATE, partition, self.now_ms))
            self.commit(partition)

    def unload(self, partition: int = 0) -> None:
        self.carry_out(self.runtime.unload(STATE, partition))

    def restart(self, *, cut: bool = False) -> None:
        """Another broker takes over the log as it stands. `cut`: it never got what is not committed."""
        for partition in range(self.partitions):
            self.unload(partition)
        if cut:
            self.logs = {shard: log[: self.high.get(shard, 0)] for shard, log in self.logs.items()}
        assert not self.questions, "nobody called off what the shard had asked"
        self.waiting.clear()
        self.leader_epoch += 1
        self.runtime = Runtime([TransactionKind(self.config, self.topics)])
        assert all(isinstance(key, TimerKey) and key.inner is None for key in self.timers)
        self.timers.clear()
        for partition in range(self.partitions):
            self.load(partition)

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.seen.append(effect)
            self.seen_ms.append(self.now_ms)
            if isinstance(effect, Reply):
                assert effect.reply_to not in self.answers, f"second answer to {effect.reply_to}: {effect.message}"
                ctx = self.asked[effect.reply_to]
                assert isinstance(effect.message, Message)
                self.answers[effect.reply_to] = _through_bytes(effect.message, ctx.api_version)
            elif isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.deadline_ms
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
            elif isinstance(effect, Append):
                self.waiting.append(effect)
            elif isinstance(effect, Ask):
                assert isinstance(effect.key, AskKey)
                assert effect.key not in self.questions
                assert isinstance(effect.question, (NewProducerId, WriteMarkers))
                self.questions[effect.key] = effect.question
            elif isinstance(effect, CancelAsk):
                assert isinstance(effect.key, AskKey)
                del self.questions[effect.key]
            else:
                assert isinstance(effect, Note)
        if self.appends:
            self.append_all()
        self.answer_questions()

    def append_all(self) -> None:
        while self.waiting:
            append = self.waiting.popleft()
            log = self.logs.setdefault(append.shard, [])
            if self.write_error is not None:
                self.carry_out(self.runtime.appended(append.token, self.write_error, -1, self.now_ms))
                continue
            base = len(log)
            log += append.records
            self.carry_out(self.runtime.appended(append.token, base, len(log) - 1, self.now_ms))
            if self.commits:
                self.commit(append.shard.partition)

    def commit(self, partition: int = 0) -> None:
        shard = Shard(STATE, partition)
        high_watermark = self.high[shard] = len(self.logs.get(shard, []))
        self.carry_out(self.runtime.committed(STATE, partition, high_watermark, self.now_ms))

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

    def advance(self, by_ms: int) -> None:
        """Let time pass, timer after timer."""
        until = self.now_ms + by_ms
        while self.timers:
            key = min(self.timers, key=lambda each: self.timers[each])
            if self.timers[key] > until:
                break
            self.now_ms = max(self.now_ms, self.timers.pop(key))
            assert isinstance(key, TimerKey)
            self.carry_out(self.runtime.timer(key, self.now_ms))
        self.now_ms = until

    def stored(self, partition: int = 0) -> list[Fact | None]:
        return [decode(key, value) for key, value in self.logs.get(Shard(STATE, partition), [])]

    # What clients do ----------------------------------------------------------------------------------------------

    def send(self, who: Hashable, request: Message, version: int) -> Hashable:
        """Send a request; `who` names it for `answer`."""
        assert who not in self.asked, f"{who} was used before"
        ctx = RequestContext(who, type(request).api_key, version, "c", "127.0.0.1", "User:ANONYMOUS")
        self.asked[who] = ctx
        self.carry_out(self.runtime.request(None, ctx, _through_bytes(request, version), self.now_ms))
        return who

    def ask(self, request: Message, version: int, kind: type[Response]) -> Response:
        """Send a request that is answered at once."""
        return self.answer(self.send(("ask", len(self.asked)), request, version), kind)

    def answer(self, who: Hashable, kind: type[Response]) -> Response:
        answer = self.answers[who]
        assert isinstance(answer, kind)
        return answer

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


def _through_bytes(message: Message, version: int) -> Message:
    return type(message).decode(message.encode(version), version)
