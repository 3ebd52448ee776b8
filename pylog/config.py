"""Topic settings in Kafka's names, and `LogConfig`, their typed and immutable view.

What stays true: `TOPIC_KEYS` has the 36 keys of Kafka 3.9 in the order in which Kafka checks them; a field of
`LogConfig` is its key with `_` for `.`, and its default is Kafka's. A key that a topic does not set takes the first
broker key of its fallbacks that has a value, times the factor beside it. Nothing here knows about brokers beyond those
names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pylog.config_value import ConfigError, Value, parse_value
from pylog.facts import NamedTuple

_LONG_MAX = (1 << 63) - 1
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000


class TopicKey(NamedTuple):
    """`fallbacks`: (broker key, factor) from the strongest to the weakest."""

    kind: str
    rule: str | None
    fallbacks: tuple[tuple[str, int], ...]


TOPIC_KEYS: dict[str, TopicKey] = {
    name: TopicKey(kind, rule, fallbacks)
    for name, kind, rule, fallbacks in (
        ("segment.bytes", "int", ">=14", (("log.segment.bytes", 1),)),
        ("segment.ms", "long", ">=1", (("log.roll.ms", 1), ("log.roll.hours", _HOUR_MS))),
        ("segment.jitter.ms", "long", ">=0", (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", _HOUR_MS))),
        ("segment.index.bytes", "int", ">=4", (("log.index.size.max.bytes", 1),)),
        ("flush.messages", "long", ">=1", (("log.flush.interval.messages", 1),)),
        ("flush.ms", "long", ">=0", (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1))),
        ("retention.bytes", "long", None, (("log.retention.bytes", 1),)),
        (
            "retention.ms",
            "long",
            ">=-1",
            (("log.retention.ms", 1), ("log.retention.minutes", _MINUTE_MS), ("log.retention.hours", _HOUR_MS)),
        ),
        ("max.message.bytes", "int", ">=0", (("message.max.bytes", 1),)),
        ("index.interval.bytes", "int", ">=0", (("log.index.interval.bytes", 1),)),
        ("delete.retention.ms", "long", ">=0", (("log.cleaner.delete.retention.ms", 1),)),
        ("min.compaction.lag.ms", "long", ">=0", (("log.cleaner.min.compaction.lag.ms", 1),)),
        ("max.compaction.lag.ms", "long", ">=1", (("log.cleaner.max.compaction.lag.ms", 1),)),
        ("file.delete.delay.ms", "long", ">=0", (("log.segment.delete.delay.ms", 1),)),
        ("min.cleanable.dirty.ratio", "double", "0..1", (("log.cleaner.min.cleanable.ratio", 1),)),
        ("cleanup.policy", "list", "list:compact,delete", (("log.cleanup.policy", 1),)),
        ("unclean.leader.election.enable", "boolean", None, (("unclean.leader.election.enable", 1),)),
        ("min.insync.replicas", "int", ">=1", (("min.insync.replicas", 1),)),
        ("compression.type", "string", "in:uncompressed,zstd,lz4,snappy,gzip,producer", (("compression.type", 1),)),
        ("compression.gzip.level", "int", "gzip", (("compression.gzip.level", 1),)),
        ("compression.lz4.level", "int", "1..17", (("compression.lz4.level", 1),)),
        ("compression.zstd.level", "int", "-131072..22", (("compression.zstd.level", 1),)),
        ("preallocate", "boolean", None, (("log.preallocate", 1),)),
        ("message.format.version", "string", "version", (("log.message.format.version", 1),)),
        ("message.timestamp.type", "string", "in:CreateTime,LogAppendTime", (("log.message.timestamp.type", 1),)),
        ("message.timestamp.difference.max.ms", "long", ">=0", (("log.message.timestamp.difference.max.ms", 1),)),
        ("message.timestamp.before.max.ms", "long", ">=0", (("log.message.timestamp.before.max.ms", 1),)),
        ("message.timestamp.after.max.ms", "long", ">=0", (("log.message.timestamp.after.max.ms", 1),)),
        ("leader.replication.throttled.replicas", "list", "throttle", ()),
        ("follower.replication.throttled.replicas", "list", "throttle", ()),
        ("message.downconversion.enable", "boolean", None, (("log.message.downconversion.enable", 1),)),
        ("remote.storage.enable", "boolean", None, ()),
        ("local.retention.ms", "long", ">=-2", (("log.local.retention.ms", 1),)),
        ("local.retention.bytes", "long", ">=-2", (("log.local.retention.bytes", 1),)),
        ("remote.log.copy.disable", "boolean", None, ()),
        ("remote.log.delete.on.disable", "boolean", None, ()),
    )
}


class InvalidConfiguration(ConfigError):
    """Settings that are wrong by name or together. Kafka shows this sentence bare, not after the resource's name."""


class LogConfig(NamedTuple):
    """The settings of one log. Sizes are bytes, times ms; -1 means no limit."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 168 * _HOUR_MS
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    flush_messages: int = _LONG_MAX
    flush_ms: int = _LONG_MAX
    retention_bytes: int = -1
    retention_ms: int = 168 * _HOUR_MS
    max_message_bytes: int = (1 << 20) + 12
    index_interval_bytes: int = 4096
    delete_retention_ms: int = 24 * _HOUR_MS
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = _LONG_MAX
    file_delete_delay_ms: int = _MINUTE_MS
    min_cleanable_dirty_ratio: float = 0.5
    cleanup_policy: tuple[str, ...] = ("delete",)
    unclean_leader_election_enable: bool = False
    min_insync_replicas: int = 1
    compression_type: str = "producer"
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_zstd_level: int = 3
    preallocate: bool = False
    message_format_version: str = "3.0-IV1"
    message_timestamp_type: str = "CreateTime"
    message_timestamp_difference_max_ms: int = _LONG_MAX
    message_timestamp_before_max_ms: int = _LONG_MAX
    message_timestamp_after_max_ms: int = _LONG_MAX
    leader_replication_throttled_replicas: tuple[str, ...] = ()
    follower_replication_throttled_replicas: tuple[str, ...] = ()
    message_downconversion_enable: bool = True
    remote_storage_enable: bool = False
    local_retention_ms: int = -2
    local_retention_bytes: int = -2
    remote_log_copy_disable: bool = False
    remote_log_delete_on_disable: bool = False

    @property
    def compact(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def delete(self) -> bool:
        return "delete" in self.cleanup_policy

    @property
    def log_append_time(self) -> bool:
        return self.message_timestamp_type == "LogAppendTime"

    @property
    def timestamp_before_max_ms(self) -> int:
        """How far a timestamp may lie in the past; the older two-sided key holds while the newer one is unlimited."""
        before = self.message_timestamp_before_max_ms
        return before if before != _LONG_MAX else self.message_timestamp_difference_max_ms

    @property
    def timestamp_after_max_ms(self) -> int:
        """How far a timestamp may lie in the future; likewise."""
        after = self.message_timestamp_after_max_ms
        return after if after != _LONG_MAX else self.message_timestamp_difference_max_ms

    def with_overrides(self, overrides: Mapping[str, str]) -> LogConfig:
        """This configuration with a topic's own settings. Keys unknown here (a newer Kafka wrote them) do not count;
        a value that cannot be read raises ConfigError."""
        if not overrides:
            return self
        changed = {
            field_name(key): parse_value(key, entry.kind, entry.rule, overrides[key])
            for key, entry in TOPIC_KEYS.items()
            if key in overrides
        }
        return LogConfig._make(changed.get(field, old) for field, old in zip(self._fields, self, strict=True))


def field_name(key: str) -> str:
    """The field of LogConfig that holds `key`."""
    return key.replace(".", "_")


def log_config_of_broker(broker_value: Callable[[str], Value]) -> LogConfig:
    """What a topic without own settings gets. `broker_value`: the broker's value of a key, None where it has none."""
    values: list[Value] = []
    for key, entry in TOPIC_KEYS.items():
        value: Value = LogConfig._field_defaults[field_name(key)]
        for broker_key, factor in entry.fallbacks:
            found = broker_value(broker_key)
            if found is not None:
                value = found * factor if factor != 1 and isinstance(found, int) else found
                break
        values.append(-1 if key == "retention.ms" and isinstance(value, int) and value < 0 else value)
    return LogConfig._make(values)


def validate_overrides(overrides: Mapping[str, str], broker_defaults: LogConfig) -> LogConfig:
    """The configuration a topic would have with `overrides`; raises where Kafka refuses them.

    ConfigError: one value is wrong. InvalidConfiguration: an unknown name, or values that contradict one another.
    """
    for name in overrides:
        if name not in TOPIC_KEYS:
            raise InvalidConfiguration(f"Unknown topic config name: {name}")
    config = broker_defaults.with_overrides(overrides)
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        raise InvalidConfiguration(
            f"conflict topic config setting min.compaction.lag.ms ({config.min_compaction_lag_ms})"
            f" > max.compaction.lag.ms ({config.max_compaction_lag_ms})"
        )
    if config.remote_log_copy_disable or config.remote_log_delete_on_disable:
        raise InvalidConfiguration(
            "It is invalid to set `remote.log.delete.on.disable` or `remote.log.copy.disable` under Zookeeper's mode."
        )
    if config.remote_storage_enable:
        raise ConfigError(
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )
    return config
