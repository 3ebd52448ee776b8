"""Differences between a cluster of Apache Kafka 3.9.1 and ours that are meant, each with its reason. What is not here
is a fault of ours.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from tests.differential.compare import Difference
from tests.differential.known import Known, always, code


def kafka_closes(difference: Difference) -> bool:
    return bool(difference.theirs == "closed")


def kafka_is_silent(difference: Difference) -> bool:
    return bool(difference.theirs == "silent")


def of_chance(difference: Difference) -> bool:
    """A topic that the brokers made by themselves: its replicas are in an order that nobody said."""
    return any(str(ours.get("name")).startswith("came") for ours, _ in difference.context)


KNOWN: list[Known] = [
    Known("ApiVersions", "api_keys*", always, "other APIs and versions are served"),
    Known("DescribeTopicPartitions", "", kafka_closes, "served here, by brokers of Kafka 4 only"),
    Known("CreateTopics", "", kafka_is_silent, "DECISIONS 8: Kafka 3.9 makes a topic on brokers that are not there"),
    Known("Metadata", "topics.partitions.*", of_chance, "who leads is drawn by lot"),
    Known("ControlledShutdown", "error_code", code(8, -1), "3.9 fails over a broker that it does not know"),
]


def reason(difference: Difference) -> str | None:
    """Why this difference is meant; None when it is not."""
    for known in KNOWN:
        if known.api == difference.api and fnmatchcase(difference.path, known.path) and known.when(difference):
            return known.why
    return None
