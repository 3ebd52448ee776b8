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


def is_elsewhere(difference: Difference) -> bool:
    """Of a partition that a broker does not have ours says that it knows none, Kafka that another one leads it."""
    codes = {(ours.get("error_code"), theirs.get("error_code")) for ours, theirs in difference.context}
    return bool(codes & {(3, 6), (100, 6)})


def nobody_named(difference: Difference) -> bool:
    return not difference.ours


def of_chance(difference: Difference) -> bool:
    """A topic that the brokers made by themselves: its replicas are in an order that nobody said."""
    return any(str(ours.get("name")).startswith("came") for ours, _ in difference.context)


KNOWN: list[Known] = [
    Known("ApiVersions", "api_keys*", always, "other APIs and versions are served"),
    Known("DescribeTopicPartitions", "", kafka_closes, "served here, by brokers of Kafka 4 only"),
    Known("CreateTopics", "", kafka_is_silent, "DECISIONS 8: Kafka 3.9 makes a topic on brokers that are not there"),
    Known("Fetch", "responses.partitions.*", is_elsewhere, "the data plane knows the partitions that are here"),
    Known("Fetch", "node_endpoints.#", nobody_named, "likewise"),
    Known("Produce", "responses.partition_responses.*", is_elsewhere, "likewise"),
    Known("Produce", "node_endpoints.#", nobody_named, "likewise"),
    Known("Metadata", "topics.partitions.*", of_chance, "who leads is drawn by lot"),
    Known("ControlledShutdown", "error_code", code(8, -1), "3.9 fails over a broker that it does not know"),
]


def reason(difference: Difference) -> str | None:
    """Why this difference is meant; None when it is not."""
    for known in KNOWN:
        if known.api == difference.api and fnmatchcase(difference.path, known.path) and known.when(difference):
            return known.why
    return None
