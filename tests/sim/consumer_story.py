"""A group of the consumer protocol from a seed: members die, hang and come back, the coordinator moves, what is asked
is lost, late or there twice; then all that ends.

What stays true, whatever happened: a partition is one member's in the log, and in an epoch; who is in the log has all
that it believes to have; epochs never fall; no acknowledged offset is lost, none moves back. When the faults end, every
partition soon has an owner, and all members are in the group's epoch.

    python -m tests.sim.consumer_story --seed 7        the events of one
    python -m tests.sim.consumer_story --seeds 500     many
"""

from __future__ import annotations

import argparse
import sys

from cluster.coordinator.context import ConsumerConfig, GroupConfig
from tests.sim.consumer_member import REBALANCE_MS, SESSION_MS, ConsumerHost, ConsumerMember
from tests.sim.group_host import PARTITIONS
from tests.sim.group_member import Books
from tests.sim.world import Violation, World

_FAULTS_US = 60_000_000
_CALM_US = (SESSION_MS + 4 * REBALANCE_MS) * 1_000
_MEMBERS = 4


class ConsumerStory:
    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.world = world = World(seed, traced=traced)
        random = world.random
        consumer = ConsumerConfig(session_timeout_ms=SESSION_MS, assignment_interval_ms=random.choice([0, 1_000]))
        self.loss = random.choice([0.0, 0.02, 0.1])
        self.host = ConsumerHost(world, GroupConfig(offsets_topic_partitions=1, consumer=consumer))
        self.host.commit_us = random.choice([2_000, 20_000, 500_000])
        self.host.errors = random.choice([0.0, 0.05])
        self.books = Books()
        self.lives = 0
        statics = random.randint(0, _MEMBERS)
        self.instances = [f"i{number}" if number < statics else None for number in range(_MEMBERS)]
        self.members = [self._born(number) for number in range(_MEMBERS)]

    def run(self) -> None:
        self.world.after(1_000_000, None, self._fault)
        self.world.after(1_000_000, None, self._watch_over)
        self.world.run_until(_FAULTS_US)
        self.loss = self.host.errors = 0.0
        for member in self.host.members:
            member.loss = 0.0
            self.world.resume(member.process)
        self.world.run_until(_FAULTS_US + _CALM_US)
        self._check_converged()

    def _born(self, number: int) -> ConsumerMember:
        self.lives += 1
        name = f"m{number}.{self.lives}"
        return ConsumerMember(name, self.world, self.host, self.books, self.instances[number], self.loss)

    def _replace(self, number: int) -> None:
        """Who dies owns nothing."""
        old = self.members[number]
        old.process.alive = False
        self.host.members.remove(old)
        self.members[number] = self._born(number)

    def _watch_over(self) -> None:
        """Who was fenced is started again."""
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
        owned = sorted(partition for member in self.members for partition in member.positions)
        epochs = {member.epoch for member in self.members}
        if (
            epochs != {self.host.epoch}
            or owned != list(range(PARTITIONS))
            or not all(m.is_settled for m in self.members)
        ):
            states = [(m.name, m.epoch, sorted(m.target), sorted(m.positions)) for m in self.members]
            raise Violation(f"they do not agree on epoch {self.host.epoch}: {states}")
        if self.host.owned.keys() != {member.name for member in self.members}:
            raise Violation(f"in the log are {sorted(self.host.owned)}")
        for partition, offset in self.books.acknowledged.items():
            if self.host.committed[partition][0] < offset:
                raise Violation(f"{partition}: {offset} was acknowledged, the log has {self.host.committed}")


def run_seed(seed: int, *, traced: bool = False) -> ConsumerStory:
    """Raises what went wrong, with the last events before it."""
    story = ConsumerStory(seed, traced=traced)
    try:
        story.run()
    except Exception as error:
        error.add_note("\n".join([*story.world.trace, f"consumer seed {seed}"]))
        raise
    return story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.consumer_story", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    if options.seed is not None:
        print("\n".join(run_seed(options.seed, traced=True).world.trace))
        return 0
    print(f"consumer seeds from {options.first}, {options.seeds} of them")
    for seed in range(options.first, options.first + options.seeds):
        run_seed(seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
