"""A log, a chunk at a time: whole batches from a cursor, decoded.

Keeps true: a chunk holds records of whole batches whose CRC is right, in offset order, each once; what is behind the
last whole batch of the file that is being written counts as not written yet, while the same in the middle of a log is
damage and raises. One thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pylog._columns import BEYOND, CUT, OLD_FORMAT, UNDECIDED, Aborted, Buffer, Decoded, Decoder
from pylog._native import INT64_MAX
from pylog.cursor import Cursor
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.log_source import Decisions, LogSource
from pylog.old_chunk import as_batches, old_message_size
from pylog.store_errors import DamagedLogError

_LENGTH = slice(8, 12)
"""Where a batch's length is. It is stored last: zeros there are room that was allocated, and not written yet."""


class Bounds(NamedTuple):
    """What to read. timeout_ms: how long to wait for more at the end of the log; None: for ever, 0: not."""

    start_offset: int
    end_offset: int = INT64_MAX
    timeout_ms: int | None = 0
    committed: bool = True


class Chunks:
    """Reads a log from one place on. Iterate once; `close` lets go of the file."""

    __slots__ = (
        "_aborted",
        "_bounds",
        "_cursor",
        "_decided",
        "_decisions",
        "_decoder",
        "_source",
        "_stuck_at",
        "_unwritten",
        "data",
    )

    def __init__(self, source: LogSource, bounds: Bounds) -> None:
        self._source = source
        self._bounds = bounds
        self._cursor = Cursor(source.path, bounds.start_offset)
        self._decoder = Decoder()
        self._decisions: Decisions | None = None
        self._decided = 0 if bounds.committed else INT64_MAX
        self._aborted: Aborted | None = None
        self._stuck_at = ("", -1)
        self._unwritten = False
        self.data = memoryview(b"")
        """The batches of the last chunk, until the next one."""

    @property
    def next_offset(self) -> int:
        """Where the next chunk begins."""
        return self._cursor.offset

    def close(self) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[Decoded]:
        """The chunks that hold records, until the end of what is wanted, or time is up."""
        return self._chunks(with_empty=False)

    def raw(self) -> Iterator[Decoded]:
        """Also the chunks of which no record is wanted: control batches, aborted ones."""
        return self._chunks(with_empty=True)

    def _chunks(self, with_empty: bool) -> Iterator[Decoded]:
        timeout_ms = self._bounds.timeout_ms
        cursor = self._cursor
        watch = None if timeout_ms == 0 else self._source.watch()
        deadline: float | None = None
        waiting = False
        try:
            while self._cursor.offset < self._bounds.end_offset:
                decoded = self._next()
                if decoded is not None:
                    waiting = False
                    if decoded.count or with_empty:
                        yield decoded
                    del decoded
                    continue
                if watch is None or self._is_at_bound():
                    return
                if not waiting and timeout_ms is not None:
                    deadline = time.monotonic() + timeout_ms / 1000
                waiting = True
                if not watch.wait(deadline, cursor.is_written if self._unwritten else None):
                    return
        finally:
            self.close()

    def _is_at_bound(self) -> bool:
        return self._cursor.offset >= self._bounds.end_offset

    def _next(self) -> Decoded | None:
        """The next whole batches. None: there are none for now."""
        cursor = self._cursor
        self._unwritten = False
        while True:
            limit = min(self._bounds.end_offset, self._source.limit())
            size_bytes = cursor.read() if cursor.offset < limit else 0
            if not size_bytes:
                return None
            decoded = self._decoder.decode(
                cursor.buffer,
                size_bytes,
                begin=cursor.begin,
                floor_offset=cursor.floor_offset,
                ceiling_offset=cursor.ceiling_offset,
                from_offset=cursor.offset,
                max_offset=limit,
                decided_offset=self._decided,
                aborted=self._aborted,
            )
            if decoded.used_bytes:
                self.data = cursor.data(decoded.used_bytes)
                cursor.advance(decoded.used_bytes, decoded.next_offset)
                return decoded
            if decoded.stopped == OLD_FORMAT:
                needed = old_message_size(cursor.data(size_bytes))
                if needed is not None and needed <= size_bytes:
                    old = self._take_old(needed, limit)
                    if old is not None:
                        return old
                    continue
            if not self._goes_on(decoded, size_bytes, limit):
                return None

    def _goes_on(self, decoded: Decoded, size_bytes: int, limit: int) -> bool:
        """No batch could be used: find out why, and whether to try again now."""
        cursor, stopped = self._cursor, decoded.stopped
        if stopped == BEYOND and limit == self._bounds.end_offset:
            cursor.offset = limit
            return False
        if stopped == UNDECIDED:
            return self._decide(int.from_bytes(cursor.data(8), "big"))
        needed_bytes = decoded.needed_bytes
        if stopped == OLD_FORMAT:
            needed_bytes = old_message_size(cursor.data(size_bytes)) or 0
        if needed_bytes and cursor.make_room(needed_bytes):
            return True
        if stopped == BEYOND:  # the log has records up to the limit, but here is one from above it
            return self._look_again(ErrorCode.CORRUPT_MESSAGE)
        unwritten = not any(cursor.data(size_bytes)[_LENGTH])
        torn = stopped in (CUT, OLD_FORMAT) or unwritten
        if torn and cursor.is_last():
            self._unwritten = unwritten
            return False
        if stopped == ErrorCode.CORRUPT_MESSAGE and cursor.is_last() and self._is_last_batch(size_bytes):
            return False
        return self._look_again(stopped)

    def _is_last_batch(self, size_bytes: int) -> bool:
        """Whether the batch at the cursor reaches the end of the file: it may be half written."""
        length = int.from_bytes(self._cursor.data(12)[8:], "big", signed=True)
        return size_bytes < 12 or length + 12 >= self._cursor.left_bytes()

    def _look_again(self, stopped: int) -> bool:
        """What is here is no batch. Once the log may have changed under us; a second time it is damage."""
        cursor = self._cursor
        here = (cursor.file, cursor.position)
        if self._stuck_at == here:
            if stopped == CUT:
                stopped = ErrorCode.CORRUPT_MESSAGE
            code = ErrorCode(stopped) if stopped < 1000 else ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
            raise DamagedLogError(
                f"{cursor.file}, position {cursor.position}: the batch that holds offset {cursor.offset} cannot be read"
                f" ({code.name})",
                file=cursor.file,
                position=cursor.position,
                code=code,
            )
        self._stuck_at = here
        cursor.restart()
        return True

    def _decide(self, offset: int) -> bool:
        """Ask how transactions ended. Whether that of the batch at offset has."""
        if self._decisions is None:
            self._decisions = self._source.decisions()
        decided, aborted = self._decisions.decide()
        self._decided = max(decided, self._decided)
        self._aborted = Aborted(aborted) if aborted else None
        return offset < self._decided

    def _take_old(self, size_bytes: int, limit: int) -> Decoded | None:
        """The records of the old message at the cursor, which is whole. None: try again."""
        cursor = self._cursor
        self.data = cursor.data(size_bytes)
        try:
            batches, next_offset = as_batches(self.data)
        except KafkaError as e:
            self._look_again(e.code)
            return None
        decoded = self._decoder.decode(Buffer(batches), len(batches), from_offset=cursor.offset, max_offset=limit)
        cursor.advance(size_bytes, next_offset)
        return decoded
