"""The states of a group and the ways between them.

    Empty               no members; offsets may remain
    PreparingRebalance  JoinGroups are parked until all members have joined or the rebalance timeout is over
    CompletingRebalance a new generation is announced; SyncGroups are parked until the leader's assignment is durable
    Stable              every member can have its assignment
    Dead                being deleted, or its shard is being unloaded

Which event takes which way is in `group.py`; a way that is not here is a bug and asserts. Groups of the consumer
protocol take none: their states, two of which only they have, follow from their members (`consumer_group.py`).
"""

from __future__ import annotations

from enum import Enum


class GroupState(Enum):
    """The value is the name that clients see."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"


_NEXT: dict[GroupState, tuple[GroupState, ...]] = {
    GroupState.EMPTY: (GroupState.PREPARING, GroupState.DEAD),
    GroupState.PREPARING: (GroupState.COMPLETING, GroupState.EMPTY, GroupState.DEAD),
    GroupState.COMPLETING: (GroupState.STABLE, GroupState.PREPARING, GroupState.DEAD),
    GroupState.STABLE: (GroupState.PREPARING, GroupState.DEAD),
    # Back to Empty when the record that should have deleted the group was not written.
    GroupState.DEAD: (GroupState.EMPTY,),
}


def may_follow(state: GroupState, following: GroupState) -> bool:
    return following in _NEXT[state]
