"""What must hold between several settings; each refusal in Kafka's words."""

from collections.abc import Callable, Iterator

from pylog.config import LogConfig
from pylog.config_value import ConfigError, Value


def check_together(value: Callable[[str], Value], log_config: LogConfig) -> None:
    """`value`: the typed value in force of a key. Raises ConfigError for the first rule that is broken."""
    for rules in (_identity, _logs, _replication, _connections, _coordinators):
        for holds, refusal in rules(value):
            if not holds:
                raise ConfigError(refusal)
    _check_log_config(log_config)


def _check_log_config(config: LogConfig) -> None:
    if config.segment_ms < 1:
        raise ConfigError("log.roll.ms must be greater than or equal to 1")
    if config.segment_jitter_ms < 0:
        raise ConfigError("log.roll.jitter.ms must be greater than or equal to 0")
    if config.retention_ms == 0:
        raise ConfigError("log.retention.ms must be unlimited (-1) or, greater than or equal to 1")


def _number(value: Callable[[str], Value], name: str) -> int:
    found = value(name)
    assert isinstance(found, int), name
    return found


def _identity(value: Callable[[str], Value]) -> Iterator[tuple[bool, str]]:
    broker_id = _number(value, "broker.id")
    if value("broker.id.generation.enable"):
        yield (
            -1 <= broker_id <= _number(value, "reserved.broker.max.id"),
            "broker.id must be greater than or equal to -1 and not greater than reserved.broker.max.id",
        )
    else:
        yield broker_id >= 0, "broker.id must be greater than or equal to 0"
    yield (
        value("process.roles") != ("controller",),
        "process.roles=controller asks for a KRaft controller, which this broker is not",
    )
    mechanisms, protocol = value("sasl.enabled.mechanisms"), value("security.inter.broker.protocol")
    if isinstance(protocol, str) and protocol.startswith("SASL_") and isinstance(mechanisms, tuple):
        yield (
            value("sasl.mechanism.inter.broker.protocol") in mechanisms,
            "sasl.mechanism.inter.broker.protocol must be included in sasl.enabled.mechanisms "
            "when SASL is used for inter-broker communication",
        )


def _logs(value: Callable[[str], Value]) -> Iterator[tuple[bool, str]]:
    dirs = value("log.dirs")
    if dirs is None:
        dirs = value("log.dir")
    yield (
        any(part.strip() for part in str(dirs).split(",")),
        "At least one log directory must be defined via log.dirs or log.dir.",
    )
    threads = _number(value, "log.cleaner.threads")
    yield (
        threads == 0 or _number(value, "log.cleaner.dedupe.buffer.size") / threads > 1 << 20,
        "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
    )


def _replication(value: Callable[[str], Value]) -> Iterator[tuple[bool, str]]:
    wait_ms = _number(value, "replica.fetch.wait.max.ms")
    yield (
        wait_ms <= _number(value, "replica.socket.timeout.ms"),
        "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms "
        "to prevent unnecessary socket timeouts",
    )
    yield (
        wait_ms <= _number(value, "replica.lag.time.max.ms"),
        "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms "
        "to prevent frequent changes in ISR",
    )


def _connections(value: Callable[[str], Value]) -> Iterator[tuple[bool, str]]:
    queued = _number(value, "queued.max.request.bytes")
    yield (
        queued <= 0 or queued >= _number(value, "socket.request.max.bytes"),
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
    )
    overrides = str(value("max.connections.per.ip.overrides"))
    yield (
        _number(value, "max.connections.per.ip") > 0 or overrides != "",
        "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
    )
    for part in overrides.split(",") if overrides else ():
        host, colon, count = part.strip().rpartition(":")
        yield (
            bool(host and colon) and count.isascii() and count.isdecimal(),
            f"Error parsing configuration property 'max.connections.per.ip.overrides': '{part}' is not HOST:COUNT",
        )


def _coordinators(value: Callable[[str], Value]) -> Iterator[tuple[bool, str]]:
    yield (
        -1 <= _number(value, "offsets.commit.required.acks") <= _number(value, "offsets.topic.replication.factor"),
        "offsets.commit.required.acks must be greater or equal to -1 "
        "and less or equal to offsets.topic.replication.factor",
    )
    protocols = value("group.coordinator.rebalance.protocols")
    yield (
        isinstance(protocols, tuple) and "classic" in protocols,
        "Disabling the 'classic' protocol is not supported.",
    )
