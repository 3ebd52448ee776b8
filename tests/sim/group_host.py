"""The group coordinator of one shard in the simulator: the real machine over a log that can lose its end.

What stays true: one incarnation serves at a time; what is below the high watermark survives every failover, of the
rest a random part does; every committed record goes through the checks, in the order of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from cluster.coordinator.context import GroupConfig, RequestContext
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.group_records import Fact, OffsetCommitted, decode, encode
from cluster.coordinator.runtime import Runtime, Taken, TimerKey
from cluster.coordinator.shard import Marker
from cluster.effects import Append, CancelTimer, Effect, Reply, SetTimer
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.world import Process, Violation, World
from tests.transcripts.front import Front

OFFSETS = "__consumer_offsets"
TOPIC = "t"
PARTITIONS = 6
_LOAD_US = 40_000
_MARKER_RETRY_US = 20_000
_TAKEN = 0.5


class OneTopic:
    """It never changes, but may be said to have."""

    def __init__(self) -> None:
        self.changes = 0

    def partition_count(self, topic: str) -> int:
        return {OFFSETS: 1, TOPIC: PARTITIONS}.get(topic, 0)

    def topic_id(self, topic: str) -> bytes | None:
        return topic.encode().ljust(16, b".")[:16] if self.partition_count(topic) else None

    def topic_name(self, topic_id: bytes) -> str | None:
        return TOPIC if topic_id == self.topic_id(TOPIC) else None

    def version(self) -> int:
        return self.changes

    def partition_racks(self, topic: str) -> Sequence[Iterable[str]]:
        return [()] * self.partition_count(topic)


class Record:
    """One of the log. `producer_id`: of its transaction, -1: none. `marker`: it ends one. `epoch`, `coordinator_epoch`:
    of the producer, and of who wrote the marker, in stories that look at them."""

    __slots__ = ("coordinator_epoch", "epoch", "key", "marker", "producer_id", "value")

    def __init__(self, key: bytes, value: bytes | None, producer_id: int = -1, marker: Marker | None = None) -> None:
        self.key = key
        self.value = value
        self.producer_id = producer_id
        self.marker = marker
        self.epoch = -1
        self.coordinator_epoch = -1


class GroupHost:
    """The broker that leads the shard now; after a failover, another."""

    def __init__(self, world: World, config: GroupConfig) -> None:
        self.world = world
        self.log: list[Record] = []
        self.high_watermark = 0
        self.errors = 0.0
        self.commit_us = 8_000  # how long replication may take
        self.failovers = 0
        self.life = 0  # of the group: it rises when one that was empty begins anew
        self.committed: dict[int, tuple[int, int]] = {}  # by partition the newest offset that counts, and where it is
        self.open: set[int] = set()  # transactions
        self._ends: list[int] = []  # of batches that may be lost: each as a whole
        self._producers = 0
        self._ended: set[int] = set()  # whose marker is committed
        self._held: dict[int, list[tuple[OffsetCommitted, int]]] = {}
        self._checked = 0
        self._config = config
        self._ids = 0
        self._requests = 0
        self._answers: dict[Hashable, Callable[[Message], None]] = {}
        self._timers: dict[Hashable, int] = {}
        self.topics = OneTopic()
        self.front = Front(self.topics.version)
        self._begin()

    def _begin(self) -> None:
        self.process = Process(f"coordinator {self.failovers}")
        self._answers.clear()
        self._timers.clear()
        before, self.front = self.front, Front(self.topics.version)
        self.front.answered, self.front.took = before.answered, before.took
        self._taken: list[tuple[int, Callable[[Message], None], Message]] = []
        kind = GroupKind(self._config, self._new_id, self.topics, heard=self.front.heard_ms)
        self.runtime = Runtime([kind])
        self.world.after(self.world.random.randrange(_LOAD_US), self.process, self._load)

    def _new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"

    def _load(self) -> None:
        """Requests come in between, while the shard is known to be loading."""
        self.runtime.load_start(OFFSETS, 0, self.failovers)
        self.world.after(self.world.random.randrange(_LOAD_US), self.process, self._loaded)

    def _loaded(self) -> None:
        for offset, record in enumerate(self.log):
            if record.marker is not None:
                marker = record.marker
                self.runtime.replay_marker(OFFSETS, 0, marker.producer_id, commit=marker.commit)
            else:
                self.runtime.replay(OFFSETS, 0, record.key, record.value, offset, record.producer_id)
        self.carry_out(self.runtime.load_done(OFFSETS, 0, self.world.now_ms))
        self._commit(len(self.log))

    def fail_over(self) -> None:
        """Another takes over. Who waits here hears of it, or of nothing."""
        random = self.world.random
        ends = [self.high_watermark, *(end for end in self._ends if end > self.high_watermark)]
        kept = random.choice([ends[0], ends[-1], random.choice(ends)])
        self.world.say(self.process.name, "is gone", f"{len(self.log) - kept} records lost")
        if random.random() < 0.5:
            self.carry_out(self.runtime.unload(OFFSETS, 0))
        self.process.alive = False
        del self.log[kept:]
        self._ends = [end for end in self._ends if self.high_watermark < end <= kept]
        self.failovers += 1
        self._begin()

    def request(self, ctx: RequestContext, message: Message, answer: Callable[[Message], None]) -> None:
        """What a transaction that has ended sends late is not let in: the broker verifies it before."""
        if isinstance(message, m.TxnOffsetCommitRequest) and message.producer_id not in self.open:
            return
        told = self.front.answer(ctx, message, self.world.now_ms)
        if told is not None:
            answer(told)
            return
        if isinstance(message, m.OffsetCommitRequest) and self._takes(ctx, message):
            self._take(message, answer)
            return
        self._requests += 1
        reply_to = self._requests
        self._answers[reply_to] = answer
        ctx = ctx._replace(reply_to=reply_to)
        self.carry_out(self.runtime.request(None, ctx, message, self.world.now_ms))

    def begin_transaction(self) -> int:
        """The producer id of a new one; each has its own, as if every epoch were a producer."""
        self._producers += 1
        self.open.add(self._producers)
        return self._producers

    def end_transaction(self, producer_id: int, ended: Callable[[], None], *, commit: bool) -> None:
        """The coordinator of transactions writes the marker, again and again until it is committed."""
        self.open.discard(producer_id)
        if producer_id in self._ended:
            ended()
            return
        if self.runtime.is_serving(OFFSETS, 0):
            marker = Marker(producer_id, commit)
            self.log.append(Record(b"", None, producer_id, marker))
            self._ends.append(len(self.log))
            self.carry_out(self.runtime.marker(OFFSETS, 0, marker, len(self.log) - 1, self.world.now_ms))
            self.world.after(self.world.random.randrange(self.commit_us), self.process, self._commit, len(self.log))
        self.world.after(_MARKER_RETRY_US, None, lambda: self.end_transaction(producer_id, ended, commit=commit))

    def _takes(self, ctx: RequestContext, request: m.OffsetCommitRequest) -> bool:
        """Not all that could be taken is: what is not is the machine's."""
        return self.world.chance(_TAKEN) and self.front.takes(ctx, request, self.world.now_ms) is not None

    def _take(self, request: m.OffsetCommitRequest, answer: Callable[[Message], None]) -> None:
        """Offsets are written here; the machine hears of it at once, who sent them when they are committed."""
        random = self.world.random
        (topic,) = request.topics
        facts = [
            OffsetCommitted("g", topic.name, each.partition_index, each.committed_offset, -1, "", self.world.now_ms)
            for each in topic.partitions
        ]
        error = ErrorCode.COORDINATOR_NOT_AVAILABLE if random.random() < self.errors else ErrorCode.NONE
        answered = m.OffsetCommitResponse.OffsetCommitResponsePartition
        entries = [answered(partition_index=each.partition, error_code=error) for each in facts]
        told = m.OffsetCommitResponse.OffsetCommitResponseTopic(name=topic.name, partitions=entries)
        response = m.OffsetCommitResponse(topics=[told])
        if error:
            answer(response)
            return
        base = len(self.log)
        records = [(key, value) for key, value in map(encode, facts) if value is not None]
        self.log += [Record(key, value) for key, value in records]
        self._ends.append(len(self.log))
        taken = Taken(records, base, self.failovers, self.high_watermark)
        self.carry_out(self.runtime.taken(OFFSETS, 0, taken, self.world.now_ms))
        self._taken.append((len(self.log), answer, response))
        self.world.after(random.randrange(self.commit_us), self.process, self._commit, len(self.log))

    # Effects ------------------------------------------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.front.carry_out(effect):
                continue
            if isinstance(effect, Reply):
                assert isinstance(effect.message, Message)
                self._answers.pop(effect.reply_to)(effect.message)  # KeyError: it was answered before
            elif isinstance(effect, Append):
                self._append(effect)
            elif isinstance(effect, SetTimer):
                self._timers[effect.key] = effect.deadline_ms
                self.world.after(
                    (effect.deadline_ms - self.world.now_ms) * 1000,
                    self.process,
                    self._due,
                    effect.key,
                    effect.deadline_ms,
                )
            elif isinstance(effect, CancelTimer):
                self._timers.pop(effect.key, None)

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
        base = len(self.log)
        producer_id = -1 if append.producer is None else append.producer.producer_id
        self.log += [Record(key, value, producer_id) for key, value in append.records]
        self._ends.append(len(self.log))
        self.world.after(0, self.process, self._appended, append.token, base, len(self.log) - 1)
        self.world.after(random.randrange(self.commit_us), self.process, self._commit, len(self.log))

    def _appended(self, token: int, base_or_error: int | ErrorCode, last: int) -> None:
        self.carry_out(self.runtime.appended(token, base_or_error, last, self.world.now_ms))

    def _commit(self, high_watermark: int) -> None:
        self.high_watermark = max(self.high_watermark, high_watermark)
        self._check()
        self.carry_out(self.runtime.committed(OFFSETS, 0, self.high_watermark, self.world.now_ms))
        while self._taken and self._taken[0][0] <= self.high_watermark:
            _, answer, response = self._taken.pop(0)
            answer(response)

    # Checks -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """What is committed of each partition's offset never falls. Those of a transaction count from its marker on."""
        for at in range(self._checked, self.high_watermark):
            record = self.log[at]
            if record.marker is not None:
                held = self._held.pop(record.producer_id, [])
                for held_fact, held_at in held if record.marker.commit else []:
                    self._advance(held_fact, held_at)
                self._ended.add(record.producer_id)
                continue
            fact = decode(record.key, record.value)
            self.noted(fact)
            if isinstance(fact, OffsetCommitted):
                if record.producer_id < 0:
                    self._advance(fact, at)
                else:
                    self._held.setdefault(record.producer_id, []).append((fact, at))
        self._checked = max(self._checked, self.high_watermark)

    def noted(self, fact: Fact | None) -> None:
        """A committed record, in the order of the log."""

    def _advance(self, fact: OffsetCommitted, at: int) -> None:
        before, before_at = self.committed.get(fact.partition, (0, -1))
        if at < before_at:
            return  # a later one was committed before this one's transaction
        if fact.offset < before:
            raise Violation(f"{fact.topic}-{fact.partition} went from {before} back to {fact.offset}")
        self.committed[fact.partition] = (fact.offset, at)

    def facts(self) -> list[Fact | None]:
        """The log as facts."""
        return [decode(record.key, record.value) for record in self.log if record.marker is None]
