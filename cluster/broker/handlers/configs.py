"""DescribeConfigs (KIP-133, KIP-226), AlterConfigs and IncrementalAlterConfigs (KIP-339): settings of topics and
brokers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cluster.broker.apis import Handler, Request
from cluster.config.describe import describe_broker, describe_cluster_defaults, describe_topic
from cluster.controller.configs import parse_id
from cluster.controller.topics import check_name
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from pylog.config_value import ConfigEntry

TOPIC: Final = 2
BROKER: Final = 4
BROKER_LOGGER: Final = 8
CLIENT_METRICS: Final = 16
GROUP: Final = 32
_DESCRIBED: Final = frozenset({TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP})


def _describe(broker: Broker, request: Request) -> m.DescribeConfigsResponse:
    message: m.DescribeConfigsRequest = request.message
    if any(resource.resource_type not in _DESCRIBED for resource in message.resources):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    result = m.DescribeConfigsResponse.DescribeConfigsResult
    results = []
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        try:
            entries = _entries(broker, kind, name, resource.configuration_keys or None)
        except KafkaError as error:
            text = "" if error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION else error.message
            code = int(error.code)
            results.append(result(error_code=code, error_message=text, resource_type=kind, resource_name=name))
            continue
        configs = [_shown(entry, message.include_synonyms) for entry in entries]
        results.append(result(error_message="", resource_type=kind, resource_name=name, configs=configs))
    return m.DescribeConfigsResponse(results=results)


def _entries(broker: Broker, kind: int, name: str, keys: list[str] | None) -> list[ConfigEntry]:
    """Of loggers there are none here."""
    if kind == TOPIC:
        check_name(name)
        if name not in broker.metadata.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return describe_topic(broker.config, broker.admin.topic_overrides(name), keys)
    if kind == GROUP:
        return broker.admin.group_settings().describe(broker.config, name, keys)
    if kind == CLIENT_METRICS:
        if name == "":
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Config type client-metrics is only supported on KRaft clusters")
    if kind == BROKER_LOGGER:
        if name == "":
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
        _check_own_id(broker, name, "")
        return []
    if name == "":
        return describe_cluster_defaults(broker.config, keys)
    _check_own_id(broker, name, " or empty string")
    return describe_broker(broker.config, keys)


def _check_own_id(broker: Broker, name: str, otherwise: str) -> None:
    number = parse_id(name)
    if number is None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if number != broker.broker_id:
        text = f"Unexpected broker id, expected {broker.broker_id}{otherwise}, but received {name}"
        raise KafkaError(ErrorCode.INVALID_REQUEST, text)


def _shown(entry: ConfigEntry, synonyms: bool) -> m.DescribeConfigsResponse.DescribeConfigsResourceResult:
    synonym = m.DescribeConfigsResponse.DescribeConfigsSynonym
    return m.DescribeConfigsResponse.DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        synonyms=[synonym(name=n, value=v, source=s) for n, v, s in entry.synonyms] if synonyms else [],
        config_type=entry.type_code,
        documentation=None,
    )


def _refuse_describe(request: Request, code: int) -> m.DescribeConfigsResponse:
    result = m.DescribeConfigsResponse.DescribeConfigsResult
    return m.DescribeConfigsResponse(
        results=[
            result(
                error_code=code,
                error_message=ErrorCode(code).message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.message.resources
        ]
    )


_TWICE: Final[tuple[int, str | None]] = (
    int(ErrorCode.INVALID_REQUEST),
    "Each resource must appear at most once.",
)


def _outcome(change: Callable[[], None]) -> tuple[int, str | None]:
    """Error code and message of a change; a null message when it worked."""
    try:
        change()
    except KafkaError as error:
        return int(error.code), error.message
    return 0, None


def _alter(broker: Broker, request: Request) -> m.AlterConfigsResponse:
    message: m.AlterConfigsRequest = request.message
    responses = []
    counts = Counter((resource.resource_type, resource.resource_name) for resource in message.resources)
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        wanted = [(config.name, config.value) for config in resource.configs]
        code, text = _TWICE
        if counts[kind, name] == 1:
            code, text = _outcome(lambda: broker.admin.alter_configs(kind, name, wanted, message.validate_only))  # noqa: B023
        responses.append(
            m.AlterConfigsResponse.AlterConfigsResourceResponse(
                error_code=code, error_message=text, resource_type=kind, resource_name=name
            )
        )
    return m.AlterConfigsResponse(responses=responses)


def _alter_incrementally(broker: Broker, request: Request) -> m.IncrementalAlterConfigsResponse:
    message: m.IncrementalAlterConfigsRequest = request.message
    responses = []
    counts = Counter((resource.resource_type, resource.resource_name) for resource in message.resources)
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        changes = [(config.name, config.config_operation, config.value) for config in resource.configs]
        validate_only = message.validate_only
        code, text = _TWICE
        if counts[kind, name] == 1:
            code, text = _outcome(lambda: broker.admin.change_configs(kind, name, changes, validate_only))  # noqa: B023
        responses.append(
            m.IncrementalAlterConfigsResponse.AlterConfigsResourceResponse(
                error_code=code, error_message=text, resource_type=kind, resource_name=name
            )
        )
    return m.IncrementalAlterConfigsResponse(responses=responses)


def _refuse_alter(request: Request, code: int) -> m.AlterConfigsResponse:
    entry = m.AlterConfigsResponse.AlterConfigsResourceResponse
    text = ErrorCode(code).message
    return m.AlterConfigsResponse(
        responses=[
            entry(error_code=code, error_message=text, resource_type=r.resource_type, resource_name=r.resource_name)
            for r in request.message.resources
        ]
    )


def _refuse_incremental(request: Request, code: int) -> m.IncrementalAlterConfigsResponse:
    entry = m.IncrementalAlterConfigsResponse.AlterConfigsResourceResponse
    text = ErrorCode(code).message
    return m.IncrementalAlterConfigsResponse(
        responses=[
            entry(error_code=code, error_message=text, resource_type=r.resource_type, resource_name=r.resource_name)
            for r in request.message.resources
        ]
    )


HANDLERS = {
    ApiKey.DESCRIBE_CONFIGS: Handler(m.DescribeConfigsRequest.decode, _describe, _refuse_describe, tree=True),
    ApiKey.ALTER_CONFIGS: Handler(m.AlterConfigsRequest.decode, _alter, _refuse_alter, tree=True),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Handler(
        m.IncrementalAlterConfigsRequest.decode, _alter_incrementally, _refuse_incremental, tree=True
    ),
}
