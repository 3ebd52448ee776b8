"""The coordinator of a group of the consumer protocol in the simulator, and what its log says that members have.

What stays true: a partition is one member's in the log; whoever is in the log has all that it believes to have; the
group's epoch never falls.
"""

from __future__ import annotations

from cluster.coordinator.consumer_records import CurrentDeleted, CurrentStored, GroupEpoch, MemberDeleted
from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import Fact
from tests.sim.consumer import Consumer
from tests.sim.group_host import TOPIC, GroupHost
from tests.sim.world import Violation, World


class ConsumerHost(GroupHost):
    """`owned`: what the committed log says that a member has, be it to give up. `epoch`: of the group. `members`: who
    believe to be such, and whoever is in the log under their ids has all that they believe to have."""

    def __init__(self, world: World, config: GroupConfig) -> None:
        self.owned: dict[str, set[int]] = {}
        self.epoch = 0
        self.members: list[Consumer] = []
        super().__init__(world, config)

    def noted(self, fact: Fact | None) -> None:
        if isinstance(fact, CurrentStored):
            held = (fact.assigned, fact.revoking)
            self.owned[fact.member_id] = {index for owned in held for each in owned.values() for index in each}
        elif isinstance(fact, CurrentDeleted | MemberDeleted):
            self.owned.pop(fact.member_id, None)
        elif isinstance(fact, GroupEpoch):
            self.begins(fact.epoch)

    def begins(self, epoch: int) -> None:
        """The group is in this epoch or generation."""
        if epoch < self.epoch:
            raise Violation(f"the group's epoch went from {self.epoch} back to {epoch}")
        self.epoch = epoch

    def check_owned(self, member: Consumer) -> None:
        known = self.owned.get(member.member_id)
        if known is not None and member.epoch > 0 and not member.positions.keys() <= known:
            raise Violation(f"{member.name} reads {sorted(member.positions)}, and in the log it has {sorted(known)}")

    def _check(self) -> None:
        super()._check()
        owners: dict[int, str] = {}
        for member_id, partitions in self.owned.items():
            for partition in partitions:
                owner = owners.setdefault(partition, member_id)
                if owner != member_id:
                    raise Violation(f"{TOPIC}-{partition} is both {owner}'s and {member_id}'s in the log")
        for member in self.members:
            self.check_owned(member)
