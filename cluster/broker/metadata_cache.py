"""What this broker tells clients about the cluster: brokers, topics, partitions and who leads them.

What stays true: every topic is found by its name and by its id; partitions are dense and in order; a topic's entry is
replaced whole, never changed. `version` rises with each change, so that whoever derives something knows when to do it
again. Control thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from pylog.facts import NamedTuple
from pylog.typed import Final

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


class BrokerMetadata(NamedTuple):
    """`endpoints`: listener name → (host, port) as clients are told; an empty host stands for the address by which the
    client reached this broker."""

    broker_id: int
    endpoints: dict[str, tuple[str, int]]
    rack: str | None


class MetadataCache:
    __slots__ = ("_by_id", "brokers", "cluster_id", "controller_id", "topics", "version")

    def __init__(self, cluster_id: str) -> None:
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
        self.version += 1

    def drop(self, name: str) -> None:
        topic = self.topics.pop(name, None)
        if topic is not None:
            self._by_id.pop(topic.topic_id, None)
            self.version += 1

    def set_brokers(self, brokers: Iterable[BrokerMetadata], controller_id: int) -> None:
        self.brokers = {broker.broker_id: broker for broker in brokers}
        self.controller_id = controller_id
        self.version += 1

    def topic_name(self, topic_id: bytes) -> str | None:
        return self._by_id.get(topic_id)

    def partition(self, topic: str, index: int) -> PartitionMetadata | None:
        entry = self.topics.get(topic)
        if entry is None or not 0 <= index < len(entry.partitions):
            return None
        return entry.partitions[index]
