"""What consumers subscribe to, read from the metadata they bring to their group.

What stays true: the coordinator reads only the part of the consumer protocol that all its versions begin with, so a
client with a newer version, or one whose bytes are not what they claim, costs it nothing but this knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, read_version

CONSUMER_PROTOCOL_TYPE = "consumer"


def subscribed_topics(subscriptions: Iterable[bytes]) -> frozenset[str] | None:
    """The topics of all members; None when one of them cannot be read, and anything may be subscribed to."""
    topics: set[str] = set()
    try:
        for data in subscriptions:
            if read_version(data) < 0:
                return None
            topics.update(m.ConsumerProtocolSubscription.decode(data, 0, VERSION_BYTES, exact=False).topics)
    except DecodeError:
        return None
    return frozenset(topics)
