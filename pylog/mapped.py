"""Record batches as they lie in mapped files.

Keeps true: nothing is copied or decompressed before it is asked for; a batch that is returned was whole and its CRC was
right; the mapping lives as long as any view of it and is read-only.
"""

from __future__ import annotations

from collections.abc import Iterator

from pylog._columns import record_views
from pylog.compression import LARGEST_BATCH_BYTES
from pylog.cursor import BATCH_LENGTH_AT, Cursor
from pylog.facts import NamedTuple
from pylog.records import Header, RecordBatch, batches, decode_headers
from pylog.store_errors import DamagedLogError

_MAPPED_MAGIC = 2


class RecordView(NamedTuple):
    """One record whose key and value are views: of the mapped file, or of what its batch was decompressed to."""

    offset: int
    timestamp_ms: int
    key: memoryview | None
    value: memoryview | None
    headers: tuple[Header, ...] = ()


class MappedBatch(RecordBatch):
    """A batch whose `data` is a view of a mapped file."""

    __slots__ = ()

    def record_views(self) -> list[RecordView]:
        """Its records without copying them. Raises INVALID_RECORD, CORRUPT_MESSAGE."""
        view = memoryview(self.data)
        return [
            RecordView(offset, timestamp, key, value, decode_headers(headers, count))
            for offset, timestamp, key, value, count, headers in record_views(view, LARGEST_BATCH_BYTES)
        ]


def mapped_batches(path: str, start_offset: int, end_offset: int, limit: int) -> Iterator[MappedBatch]:
    """The batches of a partition directory that hold [start_offset, end_offset), up to the present end.

    limit: where the log ends; INT64_MAX: where its files do. Batches of formats 0 and 1 are left out. Raises
    DamagedLogError, OffsetOutOfRangeError.
    """
    cursor = Cursor(path, start_offset)
    stop = min(end_offset, limit)
    try:
        while cursor.offset < stop:
            view = cursor.map()
            used = 0
            found = batches(view)
            while cursor.offset < stop and _is_written(view, used, cursor):
                batch = next(found, None)
                if batch is None:
                    break
                if end_offset <= batch.header.base_offset < limit:
                    return
                if not _is_sound(batch, cursor, limit):
                    if used + batch.header.size_bytes >= len(view) and cursor.is_last():
                        return  # another process may be writing it
                    raise DamagedLogError(
                        f"{cursor.file}, position {cursor.position}: the batch is damaged",
                        file=cursor.file,
                        position=cursor.position,
                    )
                wanted = batch.next_offset > cursor.offset and batch.header.magic == _MAPPED_MAGIC
                used += batch.header.size_bytes
                cursor.advance(batch.header.size_bytes, batch.next_offset)
                if wanted:
                    yield MappedBatch(batch.header, batch.data)
            if not used and not cursor.follow():
                return
    finally:
        cursor.close()


def _is_written(view: memoryview, position: int, cursor: Cursor) -> bool:
    """Behind the last batch of the file that is being written there may be room: the length of the next one is zero."""
    length = view[position + BATCH_LENGTH_AT : position + BATCH_LENGTH_AT + 4]
    return any(length) or not length or not cursor.is_last()


def _is_sound(batch: RecordBatch, cursor: Cursor, limit: int) -> bool:
    """Its CRC is right, and its offset, which no CRC covers, is possible here."""
    return cursor.floor_offset <= batch.header.base_offset < min(cursor.ceiling_offset, limit) and batch.check()
