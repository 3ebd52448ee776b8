"""The group coordinator's APIs and FindCoordinator (KIP-699): handed to the coordinator runtime, answered by its
effects."""

from __future__ import annotations

from cluster.broker.apis import Answer, Handler, Message, Request
from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC
from cluster.coordinator.context import RequestContext
from cluster.coordinator.find_coordinator import Endpoint, find_coordinators
from cluster.coordinator.group_kind import GroupKind
from cluster.effects import Shard
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

#: Requests whose records remember where the member came from.
_NAMES_ITS_HOST: Final = frozenset({int(ApiKey.JOIN_GROUP), int(ApiKey.CONSUMER_GROUP_HEARTBEAT)})


def _context(request: Request, client_host: str = "") -> RequestContext:
    to = request.reply_to
    return RequestContext(to, to.api_key, to.api_version, request.client_id or "", client_host)


def _serve(broker: Broker, request: Request) -> None:
    """Answered by the effects, now or when the records that it makes are committed."""
    host = ""
    if request.reply_to.api_key in _NAMES_ITS_HOST:
        host = broker.client_host(request.reply_to.conn)
    broker.loop.apply(broker.groups.request(None, _context(request, host), request.message, broker.now_ms()))


def _serve_verified(broker: Broker, request: Request, error: ErrorCode) -> None:
    context = _context(request)._replace(verified=error)
    broker.loop.apply(broker.groups.request(None, context, request.message, broker.now_ms()))


def _serve_in_transaction(broker: Broker, request: Request) -> None:
    """Offsets within a transaction, once its coordinator has said whether there is one."""
    message: m.TxnOffsetCommitRequest = request.message
    index = broker.groups.partition_for(message.group_id)
    is_serving = broker.groups.is_serving(GROUP_METADATA_TOPIC, index)
    if not message.group_id or not is_serving or not _names_a_partition(broker, message):
        _serve(broker, request)  # nothing will be written: no transaction begins with it
        return

    def go_on(error: ErrorCode) -> None:
        broker.apis.ending(request.reply_to.conn, lambda: _serve_verified(broker, request, error))

    broker.coordinators.transactions.verifier.offsets(message, request.api_version, index, go_on)


def _names_a_partition(broker: Broker, message: m.TxnOffsetCommitRequest) -> bool:
    """Whether there is one at least, of all whose offsets are to be committed."""
    for topic in message.topics:
        known = broker.metadata.topics.get(topic.name)
        count = known.partition_count if known else 0
        if any(0 <= each.partition_index < count for each in topic.partitions):
            return True
    return False


def _refuse(request: Request, code: int) -> Message:
    return GroupKind.refuse(_context(request), request.message, ErrorCode(code))


def _find(broker: Broker, request: Request) -> Message | Answer:
    """Where the coordinator of a group or transactional id is; its topic is made when it is first looked for."""
    endpoints = {node.node_id: node for node in broker.endpoints(request)}

    def partition_count(topic: str) -> int:
        known = broker.metadata.topics.get(topic)
        prefix = "transaction.state.log" if topic == TRANSACTION_STATE_TOPIC else "offsets.topic"
        return known.partition_count if known else broker.config.int(f"{prefix}.num.partitions")

    def locate(key: str, shard: Shard) -> Endpoint | ErrorCode:
        code = broker.admin.auto_create(shard.topic, internal=True)
        partition = broker.metadata.partition(shard.topic, shard.partition)
        if code is not ErrorCode.NONE or partition is None or partition.leader not in endpoints:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        node = endpoints[partition.leader]
        return Endpoint(node.node_id, node.host, node.port)

    answer = find_coordinators(_context(request), request.message, partition_count, locate).message
    assert isinstance(answer, m.FindCoordinatorResponse)
    failed = answer.error_code or any(each.error_code for each in answer.coordinators)
    return answer if failed else Answer(answer)


def _refuse_find(request: Request, code: int) -> m.FindCoordinatorResponse:
    text = ErrorCode(code).message
    entry = m.FindCoordinatorResponse.Coordinator
    keys = request.message.coordinator_keys if request.api_version >= 4 else []
    found = [entry(key=k, node_id=-1, host="", port=-1, error_code=code, error_message=text) for k in keys]
    if request.api_version >= 4:
        return m.FindCoordinatorResponse(coordinators=found)
    return m.FindCoordinatorResponse(error_code=code, error_message=text, node_id=-1, host="", port=-1)


HANDLERS = {
    ApiKey.FIND_COORDINATOR: Handler(m.FindCoordinatorRequest.decode, _find, _refuse_find),
    ApiKey.JOIN_GROUP: Handler(m.JoinGroupRequest.decode, _serve, _refuse),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: Handler(m.ConsumerGroupHeartbeatRequest.decode, _serve, _refuse),
    ApiKey.CONSUMER_GROUP_DESCRIBE: Handler(m.ConsumerGroupDescribeRequest.decode, _serve, _refuse),
    ApiKey.SYNC_GROUP: Handler(m.SyncGroupRequest.decode, _serve, _refuse),
    ApiKey.HEARTBEAT: Handler(m.HeartbeatRequest.decode, _serve, _refuse),
    ApiKey.LEAVE_GROUP: Handler(m.LeaveGroupRequest.decode, _serve, _refuse),
    ApiKey.TXN_OFFSET_COMMIT: Handler(m.TxnOffsetCommitRequest.decode, _serve_in_transaction, _refuse),
    ApiKey.OFFSET_COMMIT: Handler(m.OffsetCommitRequest.decode, _serve, _refuse),
    ApiKey.OFFSET_FETCH: Handler(m.OffsetFetchRequest.decode, _serve, _refuse),
    ApiKey.OFFSET_DELETE: Handler(m.OffsetDeleteRequest.decode, _serve, _refuse),
    ApiKey.LIST_GROUPS: Handler(m.ListGroupsRequest.decode, _serve, _refuse),
    ApiKey.DESCRIBE_GROUPS: Handler(m.DescribeGroupsRequest.decode, _serve, _refuse),
    ApiKey.DELETE_GROUPS: Handler(m.DeleteGroupsRequest.decode, _serve, _refuse),
}
