"""A live group goes from the classic protocol to the consumer protocol, and back.

What stays true: both ways are one write, the records of the one group going and those of the other coming together, so
that a new coordinator finds the one or the other. A group that is upgraded keeps generation and assignments as epoch
and targets, and begins another epoch: a rebalance that was under way goes on in that; what its members were to give up
in the last one is theirs until they say that they have. One that is downgraded keeps its
epoch as generation and what its members have as assignments, and rebalances; after a failover too, if it has not yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cluster.coordinator.consumer_env import AnyFact, Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_member import ClassicProtocols, ConsumerMember, MemberState, Owned, Target
from cluster.coordinator.consumer_protocol import read_assignment, read_subscription, write_assignment
from cluster.coordinator.consumer_records import (
    CurrentDeleted,
    MemberDeleted,
    TargetDeleted,
    TargetStored,
    topics_in_order,
)
from cluster.coordinator.group import Group
from cluster.coordinator.group_records import OVERTAKEN, GroupDeleted, GroupStored, MemberStored
from cluster.coordinator.subscription import CONSUMER_PROTOCOL_TYPE
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import read_version
from pylog.errors import ErrorCode, KafkaError


def to_consumer(env: ConsumerEnv, classic: Group, change: Change) -> ConsumerGroup:
    """The group that takes a classic one's place, all of its members as they are. Raises KafkaError."""
    group_id = classic.group_id
    if not env.may_upgrade():
        why = "online upgrade is disabled"
        raise _not_upgraded(group_id, why)
    if classic.protocol_type != CONSUMER_PROTOCOL_TYPE:
        raise _not_upgraded(group_id, "the group does not use the consumer embedded protocol")
    if len(classic.members) > env.config.consumer.max_size:
        raise _not_upgraded(group_id, "the group size exceeds the consumer group maximum size")
    group = ConsumerGroup(group_id, classic.offsets)
    group.epoch = classic.generation
    group.set_assignment(classic.generation, 0)
    said: list[tuple[m.ConsumerProtocolSubscription, Target]] = []
    for member in classic.members:
        try:
            subscription = read_subscription(member.protocols[classic.protocol or next(iter(member.protocols))])
            said.append((subscription, _assigned(env, group_id, member.assignment)))
        except DecodeError as error:
            raise _not_upgraded(group_id, "the embedded consumer protocol is malformed") from error
    unheard = _unheard(env, said)
    for at, (member, (subscription, target)) in enumerate(zip(classic.members, said, strict=True)):
        group.apply(TargetStored(group_id, member.member_id, target))
        group.put(
            ConsumerMember(
                member.member_id,
                classic.generation,
                classic.generation,
                member.instance_id,
                subscription.rack_id or None,
                member.rebalance_timeout_ms,
                member.client_id,
                member.client_host,
                frozenset(subscription.topics),
                state=MemberState.UNREVOKED_PARTITIONS if unheard[at] else MemberState.STABLE,
                assigned=_since(target, classic.generation),
                revoking=_since(unheard[at], classic.generation),
                classic=ClassicProtocols(member.session_timeout_ms, tuple(member.protocols.items())),
            )
        )
    group.metadata_hash = env.metadata_hash(group.topic_readers)
    change.facts.append(GroupDeleted(group_id))
    change.facts += group.records()
    change.is_upgrade = True
    return group


def _since(partitions: Mapping[bytes, Collection[int]], generation: int) -> Owned:
    return {topic_id: dict.fromkeys(sorted(some), generation) for topic_id, some in partitions.items()}


def _unheard(
    env: ConsumerEnv, said: list[tuple[m.ConsumerProtocolSubscription, Target]]
) -> list[dict[bytes, set[int]]]:
    """By member what it had when it joined and nobody was assigned. It may not have heard that it is to give that up,
    and has it until it has joined again without. Of two who say so he has it who says so of the later generation."""
    assigned = {(topic_id, each) for _, target in said for topic_id, some in target.items() for each in some}
    claims: dict[tuple[bytes, int], int] = {}
    for at in sorted(range(len(said)), key=lambda each: said[each][0].generation_id):
        for entry in said[at][0].owned_partitions:
            topic_id = env.topics.topic_id(entry.topic)
            if topic_id is not None:
                claims |= dict.fromkeys(((topic_id, each) for each in entry.partitions), at)
    found: list[dict[bytes, set[int]]] = [{} for _ in said]
    for (topic_id, partition), at in claims.items():
        if (topic_id, partition) not in assigned:
            found[at].setdefault(topic_id, set()).add(partition)
    return found


def _assigned(env: ConsumerEnv, group_id: str, data: bytes) -> Target:
    if not data:
        return {}
    assignment = read_assignment(data)
    if assignment.user_data:
        why = (
            "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default "
            "assignor before re-attempting the upgrade"
        )
        raise _not_upgraded(group_id, why)
    found = ((env.topics.topic_id(each.topic), each.partitions) for each in assignment.assigned_partitions)
    target = {topic_id: frozenset(partitions) for topic_id, partitions in found if topic_id is not None}
    return {topic_id: target[topic_id] for topic_id in topics_in_order(target)}


def _not_upgraded(group_id: str, why: str) -> KafkaError:
    text = f"Cannot upgrade classic group {group_id} to consumer group because {why}."
    return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text)


def may_downgrade_without(env: ConsumerEnv, group: ConsumerGroup, gone: list[ConsumerMember]) -> bool:
    """Whether, these gone, the group is one of classic members, and may become what they are."""
    left = len(group.members) - len(gone)
    classic_left = group.classic_count - sum(member.classic is not None for member in gone)
    return 0 < left == classic_left and env.may_downgrade() and left <= env.config.max_size


def may_downgrade_replacing(env: ConsumerEnv, group: ConsumerGroup, replaced: ConsumerMember) -> bool:
    """The same when one of the classic protocol takes a static member's place."""
    others = len(group.members) - 1
    classic_others = group.classic_count - (replaced.classic is not None)
    return others == classic_others and env.may_downgrade() and len(group.members) <= env.config.max_size


def to_classic(
    env: ConsumerEnv,
    group: ConsumerGroup,
    leaving: list[ConsumerMember],
    joining: ConsumerMember | None,
    change: Change,
) -> None:
    """The group becomes classic, without those who leave; `joining` stands in the place of a static member. Raises
    KafkaError."""
    group_id = group.group_id
    replaced = None if joining is None else group.static_member(joining.instance_id)
    change.facts += _tombstones(group, replaced, joining)
    gone = {member.member_id for member in leaving}
    if replaced is not None:
        gone.add(replaced.member_id)
    members = [member for member in group.members.values() if member.member_id not in gone]
    if joining is not None:
        members.append(joining)
    protocol = _vote(members)
    try:
        stored = tuple(_classic_member(env, member, protocol) for member in members)
    except DecodeError as error:
        text = f"Cannot downgrade the classic group {group_id}: {error}."
        raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, text) from error
    since_ms = OVERTAKEN if change.is_rebalance else change.now_ms
    change.facts.append(
        GroupStored(group_id, CONSUMER_PROTOCOL_TYPE, group.epoch, protocol, stored[0].member_id, since_ms, stored)
    )
    change.is_downgrade = True


def _tombstones(group: ConsumerGroup, replaced: ConsumerMember | None, joining: ConsumerMember | None) -> list[AnyFact]:
    """What ends the group. Whoever took a member's place has records already, in the place of the other's."""
    facts: list[AnyFact] = list(group.tombstones())
    if replaced is None or joining is None or replaced.member_id == joining.member_id:
        return facts
    swapped: list[AnyFact] = []
    for fact in facts:
        if isinstance(fact, (CurrentDeleted, TargetDeleted, MemberDeleted)) and fact.member_id == replaced.member_id:
            swapped.append(fact._replace(member_id=joining.member_id))
        else:
            swapped.append(fact)
    return swapped


def _vote(members: list[ConsumerMember]) -> str:
    """The protocol that all of them offer and most of them like best."""
    offered = [[name for name, _ in member.classic.protocols] for member in members if member.classic is not None]
    candidates = set(offered[0]).intersection(*offered[1:])
    votes: dict[str, int] = {}
    for names in offered:
        name = next(each for each in names if each in candidates)
        votes[name] = votes.get(name, 0) + 1
    return max(votes, key=votes.__getitem__)


def _classic_member(env: ConsumerEnv, member: ConsumerMember, protocol: str) -> MemberStored:
    """Its assignment is what it has now: what it is to have may still be another's."""
    assert member.classic is not None
    owned = {topic_id: frozenset(partitions) for topic_id, partitions in member.owned().items()}
    metadata = dict(member.classic.protocols)[protocol]
    return MemberStored(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        member.classic.session_timeout_ms,
        metadata,
        write_assignment(owned, env.topics, read_version(metadata)),
    )
