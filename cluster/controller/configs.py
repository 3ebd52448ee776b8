"""AlterConfigs and IncrementalAlterConfigs of topics and brokers: what is refused, and what is to be written otherwise.

What stays true: checks come in Kafka's order and with Kafka's code and words; settings are stored as the client wrote
them; every change is announced to all brokers together with being written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cluster.config import Config, ConfigError, may_change
from cluster.config.broker_config import base_key, find_row
from cluster.config.keys import BROKER_KEYS, PYLOG_KEYS
from cluster.controller.context import DEFAULT_ENTITY, ControllerContext
from cluster.model import PutConfig, WriteGroup
from pylog.config import TOPIC_KEYS, InvalidConfiguration, LogConfig, field_name, validate_overrides
from pylog.config_value import parse_value, show_value
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple

SET, DELETE, APPEND, SUBTRACT = range(4)
"""Operations of IncrementalAlterConfigs, as the protocol numbers them."""

# Key stores are read again when these change; which listener's is to be read must be said.
_PER_LISTENER = frozenset(
    f"ssl.{name}"
    for name in (
        "key.password", "keystore.certificate.chain", "keystore.key", "keystore.location", "keystore.password",
        "keystore.type", "truststore.certificates", "truststore.location", "truststore.password", "truststore.type",
    )
)  # fmt: skip


_DefaultOf = Callable[[str, int], str]
"""The default of a list that something is appended to or taken from; refuses a key that is no list."""


class ConfigChange(NamedTuple):
    """One change of IncrementalAlterConfigs."""

    name: str
    operation: int
    value: str | None


class ConfigPlan(NamedTuple):
    """`settings`: all that the entity has afterwards."""

    kind: str
    entity: str
    settings: dict[str, str]
    groups: tuple[WriteGroup, ...]


def alter_topic(context: ControllerContext, config: Config, name: str, changes: Sequence[ConfigChange]) -> ConfigPlan:
    """Change some settings. Raises KafkaError."""
    check_changes(changes)
    _check_named(name)
    settings = _changed(context.topic_configs.get(name, {}), changes, _topic_default)
    _check_topic(context, name)
    return _plan_topic(context, config, name, settings)


def replace_topic(
    context: ControllerContext, config: Config, name: str, settings: Sequence[tuple[str, str | None]]
) -> ConfigPlan:
    """Set these settings and no others. Raises KafkaError."""
    check_changes([ConfigChange(key, SET, value) for key, value in settings])
    _check_named(name)
    _check_topic(context, name)
    return _plan_topic(context, config, name, {key: value for key, value in settings if value is not None})


def alter_broker(
    context: ControllerContext, config: Config, own_id: int, name: str, changes: Sequence[ConfigChange]
) -> ConfigPlan:
    """`own_id`: the broker that was asked; `name`: its id, or empty for all brokers. Raises KafkaError."""
    check_changes(changes)
    entity = _broker_entity(own_id, name)
    settings = _changed(context.broker_configs.get(entity, {}), changes, _broker_default)
    return _plan_broker(context, config, entity, settings)


def replace_broker(
    context: ControllerContext, config: Config, own_id: int, name: str, settings: Sequence[tuple[str, str | None]]
) -> ConfigPlan:
    """Likewise, these settings and no others. Raises KafkaError."""
    check_changes([ConfigChange(key, SET, value) for key, value in settings])
    entity = _broker_entity(own_id, name)
    return _plan_broker(context, config, entity, {key: value for key, value in settings if value is not None})


# ------------------------------------------------------------------------------------------------ the changes


def check_changes(changes: Sequence[ConfigChange]) -> None:
    """What holds for any kind of resource. Raises INVALID_REQUEST."""
    names = [change.name for change in changes]
    if len(set(names)) < len(names):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [change.name for change in changes if change.value is None and change.operation != DELETE]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(nulls)}")


def _changed(old: Mapping[str, str], changes: Sequence[ConfigChange], default_of: _DefaultOf) -> dict[str, str]:
    settings = dict(old)
    for name, operation, value in changes:
        if not SET <= operation <= SUBTRACT:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown operations type {operation}")
        if operation == DELETE:
            settings.pop(name, None)
        elif operation == SET:
            settings[name] = value or ""
        else:
            default = default_of(name, operation)
            listed = _split(settings.get(name, default))
            mentioned = _split(value or "")
            if operation == APPEND:
                listed += [each for each in mentioned if each not in listed]
            else:
                listed = [each for each in listed if each not in mentioned]
            settings[name] = ",".join(listed)
    return settings


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _topic_default(name: str, operation: int) -> str:
    key = TOPIC_KEYS.get(name)
    default = None if key is None else show_value(LogConfig._field_defaults[field_name(name)])
    return _list_default(name, operation, None if key is None else key.kind, default)


def _broker_default(name: str, operation: int) -> str:
    row = find_row(name)
    return _list_default(name, operation, None if row is None else row[0], None if row is None else row[1])


def _list_default(name: str, operation: int, kind: str | None, default: str | None) -> str:
    if kind is None:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown config name: {name}")
    if kind != "list":
        verb = "append" if operation == APPEND else "subtract"
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Config value {verb} is not allowed for config key: {name}")
    return default or ""


# ------------------------------------------------------------------------------------------------ topics


def _check_named(name: str) -> None:
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")


def _check_topic(context: ControllerContext, name: str) -> None:
    if name not in context.topics:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")


def _plan_topic(context: ControllerContext, config: Config, name: str, settings: dict[str, str]) -> ConfigPlan:
    try:
        validate_overrides(settings, config.log_config)
    except InvalidConfiguration as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from error
    except ConfigError as error:
        resource = f"ConfigResource(type=TOPIC, name='{name}')"
        message = f"Invalid config value for resource {resource}: {error}"
        raise KafkaError(ErrorCode.INVALID_CONFIG, message) from error
    write = PutConfig("topics", name, settings, is_new=name not in context.topic_configs, announce=True)
    return ConfigPlan("topics", name, settings, ((write,),))


# ------------------------------------------------------------------------------------------------ brokers


def _broker_entity(own_id: int, name: str) -> str:
    if not name:
        return DEFAULT_ENTITY
    number = parse_id(name)
    if number is None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    if number != own_id:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, expected {own_id}, but received {name}")
    return str(own_id)


def parse_id(text: str) -> int | None:
    """A broker's id as people may write it, 00 and +0 too; None when it is no number of 32 bits."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdecimal()):
        return None
    number = int(text)
    return number if -(1 << 31) <= number < 1 << 31 else None


def _plan_broker(context: ControllerContext, config: Config, entity: str, settings: dict[str, str]) -> ConfigPlan:
    """Names that no table has are kept: they are for plug-ins."""
    for_all = entity == DEFAULT_ENTITY
    fixed = [
        name for name in settings if (name in BROKER_KEYS or name in PYLOG_KEYS) and not may_change(name, for_all=False)
    ]
    _refuse_names("Cannot update these configs dynamically", "Set", fixed)
    _refuse_names(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        "HashSet",
        [name for name in settings if name in _PER_LISTENER],
    )
    for name, text in settings.items():
        row = find_row(name)
        try:
            if row is not None:
                parse_value(name, row[0], row[2], text)
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from error
    if for_all:
        per_broker = [name for name in settings if _is_ours(name) and not may_change(name, for_all=True)]
        _refuse_names(
            "Cannot update these configs at default cluster level, broker id must be specified", "Set", per_broker
        )
    passwords = [name for name in settings if (find_row(name) or ("",))[0] == "password"]
    _refuse_names("Passwords cannot be kept in the metadata tree by this broker", "Set", passwords)
    try:
        if for_all:
            config.with_dynamic(config.layers.node, settings)
        else:
            config.with_dynamic(settings, config.layers.cluster)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from error
    write = PutConfig("brokers", entity, settings, is_new=entity not in context.broker_configs, announce=True)
    return ConfigPlan("brokers", entity, settings, ((write,),))


def _is_ours(name: str) -> bool:
    return find_row(name) is not None or base_key(name) != name


def _refuse_names(reason: str, kind: str, names: Sequence[str]) -> None:
    """Worded as Scala prints a set."""
    if names:
        kind = kind if len(names) <= 4 else "HashSet"
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{reason}: {kind}({', '.join(names)})")
