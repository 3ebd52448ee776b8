"""LeaderAndIsr and StopReplica as a broker takes them: what is fenced, what is news, and in which order it is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.broker.leadership import Leadership, ReplicaDecision, StopDecision
from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC, TopicMetadata
from pylog.errors import ErrorCode, KafkaError
from pylog.types import ZERO_TOPIC_ID, TopicPartition

ID = bytes(range(16))
OTHER_ID = bytes(range(1, 17))
ORDERS = TopicPartition("orders", 0)


class Scene:
    """Everything around Leadership, played: `did` is what it had done, in order."""

    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.hosted: dict[TopicPartition, SimpleNamespace] = {}
        self.offline: set[TopicPartition] = set()
        self.refused: dict[TopicPartition, KafkaError] = {}
        self.broker: Any = SimpleNamespace(
            broker_id=1,
            joined=lambda: SimpleNamespace(broker_epoch=70),
            replicas=self,
            coordinators=SimpleNamespace(
                load=lambda topic, at_once: self.did.append(
                    ("load", topic.name, topic.partitions[0].partition, at_once)
                ),
                unload=lambda topic, index: self.did.append(("unload", topic, index)),
            ),
        )
        replication: Any = SimpleNamespace(
            keeper=SimpleNamespace(
                lead=lambda state: self.did.append(
                    ("lead", state.partition, state.leader_epoch, state.partition_epoch)
                ),
                cease=lambda partition: self.did.append(("cease", partition)),
            ),
            replicator=SimpleNamespace(
                stop=lambda partitions: self.did.append(("stop", *partitions)),
                follow=lambda wanted: self.did.append(("follow", dict(wanted))),
            ),
            configure_partitions=lambda partitions: None,
            forget=lambda numbers: self.did.append(("forget", *numbers)),
        )
        self.checkpointed: dict[TopicPartition, int] = {}
        self.leadership = Leadership(self.broker, replication)

    # what ReplicaManager does

    def is_offline(self, partition: TopicPartition) -> bool:
        return partition in self.offline

    def find(self, topic: str, index: int) -> SimpleNamespace | None:
        return self.hosted.get(TopicPartition(topic, index))

    def host(
        self, topics: list[TopicMetadata], high_watermarks: object, known: bool
    ) -> list[tuple[TopicPartition, KafkaError]]:
        failed = []
        for topic in topics:
            for each in topic.partitions:
                name = TopicPartition(topic.name, each.partition)
                if name in self.refused:
                    failed.append((name, self.refused[name]))
                    continue
                self.did.append(("host", name, each.leader, each.leader_epoch, known))
                self.put(name, each.leader_epoch, topic.topic_id)
        return failed

    def delete(self, partitions: list[TopicPartition]) -> None:
        self.did.append(("delete", *partitions))

    def put(self, name: TopicPartition, leader_epoch: int, topic_id: bytes = ID) -> None:
        number = len(self.hosted) + 1 if name not in self.hosted else self.hosted[name].number
        self.hosted[name] = SimpleNamespace(
            number=number, leader_epoch=leader_epoch, source=SimpleNamespace(topic_id=topic_id)
        )


def decision(
    leader: int = 1,
    leader_epoch: int = 5,
    *,
    name: TopicPartition = ORDERS,
    topic_id: bytes = ID,
    replicas: tuple[int, ...] = (1, 2),
    is_new: bool = False,
) -> ReplicaDecision:
    return ReplicaDecision(name, topic_id, leader, leader_epoch, replicas, replicas, 9, is_new)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("controller_epoch", "broker_epoch", "expected"),
    [
        (3, 70, ErrorCode.NONE),
        (4, -1, ErrorCode.NONE),
        (3, 71, ErrorCode.NONE),  # of a registration that we do not know of yet
        (2, 70, ErrorCode.STALE_CONTROLLER_EPOCH),
        (3, 69, ErrorCode.STALE_BROKER_EPOCH),
    ],
)
def test_older_controllers_and_older_brokers_are_refused(
    scene: Scene, controller_epoch: int, broker_epoch: int, expected: ErrorCode
) -> None:
    scene.leadership.obey(2, 3)
    assert scene.leadership.refuses(controller_epoch, broker_epoch) is expected


def test_a_leader_is_kept_before_it_is_hosted_and_a_follower_fetches_after(scene: Scene) -> None:
    follower = TopicPartition("orders", 1)
    outcomes = scene.leadership.become([decision(is_new=True), decision(2, 6, name=follower)])
    assert set(outcomes.values()) == {ErrorCode.NONE}
    assert scene.did == [
        ("stop", ORDERS, follower),
        ("cease", ORDERS),
        ("cease", follower),
        ("lead", ORDERS, 5, 9),
        ("host", ORDERS, 1, 5, False),
        ("host", follower, 2, 6, True),
        ("follow", {follower: (2, 6, 2)}),
    ]


def test_nobody_is_followed_while_nobody_leads(scene: Scene) -> None:
    assert scene.leadership.become([decision(-1, 6)]) == {ORDERS: ErrorCode.NONE}
    assert scene.did[-1] == ("follow", {})


@pytest.mark.parametrize("leader_epoch", [4, 5])
def test_an_epoch_is_taken_up_once(scene: Scene, leader_epoch: int) -> None:
    scene.put(ORDERS, 5)
    assert scene.leadership.become([decision(2, leader_epoch)]) == {ORDERS: ErrorCode.STALE_CONTROLLER_EPOCH}
    assert ("follow", {}) in scene.did
    assert not any(did[0] == "host" for did in scene.did)


def test_another_topic_of_the_same_name_is_refused(scene: Scene) -> None:
    scene.put(ORDERS, 5)
    assert scene.leadership.become([decision(2, 6, topic_id=OTHER_ID)]) == {ORDERS: ErrorCode.INCONSISTENT_TOPIC_ID}
    assert scene.leadership.become([decision(2, 6, topic_id=ZERO_TOPIC_ID)]) == {ORDERS: ErrorCode.NONE}


def test_what_is_not_ours_or_offline_is_refused(scene: Scene) -> None:
    lost = TopicPartition("orders", 1)
    scene.offline.add(lost)
    outcomes = scene.leadership.become([decision(replicas=(2, 3)), decision(name=lost)])
    assert outcomes == {ORDERS: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, lost: ErrorCode.KAFKA_STORAGE_ERROR}


def test_one_that_cannot_be_hosted_does_not_keep_the_others_from_it(scene: Scene) -> None:
    other = TopicPartition("orders", 1)
    scene.refused[ORDERS] = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
    outcomes = scene.leadership.become([decision(), decision(name=other)])
    assert outcomes == {ORDERS: ErrorCode.KAFKA_STORAGE_ERROR, other: ErrorCode.NONE}
    assert scene.did.count(("cease", ORDERS)) == 2, "its ISR is not kept any more"


def test_coordinators_follow_the_leadership(scene: Scene) -> None:
    shard = TopicPartition(GROUP_METADATA_TOPIC, 3)
    scene.leadership.become([decision(name=shard)])
    assert scene.did[-1] == ("load", GROUP_METADATA_TOPIC, 3, False)
    scene.leadership.become([decision(2, 6, name=shard)])
    assert scene.did[-1] == ("unload", GROUP_METADATA_TOPIC, 3)


def test_a_stop_of_an_older_epoch_is_refused_and_a_deletion_is_not(scene: Scene) -> None:
    scene.put(ORDERS, 5)
    assert scene.leadership.stop([StopDecision(ORDERS, 4, True)]) == {ORDERS: ErrorCode.FENCED_LEADER_EPOCH}
    assert not any(did[0] == "delete" and len(did) > 1 for did in scene.did)
    scene.did.clear()
    assert scene.leadership.stop([StopDecision(ORDERS, -2, True)]) == {ORDERS: ErrorCode.NONE}
    assert scene.did == [("stop", ORDERS), ("cease", ORDERS), ("forget", 1), ("delete", ORDERS)]


def test_a_stop_without_deletion_leaves_the_log(scene: Scene) -> None:
    scene.put(ORDERS, 5)
    assert scene.leadership.stop([StopDecision(ORDERS, 5, False)]) == {ORDERS: ErrorCode.NONE}
    assert ("delete",) in scene.did
