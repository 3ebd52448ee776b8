"""Producers and consumers, as clients of Kafka behave: they ask brokers for leaders, retry, and remember what they got.

What stays true: a producer has one batch under way and sends the same again, to whoever leads, until it is answered for
good; with idempotence the same batch carries the same sequence. What was acknowledged with acks=all is handed to the
checkers, and so is what a consumer reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pylog.errors import ErrorCode
from pylog.records import NewRecord, RecordBatchBuilder
from pylog.types import TopicPartition
from tests.sim.data_plane import ACKS_ALL
from tests.sim.network import Answer
from tests.sim.replica import Batch
from tests.sim.world import US_PER_MS, Process

if TYPE_CHECKING:
    from tests.sim.cluster import SimCluster

_CRC_AT = 17
_TIMEOUT_MS = 1_500
_BACKOFF_MS = 80
_WALL_MS = 1_790_000_000_000
#: After which the same batch is sent again; others end it.
_RETRIED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)
_ATTEMPTS = 40


class Client(ABC):
    def __init__(self, cluster: SimCluster, place: int, name: TopicPartition) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._place = place
        self._name = name
        self._process = Process(f"client {place}")
        self._stopped = False
        self._world.after(self._world.between(0, 50) * US_PER_MS, self._process, self._begin)

    def stop(self) -> None:
        self._stopped = True

    @abstractmethod
    def _begin(self) -> None:
        """The first thing it does."""

    def _leader(self) -> tuple[int, bytes, int] | None:
        """As a broker that lives says: the leader, the topic's id, the leader epoch. Brokers may be behind."""
        lives = [life for life in self._cluster.lives.values() if life.process.alive and not life.process.paused]
        if not lives:
            return None
        life = lives[self._world.between(0, len(lives) - 1)]
        topic = life.metadata.topics.get(self._name.topic)
        partition = life.metadata.partition(*self._name)
        if topic is None or partition is None or partition.leader < 0:
            return None
        return partition.leader, topic.topic_id, partition.leader_epoch


class Producer(Client):
    def __init__(self, cluster: SimCluster, place: int, name: TopicPartition, *, acks: int, pace_ms: int) -> None:
        self._acks = acks
        self._pace_ms = pace_ms
        self._builder = RecordBatchBuilder()
        self._producer_id = -1
        self._sequence = 0
        self._number = 0
        self._attempts = 0
        self._data = b""
        self._records = 0
        self.acknowledged = 0
        super().__init__(cluster, place, name)

    def _begin(self) -> None:
        if self._world.chance(0.6):
            self._producer_id = self._cluster.new_producer_id()
        self._next()

    def _next(self) -> None:
        if self._stopped:
            return
        self._number += 1
        self._records = self._world.between(1, 3)
        records = [
            NewRecord(_WALL_MS, None, f"{self._place}-{self._number}-{each}".encode()) for each in range(self._records)
        ]
        idempotent = self._producer_id >= 0
        self._data = self._builder.build(
            records,
            producer_id=self._producer_id,
            producer_epoch=0 if idempotent else -1,
            base_sequence=self._sequence if idempotent else -1,
        )
        self._attempts = 0
        if idempotent:
            self._cluster.checkers.numbered.add(self._crc())
        self._send()

    def _crc(self) -> int:
        return int.from_bytes(self._data[_CRC_AT : _CRC_AT + 4], "big")

    def _send(self) -> None:
        leader = self._leader()
        if leader is None:
            self._again()
            return
        broker_id, topic_id, _ = leader
        data = self._data

        def serve(answer: Answer) -> None:
            there = self._cluster.broker_at(broker_id)
            there.data_plane.produce(self._name, data, self._acks, 1_000, answer)

        self._cluster.network.request(
            self._place,
            self._process,
            broker_id,
            serve,
            lambda answer: self._answered(topic_id, answer),
            _TIMEOUT_MS,
        )

    def _again(self) -> None:
        self._attempts += 1
        if self._attempts > _ATTEMPTS and not self._stopped:
            self._give_up()
            return
        if not self._stopped:
            self._world.after(_BACKOFF_MS * US_PER_MS, self._process, self._send)

    def _give_up(self) -> None:
        """Whether it was written is not known: another producer id, as after a fatal error."""
        if self._producer_id >= 0:
            self._producer_id = self._cluster.new_producer_id()
            self._sequence = 0
        self._world.after(self._pace_ms * US_PER_MS, self._process, self._next)

    def _answered(self, topic_id: bytes, answer: object) -> None:
        if answer is None:
            self._again()
            return
        assert isinstance(answer, tuple)
        error, base_offset, epoch = answer
        if error in _RETRIED:
            self._again()
            return
        if error:
            self._give_up()
            return
        self.acknowledged += 1
        if self._acks == ACKS_ALL:
            self._cluster.checkers.acknowledged(self._name, topic_id, base_offset, epoch, self._crc())
        if self._producer_id >= 0:
            self._sequence += self._records
        self._world.after(self._world.between(1, 2 * self._pace_ms) * US_PER_MS, self._process, self._next)


class Consumer(Client):
    """Reads on from where it is, never from a leader of an older epoch than it knows; begins anew when the topic is
    another."""

    def __init__(self, cluster: SimCluster, place: int, name: TopicPartition) -> None:
        self._offset = 0
        self._topic_id = b""
        self._epoch = 0
        self.read = 0
        super().__init__(cluster, place, name)

    def _begin(self) -> None:
        if self._stopped:
            return
        leader = self._leader()
        if leader is None:
            self._later()
            return
        broker_id, topic_id, epoch = leader
        if topic_id != self._topic_id:
            self._topic_id, self._offset, self._epoch = topic_id, 0, 0
        if epoch < self._epoch:
            self._later()
            return
        self._epoch = epoch
        offset = self._offset

        def serve(answer: Answer) -> None:
            there = self._cluster.broker_at(broker_id)
            hosted = there.data_plane.find(self._name)
            if hosted is not None and hosted.topic_id != topic_id:
                answer((int(ErrorCode.UNKNOWN_TOPIC_ID), (), -1, -1))
            else:
                there.data_plane.consume(self._name, offset, epoch, answer)

        def then(answer: object) -> None:
            if isinstance(answer, tuple) and topic_id == self._topic_id:
                self._take(topic_id, offset, answer[0], answer[1])
            self._later()

        self._cluster.network.request(self._place, self._process, broker_id, serve, then, _TIMEOUT_MS)

    def _take(self, topic_id: bytes, start: int, error: int, batches: tuple[Batch, ...]) -> None:
        if error == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._cluster.checkers.out_of_range(self._name, topic_id, start)
            self._offset = 0
        for batch in batches:
            self.read += 1
            self._cluster.checkers.consumed(self._name, topic_id, batch, start)
            self._offset = batch.last_offset + 1

    def _later(self) -> None:
        self._world.after(self._world.between(100, 400) * US_PER_MS, self._process, self._begin)
