"""The controller's requests to the brokers: one ordered queue and one thread for each.

What stays true: requests to one broker arrive in the order in which they were queued, one under way at a time; one that
got no answer is sent again, on a new connection, until it is answered or the channel is stopped; an answer of a channel
that was stopped is dropped. A broker that does not answer keeps nobody but itself waiting.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from cluster.broker.peer import CONNECT_AGAIN_MS, Peer, PeerError
from cluster.model import Broker
from cluster.protocol.errors import EncodeError
from cluster.protocol.message import Message
from cluster.protocol.messages import (
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    StopReplicaRequest,
    StopReplicaResponse,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)
from pylog.logger import Logger
from pylog.typed import Final

_ANSWER_OF: Final[dict[type[Message], type[Message]]] = {
    LeaderAndIsrRequest: LeaderAndIsrResponse,
    StopReplicaRequest: StopReplicaResponse,
    UpdateMetadataRequest: UpdateMetadataResponse,
}
_BACKOFF_S: Final = 0.1

Answered = Callable[[int, Message, Message], None]


class Channel:
    """The queue to one broker. Made and stopped by the controller thread."""

    def __init__(self, host: str, port: int, broker: Broker, own_id: int, timeout_ms: int, answered: Answered) -> None:
        """`answered`: told each request with its answer, on the channel's thread."""
        self._broker = broker
        self._peer = Peer(host, port, str(own_id), timeout_ms, connect_timeout_ms=min(timeout_ms, CONNECT_AGAIN_MS))
        self._answered = answered
        self._queue: deque[tuple[int, Message]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._told = False
        self._log = Logger(f"Controller-{own_id}-to-broker-{broker.id}-send-thread")
        self._thread = threading.Thread(target=self._run, name=f"to-broker-{broker.id}", daemon=True)
        self._thread.start()

    def send(self, version: int, message: Message) -> None:
        with self._changed:
            self._queue.append((version, message))
            self._changed.notify()

    def stop(self) -> None:
        """Forget what is queued; what is under way ends by itself, unheard."""
        with self._changed:
            self._stopping = True
            self._queue.clear()
            self._changed.notify()

    def ended(self, timeout_s: float) -> bool:
        """Wait for the thread of a channel that was stopped; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    break
                version, message = self._queue.popleft()
            answer = self._ask(version, message)
            if answer is not None and not self._stopping:
                self._answered(int(self._broker.id), message, answer)
        self._peer.close()

    def _ask(self, version: int, message: Message) -> Message | None:
        """The answer, however often it has to be asked for; None when the channel is stopped before."""
        while not self._stopping:
            try:
                self._peer.connect()
                answer = self._peer.request(message, _ANSWER_OF[type(message)], versions=(version, version))
            except Exception as error:  # the edge of a thread: without it the broker would not be told anything again
                self._peer.close()
                if not self._told:
                    self._told = True
                    expected = isinstance(error, (PeerError, EncodeError, OSError))
                    tell = self._log.warn if expected else self._log.exception
                    tell("broker does not answer, sending again until it does", why=error)
                with self._changed:
                    if not self._stopping:
                        self._changed.wait(_BACKOFF_S)
                continue
            if self._told:
                self._told = False
                self._log.info("broker answers again", address=self._peer.address)
            return answer
        return None
