"""A broker that comes back and has not heard of a controller yet: clients wait for what it will know, and are not told
that their topics do not exist."""

import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

from kazoo.client import KazooClient

from tests.clustered.test_replication import create, produce
from tests.support import wire
from tests.support.cluster import cluster
from tests.support.zookeeper import ZooKeeper

TIMEOUT_S = 30
SILENT_S = 1.0


def test_clients_wait_until_a_controller_has_spoken(tmp_path: Path, ensemble: ZooKeeper) -> None:
    kinds = ("pylog", "pylog", "pylog")
    with cluster(tmp_path, ensemble.fresh(), *kinds, first=1, zookeeper_session_timeout_ms="12000") as brokers:
        create(brokers, "orders", partitions=1)
        produce(brokers, "orders", 0, 10)
        assert brokers[3].stop() == 0
        found: list[wire.Cluster] = []
        answered = threading.Event()

        def ask() -> None:
            deadline = time.monotonic() + TIMEOUT_S
            while not found and time.monotonic() < deadline:
                try:
                    found.append(wire.metadata(brokers[3].port, ["orders"], timeout_s=TIMEOUT_S))
                except OSError:
                    time.sleep(0.01)  # sleep: it does not listen yet
            answered.set()

        os.kill(brokers[1].pid, signal.SIGSTOP)
        try:
            brokers[3].launch()
            asking = threading.Thread(target=ask)
            asking.start()
            with closing(KazooClient(brokers.connect)) as tree:
                tree.start(TIMEOUT_S)
                deadline = time.monotonic() + TIMEOUT_S
                while tree.exists("/brokers/ids/3") is None:
                    assert time.monotonic() < deadline, "broker 3 does not register"
                tree.stop()
            assert not answered.wait(SILENT_S), f"before a controller has spoken: {found}"
        finally:
            os.kill(brokers[1].pid, signal.SIGCONT)
        asking.join(TIMEOUT_S)
        (seen,) = found
        error, leaders = seen.topics["orders"]
        assert error == 0 and leaders.keys() == {0} and seen.controller == 1
        brokers[3].wait_ready()
