"""The brokers of the transaction story: shards of coordinators over logs that can lose their end, and data partitions.

What stays true: one incarnation of a shard serves at a time; what is below the high watermark survives every failover,
of the rest a random part does. A partition takes records of a transaction only when its coordinator says that they are
part of it, and no marker came while it was asked; a marker only from a coordinator that is not older than the last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from cluster.coordinator.context import RequestContext
from cluster.coordinator.questions import WriteMarkers
from cluster.coordinator.runtime import AskKey, Runtime, TimerKey
from cluster.coordinator.shard import Kind, Marker
from cluster.effects import Append, Ask, CancelAsk, CancelTimer, Effect, Reply, SetTimer
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.group_host import Record
from tests.sim.world import Process, Violation, World
from tests.transcripts.transaction_driver import add_request, added

BUMPING = 2
_LOAD_US = 40_000
_DELAY_US = 3_000
_ANSWER_US = 400_000

Answered = Callable[[Message | None], None]
Told = Callable[[ErrorCode], None]


class ShardHost:
    """The broker that leads a shard now; after a failover, another. `ask`: carries out its questions."""

    def __init__(
        self, world: World, topic: str, make: Callable[[], Kind], ask: Callable[[ShardHost, Ask], None]
    ) -> None:
        self.world = world
        self.topic = topic
        self.log: list[Record] = []
        self.high_watermark = 0
        self.errors = 0.0
        self.commit_us = 8_000
        self.failovers = 0
        self.asked: dict[AskKey, object] = {}
        self.gate = Gate()
        self._make = make
        self._ask = ask
        self._ends: list[int] = []  # of batches that may be lost: each as a whole
        self._requests = 0
        self._answers: dict[Hashable, Callable[[Message], None]] = {}
        self._timers: dict[Hashable, int] = {}
        self._markers: list[tuple[int, Told]] = []
        self._begin()

    def _begin(self) -> None:
        self.process = Process(f"{self.topic} {self.failovers}")
        self._answers.clear()
        self._timers.clear()
        self.asked.clear()
        self._markers.clear()
        self.gate = Gate()
        self.runtime = Runtime([self._make()])
        self.world.after(self.world.random.randrange(_LOAD_US), self.process, self._load)

    def _load(self) -> None:
        self.runtime.load_start(self.topic, 0, self.failovers)
        self.world.after(self.world.random.randrange(_LOAD_US), self.process, self._loaded)

    def _loaded(self) -> None:
        for offset, record in enumerate(self.log):
            if record.marker is not None:
                self.gate.replayed(record, is_marker=True)
                self.runtime.replay_marker(self.topic, 0, record.producer_id, commit=record.marker.commit)
            else:
                self.gate.replayed(record, is_marker=False)
                self.runtime.replay(self.topic, 0, record.key, record.value, offset, record.producer_id)
        self.carry_out(self.runtime.load_done(self.topic, 0, self.world.now_ms))
        self._commit(len(self.log))

    def fail_over(self) -> None:
        random = self.world.random
        ends = [self.high_watermark, *(end for end in self._ends if end > self.high_watermark)]
        kept = random.choice([ends[0], ends[-1], random.choice(ends)])
        self.world.say(self.process.name, "is gone", f"{len(self.log) - kept} records lost")
        if random.random() < 0.5:
            self.carry_out(self.runtime.unload(self.topic, 0))
        self.process.alive = False
        del self.log[kept:]
        self._ends = [end for end in self._ends if self.high_watermark < end <= kept]
        self.failovers += 1
        self._begin()

    def is_serving(self) -> bool:
        return self.runtime.is_serving(self.topic, 0)

    def request(self, message: Message, version: int, answer: Callable[[Message], None]) -> None:
        self._requests += 1
        self._answers[self._requests] = answer
        ctx = RequestContext(self._requests, type(message).api_key, version, "c", "127.0.0.1", "User:c")
        self.carry_out(self.runtime.request(None, ctx, message, self.world.now_ms))

    def mark(self, question: WriteMarkers, done: Told) -> None:
        """A marker for this shard's own log. Nothing is said where nobody serves."""
        if not self.is_serving():
            return
        error = self.gate.mark(question)
        if error:
            done(error)
            return
        if error is ErrorCode.NONE:  # it is there, but may still be lost
            self._markers.append((len(self.log), done))
            self._commit_soon()
            return
        record = Record(b"", None, question.producer_id, Marker(question.producer_id, question.commit))
        record.epoch = question.producer_epoch
        record.coordinator_epoch = question.coordinator_epoch
        self.log.append(record)
        assert record.marker is not None
        self._markers.append((len(self.log), done))
        self.carry_out(self.runtime.marker(self.topic, 0, record.marker, len(self.log) - 1, self.world.now_ms))
        self._commit_soon()

    # Effects ------------------------------------------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                assert isinstance(effect.message, Message)
                self._answers.pop(effect.reply_to)(effect.message)  # KeyError: it was answered before
            elif isinstance(effect, Append):
                self._append(effect)
            elif isinstance(effect, SetTimer):
                self._timers[effect.key] = effect.deadline_ms
                delay_us = (effect.deadline_ms - self.world.now_ms) * 1000
                self.world.after(delay_us, self.process, self._due, effect.key, effect.deadline_ms)
            elif isinstance(effect, CancelTimer):
                self._timers.pop(effect.key, None)
            elif isinstance(effect, Ask):
                assert isinstance(effect.key, AskKey)
                self.asked[effect.key] = effect.question
                self._ask(self, effect)
            elif isinstance(effect, CancelAsk):
                assert isinstance(effect.key, AskKey)
                self.asked.pop(effect.key)

    def tell(self, key: AskKey, question: object, answer: object) -> None:
        """The answer to what this incarnation asked."""
        if self.asked.get(key) is question:
            del self.asked[key]
            self.carry_out(self.runtime.told(key, answer, self.world.now_ms))

    def _due(self, key: TimerKey, deadline_ms: int) -> None:
        if self._timers.get(key) == deadline_ms:
            del self._timers[key]
            self.carry_out(self.runtime.timer(key, self.world.now_ms))

    def _append(self, append: Append) -> None:
        random = self.world.random
        if random.random() < self.errors:
            error = random.choice([ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.KAFKA_STORAGE_ERROR])
            self.world.after(0, self.process, self._appended, append.token, error, -1)
            return
        if append.producer is not None and self.gate.is_late(append.producer.producer_id, append.producer.epoch):
            self.world.after(0, self.process, self._appended, append.token, ErrorCode.INVALID_PRODUCER_EPOCH, -1)
            return
        base = len(self.log)
        for key, value in append.records:
            record = Record(key, value, -1 if append.producer is None else append.producer.producer_id)
            record.epoch = -1 if append.producer is None else append.producer.epoch
            self.gate.replayed(record, is_marker=False)
            self.log.append(record)
        self.world.after(0, self.process, self._appended, append.token, base, len(self.log) - 1)
        self._commit_soon()

    def _appended(self, token: int, base_or_error: int | ErrorCode, last: int) -> None:
        self.carry_out(self.runtime.appended(token, base_or_error, last, self.world.now_ms))

    def _commit_soon(self) -> None:
        self._ends.append(len(self.log))
        self.world.after(self.world.random.randrange(self.commit_us), self.process, self._commit, len(self.log))

    def _commit(self, high_watermark: int) -> None:
        self.high_watermark = max(self.high_watermark, high_watermark)
        self.carry_out(self.runtime.committed(self.topic, 0, self.high_watermark, self.world.now_ms))
        markers, self._markers = self._markers, []
        for end, done in markers:
            if end <= self.high_watermark:
                done(ErrorCode.NONE)
            else:
                self._markers.append((end, done))


class Entry:
    """What a partition knows of a producer. `is_open`: there are records since its last marker."""

    __slots__ = ("coordinator_epoch", "epoch", "guard", "is_open", "next_sequence")

    def __init__(self) -> None:
        self.epoch = -1
        self.coordinator_epoch = -1
        self.is_open = False
        self.next_sequence = 0
        self.guard: object = None


class Gate:
    """Which records and markers a partition lets in."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}

    def entry(self, producer_id: int) -> Entry:
        return self.entries.setdefault(producer_id, Entry())

    def is_late(self, producer_id: int, epoch: int) -> bool:
        entry = self.entry(producer_id)
        return epoch < entry.epoch or not (entry.is_open or entry.guard is not None)

    def replayed(self, record: Record, *, is_marker: bool) -> None:
        if record.producer_id < 0:
            return
        entry = self.entry(record.producer_id)
        entry.epoch = record.epoch
        entry.is_open = not is_marker
        entry.guard = None
        if is_marker:
            entry.coordinator_epoch = record.coordinator_epoch

    def mark(self, question: WriteMarkers) -> ErrorCode | None:
        """None: it may be written."""
        entry = self.entry(question.producer_id)
        entry.guard = None
        if question.coordinator_epoch < entry.coordinator_epoch or question.producer_epoch < entry.epoch:
            return ErrorCode.TRANSACTION_COORDINATOR_FENCED
        if question.transaction_version >= BUMPING and question.producer_epoch == entry.epoch:
            # Of a transaction that has its marker. What is open, if anything, is the next one.
            return ErrorCode.TRANSACTION_COORDINATOR_FENCED if entry.is_open else ErrorCode.NONE
        if question.producer_epoch > entry.epoch:
            entry.next_sequence = 0
        entry.epoch = question.producer_epoch
        entry.coordinator_epoch = question.coordinator_epoch
        entry.is_open = False
        return None


class Verifier:
    """Asks the coordinator, for a partition, whether records are part of an open transaction."""

    def __init__(self, world: World, coordinator: ShardHost, loss: float) -> None:
        self.world = world
        self.coordinator = coordinator
        self.loss = loss

    def admit(
        self,
        gate: Callable[[], Gate],
        partition: tuple[str, int],
        transactional_id: str,
        producer: tuple[int, int],
        *,
        bumping: bool,
        then: Told,
    ) -> None:
        """`bumping`: its producer has not said that it would write here, so that is said now."""
        first = gate()
        entry = first.entry(producer[0])
        if producer[1] < entry.epoch:
            then(ErrorCode.INVALID_PRODUCER_EPOCH)
            return
        if entry.is_open and producer[1] == entry.epoch:
            then(ErrorCode.NONE)
            return
        guard = entry.guard = object()

        def verified(answer: Message | None) -> None:
            if answer is None:
                then(ErrorCode.REQUEST_TIMED_OUT)
                return
            assert isinstance(answer, m.AddPartitionsToTxnResponse)
            (error,) = added(answer)
            if not error and (gate() is not first or entry.guard is not guard):
                error = ErrorCode.NOT_ENOUGH_REPLICAS  # something came between: try again
            then(error)

        request = add_request(transactional_id, producer, [partition], 5, verify=not bumping)
        call(self.world, self.coordinator, None, request, 5, verified, self.loss)


def call(
    world: World,
    host: ShardHost,
    caller: Process | None,
    message: Message,
    version: int,
    then: Answered,
    loss: float,
) -> None:
    """A request that may be lost, or its answer; `then` is called once: with the answer, or None when it takes too
    long. What was given up may still arrive."""
    random = world.random
    settled = False

    def settle(answer: Message | None) -> None:
        nonlocal settled
        if not settled:
            settled = True
            then(answer)

    def reply(answer: Message) -> None:
        if random.random() >= loss:
            world.after(random.randrange(_DELAY_US), caller, settle, answer)

    def arrive() -> None:
        if host.process.alive:
            host.request(message, version, reply)

    if random.random() >= loss:
        slow = 100 if random.random() < loss else 1
        world.after(random.randrange(_DELAY_US) * slow, None, arrive)
    world.after(_ANSWER_US, caller, settle, None)


class DataPartition:
    """A partition of a topic; it loses nothing. `values`: by offset what was written, by whom; None at a marker."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.gate = Gate()
        self.records: list[tuple[int, object, bool]] = []

    def append(self, producer: tuple[int, int], sequence: int, value: object) -> ErrorCode:
        entry = self.gate.entry(producer[0])
        if self.gate.is_late(*producer):
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if producer[1] > entry.epoch:
            if entry.is_open:
                raise Violation(f"{producer} begins in {self.index} before its last transaction has a marker")
            entry.epoch, entry.next_sequence = producer[1], 0
        if sequence < entry.next_sequence:
            return ErrorCode.NONE  # written before
        if sequence > entry.next_sequence:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        entry.next_sequence += 1
        entry.is_open, entry.guard = True, None
        self.records.append((producer[0], value, False))
        return ErrorCode.NONE

    def mark(self, question: WriteMarkers, done: Told) -> None:
        was_open = self.gate.entry(question.producer_id).is_open
        error = self.gate.mark(question)
        if error is None and was_open:
            self.records.append((question.producer_id, None, question.commit))
        done(error or ErrorCode.NONE)

    def visible(self) -> list[object]:
        """To a read_committed reader, in the order of the log, up to the first open transaction."""
        ends: dict[int, list[bool]] = {}
        for producer_id, value, commit in self.records:
            if value is None:
                ends.setdefault(producer_id, []).append(commit)
        seen: list[object] = []
        at = dict.fromkeys(ends, 0)
        for producer_id, value, _ in self.records:
            mine = ends.get(producer_id, [])
            number = at.get(producer_id, 0)
            if value is None:
                at[producer_id] = number + 1
            elif number == len(mine):
                break
            elif mine[number]:
                seen.append(value)
        return seen
