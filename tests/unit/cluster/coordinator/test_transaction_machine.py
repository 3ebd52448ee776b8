"""Transactional ids under random producers, time, slow and failing writes, late markers and failovers.

Invariants, checked after every step:
  - in the log each record of an id may follow the one before it, a producer id's epochs only rise, and no producer id
    comes back: so a transaction ends one way only;
  - markers are asked for what the log has prepared, no more and no other end; no transaction is complete without them;
  - an end is prepared because the producer of that epoch asked for it; or it is an abort that locks it out;
  - no two producers are ever told the same producer id and epoch;
  - a producer that was told of its commit (abort) finds it in the log, for good;
  - nobody is answered twice (the driver checks), and after the shard is lost nobody is left waiting.
At the end all faults stop, and every transaction comes to its end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_records import Fact, TransactionalIdDeleted, TransactionStored, encode
from cluster.coordinator.transaction_state import AT_REST, EMPTY, PREPARE_ABORT, PREPARE_COMMIT, PREPARED, may_follow
from cluster.effects import Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.transaction_driver import STATE, Driver, add_request, end_request, init_request
from tests.unit.cluster.coordinator.shard_machine import ShardMachine

IDS = ("a", "b")
PARTITIONS = [("t", 0), ("t", 1), ("u", 0), ("__consumer_offsets", 3)]
TIMEOUT_MS = 15_000
SHARD = Shard(STATE, 0)


class Producer:
    """As far as the coordinator sees one. `bumping`: speaks transaction version 2."""

    def __init__(self, number: int, *, bumping: bool) -> None:
        self.number = number
        self.transactional_id = IDS[number % 2]
        self.bumping = bumping
        self.known: tuple[int, int] | None = None
        self.waits_for: tuple[str, int, int, bool] | None = None


class TransactionMachine(ShardMachine):
    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        self.producers: list[Producer] = []
        self.requests = 0
        self.owners: dict[tuple[int, int], int] = {}
        self.checked = 0
        self.last: dict[str, TransactionStored] = {}
        self.asked: set[tuple[str, int, int, bool]] = set()
        self.ends: list[tuple[str, int, TransactionStored]] = []

    @initialize(version=st.sampled_from([0, 1, 2]))
    def begin(self, version: int) -> None:
        config = TransactionConfig(abort_interval_ms=5_000, write_timeout_ms=10_000, transaction_version=version)
        self.driver = Driver(config)
        self.flexible = version > 0
        self.producers = [Producer(number, bumping=version == 2 and number > 1) for number in range(5)]

    # Producers ----------------------------------------------------------------------------------------------------

    def send(self, producer: Producer, kind: str, request: m.Message, version: int, *, commit: bool = False) -> None:
        self.requests += 1
        producer.waits_for = (kind, producer.number, self.requests, commit)
        self.driver.send(producer.waits_for, request, version)
        self.take_answers()

    @rule(number=st.integers(0, 4), is_known=st.booleans())
    def init(self, number: int, is_known: bool) -> None:
        producer = self.producers[number]
        known = producer.known if is_known and producer.known is not None else (-1, -1)
        request = init_request(producer.transactional_id, timeout_ms=TIMEOUT_MS, known=known)
        self.send(producer, "init", request, 5)

    @rule(number=st.integers(0, 4), partition=st.sampled_from(PARTITIONS))
    def add(self, number: int, partition: tuple[str, int]) -> None:
        producer = self.producers[number]
        if producer.known is not None:
            version = 5 if producer.bumping else 3
            request = add_request(producer.transactional_id, producer.known, [partition], version)
            self.send(producer, "add", request, version)

    @rule(number=st.integers(0, 4), commit=st.booleans())
    def end(self, number: int, commit: bool) -> None:
        producer = self.producers[number]
        if producer.known is not None:
            self.asked.add((producer.transactional_id, *producer.known, commit))
            request = end_request(producer.transactional_id, producer.known, commit=commit)
            self.send(producer, "end", request, 5 if producer.bumping else 3, commit=commit)

    @rule(number=st.integers(0, 4), partition=st.sampled_from(PARTITIONS), commit=st.booleans())
    def whole_transaction(self, number: int, partition: tuple[str, int], commit: bool) -> None:
        """What producers do all day: reaches deep states faster than by chance."""
        self.init(number, is_known=False)
        self.init(number, is_known=False)
        self.add(number, partition)
        self.end(number, commit)

    @rule(number=st.integers(0, 4), other=st.integers(0, 4), partition=st.sampled_from(PARTITIONS))
    def takes_over(self, number: int, other: int, partition: tuple[str, int]) -> None:
        """Another has begun, and the one before it asks for an end."""
        self.init(number, is_known=False)
        self.init(number, is_known=False)
        self.add(number, partition)
        self.end(other, commit=True)

    @rule(number=st.integers(0, 4), partition=st.sampled_from(PARTITIONS), commit=st.booleans())
    def slow_end(self, number: int, partition: tuple[str, int], commit: bool) -> None:
        """The log does not get on: it is told to ask again, and asks for the other end."""
        self.add(number, partition)
        self.driver.commits = False
        self.end(number, commit)
        self.time(10_000)
        self.end(number, not commit)

    def take_answers(self) -> None:
        for producer in self.producers:
            if producer.waits_for not in self.driver.answers:
                continue
            (kind, _, _, commit), producer.waits_for = producer.waits_for, None
            answer = self.driver.answers[(kind, producer.number, self.requests_of(kind, producer), commit)]
            if isinstance(answer, m.InitProducerIdResponse) and not answer.error_code:
                self.own(producer, answer.producer_id, answer.producer_epoch)
            elif isinstance(answer, m.EndTxnResponse) and not answer.error_code:
                self.ended(producer, answer, commit=commit)

    def requests_of(self, kind: str, producer: Producer) -> int:
        return max(
            number
            for what, who, number, _ in (key for key in self.driver.answers if isinstance(key, tuple))
            if (what, who) == (kind, producer.number)
        )

    def own(self, producer: Producer, producer_id: int, epoch: int) -> None:
        producer.known = (producer_id, epoch)
        assert self.owners.setdefault(producer.known, producer.number) == producer.number, "shared with another"

    def ended(self, producer: Producer, answer: m.EndTxnResponse, *, commit: bool) -> None:
        """The end is durable when it is told: the last of its id that was prepared, or what came of it."""
        high = self.driver.high[SHARD]
        facts = [
            (offset, fact)
            for offset, fact in enumerate(self.driver.stored()[:high])
            if isinstance(fact, TransactionStored)
            and fact.transactional_id == producer.transactional_id
            and fact.state in PREPARED
        ]
        offset, prepared = facts[-1]
        assert (prepared.state is PREPARE_COMMIT) == commit
        self.ends.append((producer.transactional_id, offset, prepared))
        if producer.bumping:
            self.own(producer, answer.producer_id, answer.producer_epoch)

    # The world ----------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 100, 1_000, 5_000, 10_000, 20_000]))
    def time(self, ms: int) -> None:
        self.driver.advance(ms)

    @rule(marks=st.booleans())
    def markers(self, marks: bool) -> None:
        self.driver.marks = marks
        self.driver.answer_questions()

    @rule(gives=st.booleans())
    def ids(self, gives: bool) -> None:
        self.driver.gives_ids = gives
        self.driver.answer_questions()

    @rule()
    def no_ids(self) -> None:
        for key in [key for key, each in self.driver.questions.items() if isinstance(each, NewProducerId)]:
            self.driver.tell(key, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)

    @rule(cut=st.booleans())
    def failover(self, cut: bool) -> None:
        if cut:
            self.forget_from(self.driver.high.get(SHARD, 0))
        self.driver.restart(cut=cut)
        for producer in self.producers:
            assert producer.waits_for is None or producer.waits_for in self.driver.answers, "left waiting"

    @rule(transactional_id=st.sampled_from(IDS))
    def use_up(self, transactional_id: str) -> None:
        """Many have begun anew meanwhile; the last epoch but one is left."""
        self.note_records()
        last = self.last.get(transactional_id)
        is_all_committed = self.driver.high.get(SHARD) == self.checked
        if last is not None and last.state in AT_REST and last.epoch < 32_766 and is_all_committed:
            self.driver.logs[SHARD].append(
                encode(last._replace(state=EMPTY, start_ms=-1, epoch=32_765), flexible=self.flexible)
            )
            self.driver.high[SHARD] += 1
            self.failover(cut=False)

    # What was promised --------------------------------------------------------------------------------------------

    def forget_from(self, high: int) -> None:
        """Records that were never committed are cut off: what was checked of them is checked again."""
        self.checked = 0
        self.last.clear()
        self.driver.logs[SHARD] = self.driver.logs.get(SHARD, [])[:high]

    def note_records(self) -> None:
        facts = self.driver.stored()
        for fact in facts[self.checked :]:
            assert fact is not None
            self.follows(fact)
        self.checked = len(facts)

    def follows(self, fact: Fact) -> None:
        before = self.last.pop(fact.transactional_id, None)
        if isinstance(fact, TransactionalIdDeleted):
            assert before is not None
            assert before.state in AT_REST
            return
        if before is not None:
            assert may_follow(before.state, fact.state), f"{before} -> {fact}"
            if fact.producer_id == before.producer_id:
                assert fact.epoch >= before.epoch
            else:
                assert fact.producer_id > before.producer_id
                assert fact.epoch == 0
            if fact.state in PREPARED:
                by = (fact.transactional_id, before.producer_id, before.epoch, fact.state is PREPARE_COMMIT)
                is_fence = fact.state is PREPARE_ABORT and fact.epoch > before.epoch
                assert is_fence or by in self.asked, "nobody asked for this end"
            if before.state in PREPARED and before.partitions:
                assert any(
                    (each.producer_id, each.producer_epoch, each.commit, each.partitions)
                    == (before.producer_id, before.epoch, before.state is PREPARE_COMMIT, before.partitions)
                    for each in self.driver.marked
                ), "complete without its markers"
        self.last[fact.transactional_id] = fact

    @invariant()
    def records_follow_each_other(self) -> None:
        if self.producers:
            self.note_records()

    @invariant()
    def markers_are_of_what_is_prepared(self) -> None:
        if not self.producers:
            return
        self.note_records()
        for question in self.driver.questions.values():
            if isinstance(question, WriteMarkers):
                prepared = self.last[question.transactional_id]
                assert prepared.state in PREPARED or prepared.state.name.startswith("COMPLETE")
                if prepared.state in PREPARED:
                    assert question.commit == (prepared.state is PREPARE_COMMIT)
                    assert question.partitions == prepared.partitions
                    assert (question.producer_id, question.producer_epoch) == (prepared.producer_id, prepared.epoch)
                assert question.coordinator_epoch == self.driver.leader_epoch

    @invariant()
    def what_was_told_stays(self) -> None:
        if self.producers:
            self.take_answers()
            stored = self.driver.stored()
            for _, offset, prepared in self.ends:
                assert stored[offset] == prepared

    def teardown(self) -> None:
        if not self.producers:
            return
        driver = self.driver
        driver.write_error = None
        self.replication(commits=True)
        self.ids(gives=True)
        self.markers(marks=True)
        driver.advance(TIMEOUT_MS + 2 * driver.config.abort_interval_ms)
        self.note_records()
        for fact in self.last.values():
            assert fact.state in AT_REST, fact
        driver.unload()
        assert set(driver.asked) == set(driver.answers)


TransactionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestTransactionMachine = TransactionMachine.TestCase
