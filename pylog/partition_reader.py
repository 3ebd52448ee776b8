"""Reading one partition of a store, as records, columns, batches, or views of mapped files.

Keeps true: what is returned was read whole and its CRC was right; offsets rise; nothing of a transaction that is open
or was aborted is returned unless asked for. Reading takes no lock, so any number of threads and processes read while
one writes. Each iteration is one thread's; a PartitionReader may be shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal, TypeAlias

from pylog._columns import Decoded
from pylog._native import INT64_MAX
from pylog.chunk import Bounds, Chunks
from pylog.columns import Columns
from pylog.log_source import LogSource
from pylog.mapped import MappedBatch, mapped_batches
from pylog.record import Record, Row, records_of, rows_of
from pylog.records import RecordBatch, batches
from pylog.store_errors import OffsetOutOfRangeError, StoreClosedError
from pylog.types import TopicPartition

Start: TypeAlias = int | Literal["earliest", "latest"]
"""Where to begin: an offset, the first record there is, or behind the last one."""
Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]


class PartitionReader:
    """One partition, for reading.

    All `read` methods take the same words:

    start: an offset, "earliest" (the default) or "latest" (only what is appended from now on).
    timestamp_ms: begin at the first record of this time (ms since 1970) or later instead; at the end if there is none.
    end_offset: stop before this offset.
    timeout_ms: at the end of the log, how long to wait for the next record; 0 (the default): stop there, None: wait for
      ever. The time counts from the last record on.
    isolation: "read_committed" (the default) leaves out aborted transactions and waits for open ones;
      "read_uncommitted" returns everything.

    They raise OffsetOutOfRangeError for an offset below the log's start or above its end, also later, when retention
    overtakes the reading; DamagedLogError at a batch that is damaged; UnknownTopicError when the partition is gone;
    StoreClosedError; OSError.
    """

    __slots__ = ("_source",)

    def __init__(self, source: LogSource) -> None:
        self._source: LogSource | None = source

    def __repr__(self) -> str:
        if self._source is None:
            return f"<closed {type(self).__name__}>"
        return f"<{type(self).__name__} {self._source.partition}>"

    @property
    def _open_source(self) -> LogSource:
        if self._source is None:
            raise StoreClosedError("the store is closed")
        return self._source

    @property
    def topic(self) -> str:
        return self._open_source.partition.topic

    @property
    def partition(self) -> int:
        return self._open_source.partition.partition

    @property
    def topic_partition(self) -> TopicPartition:
        return self._open_source.partition

    def log_start_offset(self) -> int:
        """Offset of the first record there is, or may be."""
        return self._open_source.start()

    def log_end_offset(self) -> int:
        """Offset that the next record appended will get."""
        return self._open_source.end()

    def offset_for_timestamp(self, timestamp_ms: int) -> int | None:
        """Offset of the first record whose timestamp is timestamp_ms or later; None when there is none."""
        return self._open_source.offset_for_timestamp(timestamp_ms)

    # ------------------------------------------------------------------------------------------------ reading

    def read(
        self,
        start: Start = "earliest",
        *,
        timestamp_ms: int | None = None,
        end_offset: int | None = None,
        max_records: int | None = None,
        timeout_ms: int | None = 0,
        isolation: Isolation = "read_committed",
    ) -> Iterator[Record]:
        """Records, one by one. max_records: at most so many."""
        chunks = self._chunks(start, timestamp_ms, end_offset, timeout_ms, isolation)
        records = chain.from_iterable(map(records_of, chunks))
        return records if max_records is None else islice(records, max_records)

    def read_rows(
        self,
        start: Start = "earliest",
        *,
        timestamp_ms: int | None = None,
        end_offset: int | None = None,
        timeout_ms: int | None = 0,
        isolation: Isolation = "read_committed",
    ) -> Iterator[Row]:
        """Records as plain tuples (offset, timestamp_ms, key, value, headers)."""
        return chain.from_iterable(map(rows_of, self._chunks(start, timestamp_ms, end_offset, timeout_ms, isolation)))

    def read_columns(
        self,
        start: Start = "earliest",
        *,
        timestamp_ms: int | None = None,
        end_offset: int | None = None,
        timeout_ms: int | None = 0,
        isolation: Isolation = "read_committed",
    ) -> Iterator[Columns]:
        """Records as NumPy columns, some thousands at a time: as many as one read of the file brings."""
        return map(_columns, self._chunks(start, timestamp_ms, end_offset, timeout_ms, isolation))

    def read_batches(
        self,
        start: Start = "earliest",
        *,
        timestamp_ms: int | None = None,
        end_offset: int | None = None,
        timeout_ms: int | None = 0,
    ) -> Iterator[RecordBatch]:
        """Whole record batches as they are in the log: from the one that holds the start on, control batches and those
        of open and aborted transactions included, with bytes of their own."""
        return _batches(self._chunks(start, timestamp_ms, end_offset, timeout_ms, "read_uncommitted"))

    def read_mapped(
        self, start: Start = "earliest", *, timestamp_ms: int | None = None, end_offset: int | None = None
    ) -> Iterator[MappedBatch]:
        """Whole record batches as read-only memoryviews over the mapped files, nothing copied; up to the end of the
        log as it is now. Control batches and those of open and aborted transactions are included.

        A view keeps its file's mapping. Where another process may cut the file (a Kafka follower whose log diverged
        from its leader's does) touching what was cut ends this process with SIGBUS: copying reads are for that.
        """
        begin = self._begin(start, timestamp_ms)
        source = self._open_source
        end = INT64_MAX if end_offset is None else end_offset
        return mapped_batches(source.path, begin, end, source.limit())

    def _begin(self, start: Start, timestamp_ms: int | None) -> int:
        source = self._open_source
        if timestamp_ms is not None:
            found = source.offset_for_timestamp(timestamp_ms)
            return source.end() if found is None else found
        if start == "earliest":
            return source.start()
        if start == "latest":
            return source.end()
        first = source.start()
        if start < first or (start > first and start > (end := source.end())):
            latest = None if start < first else end
            raise OffsetOutOfRangeError(
                f"{source.partition}: offset {start} is not in the log, which has {first} to {source.end()}",
                earliest=first,
                latest=latest,
            )
        return start

    def _chunks(
        self,
        start: Start,
        timestamp_ms: int | None,
        end_offset: int | None,
        timeout_ms: int | None,
        isolation: Isolation,
    ) -> Chunks:
        if isolation not in ("read_committed", "read_uncommitted"):
            raise ValueError(f"isolation is read_committed or read_uncommitted, not {isolation!r}")
        begin = self._begin(start, timestamp_ms)
        end = INT64_MAX if end_offset is None else end_offset
        return Chunks(self._open_source, Bounds(begin, end, timeout_ms, isolation == "read_committed"))


def _columns(decoded: Decoded) -> Columns:
    return Columns(decoded, decoded.next_offset)


def _batches(chunks: Chunks) -> Iterator[RecordBatch]:
    first = chunks.next_offset
    for _ in chunks.raw():
        found = [batch for batch in batches(chunks.data) if batch.last_offset >= first]
        yield from [type(batch)(batch.header, bytes(batch.data)) for batch in found]
