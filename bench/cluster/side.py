"""One of the two clusters under comparison, and what is done to it."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # not in its __all__

from bench.cluster.rows import BROKERS, SESSION_MS, ReplicatedRow
from bench.macro.side import LOAD, Figures, Side
from tests.support import confluent, wire
from tests.support.brokers import Broker, Kafka39Broker, PylogBroker
from tests.support.cluster import Cluster
from tests.support.zookeeper import ZooKeeper

SETTINGS = {
    "zookeeper.session.timeout.ms": str(SESSION_MS),
    "min.insync.replicas": "1",
    # Kafka's own: the figures are about what users run.
    "replica.lag.time.max.ms": "30000",
    "replica.fetch.backoff.ms": "1000",
    "log.segment.delete.delay.ms": "0",
}
PATIENCE_S = 300.0
ASK_TIMEOUT_S = 30.0
TOPICS_OF_MANY = 10
_CREATE_S = 120.0
_LOOK_AGAIN_S = 0.05


class BigKafka(Kafka39Broker):
    """On a ZooKeeper that is not its own, with the heap that the figures are told with."""

    def launch(self):  # type: ignore[no-untyped-def]
        return Broker.launch(self)

    def wait_ready(self) -> None:
        Broker.wait_ready(self)


class BenchCluster(Cluster):
    def made(self, broker_id: int, kind: str) -> Broker:
        port = self.brokers[broker_id].port if broker_id in self.brokers else None
        settings = {**self._settings, "broker.id": str(broker_id)}
        directory = self._directory / f"broker-{broker_id}"
        if kind == "kafka39":
            return BigKafka(directory, settings, port=port, heap="1G")
        return PylogBroker(directory, settings, port=port)


class ClusterSide:
    """Three brokers by the name they go by in tables."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.zookeeper = ZooKeeper(directory / "zookeeper", tick_ms=500)
        kind = "kafka39" if name == "kafka" else "pylog"
        connect = f"{self.zookeeper.address}/bench"
        self.cluster = BenchCluster(directory, connect, (kind,) * BROKERS, SETTINGS)
        self._topics = 0

    def close(self) -> None:
        self.cluster.close()
        self.zookeeper.stop()

    # ------------------------------------------------------------------------------------------------- figures

    def _sides(self) -> list[Side]:
        return [Side(self.name, broker) for broker in self.cluster.brokers.values()]

    def cpu_seconds(self) -> float:
        """Of all three, since their starts."""
        return sum(side.cpu_seconds() for side in self._sides())

    def memory_megabytes(self) -> float:
        return sum(side.memory_bytes() for side in self._sides()) / 1e6

    # ------------------------------------------------------------------------------------------------- life

    def start_ms(self) -> float:
        """From the first exec to an answer of each broker that names all three and a controller."""
        began = time.monotonic()
        for broker in self.cluster.brokers.values():
            broker.launch()
        self.wait_everywhere([], lambda seen: len(seen.brokers) == BROKERS and seen.controller in seen.brokers)
        seconds = time.monotonic() - began
        for broker in self.cluster.brokers.values():
            broker.wait_ready()
        return seconds * 1000

    def stop(self) -> None:
        """All at once; the last of them cannot hand over what it leads."""
        for broker in self.cluster.brokers.values():
            broker.kill()

    def wait_everywhere(self, topics: list[str], holds: Callable[[wire.Cluster], bool]) -> None:
        """Until the condition holds in the eyes of every broker that runs."""
        deadline = time.monotonic() + PATIENCE_S
        for broker in [each for each in self.cluster.brokers.values() if each.running()]:
            while True:
                with contextlib.suppress(OSError):
                    if holds(ask(broker.port, topics)):
                        break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name}: broker on port {broker.port} does not get there")
                time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when they hear of something

    def wait_in_sync(self, topics: list[str], count: int) -> None:
        def all_are(seen: wire.Cluster) -> bool:
            isrs = [isr for topic in topics for isr in seen.isrs.get(topic, {}).values()]
            return len(isrs) == count and all(len(isr) == BROKERS for isr in isrs)

        self.wait_everywhere(topics, all_are)

    # ------------------------------------------------------------------------------------------------- topics

    def create(self, count: int, partitions: int) -> list[str]:
        """Topics one after the other, each in sync on all brokers when this returns."""
        names = [f"bench-{self._topics + number}" for number in range(count)]
        self._topics += count
        admin = confluent.admin(self.cluster.bootstrap)
        for name in names:
            made = admin.create_topics(
                [NewTopic(name, partitions, BROKERS)], operation_timeout=_CREATE_S, request_timeout=_CREATE_S
            )
            made[name].result(_CREATE_S)
        self.wait_in_sync(names, count * partitions)
        return names

    @contextmanager
    def topic(self) -> Iterator[str]:
        (name,) = self.create(1, 1)
        try:
            yield name
        finally:
            confluent.delete_topics(self.cluster.bootstrap, [name])

    # ------------------------------------------------------------------------------------------------- loads

    def replicate(self, row: ReplicatedRow, run_s: float = 0) -> Figures:
        """The row's load for its volume, or for a time; with the CPU until the followers have all of it."""
        with self.topic() as topic:
            leader = self.cluster.leader(topic)
            command = [str(LOAD), "produce", "--port", str(self.cluster[leader].port), "--topic", topic]
            command += [*row.arguments(), "--pid", str(self.cluster[leader].pid)]
            limit_s = run_s or PATIENCE_S
            command += ["--run-ms", str(int(limit_s * 1000))]
            if not run_s:
                command += ["--requests", str(row.volume_bytes // row.batch_bytes)]
            before = self.cpu_seconds()
            began = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s + 60, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{self.name}, {row.name}: {done.stderr.strip()}")
            self._wait_replicated(topic)
            figures: Figures = {
                key: value for key, value in json.loads(done.stdout).items() if not isinstance(value, str)
            }
            figures["cluster_cpu_seconds"] = self.cpu_seconds() - before
            figures["replicated_seconds"] = time.monotonic() - began
            return figures

    def _wait_replicated(self, topic: str) -> None:
        """Until the logs of all brokers are equally long."""
        deadline = time.monotonic() + PATIENCE_S
        while len({_log_bytes(broker.data / f"{topic}-0") for broker in self.cluster.brokers.values()}) > 1:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: the followers of {topic} do not catch up")
            time.sleep(_LOOK_AGAIN_S)  # sleep: files do not tell when they grow


def ask(port: int, topics: list[str]) -> wire.Cluster:
    """Metadata from a broker that may be busy with thousands of partitions."""
    return wire.metadata(port, topics, timeout_s=ASK_TIMEOUT_S)


def _log_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.log"))
