"""What the assignors of the consumer protocol are given, and how Kafka walks it.

What stays true: an assignor is a function of a `Spec` and nothing else; every member of the spec is in its answer, and
no partition is given to two. Members and topics are walked in the order in which Kafka's maps are, because ties are
broken by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from cluster.coordinator.consumer_member import Target
from cluster.coordinator.hash_order import copied_table, grown_table, hash_order, string_hash, uuid_hash
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TypeAlias


class MemberSpec(NamedTuple):
    """`topics`: a set, in order: ids of what it reads, those that exist. `target`: what it was to have until now."""

    instance_id: str | None
    topics: Mapping[bytes, None]
    target: Target


class Spec(NamedTuple):
    """`targets`: what members were to have until now; who is not in it nothing. `is_uniform`: all members read the same
    topics. `assigned`: the partitions of a topic that some target of the
    group has, be it of a member that is not in `members` any more."""

    members: Mapping[str, MemberSpec]
    targets: Mapping[str, Target]
    is_uniform: bool
    partition_count: Callable[[bytes], int]
    assigned: Callable[[bytes], Collection[int]]

    def member_ids(self) -> list[str]:
        return hash_order(self.members, string_hash, grown_table(len(self.members)))

    def count(self, topic_id: bytes) -> int:
        """Raises KafkaError if there is no such topic."""
        count = self.partition_count(topic_id)
        if count <= 0:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"members read topic {topic_id.hex()}, which is not known")
        return count


Assignor: TypeAlias = Callable[[Spec], dict[str, Target]]


def walked(topic_ids: Iterable[bytes]) -> list[bytes]:
    """The topics of a set that was made as a copy of another."""
    known = list(topic_ids)
    return hash_order(known, uuid_hash, copied_table(len(known)))


def range_assignor(spec: Spec) -> dict[str, Target]:
    from cluster.coordinator.assignor_range import assign

    return assign(spec)


def uniform_assignor(spec: Spec) -> dict[str, Target]:
    if spec.is_uniform:
        from cluster.coordinator.assignor_uniform import assign

        return assign(spec)
    from cluster.coordinator.assignor_mixed import assign as assign_mixed  # mypyc: one name, one function

    return assign_mixed(spec)


_BUILT_IN: dict[str, Assignor] = {"uniform": uniform_assignor, "range": range_assignor}
_CLASSES = {
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range",
}


def assignors(names: Iterable[str]) -> dict[str, Assignor]:
    """The assignors of `group.consumer.assignors`, by the names that members use; the first is the group's default."""
    found: dict[str, Assignor] = {}
    for name in names:
        short = _CLASSES.get(name, name)
        found[short] = _BUILT_IN[short]
    return found
