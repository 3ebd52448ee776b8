"""The version of the metadata rises with all that groups are decided upon, and with nothing else; whoever answers for
the coordinators hears of it before the change is over."""

from __future__ import annotations

from cluster.broker.metadata_cache import BrokerMetadata, MetadataCache, PartitionMetadata, TopicMetadata
from pylog.types import TopicPartition

T = TopicMetadata(
    "t", b"t" * 16, (PartitionMetadata(0, 1, 5, (1, 2), (1, 2)), PartitionMetadata(1, 2, 5, (2, 1), (2,)))
)


def known() -> tuple[MetadataCache, list[int]]:
    told: list[int] = []
    cache = MetadataCache("c", told.append)
    cache.set_brokers([BrokerMetadata(1, {}, "a"), BrokerMetadata(2, {}, None)], 1)
    cache.put(T)
    assert told == [1, 2] == [*range(1, cache.version + 1)]
    told.clear()
    return cache, told


def test_leaders_and_replicas_in_sync_change_nothing() -> None:
    cache, told = known()
    first = T.partitions[0]._replace(leader=2, leader_epoch=6, isr=(2,), offline=(1,))
    cache.put(T._replace(partitions=(first, T.partitions[1])))
    cache.update({"t": (T.topic_id, [first])}, [])
    cache.set_brokers([BrokerMetadata(2, {"L": ("h", 1)}, None), BrokerMetadata(1, {}, "a")], 2)
    cache.drop("nothing")
    assert not told
    assert cache.topics["t"].partitions[0].leader == 2
    assert cache.controller_id == 2


def test_topics_partitions_and_where_they_are_do() -> None:
    cache, told = known()
    cache.update({"t": (T.topic_id, [PartitionMetadata(2, 1, 0, (1,), (1,))])}, [])
    assert told == [3]
    cache.put(cache.topics["t"]._replace(topic_id=b"u" * 16))
    assert told == [3, 4]
    first = PartitionMetadata(0, 1, 5, (1, 3), (1, 3))
    cache.put(cache.topics["t"]._replace(partitions=(first, *cache.topics["t"].partitions[1:])))
    assert told == [3, 4, 5]
    cache.update({}, [TopicPartition("t", 2)])
    assert told == [3, 4, 5, 6]
    cache.drop("t")
    assert told == [3, 4, 5, 6, 7]
    cache.set_brokers([BrokerMetadata(1, {}, "b")], 1)
    cache.set_brokers([], -1)
    cache.changes()
    assert told == [3, 4, 5, 6, 7, 8, 9, 10]
    assert cache.version == 10
