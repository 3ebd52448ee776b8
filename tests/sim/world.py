"""Virtual time: what happens when, to whom, and whether he is there to notice.

What stays true: events happen one at a time in the order of their times, those of one time in the order in which they
were asked for; nothing is random but by `random`, so a seed is a run. What is meant for a process that has died does
not happen; what is meant for one that is paused happens when it goes on, in order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

US_PER_MS = 1000


class Violation(AssertionError):
    """Something that always holds did not."""


class Process:
    """One life of a broker or a client. `drift_ppm`: how much faster than true time its clock runs."""

    __slots__ = ("alive", "drift_ppm", "held", "name", "offset_ms", "paused")

    def __init__(self, name: str, offset_ms: int = 0, drift_ppm: int = 0) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.offset_ms = offset_ms
        self.drift_ppm = drift_ppm


class World:
    def __init__(self, seed: int, traced: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_us = 0
        self.events = 0
        self.traced = traced
        self.trace: deque[str] = deque(maxlen=200_000 if traced else 60)
        self.after_event: list[Callable[[], None]] = []
        self._heap: list[tuple[int, int, Process | None, Callable[..., object], tuple[object, ...]]] = []
        self._order = 0

    @property
    def now_ms(self) -> int:
        return self.now_us // US_PER_MS

    def clock_ms(self, process: Process) -> int:
        """What its monotonic clock shows."""
        now_us = self.now_us
        return process.offset_ms + (now_us + now_us * process.drift_ppm // 1_000_000) // US_PER_MS

    def say(self, who: object, what: str, *details: object) -> None:
        self.trace.append(f"{self.now_us / 1000:10.3f} {who}: {what} {' '.join(map(str, details))}")

    def after(self, delay_us: int, process: Process | None, what: Callable[..., object], *arguments: object) -> None:
        """process: to whom it happens; None: to the world."""
        self._order += 1
        heapq.heappush(self._heap, (self.now_us + max(0, delay_us), self._order, process, what, arguments))

    def at_clock(self, deadline_ms: int, process: Process, what: Callable[..., object], *arguments: object) -> None:
        """When its clock shows this, or a little later."""
        left_ms = deadline_ms - self.clock_ms(process)
        self.after(max(left_ms, 0) * US_PER_MS, process, what, *arguments)

    def pause(self, process: Process) -> None:
        process.paused = True

    def resume(self, process: Process) -> None:
        process.paused = False
        held, process.held = process.held, []
        for what, arguments in held:
            self.after(0, process, what, *arguments)

    def run_until(self, end_us: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end_us:
            at_us, _, process, what, arguments = heapq.heappop(heap)
            self.now_us = at_us
            if process is not None:
                if not process.alive:
                    continue
                if process.paused:
                    process.held.append((what, arguments))
                    continue
            self.events += 1
            what(*arguments)
            for check in self.after_event:
                check()
        self.now_us = max(self.now_us, end_us)

    # ------------------------------------------------------------------ chance

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Both included; cheaper than Random.randint."""
        return low + int(self.random.random() * (high - low + 1))
