"""Who leads, and what a controller finds to settle when it begins."""

from cluster.controller.election import (
    elect_first_in_sync,
    elect_for_shutdown,
    elect_offline,
    initial_state,
    leave_isr,
    next_epoch,
    offline_election,
)
from cluster.controller.partitions import settle
from cluster.controller.topics import NewTopic, plan_creation
from cluster.model import LeaderAndIsr, PartitionAssignment, PutPartitionState, WriteGroup
from pylog.types import TopicPartition
from tests.unit.cluster.controller.support import Cluster, configure

REPLICAS = PartitionAssignment((3, 1, 2))
STATE = LeaderAndIsr(3, 4, (1, 3, 2), 7, 12)


def test_initial() -> None:
    assert initial_state((3, 1, 2), {1, 2, 3}, 5) == LeaderAndIsr(3, 0, (3, 1, 2), 5)
    assert initial_state((3, 1, 2), {2, 1}, 5) == LeaderAndIsr(1, 0, (1, 2), 5)
    assert initial_state((3, 1, 2), {9}, 5) is None


def test_the_first_replica_in_sync_leads() -> None:
    chosen = offline_election(REPLICAS, STATE, {1, 2}, 8, unclean=False)
    assert chosen == LeaderAndIsr(1, 5, (1, 2), 8, 12)
    assert offline_election(REPLICAS, STATE._replace(isr=(2, 3)), {1, 2}, 8, unclean=True).leader == 2


def test_nobody_in_sync() -> None:
    alone = STATE._replace(isr=(3,))
    gone = offline_election(REPLICAS, alone, {1, 2}, 8, unclean=False)
    assert gone == LeaderAndIsr(-1, 5, (3,), 8, 12), "the last member stays in the ISR"
    assert offline_election(REPLICAS, gone, {1, 2}, 9, unclean=False) is gone
    assert offline_election(REPLICAS, gone, {3}, 9, unclean=False) == LeaderAndIsr(3, 6, (3,), 9, 12)
    assert offline_election(REPLICAS, alone, {1, 2}, 8, unclean=True) == LeaderAndIsr(1, 5, (1,), 8, 12)
    assert offline_election(REPLICAS, alone, set[int](), 8, unclean=True) == gone


def test_offline() -> None:
    replicas = REPLICAS.replicas

    def elect(state: LeaderAndIsr, alive: tuple[int, ...], *, unclean: bool = False) -> LeaderAndIsr | None:
        return elect_offline(replicas, state, alive, unclean=unclean, recovery=True, epoch=8)

    assert elect(STATE, (1, 2)) == LeaderAndIsr(1, 5, (1, 2), 8, 12)
    assert elect(STATE._replace(isr=(2, 3)), (1, 2), unclean=True) == LeaderAndIsr(2, 5, (2,), 8, 12), "clean if it can"
    assert elect(STATE._replace(isr=(3,)), (1, 2)) is None
    assert elect(STATE._replace(isr=(3,)), (), unclean=True) is None
    lost = elect(STATE._replace(isr=(3,)), (1, 2), unclean=True)
    assert lost == LeaderAndIsr(1, 5, (1,), 8, 12, recovering=True)
    assert elect(lost, (1, 2)) == lost._replace(leader_epoch=6), "the next one goes on to recover"


def test_the_replicas_to_be_and_the_preferred_one() -> None:
    assert elect_first_in_sync((4, 2), STATE, (4, 2), 8) == LeaderAndIsr(2, 5, (1, 3, 2), 8, 12)
    assert elect_first_in_sync((3,), STATE, (3,), 8) == LeaderAndIsr(3, 5, (1, 3, 2), 8, 12)
    assert elect_first_in_sync((3,), STATE, (1, 2), 8) is None, "not alive"
    assert elect_first_in_sync((3,), STATE._replace(isr=(1, 2)), (3, 1, 2), 8) is None, "not in sync"


def test_shutdown() -> None:
    replicas = REPLICAS.replicas
    assert elect_for_shutdown(replicas, STATE, (3, 1, 2), {3}, 8) == LeaderAndIsr(1, 5, (1, 2), 8, 12)
    assert elect_for_shutdown(replicas, STATE, (3, 2), {3}, 8) == LeaderAndIsr(2, 5, (1, 2), 8, 12)
    assert elect_for_shutdown(replicas, STATE, (3, 1, 2), {3, 1, 2}, 8) is None
    assert elect_for_shutdown(replicas, STATE._replace(isr=(3,)), (3, 1, 2), {3}, 8) is None


def test_leaving_the_isr() -> None:
    assert leave_isr(STATE, 2, 8) == LeaderAndIsr(3, 5, (1, 3), 8, 12)
    assert leave_isr(STATE, 3, 8) == LeaderAndIsr(-1, 5, (1, 2), 8, 12), "a leader that leaves leads no more"
    assert leave_isr(STATE._replace(isr=(3,)), 3, 8) == LeaderAndIsr(-1, 5, (3,), 8, 12), "the last one stays"
    assert next_epoch(STATE, 8) == LeaderAndIsr(3, 5, (1, 3, 2), 8, 12)


def test_settling() -> None:
    cluster = Cluster("a", "b")
    for name, replicas in (("led", [1, 2]), ("lost", [2, 1]), ("only", [2]), ("going", [2])):
        new = NewTopic(name, assignment={0: replicas})
        cluster.carry_out(plan_creation(cluster.context, configure(), new, topic_id=bytes(15) + b"1", start_index=0))
    cut = plan_creation(cluster.context, configure(), NewTopic("cut", 3, 2), topic_id=bytes(15) + b"2", start_index=0)
    cluster.write([tuple(write for write in cut.groups[0] if not isinstance(write, PutPartitionState))])
    context = cluster.read()
    context.mark_deleted("going")
    assert leaders(settle(context, {1}, unclean=lambda topic: topic == "only")) == [
        ("cut", 0, 1), ("cut", 1, 1), ("cut", 2, 1), ("lost", 0, 1), ("only", 0, -1),
    ]  # fmt: skip
    cluster.write(settle(context, {1}, unclean=lambda _: False))
    after = cluster.read()
    assert after.states[TopicPartition("lost", 0)] == LeaderAndIsr(1, 1, (1,), 1, 1)
    assert after.states[TopicPartition("cut", 2)] == LeaderAndIsr(1, 0, (1,), 1, 0)
    assert after.states[TopicPartition("led", 0)] == LeaderAndIsr(1, 0, (1, 2), 1, 0), "left as it was"
    assert leaders(settle(after, {1}, unclean=lambda _: False)) == [("going", 0, -1)], "it is not marked any more"
    assert leaders(settle(after, {1, 2}, unclean=lambda _: False)) == [("only", 0, 2)]


def leaders(groups: tuple[WriteGroup, ...]) -> list[tuple[str, int, int]]:
    puts = [put for group in groups for put in group if isinstance(put, PutPartitionState)]
    return [(put.topic, put.partition, put.state.leader) for put in puts]
