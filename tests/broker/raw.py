"""A connection to a broker for tests that choose every version and look at every field."""

from __future__ import annotations

import socket
import struct
from typing import Any

from cluster.protocol import messages as m
from cluster.protocol.headers import request_header_version, response_header_version

TIMEOUT_S = 20


class Raw:
    """One connection; requests at the version the test says, decoded answers."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._correlation = 0

    def send(self, message: Any, version: int, tags: bytes = b"\0") -> int:
        """`tags`: the tagged fields of a flexible header."""
        self._correlation += 1
        key = message.api_key
        header = struct.pack(">hhih3s", key, version, self._correlation, 3, b"raw")
        if request_header_version(key, version) >= 2:
            header += tags
        frame = header + message.encode(version)
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        return self._correlation

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionResetError("closed")
            data += piece
        return data

    def answer(self, response: Any, key: int, version: int) -> Any:
        (size,) = struct.unpack(">i", self.receive(4))
        data = self.receive(size)
        assert struct.unpack_from(">i", data)[0] == self._correlation
        return response.decode(data, version, 5 if response_header_version(key, version) >= 1 else 4)

    def ask(self, message: Any, version: int) -> Any:
        self.send(message, version)
        name = type(message).__name__.removesuffix("Request") + "Response"
        return self.answer(getattr(m, name), message.api_key, version)

    def closed(self) -> bool:
        """Whether the broker closes the connection without a word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()
