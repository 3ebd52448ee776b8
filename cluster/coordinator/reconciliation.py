"""The way of one member from the partitions it has to those it is to have.

What stays true: a member is given a partition only when nobody has it; it keeps its epoch until it has given up all
that it is to give up; then it goes to the epoch of the target in one step, with whatever of the target is free.

    Stable               --a newer target takes something away-->  UnrevokedPartitions
    UnrevokedPartitions  --it reports that it has given it up-->   the target's epoch, as below
    any                  --all of the target is its own-->         Stable
    any                  --others still have some of it-->         UnreleasedPartitions
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cluster.coordinator.consumer_member import ConsumerMember, MemberState, Owned, Target
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple


class Goal(NamedTuple):
    """`subscribed`: the ids of the topics it reads; anything else it has is taken away, whatever the target says.
    `is_owned`: whether somebody has a partition, this member included. `reported`: what the member says it has; None:
    it did not say."""

    epoch: int
    target: Target
    subscribed: Collection[bytes]
    is_owned: Callable[[bytes, int], bool]
    reported: dict[bytes, set[int]] | None
    has_new_subscription: bool = False


def reconcile(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """The member after its next step; itself when it has to wait. Raises KafkaError(FENCED_MEMBER_EPOCH)."""
    if member.state is MemberState.STABLE:
        if member.epoch != goal.epoch:
            return _step(member, member.epoch, goal)
        return _drop_unsubscribed(member, goal) if goal.has_new_subscription else member
    if member.state is MemberState.UNREVOKED_PARTITIONS and _reports_any(goal.reported, member.revoking):
        return _drop_unsubscribed(member, goal) if goal.has_new_subscription else member
    if member.state is MemberState.UNKNOWN:
        if goal.reported is None or goal.reported:
            what = "The consumer group member is in a unknown state"
            raise KafkaError(
                ErrorCode.FENCED_MEMBER_EPOCH, f"{what}. The member must abandon all its partitions and rejoin."
            )
        return _step(member, goal.epoch, goal)
    return _step(member, member.epoch, goal)


def _reports_any(reported: dict[bytes, set[int]] | None, revoking: Owned) -> bool:
    """Whether a member still has some of these, for all we know."""
    if reported is None:
        return True
    return any(not partitions.isdisjoint(revoking.get(topic_id, ())) for topic_id, partitions in reported.items())


def _drop_unsubscribed(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """Take away what it does not read any more, and nothing else."""
    dropped = {topic_id: had for topic_id, had in member.assigned.items() if topic_id not in goal.subscribed}
    if not dropped:
        return member
    assigned = {topic_id: had for topic_id, had in member.assigned.items() if topic_id not in dropped}
    revoking = dict(member.revoking)
    for topic_id, had in dropped.items():
        revoking[topic_id] = revoking.get(topic_id, {}) | had
    if _reports_any(goal.reported, revoking):
        return member.at_epoch(member.epoch, MemberState.UNREVOKED_PARTITIONS, assigned, revoking)
    return member.at_epoch(member.epoch, member.state, assigned, member.revoking)


def _step(member: ConsumerMember, epoch: int, goal: Goal) -> ConsumerMember:
    kept: Owned = {}
    revoking: Owned = {}
    gained: dict[bytes, list[int]] = {}
    waits = False
    for topic_id in dict.fromkeys((*goal.target, *member.assigned)):
        target = goal.target.get(topic_id, frozenset()) if topic_id in goal.subscribed else frozenset()
        had = member.assigned.get(topic_id, {})
        keep = {partition: since for partition, since in had.items() if partition in target}
        give_up = {partition: since for partition, since in had.items() if partition not in target}
        own = member.revoking.get(topic_id, {})
        for partition in sorted(target):
            if partition in keep:
                continue
            # What it was giving up itself nobody else can have been given.
            if partition in own or not goal.is_owned(topic_id, partition):
                gained.setdefault(topic_id, []).append(partition)
            else:
                waits = True
        if keep:
            kept[topic_id] = keep
        if give_up:
            revoking[topic_id] = give_up
    if revoking and _reports_any(goal.reported, revoking):
        return member.at_epoch(epoch, MemberState.UNREVOKED_PARTITIONS, kept, revoking)
    for topic_id, partitions in gained.items():
        kept[topic_id] = kept.get(topic_id, {}) | dict.fromkeys(partitions, goal.epoch)
    state = MemberState.UNRELEASED_PARTITIONS if waits else MemberState.STABLE
    return member.at_epoch(goal.epoch, state, kept, {})
