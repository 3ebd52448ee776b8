"""Drives a coordinator as a broker would: carries out effects on a log, a clock and timers of its own.

What stays true: every request and answer goes through its bytes; a second answer to one request is an error; what is
appended is replayed from bytes when the shard is loaded again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable
from typing import TypeVar

from cluster.coordinator.context import RequestContext
from cluster.coordinator.runtime import Runtime, TimerKey
from cluster.coordinator.shard import Kind
from cluster.effects import Append, Ask, CancelAsk, CancelTimer, Effect, Note, Reply, SetTimer, Shard
from cluster.protocol.message import Message
from pylog.errors import ErrorCode

Response = TypeVar("Response", bound=Message)


class FewTopics:
    """Topics by name and partition count; the id is the name, filled up."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.changes = 1

    def partition_count(self, topic: str) -> int:
        return self.counts.get(topic, 0)

    def topic_id(self, topic: str) -> bytes | None:
        return topic.encode().ljust(16, b".")[:16] if topic in self.counts else None

    def topic_name(self, topic_id: bytes) -> str | None:
        return next((topic for topic in self.counts if self.topic_id(topic) == topic_id), None)

    def version(self) -> int:
        return self.changes

    def partition_racks(self, topic: str) -> list[list[str]]:
        return [[] for _ in range(self.counts[topic])]

    def put(self, topic: str, count: int) -> None:
        """A topic is made, or has more partitions."""
        self.counts[topic] = count
        self.changes += 1


class ShardDriver(ABC):
    """`commits`: whether an append is committed at once. `appends`: whether it is made at once. `write_error`: what the
    next appends fail with. `topic`: whose partitions are the shards."""

    def __init__(self, topic: str, topics: FewTopics) -> None:
        self.topic = topic
        self.topics = topics
        self.now_ms = 1_000_000
        self.leader_epoch = 0
        self.runtime = Runtime([self.kind()])
        self.logs: dict[Shard, list[tuple[bytes, bytes | None]]] = {}
        self.high: dict[Shard, int] = {}
        self.timers: dict[Hashable, int] = {}
        self.answers: dict[Hashable, Message] = {}
        self.asked: dict[Hashable, RequestContext] = {}
        self.seen: list[Effect] = []
        self.seen_ms: list[int] = []
        self.waiting: deque[Append] = deque()
        self.client_host = "127.0.0.1"
        self.verified = ErrorCode.NONE  # what a transaction's coordinator says of its offsets
        self.commits = True
        self.appends = True
        self.write_error: ErrorCode | None = None

    # What the kinds differ in -------------------------------------------------------------------------------------

    @abstractmethod
    def kind(self) -> Kind:
        """A coordinator that knows nothing yet."""

    @abstractmethod
    def ask_of(self, ask: Ask) -> None:
        """The coordinator wants to know something."""

    @abstractmethod
    def call_off(self, ask: CancelAsk) -> None:
        """Not any more."""

    @abstractmethod
    def answer_questions(self) -> None:
        """Effects are carried out: what is asked may be answered."""

    @abstractmethod
    def written(self, append: Append, base_offset: int) -> None:
        """Its records are in the log from there on."""

    def replay(self, shard: Shard, offset: int, key: bytes, value: bytes | None) -> None:
        """A record of a shard that is loaded."""
        self.runtime.replay(shard.topic, shard.partition, key, value, offset)

    # What the broker does -----------------------------------------------------------------------------------------

    def load_all(self) -> None:
        for partition in range(self.topics.counts[self.topic]):
            self.load(partition)

    def load(self, partition: int = 0, epoch: int | None = None) -> None:
        if self.runtime.load_start(self.topic, partition, self.leader_epoch if epoch is None else epoch):
            shard = Shard(self.topic, partition)
            for offset, (key, value) in enumerate(self.logs.get(shard, [])):
                self.replay(shard, offset, key, value)
            self.carry_out(self.runtime.load_done(self.topic, partition, self.now_ms))
            self.commit(partition)

    def unload(self, partition: int = 0) -> None:
        self.carry_out(self.runtime.unload(self.topic, partition))

    def restart(self, *, cut: bool = False) -> None:
        """Another broker takes over the log as it stands. `cut`: it never got what is not committed."""
        if cut:
            self.logs = {shard: log[: self.high.get(shard, 0)] for shard, log in self.logs.items()}
        for partition in range(self.topics.counts[self.topic]):
            self.unload(partition)
        self.waiting.clear()
        self.leader_epoch += 1
        self.runtime = Runtime([self.kind()])
        assert all(isinstance(key, TimerKey) and key.inner is None for key in self.timers)
        self.timers.clear()
        self.load_all()

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.seen.append(effect)
            self.seen_ms.append(self.now_ms)
            if isinstance(effect, Reply):
                assert effect.reply_to not in self.answers, f"second answer to {effect.reply_to}: {effect.message}"
                ctx = self.asked[effect.reply_to]
                assert isinstance(effect.message, Message)
                self.answers[effect.reply_to] = _through_bytes(effect.message, ctx.api_version)
            elif isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.deadline_ms
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
            elif isinstance(effect, Append):
                self.waiting.append(effect)
            elif isinstance(effect, Ask):
                self.ask_of(effect)
            elif isinstance(effect, CancelAsk):
                self.call_off(effect)
            else:
                assert isinstance(effect, Note)
        if self.appends:
            self.append_all()
        self.answer_questions()

    def append_all(self) -> None:
        while self.waiting:
            append = self.waiting.popleft()
            log = self.logs.setdefault(append.shard, [])
            if self.write_error is not None:
                self.carry_out(self.runtime.appended(append.token, self.write_error, -1, self.now_ms))
                continue
            base = len(log)
            log += append.records
            self.written(append, base)
            self.carry_out(self.runtime.appended(append.token, base, len(log) - 1, self.now_ms))
            if self.commits:
                self.commit(append.shard.partition)

    def commit(self, partition: int = 0) -> None:
        shard = Shard(self.topic, partition)
        high_watermark = self.high[shard] = len(self.logs.get(shard, []))
        self.carry_out(self.runtime.committed(self.topic, partition, high_watermark, self.now_ms))

    def advance(self, by_ms: int) -> None:
        """Let time pass, timer after timer."""
        until = self.now_ms + by_ms
        while self.timers:
            key = min(self.timers, key=lambda each: self.timers[each])
            if self.timers[key] > until:
                break
            self.now_ms = max(self.now_ms, self.timers.pop(key))
            assert isinstance(key, TimerKey)
            self.carry_out(self.runtime.timer(key, self.now_ms))
        self.now_ms = until

    # What clients do ----------------------------------------------------------------------------------------------

    def send(self, who: Hashable, request: Message, version: int, client_id: str = "c") -> Hashable:
        """Send a request; `who` names it for `answer`."""
        assert who not in self.asked, f"{who} was used before"
        ctx = self.context(who, request, version, client_id)
        self.asked[who] = ctx
        self.carry_out(self.runtime.request(None, ctx, _through_bytes(request, version), self.now_ms))
        return who

    def context(self, who: Hashable, request: Message, version: int, client_id: str) -> RequestContext:
        key, host = type(request).api_key, self.client_host
        return RequestContext(who, key, version, client_id, host, "User:ANONYMOUS", self.verified)

    def ask(self, request: Message, version: int, kind: type[Response], client_id: str = "c") -> Response:
        """Send a request that is answered at once."""
        return self.answer(self.send(("ask", len(self.asked)), request, version, client_id), kind)

    def answer(self, who: Hashable, kind: type[Response]) -> Response:
        answer = self.answers[who]
        assert isinstance(answer, kind)
        return answer


def _through_bytes(message: Message, version: int) -> Message:
    return type(message).decode(message.encode(version), version)
