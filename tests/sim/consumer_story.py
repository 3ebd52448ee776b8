"""A group of the consumer protocol from a seed: members die, hang and come back, the coordinator moves, what is asked
is lost, late or there twice; then all that ends.

What stays true, whatever happened: a partition is one member's in the log, and in an epoch; who is in the log has all
that it believes to have; epochs never fall; no acknowledged offset is lost, none moves back. When the faults end, every
partition soon has an owner, and all members are in the group's epoch.

    python -m tests.sim.consumer_story --seed 7        the events of one
    python -m tests.sim.consumer_story --seeds 500     many
"""

from __future__ import annotations

import sys
from random import Random
from typing import ClassVar

from cluster.coordinator.context import ConsumerConfig, GroupConfig
from tests.sim import story
from tests.sim.consumer_host import ConsumerHost
from tests.sim.consumer_member import ConsumerMember
from tests.sim.group_caller import SESSION_MS
from tests.sim.group_host import PARTITIONS
from tests.sim.membership import Membership
from tests.sim.world import Violation


class ConsumerStory(Membership[ConsumerMember, ConsumerHost]):
    kind: ClassVar[str] = "consumer"
    faults = (*Membership.faults, "topics")

    def make_host(self, random: Random) -> ConsumerHost:
        consumer = ConsumerConfig(session_timeout_ms=SESSION_MS, assignment_interval_ms=random.choice([0, 1_000]))
        return ConsumerHost(self.world, GroupConfig(offsets_topic_partitions=1, consumer=consumer))

    def make_member(self, name: str, number: int) -> ConsumerMember:
        return ConsumerMember(name, self.world, self.host, self.books, self.instances[number], self.loss)

    def buried(self, member: ConsumerMember) -> None:
        self.host.members.remove(member)

    def strike(self, what: str, number: int) -> None:
        if what == "topics":
            self.host.topics.changes += 1
        else:
            super().strike(what, number)

    def check_agreed(self) -> None:
        owned = sorted(partition for member in self.members for partition in member.positions)
        epochs = {member.epoch for member in self.members}
        is_settled = all(member.is_settled for member in self.members)
        if epochs != {self.host.epoch} or owned != list(range(PARTITIONS)) or not is_settled:
            states = [(m.name, m.epoch, sorted(m.target), sorted(m.positions)) for m in self.members]
            raise Violation(f"they do not agree on epoch {self.host.epoch}: {states}")
        if self.host.owned.keys() != {member.name for member in self.members}:
            raise Violation(f"in the log are {sorted(self.host.owned)}")


run_seed = story.runner(ConsumerStory)

if __name__ == "__main__":
    sys.exit(story.main(run_seed, __doc__))
