"""Three brokers of ours: a group of the consumer protocol goes on in its epoch when its coordinator dies, and no record
is lost or taken twice, then and when another member joins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.broker.raw import Raw
from tests.clustered.test_replication import create
from tests.support import wire
from tests.support.cluster import Cluster, cluster
from tests.support.zookeeper import ZooKeeper

PARTITIONS = 6
TOPIC = "orders"
GROUP = "readers"
TIMEOUT_S = 60
_PROGRESS = 50
_LOOK_AGAIN_S = 0.02
_AWAY = (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE)


class Books:
    """How far each partition was taken, by whoever had it then. Record n of a partition has the value n."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken = [0] * PARTITIONS
        self.wrong: list[str] = []

    def take(self, who: str, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        with self._lock:
            due = self.taken[partition]
            if offset != due or message.value() != str(due).encode():
                self.wrong.append(f"{who} takes {message.value()!r} at {offset} of {partition}, and {due} is due")
            self.taken[partition] = due + 1


class Orders(threading.Thread):
    """Writes until it is stopped. `sent`: what was acknowledged, by partition."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.sent = [0] * PARTITIONS
        self.stopping = threading.Event()
        self.refused: list[object] = []
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2})

    def _told(self, error: object, message: Message) -> None:
        partition = message.partition()
        assert partition is not None
        if error is not None:
            self.refused.append(error)
        else:
            self.sent[partition] += 1

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            for partition in range(PARTITIONS):
                self._producer.produce(TOPIC, str(number), partition=partition, on_delivery=self._told)
            self._producer.flush(TIMEOUT_S)
            number += 1


class Member(threading.Thread):
    """Commits what it took before it polls again, and before partitions are taken from it."""

    def __init__(self, bootstrap: str, books: Books) -> None:
        super().__init__()
        self.assigned: frozenset[int] = frozenset()
        self.rebalances = 0
        self.stopping = threading.Event()
        self._books = books
        self._done: dict[int, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": GROUP,
                "group.protocol": "consumer",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 3,
            }
        )

    def run(self) -> None:
        self._consumer.subscribe([TOPIC], on_assign=self._gained, on_revoke=self._gives_up, on_lost=self._lost)
        try:
            while not self.stopping.is_set():
                for message in self._consumer.consume(50, 0.1):
                    if message.error() is None:
                        partition, offset = message.partition(), message.offset()
                        assert partition is not None and offset is not None
                        self._books.take(self.name, message)
                        self._done[partition] = offset + 1
                self._commit()
        finally:
            self._consumer.close()

    def _commit(self) -> None:
        """Until it is done: the coordinator may be away, or the member may have to hear of a new epoch first."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._done:
            offsets = [TopicPartition(TOPIC, partition, offset) for partition, offset in self._done.items()]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
                self._done.clear()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                self.stopping.wait(_LOOK_AGAIN_S)

    def _gained(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances += 1
        self.assigned |= {each.partition for each in partitions}

    def _gives_up(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances += 1
        self._commit()
        self.assigned -= {each.partition for each in partitions}

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._books.wrong.append(f"{self.name} has lost {partitions}")


class Story:
    def __init__(self, brokers: Cluster, stack: ExitStack) -> None:
        self._brokers = brokers
        self._stack = stack
        self.books = Books()
        self.members: list[Member] = []
        self.orders = Orders(brokers.bootstrap)
        self._start(self.orders)

    def _start(self, thread: Orders | Member) -> None:
        self._stack.callback(thread.join)
        self._stack.callback(thread.stopping.set)
        thread.start()

    def join(self) -> None:
        member = Member(self._brokers.bootstrap, self.books)
        self.members.append(member)
        self._start(member)

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert not self.books.wrong, self.books.wrong[:5]
            assert not self.orders.refused, self.orders.refused[:5]
            shares = [sorted(each.assigned) for each in self.members]
            assert all(each.is_alive() for each in self.members), "a member has ended"
            assert time.monotonic() < deadline, f"no {what}: {shares}, {self.books.taken} of {self.orders.sent} taken"
            time.sleep(_LOOK_AGAIN_S)  # sleep: threads of a client tell nobody how far they are

    def settle(self) -> None:
        """Even shares, and each partition goes on."""
        share = PARTITIONS // len(self.members)
        self.wait("even shares", lambda: all(len(each.assigned) == share for each in self.members))
        before = list(self.books.taken)
        self.wait(
            "progress",
            lambda: all(now >= then + _PROGRESS for now, then in zip(self.books.taken, before, strict=True)),
        )

    def described(self) -> Any:
        """The group as its coordinator knows it."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            broker = self._brokers[self._brokers.coordinator(GROUP, wire.GROUP)]
            conn = Raw(broker.port)
            (group,) = conn.ask(m.ConsumerGroupDescribeRequest(group_ids=[GROUP]), 0).groups
            conn.close()
            if group.error_code not in _AWAY:
                assert group.error_code == ErrorCode.NONE, group
                return group
            assert time.monotonic() < deadline, "the coordinator does not load"
            time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when another takes over


@pytest.fixture
def story(tmp_path: Path, ensemble: ZooKeeper) -> Iterator[tuple[Story, Cluster]]:
    protocols = {"group_coordinator_rebalance_protocols": "classic,consumer"}
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog", **protocols) as brokers, ExitStack() as stack:
        create(brokers, TOPIC, PARTITIONS)
        yield Story(brokers, stack), brokers


def _members(group: Any) -> dict[str, tuple[int, list[tuple[str, list[int]]]]]:
    """By id, the epoch and what it has."""
    return {
        each.member_id: (
            each.member_epoch,
            sorted((has.topic_name, sorted(has.partitions)) for has in each.assignment.topic_partitions),
        )
        for each in group.members
    }


def test_a_coordinator_dies(story: tuple[Story, Cluster]) -> None:
    told, brokers = story
    told.join()
    told.join()
    told.settle()
    before = told.described()
    assert (before.group_state, len(before.members)) == ("Stable", 2)
    rebalances = [each.rebalances for each in told.members]
    dead = brokers.coordinator(GROUP, wire.GROUP)
    brokers[dead].kill()
    assert brokers.coordinator(GROUP, wire.GROUP) != dead
    told.settle()

    after = told.described()
    assert (after.group_epoch, after.assignment_epoch) == (before.group_epoch, before.assignment_epoch)
    assert _members(after) == _members(before)
    assert [each.rebalances for each in told.members] == rebalances, "nobody had to hear of it"

    told.join()
    told.settle()
    joined = told.described()
    assert joined.group_epoch > after.group_epoch
    assert _members(after).keys() < _members(joined).keys()
    brokers[dead].start()

    told.orders.stopping.set()
    told.orders.join(TIMEOUT_S)
    told.wait("end", lambda: told.books.taken == told.orders.sent)
    for each in told.members:
        each.stopping.set()
        each.join(TIMEOUT_S)
    assert not told.books.wrong
    reader = Consumer({"bootstrap.servers": brokers.bootstrap, "group.id": GROUP})
    offsets = reader.committed([TopicPartition(TOPIC, each) for each in range(PARTITIONS)], TIMEOUT_S)
    reader.close()
    assert [each.offset for each in offsets] == told.orders.sent
