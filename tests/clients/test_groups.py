"""Groups of Kafka's consumers 3.9.1 and 4.3.1: members come and go while records come; each record is taken once."""

import subprocess
from collections.abc import Callable

import pytest

from tests.support import peers, wire
from tests.support.brokers import Broker

PARTITIONS = 4
CONSUMER_GROUP_HEARTBEAT = 68
WAYS = ("eager", "cooperative", "consumer", "convert")
PROGRAM = str(peers.ROOT / "tests" / "clients" / "java" / "Groups.java")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("peer", ["kafka39", "kafka4"])
def test_members_come_and_go(peer: str, way: str, broker: Broker, new_topic: Callable[..., str]) -> None:
    reason = peers.unavailable(peer)
    if reason:
        pytest.skip(f"Apache Kafka's Java client: {reason}")
    if way in ("consumer", "convert") and CONSUMER_GROUP_HEARTBEAT not in wire.api_versions(broker.port):
        pytest.skip("the broker has no consumer protocol, as Kafka 3.9 with ZooKeeper has none")
    command = peers.java(peer, PROGRAM, [broker.bootstrap, new_topic(PARTITIONS), str(PARTITIONS), way])
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"ok {way}\n"
