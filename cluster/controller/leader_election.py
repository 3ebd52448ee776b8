"""Elections that somebody asks for, or that balance the cluster: preferred and unclean ones.

What stays true: a partition whose preferred replica leads is left alone, and so is one with a live leader when an
unclean election is asked for. Of an unclean election only an administrator can be the cause. The balance is restored
broker by broker: when more than a certain part of what a broker should lead is led by others, it gets back what it can
lead."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.controller.election import Strategy
from cluster.controller.events import PREFERRED, LeadersElected, Outcome
from cluster.controller.image import Image
from cluster.controller.partition_states import PartitionStates
from cluster.controller.steps import RemovePreferredElection, Run, read_preferred_election
from cluster.effects import Note
from cluster.model import NO_BROKER
from pylog.errors import ErrorCode
from pylog.types import TopicPartition

_NO_PARTITION = Outcome(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist.")
_TOPIC_GOES = Outcome(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is being deleted")
_NOT_NEEDED = Outcome(ErrorCode.ELECTION_NOT_NEEDED)


class LeaderElection:
    __slots__ = ("_image", "_partitions")

    def __init__(self, image: Image, partitions: PartitionStates) -> None:
        self._image = image
        self._partitions = partitions

    def elect(self, partitions: Iterable[TopicPartition] | None, election_type: int) -> Run[LeadersElected]:
        """For a client. Asked for all partitions, those that need no election are not in the answer."""
        image = self._image
        failed: dict[TopicPartition, Outcome] = {}
        wanted: list[TopicPartition] = []
        for partition in dict.fromkeys(image.assignments if partitions is None else partitions):
            if partition not in image.assignments:
                failed[partition] = _NO_PARTITION
            elif partition.topic in image.deleting:
                failed[partition] = _TOPIC_GOES
            elif not self._is_needed(partition, election_type):
                failed[partition] = _NOT_NEEDED
            else:
                wanted.append(partition)
        preferred = election_type == PREFERRED
        updated = yield from self._partitions.elect(
            wanted, Strategy.PREFERRED if preferred else Strategy.OFFLINE_UNCLEAN
        )
        refusal = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE if preferred else ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
        leaders: dict[TopicPartition, int] = {}
        for partition in wanted:
            failure = updated.failed.get(partition)
            if partition in updated.done:
                leaders[partition] = updated.done[partition].leader
            elif failure is None or failure.decided:
                failed[partition] = Outcome(refusal, None if failure is None else failure.reason)
            else:
                failed[partition] = Outcome(ErrorCode.UNKNOWN_SERVER_ERROR, failure.reason)
        if partitions is None:
            failed = {partition: outcome for partition, outcome in failed.items() if outcome is not _NOT_NEEDED}
        return LeadersElected(Outcome(), leaders, failed)

    def elect_requested(self) -> Run[None]:
        """What /admin/preferred_replica_election asks for; the request is taken away, done or not."""
        requested = yield from read_preferred_election()
        if requested is None:
            return
        elected = yield from self.elect(requested, PREFERRED)
        for partition, outcome in elected.failed.items():
            fields = (("partition", partition), ("error", outcome.error.name))
            yield Note("Controller", "Preferred replica does not lead", fields, warning=True)
        yield RemovePreferredElection(self._image.fence)

    def balance(self) -> Run[None]:
        image = self._image
        preferred: dict[int, list[TopicPartition]] = {}
        for partition, assignment in image.assignments.items():
            if assignment.replicas and partition.topic not in image.deleting:
                preferred.setdefault(assignment.replicas[0], []).append(partition)
        for broker_id in sorted(preferred):
            partitions = preferred[broker_id]
            astray = [partition for partition in partitions if self._is_led_by_another(partition, broker_id)]
            if len(astray) * 100 <= image.settings.balance_percentage * len(partitions):
                continue
            able = [partition for partition in astray if self._can_lead(partition, broker_id)]
            if able:
                fields = (("broker", broker_id), ("partitions", len(able)), ("of", len(partitions)))
                yield Note("Controller", "Preferred replicas lead again", fields)
                yield from self._partitions.elect(able, Strategy.PREFERRED)

    def _is_needed(self, partition: TopicPartition, election_type: int) -> bool:
        state = self._image.leadership.get(partition)
        leader = int(NO_BROKER) if state is None else state.leader
        if election_type == PREFERRED:
            return (leader,) != self._image.assignments[partition].replicas[:1]
        return leader not in self._image.live

    def _is_led_by_another(self, partition: TopicPartition, broker_id: int) -> bool:
        state = self._image.leadership.get(partition)
        return state is not None and state.leader != broker_id

    def _can_lead(self, partition: TopicPartition, broker_id: int) -> bool:
        return self._image.is_online(broker_id, partition) and broker_id in self._image.leadership[partition].isr
