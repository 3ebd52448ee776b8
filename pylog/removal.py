"""Removing files some time after they were set aside: who still reads them has that long to finish.

Keeps true: what is to be removed was renamed first (.deleted, -delete), so nobody finds it any more, and a process that
dies before the time is up leaves names that the next start recognises. Nothing is removed twice.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pylog.clock import Clock
from pylog.files import unlink_if_there
from pylog.schedule import Schedule

_PATHS_PER_TASK = 64  # other work of the maintenance thread gets its turn between them


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
        self._later(list(paths), delay_ms, unlink_if_there)

    def remove_directories(self, paths: Iterable[str], delay_ms: int) -> None:
        """Remove the directories and the files in them, delay_ms from now."""
        self._later(list(paths), delay_ms, _remove_directory)

    def _later(self, paths: Sequence[str], delay_ms: int, remove: Callable[[str], object]) -> None:
        with self._guard:
            fresh = [path for path in paths if path not in self._waiting]
            self._waiting.update(fresh)
        due_ms = self._clock.monotonic_ms() + delay_ms
        for at in range(0, len(fresh), _PATHS_PER_TASK):
            self._schedule.at(due_ms, partial(self._now, fresh[at : at + _PATHS_PER_TASK], remove))

    def _now(self, paths: Sequence[str], remove: Callable[[str], object]) -> None:
        with self._guard:
            self._waiting.difference_update(paths)
        for path in paths:
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
