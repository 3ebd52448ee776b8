"""Kafka Streams with exactly_once_v2 counts words while it and its broker are killed; each is counted 1, 2, 3, …"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import brokers, confluent, peers
from tests.support.brokers import Broker
from tests.support.process import ServerProcess

PARTITIONS = 4
WORDS = [f"word-{number}" for number in range(50)]
LINES = 2000
LINE_WORDS = 5
ROUNDS = 3
ROUNDS_MAX = 12  # until a transaction is struck
APPLICATION = "counter"
RUNNING_S = 60.0
COUNTED_S = 100.0
PROGRAM = str(peers.ROOT / "tests" / "clients" / "java" / "StreamsCount.java")
SETTINGS = {
    "transaction.state.log.num.partitions": "3",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "auto.create.topics.enable": "false",
}


class Counts:
    """What COUNTS shows to a reader of committed records: every number of every word, in its order."""

    def __init__(self, broker: Broker, topic: str) -> None:
        config: dict[str, str | int | bool] = {"isolation.level": "read_committed", "log_level": 0}
        self._consumer = confluent.assigned_consumer(broker.bootstrap, topic, PARTITIONS, **config)
        self.seen: Counter[str] = Counter()

    def wait(self, total: int) -> None:
        deadline = time.monotonic() + COUNTED_S
        while self.seen.total() < total:
            left = deadline - time.monotonic()
            assert left > 0, f"{total - self.seen.total()} of {total} counts are missing: {self.seen}"
            message = self._consumer.poll(min(left, 1))
            if message is None or message.error() is not None:
                continue
            word = (message.key() or b"").decode()
            expected = self.seen[word] + 1
            assert int(message.value() or b"") == expected, f"{word} is {message.value()!r} after {expected - 1}"
            self.seen[word] = expected

    def close(self) -> None:
        self._consumer.close()


def written(broker: Broker, topic: str) -> int:
    """How many records there are, those of aborted transactions too."""
    config: dict[str, str | int | bool] = {"isolation.level": "read_uncommitted", "enable.partition.eof": True}
    consumer = confluent.assigned_consumer(broker.bootstrap, topic, PARTITIONS, **config)
    count = ended = 0
    while ended < PARTITIONS:
        message = consumer.poll(COUNTED_S)
        assert message is not None, f"nothing more after {count} records"
        if message.error() is None:
            count += 1
        else:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            ended += 1
    consumer.close()
    return count


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    with brokers.start_broker(tmp_path / "broker", SETTINGS) as running:
        yield running
    brokers.remove(tmp_path / "broker")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("peer", ["kafka39", "kafka4"])
def test_words_are_counted_once(peer: str, own_broker: Broker, tmp_path: Path) -> None:
    reason = peers.unavailable(peer)
    if reason:
        pytest.skip(f"Kafka Streams: {reason}")
    chance = random.Random(peer)
    told: Counter[str] = Counter()
    for topic in ("lines", "counts"):
        confluent.create_topic(own_broker.bootstrap, topic, PARTITIONS)
    words = [own_broker.bootstrap, APPLICATION, "lines", "counts", str(tmp_path / "state")]
    command = peers.java(peer, PROGRAM, words)
    counts = Counts(own_broker, "counts")

    def start() -> ServerProcess:
        application = ServerProcess(command, log=tmp_path / "streams.log")
        application.wait_line("^running$", RUNNING_S)
        return application

    def tell() -> None:
        for partition in range(PARTITIONS):
            lines = [chance.choices(WORDS, k=LINE_WORDS) for _ in range(LINES // ROUNDS // PARTITIONS)]
            told.update(word for line in lines for word in line)
            confluent.produce_all(own_broker.bootstrap, "lines", partition, (" ".join(line).encode() for line in lines))

    application = start()
    try:
        tell()
        counts.wait(1)
        own_broker.kill()
        own_broker.start()
        for each in range(ROUNDS_MAX):
            before = told.total()
            tell()
            counts.wait(before + 1)
            application.kill()
            application = start()
            counts.wait(told.total())
            if each + 2 >= ROUNDS and written(own_broker, "counts") > told.total():
                break
        else:
            raise AssertionError("no transaction was struck")
        assert counts.seen == told
        assert application.running(), "\n".join(application.lines)
        assert application.stop() == 143
    finally:
        application.kill()
        counts.close()
