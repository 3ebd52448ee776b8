"""Where Apache Kafka 3.9.1 and 4.3.1 differ from each other, and how both differ from ours in time.

What stays true: ours answers as 3.9 does; a test that runs against 4.3 says through `said` that it knows of a
difference, and through `settled` that Apache Kafka may answer a change before all of the broker has heard of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.support.brokers import chosen_kind

Seen = TypeVar("Seen")

TRIES = 3000

#: 3.9's words and 4.3's: its controller has words of its own, and stricter rules.
_SAID_BY_4 = {
    "Replication factor: 3 larger than available brokers: 1.": "Unable to replicate the partition 3 time(s): "
    "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers "
    "have all their log directories cordoned.",
    "Replication factor must be larger than 0.": "Replication factor must be larger than 0, or -1 to use the default "
    "value.",
    "Number of partitions must be larger than 0.": "Number of partitions was set to an invalid non-positive value.",
    "Topic 'a_b' collides with existing topics: a.b": "Topic 'a_b' collides with existing topic: a.b",
    "Invalid value 1 for configuration segment.bytes: Value must be at least 14": "Invalid value 1 for configuration "
    "segment.bytes: Value must be at least 1048576",
    "Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same "
    "time.": "A manual partition assignment was specified, but replication factor was not set to -1.",
    "Topic currently has 2 partitions, which is higher than the requested 1.": "The topic grow currently has 2 "
    "partition(s); 1 would not be an increase.",
    "Topic already has 2 partitions.": "Topic already has 2 partition(s).",
    "Config value append is not allowed for config key: retention.ms": "Can't APPEND to key retention.ms because its "
    "type is not LIST.",
    "Increasing the number of partitions by 2 but 1 assignments provided.": "Attempted to add 2 additional "
    "partition(s), but only 1 assignment(s) were specified.",
    "Unknown broker(s) in replica assignment: 7.": "The manual partition assignment includes broker 7, but no such "
    "broker is registered.",
    "Invalid config value for resource ConfigResource(type=TOPIC, name='b1'): Invalid value 0 for configuration "
    "min.insync.replicas: Value must be at least 1": "Invalid value 0 for configuration min.insync.replicas: Value "
    "must be at least 1",
}


def said(message: str) -> str:
    """What the chosen broker says where 3.9 says `message`."""
    return _SAID_BY_4.get(message, message) if chosen_kind() == "kafka4" else message


def either(by_39: Seen, by_4: Seen) -> Seen:
    """What the chosen broker answers where the two differ in more than words."""
    return by_4 if chosen_kind() == "kafka4" else by_39


def is_kafka() -> bool:
    return chosen_kind() != "pylog"


def settled(ask: Callable[[], Seen], ends: Callable[[Seen], bool]) -> Seen:
    """Ask until it ends so; ours must at once."""
    seen = ask()
    for _ in range(TRIES if is_kafka() else 0):
        if ends(seen):
            break
        seen = ask()
    return seen
