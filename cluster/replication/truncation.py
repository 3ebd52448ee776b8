"""Where the log of a follower parts from its leader's.

What stays true: two logs agree up to where the largest epoch that both have ends in the one where it ends first
(KIP-101, KIP-279); a follower that cannot compare epochs keeps what is below its high watermark and no more; a log is
emptied only when the leader's begins above its end.

An epoch ends where the next one in the same log begins, or with the log.
"""

from __future__ import annotations

from pylog.facts import NamedTuple
from pylog.typed import Final

NO_EPOCH: Final = -1
NO_END: Final = -1


class EpochEnd(NamedTuple):
    """The largest epoch of a log that is not above the one asked for, and where it ends. NO_EPOCH: none is known."""

    epoch: int
    end_offset: int


class OwnLog(NamedTuple):
    """A log as it is now. latest_epoch: of its last record, NO_EPOCH when none is known."""

    end_offset: int
    high_watermark: int
    latest_epoch: int


def offset_before_following(own: OwnLog) -> int | None:
    """Where to cut before the first fetch from a new leader; None: nowhere, the leader finds out from the last epoch
    where the logs part."""
    if own.latest_epoch != NO_EPOCH or own.end_offset <= own.high_watermark:
        return None
    return own.high_watermark


def diverging_offset(leader: EpochEnd, own: OwnLog, own_at_epoch: EpochEnd) -> int:
    """Where to cut after the leader has said that the logs part. leader: its largest epoch up to our last one, and
    where that ends; own_at_epoch: the same of our log, for the leader's epoch.

    When we do not have that epoch, what we have of smaller ones is kept and the leader is to be asked again: the next
    fetch says with which epoch we end then."""
    if leader.end_offset == NO_END:
        return min(own.high_watermark, own.end_offset)
    if leader.epoch == NO_EPOCH or own_at_epoch.epoch == NO_EPOCH:
        return min(leader.end_offset, own.end_offset)
    if own_at_epoch.epoch != leader.epoch:
        return min(own_at_epoch.end_offset, own.end_offset)
    return min(leader.end_offset, own_at_epoch.end_offset, own.end_offset)
