"""Which fetcher fetches which partition, and which replicas are throttled.

What stays true: a partition is fetched from one leader by one fetcher, chosen by Kafka's hash, so that adding and
removing partitions moves no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pylog.types import TopicPartition

_BITS = 0xFFFFFFFF
_SIGN = 0x80000000
_ABS_MASK = 0x7FFFFFFF


def fetcher_of(partition: TopicPartition, fetchers: int) -> int:
    """`abs(31 * topic.hashCode() + partition) % fetchers` in Java's 32 bits, the smallest number counting as 0."""
    value = (31 * _hash(partition.topic) + partition.partition) & _BITS
    if value & _SIGN:
        value = (_BITS + 1 - value) & _ABS_MASK
    return value % fetchers


@lru_cache(maxsize=1024)
def _hash(text: str) -> int:
    """`String.hashCode`: of UTF-16 units, its 32 bits."""
    value = 0
    data = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(data), 2):
        value = (value * 31 + (data[position] << 8 | data[position + 1])) & _BITS
    return value


def is_throttled(replicas: Iterable[str], partition: int, broker_id: int) -> bool:
    """`leader.` or `follower.replication.throttled.replicas` of a topic: `*`, or entries `partition:broker`."""
    name = f"{partition}:{broker_id}"
    return any(entry in ("*", name) for entry in replicas)
