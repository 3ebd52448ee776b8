"""The partitions this broker hosts: their logs given to the data plane, what is true of them published to it.

What stays true:
- a hosted partition has a log that the engine owns until the partition is removed; whoever asks for a partition that
  is not hosted, or not led here, gets Kafka's error;
- a partition whose data directory has failed is known to the engine without a log, and everybody who asks for it gets
  KAFKA_STORAGE_ERROR; nowhere else is a new log made for it;
- what Python decides about a partition reaches C whole (`_States`), never a field at a time;
- a deletion is finished when `delete` returns: parked requests are answered, the directories are renamed, the names
  are free.

Control thread, except `checkpoint_high_watermarks` and `lost` (maintenance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from cluster.broker.metadata_cache import INTERNAL_TOPICS, PartitionMetadata, TopicMetadata
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog._engine import Hosting, PartitionState
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.log import unhost_all
from pylog.log_owner import HostedOwner
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.broker.isr_keeper import PublishedIsr
    from pylog._engine import Engine, EnginePartitionInfo, ReplicaInfo
    from pylog._native import NativeError, ProducerInfo
    from pylog.config import LogConfig
    from pylog.log import Log
    from pylog.log_manager import LogManager

_OFFLINE: Final = 0
_LEADER: Final = 1
_FOLLOWER: Final = 2
_AS_SENT: Final = -1
_DEFAULT_LEVEL: Final = -(2**31)
_FROM_THE_LOG: Final = -1
_LAG_UNKNOWN: Final = -1
_NAME_BYTES_MAX: Final = 255
_FUTURE_NAME_BYTES: Final = len(".-future") + 32
#: While some are given back no policy is at work on them, so not too many at once.
_UNHOSTED_AT_ONCE: Final = 256


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
    """One replica of ours. `number`: what the engine calls it; `state`: what it was told last."""

    __slots__ = ("_engine", "index", "log", "number", "source", "state", "topic")

    def __init__(self, engine: Engine, source: Log, number: int, state: PartitionState) -> None:
        self._engine = engine
        self.topic = source.partition.topic
        self.index = source.partition.partition
        self.source = source
        self.log = HostedLog(source)
        self.number = number
        self.state = state

    @property
    def leader_epoch(self) -> int:
        return self.state.leader_epoch

    @property
    def leads(self) -> bool:
        return self.state.role == _LEADER

    def info(self) -> EnginePartitionInfo:
        return self._engine.partition_info(self.number)


class FollowedLog:
    """A replica's log, to be compared with its leader's and cut. Changes raise KafkaError and OSError."""

    __slots__ = ("_hosted", "_logs")

    def __init__(self, hosted: HostedPartition, logs: LogManager) -> None:
        self._hosted = hosted
        self._logs = logs

    def own(self) -> OwnLog:
        info = self._hosted.info()
        return OwnLog(info.log_end_offset, info.high_watermark, self._hosted.log.latest_epoch())

    def epoch_end(self, epoch: int) -> EpochEnd:
        return EpochEnd(*self._hosted.log.end_offset_for_epoch(epoch))

    def truncate(self, offset: int) -> None:
        self._logs.truncate({self._hosted.source.partition: offset})

    def truncate_fully(self, offset: int) -> None:
        self._logs.truncate_fully(self._hosted.source.partition, offset)


class Directory(NamedTuple):
    path: str
    online: bool


class LogInDirectory(NamedTuple):
    """A log, or the copy of one that is being built to take its place (`future`). lag: offsets that it is behind."""

    partition: TopicPartition
    directory: str
    size_bytes: int
    lag: int
    future: bool


class ReplicaManager:
    def __init__(
        self,
        broker_id: int,
        engine: Engine,
        logs: LogManager,
        config_of: Callable[[str], LogConfig],
        is_known: Callable[[TopicPartition], bool],
    ) -> None:
        """is_known: the cluster has the partition, here or elsewhere."""
        self._broker_id = broker_id
        self._is_known = is_known
        self._engine = engine
        self._logs = logs
        self._config_of = config_of
        self._hosted: dict[tuple[str, int], HostedPartition] = {}
        self._by_number: dict[int, HostedPartition] = {}
        self._offline: dict[tuple[str, int], int] = {}  # what the engine calls them
        #: High watermarks as of the last stop: of replicas whose role is not decided yet.
        self.checkpointed: dict[TopicPartition, int] = {}
        self._log = Logger(f"ReplicaManager broker={broker_id}")

    # ------------------------------------------------------------------------------------------------- hosting

    def host(
        self,
        topics: Iterable[TopicMetadata],
        high_watermarks: Mapping[TopicPartition, int] | None = None,
        known: bool = False,
    ) -> list[tuple[TopicPartition, KafkaError]]:
        """Host our replicas of these topics, a log made where there is none; publish what has changed about those that
        are hosted.

        Each for itself: returns those that are not hosted, with why. high_watermarks: where they are known better than
        from the log. known: these are no new partitions; a log that is not there while a directory is offline lies in
        that directory.
        """
        failed: list[tuple[TopicPartition, KafkaError]] = []
        fresh: list[tuple[Hosting, Log]] = []
        changed: list[tuple[HostedPartition, PartitionState]] = []
        for topic in topics:
            states = _States(self._broker_id, topic, self._config_of(topic.name), high_watermarks or {})
            missing = []
            for partition in topic.partitions:
                hosted = self._hosted.get((topic.name, partition.partition))
                if hosted is not None:
                    if hosted.state != states.of(partition):
                        changed.append((hosted, states.of(partition)))
                elif self._broker_id in partition.replicas and (topic.name, partition.partition) not in self._offline:
                    missing.append(partition)
            if known and missing and self._logs.offline_directories():
                missing = self._host_offline(topic, missing)
            names = [TopicPartition(topic.name, partition.partition) for partition in missing]
            for partition, log in zip(missing, self._logs.create_all(names, topic.topic_id), strict=True):
                if isinstance(log, KafkaError):
                    failed.append((TopicPartition(topic.name, partition.partition), log))
                    continue
                hosting = Hosting(topic.name, topic.topic_id, partition.partition, log.native, states.of(partition))
                fresh.append((hosting, log))
        self._publish(changed)
        numbers = self._engine.add_partitions([hosting for hosting, _ in fresh])
        for (hosting, log), number in zip(fresh, numbers, strict=True):
            if isinstance(number, int):
                self._take_in(log, number, hosting.state)
            else:
                failed.append((log.partition, _as_kafka_error(number)))
        return failed

    def _host_offline(self, topic: TopicMetadata, missing: list[PartitionMetadata]) -> list[PartitionMetadata]:
        """Let the engine know those without a log as failed; returns the others."""
        there: list[PartitionMetadata] = []
        lost: list[PartitionMetadata] = []
        for partition in missing:
            log = self._logs.get(TopicPartition(topic.name, partition.partition))
            (lost if log is None else there).append(partition)
        states = _States(self._broker_id, topic, self._config_of(topic.name), {})
        numbers = self._engine.add_partitions(
            [Hosting(topic.name, topic.topic_id, each.partition, None, states.of(each)) for each in lost]
        )
        for partition, number in zip(lost, numbers, strict=True):
            if isinstance(number, int):
                self._offline[topic.name, partition.partition] = number
            self._log.error(
                "partition is offline with its log directory", partition=f"{topic.name}-{partition.partition}"
            )
        return there

    def as_shown(self, topic: TopicMetadata) -> TopicMetadata:
        """The topic as clients are to see it: partitions of failed directories have no leader, as with Kafka."""
        if not any(name == topic.name for name, _ in self._offline):
            return topic
        partitions = tuple(
            each._replace(leader=-1, offline=(self._broker_id,))
            if (topic.name, each.partition) in self._offline
            else each
            for each in topic.partitions
        )
        return topic._replace(partitions=partitions)

    def _publish(self, changed: Sequence[tuple[HostedPartition, PartitionState]]) -> None:
        """Together: who waits for any of them looks again once, not once for each."""
        self._engine.publish_all([(hosted.number, state) for hosted, state in changed])
        for hosted, state in changed:
            hosted.state = state

    def _take_in(self, log: Log, number: int, state: PartitionState) -> None:
        log.host(HostedOwner(self._engine, number))
        hosted = HostedPartition(self._engine, log, number, state)
        key = (log.partition.topic, log.partition.partition)
        self._hosted[key] = self._by_number[number] = hosted
        self.checkpointed.pop(log.partition, None)

    def configure(self, topic: TopicMetadata) -> None:
        """The topic's settings changed: logs and data plane take them up."""
        self._logs.configure_topic(topic.name)
        states = _States(self._broker_id, topic, self._config_of(topic.name), {})
        found = [self._hosted.get((topic.name, partition.partition)) for partition in topic.partitions]
        self._publish([(hosted, states.configured(hosted.state)) for hosted in found if hosted is not None])

    def publish_isrs(self, isrs: Sequence[tuple[TopicPartition, PublishedIsr]]) -> None:
        """The ISRs of partitions that we lead are these now, and these are asked to be taken in."""
        changed: list[tuple[HostedPartition, PartitionState]] = []
        for partition, (isr, joining) in isrs:
            hosted = self._hosted.get((partition.topic, partition.partition))
            if hosted is not None and hosted.leads:
                state = hosted.state._replace(isr=isr, joining=joining, high_watermark=_FROM_THE_LOG)
                changed.append((hosted, state))
        self._publish(changed)

    def delete(self, partitions: Sequence[TopicPartition]) -> None:
        """Delete logs, hosted or not: a deletion that was cut short is finished before anything is hosted. Raises
        KAFKA_STORAGE_ERROR, also when some may be in a directory that is offline: they are to be deleted when it is
        back, or they would be found there and taken for logs that nobody knows of."""
        keys = [(each.topic, each.partition) for each in partitions]
        elsewhere = {key for each, key in zip(partitions, keys, strict=True) if self._is_known(each)}
        self._unhost(elsewhere, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._unhost(set(keys) - elsewhere, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for each in partitions:
            self.checkpointed.pop(each, None)
        self._engine.forget_offline([number for key in keys if (number := self._offline.pop(key, None)) is not None])
        offline = self._logs.offline_directories()
        out_of_reach = [each for each in partitions if offline and self._logs.get(each) is None]
        self._logs.delete_all(partitions)
        if out_of_reach:
            which = ", ".join(offline)
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"{out_of_reach[0]} is deleted when log directory {which} is back"
            )

    def release_all(self) -> None:
        """Take every log back from an engine that has stopped, so that it can be closed."""
        self._unhost(list(self._hosted), ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def lost(self, logs: Iterable[Log]) -> None:
        """A directory failed and took these logs along: requests for them get KAFKA_STORAGE_ERROR."""
        keys = [(log.partition.topic, log.partition.partition) for log in logs]
        for hosted in self._take_back(keys, self._engine.take_offline):
            self._offline[hosted.topic, hosted.index] = hosted.number
            hosted.source.close(clean=False)

    def _unhost(self, keys: Iterable[tuple[str, int]], error: ErrorCode) -> None:
        """Stop hosting those of them that are hosted. Their logs are ours again."""
        self._take_back(keys, lambda numbers: self._engine.remove_partitions(numbers, int(error)))

    def _take_back(
        self, keys: Iterable[tuple[str, int]], give_back: Callable[[list[int]], object]
    ) -> list[HostedPartition]:
        """Have the engine give back the logs of those of them that are hosted; returns these."""
        unhosted = [hosted for key in keys if (hosted := self._hosted.pop(key, None)) is not None]
        for at in range(0, len(unhosted), _UNHOSTED_AT_ONCE):
            some = unhosted[at : at + _UNHOSTED_AT_ONCE]
            numbers = [hosted.number for hosted in some]
            for number in numbers:
                del self._by_number[number]
            unhost_all([hosted.source for hosted in some], partial(give_back, numbers))
        return unhosted

    # ------------------------------------------------------------------------------------------------- asking

    def leader(self, topic: str, index: int, any_replica: bool = False) -> HostedPartition:
        """The partition, which we lead (or host, with any_replica). Raises the error that a client is to get."""
        hosted = self._hosted.get((topic, index))
        if hosted is None:
            if (topic, index) in self._offline:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
            elsewhere = self._is_known(TopicPartition(topic, index))
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER if elsewhere else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if not hosted.leads and not any_replica:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return hosted

    def find(self, topic: str, index: int) -> HostedPartition | None:
        return self._hosted.get((topic, index))

    def is_offline(self, partition: TopicPartition) -> bool:
        """Its data directory has failed."""
        return (partition.topic, partition.partition) in self._offline

    def followers(self, partitions: Sequence[TopicPartition]) -> list[Sequence[ReplicaInfo]]:
        """The replicas of partitions that we lead, as they are now; nothing where we do not lead."""
        led = [
            None if hosted is None or not hosted.leads else hosted.number
            for hosted in [self._hosted.get((partition.topic, partition.partition)) for partition in partitions]
        ]
        numbers = [number for number in led if number is not None]
        told = dict(zip(numbers, self._engine.replicas_of(numbers), strict=True))
        return [(number is not None and told[number]) or () for number in led]  # None: it ceases to lead in this turn

    def followed_log(self, partition: TopicPartition) -> FollowedLog | None:
        """The log of a partition that we host, as whoever follows cuts it."""
        hosted = self._hosted.get((partition.topic, partition.partition))
        return None if hosted is None else FollowedLog(hosted, self._logs)

    def by_number(self, number: int) -> HostedPartition | None:
        """The partition behind an upcall; None when it is gone meanwhile."""
        return self._by_number.get(number)

    def hosted(self) -> list[HostedPartition]:
        return list(self._hosted.values())

    def directories(self) -> list[Directory]:
        online = [Directory(path, True) for path in self._logs.live_directories()]
        return online + [Directory(path, False) for path in self._logs.offline_directories()]

    def logs_in_directories(self) -> list[LogInDirectory]:
        """Every log of the directories in use, and every copy that is being built."""
        found = []
        ends: dict[TopicPartition, int] = {}
        for log in self._logs.logs():
            size_and_end = log.size_and_end()
            if size_and_end is not None:
                size_bytes, ends[log.partition] = size_and_end
                hosted = self._hosted.get((log.partition.topic, log.partition.partition))
                lag = 0 if hosted is None else max(0, hosted.info().high_watermark - ends[log.partition])
                found.append(LogInDirectory(log.partition, log.directory, size_bytes, lag, False))
        for copy in self._logs.future_logs():
            size_and_end = copy.size_and_end()
            if size_and_end is not None:
                size_bytes, end = size_and_end
                lag = ends[copy.partition] - end if copy.partition in ends else _LAG_UNKNOWN
                found.append(LogInDirectory(copy.partition, copy.directory, size_bytes, lag, True))
        return found

    # ------------------------------------------------------------------------------------------------- moving

    def alter_directory(self, topic: str, index: int, directory: str) -> None:
        """AlterReplicaLogDirs: move the partition to a data directory; where we have no log of it, remember the
        directory for when it is made. Raises KafkaError."""
        partition = TopicPartition(topic, index)
        if len(partition.directory_name.encode()) + _FUTURE_NAME_BYTES > _NAME_BYTES_MAX:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic name is too long.")
        if (topic, index) in self._offline:
            self._logs.check_directory(directory)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"Partition {partition} is offline")
        self._logs.prefer(partition, directory)
        if (topic, index) not in self._hosted:
            raise KafkaError(self._error_of_missing(partition))
        self._logs.move(partition, directory)

    def _error_of_missing(self, partition: TopicPartition) -> ErrorCode:
        return ErrorCode.REPLICA_NOT_AVAILABLE if self._is_known(partition) else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def finish_move(self, partition: TopicPartition) -> None:
        """The copy has nearly everything: let it take the place of the log."""
        moved = self._logs.finish_move(partition)
        if moved is None:
            return
        old, new = moved
        hosted = self._hosted.get((partition.topic, partition.partition))
        if hosted is not None:
            hosted.source, hosted.log = new, HostedLog(new)
        self._logs.retire_soon(old)

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
        offsets = dict(self.checkpointed)
        for each in list(self._hosted.values()):
            try:
                offsets[each.source.partition] = each.info().high_watermark
            except KafkaError:
                continue  # it went meanwhile, or its directory failed
        self._logs.checkpoint_high_watermarks(offsets)


class _States:
    """What is true of the partitions of a topic, as the data plane is told. Those that differ in nothing, as on a
    single node, get the same object."""

    __slots__ = ("_basis", "_broker_id", "_high_watermarks", "_last", "_leadership", "_topic")

    def __init__(
        self, broker_id: int, topic: TopicMetadata, config: LogConfig, high_watermarks: Mapping[TopicPartition, int]
    ) -> None:
        codec, level = _compression(config)
        self._broker_id = broker_id
        self._topic = topic.name
        self._high_watermarks = high_watermarks
        self._leadership: tuple[object, ...] = ()
        self._last = self._basis = PartitionState(
            role=_FOLLOWER,
            leader_epoch=-1,
            leader_id=-1,
            replicas=(),
            isr=(),
            min_insync_replicas=config.min_insync_replicas,
            max_message_bytes=config.max_message_bytes,
            timestamp_type=1 if config.log_append_time else 0,
            timestamp_before_max_ms=config.timestamp_before_max_ms,
            timestamp_after_max_ms=config.timestamp_after_max_ms,
            compression=codec,
            compression_level=level,
            compacted=config.compact,
            internal=topic.internal,
            high_watermark=_FROM_THE_LOG,
        )

    def of(self, partition: PartitionMetadata) -> PartitionState:
        known = self._high_watermarks
        name = TopicPartition(self._topic, partition.partition)
        high_watermark = known.get(name, _FROM_THE_LOG) if known else _FROM_THE_LOG
        leadership = (partition.leader, partition.leader_epoch, partition.replicas, partition.isr, high_watermark)
        if leadership != self._leadership:
            self._leadership = leadership
            self._last = self._basis._replace(
                role=_LEADER if partition.leader == self._broker_id else _FOLLOWER,
                leader_epoch=partition.leader_epoch,
                leader_id=partition.leader,
                replicas=partition.replicas,
                isr=partition.isr,
                high_watermark=high_watermark,
            )
        return self._last

    def configured(self, state: PartitionState) -> PartitionState:
        """What is true of a partition, with the topic's settings as they are now."""
        return self._basis._replace(
            role=state.role,
            leader_epoch=state.leader_epoch,
            leader_id=state.leader_id,
            replicas=state.replicas,
            isr=state.isr,
            joining=state.joining,
        )


def _as_kafka_error(error: KafkaError | NativeError | OSError) -> KafkaError:
    return error if isinstance(error, KafkaError) else KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))


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
