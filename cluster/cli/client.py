"""The cluster as a command sees it: who leads what, who coordinates what, and a connection to each of them.

What it keeps true:
- One connection per broker and purpose, opened when first needed; a broken one is forgotten and opened anew.
- `retry` is the only place that tries again: after a broken connection, or an error code that Kafka calls retriable,
  until the time is up; then the last error is raised. What no waiting can cure is raised at once.
- When no bootstrap address ever answered there is nothing to wait for: one line that says so.

One thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from threading import Event
from types import TracebackType
from typing import TypeVar

from cluster.broker.peer import Peer, PeerError, UnreachableError, UnsupportedApiError
from cluster.cli.errors import CommandError, UsageError, check
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple

_DEFAULT_PORT = 9092
_CONNECT_TIMEOUT_MS = 10_000
_FIRST_BACKOFF_S = 0.05
_LAST_BACKOFF_S = 1.0
_SAY_AFTER_S = 1.0
# A topic that is being created automatically may stay unknown for a moment; one that is not stays unknown for good.
_UNKNOWN_TOPIC_S = 5.0
_GROUP_KEY = 0
_COORDINATOR = "coordinator"

#: Who leads a group's partition of it coordinates the group.
GROUPS_TOPIC = "__consumer_offsets"

R = TypeVar("R")
A = TypeVar("A", bound=Message)
Partition = m.MetadataResponse.MetadataResponsePartition


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addresses(text: str) -> list[Address]:
    """HOST[:PORT],... with [IPv6]:PORT too. Raises UsageError."""
    addresses = []
    for item in filter(None, map(str.strip, text.split(","))):
        host, colon, port = item.rpartition(":")
        if not colon or (host.count(":") and not host.startswith("[")):
            host, port = item, str(_DEFAULT_PORT)
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"--bootstrap-server: {item!r} has no port between 1 and 65535")
        addresses.append(Address(host.strip("[]") or "localhost", int(port)))
    if not addresses:
        raise UsageError("--bootstrap-server: no address given")
    return addresses


class ClusterClient:
    """A cluster reached through some addresses. `on_wait`: told, once per reason, why a command has to wait."""

    def __init__(
        self,
        bootstrap: list[Address],
        *,
        timeout_ms: int,
        client_id: str = "pylog",
        on_wait: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.timeout_ms = timeout_ms
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._on_wait = on_wait
        self._said = ""
        self._brokers: dict[int, Address] = {}
        self._peers: dict[tuple[int, str], Peer] = {}
        self._any: Peer | None = None
        self._was_connected = False
        self._closing = Event()

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._closing.set()
        for peer in self._peers.values():
            peer.close()
        if self._any is not None:
            self._any.close()

    def retry(self, attempt: Callable[[], R]) -> R:
        """Call `attempt` until it succeeds, as the module's docstring says."""
        started = time.monotonic()
        backoff = _FIRST_BACKOFF_S
        while True:
            error: KafkaError | PeerError
            try:
                return attempt()
            except UnsupportedApiError:
                raise
            except PeerError as failed:
                error = failed
            except KafkaError as failed:
                if not failed.code.retriable:
                    raise
                error = failed
            waited = time.monotonic() - started
            if waited + backoff > self.timeout_ms / 1000:
                raise error
            if waited > _SAY_AFTER_S:
                self.say_waiting(str(error))
            self.pause(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF_S)

    def pause(self, seconds: float) -> None:
        """Wait between two attempts."""
        self._closing.wait(seconds)

    def say_waiting(self, reason: str) -> None:
        """Tell the user why nothing happens, once per reason."""
        if reason != self._said:
            self._said = reason
            self._on_wait(f"waiting: {reason}")

    def any_broker(self) -> Peer:
        """A connection to whichever broker answers. Raises CommandError when none ever did, else PeerError."""
        if self._any is not None and self._any.connected:
            return self._any
        candidates = list(dict.fromkeys([*self._bootstrap, *self._brokers.values()]))
        failures = []
        for address in candidates:
            peer = self._peer(address)
            try:
                peer.connect()
            except UnreachableError as error:
                failures.append(error)
                continue
            self._any = peer
            self._was_connected = True
            return peer
        if self._was_connected:
            raise failures[-1]
        reasons = ", ".join(dict.fromkeys(error.reason for error in failures))
        where = ", ".join(map(str, candidates))
        hint = "; is it running? `pylog server` starts one" if "refused" in reasons else ""
        raise CommandError(f"no broker answers at {where}: {reasons}{hint}")

    def broker(self, node_id: int, purpose: str = "") -> Peer:
        """The connection to one broker for one purpose: what may block there shares no connection with what may not."""
        peer = self._peers.get((node_id, purpose))
        if peer is not None and peer.connected:
            return peer
        if node_id not in self._brokers:
            self.metadata([])
        address = self._brokers.get(node_id)
        if address is None:
            raise UnreachableError(f"broker {node_id}", "not in the cluster at the moment")
        peer = self._peer(address)
        try:
            peer.connect()
        except UnreachableError as error:
            raise UnreachableError(
                error.address, f"{error.reason}; broker {node_id} tells clients that it is there (advertised.listeners)"
            ) from error
        self._peers[node_id, purpose] = peer
        return peer

    def ask(self, message: Message, answer: type[A], *, versions: tuple[int, int] | None = None) -> A:
        """Ask any broker, with retries; error codes inside the answer are the caller's."""
        return self.retry(lambda: self.any_broker().request(message, answer, versions=versions))

    def controller(self) -> Peer:
        """The connection for administrative requests. Raises for `retry`."""
        return self.broker(self.metadata([]).controller_id)

    def coordinator(self, group: str) -> Peer:
        """The connection to a group's coordinator. Raises for `retry`."""
        (peer,) = self.coordinators([group]).values()
        return peer

    def coordinators(self, groups: Iterable[str]) -> dict[str, Peer]:
        """The connections to the coordinators of several groups, by group. Raises for `retry`."""
        names = list(groups)
        nodes: dict[str, int] = {}
        peer = self.any_broker()
        # From version 4 on several groups can be asked for at once, in another field.
        if peer.serves(m.FindCoordinatorRequest, (4, 5)):
            request = m.FindCoordinatorRequest(key_type=_GROUP_KEY, coordinator_keys=names)
            for found in peer.request(request, m.FindCoordinatorResponse, versions=(4, 5)).coordinators:
                _check_coordinator(found.key, found.error_code, found.error_message)
                nodes[found.key] = found.node_id
                self._brokers[found.node_id] = Address(found.host, found.port)
        else:
            for group in names:
                request = m.FindCoordinatorRequest(key=group, key_type=_GROUP_KEY)
                answer = peer.request(request, m.FindCoordinatorResponse, versions=(0, 3))
                _check_coordinator(group, answer.error_code, answer.error_message)
                nodes[group] = answer.node_id
                self._brokers[answer.node_id] = Address(answer.host, answer.port)
        return {group: self.broker(node_id, _COORDINATOR) for group, node_id in nodes.items()}

    def metadata(self, topics: list[str] | None, *, create: bool = False) -> m.MetadataResponse:
        """Brokers and the named topics (None: all of them), from any broker. `create`: let it create them."""
        peer = self.any_broker()
        wanted = None
        if topics is not None:
            wanted = [m.MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
            if not topics and not peer.serves(m.MetadataRequest, (1, 99)):
                wanted = [m.MetadataRequest.MetadataRequestTopic(name="")]  # version 0 has no way to ask for none
        request = m.MetadataRequest(topics=wanted, allow_auto_topic_creation=create)
        # Before version 4 asking about a topic creates it.
        answer = peer.request(request, m.MetadataResponse, versions=(0, 12) if create or not wanted else (4, 12))
        self._brokers.update({broker.node_id: Address(broker.host, broker.port) for broker in answer.brokers})
        return answer

    def all_topics(self) -> list[m.MetadataResponse.MetadataResponseTopic]:
        """Every topic, by name, with retries."""
        topics = self.retry(lambda: self.metadata(None)).topics
        return sorted(topics, key=lambda topic: topic.name or "")

    def partitions(self, topic: str, *, create: bool = False) -> list[Partition]:
        """The partitions of a topic in order, with retries. `create`: wait for the broker to create it."""
        patience = time.monotonic() + (_UNKNOWN_TOPIC_S if create else 0)

        def attempt() -> list[Partition]:
            found = self.metadata([topic], create=create).topics[0]
            if found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and time.monotonic() >= patience:
                raise CommandError(f"topic {topic!r} does not exist; `pylog topics create {topic}` creates it")
            check(found.error_code)
            return sorted(found.partitions, key=lambda partition: partition.partition_index)

        return self.retry(attempt)

    def _peer(self, address: Address) -> Peer:
        timeout_ms = self.timeout_ms if self._was_connected else min(self.timeout_ms, _CONNECT_TIMEOUT_MS)
        return Peer(address.host, address.port, f"{self._client_id}-{os.getpid()}", timeout_ms)


def _check_coordinator(group: str, code: int, message: str | None) -> None:
    if code == ErrorCode.COORDINATOR_NOT_AVAILABLE:
        why = f"its partition of {GROUPS_TOPIC} has no leader"
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"nobody coordinates group {group!r} now: {why}")
    check(code, message)
