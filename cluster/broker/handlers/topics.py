"""CreateTopics, DeleteTopics and CreatePartitions: what KafkaAdminClient and kafka-topics ask of a controller."""

from __future__ import annotations

from collections import Counter

from cluster.broker.apis import Handler, Held, Request
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


def _create(broker: Broker, request: Request) -> m.CreateTopicsResponse | Held:
    """A topic that is asked for twice is not made. Without time to wait Kafka creates and does not tell."""
    message: m.CreateTopicsRequest = request.message
    counts = Counter(topic.name for topic in message.topics)
    wanted = [_wanted(topic) for topic in message.topics if counts[topic.name] == 1]
    made_or_not = broker.admin.create_topics(wanted, message.validate_only)
    outcomes = {new.name: outcome for new, outcome in zip(wanted, made_or_not, strict=True)}
    described = _Described(broker, request.api_version)
    results = []
    for topic in message.topics:
        made = outcomes.get(topic.name)
        if made is None:
            results.append(_failed(topic.name, ErrorCode.INVALID_REQUEST, _TWICE))
        elif isinstance(made, KafkaError):
            results.append(_failed(topic.name, made.code, made.message))
        else:
            results.append(_made(made, described))
    answer = m.CreateTopicsResponse(topics=results)
    sizes = {name: made.partitions for name, made in outcomes.items() if not isinstance(made, KafkaError)}
    if message.validate_only or not sizes:
        return answer

    def late(names: list[str]) -> None:
        answer.topics = [_timed_out(r) if r.name in names and not r.error_code else r for r in answer.topics]

    if message.timeout_ms <= 0:
        late(list(sizes))
        return answer
    return broker.admin.hold_created(answer, sizes, message.timeout_ms, late)


def _wanted(topic: m.CreateTopicsRequest.CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        {each.partition_index: each.broker_ids for each in topic.assignments},
        _settings(topic),
    )


def _settings(topic: m.CreateTopicsRequest.CreatableTopic) -> dict[str, str | None]:
    """Of a setting that is given twice the last value counts, but null, which is refused, always does."""
    settings: dict[str, str | None] = {}
    for each in topic.configs:
        if settings.get(each.name, "") is not None:
            settings[each.name] = each.value
    return settings


class _Described:
    """The settings of new topics as an answer shows them; topics that override the same share them. Answers before
    version 5 show none."""

    __slots__ = ("_broker", "_known", "_shown")

    def __init__(self, broker: Broker, version: int) -> None:
        self._broker = broker
        self._shown = version >= 5
        self._known: dict[tuple[tuple[str, str], ...], list[m.CreateTopicsResponse.CreatableTopicConfigs]] = {}

    def of(self, overrides: dict[str, str]) -> list[m.CreateTopicsResponse.CreatableTopicConfigs]:
        if not self._shown:
            return []
        key = tuple(sorted(overrides.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = [
                m.CreateTopicsResponse.CreatableTopicConfigs(
                    name=entry.name,
                    value=entry.value,
                    read_only=entry.read_only,
                    config_source=entry.source,
                    is_sensitive=entry.sensitive,
                )
                for entry in describe_topic(self._broker.config, overrides)
            ]
        return found


def _made(made: Created, described: _Described) -> m.CreateTopicsResponse.CreatableTopicResult:
    return _Result(
        name=made.name,
        topic_id=made.topic_id,
        error_message=None,
        num_partitions=made.partitions,
        replication_factor=made.replication_factor,
        configs=described.of(made.overrides),
    )


def _failed(name: str, code: ErrorCode, message: str | None = None) -> m.CreateTopicsResponse.CreatableTopicResult:
    return _Result(name=name, error_code=int(code), error_message=message or code.message, configs=[])


def _timed_out(made: m.CreateTopicsResponse.CreatableTopicResult) -> m.CreateTopicsResponse.CreatableTopicResult:
    """It is made, or being made: its id is told, and no words are."""
    code = int(ErrorCode.REQUEST_TIMED_OUT)
    return _Result(name=made.name, topic_id=made.topic_id, error_code=code, error_message=None, configs=[])


def _refuse_create(request: Request, code: int) -> m.CreateTopicsResponse:
    """A broker that is not the controller says so without words."""
    refused = [
        _Result(name=topic.name, error_code=code, error_message="", configs=[]) for topic in request.message.topics
    ]
    if code != ErrorCode.NOT_CONTROLLER:
        refused = [_failed(topic.name, ErrorCode(code)) for topic in request.message.topics]
    return m.CreateTopicsResponse(topics=refused)


def _delete(broker: Broker, request: Request) -> m.DeleteTopicsResponse | Held:
    message: m.DeleteTopicsRequest = request.message
    asked: list[tuple[str | None, bytes]] = [(name, ZERO_TOPIC_ID) for name in message.topic_names]
    if request.api_version >= 6:
        asked = [(topic.name, topic.topic_id) for topic in message.topics]
    if any(name is not None and topic_id != ZERO_TOPIC_ID for name, topic_id in asked):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Topic name and topic ID can not both be specified.")
    named = [(broker.metadata.topic_name(topic_id) if name is None else name, topic_id) for name, topic_id in asked]
    there = list(dict.fromkeys(name for name, _ in named if name is not None and name in broker.metadata.topics))
    errors = dict(zip(there, broker.admin.delete_topics(there), strict=True))
    results = []
    told: set[str] = set()
    for name, topic_id in named:
        if name is None:
            code = ErrorCode.UNKNOWN_TOPIC_ID
        elif name not in errors:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        elif (error := errors[name]) is not None:
            code = error.code
        elif message.timeout_ms <= 0 and name not in told:  # named again, it is just gone
            code = ErrorCode.REQUEST_TIMED_OUT
        else:
            code = ErrorCode.NONE
        if name is not None:
            told.add(name)
        results.append(_Deleted(name=name, topic_id=topic_id, error_code=int(code)))
    answer = m.DeleteTopicsResponse(responses=results)
    gone = [name for name, error in errors.items() if error is None]
    if message.timeout_ms <= 0 or not gone:
        return answer

    def late(names: list[str]) -> None:
        for result in answer.responses:
            if result.name in names:
                result.error_code = int(ErrorCode.REQUEST_TIMED_OUT)

    return broker.admin.hold_deleted(answer, gone, message.timeout_ms, late)


def _refuse_delete(request: Request, code: int) -> m.DeleteTopicsResponse:
    message: m.DeleteTopicsRequest = request.message
    named = [_Deleted(name=name, error_code=code) for name in message.topic_names]
    listed = [_Deleted(name=t.name, topic_id=t.topic_id, error_code=code) for t in message.topics]
    return m.DeleteTopicsResponse(responses=named + listed)


def _grow(broker: Broker, request: Request) -> m.CreatePartitionsResponse | Held:
    message: m.CreatePartitionsRequest = request.message
    if broker.member is not None and not broker.member.is_controller:
        raise KafkaError(ErrorCode.NOT_CONTROLLER)
    counts = Counter(topic.name for topic in message.topics)
    results = []
    for name in sorted(name for name, count in counts.items() if count > 1):
        code = int(ErrorCode.INVALID_REQUEST)
        results.append(_Grown(name=name, error_code=code, error_message="Duplicate topic in request."))
    grown: dict[str, int] = {}
    for topic in message.topics:
        if counts[topic.name] > 1:
            continue
        lists = None if topic.assignments is None else [each.broker_ids for each in topic.assignments]
        try:
            broker.admin.create_partitions(topic.name, topic.count, lists, message.validate_only)
            results.append(_Grown(name=topic.name))
            grown[topic.name] = topic.count
        except KafkaError as error:
            results.append(_Grown(name=topic.name, error_code=int(error.code), error_message=error.message))
    answer = m.CreatePartitionsResponse(results=results)
    if message.validate_only or not grown:
        return answer

    def late(names: list[str]) -> None:
        for result in answer.results:
            if result.name in names and result.error_code == ErrorCode.NONE:
                result.error_code = int(ErrorCode.REQUEST_TIMED_OUT)

    if message.timeout_ms <= 0:
        late(list(grown))
        return answer
    return broker.admin.hold_created(answer, grown, message.timeout_ms, late)


def _refuse_grow(request: Request, code: int) -> m.CreatePartitionsResponse:
    text = None if code == ErrorCode.NOT_CONTROLLER else ErrorCode(code).message
    return m.CreatePartitionsResponse(
        results=[_Grown(name=topic.name, error_code=code, error_message=text) for topic in request.message.topics]
    )


HANDLERS = {
    ApiKey.CREATE_TOPICS: Handler(m.CreateTopicsRequest.decode, _create, _refuse_create, tree=True),
    ApiKey.DELETE_TOPICS: Handler(m.DeleteTopicsRequest.decode, _delete, _refuse_delete, tree=True),
    ApiKey.CREATE_PARTITIONS: Handler(m.CreatePartitionsRequest.decode, _grow, _refuse_grow, tree=True),
}
