"""What members of a group say of what they have: the partitions that they were assigned, as they were told last.

What stays true: a member that was told nothing has nothing.
"""

from __future__ import annotations

from typing import Any

from cluster.protocol import messages as m
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version


def members_words(kind: str, wanted: dict[str, Any], saved: dict[str, Any]) -> Any:
    """Of a placeholder:

    assigned       for a heartbeat of the consumer protocol; first=N: of each topic so many partitions
    subscription   of a member of the classic protocol: topics, version, and owned="all" or "none" of what it was given
    assignment     what a classic leader gives: partitions of a topic
    """
    if kind == "assigned":
        return assigned(saved.get("assignment"), wanted.get("first"))
    if kind == "assignment":
        entry = m.ConsumerProtocolAssignment.TopicPartition
        given = [entry(topic=wanted["topic"], partitions=wanted["partitions"])]
        return encode_versioned(m.ConsumerProtocolAssignment(assigned_partitions=given), 1)
    owned = []
    data = saved.get("assignment")
    if wanted["owned"] == "all" and data:
        entry = m.ConsumerProtocolSubscription.TopicPartition
        told = m.ConsumerProtocolAssignment.decode(data, read_version(data), VERSION_BYTES).assigned_partitions
        owned = [entry(topic=each.topic, partitions=each.partitions) for each in told]
    subscription = m.ConsumerProtocolSubscription(topics=wanted["topics"], owned_partitions=owned)
    if wanted["version"] >= 2:
        subscription.generation_id = saved.get("generation", -1)
    return encode_versioned(subscription, wanted["version"])


def assigned(told: m.ConsumerGroupHeartbeatResponse.Assignment | None, first: int | None) -> list[dict[str, Any]]:
    if told is None:
        return []
    return [{"topic_id": each.topic_id, "partitions": each.partitions[:first]} for each in told.topic_partitions]
