"""Answers that wait until this broker has heard of what they tell.

What stays true: a wait ends once, when its condition holds or at its deadline, whichever comes first; conditions are
looked at when somebody says that something changed, not by polling. Control thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.effects import CancelTimer, Effect, SetTimer
from pylog.facts import NamedTuple


class WaitKey(NamedTuple):
    """The key of a wait's timer."""

    number: int


class _Wait(NamedTuple):
    holds: Callable[[], bool]
    then: Callable[[bool], None]


class Waits:
    def __init__(self, apply: Callable[[Iterable[Effect]], None]) -> None:
        self._apply = apply
        self._waits: dict[int, _Wait] = {}
        self._made = 0

    def until(self, holds: Callable[[], bool], deadline_ms: int, then: Callable[[bool], None]) -> None:
        """Call `then` when `holds` says so, with True, or at the deadline, with False."""
        if holds():
            then(True)
            return
        self._made += 1
        self._waits[self._made] = _Wait(holds, then)
        self._apply([SetTimer(WaitKey(self._made), deadline_ms)])

    def changed(self) -> None:
        """Something that conditions may be about has changed."""
        for number, wait in list(self._waits.items()):
            if wait.holds():
                del self._waits[number]
                self._apply([CancelTimer(WaitKey(number))])
                wait.then(True)

    def expired(self, key: WaitKey) -> None:
        wait = self._waits.pop(key.number, None)
        if wait is not None:
            wait.then(wait.holds())
