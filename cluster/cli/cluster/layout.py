"""A cluster's directory: which brokers there are, where they listen, where their files are.

What stays true: `cluster.json` is written before anything is started and only ever gets more brokers; a broker's
server.properties is written once and belongs to the user from then on.
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import NamedTuple

from cluster.cli.cluster.service import Service
from cluster.cli.errors import CommandError, UsageError

DEFAULT_BROKERS = 3
DEFAULT_BASE_PORT = 9092
DEFAULT_ZOOKEEPER_PORT = 2181
MAX_BROKERS = 50
_FILE = "cluster.json"
_CONNECT_S = 1.0


class Layout(NamedTuple):
    directory: Path
    brokers: int
    base_port: int
    zookeeper_port: int

    @property
    def ids(self) -> range:
        return range(1, self.brokers + 1)

    @property
    def bootstrap(self) -> str:
        return ",".join(self.address(each) for each in self.ids)

    @property
    def zookeeper_address(self) -> str:
        return f"localhost:{self.zookeeper_port}"

    @property
    def zookeeper(self) -> Service:
        return Service("ZooKeeper", self.directory / "zookeeper", "zookeeper.log")

    def broker(self, broker_id: int) -> Service:
        return Service(f"broker {broker_id}", self.directory / f"broker-{broker_id}", "broker.log")

    def port(self, broker_id: int) -> int:
        return self.base_port + broker_id - 1

    def address(self, broker_id: int) -> str:
        return f"localhost:{self.port(broker_id)}"


def read_layout(directory: str) -> Layout:
    """Raises CommandError when there is no cluster."""
    layout = _read(Path(directory).resolve())
    if layout is None:
        raise CommandError(f"there is no cluster in {directory}; `pylog cluster start` makes one")
    return layout


def plan_layout(directory: str, brokers: int | None, base_port: int | None, zookeeper_port: int | None) -> Layout:
    """What is there, perhaps with more brokers, or a new one; None: as it is, or the default. Nothing is written yet.

    Raises UsageError for what cannot be, CommandError when a new cluster asks for a port that is taken.
    """
    path = Path(directory).resolve()
    there = _read(path)
    for option, wanted, has in (
        ("--base-port", base_port, there and there.base_port),
        ("--zookeeper-port", zookeeper_port, there and there.zookeeper_port),
    ):
        if has is not None and wanted not in (None, has):
            raise UsageError(
                f"{option} {wanted}: the cluster in {directory} has {has}; another one needs another --dir"
            )
    if there is not None and brokers is not None and brokers < there.brokers:
        raise UsageError(f"--brokers {brokers}: the cluster in {directory} has {there.brokers}, and none is taken away")
    layout = Layout(
        path,
        brokers or (there.brokers if there else DEFAULT_BROKERS),
        there.base_port if there else base_port or DEFAULT_BASE_PORT,
        there.zookeeper_port if there else zookeeper_port or DEFAULT_ZOOKEEPER_PORT,
    )
    if layout.brokers > MAX_BROKERS or layout.port(layout.brokers) > 0xFFFF:
        raise UsageError(f"{layout.brokers} brokers from port {layout.base_port} on are too many")
    if layout.base_port <= layout.zookeeper_port <= layout.port(layout.brokers):
        raise UsageError(f"port {layout.zookeeper_port} cannot be ZooKeeper's and a broker's")
    if there is None:
        _check_port(layout.zookeeper_port, "--zookeeper-port")
        for broker_id in layout.ids:
            _check_port(layout.port(broker_id), "--base-port")
    return layout


def save_layout(layout: Layout) -> None:
    """Write what is planned, and the settings of brokers that have none."""
    if _read(layout.directory) != layout:
        _write(layout)
    for broker_id in layout.ids:
        write_properties(layout, broker_id)


def _check_port(port: int, option: str) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), _CONNECT_S):
        raise CommandError(f"something listens on port {port} already; choose another with {option}")


def properties_path(layout: Layout, broker_id: int) -> Path:
    return layout.broker(broker_id).directory / "server.properties"


def write_properties(layout: Layout, broker_id: int) -> None:
    """Only when there is none: what the user changed stays."""
    path = properties_path(layout, broker_id)
    if path.exists():
        return
    copies = min(3, layout.brokers)
    in_sync = min(2, max(1, copies - 1))
    settings = {
        "broker.id": broker_id,
        "listeners": f"PLAINTEXT://{layout.address(broker_id)}",
        "log.dirs": path.parent / "data",
        "zookeeper.connect": layout.zookeeper_address,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        # Not to wait long for what was killed, nor for partitions that nobody is left to take over.
        "zookeeper.session.timeout.ms": 6_000,
        "controlled.shutdown.retry.backoff.ms": 500,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def _read(directory: Path) -> Layout | None:
    path = directory / _FILE
    try:
        value = json.loads(path.read_bytes())
        return Layout(directory, int(value["brokers"]), int(value["base_port"]), int(value["zookeeper_port"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is damaged: {error}") from error


def _write(layout: Layout) -> None:
    layout.directory.mkdir(parents=True, exist_ok=True)
    path = layout.directory / _FILE
    aside = path.with_suffix(".tmp")
    value = {"brokers": layout.brokers, "base_port": layout.base_port, "zookeeper_port": layout.zookeeper_port}
    aside.write_text(json.dumps(value) + "\n")
    aside.rename(path)
