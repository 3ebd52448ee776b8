"""Exactly once in a group, from a seed: workers are members of a group of the consumer protocol, and send the offsets
of what they read in their transactions. They die, hang and come back while others have their partitions, both
coordinators move, answers and markers get lost; then all that ends.

What stays true, besides what does of transactions: nothing that was read is in the output twice and nothing is left
out, though in every other seed nothing fences a worker but its epoch in the group.

    python -m tests.sim.exactly_once_story --seed 7        the events of one
    python -m tests.sim.exactly_once_story --seeds 500     many
"""

from __future__ import annotations

import sys
from typing import ClassVar

from cluster.coordinator.context import ConsumerConfig
from tests.sim import story
from tests.sim.group_worker import REBALANCE_MS, SESSION_MS, GroupWorker
from tests.sim.transaction_story import TransactionStory


class ExactlyOnceStory(TransactionStory):
    kind: ClassVar[str] = "exactly once"
    at_work: ClassVar[int] = 3
    inputs: ClassVar[int] = 4
    work_on_us: ClassVar[int] = (SESSION_MS + 2 * REBALANCE_MS) * 1_000
    consumers: ClassVar[ConsumerConfig] = ConsumerConfig(session_timeout_ms=SESSION_MS, assignment_interval_ms=0)

    def make_worker(self, name: str, number: int) -> GroupWorker:
        has_own_id = self.world.seed % 2 == 0
        return GroupWorker(
            name,
            name if has_own_id else f"w{number}",
            self.world,
            self.coordinator,
            self.group,
            self.outputs,
            self.books,
            version=self.version,
            inputs=self.inputs,
            loss=self.loss,
        )


run_seed = story.runner(ExactlyOnceStory)

if __name__ == "__main__":
    sys.exit(story.main(run_seed, __doc__))
