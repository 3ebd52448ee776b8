"""What is to be done when: periodic tasks and tasks for one moment, run by whoever calls `run`.

Keeps true: time is an argument; a task runs on the thread that calls `run`, outside the lock, never two at once. A task
that raises is logged with its traceback and counted, and keeps its place in the schedule: one bad partition must not
end everybody's retention.
"""

import heapq
import threading
from collections.abc import Callable

from pylog.logger import Logger
from pylog.types import FOREVER

_log = Logger("Schedule")


class _Task:
    __slots__ = ("action", "period_ms")

    def __init__(self, action: Callable[[], None], period_ms: int | None) -> None:
        self.action = action
        self.period_ms = period_ms


class Schedule:
    """Tasks by due time. Any thread may add; one thread at a time runs."""

    __slots__ = ("_guard", "_heap", "_number", "_wake", "errors")

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """wake: called after something was added that is due before everything else; the runner should call `run`
        soon."""
        self._heap: list[tuple[int, int, _Task]] = []
        self._number = 0
        self._guard = threading.Lock()
        self._wake = wake
        self.errors = 0
        """How many tasks have raised."""

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Replace the function told that something became due earlier."""
        self._wake = wake

    def every(self, period_ms: int, first_ms: int, action: Callable[[], None]) -> None:
        """Run action at first_ms and then period_ms after each run; a period of FOREVER is never."""
        if period_ms < FOREVER:
            self._add(first_ms, _Task(action, max(period_ms, 1)))

    def at(self, due_ms: int, action: Callable[[], None]) -> None:
        """Run action once, at due_ms or at the next `run` after it."""
        self._add(due_ms, _Task(action, None))

    def _add(self, due_ms: int, task: _Task) -> None:
        with self._guard:
            earliest = not self._heap or due_ms < self._heap[0][0]
            self._number += 1
            heapq.heappush(self._heap, (due_ms, self._number, task))
        if earliest:
            self._wake()

    def next_due_ms(self) -> int | None:
        """When the next task is due, None when there is none."""
        with self._guard:
            return self._heap[0][0] if self._heap else None

    def run(self, now_ms: int) -> int | None:
        """Run everything due by now_ms, in the order it was due. Returns when the next is due, None when nothing is
        left."""
        while task := self._take_due(now_ms):
            try:
                task.action()
            except Exception:
                self.errors += 1
                _log.exception("task failed")
            if task.period_ms is not None:
                with self._guard:
                    self._number += 1
                    heapq.heappush(self._heap, (now_ms + task.period_ms, self._number, task))
        return self.next_due_ms()

    def _take_due(self, now_ms: int) -> _Task | None:
        with self._guard:
            if not self._heap or self._heap[0][0] > now_ms:
                return None
            return heapq.heappop(self._heap)[2]
