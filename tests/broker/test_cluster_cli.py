"""`pylog cluster`: three brokers and ZooKeeper on this machine, one of them killed, all stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli.cluster import zookeeper
from cluster.cli.cluster.layout import properties_path, read_layout
from tests.support.brokers import unavailable
from tests.support.ports import free_port, free_ports

PYLOG = Path(sys.executable).with_name("pylog")
TIMEOUT_S = 100


def run(*words: str, code: int = 0, cwd: Path | None = None, stdin: str = "") -> str:
    done = subprocess.run(
        [PYLOG, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=cwd, input=stdin
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def three_ports() -> int:
    """The first of three in a row that nobody listens on."""
    while True:
        ports = free_ports(3)
        if ports == list(range(ports[0], ports[0] + 3)):
            return ports[0]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    if unavailable() is not None:
        pytest.skip("only about ours")
    if zookeeper.find_class_path() is None:
        pytest.skip(zookeeper.MISSING)
    yield tmp_path / "c"
    if (tmp_path / "c" / "cluster.json").exists():
        run("cluster", "stop", "--dir", str(tmp_path / "c"), "--timeout", "20")


def states(text: str) -> dict[str, str]:
    """What runs, by its name."""
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return {row[0]: row[3] for row in rows}


def test_a_cluster(directory: Path) -> None:
    where = ("--dir", str(directory))
    ports = ("--base-port", str(three_ports()), "--zookeeper-port", str(free_port()))
    said = run("cluster", "start", "--brokers", "3", *ports, *where).splitlines()
    layout = read_layout(str(directory))
    assert said[0].startswith("ZooKeeper 3.") and said[-1] == f"the cluster is ready: -b {layout.bootstrap}"
    status = run("cluster", "status", *where)
    assert set(states(status)) == {"zookeeper", "broker 1", "broker 2", "broker 3"}
    assert status.splitlines()[-1] == "0 topics, 0 partitions: 0 under-replicated, 0 offline"
    assert sum(line.endswith("\tcontroller") for line in status.splitlines()) == 1
    run("topics", "create", "orders", "-p", "6", "-b", layout.bootstrap)
    run("produce", "orders", "-b", layout.bootstrap, stdin="".join(f"{number}\n" for number in range(100)))
    assert "1 topic, 6 partitions: 0 under-replicated, 0 offline" in run("cluster", "status", *where)
    # A second start finds everything there.
    assert run("cluster", "start", *where).splitlines()[1:] == said[1:]

    pid = layout.broker(2).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    status = run("cluster", "status", *where, code=1)
    assert states(status)["broker 2"] == "down" and states(status)["broker 1"] == "up"
    assert run("cluster", "start", *where).splitlines()[-1] == said[-1]

    stopped = run("cluster", "stop", *where).splitlines()
    assert len(stopped) == 4 and stopped[-1] == "ZooKeeper has stopped"
    assert all(layout.broker(each).pid() is None for each in layout.ids) and layout.zookeeper.pid() is None
    assert "no broker answers" in run("cluster", "status", *where, code=1)
    run("cluster", "start", *where)
    values = run("consume", "orders", "--from", "beginning", "--exit-at-end", "-b", layout.bootstrap).split()
    assert sorted(map(int, values)) == list(range(100))


def test_what_does_not_start(directory: Path) -> None:
    base, ensemble_port = three_ports(), free_port()
    words = ("cluster", "start", "--brokers", "1", "--base-port", str(base), "--zookeeper-port", str(ensemble_port))
    run(*words, "--dir", str(directory))
    other = directory.parent / "other"
    said = run(*words, "--dir", str(other), code=1)
    assert said.startswith(f"pylog: something listens on port {ensemble_port} already; ") and "--zookeeper-port" in said
    said = run(*words[:-1], str(free_port()), "--dir", str(other), code=1)
    assert said.startswith(f"pylog: something listens on port {base} already; ") and "--base-port" in said
    assert not other.exists()
    settings = properties_path(read_layout(str(directory)), 2)
    settings.parent.mkdir()
    settings.write_text("num.partitions=many\n")
    said = run("cluster", "start", "--dir", str(directory), "--brokers", "2", code=1).splitlines()[-1]
    assert said.startswith("pylog: broker 2 has ended: pylog server: Invalid value many for configuration num.part")
    assert said.endswith(f"(see {settings.with_name('broker.log')})")


@pytest.mark.parametrize("key", ["zookeeper.ssl.client.enable", "zookeeper.set.acl"])
def test_security_towards_zookeeper_is_not_for_this_version(tmp_path: Path, key: str) -> None:
    """Better no broker than one that lets everybody listen, or write, against its settings."""
    said = run("server", f"--override={key}=true", "--override=zookeeper.connect=localhost:1", code=2, cwd=tmp_path)
    assert said.startswith(f"pylog server: {key}: ") and len(said.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_zookeeper_is_not_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYLOG, "cluster", "start"],
        env={**os.environ, "ZOOKEEPER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pylog: {zookeeper.MISSING}\n" and not list(tmp_path.iterdir())
