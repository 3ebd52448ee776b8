"""franz-go, where Go is at hand: a client written from the protocol alone."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.brokers import Broker

SOURCE = peers.ROOT / "tests" / "clients" / "franz"
PARTITIONS = 4
MILLION = 1_000_000
COPIES = 8_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    built = tmp_path_factory.mktemp("franz") / "franz"
    done = subprocess.run(
        ["go", "build", "-mod=readonly", "-o", str(built), "."],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if "go.mod requires go >=" in done.stderr:
        pytest.skip(f"Go is too old for franz-go: {done.stderr.strip()[-300:]}")
    if "dial tcp" in done.stderr or "no such host" in done.stderr:
        pytest.skip(f"Go could not fetch franz-go: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return built


@pytest.mark.timeout(420)
def test_a_million_records(
    program: Path, broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    arguments = [
        broker.bootstrap,
        new_topic(PARTITIONS),
        fresh_name("group"),
        str(PARTITIONS),
        str(MILLION // PARTITIONS),
    ]
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ok {MILLION} records\n"


@pytest.mark.timeout(420)
def test_copies_in_transactions(
    program: Path, broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topics = [new_topic(PARTITIONS), new_topic(PARTITIONS)]
    arguments = ["copy", broker.bootstrap, *topics, fresh_name("group"), str(PARTITIONS), str(COPIES // PARTITIONS)]
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ok {COPIES} copies\n"
