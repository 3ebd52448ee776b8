"""What takes long says how far it is.

Keeps true: nothing is said of what is over within an interval, and nothing after `end` returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

TELL_EVERY_S = 1.0


class Teller:
    """Calls `tell` every interval_s seconds between `start` and `end`, on a thread of its own."""

    __slots__ = ("_ended", "_interval_s", "_tell", "_thread")

    def __init__(self, tell: Callable[[], None], interval_s: float = TELL_EVERY_S) -> None:
        self._tell = tell
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def telling(self) -> bool:
        """It was started."""
        return self._thread is not None

    def start(self) -> None:
        """Once."""
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Also of one that was not started."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._tell()
