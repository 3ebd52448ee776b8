"""Replicas moved from brokers to brokers (KIP-455).

What stays true: what is under way stands in the tree before anything is done, so that the next controller goes on with
it: the topic's replicas are the old and the new ones, with those to add and to remove beside them. Until every replica
that is to stay is in sync, the new ones copy (phase A). Then the leader is one of those that stay, the others leave the
ISR, are deleted, and only then the tree forgets them (phase B). A reassignment that is replaced or cancelled on its way
takes its new replicas back. A topic that is being deleted is not reassigned, and one that is reassigned is not deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.controller.batch import RequestBatch
from cluster.controller.election import Strategy, next_epoch
from cluster.controller.events import Outcome
from cluster.controller.image import Image, PartitionState, ReplicaState
from cluster.controller.partition_states import PartitionStates, note_failures
from cluster.controller.replica_states import ReplicaStates
from cluster.controller.state_update import Decision, States, update_states
from cluster.controller.steps import Run, WriteReassignments, read_reassignments, write_topic
from cluster.controller.topic_deletion import TopicDeletion
from cluster.effects import Note
from cluster.model import PartitionAssignment
from pylog.errors import ErrorCode
from pylog.types import TopicPartition

_NO_PARTITION = Outcome(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist.")
_NOTHING_UNDER_WAY = Outcome(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)


class TopicGone(Exception):
    """A topic that the controller knows is not in the tree any more."""


def reassign(assignment: PartitionAssignment, target: Iterable[int]) -> PartitionAssignment:
    """The assignment while replicas move to `target`; its order is that of the replicas to be."""
    to = tuple(target)
    origin = assignment.origin
    replicas = tuple(dict.fromkeys(to + origin))
    adding = tuple([replica for replica in replicas if replica not in origin])
    return PartitionAssignment(replicas, adding, tuple([replica for replica in replicas if replica not in to]))


class Reassignment:
    __slots__ = ("_batch", "_deletion", "_image", "_partitions", "_replicas")

    def __init__(
        self,
        image: Image,
        batch: RequestBatch,
        partitions: PartitionStates,
        replicas: ReplicaStates,
        deletion: TopicDeletion,
    ) -> None:
        self._image = image
        self._batch = batch
        self._partitions = partitions
        self._replicas = replicas
        self._deletion = deletion

    # ------------------------------------------------------------------ asked for

    def start(self, targets: Mapping[TopicPartition, tuple[int, ...] | None]) -> Run[dict[TopicPartition, Outcome]]:
        """By the API; None cancels. The latest wish counts: what /admin/reassign_partitions asks for is taken out."""
        image = self._image
        outcomes: dict[TopicPartition, Outcome] = {}
        valid: dict[TopicPartition, PartitionAssignment] = {}
        for partition, target in targets.items():
            refusal = None if target is None else self._refusal(partition, target)
            if refusal is not None:
                outcomes[partition] = refusal
                continue
            assignment = image.assignments.get(partition, PartitionAssignment(()))
            if target is not None:
                valid[partition] = reassign(assignment, target)
            elif assignment.is_reassigning:
                valid[partition] = reassign(assignment, assignment.origin)
            else:
                outcomes[partition] = _NOTHING_UNDER_WAY
        yield from self._take_out(valid)
        outcomes.update((yield from self._trigger(valid)))
        return outcomes

    def start_requested(self) -> Run[set[TopicPartition]]:
        """By /admin/reassign_partitions. What is under way already is left alone. Returns what was begun."""
        requested = yield from read_reassignments()
        if requested is None:
            return set()
        image = self._image
        valid: dict[TopicPartition, PartitionAssignment] = {}
        for partition, target in requested.items():
            assignment = image.assignments.get(partition, PartitionAssignment(()))
            if not (partition in image.reassigning and assignment.target == target):
                valid[partition] = reassign(assignment, target)
        outcomes = yield from self._trigger(valid)
        failed = {partition: outcome for partition, outcome in outcomes.items() if outcome.error}
        if failed or not requested:
            for partition, outcome in failed.items():
                fields = (("partition", partition), ("error", outcome.error.name), ("reason", outcome.message))
                yield Note("Controller", "Reassignment is not done", fields, warning=True)
            yield from self._take_out(failed, clean=True)
        return outcomes.keys() - failed.keys()

    def _refusal(self, partition: TopicPartition, replicas: tuple[int, ...]) -> Outcome | None:
        image = self._image
        listed = f"ArrayBuffer({', '.join(map(str, replicas))})"
        if not replicas:
            reason = "Empty replica list specified in partition reassignment."
        elif len(set(replicas)) < len(replicas):
            reason = f"Duplicate replica ids in partition reassignment replica list: {listed}"
        elif min(replicas) < 0:
            reason = f"Invalid broker id in replica list: {listed}"
        else:
            adding = reassign(image.assignments.get(partition, PartitionAssignment(())), replicas).adding
            if image.live.issuperset(adding):
                return None
            reason = (
                f"Replica assignment has brokers that are not alive. Replica list: "
                f"ArrayBuffer({', '.join(map(str, adding))}), live broker list: "
                f"Set({', '.join(map(str, sorted(image.live)))})"
            )
        return Outcome(ErrorCode.INVALID_REPLICA_ASSIGNMENT, reason)

    def _trigger(
        self, reassignments: Mapping[TopicPartition, PartitionAssignment]
    ) -> Run[dict[TopicPartition, Outcome]]:
        image = self._image
        outcomes: dict[TopicPartition, Outcome] = {}
        for partition, assignment in reassignments.items():
            # A topic that waits for a reassignment before it is deleted may have that one cancelled.
            unwanted = partition.topic in image.deleting and assignment.is_reassigning
            if unwanted or partition.topic in image.deletion_begun or partition not in image.assignments:
                outcomes[partition] = _NO_PARTITION
                continue
            lost = self._last_in_sync(partition, assignment)
            if lost:
                reason = f"The partition has no replica in sync but on brokers [{lost}], which would lose it."
                outcomes[partition] = Outcome(ErrorCode.INVALID_REPLICA_ASSIGNMENT, reason)
                continue
            try:
                yield from self._proceed(partition, assignment)
                outcomes[partition] = Outcome()
            except TopicGone:
                outcomes[partition] = Outcome(ErrorCode.UNKNOWN_SERVER_ERROR)
        return outcomes

    def _last_in_sync(self, partition: TopicPartition, assignment: PartitionAssignment) -> str:
        """Brokers that lose their replica at once, new ones of a reassignment that is replaced or cancelled, when
        nobody else has all of the partition's records. Kafka 3.9 would delete them."""
        state = self._image.leadership.get(partition)
        if state is None or not set(state.isr).isdisjoint(assignment.replicas):
            return ""
        return ", ".join(map(str, state.isr))

    # ------------------------------------------------------------------ under way

    def resume(self, partitions: Iterable[TopicPartition]) -> Run[None]:
        """Something happened that they may have waited for: a new controller, a broker that is back."""
        for partition in partitions:
            yield from self._proceed_quietly(partition)

    def complete(self, partitions: Iterable[TopicPartition]) -> Run[None]:
        """Their ISR changed: go on with those that have all their replicas in sync."""
        for partition in partitions:
            if partition in self._image.reassigning and self._is_complete(partition):
                yield from self._proceed_quietly(partition)

    def _proceed_quietly(self, partition: TopicPartition) -> Run[None]:
        try:
            yield from self._proceed(partition, self._image.assignments[partition])
        except TopicGone:
            yield Note("Controller", "The topic of a reassignment is gone", (("partition", partition),), warning=True)

    def _is_complete(self, partition: TopicPartition) -> bool:
        assignment = self._image.assignments[partition]
        if not assignment.is_reassigning:
            return True
        state = self._image.leadership.get(partition)
        return state is not None and set(assignment.target) <= set(state.isr)

    def _proceed(self, partition: TopicPartition, assignment: PartitionAssignment) -> Run[None]:
        self._deletion.hold([partition.topic])
        yield from self._write_down(partition, assignment)
        if self._is_complete(partition):
            yield from self._finish(partition, assignment)
            return
        # A1: everybody hears of all the replicas. A2: the new ones begin to copy.
        yield from self._raise_epoch(partition, assignment)
        for replica in assignment.adding:
            yield from self._replicas.move({replica: [partition]}, ReplicaState.NEW)

    def _write_down(self, partition: TopicPartition, assignment: PartitionAssignment) -> Run[None]:
        """Phase U: the tree, then memory; new replicas that are not wanted any more stop."""
        image = self._image
        current = image.assignments[partition]
        if current != assignment:
            yield from self._write(partition, assignment)
            image.assignments[partition] = assignment
            unneeded = [replica for replica in current.replicas if replica not in assignment.replicas]
            yield from self._remove(partition, unneeded)
        image.reassigning.add(partition)

    def _finish(self, partition: TopicPartition, assignment: PartitionAssignment) -> Run[None]:
        """Phase B."""
        image = self._image
        yield from self._replicas.move({replica: [partition] for replica in assignment.adding}, ReplicaState.ONLINE)
        final = PartitionAssignment(assignment.target)
        image.assignments[partition] = final
        state = image.leadership.get(partition)
        if state is not None and state.leader in final.replicas and image.is_online(state.leader, partition):
            yield from self._raise_epoch(partition, final)
        else:
            yield from self._partitions.elect([partition], Strategy.REASSIGN)
        yield from self._remove(partition, assignment.removing)
        yield from self._write(partition, final)
        yield from self._take_out({partition: final}, done=True)
        image.reassigning.discard(partition)
        self._batch.add_update_metadata(image.brokers, [partition])
        yield from self._batch.send()
        yield Note("Controller", "Reassignment is done", (("partition", partition), ("replicas", list(final.replicas))))
        yield from self._deletion.resume_for([partition.topic])

    def _write(self, partition: TopicPartition, assignment: PartitionAssignment) -> Run[None]:
        description = self._image.describe_topic(partition.topic)
        parts = list(description.partitions)
        parts[partition.partition] = assignment
        if not (yield from write_topic(self._image.fence, description._replace(partitions=tuple(parts)))):
            raise TopicGone(partition.topic)

    def _raise_epoch(self, partition: TopicPartition, assignment: PartitionAssignment) -> Run[None]:
        """A LeaderAndIsr only counts with a new leader epoch. Old replicas stay where they are; new ones may go into
        any directory of their broker."""
        image, batch = self._image, self._batch

        def decide(states: States) -> Run[Decision]:
            yield from ()  # a run, without steps of its own
            return Decision({each: next_epoch(state, image.epoch) for each, state in states.items()}, {}, {})

        updated = yield from update_states(image, [partition], decide)
        yield from note_failures("Reassignment is not told to the leader", PartitionState.ONLINE, updated)
        for state in updated.done.values():
            batch.add_leader_and_isr(assignment.origin, partition, state, assignment, is_new=False)
            batch.add_leader_and_isr(assignment.adding, partition, state, assignment, is_new=True)
        yield from batch.send()

    def _remove(self, partition: TopicPartition, brokers: Iterable[int]) -> Run[None]:
        replicas = {broker_id: [partition] for broker_id in brokers}
        for state in (
            ReplicaState.OFFLINE,
            ReplicaState.DELETION_STARTED,
            ReplicaState.DELETION_SUCCESSFUL,
            ReplicaState.NON_EXISTENT,
        ):
            yield from self._replicas.move(replicas, state)

    def _take_out(
        self, partitions: Mapping[TopicPartition, object], *, done: bool = False, clean: bool = False
    ) -> Run[None]:
        """Out of what /admin/reassign_partitions asks for. `done`: only if it asks for the very replicas that are now;
        `clean`: also rewrite it when nothing is left to take out."""
        requested = yield from read_reassignments()
        if requested is None or not (partitions or clean):
            return
        left = {
            partition: target
            for partition, target in requested.items()
            if partition not in partitions or (done and target != self._image.assignments[partition].replicas)
        }
        if len(left) < len(requested) or clean:
            yield WriteReassignments(self._image.fence, left)
