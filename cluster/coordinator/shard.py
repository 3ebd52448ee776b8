"""What a coordinator looks like to the runtime, and the writes of one shard that are not committed yet.

What stays true of a shard: its writes are appended in the order of their tokens and replayed in the order of their
offsets, each once, and only when the high watermark has passed their last record. A write that was answered as timed
out is still replayed when it commits after all: the log decides, not the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from cluster.coordinator.context import RequestContext
from cluster.effects import (
    Ask,
    CancelTimer,
    Note,
    Producer,
    Publication,
    Reply,
    SetTimer,
    Shard,
    WithdrawMembers,
)
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Protocol, TypeAlias

Done: TypeAlias = "Callable[[ErrorCode, int], list[Step]]"
"""What follows a write: called with NONE after its facts were replayed, else with the error of the append."""


class Write(NamedTuple):
    """Make these facts durable, then say `done(error, now_ms)`. All of them or none. `producer`: they are part of its
    open transaction. `knows_all`: they are right only if the machine has heard of everything that is in the log, also
    of what was taken for it elsewhere; else the error is COORDINATOR_LOAD_IN_PROGRESS."""

    facts: tuple[object, ...]
    done: Done
    producer: Producer | None = None
    knows_all: bool = False


Step: TypeAlias = Reply | SetTimer | CancelTimer | Ask | Publication | WithdrawMembers | Note | Write


class Machine(Protocol):
    """The coordinator of one shard. The keys of timers and questions are its own; the runtime makes them unique."""

    def elected(self, leader_epoch: int) -> None:
        """Our broker leads the shard in this epoch. Said before the first record, and again whenever it moves."""

    def handle(self, ctx: RequestContext, message: Message, now_ms: int) -> list[Step]: ...

    def replay(self, fact: object, offset: int, now_ms: int, producer_id: int = -1) -> None:
        """Apply a durable fact. `producer_id`: that of the open transaction it belongs to; -1: none."""

    def replay_marker(self, producer_id: int, *, commit: bool) -> None: ...

    def underway(self, facts: tuple[object, ...]) -> Done:
        """Facts that were taken for it elsewhere are in the log, and will be replayed. Says what follows then."""

    def loaded(self, now_ms: int) -> list[Step]: ...

    def unloaded(self) -> list[Step]:
        """Answer everything that is parked; the machine is not used afterwards."""

    def timer(self, key: Hashable, now_ms: int) -> list[Step]: ...

    def told(self, key: Hashable, answer: object, now_ms: int) -> list[Step]:
        """The answer to what it asked. A shard that was unloaded hears of none."""

    def topics_deleted(self, topics: frozenset[str], now_ms: int) -> list[Step]: ...


class Kind(Protocol):
    """One sort of coordinator: how its requests find a shard and how its facts look on disk."""

    @property
    def topic(self) -> str: ...

    @property
    def apis(self) -> frozenset[ApiKey]: ...

    write_timeout_ms: int
    """How long a write may take before the one who waits for it is told that it timed out."""

    def partition_count(self) -> int: ...

    def open(self, partition: int) -> Machine: ...

    def check(self, ctx: RequestContext, message: Message) -> ErrorCode:
        """What is wrong with a request before any shard is asked; NONE: nothing."""

    def key(self, ctx: RequestContext, message: Message) -> str | None:
        """The key whose shard answers the whole message; None: it has to be split."""

    def split(self, ctx: RequestContext, message: Message) -> list[tuple[str, Message]] | None:
        """Key and part for each key in the message; None: every hosted shard is asked the whole."""

    def merge(self, ctx: RequestContext, message: Message, parts: list[object]) -> object:
        """One answer of the answers to the parts, which come in the order of `split`."""

    def refuse(self, ctx: RequestContext, message: Message, error: ErrorCode) -> object:
        """The answer when no shard can be asked."""

    def encode(self, fact: object) -> tuple[bytes, bytes | None]: ...

    def decode(self, key: bytes, value: bytes | None) -> object | None:
        """The fact, or None for a record that belongs to another coordinator or a later version."""


class Marker(NamedTuple):
    """The end of a producer's transaction."""

    producer_id: int
    commit: bool


class Flight:
    """A write between `Append` and commit. `done` is None once it was called; `last_offset` is -1 until appended.
    `marker`: it is one, written by the coordinator of transactions, and brings no facts."""

    __slots__ = ("base_offset", "deadline_ms", "done", "facts", "last_offset", "marker", "producer_id")

    def __init__(self, write: Write, deadline_ms: int, marker: Marker | None = None) -> None:
        self.facts = write.facts
        self.done: Done | None = write.done
        self.producer_id = -1 if write.producer is None else write.producer.producer_id
        self.marker = marker
        self.deadline_ms = deadline_ms
        self.base_offset = -1
        self.last_offset = -1


class HostedShard:
    """A shard this broker answers for. `flights`: by token, which is also the order in the log of what is written
    here. `heard_end`: where the last ended of what was taken elsewhere, as far as we have heard. `loaded_epoch`: in
    which it was loaded."""

    __slots__ = (
        "armed",
        "asked",
        "flights",
        "heard_end",
        "high_watermark",
        "kind",
        "leader_epoch",
        "loaded_epoch",
        "loading",
        "machine",
        "shard",
    )

    def __init__(self, shard: Shard, kind: Kind, leader_epoch: int) -> None:
        self.shard = shard
        self.kind = kind
        self.leader_epoch = leader_epoch
        self.machine = kind.open(shard.partition)
        self.machine.elected(leader_epoch)
        self.loading = True
        self.high_watermark = -1
        self.heard_end = 0
        self.loaded_epoch = leader_epoch
        self.flights: dict[int, Flight] = {}
        self.armed: dict[Hashable, None] = {}  # a set in the order of setting, so that a run can be repeated
        self.asked: dict[Hashable, None] = {}  # another

    def take_committed(self) -> Iterator[tuple[int, Flight]]:
        """The writes, with their tokens, below the high watermark, in the order of the log, each removed when its turn
        comes: if one fails, those behind it are not lost."""
        while self.flights:
            token = next(iter(self.flights))
            flight = self.flights[token]
            if flight.last_offset < 0 or flight.last_offset >= self.high_watermark:
                break
            del self.flights[token]
            yield token, flight
