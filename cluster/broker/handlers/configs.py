"""DescribeConfigs (KIP-133, KIP-226), AlterConfigs and IncrementalAlterConfigs (KIP-339): settings of topics and
brokers."""

from __future__ import annotations

from collections.abc import Callable

from cluster.broker.apis import Handler, Request
from cluster.config.describe import describe_broker, describe_cluster_defaults, describe_topic
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from pylog.config_value import ConfigEntry

TOPIC: Final = 2
BROKER: Final = 4


def _describe(broker: Broker, request: Request) -> m.DescribeConfigsResponse:
    message: m.DescribeConfigsRequest = request.message
    result = m.DescribeConfigsResponse.DescribeConfigsResult
    results = []
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        try:
            entries = _entries(broker, kind, name, resource.configuration_keys)
        except KafkaError as error:
            text = "" if error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION else error.message
            code = int(error.code)
            results.append(result(error_code=code, error_message=text, resource_type=kind, resource_name=name))
            continue
        configs = [_shown(entry, message.include_synonyms) for entry in entries]
        results.append(result(error_message="", resource_type=kind, resource_name=name, configs=configs))
    return m.DescribeConfigsResponse(results=results)


def _entries(broker: Broker, kind: int, name: str, keys: list[str] | None) -> list[ConfigEntry]:
    if kind == TOPIC:
        if name not in broker.metadata.topics:
            raise KafkaError(broker.admin.unknown_topic(name))
        return describe_topic(broker.config, broker.admin.topic_overrides(name), keys)
    if kind != BROKER:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}")
    if name == "":
        return describe_cluster_defaults(broker.config, keys)
    if name != str(broker.broker_id):
        raise KafkaError(ErrorCode.INVALID_REQUEST, _other_broker(broker, name))
    return describe_broker(broker.config, keys)


def _other_broker(broker: Broker, name: str) -> str:
    if not name.lstrip("-").isdecimal():
        return f"Broker id must be an integer, but it is: {name}"
    return f"Unexpected broker id, expected {broker.broker_id} or empty string, but received {name}"


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
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        wanted = [(config.name, config.value) for config in resource.configs]
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
    for resource in message.resources:
        kind, name = resource.resource_type, resource.resource_name
        changes = [(config.name, config.config_operation, config.value) for config in resource.configs]
        validate_only = message.validate_only
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
    ApiKey.DESCRIBE_CONFIGS: Handler(m.DescribeConfigsRequest.decode, _describe, _refuse_describe),
    ApiKey.ALTER_CONFIGS: Handler(m.AlterConfigsRequest.decode, _alter, _refuse_alter),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Handler(
        m.IncrementalAlterConfigsRequest.decode, _alter_incrementally, _refuse_incremental
    ),
}
