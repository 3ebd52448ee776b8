"""The one thread that does what a log needs done in the background.

Keeps true: it sleeps until the next task is due or something earlier is added, so an idle store wakes nobody; after
`stop` returns no task runs any more.
"""

import threading

from pylog.clock import Clock
from pylog.schedule import Schedule


class Maintenance:
    """Runs a Schedule on a thread of its own."""

    __slots__ = ("_clock", "_schedule", "_stopping", "_thread", "_wakeup")

    def __init__(self, schedule: Schedule, clock: Clock, name: str = "log-maintenance") -> None:
        self._schedule = schedule
        self._clock = clock
        self._wakeup = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        schedule.on_earlier(self._wakeup.set)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the running task finish, then end. Called once, by another thread, after `start`."""
        self._stopping = True
        self._wakeup.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            next_ms = self._schedule.run(self._clock.monotonic_ms())
            wait_s = None if next_ms is None else max(0, next_ms - self._clock.monotonic_ms()) / 1000
            # A task years ahead is the same as none; wait() takes no more than this.
            self._wakeup.wait(None if wait_s is None else min(wait_s, threading.TIMEOUT_MAX))
            self._wakeup.clear()
