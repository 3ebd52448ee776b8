"""The changes of ISRs on their way to the controller.

What stays true: one request is under way, and holds all that waited when it was made; of a partition at most one change
waits or is under way; a change leaves only by its answer or because it is dropped; after an error of the whole request,
or when a change is asked again, the next request waits for RETRY_MS (Kafka's 50).
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.protocol import messages as m
from cluster.replication.isr import IsrAnswer, IsrChange
from pylog.errors import ErrorCode
from pylog.typed import Final
from pylog.types import ZERO_TOPIC_ID, TopicPartition

RETRY_MS: Final = 50

#: Brokers in ZooKeeper mode do not know one another's epochs, and say so.
_EPOCH_NOT_TOLD: Final = -1
_TOPIC_IDS_SINCE: Final = 2
_EPOCHS_SINCE: Final = 3
_RECOVERED: Final = 0
_RECOVERING: Final = 1


class AlterPartitions:
    __slots__ = ("_broker_id", "_in_flight", "_not_before_ms", "_under_way", "_waiting")

    def __init__(self, broker_id: int) -> None:
        self._broker_id = broker_id
        self._waiting: dict[TopicPartition, IsrChange] = {}
        self._under_way: dict[TopicPartition, IsrChange] = {}
        self._in_flight = False
        self._not_before_ms = 0

    def submit(self, change: IsrChange) -> None:
        """Have it asked for, in place of what waits for its partition."""
        self._waiting[change.partition] = change

    def retry(self, change: IsrChange, now_ms: int) -> None:
        """Ask for the same again, after a while."""
        self.submit(change)
        self._not_before_ms = now_ms + RETRY_MS

    def drop(self, partition: TopicPartition) -> None:
        """Nothing is asked for any more; an answer that comes yet is for nobody."""
        self._waiting.pop(partition, None)
        self._under_way.pop(partition, None)

    def due_ms(self) -> int | None:
        """When to call `request`; None: not before something happens."""
        return self._not_before_ms if self._waiting and not self._in_flight else None

    def request(self, broker_epoch: int, now_ms: int) -> m.AlterPartitionRequest | None:
        """All that waits, now under way, as version 3 says it (`in_version`); None: nothing is to be sent now."""
        due_ms = self.due_ms()
        if due_ms is None or due_ms > now_ms:
            return None
        self._under_way, self._waiting = self._waiting, {}
        self._in_flight = True
        topics: dict[tuple[str, bytes], list[m.AlterPartitionRequest.PartitionData]] = {}
        for change in self._under_way.values():
            topics.setdefault((change.partition.topic, change.topic_id), []).append(_partition_data(change))
        return m.AlterPartitionRequest(
            broker_id=self._broker_id,
            broker_epoch=broker_epoch,
            topics=[
                m.AlterPartitionRequest.TopicData(topic_name=name, topic_id=topic_id, partitions=partitions)
                for (name, topic_id), partitions in topics.items()
            ],
        )

    def answered(self, response: m.AlterPartitionResponse | None, now_ms: int) -> list[tuple[IsrChange, IsrAnswer]]:
        """The answer to the request under way; None: there will be none. Returns what was said to each change; those of
        which nothing was said wait again."""
        asked, self._under_way = self._under_way, {}
        self._in_flight = False
        told: dict[TopicPartition, IsrAnswer] = {}
        if response is not None and response.error_code == ErrorCode.NONE:
            names = {change.topic_id: change.partition.topic for change in asked.values()}
            told = dict(_answers(response, names))
        answers = []
        for partition, change in asked.items():
            answer = told.get(partition)
            if answer is not None:
                answers.append((change, answer))
                continue
            self._waiting.setdefault(partition, change)
            self._not_before_ms = now_ms + RETRY_MS
        return answers


def newest_version(request: m.AlterPartitionRequest) -> int:
    """The newest version that can say it: topics without an id have only names."""
    named_only = any(topic.topic_id == ZERO_TOPIC_ID for topic in request.topics)
    return _TOPIC_IDS_SINCE - 1 if named_only else m.AlterPartitionRequest.valid_versions[1]


def in_version(request: m.AlterPartitionRequest, version: int) -> m.AlterPartitionRequest:
    """The same request as it is put in a version."""
    if version >= _EPOCHS_SINCE:
        return request
    topics = [
        m.AlterPartitionRequest.TopicData(
            topic_name=topic.topic_name,
            topic_id=topic.topic_id,
            partitions=[
                m.AlterPartitionRequest.PartitionData(
                    partition_index=each.partition_index,
                    leader_epoch=each.leader_epoch,
                    new_isr=[state.broker_id for state in each.new_isr_with_epochs],
                    leader_recovery_state=each.leader_recovery_state,
                    partition_epoch=each.partition_epoch,
                )
                for each in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    return m.AlterPartitionRequest(broker_id=request.broker_id, broker_epoch=request.broker_epoch, topics=topics)


def _partition_data(change: IsrChange) -> m.AlterPartitionRequest.PartitionData:
    return m.AlterPartitionRequest.PartitionData(
        partition_index=change.partition.partition,
        leader_epoch=change.leader_epoch,
        new_isr_with_epochs=[
            m.AlterPartitionRequest.BrokerState(broker_id=broker_id, broker_epoch=_EPOCH_NOT_TOLD)
            for broker_id in change.isr
        ],
        leader_recovery_state=_RECOVERED,
        partition_epoch=change.partition_epoch,
    )


def _answers(response: m.AlterPartitionResponse, names: dict[bytes, str]) -> Iterator[tuple[TopicPartition, IsrAnswer]]:
    """By partition. `names`: of the topic ids that were asked for; older versions answer with names."""
    for topic in response.topics:
        name = topic.topic_name if topic.topic_id == ZERO_TOPIC_ID else names.get(topic.topic_id)
        if not name:
            continue
        for each in topic.partitions:
            error = each.error_code
            if error == ErrorCode.NONE and each.leader_recovery_state not in (_RECOVERED, _RECOVERING):
                error = int(ErrorCode.UNKNOWN_SERVER_ERROR)
            answer = IsrAnswer(error)
            if error == ErrorCode.NONE:
                answer = IsrAnswer(error, each.leader_epoch, each.partition_epoch, tuple(each.isr))
            yield TopicPartition(name, each.partition_index), answer
