"""`uniform`, when all members read the same topics: everybody has as many partitions as anybody, or one more.

What stays true: a member keeps what it had as far as its share allows, and what is left over goes to those who have
less. Who has had one more may keep it as long as there are enough others left to take the remaining ones.
"""

from __future__ import annotations

from cluster.coordinator.assignor import Spec, walked
from cluster.coordinator.consumer_member import Target
from cluster.coordinator.consumer_records import topics_in_order
from cluster.coordinator.hash_order import copied_table, hash_order, int_hash


def assign(spec: Spec) -> dict[str, Target]:
    member_ids = spec.member_ids()
    if not member_ids:
        return {}
    topics = walked(spec.members[member_ids[0]].topics)
    if not topics:
        return {}
    free: list[tuple[bytes, int]] = []
    total = 0
    for topic_id in topics:
        count = spec.count(topic_id)
        free += [(topic_id, index) for index in range(count) if not spec.is_assigned(topic_id, index)]
        total += count
    quota, extra = divmod(total, len(member_ids))
    read = set(topics)
    targets: dict[str, dict[bytes, set[int]]] = {}
    unfilled: list[tuple[str, int]] = []
    for index, member_id in enumerate(member_ids):
        has_extra = extra > 0
        kept, room = _keep(spec.members[member_id].target, read, quota + has_extra, free)
        targets[member_id] = kept
        if room and has_extra and len(member_ids) - index > extra:
            room -= 1
            has_extra = False
        if room:
            unfilled.append((member_id, room))
        extra -= has_extra
    position = 0
    for member_id, room in unfilled:
        for topic_id, partition in free[position : position + room]:
            targets[member_id].setdefault(topic_id, set()).add(partition)
        position += room
    assert position >= len(free)
    return {
        member_id: {topic_id: frozenset(kept[topic_id]) for topic_id in topics_in_order(kept)}
        for member_id, kept in targets.items()
    }


def _keep(had: Target, read: set[bytes], room: int, free: list[tuple[bytes, int]]) -> tuple[dict[bytes, set[int]], int]:
    """What a member keeps, and how much room it has left. What is too much for it becomes free."""
    kept: dict[bytes, set[int]] = {}
    for topic_id in topics_in_order(had):
        if topic_id not in read:
            continue
        partitions = hash_order(sorted(had[topic_id]), int_hash, copied_table(len(had[topic_id])))
        if partitions[:room]:
            kept[topic_id] = set(partitions[:room])
        free += [(topic_id, partition) for partition in partitions[room:]]
        room -= min(room, len(partitions))
    return kept, room
