"""A group from a seed: members die, hang and come back, the coordinator moves, answers get lost; then all that ends.

What stays true, whatever happened: a partition has one owner in a generation; no acknowledged offset is lost, none
moves back; when the faults end, every partition soon has an owner, and all members agree.

    python -m tests.sim.group_story --seed 7        the events of one
    python -m tests.sim.group_story --seeds 500     many
"""

from __future__ import annotations

import argparse
import sys

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import GroupStored
from tests.sim.group_host import PARTITIONS, GroupHost
from tests.sim.group_member import REBALANCE_MS, SESSION_MS, Books, Member
from tests.sim.world import Violation, World

_FAULTS_US = 60_000_000
_CALM_US = (SESSION_MS + 4 * REBALANCE_MS) * 1_000
_MEMBERS = 4


class GroupStory:
    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.world = World(seed, traced=traced)
        config = GroupConfig(
            initial_rebalance_delay_ms=self.world.random.choice([0, 500, 3_000]), offsets_topic_partitions=1
        )
        self.loss = self.world.random.choice([0.0, 0.02, 0.1])
        self.host = GroupHost(self.world, config)
        self.host.commit_us = self.world.random.choice([2_000, 20_000, 500_000])
        self.host.errors = self.world.random.choice([0.0, 0.05])
        self.books = Books()
        self.members: list[Member] = []
        self.lives = 0
        statics = self.world.random.randint(0, _MEMBERS)
        self.instances = [f"i{number}" if number < statics else None for number in range(_MEMBERS)]

    def run(self) -> None:
        for number in range(_MEMBERS):
            self.members.append(self._born(number))
        self.world.after(1_000_000, None, self._fault)
        self.world.after(1_000_000, None, self._watch_over)
        self.world.run_until(_FAULTS_US)
        self.loss = self.host.errors = 0.0
        for member in self.members:
            member.loss = 0.0
            self.world.resume(member.process)
        self.world.run_until(_FAULTS_US + _CALM_US)
        self._check_converged()

    def _born(self, number: int) -> Member:
        self.lives += 1
        name = f"m{number}.{self.lives}"
        return Member(name, self.world, self.host, self.books, self.instances[number], self.loss)

    def _replace(self, number: int) -> None:
        old = self.members[number]
        old.process.alive = False
        self.world.after(self.world.between(0, 3_000_000), None, old.abort)
        self.members[number] = self._born(number)

    def _watch_over(self) -> None:
        """Who was fenced and not replaced is started again: of two requests of its own the second fenced the first."""
        for number, member in enumerate(self.members):
            if member.is_fenced:
                self._replace(number)
        self.world.after(1_000_000, None, self._watch_over)

    def _fault(self) -> None:
        world = self.world
        if world.now_us >= _FAULTS_US:
            return
        number = world.random.randrange(_MEMBERS)
        member = self.members[number]
        what = world.random.choice(["coordinator", "coordinator", "crash", "pause", "pause", "pause"])
        if what == "coordinator":
            self.host.fail_over()
        elif what == "crash":
            world.say(member.name, "dies")
            self._replace(number)
        elif what == "pause" and not member.process.paused:
            world.say(member.name, "hangs")
            world.pause(member.process)
            world.after(world.between(SESSION_MS // 2, 3 * SESSION_MS) * 1_000, None, world.resume, member.process)
        world.after(world.between(100_000, 8_000_000), None, self._fault)

    def _check_converged(self) -> None:
        generations = {member.generation for member in self.members}
        owned = sorted(partition for member in self.members for partition in member.positions)
        if len(generations) != 1 or owned != list(range(PARTITIONS)) or not all(m.is_stable for m in self.members):
            states = [(m.name, m.generation, m.is_stable, sorted(m.positions)) for m in self.members]
            raise Violation(f"they do not agree: {states}")
        stored = [fact for fact in self.host.facts() if isinstance(fact, GroupStored)]
        if {stored[-1].generation} != generations:
            raise Violation(f"the log has generation {stored[-1].generation}, the members {generations}")
        for partition, offset in self.books.acknowledged.items():
            if self.host.committed[partition][0] < offset:
                raise Violation(f"{partition}: {offset} was acknowledged, the log has {self.host.committed}")


def run_seed(seed: int, *, traced: bool = False) -> GroupStory:
    """Raises what went wrong, with the last events before it."""
    story = GroupStory(seed, traced=traced)
    try:
        story.run()
    except Exception as error:
        error.add_note("\n".join([*story.world.trace, f"group seed {seed}"]))
        raise
    return story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.group_story", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    if options.seed is not None:
        print("\n".join(run_seed(options.seed, traced=True).world.trace))
        return 0
    print(f"group seeds from {options.first}, {options.seeds} of them")
    for seed in range(options.first, options.first + options.seeds):
        run_seed(seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
