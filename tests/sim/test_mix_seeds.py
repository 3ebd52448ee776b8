"""Groups of both protocols from seeds, and mistakes in their conversion that these seeds find.

What only some hundred seeds find is in the transcripts of conversions.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.coordinator import consumer_classic, consumer_conversion, consumer_coordinator
from cluster.coordinator.consumer_coordinator import ConsumerCoordinator
from cluster.coordinator.consumer_env import Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.group import Group
from cluster.coordinator.group_records import GroupDeleted, GroupStored
from tests.sim.mistakes import find
from tests.sim.mix_story import run_seed
from tests.sim.unheard_story import UnheardStory
from tests.sim.world import Violation

_SEEDS = 20
_UNTIL_FOUND = 60

Mistake = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("first", range(1, _SEEDS, 10))
def test_a_group_keeps_its_promises(first: int) -> None:
    stories = [run_seed(seed) for seed in range(first, first + 10)]
    assert sum(story.world.events for story in stories) > 10 * 500
    assert sum(story.host.conversions for story in stories) >= 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_nobody_has_heard_of_giving_up_is_nobody_elses(seed: int) -> None:
    UnheardStory(seed).run()


@pytest.mark.interpreted
def test_that_is_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_conversion, "_unheard", lambda env, said: [{} for _ in said])
    with pytest.raises(Violation, match=r"reads .*, and in the log it has"):
        UnheardStory(1).run()


def test_a_seed_is_a_run() -> None:
    assert run_seed(5, traced=True).world.trace == run_seed(5, traced=True).world.trace


def an_upgrade_leaves_the_classic_group(patch: pytest.MonkeyPatch) -> None:
    upgrade = consumer_conversion.to_consumer

    def keep(env: ConsumerEnv, classic: Group, change: Change) -> ConsumerGroup:
        group = upgrade(env, classic, change)
        change.facts = [fact for fact in change.facts if not isinstance(fact, GroupDeleted)]
        return group

    patch.setattr(consumer_coordinator, "to_consumer", keep)


def an_upgrade_forgets_the_assignments(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consumer_conversion, "_assigned", lambda *_: {})


def a_downgrade_leaves_the_consumer_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ConsumerGroup, "tombstones", lambda *_: [])


def a_downgrade_begins_with_the_first_generation(patch: pytest.MonkeyPatch) -> None:
    def first(*arguments: object) -> GroupStored:
        return GroupStored(*arguments)._replace(generation=1)  # type: ignore[arg-type]

    patch.setattr(consumer_conversion, "GroupStored", first)


def a_downgrade_loses_the_offsets(patch: pytest.MonkeyPatch) -> None:
    def forget(self: ConsumerCoordinator, group: ConsumerGroup, *, is_loading: bool) -> None:
        del self._groups[group.group_id]
        self._bare(group.group_id)

    patch.setattr(ConsumerCoordinator, "_gone", forget)


def what_a_classic_member_has_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """It joins, and so it has given up everything."""
    patch.setattr(consumer_classic, "_owned", lambda *_: {})


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (an_upgrade_leaves_the_classic_group, "has a classic group and a consumer group"),
        (an_upgrade_forgets_the_assignments, "reads .*, and in the log it has"),
        (a_downgrade_leaves_the_consumer_group, "has a consumer group and a classic group"),
        (a_downgrade_begins_with_the_first_generation, "went from .* back to"),
        (a_downgrade_loses_the_offsets, "where .* was acknowledged"),
        (what_a_classic_member_has_is_not_looked_at, "reads .*, and in the log it has"),
    ],
)
def test_a_mistake_is_found(mistake: Mistake, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    find(run_seed, range(1, _UNTIL_FOUND), says)
