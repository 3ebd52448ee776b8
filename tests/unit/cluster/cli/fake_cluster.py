"""Brokers that keep records, check sequence numbers and run one-member groups: enough of Kafka for a client.

What it keeps true: a batch of an idempotent producer enters a log once and in sequence, as Kafka has it; what a test
makes fail (`fail`, `lose_answers`) fails once per order given, then everything works again.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Self

from cluster.cli.offsets import TopicPartition
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.records import RecordBatch, batches
from tests.support.fake_broker import CloseConnection, FakeBroker, Handler

PRODUCER_ID = 4711
_IDLE_S = 0.02


class FakeCluster:
    """`topics`: partition counts by name. Partition p is led by broker p modulo their number until `move`d."""

    def __init__(self, topics: dict[str, int], *, brokers: int = 1) -> None:
        self.logs: dict[TopicPartition, list[bytes]] = {}
        self.leaders: dict[TopicPartition, int] = {}
        self.first: dict[TopicPartition, int] = defaultdict(int)  # where a log begins; what is before is gone
        self.kinds: dict[str, str] = {}  # of groups that are not classic ones
        self.committed: dict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self.groups: dict[str, m.DescribeGroupsResponse.DescribedGroup] = {}  # as they are to be described
        self.uncoordinated: set[str] = set()
        self.members: list[str] = []
        self.left: list[str] = []
        self._generation = 0
        self._errors: dict[ApiKey, deque[int]] = defaultdict(deque)
        self._losses: dict[ApiKey, int] = defaultdict(int)
        self._sequences: dict[TopicPartition, int] = {}
        self._changed = threading.Condition()
        self.brokers = [FakeBroker(self._handlers(node)) for node in range(brokers)]
        for topic, count in topics.items():
            for partition in range(count):
                tp = TopicPartition(topic, partition)
                self.logs[tp] = []
                self.leaders[tp] = partition % brokers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers:
            broker.close()

    @property
    def bootstrap(self) -> str:
        return self.brokers[0].bootstrap

    def fail(self, key: ApiKey, codes: Iterable[int]) -> None:
        """Let the next answers of an API, or the next partitions in them, carry these errors; NONE lets one pass."""
        self._errors[key].extend(codes)

    def lose_answers(self, key: ApiKey, count: int) -> None:
        """Do what the next requests of an API ask, and drop their connections instead of answering."""
        self._losses[key] = count

    def move(self, tp: TopicPartition, node: int) -> None:
        """Let another broker lead a partition."""
        self.leaders[tp] = node

    def append(self, tp: TopicPartition, batch: bytes) -> None:
        """Put a batch at the end of a log."""
        with self._changed:
            self.logs[tp].append(max(self.end(tp), self.first[tp]).to_bytes(8, "big") + batch[8:])
            self._changed.notify_all()

    def end(self, tp: TopicPartition) -> int:
        """The log end offset."""
        return _batch(self.logs[tp][-1]).next_offset if self.logs[tp] else 0

    def values(self, tp: TopicPartition) -> list[bytes | None]:
        """The values in a log, in order."""
        return [record.value for data in self.logs[tp] for record in _batch(data).records()]

    def count(self, key: ApiKey) -> int:
        """How often an API was asked, of all brokers."""
        return sum(seen == key for broker in self.brokers for seen, _ in broker.seen)

    def _handlers(self, node: int) -> dict[ApiKey, Handler]:
        def led(handler: Callable[[Message, int], Message]) -> Handler:
            return lambda request, version: self._answer(handler(request, node))

        return {
            ApiKey.METADATA: lambda request, version: self._metadata(request),
            ApiKey.INIT_PRODUCER_ID: lambda request, version: m.InitProducerIdResponse(
                error_code=self._error(ApiKey.INIT_PRODUCER_ID), producer_id=PRODUCER_ID, producer_epoch=0
            ),
            ApiKey.PRODUCE: led(self._produce),
            ApiKey.FETCH: led(self._fetch),
            ApiKey.LIST_OFFSETS: led(self._list_offsets),
            ApiKey.FIND_COORDINATOR: lambda request, version: self._find_coordinator(request),
            ApiKey.JOIN_GROUP: lambda request, version: self._join(request, version),
            ApiKey.SYNC_GROUP: lambda request, version: self._sync(request),
            ApiKey.HEARTBEAT: lambda request, version: m.HeartbeatResponse(error_code=self._error(ApiKey.HEARTBEAT)),
            ApiKey.LEAVE_GROUP: lambda request, version: self._leave(request),
            ApiKey.OFFSET_COMMIT: lambda request, version: self._commit(request),
            ApiKey.OFFSET_FETCH: lambda request, version: self._committed(request),
            ApiKey.LIST_GROUPS: lambda request, version: self._list(node),
            ApiKey.DESCRIBE_GROUPS: lambda request, version: self._describe(request),
            ApiKey.DELETE_GROUPS: lambda request, version: self._delete(request),
        }

    def _error(self, key: ApiKey) -> int:
        return self._errors[key].popleft() if self._errors[key] else ErrorCode.NONE

    def _answer(self, answer: Message) -> Message:
        key = ApiKey(answer.api_key)
        if self._losses[key]:
            self._losses[key] -= 1
            raise CloseConnection
        return answer

    def _metadata(self, request: Message) -> Message:
        assert isinstance(request, m.MetadataRequest)
        known = sorted({tp.topic for tp in self.logs})
        wanted = known if request.topics is None else [topic.name or "" for topic in request.topics]
        return m.MetadataResponse(
            controller_id=0,
            brokers=[
                m.MetadataResponse.MetadataResponseBroker(node_id=node, host=broker.host, port=broker.port)
                for node, broker in enumerate(self.brokers)
            ],
            topics=[
                m.MetadataResponse.MetadataResponseTopic(
                    name=name,
                    error_code=ErrorCode.NONE if name in known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    partitions=[
                        m.MetadataResponse.MetadataResponsePartition(
                            partition_index=tp.partition, leader_id=leader, replica_nodes=[leader], isr_nodes=[leader]
                        )
                        for tp, leader in self.leaders.items()
                        if tp.topic == name
                    ],
                )
                for name in wanted
            ],
        )

    def _produce(self, request: Message, node: int) -> Message:
        assert isinstance(request, m.ProduceRequest)
        answers = []
        for topic in request.topic_data:
            parts = []
            for part in topic.partition_data:
                tp = TopicPartition(topic.name, part.index)
                code = self._error(ApiKey.PRODUCE) or self._append_checked(tp, node, part.records or b"")
                parts.append(m.ProduceResponse.PartitionProduceResponse(index=part.index, error_code=code))
            answers.append(m.ProduceResponse.TopicProduceResponse(name=topic.name, partition_responses=parts))
        return m.ProduceResponse(responses=answers)

    def _append_checked(self, tp: TopicPartition, node: int, data: bytes) -> int:
        if self.leaders[tp] != node:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        batch = _batch(data)
        assert batch.check()
        if batch.header.producer_id >= 0:
            expected = self._sequences.get(tp, 0)
            if batch.header.base_sequence < expected:
                return ErrorCode.NONE  # it is there already
            if batch.header.base_sequence > expected:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            self._sequences[tp] = batch.last_sequence + 1
        self.append(tp, data)
        return ErrorCode.NONE

    def _fetch(self, request: Message, node: int) -> Message:
        assert isinstance(request, m.FetchRequest)
        asked = [TopicPartition(topic.topic, part.partition) for topic in request.topics for part in topic.partitions]
        starts = [part.fetch_offset for topic in request.topics for part in topic.partitions]
        limits = [part.partition_max_bytes for topic in request.topics for part in topic.partitions]
        with self._changed:
            self._changed.wait_for(
                lambda: any(self.end(tp) > at for tp, at in zip(asked, starts, strict=True)),
                min(_IDLE_S, request.max_wait_ms / 1000),
            )
        answers = []
        is_first = True
        for tp, start, limit in zip(asked, starts, limits, strict=True):
            code = self._error(ApiKey.FETCH)
            if self.leaders[tp] != node:
                code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            elif start > self.end(tp) or start < self.first[tp]:
                code = ErrorCode.OFFSET_OUT_OF_RANGE
            data = b""
            for batch in self.logs[tp]:
                # As Kafka does, the first batch of an answer whatever its size; of others no more than was asked for.
                if not code and _batch(batch).next_offset > start and (is_first or len(data) + len(batch) <= limit):
                    data += batch
                    is_first = False
                elif data:
                    break
            part = m.FetchResponse.PartitionData(partition_index=tp.partition, error_code=code, records=data)
            answers.append(m.FetchResponse.FetchableTopicResponse(topic=tp.topic, partitions=[part]))
        return m.FetchResponse(responses=answers)

    def _list_offsets(self, request: Message, node: int) -> Message:
        assert isinstance(request, m.ListOffsetsRequest)
        answers = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                tp = TopicPartition(topic.name, part.partition_index)
                code = ErrorCode.NONE if self.leaders[tp] == node else ErrorCode.NOT_LEADER_OR_FOLLOWER
                parts.append(
                    m.ListOffsetsResponse.ListOffsetsPartitionResponse(
                        partition_index=part.partition_index,
                        error_code=code,
                        offset=self._offset_for(tp, part.timestamp),
                    )
                )
            answers.append(m.ListOffsetsResponse.ListOffsetsTopicResponse(name=topic.name, partitions=parts))
        return m.ListOffsetsResponse(topics=answers)

    def _offset_for(self, tp: TopicPartition, timestamp: int) -> int:
        assert timestamp >= -2, "to Kafka that is no moment"
        if timestamp < 0:
            return self.end(tp) if timestamp == -1 else self.first[tp]
        records = (record for data in self.logs[tp] for record in _batch(data).records())
        return next((record.offset for record in records if record.timestamp >= timestamp), -1)

    def _find_coordinator(self, request: Message) -> Message:
        assert isinstance(request, m.FindCoordinatorRequest)
        broker = self.brokers[0]
        found = [
            m.FindCoordinatorResponse.Coordinator(
                key=key,
                node_id=0,
                host=broker.host,
                port=broker.port,
                error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE
                if key in self.uncoordinated
                else self._error(ApiKey.FIND_COORDINATOR),
            )
            for key in request.coordinator_keys
        ]
        return m.FindCoordinatorResponse(coordinators=found)

    def _join(self, request: Message, version: int) -> Message:
        assert isinstance(request, m.JoinGroupRequest)
        assert version >= 4
        code = self._error(ApiKey.JOIN_GROUP)
        if code:
            return m.JoinGroupResponse(error_code=code)
        if not request.member_id:
            member = f"member-{len(self.members)}"
            self.members.append(member)
            return m.JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=member)
        self._generation += 1
        metadata = request.protocols[0].metadata
        return m.JoinGroupResponse(
            generation_id=self._generation,
            protocol_type="consumer",
            protocol_name=request.protocols[0].name,
            leader=request.member_id,
            member_id=request.member_id,
            members=[m.JoinGroupResponse.JoinGroupResponseMember(member_id=request.member_id, metadata=metadata)],
        )

    def _sync(self, request: Message) -> Message:
        assert isinstance(request, m.SyncGroupRequest)
        code = self._error(ApiKey.SYNC_GROUP)
        own = [entry.assignment for entry in request.assignments if entry.member_id == request.member_id]
        return m.SyncGroupResponse(error_code=code, assignment=b"" if code else own[0])

    def _leave(self, request: Message) -> Message:
        assert isinstance(request, m.LeaveGroupRequest)
        self.left += [member.member_id for member in request.members]
        return m.LeaveGroupResponse()

    def _commit(self, request: Message) -> Message:
        assert isinstance(request, m.OffsetCommitRequest)
        answers = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                code = self._error(ApiKey.OFFSET_COMMIT)
                if not code:
                    tp = TopicPartition(topic.name, part.partition_index)
                    self.committed[request.group_id][tp] = part.committed_offset
                parts.append(
                    m.OffsetCommitResponse.OffsetCommitResponsePartition(
                        partition_index=part.partition_index, error_code=code
                    )
                )
            answers.append(m.OffsetCommitResponse.OffsetCommitResponseTopic(name=topic.name, partitions=parts))
        return m.OffsetCommitResponse(topics=answers)

    def _list(self, node: int) -> Message:
        listed = [
            m.ListGroupsResponse.ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.group_state,
                group_type=self.kinds.get(group.group_id, ""),
            )
            for group in self.groups.values()
        ]
        return m.ListGroupsResponse(groups=[] if node else listed)  # the first broker coordinates them all

    def _describe(self, request: Message) -> Message:
        assert isinstance(request, m.DescribeGroupsRequest)
        unknown = m.DescribeGroupsResponse.DescribedGroup
        return m.DescribeGroupsResponse(
            groups=[
                self.groups.get(name) or unknown(group_id=name, error_code=ErrorCode.GROUP_ID_NOT_FOUND)
                for name in request.groups
            ]
        )

    def _delete(self, request: Message) -> Message:
        assert isinstance(request, m.DeleteGroupsRequest)
        result = m.DeleteGroupsResponse.DeletableGroupResult
        return m.DeleteGroupsResponse(
            results=[
                result(group_id=name)
                if self.groups.pop(name, None)
                else result(group_id=name, error_code=ErrorCode.GROUP_ID_NOT_FOUND)
                for name in request.groups_names
            ]
        )

    def _committed(self, request: Message) -> Message:
        assert isinstance(request, m.OffsetFetchRequest)
        groups = [
            m.OffsetFetchResponse.OffsetFetchResponseGroup(
                group_id=group.group_id,
                topics=[
                    m.OffsetFetchResponse.OffsetFetchResponseTopics(
                        name=tp.topic,
                        partitions=[
                            m.OffsetFetchResponse.OffsetFetchResponsePartitions(
                                partition_index=tp.partition, committed_offset=offset
                            )
                        ],
                    )
                    for tp, offset in self.committed[group.group_id].items()
                ],
            )
            for group in request.groups
        ]
        return m.OffsetFetchResponse(groups=groups)


def _batch(data: bytes) -> RecordBatch:
    (batch,) = batches(data)
    return batch
