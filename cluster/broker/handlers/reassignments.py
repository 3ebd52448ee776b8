"""AlterPartitionReassignments and ListPartitionReassignments: in a cluster its controller's business; here, those of a
node that is alone.

What stays true of that: the only place for a partition's replica is where it is, so asking for it is fulfilled at once,
every other wish names a broker that is not there, and none is ever under way. Kafka's tool asks these before it moves
partitions between data directories.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.broker.apis import Handler, Request
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

_Topic = m.AlterPartitionReassignmentsResponse.ReassignableTopicResponse
_Partition = m.AlterPartitionReassignmentsResponse.ReassignablePartitionResponse


def _alter(broker: Broker, request: Request) -> m.AlterPartitionReassignmentsResponse | None:
    if broker.member is not None:
        from cluster.broker.handlers.controller import alter_reassignments

        alter_reassignments(broker, request)
        return None
    message: m.AlterPartitionReassignmentsRequest = request.message
    topics = [
        _Topic(
            name=topic.name,
            partitions=[
                _partition(part.partition_index, *_judge(broker, topic.name, part.partition_index, part.replicas))
                for part in topic.partitions
            ],
        )
        for topic in message.topics
    ]
    change = message.allow_replication_factor_change
    return m.AlterPartitionReassignmentsResponse(responses=topics, allow_replication_factor_change=change)


def _partition(index: int, code: ErrorCode, text: str | None) -> _Partition:
    return _Partition(partition_index=index, error_code=int(code), error_message=text)


def _judge(broker: Broker, topic: str, index: int, replicas: Sequence[int] | None) -> tuple[ErrorCode, str | None]:
    """What Kafka says of a wish, in the order in which it looks; None: the reassignment under way is to end."""
    if replicas is None:
        return ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS.message
    named = ", ".join(map(str, replicas))
    wrong = None
    if not replicas:
        wrong = "Empty replica list specified in partition reassignment."
    elif len(set(replicas)) < len(replicas):
        wrong = f"Duplicate replica ids in partition reassignment replica list: ArrayBuffer({named})"
    elif min(replicas) < 0:
        wrong = f"Invalid broker id in replica list: ArrayBuffer({named})"
    elif list(replicas) != [broker.broker_id]:
        wrong = (
            f"Replica assignment has brokers that are not alive. Replica list: ArrayBuffer({named}), "
            f"live broker list: Set({broker.broker_id})"
        )
    if wrong is not None:
        return ErrorCode.INVALID_REPLICA_ASSIGNMENT, wrong
    if broker.metadata.partition(topic, index) is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist."
    return ErrorCode.NONE, None


def _refuse_alter(request: Request, code: int) -> m.AlterPartitionReassignmentsResponse:
    return m.AlterPartitionReassignmentsResponse(error_code=code, error_message=ErrorCode(code).message)


def _list(broker: Broker, request: Request) -> m.ListPartitionReassignmentsResponse | None:
    if broker.member is not None:
        from cluster.broker.handlers.controller import list_reassignments

        list_reassignments(broker, request)
        return None
    return m.ListPartitionReassignmentsResponse(topics=[])


def _refuse_list(request: Request, code: int) -> m.ListPartitionReassignmentsResponse:
    return m.ListPartitionReassignmentsResponse(error_code=code, error_message=ErrorCode(code).message)


HANDLERS = {
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: Handler(
        m.AlterPartitionReassignmentsRequest.decode, _alter, _refuse_alter, controller=True
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: Handler(
        m.ListPartitionReassignmentsRequest.decode, _list, _refuse_list, controller=True
    ),
}
