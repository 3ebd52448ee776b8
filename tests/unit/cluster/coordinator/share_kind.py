"""A third kind of coordinator, for tests: share groups' state (KIP-932), with Kafka's topic, requests and records.

What stays true: a state is what was written last in the newest epochs; a batch of a client's that is older is fenced; a
snapshot of a partition that has rested is written by a timer.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import NamedTuple, TypeVar

from cluster.coordinator.context import RequestContext, Topics
from cluster.coordinator.shard import Done, Step, Write
from cluster.effects import Ask, CancelTimer, Reply, SetTimer
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from pylog.errors import ErrorCode

SHARE_TOPIC = "__share_group_state"
RESTS_MS = 5_000
_Write, _Read = m.WriteShareGroupStateRequest, m.ReadShareGroupStateRequest
_Written, _ReadDone = m.WriteShareGroupStateResponse, m.ReadShareGroupStateResponse
_Response = TypeVar("_Response", bound=Message)


class Key(NamedTuple):
    group_id: str
    topic_id: bytes
    partition: int

    def text(self) -> str:
        """What finds its shard."""
        return f"{self.group_id}:{self.topic_id.hex()}:{self.partition}"


class State(NamedTuple):
    """`snapshot_epoch`: how often it was rewritten whole."""

    snapshot_epoch: int
    state_epoch: int
    leader_epoch: int
    start_offset: int


class Stored(NamedTuple):
    key: Key
    state: State


def key_of(message: Message) -> Key:
    """Of a request about one partition."""
    assert isinstance(message, (_Write, _Read))
    (topic,) = message.topics
    (each,) = topic.partitions
    return Key(message.group_id, topic.topic_id, each.partition)


class ShareMachine:
    """The states of one shard."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._is_led_in = -1
        self._waiting: dict[Key, list[RequestContext]] = {}  # reads that wait to hear whether they may
        self.states: dict[Key, State] = {}

    def elected(self, leader_epoch: int) -> None:
        self._is_led_in = leader_epoch

    def handle(self, ctx: RequestContext, message: Message, now_ms: int) -> list[Step]:
        key = key_of(message)
        if isinstance(message, _Read):
            self._waiting.setdefault(key, []).append(ctx)
            return [Ask(key, "may it be read?")] if len(self._waiting[key]) == 1 else []
        assert isinstance(message, _Write)
        (said,) = message.topics[0].partitions
        known = self.states.get(key)
        if known is not None and (said.state_epoch, said.leader_epoch) < (known.state_epoch, known.leader_epoch):
            return [Reply(ctx.reply_to, written(key, ErrorCode.FENCED_STATE_EPOCH))]
        epoch = 0 if known is None else known.snapshot_epoch
        state = State(epoch, said.state_epoch, said.leader_epoch, said.start_offset)
        return [Write((Stored(key, state),), partial(self._stored, ctx, key))]

    def _stored(self, ctx: RequestContext, key: Key, error: ErrorCode, now_ms: int) -> list[Step]:
        steps: list[Step] = [Reply(ctx.reply_to, written(key, error))]
        return steps if error else [*steps, SetTimer(key, now_ms + RESTS_MS)]

    def replay(self, fact: object, offset: int, now_ms: int, producer_id: int = -1) -> None:
        assert isinstance(fact, Stored)
        self.states[fact.key] = fact.state

    def replay_marker(self, producer_id: int, *, commit: bool) -> None:
        raise AssertionError("nothing of it is written in transactions")

    def underway(self, facts: tuple[object, ...]) -> Done:
        raise AssertionError("nothing is taken for it elsewhere")

    def loaded(self, now_ms: int) -> list[Step]:
        return [SetTimer(key, now_ms + RESTS_MS) for key in self.states]

    def unloaded(self) -> list[Step]:
        return [
            Reply(ctx.reply_to, read(key, None, ErrorCode.NOT_COORDINATOR))
            for key, waiting in self._waiting.items()
            for ctx in waiting
        ]

    def timer(self, key: Hashable, now_ms: int) -> list[Step]:
        assert isinstance(key, Key)
        state = self.states[key]
        snapshot = state._replace(snapshot_epoch=state.snapshot_epoch + 1)
        return [Write((Stored(key, snapshot),), lambda error, at_ms: [])]

    def told(self, key: Hashable, answer: object, now_ms: int) -> list[Step]:
        assert isinstance(key, Key)
        found = read(key, self.states.get(key), ErrorCode.NONE)
        return [Reply(ctx.reply_to, found) for ctx in self._waiting.pop(key)]

    def topics_deleted(self, topics: frozenset[str], now_ms: int) -> list[Step]:
        gone = [key for key in self.states if self._topics.topic_name(key.topic_id) in topics]
        for key in gone:
            del self.states[key]
        return [CancelTimer(key) for key in gone]


def written(key: Key, error: ErrorCode) -> m.WriteShareGroupStateResponse:
    result = _Written.PartitionResult(partition=key.partition, error_code=error)
    return _Written(results=[_Written.WriteStateResult(topic_id=key.topic_id, partitions=[result])])


def read(key: Key, state: State | None, error: ErrorCode) -> m.ReadShareGroupStateResponse:
    result = _ReadDone.PartitionResult(
        partition=key.partition,
        error_code=error,
        state_epoch=0 if state is None else state.state_epoch,
        start_offset=-1 if state is None else state.start_offset,
    )
    return _ReadDone(results=[_ReadDone.ReadStateResult(topic_id=key.topic_id, partitions=[result])])


class ShareKind:
    topic = SHARE_TOPIC
    apis = frozenset({ApiKey.READ_SHARE_GROUP_STATE, ApiKey.WRITE_SHARE_GROUP_STATE})
    write_timeout_ms = 5_000

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def partition_count(self) -> int:
        return self._topics.partition_count(self.topic)

    def open(self, partition: int) -> ShareMachine:
        return ShareMachine(self._topics)

    def check(self, ctx: RequestContext, message: Message) -> ErrorCode:
        assert isinstance(message, (_Write, _Read))
        return ErrorCode.NONE if message.group_id else ErrorCode.INVALID_GROUP_ID

    def key(self, ctx: RequestContext, message: Message) -> str | None:
        """None: each partition may be another shard's."""
        return None

    def split(self, ctx: RequestContext, message: Message) -> list[tuple[str, Message]] | None:
        assert isinstance(message, (_Write, _Read))
        parts: list[Message] = []
        for topic in message.topics:
            for each in topic.partitions:
                if isinstance(each, _Write.PartitionData):
                    data = _Write.WriteStateData(topic_id=topic.topic_id, partitions=[each])
                    parts.append(_Write(group_id=message.group_id, topics=[data]))
                else:
                    one = _Read.ReadStateData(topic_id=topic.topic_id, partitions=[each])
                    parts.append(_Read(group_id=message.group_id, topics=[one]))
        return [(key_of(part).text(), part) for part in parts]

    def merge(self, ctx: RequestContext, message: Message, parts: list[object]) -> object:
        if isinstance(message, _Read):
            return _ReadDone(results=[each for part in _all(parts, _ReadDone) for each in part.results])
        return _Written(results=[each for part in _all(parts, _Written) for each in part.results])

    def refuse(self, ctx: RequestContext, message: Message, error: ErrorCode) -> object:
        assert isinstance(message, (_Write, _Read))
        if not message.group_id:
            return _Written() if isinstance(message, _Write) else _ReadDone()
        key = key_of(message)
        return read(key, None, error) if isinstance(message, _Read) else written(key, error)

    def encode(self, fact: object) -> tuple[bytes, bytes | None]:
        assert isinstance(fact, Stored)
        key, state = fact
        value = m.ShareSnapshotValue(
            snapshot_epoch=state.snapshot_epoch,
            state_epoch=state.state_epoch,
            leader_epoch=state.leader_epoch,
            start_offset=state.start_offset,
        )
        named = m.ShareSnapshotKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition)
        return encode_versioned(named, 0), encode_versioned(value, 0)

    def decode(self, key: bytes, value: bytes | None) -> object | None:
        assert value is not None
        named = m.ShareSnapshotKey.decode(key, read_version(key), VERSION_BYTES)
        said = m.ShareSnapshotValue.decode(value, read_version(value), VERSION_BYTES)
        state = State(said.snapshot_epoch, said.state_epoch, said.leader_epoch, said.start_offset)
        return Stored(Key(named.group_id, named.topic_id, named.partition), state)


def _all(parts: list[object], kind: type[_Response]) -> list[_Response]:
    return [part for part in parts if isinstance(part, kind)]
