"""A broker process on a port of its own: ours, or Apache Kafka as the oracle, 3.9.1 with its ZooKeeper or 4.3.1.

All have the same face, so that a test written against Kafka runs against ours without change:

    with start_broker(tmp_path, {"num.partitions": "4"}) as broker:
        broker.bootstrap; broker.kill(); broker.start()

PYLOG_TEST_BROKER chooses: `pylog` (when not set), `kafka39` or `kafka4`. The data directory outlives kill and stop.
"""

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support import peers, wire
from tests.support.ports import free_port
from tests.support.process import ProcessError, ServerProcess

START_TIMEOUT_S = 90
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any: a KRaft directory is formatted with one

# Small and quick, for both kinds of broker.
TEST_SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "10000",
}


class Broker(ABC):
    """One broker on 127.0.0.1, unless `host` and `prefix`, which runs its command, say another network. `data` is its
    only log directory. Not running after construction: call `start`."""

    kind: str
    ready_line: str

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None, *, port: int | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = port or free_port()
        self.settings = {**TEST_SETTINGS, **(settings or {})}
        self.host = "127.0.0.1"
        self.prefix: Sequence[str] = ()
        self._process: ServerProcess | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def process(self) -> ServerProcess:
        if self._process is None:
            raise ProcessError("the broker was not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @abstractmethod
    def _command(self) -> list[str]: ...

    def _settings(self) -> dict[str, str]:
        listener = f"PLAINTEXT://{self.host}:{self.port}"
        # the tests' timestamps are of any year: by default nothing of theirs grows too old while they run
        kept = {"log.retention.ms": "-1"}
        return {"broker.id": "0", "listeners": listener, "log.dirs": str(self.data), **kept, **self.settings}

    def _write_properties(self) -> Path:
        path = self.directory / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        return path

    def launch(self) -> ServerProcess:
        """Start the process and do not wait for it."""
        self._process = ServerProcess([*self.prefix, *self._command()], log=self.log, cwd=self.directory)
        return self._process

    def start(self) -> Self:
        """Start, and return when the broker has said that it is ready."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.process.kill()
            raise
        return self

    def wait_ready(self) -> None:
        self.process.wait_line(self.ready_line, START_TIMEOUT_S)

    def running(self) -> bool:
        return self._process is not None and self._process.running()

    def wait_cluster(self, topics: list[str], condition: Callable[[wire.Cluster], bool]) -> wire.Cluster:
        """Ask for metadata until the condition holds."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            cluster = wire.metadata(self.port, topics, self.host)
            if condition(cluster):
                return cluster
            if time.monotonic() > deadline:
                raise ProcessError(f"after {START_TIMEOUT_S} s the cluster is still {cluster}")

    def wait_leaders(self, topics: list[str]) -> None:
        """Until every partition of the topics has a leader."""

        def led(cluster: wire.Cluster) -> bool:
            return all(error == 0 and min(leaders.values()) >= 0 for error, leaders in cluster.topics.values())

        self.wait_cluster(topics, led)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def close(self) -> None:
        """Whatever state it is in: no process of it is left."""
        if self._process is not None:
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PylogBroker(Broker):
    """Ours, started as a user starts it."""

    kind = "pylog"
    ready_line = r"(?i)\bready\b"

    def _command(self) -> list[str]:
        command = Path(sys.executable).with_name("pylog")
        return [str(command), "server", str(self._write_properties())]


class Kafka39Broker(Broker):
    """Apache Kafka 3.9.1 in ZooKeeper mode. Its ZooKeeper lives from the first start to `close`.

    heap: of the broker's JVM; a benchmark wants the 1G that Kafka ships with.
    """

    kind = "kafka39"
    ready_line = r"\[KafkaServer id=\d+\] started"

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        heap: str = "512M",
    ) -> None:
        super().__init__(directory, settings, port=port)
        self._heap = heap
        self._zookeeper_port = free_port()
        self._zookeeper: ServerProcess | None = None

    def start_zookeeper(self) -> None:
        """Before `start` only where the tree has to be written first."""
        directory = self.directory / "zookeeper"
        directory.mkdir(exist_ok=True)
        properties = directory / "zookeeper.properties"
        properties.write_text(
            f"dataDir={directory / 'data'}\nclientPort={self._zookeeper_port}\nclientPortAddress=127.0.0.1\n"
            "maxClientCnxns=0\nadmin.enableServer=false\ntickTime=500\n"
        )
        command = peers.java(
            "kafka39",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            [str(properties)],
            heap="128M",
            server=True,
        )
        self._zookeeper = ServerProcess(command, log=directory / "zookeeper.log")
        self._zookeeper.wait_line("PrepRequestProcessor .*started", START_TIMEOUT_S)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not wire.zookeeper_serves(self._zookeeper_port):
            if time.monotonic() > deadline:
                raise ProcessError(f"ZooKeeper does not serve within {START_TIMEOUT_S} s, see {directory}")

    def create_nodes(self, nodes: Mapping[str, str]) -> None:
        """Persistent nodes, parents first, as path → data without blanks, through ZooKeeper's own shell."""
        shell = peers.java(
            "kafka39", "org.apache.zookeeper.ZooKeeperMain", ["-server", f"127.0.0.1:{self._zookeeper_port}"]
        )
        commands = "".join(f"create {path} {data}\n" for path, data in nodes.items()) + "quit\n"
        done = subprocess.run(shell, input=commands, text=True, capture_output=True, timeout=60, check=False)
        missing = [path for path in nodes if f"Created {path}\n" not in done.stdout + done.stderr]
        if missing:
            raise ProcessError(f"not created: {missing}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")

    def _command(self) -> list[str]:
        return peers.java("kafka39", "kafka.Kafka", [str(self._write_properties())], heap=self._heap, server=True)

    def _settings(self) -> dict[str, str]:
        # A killed broker's node goes with its session: a short one, so that the next start need not wait for it.
        zookeeper = {
            "zookeeper.connect": f"127.0.0.1:{self._zookeeper_port}",
            "zookeeper.session.timeout.ms": "2000",
            "zookeeper.connection.timeout.ms": "18000",
        }
        return {**zookeeper, **super()._settings()}

    def launch(self) -> ServerProcess:
        if self._zookeeper is None:
            self.start_zookeeper()
        return super().launch()

    def wait_ready(self) -> None:
        """Ready is more than Kafka's line: after a kill there is no controller until the dead broker's session ends."""
        super().wait_ready()
        self.wait_cluster([], lambda cluster: cluster.controller in cluster.brokers)

    def close(self) -> None:
        super().close()
        if self._zookeeper is not None:
            self._zookeeper.kill()


class Kafka4Broker(Broker):
    """Apache Kafka 4.3.1, one node that is broker and controller. Its directory is formatted at the first start."""

    kind = "kafka4"
    ready_line = r"\[KafkaRaftServer nodeId=\d+\] Kafka Server started"

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        heap: str = "512M",
    ) -> None:
        super().__init__(directory, settings, port=port)
        self._heap = heap
        self._controller_port = free_port()

    def _settings(self) -> dict[str, str]:
        settings = super()._settings()
        node, listeners = settings.pop("broker.id"), settings.pop("listeners")
        controller = f"127.0.0.1:{self._controller_port}"
        kraft = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": f"{node}@{controller}",
            "listeners": f"{listeners},CONTROLLER://{controller}",
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        return {**kraft, **settings}

    def _command(self) -> list[str]:
        return peers.java("kafka4", "kafka.Kafka", [str(self._write_properties())], heap=self._heap, server=True)

    def launch(self) -> ServerProcess:
        if not (self.data / "meta.properties").exists():
            self._format()
        return super().launch()

    def _format(self) -> None:
        words = ["format", "-t", CLUSTER_ID, "-c", str(self._write_properties())]
        tool = peers.java("kafka4", "kafka.tools.StorageTool", words)
        done = subprocess.run(tool, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise ProcessError(f"not formatted: {done.stdout[-1000:]}{done.stderr[-2000:]}")

    def wait_ready(self) -> None:
        super().wait_ready()
        self.wait_cluster([], lambda cluster: bool(cluster.brokers))


KINDS: dict[str, type[Broker]] = {"pylog": PylogBroker, "kafka39": Kafka39Broker, "kafka4": Kafka4Broker}


def chosen_kind() -> str:
    kind = os.environ.get("PYLOG_TEST_BROKER", "pylog")
    if kind not in KINDS:
        raise ValueError(f"PYLOG_TEST_BROKER is {kind!r}, not one of {', '.join(KINDS)}")
    return kind


def unavailable() -> str | None:
    """Why the chosen broker cannot be started here, or None."""
    kind = chosen_kind()
    return None if kind == "pylog" else peers.unavailable(kind)


def new_broker(directory: Path, settings: Mapping[str, str] | None = None) -> Broker:
    return KINDS[chosen_kind()](directory, settings)


def start_broker(directory: Path, settings: Mapping[str, str] | None = None) -> Broker:
    """The chosen broker, ready. Use it in a `with`."""
    broker = new_broker(directory, settings)
    try:
        return broker.start()
    except BaseException:
        broker.close()
        raise


def remove(directory: Path) -> None:
    """Test data can be gigabytes; pytest would keep three runs of it."""
    shutil.rmtree(directory, ignore_errors=True)
