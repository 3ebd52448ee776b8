"""Time as an argument.

Keeps true: wall time only stamps records and files and is compared with record timestamps (retention, roll); every
delay and deadline is counted on the monotonic clock. Nothing in this package reads a clock behind its caller's back.
"""

from __future__ import annotations

import time

from pylog.typed import Protocol


class Clock(Protocol):
    """Where milliseconds come from."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970; may jump."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment; never goes back."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that moves when it is told to: for tests and simulation."""

    __slots__ = ("_monotonic_ms", "_wall_ms")

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ms: int = 0) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms

    def wall_ms(self) -> int:
        return self._wall_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def advance(self, ms: int) -> None:
        """Both clocks go on by ms."""
        if ms < 0:
            raise ValueError("time does not go back")
        self._wall_ms += ms
        self._monotonic_ms += ms
