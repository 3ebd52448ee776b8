"""Another broker, asked where its partitions begin and end and what is in them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.broker.metrics.lag import Lags
from cluster.broker.metrics.leaders import READ_AT_ONCE_BYTES, Elsewhere
from cluster.cli.offsets import TopicPartition
from cluster.coordinator.group_figures import CLASSIC, GroupSeen
from cluster.coordinator.offsets import Committed
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.records import NewRecord, RecordBatchBuilder
from tests.support.ports import free_port
from tests.unit.cluster.broker.metrics.stand import Stand, stands
from tests.unit.cluster.cli.fake_cluster import FakeCluster

NOW_S = 1_800_000_000


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOW_S))


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster({"t": 3}) as running:
        yield running


@pytest.fixture
def leader(fake: FakeCluster) -> Iterator[Elsewhere]:
    found = Elsewhere(fake.brokers[0].host, fake.brokers[0].port, "test")
    yield found
    found.close()


def batch(*ages_s: int, value: bytes = b"v") -> bytes:
    builder = RecordBatchBuilder()
    data = builder.build([NewRecord((NOW_S - age_s) * 1000, None, value) for age_s in ages_s])
    builder.close()
    return data


def behind(group_id: str = "g", **offsets: int) -> GroupSeen:
    """A group, by its offsets in p0, p1, … of t."""
    committed = {("t", int(name[1:])): Committed(offset, -1, "", 0, -1, 0) for name, offset in offsets.items()}
    return GroupSeen(group_id, CLASSIC, "Empty", 0, committed)


def lags(leader: Elsewhere, *groups: GroupSeen) -> list[Stand]:
    return stands(Lags().of(groups, {("t", partition): leader for partition in range(3)}))


def test_bounds(fake: FakeCluster, leader: Elsewhere) -> None:
    fake.first[TopicPartition("t", 0)] = 5
    fake.append(TopicPartition("t", 0), batch(90, 80))
    assert leader.bounds([("t", 0), ("t", 1)]) == {("t", 0): (5, 7), ("t", 1): (0, 0)}


def test_lag_in_records_and_seconds(fake: FakeCluster, leader: Elsewhere) -> None:
    fake.append(TopicPartition("t", 0), batch(90, 80, 70))
    fake.append(TopicPartition("t", 1), batch(50))
    assert lags(leader, behind(p0=1, p1=0, p2=0), behind("h", p0=2)) == [
        Stand("g", "t", 0, 1, 2, 80.0),
        Stand("g", "t", 1, 0, 1, 50.0),
        Stand("g", "t", 2, 0, 0, 0.0),
        Stand("h", "t", 0, 2, 1, 70.0),
    ]
    assert fake.count(ApiKey.FETCH) == 2  # a Fetch names a partition once


def test_large_batches_have_answers_of_their_own(fake: FakeCluster, leader: Elsewhere) -> None:
    for partition in range(3):
        fake.append(TopicPartition("t", partition), batch(90 - partition, value=bytes(2 * READ_AT_ONCE_BYTES)))
    assert [lag.seconds for lag in lags(leader, behind(p0=0, p1=0, p2=0))] == [90, 89, 88]


def test_a_partition_that_is_refused_is_not_known(fake: FakeCluster, leader: Elsewhere) -> None:
    fake.append(TopicPartition("t", 0), batch(90))
    fake.append(TopicPartition("t", 1), batch(80))
    fake.move(TopicPartition("t", 0), 1)
    assert lags(leader, behind(p0=0, p1=0)) == [Stand("g", "t", 0, 0, None, None), Stand("g", "t", 1, 0, 1, 80.0)]


def test_a_fetch_that_is_refused(fake: FakeCluster, leader: Elsewhere) -> None:
    fake.append(TopicPartition("t", 0), batch(90))
    fake.fail(ApiKey.FETCH, [ErrorCode.NOT_LEADER_OR_FOLLOWER])
    assert lags(leader, behind(p0=0)) == [Stand("g", "t", 0, 0, 1, None)]


def test_a_broker_that_goes_is_not_asked_again(fake: FakeCluster, leader: Elsewhere) -> None:
    fake.append(TopicPartition("t", 0), batch(90))
    fake.lose_answers(ApiKey.FETCH, 1)
    assert lags(leader, behind(p0=0, p1=0), behind("h", p0=0)) == [
        Stand("g", "t", 0, 0, 1, None),
        Stand("g", "t", 1, 0, 0, 0.0),
        Stand("h", "t", 0, 0, 1, None),
    ]
    assert fake.count(ApiKey.FETCH) == 1


def test_nobody_there() -> None:
    leader = Elsewhere("127.0.0.1", free_port(), "test")
    assert leader.bounds([("t", 0)]) == {}
    assert leader.read({("t", 0): 0}) == {}
    leader.close()
