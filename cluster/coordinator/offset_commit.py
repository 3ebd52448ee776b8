"""One OffsetCommit request: what of it may be written, and the answer that takes shape meanwhile.

What stays true: each topic of the request and each partition that exists has one entry in the answer, however often
it is named; of one that is named again the last commit counts. An entry is `entries` (will be written), large (its
metadata is too long) or already refused (there is no such partition).
"""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig, RequestContext, Topics
from cluster.coordinator.group_records import OffsetCommitted
from cluster.effects import Reply
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING, TypeAlias

_TOPIC_IDS_SINCE = 10
_NO_RETENTION = -1
_NO_EXPIRY = -1
_LAST_MS = (1 << 63) - 1


if TYPE_CHECKING:
    _Asked: TypeAlias = tuple[
        m.OffsetCommitRequest.OffsetCommitRequestPartition, m.OffsetCommitResponse.OffsetCommitResponsePartition
    ]


class OffsetCommit:
    __slots__ = ("_ctx", "_entries", "_large", "_response", "facts")

    def __init__(
        self, ctx: RequestContext, request: m.OffsetCommitRequest, topics: Topics, config: GroupConfig, now_ms: int
    ) -> None:
        self._ctx = ctx
        self._entries: list[m.OffsetCommitResponse.OffsetCommitResponsePartition] = []
        self._large: list[m.OffsetCommitResponse.OffsetCommitResponsePartition] = []
        self._response = m.OffsetCommitResponse()
        self.facts: list[OffsetCommitted] = []
        retention_ms = request.retention_time_ms
        expire_ms = _NO_EXPIRY if retention_ms == _NO_RETENTION else min(now_ms + retention_ms, _LAST_MS)
        wanted: dict[tuple[str, int], _Asked] = {}
        self._list(request, topics, ctx.api_version >= _TOPIC_IDS_SINCE, wanted)
        for (name, index), (partition, entry) in wanted.items():
            metadata = partition.committed_metadata or ""
            if _length(metadata) > config.offset_metadata_max_bytes:
                self._large.append(entry)
                continue
            self._entries.append(entry)
            self.facts.append(
                OffsetCommitted(
                    request.group_id,
                    name,
                    index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    metadata,
                    now_ms,
                    expire_ms,
                )
            )

    def _list(
        self, request: m.OffsetCommitRequest, topics: Topics, by_id: bool, wanted: dict[tuple[str, int], _Asked]
    ) -> None:
        """Make the answer's entries, refused where there is no such partition; put the others into `wanted`."""
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
                self._response.topics.append(answer)
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


def _length(text: str) -> int:
    """The length as Kafka counts it: characters beyond the basic plane count twice."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
