"""Kafka Connect in distributed mode carries lines from file to topic to file, through kills of worker and broker."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import brokers, confluent, peers
from tests.support.brokers import Broker
from tests.support.connect import Worker

PEER = "kafka4"
TOPIC = "lines"
# Six transactions: the reader takes 2000 lines at a time. What it has in its buffer behind these waits until the file
# grows; hence no round number.
STAGE = 11_111
ARRIVE_S = 120.0
SETTINGS = {
    "transaction.state.log.num.partitions": "3",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "auto.create.topics.enable": "false",
}


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    reason = brokers.unavailable() or peers.unavailable(PEER)
    if reason:
        pytest.skip(f"Kafka Connect: {reason}")
    with brokers.start_broker(tmp_path / "broker", SETTINGS) as running:
        yield running
    brokers.remove(tmp_path / "broker")


class Files:
    """The file that is read, and the one that is written at the other end."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "source.txt"
        self.sink = directory / "sink.txt"
        self.source.touch()
        self.lines: list[str] = []

    def append(self, count: int) -> None:
        more = [f"line {number} of the file" for number in range(len(self.lines), len(self.lines) + count)]
        self.lines += more
        with self.source.open("a") as file:
            file.write("".join(f"{line}\n" for line in more))

    def arrived(self) -> list[str]:
        """Whole lines."""
        return self.sink.read_text().split("\n")[:-1] if self.sink.exists() else []

    def wait(self, count: int, worker: Worker) -> None:
        """Until so many different lines are at the other end."""
        deadline = time.monotonic() + ARRIVE_S
        while len(set(self.arrived())) < count:
            assert worker.process.running(), "\n".join(worker.process.lines)
            assert time.monotonic() < deadline, (
                f"{len(set(self.arrived()))} of {count} lines arrived; "
                f"reader {worker.states('reader')}, writer {worker.states('writer')}\n"
                + "\n".join(worker.process.lines)
            )
            time.sleep(0.1)  # sleep: a file tells nobody that it grew


def read_to_end(broker: Broker) -> list[str]:
    """What a reader of committed records is given up to the end."""
    config: dict[str, str | int | bool] = {"isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = confluent.assigned_consumer(broker.bootstrap, TOPIC, 1, **config)
    lines: list[str] = []
    while True:
        message = consumer.poll(ARRIVE_S)
        assert message is not None, f"nothing more after {len(lines)} lines"
        if message.error() is not None:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            consumer.close()
            return lines
        lines.append((message.value() or b"").decode())


@pytest.mark.timeout(300)
def test_no_line_is_lost(own_broker: Broker, tmp_path: Path) -> None:
    files = Files(tmp_path)
    confluent.create_topic(own_broker.bootstrap, TOPIC)
    package = "org.apache.kafka.connect.file."
    with Worker(PEER, own_broker.bootstrap, tmp_path) as worker:
        reader = {"connector.class": package + "FileStreamSourceConnector", "file": str(files.source), "topic": TOPIC}
        worker.configure("reader", {**reader, "exactly.once.support": "required"})
        writer = {"connector.class": package + "FileStreamSinkConnector", "file": str(files.sink), "topics": TOPIC}
        committed = {"consumer.override.isolation.level": "read_committed"}
        worker.configure("writer", {**writer, **committed})
        files.append(STAGE)
        files.wait(1, worker)
        worker.kill()
        worker.start()
        files.wait(STAGE, worker)

        files.append(STAGE)
        files.wait(STAGE + 1, worker)
        own_broker.kill()
        own_broker.start()
        files.wait(2 * STAGE, worker)

        worker.stop()
        files.append(STAGE)
        worker.start()
        files.wait(3 * STAGE, worker)
        assert worker.states("reader") == worker.states("writer") == ["RUNNING", "RUNNING"]

    assert read_to_end(own_broker) == files.lines
    # a file is no transaction: what the writer had not committed when it was killed it wrote again
    assert list(dict.fromkeys(files.arrived())) == files.lines
