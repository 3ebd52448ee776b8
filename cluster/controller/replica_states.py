"""The states of replicas: new, online, offline, and on their way out.

What stays true: a replica only goes the ways of the table; one that may not go stays where it is and is written to the
log. A replica that goes offline is told to stop, leaves the ISR (in the tree first) unless it is its last member, and
the others are told. A replica is deleted in steps: offline, told to delete, has said that it did, forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.controller.batch import RequestBatch
from cluster.controller.election import leave_isr
from cluster.controller.image import Image, Replicas, ReplicaState
from cluster.controller.state_update import Decision, Failure, States, Updated, update_states
from cluster.controller.steps import Run
from cluster.effects import Note
from cluster.model import LeaderAndIsr, PartitionAssignment
from pylog.types import TopicPartition

_S = ReplicaState
_LIVING = frozenset([_S.NEW, _S.ONLINE, _S.OFFLINE, _S.DELETION_INELIGIBLE])

PREVIOUS: dict[ReplicaState, frozenset[ReplicaState]] = {
    _S.NEW: frozenset([_S.NON_EXISTENT]),
    _S.ONLINE: _LIVING,
    _S.OFFLINE: _LIVING,
    _S.DELETION_STARTED: frozenset([_S.OFFLINE]),
    _S.DELETION_SUCCESSFUL: frozenset([_S.DELETION_STARTED]),
    _S.DELETION_INELIGIBLE: frozenset([_S.OFFLINE, _S.DELETION_STARTED]),
    _S.NON_EXISTENT: frozenset([_S.DELETION_SUCCESSFUL]),
}
"""From which states a replica may come into each."""


class ReplicaStates:
    """Changes them in an image. Nothing else does."""

    __slots__ = ("_batch", "_image")

    def __init__(self, image: Image, batch: RequestBatch) -> None:
        self._image = image
        self._batch = batch

    def startup(self) -> Run[None]:
        """What they are in a cluster that was just read: those on live brokers are told of, the others leave the
        ISR."""
        image = self._image
        online: Replicas = {}
        offline: Replicas = {}
        for partition, assignment in image.assignments.items():
            for replica in assignment.replicas:
                is_online = image.is_online(replica, partition)
                (online if is_online else offline).setdefault(replica, []).append(partition)
                # A broker that is gone cannot delete; a deletion that is under way has to know.
                state = _S.ONLINE if is_online else _S.DELETION_INELIGIBLE
                image.replica_states.setdefault(replica, {})[partition] = state
        yield from self.move(online, _S.ONLINE)
        yield from self.move(offline, _S.OFFLINE)

    def move(self, replicas: Mapping[int, Sequence[TopicPartition]], target: ReplicaState) -> Run[None]:
        """Change them all, then send what there is to tell."""
        for broker_id in sorted(replicas):
            valid = yield from self._check(broker_id, replicas[broker_id], target)
            if target == _S.NEW:
                yield from self._begin(broker_id, valid)
            elif target == _S.ONLINE:
                self._bring_online(broker_id, valid)
            elif target == _S.OFFLINE:
                yield from self._take_offline(broker_id, valid)
            elif target == _S.NON_EXISTENT:
                self._forget(broker_id, valid)
            else:
                states = self._image.replica_states[broker_id]
                for partition in valid:
                    states[partition] = target
                    if target == _S.DELETION_STARTED:
                        self._batch.add_stop_replica(broker_id, partition, delete=True)
        yield from self._batch.send()

    # ------------------------------------------------------------------ in steps

    def _check(
        self, broker_id: int, partitions: Sequence[TopicPartition], target: ReplicaState
    ) -> Run[list[TopicPartition]]:
        states, previous = self._image.replica_states.setdefault(broker_id, {}), PREVIOUS[target]
        valid: list[TopicPartition] = []
        for partition in partitions:
            state = states.setdefault(partition, _S.NON_EXISTENT)
            if state in previous:
                valid.append(partition)
            else:
                fields = (("partition", partition), ("broker", broker_id), ("from", state.name), ("to", target.name))
                yield Note("Controller", "Replica may not change its state so", fields, warning=True)
        return valid

    def _begin(self, broker_id: int, partitions: Sequence[TopicPartition]) -> Run[None]:
        image = self._image
        states = image.replica_states[broker_id]
        for partition in partitions:
            state = image.leadership.get(partition)
            if state is not None:
                if state.leader == broker_id:
                    fields = (("partition", partition), ("broker", broker_id))
                    yield Note("Controller", "A leader cannot be a new replica", fields, warning=True)
                    continue
                assignment = image.assignments[partition]
                self._batch.add_leader_and_isr((broker_id,), partition, state, assignment, is_new=True)
            states[partition] = _S.NEW

    def _bring_online(self, broker_id: int, partitions: Sequence[TopicPartition]) -> None:
        image = self._image
        states = image.replica_states[broker_id]
        for partition in partitions:
            state = image.leadership.get(partition)
            if states[partition] != _S.NEW and state is not None:
                assignment = image.assignments[partition]
                self._batch.add_leader_and_isr((broker_id,), partition, state, assignment, is_new=False)
            states[partition] = _S.ONLINE

    def _take_offline(self, broker_id: int, partitions: Sequence[TopicPartition]) -> Run[None]:
        image, batch = self._image, self._batch
        states = image.replica_states[broker_id]
        led: list[TopicPartition] = []
        for partition in partitions:
            batch.add_stop_replica(broker_id, partition, delete=False)
            if partition in image.leadership:
                led.append(partition)
            else:  # never had a leader, or is being deleted and has lost its state
                batch.add_update_metadata(image.brokers, (partition,))
                states[partition] = _S.OFFLINE
        updated = yield from self._leave_isr(broker_id, led)
        leaving = image.leaving()
        for partition, state in updated.done.items():
            if partition.topic not in leaving:
                assignment = image.assignments[partition]
                others = [replica for replica in assignment.replicas if replica != broker_id]
                batch.add_leader_and_isr(others, partition, state, assignment, is_new=False)
            states[partition] = _S.OFFLINE
        for partition, failure in updated.failed.items():
            fields = (("partition", partition), ("broker", broker_id), ("reason", failure.reason))
            yield Note("Controller", "Replica does not go offline", fields, warning=True)

    def _leave_isr(self, broker_id: int, partitions: Sequence[TopicPartition]) -> Run[Updated]:
        image = self._image

        def decide(states: States) -> Run[Decision]:
            write: States = {}
            keep: States = {}
            for partition, state in states.items():
                if broker_id in state.isr:
                    write[partition] = leave_isr(state, broker_id, image.epoch)
                else:
                    leader, leader_epoch, isr, _, version, recovering = state
                    keep[partition] = LeaderAndIsr(leader, leader_epoch, isr, image.epoch, version, recovering)
            yield from ()  # a run, without steps of its own
            return Decision(write, keep, {})

        updated = yield from update_states(image, partitions, decide)
        gone = {partition for partition in updated.failed if partition.topic in image.deleting}
        failed: dict[TopicPartition, Failure] = {
            partition: failure for partition, failure in updated.failed.items() if partition not in gone
        }
        return Updated(updated.done, failed)

    def _forget(self, broker_id: int, partitions: Sequence[TopicPartition]) -> None:
        image = self._image
        states = image.replica_states[broker_id]
        for partition in partitions:
            replicas, adding, removing = image.assignments[partition]
            image.assignments[partition] = PartitionAssignment(
                *(tuple([each for each in part if each != broker_id]) for part in (replicas, adding, removing))
            )
            del states[partition]
