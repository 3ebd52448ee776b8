"""The one control thread: upcalls and inbox in, effects out.

What stays true:
- everything posted or called up is handled on this thread, in order, one at a time;
- an exception of a handler is logged, counted and answered by `Apis`; one of anything else is logged and counted here:
  the loop goes on until it is stopped, and so do the effects behind one that failed;
- what one turn appends to one partition is written as one batch, and all partitions at once, after the turn's events
  and before it sleeps; what follows from that (`soon`) too, for as long as there is something;
- it does not keep a processor from the data plane: after each `GIVES_WAY_NS` of work, and the task or answer it is at,
  it lets whoever waits for that processor have it;
- timers are checked against the monotonic clock, never the wall.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from os import sched_yield
from time import monotonic_ns

from cluster.effects import (
    Append,
    Ask,
    CancelAsk,
    CancelTimer,
    Effect,
    Note,
    Publication,
    PublishConsumer,
    PublishMembers,
    Reply,
    SetTimer,
    WithdrawMembers,
)
from pylog.errors import KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pylog._engine import Engine, Upcall

#: How many upcalls are taken at once: enough to share one wake-up among many, small enough to keep timers on time.
UPCALLS_PER_TURN = 256

#: The kernel would take the processor back with its next tick, 1 to 10 ms later: the reactor that was woken meanwhile
#: waits behind, and with it every record.
GIVES_WAY_NS = 200_000

#: So many cancelled and moved deadlines are let stand in any case.
_LEFT_STANDING = 1024


class Timers:
    """Deadlines by key. A key has at most one; cancelled and moved ones are dropped when they surface, or when they are
    most of all: a deadline may be weeks away (`max.poll.interval.ms`), and each rebalance sets one."""

    __slots__ = ("_deadlines", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._deadlines: dict[Hashable, tuple[int, int]] = {}
        self._order = 0

    def set(self, key: Hashable, deadline_ms: int) -> None:
        self._order += 1
        self._deadlines[key] = (deadline_ms, self._order)
        heapq.heappush(self._heap, (deadline_ms, self._order, key))
        self._clear_up()

    def cancel(self, key: Hashable) -> None:
        self._deadlines.pop(key, None)
        self._clear_up()

    def _clear_up(self) -> None:
        if len(self._heap) > 2 * len(self._deadlines) + _LEFT_STANDING:
            self._heap = [(*deadline, key) for key, deadline in self._deadlines.items()]
            heapq.heapify(self._heap)

    def next_ms(self) -> int | None:
        """The next deadline, or None when no timer is set."""
        heap = self._heap
        while heap and self._deadlines.get(heap[0][2]) != heap[0][:2]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now_ms: int) -> Hashable | None:
        """Take out one key whose deadline has come, or None."""
        deadline = self.next_ms()
        if deadline is None or deadline > now_ms:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._deadlines[key]
        return key


class Driver(Protocol):
    """What the loop calls to carry out effects; `broker.py` is one."""

    def upcall(self, upcall: Upcall) -> None: ...

    def reply(self, reply: Reply) -> None: ...

    def append(self, turn: list[list[Append]]) -> None:
        """Write the appends of one turn, those for one shard in order; tell the state machine each token's offsets."""

    def timer(self, key: Hashable) -> Iterable[Effect]: ...

    def ask(self, ask: Ask) -> None:
        """Find it out or have it done, and tell the state machine what came of it, at any later time."""

    def cancel_ask(self, key: Hashable) -> None:
        """Nobody waits for that answer any more."""

    def publish(self, publication: Publication) -> None:
        """Have the data plane answer heartbeats of these members, and take their offsets."""


class Loop:
    """Runs until `stop`. Construct it anywhere; `run` on its thread; `post` and `stop` from any thread."""

    def __init__(self, engine: Engine, driver: Driver, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._driver = driver
        self._now_ms = now_ms
        self._inbox: deque[Callable[[], None]] = deque()
        self._soon: list[Callable[[], None]] = []
        self._appends: dict[Hashable, list[Append]] = {}
        self._log = Logger("Loop")
        self._stopping = False
        self._works_since_ns = monotonic_ns()
        self.timers = Timers()
        self.failures = 0

    def post(self, task: Callable[[], None]) -> None:
        """Run task on the control thread. Any thread."""
        self._inbox.append(task)
        self._engine.wake()

    def soon(self, task: Callable[[], None]) -> None:
        """Run task in this turn, when the effects that are being carried out are, and what they append is written.
        Control thread."""
        self._soon.append(task)

    def stop(self) -> None:
        """End `run` after the turn it is in. Any thread."""
        self._stopping = True
        self._engine.wake()

    def run(self) -> None:
        while not self._stopping:
            upcalls = self._engine.poll(self._timeout_ms(), UPCALLS_PER_TURN)
            self._works_since_ns = monotonic_ns()
            for upcall in upcalls:
                self.guard(self._driver.upcall, upcall)
            self.turn()

    def turn(self) -> None:
        """Inbox, timers that are due, what they and the upcalls before them appended, and what follows from that."""
        for _ in range(len(self._inbox)):
            self.guard(self._inbox.popleft())
        now_ms = self._now_ms()
        while (key := self.timers.due(now_ms)) is not None:
            self.guard(self._fire, key)
        self.write_out()
        while self._soon:
            tasks, self._soon = self._soon, []
            for task in tasks:
                self.guard(task)
            self.write_out()

    def write_out(self) -> None:
        """Write what was appended so far. Not while effects are being carried out: those behind would come too late."""
        while self._appends:  # an append that is committed at once may lead to the next one
            pending, self._appends = self._appends, {}
            self.guard(self._driver.append, list(pending.values()))

    def apply(self, effects: Iterable[Effect]) -> None:
        """Carry out effects, in order, each for itself: the answers behind one that fails are given. Control thread."""
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception as error:  # as in `guard`, without a call for each
                self._failed(error)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Reply):
            self._driver.reply(effect)
            self._give_way()
        elif isinstance(effect, Append):
            self._appends.setdefault(effect.shard, []).append(effect)
        elif isinstance(effect, SetTimer):
            self.timers.set(effect.key, effect.deadline_ms)
        elif isinstance(effect, CancelTimer):
            self.timers.cancel(effect.key)
        elif isinstance(effect, Ask):
            self._driver.ask(effect)
        elif isinstance(effect, CancelAsk):
            self._driver.cancel_ask(effect.key)
        elif isinstance(effect, (PublishMembers, PublishConsumer)):
            self._driver.publish(effect)
        elif isinstance(effect, WithdrawMembers):
            self._engine.withdraw_members(effect.group_id, effect.members, forget=effect.forget)
        elif isinstance(effect, Note):
            log = Logger(effect.subject)
            (log.warn if effect.warning else log.info)(effect.message, **dict(effect.fields))

    def _timeout_ms(self) -> int:
        if self._inbox or self._appends:
            return 0
        deadline = self.timers.next_ms()
        return -1 if deadline is None else max(0, deadline - self._now_ms())

    def _fire(self, key: Hashable) -> None:
        self.apply(self._driver.timer(key))

    def guard(self, task: Callable[..., None], *arguments: object) -> None:
        """Run task; what it raises ends it, and nothing else. Control thread."""
        try:
            task(*arguments)
        except Exception as error:  # the loop outlives any single task
            self._failed(error)
        self._give_way()

    def _give_way(self) -> None:
        if monotonic_ns() - self._works_since_ns > GIVES_WAY_NS:
            sched_yield()
            self._works_since_ns = monotonic_ns()

    def _failed(self, error: Exception) -> None:
        """It is counted, and in the log, with its traceback if it is nothing to be expected."""
        self.failures += 1
        if isinstance(error, KafkaError):
            self._log.error("task failed", error=error)
        else:
            self._log.exception("task failed")
