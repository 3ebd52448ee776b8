"""What is told of groups to whoever watches a broker.

What stays true: nothing is counted along the way but what `GroupCounts` counts; everything else is looked up when it is
asked for. What was looked up does not change any more, so that it can be dealt with on another thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.coordinator.group import Group
from cluster.coordinator.group_state import GroupState
from cluster.coordinator.offsets import Committed, TopicPartition
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.coordinator.group_coordinator import AnyGroup

CLASSIC: Final = "classic"
CONSUMER: Final = "consumer"


class GroupSeen(NamedTuple):
    """A group at one moment. `protocol`: CLASSIC, also when it has nothing but offsets, or CONSUMER."""

    group_id: str
    protocol: str
    state: str
    members: int
    committed: dict[TopicPartition, Committed]


def look_at(groups: Iterable[AnyGroup]) -> list[GroupSeen]:
    """Those of them that are not being deleted."""
    return [
        GroupSeen(
            group.group_id,
            CLASSIC if isinstance(group, Group) else CONSUMER,
            group.state.value,
            len(group.members),
            group.offsets.committed.copy(),
        )
        for group in groups
        if group.state is not GroupState.DEAD
    ]
