"""What becomes of brokers when ZooKeeper goes, comes back, or was never there."""

import os
import signal
import threading
from pathlib import Path

import pytest
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from cluster.broker.peer import Peer
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.clustered.chaos import BROKERS, TOPIC, Chaos
from tests.clustered.test_replication import create
from tests.support import confluent, zookeeper
from tests.support.brokers import PylogBroker
from tests.support.cluster import cluster
from tests.support.ports import free_port
from tests.support.proxy import Proxy, proxy_of
from tests.support.zookeeper import ZooKeeper

OVER = "session with ZooKeeper is over"
TREE_THREADS = 8
"""Of a broker: so many requests can wait for ZooKeeper at a time."""


@pytest.fixture
def own(tmp_path: Path) -> ZooKeeper:  # type: ignore[misc]
    """A ZooKeeper that a test may do anything to."""
    reason = zookeeper.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with zookeeper.running(tmp_path / "own") as server:
        yield server  # type: ignore[misc]


class Behind:
    """An ensemble as brokers see it through a proxy."""

    def __init__(self, ensemble: ZooKeeper, proxy: Proxy) -> None:
        self._ensemble = ensemble
        self._proxy = proxy

    def fresh(self) -> str:
        return self._ensemble.fresh().replace(self._ensemble.address, self._proxy.address)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def how_often(chaos: Chaos, said: str) -> list[int]:
    """How many lines of each broker's log have these words."""
    return [chaos.cluster[broker_id].log.read_text().count(said) for broker_id in BROKERS]


def leaders(chaos: Chaos) -> list[int]:
    return [chaos.cluster.leader(TOPIC, partition) for partition in range(4)]


@pytest.mark.timeout(180)
def test_an_ensemble_that_restarts_is_hardly_noticed(tmp_path: Path, own: ZooKeeper) -> None:
    """Its sessions live on, and so do the controller and all leaders."""
    with Chaos(tmp_path, own, None, session_timeout_ms=10_000) as chaos:
        before = chaos.cluster.controller_id(), leaders(chaos)
        own.stop()
        chaos.go_on()
        pause(2)
        own.start()
        chaos.recover()
        assert (chaos.cluster.controller_id(), leaders(chaos)) == before
        assert how_often(chaos, OVER) == [0, 0, 0]
        chaos.check()


@pytest.mark.timeout(180)
def test_an_outage_longer_than_sessions(tmp_path: Path, own: ZooKeeper) -> None:
    """Leaders go on serving while it lasts; then all brokers register anew. An ensemble that is merely stopped may find
    their requests before it finds their time over."""
    with proxy_of(own.address) as proxy, Chaos(tmp_path, Behind(own, proxy), None, session_timeout_ms=3000) as chaos:
        proxy.cut(refuse=True)
        for _ in range(4):
            pause(2)
            chaos.go_on()
        assert how_often(chaos, "Resigned") == [0, 0, 0]
        proxy.heal()
        chaos.recover()
        assert how_often(chaos, OVER) == [1, 1, 1]
        chaos.check()


@pytest.mark.timeout(180)
def test_an_ensemble_that_comes_and_goes(tmp_path: Path, own: ZooKeeper) -> None:
    """Sessions end while brokers are about to register anew."""
    with Chaos(tmp_path, own, None, session_timeout_ms=1000) as chaos:
        for seconds in (0.05, 0.1, 0.2, 0.4, 0.8):
            os.kill(own.process.pid, signal.SIGSTOP)
            pause(1.5)
            os.kill(own.process.pid, signal.SIGCONT)
            pause(seconds)
        chaos.recover()
        chaos.check()


@pytest.mark.timeout(120)
def test_a_broker_is_back_before_its_old_session_has_ended(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """It waits, where Kafka 3.9 dies, and is one of the cluster again."""
    connect = ensemble.fresh()
    with cluster(tmp_path, connect, "pylog", "pylog", "pylog", zookeeper_session_timeout_ms="6000") as brokers:
        victim = brokers.controller_id()
        brokers[victim].kill()
        brokers[victim].start()
        assert "belongs to session" in brokers[victim].log.read_text()
        brokers.wait(lambda seen: sorted(seen.brokers) == [1, 2, 3] and seen.controller > 0, asked=brokers[victim])


@pytest.mark.timeout(120)
def test_settings_that_changed_while_a_broker_had_no_session(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """Its watches went with the session that is over, so nobody tells it of them."""
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog", replica_lag_time_max_ms="30000") as brokers:
        create(brokers, "orders", partitions=1)
        victim = brokers.leader("orders")
        os.kill(brokers[victim].pid, signal.SIGSTOP)
        try:
            other = brokers[victim % 3 + 1]
            brokers.wait(lambda seen: victim not in seen.brokers, asked=other)
            admin = AdminClient({"bootstrap.servers": other.bootstrap})  # one that never heard of the stopped broker
            small = ConfigEntry("max.message.bytes", "300", incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ResourceType.TOPIC, "orders", incremental_configs=[small])
            admin.incremental_alter_configs([resource])[resource].result(30)
        finally:
            os.kill(brokers[victim].pid, signal.SIGCONT)
        brokers.wait_in_sync("orders")
        admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition("orders", 0)]).result(30)
        brokers.wait(lambda seen: seen.topics["orders"] == (0, {0: victim}), ["orders"], asked=brokers[victim])
        with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
            confluent.produce_all(brokers.bootstrap, "orders", 0, [b"x" * 1000])


@pytest.mark.timeout(120)
def test_requests_that_wait_for_zookeeper_have_an_end(tmp_path: Path, own: ZooKeeper) -> None:
    """Whoever asks is told that it takes too long; what was not begun by then is not carried out later."""
    settings = {"request_timeout_ms": "1000", "zookeeper_session_timeout_ms": "12000"}
    with cluster(tmp_path, own.fresh(), "pylog", "pylog", default_replication_factor="1", **settings) as brokers:
        create(brokers, "orders", partitions=1, factor=1)
        elsewhere = brokers.leader("orders") % 2 + 1
        own.stop()
        with Peer("127.0.0.1", brokers[brokers.controller_id()].port, "test", 20_000) as peer:
            made = [
                peer.send(
                    m.CreateTopicsRequest(
                        topics=[m.CreateTopicsRequest.CreatableTopic(name=f"late-{number}", num_partitions=1)],
                        timeout_ms=60_000,
                    ),
                    m.CreateTopicsResponse,
                )
                for number in range(TREE_THREADS + 4)
            ]
            codes = {peer.receive(each).topics[0].error_code for each in made}
            assert codes == {ErrorCode.REQUEST_TIMED_OUT}
            part = m.AlterPartitionReassignmentsRequest.ReassignablePartition(partition_index=0, replicas=[elsewhere])
            topic = m.AlterPartitionReassignmentsRequest.ReassignableTopic(name="orders", partitions=[part])
            moved = peer.request(
                m.AlterPartitionReassignmentsRequest(topics=[topic]), m.AlterPartitionReassignmentsResponse
            )
            assert moved.error_code == ErrorCode.REQUEST_TIMED_OUT
            listed = peer.request(
                m.ListPartitionReassignmentsRequest(topics=None), m.ListPartitionReassignmentsResponse
            )
            assert listed.error_code == ErrorCode.REQUEST_TIMED_OUT
        own.start()
        brokers.wait(lambda seen: seen.topics["orders"] == (0, {0: elsewhere}), ["orders"])
        create(brokers, "on-time", partitions=1, factor=1)
        topics = set(AdminClient({"bootstrap.servers": brokers.bootstrap}).list_topics(timeout=30).topics)
        assert {f"late-{number}" for number in range(TREE_THREADS, TREE_THREADS + 4)}.isdisjoint(topics)


def test_no_zookeeper_to_start_with(tmp_path: Path) -> None:
    """One line that says where nobody answered, and no broker."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"zookeeper.connect": f"{address}/away", "zookeeper.connection.timeout.ms": "600"}
    with PylogBroker(tmp_path, settings) as broker:
        process = broker.launch()
        assert process.wait(20) == 1
        assert list(process.lines) == [
            f"pylog server: zookeeper.connect: {address}/away: no ZooKeeper server answered within 0.6 s "
            "(connection refused); is ZooKeeper running there?"
        ]
