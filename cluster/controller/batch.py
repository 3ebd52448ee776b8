"""Requests to brokers, collected while states change, and sent together.

What stays true: a broker is told of the partitions it has a replica of (LeaderAndIsr, StopReplica), and every broker of
every partition that changed (UpdateMetadata); a partition stands in a request once, with its newest state; requests of
one batch go out in that order of kinds. Brokers that are not registered are sent nothing. What is told is what the
image says when the batch is sent."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.controller.image import Image
from cluster.controller.steps import Run, Send
from cluster.effects import Note
from cluster.model import LeaderAndIsr, PartitionAssignment
from cluster.protocol.messages import LeaderAndIsrRequest, StopReplicaRequest, UpdateMetadataRequest
from pylog.types import ZERO_TOPIC_ID, TopicPartition

LEADER_DURING_DELETION = -2
"""Who leads a partition in an UpdateMetadata that says: forget it."""
SECURITY_PROTOCOLS = {"PLAINTEXT": 0, "SSL": 1, "SASL_PLAINTEXT": 2, "SASL_SSL": 3}

_Told = LeaderAndIsrRequest.LeaderAndIsrPartitionState


class RequestBatch:
    """What is to be sent. Empty between two changes."""

    __slots__ = ("_image", "_leader_and_isr", "_metadata_brokers", "_metadata_partitions", "_stop")

    def __init__(self, image: Image) -> None:
        self._image = image
        self.clear()

    def clear(self) -> None:
        self._leader_and_isr: dict[int, dict[TopicPartition, _Told]] = {}
        self._stop: dict[int, dict[TopicPartition, bool]] = {}
        self._metadata_brokers: set[int] = set()
        self._metadata_partitions: dict[TopicPartition, None] = {}

    def add_leader_and_isr(
        self,
        brokers: Iterable[int],
        partition: TopicPartition,
        state: LeaderAndIsr,
        assignment: PartitionAssignment,
        *,
        is_new: bool,
    ) -> None:
        """`is_new`: a broker that has no such replica may put it into any of its directories."""
        told: dict[bool, _Told] = {}
        for broker_id in brokers:
            of_broker = self._leader_and_isr.setdefault(broker_id, {})
            before = of_broker.get(partition)
            new = is_new or (before is not None and before.is_new)
            if new not in told:
                told[new] = _Told(
                    topic_name=partition.topic,
                    partition_index=partition.partition,
                    controller_epoch=state.controller_epoch,
                    leader=state.leader,
                    leader_epoch=state.leader_epoch,
                    isr=list(state.isr),
                    partition_epoch=state.version,
                    replicas=list(assignment.replicas),
                    adding_replicas=list(assignment.adding),
                    removing_replicas=list(assignment.removing),
                    is_new=new,
                    leader_recovery_state=int(state.recovering and self._image.settings.has_leader_recovery),
                )
            of_broker[partition] = told[new]
        self._metadata_brokers.update(self._image.brokers)
        self._metadata_partitions[partition] = None

    def add_stop_replica(self, broker_id: int, partition: TopicPartition, *, delete: bool) -> None:
        of_broker = self._stop.setdefault(broker_id, {})
        of_broker[partition] = delete or of_broker.get(partition, False)

    def add_update_metadata(self, brokers: Iterable[int], partitions: Iterable[TopicPartition]) -> None:
        """Without partitions, brokers are told who is alive."""
        self._metadata_brokers.update(brokers)
        self._metadata_partitions.update(dict.fromkeys(partitions))

    def send(self) -> Run[None]:
        leader_and_isr, stop = self._leader_and_isr, self._stop
        brokers, partitions = self._metadata_brokers, self._metadata_partitions
        self.clear()
        for broker_id in sorted(leader_and_isr):
            if broker_id in self._image.brokers:
                yield from self._send_leader_and_isr(broker_id, leader_and_isr[broker_id])
        yield from self._send_update_metadata(sorted(brokers), partitions)
        for broker_id in sorted(stop):
            if broker_id in self._image.brokers:
                yield from self._send_stop_replica(broker_id, stop[broker_id])

    # ------------------------------------------------------------------ the requests

    def _send_leader_and_isr(self, broker_id: int, states: dict[TopicPartition, _Told]) -> Run[None]:
        image = self._image
        topics: dict[str, LeaderAndIsrRequest.LeaderAndIsrTopicState] = {}
        for partition, state in states.items():
            topic = topics.get(partition.topic)
            if topic is None:
                topic = topics[partition.topic] = LeaderAndIsrRequest.LeaderAndIsrTopicState(
                    topic_name=partition.topic, topic_id=image.topic_ids.get(partition.topic, ZERO_TOPIC_ID)
                )
            topic.partition_states.append(state)
        leaders = {state.leader for state in states.values()}
        live_leaders = []
        for leader in sorted(leaders & image.brokers.keys()):
            address = next(
                (
                    endpoint
                    for endpoint in image.brokers[leader].endpoints
                    if endpoint.listener == image.settings.inter_broker_listener
                ),
                None,
            )
            if address is None:
                fields = (("broker", leader), ("listener", image.settings.inter_broker_listener))
                yield Note("Controller", "A leader has no listener for brokers", fields, warning=True)
                continue
            live_leaders.append(
                LeaderAndIsrRequest.LeaderAndIsrLiveLeader(broker_id=leader, host_name=address.host, port=address.port)
            )
        request = LeaderAndIsrRequest(
            controller_id=image.settings.broker_id,
            controller_epoch=image.epoch,
            broker_epoch=image.brokers[broker_id].epoch,
            topic_states=list(topics.values()),
            live_leaders=live_leaders,
        )
        yield Send(broker_id, image.settings.leader_and_isr_version, request)

    def _send_update_metadata(self, brokers: list[int], partitions: Iterable[TopicPartition]) -> Run[None]:
        image = self._image
        topic_states = self._metadata_topics(partitions)
        live_brokers = [
            UpdateMetadataRequest.UpdateMetadataBroker(
                id=broker.id,
                endpoints=[
                    UpdateMetadataRequest.UpdateMetadataEndpoint(
                        port=endpoint.port,
                        host=endpoint.host,
                        listener=endpoint.listener,
                        security_protocol=SECURITY_PROTOCOLS.get(endpoint.protocol, 0),
                    )
                    for endpoint in broker.endpoints
                ],
                rack=broker.rack,
            )
            for _, broker in sorted(image.brokers.items())
        ]
        for broker_id in brokers:
            if broker_id in image.brokers:
                request = UpdateMetadataRequest(
                    controller_id=image.settings.broker_id,
                    controller_epoch=image.epoch,
                    broker_epoch=image.brokers[broker_id].epoch,
                    topic_states=topic_states,
                    live_brokers=live_brokers,
                )
                yield Send(broker_id, image.settings.update_metadata_version, request)

    def _metadata_topics(
        self, partitions: Iterable[TopicPartition]
    ) -> list[UpdateMetadataRequest.UpdateMetadataTopicState]:
        image = self._image
        topics: dict[str, UpdateMetadataRequest.UpdateMetadataTopicState] = {}
        for partition in partitions:
            state = image.leadership.get(partition)
            if state is None:
                continue
            topic = topics.get(partition.topic)
            if topic is None:
                topic = topics[partition.topic] = UpdateMetadataRequest.UpdateMetadataTopicState(
                    topic_name=partition.topic, topic_id=image.topic_ids.get(partition.topic, ZERO_TOPIC_ID)
                )
            goes = partition.topic in image.deleting
            replicas = image.assignments[partition].replicas
            online = image.online(replicas, partition)
            topic.partition_states.append(
                UpdateMetadataRequest.UpdateMetadataPartitionState(
                    topic_name=partition.topic,
                    partition_index=partition.partition,
                    controller_epoch=state.controller_epoch,
                    leader=LEADER_DURING_DELETION if goes else state.leader,
                    leader_epoch=0 if goes else state.leader_epoch,
                    isr=list(state.isr),
                    zk_version=0 if goes else state.version,
                    replicas=list(replicas),
                    offline_replicas=[]
                    if len(online) == len(replicas)
                    else [replica for replica in replicas if replica not in online],
                )
            )
        return list(topics.values())

    def _send_stop_replica(self, broker_id: int, partitions: dict[TopicPartition, bool]) -> Run[None]:
        image = self._image
        topics: dict[str, StopReplicaRequest.StopReplicaTopicState] = {}
        for partition, delete in partitions.items():
            topic = topics.get(partition.topic)
            if topic is None:
                topic = topics[partition.topic] = StopReplicaRequest.StopReplicaTopicState(topic_name=partition.topic)
            topic.partition_states.append(
                StopReplicaRequest.StopReplicaPartitionState(
                    partition_index=partition.partition,
                    leader_epoch=image.leader_epoch(partition),
                    delete_partition=delete,
                )
            )
        request = StopReplicaRequest(
            controller_id=image.settings.broker_id,
            controller_epoch=image.epoch,
            broker_epoch=image.brokers[broker_id].epoch,
            topic_states=list(topics.values()),
        )
        yield Send(broker_id, image.settings.stop_replica_version, request)
