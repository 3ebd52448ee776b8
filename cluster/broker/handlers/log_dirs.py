"""DescribeLogDirs and AlterReplicaLogDirs (KIP-113, KIP-827): which partitions lie in which data directory, how large
they are and how much room there is; and moving them between the directories."""

from __future__ import annotations

from cluster.broker.apis import Handler, Request
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.disk_space import disk_space
from pylog.errors import ErrorCode, KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.replica_manager import LogInDirectory

_Result = m.DescribeLogDirsResponse.DescribeLogDirsResult
_Topic = m.DescribeLogDirsResponse.DescribeLogDirsTopic
_Partition = m.DescribeLogDirsResponse.DescribeLogDirsPartition
_AlteredTopic = m.AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult
_AlteredPartition = m.AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult

_log = Logger("LogDirs")


def _describe(broker: Broker, request: Request) -> m.DescribeLogDirsResponse:
    """Every directory is shown; of the partitions in it those that were asked about, null asks about all."""
    message: m.DescribeLogDirsRequest = request.message
    asked: dict[str, set[int]] | None = None if message.topics is None else {}
    for topic in message.topics or []:
        assert asked is not None
        asked.setdefault(topic.topic, set()).update(topic.partitions)
    found: dict[str, dict[str, list[_Partition]]] = {}
    for each in broker.replicas.logs_in_directories():
        if asked is None or each.partition.partition in asked.get(each.partition.topic, ()):
            found.setdefault(each.directory, {}).setdefault(each.partition.topic, []).append(_partition(each))
    results = [
        _directory(directory.path, found.get(directory.path, {})) if directory.online else _failed(directory.path)
        for directory in broker.replicas.directories()
    ]
    return m.DescribeLogDirsResponse(results=results)


def _partition(each: LogInDirectory) -> _Partition:
    return _Partition(
        partition_index=each.partition.partition,
        partition_size=each.size_bytes,
        offset_lag=each.lag,
        is_future_key=each.future,
    )


def _directory(path: str, topics: dict[str, list[_Partition]]) -> _Result:
    try:
        space = disk_space(path)
    except OSError as error:
        _log.warn("log directory cannot be described", directory=path, error=error)
        return _failed(path)
    return _Result(
        log_dir=path,
        topics=[_Topic(name=name, partitions=partitions) for name, partitions in topics.items()],
        total_bytes=space.total,
        usable_bytes=space.usable,
    )


def _failed(path: str) -> _Result:
    return _Result(error_code=int(ErrorCode.KAFKA_STORAGE_ERROR), log_dir=path)


def _refuse_describe(request: Request, code: int) -> m.DescribeLogDirsResponse:
    return m.DescribeLogDirsResponse(error_code=code)


# ------------------------------------------------------------------------------------------------------ moving


def _alter(broker: Broker, request: Request) -> m.AlterReplicaLogDirsResponse:
    """A partition that is named with several directories gets the last of them, as in Kafka."""
    wanted = {
        (topic.name, index): directory.path
        for directory in request.message.dirs
        for topic in directory.topics
        for index in topic.partitions
    }
    codes: dict[tuple[str, int], int] = {}
    for (name, index), path in wanted.items():
        try:
            broker.replicas.alter_directory(name, index, path)
            codes[name, index] = int(ErrorCode.NONE)
        except KafkaError as error:
            _log.warn("partition is not moved", partition=f"{name}-{index}", directory=path, why=error)
            codes[name, index] = int(error.code)
    return _altered(codes)


def _altered(codes: dict[tuple[str, int], int]) -> m.AlterReplicaLogDirsResponse:
    topics: dict[str, list[_AlteredPartition]] = {}
    for (name, index), code in codes.items():
        topics.setdefault(name, []).append(_AlteredPartition(partition_index=index, error_code=code))
    return m.AlterReplicaLogDirsResponse(
        results=[_AlteredTopic(topic_name=name, partitions=partitions) for name, partitions in topics.items()]
    )


def _refuse_alter(request: Request, code: int) -> m.AlterReplicaLogDirsResponse:
    named = [
        (topic.name, index)
        for directory in request.message.dirs
        for topic in directory.topics
        for index in topic.partitions
    ]
    return _altered(dict.fromkeys(named, code))


HANDLERS = {
    ApiKey.DESCRIBE_LOG_DIRS: Handler(m.DescribeLogDirsRequest.decode, _describe, _refuse_describe),
    ApiKey.ALTER_REPLICA_LOG_DIRS: Handler(m.AlterReplicaLogDirsRequest.decode, _alter, _refuse_alter),
}
