"""A group that goes from the classic protocol to the consumer protocol and back while it lives, from a seed: members
leave and come back by the other protocol, one by one and all of them, die and hang; the coordinator moves, what is
asked is lost, late or there twice; then all that ends.

What stays true, whatever happened: a partition is one member's in the log and in an epoch or generation, of whichever
protocol; these are one row that never falls while the group has members; who is in the log has all that it believes to
have; no acknowledged offset is lost, none moves back. When the faults end, every partition soon has an owner, nobody
is fenced for ever, and the group is of the protocol that its members and `group.consumer.migration.policy` make it.

    python -m tests.sim.mix_story --seed 7        the events of one
    python -m tests.sim.mix_story --seeds 500     many
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import ClassVar

from cluster.coordinator.context import ConsumerConfig, GroupConfig
from pylog.errors import ErrorCode
from tests.sim import story
from tests.sim.consumer import Consumer
from tests.sim.consumer_member import ConsumerMember
from tests.sim.group_caller import SESSION_MS
from tests.sim.group_host import PARTITIONS
from tests.sim.group_member import Member
from tests.sim.membership import FAULTS_US, MEMBERS, Membership
from tests.sim.mix_host import CLASSIC, CONSUMER, MixHost
from tests.sim.world import Violation

_ROLL_US = 2_000_000
_POLICIES = ("bidirectional", "bidirectional", "bidirectional", "upgrade", "downgrade", "disabled")


class ClassicInMix(Member):
    """`is_shut_out`: it may be that a group does not take it in."""

    is_shut_out = False

    def _refused(self, code: int) -> None:
        if code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL and self.is_shut_out:
            self.positions.clear()
            self._later(self._join)
        else:
            super()._refused(code)


class ConsumerInMix(ConsumerMember):
    """It hears from a classic group what it is not to be told: that there is no group of its own any more."""

    fencing = ConsumerMember.fencing | {ErrorCode.ILLEGAL_GENERATION}
    is_shut_out = False

    def _refused(self, code: int) -> None:
        if code == ErrorCode.GROUP_ID_NOT_FOUND and (self.epoch > 0 or self.is_shut_out):
            code = ErrorCode.UNKNOWN_MEMBER_ID
        super()._refused(code)


class MixStory(Membership[Consumer, MixHost]):
    """`protocols`: by place, what its process speaks. `plan`: what was planned in another one does not happen."""

    kind: ClassVar[str] = "mix"
    faults = (*Membership.faults, "roll", "roll", "roll", "roll all")

    def make_host(self, random: Random) -> MixHost:
        self.policy = random.choice(_POLICIES)
        consumer = ConsumerConfig(
            session_timeout_ms=SESSION_MS,
            assignment_interval_ms=random.choice([0, 1_000]),
            migration_policy=self.policy,
        )
        delay_ms = random.choice([0, 500, 3_000])
        config = GroupConfig(initial_rebalance_delay_ms=delay_ms, offsets_topic_partitions=1, consumer=consumer)
        return MixHost(self.world, config)

    def prepare(self, random: Random) -> None:
        self.plan = 0
        self.is_cooperative = random.random() < 0.5
        begin = random.choice([(CLASSIC,), (CONSUMER,), (CLASSIC, CONSUMER)])
        self.protocols = [random.choice(begin) for _ in range(MEMBERS)]

    def make_member(self, name: str, number: int) -> Consumer:
        world, host, books, instance = self.world, self.host, self.books, self.instances[number]
        if self.protocols[number] == CONSUMER:
            consumer = ConsumerInMix(name, world, host, books, instance, self.loss)
            consumer.is_shut_out = self.policy not in ("bidirectional", "upgrade")
            return consumer
        classic = ClassicInMix(name, world, host, books, instance, self.loss, cooperative=self.is_cooperative)
        classic.is_shut_out = self.policy == "disabled"
        host.members.append(classic)
        return classic

    def buried(self, member: Consumer) -> None:
        self.host.members.remove(member)
        if isinstance(member, Member):
            self.world.after(self.world.between(0, 3_000_000), None, member.abort)

    # Rolling ------------------------------------------------------------------------------------------------------

    def strike(self, what: str, number: int) -> None:
        if what == "roll":
            self._turn(number)
        elif what == "roll all":
            self._roll_all(self.world.random.choice([CLASSIC, CONSUMER]))
        else:
            super().strike(what, number)

    def _turn(self, number: int) -> None:
        """And perhaps another one, while the first is still expected or gone but a moment."""
        self._roll(number, CLASSIC if self.protocols[number] == CONSUMER else CONSUMER)
        if self.world.chance(0.6):
            self._soon(self.world.between(0, _ROLL_US), self._turn, self.world.random.randrange(MEMBERS))

    def _soon(self, delay_us: int, what: Callable[..., None], *arguments: object) -> None:
        """Unless all is to be calm by then."""
        plan = self.plan

        def now() -> None:
            if plan == self.plan:
                what(*arguments)

        self.world.after(delay_us, None, now)

    def _roll_all(self, protocol: str) -> None:
        """One after the other, as it is done."""
        at_us = 0
        for number in self.world.random.sample(range(MEMBERS), MEMBERS):
            at_us += self.world.between(0, _ROLL_US)
            self._soon(at_us, self._roll, number, protocol)

    def _roll(self, number: int, protocol: str) -> None:
        if self.protocols[number] != protocol:
            self.protocols[number] = protocol
            old = self.members[number]
            if not old.process.paused:
                old.leave()
            self.replace(number)

    def calm_down(self) -> None:
        """Where not every change of protocol is allowed, members of both may never come together."""
        self.plan += 1
        ends = [CLASSIC, CONSUMER]
        end = self.world.random.choice(ends if self.policy in ("downgrade", "disabled") else [*ends, ""])
        if end:
            self.world.run_until(FAULTS_US + 1 + self.world.between(0, MEMBERS * _ROLL_US))
            self._roll_all(end)

    # Checks -------------------------------------------------------------------------------------------------------

    def check_agreed(self) -> None:
        host = self.host
        owned = sorted(partition for member in self.members for partition in member.positions)
        epochs = {member.epoch for member in self.members}
        is_settled = all(member.is_settled for member in self.members)
        if epochs != {host.epoch} or owned != list(range(PARTITIONS)) or not is_settled:
            states = [(m.name, m.epoch, m.is_settled, sorted(m.positions)) for m in self.members]
            raise Violation(f"they do not agree on epoch {host.epoch}: {states}")
        if host.present != {member.member_id for member in self.members}:
            raise Violation(f"in the log are {sorted(host.present)}")
        may_downgrade = self.policy in ("bidirectional", "downgrade")
        if CONSUMER in self.protocols and host.protocol != CONSUMER:
            raise Violation(f"{self.protocols} are in a {host.protocol} group")
        if CONSUMER not in self.protocols and may_downgrade and host.protocol != CLASSIC:
            raise Violation(f"{self.protocols} are left in a {host.protocol} group")


run_seed = story.runner(MixStory)

if __name__ == "__main__":
    sys.exit(story.main(run_seed, __doc__))
