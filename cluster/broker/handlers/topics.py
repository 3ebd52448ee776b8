"""CreateTopics, DeleteTopics and CreatePartitions: what KafkaAdminClient and kafka-topics ask of a controller."""

from __future__ import annotations

from collections import Counter

from cluster.broker.apis import Handler, Request
from cluster.config.describe import describe_topic
from cluster.controller.topics import NewTopic
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING
from pylog.types import ZERO_TOPIC_ID

if TYPE_CHECKING:
    from cluster.broker.admin import Created
    from cluster.broker.broker import Broker

_Result = m.CreateTopicsResponse.CreatableTopicResult
_Deleted = m.DeleteTopicsResponse.DeletableTopicResult
_Grown = m.CreatePartitionsResponse.CreatePartitionsTopicResult

_TWICE = "Found multiple entries for this topic."


def _create(broker: Broker, request: Request) -> m.CreateTopicsResponse:
    """A topic that is asked for twice is not made. Without time to wait Kafka creates and does not tell."""
    message: m.CreateTopicsRequest = request.message
    counts = Counter(topic.name for topic in message.topics)
    results = []
    for topic in message.topics:
        if counts[topic.name] > 1:
            results.append(_failed(topic.name, ErrorCode.INVALID_REQUEST, _TWICE))
            continue
        new = NewTopic(
            topic.name,
            topic.num_partitions,
            topic.replication_factor,
            {each.partition_index: each.broker_ids for each in topic.assignments},
            {each.name: each.value for each in topic.configs},
        )
        try:
            made = broker.admin.create_topic(new, message.validate_only)
        except KafkaError as error:
            results.append(_failed(topic.name, error.code, error.message))
            continue
        if message.timeout_ms <= 0 and not message.validate_only:
            results.append(_failed(topic.name, ErrorCode.REQUEST_TIMED_OUT))
        else:
            results.append(_made(broker, topic.name, made))
    return m.CreateTopicsResponse(topics=results)


def _made(broker: Broker, name: str, made: Created) -> m.CreateTopicsResponse.CreatableTopicResult:
    config = m.CreateTopicsResponse.CreatableTopicConfigs
    return _Result(
        name=name,
        topic_id=made.topic_id,
        error_message=None,
        num_partitions=made.partitions,
        replication_factor=made.replication_factor,
        configs=[
            config(
                name=entry.name,
                value=entry.value,
                read_only=entry.read_only,
                config_source=entry.source,
                is_sensitive=entry.sensitive,
            )
            for entry in describe_topic(broker.config, made.overrides)
        ],
    )


def _failed(name: str, code: ErrorCode, message: str | None = None) -> m.CreateTopicsResponse.CreatableTopicResult:
    return _Result(name=name, error_code=int(code), error_message=message or code.message, configs=[])


def _refuse_create(request: Request, code: int) -> m.CreateTopicsResponse:
    return m.CreateTopicsResponse(topics=[_failed(topic.name, ErrorCode(code)) for topic in request.message.topics])


def _delete(broker: Broker, request: Request) -> m.DeleteTopicsResponse:
    message: m.DeleteTopicsRequest = request.message
    asked: list[tuple[str | None, bytes]] = [(name, ZERO_TOPIC_ID) for name in message.topic_names]
    if request.api_version >= 6:
        asked = [(topic.name, topic.topic_id) for topic in message.topics]
    if any(name is not None and topic_id != ZERO_TOPIC_ID for name, topic_id in asked):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Topic name and topic ID can not both be specified.")
    results = []
    gone: set[str] = set()
    for name, topic_id in asked:
        if name is None:
            name = broker.metadata.topic_name(topic_id)
        try:
            code = _delete_one(broker, name, gone, message.timeout_ms)
        except KafkaError as error:
            code = error.code
        results.append(_Deleted(name=name, topic_id=topic_id, error_code=int(code)))
    return m.DeleteTopicsResponse(responses=results)


def _delete_one(broker: Broker, name: str | None, gone: set[str], timeout_ms: int) -> ErrorCode:
    """`gone`: what this request deleted before; it may name a topic again. Raises KafkaError."""
    if name is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
    if name in gone:
        return ErrorCode.NONE
    if name not in broker.metadata.topics:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    broker.admin.delete_topic(name)
    gone.add(name)
    return ErrorCode.REQUEST_TIMED_OUT if timeout_ms <= 0 else ErrorCode.NONE


def _refuse_delete(request: Request, code: int) -> m.DeleteTopicsResponse:
    message: m.DeleteTopicsRequest = request.message
    text = ErrorCode(code).message
    named = [_Deleted(name=name, error_code=code, error_message=text) for name in message.topic_names]
    listed = [_Deleted(name=t.name, topic_id=t.topic_id, error_code=code, error_message=text) for t in message.topics]
    return m.DeleteTopicsResponse(responses=named + listed)


def _grow(broker: Broker, request: Request) -> m.CreatePartitionsResponse:
    message: m.CreatePartitionsRequest = request.message
    counts = Counter(topic.name for topic in message.topics)
    results = []
    for name in sorted(name for name, count in counts.items() if count > 1):
        code = int(ErrorCode.INVALID_REQUEST)
        results.append(_Grown(name=name, error_code=code, error_message="Duplicate topic in request."))
    for topic in message.topics:
        if counts[topic.name] > 1:
            continue
        lists = None if topic.assignments is None else [each.broker_ids for each in topic.assignments]
        try:
            broker.admin.create_partitions(topic.name, topic.count, lists, message.validate_only)
            results.append(_Grown(name=topic.name))
        except KafkaError as error:
            results.append(_Grown(name=topic.name, error_code=int(error.code), error_message=error.message))
    return m.CreatePartitionsResponse(results=results)


def _refuse_grow(request: Request, code: int) -> m.CreatePartitionsResponse:
    text = ErrorCode(code).message
    return m.CreatePartitionsResponse(
        results=[_Grown(name=topic.name, error_code=code, error_message=text) for topic in request.message.topics]
    )


HANDLERS = {
    ApiKey.CREATE_TOPICS: Handler(m.CreateTopicsRequest.decode, _create, _refuse_create),
    ApiKey.DELETE_TOPICS: Handler(m.DeleteTopicsRequest.decode, _delete, _refuse_delete),
    ApiKey.CREATE_PARTITIONS: Handler(m.CreatePartitionsRequest.decode, _grow, _refuse_grow),
}
