"""Mistakes that a broker could make, put into it on purpose: what the checkers are worth.

What stays true: each is one that the rules of replication forbid, and changes one decision; without it the same seeds
pass. What was once found belongs here, as the mistake that it was: a seed is a run of one version of the scenario only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.broker.leadership import Leadership, ReplicaDecision
from cluster.controller import election, partition_states
from cluster.model import LeaderAndIsr
from cluster.replication import follower
from cluster.replication.isr import Isr
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog._engine import ROLE_LEADER, PartitionState
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.sim.replica import Fetched, Replica


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


def those_about_to_join_are_not_waited_for() -> None:
    """What the controller has been asked to take into the ISR, and may have taken, does not hold back the high
    watermark."""
    publish = Replica.publish

    def forget(self: Replica, broker_id: int, lag_max_ms: int, state: PartitionState, now_ms: int) -> int:
        return publish(self, broker_id, lag_max_ms, state._replace(joining=()), now_ms)

    _replace(Replica, "publish", forget)


def fetches_are_not_fenced() -> None:
    """A leader answers followers of another leader epoch, and counts them."""
    fetch = Replica.fetch

    def unfenced(self: Replica, replica_id: int, broker_epoch: int, current_epoch: int, *rest: int) -> Fetched:
        return fetch(self, replica_id, broker_epoch, self.info().leader_epoch, *rest)  # type: ignore[arg-type]

    _replace(Replica, "fetch", unfenced)


def new_leaders_have_forgotten_the_producers() -> None:
    """Whoever begins to lead takes what is sent again for something new."""
    publish = Replica.publish

    def forget(self: Replica, broker_id: int, lag_max_ms: int, state: PartitionState, now_ms: int) -> int:
        led = self.info()
        rc = publish(self, broker_id, lag_max_ms, state, now_ms)
        if rc == 0 and state.role == ROLE_LEADER and (led.role, led.leader_epoch) != (state.role, state.leader_epoch):
            self.forget_producers()
        return rc

    _replace(Replica, "publish", forget)


MUTANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        whoever_lives_leads,
        nothing_is_cut,
        too_much_is_cut,
        old_controllers_are_obeyed,
        everybody_may_join,
        those_about_to_join_are_not_waited_for,
        fetches_are_not_fenced,
        new_leaders_have_forgotten_the_producers,
    )
}
