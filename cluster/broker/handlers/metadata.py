"""Metadata, DescribeCluster (KIP-700) and DescribeTopicPartitions (KIP-966): who leads what, and where they live."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.broker.apis import Answer, Handler, Request
from cluster.broker.metadata_cache import TopicMetadata
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

_NO_ID: Final = b"\0" * 16

#: Bit n set: AclOperation n is allowed. Without an authorizer that is all the operations a resource knows.
TOPIC_OPERATIONS: Final = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_OPERATIONS: Final = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))
_NOT_ASKED: Final = -(2**31)

_Topic = m.MetadataResponse.MetadataResponseTopic
_Partition = m.MetadataResponse.MetadataResponsePartition


def _metadata(broker: Broker, request: Request) -> m.MetadataResponse | Answer:
    message: m.MetadataRequest = request.message
    version = request.api_version
    settled = True
    if message.topics is None or (version == 0 and not message.topics):
        topics = [_known(topic, message, version) for topic in broker.metadata.topics.values()]
    else:
        topics = _asked(broker, message, version)
        settled = all(topic.error_code == 0 for topic in topics)
    brokers = [
        m.MetadataResponse.MetadataResponseBroker(node_id=b.node_id, host=b.host, port=b.port, rack=b.rack)
        for b in broker.endpoints(request)
    ]
    operations = CLUSTER_OPERATIONS if message.include_cluster_authorized_operations else _NOT_ASKED
    response = m.MetadataResponse(
        brokers=brokers,
        cluster_id=broker.metadata.cluster_id,
        controller_id=broker.metadata.controller_id,
        topics=topics,
        cluster_authorized_operations=operations if 8 <= version <= 10 else _NOT_ASKED,
    )
    return Answer(response) if settled else response


def _asked(broker: Broker, message: m.MetadataRequest, version: int) -> list[m.MetadataResponse.MetadataResponseTopic]:
    """Each topic once, however often it is named. Where any is named by id, names are not looked at."""
    asked = message.topics or []
    if version < 12 and any(topic.name is None or topic.topic_id != _NO_ID for topic in asked):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    ids = dict.fromkeys(topic.topic_id for topic in asked if topic.topic_id != _NO_ID)
    if ids:
        return [_by_id(broker, topic_id, message, version) for topic_id in ids]
    names = dict.fromkeys(topic.name for topic in asked)
    if None in names:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
    return [_by_name(broker, name, message, version) for name in names if name is not None]


def _by_id(
    broker: Broker, topic_id: bytes, message: m.MetadataRequest, version: int
) -> m.MetadataResponse.MetadataResponseTopic:
    name = broker.metadata.topic_name(topic_id)
    topic = None if name is None else broker.metadata.topics.get(name)
    if topic is None:
        return _Topic(error_code=int(ErrorCode.UNKNOWN_TOPIC_ID), topic_id=topic_id, name=None)
    return _known(topic, message, version)


def _by_name(
    broker: Broker, name: str, message: m.MetadataRequest, version: int
) -> m.MetadataResponse.MetadataResponseTopic:
    topic = broker.metadata.topics.get(name)
    if topic is None:
        create = version < 4 or message.allow_auto_topic_creation
        code = broker.admin.auto_create(name) if create else broker.admin.unknown_topic(name)
        topic = broker.metadata.topics.get(name)
        if topic is None:
            return _Topic(
                error_code=int(code),
                name=name,
                is_internal=broker.is_internal(name),
                topic_authorized_operations=_operations(message, version),
            )
    return _known(topic, message, version)


def _operations(message: m.MetadataRequest, version: int) -> int:
    """What the client may do with a topic, when it asks; said of topics that are not there too."""
    return TOPIC_OPERATIONS if version >= 8 and message.include_topic_authorized_operations else _NOT_ASKED


def _known(topic: TopicMetadata, message: m.MetadataRequest, version: int) -> m.MetadataResponse.MetadataResponseTopic:
    partitions = []
    for p in topic.partitions:
        code = ErrorCode.NONE if p.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE
        partitions.append(
            _Partition(
                error_code=int(code),
                partition_index=p.partition,
                leader_id=p.leader,
                leader_epoch=p.leader_epoch,
                replica_nodes=list(p.replicas),
                isr_nodes=list(p.isr),
                offline_replicas=list(p.offline),
            )
        )
    return _Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=partitions,
        topic_authorized_operations=_operations(message, version),
    )


def _refuse_metadata(request: Request, code: int) -> m.MetadataResponse:
    topics = [_Topic(error_code=code, name=t.name or "", topic_id=t.topic_id) for t in request.message.topics or []]
    return m.MetadataResponse(topics=topics)


def _describe_cluster(broker: Broker, request: Request) -> m.DescribeClusterResponse | Answer:
    message: m.DescribeClusterRequest = request.message
    if request.api_version >= 1 and message.endpoint_type != 1:
        code = ErrorCode.MISMATCHED_ENDPOINT_TYPE
        text = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
        if message.endpoint_type != 2:
            code, text = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "Unsupported endpoint type " + str(message.endpoint_type)
        return m.DescribeClusterResponse(error_code=int(code), error_message=text)
    entry = m.DescribeClusterResponse.DescribeClusterBroker
    asked = message.include_cluster_authorized_operations
    return Answer(
        m.DescribeClusterResponse(
            cluster_id=broker.metadata.cluster_id,
            controller_id=broker.metadata.controller_id,
            brokers=[
                entry(broker_id=b.node_id, host=b.host, port=b.port, rack=b.rack) for b in broker.endpoints(request)
            ],
            cluster_authorized_operations=CLUSTER_OPERATIONS if asked else _NOT_ASKED,
        )
    )


def _refuse_cluster(request: Request, code: int) -> m.DescribeClusterResponse:
    return m.DescribeClusterResponse(error_code=code, error_message=ErrorCode(code).message)


def _describe_topics(broker: Broker, request: Request) -> m.DescribeTopicPartitionsResponse:
    """Partitions of the named topics (of all, when none is named) in order of name, from the cursor on, up to a
    limit."""
    message: m.DescribeTopicPartitionsRequest = request.message
    cursor = message.cursor
    if cursor is not None and cursor.partition_index < 0:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "DescribeTopicPartitionsRequest cursor partition must be valid")
    names: Iterable[str] = {t.name for t in message.topics} or broker.metadata.topics
    limit = min(message.response_partition_limit, broker.config.int("max.request.partition.size.limit"))
    if limit < 1:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "The partition limit must be at least 1")
    topics: list[m.DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic] = []
    response = m.DescribeTopicPartitionsResponse(topics=topics)
    for name in sorted(names):
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        if limit <= 0:
            response.next_cursor = m.DescribeTopicPartitionsResponse.Cursor(topic_name=name, partition_index=first)
            break
        entry, taken, left = _topic_partitions(broker, name, first, limit)
        topics.append(entry)
        limit -= taken
        if left:
            response.next_cursor = m.DescribeTopicPartitionsResponse.Cursor(
                topic_name=name, partition_index=first + taken
            )
            break
    return response


def _topic_partitions(
    broker: Broker, name: str, first: int, limit: int
) -> tuple[m.DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic, int, int]:
    """The entry of one topic, how many partitions are in it, and how many did not fit."""
    entry = m.DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
    topic = broker.metadata.topics.get(name)
    if topic is None:
        return entry(error_code=int(broker.admin.unknown_topic(name)), name=name), 0, 0
    chosen = topic.partitions[first : first + limit]
    partitions = [
        m.DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponsePartition(
            error_code=int(ErrorCode.NONE if p.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE),
            partition_index=p.partition,
            leader_id=p.leader,
            leader_epoch=p.leader_epoch,
            replica_nodes=list(p.replicas),
            isr_nodes=list(p.isr),
            # Nullable in the schema, but Java's admin client streams over them unasked.
            eligible_leader_replicas=[],
            last_known_elr=[],
            offline_replicas=list(p.offline),
        )
        for p in chosen
    ]
    described = entry(
        name=name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=partitions,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )
    return described, len(chosen), max(0, len(topic.partitions) - first - len(chosen))


def _refuse_topics(request: Request, code: int) -> m.DescribeTopicPartitionsResponse:
    entry = m.DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
    return m.DescribeTopicPartitionsResponse(
        topics=[entry(error_code=code, name=t.name) for t in request.message.topics]
    )


HANDLERS = {
    ApiKey.METADATA: Handler(m.MetadataRequest.decode, _metadata, _refuse_metadata),
    ApiKey.DESCRIBE_CLUSTER: Handler(m.DescribeClusterRequest.decode, _describe_cluster, _refuse_cluster),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: Handler(
        m.DescribeTopicPartitionsRequest.decode, _describe_topics, _refuse_topics
    ),
}
