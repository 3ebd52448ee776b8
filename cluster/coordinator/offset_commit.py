"""One OffsetCommit or TxnOffsetCommit request: what of it may be written, and the answer that takes shape meanwhile.

What stays true: each topic of the request and each partition that exists has one entry in the answer, however often
it is named; of one that is named again the last commit counts. An entry is `entries` (will be written), large (its
metadata is too long) or already refused (there is no such partition).
"""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig, RequestContext, Topics
from cluster.coordinator.group_records import OffsetCommitted
from cluster.effects import Producer, Reply
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING, TypeAlias

_TOPIC_IDS_SINCE = 10
_NO_RETENTION = -1
_NO_EXPIRY = -1
_LAST_MS = (1 << 63) - 1


if TYPE_CHECKING:
    _Partition: TypeAlias = (
        m.OffsetCommitRequest.OffsetCommitRequestPartition | m.TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition
    )
    _Entry: TypeAlias = (
        m.OffsetCommitResponse.OffsetCommitResponsePartition
        | m.TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition
    )


class OffsetCommit:
    """`producer`: in whose transaction the offsets are to be written; None: in none."""

    __slots__ = ("_ctx", "_entries", "_large", "_response", "facts", "producer")

    def __init__(
        self, ctx: RequestContext, request: m.OffsetCommitRequest, topics: Topics, config: GroupConfig, now_ms: int
    ) -> None:
        response = m.OffsetCommitResponse()
        self._ctx = ctx
        self._response: m.OffsetCommitResponse | m.TxnOffsetCommitResponse = response
        self.producer: Producer | None = None
        by_id = ctx.api_version >= _TOPIC_IDS_SINCE
        wanted: dict[tuple[str, int], tuple[_Partition, _Entry]] = {}
        named: dict[tuple[str | None, bytes], m.OffsetCommitResponse.OffsetCommitResponseTopic] = {}
        for topic in request.topics:
            name = topics.topic_name(topic.topic_id) if by_id else topic.name
            count = 0 if name is None else topics.partition_count(name)
            if count and not topic.partitions:
                continue
            answer = named.get((name, topic.topic_id))
            if answer is None:
                answer = m.OffsetCommitResponse.OffsetCommitResponseTopic(name=name or "")
                if by_id:
                    answer.topic_id = topic.topic_id
                named[name, topic.topic_id] = answer
                response.topics.append(answer)
            for partition in topic.partitions:
                index = partition.partition_index
                if name is not None and (name, index) in wanted:
                    wanted[name, index] = (partition, wanted[name, index][1])
                    continue
                entry = m.OffsetCommitResponse.OffsetCommitResponsePartition(partition_index=index)
                answer.partitions.append(entry)
                if name is None:
                    entry.error_code = ErrorCode.UNKNOWN_TOPIC_ID
                elif not 0 <= index < count:
                    entry.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                else:
                    wanted[name, index] = (partition, entry)
        retention_ms = request.retention_time_ms
        expire_ms = _NO_EXPIRY if retention_ms == _NO_RETENTION else min(now_ms + retention_ms, _LAST_MS)
        self._sort(request.group_id, wanted, config, now_ms, expire_ms)

    def _sort(
        self,
        group_id: str,
        wanted: dict[tuple[str, int], tuple[_Partition, _Entry]],
        config: GroupConfig,
        now_ms: int,
        expire_ms: int,
    ) -> None:
        """Which of the partitions that exist can be written."""
        self._entries: list[_Entry] = []
        self._large: list[_Entry] = []
        self.facts: list[OffsetCommitted] = []
        for (name, index), (partition, entry) in wanted.items():
            metadata = partition.committed_metadata or ""
            if _length(metadata) > config.offset_metadata_max_bytes:
                self._large.append(entry)
                continue
            self._entries.append(entry)
            self.facts.append(
                OffsetCommitted(
                    group_id,
                    name,
                    index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    metadata,
                    now_ms,
                    expire_ms,
                )
            )

    def is_open(self) -> bool:
        """Whether the group has to be asked at all."""
        return bool(self._entries or self._large)

    def refuse(self, error: ErrorCode) -> Reply:
        """The group takes none of it."""
        for entry in self._entries + self._large:
            entry.error_code = error
        return Reply(self._ctx.reply_to, self._response)

    def finish(self, error: ErrorCode) -> Reply:
        """What could be written was, or failed with `error`."""
        for entry in self._entries:
            entry.error_code = error
        for entry in self._large:
            entry.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
        return Reply(self._ctx.reply_to, self._response)


class TxnOffsetCommit(OffsetCommit):
    """The same within a transaction: topics by name, no retention of its own."""

    __slots__ = ()

    def __init__(
        self, ctx: RequestContext, request: m.TxnOffsetCommitRequest, topics: Topics, config: GroupConfig, now_ms: int
    ) -> None:
        response = m.TxnOffsetCommitResponse()
        self._ctx = ctx
        self._response = response
        self.producer = Producer(request.producer_id, request.producer_epoch)
        wanted: dict[tuple[str, int], tuple[_Partition, _Entry]] = {}
        named: dict[str, m.TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic] = {}
        for topic in request.topics:
            name = topic.name
            count = topics.partition_count(name)
            if count and not topic.partitions:
                continue
            if name not in named:
                named[name] = m.TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic(name=name)
                response.topics.append(named[name])
            for partition in topic.partitions:
                index = partition.partition_index
                if (name, index) in wanted:
                    wanted[name, index] = (partition, wanted[name, index][1])
                    continue
                entry = m.TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition(partition_index=index)
                named[name].partitions.append(entry)
                if 0 <= index < count:
                    wanted[name, index] = (partition, entry)
                else:
                    entry.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        self._sort(request.group_id, wanted, config, now_ms, _NO_EXPIRY)


def _length(text: str) -> int:
    """The length as Kafka counts it: characters beyond the basic plane count twice."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
