"""A TCP proxy on loopback that loses what it is told to lose: requests, answers, whole connections.

What stays true: bytes are passed on in order and unchanged until something is to be lost; a connection of which bytes
were lost carries none in that direction again, as with a broken network, until its ends see that it is cut.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

_CHUNK = 64 << 10


class Proxy:
    """Listens on a port of its own for one address behind it."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        self._refusing = False
        self._lose_requests = False
        self._lose_answers = False
        self.lost = threading.Event()
        """Set when something was lost since `lose_requests` or `lose_answers`."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def lose_requests(self) -> None:
        """From now on nothing of what clients send arrives."""
        self.lost.clear()
        self._lose_requests = True

    def lose_answers(self) -> None:
        """From now on requests arrive, and what is answered is lost."""
        self.lost.clear()
        self._lose_answers = True

    def answer_again(self) -> None:
        """To connections made from now on."""
        self._lose_requests = self._lose_answers = False

    def cut(self, *, refuse: bool = False) -> None:
        """End all connections; new ones work again, unless they are to be refused."""
        with self._guard:
            self._refusing = refuse
            self._lose_requests = self._lose_answers = False
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def heal(self) -> None:
        """Take connections again."""
        self._refusing = False

    def close(self) -> None:
        self.cut(refuse=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._guard:
                    if self._refusing:
                        raise ConnectionRefusedError
                    server = socket.create_connection(self._target, 5)
                    server.settimeout(None)
                    self._open += [client, server]
            except OSError:
                client.close()
                continue
            for source, sink, to_server in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, to_server), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool) -> None:
        losing = False
        with contextlib.suppress(OSError), source:
            while data := source.recv(_CHUNK):
                losing = losing or (self._lose_requests if to_server else self._lose_answers)
                if losing:
                    self.lost.set()
                else:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy_of(target: str) -> Iterator[Proxy]:
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
