"""Changing the states of many partitions in the tree, whoever else writes them at the same time.

What stays true: a state is written from what the tree has: first from what is known of it, and when somebody else wrote
it since (its znode has another version) from what is read then, until every state is written or there is a reason not
to. What was written is what the image says afterwards. Leaders of an old protocol write their ISR themselves, so that
nothing known is relied upon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cluster.controller.image import Image
from cluster.controller.steps import Run, create_states, read_states, write_states
from cluster.model import LeaderAndIsr
from pylog.facts import NamedTuple
from pylog.types import TopicPartition

States = dict[TopicPartition, LeaderAndIsr]


class Failure(NamedTuple):
    """Why a state is not changed. `decided`: there was nothing to change it to; else it could not be written."""

    reason: str
    decided: bool = True


class Decision(NamedTuple):
    """What to write, what is right as it is, and what is left alone for a reason."""

    write: States
    keep: States
    refuse: dict[TopicPartition, Failure]


class Updated(NamedTuple):
    """`done`: written or right as they were."""

    done: States
    failed: dict[TopicPartition, Failure]


def update_states(
    image: Image, partitions: Sequence[TopicPartition], decide: Callable[[States], Run[Decision]]
) -> Run[Updated]:
    """`decide` may be asked more than once about a partition, with a newer state."""
    done: States = {}
    failed: dict[TopicPartition, Failure] = {}
    known: Mapping[TopicPartition, LeaderAndIsr] = image.leadership
    if not image.settings.has_alter_partition:
        known = yield from read_states(partitions)
    while partitions:
        states: States = {}
        for partition in partitions:
            state = known.get(partition)
            if state is None:
                failed[partition] = Failure("It has no state in the tree", decided=False)
            elif state.controller_epoch > image.epoch:
                failed[partition] = Failure(
                    f"Its state was written by the controller of epoch {state.controller_epoch}", decided=False
                )
            else:
                states[partition] = state
        if not states:
            break
        decision = yield from decide(states)
        written = yield from write_states(image.fence, decision.write)
        failed.update(decision.refuse)
        failed.update({partition: Failure(why, decided=False) for partition, why in written.failed.items()})
        image.leadership.update(decision.keep)
        done.update(decision.keep)
        _put(image, decision.write, written.versions, done)
        partitions = written.conflicts
        known = yield from read_states(partitions)
    return Updated(done, failed)


def create_first_states(image: Image, states: States) -> Run[Updated]:
    """One that is there already (a creation that was done though its connection was lost) is taken as it is."""
    done: States = {}
    written = yield from create_states(image.fence, states)
    _put(image, states, written.versions, done)
    found = yield from read_states(written.conflicts)
    image.leadership.update(found)
    done.update(found)
    failed = {partition: Failure(why, decided=False) for partition, why in written.failed.items()}
    return Updated(done, failed)


def _put(image: Image, states: States, versions: Mapping[TopicPartition, int], done: States) -> None:
    for partition, version in versions.items():
        leader, leader_epoch, isr, epoch, _, recovering = states[partition]
        state = LeaderAndIsr(leader, leader_epoch, isr, epoch, version, recovering)
        image.leadership[partition] = done[partition] = state
