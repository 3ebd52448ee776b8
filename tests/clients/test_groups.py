"""Groups of Kafka's consumers 3.9.1 and 4.3.1: members come and go while records come; each record is taken once."""

import subprocess
from collections.abc import Callable

import pytest

from tests.support import peers
from tests.support.brokers import Broker

PARTITIONS = 4
# Each way, and the consumer protocol in both versions: it has changed between them.
WAYS = [
    ("kafka39", "eager"),
    ("kafka39", "consumer"),
    ("kafka4", "cooperative"),
    ("kafka4", "consumer"),
    ("kafka4", "convert"),
]
PROGRAM = str(peers.ROOT / "tests" / "clients" / "java" / "Groups.java")


@pytest.mark.parametrize(("peer", "way"), WAYS)
def test_members_come_and_go(peer: str, way: str, broker: Broker, new_topic: Callable[..., str]) -> None:
    reason = peers.unavailable(peer)
    if reason:
        pytest.skip(f"Apache Kafka's Java client: {reason}")
    if broker.kind == "kafka39" and way in ("consumer", "convert"):
        pytest.skip("Kafka 3.9 with ZooKeeper has no consumer protocol")
    command = peers.java(peer, PROGRAM, [broker.bootstrap, new_topic(PARTITIONS), str(PARTITIONS), way])
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"ok {way}\n"
