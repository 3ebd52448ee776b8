"""What consumers of the classic protocol say in the bytes that only they used to read: subscriptions and assignments.

What stays true: bytes of a newer version are read as the newest known here, and an assignment is written in the version
of the subscription it answers.
"""

from __future__ import annotations

from cluster.coordinator.consumer_member import Target
from cluster.coordinator.consumer_records import in_order, topics_in_order
from cluster.coordinator.context import Topics
from cluster.protocol import messages as m
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version

_NEWEST = 3


def read_subscription(data: bytes) -> m.ConsumerProtocolSubscription:
    """Raises DecodeError."""
    version = min(read_version(data), _NEWEST)
    return m.ConsumerProtocolSubscription.decode(data, version, VERSION_BYTES, exact=False)


def read_assignment(data: bytes) -> m.ConsumerProtocolAssignment:
    """Raises DecodeError."""
    version = min(read_version(data), _NEWEST)
    return m.ConsumerProtocolAssignment.decode(data, version, VERSION_BYTES, exact=False)


def write_assignment(target: Target, topics: Topics, version: int) -> bytes:
    """Of topics that are no more nothing is said."""
    named = ((topics.topic_name(topic_id), target[topic_id]) for topic_id in topics_in_order(target))
    assignment = m.ConsumerProtocolAssignment(
        assigned_partitions=[
            m.ConsumerProtocolAssignment.TopicPartition(topic=name, partitions=in_order(partitions))
            for name, partitions in named
            if name is not None
        ]
    )
    return encode_versioned(assignment, min(version, _NEWEST))
