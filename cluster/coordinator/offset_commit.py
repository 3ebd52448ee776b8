"""One OffsetCommit request: what of it may be written, and the answer that takes shape meanwhile.

What stays true: each partition of the request has one entry in the answer, in the order of the request. An entry is
`entries` (will be written), large (its metadata is too long) or already refused (there is no such partition).
"""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig, RequestContext, Topics
from cluster.coordinator.group_records import OffsetCommitted
from cluster.effects import Reply
from cluster.protocol import messages as m
from pylog.errors import ErrorCode

_TOPIC_IDS_SINCE = 10
_NO_RETENTION = -1
_NO_EXPIRY = -1
_LAST_MS = (1 << 63) - 1


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
        by_id = ctx.api_version >= _TOPIC_IDS_SINCE
        for topic in request.topics:
            name = topics.topic_name(topic.topic_id) if by_id else topic.name
            count = 0 if name is None else topics.partition_count(name)
            unknown = ErrorCode.UNKNOWN_TOPIC_ID if name is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            answer = m.OffsetCommitResponse.OffsetCommitResponseTopic(name=name or "")
            if by_id:
                answer.topic_id = topic.topic_id
            self._response.topics.append(answer)
            for partition in topic.partitions:
                index = partition.partition_index
                entry = m.OffsetCommitResponse.OffsetCommitResponsePartition(partition_index=index)
                answer.partitions.append(entry)
                metadata = partition.committed_metadata or ""
                if name is None or not 0 <= index < count:
                    entry.error_code = unknown
                elif _length(metadata) > config.offset_metadata_max_bytes:
                    self._large.append(entry)
                else:
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
