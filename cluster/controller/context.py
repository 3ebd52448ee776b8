"""What the controller knows of its cluster.

What stays true: it is what the tree said last, plus what was written since by this controller; it changes only after a
write succeeded, and then through the methods here.
"""

from cluster.model import Broker, ClusterFacts, LeaderAndIsr, TopicDescription
from pylog.types import TopicPartition

DEFAULT_ENTITY = "<default>"


class ControllerContext:
    """Control thread."""

    __slots__ = ("broker_configs", "brokers", "deleting", "epoch", "states", "topic_configs", "topics")

    def __init__(self, facts: ClusterFacts) -> None:
        self.epoch = facts.controller_epoch
        self.brokers: dict[int, Broker] = dict(facts.brokers)
        self.topics: dict[str, TopicDescription] = dict(facts.topics)
        self.states: dict[TopicPartition, LeaderAndIsr] = dict(facts.states)
        self.topic_configs: dict[str, dict[str, str]] = dict(facts.topic_configs)
        self.broker_configs: dict[str, dict[str, str]] = dict(facts.broker_configs)
        self.deleting: set[str] = set(facts.deleting)

    def live_brokers(self) -> list[Broker]:
        """Sorted by id."""
        return [self.brokers[broker_id] for broker_id in sorted(self.brokers)]

    def put_topic(self, description: TopicDescription) -> None:
        self.topics[description.name] = description

    def put_state(self, partition: TopicPartition, state: LeaderAndIsr) -> None:
        """`state.version`: as its znode has it after the write."""
        self.states[partition] = state

    def put_config(self, kind: str, entity: str, settings: dict[str, str]) -> None:
        (self.topic_configs if kind == "topics" else self.broker_configs)[entity] = settings

    def mark_deleted(self, topic: str) -> None:
        self.deleting.add(topic)

    def forget_topic(self, topic: str) -> None:
        """Every trace of it is gone from the tree."""
        description = self.topics.pop(topic, None)
        self.topic_configs.pop(topic, None)
        self.deleting.discard(topic)
        for index in range(0 if description is None else len(description.partitions)):
            self.states.pop(TopicPartition(topic, index), None)
