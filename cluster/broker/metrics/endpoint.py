"""A small HTTP server for pages that are made when they are asked for.

What stays true:
- one connection at a time, one request on each; what has not been asked within ASK_S, or not been taken within TAKE_S,
  is given up, however busily the other side drips (`http.server` bounds each read, not all of them together);
- a page that cannot be made is a 500 with nothing of it sent, a line in the log, and a count;
- after `stop` has returned no page is made any more.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable

from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import Final

ASK_S: Final = 5.0
TAKE_S: Final = 10.0
_REQUEST_BYTES: Final = 16 << 10
_BACKLOG: Final = 16
_GZIP: Final = 31  # as zlib calls it
_FASTEST: Final = 1
_WORTH_PACKING_BYTES: Final = 4 << 10
_ACCEPT_AGAIN_S: Final = 0.5
_JOIN_S: Final = ASK_S + TAKE_S

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Page(NamedTuple):
    status: int
    content_type: str
    body: bytes


def plain(status: int, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode())


class _Request(NamedTuple):
    """`path`: without a query. Names of headers are in small letters."""

    method: str
    path: str
    headers: dict[str, str]


class Endpoint:
    """`page`: makes the page of a path for who accepts these content types."""

    def __init__(self, host: str, port: int, page: Callable[[str, str], Page]) -> None:
        """Listens, and accepts when it is started. host: an address, or empty for every interface. Raises OSError."""
        self._page = page
        self._stopping = threading.Event()
        self._log = Logger("Metrics")
        self.failures = 0
        if not host and socket.has_dualstack_ipv6():
            self._listener = socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Once; started or not."""
        self._stopping.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        except OSError:
            pass  # nobody does
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    self._log.warn("connection not accepted", why=error)
                    self._stopping.wait(_ACCEPT_AGAIN_S)  # descriptors may be short: not again at once
                continue
            with connection:
                try:
                    self._serve(connection)
                except OSError:
                    pass  # the other side went, or was too slow

    def _serve(self, connection: socket.socket) -> None:
        head = _read_head(connection)
        if head is None:
            return
        request = _parse(head)
        if request is None:
            page = plain(431 if len(head) > _REQUEST_BYTES else 400, "this is no request of HTTP\n")
        elif request.method not in ("GET", "HEAD"):
            page = plain(405, "GET and HEAD only\n")
        else:
            page = self._make(request)
        _send(connection, request, page)

    def _make(self, request: _Request) -> Page:
        try:
            return self._page(request.path, request.headers.get("accept", ""))
        except Exception:  # the edge: the next request may do better
            self.failures += 1
            self._log.exception("page not made", path=request.path)
            return plain(500, "failed; the broker's log says why\n")


def _read_head(connection: socket.socket) -> bytes | None:
    """What comes before an empty line, or more than a request may have; None: it ended before. Raises OSError."""
    give_up = time.monotonic() + ASK_S
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= _REQUEST_BYTES:
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        more = connection.recv(_REQUEST_BYTES)
        if not more:
            return None
        head += more
    return head


def _parse(head: bytes) -> _Request | None:
    lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(head) > _REQUEST_BYTES or len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers[name.strip().lower()] = value.strip()
    return _Request(words[0], words[1].partition("?")[0], headers)


def _send(connection: socket.socket, request: _Request | None, page: Page) -> None:
    body, packed = page.body, ""
    wants_gzip = request is not None and "gzip" in request.headers.get("accept-encoding", "")
    if wants_gzip and len(body) > _WORTH_PACKING_BYTES:
        packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP)
        body = packer.compress(body) + packer.flush()
        packed = "Content-Encoding: gzip\r\n"
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n{packed}"
        f"Content-Length: {len(body)}\r\nVary: Accept, Accept-Encoding\r\nConnection: close\r\n"
        + ("Allow: GET, HEAD\r\n" if page.status == 405 else "")
        + "\r\n"
    )
    connection.settimeout(TAKE_S)  # of all of it together
    connection.sendall(head.encode() + (b"" if request is not None and request.method == "HEAD" else body))
    connection.shutdown(socket.SHUT_WR)
