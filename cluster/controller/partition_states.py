"""The states of partitions: non-existent, new (replicas and no leader yet), online (led), offline (its leader died).

What stays true: a partition only goes the ways of the table; one that may not go, or whose election fails, stays where
it is and is written to the log. A partition becomes online only after its state was written to the tree; then its
replicas and all brokers are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.controller.batch import RequestBatch
from cluster.controller.election import (
    NAMES,
    Strategy,
    elect_first_in_sync,
    elect_for_shutdown,
    elect_offline,
    initial_state,
)
from cluster.controller.image import Image, PartitionState
from cluster.controller.state_update import Decision, Failure, States, Updated, create_first_states, update_states
from cluster.controller.steps import Run, read_topic_configs
from cluster.effects import Note
from pylog.types import TopicPartition

_NEW, _ONLINE, _OFFLINE = PartitionState.NEW, PartitionState.ONLINE, PartitionState.OFFLINE
_NON_EXISTENT = PartitionState.NON_EXISTENT

PREVIOUS: dict[PartitionState, frozenset[PartitionState]] = {
    _NEW: frozenset([_NON_EXISTENT]),
    _ONLINE: frozenset([_NEW, _ONLINE, _OFFLINE]),
    _OFFLINE: frozenset([_NEW, _ONLINE, _OFFLINE]),
    _NON_EXISTENT: frozenset([_OFFLINE]),
}
"""From which states a partition may come into each."""

UNCLEAN_KEY = "unclean.leader.election.enable"
NOTES_PER_CHANGE = 20
"""Of one change of many partitions, the log tells so many that failed, and counts the others."""


class PartitionStates:
    """Changes them in an image. Nothing else does."""

    __slots__ = ("_batch", "_image")

    def __init__(self, image: Image, batch: RequestBatch) -> None:
        self._image = image
        self._batch = batch

    def startup(self) -> Run[None]:
        """What they are in a cluster that was just read; then whatever can be led is."""
        image = self._image
        for partition in image.assignments:
            state = image.leadership.get(partition)
            if state is None:
                image.partition_states[partition] = _NEW
            else:
                image.partition_states[partition] = _ONLINE if image.is_online(state.leader, partition) else _OFFLINE
        yield from self.bring_online()

    def bring_online(self, topic: str | None = None) -> Run[Updated]:
        """Elect leaders for all partitions (of a topic) that are new or offline, unless their topic goes."""
        image = self._image
        states, leaving = image.partition_states, image.leaving()
        among = states if topic is None else image.topics.get(topic, ())
        waiting = [
            partition
            for partition in among
            if states.get(partition) in (_NEW, _OFFLINE) and partition.topic not in leaving
        ]
        return (yield from self.elect(waiting, Strategy.OFFLINE))

    def move(self, partitions: Iterable[TopicPartition], target: PartitionState) -> Run[None]:
        """To any state but online; nobody is told."""
        for partition in (yield from self._check(partitions, target)):
            self._image.partition_states[partition] = target

    def elect(self, partitions: Sequence[TopicPartition], strategy: Strategy) -> Run[Updated]:
        """To online, with a leader. Those that were new get their first one, whatever the strategy. Those that may not
        become online are in neither part of the result."""
        if not partitions:
            return Updated({}, {})
        valid = yield from self._check(partitions, _ONLINE)
        states = self._image.partition_states
        new = [partition for partition in valid if states[partition] == _NEW]
        first = yield from self._create(new)
        elected = yield from self._elect([partition for partition in valid if states[partition] != _NEW], strategy)
        for updated in (first, elected):
            yield from note_failures("Partition stays as it is", _ONLINE, updated)
        for partition in elected.done:
            states[partition] = _ONLINE
        for partition, state in first.done.items():
            states[partition] = _ONLINE if self._image.is_online(state.leader, partition) else _OFFLINE
        yield from self._batch.send()
        return Updated({**first.done, **elected.done}, {**first.failed, **elected.failed})

    # ------------------------------------------------------------------ in steps

    def _check(self, partitions: Iterable[TopicPartition], target: PartitionState) -> Run[list[TopicPartition]]:
        """Those that may go there; the log tells of the others."""
        states, previous = self._image.partition_states, PREVIOUS[target]
        valid: list[TopicPartition] = []
        for partition in partitions:
            state = states.setdefault(partition, _NON_EXISTENT)
            if state in previous:
                valid.append(partition)
            else:
                fields = (("partition", partition), ("from", state.name), ("to", target.name))
                yield Note("Controller", "Partition may not change its state so", fields, warning=True)
        return valid

    def _create(self, partitions: Sequence[TopicPartition]) -> Run[Updated]:
        image = self._image
        states: States = {}
        dead: dict[TopicPartition, Failure] = {}
        for partition in partitions:
            replicas = image.assignments[partition].replicas
            state = initial_state(replicas, image.online(replicas, partition), image.epoch)
            if state is None:
                dead[partition] = Failure(f"No replica of {list(replicas)} is alive")
            else:
                states[partition] = state
        created = yield from create_first_states(image, states)
        for partition, state in created.done.items():
            self._batch.add_leader_and_isr(state.isr, partition, state, image.assignments[partition], is_new=True)
        return Updated(created.done, {**dead, **created.failed})

    def _elect(self, partitions: Sequence[TopicPartition], strategy: Strategy) -> Run[Updated]:
        image, batch = self._image, self._batch

        def decide(states: States) -> Run[Decision]:
            return (yield from self._decide(states, strategy))

        updated = yield from update_states(image, partitions, decide)
        for partition, state in updated.done.items():
            assignment = image.assignments[partition]
            if strategy == Strategy.REASSIGN:
                told = assignment.target
            elif strategy == Strategy.PREFERRED:
                told = assignment.replicas
            elif strategy == Strategy.CONTROLLED_SHUTDOWN:
                told = image.reachable(assignment.replicas, partition)
            else:
                told = image.online(assignment.replicas, partition)
            batch.add_leader_and_isr(told, partition, state, assignment, is_new=False)
        return updated

    def _decide(self, states: States, strategy: Strategy) -> Run[Decision]:
        image = self._image
        epoch, recovery = image.epoch, image.settings.has_leader_recovery
        unclean = yield from self._unclean_topics(states, strategy)
        leaving = image.brokers.keys() - image.live
        chosen: States = {}
        refused: dict[TopicPartition, Failure] = {}
        for partition, state in states.items():
            assignment = image.assignments[partition]
            replicas = assignment.replicas
            if strategy <= Strategy.OFFLINE_UNCLEAN:
                elected = elect_offline(
                    replicas,
                    state,
                    image.online(replicas, partition),
                    unclean=partition.topic in unclean,
                    recovery=recovery,
                    epoch=epoch,
                )
            elif strategy == Strategy.CONTROLLED_SHUTDOWN:
                reachable = image.reachable(replicas, partition)
                elected = elect_for_shutdown(replicas, state, reachable, leaving, epoch)
            else:
                candidates = assignment.target if strategy == Strategy.REASSIGN else replicas[:1]
                elected = elect_first_in_sync(candidates, state, image.online(candidates, partition), epoch)
            if elected is None:
                refused[partition] = Failure(
                    f"Failed to elect leader for partition {partition} under strategy {NAMES[strategy]}"
                )
            else:
                chosen[partition] = elected
        return Decision(chosen, {}, refused)

    def _unclean_topics(self, states: States, strategy: Strategy) -> Run[set[str]]:
        """Topics that may be led by a replica that is not in sync, among those where none that is is alive."""
        if strategy > Strategy.OFFLINE_UNCLEAN:
            return set()
        image = self._image
        lost = {
            partition.topic
            for partition, state in states.items()
            if not any(image.is_online(replica, partition) for replica in state.isr)
        }
        if strategy == Strategy.OFFLINE_UNCLEAN:
            return lost
        configs = yield from read_topic_configs(lost)
        default = "true" if image.settings.unclean_by_default else "false"
        return {
            topic for topic, config in configs.items() if config.get(UNCLEAN_KEY, default).strip().lower() == "true"
        }


def note_failures(message: str, target: PartitionState, updated: Updated) -> Run[None]:
    """One line for each of the first partitions that failed, and one for the rest."""
    for partition, failure in list(updated.failed.items())[:NOTES_PER_CHANGE]:
        fields = (("partition", partition), ("to", target.name), ("reason", failure.reason))
        yield Note("Controller", message, fields, warning=True)
    rest = len(updated.failed) - NOTES_PER_CHANGE
    if rest > 0:
        yield Note("Controller", "More partitions stay as they are", (("count", rest),), warning=True)
