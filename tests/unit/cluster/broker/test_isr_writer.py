"""ISRs that a leader writes itself, in a tree in memory."""

from collections.abc import Callable

import pytest

from cluster.broker.isr_writer import CHECK_MS, LINGER_MS, MAX_DELAY_MS, TIMER, IsrWriter
from cluster.broker.loop import Timers
from cluster.metadata import paths
from cluster.metadata.memory import Faults, MemoryTree
from cluster.metadata.store import StoreError
from cluster.model import LeaderAndIsr
from cluster.protocol import messages as m
from cluster.replication.alter_partition import AlterPartitions
from cluster.replication.isr import IsrAnswer, IsrChange
from pylog.errors import ErrorCode
from pylog.types import ZERO_TOPIC_ID, TopicPartition

ORDERS = TopicPartition("orders", 0)
EVENTS = TopicPartition("events", 1)
REFUSED = IsrAnswer(int(ErrorCode.INVALID_UPDATE_VERSION))


class World:
    """A tree with two partitions, and the turns of a control loop. Tasks for the tree wait for `turn` as well."""

    def __init__(self) -> None:
        self.now_ms = 100_000
        self.tree = MemoryTree(lambda: self.now_ms)
        self.store = self.tree.connect()
        for path in (paths.BROKERS, paths.TOPICS, paths.ISR_CHANGES):
            self.store.create(path)
        for name in (ORDERS, EVENTS):
            self.store.create(paths.topic(name.topic))
            self.store.create(paths.partitions(name.topic))
            self.store.create(paths.partition(*name))
            state = LeaderAndIsr(1, 5, (1, 2, 3), 9)
            self.store.create(paths.partition_state(*name), paths.encode_partition_state(state))
        self.timers = Timers()
        self.tasks: list[Callable[[], None]] = []
        self.answers: list[m.AlterPartitionResponse | None] = []
        self.changes = AlterPartitions(1)
        self.writer = IsrWriter(
            1,
            store=lambda: self.store,
            controller_epoch=lambda: 9,
            on_tree=self.tasks.append,
            now_ms=lambda: self.now_ms,
            timers=self.timers,
            post=self.tasks.append,
        )

    def alter(self, *changes: IsrChange) -> list[IsrAnswer]:
        for change in changes:
            self.changes.submit(change)
        request = self.changes.request(42, self.now_ms)
        assert request is not None
        self.writer.alter(request, self.answers.append)
        self.turn()
        return [answer for _, answer in self.changes.answered(self.answers.pop(), self.now_ms)]

    def turn(self, advance_ms: int = 0) -> None:
        self.now_ms += advance_ms
        while self.tasks or (key := self.timers.due(self.now_ms)) is not None:
            if self.tasks:
                self.tasks.pop(0)()
            else:
                assert key == TIMER
                self.writer.timer()

    def state(self, name: TopicPartition) -> LeaderAndIsr:
        data, stat = self.store.get(paths.partition_state(*name))
        return paths.decode_partition_state(data, stat.version)

    def notices(self) -> list[set[tuple[str, int]]]:
        names = self.store.children(paths.ISR_CHANGES)
        return [
            set(paths.IsrChange.decode(self.store.get(f"{paths.ISR_CHANGES}/{name}")[0]).partitions) for name in names
        ]


def change(name: TopicPartition, *isr: int, partition_epoch: int = 0) -> IsrChange:
    return IsrChange(name, ZERO_TOPIC_ID, 5, partition_epoch, isr, -1)


@pytest.fixture
def world() -> World:
    return World()


def test_states_are_written_over_the_version_that_was_known(world: World) -> None:
    assert world.alter(change(ORDERS, 1, 2), change(EVENTS, 1, 3)) == [
        IsrAnswer(0, 5, 1, (1, 2)),
        IsrAnswer(0, 5, 1, (1, 3)),
    ]
    assert world.state(ORDERS) == LeaderAndIsr(1, 5, (1, 2), 9, 1)
    assert world.alter(change(ORDERS, 1, partition_epoch=1)) == [IsrAnswer(0, 5, 2, (1,))]


def test_what_somebody_else_has_written_stays(world: World) -> None:
    theirs = paths.encode_partition_state(LeaderAndIsr(2, 6, (2,), 9))
    world.store.set(paths.partition_state(*ORDERS), theirs)
    assert world.alter(change(ORDERS, 1, 2), change(EVENTS, 1)) == [REFUSED, IsrAnswer(0, 5, 1, (1,))]
    assert world.state(ORDERS).leader == 2


def test_a_topic_that_is_gone_is_refused(world: World) -> None:
    assert world.alter(change(TopicPartition("gone", 0), 1)) == [REFUSED]


def test_a_write_that_was_done_before_is_a_success(world: World) -> None:
    world.alter(change(ORDERS, 1, 2))
    assert world.alter(change(ORDERS, 1, 2)) == [IsrAnswer(0, 5, 1, (1, 2))]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_write_whose_outcome_is_not_known_is_done_again(world: World, done: bool) -> None:
    world.tree.faults = Faults(1, before=0.0 if done else 1.0, after=1.0 if done else 0.0)
    assert world.alter(change(ORDERS, 1, 2)) == []
    world.tree.faults = None
    world.now_ms += 50
    assert world.alter() == [IsrAnswer(0, 5, 1, (1, 2))]


def test_the_controller_hears_of_it_when_nothing_more_has_come_for_a_while(world: World) -> None:
    world.alter(change(ORDERS, 1, 2))
    world.turn(CHECK_MS)
    assert world.notices() == []
    world.alter(change(EVENTS, 1))
    world.turn(CHECK_MS)
    world.turn(CHECK_MS)
    assert world.notices() == []
    world.turn(CHECK_MS)
    assert world.notices() == [{ORDERS, EVENTS}]
    assert LINGER_MS <= 2 * CHECK_MS
    world.turn(10 * CHECK_MS)
    assert len(world.notices()) == 1


def test_the_controller_hears_of_it_after_a_minute_at_the_latest(world: World) -> None:
    for number in range(0, MAX_DELAY_MS, CHECK_MS):
        world.alter(change(ORDERS, 1, 2 + number % 2, partition_epoch=number // CHECK_MS))
        world.turn(CHECK_MS)
    assert world.notices() == []
    world.alter(change(EVENTS, 1))
    world.turn(CHECK_MS)
    assert world.notices() == [{ORDERS, EVENTS}]


def test_a_notice_that_cannot_be_left_is_left_later(world: World) -> None:
    world.alter(change(ORDERS, 1, 2))
    store, world.store = world.store, world.tree.connect()
    world.store.close()
    for _ in range(3):
        world.turn(CHECK_MS)
    with pytest.raises(StoreError):
        world.store.get(paths.ISR_CHANGES)
    world.store = store
    for _ in range(3):
        world.turn(CHECK_MS)
    assert world.notices() == [{ORDERS}]
