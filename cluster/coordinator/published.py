"""Members of a group of the consumer protocol whose heartbeats somebody else answers, and whose offsets he takes.

What stays true:
  - a member is open only as it was when nothing that is about it was on its way to the log, and nothing of it was still
    to be found out or done. Whatever changes the group is a write, and every write shuts those first that it is about;
  - it is open for the topics that it was decided with, and with the client id and the address that its record has: who
    answers sees to it that others come here;
  - it is known until its session ends, and nobody is held for dead before it was asked for when he was last heard. Its
    offsets are no sign of life.
"""

from __future__ import annotations

from collections.abc import Collection

from cluster.coordinator.consumer_group import EPOCHS_SINCE
from cluster.coordinator.consumer_member import ConsumerMember
from cluster.coordinator.context import Heard
from cluster.coordinator.shard import Step
from cluster.effects import PublishConsumer, WithdrawMembers

_LONGEST = 255  # texts beyond are not worth a place with who answers


class Published:
    """Of one group."""

    __slots__ = ("_group_id", "_heard", "_known", "_open")

    def __init__(self, group_id: str, heard: Heard | None) -> None:
        self._group_id = group_id
        self._heard = heard
        self._known: set[str] = set()
        self._open: dict[str, int] = {}  # member id -> the number of the topics

    def open(self, member: ConsumerMember, heartbeat_interval_ms: int, topics: int) -> list[Step]:
        """As long as it says nothing but this epoch, all is well. Nothing to do if that is known."""
        member_id, client_host = member.member_id, member.client_host[1:]
        if self._heard is None or self._open.get(member_id) == topics:
            return []
        if not client_host or len(member_id) > _LONGEST or len(member.client_id) > _LONGEST:
            return []
        self._known.add(member_id)
        self._open[member_id] = topics
        return [
            PublishConsumer(
                self._group_id,
                member_id,
                member.instance_id,
                member.client_id,
                client_host,
                member.epoch,
                heartbeat_interval_ms,
                topics,
                EPOCHS_SINCE,
            )
        ]

    def shut(self, about: Collection[str] | None) -> list[Step]:
        """From now on there may be something to say to each of these. None: to each there is."""
        shut = tuple(self._open if about is None else [each for each in about if each in self._open])
        if not shut:
            return []
        for member_id in shut:
            del self._open[member_id]
        return [WithdrawMembers(self._group_id, shut, forget=False)]

    def forget(self, member_id: str) -> list[Step]:
        """Nobody here will ask for it any more."""
        if member_id not in self._known:
            return []
        self._known.remove(member_id)
        self._open.pop(member_id, None)
        return [WithdrawMembers(self._group_id, (member_id,), forget=True)]

    def forget_all(self) -> list[Step]:
        if not self._known:
            return []
        gone = tuple(sorted(self._known))
        self._known.clear()
        self._open.clear()
        return [WithdrawMembers(self._group_id, gone, forget=True)]

    def heard_ms(self, member_id: str, now_ms: int) -> int | None:
        """When it was last heard elsewhere."""
        if self._heard is None or member_id not in self._known:
            return None
        return self._heard(self._group_id, member_id, now_ms)
