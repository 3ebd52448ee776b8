"""The cluster as the elected controller sees it: brokers, topics, who leads, and in which state each replica is.

What stays true: it is what the tree said when this controller was elected, plus every change it was told of or made
since; the state of a partition stands here with the version of its znode, so that it can be written without reading it
first. A broker that shuts down in a controlled way is registered and not live: it still is sent requests, and leads
nothing new. A topic is known with all of its partitions, index 0 first.

Deleting a topic is: marked (`deleting`), begun (`deletion_begun`: its replicas are told to go), gone. A topic that is
marked and `undeletable` waits for a broker to come back or for a reassignment to end.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.controller.settings import Settings
from cluster.model import Broker, LeaderAndIsr, PartitionAssignment, TopicDescription
from pylog.facts import IntEnum
from pylog.types import NO_EPOCH, ZERO_TOPIC_ID, TopicPartition

Replicas = dict[int, list[TopicPartition]]
"""Replicas by broker: which partitions on which broker."""

EPOCH_DURING_DELETION = -2
"""The leader epoch in a StopReplica for a topic that is being deleted: it goes before any other."""


class PartitionState(IntEnum):
    NEW = 0
    ONLINE = 1
    OFFLINE = 2
    NON_EXISTENT = 3


class ReplicaState(IntEnum):
    NEW = 1
    ONLINE = 2
    OFFLINE = 3
    DELETION_STARTED = 4
    DELETION_SUCCESSFUL = 5
    DELETION_INELIGIBLE = 6
    NON_EXISTENT = 7


_NOWHERE: frozenset[TopicPartition] = frozenset()


class Image:
    """One controllership's knowledge. The controller's thread."""

    __slots__ = (
        "assignments",
        "brokers",
        "deleting",
        "deletion_begun",
        "epoch",
        "fence",
        "leadership",
        "live",
        "offline_dirs",
        "partition_states",
        "reassigning",
        "replica_states",
        "settings",
        "topic_ids",
        "topic_names",
        "topics",
        "undeletable",
    )

    def __init__(self, settings: Settings, epoch: int, fence: int) -> None:
        self.settings = settings
        self.epoch = epoch
        self.fence = fence
        self.brokers: dict[int, Broker] = {}
        self.live: set[int] = set()
        self.offline_dirs: dict[int, set[TopicPartition]] = {}
        self.topics: dict[str, list[TopicPartition]] = {}
        self.topic_ids: dict[str, bytes] = {}
        self.topic_names: dict[bytes, str] = {}
        self.assignments: dict[TopicPartition, PartitionAssignment] = {}
        self.leadership: dict[TopicPartition, LeaderAndIsr] = {}
        self.partition_states: dict[TopicPartition, PartitionState] = {}
        self.replica_states: dict[int, dict[TopicPartition, ReplicaState]] = {}
        self.reassigning: set[TopicPartition] = set()
        self.deleting: set[str] = set()
        self.deletion_begun: set[str] = set()
        self.undeletable: set[str] = set()

    # ------------------------------------------------------------------ brokers

    def add_broker(self, broker: Broker) -> None:
        self.brokers[broker.id] = broker
        self.live.add(broker.id)

    def remove_broker(self, broker_id: int) -> None:
        self.brokers.pop(broker_id, None)
        self.live.discard(broker_id)

    def is_online(self, broker_id: int, partition: TopicPartition) -> bool:
        """The broker is live, and the directory with its replica works."""
        return broker_id in self.live and partition not in self.offline_dirs.get(broker_id, _NOWHERE)

    def online(self, replicas: Iterable[int], partition: TopicPartition) -> tuple[int, ...]:
        """Those that are, in their order."""
        if not self.offline_dirs:
            live = self.live
            return tuple([replica for replica in replicas if replica in live])
        return tuple([replica for replica in replicas if self.is_online(replica, partition)])

    def reachable(self, replicas: Iterable[int], partition: TopicPartition) -> tuple[int, ...]:
        """Those that are online, brokers that shut down among them."""
        return tuple(
            [
                replica
                for replica in replicas
                if replica in self.brokers and partition not in self.offline_dirs.get(replica, _NOWHERE)
            ]
        )

    # ------------------------------------------------------------------ topics

    def put_topic(self, description: TopicDescription) -> list[TopicPartition]:
        """A topic that is new, or has more partitions than before; what is known of the others stays. Returns the new
        partitions."""
        name = description.name
        known = self.topics.setdefault(name, [])
        added = [TopicPartition(name, index) for index in range(len(known), len(description.partitions))]
        known += added
        for partition in added:
            self.assignments[partition] = description.partitions[partition.partition]
        if description.topic_id != ZERO_TOPIC_ID:
            self.topic_ids[name] = description.topic_id
            self.topic_names[description.topic_id] = name
        return added

    def describe_topic(self, name: str) -> TopicDescription:
        assignments = tuple([self.assignments[partition] for partition in self.topics[name]])
        return TopicDescription(name, self.topic_ids.get(name, ZERO_TOPIC_ID), assignments)

    def remove_topic(self, name: str) -> None:
        self.deleting.discard(name)
        self.deletion_begun.discard(name)
        self.undeletable.discard(name)
        topic_id = self.topic_ids.pop(name, None)
        if topic_id is not None:
            self.topic_names.pop(topic_id, None)
        for partition in self.topics.pop(name, ()):
            self.assignments.pop(partition, None)
            self.leadership.pop(partition, None)
            self.partition_states.pop(partition, None)
            self.reassigning.discard(partition)
            for of_broker in self.replica_states.values():
                of_broker.pop(partition, None)

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [partition for topic in topics for partition in self.topics.get(topic, ())]

    # ------------------------------------------------------------------ replicas

    def replicas_on(self, broker_id: int) -> list[TopicPartition]:
        return [partition for partition, assignment in self.assignments.items() if broker_id in assignment.replicas]

    def replicas_of(self, partitions: Iterable[TopicPartition]) -> Replicas:
        found: Replicas = {}
        for partition in partitions:
            for replica in self.assignments[partition].replicas:
                found.setdefault(replica, []).append(partition)
        return found

    def replicas_in(self, topic: str, state: ReplicaState) -> Replicas:
        """The topic's replicas that are in this state."""
        found: Replicas = {}
        for broker_id, partitions in self.replicas_of(self.topics.get(topic, ())).items():
            states = self.replica_states.get(broker_id, {})
            there = [partition for partition in partitions if states.get(partition) == state]
            if there:
                found[broker_id] = there
        return found

    def are_all_in(self, topic: str, state: ReplicaState) -> bool:
        return all(
            self.replica_states.get(broker_id, {}).get(partition) == state
            for partition in self.topics.get(topic, ())
            for broker_id in self.assignments[partition].replicas
        )

    def is_any_in(self, topic: str, state: ReplicaState) -> bool:
        return any(
            self.replica_states.get(broker_id, {}).get(partition) == state
            for partition in self.topics.get(topic, ())
            for broker_id in self.assignments[partition].replicas
        )

    # ------------------------------------------------------------------ leadership

    def leader_epoch(self, partition: TopicPartition) -> int:
        """As a StopReplica says it."""
        if partition.topic in self.deleting:
            return EPOCH_DURING_DELETION
        state = self.leadership.get(partition)
        return NO_EPOCH if state is None else state.leader_epoch

    def partitions_with_leaders(self) -> list[TopicPartition]:
        """Those that ever had one; topics that are being deleted do not count."""
        deleting = self.deleting
        return [partition for partition in self.leadership if partition.topic not in deleting]

    def leaving(self) -> set[str]:
        """Topics that nobody leads any more: those that are being deleted, but for those whose deletion waits for a
        reassignment, which needs a leader to end."""
        moving = {partition.topic for partition in self.reassigning}
        return self.deleting - (moving - self.deletion_begun)

    def partitions_with_offline_leader(self) -> list[TopicPartition]:
        leaving = self.leaving()
        return [
            partition
            for partition, state in self.leadership.items()
            if not self.is_online(state.leader, partition) and partition.topic not in leaving
        ]

    def leaders_on(self, broker_id: int) -> list[TopicPartition]:
        """Partitions with more than one replica that this broker leads, and that are not being deleted."""
        deleting = self.deleting
        return [
            partition
            for partition, state in self.leadership.items()
            if state.leader == broker_id
            and partition.topic not in deleting
            and len(self.assignments[partition].replicas) > 1
        ]
