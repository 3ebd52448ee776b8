"""Topic settings: Kafka's defaults, fallbacks to broker keys, refusals in Kafka's words."""

import pytest

from pylog.config import (
    TOPIC_KEYS,
    InvalidConfiguration,
    LogConfig,
    field_name,
    log_config_of_broker,
    validate_overrides,
)
from pylog.config_value import ConfigError, Value, show_value

# What KafkaConfig.extractLogConfigMap of 3.9.1 gave for a broker with log.flush.interval.ms=5, log.retention.hours=-1.
KAFKA_LOG_CONFIG = {
    "cleanup.policy": "delete", "compression.gzip.level": "-1", "compression.lz4.level": "9",
    "compression.type": "producer", "compression.zstd.level": "3", "delete.retention.ms": "86400000",
    "file.delete.delay.ms": "60000", "flush.messages": "9223372036854775807", "flush.ms": "5",
    "index.interval.bytes": "4096", "local.retention.bytes": "-2", "local.retention.ms": "-2",
    "max.compaction.lag.ms": "9223372036854775807", "max.message.bytes": "1048588",
    "message.downconversion.enable": "true", "message.format.version": "3.0-IV1",
    "message.timestamp.after.max.ms": "9223372036854775807", "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.difference.max.ms": "9223372036854775807", "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5", "min.compaction.lag.ms": "0", "min.insync.replicas": "1",
    "preallocate": "false", "retention.bytes": "-1", "retention.ms": "-1", "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760", "segment.jitter.ms": "0", "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}  # fmt: skip


def test_fields_are_the_keys() -> None:
    assert len(TOPIC_KEYS) == 36
    assert tuple(field_name(key) for key in TOPIC_KEYS) == LogConfig._fields


def test_what_a_broker_gives_is_what_kafka_gives() -> None:
    broker: dict[str, Value] = {"log.flush.interval.ms": 5, "log.retention.hours": -1, "log.roll.hours": 168}
    config = log_config_of_broker(broker.get)
    shown = {key: show_value(getattr(config, field_name(key))) for key in KAFKA_LOG_CONFIG}
    assert shown == KAFKA_LOG_CONFIG


@pytest.mark.parametrize(
    ("broker", "field", "value"),
    [
        ({"log.retention.hours": 2}, "retention_ms", 7_200_000),
        ({"log.retention.hours": 2, "log.retention.minutes": 1}, "retention_ms", 60_000),
        ({"log.retention.hours": 2, "log.retention.minutes": 1, "log.retention.ms": 5}, "retention_ms", 5),
        ({"log.retention.ms": -5}, "retention_ms", -1),
        ({"log.roll.hours": 1}, "segment_ms", 3_600_000),
        ({"log.roll.hours": 1, "log.roll.ms": 7}, "segment_ms", 7),
        ({"log.roll.jitter.hours": 1}, "segment_jitter_ms", 3_600_000),
        ({"log.flush.scheduler.interval.ms": 9}, "flush_ms", 9),
        ({"message.max.bytes": 77}, "max_message_bytes", 77),
        ({"log.cleanup.policy": ("compact",)}, "cleanup_policy", ("compact",)),
    ],
)
def test_fallbacks(broker: dict[str, Value], field: str, value: Value) -> None:
    assert getattr(log_config_of_broker(broker.get), field) == value


def test_overrides_win_and_unknown_ones_do_not_count() -> None:
    base = LogConfig()
    config = base.with_overrides({"retention.ms": " 77 ", "cleanup.policy": "compact, delete", "from.kafka.9": "x"})
    assert config == base._replace(retention_ms=77, cleanup_policy=("compact", "delete"))
    assert config.compact and config.delete and not base.compact
    assert base.with_overrides({}) is base


def test_an_unreadable_override_is_refused() -> None:
    with pytest.raises(ConfigError, match="Not a number of type LONG"):
        LogConfig().with_overrides({"retention.ms": "abc"})


def test_timestamp_limits_fall_back_to_the_two_sided_key() -> None:
    config = LogConfig(message_timestamp_difference_max_ms=5)
    assert (config.timestamp_before_max_ms, config.timestamp_after_max_ms) == (5, 5)
    config = config._replace(message_timestamp_before_max_ms=3)
    assert (config.timestamp_before_max_ms, config.timestamp_after_max_ms) == (3, 5)
    assert config._replace(message_timestamp_type="LogAppendTime").log_append_time


# Kafka 3.9.1's answers; the second column is how the admin client saw the exception's kind.
REFUSALS = [
    ({"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}, InvalidConfiguration,
     "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"),
    ({"foo": "1", "segment.bytes": "1"}, InvalidConfiguration, "Unknown topic config name: foo"),
    ({"retention.ms": "abc", "segment.bytes": "1"}, ConfigError,
     "Invalid value 1 for configuration segment.bytes: Value must be at least 14"),
    ({"remote.storage.enable": "true"}, ConfigError,
     "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."),
    ({"remote.log.copy.disable": "true"}, InvalidConfiguration,
     "It is invalid to set `remote.log.delete.on.disable` or `remote.log.copy.disable` under Zookeeper's mode."),
    ({"compression.type": "zstd", "compression.zstd.level": "50"}, ConfigError,
     "Invalid value 50 for configuration compression.zstd.level: Value must be no more than 22"),
    ({"min.insync.replicas": "0"}, ConfigError,
     "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "kind", "message"), REFUSALS)
def test_refusals(overrides: dict[str, str], kind: type[ConfigError], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_overrides(overrides, LogConfig())
    assert type(caught.value) is kind
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "overrides",
    [{"segment.ms": "1"}, {"cleanup.policy": ""}, {"retention.bytes": "-5"}, {"segment.jitter.ms": "99999999999"}],
)
def test_accepted(overrides: dict[str, str]) -> None:
    assert validate_overrides(overrides, LogConfig()) == LogConfig().with_overrides(overrides)


def test_a_conflict_with_a_broker_default_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="conflict"):
        validate_overrides({"max.compaction.lag.ms": "5"}, LogConfig(min_compaction_lag_ms=10))
