"""Encoding and decoding of the control plane's frequent messages; the data plane's are C's."""

from typing import Any

import pytest

from cluster.protocol import messages as m
from cluster.protocol.message import Message


def metadata() -> Message:
    """Three brokers, ten topics of twelve partitions, three replicas each."""
    response = m.MetadataResponse
    partitions = [
        response.MetadataResponsePartition(
            partition_index=index, leader_id=index % 3, leader_epoch=4, replica_nodes=[0, 1, 2], isr_nodes=[0, 1, 2]
        )
        for index in range(12)
    ]
    return response(
        brokers=[response.MetadataResponseBroker(node_id=node, host=f"broker-{node}", port=9092) for node in range(3)],
        cluster_id="MkU3OEVBNTcwNTJENDM2Qg",
        topics=[
            response.MetadataResponseTopic(name=f"topic-{index}", topic_id=bytes(16), partitions=partitions)
            for index in range(10)
        ],
    )


def join_group() -> Message:
    request = m.JoinGroupRequest
    return request(
        group_id="orders",
        session_timeout_ms=45000,
        rebalance_timeout_ms=300000,
        member_id="consumer-1-6a0f6c6e-7b1e-4a56-bd44-3d1f33f5c3a1",
        protocol_type="consumer",
        protocols=[request.JoinGroupRequestProtocol(name=name, metadata=bytes(60)) for name in ("range", "sticky")],
    )


def offset_commit() -> Message:
    """Ten partitions of one topic."""
    request = m.OffsetCommitRequest
    partitions = [
        request.OffsetCommitRequestPartition(
            partition_index=index, committed_offset=1 << 33, committed_leader_epoch=7, committed_metadata=""
        )
        for index in range(10)
    ]
    return request(
        group_id="orders",
        generation_id_or_member_epoch=12,
        member_id="consumer-1-6a0f6c6e-7b1e-4a56-bd44-3d1f33f5c3a1",
        topics=[request.OffsetCommitRequestTopic(name="orders", partitions=partitions)],
    )


def fetch() -> Message:
    """Ten partitions with 1 KB of records each."""
    response = m.FetchResponse
    partitions = [
        response.PartitionData(
            partition_index=index, high_watermark=1 << 33, aborted_transactions=None, records=bytes(1024)
        )
        for index in range(10)
    ]
    return response(responses=[response.FetchableTopicResponse(topic_id=bytes(16), partitions=partitions)])


CASES = {
    "metadata v12": (metadata, 12),
    "join group v9": (join_group, 9),
    "offset commit v8": (offset_commit, 8),
    "fetch response v16": (fetch, 16),
}


@pytest.mark.parametrize("case", CASES)
def test_encode(benchmark: Any, case: str) -> None:
    make, version = CASES[case]
    message = make()
    encoded = benchmark(message.encode, version)
    assert type(message).decode(encoded, version) == message


@pytest.mark.parametrize("case", CASES)
def test_decode(benchmark: Any, case: str) -> None:
    make, version = CASES[case]
    message = make()
    decoded = benchmark(type(message).decode, message.encode(version), version)
    assert decoded == message
