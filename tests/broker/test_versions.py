"""Every API at every version that is advertised: it is answered, in that version's form.

The same tests run against Apache Kafka with PYLOG_TEST_BROKER=kafka39 or kafka4, for the versions that both serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.served import SERVED
from tests.broker.batches import batch
from tests.broker.raw import Raw
from tests.support import wire
from tests.support.brokers import Broker, chosen_kind, start_broker, unavailable

TOPIC = "versions"
GROUP = "versions-group"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    with start_broker(tmp_path_factory.mktemp("versions")) as started:
        raw = Raw(started.port)
        topic = m.CreateTopicsRequest.CreatableTopic(name=TOPIC, num_partitions=1, replication_factor=1)
        assert raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000), 5).topics[0].error_code == 0
        raw.close()
        yield started


def metadata_id(raw: Raw) -> bytes:
    asked = [m.MetadataRequest.MetadataRequestTopic(name=TOPIC)]
    return bytes(raw.ask(m.MetadataRequest(topics=asked), 12).topics[0].topic_id)


def produce(raw: Raw, version: int) -> Any:
    data = m.ProduceRequest.TopicProduceData(
        partition_data=[m.ProduceRequest.PartitionProduceData(index=0, records=batch())]
    )
    if version >= 13:
        data.topic_id = metadata_id(raw)
    else:
        data.name = TOPIC
    return m.ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data])


def fetch(raw: Raw, version: int) -> Any:
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(partitions=[part])
    if version >= 13:
        topic.topic_id = metadata_id(raw)
    else:
        topic.topic = TOPIC
    return m.FetchRequest(max_wait_ms=10, min_bytes=1, topics=[topic])


def offset_commit(raw: Raw, version: int) -> Any:
    part = m.OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(partitions=[part])
    if version >= 10:
        topic.topic_id = metadata_id(raw)
    else:
        topic.name = TOPIC
    return m.OffsetCommitRequest(group_id=GROUP, topics=[topic])


def offset_fetch(raw: Raw, version: int) -> Any:
    if version < 8:
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0])
        return m.OffsetFetchRequest(group_id=GROUP, topics=[asked])
    group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=GROUP, topics=None)
    return m.OffsetFetchRequest(groups=[group])


def list_offsets(raw: Raw, version: int) -> Any:
    part = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=-1)
    return m.ListOffsetsRequest(
        replica_id=-1, topics=[m.ListOffsetsRequest.ListOffsetsTopic(name=TOPIC, partitions=[part])]
    )


def create_topics(raw: Raw, version: int) -> Any:
    topic = m.CreateTopicsRequest.CreatableTopic(name=f"made-{version}", num_partitions=1, replication_factor=1)
    return m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000)


def delete_topics(raw: Raw, version: int) -> Any:
    raw.ask(create_topics(raw, 100 + version), 5)
    name = f"made-{100 + version}"
    if version >= 6:
        return m.DeleteTopicsRequest(topics=[m.DeleteTopicsRequest.DeleteTopicState(name=name)], timeout_ms=15_000)
    return m.DeleteTopicsRequest(topic_names=[name], timeout_ms=15_000)


def join_group(raw: Raw, version: int) -> Any:
    protocol = m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")
    timeouts = {"session_timeout_ms": 10_000} | ({"rebalance_timeout_ms": 10_000} if version >= 1 else {})
    return m.JoinGroupRequest(group_id=f"{GROUP}-{version}", protocol_type="consumer", protocols=[protocol], **timeouts)


def find_coordinator(raw: Raw, version: int) -> Any:
    return m.FindCoordinatorRequest(coordinator_keys=[GROUP]) if version >= 4 else m.FindCoordinatorRequest(key=GROUP)


def leave_group(raw: Raw, version: int) -> Any:
    if version < 3:
        return m.LeaveGroupRequest(group_id=GROUP, member_id="who")
    return m.LeaveGroupRequest(group_id=GROUP, members=[m.LeaveGroupRequest.MemberIdentity(member_id="who")])


def sync_group(raw: Raw, version: int) -> Any:
    named = {"protocol_type": "consumer", "protocol_name": "range"} if version >= 5 else {}
    return m.SyncGroupRequest(group_id=GROUP, generation_id=1, member_id="who", **named)


def epoch(raw: Raw, version: int) -> Any:
    part = m.OffsetForLeaderEpochRequest.OffsetForLeaderPartition(partition=0, leader_epoch=0)
    topic = m.OffsetForLeaderEpochRequest.OffsetForLeaderTopic(topic=TOPIC, partitions=[part])
    return m.OffsetForLeaderEpochRequest(topics=[topic])


def delete_records(raw: Raw, version: int) -> Any:
    part = m.DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=0)
    topic = m.DeleteRecordsRequest.DeleteRecordsTopic(name=TOPIC, partitions=[part])
    return m.DeleteRecordsRequest(topics=[topic], timeout_ms=9000)


def describe_configs(raw: Raw, version: int) -> Any:
    resource = m.DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=2, resource_name=TOPIC, configuration_keys=None
    )
    return m.DescribeConfigsRequest(resources=[resource])


def alter_configs(raw: Raw, version: int) -> Any:
    config = m.AlterConfigsRequest.AlterableConfig(name="retention.ms", value="1000000")
    resource = m.AlterConfigsRequest.AlterConfigsResource(resource_type=2, resource_name=TOPIC, configs=[config])
    return m.AlterConfigsRequest(resources=[resource])


def incremental(raw: Raw, version: int) -> Any:
    config = m.IncrementalAlterConfigsRequest.AlterableConfig(name="retention.ms", config_operation=1)
    resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=2, resource_name=TOPIC, configs=[config]
    )
    return m.IncrementalAlterConfigsRequest(resources=[resource])


def create_partitions(raw: Raw, version: int) -> Any:
    topic = m.CreatePartitionsRequest.CreatePartitionsTopic(name=TOPIC, count=2 + version, assignments=None)
    return m.CreatePartitionsRequest(topics=[topic], timeout_ms=15_000)


def offset_delete(raw: Raw, version: int) -> Any:
    part = m.OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=0)
    topic = m.OffsetDeleteRequest.OffsetDeleteRequestTopic(name=TOPIC, partitions=[part])
    return m.OffsetDeleteRequest(group_id=GROUP, topics=[topic])


def consumer_heartbeat(raw: Raw, version: int) -> Any:
    return m.ConsumerGroupHeartbeatRequest(group_id=GROUP, member_id="nobody", member_epoch=1)


def add_partitions(raw: Raw, version: int) -> Any:
    topics = [m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=TOPIC, partitions=[0])]
    if version >= 4:
        part = m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(transactional_id="nobody", topics=topics)
        return m.AddPartitionsToTxnRequest(transactions=[part])
    return m.AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="nobody", v3_and_below_producer_id=1, v3_and_below_topics=topics
    )


def txn_offset_commit(raw: Raw, version: int) -> Any:
    part = m.TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = m.TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name=TOPIC, partitions=[part])
    return m.TxnOffsetCommitRequest(transactional_id="nobody", group_id=GROUP, producer_id=1, topics=[topic])


def write_markers(raw: Raw, version: int) -> Any:
    topic = m.WriteTxnMarkersRequest.WritableTxnMarkerTopic(name="nowhere", partition_indexes=[0])
    marker = m.WriteTxnMarkersRequest.WritableTxnMarker(producer_id=1, topics=[topic])
    return m.WriteTxnMarkersRequest(markers=[marker])


def describe_producers(raw: Raw, version: int) -> Any:
    topic = m.DescribeProducersRequest.TopicRequest(name=TOPIC, partition_indexes=[0])
    return m.DescribeProducersRequest(topics=[topic])


def describe_topics(raw: Raw, version: int) -> Any:
    return m.DescribeTopicPartitionsRequest(topics=[m.DescribeTopicPartitionsRequest.TopicRequest(name=TOPIC)])


def metadata(raw: Raw, version: int) -> Any:
    return m.MetadataRequest(topics=[m.MetadataRequest.MetadataRequestTopic(name=TOPIC)])


ASK: dict[ApiKey, Callable[[Raw, int], Any]] = {
    ApiKey.PRODUCE: produce,
    ApiKey.FETCH: fetch,
    ApiKey.LIST_OFFSETS: list_offsets,
    ApiKey.METADATA: metadata,
    ApiKey.OFFSET_COMMIT: offset_commit,
    ApiKey.OFFSET_FETCH: offset_fetch,
    ApiKey.FIND_COORDINATOR: find_coordinator,
    ApiKey.JOIN_GROUP: join_group,
    ApiKey.HEARTBEAT: lambda raw, version: m.HeartbeatRequest(group_id=GROUP, generation_id=1, member_id="who"),
    ApiKey.LEAVE_GROUP: leave_group,
    ApiKey.SYNC_GROUP: sync_group,
    ApiKey.DESCRIBE_GROUPS: lambda raw, version: m.DescribeGroupsRequest(groups=[GROUP]),
    ApiKey.LIST_GROUPS: lambda raw, version: m.ListGroupsRequest(),
    ApiKey.API_VERSIONS: lambda raw, version: m.ApiVersionsRequest(
        **({"client_software_name": "raw", "client_software_version": "1.0"} if version >= 3 else {})
    ),
    ApiKey.CREATE_TOPICS: create_topics,
    ApiKey.DELETE_TOPICS: delete_topics,
    ApiKey.DELETE_RECORDS: delete_records,
    ApiKey.INIT_PRODUCER_ID: lambda raw, version: m.InitProducerIdRequest(
        transactional_id=None, transaction_timeout_ms=60_000
    ),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: epoch,
    ApiKey.DESCRIBE_CONFIGS: describe_configs,
    ApiKey.ALTER_CONFIGS: alter_configs,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: lambda raw, version: m.AlterPartitionReassignmentsRequest(topics=[]),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: lambda raw, version: m.ListPartitionReassignmentsRequest(topics=None),
    ApiKey.ALTER_REPLICA_LOG_DIRS: lambda raw, version: m.AlterReplicaLogDirsRequest(dirs=[]),
    ApiKey.DESCRIBE_LOG_DIRS: lambda raw, version: m.DescribeLogDirsRequest(topics=None),
    ApiKey.CREATE_PARTITIONS: create_partitions,
    ApiKey.DELETE_GROUPS: lambda raw, version: m.DeleteGroupsRequest(groups_names=["nobody"]),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: incremental,
    ApiKey.OFFSET_DELETE: offset_delete,
    ApiKey.DESCRIBE_CLUSTER: lambda raw, version: m.DescribeClusterRequest(),
    ApiKey.DESCRIBE_PRODUCERS: describe_producers,
    ApiKey.ADD_PARTITIONS_TO_TXN: add_partitions,
    ApiKey.ADD_OFFSETS_TO_TXN: lambda raw, version: m.AddOffsetsToTxnRequest(
        transactional_id="nobody", producer_id=1, group_id=GROUP
    ),
    ApiKey.END_TXN: lambda raw, version: m.EndTxnRequest(transactional_id="nobody", producer_id=1, committed=True),
    ApiKey.WRITE_TXN_MARKERS: write_markers,
    ApiKey.TXN_OFFSET_COMMIT: txn_offset_commit,
    ApiKey.DESCRIBE_TRANSACTIONS: lambda raw, version: m.DescribeTransactionsRequest(transactional_ids=["nobody"]),
    ApiKey.LIST_TRANSACTIONS: lambda raw, version: m.ListTransactionsRequest(),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: consumer_heartbeat,
    ApiKey.CONSUMER_GROUP_DESCRIBE: lambda raw, version: m.ConsumerGroupDescribeRequest(group_ids=["nobody"]),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: describe_topics,
}

#: What an answer may say about a request that names a topic, a member, a group, a producer or a coordinator that is not
#: there (yet).
EXPECTED = {0, 3, 14, 15, 16, 22, 24, 25, 49, 69, 79, 105}


def codes(answer: Any) -> set[int]:
    """Every error code in an answer, however deep."""
    found = set()
    for field in type(answer).__slots__:
        value = getattr(answer, field)
        if field == "error_code":
            found.add(int(value))
        for item in value if isinstance(value, list) else [value]:
            if hasattr(type(item), "__slots__") and not isinstance(item, bytes | str | int | bool | float):
                found |= codes(item)
    return found


def test_all_of_it_is_advertised(broker: Broker) -> None:
    advertised = wire.api_versions(broker.port)
    if chosen_kind() == "pylog":
        assert advertised == {int(key): versions for key, versions in SERVED.items()}
    assert set(ASK) == set(SERVED)


@pytest.mark.parametrize("key", list(SERVED), ids=lambda key: key.name.lower())
def test_every_version_is_answered(broker: Broker, key: ApiKey) -> None:
    advertised = wire.api_versions(broker.port).get(int(key))
    if advertised is None:
        pytest.skip("this broker does not serve it")
    low, high = SERVED[key]
    low = 3 if key is ApiKey.PRODUCE else low  # older ones are advertised and refused
    raw = Raw(broker.port)
    for version in range(low, min(high, advertised[1]) + 1):
        answer = raw.ask(ASK[key](raw, version), version)
        assert codes(answer) <= EXPECTED, (key, version, answer)
    raw.close()


def test_old_produce_is_refused(broker: Broker) -> None:
    if chosen_kind() == "kafka39":
        pytest.skip("Kafka 3.9 still serves it")
    raw = Raw(broker.port)
    data = m.ProduceRequest.TopicProduceData(
        name=TOPIC, partition_data=[m.ProduceRequest.PartitionProduceData(index=0, records=b"")]
    )
    raw.send(m.ProduceRequest(acks=1, timeout_ms=5000, topic_data=[data]), 2)
    assert raw.closed()
