"""Exactly once in groups from seeds, and mistakes in the coordinators that these seeds find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.offsets import Offsets
from pylog.errors import ErrorCode
from tests.sim.exactly_once_story import run_seed
from tests.sim.mistakes import find

_SEEDS = 4
_UNTIL_FOUND = 40


@pytest.mark.parametrize("seed", range(1, _SEEDS + 1))
def test_a_group_does_everything_once(seed: int) -> None:
    assert run_seed(seed).world.events > 2_000


def test_a_seed_is_a_run() -> None:
    assert run_seed(5, traced=True).world.trace == run_seed(5, traced=True).world.trace


def any_epoch_will_do(patch: pytest.MonkeyPatch) -> None:
    """Offsets are taken of whoever was a member once."""
    patch.setattr(ConsumerGroup, "check_commit", lambda *_, **__: ErrorCode.NONE)
    patch.setattr(ConsumerGroup, "check_since", lambda *_, **__: ErrorCode.NONE)


def an_older_epoch_will_do(patch: pytest.MonkeyPatch) -> None:
    """It is not asked whether the partition has been the member's all the time."""
    patch.setattr(ConsumerGroup, "check_since", lambda *_, **__: ErrorCode.NONE)


def nothing_is_unstable(patch: pytest.MonkeyPatch) -> None:
    """The new owner does not wait for the transaction of the old one."""
    patch.setattr(Offsets, "unstable", lambda *_: False)


def markers_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupCoordinator, "replay_marker", lambda *_, **__: None)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (any_epoch_will_do, "seen twice"),
        (an_older_epoch_will_do, "seen twice"),
        (nothing_is_unstable, "seen twice"),
        (markers_are_not_heard, "nothing gets done"),
    ],
)
def test_a_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    find(run_seed, range(1, _UNTIL_FOUND), says)
