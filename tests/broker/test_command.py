"""`pylog server` as a user meets it: what it prints, its exit codes, and what a signal does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import PylogBroker, start_broker, unavailable
from tests.support.ports import free_port

COMMAND = Path(sys.executable).with_name("pylog")
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PylogBroker]:
    if unavailable() is not None:
        pytest.skip("only about ours")
    with start_broker(tmp_path_factory.mktemp("command")) as started:
        if not isinstance(started, PylogBroker):
            pytest.skip("only about ours")
        yield started


def refused(directory: Path, **settings: str) -> tuple[int, str]:
    """Exit code and what it says on stderr, which must be one line."""
    base = {"log.dirs": str(directory / "data"), "listeners": f"PLAINTEXT://127.0.0.1:{free_port()}"}
    words = [f"--override={key}={value}" for key, value in {**base, **settings}.items()]
    done = subprocess.run(
        [COMMAND, "server", *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=directory
    )
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_a_bad_value(tmp_path: Path) -> None:
    code, line = refused(tmp_path, **{"num.partitions": "abc"})
    assert code == 2
    assert "Invalid value abc for configuration num.partitions" in line


def test_no_zookeeper_answers(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = {"zookeeper.connect": nowhere, "zookeeper.connection.timeout.ms": "100"}
    code, line = refused(tmp_path, **settings)
    assert code == 1
    assert line.startswith(f"pylog server: zookeeper.connect: {nowhere}: no ZooKeeper server answered")


def test_an_authorizer_is_not_for_this_version(tmp_path: Path) -> None:
    """Better no broker than one that lets everybody in against its settings."""
    code, line = refused(tmp_path, **{"authorizer.class.name": "kafka.security.authorizer.AclAuthorizer"})
    assert code == 2
    assert "authorizer.class.name" in line


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_a_listener_with_security_is_not_for_this_version(tmp_path: Path, protocol: str) -> None:
    """It would be served as plain text."""
    listeners = f"PLAINTEXT://127.0.0.1:0,{protocol}://127.0.0.1:0"
    code, line = refused(tmp_path, listeners=listeners, **{"inter.broker.listener.name": "PLAINTEXT"})
    assert code == 2
    assert f"{protocol}://127.0.0.1:0" in line and "PLAINTEXT only" in line


def test_a_second_broker_on_the_same_directory(running: PylogBroker, tmp_path: Path) -> None:
    code, line = refused(tmp_path, **{"log.dirs": str(running.data)})
    assert code == 1
    assert str(running.data) in line and str(running.pid) in line


def test_a_port_that_is_taken(running: PylogBroker, tmp_path: Path) -> None:
    code, line = refused(tmp_path, listeners=f"PLAINTEXT://127.0.0.1:{running.port}")
    assert code == 1
    assert str(running.port) in line
    again = subprocess.run([COMMAND, "server", "--help"], capture_output=True, timeout=TIMEOUT_S, check=False)
    assert again.returncode == 0


def test_another_brokers_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "meta.properties").write_text("#\n#\nbroker.id=7\nversion=0\ncluster.id=BqAbZzJcRyCV7ufzNcp56A\n")
    code, line = refused(tmp_path, **{"broker.id": "1"})
    assert code == 1
    assert "Configured broker.id 1 doesn't match stored broker.id 7" in line


def test_an_unknown_key_is_warned_of_and_sigterm_stops_in_order(tmp_path: Path) -> None:
    broker = PylogBroker(tmp_path / "broker", {"num.partition": "3"})
    with broker:
        broker.start()
        assert broker.stop() == 0
        text = broker.log.read_text()
        assert "did you mean num.partitions?" in text
        assert (broker.data / ".kafka_cleanshutdown").exists()
        assert not (broker.data / ".lock").exists()


def test_topics_of_a_directory_without_metadata_are_adopted(tmp_path: Path) -> None:
    """As in a directory that Kafka wrote: the logs are there, the tree is not."""
    broker = PylogBroker(tmp_path / "broker")
    bootstrap = broker.bootstrap
    with broker:
        broker.start()
        say = [COMMAND, "produce", "kept", "--bootstrap-server", bootstrap]
        subprocess.run(say, input=b"one\ntwo\n", check=True, timeout=TIMEOUT_S, capture_output=True)
        assert broker.stop() == 0
        (broker.data / "metadata.db").unlink()
        broker.start()
        read = [COMMAND, "consume", "kept", "--bootstrap-server", bootstrap, "-e"]
        done = subprocess.run(read, check=True, timeout=TIMEOUT_S, capture_output=True)
        assert done.stdout == b"one\ntwo\n"
        subprocess.run(say, input=b"three\n", check=True, timeout=TIMEOUT_S, capture_output=True)
        done = subprocess.run(read, check=True, timeout=TIMEOUT_S, capture_output=True)
        assert done.stdout == b"one\ntwo\nthree\n"
