"""Transactions from a seed: workers die, hang and come back, both coordinators move, answers and markers get lost; then
all that ends.

What stays true, whatever happened: what a read_committed reader sees was never aborted, and nothing of it comes twice;
a transaction is seen whole or not at all; a worker that was told of an end finds that end. When the faults end, no
transaction stays open, and each input up to the committed offset is in the output, once.

    python -m tests.sim.transaction_story --seed 7        the events of one
    python -m tests.sim.transaction_story --seeds 500     many
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import ClassVar

from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.group_records import OffsetCommitted
from cluster.coordinator.group_records import decode as decode_group
from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.runtime import AskKey
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.coordinator.transaction_records import TransactionStored, decode
from cluster.coordinator.transaction_state import AT_REST
from cluster.effects import Ask
from pylog.errors import ErrorCode
from tests.sim import story
from tests.sim.group_host import OneTopic
from tests.sim.transaction_host import BUMPING, DataPartition, ShardHost
from tests.sim.transaction_worker import INPUT, OUTPUT, TIMEOUT_MS, Books, Worker
from tests.sim.world import Violation, World

STATE = "__transaction_state"
_FAULTS_US = 20_000_000
_CALM_US = (3 * TIMEOUT_MS + 10_000) * 1_000
_MARKER_RETRY_US = 20_000
_WRITE_TIMEOUT_MS = 600


class Topics(OneTopic):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._counts = {STATE: 1, "__consumer_offsets": 1, OUTPUT: 2, INPUT: inputs}

    def partition_count(self, topic: str) -> int:
        return self._counts.get(topic, 0)

    def topic_name(self, topic_id: bytes) -> str | None:
        return next((name for name in self._counts if self.topic_id(name) == topic_id), None)


class TransactionStory:
    """`at_work`: how many workers there are at a time, by place; `inputs`: partitions that they read.
    `work_on_us`: for how long they go on when the faults have ended."""

    kind: ClassVar[str] = "transaction"
    at_work: ClassVar[int] = 2
    inputs: ClassVar[int] = 2
    work_on_us: ClassVar[int] = 5_000_000
    consumers: ClassVar[ConsumerConfig] = ConsumerConfig()

    def __init__(self, seed: int, traced: bool = False) -> None:
        self.world = world = World(seed, traced=traced)
        random = world.random
        self.version = (0, 2)[seed // 3 % 2]
        self.loss = (0.0, 0.02, 0.1)[seed % 3]
        config = TransactionConfig(
            abort_interval_ms=500,
            offsets_topic_partitions=1,
            transaction_topic_partitions=1,
            transaction_version=self.version,
            write_timeout_ms=_WRITE_TIMEOUT_MS,
        )
        groups = GroupConfig(
            offsets_topic_partitions=1, offsets_commit_timeout_ms=_WRITE_TIMEOUT_MS, consumer=self.consumers
        )
        topics = Topics(self.inputs)
        self.coordinator = ShardHost(world, STATE, lambda: TransactionKind(config, topics), self._ask)
        self.group = ShardHost(world, "__consumer_offsets", lambda: GroupKind(groups, lambda: "id", topics), self._ask)
        for host in (self.coordinator, self.group):
            host.commit_us = random.choice([2_000, 20_000, 500_000, 900_000])
            host.errors = random.choice([0.0, 0.05])
        self.outputs = [DataPartition(0), DataPartition(1)]
        self.books = Books()
        self.born: list[Worker] = []
        self.next_id = 1_000
        self.workers = [self._born(number) for number in range(self.at_work)]

    def _born(self, number: int) -> Worker:
        worker = self.make_worker(f"w{number}.{len(self.born)}", number)
        self.born.append(worker)
        return worker

    def make_worker(self, name: str, number: int) -> Worker:
        return Worker(
            name,
            number,
            self.world,
            self.coordinator,
            self.group,
            self.outputs,
            self.books,
            bumping=self.version >= BUMPING,
            loss=self.loss,
        )

    # What coordinators ask ----------------------------------------------------------------------------------------

    def _ask(self, host: ShardHost, ask: Ask) -> None:
        assert isinstance(ask.key, AskKey)
        if isinstance(ask.question, NewProducerId):
            self.world.after(self.world.random.randrange(50_000), host.process, self._give_id, host, ask)
            return
        assert isinstance(ask.question, WriteMarkers)
        self._write_markers(host, ask.key, ask.question, set(ask.question.partitions))

    def _give_id(self, host: ShardHost, ask: Ask) -> None:
        assert isinstance(ask.key, AskKey)
        answer: int | ErrorCode = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        if self.world.random.random() >= self.loss:
            answer = self.next_id
            self.next_id += 1
        host.tell(ask.key, ask.question, answer)

    def _write_markers(self, host: ShardHost, key: AskKey, question: WriteMarkers, left: set[tuple[str, int]]) -> None:
        """To each partition, again and again; what is on its way when the asker is gone arrives all the same."""
        if host.asked.get(key) is not question or not host.process.alive:
            return
        random = self.world.random
        process = host.process

        def done(partition: tuple[str, int], error: ErrorCode) -> None:
            if random.random() < self.loss:
                return
            self.world.after(random.randrange(3_000), process, acknowledged, partition, error)

        def acknowledged(partition: tuple[str, int], error: ErrorCode) -> None:
            if error:
                host.tell(key, question, error)
                return
            left.discard(partition)
            if not left:
                host.tell(key, question, ErrorCode.NONE)

        for partition in sorted(left):
            if random.random() >= self.loss:
                self.world.after(random.randrange(3_000), None, self._mark, partition, question, done)
        self.world.after(_MARKER_RETRY_US, process, self._write_markers, host, key, question, left)

    def _mark(self, partition: tuple[str, int], question: WriteMarkers, done: object) -> None:
        def told(error: ErrorCode) -> None:
            assert callable(done)
            done(partition, error)

        if partition[0] == OUTPUT:
            self.outputs[partition[1]].mark(question, told)
        else:
            self.group.mark(question, told)

    # The story ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.world.after(500_000, None, self._fault)
        self.world.after(500_000, None, self._watch_over)
        self.world.run_until(_FAULTS_US)
        self.loss = self.coordinator.errors = self.group.errors = 0.0
        self.coordinator.commit_us = self.group.commit_us = 8_000
        for worker in self.born:
            worker.loss = 0.0
            self.world.resume(worker.process)
        self.world.run_until(_FAULTS_US + self.work_on_us)
        for worker in self.born:
            worker.process.alive = False
        self.world.run_until(_FAULTS_US + self.work_on_us + _CALM_US)
        self._check_seen()
        self._check_converged()
        if not all(self._committed().values()):
            raise Violation(f"nothing gets done: {self._committed()}")

    def _watch_over(self) -> None:
        """Who was fenced is started again, unless another has its place already."""
        self._check_seen()
        for worker in self.born:
            worker.process.alive &= not worker.is_fenced
        for number, worker in enumerate(self.workers):
            if worker.is_fenced:
                self.workers[number] = self._born(number)
        self.world.after(500_000, None, self._watch_over)

    def _fault(self) -> None:
        world = self.world
        if world.now_us >= _FAULTS_US:
            return
        number = world.random.randrange(self.at_work)
        worker = self.workers[number]
        what = world.random.choice(["transactions", "transactions", "groups", "crash", "pause", "zombie"])
        world.say("fault", what, number)
        if what == "transactions":
            self.coordinator.fail_over()
        elif what == "groups":
            self.group.fail_over()
        elif what == "crash":
            worker.process.alive = False
            self.workers[number] = self._born(number)
        elif not worker.process.paused:
            world.pause(worker.process)
            world.after(world.between(10, 2 * TIMEOUT_MS) * 1_000, None, world.resume, worker.process)
            if what == "zombie":  # another takes its place, and it comes back all the same
                self.workers[number] = self._born(number)
        world.after(world.between(50_000, 3_000_000), None, self._fault)

    # Checks -------------------------------------------------------------------------------------------------------

    def _check_seen(self) -> None:
        seen: Counter[tuple[int, int]] = Counter()
        for partition in self.outputs:
            for value in partition.visible():
                assert isinstance(value, tuple)
                number, offset, attempt = value
                seen[number, offset] += 1
                if self.books.told.get(attempt) is False:
                    raise Violation(f"{attempt} was aborted, and {value} is seen")
        twice = [each for each, count in seen.items() if count > 1]
        if twice:
            raise Violation(f"seen twice: {twice}")

    def _committed(self) -> dict[int, int]:
        """By input, how far it was read, as the group's log has it."""
        held: dict[int, list[OffsetCommitted]] = {}
        committed = dict.fromkeys(range(self.inputs), 0)
        for record in self.group.log[: self.group.high_watermark]:
            if record.marker is not None:
                for fact in held.pop(record.producer_id, []) if record.marker.commit else []:
                    committed[fact.partition] = fact.offset
                held.pop(record.producer_id, None)
                continue
            stored = decode_group(record.key, record.value)
            if isinstance(stored, OffsetCommitted):
                held.setdefault(record.producer_id, []).append(stored)
        return committed

    def _check_converged(self) -> None:
        states = {}
        for record in self.coordinator.log:
            fact = decode(record.key, record.value)
            assert isinstance(fact, TransactionStored)
            states[fact.transactional_id] = fact
        left = [fact for fact in states.values() if fact.state not in AT_REST]
        if left:
            raise Violation(f"not at rest: {left}")
        for gate in (self.group.gate, *(partition.gate for partition in self.outputs)):
            if any(entry.is_open for entry in gate.entries.values()):
                raise Violation(f"a transaction is left open: {[e.epoch for e in gate.entries.values() if e.is_open]}")
        values = [value for partition in self.outputs for value in partition.visible()]
        attempts: Counter[object] = Counter()
        by_input: dict[int, list[int]] = {number: [] for number in range(self.inputs)}
        for value in values:
            assert isinstance(value, tuple)
            attempts[value[2]] += 1
            by_input[value[0]].append(value[1])
        for attempt, count in attempts.items():
            if self.books.values[attempt] != count:  # type: ignore[index]
                raise Violation(f"{attempt} is torn: {count} of {self.books.values[attempt]}")  # type: ignore[index]
        for attempt, commit in self.books.told.items():
            if commit != (attempt in attempts):
                raise Violation(f"{attempt} was told commit={commit}, seen: {attempts[attempt]}")
        for number, offset in self._committed().items():
            if sorted(by_input[number]) != list(range(offset)):
                raise Violation(f"{offset} of input {number} were read, the output has {sorted(by_input[number])}")


run_seed = story.runner(TransactionStory)

if __name__ == "__main__":
    sys.exit(story.main(run_seed, __doc__))
