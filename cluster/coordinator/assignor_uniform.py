"""`uniform`, when all members read the same topics: everybody has as many partitions as anybody, or one more.

What stays true: a member keeps what it had as far as its share allows, and what is left over goes to those who have
less. Who has had one more may keep it as long as there are enough others left to take the remaining ones.
"""

from __future__ import annotations

from cluster.coordinator.assignor import Spec, walked
from cluster.coordinator.consumer_member import Target
from cluster.coordinator.consumer_records import topics_in_order
from cluster.coordinator.hash_order import copied_table, int_order

_NOTHING: Target = {}


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
        assigned = spec.assigned(topic_id)
        free += [(topic_id, index) for index in range(count) if index not in assigned]
        total += count
    known = spec.targets
    quota, extra = divmod(total, len(member_ids))
    read = set(topics)
    targets: dict[str, Target] = {}
    unfilled: list[tuple[str, int]] = []
    left = len(member_ids)
    for member_id in member_ids:
        had = known.get(member_id, _NOTHING)
        has_extra = extra > 0
        room = quota + has_extra
        size = 0
        for topic_id, partitions in had.items():
            if topic_id not in read or not partitions:
                size = room + 1
                break
            size += len(partitions)
        if size <= room:
            targets[member_id] = had  # the same, so that nobody has to compare it
            room -= size
        else:
            targets[member_id], room = _keep(had, read, room, free)
        if room and has_extra and left > extra:
            room -= 1
            has_extra = False
        if room:
            unfilled.append((member_id, room))
        extra -= has_extra
        left -= 1
    position = 0
    for member_id, room in unfilled:
        given = free[position : position + room]
        if given:
            targets[member_id] = _with(targets[member_id], given)
        position += room
    assert position >= len(free)
    return targets


def _keep(had: Target, read: set[bytes], room: int, free: list[tuple[bytes, int]]) -> tuple[Target, int]:
    """What a member keeps, and how much room it has left. What is too much for it becomes free."""
    kept: Target = {}
    for topic_id in topics_in_order(had):
        if topic_id not in read:
            continue
        partitions = int_order(had[topic_id], copied_table(len(had[topic_id])))
        if partitions[:room]:
            kept[topic_id] = frozenset(partitions[:room])
        free += [(topic_id, partition) for partition in partitions[room:]]
        room -= min(room, len(partitions))
    return {topic_id: kept[topic_id] for topic_id in topics_in_order(kept)}, room


def _with(kept: Target, given: list[tuple[bytes, int]]) -> Target:
    more: dict[bytes, set[int]] = {}
    for topic_id, partition in given:
        more.setdefault(topic_id, set()).add(partition)
    both = {topic_id: kept.get(topic_id, frozenset()) | more.get(topic_id, set()) for topic_id in (*kept, *more)}
    return {topic_id: both[topic_id] for topic_id in topics_in_order(both)}
