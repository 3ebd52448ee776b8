"""What this broker tells clients about the cluster: brokers, topics, partitions and who leads them.

What stays true: every topic is found by its name and by its id; partitions are in order, and dense but for those that a
controller has not told of yet; a topic's entry is replaced whole, never changed. `version` rises whenever something
changes that groups are decided upon: topics, their partitions and who has replicas of them, racks, settings of groups;
who leads is none of it. Whoever answers for the coordinators is told before anybody can see the change. Control thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pylog.facts import NamedTuple
from pylog.typed import Final
from pylog.types import TopicPartition

GROUP_METADATA_TOPIC: Final = "__consumer_offsets"
TRANSACTION_STATE_TOPIC: Final = "__transaction_state"
INTERNAL_TOPICS: Final = frozenset({GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC})


class PartitionMetadata(NamedTuple):
    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline: tuple[int, ...] = ()


class TopicMetadata(NamedTuple):
    name: str
    topic_id: bytes
    partitions: tuple[PartitionMetadata, ...]

    @property
    def internal(self) -> bool:
        return self.name in INTERNAL_TOPICS

    @property
    def partition_count(self) -> int:
        return self.partitions[-1].partition + 1 if self.partitions else 0


class BrokerMetadata(NamedTuple):
    """`endpoints`: listener name → (host, port) as clients are told; an empty host stands for the address by which the
    client reached this broker."""

    broker_id: int
    endpoints: dict[str, tuple[str, int]]
    rack: str | None


def _placed(topic: TopicMetadata) -> list[tuple[int, tuple[int, ...]]]:
    return [(each.partition, each.replicas) for each in topic.partitions]


class MetadataCache:
    __slots__ = ("_by_id", "_changed", "brokers", "cluster_id", "controller_id", "topics", "version")

    def __init__(self, cluster_id: str, changed: Callable[[int], None] = lambda version: None) -> None:
        """`changed` is told each new version."""
        self._changed = changed
        self.cluster_id = cluster_id
        self.controller_id = -1
        self.brokers: dict[int, BrokerMetadata] = {}
        self.topics: dict[str, TopicMetadata] = {}
        self._by_id: dict[bytes, str] = {}
        self.version = 0

    def put(self, topic: TopicMetadata) -> None:
        old = self.topics.get(topic.name)
        if old is not None:
            self._by_id.pop(old.topic_id, None)
        self.topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic.name
        if old is None or old.topic_id != topic.topic_id or _placed(old) != _placed(topic):
            self.changes()

    def drop(self, name: str) -> None:
        topic = self.topics.pop(name, None)
        if topic is not None:
            self._by_id.pop(topic.topic_id, None)
            self.changes()

    def set_brokers(self, brokers: Iterable[BrokerMetadata], controller_id: int) -> None:
        racks = self._racks()
        self.brokers = {broker.broker_id: broker for broker in brokers}
        self.controller_id = controller_id
        if self._racks() != racks:
            self.changes()

    def changes(self) -> None:
        """What groups are decided upon is not what it was."""
        self.version += 1
        self._changed(self.version)

    def _racks(self) -> dict[int, str]:
        return {broker.broker_id: broker.rack for broker in self.brokers.values() if broker.rack is not None}

    def update(
        self, topics: Mapping[str, tuple[bytes, Sequence[PartitionMetadata]]], gone: Iterable[TopicPartition]
    ) -> list[str]:
        """What a controller tells: these partitions are so now, those are deleted. Returns the topics that are gone
        whole."""
        for name, (topic_id, partitions) in topics.items():
            known = self.topics.get(name)
            merged: dict[int, PartitionMetadata] = {}
            if known is not None and known.topic_id == topic_id:  # else it was deleted and made again
                merged = {each.partition: each for each in known.partitions}
            merged |= {each.partition: each for each in partitions}
            self.put(TopicMetadata(name, topic_id, tuple(merged[index] for index in sorted(merged))))
        lost: dict[str, set[int]] = {}
        for topic, index in gone:
            lost.setdefault(topic, set()).add(index)
        dropped = []
        for name, indices in lost.items():
            known = self.topics.get(name)
            if known is None:
                continue
            kept = tuple(each for each in known.partitions if each.partition not in indices)
            if kept:
                self.put(known._replace(partitions=kept))
            else:
                self.drop(name)
                dropped.append(name)
        return dropped

    def topic_name(self, topic_id: bytes) -> str | None:
        return self._by_id.get(topic_id)

    def partition(self, topic: str, index: int) -> PartitionMetadata | None:
        entry = self.topics.get(topic)
        if entry is None or not 0 <= index < entry.partition_count:
            return None
        if index < len(entry.partitions) and entry.partitions[index].partition == index:
            return entry.partitions[index]
        return next((each for each in entry.partitions if each.partition == index), None)
