"""Removing files some time after they were set aside: who still reads them has that long to finish.

Keeps true: what is to be removed was renamed first (.deleted, -delete), so nobody finds it any more, and a process that
dies before the time is up leaves names that the next start recognises. Nothing is removed twice.
"""

import os
import threading
from collections.abc import Callable, Iterable

from pylog.clock import Clock
from pylog.files import unlink_if_there
from pylog.schedule import Schedule


class Removal:
    """Files and directories waiting for their end. Any thread may add; they end where the schedule runs."""

    __slots__ = ("_clock", "_failed", "_guard", "_schedule", "_waiting")

    def __init__(self, schedule: Schedule, clock: Clock, failed: Callable[[str, OSError], None]) -> None:
        """failed: told the path that could not be removed, and why. It is not tried again."""
        self._schedule = schedule
        self._clock = clock
        self._failed = failed
        self._guard = threading.Lock()
        self._waiting: set[str] = set()

    def unlink(self, paths: Iterable[str], delay_ms: int) -> None:
        """Unlink the files that do not wait already, delay_ms from now."""
        for path in paths:
            self._later(path, delay_ms, unlink_if_there)

    def remove_directory(self, path: str, delay_ms: int) -> None:
        """Remove the directory and the files in it, delay_ms from now."""
        self._later(path, delay_ms, _remove_directory)

    def _later(self, path: str, delay_ms: int, remove: Callable[[str], object]) -> None:
        with self._guard:
            if path in self._waiting:
                return
            self._waiting.add(path)
        self._schedule.at(self._clock.monotonic_ms() + delay_ms, lambda: self._now(path, remove))

    def _now(self, path: str, remove: Callable[[str], object]) -> None:
        with self._guard:
            self._waiting.discard(path)
        try:
            remove(path)
        except OSError as e:
            self._failed(path, e)


def _remove_directory(path: str) -> None:
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    for name in names:
        unlink_if_there(os.path.join(path, name))
    os.rmdir(path)
