"""`pylog cluster` without ZooKeeper or brokers: its directory, its processes, what it refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli.cluster import layout as layout_module
from cluster.cli.cluster import zookeeper
from cluster.cli.cluster.layout import Layout, plan_layout, properties_path, read_layout, save_layout
from cluster.cli.cluster.service import Service
from cluster.cli.errors import CommandError, UsageError
from cluster.config import load


@pytest.fixture(autouse=True)
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may be on Kafka's port on this machine."""
    monkeypatch.setattr(layout_module, "_check_port", lambda port, option: None)


def make_layout(directory: str, brokers: int | None, base_port: int | None, zookeeper_port: int | None) -> Layout:
    layout = plan_layout(directory, brokers, base_port, zookeeper_port)
    save_layout(layout)
    return layout


SLEEPS = [sys.executable, "-c", "print('begun', flush=True); import signal; signal.pause()"]
STUBBORN = [
    sys.executable, "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); signal.pause()",
]  # fmt: skip


def test_a_new_cluster(tmp_path: Path) -> None:
    layout = make_layout(str(tmp_path / "c"), None, None, None)
    assert layout.bootstrap == "localhost:9092,localhost:9093,localhost:9094"
    assert read_layout(str(tmp_path / "c")) == layout
    for broker_id in layout.ids:
        config = load(str(properties_path(layout, broker_id)))
        assert config.broker_id == broker_id and not config.warnings
        assert str(config.listeners[0]).endswith(f"localhost:{9091 + broker_id}")
        assert config.str("zookeeper.connect") == "localhost:2181"
        assert config.log_dirs == (str(tmp_path / "c" / f"broker-{broker_id}" / "data"),)
        assert config.int("default.replication.factor") == config.int("offsets.topic.replication.factor") == 3
        assert config.int("min.insync.replicas") == config.int("transaction.state.log.min.isr") == 2


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2"), (9, "3", "2")])
def test_small_clusters_have_fewer_replicas(tmp_path: Path, brokers: int, copies: str, in_sync: str) -> None:
    layout = make_layout(str(tmp_path), brokers, 9092, 2181)
    text = properties_path(layout, 1).read_text()
    assert f"offsets.topic.replication.factor={copies}\n" in text and f"min.insync.replicas={in_sync}\n" in text


def test_a_cluster_that_is_there(tmp_path: Path) -> None:
    directory = str(tmp_path)
    make_layout(directory, 2, 19092, 12181)
    first = properties_path(read_layout(directory), 1)
    first.write_text("broker.id=1\nmine=kept\n")
    grown = make_layout(directory, 3, None, None)
    assert (grown.brokers, grown.base_port, grown.zookeeper_port) == (3, 19092, 12181)
    assert first.read_text() == "broker.id=1\nmine=kept\n" and properties_path(grown, 3).exists()
    assert make_layout(directory, None, 19092, 12181) == grown
    for wrong in ((2, None, None), (None, 9092, None), (None, None, 2181)):
        with pytest.raises(UsageError):
            make_layout(directory, *wrong)


@pytest.mark.parametrize("wrong", [(51, 9092, 2181), (3, 65534, 2181), (3, 2180, 2181)])
def test_what_cannot_be(tmp_path: Path, wrong: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        make_layout(str(tmp_path), *wrong)
    assert not list(tmp_path.iterdir())


def test_no_cluster_or_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no cluster in"):
        read_layout(str(tmp_path))
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(CommandError, match="is damaged"):
        read_layout(str(tmp_path))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service("it", tmp_path / "it", "it.log")
    yield service
    pid = service.pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def begun(service: Service) -> int:
    while "begun" not in service.log.read_text():
        service.pause()
    pid = service.pid()
    assert pid is not None
    return pid


def test_a_process_is_found_again_and_stopped(service: Service) -> None:
    assert service.pid() is None
    service.start(SLEEPS)
    pid = begun(service)
    again = Service("it", service.directory, "it.log")
    assert again.pid() == pid
    assert again.stop(20) is True
    assert service.pid() is None and again.pid() is None
    assert again.stop(1) is True, "what does not run is stopped"


def test_one_that_does_not_stop_is_killed(service: Service) -> None:
    service.start(STUBBORN)
    begun(service)
    assert service.stop(0.1) is False
    assert service.pid() is None


def test_one_that_ended_by_itself(service: Service) -> None:
    service.start([sys.executable, "-c", "print('first'); print('why it ended'); print()"])
    while service.pid() is not None:
        service.pause()
    assert service.last_line() == "why it ended"


def test_another_process_with_the_same_id_is_left_alone(service: Service) -> None:
    other = subprocess.Popen(SLEEPS, stdout=subprocess.DEVNULL)
    try:
        service.directory.mkdir()
        (service.directory / "pid").write_text(f"{other.pid} 1\n")
        assert service.pid() is None
        assert service.stop(1) is True
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_where_zookeeper_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zookeeper.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(zookeeper, "_DEBIAN_JARS", tmp_path)
    assert zookeeper.find_class_path() is None
    (tmp_path / "zookeeper.jar").touch()
    assert zookeeper.find_class_path() == f"{tmp_path}/zookeeper.jar:{tmp_path}/slf4j-simple.jar"
    monkeypatch.setenv("ZOOKEEPER_HOME", str(tmp_path))
    assert zookeeper.find_class_path() is None, "the one that was named, or none"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "zookeeper-3.9.5.jar").touch()
    assert zookeeper.find_class_path() == f"{tmp_path}/conf:{tmp_path}/lib/*"
    monkeypatch.setattr(zookeeper.shutil, "which", lambda name: None)
    assert zookeeper.find_class_path() is None
