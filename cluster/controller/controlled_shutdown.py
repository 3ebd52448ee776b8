"""A broker that is about to stop: what it leads goes to others before it goes.

What stays true: it leads nothing new from now on and stays registered; what can be led by another replica in sync is,
what it follows it stops to follow. The answer names what it still leads though there are other replicas: it asks again.
"""

from __future__ import annotations

from cluster.controller.batch import RequestBatch
from cluster.controller.election import Strategy
from cluster.controller.image import Image, ReplicaState
from cluster.controller.partition_states import PartitionStates
from cluster.controller.replica_states import ReplicaStates
from cluster.controller.steps import Run
from cluster.effects import Note
from cluster.model import NO_BROKER_EPOCH
from cluster.protocol.messages import ControlledShutdownRequest, ControlledShutdownResponse
from pylog.errors import ErrorCode
from pylog.types import TopicPartition


def shut_down(
    image: Image,
    batch: RequestBatch,
    partitions: PartitionStates,
    replicas: ReplicaStates,
    request: ControlledShutdownRequest,
) -> Run[ControlledShutdownResponse]:
    broker_id = request.broker_id
    broker = image.brokers.get(broker_id)
    if broker is None:
        return ControlledShutdownResponse(error_code=int(ErrorCode.BROKER_NOT_AVAILABLE))
    if request.broker_epoch != NO_BROKER_EPOCH and request.broker_epoch < broker.epoch:
        return ControlledShutdownResponse(error_code=int(ErrorCode.STALE_BROKER_EPOCH))
    yield Note("Controller", "A broker shuts down", (("broker", broker_id),))
    image.live.discard(broker_id)
    led: list[TopicPartition] = []
    followed: list[TopicPartition] = []
    for partition in image.replicas_on(broker_id):
        state = image.leadership.get(partition)
        alone = len(image.assignments[partition].replicas) == 1
        if not alone and state is not None and partition.topic not in image.deleting:
            (led if state.leader == broker_id else followed).append(partition)
    yield from partitions.elect(led, Strategy.CONTROLLED_SHUTDOWN)
    for partition in followed:
        batch.add_stop_replica(broker_id, partition, delete=False)
    yield from batch.send()
    yield from replicas.move({broker_id: followed}, ReplicaState.OFFLINE)
    return ControlledShutdownResponse(
        remaining_partitions=[
            ControlledShutdownResponse.RemainingPartition(
                topic_name=partition.topic, partition_index=partition.partition
            )
            for partition in image.leaders_on(broker_id)
        ]
    )
