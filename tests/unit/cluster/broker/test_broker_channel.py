"""Requests to another broker that go together: every item is given back once, whatever becomes of the channel."""

import queue
import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from cluster.broker.broker_channel import BrokerChannel
from tests.support.fake_broker import FakeBroker
from tests.support.ports import free_port

TIMEOUT_S = 20


class Sender:
    """Carries out what the channel posts, and remembers what has failed."""

    def __init__(self, port: int) -> None:
        self.failed: list[object] = []
        self._posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.channel = BrokerChannel(
            "channel", ("127.0.0.1", port), 10_000, exchange=self._exchange, failed=self._fail, post=self._posted.put
        )

    def _exchange(self, _: object, items: Sequence[object]) -> Callable[[], None]:
        raise AssertionError(f"there is nobody to ask about {items}")

    def _fail(self, items: Sequence[object]) -> None:
        self.failed += items

    def hear(self) -> None:
        self._posted.get(timeout=TIMEOUT_S)()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port where somebody listens who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_no_broker() -> None:
    sender = Sender(free_port())
    sender.channel.send(1)
    sender.hear()
    assert sender.failed == [1]
    sender.channel.stop()


def test_an_exchange_that_fails_is_not_the_last() -> None:
    """What a broker says may be beyond us: who asked hears of it, and so do those who ask after that."""
    with FakeBroker() as broker:
        sender = Sender(broker.port)
        for item in range(2):
            sender.channel.send(item)
            sender.hear()
        sender.channel.stop()
    assert sender.failed == [0, 1]


def test_the_broker_is_elsewhere(silent: socket.socket) -> None:
    sender = Sender(silent.getsockname()[1])
    sender.channel.send("under way")
    connection, _ = silent.accept()
    sender.channel.send("waiting")
    sender.channel.leave()
    sender.hear()
    assert sender.failed == ["waiting"]
    connection.close()
    sender.hear()
    assert sender.failed == ["waiting", "under way"]
