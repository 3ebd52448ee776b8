"""The requests of one group go one after another, and its members are waited for.

What stays true: while records of a group are on their way to the log nothing else is decided about it, because what was
written is not yet part of it; whatever comes meanwhile waits its turn, and each has its turn once. A write that brings
members nearer to their targets and nothing else is about these members: of others what is known stays true meanwhile.
Heartbeats that have waited have their turns together, and one write (`turns.py`). When a write takes too long those who
wait are refused, and so is whoever comes with something to be decided until the log has. A timer never fires for a
member that was heard from in time, here or elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from functools import partial

from cluster.coordinator.consumer_env import SESSION, Wait
from cluster.coordinator.consumer_records import CurrentStored
from cluster.coordinator.consumer_regex import Regexes
from cluster.coordinator.context import Heard
from cluster.coordinator.published import Published
from cluster.coordinator.shard import Done, Step, Write
from cluster.coordinator.turns import SharedWrite, Turn
from cluster.effects import CancelTimer, SetTimer
from pylog.errors import ErrorCode

TIMER = "member"


_TOO_LARGE = frozenset({ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE})


class Lane:
    """`shared`: what the turns that are being run write together; None: each writes for itself. `moved`: what there
    is to do when members have come nearer to their targets, before they hear of it."""

    __slots__ = (
        "_about",
        "_alone",
        "_awaited",
        "_is_overdue",
        "_moved",
        "_turns",
        "published",
        "regexes",
        "shared",
        "timers",
    )

    def __init__(self, group_id: str, heard: Heard | None, moved: Callable[[list[str]], list[Step]]) -> None:
        self.published = Published(group_id, heard)
        self._about: list[str] | None = None
        self._moved = moved
        self.timers = MemberTimers(group_id, self.published)
        self.regexes = Regexes()
        self._turns: deque[Turn] = deque()
        self._awaited: object = None  # the last fact of the write that is under way
        self._is_overdue = False
        self._alone = 0  # so many turns are to write for themselves, because together they were too large
        self.shared: SharedWrite | None = None

    @property
    def is_busy(self) -> bool:
        return self._awaited is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return self._awaited is None and not self._turns and not self.timers and not self.regexes.is_resolving

    def is_about(self, member_id: str) -> bool:
        """Whether a write is under way after which it may be told something else."""
        return self._awaited is not None and (self._about is None or member_id in self._about)

    def take(self, turn: Turn, now_ms: int) -> list[Step]:
        """Now, if nothing is under way; else later."""
        if not self.is_busy:
            return turn.run(now_ms)
        if self._is_overdue:
            return turn.refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE, now_ms)
        self._turns.append(turn)
        return []

    def write(self, facts: tuple[object, ...], done: Done) -> list[Step]:
        assert not self.is_busy
        self._awaited = facts[-1]
        moved = [fact.member_id for fact in facts if isinstance(fact, CurrentStored)]
        self._about = moved if len(moved) == len(facts) else None
        return [*self.published.shut(self._about), Write(facts, partial(self._written, moved, done))]

    def _written(self, moved: list[str], done: Done, error: ErrorCode, now_ms: int) -> list[Step]:
        if error is ErrorCode.REQUEST_TIMED_OUT:
            self._is_overdue = True
            return done(error, now_ms) + self.refuse_all(ErrorCode.COORDINATOR_NOT_AVAILABLE, now_ms)
        self._awaited = None
        steps = [] if error else self._moved(moved)
        steps += done(error, now_ms)
        while self._turns and not self.is_busy:
            if self._alone or len(self._turns) == 1 or self._turns[0].member is None:
                self._alone = max(0, self._alone - 1)
                steps += self._turns.popleft().run(now_ms)
            else:
                steps += self._share(now_ms)
        return steps

    def _share(self, now_ms: int) -> list[Step]:
        """Run the next turns, as far as they may share a write."""
        steps: list[Step] = []
        shared = self.shared = SharedWrite()
        try:
            while self._turns and not self.is_busy and shared.takes(self._turns[0]):
                turn = self._turns.popleft()
                steps += turn.run(now_ms)
                if shared.is_unfit:
                    self._turns.appendleft(turn)
        finally:
            self.shared = None
        if shared.facts:
            steps += self.write(tuple(shared.facts), partial(self._shared_written, shared))
        return steps

    def _shared_written(self, shared: SharedWrite, error: ErrorCode, now_ms: int) -> list[Step]:
        turns = shared.turns()
        if error not in _TOO_LARGE or len(turns) == 1:
            return shared.written(error, now_ms)
        self._turns.extendleft(reversed(turns))
        self._alone = len(turns)
        return []

    def replayed(self, fact: object) -> None:
        """A fact of the group is committed: perhaps the one that had taken too long."""
        if self._is_overdue and fact is self._awaited:
            self._awaited = None
            self._is_overdue = False

    def refuse_all(self, error: ErrorCode, now_ms: int) -> list[Step]:
        steps: list[Step] = []
        while self._turns:
            steps += self._turns.popleft().refuse(error, now_ms)
        return steps


class _Timer:
    """`armed_ms`: when it fires, never later than the deadline. `timeout_ms`: from the last sign of life to the
    deadline. `epoch`: see `Wait`."""

    __slots__ = ("armed_ms", "deadline_ms", "epoch", "timeout_ms")

    def __init__(self, deadline_ms: int, timeout_ms: int, epoch: int) -> None:
        self.deadline_ms = self.armed_ms = deadline_ms
        self.timeout_ms = timeout_ms
        self.epoch = epoch


class MemberTimers:
    """Life signs only move a deadline: a timer that fires before it is set again. With a session ends what is known of
    its member's life signs elsewhere."""

    __slots__ = ("_group_id", "_published", "_timers")

    def __init__(self, group_id: str, published: Published) -> None:
        self._group_id = group_id
        self._published = published
        self._timers: dict[tuple[str, str], _Timer] = {}

    def __bool__(self) -> bool:
        return bool(self._timers)

    def begin(self, waits: list[Wait], now_ms: int) -> list[Step]:
        """Those of the waits that begin, or begin anew."""
        steps: list[Step] = []
        for what, member_id, timeout_ms, epoch, renew in waits:
            if timeout_ms is None:
                continue
            name = (what, member_id)
            timer = self._timers.get(name)
            deadline_ms = now_ms + timeout_ms
            if timer is None:
                self._timers[name] = _Timer(deadline_ms, timeout_ms, epoch)
                steps.append(SetTimer(self._key(name), deadline_ms))
            elif renew:
                timer.deadline_ms, timer.timeout_ms, timer.epoch = deadline_ms, timeout_ms, epoch
                if deadline_ms < timer.armed_ms:
                    timer.armed_ms = deadline_ms
                    steps.append(SetTimer(self._key(name), deadline_ms))
        return steps

    def end(self, waits: list[Wait]) -> list[Step]:
        """Those of the waits that end."""
        steps: list[Step] = []
        for what, member_id, timeout_ms, _, _ in waits:
            if timeout_ms is None and self._timers.pop((what, member_id), None) is not None:
                steps.append(CancelTimer(self._key((what, member_id))))
                steps += self._over((what, member_id))
        return steps

    def fired(self, what: str, member_id: str, now_ms: int) -> tuple[int | None, list[Step]]:
        """The epoch of a wait that is over, and the wait is forgotten; None: it goes on."""
        name = (what, member_id)
        timer = self._timers.get(name)
        if timer is None:
            return None, []
        heard_ms = self._published.heard_ms(member_id, now_ms) if what == SESSION else None
        if heard_ms is not None:
            timer.deadline_ms = max(timer.deadline_ms, heard_ms + timer.timeout_ms)
        if now_ms < timer.deadline_ms:
            timer.armed_ms = timer.deadline_ms
            return None, [SetTimer(self._key(name), timer.deadline_ms)]
        del self._timers[name]
        return timer.epoch, self._over(name)

    def clear(self) -> list[Step]:
        steps: list[Step] = [CancelTimer(self._key(name)) for name in self._timers]
        self._timers.clear()
        return steps + self._published.forget_all()

    def _over(self, name: tuple[str, str]) -> list[Step]:
        return self._published.forget(name[1]) if name[0] == SESSION else []

    def _key(self, name: tuple[str, str]) -> Hashable:
        return (TIMER, self._group_id, *name)
