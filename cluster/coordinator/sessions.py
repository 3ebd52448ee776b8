"""Until when a member is believed to live, and a pending one to come back.

What stays true: one timer per member id, which never fires later than the deadline. Life signs only move the deadline:
a timer that fires before it is set again, so a heartbeat costs no timer.
"""

from __future__ import annotations

from collections.abc import Hashable

from cluster.coordinator.members import Member
from cluster.coordinator.shard import Step
from cluster.effects import CancelTimer, SetTimer


class Sessions:
    """The timers of one group's members. `pending`: ids that were given out and not yet used -> when they lapse."""

    __slots__ = ("_group_id", "pending")

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id
        self.pending: dict[str, int] = {}

    def touch(self, member: Member, timeout_ms: int, now_ms: int, out: list[Step]) -> None:
        """The member lives: its session ends so much later, or earlier than it would have."""
        member.deadline_ms = now_ms + timeout_ms
        if not member.armed_ms or member.deadline_ms < member.armed_ms:
            self.arm(member, out)

    def arm(self, member: Member, out: list[Step]) -> None:
        member.armed_ms = member.deadline_ms
        out.append(SetTimer(self._key(member.member_id), member.deadline_ms))

    def disarm(self, member: Member, out: list[Step]) -> None:
        if member.armed_ms:
            member.armed_ms = 0
            out.append(CancelTimer(self._key(member.member_id)))

    def expect(self, member_id: str, deadline_ms: int, out: list[Step]) -> None:
        """An id was given out."""
        self.pending[member_id] = deadline_ms
        out.append(SetTimer(self._key(member_id), deadline_ms))

    def came(self, member: Member) -> None:
        """The member may have been expected; the timer that runs is then its own."""
        member.armed_ms = self.pending.pop(member.member_id, 0)

    def forget(self, member_id: str, out: list[Step]) -> None:
        """Nobody is to come back with this id."""
        del self.pending[member_id]
        out.append(CancelTimer(self._key(member_id)))

    def pending_due(self, member_id: str, now_ms: int, out: list[Step]) -> bool:
        """The timer of a pending member fired. True: it is given up."""
        deadline_ms = self.pending.get(member_id)
        if deadline_ms is None:
            return False
        if now_ms < deadline_ms:
            out.append(SetTimer(self._key(member_id), deadline_ms))
            return False
        del self.pending[member_id]
        return True

    def _key(self, member_id: str) -> Hashable:
        return ("session", self._group_id, member_id)
