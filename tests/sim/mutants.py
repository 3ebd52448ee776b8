"""Mistakes that a broker could make, put into it on purpose: what the checkers are worth.

What stays true: each is one that the rules of replication forbid, and changes one decision; without it the same seeds
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.broker.leadership import Leadership, ReplicaDecision
from cluster.controller import election, partition_states
from cluster.model import LeaderAndIsr
from cluster.replication import follower
from cluster.replication.isr import Isr
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.errors import ErrorCode
from pylog.types import TopicPartition


def _replace(owner: object, name: str, by: object) -> None:
    assert hasattr(owner, name), f"there is no {name} any more"
    setattr(owner, name, by)


def whoever_lives_leads() -> None:
    """An unclean election that nobody allowed."""
    elect = election.elect_offline

    def unclean(
        replicas: Sequence[int], state: LeaderAndIsr, alive: Sequence[int], *, unclean: bool, recovery: bool, epoch: int
    ) -> LeaderAndIsr | None:
        return elect(replicas, state, alive, unclean=True, recovery=recovery, epoch=epoch)

    _replace(partition_states, "elect_offline", unclean)


def nothing_is_cut() -> None:
    """A follower keeps what its leader does not have."""

    def keep(leader: EpochEnd, own: OwnLog, own_at_epoch: EpochEnd) -> int:
        return own.end_offset

    _replace(follower, "diverging_offset", keep)


def too_much_is_cut() -> None:
    """A follower cuts to where it begins: what it was in sync with is gone for a moment."""

    def cut(self: follower.Follower, own: OwnLog) -> list[follower.Action]:
        return [follower.Truncate(0, "always"), follower.Fetch()]

    _replace(follower.Follower, "begin", cut)


def old_controllers_are_obeyed() -> None:
    """Neither the controller's epoch nor the broker's is looked at, nor the leader epoch."""

    def obeys(self: Leadership, controller_epoch: int, broker_epoch: int) -> ErrorCode:
        return ErrorCode.NONE

    def is_due(self: Leadership, each: ReplicaDecision, outcomes: dict[TopicPartition, ErrorCode]) -> bool:
        return True

    _replace(Leadership, "refuses", obeys)
    _replace(Leadership, "_is_due", is_due)


def everybody_may_join() -> None:
    """A leader asks for everybody, caught up or not."""

    def expand(self: Isr, replicas: Sequence[object], may_join: Callable[[int], bool]) -> object:
        if self.pending is not None:
            return None
        for each in replicas:
            broker_id = each.broker_id  # type: ignore[attr-defined]
            if broker_id not in self.committed and may_join(broker_id):
                return self._ask((*self.committed, broker_id), broker_id)
        return None

    _replace(Isr, "expand", expand)


MUTANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        whoever_lives_leads,
        nothing_is_cut,
        too_much_is_cut,
        old_controllers_are_obeyed,
        everybody_may_join,
    )
}
