"""Groups from seeds, and mistakes in the coordinator that these seeds find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.coordinator import offset_commit
from cluster.coordinator.group import Group
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_records import GroupStored
from cluster.coordinator.offsets import Offsets
from cluster.coordinator.sessions import Sessions
from cluster.coordinator.shard import HostedShard
from pylog.errors import ErrorCode
from tests.sim.group_story import run_seed
from tests.sim.mistakes import find

_SEEDS = 60
_UNTIL_FOUND = 80


@pytest.mark.parametrize("first", range(1, _SEEDS, 20))
def test_a_group_keeps_its_promises(first: int) -> None:
    events = sum(run_seed(seed).world.events for seed in range(first, first + 20))
    assert events > 20 * 500


def test_a_seed_is_a_run() -> None:
    assert run_seed(5, traced=True).world.trace == run_seed(5, traced=True).world.trace


def anybody_may_commit(patch: pytest.MonkeyPatch) -> None:
    """Neither the generation nor the member is looked at."""
    patch.setattr(Group, "check_commit", lambda *_, **__: ErrorCode.NONE)


def nothing_is_unstable(patch: pytest.MonkeyPatch) -> None:
    """The new owner is told an offset while the old one's commit is on its way."""
    patch.setattr(Offsets, "unstable", lambda *_: False)


def the_log_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """What is appended counts as committed."""
    take = HostedShard.take_committed

    def hasty(self: HostedShard) -> object:
        self.high_watermark = 1 << 60
        return take(self)

    patch.setattr(HostedShard, "take_committed", hasty)


def a_generation_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A new coordinator counts generations from the beginning."""
    load = Group.load

    def forgetful(self: Group, stored: GroupStored) -> None:
        load(self, stored)
        self.generation = 1

    patch.setattr(Group, "load", forgetful)


def who_was_heard_elsewhere_is_held_for_dead(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks when published members were last heard."""
    patch.setattr(Sessions, "listen", lambda *_: None)


def members_stay_published(patch: pytest.MonkeyPatch) -> None:
    """A rebalance begins, and heartbeats go on being answered as if nothing were."""
    patch.setattr(Sessions, "shut", lambda *_: None)


def markers_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupCoordinator, "replay_marker", lambda *_, **__: None)


def an_abort_commits(patch: pytest.MonkeyPatch) -> None:
    replay = Offsets.replay_marker

    def commit(self: Offsets, producer_id: int, *, commit: bool) -> None:
        replay(self, producer_id, commit=True)

    patch.setattr(Offsets, "replay_marker", commit)


def a_transaction_is_none(patch: pytest.MonkeyPatch) -> None:
    """Offsets of a transaction are written as if they were of none."""
    write = offset_commit.TxnOffsetCommit.__init__

    def plain(self: offset_commit.TxnOffsetCommit, *arguments: object) -> None:
        write(self, *arguments)  # type: ignore[arg-type]
        self.producer = None

    patch.setattr(offset_commit.TxnOffsetCommit, "__init__", plain)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (anybody_may_commit, "went from .* back to"),
        (nothing_is_unstable, "went from .* back to"),
        (the_log_is_not_waited_for, "was acknowledged, the log has"),
        (a_generation_is_forgotten, "in generation .* is both"),
        (who_was_heard_elsewhere_is_held_for_dead, "they do not agree"),
        (members_stay_published, "they do not agree"),
        (markers_are_not_heard, "they do not agree"),
        (an_abort_commits, "of the aborted transaction"),
        (a_transaction_is_none, "of the aborted transaction"),
    ],
)
def test_a_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    find(run_seed, range(1, _UNTIL_FOUND), says)
