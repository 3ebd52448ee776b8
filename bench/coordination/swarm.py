"""Many connections on one thread, each with one request under way: members and producers as a broker sees them.

What stays true: answers are checked for their correlation id only here, for their errors by who asked; nothing but the
standard library is on the path of a request, so that ten thousand members cost the driver some hundred milliseconds.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence

PATIENCE_S = 120.0
_CLIENT = b"swarm"


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def byte_string(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


class Line:
    """A connection. `answer`: the last one whole, after its correlation id."""

    __slots__ = ("_got", "_socket", "_wanted", "answer", "number")

    def __init__(self, port: int, number: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._got = bytearray()
        self._wanted = 0
        self.number = number
        self.answer = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, api_key: int, version: int, body: bytes, *, flexible: bool = False) -> None:
        """Requests are small: one that does not fit into an empty socket buffer is an error of the driver. flexible:
        the header has tags, none; `answer` begins with its own then."""
        header = struct.pack(">hhi", api_key, version, self.number) + struct.pack(">h", len(_CLIENT)) + _CLIENT
        frame = header + (b"\0" if flexible else b"") + body
        data = struct.pack(">i", len(frame)) + frame
        if self._socket.send(data) != len(data):
            raise OSError(f"a request of {len(data)} bytes was not taken whole")

    def receive(self) -> bool:
        """Take what is there; whether an answer is whole."""
        data = self._socket.recv(1 << 18)
        if not data:
            raise OSError("the broker closed a connection")
        self._got += data
        if len(self._got) < 4:
            return False
        (size,) = struct.unpack_from(">i", self._got)
        if len(self._got) < 4 + size:
            return False
        (correlation,) = struct.unpack_from(">i", self._got, 4)
        if correlation != self.number or len(self._got) != 4 + size:
            raise OSError(f"an answer of {size} bytes to {correlation} where {self.number} was asked")
        self.answer = bytes(self._got[8:])
        self._got.clear()
        return True

    def close(self) -> None:
        self._socket.close()


class Swarm:
    def __init__(self, port: int, count: int) -> None:
        self.lines = [Line(port, number) for number in range(count)]
        self._selector = selectors.EpollSelector()
        for line in self.lines:
            self._selector.register(line, selectors.EVENT_READ, line)

    def close(self) -> None:
        self._selector.close()
        for line in self.lines:
            line.close()

    def arrived(self, timeout_s: float) -> list[Line]:
        """Lines whose answer came."""
        found = []
        for key, _ in self._selector.select(timeout_s):
            line = key.data
            assert isinstance(line, Line)
            if line.receive():
                found.append(line)
        return found

    def wait(self, lines: Iterable[Line], each: Callable[[Line], None] | None = None) -> None:
        """Until all of these have an answer."""
        missing = {line.number for line in lines}
        deadline = time.monotonic() + PATIENCE_S
        while missing:
            for line in self.arrived(1.0):
                missing.discard(line.number)
                if each is not None:
                    each(line)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(missing)} answers did not come within {PATIENCE_S:.0f} s")

    def ask_all(self, api_key: int, version: int, bodies: Sequence[bytes]) -> list[bytes]:
        """One request on each line, at once; the answers."""
        lines = self.lines[: len(bodies)]
        for line, body in zip(lines, bodies, strict=True):
            line.send(api_key, version, body)
        self.wait(lines)
        return [line.answer for line in lines]

    def pump(
        self,
        api_key: int,
        version: int,
        bodies: Sequence[bytes],
        count: int,
        check: Callable[[bytes], None],
        *,
        flexible: bool = False,
    ) -> None:
        """`count` requests over the lines, each asking its own again when it has its answer."""
        sent = 0
        for line, body in zip(self.lines, bodies, strict=True):
            line.send(api_key, version, body, flexible=flexible)
            sent += 1
        done = 0
        deadline = time.monotonic() + PATIENCE_S
        while done < sent:
            for line in self.arrived(1.0):
                check(line.answer)
                done += 1
                if sent < count:
                    line.send(api_key, version, bodies[line.number], flexible=flexible)
                    sent += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done} of {count} answers within {PATIENCE_S:.0f} s")
