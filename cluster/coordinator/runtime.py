"""Hosts coordinators: requests to shards, their writes to the log, commits back to them, timers, answers.

What stays true:
  - operation -> facts -> records -> append -> committed -> replay -> answer: a machine sees its own write only when it
    can no longer be lost;
  - an answer that needs several shards is given when the last of them has spoken; of a request about many groups some
    are asked at a time, so that it keeps nobody else waiting;
  - what arrives for a shard that is gone (an append, a timer, a commit) is ignored: its requests were answered when it
    was unloaded.

How the broker drives it. Every method that may answer returns effects (`cluster.effects`) to carry out in order.

    runtime = Runtime(kinds)
    runtime.load_start(topic, partition, leader_epoch)    we lead the partition; False: nothing to load, go on
    runtime.replay(topic, partition, key, value, offset)  each record up to the high watermark, in order; for those of
    runtime.replay_marker(...)                            a transaction with the producer's id, and its marker
    runtime.load_done(topic, partition, now_ms)           from now on requests are served
    runtime.unload(topic, partition, leader_epoch)        we lead it no longer, or could not load it
    runtime.request(partition, ctx, message, now_ms)      a decoded request; partition None: found by its groups
    runtime.appended(token, offset or error, last, now)   an Append was written, at these offsets, or failed
    runtime.committed(topic, partition, hw, now_ms)       the high watermark moved
    runtime.marker(topic, partition, marker, offset, now) the end of a transaction was written there, at this offset
    runtime.taken(topic, partition, records, now_ms)      the data plane has taken offsets of members published to it
    runtime.timer(key, now_ms)                            a timer is due
    runtime.told(key, answer, now_ms)                     the answer to an Ask
    runtime.on_topics_deleted(names, now_ms)              these topics are gone for good

`now_ms` counts from 1970 like the wall clock but never jumps or falls: sessions end by it, and records are stamped with
it, but for what the data plane takes. The broker stamps the batches, with the time of the append, as Kafka does. If
`replay` raises, the shard is to be unloaded: it must not serve half of its state. The high watermark may be told before
the append it covers, and more often than it moves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from cluster.coordinator.context import RequestContext
from cluster.coordinator.find_coordinator import partition_of_key
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.shard import Flight, HostedShard, Kind, Machine, Marker, Step, Write
from cluster.effects import (
    Append,
    Ask,
    CancelAsk,
    CancelTimer,
    Effect,
    Note,
    PublishConsumer,
    PublishMembers,
    Reply,
    SetTimer,
    Shard,
    WithdrawMembers,
)
from cluster.protocol.errors import EncodeError
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Final

#: Of how many groups, or shards, a request is served before others are: a few ms.
PARTS_AT_ONCE: Final = 64
_NO_PARTITION: Final = -1


class TimerKey(NamedTuple):
    """`inner`: what the machine calls it; None: the writes of the shard are overdue; of no partition: a request about
    many groups goes on."""

    shard: Shard
    inner: Hashable


class AskKey(NamedTuple):
    """`inner`: what the machine calls its question."""

    shard: Shard
    inner: Hashable


class Taken(NamedTuple):
    """Records that the data plane wrote for a shard, at `base_offset`, when it was led in `leader_epoch` and this was
    the high watermark."""

    records: list[tuple[bytes, bytes]]
    base_offset: int
    leader_epoch: int
    high_watermark: int


class _Gather:
    """An answer that waits for its parts. `questions`: the partition and the request of each. `begun`: so many are
    asked."""

    __slots__ = ("begun", "ctx", "kind", "message", "missing", "parts", "questions")

    def __init__(self, kind: Kind, ctx: RequestContext, message: Message, questions: list[tuple[int, Message]]) -> None:
        self.kind = kind
        self.ctx = ctx
        self.message = message
        self.questions = questions
        self.parts: list[object] = [None] * len(questions)
        self.begun = 0
        self.missing = len(questions)


class _PartOf(NamedTuple):
    """The `reply_to` of a part."""

    gather: _Gather
    number: int


class Runtime:
    """See the top of this file. `kinds`: what to host."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds: dict[str, Kind] = {}
        self._kind_of_api: dict[int, Kind] = {}
        self._hosted: dict[Shard, HostedShard] = {}
        self._owner_of: dict[int, HostedShard] = {}
        self._next_token = 0
        for kind in kinds:
            self.host(kind)

    def host(self, kind: Kind) -> None:
        """One sort of coordinator more."""
        self._kinds[kind.topic] = kind
        self._kind_of_api |= dict.fromkeys(kind.apis, kind)

    # Leadership ---------------------------------------------------------------------------------------------------

    def is_coordinator_topic(self, topic: str) -> bool:
        return topic in self._kinds

    def is_serving(self, topic: str, partition: int) -> bool:
        host = self._hosted.get(Shard(topic, partition))
        return host is not None and not host.loading

    def machine(self, topic: str, partition: int) -> Machine | ErrorCode:
        """That of a shard, to be asked about what is; or what whoever asks is to be told."""
        host = self._hosted.get(Shard(topic, partition))
        if host is None:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if host.loading else host.machine

    def machines(self, topic: str) -> list[Machine]:
        """Those of the shards of a kind that serve."""
        return [host.machine for shard, host in self._hosted.items() if shard.topic == topic and not host.loading]

    def partition_for(self, key: str, topic: str = GroupKind.topic) -> int:
        """The partition whose leader answers for this group id (or transactional id)."""
        return partition_of_key(key, self._kinds[topic].partition_count())

    def load_start(self, topic: str, partition: int, leader_epoch: int) -> bool:
        """Begin to load. False: it is loaded or being loaded already, and only the epoch has moved."""
        shard = Shard(topic, partition)
        host = self._hosted.get(shard)
        if host is not None:
            if leader_epoch > host.leader_epoch:
                host.leader_epoch = leader_epoch
                host.machine.elected(leader_epoch)
            return False
        self._hosted[shard] = HostedShard(shard, self._kinds[topic], leader_epoch)
        return True

    def replay(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, offset: int, producer_id: int = -1
    ) -> None:
        """One record while loading. `producer_id`: of the transaction it is part of; -1: none. Raises DecodeError."""
        host = self._hosted[Shard(topic, partition)]
        assert host.loading
        fact = None if key is None else host.kind.decode(key, value)
        if fact is not None:
            host.machine.replay(fact, offset, 0, producer_id)

    def replay_all(
        self, topic: str, partition: int, rows: Iterable[tuple[int, bytes | None, bytes | None]], producer_id: int = -1
    ) -> None:
        """Many records while loading, each as offset, key and value. Raises DecodeError."""
        host = self._hosted[Shard(topic, partition)]
        assert host.loading
        decode, replay = host.kind.decode, host.machine.replay
        for offset, key, value in rows:
            fact = None if key is None else decode(key, value)
            if fact is not None:
                replay(fact, offset, 0, producer_id)

    def replay_marker(self, topic: str, partition: int, producer_id: int, *, commit: bool) -> None:
        """The end of a transaction, while loading."""
        host = self._hosted[Shard(topic, partition)]
        assert host.loading
        host.machine.replay_marker(producer_id, commit=commit)

    def load_done(self, topic: str, partition: int, now_ms: int) -> list[Effect]:
        """Everything was replayed. Nothing to do if the shard was unloaded meanwhile."""
        host = self._hosted.get(Shard(topic, partition))
        if host is None or not host.loading:
            return []
        host.loading = False
        return self._carry_out(host, host.machine.loaded(now_ms), now_ms) + self._commit(host, now_ms)

    def unload(self, topic: str, partition: int, leader_epoch: int | None = None) -> list[Effect]:
        """Stop hosting. Whoever waits is told NOT_COORDINATOR. An older `leader_epoch` than ours comes too late."""
        shard = Shard(topic, partition)
        host = self._hosted.get(shard)
        if host is None or (leader_epoch is not None and leader_epoch < host.leader_epoch):
            return []
        del self._hosted[shard]
        steps = host.machine.unloaded()
        for token, flight in host.flights.items():
            del self._owner_of[token]
            if flight.done is not None:
                steps += flight.done(ErrorCode.NOT_COORDINATOR, 0)
        effects: list[Effect] = [CancelTimer(TimerKey(shard, inner)) for inner in host.armed]
        effects += [CancelAsk(AskKey(shard, inner)) for inner in host.asked]
        for step in steps:
            if isinstance(step, Reply):
                self._reply(step, effects)
            elif isinstance(step, (Note, WithdrawMembers)):
                effects.append(step)
        return effects

    # Requests -----------------------------------------------------------------------------------------------------

    def request(self, partition: int | None, ctx: RequestContext, message: Message, now_ms: int) -> list[Effect]:
        """Serve a request of one of the APIs of our kinds. `partition`: where its one group is, if the caller knows."""
        kind = self._kind_of_api[ctx.api_key]
        error = kind.check(ctx, message)
        if error:
            return [Reply(ctx.reply_to, kind.refuse(ctx, message, error))]
        key = kind.key(ctx, message)
        if key is not None:
            if partition is None:
                partition = partition_of_key(key, kind.partition_count())
            effects: list[Effect] = []
            self._ask(kind, partition, ctx, message, now_ms, effects)
            return effects
        return self._ask_many(kind, ctx, message, now_ms)

    def _ask(
        self, kind: Kind, partition: int, ctx: RequestContext, message: Message, now_ms: int, effects: list[Effect]
    ) -> None:
        host = self._hosted.get(Shard(kind.topic, partition))
        if host is not None and not host.loading:
            effects += self._carry_out(host, host.machine.handle(ctx, message, now_ms), now_ms)
            return
        error = ErrorCode.NOT_COORDINATOR if host is None else ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        self._reply(Reply(ctx.reply_to, kind.refuse(ctx, message, error)), effects)

    def _ask_many(self, kind: Kind, ctx: RequestContext, message: Message, now_ms: int) -> list[Effect]:
        parts = kind.split(ctx, message)
        if parts is None:
            asked = [(shard.partition, message) for shard in self._hosted if shard.topic == kind.topic]
        else:
            count = kind.partition_count()
            asked = [(partition_of_key(key, count), part) for key, part in parts]
        if not asked:
            return [Reply(ctx.reply_to, kind.merge(ctx, message, []))]
        return self._ask_on(_Gather(kind, ctx, message, asked), now_ms)

    def _ask_on(self, gather: _Gather, now_ms: int) -> list[Effect]:
        """Ask the next of its parts, and the rest when others have had their turn."""
        effects: list[Effect] = []
        begin, gather.begun = gather.begun, min(gather.begun + PARTS_AT_ONCE, len(gather.questions))
        for index in range(begin, gather.begun):
            partition, part = gather.questions[index]
            ctx = gather.ctx._replace(reply_to=_PartOf(gather, index))
            self._ask(gather.kind, partition, ctx, part, now_ms, effects)
        if gather.begun < len(gather.questions):
            effects.append(SetTimer(TimerKey(Shard(gather.kind.topic, _NO_PARTITION), gather), now_ms + 1))
        return effects

    def on_topics_deleted(self, names: Iterable[str], now_ms: int) -> list[Effect]:
        """Forget what was committed for these topics."""
        topics = frozenset(names)
        effects: list[Effect] = []
        for host in list(self._hosted.values()):
            if not host.loading:
                effects += self._carry_out(host, host.machine.topics_deleted(topics, now_ms), now_ms)
        return effects

    # The log ------------------------------------------------------------------------------------------------------

    def appended(
        self, token: int, base_offset_or_error: int | ErrorCode, last_offset: int, now_ms: int
    ) -> list[Effect]:
        """How an Append went: its first and last offset, or why nothing of it is in the log."""
        host = self._owner_of.get(token)
        if host is None:
            return []
        if isinstance(base_offset_or_error, ErrorCode):
            flight = host.flights.pop(token)
            del self._owner_of[token]
            steps = [] if flight.done is None else flight.done(base_offset_or_error, now_ms)
            return self._carry_out(host, steps, now_ms) + self._commit(host, now_ms)
        flight = host.flights[token]
        assert last_offset - base_offset_or_error == len(flight.facts) - 1
        flight.base_offset = base_offset_or_error
        flight.last_offset = last_offset
        return self._commit(host, now_ms)

    def committed(self, topic: str, partition: int, high_watermark: int, now_ms: int) -> list[Effect]:
        """All records below `high_watermark` are durable."""
        host = self._hosted.get(Shard(topic, partition))
        if host is None:
            return []
        if host.loading:  # it is being read as far as that
            host.heard_end = max(host.heard_end, high_watermark)
        if high_watermark <= host.high_watermark:
            return []
        host.high_watermark = high_watermark
        return self._commit(host, now_ms)

    def marker(self, topic: str, partition: int, marker: Marker, offset: int, now_ms: int) -> list[Effect]:
        """A marker of the coordinator of transactions is in the shard's log. It takes effect when it is committed and
        the shard is loaded; twice, perhaps, if the loading saw it too, which changes nothing."""
        host = self._hosted.get(Shard(topic, partition))
        if host is None:
            return []
        flight = Flight(Write((), _nothing_follows), now_ms + host.kind.write_timeout_ms, marker)
        flight.base_offset = flight.last_offset = offset
        self._launch(host, flight)
        return self._commit(host, now_ms)

    def taken(self, topic: str, partition: int, taken: Taken, now_ms: int) -> list[Effect]:
        """Offsets of published members are in the log, and are replayed when they are committed.

        What the machine has written meanwhile may lie behind them and be replayed already: of two commits the later one
        in the log wins, and a deletion is not written before the machine has heard of everything before it."""
        host = self._hosted.get(Shard(topic, partition))
        if host is None or taken.leader_epoch < host.loaded_epoch:
            return []  # the loading saw it, if it is there at all
        end = taken.base_offset + len(taken.records)
        host.heard_end = max(host.heard_end, end)
        effects = self.committed(topic, partition, taken.high_watermark, now_ms)
        facts = tuple([host.kind.decode(key, value) for key, value in taken.records])
        if end <= host.high_watermark and not host.loading:
            for number, fact in enumerate(facts):
                host.machine.replay(fact, taken.base_offset + number, now_ms)
            return effects
        flight = Flight(Write(facts, host.machine.underway(facts)), now_ms + host.kind.write_timeout_ms)
        flight.base_offset, flight.last_offset = taken.base_offset, end - 1
        self._launch(host, flight)
        if None not in host.armed:
            effects.append(self._set_timer(host, None, flight.deadline_ms))
        return effects

    def _launch(self, host: HostedShard, flight: Flight) -> int:
        token = self._next_token
        self._next_token += 1
        host.flights[token] = flight
        self._owner_of[token] = host
        return token

    def _commit(self, host: HostedShard, now_ms: int) -> list[Effect]:
        if host.loading:
            return []
        effects: list[Effect] = []
        for token, flight in host.take_committed():
            del self._owner_of[token]
            for number, fact in enumerate(flight.facts):
                host.machine.replay(fact, flight.base_offset + number, now_ms, flight.producer_id)
            if flight.marker is not None:
                host.machine.replay_marker(flight.marker.producer_id, commit=flight.marker.commit)
            if flight.done is not None:
                effects += self._carry_out(host, flight.done(ErrorCode.NONE, now_ms), now_ms)
        return effects

    def _overdue(self, host: HostedShard, now_ms: int) -> list[Effect]:
        """Tell those who have waited too long. Their records may be committed all the same, and then count."""
        effects: list[Effect] = []
        for flight in list(host.flights.values()):
            if flight.done is None:
                continue
            if flight.deadline_ms > now_ms:
                effects.append(self._set_timer(host, None, flight.deadline_ms))
                break
            done, flight.done = flight.done, None
            effects += self._carry_out(host, done(ErrorCode.REQUEST_TIMED_OUT, now_ms), now_ms)
        return effects

    # Effects ------------------------------------------------------------------------------------------------------

    def timer(self, key: TimerKey, now_ms: int) -> list[Effect]:
        """A timer of ours is due. One that was cancelled too late to be stopped does no harm."""
        if isinstance(key.inner, _Gather):
            return self._ask_on(key.inner, now_ms)
        host = self._hosted.get(key.shard)
        if host is None or key.inner not in host.armed:
            return []
        del host.armed[key.inner]
        if key.inner is None:
            return self._overdue(host, now_ms)
        return self._carry_out(host, host.machine.timer(key.inner, now_ms), now_ms)

    def told(self, key: AskKey, answer: object, now_ms: int) -> list[Effect]:
        """The answer to a question of ours. One that nobody waits for any more does no harm."""
        host = self._hosted.get(key.shard)
        if host is None or key.inner not in host.asked:
            return []
        del host.asked[key.inner]
        return self._carry_out(host, host.machine.told(key.inner, answer, now_ms), now_ms)

    def _carry_out(self, host: HostedShard, steps: list[Step], now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for step in steps:
            if isinstance(step, Reply):
                self._reply(step, effects)
            elif isinstance(step, Write):
                self._append(host, step, now_ms, effects)
            elif isinstance(step, Ask):
                assert step.key not in host.asked
                host.asked[step.key] = None
                effects.append(Ask(AskKey(host.shard, step.key), step.question))
            elif isinstance(step, SetTimer):
                effects.append(self._set_timer(host, step.key, step.deadline_ms))
            elif isinstance(step, CancelTimer):
                if step.key in host.armed:
                    del host.armed[step.key]
                    effects.append(CancelTimer(TimerKey(host.shard, step.key)))
            elif isinstance(step, (PublishMembers, PublishConsumer)):
                effects.append(step._replace(shard=host.shard))
            else:
                effects.append(step)
        return effects

    def _reply(self, reply: Reply, effects: list[Effect]) -> None:
        """Send an answer, or put it where its whole is waiting for it."""
        to = reply.reply_to
        if not isinstance(to, _PartOf):
            effects.append(reply)
            return
        gather = to.gather
        assert gather.parts[to.number] is None
        gather.parts[to.number] = reply.message
        gather.missing -= 1
        if not gather.missing:
            whole = gather.kind.merge(gather.ctx, gather.message, gather.parts)
            effects.append(Reply(gather.ctx.reply_to, whole))

    def _append(self, host: HostedShard, write: Write, now_ms: int, effects: list[Effect]) -> None:
        try:
            records = [host.kind.encode(fact) for fact in write.facts]
        except EncodeError:
            # What a client sent is longer than a record can say. Nothing was appended, so nothing has to be undone.
            effects += self._carry_out(host, write.done(ErrorCode.MESSAGE_TOO_LARGE, now_ms), now_ms)
            return
        flight = Flight(write, now_ms + host.kind.write_timeout_ms)
        token = self._launch(host, flight)
        if None not in host.armed:
            effects.append(self._set_timer(host, None, flight.deadline_ms))
        heard = host.heard_end if write.knows_all else None
        effects.append(Append(host.shard, records, token, write.producer, heard))

    def _set_timer(self, host: HostedShard, inner: Hashable, deadline_ms: int) -> SetTimer:
        host.armed[inner] = None
        return SetTimer(TimerKey(host.shard, inner), deadline_ms)


def _nothing_follows(error: ErrorCode, now_ms: int) -> list[Step]:
    return []
