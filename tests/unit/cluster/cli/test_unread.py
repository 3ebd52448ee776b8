"""How old the first record is that a group has not read, as any broker's Fetch tells it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.offsets import TopicPartition
from cluster.cli.unread import Position, ages
from cluster.protocol.api_keys import ApiKey
from pylog.compression import Codec
from pylog.errors import ErrorCode
from pylog.records import EndMarker, NewRecord, RecordBatchBuilder
from tests.unit.cluster.cli.fake_cluster import FakeCluster

TP = TopicPartition("t", 0)
NOW_S = 1_800_000_000


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOW_S))


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster({"t": 3}, brokers=2) as running:
        yield running


def batch(*ages_s: int, value: bytes = b"v", log_append_time: bool = False, codec: Codec = Codec.NONE) -> bytes:
    """One batch with a record of each age."""
    builder = RecordBatchBuilder()
    records = [NewRecord((NOW_S - age_s) * 1000, None, value) for age_s in ages_s]
    data = builder.build(records, log_append_time=log_append_time, codec=codec)
    builder.close()
    return data


def marker(age_s: int) -> bytes:
    builder = RecordBatchBuilder()
    stamp = (NOW_S - age_s) * 1000
    data = builder.build_end_marker(EndMarker(True, 0), timestamp=stamp, producer_id=1, producer_epoch=0)
    builder.close()
    return data


def asked(fake: FakeCluster, *positions: Position) -> dict[Position, float | None]:
    ends = {position: fake.end(position.partition) for position in positions}
    with ClusterClient(parse_addresses(fake.bootstrap), timeout_ms=5_000) as cluster:
        return ages(cluster, ends)


def age(fake: FakeCluster, offset: int) -> float | None:
    return asked(fake, Position(TP, offset))[Position(TP, offset)]


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
def test_the_record_itself_counts_and_not_its_batch(fake: FakeCluster, codec: Codec) -> None:
    fake.append(TP, batch(900, 800, 700, codec=codec))
    fake.append(TP, batch(60, 30, codec=codec))
    assert [age(fake, offset) for offset in range(6)] == [900.0, 800.0, 700.0, 60.0, 30.0, 0.0]


def test_time_of_the_log_and_none_at_all(fake: FakeCluster) -> None:
    fake.append(TP, batch(900, 800, log_append_time=True))
    fake.append(TP, batch(NOW_S + 1))  # a timestamp below 0: the producer gave none
    fake.append(TP, batch(-50))  # a producer's clock runs ahead
    assert [age(fake, offset) for offset in range(4)] == [800.0, 800.0, None, 0.0]


def test_markers_are_no_records(fake: FakeCluster) -> None:
    fake.append(TP, batch(900))
    fake.append(TP, marker(800))
    fake.append(TP, batch(700))
    fake.append(TP, marker(600))
    assert [age(fake, offset) for offset in range(4)] == [900.0, 700.0, 700.0, 0.0]


def test_what_retention_removed_is_passed_over(fake: FakeCluster) -> None:
    fake.first[TP] = 100
    fake.append(TP, batch(900))
    assert age(fake, 3) == 900.0
    assert fake.end(TP) == 101


def test_behind_the_end_and_an_answer_that_refuses(fake: FakeCluster) -> None:
    fake.append(TP, batch(900))
    assert age(fake, 5) == 0.0
    fake.fail(ApiKey.FETCH, [ErrorCode.TOPIC_AUTHORIZATION_FAILED])
    assert age(fake, 0) is None


def test_large_batches_come_one_by_one(fake: FakeCluster) -> None:
    tps = [TopicPartition("t", partition) for partition in range(3)]
    for number, tp in enumerate(tps):
        fake.append(tp, batch(100 + number, value=bytes(40_000)))
    found = asked(fake, *(Position(tp, 0) for tp in tps))
    assert found == {Position(tp, 0): 100.0 + number for number, tp in enumerate(tps)}


def test_groups_at_different_places_of_one_partition(fake: FakeCluster) -> None:
    for each in range(5):
        fake.append(TP, batch(1000 - each))
    positions = [Position(TP, offset) for offset in range(5)]
    assert asked(fake, *positions) == {Position(TP, offset): 1000.0 - offset for offset in range(5)}
    assert fake.count(ApiKey.FETCH) == 1  # what came for the first of them held the others


def test_many_partitions_are_asked_for_at_once(fake: FakeCluster) -> None:
    tps = [TopicPartition("t", partition) for partition in range(3)]
    for tp in tps:
        fake.append(tp, batch(10))
    assert set(asked(fake, *(Position(tp, 0) for tp in tps)).values()) == {10.0}
    assert fake.count(ApiKey.FETCH) == 2  # one for each leader


def test_a_leader_that_moves_is_looked_for_again(fake: FakeCluster) -> None:
    fake.append(TP, batch(900))
    fake.fail(ApiKey.FETCH, [ErrorCode.NOT_LEADER_OR_FOLLOWER])
    assert age(fake, 0) == 900.0
