"""The coordinator of a group whose members speak both protocols, in the simulator, and what its log says of the group.

What stays true: the log has a group of one protocol at a time; its generations and epochs are one row that never falls,
unless nobody who was a member before is one after: that is another life of it. In a generation of the classic
protocol, as in an epoch, a partition is one member's.
"""

from __future__ import annotations

from cluster.coordinator.consumer_records import GroupEpoch, GroupEpochDeleted, MemberDeleted, MemberStored
from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import Fact, GroupDeleted, GroupStored
from tests.sim.assignment import assigned
from tests.sim.consumer_host import ConsumerHost
from tests.sim.group_host import TOPIC
from tests.sim.world import Violation, World

CLASSIC, CONSUMER = "classic", "consumer"


class MixHost(ConsumerHost):
    """`protocol`: of the group in the log; "": there is none. `present`: its members."""

    def __init__(self, world: World, config: GroupConfig) -> None:
        self.protocol = ""
        self.present: set[str] = set()
        self.conversions = 0
        self._leaving: set[str] = set()  # whose records were deleted since anything else was written
        self._before: set[str] = set()  # who was a member of the group that was deleted last
        super().__init__(world, config)

    def noted(self, fact: Fact | None) -> None:
        super().noted(fact)
        if isinstance(fact, MemberStored):
            self.present.add(fact.member.member_id)
        elif isinstance(fact, MemberDeleted):
            self.present.discard(fact.member_id)
            self._leaving.add(fact.member_id)
        elif isinstance(fact, GroupStored):
            self._stored(fact)
        elif isinstance(fact, GroupEpoch):
            self._is_of(CONSUMER)
        elif isinstance(fact, GroupDeleted):
            self._deleted(CLASSIC, self.present)
            self.present = set()
        elif isinstance(fact, GroupEpochDeleted):
            if self.present:
                raise Violation(f"the group was deleted, and {sorted(self.present)} were left")
            self._deleted(CONSUMER, self._leaving)
        if not type(fact).__name__.endswith("Deleted"):
            self._leaving = set()

    def _stored(self, fact: GroupStored) -> None:
        self.present = {each.member_id for each in fact.members}
        self.begins(fact.generation)
        self._is_of(CLASSIC)
        owners: dict[int, str] = {}
        for member in fact.members:
            for partition in assigned(member.assignment):
                owner = owners.setdefault(partition, member.member_id)
                if owner != member.member_id:
                    raise Violation(f"{TOPIC}-{partition} is both {owner}'s and {member.member_id}'s in the log")

    def begins(self, epoch: int) -> None:
        if epoch < self.epoch and not self.protocol and self._before.isdisjoint(self.present):
            self.life += 1
            self.epoch = 0
        super().begins(epoch)

    def _is_of(self, protocol: str) -> None:
        if self.protocol not in ("", protocol):
            raise Violation(f"the log has a {self.protocol} group and a {protocol} group")
        if not self._before.isdisjoint(self.present):
            self.conversions += 1
        self._before = set()
        self.protocol = protocol

    def _deleted(self, protocol: str, members: set[str]) -> None:
        if self.protocol == protocol:
            self.protocol = ""
            self._before = members
