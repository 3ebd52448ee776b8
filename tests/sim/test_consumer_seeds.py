"""Groups of the consumer protocol from seeds, and mistakes in the coordinator that these seeds find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.coordinator import reconciliation
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.lane import MemberTimers
from cluster.coordinator.published import Published
from cluster.coordinator.shard import HostedShard
from pylog.errors import ErrorCode
from tests.sim.consumer_story import run_seed
from tests.sim.mistakes import find

_SEEDS = 30
_UNTIL_FOUND = 40


@pytest.mark.parametrize("first", range(1, _SEEDS, 10))
def test_a_group_keeps_its_promises(first: int) -> None:
    stories = [run_seed(seed) for seed in range(first, first + 10)]
    assert sum(story.world.events for story in stories) > 10 * 500
    assert sum(story.host.front.answered for story in stories) > 10 * 50
    assert sum(story.host.front.took for story in stories) > 10 * 50


def test_a_seed_is_a_run() -> None:
    assert run_seed(5, traced=True).world.trace == run_seed(5, traced=True).world.trace


def nobody_waits_for_what_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """A partition is given away while its old owner still has it."""
    patch.setattr(ConsumerGroup, "owner", lambda *_: None)


def what_is_taken_away_counts_as_given_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody is asked whether it still reads what it is to give up."""
    patch.setattr(reconciliation, "_reports_any", lambda *_: False)


def anybody_may_commit(patch: pytest.MonkeyPatch) -> None:
    """Neither the epoch nor the member is looked at."""
    patch.setattr(ConsumerGroup, "check_commit", lambda *_, **__: ErrorCode.NONE)
    patch.setattr(ConsumerGroup, "check_since", lambda *_, **__: ErrorCode.NONE)


def the_log_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """What is appended counts as committed."""
    take = HostedShard.take_committed

    def hasty(self: HostedShard) -> object:
        self.high_watermark = 1 << 60
        return take(self)

    patch.setattr(HostedShard, "take_committed", hasty)


def nobody_is_late(patch: pytest.MonkeyPatch) -> None:
    """The dead keep what they had."""
    patch.setattr(MemberTimers, "fired", lambda *_: (None, []))


def who_was_heard_elsewhere_is_held_for_dead(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks when published members were last heard."""
    patch.setattr(Published, "heard_ms", lambda *_: None)


def members_stay_published(patch: pytest.MonkeyPatch) -> None:
    """The group changes, and heartbeats go on being answered as if nothing were."""
    patch.setattr(Published, "shut", lambda *_: [])


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (nobody_waits_for_what_is_given_up, "is both .* in the log"),
        (what_is_taken_away_counts_as_given_up, "reads .*, and in the log it has"),
        (anybody_may_commit, "went from .* back to"),
        (the_log_is_not_waited_for, "reads .*, and in the log it has"),
        (nobody_is_late, "they do not agree"),
        (who_was_heard_elsewhere_is_held_for_dead, "they do not agree"),
        (members_stay_published, "they do not agree"),
    ],
)
def test_a_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    find(run_seed, range(1, _UNTIL_FOUND), says)
