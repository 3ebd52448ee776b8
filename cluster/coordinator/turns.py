"""The turns of a group's requests, and what several of them write together.

What stays true of a shared write: the group itself is what is committed. A turn is decided by a copy of the group, in
which the turns before it have happened; nothing is answered that was decided so before all of it is committed, and if
it is not, none of it has happened: the copy is gone, and whoever waits is refused. A member has one turn in it, so that
nothing in it is about what a member was told in it.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator.consumer_env import AnyFact
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_records import ConsumerFact
from cluster.coordinator.shard import Done, Step
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import cast

_MOST_TURNS = 64
_MOST_FACTS = 256


class Turn(NamedTuple):
    """`run`: when it comes; `refuse`: when it does not. `member`: a heartbeat of that member, which may share a write
    with others; None: it may not."""

    run: Callable[[int], list[Step]]
    refuse: Callable[[ErrorCode, int], list[Step]]
    member: str | None = None


class SharedWrite:
    """`facts`: to be written. `is_unfit`: the turn that was run last must wait until they are committed."""

    __slots__ = ("_applied", "_copy", "_members", "_parts", "_turn", "facts", "is_unfit")

    def __init__(self) -> None:
        self.facts: list[ConsumerFact] = []
        self.is_unfit = False
        self._parts: list[tuple[Turn, Done]] = []
        self._members: set[str] = set()
        self._turn: Turn | None = None
        self._copy: ConsumerGroup | None = None
        self._applied = 0

    def takes(self, turn: Turn) -> bool:
        """Whether a turn may be the next one; if so, it is."""
        if turn.member is None or turn.member in self._members or self.is_unfit:
            return False
        if len(self._members) >= _MOST_TURNS or len(self.facts) >= _MOST_FACTS:
            return False
        self._members.add(turn.member)
        self._turn = turn
        return True

    def group(self, committed: ConsumerGroup) -> ConsumerGroup:
        """The group as the turn finds it. Not to be changed but by what is added here."""
        if not self.facts:
            return committed
        if self._copy is None:
            self._copy = committed.copy()
        for fact in self.facts[self._applied :]:
            self._copy.apply(fact)
        self._applied = len(self.facts)
        return self._copy

    def add(self, facts: list[AnyFact], done: Done) -> None:
        """What the turn has decided: these, or nothing that is not known, because of what was decided before it."""
        assert self._turn is not None
        self.facts += cast("list[ConsumerFact]", facts)  # a change of protocol is not shared
        self._parts.append((self._turn, done))

    def written(self, error: ErrorCode, now_ms: int) -> list[Step]:
        steps: list[Step] = []
        for _, done in self._parts:
            steps += done(error, now_ms)
        return steps

    def turns(self) -> list[Turn]:
        """Those that wait for it."""
        return [turn for turn, _ in self._parts]
