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
    ("kafka4", "static"),
]
JAVA = peers.ROOT / "tests" / "clients" / "java"


@pytest.mark.parametrize(("peer", "way"), WAYS)
def test_members_come_and_go(peer: str, way: str, broker: Broker, new_topic: Callable[..., str]) -> None:
    reason = peers.unavailable(peer)
    if reason:
        pytest.skip(f"Apache Kafka's Java client: {reason}")
    if broker.kind == "kafka39" and way in ("consumer", "convert", "static"):
        pytest.skip("Kafka 3.9 with ZooKeeper has no consumer protocol")
    words = [broker.bootstrap, new_topic(PARTITIONS), str(PARTITIONS), way]
    assert run(peer, "Groups.java", words) == f"ok {way}\n"


def test_members_read_what_fits_a_pattern(broker: Broker, fresh_name: Callable[[str], str]) -> None:
    reason = peers.unavailable("kafka4")
    if reason:
        pytest.skip(f"Apache Kafka's Java client: {reason}")
    if broker.kind == "kafka39":
        pytest.skip("Kafka 3.9 with ZooKeeper has no consumer protocol")
    assert run("kafka4", "Patterns.java", [broker.bootstrap, fresh_name("fits")]) == "ok\n"


def run(peer: str, program: str, words: list[str]) -> str:
    """What it printed."""
    command = peers.java(peer, str(JAVA / program), words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
