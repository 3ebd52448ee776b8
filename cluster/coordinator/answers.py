"""Answers to group requests, in the shape that each version of an API has.

What stays true: a group decides with facts and codes; only here is it known which version says it in which field.
"""

from __future__ import annotations

from cluster.coordinator.context import RequestContext
from cluster.coordinator.members import Member
from cluster.effects import Reply
from cluster.protocol import messages as m
from pylog.errors import ErrorCode

NO_MEMBER_ID = ""
NO_OFFSET = -1
NO_EPOCH = -1

_JOIN_NULL_PROTOCOL_SINCE = 7
_LEAVE_MEMBERS_SINCE = 3
_DESCRIBE_NOT_FOUND_SINCE = 6
_FETCH_ERROR_SINCE = 2
FETCH_GROUPS_SINCE = 8
_TXN_KNOWS_LOADING_SINCE = 2


def join_failed(ctx: RequestContext, member_id: str, error: ErrorCode) -> Reply:
    return Reply(ctx.reply_to, join_refused(ctx, member_id, error))


def join_refused(ctx: RequestContext, member_id: str, error: ErrorCode) -> m.JoinGroupResponse:
    no_protocol = None if ctx.api_version >= _JOIN_NULL_PROTOCOL_SINCE else ""
    return m.JoinGroupResponse(error_code=error, member_id=member_id, protocol_name=no_protocol, leader="")


def joined(
    ctx: RequestContext,
    *,
    generation: int,
    protocol_type: str | None,
    protocol: str | None,
    leader: str | None,
    member_id: str,
    members: list[Member],
    skip_assignment: bool = False,
) -> Reply:
    """`members`: for the leader, who is to assign; nobody for the others."""
    return Reply(
        ctx.reply_to,
        m.JoinGroupResponse(
            generation_id=generation,
            protocol_type=protocol_type,
            protocol_name=protocol if protocol is not None or ctx.api_version >= _JOIN_NULL_PROTOCOL_SINCE else "",
            leader=leader or "",
            skip_assignment=skip_assignment,
            member_id=member_id,
            members=[
                m.JoinGroupResponse.JoinGroupResponseMember(
                    member_id=each.member_id,
                    group_instance_id=each.instance_id,
                    metadata=each.protocols[protocol or ""],
                )
                for each in members
            ],
        ),
    )


def sync_failed(ctx: RequestContext, error: ErrorCode) -> Reply:
    return Reply(ctx.reply_to, m.SyncGroupResponse(error_code=error))


def synced(ctx: RequestContext, *, protocol_type: str | None, protocol: str | None, assignment: bytes) -> Reply:
    return Reply(
        ctx.reply_to,
        m.SyncGroupResponse(protocol_type=protocol_type, protocol_name=protocol, assignment=assignment),
    )


def left(ctx: RequestContext, results: list[tuple[m.LeaveGroupRequest.MemberIdentity, ErrorCode]]) -> Reply:
    if ctx.api_version < _LEAVE_MEMBERS_SINCE:
        return Reply(ctx.reply_to, m.LeaveGroupResponse(error_code=results[0][1]))
    return Reply(
        ctx.reply_to,
        m.LeaveGroupResponse(
            members=[
                m.LeaveGroupResponse.MemberResponse(
                    member_id=who.member_id, group_instance_id=who.group_instance_id, error_code=error
                )
                for who, error in results
            ]
        ),
    )


def leaving(ctx: RequestContext, request: m.LeaveGroupRequest) -> list[m.LeaveGroupRequest.MemberIdentity]:
    """Who wants to leave: up to version 2 the sender alone."""
    if ctx.api_version < _LEAVE_MEMBERS_SINCE:
        return [m.LeaveGroupRequest.MemberIdentity(member_id=request.member_id)]
    return request.members


def described_unknown(
    ctx: RequestContext, group_id: str, *, is_consumer: bool = False
) -> m.DescribeGroupsResponse.DescribedGroup:
    """`is_consumer`: there is one of that name, of the other protocol."""
    described = m.DescribeGroupsResponse.DescribedGroup(group_id=group_id, group_state="Dead")
    if ctx.api_version >= _DESCRIBE_NOT_FOUND_SINCE:
        described.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        described.error_message = f"Group {group_id} {'is not a classic group' if is_consumer else 'not found'}."
    return described


def offset_fetch_groups(
    ctx: RequestContext, request: m.OffsetFetchRequest
) -> list[m.OffsetFetchRequest.OffsetFetchRequestGroup]:
    """The groups a request asks about; up to version 7 the one that the request itself names."""
    if ctx.api_version >= FETCH_GROUPS_SINCE:
        return request.groups
    topics = None
    if request.topics is not None:
        topics = [
            m.OffsetFetchRequest.OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in request.topics
        ]
    return [m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)]


def offsets_fetched(
    ctx: RequestContext, request: m.OffsetFetchRequest, groups: list[m.OffsetFetchResponse.OffsetFetchResponseGroup]
) -> m.OffsetFetchResponse:
    """One answer for all groups asked about, or for the only one where the version knows no more."""
    if ctx.api_version >= FETCH_GROUPS_SINCE:
        return m.OffsetFetchResponse(groups=groups)
    (group,) = groups
    error = ErrorCode(group.error_code)
    if error and ctx.api_version < _FETCH_ERROR_SINCE:
        # There is no field for the error but those of the partitions.
        group = offset_fetch_failed(offset_fetch_groups(ctx, request)[0], error, in_partitions=True)
    topics = [
        m.OffsetFetchResponse.OffsetFetchResponseTopic(
            name=topic.name,
            partitions=[
                m.OffsetFetchResponse.OffsetFetchResponsePartition(
                    partition_index=each.partition_index,
                    committed_offset=each.committed_offset,
                    committed_leader_epoch=each.committed_leader_epoch,
                    metadata=each.metadata,
                    error_code=each.error_code,
                )
                for each in topic.partitions
            ],
        )
        for topic in group.topics
    ]
    return m.OffsetFetchResponse(topics=topics, error_code=error)


def offset_fetch_failed(
    group: m.OffsetFetchRequest.OffsetFetchRequestGroup, error: ErrorCode, *, in_partitions: bool = False
) -> m.OffsetFetchResponse.OffsetFetchResponseGroup:
    failed = m.OffsetFetchResponse.OffsetFetchResponseGroup(group_id=group.group_id, error_code=error)
    if in_partitions:
        failed.topics = [
            m.OffsetFetchResponse.OffsetFetchResponseTopics(
                name=topic.name,
                partitions=[no_offset(partition, error) for partition in topic.partition_indexes],
            )
            for topic in group.topics or []
        ]
    return failed


def no_offset(partition: int, error: ErrorCode) -> m.OffsetFetchResponse.OffsetFetchResponsePartitions:
    return m.OffsetFetchResponse.OffsetFetchResponsePartitions(
        partition_index=partition,
        committed_offset=NO_OFFSET,
        committed_leader_epoch=NO_EPOCH,
        metadata="",
        error_code=error,
    )


def commit_refused(request: m.OffsetCommitRequest, error: ErrorCode) -> m.OffsetCommitResponse:
    """Every partition of the request with the same error: this API has no other place for one."""
    return m.OffsetCommitResponse(
        topics=[
            m.OffsetCommitResponse.OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    m.OffsetCommitResponse.OffsetCommitResponsePartition(
                        partition_index=partition.partition_index, error_code=error
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def txn_commit_refused(
    ctx: RequestContext, request: m.TxnOffsetCommitRequest, error: ErrorCode
) -> m.TxnOffsetCommitResponse:
    """Every partition of the request with the same error. Old producers give up when they hear of loading."""
    if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and ctx.api_version < _TXN_KNOWS_LOADING_SINCE:
        error = ErrorCode.COORDINATOR_NOT_AVAILABLE
    return m.TxnOffsetCommitResponse(
        topics=[
            m.TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    m.TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition(
                        partition_index=partition.partition_index, error_code=error
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def group_write_error(error: ErrorCode) -> ErrorCode:
    """What a failed append of a generation means to the members that wait for it."""
    return _GROUP_WRITE_ERRORS.get(error, error)


def offset_write_error(error: ErrorCode) -> ErrorCode:
    """What a failed append of offsets, or of their tombstones, means to the one who asked."""
    return _OFFSET_WRITE_ERRORS.get(error, error)


_GROUP_WRITE_ERRORS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.UNKNOWN_SERVER_ERROR,
}

_OFFSET_WRITE_ERRORS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
}
