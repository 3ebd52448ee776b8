"""Requests to another broker that go together: what has come while one was under way is the next one.

What stays true: one request is under way at a time; every item is given back once, to `exchange` with a connection or
to `failed` when there is none or the exchange fails, in the order in which they were sent. What failed is not sent
again here: who sent it knows better whereto. After `leave` the items of before are given back all the same, for
somebody waits for them; after `stop` nothing is told any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cluster.broker.peer import CONNECT_AGAIN_MS, Peer, PeerError
from cluster.protocol.errors import EncodeError
from pylog.logger import Logger

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

Item = TypeVar("Item")
Address = tuple[str, int]
Exchange = Callable[[Peer, Sequence[object]], Callable[[], None]]


class BrokerChannel:
    """`exchange`: asks for all of some items and returns what follows; on the channel's thread. `failed`: what follows
    when no answer came. What follows is handed to `post`."""

    def __init__(
        self,
        name: str,
        address: Address,
        timeout_ms: int,
        *,
        exchange: Exchange,
        failed: Callable[[Sequence[object]], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.address = address
        self._peer = Peer(*address, name, timeout_ms, connect_timeout_ms=min(timeout_ms, CONNECT_AGAIN_MS))
        self._exchange = exchange
        self._failed = failed
        self._post = post
        self._items: list[object] = []
        self._changed = threading.Condition()
        self._leaving = False
        self._stopping = False
        self._told = False
        self._log = Logger(name)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def send(self, item: object) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def leave(self) -> None:
        """The broker is elsewhere now. What waits has failed; what is under way ends by itself, and is heard."""
        with self._changed:
            self._leaving = True
            items, self._items = self._items, []
            self._changed.notify()
        if items:
            self._post(lambda: self._failed(items))

    def stop(self) -> None:
        """What is under way ends by itself, unheard."""
        with self._changed:
            self._stopping = True
            self._items.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._items or self._leaving or self._stopping):
                    self._changed.wait()
                if self._leaving or self._stopping:
                    break
                items, self._items = self._items, []
            follows = self._ask(items)
            if not self._stopping:
                self._post(follows)
        self._peer.close()

    def _ask(self, items: list[object]) -> Callable[[], None]:
        was_connected = self._peer.connected
        try:
            self._peer.connect()
            follows = self._exchange(self._peer, items)
        except (PeerError, EncodeError, OSError) as error:
            self._peer.close()
            # A connection that idled was closed by the other side perhaps, which says nothing about the next one.
            if not was_connected and not self._told:
                self._told = True
                self._log.warn("broker does not answer", address=self._peer.address, why=error)
            return lambda: self._failed(items)
        except Exception:  # the edge of a thread: without it nobody who waits for this broker would be answered again
            self._peer.close()
            self._log.exception("an exchange failed", address=self._peer.address)
            return lambda: self._failed(items)
        if self._told:
            self._told = False
            self._log.info("broker answers again", address=self._peer.address)
        return follows


def channel_to(
    broker: Broker,
    channels: dict[int, BrokerChannel],
    broker_id: int,
    what: str,
    *,
    exchange: Exchange,
    failed: Callable[[Sequence[object]], None],
) -> BrokerChannel | None:
    """The channel to a broker where it is now, from `channels`, or a new one in its place; None: nobody knows where it
    is. Control thread."""
    address = broker.joined().address_of(broker_id)
    channel = channels.get(broker_id)
    if channel is not None:
        if channel.address == address:
            return channel
        channel.leave()
        del channels[broker_id]
    if address is None:
        return None
    channel = channels[broker_id] = BrokerChannel(
        f"broker-{broker.broker_id}-{what}-to-{broker_id}",
        address,
        broker.config.int("request.timeout.ms"),
        exchange=exchange,
        failed=failed,
        post=broker.loop.post,
    )
    return channel


def rounds(items: Iterable[Item], name: Callable[[Item], Hashable]) -> list[dict[Hashable, Item]]:
    """Items by name, in as few requests as can be told apart: of the same name, one in each."""
    found: list[dict[Hashable, Item]] = []
    for each in items:
        free = next((some for some in found if name(each) not in some), None)
        if free is None:
            free = {}
            found.append(free)
        free[name(each)] = each
    return found
