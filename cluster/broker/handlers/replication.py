"""LeaderAndIsr, StopReplica and UpdateMetadata: what a controller tells each broker.

What stays true: a request of an older controller, or about an earlier incarnation of this broker, is refused whole and
changes nothing. Settings of topics that are new here are read from the tree before a log is made for them.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.broker.apis import Handler, Request
from cluster.broker.leadership import ReplicaDecision, StopDecision
from cluster.broker.metadata_cache import BrokerMetadata, PartitionMetadata
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import ZERO_TOPIC_ID, TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

_DURING_DELETE: Final = -2
_SECURITY_PROTOCOLS: Final = {0: "PLAINTEXT", 1: "SSL", 2: "SASL_PLAINTEXT", 3: "SASL_SSL"}
_GROUPED_SINCE: Final = 2  # LeaderAndIsr by topic
_IDS_SINCE: Final = 5  # answers of LeaderAndIsr by topic id


# ------------------------------------------------------------------------------------------------ LeaderAndIsr


def _leader_and_isr(broker: Broker, request: Request) -> m.LeaderAndIsrResponse | None:
    message: m.LeaderAndIsrRequest = request.message
    code = broker.joined().leadership.heed(message.controller_id, message.controller_epoch, message.broker_epoch)
    if code is not ErrorCode.NONE:
        return _refuse_leader_and_isr(request, int(code))
    decisions = list(_decisions(message, request.api_version))
    missing = broker.joined().unknown_settings(each.partition.topic for each in decisions)
    if not missing:
        return _become(broker, request, decisions)
    handler = HANDLERS[ApiKey.LEADER_AND_ISR]  # from the beginning: another controller may have spoken meanwhile
    broker.joined().read_settings(missing, lambda: broker.apis.serve(handler, request))
    return None


def _decisions(message: m.LeaderAndIsrRequest, version: int) -> Iterable[ReplicaDecision]:
    if version < _GROUPED_SINCE:
        for state in message.ungrouped_partition_states:
            yield _decision(state.topic_name, ZERO_TOPIC_ID, state)
        return
    for topic in message.topic_states:
        for state in topic.partition_states:
            yield _decision(topic.topic_name, topic.topic_id, state)


def _decision(topic: str, topic_id: bytes, state: m.LeaderAndIsrRequest.LeaderAndIsrPartitionState) -> ReplicaDecision:
    return ReplicaDecision(
        TopicPartition(topic, state.partition_index),
        topic_id,
        state.leader,
        state.leader_epoch,
        tuple(state.isr),
        tuple(state.replicas),
        state.partition_epoch,
        state.is_new,
    )


def _become(broker: Broker, request: Request, decisions: list[ReplicaDecision]) -> m.LeaderAndIsrResponse:
    """Carry them out, and say how each went."""
    outcomes = broker.joined().leadership.become(decisions)
    entry = m.LeaderAndIsrResponse.LeaderAndIsrPartitionError
    if request.api_version < _IDS_SINCE:
        errors = [
            entry(topic_name=name.topic, partition_index=name.partition, error_code=int(code))
            for name, code in outcomes.items()
        ]
        return m.LeaderAndIsrResponse(partition_errors=errors)
    by_id: dict[bytes, list[m.LeaderAndIsrResponse.LeaderAndIsrPartitionError]] = {}
    for each in decisions:
        error = entry(partition_index=each.partition.partition, error_code=int(outcomes[each.partition]))
        by_id.setdefault(each.topic_id, []).append(error)
    topic = m.LeaderAndIsrResponse.LeaderAndIsrTopicError
    return m.LeaderAndIsrResponse(topics=[topic(topic_id=i, partition_errors=e) for i, e in by_id.items()])


def _refuse_leader_and_isr(request: Request, code: int) -> m.LeaderAndIsrResponse:
    return m.LeaderAndIsrResponse(error_code=code)


# ------------------------------------------------------------------------------------------------ StopReplica


def _stop_replica(broker: Broker, request: Request) -> m.StopReplicaResponse:
    message: m.StopReplicaRequest = request.message
    code = broker.joined().leadership.heed(message.controller_id, message.controller_epoch, message.broker_epoch)
    if code is not ErrorCode.NONE:
        return _refuse_stop_replica(request, int(code))
    outcomes = broker.joined().leadership.stop(list(_stops(message, request.api_version)))
    entry = m.StopReplicaResponse.StopReplicaPartitionError
    errors = [
        entry(topic_name=name.topic, partition_index=name.partition, error_code=int(code))
        for name, code in outcomes.items()
    ]
    return m.StopReplicaResponse(partition_errors=errors)


def _stops(message: m.StopReplicaRequest, version: int) -> Iterable[StopDecision]:
    if version >= 3:
        for topic in message.topic_states:
            for state in topic.partition_states:
                name = TopicPartition(topic.topic_name, state.partition_index)
                yield StopDecision(name, state.leader_epoch, state.delete_partition)
    elif version >= 1:
        for old in message.topics:
            for index in old.partition_indexes:
                yield StopDecision(TopicPartition(old.name, index), -1, message.delete_partitions)
    else:
        for each in message.ungrouped_partitions:
            yield StopDecision(TopicPartition(each.topic_name, each.partition_index), -1, message.delete_partitions)


def _refuse_stop_replica(request: Request, code: int) -> m.StopReplicaResponse:
    return m.StopReplicaResponse(error_code=code)


# ------------------------------------------------------------------------------------------------ UpdateMetadata


def _update_metadata(broker: Broker, request: Request) -> m.UpdateMetadataResponse:
    message: m.UpdateMetadataRequest = request.message
    code = broker.joined().leadership.heed(message.controller_id, message.controller_epoch, message.broker_epoch)
    if code is not ErrorCode.NONE:
        return _refuse_update_metadata(request, int(code))
    by_topic: dict[str, tuple[bytes, list[PartitionMetadata]]] = {}
    gone: list[TopicPartition] = []
    for topic, topic_id, state in _states(message, request.api_version):
        if state.leader == _DURING_DELETE:
            gone.append(TopicPartition(topic, state.partition_index))
            continue
        entry = PartitionMetadata(
            state.partition_index,
            state.leader,
            state.leader_epoch,
            tuple(state.replicas),
            tuple(state.isr),
            tuple(state.offline_replicas),
        )
        by_topic.setdefault(topic, (topic_id, []))[1].append(entry)
    brokers = [_broker(each, request.api_version) for each in message.live_brokers]
    broker.joined().learn(message.controller_id, brokers, by_topic, gone)
    return m.UpdateMetadataResponse()


def _states(
    message: m.UpdateMetadataRequest, version: int
) -> Iterable[tuple[str, bytes, m.UpdateMetadataRequest.UpdateMetadataPartitionState]]:
    if version < 5:
        for state in message.ungrouped_partition_states:
            yield state.topic_name, ZERO_TOPIC_ID, state
        return
    for topic in message.topic_states:
        for state in topic.partition_states:
            yield topic.topic_name, topic.topic_id, state


def _broker(each: m.UpdateMetadataRequest.UpdateMetadataBroker, version: int) -> BrokerMetadata:
    if version == 0:
        return BrokerMetadata(each.id, {"PLAINTEXT": (each.v0_host, each.v0_port)}, None)
    endpoints = {}
    for end in each.endpoints:
        name = end.listener if version >= 3 else _SECURITY_PROTOCOLS.get(end.security_protocol, "PLAINTEXT")
        endpoints[name] = (end.host, end.port)
    return BrokerMetadata(each.id, endpoints, each.rack)


def _refuse_update_metadata(request: Request, code: int) -> m.UpdateMetadataResponse:
    return m.UpdateMetadataResponse(error_code=code)


HANDLERS = {
    ApiKey.LEADER_AND_ISR: Handler(m.LeaderAndIsrRequest.decode, _leader_and_isr, _refuse_leader_and_isr),
    ApiKey.STOP_REPLICA: Handler(m.StopReplicaRequest.decode, _stop_replica, _refuse_stop_replica),
    ApiKey.UPDATE_METADATA: Handler(m.UpdateMetadataRequest.decode, _update_metadata, _refuse_update_metadata),
}
