"""Figures of all groups that a broker coordinates, for whoever watches it.

What stays true: nothing is counted along the way but rebalances, which `RebalanceCounts` counts; everything else is
looked up when it is asked for. The lag of a group is that of the partitions whose ends this broker knows: those that it
leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.coordinator.group_state import GroupState
from cluster.coordinator.journal import RebalanceCounts
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.coordinator.group_coordinator import AnyGroup


class GroupFigures(NamedTuple):
    """`groups`: how many are in each state. `rebalances`: how many began, by the kind of their cause; `rebalance_ms`:
    what those that ended took, all together. `lag`: by group, the records that are not committed."""

    groups: dict[str, int]
    members: int
    offsets: int
    rebalances: dict[str, int]
    rebalances_ended: int
    rebalance_ms: int
    lag: dict[str, int]


def group_figures(
    groups: Iterable[AnyGroup], counts: RebalanceCounts, end_of: Callable[[str, int], int | None]
) -> GroupFigures:
    """`end_of`: the offset behind the last record that can be read of a partition; None: not known here."""
    states: dict[str, int] = {}
    members = offsets = 0
    lag: dict[str, int] = {}
    for group in groups:
        if group.state is GroupState.DEAD:
            continue
        states[group.state.value] = states.get(group.state.value, 0) + 1
        members += len(group.members)
        offsets += len(group.offsets.committed)
        for (topic, partition), committed in group.offsets.committed.items():
            end = end_of(topic, partition)
            if end is not None:
                lag[group.group_id] = lag.get(group.group_id, 0) + max(0, end - committed.offset)
    return GroupFigures(states, members, offsets, dict(counts.begun), counts.ended, counts.took_ms, lag)
