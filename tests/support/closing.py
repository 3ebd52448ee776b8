"""Clients that a test opens and that are closed whatever the test's end, while the broker still runs.

librdkafka's consumers must be: a consumer whose broker is gone may wait for it for ever when it is destroyed.
"""

from contextlib import ExitStack
from typing import Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> object: ...


Client = TypeVar("Client", bound=Closable)


class Closing:
    """closing(client) gives the client back, and closes it at the end. A client may be closed earlier as well."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __call__(self, client: Client) -> Client:
        self._stack.callback(client.close)
        return client

    def close(self) -> None:
        self._stack.close()
