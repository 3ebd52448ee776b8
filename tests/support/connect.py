"""A worker of Kafka Connect in distributed mode, with its three compacted topics on a broker of the test's.

    with Worker("kafka4", broker.bootstrap, tmp_path) as worker:
        worker.configure("reader", {...}); worker.kill(); worker.start()

What stays true: `start` returns when the worker serves its REST interface; connectors live in its topics, so that a
worker that is started again knows them.
"""

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support import peers
from tests.support.ports import free_port
from tests.support.process import ProcessError, ServerProcess

START_S = 120.0
_ASK_S = 60.0
_LOOK_AGAIN_S = 0.1
_SETTINGS = {
    "group.id": "connect",
    "config.storage.topic": "connect-configs",
    "config.storage.replication.factor": "1",
    "offset.storage.topic": "connect-offsets",
    "offset.storage.replication.factor": "1",
    "offset.storage.partitions": "3",
    "status.storage.topic": "connect-status",
    "status.storage.replication.factor": "1",
    "status.storage.partitions": "2",
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    "exactly.once.source.support": "enabled",
    "plugin.discovery": "service_load",
    "connector.client.config.override.policy": "All",
    "offset.flush.interval.ms": "500",
    "scheduled.rebalance.max.delay.ms": "0",
    "session.timeout.ms": "4000",
    "heartbeat.interval.ms": "500",
}


class Worker:
    """Not running after construction; killed when the block ends."""

    def __init__(self, peer: str, bootstrap: str, directory: Path) -> None:
        self._port = free_port()
        self._log = directory / "connect.log"
        properties = directory / "connect.properties"
        settings = {**_SETTINGS, "bootstrap.servers": bootstrap, "listeners": f"http://127.0.0.1:{self._port}"}
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        main_class = "org.apache.kafka.connect.cli.ConnectDistributed"
        self._command = peers.java(peer, main_class, [str(properties)])
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "started before"
        return self._process

    def start(self) -> None:
        self._process = ServerProcess(self._command, log=self._log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                status, _ = self._ask("GET", "/connectors")
                if status == 200:
                    return
            except OSError:
                pass
            if not self._process.running() or time.monotonic() > deadline:
                raise ProcessError("Kafka Connect does not serve:\n" + "\n".join(self._process.lines))
            time.sleep(_LOOK_AGAIN_S)  # sleep: it has no way to tell when it serves

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Create a connector. Asked again while the worker's group rebalances."""
        deadline = time.monotonic() + _ASK_S
        while True:
            status, answer = self._ask("PUT", f"/connectors/{name}/config", json.dumps(config))
            if status in (200, 201):
                return
            if status != 409 or time.monotonic() > deadline:
                raise ProcessError(f"{name} is answered with {status}: {answer}")
            time.sleep(_LOOK_AGAIN_S)  # sleep: nor when its group is settled

    def states(self, name: str) -> list[str]:
        """Of the connector and its tasks; each is RUNNING when all is well."""
        status, answer = self._ask("GET", f"/connectors/{name}/status")
        if status != 200:
            return []
        told = json.loads(answer)
        return [told["connector"]["state"], *(task["state"] for task in told["tasks"])]

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ASK_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()
