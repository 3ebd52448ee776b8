"""A cooperative group of the classic protocol takes partitions away in a generation that is committed, and nobody hears
of it: the answers are lost, and the coordinator moves. Before they ask again one of the consumer protocol joins.

What stays true: what they believe to have is nobody else's until they have heard, and then all is dealt out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cluster.coordinator.context import ConsumerConfig, GroupConfig, RequestContext
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from tests.sim.group_caller import PATIENCE_MS
from tests.sim.membership import CALM_US, MEMBERS
from tests.sim.mix_host import CLASSIC, CONSUMER, MixHost
from tests.sim.mix_story import MixStory
from tests.sim.world import Violation

_STEP_US = 10_000
_STABLE_US = 30_000_000
_FIRST, _NEXT, _MODERN = (0, 1), 2, 3


class MuffledHost(MixHost):
    """`is_muffled`: what is assigned is not heard."""

    is_muffled = False

    def request(self, ctx: RequestContext, message: Message, answer: Callable[[Message], None]) -> None:
        if self.is_muffled and isinstance(message, m.SyncGroupRequest):
            super().request(ctx, message, lambda told: None)
        else:
            super().request(ctx, message, answer)


class UnheardStory(MixStory):
    """Two have all, a third comes; the place of the fourth stays empty until one of the other protocol takes it."""

    faults = ()
    host: MuffledHost

    def make_host(self, random: Random) -> MuffledHost:
        self.policy = "bidirectional"
        consumer = ConsumerConfig(assignment_interval_ms=0, migration_policy=self.policy)
        config = GroupConfig(initial_rebalance_delay_ms=0, offsets_topic_partitions=1, consumer=consumer)
        return MuffledHost(self.world, config)

    def prepare(self, random: Random) -> None:
        super().prepare(random)
        self.is_cooperative = True
        self.protocols = [CLASSIC] * MEMBERS
        self.instances = [None] * MEMBERS
        self.loss = self.host.errors = 0.0

    def run(self) -> None:
        world, host = self.world, self.host
        for number in (_NEXT, _MODERN):
            world.pause(self.members[number].process)
        world.run_until(_STABLE_US)
        had = [set(self.members[number].positions) for number in _FIRST]
        before = host.epoch
        host.is_muffled = True
        world.resume(self.members[_NEXT].process)
        while host.epoch == before:
            world.run_until(world.now_us + _STEP_US)
        host.fail_over()
        self.protocols[_MODERN] = CONSUMER
        self.replace(_MODERN)
        world.run_until(world.now_us + PATIENCE_MS * 1_000 // 2)
        if host.protocol != CONSUMER or had != [set(self.members[number].positions) for number in _FIRST]:
            raise Violation(f"they have heard, or nobody has joined the {host.protocol} group")
        host.is_muffled = False
        world.run_until(world.now_us + CALM_US)
        self.check_agreed()
