"""One of the two brokers under comparison, and the loads put on it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.macro.rows import LoadRow, ProducerRow
from tests.support import confluent, peers
from tests.support.brokers import Broker, Kafka39Broker, PylogBroker

LOAD = peers.ROOT / "build" / "bench" / "load"
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
        try:
            yield name
        finally:
            confluent.delete_topics(self.broker.bootstrap, [name])

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
        done = subprocess.run(command, capture_output=True, text=True, timeout=run_s + warmup_s + 60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {row.name}: {done.stderr.strip()}")
        figures: Figures = {name: value for name, value in json.loads(done.stdout).items() if name != "mode"}
        return figures

    def produce_lines(self, row: ProducerRow, lines: Path) -> Figures:
        """All of the file by each producer, each into its own partition."""
        with self.topic(row.producers) as topic:
            before, started = self.cpu_seconds(), time.monotonic()
            children = [
                subprocess.Popen(self._kcat(row, topic, partition, lines)) for partition in range(row.producers)
            ]
            codes = [child.wait(300) for child in children]
            seconds = time.monotonic() - started
            if any(codes):
                raise RuntimeError(f"{self.name}: kcat ended with {codes}")
            records = row.records * row.producers
            return {"records": records, "seconds": seconds, "broker_cpu_seconds": self.cpu_seconds() - before}

    def _kcat(self, row: ProducerRow, topic: str, partition: int, lines: Path) -> list[str]:
        settings = {
            "linger.ms": row.linger_ms,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
        options = [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
        where = ["-b", self.broker.bootstrap, "-t", topic, "-p", str(partition)]
        return ["kcat", "-P", *where, *options, "-l", str(lines)]


def ours(directory: Path) -> Side:
    return Side("pylog", PylogBroker(directory, SETTINGS))


def kafka(directory: Path) -> Side:
    return Side("kafka", Kafka39Broker(directory, SETTINGS, heap="1G"))


def write_lines(path: Path, row: ProducerRow) -> None:
    """The records kcat sends: letters that differ from line to line."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789" * (row.record_bytes // 36 + 2)
    with path.open("w") as out:
        for number in range(row.records):
            start = number % 36
            out.write(f"{number:010d}{alphabet[start : start + row.record_bytes - 10]}\n")
