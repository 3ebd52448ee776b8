"""`pylog metadata` on a single node, running and stopped, and on ZooKeeper."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.metadata.zookeeper import ZooKeeperStore
from tests.support import zookeeper
from tests.support.brokers import PylogBroker, start_broker, unavailable
from tests.support.zookeeper import ZooKeeper

PYLOG = Path(sys.executable).with_name("pylog")
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    reason = zookeeper.unavailable()
    if reason:
        pytest.skip(reason)
    with zookeeper.running(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


def metadata(*words: str, stdin: str = "", code: int = 0) -> str:
    """What it prints; what it says, when it is to fail. In this process: a start of Python each would take longest."""
    out, said = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            ended = main(["metadata", *words])
    finally:
        sys.stdin = before
    out.flush()
    printed = out.buffer.getvalue().decode()
    assert ended == code, said.getvalue()
    if code:
        assert printed == "" and len(said.getvalue().splitlines()) == 1
    return said.getvalue() if code else printed


def pylog(*words: str, stdin: str = "") -> str:
    return subprocess.run(
        [PYLOG, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=True, input=stdin
    ).stdout


def test_from_a_single_node_into_zookeeper(tmp_path: Path, ensemble: ZooKeeper) -> None:
    if unavailable() is not None:
        pytest.skip("only about ours")
    lines = tmp_path / "tree.jsonl"
    connect = ensemble.fresh()
    with start_broker(tmp_path) as broker:
        if not isinstance(broker, PylogBroker):
            pytest.skip("only about ours")
        pylog("topics", "create", "orders", "-p", "2", "-c", "retention.ms=1000", "-b", broker.bootstrap)
        data = str(broker.data)
        # While it runs:
        assert metadata("ls", "-D", data, "/brokers").split() == ["ids", "seqid", "topics"]
        assert "/brokers/topics/orders/partitions/1/state" in metadata("ls", "-r", "-D", data).split()
        config = '{"version":1,"config":{"retention.ms":"1000"}}'
        assert metadata("get", "-d", "-D", data, "/config/topics/orders") == config
        assert "is in use; stop its broker first" in metadata("import", "-D", data, stdin=LINE, code=1)
        pylog("topics", "create", "more", "-b", broker.bootstrap)
        pylog("produce", "more", "-b", broker.bootstrap, stdin="1\n2\n3\n")
        read = ("consume", "more", "-g", "readers", "--exit-at-end", "-b")
        assert pylog(*read, broker.bootstrap, "--from", "beginning").split() == ["1", "2", "3"]
        broker.stop()
    exported = metadata("export", "-D", data)
    assert metadata("export", "-D", data, "-o", str(lines)) == ""
    assert lines.read_text() == exported and not list(tmp_path.glob("*.tmp"))
    nodes = {node["path"]: node for node in map(json.loads, exported.splitlines())}
    assert set(nodes) >= {"/cluster/id", "/brokers/topics/more/partitions/0/state"} and "/" not in nodes
    metadata("import", "-z", connect, str(lines))
    store = ZooKeeperStore(connect, make_chroot=False)
    for path, node in nodes.items():
        data_there = store.get(path)[0]
        assert (None if data_there is None else data_there.decode()) == node["data"], path
    store.close()
    again = metadata("export", "-z", connect)
    assert {node["path"]: node["data"] for node in map(json.loads, again.splitlines())} == {
        path: node["data"] for path, node in nodes.items()
    }
    # The node is the first of a cluster now, with its records and its groups' offsets.
    with start_broker(tmp_path, {"zookeeper.connect": connect}) as broker:
        pylog("produce", "more", "-b", broker.bootstrap, stdin="4\n")
        assert pylog(*read, broker.bootstrap).split() == ["4"]
        assert json.loads(metadata("get", "-d", "-z", connect, "/controller_epoch")) == 2
        broker.stop()


LINE = '{"path":"/a/b","data":"x"}\n'


def test_what_is_refused(tmp_path: Path, ensemble: ZooKeeper) -> None:
    connect = ensemble.fresh()
    assert "has no node /" in metadata("ls", "-z", connect, code=1), "reading makes no chroot"
    assert metadata("import", "-z", connect, stdin=LINE) == ""
    assert f"{connect} is not empty (it has a)" in metadata("import", "-z", connect, stdin=LINE, code=1)
    metadata("import", "--force", "-z", connect, stdin='{"path":"/a/b","data":"y"}')
    assert metadata("get", "-d", "-z", connect, "/a/b") == "y"
    assert "has no node /c" in metadata("get", "-z", connect, "/c", code=1)
    assert "line 2 is no node" in metadata("import", "-z", connect, stdin=LINE + "x", code=1)
    assert "has no nodes" in metadata("import", "-z", connect, stdin="", code=1)
    assert "relative part" in metadata("get", "-z", connect, "/a/../b", code=2)
    assert "is not host:port" in metadata("ls", "-z", "here:there", code=2)
    assert "there is no metadata tree at" in metadata("ls", "-D", str(tmp_path), code=1)
    assert "there is no directory" in metadata("import", "-D", str(tmp_path / "none"), stdin=LINE, code=1)
    assert "no ZooKeeper server answered within 0.2 s" in metadata(
        "ls", "-z", "127.0.0.1:1", "--timeout", "0.2", code=1
    )
    store = ZooKeeperStore(connect)
    store.create("/brokers")
    store.create("/brokers/ids")
    store.create("/brokers/ids/7", b"", ephemeral=True)
    assert "broker 7 runs on" in metadata("import", "--force", "-z", connect, stdin=LINE, code=1)
    assert "/brokers/ids/7" not in metadata("export", "-z", connect)
    assert '{"path":"/brokers/ids/7","data":"","version":0,"ephemeral":true}' in metadata(
        "export", "--ephemeral", "-z", connect, "/brokers"
    )
    store.close()


def test_back_into_a_directory(tmp_path: Path) -> None:
    metadata("import", "-D", str(tmp_path), stdin=LINE)
    assert metadata("export", "-D", str(tmp_path)).splitlines() == [
        '{"path":"/a","data":null,"version":0}',
        '{"path":"/a/b","data":"x","version":0}',
    ]
    shown = metadata("get", "-D", str(tmp_path / "metadata.db"), "/a/").splitlines()
    assert shown[0] == "null"
    assert [line.partition(" = ")[0] for line in shown[1:]] == [
        "cZxid", "ctime", "mZxid", "mtime", "pZxid", "cversion", "dataVersion", "aclVersion", "ephemeralOwner",
        "dataLength", "numChildren",
    ]  # fmt: skip
    assert "numChildren = 1" in shown and "ephemeralOwner = 0x0" in shown
