"""What this broker asks of the controller: AlterPartition, AllocateProducerIds, ControlledShutdown.

What stays true: one request is under way at a time, in the order in which they were asked; one that got no answer, or
from a broker that is not the controller any more, is sent again to whoever is, until it is answered or the client is
stopped. A controller that hangs is waited for only while it is the controller as far as we know. Answers are given to
their askers on the control thread.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable

from cluster.broker.peer import CONNECT_AGAIN_MS, Peer, PeerError
from cluster.protocol.message import Message
from cluster.protocol.messages import ControlledShutdownRequest, ControlledShutdownResponse
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import Final
from pylog.types import TopicPartition

Address = tuple[str, int]
_BACKOFF_S: Final = 0.05
_LOOK_MS: Final = 100  # how often to look, while an answer is awaited, whether it may still come


class _Asked(NamedTuple):
    message: Message
    answer: type[Message]
    versions: tuple[int, int]
    then: Callable[..., None]


class ControllerClient:
    """`find`: the controller's address as it is known now, or None; any thread. `post`: runs a task on the control
    thread."""

    def __init__(
        self,
        own_id: int,
        find: Callable[[], Address | None],
        post: Callable[[Callable[[], None]], None],
        timeout_ms: int,
    ) -> None:
        self._own_id = own_id
        self._find = find
        self._post = post
        self._timeout_ms = timeout_ms
        self._queue: deque[_Asked] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._peer: Peer | None = None
        self._address: Address | None = None
        self._log = Logger(f"Broker-{own_id}-to-controller")
        self._thread = threading.Thread(target=self._run, name="to-controller", daemon=True)
        self._thread.start()

    def ask(
        self, message: Message, answer: type[Message], then: Callable[..., None], versions: tuple[int, int]
    ) -> None:
        """Any thread."""
        with self._changed:
            self._queue.append(_Asked(message, answer, versions, then))
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(_BACKOFF_S * 2)

    # ------------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                asked = self._queue.popleft()
            response = self._answer_to(asked)
            if response is not None:
                self._post(lambda then=asked.then, response=response: then(response))  # type: ignore[misc]

    def _answer_to(self, asked: _Asked) -> Message | None:
        told = False
        while not self._stopping:
            try:
                peer = self._connect()
                if peer is not None:
                    response = self._request(peer, asked)
                    if response is not None and getattr(response, "error_code", None) != ErrorCode.NOT_CONTROLLER:
                        return response
                    self._let_go()
            except Exception as error:  # the edge of a thread: without it nothing would be asked any more
                self._let_go()
                if not told:
                    told = True
                    tell = self._log.warn if isinstance(error, (PeerError, OSError)) else self._log.exception
                    tell("controller does not answer, asking again until it does", why=error)
            with self._changed:
                if not self._stopping:
                    self._changed.wait(_BACKOFF_S)
        return None

    def _request(self, peer: Peer, asked: _Asked) -> Message | None:
        """The answer; None when somebody else is the controller before it has come. Raises PeerError."""
        pending = peer.send(asked.message, asked.answer, versions=asked.versions)
        deadline = time.monotonic() + self._timeout_ms / 1000
        poll = select.poll()
        poll.register(peer, select.POLLIN)
        while not poll.poll(_LOOK_MS) and time.monotonic() < deadline:
            if self._stopping or self._find() not in (None, self._address):
                return None
        return peer.receive(pending, timeout_ms=max(0, int((deadline - time.monotonic()) * 1000)))

    def _connect(self) -> Peer | None:
        """A connection to who is the controller now; None while nobody is known to be."""
        address = self._find()
        if address != self._address:
            self._let_go()
        if address is not None and self._peer is None:
            self._peer = Peer(
                *address,
                f"broker-{self._own_id}-to-controller",
                self._timeout_ms,
                connect_timeout_ms=min(self._timeout_ms, CONNECT_AGAIN_MS),
            )
            self._address = address
            self._peer.connect()
        return self._peer

    def _let_go(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer = self._address = None


def shut_down_controlled(
    own_id: int,
    broker_epoch: int,
    find: Callable[[], Address | None],
    *,
    retries: int,
    backoff_ms: int,
    timeout_ms: int,
) -> list[TopicPartition] | None:
    """Ask the controller to take leadership away from us, as often as the settings say (KIP-49). Returns the partitions
    that we lead all the same, none when all went well, or None when no controller answered. Blocks."""
    log = Logger(f"Broker {own_id}")
    remaining: list[TopicPartition] | None = None
    nobody_ends_it = threading.Event()
    for attempt in range(retries):
        if attempt:
            nobody_ends_it.wait(backoff_ms / 1000)
        address = find()
        if address is None:
            continue
        try:
            with Peer(*address, f"broker-{own_id}", timeout_ms) as peer:
                request = ControlledShutdownRequest(broker_id=own_id, broker_epoch=broker_epoch)
                response = peer.request(request, ControlledShutdownResponse, timeout_ms=timeout_ms)
        except (PeerError, OSError) as error:
            log.warn("controlled shutdown: controller does not answer", why=error)
            continue
        remaining = [TopicPartition(each.topic_name, each.partition_index) for each in response.remaining_partitions]
        if response.error_code == ErrorCode.NONE and not remaining:
            return []
        log.warn("controlled shutdown is not finished", error=response.error_code, remaining=len(remaining))
    return remaining
