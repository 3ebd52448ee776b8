"""What is known to be damaged: batches whose CRC fails, wherever they were met.

Keeps true: each damaged place is told once, as one line, and counted once, whether a reader met it or the scrub; counts
only grow. Any thread.
"""

from __future__ import annotations

import os
import threading

from pylog.facts import NamedTuple
from pylog.logger import Logger

_log = Logger("Damage")

_KNOWN_MAX = 10_000


class Damage(NamedTuple):
    """One batch that is not what was written."""

    path: str
    position: int
    size_bytes: int
    """What it says of its size; 0 when that is impossible."""
    first_offset: int
    """What it says of its offsets; -1 when that is impossible."""
    last_offset: int
    error: int = 0
    """An errno when it cannot even be read."""


class Damages:
    """The damaged places met since the process started."""

    __slots__ = ("_guard", "_known", "batches", "unreadable")

    def __init__(self) -> None:
        self.batches = 0
        """Batches whose CRC fails."""
        self.unreadable = 0
        """Places that the disk cannot read."""
        self._known: dict[tuple[str, int], None] = {}
        self._guard = threading.Lock()

    def note(self, damage: Damage) -> bool:
        """Tell and count it; False: it was known."""
        place = damage.path, damage.position
        with self._guard:
            if place in self._known:
                return False
            if len(self._known) >= _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[place] = None
            if damage.error:
                self.unreadable += 1
            else:
                self.batches += 1
        if damage.error:
            why = os.strerror(damage.error)
            _log.error("a segment cannot be read", file=damage.path, position=damage.position, why=why)
            return True
        offsets = "unknown" if damage.first_offset < 0 else f"{damage.first_offset}-{damage.last_offset}"
        _log.error(
            "damaged batch, it is not served",
            file=damage.path,
            position=damage.position,
            bytes=damage.size_bytes or "unknown",
            offsets=offsets,
        )
        return True
