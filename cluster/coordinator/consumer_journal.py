"""Rebalances of a group of the consumer protocol, for its journal.

What stays true: one begins with a new epoch of the group and ends when every member has what it is to have by the last
one; epochs that come meanwhile are part of it. To see that costs a look at one member for each change that is written,
and at each member once for each assignment.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.coordinator import journal
from cluster.coordinator.consumer_env import JOIN, REBALANCE, SESSION, SYNC, Change
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_member import JOINING_EPOCH, ConsumerMember
from cluster.coordinator.consumer_records import MemberDeleted, MemberStored
from cluster.coordinator.group import Group
from cluster.coordinator.journal import Cause, Journal, Rebalance

_LATE = {
    SESSION: (journal.EXPIRED, "expired"),
    REBALANCE: (journal.NOT_REVOKED, "did not give up partitions in time"),
    JOIN: (journal.NOT_JOINED, "did not join in time"),
    SYNC: (journal.NOT_SYNCED, "did not sync in time"),
}


def causes(group: ConsumerGroup | Group | None, change: Change) -> tuple[Cause, ...]:
    """Why the group, as it is before the change, gets a new epoch by it; nothing if it gets none."""
    if not change.begins_epoch:
        return ()
    known: dict[str, ConsumerMember] = group.members if isinstance(group, ConsumerGroup) else {}
    is_upgraded = isinstance(group, Group) and len(group.members) > 0
    found: dict[str, Cause] = {}
    instances: set[str | None] = {None}
    if is_upgraded:
        found[""] = Cause(journal.CONVERTED, "converted to the consumer protocol")
    for fact in change.facts:
        if isinstance(fact, MemberStored) and not (is_upgraded and fact.member.epoch != JOINING_EPOCH):
            member = fact.member
            instances.add(member.instance_id)
            found.setdefault(member.member_id, _came(group, known, member))
    for fact in change.facts:
        gone = known.get(fact.member_id) if isinstance(fact, MemberDeleted) else None
        if gone is not None and gone.instance_id in instances - {None}:
            continue  # somebody has taken its place
        if gone is not None:
            kind, what = _LATE.get(change.late_with, (journal.LEFT, "left"))
            found[gone.member_id] = _cause(kind, f"member {gone.member_id} {what}", gone)
    return tuple(found.values()) or (Cause(journal.TOPICS_CHANGED, "the topics that are read have changed"),)


def _came(group: ConsumerGroup | Group | None, known: dict[str, ConsumerMember], member: ConsumerMember) -> Cause:
    if member.member_id in known:
        return _cause(journal.SUBSCRIPTION_CHANGED, f"member {member.member_id} has another subscription", member)
    if isinstance(group, ConsumerGroup) and group.static_member(member.instance_id) is not None:
        return _cause(journal.STATIC_REPLACED, f"static member {member.instance_id} came back", member)
    return _cause(journal.JOINED, f"new member {member.member_id}", member)


def _cause(kind: str, text: str, member: ConsumerMember) -> Cause:
    return Cause(kind, text, member.member_id, member.client_id, member.client_host)


class ConsumerRebalance:
    """One that is under way. `_witness`: a member that has not all yet; those before it in `_others` have."""

    __slots__ = ("_epoch", "_journal", "_others", "_witness")

    def __init__(self, kept: Journal, group: ConsumerGroup, why: Cause, now_ms: int) -> None:
        self._journal = kept
        kept.begin(why, group.epoch, len(group.members), now_ms)
        self._epoch = -1
        self._others: Iterator[str] = iter(())
        self._witness: str | None = None

    def look(self, group: ConsumerGroup, now_ms: int) -> Rebalance | None:
        """What it was, if it is over now."""
        if not group.members:
            self._journal.joined(group.epoch, 0, now_ms)
            return self._journal.end(journal.EMPTY, now_ms)
        if group.epoch > group.assignment_epoch:
            return None
        if self._epoch != group.assignment_epoch:
            self._epoch = group.assignment_epoch
            self._journal.joined(group.epoch, len(group.members), now_ms)
            self._others = iter(list(group.members))
            self._witness = next(self._others, None)
        while self._witness is not None:
            member = group.members.get(self._witness)
            if member is not None and not member.is_reconciled_to(self._epoch):
                return None
            self._witness = next(self._others, None)
        return self._journal.end(journal.STABLE, now_ms)
