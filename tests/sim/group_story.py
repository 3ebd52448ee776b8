"""A group from a seed: members die, hang and come back, the coordinator moves, answers get lost; then all that ends.

What stays true, whatever happened: a partition has one owner in a generation; no acknowledged offset is lost, none
moves back; when the faults end, every partition soon has an owner, and all members agree.

    python -m tests.sim.group_story --seed 7        the events of one
    python -m tests.sim.group_story --seeds 500     many
"""

from __future__ import annotations

import sys
from random import Random
from typing import ClassVar

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import GroupStored
from tests.sim import story
from tests.sim.group_host import PARTITIONS, GroupHost
from tests.sim.group_member import Member
from tests.sim.membership import Membership
from tests.sim.world import Violation


class GroupStory(Membership[Member, GroupHost]):
    kind: ClassVar[str] = "group"

    def make_host(self, random: Random) -> GroupHost:
        delay_ms = random.choice([0, 500, 3_000])
        return GroupHost(self.world, GroupConfig(initial_rebalance_delay_ms=delay_ms, offsets_topic_partitions=1))

    def prepare(self, random: Random) -> None:
        self.is_cooperative = random.random() < 0.5

    def make_member(self, name: str, number: int) -> Member:
        instance = self.instances[number]
        return Member(name, self.world, self.host, self.books, instance, self.loss, cooperative=self.is_cooperative)

    def buried(self, member: Member) -> None:
        self.world.after(self.world.between(0, 3_000_000), None, member.abort)

    def check_agreed(self) -> None:
        generations = {member.epoch for member in self.members}
        owned = sorted(partition for member in self.members for partition in member.positions)
        if len(generations) != 1 or owned != list(range(PARTITIONS)) or not all(m.is_settled for m in self.members):
            states = [(m.name, m.epoch, m.is_settled, sorted(m.positions)) for m in self.members]
            raise Violation(f"they do not agree: {states}")
        stored = [fact for fact in self.host.facts() if isinstance(fact, GroupStored)]
        if {stored[-1].generation} != generations:
            raise Violation(f"the log has generation {stored[-1].generation}, the members {generations}")


run_seed = story.runner(GroupStory)

if __name__ == "__main__":
    sys.exit(story.main(run_seed, __doc__))
