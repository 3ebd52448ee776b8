"""Topics are refused in Kafka's words, and written as Kafka writes them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.controller import topics
from cluster.controller.topics import NewTopic, TopicPlan, plan_creation, plan_deletion, plan_growth
from cluster.metadata import paths
from cluster.metadata.store import BadVersion, NodeExists
from cluster.metadata.writes import removals
from cluster.model import LeaderAndIsr, MarkTopicDeleted, PartitionAssignment
from pylog.errors import ErrorCode, KafkaError
from pylog.types import TopicPartition, id_bytes
from tests.unit.cluster.controller.support import Cluster, configure, replicas
from tests.unit.cluster.metadata.snapshots import snapshots

GOLDEN = Path(__file__).parents[3] / "golden" / "controller"
ID = id_bytes("HvnfZY8VStC2lglMsxuZwQ")
LONG = "x" * 250


def create(cluster: Cluster, new: NewTopic, **settings: str) -> TopicPlan:
    plan = plan_creation(cluster.context, configure(**settings), new, topic_id=ID, start_index=0)
    cluster.carry_out(plan)
    return plan


def refused(cluster: Cluster, new: NewTopic) -> tuple[int, str]:
    with pytest.raises(KafkaError) as caught:
        plan_creation(cluster.context, configure(), new, topic_id=ID, start_index=0)
    return int(caught.value.code), caught.value.message


REFUSED: list[tuple[NewTopic, int, str]] = [
    (NewTopic("t1", 1, 1), 36, "Topic 't1' already exists."),
    (NewTopic("going", 1, 1), 36, "Topic 'going' is marked for deletion."),
    (NewTopic("t_x", 1, 1), 17, "Topic 't_x' collides with existing topics: t.x"),
    (NewTopic("a_b.c", 1, 1), 17, "Topic 'a_b.c' collides with existing topics: a.b_c"),
    (NewTopic("n", 1, 1, {}, {"retention.ms": None}), 40, "Null value not supported for topic configs: retention.ms"),
    (NewTopic("n", 1, 1, {}, {"a.b": None, "retention.ms": None}), 40,
     "Null value not supported for topic configs: a.b,retention.ms"),
    (NewTopic("n", 1, 1, {}, {"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}), 40,
     "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"),
    (NewTopic("n", 1, 1, {}, {"no.such.config": "1"}), 40, "Unknown topic config name: no.such.config"),
    (NewTopic("n", 1, 1, {}, {"retention.ms": "abc"}), 40,
     "Invalid value abc for configuration retention.ms: Not a number of type LONG"),
    (NewTopic("n", 1, 3), 38, "Replication factor: 3 larger than available brokers: 1."),
    (NewTopic("n", 1, 0), 38, "Replication factor must be larger than 0."),
    (NewTopic("n", 1, -2), 38, "Replication factor must be larger than 0."),
    (NewTopic("n", 0, 1), 37, "Number of partitions must be larger than 0."),
    (NewTopic("n", -5, 1), 37, "Number of partitions must be larger than 0."),
    (NewTopic("n", 1, 1, {0: [1]}), 42,
     "Both numPartitions or replicationFactor and replicasAssignments were set. "
     "Both cannot be used at the same time."),
    (NewTopic("n", assignment={0: [1, 1]}), 39, "Duplicate replica assignment found: HashMap(0 -> ArrayBuffer(1, 1))"),
    (NewTopic("n", assignment={1: [1]}), 39, "partitions should be a consecutive 0-based integer sequence"),
    (NewTopic("n", assignment={0: [1], 1: [1, 2]}), 39, "All partitions should have the same number of replicas"),
    (NewTopic("n", assignment={0: []}), 39, "The manual partition assignment includes an empty replica list."),
    (NewTopic("n", assignment={0: [9]}), 39,
     "The manual partition assignment includes broker 9, but no such broker is registered."),
    (NewTopic("", 1, 1), 17, "Topic name is invalid: the empty string is not allowed"),
    (NewTopic(".", 1, 1), 17, "Topic name is invalid: '.' is not allowed"),
    (NewTopic("..", 1, 1), 17, "Topic name is invalid: '..' is not allowed"),
    (NewTopic(LONG, 1, 1), 17,
     f"Topic name is invalid: the length of '{LONG}' is longer than the max allowed length 249"),
    (NewTopic("bad name!", assignment={0: [1]}), 17,
     "Topic name is invalid: 'bad name!' contains one or more characters other than ASCII alphanumerics, "
     "'.', '_' and '-'"),
    (NewTopic("a/b", 1, 1), 17,
     "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "code", "message"), REFUSED)
def test_refused(new: NewTopic, code: int, message: str) -> None:
    cluster = Cluster()
    for name in ("t1", "t.x", "t-x.y", "a.b_c", "going"):
        create(cluster, NewTopic(name, 1, 1))
    cluster.context.mark_deleted("going")
    assert refused(cluster, new) == (code, message)


def test_names_of_any_allowed_kind() -> None:
    for name in ("a", "A.b", "_", "-", "...", "0", "x" * 249, "__consumer_offsets"):
        topics.check_name(name)


def test_defaults_of_the_broker() -> None:
    cluster = Cluster("a", "b", "c")
    plan = create(cluster, NewTopic("t"), num_partitions="4", default_replication_factor="2")
    assert [len(each) for each in replicas(plan)] == [2, 2, 2, 2]
    assert plan.states[1].leader == replicas(plan)[1][0]
    assert cluster.agrees_with_the_tree()


def kafka_nodes(step: str, topic: str) -> Mapping[str, bytes | None]:
    nodes = {node.path: node.data for node in snapshots()[step]}
    roots = (paths.topic(topic), paths.config("topics", topic))
    return {path: data for path, data in nodes.items() if path.startswith(roots)}


def test_a_topic_is_written_as_kafka_writes_it() -> None:
    cluster = Cluster("rack1", "rack2", "rack3")
    wanted = kafka_nodes("03-topics-created", "overrides")
    asked = paths.decode_topic("overrides", wanted["/brokers/topics/overrides"])
    new = NewTopic(
        "overrides",
        assignment={index: part.replicas for index, part in enumerate(asked.partitions)},
        settings=paths.decode_config(wanted["/config/topics/overrides"]),
    )
    plan = plan_creation(cluster.context, configure(), new, topic_id=asked.topic_id, start_index=0)
    cluster.carry_out(plan)
    found = {path: cluster.store.get(path)[0] for path in wanted}
    assert found == wanted
    assert cluster.agrees_with_the_tree()


def test_a_leftover_configuration_is_overwritten() -> None:
    cluster = Cluster()
    cluster.store.create("/config/topics/t", paths.encode_config({"retention.ms": "1"}))
    cluster.context = cluster.read()
    create(cluster, NewTopic("t", 1, 1, {}, {"segment.bytes": "1000"}))
    assert cluster.agrees_with_the_tree()
    assert cluster.context.topic_configs["t"] == {"segment.bytes": "1000"}


def test_many_partitions_are_written_in_groups_and_a_cut_leaves_a_topic_to_finish() -> None:
    cluster = Cluster()
    plan = plan_creation(cluster.context, configure(), NewTopic("big", 450, 1), topic_id=ID, start_index=0)
    assert [len(group) for group in plan.groups] == [202, 200, 50]
    cluster.write(plan.groups[:1])
    half = cluster.read()
    assert len(half.topics["big"].partitions) == 450 and len(half.states) == 200
    cluster.write(plan.groups[1:])
    assert len(cluster.read().states) == 450


def test_partitions_without_a_live_replica_have_no_state() -> None:
    cluster = Cluster("a", "b")
    del cluster.context.brokers[2]
    with pytest.raises(KafkaError, match="broker 2"):
        plan_creation(cluster.context, configure(), NewTopic("t", assignment={0: [2]}), topic_id=ID, start_index=0)


def test_a_controller_that_was_replaced_writes_nothing() -> None:
    cluster = Cluster("a", "b")
    plan = plan_creation(cluster.context, configure(), NewTopic("t", 1, 1), topic_id=ID, start_index=0)
    cluster.tree.expire(cluster.store.session_id)
    from cluster.metadata.startup import become_controller

    epoch, fence = become_controller(cluster.stores[2], 2, 0)
    assert (epoch, fence) == (2, 2)
    cluster.store = cluster.stores[2]
    with pytest.raises(BadVersion):
        cluster.write(plan.groups)
    assert cluster.store.exists("/brokers/topics/t") is None
    with pytest.raises(NodeExists):
        become_controller(cluster.tree.connect(), 3, 0)


# ------------------------------------------------------------------------------------------------ more partitions


def growth_cases() -> list[dict[str, object]]:
    lines = (GOLDEN / "admin.jsonl").read_text().splitlines()
    return [case for case in map(json.loads, lines) if "topic" in case]


def test_growing_is_refused_like_kafka_does() -> None:
    """The cases of one run, in their order: what succeeded counts for those after it."""
    cluster = Cluster()
    create(cluster, NewTopic("t2", 1, 1))
    cases = growth_cases()
    assert len(cases) == 13
    for case in cases:
        topic, count, assignments = case["topic"], case["count"], case["assignments"]
        assert isinstance(topic, str) and isinstance(count, int) and isinstance(assignments, list | None)
        try:
            plan = plan_growth(cluster.context, topic, count, assignments)
        except KafkaError as error:
            assert (int(error.code), error.message) == (case["code"], case["message"]), case
        else:
            assert case["code"] == 0, case
            cluster.carry_out(plan)
    assert len(cluster.context.topics["t2"].partitions) == 3
    assert cluster.agrees_with_the_tree()


def test_growing_goes_on_where_the_topic_began() -> None:
    cluster = Cluster(None, None, None)
    create(cluster, NewTopic("t", assignment={0: [2, 3], 1: [3, 1]}))
    before = dict(cluster.context.states)
    plan = plan_growth(cluster.context, "t", 5, None)
    # What AdminUtils of 3.9.1 gives for three brokers, start index 1, first partition 2.
    assert replicas(plan)[2:] == [(1, 3), (2, 3), (3, 1)]
    assert set(plan.states) == {2, 3, 4}
    cluster.carry_out(plan)
    assert {key: state for key, state in cluster.context.states.items() if key.partition < 2} == before
    assert cluster.agrees_with_the_tree()


def test_growing_what_is_in_motion_is_refused() -> None:
    cluster = Cluster("a", "b")
    create(cluster, NewTopic("t", assignment={0: [1]}))
    topic = cluster.context.topics["t"]
    cluster.context.put_topic(topic._replace(partitions=(PartitionAssignment((2, 1), (2,), (1,)),)))
    with pytest.raises(KafkaError) as caught:
        plan_growth(cluster.context, "t", 2, None)
    assert caught.value.code is ErrorCode.REASSIGNMENT_IN_PROGRESS
    assert caught.value.message == "A partition reassignment is in progress for the topic 't'."
    cluster.context.put_topic(topic)
    with pytest.raises(KafkaError, match="Inconsistent replication factor between partitions, partition 0 has 1 while"):
        plan_growth(cluster.context, "t", 2, [[1, 2]])
    cluster.context.mark_deleted("t")
    with pytest.raises(KafkaError) as caught:
        plan_growth(cluster.context, "t", 2, None)
    assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION


# ------------------------------------------------------------------------------------------------ deletion


def test_deleting() -> None:
    cluster = Cluster()
    gone = "gone" * 60  # so long, that its nodes do not go in one step
    create(cluster, NewTopic(gone, 1000, 1))
    create(cluster, NewTopic("stays", 1, 1))
    groups = plan_deletion(cluster.context, configure(), gone)
    assert groups == ((MarkTopicDeleted(gone),),)
    cluster.write(groups)
    cluster.context.mark_deleted(gone)
    assert cluster.agrees_with_the_tree()
    assert plan_deletion(cluster.context, configure(), gone) == ()
    multis = list(removals(cluster.store, [gone], cluster.fence))
    assert len(multis) > 1
    cluster.store.multi(multis[0])
    assert gone in cluster.read().deleting, "the mark goes last, so that a cut deletion is found again"
    for ops in removals(cluster.store, [gone], cluster.fence):
        cluster.store.multi(ops)
    cluster.context.forget_topic(gone)
    assert cluster.agrees_with_the_tree()
    assert set(cluster.context.topics) == {"stays"}
    assert not list(removals(cluster.store, [gone], cluster.fence))
    create(cluster, NewTopic(gone, 1, 1))


def test_deleting_is_refused() -> None:
    cluster = Cluster()
    with pytest.raises(KafkaError) as caught:
        plan_deletion(cluster.context, configure(), "nope")
    assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert caught.value.message == "This server does not host this topic-partition."
    create(cluster, NewTopic("t", 1, 1))
    with pytest.raises(KafkaError) as caught:
        plan_deletion(cluster.context, configure(delete_topic_enable="false"), "t")
    assert caught.value.code is ErrorCode.TOPIC_DELETION_DISABLED


def test_state_after_creation() -> None:
    cluster = Cluster("a", "b", "c")
    plan = create(cluster, NewTopic("t", assignment={0: [3, 1, 2]}))
    assert plan.states == {0: LeaderAndIsr(3, 0, (3, 1, 2), 1)}
    assert cluster.read().states == {TopicPartition("t", 0): LeaderAndIsr(3, 0, (3, 1, 2), 1, 0)}
