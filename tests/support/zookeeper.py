"""A real ZooKeeper server for tests: Debian's package, or the jars that come with a fetched Kafka 3.9.

What stays true: it is on a free port of loopback with its data in a directory of the test's, and answers when `start`
returns; it does not sync its log, for nobody cuts the power here.
"""

import contextlib
import itertools
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.cli.cluster import zookeeper
from tests.support import peers, wire
from tests.support.ports import free_port, free_ports
from tests.support.process import ProcessError, ServerProcess

_READY_S = 30.0
_LOOK_AGAIN_S = 0.02
_chroots = itertools.count(1)


def unavailable() -> str | None:
    """Why there can be no ZooKeeper here, or None."""
    if shutil.which("java") is None:
        return "Java is not installed"
    if zookeeper.find_class_path() is not None:
        return None
    reason = peers.unavailable("kafka39")
    return reason and f"no ZooKeeper: Debian's package is not installed, and {reason}"


class ZooKeeper:
    """One server. `stop` and `start` again: the data stay."""

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        tick_ms: int = 100,
        options: Sequence[str] = (),
        *,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """`options`: of the Java machine. `prefix`: runs the command in the network where `host` is its own."""
        self.directory = directory
        self.host = host
        self._prefix = prefix
        self._options = options
        self.port = free_port() if port is None else port
        self._tick_ms = tick_ms
        self._process: ServerProcess | None = None
        self.ensemble: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def fresh(self) -> str:
        """zookeeper.connect with a chroot that nobody has used."""
        return f"{self.address}/test-{next(_chroots)}"

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it and do not wait for it."""
        settings = zookeeper.write_settings(
            self.directory,
            self.port,
            tickTime=str(self._tick_ms),
            maxSessionTimeout="60000",
            clientPortAddress=self.host,
            **self.ensemble,
        )
        jars = zookeeper.find_class_path() or f"{peers.home('kafka39') / 'libs'}/*"
        log4j = f"-Dlog4j.configuration=file:{peers.POMS / 'log4j.properties'}"
        command = zookeeper.command(
            jars, settings, "-Dzookeeper.forceSync=no", "-Dpylog.log=WARN", log4j, *self._options
        )
        self._process = ServerProcess([*self._prefix, *command], log=self.directory / "zookeeper.log")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while not wire.zookeeper_serves(self.port, self.host):
            if not self.process.running() or time.monotonic() > deadline:
                raise ProcessError("ZooKeeper does not answer:\n" + "\n".join(self.process.lines))
            time.sleep(_LOOK_AGAIN_S)  # sleep: it has no way to tell when it serves

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "started before"
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


class Quorum:
    """Three servers that elect a leader."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(9)
        self.servers = [ZooKeeper(directory / str(number), ports[number]) for number in range(3)]
        members = {f"server.{n + 1}": f"127.0.0.1:{ports[3 + n]}:{ports[6 + n]}" for n in range(3)}
        for number, server in enumerate(self.servers):
            server.ensemble = {**members, "initLimit": "50", "syncLimit": "20"}
            (server.directory / "data").mkdir(parents=True)
            (server.directory / "data" / "myid").write_text(str(number + 1))

    @property
    def address(self) -> str:
        return ",".join(server.address for server in self.servers)

    def __enter__(self) -> "Quorum":
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.stop()

    def leader(self) -> ZooKeeper:
        """Whichever says that it is."""
        for server in self.servers:
            with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), _READY_S) as asked:
                asked.sendall(b"srvr")
                if "Mode: leader" in asked.makefile().read():
                    return server
        raise AssertionError("there is no leader")


@contextlib.contextmanager
def running(directory: Path) -> Iterator[ZooKeeper]:
    server = ZooKeeper(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def end_session(address: str, session: tuple[int, bytes]) -> None:
    """Have the ensemble end a session as if it had not been heard from: `session` is its id and password.

    A second connection takes it over and closes it with its first request. Its owner may take it back before that is
    read, so this goes on until the ensemble says that there is no such session.
    """
    from kazoo.protocol.serialization import CloseInstance, Connect, int_int_struct, int_struct

    host, _, port = address.rpartition(":")
    connect = bytes(Connect(0, 0, 10_000, *session, False).serialize())
    close = int_int_struct.pack(1, CloseInstance.type)
    request = b"".join(int_struct.pack(len(each)) + each for each in (connect, close))
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError), socket.create_connection((host, int(port)), _READY_S) as twin:
            twin.sendall(request)
            answer = b""
            while received := twin.recv(4096):
                answer += received
            # size, protocol version, session timeout: 0 when the session is over
            if len(answer) >= 12 and int_struct.unpack_from(answer, 8)[0] == 0:
                return
    raise AssertionError(f"session 0x{session[0]:x} does not end")
