"""The wrappers of what the engine does about following: a leader and a follower in one process.

What is fetched and how is tested in C (tests/c/test_fetcher*.c, test_followers.c)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pylog._engine import (
    FETCHER_CONNECTED,
    FETCHER_LOST,
    ROLE_FOLLOWER,
    UP_FETCHER,
    UP_FOLLOW,
    UP_ISR,
    FetcherConfig,
    ReplicaInfo,
)
from pylog.errors import ErrorCode, KafkaError
from tests.unit.pylog.engine_client import CONFIG, LEADER, Host, Hosted, batch

LEADS = LEADER._replace(leader_epoch=3, replicas=(1, 2), isr=(1, 2))
FOLLOWS = LEADS._replace(role=ROLE_FOLLOWER)


class Pair(NamedTuple):
    leader: Host
    follower: Host
    led: Hosted
    followed: Hosted

    def fetcher(self, port: int | None = None) -> int:
        return self.follower.engine.open_fetcher(
            FetcherConfig(
                leader_id=1,
                host="127.0.0.1",
                port=port or self.leader.port,
                client_id="broker-2-fetcher-0",
                replica_id=2,
                broker_epoch=52,
                max_wait_ms=20,
                min_bytes=1,
                max_bytes=10 << 20,
                partition_max_bytes=1 << 20,
                backoff_ms=10,
                receive_buffer_bytes=-1,
                connect_timeout_ms=10_000,
                request_timeout_ms=30_000,
                fetch_version=17,
            )
        )

    def await_end(self, offset: int) -> None:
        engine, number = self.follower.engine, self.followed.number
        self.follower.wait_for(lambda: engine.partition_info(number).high_watermark == offset)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    hosts = []
    for broker_id in (1, 2):
        directory = tmp_path / str(broker_id)
        directory.mkdir()
        hosts.append(Host(directory, CONFIG._replace(broker_id=broker_id)).start())
    leader, follower = hosts
    yield Pair(leader, follower, leader.host(state=LEADS), follower.host(state=FOLLOWS))
    follower.close()
    leader.close()


def test_follows_what_it_is_told(pair: Pair) -> None:
    engine = pair.follower.engine
    fetcher = pair.fetcher()
    assert engine.follow(fetcher, [pair.followed.number, 12345]) == [12345]
    with pair.leader.client() as client:
        assert client.produce(batch([b"a", b"b"]), acks=-1).error_code == 0  # waits for the follower
    up = pair.follower.next_upcall(UP_FETCHER)
    assert (up.token, up.a, up.error) == (fetcher, FETCHER_CONNECTED, 0)
    pair.await_end(2)
    engine.unfollow([pair.followed.number, 12345])
    assert engine.follow(fetcher, [pair.followed.number]) == []
    engine.publish(pair.followed.number, LEADS._replace(leader_id=2, leader_epoch=4))
    assert engine.follow(fetcher, [pair.followed.number]) == [pair.followed.number]
    engine.close_fetcher(fetcher)
    engine.close_fetcher(fetcher)


def test_replicas(pair: Pair) -> None:
    engine, number = pair.leader.engine, pair.led.number
    unheard = ReplicaInfo(2, True, False, -1, -1, -1, -1)
    assert engine.replicas(number) == [ReplicaInfo(1, True, False, 0, 0, 0, -1), unheard]
    engine.publish(number, LEADS._replace(isr=(1,), joining=(2,)))
    assert engine.replicas(number)[1] == unheard._replace(in_isr=False, joining=True)
    engine.publish(number, LEADS._replace(isr=(1,)))
    pair.follower.engine.follow(pair.fetcher(), [pair.followed.number])
    up = pair.leader.next_upcall(UP_ISR)
    assert (up.partition, up.a, up.b, up.token) == (number, 2, 1, 52)
    told = engine.replicas(number)[1]
    assert told._replace(lag_ms=0) == ReplicaInfo(2, False, True, 0, 0, 0, 52)
    many = tuple(range(1, 21))
    engine.publish(number, LEADS._replace(replicas=many))
    assert [replica.broker_id for replica in engine.replicas(number)] == list(many)
    with pytest.raises(KafkaError) as caught:
        pair.follower.engine.replicas(pair.followed.number)
    assert caught.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_tells_what_leaders_say(pair: Pair) -> None:
    pair.leader.engine.publish(pair.led.number, LEADS._replace(leader_epoch=4))
    engine, number = pair.follower.engine, pair.followed.number
    fetcher = pair.fetcher(port=1)
    engine.follow(fetcher, [number])
    lost = pair.follower.next_upcall(UP_FETCHER)
    assert (lost.token, lost.a) == (fetcher, FETCHER_LOST) and lost.error > 0
    engine.configure_fetcher(fetcher, "localhost", pair.leader.port, 53)
    up = pair.follower.next_upcall(UP_FOLLOW)
    assert (up.partition, up.token, up.error, up.a) == (number, fetcher, ErrorCode.FENCED_LEADER_EPOCH, 1)
    assert (up.offset, up.slot) == (0, 3)


def test_rates_and_racks(pair: Pair) -> None:
    """That they reach C; what they do is tested there."""
    number = pair.followed.number
    pair.leader.engine.publish(pair.led.number, LEADS._replace(isr=(1,)))
    pair.follower.engine.mark_throttled([number, 12345], leading=False, following=True)
    pair.follower.engine.throttle_replication(-1, 0)
    with pair.leader.client() as client:
        assert client.produce(batch([b"a"])).error_code == 0
        pair.follower.engine.follow(pair.fetcher(), [number])
        pair.await_end(1)  # nothing has been moved yet: the rate is not exceeded
        assert client.produce(batch([b"b"])).error_code == 0
        pair.await_end(2)  # it is in sync
        pair.leader.engine.publish_node(7, 1, "a", 1, "here")
        pair.leader.engine.publish_node(7, 2, "b", 2, "there")
        pair.leader.engine.publish(pair.led.number, LEADS)
        pair.leader.engine.select_by_rack(True)
        assert client.fetch(0, rack="there").preferred_read_replica == 2
        pair.leader.engine.select_by_rack(False)
        assert client.fetch(0, rack="there").preferred_read_replica == -1
