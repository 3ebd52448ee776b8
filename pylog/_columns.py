"""The library's part of the C module: records as columns, and the writer's end of a log.

Keeps true: the memory that a decode fills is held by whoever holds its result, and is used again when nobody does; an
appender's memory outlives every thread that may be inside, so a closed one answers instead of crashing. Return codes
are looked at here or handed to `check`. Any thread may call an appender; a decoder is one thread's.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

from pylog._native import INT32_MIN, INT64_MAX, Log, Sys, check, read_batch_header
from pylog._plog import ffi, lib
from pylog._rows import (
    KEYS,
    KEYS_ENDS,
    KEYS_NULLS,
    OFFSETS,
    TIMESTAMPS,
    VALUES,
    VALUES_ENDS,
    VALUES_NULLS,
    Rows,
)
from pylog._rows import (
    Memory as Memory,
)
from pylog.facts import NamedTuple
from pylog.typed import Any, TypeVar

NOW = lib.PLOG_NOW
"""A timestamp: the wall clock's, read by C."""

USED_UP = 0
CUT = lib.PLOG_E_SHORT
BEYOND = lib.PLOG_E_STOPPED
UNDECIDED = lib.PLOG_E_AGAIN
OLD_FORMAT = lib.PLOG_UNSUPPORTED_FOR_MESSAGE_FORMAT
CLOSED = lib.PLOG_E_CLOSED

FLUSH_WANTED = lib.PLOG_ATTENTION_FLUSH

_Made = TypeVar("_Made")

NO_BYTES = ffi.NULL
_SPARE_MEMORIES = 3
"""Of a process: one is filled while its reader looks at another and lets go of a third."""
_SPARE_BYTES = 4 << 20
_SPARE_PAGES = 2


class Decoded:
    """What a decode found. `stopped`: USED_UP, CUT, BEYOND, UNDECIDED, OLD_FORMAT, or what is wrong with the next
    batch.

    `needed_bytes`: the size of the batch that is CUT, 0 when even that is. `next_offset`: behind the last batch used.
    """

    __slots__ = ("_address", "_memory", "_view", "count", "needed_bytes", "next_offset", "stopped", "used_bytes")

    def __init__(self, memory: Any, view: Any) -> None:
        self._memory = memory
        self._view = view
        self._address = int(ffi.cast("uintptr_t", view))
        self.count: int = view.count
        self.next_offset: int = view.next_offset
        self.used_bytes: int = view.used_bytes
        self.needed_bytes: int = view.needed_bytes
        self.stopped: int = view.stopped

    def rows(self, made: type[_Made], decode_headers: Callable[[bytes, int], object]) -> Iterator[_Made]:
        """Each record, made when it is asked for: a `made`, which is tuple or a class below it, of its offset,
        timestamp, key, value and what decode_headers gives for encoded headers and their count, () for none."""
        return Rows(self, self._address, made, decode_headers)  # type: ignore[no-any-return]

    def offsets(self) -> list[int]:
        return ffi.unpack(self._view.offsets, self.count)  # type: ignore[no-any-return]

    def timestamps(self) -> list[int]:
        return ffi.unpack(self._view.timestamps, self.count)  # type: ignore[no-any-return]

    def headers_counts(self) -> list[int]:
        return ffi.unpack(self._view.headers_counts, self.count)  # type: ignore[no-any-return]

    @property
    def has_headers(self) -> bool:
        return bool(self._view.headers.size_bytes)

    # What follows are read-only buffers of the memory itself, which lives as long as they do.

    def offsets_memory(self) -> Memory:
        return Memory(self, self._address, OFFSETS)

    def timestamps_memory(self) -> Memory:
        return Memory(self, self._address, TIMESTAMPS)

    def keys_memory(self) -> tuple[Memory, Memory, Memory | None]:
        """Bytes, their ends (int64, count + 1), and where they are null (uint8), None: nowhere."""
        address = self._address
        nulls = Memory(self, address, KEYS_NULLS) if self._view.keys.nulls_count else None
        return Memory(self, address, KEYS), Memory(self, address, KEYS_ENDS), nulls

    def values_memory(self) -> tuple[Memory, Memory, Memory | None]:
        """As keys_memory."""
        address = self._address
        nulls = Memory(self, address, VALUES_NULLS) if self._view.values.nulls_count else None
        return Memory(self, address, VALUES), Memory(self, address, VALUES_ENDS), nulls


class _Memories:
    """Memory that nobody holds any more, for the next decode of whichever reader: to touch fresh pages costs as much as
    to decode into them. What waits here are pointers: no collector of garbage looks into them."""

    __slots__ = ("_close", "_most", "_open", "_spare")

    def __init__(self, open: Callable[[], Any], close: Callable[[Any], None], most: int) -> None:
        self._open = open
        self._close = close
        self._most = most
        self._spare: list[Any] = []

    def take(self) -> Any:
        try:
            handle = self._spare.pop()
        except IndexError:
            handle = self._open()
        if not handle:
            raise MemoryError("memory to read into")
        return ffi.gc(handle, self._give_back)

    def _give_back(self, handle: Any) -> None:
        if len(self._spare) < self._most:
            self._spare.append(handle)
        else:
            self._close(handle)


READ_BYTES = 1 << 20
"""What is read of a file at once."""
READ_ROOM_BYTES = READ_BYTES + mmap.PAGESIZE
_memories = _Memories(lib.plog_columns_open, lib.plog_columns_close, _SPARE_MEMORIES)
_pages = _Memories(lambda: lib.plog_pages_open(READ_ROOM_BYTES), lib.plog_pages_close, _SPARE_PAGES)


def room_to_read(size_bytes: int) -> memoryview:
    """Memory for so many bytes of a file, wherever in a page they begin. Raises MemoryError."""
    size_bytes += mmap.PAGESIZE
    if size_bytes == READ_ROOM_BYTES:
        pages = _pages.take()
    else:
        pages = ffi.gc(lib.plog_pages_open(size_bytes), lib.plog_pages_close)
    if not pages:
        raise MemoryError("memory to read into")
    return memoryview(ffi.buffer(pages, size_bytes))


def _kept(memory: Any, view: Any) -> Any:
    """The memory, which goes with its holder when it has become too large to wait for another."""
    if view.keys.size_bytes + view.values.size_bytes + view.headers.size_bytes < _SPARE_BYTES:
        return memory
    handle = ffi.cast("plog_columns *", memory)
    ffi.gc(memory, None)
    return ffi.gc(handle, lib.plog_columns_close)


class Decoder:
    """Lays out the records of whole batches. One thread at a time."""

    __slots__ = ("_query",)

    def __init__(self) -> None:
        self._query = ffi.new("plog_columns_query *")

    def decode(
        self,
        data: Buffer,
        size_bytes: int,
        *,
        from_offset: int,
        begin: int = 0,
        floor_offset: int = 0,
        ceiling_offset: int = INT64_MAX,
        max_offset: int = INT64_MAX,
        decided_offset: int = INT64_MAX,
        aborted: Aborted | None = None,
    ) -> Decoded:
        """The records in [from_offset, max_offset) of the whole batches in data[begin : begin + size_bytes].

        A batch that begins outside [floor_offset, ceiling_offset) is damaged. decided_offset: transactions of batches
        below it have ended. Raises MemoryError.
        """
        query = self._query
        query.floor_offset = floor_offset
        query.ceiling_offset = ceiling_offset
        query.from_offset = from_offset
        query.max_offset = max_offset
        query.decided_offset = decided_offset
        query.aborted = ffi.NULL if aborted is None else aborted.pointer
        query.aborted_count = 0 if aborted is None else aborted.count
        memory = _memories.take()
        view = ffi.new("plog_columns_view *")
        rc = lib.plog_columns_decode(memory, data.pointer + begin, size_bytes, query, view)
        if rc < 0:
            raise MemoryError("records as columns")
        return Decoded(_kept(memory, view), view)


class Buffer:
    """Bytes that C reads: of anything with the buffer protocol, held as long as this is."""

    __slots__ = ("pointer", "size_bytes")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.pointer = ffi.from_buffer("uint8_t[]", data)
        self.size_bytes = len(self.pointer)


class Aborted:
    """Aborted transactions as C looks them up: (producer id, first offset, last offset)."""

    __slots__ = ("count", "pointer")

    def __init__(self, transactions: list[tuple[int, int, int]]) -> None:
        self.count = len(transactions)
        self.pointer = ffi.new("int64_t[]", [number for triple in transactions for number in triple])


# -------------------------------------------------------------------------------------------------- appending


class AppenderSettings(NamedTuple):
    """plog_appender_config: what of a topic's settings an append asks for."""

    codec: int
    level: int
    log_append_time: bool
    compacted: bool
    max_message_bytes: int
    leader_epoch: int
    batch_records: int
    batch_bytes: int
    mapped_tail: int = 0


class ColumnKind:
    """How a column of byte strings is given to C."""

    NULL = lib.PLOG_COLUMN_NULL
    FIXED = lib.PLOG_COLUMN_FIXED
    OFFSETS32 = lib.PLOG_COLUMN_OFFSETS32
    OFFSETS64 = lib.PLOG_COLUMN_OFFSETS64


class ByteColumn:
    """One column to be written; checked by C as it is read. Whatever it points into is held."""

    __slots__ = ("_held", "fields")

    def __init__(
        self,
        kind: int = ColumnKind.NULL,
        data: object = b"",
        *,
        width: int = 0,
        offsets: object = None,
        nulls: object = None,
        held: object = None,
    ) -> None:
        """data: a buffer. offsets: one of count + 1 int32 or int64, as kind says. nulls: one of count bytes, not 0:
        null. held: what else has to live as long. Raises TypeError, ValueError for what is no contiguous buffer."""
        bytes_pointer = ffi.from_buffer("uint8_t[]", data)
        offsets_pointer = ffi.NULL if offsets is None else ffi.from_buffer("char[]", offsets)
        nulls_pointer = ffi.NULL if nulls is None else ffi.from_buffer("uint8_t[]", nulls)
        self._held = (bytes_pointer, offsets_pointer, nulls_pointer, held)
        self.fields = (kind, width, bytes_pointer, len(bytes_pointer), offsets_pointer, nulls_pointer)


NO_COLUMN = ByteColumn()


class Producer(NamedTuple):
    """plog_producer_stamp: who writes in a transaction, and the sequence number of the first record."""

    producer_id: int
    producer_epoch: int
    base_sequence: int


class Appended(NamedTuple):
    """What an append of columns did. code: 0, or why it stopped at end_offset."""

    first_offset: int
    end_offset: int
    attention: bool
    code: int


def _settings(settings: AppenderSettings) -> Any:
    level = INT32_MIN if settings.level is None else settings.level
    return ffi.new("plog_appender_config *", settings._replace(level=level))


class Appender:
    """The writer's end of a log (plog_appender). Any thread.

    `append_record` is C's own function, to be called with `pointer` first: one Python frame less for single records.
    """

    __slots__ = ("append_record", "pointer")

    def __init__(self, sys: Sys, log: Log, settings: AppenderSettings) -> None:
        out = ffi.new("plog_appender **")
        check(lib.plog_appender_open(sys.pointer, log.pointer, _settings(settings), out))
        self.pointer = ffi.gc(out[0], _free_appender)
        self.append_record = lib.plog_appender_append

    def __enter__(self) -> None:
        """While inside, the owner's functions of the log may be called."""
        lib.plog_appender_lock(self.pointer)

    def __exit__(self, *exception: object) -> None:
        lib.plog_appender_unlock(self.pointer)

    def configure(self, settings: AppenderSettings) -> None:
        check(lib.plog_appender_configure(self.pointer, _settings(settings)))

    def release(self) -> None:
        """Give the log back; appends and waits are answered CLOSED from now on."""
        lib.plog_appender_release(self.pointer)

    def error(self) -> int:
        """The return code behind the last append_record that gave -1."""
        return int(lib.plog_appender_error(self.pointer))

    def take_attention(self) -> int:
        """What happened since the last call: FLUSH_WANTED (rolled, or flush.messages reached) and other bits."""
        return int(lib.plog_appender_take_attention(self.pointer))

    def append_columns(
        self,
        count: int,
        values: ByteColumn,
        keys: ByteColumn = NO_COLUMN,
        *,
        headers: ByteColumn = NO_COLUMN,
        headers_counts: object = None,
        timestamps: object = None,
        codec: int = -1,
        producer: Producer | None = None,
    ) -> Appended:
        """headers_counts: a buffer of count int32. timestamps: a buffer of count int64. codec: -1, the topic's."""
        columns = ffi.new("plog_record_columns *")  # all zeros: no column is given
        columns.count = count
        columns.codec = codec
        columns.values = values.fields
        if keys is not NO_COLUMN:
            columns.keys = keys.fields
        if headers is not NO_COLUMN:
            columns.headers = headers.fields
        if headers_counts is not None:
            counts = ffi.from_buffer("int32_t[]", headers_counts)
            columns.headers_counts = counts
        if timestamps is not None:
            times = ffi.from_buffer("int64_t[]", timestamps)
            columns.timestamps = times
        stamp = ffi.NULL if producer is None else ffi.new("plog_producer_stamp *", producer)
        out = ffi.new("plog_appended *")
        rc = lib.plog_appender_append_columns(self.pointer, columns, stamp, out)
        return Appended(out.first_offset, out.end_offset, bool(out.attention), rc)

    def append_batch(self, batch: bytes) -> int:
        """Append one whole batch, its offset and leader epoch stamped; returns the last offset."""
        last = ffi.new("int64_t *")
        stamped = bytearray(batch)
        check(lib.plog_appender_append_batch(self.pointer, ffi.from_buffer("uint8_t[]", stamped), len(stamped), last))
        return int(last[0])

    def wait(self, offset: int, timeout_ms: int) -> bool:
        """Wait until the log end offset is above offset; whether it is. False at once when the log was given back."""
        return bool(lib.plog_appender_wait(self.pointer, offset, timeout_ms) == 0)


def _free_appender(pointer: Any) -> None:
    lib.plog_appender_release(pointer)
    lib.plog_appender_close(pointer)


# -------------------------------------------------------------------------------------------------- views


def record_views(
    batch: memoryview, limit_bytes: int
) -> list[tuple[int, int, memoryview | None, memoryview | None, int, bytes]]:
    """(offset, timestamp, key, value, number of headers, headers) of each record of one whole batch.

    Keys and values are read-only views of batch, or of what it decompresses to, at most limit_bytes. Raises KafkaError
    INVALID_RECORD, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE.
    """
    header = read_batch_header(batch)
    count = header.records_count
    pinned = ffi.from_buffer("uint8_t[]", batch)
    records = ffi.new("plog_record[]", max(count, 1))
    written = ffi.new("int32_t *")
    capacity = min(limit_bytes, max(4 * len(batch), 1024)) if header.attributes & lib.PLOG_ATTR_CODEC_MASK else 0
    while True:
        scratch = ffi.new("uint8_t[]", max(capacity, 1))
        rc = lib.plog_batch_records(pinned, len(batch), scratch, capacity, records, count, written)
        if rc != lib.PLOG_E_BUFFER_TOO_SMALL or capacity >= limit_bytes:
            break
        capacity = min(2 * capacity, limit_bytes)
    check(rc)
    source = memoryview(ffi.buffer(scratch)) if capacity else batch
    origin = int(ffi.cast("uintptr_t", scratch if capacity else pinned))
    source = source.toreadonly()

    def view(data: Any, size_bytes: int) -> memoryview | None:
        if size_bytes < 0:
            return None
        at = int(ffi.cast("uintptr_t", data)) - origin
        return source[at : at + size_bytes]

    return [
        (
            r.offset,
            r.timestamp,
            view(r.key, r.key_bytes),
            view(r.value, r.value_bytes),
            r.headers_count,
            ffi.buffer(r.headers, r.headers_bytes)[:] if r.headers_bytes else b"",
        )
        for r in (records[i] for i in range(written[0]))
    ]
