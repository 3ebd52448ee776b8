"""Decisions as multis: joined while they fit, never split, each fenced."""

from cluster.metadata import paths
from cluster.metadata.store import Check, Create, Delete, Op
from cluster.metadata.writes import operations, removals, transactions
from cluster.model import (
    LeaderAndIsr,
    MarkTopicDeleted,
    PartitionAssignment,
    PutPartitionState,
    PutTopic,
    TopicDescription,
    WriteGroup,
)
from tests.unit.cluster.controller.support import Cluster

FENCE = 7
JUTE_MAX_BUFFER = 0xFFFFF  # ZooKeeper refuses larger requests
# Of a create in a multi, as ZooKeeper encodes it: header, path and data with their lengths, one ACL entry, flags.
ENCODED_CREATE_BYTES = 9 + 4 + 4 + 30 + 4


def states(topic: str, first: int, count: int) -> WriteGroup:
    return tuple(PutPartitionState(topic, first + i, LeaderAndIsr(1, 0, (1, 2, 3), 1)) for i in range(count))


def encoded_bytes(ops: list[Op]) -> int:
    return sum(ENCODED_CREATE_BYTES + len(op.path) + len(getattr(op, "data", None) or b"") for op in ops)


def test_small_groups_become_one() -> None:
    groups = [states("t", 200 * i, 200) for i in range(5)]
    ((ops, writes),) = transactions(groups, FENCE)
    assert writes == [write for group in groups for write in group]
    assert ops[0] == Check(paths.CONTROLLER_EPOCH, FENCE)
    assert ops[1:] == operations(writes)
    assert not list(transactions([], FENCE))


def test_a_multi_stays_below_what_zookeeper_takes() -> None:
    groups = [states("t" * 249, 200 * i, 200) for i in range(20)]
    found = list(transactions(groups, FENCE))
    assert 2 < len(found) < len(groups)
    assert [write for _, writes in found for write in writes] == [write for group in groups for write in group]
    for ops, writes in found:
        assert encoded_bytes(ops) < JUTE_MAX_BUFFER * 2 // 3
        assert len(writes) % 200 == 0, "no group is split"
        assert ops[0] == Check(paths.CONTROLLER_EPOCH, FENCE)


def test_a_group_is_written_whole_however_large() -> None:
    small, large = states("s", 0, 1), states("t" * 249, 0, 2000)
    assert [writes for _, writes in transactions([small, large, small], FENCE)] == [[*small], [*large], [*small]]


def test_topics_are_removed_together_each_mark_after_its_topic() -> None:
    cluster = Cluster()
    names = ["a", "b" * 240, "c"]
    for name in names:
        description = TopicDescription(name, bytes(16), (PartitionAssignment((1,)),) * 1000)
        cluster.write([(PutTopic(description, is_new=True), *states(name, 0, 1000), MarkTopicDeleted(name))])
    deleted: list[str] = []
    multis = 0
    for ops in removals(cluster.store, names, cluster.fence):
        assert ops[0] == Check(paths.CONTROLLER_EPOCH, cluster.fence) and encoded_bytes(ops) < JUTE_MAX_BUFFER
        deleted += [op.path for op in ops if isinstance(op, Delete)]
        cluster.store.multi(ops)
        multis += 1
    assert 1 < multis < 5
    for name in names:
        mark = deleted.index(paths.delete_topic(name))
        assert all(at < mark for at, path in enumerate(deleted) if path.startswith(paths.topic(name) + "/"))
    assert cluster.store.children(paths.TOPICS) == [] and cluster.store.children(paths.DELETE_TOPICS) == []
    assert not list(removals(cluster.store, names, cluster.fence))


def test_operations_of_a_new_topic() -> None:
    description = TopicDescription("t", bytes(16), (PartitionAssignment((1,)),))
    assert operations([PutTopic(description, is_new=True), *states("t", 0, 1)], FENCE) == [
        Check(paths.CONTROLLER_EPOCH, FENCE),
        Create("/brokers/topics/t", paths.encode_topic(description)),
        Create("/brokers/topics/t/partitions"),
        Create("/brokers/topics/t/partitions/0"),
        Create("/brokers/topics/t/partitions/0/state", paths.encode_partition_state(LeaderAndIsr(1, 0, (1, 2, 3), 1))),
    ]
