"""Members of the classic protocol in a group of the consumer protocol, while a group is on its way from the one to the
other: JoinGroup, SyncGroup, Heartbeat and LeaveGroup as their consumers know them.

What stays true: for such a member a rebalance is told by Heartbeat, a JoinGroup is one step towards its target, and
SyncGroup collects what it has; its generation is its member epoch. Whoever is told to join again and does not, or joins
and does not sync, is given its rebalance timeout and then goes.
"""

from __future__ import annotations

from cluster.coordinator import answers
from cluster.coordinator.answers import NO_MEMBER_ID
from cluster.coordinator.consumer_conversion import may_downgrade_replacing, to_classic
from cluster.coordinator.consumer_env import JOIN, SESSION, SYNC, Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_heartbeat import (
    Partitions,
    bump,
    fence,
    is_verified,
    known_static,
    refuse_if_full,
    static_member,
    step,
    store_member,
    target_of,
    unknown_member,
)
from cluster.coordinator.consumer_member import ClassicProtocols, ConsumerMember, MemberState
from cluster.coordinator.consumer_protocol import read_subscription, write_assignment
from cluster.coordinator.consumer_regex import Regexes, follow_regex
from cluster.coordinator.context import RequestContext
from cluster.coordinator.subscription import CONSUMER_PROTOCOL_TYPE
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import read_version
from pylog.errors import ErrorCode, KafkaError

_MEMBER_ID_REQUIRED_SINCE = 4


def join(
    env: ConsumerEnv,
    group: ConsumerGroup,
    regexes: Regexes,
    ctx: RequestContext,
    request: m.JoinGroupRequest,
    now_ms: int,
    change: Change,
) -> m.JoinGroupResponse:
    """Raises KafkaError."""
    if env.config.consumer.migration_policy.lower() == "disabled":
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    is_unknown = request.member_id == NO_MEMBER_ID
    member_id = env.new_id() if is_unknown else request.member_id
    refuse_if_full(env, group, member_id)
    protocols = tuple({each.name: each.metadata for each in reversed(request.protocols)}.items())[::-1]
    if not group.supports_classic(request.protocol_type, [name for name, _ in protocols]):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    instance_id = request.group_instance_id
    if is_unknown and instance_id is None and ctx.api_version >= _MEMBER_ID_REQUIRED_SINCE:
        return answers.join_refused(ctx, member_id, ErrorCode.MEMBER_ID_REQUIRED)
    subscription = _subscription(protocols)
    replaced = group.static_member(instance_id)
    if _is_astray(group, member_id, instance_id, subscription):
        raise unknown_member(group, member_id)
    before = _joining(group, member_id, instance_id, change, is_unknown=is_unknown)
    after = before._replace(
        instance_id=before.instance_id if instance_id is None else instance_id,
        rack_id=subscription.rack_id or before.rack_id,
        rebalance_timeout_ms=request.session_timeout_ms if ctx.api_version == 0 else request.rebalance_timeout_ms,
        topics=frozenset(subscription.topics),
        topic_regex="",
        client_id=ctx.client_id,
        client_host="/" + ctx.client_host,
        classic=ClassicProtocols(request.session_timeout_ms, protocols),
    )
    is_bumped = store_member(group, before, after, change)
    is_bumped = follow_regex(env, group, regexes, before, after, now_ms, change).is_changed or is_bumped
    epoch, uniform = group.epoch, None
    if is_bumped or not is_verified(env, group):
        epoch, uniform = bump(env, group, before, after, change, must_bump=is_bumped)
    reported = _owned(env, subscription)
    if replaced is not None and may_downgrade_replacing(env, group, replaced):
        if not is_bumped:
            target = group.target(after)
            after = step(env, group, after, group.assignment_epoch, target, reported, False, change)
        others = [each for each in group.members.values() if each is not replaced]
        change.is_rebalance = is_bumped or not all(each.is_reconciled_to(group.epoch) for each in (*others, after))
        to_classic(env, group, [], after, change)
    else:
        target_epoch, target = target_of(env, group, before, after, epoch, uniform, now_ms, change)
        after = step(env, group, after, target_epoch, target, reported, is_bumped, change)
        change.wait(SESSION, member_id, request.session_timeout_ms)
        change.wait(SYNC, member_id, request.rebalance_timeout_ms)
    change.wait_no_more(member_id, JOIN)
    return m.JoinGroupResponse(
        member_id=member_id,
        generation_id=after.epoch,
        protocol_type=CONSUMER_PROTOCOL_TYPE,
        protocol_name=protocols[0][0],
        leader="",
    )


def _subscription(protocols: tuple[tuple[str, bytes], ...]) -> m.ConsumerProtocolSubscription:
    """What the member reads: all of its protocols say the same."""
    try:
        return read_subscription(protocols[0][1])
    except DecodeError as error:
        raise KafkaError(
            ErrorCode.UNKNOWN_SERVER_ERROR, "Malformed embedded consumer protocol in subscription deserialization."
        ) from error


def _is_astray(
    group: ConsumerGroup, member_id: str, instance_id: str | None, subscription: m.ConsumerProtocolSubscription
) -> bool:
    """Whether it was a member, is none any more, and does not know: what it believes to have may be somebody's by now,
    and it is to drop that before it joins. Nobody who has just been given his id has anything."""
    return instance_id is None and member_id not in group.members and bool(subscription.owned_partitions)


def _joining(
    group: ConsumerGroup, member_id: str, instance_id: str | None, change: Change, *, is_unknown: bool
) -> ConsumerMember:
    if instance_id is None:
        return group.members.get(member_id, ConsumerMember(member_id))
    if is_unknown:
        return static_member(group, member_id, instance_id, change, is_classic=True)
    return known_static(group, member_id, instance_id)


def _owned(env: ConsumerEnv, subscription: m.ConsumerProtocolSubscription) -> Partitions:
    found: Partitions = {}
    for each in subscription.owned_partitions:
        topic_id = env.topics.topic_id(each.topic)
        if topic_id is not None:
            found.setdefault(topic_id, set()).update(each.partitions)
    return found


def sync(env: ConsumerEnv, group: ConsumerGroup, request: m.SyncGroupRequest, change: Change) -> m.SyncGroupResponse:
    """Raises KafkaError."""
    member, classic = _known(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    protocol = classic.protocols[0][0]
    if request.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE) or request.protocol_name not in (None, protocol):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if group.epoch > member.epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
        # It is to join again and catch up; one that has partitions to give up does that first.
        change.wait(JOIN, member.member_id, member.rebalance_timeout_ms, renew=False)
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
    change.wait_no_more(member.member_id, SYNC)
    change.wait(SESSION, member.member_id, classic.session_timeout_ms)
    target = {topic_id: frozenset(partitions) for topic_id, partitions in member.assigned.items()}
    version = read_version(classic.protocols[0][1])
    return m.SyncGroupResponse(
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
        assignment=write_assignment(target, env.topics, version),
    )


def beat(group: ConsumerGroup, request: m.HeartbeatRequest, change: Change) -> m.HeartbeatResponse:
    """Raises KafkaError."""
    member, classic = _known(group, request.member_id, request.group_instance_id)
    _check_generation(member, request.generation_id)
    change.wait(SESSION, member.member_id, classic.session_timeout_ms)
    is_done_waiting = member.state is MemberState.UNRELEASED_PARTITIONS and not group.waits_for_others(member)
    if member.epoch < group.epoch or member.state is MemberState.UNREVOKED_PARTITIONS or is_done_waiting:
        change.wait(JOIN, member.member_id, member.rebalance_timeout_ms, renew=False)
        return m.HeartbeatResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS)
    return m.HeartbeatResponse()


def leave(
    env: ConsumerEnv, group: ConsumerGroup, leaving: list[m.LeaveGroupRequest.MemberIdentity], change: Change
) -> list[tuple[m.LeaveGroupRequest.MemberIdentity, ErrorCode]]:
    """Members go; also those of the consumer protocol, when an administrator removes them."""
    results: list[tuple[m.LeaveGroupRequest.MemberIdentity, ErrorCode]] = []
    gone: dict[str, ConsumerMember] = {}
    for who in leaving:
        error = ErrorCode.NONE
        try:
            member = _leaving(group, who)
            gone[member.member_id] = member
        except KafkaError as refused:
            error = refused.code
        results.append((who, error))
    fence(env, group, list(gone.values()), change)
    return results


def _leaving(group: ConsumerGroup, who: m.LeaveGroupRequest.MemberIdentity) -> ConsumerMember:
    if who.group_instance_id is None:
        member = group.members.get(who.member_id)
        if member is None:
            raise unknown_member(group, who.member_id)
        return member
    if who.member_id:
        return known_static(group, who.member_id, who.group_instance_id)
    member = group.static_member(who.group_instance_id)
    if member is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {who.group_instance_id} is unknown.")
    return member


def _known(group: ConsumerGroup, member_id: str, instance_id: str | None) -> tuple[ConsumerMember, ClassicProtocols]:
    """A member of the classic protocol, with what it brought along."""
    if instance_id is None:
        member = group.members.get(member_id)
        if member is None:
            raise unknown_member(group, member_id)
    else:
        member = known_static(group, member_id, instance_id)
    if member.classic is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} does not use the classic protocol.")
    return member, member.classic


def _check_generation(member: ConsumerMember, generation: int) -> None:
    if generation != member.epoch:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
