"""What the controller decides about this broker's replicas, carried out: LeaderAndIsr and StopReplica.

What stays true:
- a decision of an older controller, or about an older incarnation of this broker, changes nothing;
- a replica takes up a leader epoch once, and never goes back to an older one;
- a replica is not fetched for while its role changes, and is led or followed again before the request is answered;
- a request is answered partition by partition: one that cannot be hosted does not keep the others from it.

Control thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.broker.metadata_cache import PartitionMetadata, TopicMetadata
from cluster.broker.replicator import Followed
from cluster.model import NO_BROKER
from cluster.replication.isr import LedPartition
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING
from pylog.types import ZERO_TOPIC_ID, TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.replication import Replication


class ReplicaDecision(NamedTuple):
    """What shall be true of one replica of ours. `partition_epoch`: the version of the state's znode."""

    partition: TopicPartition
    topic_id: bytes
    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    replicas: tuple[int, ...]
    partition_epoch: int
    is_new: bool


class StopDecision(NamedTuple):
    """`leader_epoch`: -1 and -2 (a deletion) come before any."""

    partition: TopicPartition
    leader_epoch: int
    delete: bool


_EPOCH_DURING_DELETE = -2
_NO_EPOCH = -1


class Leadership:
    def __init__(self, broker: Broker, replication: Replication) -> None:
        self._broker = broker
        self._replication = replication
        self._keeper = replication.keeper
        self._replicator = replication.replicator
        self._log = Logger(f"ReplicaManager broker={broker.broker_id}")
        self.controller_epoch = 0
        self.controller_id = -1

    # ------------------------------------------------------------------------------------------------- fencing

    def refuses(self, controller_epoch: int, broker_epoch: int) -> ErrorCode:
        """Whether a request of a controller comes too late."""
        if -1 != broker_epoch < self._broker.joined().broker_epoch:
            return ErrorCode.STALE_BROKER_EPOCH
        if controller_epoch < self.controller_epoch:
            return ErrorCode.STALE_CONTROLLER_EPOCH
        return ErrorCode.NONE

    def heed(self, controller_id: int, controller_epoch: int, broker_epoch: int) -> ErrorCode:
        """Take the sender of a request for our controller, unless the request comes too late: then why."""
        code = self.refuses(controller_epoch, broker_epoch)
        if code is ErrorCode.NONE:
            self.obey(controller_id, controller_epoch)
        return code

    def obey(self, controller_id: int, controller_epoch: int) -> None:
        self.controller_id = controller_id
        self.controller_epoch = controller_epoch

    # ------------------------------------------------------------------------------------------------- LeaderAndIsr

    def become(self, decisions: Sequence[ReplicaDecision]) -> dict[TopicPartition, ErrorCode]:
        """Lead and follow what is decided; for each partition how it went."""
        outcomes: dict[TopicPartition, ErrorCode] = {}
        fresh = [each for each in decisions if self._is_due(each, outcomes)]
        names = [each.partition for each in fresh]
        self._replicator.stop(names)
        for name in names:
            self._keeper.cease(name)
        self._lead(fresh)
        for is_new in (True, False):
            some = [each for each in fresh if each.is_new is is_new]
            for name, error in self._host(some, known=not is_new):
                self._log.error("partition cannot be hosted", partition=name, why=error.message)
                outcomes[name] = error.code
                self._keeper.cease(name)
        followed: dict[TopicPartition, Followed] = {}
        for each in fresh:
            if each.partition in outcomes:
                continue
            hosted = self._broker.replicas.find(*each.partition)
            if hosted is None:
                outcomes[each.partition] = ErrorCode.KAFKA_STORAGE_ERROR
                continue
            outcomes[each.partition] = ErrorCode.NONE
            if each.leader not in (self._broker.broker_id, NO_BROKER):
                followed[each.partition] = Followed(each.leader, each.leader_epoch, hosted.number)
        self._replication.configure_partitions(names)
        self._replicator.follow(followed)
        self._move_coordinators(each for each in fresh if outcomes[each.partition] is ErrorCode.NONE)
        return outcomes

    def _is_due(self, each: ReplicaDecision, outcomes: dict[TopicPartition, ErrorCode]) -> bool:
        """Whether a decision is news; if it is none, `outcomes` says what the controller is told."""
        if self._broker.replicas.is_offline(each.partition):
            outcomes[each.partition] = ErrorCode.KAFKA_STORAGE_ERROR
            return False
        hosted = self._broker.replicas.find(*each.partition)
        if hosted is not None:
            known_id = hosted.source.topic_id
            if each.topic_id != ZERO_TOPIC_ID and known_id not in (None, ZERO_TOPIC_ID, each.topic_id):
                self._log.error("topic id differs from the log's", partition=each.partition)
                outcomes[each.partition] = ErrorCode.INCONSISTENT_TOPIC_ID
                return False
            if each.leader_epoch <= hosted.leader_epoch:
                outcomes[each.partition] = ErrorCode.STALE_CONTROLLER_EPOCH
                return False
        if self._broker.broker_id not in each.replicas:
            outcomes[each.partition] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return False
        return True

    def _host(self, decisions: Iterable[ReplicaDecision], known: bool) -> list[tuple[TopicPartition, KafkaError]]:
        by_topic: dict[tuple[str, bytes], list[PartitionMetadata]] = {}
        for each in decisions:
            name, index = each.partition
            entry = PartitionMetadata(index, each.leader, each.leader_epoch, each.replicas, each.isr)
            by_topic.setdefault((name, each.topic_id), []).append(entry)
        topics = [TopicMetadata(name, topic_id, tuple(found)) for (name, topic_id), found in by_topic.items()]
        replicas = self._broker.replicas
        return replicas.host(topics, replicas.checkpointed, known=known)

    def _lead(self, decisions: Iterable[ReplicaDecision]) -> None:
        """Have the ISRs of those that we lead kept."""
        for each in decisions:
            if each.leader == self._broker.broker_id:
                self._keeper.lead(
                    LedPartition(each.partition, each.topic_id, each.leader_epoch, each.partition_epoch, each.isr)
                )

    def _move_coordinators(self, decisions: Iterable[ReplicaDecision]) -> None:
        """Shards of coordinators follow the leadership of their partitions."""
        for each in decisions:
            name, index = each.partition
            topic = TopicMetadata(name, each.topic_id, ())
            if not topic.internal:
                continue
            if each.leader == self._broker.broker_id:
                entry = PartitionMetadata(index, each.leader, each.leader_epoch, each.replicas, each.isr)
                self._broker.coordinators.load(topic._replace(partitions=(entry,)), at_once=False)
            else:
                self._broker.coordinators.unload(name, index)

    # ------------------------------------------------------------------------------------------------- StopReplica

    def stop(self, decisions: Sequence[StopDecision]) -> dict[TopicPartition, ErrorCode]:
        """Stop fetching for replicas, or be done with them and their logs."""
        outcomes: dict[TopicPartition, ErrorCode] = {}
        stopped: list[StopDecision] = []
        for each in decisions:
            hosted = self._broker.replicas.find(*each.partition)
            outcomes[each.partition] = ErrorCode.NONE
            has_epoch = each.leader_epoch not in (_NO_EPOCH, _EPOCH_DURING_DELETE)
            if has_epoch and hosted is not None and each.leader_epoch < hosted.leader_epoch:
                outcomes[each.partition] = ErrorCode.FENCED_LEADER_EPOCH
                continue
            if self._broker.replicas.is_offline(each.partition):
                outcomes[each.partition] = ErrorCode.KAFKA_STORAGE_ERROR
                continue
            stopped.append(each)
        names = [each.partition for each in stopped]
        self._replicator.stop(names)
        for each in stopped:
            self._keeper.cease(each.partition)
            name, index = each.partition
            if TopicMetadata(name, ZERO_TOPIC_ID, ()).internal:
                self._broker.coordinators.unload(name, index)
        doomed = [each.partition for each in stopped if each.delete]
        found = [self._broker.replicas.find(*each) for each in doomed]
        self._replication.forget([hosted.number for hosted in found if hosted is not None])
        try:
            self._broker.replicas.delete(doomed)
        except KafkaError as error:
            self._log.error("logs are not deleted", why=error.message)
            for doomed_one in doomed:
                outcomes[doomed_one] = error.code
        return outcomes
