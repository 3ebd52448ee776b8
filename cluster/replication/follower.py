"""One partition that we follow: what is to be done when the leader does not simply answer with records.

What stays true:
- nothing is cut while the partition is fetched: whoever calls has stopped the fetching before, and it goes on only by
  the Fetch that is said here;
- what was found out under one leader epoch is not used under another;
- a log that could not be cut is not fetched to before it is: that is tried again for as long as the leader epoch lasts;
- a partition that is FAILED is not fetched until the controller names a new leader epoch.

    FETCHING   the data plane fetches, or is about to
    ASKING     the leader is asked where its log begins or ends
    CUTTING    our log could not be cut, for want of room, and is to be cut later
    FAILED     fenced, or refused for good
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.replication.truncation import EpochEnd, OwnLog, diverging_offset, offset_before_following
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Final, TypeAlias

FETCHING: Final = "fetching"
ASKING: Final = "asking"
CUTTING: Final = "cutting"
FAILED: Final = "failed"

EARLIEST: Final = -2
LATEST: Final = -1


class Truncate(NamedTuple):
    """Cut everything at and above offset. `reason` is for the log."""

    offset: int
    reason: str


class StartAt(NamedTuple):
    """Drop everything and start empty at offset."""

    offset: int


class Fetch(NamedTuple):
    """Begin to fetch, or go on, from the end of the log."""


class Ask(NamedTuple):
    """Ask the leader for its EARLIEST or LATEST offset; tell `told` or `not_told`."""

    timestamp: int


class AskLater(NamedTuple):
    """Call `try_again` after the back-off."""


class CutLater(NamedTuple):
    """The same, after a back-off that grows with the tries that failed."""

    failed: int


class Fail(NamedTuple):
    """Stop; the partition waits for another leader epoch. passes: which is sure to come."""

    reason: str
    passes: bool = False


Action: TypeAlias = Truncate | StartAt | Fetch | Ask | AskLater | CutLater | Fail
"""Carried out in order; when a log cannot be cut the rest is not done, and `cut_failed` is told of it."""


class Follower:
    __slots__ = ("_asked", "_cuts_failed", "_undone", "leader", "leader_epoch", "number", "state")

    def __init__(self, leader: int, leader_epoch: int, number: int) -> None:
        """number: what the data plane calls the partition."""
        self.leader = leader
        self.leader_epoch = leader_epoch
        self.number = number
        self.state = FETCHING
        self._asked = LATEST
        self._undone: list[Action] = []
        self._cuts_failed = 0

    def begin(self, own: OwnLog) -> list[Action]:
        """The controller has named a leader."""
        cut = offset_before_following(own)
        if cut is None:
            return [Fetch()]
        return [Truncate(cut, "no epoch of a record is known, cut to the high watermark"), Fetch()]

    def diverged(self, leader: EpochEnd, own: OwnLog, own_at_epoch: EpochEnd) -> list[Action]:
        """A fetch was answered with the leader's epoch and its end, for it ends before our log does."""
        if self.state != FETCHING:
            return []
        self._cuts_failed = 0
        cut = diverging_offset(leader, own, own_at_epoch)
        if cut >= own.end_offset:
            return [Fetch()]  # a cut for another reason came first
        return [Truncate(cut, "the leader's log differs"), Fetch()]

    def refused(self, error: int) -> list[Action]:
        """A fetch was answered with an error that fetching again does not end."""
        if self.state != FETCHING:
            return []
        self._cuts_failed = 0
        if error == ErrorCode.OFFSET_OUT_OF_RANGE:
            self.state = ASKING
            return self._ask(LATEST)
        return self._fenced() if error == ErrorCode.FENCED_LEADER_EPOCH else self._fail(f"error {error} does not pass")

    def told(self, timestamp: int, offset: int, own: OwnLog) -> list[Action]:
        """The leader has said where its log begins or ends. When it ends before ours, an unclean election has thrown
        away what we have more, and nobody can say where else the logs differ; when it begins behind the end of ours,
        all we have is outdated. Otherwise the leader has gone on meanwhile, and fetching does too."""
        if self.state != ASKING or timestamp != self._asked:
            return []
        if timestamp == LATEST:
            if offset >= own.end_offset:
                return self._ask(EARLIEST)
            self.state = FETCHING
            return [Truncate(offset, "the leader's log ends there"), Fetch()]
        self.state = FETCHING
        return [StartAt(offset), Fetch()] if offset > own.end_offset else [Fetch()]

    def not_told(self, timestamp: int, error: int) -> list[Action]:
        """The leader could not be asked, or answered with an error."""
        if self.state != ASKING or timestamp != self._asked:
            return []
        return self._fenced() if error == ErrorCode.FENCED_LEADER_EPOCH else [AskLater()]

    def cut_failed(self, undone: Sequence[Action]) -> list[Action]:
        """Our log could not be cut. undone: that cut and what was to follow. The leader's log only grows in its epoch,
        so that what had to be cut still has to be when there is room."""
        self.state = CUTTING
        self._undone = list(undone)
        self._cuts_failed += 1
        return [CutLater(self._cuts_failed)]

    def try_again(self) -> list[Action]:
        """The back-off is over."""
        if self.state == CUTTING:
            self.state = FETCHING
            return self._undone
        return [Ask(self._asked)] if self.state == ASKING else []

    def _ask(self, timestamp: int) -> list[Action]:
        self._asked = timestamp
        return [Ask(timestamp)]

    def _fail(self, reason: str) -> list[Action]:
        """It cannot go on under this leader epoch."""
        self.state = FAILED
        return [Fail(reason)]

    def _fenced(self) -> list[Action]:
        self.state = FAILED
        return [Fail("there is a newer one", passes=True)]
