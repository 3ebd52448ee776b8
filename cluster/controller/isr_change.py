"""AlterPartition: a leader asks for another ISR of partitions that it leads.

What stays true: the leader knows the state it wants changed (its leader epoch and the version of its znode are those of
the image), and every member of the new ISR is live. Checks come in the order of Kafka 3.9 and answer with its codes. A
state that is already as asked for is confirmed, so that a leader may ask twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.controller.image import Image
from cluster.controller.state_update import States
from cluster.controller.steps import Run, read_states, write_states
from cluster.effects import Note
from cluster.model import LeaderAndIsr
from cluster.protocol.messages import AlterPartitionRequest, AlterPartitionResponse
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.types import ZERO_TOPIC_ID, TopicPartition

_TOPIC_IDS_FROM = 2
_ISR_WITH_EPOCHS_FROM = 3

_TopicData = AlterPartitionResponse.TopicData
_PartitionData = AlterPartitionResponse.PartitionData


class Altered(NamedTuple):
    """`changed`: whose ISR is now as asked for; `told`: whom all brokers are to hear of."""

    response: AlterPartitionResponse
    changed: list[TopicPartition]
    told: list[TopicPartition]


def alter_partitions(image: Image, request: AlterPartitionRequest, version: int) -> Run[Altered]:
    broker = image.brokers.get(request.broker_id)
    if broker is None or broker.epoch != request.broker_epoch:
        who = (("broker", request.broker_id), ("epoch", request.broker_epoch))
        yield Note("Controller", "AlterPartition of a broker that is not registered so", who)
        return Altered(AlterPartitionResponse(error_code=int(ErrorCode.STALE_BROKER_EPOCH)), [], [])
    wanted, response = _read(image, request, version)
    results: dict[TopicPartition, ErrorCode | LeaderAndIsr] = {}
    write: States = {}
    for partition, state in wanted.items():
        verdict = _judge(image, partition, state, version)
        if verdict is None:
            write[partition] = state
        else:
            results[partition] = verdict
    written = yield from write_states(image.fence, write)
    for partition, new_version in written.versions.items():
        image.leadership[partition] = results[partition] = write[partition]._replace(version=new_version)
    for partition in written.failed:
        results[partition] = ErrorCode.UNKNOWN_SERVER_ERROR
    results.update((yield from _settle_conflicts(image, write, written.conflicts)))
    for partition, result in results.items():
        if isinstance(result, ErrorCode):
            fields = (("partition", partition), ("isr", list(wanted[partition].isr)), ("error", result.name))
            yield Note("Controller", "ISR is not changed", fields)
    _write_down(image, response, results, version)
    changed = [partition for partition, result in results.items() if not isinstance(result, ErrorCode)]
    return Altered(response, changed, list(wanted))


def _read(image: Image, request: AlterPartitionRequest, version: int) -> tuple[States, AlterPartitionResponse]:
    """The states asked for; topics that nobody knows are in the answer already."""
    wanted: States = {}
    response = AlterPartitionResponse()
    for topic in request.topics:
        name = image.topic_names.get(topic.topic_id) if version >= _TOPIC_IDS_FROM else topic.topic_name
        if name is None:
            refused = [
                _PartitionData(partition_index=each.partition_index, error_code=int(ErrorCode.UNKNOWN_TOPIC_ID))
                for each in topic.partitions
            ]
            response.topics.append(_TopicData(topic_id=topic.topic_id, partitions=refused))
            continue
        for each in topic.partitions:
            if version >= _ISR_WITH_EPOCHS_FROM:
                isr = tuple([member.broker_id for member in each.new_isr_with_epochs])
            else:
                isr = tuple(each.new_isr)
            wanted[TopicPartition(name, each.partition_index)] = LeaderAndIsr(
                request.broker_id,
                each.leader_epoch,
                isr,
                image.epoch,
                each.partition_epoch,
                each.leader_recovery_state == 1,
            )
    return wanted, response


def _judge(
    image: Image, partition: TopicPartition, wanted: LeaderAndIsr, version: int
) -> ErrorCode | LeaderAndIsr | None:
    """An error, the state as it is already, or None: it is to be written."""
    current = image.leadership.get(partition)
    if current is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if wanted.version > current.version or wanted.leader_epoch > current.leader_epoch:
        return ErrorCode.NOT_CONTROLLER  # the leader knows of a newer controller than this one
    if wanted.leader_epoch < current.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if _same(wanted, current):
        return current
    if wanted.version < current.version:
        return ErrorCode.INVALID_UPDATE_VERSION
    # What only a broker that errs would ask for; Kafka 4 refuses it so, 3.9 would write it down.
    if wanted.leader != current.leader or wanted.leader not in wanted.isr or len(set(wanted.isr)) < len(wanted.isr):
        return ErrorCode.INVALID_REQUEST
    if not set(wanted.isr) - set(current.isr) <= set(image.assignments[partition].replicas):
        return ErrorCode.INVALID_REQUEST
    if wanted.recovering and (len(wanted.isr) > 1 or not current.recovering):
        return ErrorCode.INVALID_REQUEST
    if not image.live.issuperset(wanted.isr):
        return ErrorCode.INELIGIBLE_REPLICA if version >= _TOPIC_IDS_FROM else ErrorCode.OPERATION_NOT_ATTEMPTED
    return None


def _same(wanted: LeaderAndIsr, current: LeaderAndIsr) -> bool:
    return (
        wanted.leader == current.leader
        and wanted.leader_epoch == current.leader_epoch
        and wanted.isr == current.isr
        and wanted.recovering == current.recovering
    )


def _settle_conflicts(
    image: Image, write: States, conflicts: Iterable[TopicPartition]
) -> Run[dict[TopicPartition, ErrorCode | LeaderAndIsr]]:
    """Somebody else wrote the state; or we did, and lost the connection before we heard of it."""
    partitions = list(conflicts)
    results: dict[TopicPartition, ErrorCode | LeaderAndIsr] = {}
    found = yield from read_states(partitions)
    for partition in partitions:
        state = found.get(partition)
        if state is not None:
            image.leadership[partition] = state
        is_ours = state is not None and _same(write[partition], state) and state.controller_epoch == image.epoch
        results[partition] = state if state is not None and is_ours else ErrorCode.INVALID_UPDATE_VERSION
    return results


def _write_down(
    image: Image,
    response: AlterPartitionResponse,
    results: dict[TopicPartition, ErrorCode | LeaderAndIsr],
    version: int,
) -> None:
    topics: dict[str, AlterPartitionResponse.TopicData] = {}
    for partition, result in results.items():
        topic = topics.get(partition.topic)
        if topic is None:
            topic_id = image.topic_ids.get(partition.topic, ZERO_TOPIC_ID)
            by_id = version >= _TOPIC_IDS_FROM
            topic = _TopicData(topic_id=topic_id) if by_id else _TopicData(topic_name=partition.topic)
            topics[partition.topic] = topic
            response.topics.append(topic)
        if isinstance(result, ErrorCode):
            data = _PartitionData(partition_index=partition.partition, error_code=int(result))
        else:
            data = _PartitionData(
                partition_index=partition.partition,
                leader_id=result.leader,
                leader_epoch=result.leader_epoch,
                isr=list(result.isr),
                leader_recovery_state=int(result.recovering),
                partition_epoch=result.version,
            )
        topic.partitions.append(data)
