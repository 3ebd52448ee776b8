"""A group whose members die, hang and come back while the coordinator moves and what is asked is lost, late or there
twice; then all that ends, and they have to agree.

What stays true of every such story, whatever its members are: a place is one process's at a time, and keeps its
group.instance.id; who was fenced is started again; when the faults end no acknowledged offset is lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, Generic, TypeVar

from tests.sim.consumer import Books, Consumer
from tests.sim.group_caller import REBALANCE_MS, SESSION_MS
from tests.sim.group_host import GroupHost
from tests.sim.world import Violation, World

FAULTS_US = 60_000_000
CALM_US = (SESSION_MS + 4 * REBALANCE_MS) * 1_000
MEMBERS = 4

M = TypeVar("M", bound=Consumer)
H = TypeVar("H", bound=GroupHost)


class Membership(ABC, Generic[M, H]):
    """`lives`: how many processes there were. `instances`: by place."""

    kind: ClassVar[str]
    faults: ClassVar[tuple[str, ...]] = ("coordinator", "coordinator", "crash", "pause", "pause", "pause")

    def __init__(self, seed: int, traced: bool = False) -> None:
        self.world = World(seed, traced=traced)
        random = self.world.random
        self.host = self.make_host(random)
        self.loss = random.choice([0.0, 0.02, 0.1])
        self.host.commit_us = random.choice([2_000, 20_000, 500_000])
        self.host.errors = random.choice([0.0, 0.05])
        self.books = Books()
        self.lives = 0
        statics = random.randint(0, MEMBERS)
        self.instances = [f"i{number}" if number < statics else None for number in range(MEMBERS)]
        self.prepare(random)
        self.members = [self._born(number) for number in range(MEMBERS)]

    @abstractmethod
    def make_host(self, random: Random) -> H: ...

    def prepare(self, random: Random) -> None:
        """Whatever else the seed decides before anybody is born."""

    @abstractmethod
    def make_member(self, name: str, number: int) -> M: ...

    def buried(self, member: M) -> None:
        """A process is no more."""

    @abstractmethod
    def check_agreed(self) -> None:
        """All is calm: who has what."""

    # The story ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.world.after(1_000_000, None, self._fault)
        self.world.after(1_000_000, None, self._watch_over)
        self.world.run_until(FAULTS_US)
        self.loss = self.host.errors = 0.0
        for member in self.members:
            member.loss = 0.0
            self.world.resume(member.process)
        self.calm_down()
        self.world.run_until(FAULTS_US + CALM_US)
        self.check_agreed()
        for partition, offset in self.books.acknowledged.items():
            if self.host.committed[partition][0] < offset:
                raise Violation(f"{partition}: {offset} was acknowledged, the log has {self.host.committed}")

    def calm_down(self) -> None:
        """What still happens when the faults have ended."""

    def _born(self, number: int) -> M:
        self.lives += 1
        return self.make_member(f"m{number}.{self.lives}", number)

    def replace(self, number: int) -> None:
        """Who dies owns nothing."""
        old = self.members[number]
        old.process.alive = False
        self.buried(old)
        self.members[number] = self._born(number)

    def _watch_over(self) -> None:
        """Who was fenced is started again, also when of two requests of its own the second fenced the first."""
        for number, member in enumerate(self.members):
            if member.is_fenced:
                self.replace(number)
        self.world.after(1_000_000, None, self._watch_over)

    def _fault(self) -> None:
        world = self.world
        if world.now_us >= FAULTS_US:
            return
        self.strike(world.random.choice(self.faults), world.random.randrange(MEMBERS))
        world.after(world.between(100_000, 8_000_000), None, self._fault)

    def strike(self, what: str, number: int) -> None:
        world, member = self.world, self.members[number]
        if what == "coordinator":
            self.host.fail_over()
        elif what == "crash":
            world.say(member.name, "dies")
            self.replace(number)
        elif what == "pause" and not member.process.paused:
            world.say(member.name, "hangs")
            world.pause(member.process)
            world.after(world.between(SESSION_MS // 2, 3 * SESSION_MS) * 1_000, None, world.resume, member.process)
