"""The same operations as Apache Kafka 3.9.1 was seen to do, and the states it wrote, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.controller import events
from cluster.controller.steps import CreateStates, WriteStates, WriteTopic
from cluster.model import PartitionAssignment
from pylog.types import TopicPartition
from tests.support.controller_driver import Cluster

Written = tuple[int, int, tuple[int, ...], int]
"""Leader, leader epoch, ISR, and the version of the znode afterwards."""


def started() -> Cluster:
    cluster = Cluster()
    for broker in (1, 2, 3):
        cluster.start(broker)
    cluster.run()
    return cluster


def written(cluster: Cluster) -> dict[TopicPartition, list[Written]]:
    found: dict[TopicPartition, list[Written]] = {}
    for each in cluster.seen:
        if isinstance(each.step, CreateStates | WriteStates):
            for partition, state in each.step.states.items():
                entry = (state.leader, state.leader_epoch, state.isr, state.version + 1)
                found.setdefault(partition, []).append(entry)
    return found


def topics_written(cluster: Cluster) -> list[tuple[PartitionAssignment, ...]]:
    return [each.step.description.partitions for each in cluster.seen if isinstance(each.step, WriteTopic)]


def reassign(cluster: Cluster, targets: Mapping[TopicPartition, tuple[int, ...] | None]) -> None:
    cluster.ask(lambda to: events.ReassignReceived(to, targets))


def test_deletion() -> None:
    cluster = started()
    cluster.create("todelete", [(2, 1, 3), (3, 2, 1), (1, 3, 2), (2, 3, 1)])
    cluster.run()
    cluster.seen.clear()
    cluster.delete("todelete")
    cluster.run()
    zero, one, two, three = (TopicPartition("todelete", index) for index in range(4))
    assert written(cluster) == {
        one: [(3, 1, (3, 2), 1), (3, 2, (3,), 2), (-1, 3, (3,), 3)],
        zero: [(2, 1, (2, 3), 1), (-1, 2, (3,), 2), (-1, 3, (3,), 3)],
        three: [(2, 1, (2, 3), 1), (-1, 2, (3,), 2), (-1, 3, (3,), 3)],
        two: [(-1, 1, (3, 2), 1), (-1, 2, (3,), 2), (-1, 3, (3,), 3)],
    }


def test_two_reassignments_at_once() -> None:
    cluster = started()
    cluster.create("reassign", [(1, 3), (2, 1)])
    cluster.run()
    cluster.seen.clear()
    zero, one = TopicPartition("reassign", 0), TopicPartition("reassign", 1)
    reassign(cluster, {zero: (2, 1), one: (3, 2)})
    cluster.alter_partition(1, {zero: (1, 3, 2)})
    cluster.alter_partition(2, {one: (2, 1, 3)})
    assert written(cluster) == {
        zero: [(1, 1, (1, 3), 1), (1, 1, (1, 3, 2), 2), (1, 2, (1, 3, 2), 3), (1, 3, (1, 2), 4)],
        one: [(2, 1, (2, 1), 1), (2, 1, (2, 1, 3), 2), (2, 2, (2, 1, 3), 3), (2, 3, (2, 3), 4)],
    }
    moving_zero = PartitionAssignment((2, 1, 3), (2,), (3,))
    moving_one = PartitionAssignment((3, 2, 1), (3,), (1,))
    assert topics_written(cluster) == [
        (moving_zero, PartitionAssignment((2, 1))),
        (moving_zero, moving_one),
        (PartitionAssignment((2, 1)), moving_one),
        (PartitionAssignment((2, 1)), PartitionAssignment((3, 2))),
    ]


def test_a_reassignment_is_cancelled() -> None:
    cluster = started()
    cluster.create("bigmove", [(3,)])
    cluster.run()
    cluster.seen.clear()
    moved = TopicPartition("bigmove", 0)
    reassign(cluster, {moved: (2,)})
    reassign(cluster, {moved: None})
    assert written(cluster) == {moved: [(3, 1, (3,), 1), (3, 2, (3,), 2)]}
    moving, back = PartitionAssignment((2, 3), (2,), (3,)), PartitionAssignment((3,))
    assert topics_written(cluster) == [(moving,), (back,), (back,)]


def test_the_controller_is_killed() -> None:
    """What it led has no leader first, and then the new one: two epochs."""
    cluster = started()
    cluster.create("txn", [(1, 3, 2), (3, 1, 2)])
    cluster.run()
    cluster.seen.clear()
    cluster.kill(1)
    cluster.run()
    assert written(cluster) == {
        TopicPartition("txn", 0): [(-1, 1, (3, 2), 1), (3, 2, (3, 2), 2)],
        TopicPartition("txn", 1): [(3, 1, (3, 2), 1)],
    }


def test_a_broker_stops_in_a_controlled_way() -> None:
    cluster = started()
    cluster.create("txn", [(3, 2, 1), (2, 3, 1)])
    cluster.run()
    cluster.seen.clear()
    cluster.shut_down(3)
    cluster.kill(3)
    cluster.run()
    assert written(cluster) == {
        TopicPartition("txn", 0): [(2, 1, (2, 1), 1)],
        TopicPartition("txn", 1): [(2, 1, (2, 1), 1)],
    }
