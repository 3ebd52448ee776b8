"""What the controller takes from the broker's configuration, and which requests brokers of its protocol understand.

What stays true: the versions are those that a Kafka 3.9 controller sends for the same inter.broker.protocol.version,
from 2.6 to 3.9.
"""

from __future__ import annotations

from cluster.config import Config
from pylog.facts import NamedTuple

Protocol = tuple[int, int, int]
"""An inter-broker protocol version: 3.9-IV0 is (3, 9, 0)."""

NEWEST: Protocol = (3, 9, 0)
OLDEST: Protocol = (2, 6, 0)
_LAST = 99  # "2.8" means the last internal version of 2.8


class Settings(NamedTuple):
    """`inter_broker_listener`: where brokers reach one another. Times in milliseconds."""

    broker_id: int
    inter_broker_listener: str = "PLAINTEXT"
    protocol: Protocol = NEWEST
    delete_topics: bool = True
    unclean_by_default: bool = False
    balance: bool = True
    balance_interval_ms: int = 300_000
    balance_percentage: int = 10

    @property
    def leader_and_isr_version(self) -> int:
        if self.protocol >= (3, 4, 0):
            return 7
        if self.protocol >= (3, 2, 0):
            return 6
        return 5 if self.protocol >= (2, 8, 1) else 4

    @property
    def update_metadata_version(self) -> int:
        if self.protocol >= (3, 4, 0):
            return 8
        return 7 if self.protocol >= (2, 8, 1) else 6

    @property
    def stop_replica_version(self) -> int:
        return 4 if self.protocol >= (3, 4, 0) else 3

    @property
    def has_features(self) -> bool:
        """/feature says that features are enabled."""
        return self.protocol >= (2, 7, 0)

    @property
    def has_alter_partition(self) -> bool:
        """Leaders ask the controller to change their ISR; before, they write it themselves and it is told later."""
        return self.protocol >= (2, 7, 2)

    @property
    def has_topic_ids(self) -> bool:
        return self.protocol >= (2, 8, 0)

    @property
    def has_leader_recovery(self) -> bool:
        """A leader that was not in sync says so until it has recovered."""
        return self.protocol >= (3, 2, 0)


def read_settings(config: Config, broker_id: int) -> Settings:
    """Raises ValueError for a protocol older than ours."""
    return Settings(
        broker_id,
        config.inter_broker_listener,
        parse_protocol(config.str("inter.broker.protocol.version")),
        config.bool("delete.topic.enable"),
        config.bool("unclean.leader.election.enable"),
        config.bool("auto.leader.rebalance.enable"),
        config.int("leader.imbalance.check.interval.seconds") * 1000,
        config.int("leader.imbalance.per.broker.percentage"),
    )


def parse_protocol(text: str) -> Protocol:
    """3.9-IV0, or 2.8 for its last internal version. Raises ValueError."""
    release, dash, internal = text.partition("-IV")
    major, minor = release.split(".")[:2]
    protocol = (int(major), int(minor), int(internal) if dash else _LAST)
    if protocol < OLDEST:
        raise ValueError(f"inter.broker.protocol.version {text} is older than 2.6")
    return protocol
