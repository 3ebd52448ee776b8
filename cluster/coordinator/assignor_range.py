"""`range`: each topic is cut into as many runs of partitions as it has readers, in the order of the members' names.

What stays true: members that read the same topics with the same number of partitions are given the same numbers of
them, so that records of one key in several topics are joined in one place. Static members come first, by instance id;
nothing is kept for the sake of the members that had it.
"""

from __future__ import annotations

from cluster.coordinator.assignor import Spec
from cluster.coordinator.consumer_member import Target
from cluster.coordinator.consumer_records import utf16
from cluster.coordinator.hash_order import hash_order, sized_table, uuid_hash


class _Topic:
    """What is left of a topic while members are served."""

    __slots__ = ("count", "extra", "next", "quota")

    def __init__(self, count: int, readers: int) -> None:
        self.count = count
        self.quota, self.extra = divmod(count, readers)
        self.next = 0

    def take(self) -> frozenset[int]:
        size = self.quota
        if self.extra:
            size += 1
            self.extra -= 1
        start = self.next
        self.next = min(start + size, self.count)
        return frozenset(range(start, self.next))


def assign(spec: Spec) -> dict[str, Target]:
    def rank(member_id: str) -> tuple[bool, bytes]:
        instance_id = spec.members[member_id].instance_id
        return (instance_id is None, utf16(member_id if instance_id is None else instance_id))

    readers: dict[bytes, int] = {}
    for member in spec.members.values():
        for topic_id in member.topics:
            readers[topic_id] = readers.get(topic_id, 0) + 1
    topics = {topic_id: _Topic(spec.count(topic_id), count) for topic_id, count in readers.items()}
    assigned: dict[str, Target] = {}
    for member_id in sorted(spec.members, key=rank):
        read = spec.members[member_id].topics
        taken = {topic_id: topics[topic_id].take() for topic_id in read}
        walked = hash_order(read, uuid_hash, sized_table(int(len(read) / 0.75) + 1))
        assigned[member_id] = {topic_id: taken[topic_id] for topic_id in walked if taken[topic_id]}
    return assigned
