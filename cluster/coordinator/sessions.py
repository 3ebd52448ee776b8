"""Until when a member is believed to live, and a pending one to come back.

What stays true:
  - one timer per member id, which never fires later than the deadline. Life signs only move the deadline: a timer that
    fires before it is set again, so a heartbeat costs no timer;
  - a member is open, its heartbeats answered by who carries the effects out, only while the group is stable and its own
    place in it is committed; whatever changes either shuts it, before any answer tells of the change;
  - a member whose heartbeats were ever published is not held for dead before it was asked for when it was last heard.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from cluster.coordinator.context import Heard
from cluster.coordinator.members import Member
from cluster.coordinator.shard import Step
from cluster.effects import CancelTimer, PublishMembers, SetTimer, WithdrawMembers


class Sessions:
    """The timers of one group's members. `pending`: ids that were given out and not yet used -> when they lapse."""

    __slots__ = ("_group_id", "_heard", "_published", "pending")

    def __init__(self, group_id: str, heard: Heard | None) -> None:
        self._group_id = group_id
        self._heard = heard
        self._published: dict[str, bool] = {}  # member id -> whether it is open
        self.pending: dict[str, int] = {}

    # Heartbeats that somebody else answers ------------------------------------------------------------------------

    def open(self, members: Iterable[Member], generation: int, out: list[Step]) -> None:
        """Nothing of these is in doubt: as long as they say this generation, all is well."""
        if self._heard is None:
            return
        told = tuple((each.member_id, each.instance_id) for each in members)
        self._published.update((member_id, True) for member_id, _ in told)
        if told:
            out.append(PublishMembers(self._group_id, generation, told))

    def shut(self, out: list[Step]) -> None:
        """From now on the group has something to say to every member."""
        shut = tuple(member_id for member_id, is_open in self._published.items() if is_open)
        if shut:
            self._published.update(dict.fromkeys(shut, False))
            out.append(WithdrawMembers(self._group_id, shut, forget=False))

    def forget_all(self, out: list[Step]) -> None:
        """Nobody here will ask for any of them any more."""
        if self._published:
            out.append(WithdrawMembers(self._group_id, tuple(self._published), forget=True))
            self._published.clear()

    def listen(self, member: Member, now_ms: int) -> None:
        """Move the deadline by what was heard of the member elsewhere."""
        if self._heard is None or member.member_id not in self._published:
            return
        heard_ms = self._heard(self._group_id, member.member_id, now_ms)
        if heard_ms is not None:
            member.deadline_ms = max(member.deadline_ms, heard_ms + member.session_timeout_ms)

    # Timers -------------------------------------------------------------------------------------------------------

    def touch(self, member: Member, timeout_ms: int, now_ms: int, out: list[Step]) -> None:
        """The member lives: its session ends so much later, or earlier than it would have."""
        member.deadline_ms = now_ms + timeout_ms
        if not member.armed_ms or member.deadline_ms < member.armed_ms:
            self.arm(member, out)

    def arm(self, member: Member, out: list[Step]) -> None:
        member.armed_ms = member.deadline_ms
        out.append(SetTimer(self._key(member.member_id), member.deadline_ms))

    def disarm(self, member: Member, out: list[Step]) -> None:
        """The member goes, or its id does."""
        if self._published.pop(member.member_id, None) is not None:
            out.append(WithdrawMembers(self._group_id, (member.member_id,), forget=True))
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
