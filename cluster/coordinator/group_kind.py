"""The group coordinator as the runtime sees it: which shard a request goes to, how one that asks about many groups is
split and its answers put together, and what is said when no shard can be asked.

What stays true: the order of the groups asked about is the order of the groups answered.
"""

from __future__ import annotations

from cluster.coordinator import answers
from cluster.coordinator.context import GroupConfig, Heard, NewId, Overrides, RequestContext, Topics
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_records import OFFSETS_TOPIC, Fact, decode, encode
from cluster.coordinator.journal import GroupCounts
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.typed import Final, Protocol, cast

_SYNC_PROTOCOL_SINCE = 5
#: Bit n set: AclOperation n is allowed. Without an authorizer that is READ, DELETE and DESCRIBE.
_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8
_GROUP_ID_REQUIRED = frozenset(
    {
        ApiKey.HEARTBEAT,
        ApiKey.JOIN_GROUP,
        ApiKey.SYNC_GROUP,
        ApiKey.LEAVE_GROUP,
        ApiKey.OFFSET_DELETE,
        ApiKey.TXN_OFFSET_COMMIT,
    }
)
_ONE_GROUP = _GROUP_ID_REQUIRED | {ApiKey.OFFSET_COMMIT, ApiKey.CONSUMER_GROUP_HEARTBEAT}


class _OfOneGroup(Protocol):
    group_id: str


class GroupKind:
    topic: Final = OFFSETS_TOPIC
    apis: Final = frozenset(
        {
            ApiKey.OFFSET_COMMIT,
            ApiKey.OFFSET_FETCH,
            ApiKey.JOIN_GROUP,
            ApiKey.HEARTBEAT,
            ApiKey.LEAVE_GROUP,
            ApiKey.SYNC_GROUP,
            ApiKey.DESCRIBE_GROUPS,
            ApiKey.LIST_GROUPS,
            ApiKey.DELETE_GROUPS,
            ApiKey.OFFSET_DELETE,
            ApiKey.TXN_OFFSET_COMMIT,
            ApiKey.CONSUMER_GROUP_HEARTBEAT,
            ApiKey.CONSUMER_GROUP_DESCRIBE,
        }
    )

    def __init__(
        self,
        config: GroupConfig,
        new_id: NewId,
        topics: Topics,
        overrides: Overrides = lambda group_id: {},
        heard: Heard | None = None,
    ) -> None:
        """`overrides`: the settings that a group has of its own. `heard`: of members that are published; None: none
        is."""
        self._overrides = overrides
        self._heard = heard
        self._config = config
        self._new_id = new_id
        self._topics = topics
        self.counts = GroupCounts()
        self.write_timeout_ms = config.offsets_commit_timeout_ms

    def partition_count(self) -> int:
        """As the topic has it; as it will be created, before it is."""
        return self._topics.partition_count(self.topic) or self._config.offsets_topic_partitions

    def open(self, partition: int) -> GroupCoordinator:
        return GroupCoordinator(self._config, self._new_id, self._topics, self.counts, self._overrides, self._heard)

    def check(self, ctx: RequestContext, message: Message) -> ErrorCode:
        """What is wrong with a request whatever its group is. Groups without a name can only keep offsets."""
        if ctx.api_key in _GROUP_ID_REQUIRED and not cast("_OfOneGroup", message).group_id:
            return ErrorCode.INVALID_GROUP_ID
        if ctx.api_key == ApiKey.SYNC_GROUP and ctx.api_version >= _SYNC_PROTOCOL_SINCE:
            assert isinstance(message, m.SyncGroupRequest)
            if message.protocol_type is None or message.protocol_name is None:
                return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.NONE

    def key(self, ctx: RequestContext, message: Message) -> str | None:
        return cast("_OfOneGroup", message).group_id if ctx.api_key in _ONE_GROUP else None

    def split(self, ctx: RequestContext, message: Message) -> list[tuple[str, Message]] | None:
        if isinstance(message, m.OffsetFetchRequest):
            return [
                (group.group_id, _fetch_part(ctx, message, group))
                for group in answers.offset_fetch_groups(ctx, message)
            ]
        if isinstance(message, m.DescribeGroupsRequest):
            return [
                (group_id, m.DescribeGroupsRequest(groups=[group_id], rebalances=message.rebalances))
                for group_id in message.groups
            ]
        if isinstance(message, m.DeleteGroupsRequest):
            # A group named twice is deleted once, and answered once.
            return [
                (group_id, m.DeleteGroupsRequest(groups_names=[group_id]))
                for group_id in dict.fromkeys(message.groups_names)
            ]
        if isinstance(message, m.ConsumerGroupDescribeRequest):
            return [(group_id, m.ConsumerGroupDescribeRequest(group_ids=[group_id])) for group_id in message.group_ids]
        assert isinstance(message, m.ListGroupsRequest)
        return None

    def merge(self, ctx: RequestContext, message: Message, parts: list[object]) -> object:
        if isinstance(message, m.OffsetFetchRequest):
            if ctx.api_version < answers.FETCH_GROUPS_SINCE:
                return parts[0]
            fetched = cast("list[m.OffsetFetchResponse]", parts)
            return m.OffsetFetchResponse(groups=[group for part in fetched for group in part.groups])
        if isinstance(message, m.DescribeGroupsRequest):
            described = cast("list[m.DescribeGroupsResponse]", parts)
            groups = [group for part in described for group in part.groups]
            if message.include_authorized_operations:
                for group in groups:
                    group.authorized_operations = group.authorized_operations if group.error_code else _OPERATIONS
            return m.DescribeGroupsResponse(groups=groups)
        if isinstance(message, m.DeleteGroupsRequest):
            deleted = cast("list[m.DeleteGroupsResponse]", parts)
            return m.DeleteGroupsResponse(results=[result for part in deleted for result in part.results])
        if isinstance(message, m.ConsumerGroupDescribeRequest):
            found = [group for part in cast("list[m.ConsumerGroupDescribeResponse]", parts) for group in part.groups]
            if message.include_authorized_operations:
                for each in found:
                    each.authorized_operations = each.authorized_operations if each.error_code else _OPERATIONS
            return m.ConsumerGroupDescribeResponse(groups=found)
        assert isinstance(message, m.ListGroupsRequest)
        listed = cast("list[m.ListGroupsResponse]", parts)
        return m.ListGroupsResponse(
            error_code=next((part.error_code for part in listed if part.error_code), ErrorCode.NONE),
            groups=[group for part in listed for group in part.groups],
        )

    @staticmethod
    def refuse(ctx: RequestContext, message: Message, error: ErrorCode) -> object:
        if isinstance(message, m.HeartbeatRequest):
            # A member is not to give up its assignment because its coordinator has just changed.
            is_loading = error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return m.HeartbeatResponse(error_code=ErrorCode.NONE if is_loading else error)
        if isinstance(message, m.OffsetCommitRequest):
            return answers.commit_refused(message, error)
        if ctx.api_key == ApiKey.TXN_OFFSET_COMMIT:
            return answers.txn_commit_refused(ctx, cast("m.TxnOffsetCommitRequest", message), error)
        if isinstance(message, m.OffsetFetchRequest):
            groups = [answers.offset_fetch_failed(each, error) for each in answers.offset_fetch_groups(ctx, message)]
            return answers.offsets_fetched(ctx, message, groups)
        if isinstance(message, m.JoinGroupRequest):
            return answers.join_failed(ctx, message.member_id, error).message
        if isinstance(message, m.SyncGroupRequest):
            # The rebalance under way is lost with the old coordinator, and old clients do not know the other code.
            is_loading = error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return m.SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS if is_loading else error)
        if isinstance(message, m.LeaveGroupRequest):
            return m.LeaveGroupResponse(error_code=error)
        if isinstance(message, m.DescribeGroupsRequest):
            return m.DescribeGroupsResponse(
                groups=[
                    m.DescribeGroupsResponse.DescribedGroup(group_id=group_id, error_code=error)
                    for group_id in message.groups
                ]
            )
        if isinstance(message, m.ListGroupsRequest):
            return m.ListGroupsResponse(error_code=error)
        if isinstance(message, m.DeleteGroupsRequest):
            return m.DeleteGroupsResponse(
                results=[
                    m.DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error)
                    for group_id in dict.fromkeys(message.groups_names)
                ]
            )
        if isinstance(message, m.ConsumerGroupHeartbeatRequest):
            return m.ConsumerGroupHeartbeatResponse(error_code=error, error_message=error.message)
        if isinstance(message, m.ConsumerGroupDescribeRequest):
            return m.ConsumerGroupDescribeResponse(
                groups=[
                    m.ConsumerGroupDescribeResponse.DescribedGroup(group_id=group_id, error_code=error)
                    for group_id in message.group_ids
                ]
            )
        assert isinstance(message, m.OffsetDeleteRequest)
        return m.OffsetDeleteResponse(error_code=error)

    def encode(self, fact: object) -> tuple[bytes, bytes | None]:
        return encode(cast("Fact", fact))

    def decode(self, key: bytes, value: bytes | None) -> Fact | None:
        return decode(key, value)


def _fetch_part(
    ctx: RequestContext, request: m.OffsetFetchRequest, group: m.OffsetFetchRequest.OffsetFetchRequestGroup
) -> m.OffsetFetchRequest:
    if ctx.api_version < answers.FETCH_GROUPS_SINCE:
        return request
    return m.OffsetFetchRequest(groups=[group], require_stable=request.require_stable)
