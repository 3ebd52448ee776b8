"""The states of partitions when a controller begins: what was cut short is finished, who is gone does not lead.

What stays true: a partition whose leader is alive is left as it is, its epoch too.
"""

from collections.abc import Callable, Container

from cluster.controller.context import ControllerContext
from cluster.controller.election import initial_state, offline_election
from cluster.model import PutPartitionState, WriteGroup
from pylog.types import TopicPartition

_STATES_PER_GROUP = 200


def settle(context: ControllerContext, alive: Container[int], unclean: Callable[[str], bool]) -> tuple[WriteGroup, ...]:
    """States for partitions that have none yet, and new leaders for those whose leader is not alive.

    `alive`: who counts as alive, which may be more than have registered: a broker settles its tree before it serves.
    `unclean`: whether a topic lets a replica lead that was not in sync.
    """
    puts: list[PutPartitionState] = []
    for name, topic in context.topics.items():
        if name in context.deleting:
            continue
        for index, assignment in enumerate(topic.partitions):
            state = context.states.get(TopicPartition(name, index))
            if state is None:
                fresh = initial_state(assignment.replicas, alive, context.epoch)
            elif state.leader in alive:
                continue
            else:
                fresh = offline_election(assignment, state, alive, context.epoch, unclean=unclean(name))
            if fresh is not None and fresh != state:
                puts.append(PutPartitionState(name, index, fresh))
    return tuple(tuple(puts[at : at + _STATES_PER_GROUP]) for at in range(0, len(puts), _STATES_PER_GROUP))
