"""ConsumerGroupHeartbeat (KIP-848): a member joins, stays, changes its subscription, moves towards its target, leaves.

What stays true: nothing here changes a group; it says what is to become of it (`Change`), and refuses with KafkaError.
The steps of a request, each with facts of its own:

    1. the member is made or updated; a new subscription, or topics that have changed, give the group a new epoch
    2. a group whose epoch is ahead gets new target assignments, unless the last ones are too young
    3. the member goes one step towards its target
"""

from __future__ import annotations

from cluster.coordinator.consumer_conversion import may_downgrade_without, to_classic
from cluster.coordinator.consumer_env import JOIN, REBALANCE, SESSION, SYNC, Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup, add
from cluster.coordinator.consumer_member import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    LEAVING_FOR_A_WHILE_EPOCH,
    ConsumerMember,
    MemberState,
    Owned,
    Target,
)
from cluster.coordinator.consumer_records import (
    CurrentDeleted,
    GroupEpoch,
    MemberDeleted,
    MemberStored,
    PartitionsKnownDeleted,
    RegexDeleted,
    TargetDeleted,
    TargetStored,
    current_of,
    in_order,
    topics_in_order,
)
from cluster.coordinator.consumer_regex import Regexes, follow_regex
from cluster.coordinator.consumer_target import assign, is_uniform, may_assign, topic_ids
from cluster.coordinator.context import RequestContext
from cluster.coordinator.reconciliation import Goal, reconcile
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TypeAlias

Partitions: TypeAlias = dict[bytes, set[int]]
_MEMBER_ID_REQUIRED_SINCE = 1


def check(env: ConsumerEnv, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest) -> None:
    """What is wrong with a request whatever its group is. Raises KafkaError."""
    epoch = request.member_epoch
    if ctx.api_version >= _MEMBER_ID_REQUIRED_SINCE or epoch > 0 or epoch == LEAVING_EPOCH:
        _refuse_empty(request.member_id, "MemberId can't be empty.")
    _refuse_empty(request.group_id, "GroupId can't be empty.")
    _refuse_empty(request.instance_id, "InstanceId can't be empty.")
    _refuse_empty(request.rack_id, "RackId can't be empty.")
    if epoch == JOINING_EPOCH:
        if request.rebalance_timeout_ms == -1:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            text = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
            raise KafkaError(ErrorCode.INVALID_REQUEST, text)
    elif epoch == LEAVING_FOR_A_WHILE_EPOCH:
        if request.instance_id is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "InstanceId can't be null.")
    elif epoch < LEAVING_FOR_A_WHILE_EPOCH:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")
    if request.server_assignor is not None and request.server_assignor not in env.assignors:
        known = ", ".join(env.assignors)
        text = f"ServerAssignor {request.server_assignor} is not supported. Supported assignors: {known}."
        raise KafkaError(ErrorCode.UNSUPPORTED_ASSIGNOR, text)


def _refuse_empty(value: str | None, text: str) -> None:
    if value is not None and not value.strip():
        raise KafkaError(ErrorCode.INVALID_REQUEST, text)


def is_leaving(request: m.ConsumerGroupHeartbeatRequest) -> bool:
    return request.member_epoch in (LEAVING_EPOCH, LEAVING_FOR_A_WHILE_EPOCH)


# A heartbeat ----------------------------------------------------------------------------------------------------------


def heartbeat(
    env: ConsumerEnv,
    group: ConsumerGroup,
    regexes: Regexes,
    ctx: RequestContext,
    request: m.ConsumerGroupHeartbeatRequest,
    now_ms: int,
    change: Change,
) -> m.ConsumerGroupHeartbeatResponse:
    refuse_if_full(env, group, request.member_id)
    member_id = request.member_id or env.new_id()
    reported = _reported(request.topic_partitions)
    before = _member(group, member_id, request, reported, change)
    is_full = (
        request.rebalance_timeout_ms != -1
        and reported is not None
        and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
    )
    if is_steady(env, group, before, ctx, request):
        change.wait(SESSION, member_id, env.session_timeout_ms(group.group_id))
        response = _answer(env, group, before)
        if is_full:
            response.assignment = _told(before.assigned)
        return response
    after = before if _says_nothing_new(before, ctx, request) else _as_said(before, ctx, request)
    has_new_topics = store_member(group, before, after, change)
    regex = follow_regex(env, group, regexes, before, after, now_ms, change)
    epoch, uniform = group.epoch, None
    must_bump = has_new_topics or regex.is_resolved or change.is_upgrade
    if must_bump or not is_verified(env, group):
        epoch, uniform = bump(env, group, before, after, change, must_bump=must_bump)
    target_epoch, target = target_of(env, group, before, after, epoch, uniform, now_ms, change)
    after = step(env, group, after, target_epoch, target, reported, has_new_topics or regex.is_changed, change)
    change.wait(SESSION, member_id, env.session_timeout_ms(group.group_id))
    response = _answer(env, group, after)
    if request.member_epoch == JOINING_EPOCH or is_full or before.assigned != after.assigned:
        response.assignment = _told(after.assigned)
    return response


def _as_said(before: ConsumerMember, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest) -> ConsumerMember:
    return before._replace(
        instance_id=before.instance_id if request.instance_id is None else request.instance_id,
        rack_id=before.rack_id if request.rack_id is None else request.rack_id,
        rebalance_timeout_ms=before.rebalance_timeout_ms
        if request.rebalance_timeout_ms == -1
        else request.rebalance_timeout_ms,
        assignor=before.assignor if request.server_assignor is None else request.server_assignor,
        topics=before.topics if request.subscribed_topic_names is None else frozenset(request.subscribed_topic_names),
        topic_regex=before.topic_regex if request.subscribed_topic_regex is None else request.subscribed_topic_regex,
        client_id=ctx.client_id,
        client_host="/" + ctx.client_host,
        classic=None,
    )


def _says_nothing_new(member: ConsumerMember, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest) -> bool:
    """Of who the member is and what it reads, be it that it repeats all that is known."""
    return (
        (request.subscribed_topic_names is None or member.topics == frozenset(request.subscribed_topic_names))
        and request.rebalance_timeout_ms in (-1, member.rebalance_timeout_ms)
        and request.subscribed_topic_regex in (None, member.topic_regex)
        and request.rack_id in (None, member.rack_id)
        and request.server_assignor in (None, member.assignor)
        and request.instance_id in (None, member.instance_id)
        and member.client_id == ctx.client_id
        and member.client_host == "/" + ctx.client_host
        and member.classic is None
    )


def is_steady(
    env: ConsumerEnv,
    group: ConsumerGroup,
    member: ConsumerMember,
    ctx: RequestContext,
    request: m.ConsumerGroupHeartbeatRequest,
) -> bool:
    """Whether there is nothing to be found out or done: what nearly every heartbeat is. The long way would come to the
    same."""
    return (
        request.member_epoch == member.epoch
        and is_settled(env, group, member)
        and _says_nothing_new(member, ctx, request)
    )


def is_settled(env: ConsumerEnv, group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether there is nothing to be found out or done for a member that says nothing new."""
    return (
        group.epoch == group.assignment_epoch
        and not group.regex_readers
        and member.is_reconciled_to(group.assignment_epoch)
        and member.classic is None
        and is_verified(env, group)
    )


def _answer(env: ConsumerEnv, group: ConsumerGroup, member: ConsumerMember) -> m.ConsumerGroupHeartbeatResponse:
    """Without an assignment."""
    return m.ConsumerGroupHeartbeatResponse(
        member_id=member.member_id,
        member_epoch=member.epoch,
        heartbeat_interval_ms=env.heartbeat_interval_ms(group.group_id),
    )


def _reported(
    partitions: list[m.ConsumerGroupHeartbeatRequest.TopicPartitions] | None,
) -> Partitions | None:
    if partitions is None:
        return None
    found: Partitions = {}
    for each in partitions:
        found.setdefault(each.topic_id, set()).update(each.partitions)
    return found


def _told(assigned: Owned) -> m.ConsumerGroupHeartbeatResponse.Assignment:
    return m.ConsumerGroupHeartbeatResponse.Assignment(
        topic_partitions=[
            m.ConsumerGroupHeartbeatResponse.TopicPartitions(topic_id=topic_id, partitions=in_order(assigned[topic_id]))
            for topic_id in topics_in_order(assigned)
        ]
    )


def refuse_if_full(env: ConsumerEnv, group: ConsumerGroup, member_id: str) -> None:
    most = env.config.consumer.max_size
    if len(group.members) >= most and member_id not in group.members:
        text = f"The consumer group has reached its maximum capacity of {most} members."
        raise KafkaError(ErrorCode.GROUP_MAX_SIZE_REACHED, text)


# The member -----------------------------------------------------------------------------------------------------------


def _member(
    group: ConsumerGroup,
    member_id: str,
    request: m.ConsumerGroupHeartbeatRequest,
    reported: Partitions | None,
    change: Change,
) -> ConsumerMember:
    """Who sends this, as the group knows it: a member, a new one, or one that takes a static member's place."""
    is_joining = request.member_epoch == JOINING_EPOCH
    if request.instance_id is None:
        member = group.members.get(member_id)
        if member is None:
            if is_joining:
                return ConsumerMember(member_id)
            raise unknown_member(group, member_id)
        _check_epoch(member, request.member_epoch, reported)
        return member
    if is_joining:
        return static_member(group, member_id, request.instance_id, change, is_classic=False)
    member = known_static(group, member_id, request.instance_id)
    _check_epoch(member, request.member_epoch, reported)
    return member


def unknown_member(group: ConsumerGroup, member_id: str) -> KafkaError:
    return KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}.")


def _check_epoch(member: ConsumerMember, epoch: int, reported: Partitions | None) -> None:
    """Raises KafkaError(FENCED_MEMBER_EPOCH). A member that comes with the epoch before may have lost our answer, and
    is believed as long as it has nothing that is not its own."""
    if epoch in (JOINING_EPOCH, member.epoch):
        return
    if epoch > member.epoch:
        text = (
            f"The consumer group member has a greater member epoch ({epoch}) than the one known by the group "
            f"coordinator ({member.epoch}). The member must abandon all its partitions and rejoin."
        )
        raise KafkaError(ErrorCode.FENCED_MEMBER_EPOCH, text)
    has_only_its_own = reported is not None and all(
        topic_id in member.assigned and partitions <= member.assigned[topic_id].keys()
        for topic_id, partitions in reported.items()
    )
    if epoch != member.previous_epoch or not has_only_its_own:
        text = (
            f"The consumer group member has a smaller member epoch ({epoch}) than the one known by the group "
            f"coordinator ({member.epoch}). The member must abandon all its partitions and rejoin."
        )
        raise KafkaError(ErrorCode.FENCED_MEMBER_EPOCH, text)


def known_static(group: ConsumerGroup, member_id: str, instance_id: str) -> ConsumerMember:
    member = group.static_member(instance_id)
    if member is None:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        text = f"Static member {member_id} with instance id {instance_id} was fenced by member {member.member_id}."
        raise KafkaError(ErrorCode.FENCED_INSTANCE_ID, text)
    return member


def static_member(
    group: ConsumerGroup, member_id: str, instance_id: str, change: Change, *, is_classic: bool
) -> ConsumerMember:
    """A static member that joins: new, or in the place of the one that has its instance id."""
    before = group.static_member(instance_id)
    if before is None:
        return group.members.get(member_id, ConsumerMember(member_id))
    if not is_classic and before.classic is None and before.epoch != LEAVING_FOR_A_WHILE_EPOCH:
        text = (
            f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance id "
            f"is owned by {before.member_id} member."
        )
        raise KafkaError(ErrorCode.UNRELEASED_INSTANCE_ID, text)
    after = before._replace(member_id=member_id, epoch=JOINING_EPOCH, previous_epoch=JOINING_EPOCH)
    remove_member(group, before.member_id, change)
    change.facts += [
        MemberStored(group.group_id, after),
        TargetStored(group.group_id, member_id, group.targets.get(before.member_id, {})),
        current_of(group.group_id, after),
    ]
    return after


def store_member(group: ConsumerGroup, before: ConsumerMember, after: ConsumerMember, change: Change) -> bool:
    """Write down who it is, if that has changed; returns whether it reads other topics than before."""
    if after is before or after == before:
        return False
    change.facts.append(MemberStored(group.group_id, after))
    return after.topics != before.topics


def remove_member(group: ConsumerGroup, member_id: str, change: Change) -> None:
    group_id = group.group_id
    change.facts += [
        CurrentDeleted(group_id, member_id),
        TargetDeleted(group_id, member_id),
        MemberDeleted(group_id, member_id),
    ]


# The group's epoch ----------------------------------------------------------------------------------------------------


def is_verified(env: ConsumerEnv, group: ConsumerGroup) -> bool:
    """Whether the topics are what they were when the group's hash of them was looked at."""
    return group.verified == (env.topics.version(), group.epoch)


def bump(
    env: ConsumerEnv,
    group: ConsumerGroup,
    before: ConsumerMember,
    after: ConsumerMember,
    change: Change,
    *,
    must_bump: bool,
) -> tuple[int, bool]:
    """A new epoch, if it must be or the topics have changed. Returns the epoch, and whether all members now read the
    same."""
    readers, regex_readers = dict(group.topic_readers), dict(group.regex_readers)
    for member, delta in ((before, -1), (after, 1)):
        for topic in member.topics:
            add(readers, topic, delta)
        if member.topic_regex:
            add(regex_readers, member.topic_regex, delta)
    value = env.metadata_hash(names_read(group, readers, regex_readers))
    count = len(group.members)
    if after.member_id not in group.members and group.static_member(after.instance_id) is None:
        count += 1
    epoch = group.epoch
    if must_bump or value != group.metadata_hash:
        epoch += 1
        change.facts.append(GroupEpoch(group.group_id, epoch, value))
    group.verified = (env.topics.version(), epoch)
    if group.has_partitions_record:
        change.facts.append(PartitionsKnownDeleted(group.group_id))
    return epoch, is_uniform(readers, regex_readers, group, count)


def names_read(group: ConsumerGroup, readers: dict[str, int], regex_readers: dict[str, int]) -> set[str]:
    names = set(readers)
    for regex in regex_readers:
        if regex in group.regexes:
            names |= group.regexes[regex].topics
    return names


def target_of(
    env: ConsumerEnv,
    group: ConsumerGroup,
    before: ConsumerMember,
    after: ConsumerMember,
    epoch: int,
    uniform: bool | None,
    now_ms: int,
    change: Change,
) -> tuple[int, Target]:
    """The epoch of the target assignments, and the member's; new ones, if the group's epoch is ahead of them."""
    if epoch <= group.assignment_epoch or not may_assign(env, group, now_ms):
        return group.assignment_epoch, group.target(after)
    if uniform is None:
        uniform = is_uniform(group.topic_readers, group.regex_readers, group, len(group.members))
    return epoch, assign(env, group, before, after, epoch, uniform, now_ms, change)


def step(
    env: ConsumerEnv,
    group: ConsumerGroup,
    member: ConsumerMember,
    epoch: int,
    target: Target,
    reported: Partitions | None,
    has_new_subscription: bool,
    change: Change,
) -> ConsumerMember:
    """Bring a member one step nearer to its target."""
    if not has_new_subscription and member.is_reconciled_to(epoch):
        return member
    replaced = group.static_member(member.instance_id)
    own_ids = {member.member_id} if replaced is None else {member.member_id, replaced.member_id}

    def is_owned(topic_id: bytes, partition: int) -> bool:
        owner = group.owner(topic_id, partition)
        return owner is not None and owner not in own_ids

    subscribed = topic_ids(env, group, member)
    after = reconcile(member, Goal(epoch, target, subscribed, is_owned, reported, has_new_subscription))
    if after is member or after == member:
        return member
    change.facts.append(current_of(group.group_id, after))
    if after.classic is None:
        if after.state is MemberState.UNREVOKED_PARTITIONS:
            change.wait(REBALANCE, after.member_id, after.rebalance_timeout_ms, epoch=after.epoch)
        else:
            change.wait_no_more(after.member_id, REBALANCE)
    return after


# Leaving --------------------------------------------------------------------------------------------------------------


def leave(
    env: ConsumerEnv, group: ConsumerGroup, request: m.ConsumerGroupHeartbeatRequest, change: Change
) -> m.ConsumerGroupHeartbeatResponse:
    """A member goes for good, or a static one for a while."""
    member_id = request.member_id
    if request.instance_id is None:
        member = group.members.get(member_id)
        if member is None:
            raise unknown_member(group, member_id)
    else:
        member = known_static(group, member_id, request.instance_id)
        if request.member_epoch == LEAVING_FOR_A_WHILE_EPOCH:
            # Whoever comes back in its place has had the partitions from the beginning, as far as commits go.
            kept = {topic_id: dict.fromkeys(partitions, 0) for topic_id, partitions in member.assigned.items()}
            gone = member._replace(epoch=LEAVING_FOR_A_WHILE_EPOCH, assigned=kept, revoking={})
            change.facts.append(current_of(group.group_id, gone))
            return m.ConsumerGroupHeartbeatResponse(member_id=member_id, member_epoch=LEAVING_FOR_A_WHILE_EPOCH)
    fence(env, group, [member], change)
    return m.ConsumerGroupHeartbeatResponse(member_id=member_id, member_epoch=request.member_epoch)


def fence(env: ConsumerEnv, group: ConsumerGroup, members: list[ConsumerMember], change: Change) -> None:
    """These are members no longer. When only members of the classic protocol are left, so is the group."""
    if not members:
        return
    if may_downgrade_without(env, group, members):
        change.is_rebalance = True
        to_classic(env, group, members, None, change)
        return
    readers, regex_readers = dict(group.topic_readers), dict(group.regex_readers)
    for member in members:
        remove_member(group, member.member_id, change)
        for topic in member.topics:
            add(readers, topic, -1)
        if member.topic_regex:
            add(regex_readers, member.topic_regex, -1)
        change.wait_no_more(member.member_id, SESSION, REBALANCE, JOIN, SYNC)
    for regex in group.regex_readers:
        if regex not in regex_readers:
            change.facts.append(RegexDeleted(group.group_id, regex))
    value = env.metadata_hash(names_read(group, readers, regex_readers))
    change.facts.append(GroupEpoch(group.group_id, group.epoch + 1, value))
