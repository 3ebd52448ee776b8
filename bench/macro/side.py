"""One of the two brokers under comparison, and the loads put on it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from bench.macro.rows import LoadRow, ProducerRow
from tests.support import confluent, peers
from tests.support.brokers import Broker, Kafka39Broker, PylogBroker

LOAD = peers.ROOT / "build" / "bench" / "load"
RDKAFKA = peers.ROOT / "build" / "bench" / "rdkafka"
SETTINGS = {
    # What a load wrote goes away soon after its topic, so that neither side fills the page cache for the other.
    "log.segment.delete.delay.ms": "0",
    "auto.create.topics.enable": "false",
}

Figures = dict[str, float]


class Side:
    """A broker that runs, and the name it goes by in tables."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.broker = broker
        self._topics = 0

    def cpu_seconds(self) -> float:
        """User and system time of the broker since its start, from its process clock (see clock_getcpuclockid)."""
        return time.clock_gettime(~self.broker.pid << 3 | 2)

    def memory_bytes(self) -> int:
        """Resident set."""
        status = Path(f"/proc/{self.broker.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    @contextmanager
    def topic(self, partitions: int = 1) -> Iterator[str]:
        self._topics += 1
        name = f"bench-{self._topics}"
        confluent.create_topic(self.broker.bootstrap, name, partitions)
        self.broker.wait_leaders([name])
        self._wait_serves(name)
        try:
            yield name
        finally:
            confluent.delete_topics(self.broker.bootstrap, [name])

    def _wait_serves(self, topic: str) -> None:
        """Kafka names itself the leader before its log is there."""
        consumer = confluent.assigned_consumer(self.broker.bootstrap, topic, 1)
        deadline = time.monotonic() + 30
        try:
            while True:
                try:
                    consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
                    return
                except KafkaException as error:
                    not_yet = error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION
                    if not not_yet or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)  # sleep: as a client backs off
        finally:
            consumer.close()

    def wait_deleted(self) -> None:
        """Until the files of deleted topics are gone, and with them what they held of the page cache."""
        deadline = time.monotonic() + 60
        while any(path.name.endswith("-delete") for path in self.broker.data.iterdir()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: deleted partitions are still there after 60 s")
            time.sleep(0.05)  # sleep: another process removes them

    def fill(self, topic: str, row: LoadRow, size_bytes: int) -> None:
        write = row._replace(mode="produce", connections=1, inflight=4)
        self.load(write, topic, run_s=300, requests=max(1, size_bytes // row.batch_bytes))

    def load(self, row: LoadRow, topic: str, *, run_s: float, warmup_s: float = 0, requests: int = 0) -> Figures:
        """Run the load generator and take its figures."""
        command = [str(LOAD), row.mode, "--port", str(self.broker.port), "--topic", topic, *row.arguments()]
        command += ["--pid", str(self.broker.pid), "--run-ms", str(int(run_s * 1000))]
        command += ["--warmup-ms", str(int(warmup_s * 1000))]
        if requests:
            command += ["--requests", str(requests)]
        return self._run(command, row.name, run_s + warmup_s + 60)

    def produce(self, row: ProducerRow) -> Figures:
        """All records of the row into a new topic; the driver has seen that they are there."""
        with self.topic(row.producers) as topic:
            command = [str(RDKAFKA), "--port", str(self.broker.port), "--topic", topic, *row.arguments()]
            return self._run([*command, "--pid", str(self.broker.pid)], row.name, 300)

    def _run(self, command: list[str], name: str, timeout_s: float) -> Figures:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {name}: {done.stderr.strip()}")
        figures: Figures = {name: value for name, value in json.loads(done.stdout).items() if name != "mode"}
        return figures


def ours(directory: Path) -> Side:
    return Side("pylog", PylogBroker(directory, SETTINGS))


def kafka(directory: Path) -> Side:
    return Side("kafka", Kafka39Broker(directory, SETTINGS, heap="1G"))
