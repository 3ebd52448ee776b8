"""The slow pass over everything that is not written to any more, to find damage before somebody needs the records.

Keeps true: it reads at most so many bytes a second, a tenth of that while clients move many; it leaves the page cache
as it was; when a pass is over it sleeps until the next one is due. A pass begins with another log each time, so that
restarts do not keep the last ones from ever being looked at. A segment that goes away meanwhile is passed over; one
that cannot be read is told as damage, and neither ends the pass. Run by the maintenance thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from pylog._native import SCRUB_STEP_BYTES
from pylog.clock import Clock
from pylog.damage import Damage, Damages
from pylog.facts import NamedTuple
from pylog.log import Log
from pylog.logger import Logger
from pylog.schedule import Schedule

_log = Logger("Scrub")

BUSY_BYTES_PER_S = 8 << 20
"""Clients that move more than this are not to be disturbed."""
_BUSY_PART = 10
_GONE = (errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class ScrubConfig(NamedTuple):
    """pylog.scrub.*"""

    bytes_per_second: int
    """0: never."""
    interval_ms: int
    """From the end of one pass to the begin of the next."""


class Scrub:
    """One pass after the other, for ever. `begin` once; then everything happens in the schedule's tasks."""

    __slots__ = (
        "_clock",
        "_config",
        "_damages",
        "_last_ms",
        "_logs",
        "_moved",
        "_moved_before",
        "_pass",
        "_schedule",
        "bytes",
        "passes",
    )

    def __init__(
        self,
        config: ScrubConfig,
        *,
        logs: Callable[[], list[Log]],
        schedule: Schedule,
        clock: Clock,
        damages: Damages,
        moved_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """moved_bytes: how many bytes clients have moved so far."""
        self._config = config
        self._logs = logs
        self._schedule = schedule
        self._clock = clock
        self._damages = damages
        self._moved = moved_bytes
        self._moved_before = 0
        self._last_ms = 0
        self._pass: Iterator[int] = iter(())
        self.bytes = 0
        """Compared so far."""
        self.passes = 0
        """Complete ones."""

    def begin(self, delay_ms: int) -> None:
        """The first pass begins after delay_ms."""
        if self._config.bytes_per_second > 0:
            self._schedule.at(self._clock.monotonic_ms() + delay_ms, self._begin_pass)

    def _begin_pass(self) -> None:
        self._pass = self._steps()
        self._moved_before, self._last_ms = self._moved(), self._clock.monotonic_ms()
        self._step()

    def _step(self) -> None:
        """Compare some, and come back when that many bytes are due again."""
        done = next(self._pass, None)
        now_ms = self._clock.monotonic_ms()
        if done is None:
            self.passes += 1
            _log.info("pass complete", bytes=self.bytes, damaged_batches=self._damages.batches)
            self._schedule.at(now_ms + self._config.interval_ms, self._begin_pass)
            return
        self.bytes += done
        wait_ms = max(1, done * 1000 // self._config.bytes_per_second)
        self._schedule.at(now_ms + (wait_ms * _BUSY_PART if self._is_busy(now_ms) else wait_ms), self._step)

    def _is_busy(self, now_ms: int) -> bool:
        moved = self._moved()
        rate = (moved - self._moved_before) * 1000 // max(1, now_ms - self._last_ms)
        self._moved_before, self._last_ms = moved, now_ms
        return rate > BUSY_BYTES_PER_S

    def _steps(self) -> Iterator[int]:
        """One step after the other through all closed segments: how many bytes each has compared."""
        logs = self._logs()
        first = self._clock.wall_ms() % len(logs) if logs else 0
        for log in logs[first:] + logs[:first]:
            if log.closed:
                continue
            for segment in log.segments()[:-1]:
                yield from self._segment(log, segment.base_offset)

    def _segment(self, log: Log, base_offset: int) -> Iterator[int]:
        position, size_bytes = 0, 1
        while position < size_bytes:
            # a step takes a second at the most, so that a stop need not wait for it and the rate is kept
            step_bytes = min(SCRUB_STEP_BYTES, self._config.bytes_per_second)
            try:
                found = log.scrub(base_offset, position, step_bytes)
            except OSError as e:
                if e.errno not in _GONE:
                    self._damages.note(Damage(self._path(log, base_offset), position, 0, -1, -1, e.errno or 0))
                return
            if found is None:
                return
            if found.damaged:
                where = self._path(log, base_offset), found.damaged_position, found.damaged_bytes
                self._damages.note(Damage(*where, found.first_offset, found.last_offset))
            done, position, size_bytes = found.next_position - position, found.next_position, found.size_bytes
            yield done

    @staticmethod
    def _path(log: Log, base_offset: int) -> str:
        return os.path.join(log.path, f"{base_offset:020d}.log")
