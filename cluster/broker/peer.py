"""A blocking connection to one Kafka-compatible broker, for the command line and for a broker that asks another.

What it keeps true:
- A request goes out only in a version that both sides know, the newest of them; ApiVersions is asked once per
  connection.
- Answers are read in the order of the requests, so several may be under way at once (`send`, then `receive` in that
  order).
- An answer larger than `max_answer_bytes` is refused before any memory is taken for it.
- After an exception out of a request, save UnsupportedApiError and EncodeError, the connection is closed: what was
  under way on it is lost, its outcome unknown.

One thread at a time. Imports socket, so the broker loads this module when it first needs another broker, not on its
start.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections import deque
from types import TracebackType
from typing import Generic, TypeVar

from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.errors import DecodeError
from cluster.protocol.headers import request_header_version, response_header_version
from cluster.protocol.message import Message
from cluster.protocol.wire import skip_tags
from pylog.errors import ErrorCode

DEFAULT_MAX_ANSWER_BYTES = 256 << 20
#: For `connect_timeout_ms` of one who tries until it is answered: a try that hangs, because the other machine was cut
#: off, is to be given up soon, for the next one may come through, or go to somebody else.
CONNECT_AGAIN_MS = 2000

# The newest version whose refusal every broker since 0.10 words in a way we can read.
_API_VERSIONS_VERSION = 3
_HEADER = struct.Struct(">ihhi")  # size, API key, version, correlation id
_FRAME = struct.Struct(">ii")  # size, correlation id
_CORRELATION_BYTES = 4
_VERSION_REFUSED = struct.pack(">h", ErrorCode.UNSUPPORTED_VERSION)
_MAX_CORRELATION_ID = 0x7FFFFFFF

R = TypeVar("R", bound=Message)


class PeerError(Exception):
    """Talking to a broker failed. `address`: host:port; `reason`: one phrase without a full stop."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address}: {reason}")


class UnreachableError(PeerError):
    """No connection could be made."""


class DisconnectedError(PeerError):
    """The connection ended while it was in use."""


class PeerTimeoutError(PeerError):
    """The broker did not take or answer a request in time."""


class MalformedAnswerError(PeerError):
    """The other side answered something that is not Kafka's protocol."""


class UnsupportedApiError(PeerError):
    """No version of this request is known to both sides. The connection stays usable."""


class Pending(Generic[R]):
    """A request whose answer has not been read yet."""

    __slots__ = ("answer", "api_key", "correlation_id", "version")

    def __init__(self, api_key: int, version: int, correlation_id: int, answer: type[R]) -> None:
        self.api_key = api_key
        self.version = version
        self.correlation_id = correlation_id
        self.answer = answer


class Peer:
    """One connection. `timeout_ms`: for connecting, unless that has a time of its own, and for each request that names
    none."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        timeout_ms: int,
        *,
        connect_timeout_ms: int | None = None,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
    ) -> None:
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.max_answer_bytes = max_answer_bytes
        self._host = host
        self._port = port
        encoded_id = client_id.encode()
        self._client_id = struct.pack(">h", len(encoded_id)) + encoded_id
        self._timeout_ms = timeout_ms
        self._connect_timeout_ms = timeout_ms if connect_timeout_ms is None else connect_timeout_ms
        self._socket: socket.socket | None = None
        self._versions: dict[int, tuple[int, int]] = {}
        self._pending: deque[int] = deque()
        self._correlation_id = 0

    def __enter__(self) -> Peer:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """For select: readable means that an answer is coming, or the end of the connection."""
        return self._open_socket().fileno()

    @property
    def connected(self) -> bool:
        """Whether requests can be sent. A connection the other side has closed counts until a request finds out."""
        return self._socket is not None

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answers."""
        return len(self._pending)

    def connect(self) -> None:
        """Connect and learn the broker's versions. Raises PeerError; no effect when connected already."""
        if self._socket is not None:
            return
        try:
            sock = socket.create_connection((self._host, self._port), self._connect_timeout_ms / 1000)
        except socket.gaierror as error:
            raise UnreachableError(self.address, f"unknown host ({error.strerror})") from error
        except TimeoutError as error:
            raise UnreachableError(self.address, f"no connection within {self._connect_timeout_ms} ms") from error
        except OSError as error:
            raise UnreachableError(self.address, _phrase(error)) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._socket = sock
        self._pending.clear()
        self._learn_versions()

    def close(self) -> None:
        """Close the connection; requests under way are abandoned. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._pending.clear()

    def version_of(self, request: type[Message], versions: tuple[int, int] | None = None) -> int:
        """The newest version of a request that both sides know, within `versions` when given. UnsupportedApiError."""
        low, high = request.valid_versions
        if versions is not None:
            low, high = max(low, versions[0]), min(high, versions[1])
        theirs = self._versions.get(request.api_key)
        name = ApiKey(request.api_key).name
        if theirs is None:
            raise UnsupportedApiError(self.address, f"the broker does not serve {name}")
        version = min(high, theirs[1])
        if version < max(low, theirs[0]):
            raise UnsupportedApiError(
                self.address, f"the broker serves {name} {theirs[0]} to {theirs[1]}, this program needs {low} to {high}"
            )
        return version

    def serves(self, request: type[Message], versions: tuple[int, int] | None = None) -> bool:
        """Whether `version_of` would find one."""
        try:
            self.version_of(request, versions)
        except UnsupportedApiError:
            return False
        return True

    def request(
        self,
        message: Message,
        answer: type[R],
        *,
        versions: tuple[int, int] | None = None,
        timeout_ms: int | None = None,
    ) -> R:
        """Send one request and read its answer. No other request may be under way."""
        return self.receive(self.send(message, answer, versions=versions), timeout_ms=timeout_ms)

    def send(self, message: Message, answer: type[R], *, versions: tuple[int, int] | None = None) -> Pending[R]:
        """Send a request; its answer is for `receive`, after the answers of all requests sent before it."""
        version = self.version_of(type(message), versions)
        correlation_id = self._write(message, version)
        self._pending.append(correlation_id)
        return Pending(message.api_key, version, correlation_id, answer)

    def send_unanswered(self, message: Message, *, versions: tuple[int, int] | None = None) -> None:
        """Send a request that the protocol leaves without an answer (Produce with acks 0)."""
        self._write(message, self.version_of(type(message), versions))

    def receive(self, pending: Pending[R], *, timeout_ms: int | None = None) -> R:
        """Read the answer of the oldest request under way, which must be this one."""
        if not self._pending or self._pending[0] != pending.correlation_id:
            if self._socket is None:
                raise DisconnectedError(self.address, "the connection was closed")
            raise AssertionError("answers are read in the order of their requests")
        deadline = time.monotonic() + (self._timeout_ms if timeout_ms is None else timeout_ms) / 1000
        try:
            body = self._read_frame(pending.correlation_id, deadline)
        except BaseException:
            # Also when a signal broke in: half an answer is read, and nothing after it could be told apart.
            self.close()
            raise
        self._pending.popleft()
        try:
            version, start = pending.version, 0
            if response_header_version(pending.api_key, version) >= 1:
                start = skip_tags(body, 1, body[0], len(body))
            if pending.api_key == ApiKey.API_VERSIONS and body.startswith(_VERSION_REFUSED):
                version = 0  # the layout of this refusal, whatever was asked in
            return pending.answer.decode(body, version, start)
        except (DecodeError, IndexError) as error:
            self.close()
            name = ApiKey(pending.api_key).name
            raise MalformedAnswerError(
                self.address, f"unreadable answer to {name} version {pending.version}: {error}"
            ) from error

    def _learn_versions(self) -> None:
        request = m.ApiVersionsRequest(client_software_name="pylog", client_software_version="1")
        api_key = int(ApiKey.API_VERSIONS)
        self._versions = {api_key: (0, _API_VERSIONS_VERSION)}
        try:
            answer = self.request(
                request,
                m.ApiVersionsResponse,
                versions=(0, _API_VERSIONS_VERSION),
                timeout_ms=self._connect_timeout_ms,
            )
        except DisconnectedError as error:
            raise UnreachableError(
                self.address, "the broker closes the connection at once; does it expect TLS or SASL on this port"
            ) from error
        except MalformedAnswerError as error:
            raise UnreachableError(self.address, "what answers there does not speak Kafka's protocol") from error
        except PeerTimeoutError as error:
            raise UnreachableError(
                self.address, f"connected, but no answer within {self._connect_timeout_ms} ms"
            ) from error
        if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
            known = [entry.max_version for entry in answer.api_keys if entry.api_key == api_key]
            newest = min(known[0] if known else 0, _API_VERSIONS_VERSION - 1)
            answer = self.request(request, m.ApiVersionsResponse, versions=(0, newest))
        if answer.error_code != ErrorCode.NONE:
            self.close()
            raise UnreachableError(self.address, f"ApiVersions was refused: {_code_name(answer.error_code)}")
        self._versions = {entry.api_key: (entry.min_version, entry.max_version) for entry in answer.api_keys}

    def _write(self, message: Message, version: int) -> int:
        self._correlation_id = correlation_id = (self._correlation_id + 1) & _MAX_CORRELATION_ID
        flexible = b"\0" if request_header_version(message.api_key, version) >= 2 else b""
        body = message.encode(version)
        sock = self._open_socket()
        size = _HEADER.size - 4 + len(self._client_id) + len(flexible) + len(body)
        head = _HEADER.pack(size, message.api_key, version, correlation_id) + self._client_id + flexible
        deadline = time.monotonic() + self._timeout_ms / 1000
        try:
            # Gathered, so that a batch of a megabyte is not copied to put a few bytes before it.
            sent = self._send_some(sock, [head, body], deadline)
            for rest in (memoryview(head)[sent:], memoryview(body)[max(0, sent - len(head)) :]):
                while rest:
                    rest = rest[self._send_some(sock, [rest], deadline) :]
        except BaseException as error:
            self.close()  # half a request is written, and the broker would take the next one for its rest
            if isinstance(error, OSError):
                raise DisconnectedError(self.address, f"sending failed: {_phrase(error)}") from error
            raise
        return correlation_id

    def _send_some(self, sock: socket.socket, parts: list[bytes] | list[memoryview], deadline: float) -> int:
        while True:
            try:
                return sock.sendmsg(parts)
            except BlockingIOError:
                self._wait(sock, select.POLLOUT, deadline, "the broker does not read our requests")

    def _read_frame(self, correlation_id: int, deadline: float) -> bytes:
        """The answer behind its size and correlation id."""
        head = bytearray(_FRAME.size)
        self._read_into(memoryview(head), deadline)
        size, answered = _FRAME.unpack(head)
        if not _CORRELATION_BYTES <= size <= self.max_answer_bytes:
            raise MalformedAnswerError(
                self.address, f"an answer of {size} bytes, and at most {self.max_answer_bytes} are accepted"
            )
        if answered != correlation_id:
            raise MalformedAnswerError(self.address, f"answer to request {answered} instead of {correlation_id}")
        body = bytearray(size - _CORRELATION_BYTES)
        self._read_into(memoryview(body), deadline)
        return bytes(body)

    def _read_into(self, rest: memoryview, deadline: float) -> None:
        sock = self._open_socket()
        while rest:
            try:
                count = sock.recv_into(rest)
            except BlockingIOError:
                self._wait(sock, select.POLLIN, deadline, "no answer in time")
                continue
            except OSError as error:
                raise DisconnectedError(self.address, _phrase(error)) from error
            if count == 0:
                raise DisconnectedError(self.address, "the broker closed the connection")
            rest = rest[count:]

    def _wait(self, sock: socket.socket, event: int, deadline: float, reason: str) -> None:
        poll = select.poll()
        poll.register(sock, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise PeerTimeoutError(self.address, reason)

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise DisconnectedError(self.address, "not connected")
        return self._socket


def _phrase(error: OSError) -> str:
    """What a system call's error means, in lower case and without its number."""
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return os.strerror(error.errno).lower() if error.errno is not None else str(error)


def _code_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"
