"""`uniform`, when members read different topics: as even as their subscriptions allow, moving as little as it takes.

What stays true: a member keeps all it had of the topics it still reads until the balancing takes some of it away, and
that only moves a partition from a member to one that has at least two fewer. Topics with the most partitions for each
reader are served first, for they leave the least choice.
"""

from __future__ import annotations

from cluster.coordinator.assignor import Spec
from cluster.coordinator.consumer_member import Target
from cluster.coordinator.consumer_records import topics_in_order

_MOST_ROUNDS = 16
_NOBODY = -1


def assign(spec: Spec) -> dict[str, Target]:
    return _Builder(spec).build()


class _Builder:
    """Members go by their number in the order in which they are walked."""

    __slots__ = ("_counts", "_ids", "_owners", "_readers", "_sizes", "_spec")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._ids = spec.member_ids()
        self._readers: dict[bytes, list[int]] = {}
        for number, member_id in enumerate(self._ids):
            for topic_id in spec.members[member_id].topics:
                self._readers.setdefault(topic_id, []).append(number)
        self._counts = {topic_id: spec.count(topic_id) for topic_id in self._readers}
        self._owners = {topic_id: [_NOBODY] * count for topic_id, count in self._counts.items()}
        self._sizes = [0] * len(self._ids)

    def build(self) -> dict[str, Target]:
        if not self._readers:
            return {}
        self._keep()
        for topic_id in self._ranked(self._readers):
            owners = self._owners[topic_id]
            free = [partition for partition, owner in enumerate(owners) if owner == _NOBODY]
            if free:
                balancer = _Balancer(self._sizes, self._readers[topic_id])
                for partition in free:
                    self._give(topic_id, partition, balancer.least_loaded())
        self._balance()
        targets: list[dict[bytes, set[int]]] = [{} for _ in self._ids]
        for topic_id, owners in self._owners.items():
            for partition, owner in enumerate(owners):
                targets[owner].setdefault(topic_id, set()).add(partition)
        return {
            member_id: {topic_id: frozenset(target[topic_id]) for topic_id in topics_in_order(target)}
            for member_id, target in zip(self._ids, targets, strict=True)
        }

    def _keep(self) -> None:
        for number, member_id in enumerate(self._ids):
            member = self._spec.members[member_id]
            for topic_id, partitions in member.target.items():
                if topic_id in member.topics:
                    self._sizes[number] += len(partitions)
                    for partition in partitions:
                        self._owners[topic_id][partition] = number

    def _ranked(self, topic_ids: dict[bytes, list[int]]) -> list[bytes]:
        def rank(topic_id: bytes) -> tuple[float, int, tuple[int, int]]:
            readers = len(self._readers[topic_id])
            return (-self._counts[topic_id] / readers, readers, _signed(topic_id))

        return sorted(topic_ids, key=rank)

    def _give(self, topic_id: bytes, partition: int, number: int) -> None:
        owner = self._owners[topic_id][partition]
        if owner != _NOBODY:
            self._sizes[owner] -= 1
        self._owners[topic_id][partition] = number
        self._sizes[number] += 1

    def _balance(self) -> None:
        """Go round the topics until one round moved nothing."""
        topics = self._ranked({each: readers for each, readers in self._readers.items() if len(readers) > 1})
        last_moved = -1
        for _ in range(_MOST_ROUNDS):
            for index, topic_id in enumerate(topics):
                if index == last_moved:
                    return
                if self._balance_topic(topic_id) or last_moved == -1:
                    last_moved = index

    def _balance_topic(self, topic_id: bytes) -> int:
        """Move partitions from those who have most to those who have least; returns how many."""
        balancer = _Balancer(self._sizes, self._readers[topic_id])
        if balancer.imbalance <= 1:
            return 0
        held: dict[int, list[int]] = {}
        for partition, owner in enumerate(self._owners[topic_id]):
            held.setdefault(owner, []).append(partition)
        moved = 0
        while not balancer.is_balanced():
            giver = balancer.most_loaded()
            while giver != _NOBODY and not held.get(giver):
                balancer.exclude_most_loaded()
                giver = balancer.most_loaded()
            if giver == _NOBODY:
                break
            partition = held[giver].pop()
            taker = balancer.least_loaded()
            if balancer.is_balanced():
                break
            self._give(topic_id, partition, taker)
            moved += 1
        return moved


class _Balancer:
    """The readers of one topic, those with the fewest partitions first.

    Two runs of equally loaded readers are kept, at the low end and at the high end. `least_loaded` hands out those of
    the low run in turn, and when each has had its turn the run is one partition higher and takes in the readers that
    have as many; `most_loaded` does the same from the other end, downwards. The readers are balanced when the two
    levels are at most one apart.
    """

    __slots__ = (
        "_high_end",
        "_high_level",
        "_high_next",
        "_high_start",
        "_low_end",
        "_low_level",
        "_low_next",
        "_members",
        "_sizes",
        "imbalance",
    )

    def __init__(self, sizes: list[int], members: list[int]) -> None:
        self._sizes = sizes
        self._members = sorted(members, key=lambda number: (sizes[number], number))
        least, most = sizes[self._members[0]], sizes[self._members[-1]]
        self._low_end = 0
        self._low_level = least - 1
        self._low_next = 0
        self._high_start = len(members)
        self._high_end = len(members)
        self._high_level = most + 1
        self._high_next = len(members) - 1
        self.imbalance = most - least

    def is_balanced(self) -> bool:
        return self._high_level - self._low_level <= 1

    def least_loaded(self) -> int:
        members, sizes = self._members, self._sizes
        if self._low_next >= self._low_end:
            self._low_level += 1
            while self._low_end < len(members) and sizes[members[self._low_end]] == self._low_level:
                self._low_end += 1
            self._low_next = 0
        self._low_next += 1
        return members[self._low_next - 1]

    def most_loaded(self) -> int:
        """The next giver; -1: nobody is left who could give."""
        members, sizes = self._members, self._sizes
        if self._high_next < self._high_start:
            if self._high_end <= self._high_start and self._high_start > 0:
                # The run was emptied by exclusions: its level is that of the next one.
                self._high_level = sizes[members[self._high_start - 1]]
            else:
                self._high_level -= 1
            while self._high_start > 0 and sizes[members[self._high_start - 1]] == self._high_level:
                self._high_start -= 1
            self._high_next = self._high_end - 1
        if self._high_next < 0:
            return _NOBODY
        self._high_next -= 1
        return members[self._high_next + 1]

    def exclude_most_loaded(self) -> None:
        """The one handed out last has nothing of this topic to give."""
        members, last = self._members, self._high_end - 1
        at = self._high_next + 1
        members[at], members[last] = members[last], members[at]
        self._high_end -= 1


def _signed(topic_id: bytes) -> tuple[int, int]:
    """What Kafka compares ids by: two signed halves."""
    return int.from_bytes(topic_id[:8], "big", signed=True), int.from_bytes(topic_id[8:], "big", signed=True)
