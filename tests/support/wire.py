"""Just enough of the protocol to ask a broker whether it answers, without any client library.

The bytes are written out here on purpose: a probe that used the project's own protocol tables could not fault them.
"""

import socket
import struct
import time
from typing import NamedTuple


class Connection:
    """One blocking connection; a request, then its answer."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 10) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, api_key: int, version: int, body: bytes) -> bytes:
        """The answer's bytes after the correlation id. For requests with the classic header (version 1) only."""
        self._correlation += 1
        frame = struct.pack(">hhih5s", api_key, version, self._correlation, 5, b"probe") + body
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self._receive(4))
        answer = self._receive(size)
        (correlation,) = struct.unpack_from(">i", answer)
        if correlation != self._correlation:
            raise OSError(f"answer {correlation} to request {self._correlation}")
        return answer[4:]

    def _receive(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise OSError("connection closed in the middle of an answer")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def api_versions(port: int) -> dict[int, tuple[int, int]]:
    """API key → (lowest, highest) version the broker advertises."""
    with Connection(port) as connection:
        answer = connection.ask(18, 0, b"")
    error, count = struct.unpack_from(">hi", answer)
    if error != 0:
        raise OSError(f"ApiVersions answered error {error}")
    entries = (struct.unpack_from(">hhh", answer, 6 + 6 * index) for index in range(count))
    return {key: (low, high) for key, low, high in entries}


class Cluster(NamedTuple):
    """What a Metadata answer says: broker ids, the controller's id or -1, topic → (error, partition → leader), and the
    replicas in sync by topic and partition."""

    brokers: list[int]
    controller: int
    topics: dict[str, tuple[int, dict[int, int]]]
    isrs: dict[str, dict[int, list[int]]]


def metadata(port: int, topics: list[str], host: str = "127.0.0.1", timeout_s: float = 10) -> Cluster:
    """Metadata version 1, about the named topics; creates them where the broker is set so."""
    body = struct.pack(">i", len(topics)) + b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    with Connection(port, host=host, timeout_s=timeout_s) as connection:
        reader = _Reader(connection.ask(3, 1, body))
    brokers = []
    for _ in range(reader.i32()):
        brokers.append(reader.i32())
        reader.string()
        reader.i32()
        reader.string()
    controller = reader.i32()
    found = {}
    isrs: dict[str, dict[int, list[int]]] = {}
    for _ in range(reader.i32()):
        error, name = reader.i16(), reader.string()
        reader.i8()
        leaders = {}
        for _ in range(reader.i32()):
            reader.i16()
            partition = reader.i32()
            leaders[partition] = reader.i32()
            _replicas, isr = ([reader.i32() for _ in range(reader.i32())] for _ in range(2))
            isrs.setdefault(name, {})[partition] = isr
        found[name] = (error, leaders)
    return Cluster(brokers, controller, found, isrs)


GROUP, TRANSACTION = 0, 1


def coordinator(port: int, name: str, kind: int, host: str = "127.0.0.1") -> int:
    """The id of the broker that coordinates this group or transactional id; -1 while there is none."""
    with Connection(port, host=host) as connection:
        reader = _Reader(connection.ask(10, 1, struct.pack(">h", len(name)) + name.encode() + bytes([kind])))
    reader.i32()
    error = reader.i16()
    reader.string()
    return -1 if error else reader.i32()


def seconds_to_first_answer(port: int, *, since: float, timeout_s: float = 60) -> float:
    """Time from `since` (monotonic) until an ApiVersions request was answered on `port`; tries without pause."""
    while True:
        try:
            api_versions(port)
            return time.monotonic() - since
        except OSError:
            if time.monotonic() - since > timeout_s:
                raise


def zookeeper_serves(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a ZooKeeper answers its `srvr` word with more than that it does not serve yet."""
    try:
        with socket.create_connection((host, port), 5) as connection:
            connection.sendall(b"srvr")
            return connection.recv(100).startswith(b"Zookeeper version")
    except OSError:
        return False


class _Reader:
    """Reads classic (not flexible) fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _number(self, layout: str, size: int) -> int:
        (number,) = struct.unpack_from(layout, self._data, self._position)
        self._position += size
        return int(number)

    def i8(self) -> int:
        return self._number(">b", 1)

    def i16(self) -> int:
        return self._number(">h", 2)

    def i32(self) -> int:
        return self._number(">i", 4)

    def string(self) -> str:
        size = self.i16()
        if size < 0:
            return ""
        text = self._data[self._position : self._position + size].decode()
        self._position += size
        return text
