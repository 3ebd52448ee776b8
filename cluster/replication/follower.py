"""One partition that we follow: what is to be done when the leader does not simply answer with records.

What stays true:
- nothing is cut while the partition is fetched: whoever calls has stopped the fetching before, and it goes on only by
  the Fetch that is said here;
- what was found out under one leader epoch is not used under another;
- a partition that is FAILED is not fetched until the controller names a new leader epoch.

    FETCHING   the data plane fetches, or is about to
    ASKING     the leader is asked where its log begins or ends
    FAILED     fenced, or our log could not be cut
"""

from __future__ import annotations

from cluster.replication.truncation import EpochEnd, OwnLog, diverging_offset, offset_before_following
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Final, TypeAlias

FETCHING: Final = "fetching"
ASKING: Final = "asking"
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
    """Call `ask_again` after the back-off."""


class Fail(NamedTuple):
    """Stop; the partition waits for another leader epoch. passes: which is sure to come."""

    reason: str
    passes: bool = False


Action: TypeAlias = Truncate | StartAt | Fetch | Ask | AskLater | Fail
"""Carried out in order; when one cannot be, the rest is not, and the follower is told `failed`."""


class Follower:
    __slots__ = ("_asked", "leader", "leader_epoch", "number", "state")

    def __init__(self, leader: int, leader_epoch: int, number: int) -> None:
        """number: what the data plane calls the partition."""
        self.leader = leader
        self.leader_epoch = leader_epoch
        self.number = number
        self.state = FETCHING
        self._asked = LATEST

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
        cut = diverging_offset(leader, own, own_at_epoch)
        if cut >= own.end_offset:
            return [Fetch()]  # a cut for another reason came first
        return [Truncate(cut, "the leader's log differs"), Fetch()]

    def refused(self, error: int) -> list[Action]:
        """A fetch was answered with an error that fetching again does not end."""
        if self.state != FETCHING:
            return []
        if error == ErrorCode.OFFSET_OUT_OF_RANGE:
            self.state = ASKING
            return self._ask(LATEST)
        return self._fenced() if error == ErrorCode.FENCED_LEADER_EPOCH else self.fail(f"error {error} does not pass")

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

    def ask_again(self) -> list[Action]:
        """The back-off is over."""
        return [Ask(self._asked)] if self.state == ASKING else []

    def _ask(self, timestamp: int) -> list[Action]:
        self._asked = timestamp
        return [Ask(timestamp)]

    def fail(self, reason: str) -> list[Action]:
        """It cannot go on under this leader epoch."""
        self.state = FAILED
        return [Fail(reason)]

    def _fenced(self) -> list[Action]:
        self.state = FAILED
        return [Fail("there is a newer one", passes=True)]
