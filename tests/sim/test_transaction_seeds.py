"""Transactions from seeds, and mistakes in the coordinator that these seeds find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.coordinator import transaction_coordinator, transaction_steps
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.questions import WriteMarkers
from cluster.coordinator.shard import Done, HostedShard, Step, Write
from cluster.coordinator.transaction import Transaction
from cluster.coordinator.transaction_coordinator import TransactionCoordinator
from cluster.coordinator.transaction_records import TransactionStored
from cluster.coordinator.transaction_state import COMPLETE_COMMIT, EMPTY, PREPARE_ABORT
from pylog.errors import ErrorCode
from tests.sim.mistakes import find
from tests.sim.transaction_story import run_seed

_SEEDS = 12
_UNTIL_FOUND = 30


@pytest.mark.parametrize("seed", range(1, _SEEDS + 1))
def test_transactions_keep_their_promises(seed: int) -> None:
    assert run_seed(seed).world.events > 2_000


def test_a_seed_is_a_run() -> None:
    assert run_seed(5, traced=True).world.trace == run_seed(5, traced=True).world.trace


def the_end_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """What is appended counts as committed."""
    take = HostedShard.take_committed

    def hasty(self: HostedShard) -> object:
        self.high_watermark = 1 << 60
        return take(self)

    patch.setattr(HostedShard, "take_committed", hasty)


def nobody_carries_on(patch: pytest.MonkeyPatch) -> None:
    """What was prepared before a coordinator moved stays so."""
    loaded = TransactionCoordinator.loaded

    def idle(self: TransactionCoordinator, now_ms: int) -> object:
        return loaded(self, now_ms)[:2]

    patch.setattr(TransactionCoordinator, "loaded", idle)
    patch.setattr(TransactionCoordinator, "_is_left", lambda *_: False)


def markers_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The end is complete as soon as it is prepared."""
    patch.setattr(TransactionCoordinator, "_send_markers", _complete_at_once)


def _complete_at_once(self: TransactionCoordinator, transaction: Transaction, now_ms: int) -> object:
    transaction.pending = COMPLETE_COMMIT
    return self._complete(transaction, now_ms)


def an_abort_commits(patch: pytest.MonkeyPatch) -> None:
    def commit(*arguments: object) -> WriteMarkers:
        return WriteMarkers(*arguments)._replace(commit=True)  # type: ignore[arg-type]

    patch.setattr(transaction_coordinator, "WriteMarkers", commit)


def a_partition_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The last one that was added gets no marker."""

    def shorter(*arguments: object) -> WriteMarkers:
        question = WriteMarkers(*arguments)  # type: ignore[arg-type]
        return question._replace(partitions=question.partitions[: max(1, len(question.partitions) - 1)])

    patch.setattr(transaction_coordinator, "WriteMarkers", shorter)


def nobody_is_locked_out(patch: pytest.MonkeyPatch) -> None:
    """An id that is taken over keeps its epoch."""
    patch.setattr(transaction_steps, "bumped", _same_epoch)
    patch.setattr(transaction_steps, "fenced", _fence_without_epoch)


def _same_epoch(stored: TransactionStored, timeout_ms: int, expected: object, now_ms: int) -> TransactionStored:
    return stored._replace(state=EMPTY, partitions=(), update_ms=now_ms, start_ms=-1)


def _fence_without_epoch(stored: TransactionStored, version: int, _: int, now_ms: int) -> TransactionStored:
    return stored._replace(state=PREPARE_ABORT, update_ms=now_ms, client_version=0)


def everything_verifies(patch: pytest.MonkeyPatch) -> None:
    """Records come in late, when their transaction has ended."""

    def verify(*arguments: object) -> dict[object, ErrorCode]:
        return dict.fromkeys(arguments[-1], ErrorCode.NONE)  # type: ignore[call-overload, no-any-return]

    patch.setattr(TransactionCoordinator, "verify", verify)


def a_late_write_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """A step whose answer came too late is taken for one that was not taken."""
    write = TransactionCoordinator._write

    def forgetful(self: TransactionCoordinator, transaction: Transaction, fact: TransactionStored, done: Done) -> Step:
        step = write(self, transaction, fact, done)
        assert isinstance(step, Write)
        inner = step.done

        def settled(error: ErrorCode, now_ms: int) -> list[Step]:
            if error is ErrorCode.REQUEST_TIMED_OUT:
                transaction.pending = None
            return inner(error, now_ms)

        return step._replace(done=settled)

    patch.setattr(TransactionCoordinator, "_write", forgetful)


def markers_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupCoordinator, "replay_marker", lambda *_, **__: None)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (the_end_is_not_waited_for, "is torn|seen twice|before its last transaction has a marker"),
        (nobody_carries_on, "not at rest"),
        (markers_are_not_waited_for, "before its last transaction has a marker"),
        (an_abort_commits, "was aborted, and .* is seen"),
        (a_partition_is_forgotten, "a transaction is left open"),
        (nobody_is_locked_out, "is torn"),
        (nobody_is_locked_out, "seen twice"),
        (everything_verifies, "before its last transaction has a marker"),
        (a_late_write_is_given_up, "w\\d: "),
        (markers_are_not_heard, "nothing gets done"),
    ],
)
def test_a_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    find(run_seed, range(1, _UNTIL_FOUND), says)
