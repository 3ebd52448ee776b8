"""KafkaJS, where Node.js is at hand: transactions with aborts, and a group that is joined and left."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.brokers import Broker

SOURCE = peers.ROOT / "tests" / "clients" / "kafkajs"
PARTITIONS = 4
COUNT = 400


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    home = tmp_path_factory.mktemp("kafkajs") / "program"
    shutil.copytree(SOURCE, home)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0 and any(word in done.stderr for word in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED")):
        pytest.skip(f"npm could not fetch KafkaJS: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return home / "copy.js"


@pytest.mark.timeout(240)
def test_transactions_and_groups(program: Path, broker: Broker, new_topic: Callable[..., str]) -> None:
    words = [broker.bootstrap, new_topic(PARTITIONS), new_topic(PARTITIONS), str(PARTITIONS), str(COUNT)]
    command = ["node", str(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"ok {PARTITIONS * COUNT} records\n", done.stdout
