"""The partitions this broker hosts: their logs given to the data plane, what is true of them published to it.

What stays true:
- a hosted partition has a log that the engine owns until the partition is removed; whoever asks for a partition that
  is not hosted, or not led here, gets Kafka's error;
- what Python decides about a partition reaches C whole (`_state`), never a field at a time;
- a deletion is finished when `delete` returns: parked requests are answered, the directory is renamed, the name is
  free.

Control thread, except `checkpoint_high_watermarks` and `lost` (maintenance).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from cluster.broker.metadata_cache import INTERNAL_TOPICS, PartitionMetadata, TopicMetadata
from pylog._engine import PartitionState
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.log_owner import HostedOwner
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylog._engine import Engine, EnginePartitionInfo
    from pylog._native import ProducerInfo
    from pylog.config import LogConfig
    from pylog.log import Log
    from pylog.log_manager import LogManager

_OFFLINE: Final = 0
_LEADER: Final = 1
_FOLLOWER: Final = 2
_AS_SENT: Final = -1
_DEFAULT_LEVEL: Final = -(2**31)
_FROM_THE_LOG: Final = -1


class Found(NamedTuple):
    """A record that a search by time found."""

    offset: int
    timestamp: int
    epoch: int


class HostedLog:
    """What the handlers ask of a hosted partition's log; reads only."""

    __slots__ = ("_log",)

    def __init__(self, log: Log) -> None:
        self._log = log

    def latest_epoch(self) -> int:
        return self._log.info().latest_epoch

    def epoch_at(self, offset: int) -> int:
        """The leader epoch of the record at offset, or of the next one to be written there; -1 when none is known."""
        found = -1
        for epoch, start in self._log.epochs():
            if start > offset:
                break
            found = epoch
        return found

    def max_timestamp(self) -> Found | None:
        hit = self._log.native.max_timestamp()
        return None if hit is None else Found(*hit)

    def offset_for_timestamp(self, timestamp: int, end: int) -> Found | None:
        hit = self._log.native.offset_for_timestamp(timestamp, end)
        return None if hit is None else Found(*hit)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        return self._log.native.end_offset_for_epoch(epoch)

    def producers(self) -> Sequence[ProducerInfo]:
        return self._log.native.producers()


class HostedPartition:
    """One replica of ours. `number`: what the engine calls it."""

    __slots__ = ("_engine", "index", "leader_epoch", "leads", "log", "number", "source", "topic")

    def __init__(self, engine: Engine, source: Log, number: int) -> None:
        self._engine = engine
        self.topic = source.partition.topic
        self.index = source.partition.partition
        self.source = source
        self.log = HostedLog(source)
        self.number = number
        self.leader_epoch = -1
        self.leads = False

    def info(self) -> EnginePartitionInfo:
        return self._engine.partition_info(self.number)


class Directory(NamedTuple):
    path: str
    online: bool


class ReplicaManager:
    def __init__(self, broker_id: int, engine: Engine, logs: LogManager, config_of: Callable[[str], LogConfig]) -> None:
        self._broker_id = broker_id
        self._engine = engine
        self._logs = logs
        self._config_of = config_of
        self._hosted: dict[tuple[str, int], HostedPartition] = {}
        self._by_number: dict[int, HostedPartition] = {}
        self._offline: set[tuple[str, int]] = set()
        self._log = Logger(f"ReplicaManager broker={broker_id}")

    # ------------------------------------------------------------------------------------------------- hosting

    def host(self, topic: TopicMetadata, partition: PartitionMetadata, high_watermark: int | None = None) -> None:
        """Host a replica, its log made when there is none; or publish what has changed about a hosted one.

        Raises INCONSISTENT_TOPIC_ID, KAFKA_STORAGE_ERROR.
        """
        key = (topic.name, partition.partition)
        state = self._state(topic, partition, high_watermark)
        hosted = self._hosted.get(key)
        if hosted is None:
            log = self._logs.create(TopicPartition(*key), topic.topic_id)
            number = self._engine.add_partition(topic.name, topic.topic_id, partition.partition, log.native, state)
            log.host(HostedOwner(self._engine, number))
            hosted = HostedPartition(self._engine, log, number)
            self._hosted[key] = self._by_number[number] = hosted
            self._offline.discard(key)
        else:
            self._engine.publish(hosted.number, state)
        hosted.leader_epoch = partition.leader_epoch
        hosted.leads = partition.leader == self._broker_id

    def configure(self, topic: TopicMetadata) -> None:
        """The topic's settings changed: logs and data plane take them up."""
        self._logs.configure_topic(topic.name)
        for partition in topic.partitions:
            if (topic.name, partition.partition) in self._hosted:
                self.host(topic, partition)

    def delete(self, topic: str, index: int) -> None:
        """Stop hosting and delete the log. Nothing when it is not hosted."""
        hosted = self._unhost(topic, index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self._offline.discard((topic, index))
        if hosted is not None:
            self._logs.delete(hosted.source.partition)

    def release_all(self) -> None:
        """Take every log back from an engine that has stopped, so that it can be closed."""
        for topic, index in list(self._hosted):
            self._unhost(topic, index, ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def lost(self, logs: Iterable[Log]) -> None:
        """A directory failed and took these logs along: requests for them get KAFKA_STORAGE_ERROR."""
        for log in logs:
            key = (log.partition.topic, log.partition.partition)
            self._offline.add(key)
            if self._unhost(*key, ErrorCode.KAFKA_STORAGE_ERROR) is not None:
                log.close(clean=False)

    def _unhost(self, topic: str, index: int, error: ErrorCode) -> HostedPartition | None:
        hosted = self._hosted.pop((topic, index), None)
        if hosted is None:
            return None
        del self._by_number[hosted.number]
        hosted.source.unhost(lambda: self._engine.remove_partition(hosted.number, int(error)))
        return hosted

    def _state(self, topic: TopicMetadata, partition: PartitionMetadata, high_watermark: int | None) -> PartitionState:
        config = self._config_of(topic.name)
        codec, level = _compression(config)
        leads = partition.leader == self._broker_id
        return PartitionState(
            role=_LEADER if leads else _FOLLOWER,
            leader_epoch=partition.leader_epoch,
            leader_id=partition.leader,
            replicas=partition.replicas,
            isr=partition.isr,
            min_insync_replicas=config.min_insync_replicas,
            max_message_bytes=config.max_message_bytes,
            timestamp_type=1 if config.log_append_time else 0,
            timestamp_before_max_ms=config.timestamp_before_max_ms,
            timestamp_after_max_ms=config.timestamp_after_max_ms,
            compression=codec,
            compression_level=level,
            compacted=config.compact,
            internal=topic.name in INTERNAL_TOPICS,
            high_watermark=_FROM_THE_LOG if high_watermark is None else high_watermark,
        )

    # ------------------------------------------------------------------------------------------------- asking

    def leader(self, topic: str, index: int, any_replica: bool = False) -> HostedPartition:
        """The partition, which we lead (or host, with any_replica). Raises the error that a client is to get."""
        hosted = self._hosted.get((topic, index))
        if hosted is None:
            offline = (topic, index) in self._offline
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR if offline else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if not hosted.leads and not any_replica:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return hosted

    def find(self, topic: str, index: int) -> HostedPartition | None:
        return self._hosted.get((topic, index))

    def by_number(self, number: int) -> HostedPartition | None:
        """The partition behind an upcall; None when it is gone meanwhile."""
        return self._by_number.get(number)

    def hosted(self) -> list[HostedPartition]:
        return list(self._hosted.values())

    def directories(self) -> list[Directory]:
        online = [Directory(path, True) for path in self._logs.live_directories()]
        return online + [Directory(path, False) for path in self._logs.offline_directories()]

    def in_directory(self, path: str) -> list[HostedPartition]:
        return [each for each in self._hosted.values() if os.path.dirname(each.source.path) == path]

    # ------------------------------------------------------------------------------------------------- changing

    def delete_records(self, topic: str, index: int, offset: int) -> int:
        """DeleteRecords: raise the log start offset (-1: to the high watermark). Returns the new low watermark."""
        hosted = self.leader(topic, index)
        if topic in INTERNAL_TOPICS:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot delete records of internal topic {topic}.")
        if not hosted.source.config.delete:
            raise KafkaError(ErrorCode.POLICY_VIOLATION)
        return hosted.source.set_start(offset)

    def checkpoint_high_watermarks(self) -> None:
        """Write replication-offset-checkpoint. Any thread."""
        offsets: Mapping[TopicPartition, int] = {
            each.source.partition: each.info().high_watermark for each in list(self._hosted.values())
        }
        self._logs.checkpoint_high_watermarks(offsets)


def _compression(config: LogConfig) -> tuple[int, int]:
    """The codec to store with and its level, as the data plane wants them."""
    name = config.compression_type
    if name == "producer":
        return _AS_SENT, _DEFAULT_LEVEL
    from pylog.compression import codec_named  # few topics name a codec

    levels = {
        "gzip": config.compression_gzip_level,
        "lz4": config.compression_lz4_level,
        "zstd": config.compression_zstd_level,
    }
    level = levels.get(name, _DEFAULT_LEVEL)
    return codec_named(name), _DEFAULT_LEVEL if level == -1 else level
