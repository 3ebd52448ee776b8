"""Who leads a partition. Pure functions of its replicas, its ISR and who is alive.

What stays true: a leader is alive and, but for an unclean election, was in the ISR; nobody leaves the ISR here but
those who are not alive, and its last member never does; a state that changes gets the next leader epoch.
"""

from collections.abc import Container, Sequence

from cluster.model import NO_BROKER, LeaderAndIsr, PartitionAssignment


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
    in_sync = tuple(replica for replica in state.isr if replica in alive)
    leader = next((replica for replica in assignment.replicas if replica in in_sync), None)
    isr = in_sync
    if leader is None and unclean:
        leader = next((replica for replica in assignment.replicas if replica in alive), None)
        isr = (leader,) if leader is not None else ()
    if leader is None:
        if state.leader == NO_BROKER:
            return state
        return state._replace(
            leader=int(NO_BROKER), leader_epoch=state.leader_epoch + 1, controller_epoch=controller_epoch
        )
    return state._replace(
        leader=leader, leader_epoch=state.leader_epoch + 1, isr=isr, controller_epoch=controller_epoch
    )
