"""Which partition answers for a key, and FindCoordinator in its two shapes."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import RequestContext
from cluster.coordinator.find_coordinator import Endpoint, find_coordinators, java_hash, partition_of_key
from cluster.effects import Shard
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("polygenelubricants", -(2**31)),
        ("console-consumer-12345", 158455506),
        ("é", 233),
        ("\U0001f600", 1772899),
    ],
)
def test_the_hash_is_javas(text: str, value: int) -> None:
    assert java_hash(text) == value


def test_partitions_are_those_of_kafkas_golden_run() -> None:
    """Five partitions, and where a Kafka 3.9 broker kept each group."""
    where = {"g1": 2, "g2": 3, "g-rc": 1, "g-txn": 4, "g-deleted": 2}
    assert {group: partition_of_key(group, 5) for group in where} == where


def test_the_one_hash_without_an_absolute_value_is_partition_0() -> None:
    assert partition_of_key("polygenelubricants", 50) == 0


def counts(topic: str) -> int:
    return {"__consumer_offsets": 5, "__transaction_state": 3}[topic]


def locate(key: str, shard: Shard) -> Endpoint | ErrorCode:
    if key == "nowhere":
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return Endpoint(shard.partition, shard.topic, 9092)


def find(request: m.FindCoordinatorRequest, version: int) -> m.FindCoordinatorResponse:
    ctx = RequestContext("r", ApiKey.FIND_COORDINATOR, version)
    answer = find_coordinators(ctx, m.FindCoordinatorRequest.decode(request.encode(version), version), counts, locate)
    assert answer.reply_to == "r"
    assert isinstance(answer.message, m.FindCoordinatorResponse)
    return m.FindCoordinatorResponse.decode(answer.message.encode(version), version)


@pytest.mark.parametrize("version", range(4))
def test_one_key(version: int) -> None:
    found = find(m.FindCoordinatorRequest(key="g2"), version)
    assert (found.error_code, found.node_id, found.host, found.port) == (0, 3, "__consumer_offsets", 9092)
    if version > 0:
        assert found.error_message == "NONE"


@pytest.mark.parametrize("version", [4, 5, 6])
def test_many_keys(version: int) -> None:
    found = find(m.FindCoordinatorRequest(coordinator_keys=["g1", "nowhere", ""]), version)
    assert [(each.key, each.error_code, each.node_id, each.host, each.port) for each in found.coordinators] == [
        ("g1", 0, 2, "__consumer_offsets", 9092),
        ("nowhere", ErrorCode.COORDINATOR_NOT_AVAILABLE, -1, "", -1),
        ("", 0, 0, "__consumer_offsets", 9092),
    ]


def test_transactions_have_their_own_topic() -> None:
    assert find(m.FindCoordinatorRequest(key="", key_type=1), 1).host == "__transaction_state"


@pytest.mark.parametrize("key_type", [2, 5, -1])
def test_a_key_type_we_do_not_know(key_type: int) -> None:
    found = find(m.FindCoordinatorRequest(key="x", key_type=key_type), 3)
    assert (found.error_code, found.node_id) == (ErrorCode.INVALID_REQUEST, -1)
    assert found.error_message == ErrorCode.INVALID_REQUEST.message
    many = find(m.FindCoordinatorRequest(coordinator_keys=["x"], key_type=key_type), 6)
    assert many.coordinators[0].error_code == ErrorCode.INVALID_REQUEST
