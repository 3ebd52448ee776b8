"""A topic of a store: its partitions, and which of them a key belongs to.

Keeps true: a key's partition is the one that Kafka's Java client chooses, so producers of both kinds agree; what is
encoded with a topic's serdes is what Kafka's serializers of the same name write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from pylog.partition import Durability, Partition
from pylog.partition_reader import PartitionReader
from pylog.record import HeadersLike
from pylog.store_errors import UnknownTopicError
from pylog.types import TopicPartition

P = TypeVar("P", bound=PartitionReader)


class TopicReader(Generic[P]):
    """A topic for reading: a sequence of partitions, `topic[0]` the first."""

    __slots__ = ("_partitions", "name")

    def __init__(self, name: str, partitions: Sequence[P]) -> None:
        self.name = name
        self._partitions = partitions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {len(self)} partitions>"

    def __len__(self) -> int:
        return len(self._partitions)

    def __iter__(self) -> Iterator[P]:
        return iter(self._partitions)

    def __getitem__(self, partition: int) -> P:
        """Raises UnknownTopicError when there is no such partition."""
        if not 0 <= partition < len(self._partitions):
            raise UnknownTopicError(f"{self.name} has {len(self)} partitions, no number {partition}")
        return self._partitions[partition]

    def partition_for(self, key: bytes) -> P:
        """The partition that records of this key go to, here and in Kafka's Java client."""
        return self._partitions[(murmur2(key) & 0x7FFFFFFF) % len(self)]


class Topic(TopicReader[Partition]):
    """A topic for reading and appending."""

    __slots__ = ("_turn",)

    def __init__(self, name: str, partitions: Sequence[Partition]) -> None:
        super().__init__(name, partitions)
        self._turn = 0

    def append(
        self,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp_ms: int | None = None,
        headers: HeadersLike = (),
        durability: Durability | None = None,
    ) -> tuple[TopicPartition, int]:
        """Append one record to the partition of its key, without a key to one after the other in turn.

        Returns the partition and the offset. See Partition.append for the rest.
        """
        if key is None:
            self._turn = turn = (self._turn + 1) % len(self)
            partition = self._partitions[turn]
        else:
            partition = self.partition_for(key)
        offset = partition.append(value, key, timestamp_ms=timestamp_ms, headers=headers, durability=durability)
        return partition.topic_partition, offset


_M = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """MurmurHash2 of data as Kafka's partitioner uses it, unsigned 32 bits."""
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & 0xFFFFFFFF
        k = (k ^ k >> 24) * _M & 0xFFFFFFFF
        h = h * _M & 0xFFFFFFFF ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & 0xFFFFFFFF
    h = (h ^ h >> 13) * _M & 0xFFFFFFFF
    return h ^ h >> 15
