"""What consumers of the classic protocol say to one another: subscriptions, and what their leader assigns.

What stays true: an eager leader deals everything out anew. A cooperative one gives nobody a partition while another
says that he has it; who has too many is given fewer, and what he gives up is dealt out the next time.
"""

from __future__ import annotations

from cluster.protocol import messages as m
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from tests.sim.group_host import PARTITIONS, TOPIC

EAGER, COOPERATIVE = "range", "cooperative-sticky"
_VERSION = 3


def subscription(owned: list[int], generation: int) -> bytes:
    claims = [m.ConsumerProtocolSubscription.TopicPartition(topic=TOPIC, partitions=owned)] if owned else []
    message = m.ConsumerProtocolSubscription(topics=[TOPIC], owned_partitions=claims, generation_id=generation)
    return encode_versioned(message, _VERSION)


def assignment(partitions: list[int]) -> bytes:
    mine = [m.ConsumerProtocolAssignment.TopicPartition(topic=TOPIC, partitions=partitions)] if partitions else []
    return encode_versioned(m.ConsumerProtocolAssignment(assigned_partitions=mine), _VERSION)


def assigned(data: bytes) -> list[int]:
    """What such bytes give to whom they are told; nothing is nothing."""
    if not data:
        return []
    message = m.ConsumerProtocolAssignment.decode(data, read_version(data), VERSION_BYTES)
    return sorted(index for each in message.assigned_partitions for index in each.partitions)


def deal(subscriptions: dict[str, bytes], *, cooperative: bool) -> dict[str, list[int]]:
    """Who gets what, by member id."""
    hands: dict[str, list[int]] = {each: [] for each in sorted(subscriptions)}
    claims = _claims(subscriptions) if cooperative else {}
    most = -(-PARTITIONS // max(1, len(hands)))
    for partition, owner in sorted(claims.items()):
        if len(hands[owner]) < most:
            hands[owner].append(partition)
    for partition in range(PARTITIONS if hands else 0):
        if partition not in claims:
            min(hands.values(), key=len).append(partition)
    return hands


def _claims(subscriptions: dict[str, bytes]) -> dict[int, str]:
    """Who has each partition: of those who say so, whoever was in the newest generation."""
    found: dict[int, tuple[int, str]] = {}
    for member_id, data in sorted(subscriptions.items()):
        message = m.ConsumerProtocolSubscription.decode(data, read_version(data), VERSION_BYTES)
        for topic in message.owned_partitions:
            for partition in topic.partitions:
                found[partition] = max(found.get(partition, (-2, "")), (message.generation_id, member_id))
    return {partition: member_id for partition, (_, member_id) in found.items()}
