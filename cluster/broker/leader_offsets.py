"""Asks leaders where the log of a partition begins or ends, for followers whose leader does not have their end.

What stays true: questions are answered one after the other on a thread that is there only while there are any; each
gets one answer, an error when the leader cannot be reached; a connection is kept while there are questions, no longer.

Rare: after an unclean election, or when a replica was away for longer than its leader keeps records. Imports sockets,
so it is loaded with the first question.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from cluster.broker.peer import Peer, PeerError
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.types import TopicPartition

#: The first version that says which leader epoch is meant, and gets one offset; the last that brokers ask one another.
_VERSIONS = (4, 9)


class OffsetQuestion(NamedTuple):
    """timestamp: EARLIEST or LATEST of cluster/replication/follower.py. leader_epoch: under which we follow."""

    host: str
    port: int
    partition: TopicPartition
    leader_epoch: int
    timestamp: int


class OffsetAnswer(NamedTuple):
    """error: Kafka's code; NETWORK_EXCEPTION when there was no answer."""

    error: int
    offset: int


class LeaderOffsets:
    """`ask` and `close` from any thread; `on_answer` is called on the thread that asks the leaders. timeout_ms: for a
    connection, and for each answer."""

    def __init__(self, broker_id: int, timeout_ms: int) -> None:
        self._broker_id = broker_id
        self._timeout_ms = timeout_ms
        self._lock = threading.Lock()
        self._questions: deque[tuple[OffsetQuestion, Callable[[OffsetAnswer], None]]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._log = Logger(f"LeaderOffsets broker={broker_id}")

    def ask(self, question: OffsetQuestion, on_answer: Callable[[OffsetAnswer], None]) -> None:
        """Nothing is answered after `close`."""
        with self._lock:
            if self._closed:
                return
            self._questions.append((question, on_answer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leader-offsets", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Nothing is answered any more. The question under way ends by itself: a leader may take its time."""
        with self._lock:
            self._closed = True
            self._questions.clear()

    def _run(self) -> None:
        peers: dict[tuple[str, int], Peer] = {}
        try:
            while (taken := self._take()) is not None:
                question, on_answer = taken
                answer = self._answer(question, peers)
                if not self._closed:
                    on_answer(answer)
        finally:
            for peer in peers.values():
                peer.close()

    def _take(self) -> tuple[OffsetQuestion, Callable[[OffsetAnswer], None]] | None:
        """The next question; None: there is none, and this thread ends."""
        with self._lock:
            if self._questions:
                return self._questions.popleft()
            self._thread = None
            return None

    def _answer(self, question: OffsetQuestion, peers: dict[tuple[str, int], Peer]) -> OffsetAnswer:
        address = (question.host, question.port)
        try:
            peer = peers.get(address)
            if peer is None or not peer.connected:
                peer = peers[address] = Peer(*address, f"broker-{self._broker_id}-offsets", self._timeout_ms)
                peer.connect()
            response = peer.request(self._request(question), m.ListOffsetsResponse, versions=_VERSIONS)
        except PeerError as error:
            self._log.warn("leader could not be asked", partition=question.partition, error=error)
            return OffsetAnswer(int(ErrorCode.NETWORK_EXCEPTION), -1)
        except Exception:  # the edge of a thread: without it no leader would be asked any more
            self._log.exception("leader could not be asked", partition=question.partition)
            broken = peers.pop(address, None)
            if broken is not None:
                broken.close()
            return OffsetAnswer(int(ErrorCode.UNKNOWN_SERVER_ERROR), -1)
        for topic in response.topics:
            for each in topic.partitions:
                if (topic.name, each.partition_index) == question.partition:
                    return OffsetAnswer(each.error_code, each.offset)
        return OffsetAnswer(int(ErrorCode.UNKNOWN_SERVER_ERROR), -1)

    def _request(self, question: OffsetQuestion) -> m.ListOffsetsRequest:
        return m.ListOffsetsRequest(
            replica_id=self._broker_id,
            topics=[
                m.ListOffsetsRequest.ListOffsetsTopic(
                    name=question.partition.topic,
                    partitions=[
                        m.ListOffsetsRequest.ListOffsetsPartition(
                            partition_index=question.partition.partition,
                            current_leader_epoch=question.leader_epoch,
                            timestamp=question.timestamp,
                        )
                    ],
                )
            ],
        )
