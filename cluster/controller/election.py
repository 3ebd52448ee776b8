"""Who leads a partition. Pure functions of its replicas, its ISR and who is alive.

What stays true: a leader is alive and, but for an unclean election, was in the ISR; nobody leaves the ISR here but
those who are not alive or shut down, and its last member never does; a state that changes gets the next leader epoch.
None instead of a state: there is nobody to elect, and the state stays as it is.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from cluster.model import NO_BROKER, LeaderAndIsr, PartitionAssignment
from pylog.facts import IntEnum


class Strategy(IntEnum):
    """Whom an election chooses."""

    OFFLINE = 0
    """The first replica that is alive and in sync, else, where the topic allows it, the first that is alive."""
    OFFLINE_UNCLEAN = 1
    """Likewise, whatever the topic says."""
    REASSIGN = 2
    """The first of the replicas to be that is alive and in sync."""
    PREFERRED = 3
    """The first replica, if it is alive and in sync."""
    CONTROLLED_SHUTDOWN = 4
    """The first replica that is alive, in sync and does not shut down; those that do leave the ISR."""


NAMES = {
    Strategy.OFFLINE: "OfflinePartitionLeaderElectionStrategy(false)",
    Strategy.OFFLINE_UNCLEAN: "OfflinePartitionLeaderElectionStrategy(true)",
    Strategy.REASSIGN: "ReassignPartitionLeaderElectionStrategy",
    Strategy.PREFERRED: "PreferredReplicaPartitionLeaderElectionStrategy",
    Strategy.CONTROLLED_SHUTDOWN: "ControlledShutdownPartitionLeaderElectionStrategy",
}
"""What clients know them by: Kafka names them in its answers."""


def elect_offline(
    replicas: Sequence[int], state: LeaderAndIsr, alive: Sequence[int], *, unclean: bool, recovery: bool, epoch: int
) -> LeaderAndIsr | None:
    """`alive`: those of the replicas that are. `recovery`: a leader that was not in sync is to say so. `epoch`: the
    controller's."""
    in_sync = tuple([replica for replica in state.isr if replica in alive])
    for replica in replicas:
        if replica in in_sync:
            return LeaderAndIsr(replica, state.leader_epoch + 1, in_sync, epoch, state.version, state.recovering)
    if not unclean or not alive:
        return None
    recovering = recovery or state.recovering
    return LeaderAndIsr(alive[0], state.leader_epoch + 1, (alive[0],), epoch, state.version, recovering)


def elect_first_in_sync(
    candidates: Sequence[int], state: LeaderAndIsr, alive: Container[int], epoch: int
) -> LeaderAndIsr | None:
    """The first of the candidates that is alive and in sync; the ISR stays. For a reassignment the candidates are the
    replicas to be, for a preferred election the first replica."""
    for replica in candidates:
        if replica in alive and replica in state.isr:
            return LeaderAndIsr(replica, state.leader_epoch + 1, state.isr, epoch, state.version, state.recovering)
    return None


def elect_for_shutdown(
    replicas: Sequence[int], state: LeaderAndIsr, reachable: Container[int], leaving: Container[int], epoch: int
) -> LeaderAndIsr | None:
    """`reachable`: replicas that are alive, those that shut down among them; `leaving`: brokers that shut down, all of
    which the ISR loses."""
    for replica in replicas:
        if replica in reachable and replica in state.isr and replica not in leaving:
            isr = tuple([each for each in state.isr if each not in leaving])
            return LeaderAndIsr(replica, state.leader_epoch + 1, isr, epoch, state.version, state.recovering)
    return None


def leave_isr(state: LeaderAndIsr, replica: int, epoch: int) -> LeaderAndIsr:
    """Without this replica, which is in the ISR; as its last member it stays, and leads no more."""
    leader = int(NO_BROKER) if state.leader == replica else state.leader
    isr = state.isr if len(state.isr) == 1 else tuple([each for each in state.isr if each != replica])
    return LeaderAndIsr(leader, state.leader_epoch + 1, isr, epoch, state.version, state.recovering)


def next_epoch(state: LeaderAndIsr, epoch: int) -> LeaderAndIsr:
    """The same leader and ISR."""
    return LeaderAndIsr(state.leader, state.leader_epoch + 1, state.isr, epoch, state.version, state.recovering)


def initial_state(replicas: Sequence[int], alive: Container[int], controller_epoch: int) -> LeaderAndIsr | None:
    """Of a new partition: the first replica that is alive leads, all that are alive are in sync. None: nobody is."""
    isr = tuple(replica for replica in replicas if replica in alive)
    return LeaderAndIsr(isr[0], 0, isr, controller_epoch) if isr else None


def offline_election(
    assignment: PartitionAssignment,
    state: LeaderAndIsr,
    alive: Container[int],
    controller_epoch: int,
    *,
    unclean: bool,
) -> LeaderAndIsr:
    """Of a partition whose leader is not alive: the first replica that is alive and in sync; with `unclean` (a topic
    may ask for it) else the first that is alive; else none, until one comes back."""
    living = [replica for replica in assignment.replicas if replica in alive]
    elected = elect_offline(assignment.replicas, state, living, unclean=unclean, recovery=False, epoch=controller_epoch)
    if elected is not None:
        return elected
    if state.leader == NO_BROKER:
        return state
    return state._replace(leader=int(NO_BROKER), leader_epoch=state.leader_epoch + 1, controller_epoch=controller_epoch)
