"""ListOffsets (KIP-79, KIP-734), OffsetForLeaderEpoch (KIP-101, KIP-320) and DeleteRecords (KIP-107)."""

from __future__ import annotations

from collections import Counter

from cluster.broker.apis import Handler, Request
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.replica_manager import HostedPartition

#: Timestamps that stand for a place, each with the first request version that knows it.
LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6
_SINCE: Final = {
    LATEST: 0,
    EARLIEST: 0,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}

_UNKNOWN_EPOCH: Final = -1
_CONSUMER: Final = -1
_DEBUG: Final = -2
_UNCOMMITTED: Final = 0
_COMMITTED: Final = 1


class Found(NamedTuple):
    """`epoch`: of the leader that wrote it, -1 unknown. `timestamp`: ms, -1 none. `offset`: -1 none."""

    offset: int = -1
    timestamp: int = -1
    epoch: int = -1


def check_epoch(partition: HostedPartition, current: int) -> None:
    """Raise FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH when a client knows another epoch than ours (KIP-320)."""
    if current in (_UNKNOWN_EPOCH, partition.leader_epoch):
        return
    older = current < partition.leader_epoch
    raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH if older else ErrorCode.UNKNOWN_LEADER_EPOCH)


def _list_offsets(broker: Broker, request: Request) -> m.ListOffsetsResponse:
    """A partition that is asked about twice is refused, each time."""
    message: m.ListOffsetsRequest = request.message
    counts = Counter((topic.name, asked.partition_index) for topic in message.topics for asked in topic.partitions)
    entry = m.ListOffsetsResponse.ListOffsetsPartitionResponse
    topics = []
    for topic in message.topics:
        partitions = []
        for asked in topic.partitions:
            try:
                if counts[topic.name, asked.partition_index] > 1:
                    raise KafkaError(ErrorCode.INVALID_REQUEST)
                found = _find(broker, message, topic.name, asked, request.api_version)
                answer = entry(
                    partition_index=asked.partition_index,
                    timestamp=found.timestamp,
                    offset=found.offset,
                    leader_epoch=found.epoch if request.api_version >= 4 else -1,
                )
            except KafkaError as error:
                answer = entry(partition_index=asked.partition_index, error_code=int(error.code))
            partitions.append(answer)
        topics.append(m.ListOffsetsResponse.ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
    return m.ListOffsetsResponse(topics=topics)


def _find(
    broker: Broker,
    message: m.ListOffsetsRequest,
    topic: str,
    asked: m.ListOffsetsRequest.ListOffsetsPartition,
    version: int,
) -> Found:
    timestamp = asked.timestamp
    if timestamp < 0 and version < _SINCE.get(timestamp, 1 << 15):
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
    consumer = message.replica_id == _CONSUMER
    if consumer and message.isolation_level not in (_UNCOMMITTED, _COMMITTED):
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
    partition = broker.replicas.leader(topic, asked.partition_index, any_replica=message.replica_id == _DEBUG)
    check_epoch(partition, asked.current_leader_epoch if version >= 4 else -1)
    info = partition.info()
    committed = version >= 2 and message.isolation_level == _COMMITTED
    end = info.log_end_offset
    if consumer:
        end = info.last_stable_offset if committed else info.high_watermark
    log = partition.log
    epoch, epoch_start = _epochs(partition)[-1]
    behind = consumer and epoch_start > info.high_watermark
    if timestamp == LATEST:
        if behind:
            raise _not_yet(version)
        return Found(end, epoch=epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return Found(info.log_start_offset, epoch=_epoch_at(partition, info.log_start_offset))
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return Found()  # nothing is tiered here, which is what Kafka says without remote storage
    hit = log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(timestamp, end)
    if hit is None or hit.offset >= end:
        if behind:
            raise _not_yet(version)
        return Found()
    return Found(hit.offset, hit.timestamp, hit.epoch)


def _not_yet(version: int) -> KafkaError:
    """A new leader does not know the high watermark of the one before, and must not tell an older one (KIP-207)."""
    return KafkaError(ErrorCode.OFFSET_NOT_AVAILABLE if version >= 5 else ErrorCode.LEADER_NOT_AVAILABLE)


def _refuse_list(request: Request, code: int) -> m.ListOffsetsResponse:
    entry = m.ListOffsetsResponse.ListOffsetsPartitionResponse
    return m.ListOffsetsResponse(
        topics=[
            m.ListOffsetsResponse.ListOffsetsTopicResponse(
                name=t.name,
                partitions=[entry(partition_index=p.partition_index, error_code=code) for p in t.partitions],
            )
            for t in request.message.topics
        ]
    )


def _epochs(partition: HostedPartition) -> list[tuple[int, int]]:
    """Leader epochs with their start offsets, never none: ours begins though nothing was written in it yet."""
    epochs = [(epoch, start) for epoch, start in partition.source.epochs()]
    if not epochs or epochs[-1][0] < partition.leader_epoch:
        epochs.append((partition.leader_epoch, partition.info().log_end_offset))
    return epochs


def _epoch_at(partition: HostedPartition, offset: int) -> int:
    """The epoch that the record at offset was, or will be, written in; -1 when that is not known."""
    return max((epoch for epoch, start in _epochs(partition) if start <= offset), default=-1)


def end_of_epoch(partition: HostedPartition, wanted: int) -> tuple[int, int]:
    """The newest epoch up to the wanted one and where it ends; -1, -1 when that is not known."""
    epochs = _epochs(partition)
    end = partition.info().log_end_offset
    if wanted == epochs[-1][0]:
        return wanted, end
    if wanted == _UNKNOWN_EPOCH or wanted > epochs[-1][0]:
        return _UNKNOWN_EPOCH, -1
    floor = wanted
    for epoch, start in epochs:
        if epoch > wanted:
            return floor, start
        floor = epoch
    raise AssertionError("the newest epoch is above the wanted one")


def _epoch_ends(broker: Broker, request: Request) -> m.OffsetForLeaderEpochResponse:
    message: m.OffsetForLeaderEpochRequest = request.message
    entry = m.OffsetForLeaderEpochResponse.EpochEndOffset
    topics = []
    for topic in message.topics:
        ends = []
        for asked in topic.partitions:
            try:
                partition = broker.replicas.leader(topic.topic, asked.partition)
                check_epoch(partition, asked.current_leader_epoch)
                epoch, end = end_of_epoch(partition, asked.leader_epoch)
                ends.append(entry(partition=asked.partition, leader_epoch=epoch, end_offset=end))
            except KafkaError as error:
                ends.append(entry(partition=asked.partition, error_code=int(error.code)))
        topics.append(m.OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(topic=topic.topic, partitions=ends))
    return m.OffsetForLeaderEpochResponse(topics=topics)


def _refuse_epoch_ends(request: Request, code: int) -> m.OffsetForLeaderEpochResponse:
    entry = m.OffsetForLeaderEpochResponse.EpochEndOffset
    return m.OffsetForLeaderEpochResponse(
        topics=[
            m.OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                topic=t.topic, partitions=[entry(partition=p.partition, error_code=code) for p in t.partitions]
            )
            for t in request.message.topics
        ]
    )


def _delete_records(broker: Broker, request: Request) -> m.DeleteRecordsResponse:
    """Of a partition that is named twice the last offset counts."""
    message: m.DeleteRecordsRequest = request.message
    wanted: dict[str, dict[int, int]] = {}
    for topic in message.topics:
        for asked in topic.partitions:
            wanted.setdefault(topic.name, {})[asked.partition_index] = asked.offset
    entry = m.DeleteRecordsResponse.DeleteRecordsPartitionResult
    topics = []
    for name, offsets in wanted.items():
        partitions = []
        for index, offset in offsets.items():
            try:
                low = broker.replicas.delete_records(name, index, offset)
                partitions.append(entry(partition_index=index, low_watermark=low))
            except KafkaError as error:
                partitions.append(entry(partition_index=index, low_watermark=-1, error_code=int(error.code)))
        topics.append(m.DeleteRecordsResponse.DeleteRecordsTopicResult(name=name, partitions=partitions))
    return m.DeleteRecordsResponse(topics=topics)


def _refuse_delete(request: Request, code: int) -> m.DeleteRecordsResponse:
    entry = m.DeleteRecordsResponse.DeleteRecordsPartitionResult
    return m.DeleteRecordsResponse(
        topics=[
            m.DeleteRecordsResponse.DeleteRecordsTopicResult(
                name=t.name,
                partitions=[
                    entry(partition_index=p.partition_index, low_watermark=-1, error_code=code) for p in t.partitions
                ],
            )
            for t in request.message.topics
        ]
    )


HANDLERS = {
    ApiKey.LIST_OFFSETS: Handler(m.ListOffsetsRequest.decode, _list_offsets, _refuse_list),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: Handler(m.OffsetForLeaderEpochRequest.decode, _epoch_ends, _refuse_epoch_ends),
    ApiKey.DELETE_RECORDS: Handler(m.DeleteRecordsRequest.decode, _delete_records, _refuse_delete),
}
