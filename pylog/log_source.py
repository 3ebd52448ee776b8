"""Where a reader learns about a log beyond its batches: where it starts and ends, and when there is more.

Keeps true: a `LocalSource` asks the log that this process writes; a `DirectorySource` asks files only, takes no lock,
and so works beside any writer. Both say the same words, so reading does not know which it is. Any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pylog._columns import Appender
from pylog._native import INT64_MAX
from pylog.checkpoint import LOG_START_OFFSET_FILE, OffsetCheckpoint
from pylog.cursor import Cursor, segment_bases
from pylog.files import CorruptFileError
from pylog.log import Log
from pylog.segment import TIME_INDEX_SUFFIX, segment_file_name
from pylog.transaction_view import TransactionView
from pylog.typed import TYPE_CHECKING, Protocol
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from pylog.chunk import Chunks

_SLICE_MS = 100
"""A wait in C hears no signal: so often Python is asked whether one came."""
_FIRST_POLL_S = 0.0005
_LONGEST_POLL_S = 0.016


class LogSource(Protocol):
    """What reading asks. Raises UnknownTopicError when the partition is gone."""

    @property
    def path(self) -> str: ...

    @property
    def partition(self) -> TopicPartition: ...

    def start(self) -> int:
        """The log start offset."""

    def end(self) -> int:
        """The log end offset."""

    def limit(self) -> int:
        """Where reading stops for now; INT64_MAX: where the files end."""

    def decisions(self) -> Decisions: ...

    def offset_for_timestamp(self, timestamp_ms: int) -> int | None:
        """The first offset whose record is of this time or later."""

    def watch(self) -> Watch: ...


class Decisions(Protocol):
    """How transactions ended; one reader's."""

    def decide(self) -> tuple[int, list[tuple[int, int, int]]]:
        """(offset, aborted): see TransactionView.decide."""


class Watch(Protocol):
    """Waits for more; one reader's."""

    def wait(self, deadline: float | None, is_written: Callable[[], bool] | None = None) -> bool:
        """Until the log has grown since the last call. False: deadline (of time.monotonic(), None: never) is past.

        is_written: asks whether there is something now where the file had room; by its size that cannot be told.
        """


def everything_from(source: LogSource, offset: int) -> Chunks:
    """The log from offset on, transactions that are open or aborted included."""
    from pylog.chunk import Bounds, Chunks  # which reads what a source tells about

    return Chunks(source, Bounds(offset, committed=False))


def first_of_time(source: LogSource, offset: int, timestamp_ms: int) -> int | None:
    """The first record from offset on that is of this time or later."""
    for decoded in everything_from(source, offset):
        for at, timestamp in zip(decoded.offsets(), decoded.timestamps(), strict=True):
            if timestamp >= timestamp_ms:
                return at
    return None


# -------------------------------------------------------------------------------------------------- our own log


class LocalSource:
    """A log that this process writes."""

    __slots__ = ("_appender", "_log")

    def __init__(self, log: Log, appender: Appender) -> None:
        self._log = log
        self._appender = appender

    @property
    def path(self) -> str:
        return self._log.path

    @property
    def partition(self) -> TopicPartition:
        return self._log.partition

    def start(self) -> int:
        return self._log.info().log_start_offset

    def end(self) -> int:
        return self._log.native.end_offset()

    def limit(self) -> int:
        return self.end()

    def decisions(self) -> Decisions:
        return _LocalDecisions(self._log)

    def offset_for_timestamp(self, timestamp_ms: int) -> int | None:
        found = self._log.offset_for_timestamp(timestamp_ms)
        if found is None:
            return None
        if not self._log.info().producer_count:
            return found.offset
        # It may be the marker of a transaction, whose time says nothing about the records behind it.
        return first_of_time(self, found.offset, timestamp_ms)

    def watch(self) -> Watch:
        return _LocalWatch(self._log, self._appender)


class _LocalDecisions:
    __slots__ = ("_log",)

    def __init__(self, log: Log) -> None:
        self._log = log

    def decide(self) -> tuple[int, list[tuple[int, int, int]]]:
        info = self._log.info()
        decided = min(info.last_stable_offset_limit, info.log_end_offset)
        return decided, self._log.aborted(info.log_start_offset, decided)


class _LocalWatch:
    __slots__ = ("_appender", "_log", "_seen")

    def __init__(self, log: Log, appender: Appender) -> None:
        self._log = log
        self._appender = appender
        self._seen = log.info().log_end_offset

    def wait(self, deadline: float | None, is_written: Callable[[], bool] | None = None) -> bool:
        while True:
            left_ms = _SLICE_MS if deadline is None else int((deadline - time.monotonic()) * 1000 + 1)
            if left_ms <= 0:
                return False
            if self._appender.wait(self._seen, min(left_ms, _SLICE_MS)):
                self._seen = self._log.info().log_end_offset
                return True
            if self._log.closed:
                return False


# -------------------------------------------------------------------------------------------------- anybody's log


class DirectorySource:
    """A log that another process may be writing, or nobody."""

    __slots__ = ("_data_dir", "_partition", "_path")

    def __init__(self, data_dir: str, partition: TopicPartition) -> None:
        self._data_dir = data_dir
        self._partition = partition
        self._path = os.path.join(data_dir, partition.directory_name)

    @property
    def path(self) -> str:
        return self._path

    @property
    def partition(self) -> TopicPartition:
        return self._partition

    def start(self) -> int:
        bases = segment_bases(self._path)
        try:
            noted = OffsetCheckpoint(self._data_dir, LOG_START_OFFSET_FILE).read().get(self._partition, 0)
        except CorruptFileError:
            noted = 0
        return max(bases[0] if bases else 0, noted)

    def end(self) -> int:
        bases = segment_bases(self._path)
        if not bases:
            return 0
        cursor = Cursor(self._path, bases[-1])
        cursor.skip_to_last_index_entry()
        chunks = everything_from(self, cursor.offset)
        for _ in chunks.raw():
            pass
        return chunks.next_offset

    def limit(self) -> int:
        return INT64_MAX

    def decisions(self) -> Decisions:
        return TransactionView(self._path)

    def offset_for_timestamp(self, timestamp_ms: int) -> int | None:
        bases, start = segment_bases(self._path), self.start()
        for base in bases:
            index = TimeIndex(self._path, base)
            if base != bases[-1] and index.count and index.largest < timestamp_ms:
                continue
            return first_of_time(self, max(start, base, index.offset_before(timestamp_ms)), timestamp_ms)
        return None

    def watch(self) -> Watch:
        return _DirectoryWatch(self._path)


class TimeIndex:
    """A .timeindex file, read whole: (timestamp, offset) pairs that rise. What does not rise is not believed."""

    __slots__ = ("_entries", "count")

    _ENTRY_BYTES = 12

    def __init__(self, path: str, base: int) -> None:
        self._entries: list[tuple[int, int]] = []
        try:
            fd = os.open(os.path.join(path, segment_file_name(base, TIME_INDEX_SUFFIX)), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.count = 0
            return
        try:
            self._read(fd, base)
        finally:
            os.close(fd)
        self.count = len(self._entries)

    def _read(self, fd: int, base: int) -> None:
        position = 0
        while data := os.pread(fd, self._ENTRY_BYTES * 4096, position):
            for at in range(0, len(data) - self._ENTRY_BYTES + 1, self._ENTRY_BYTES):
                timestamp = int.from_bytes(data[at : at + 8], "big", signed=True)
                offset = base + int.from_bytes(data[at + 8 : at + 12], "big")
                last = self._entries[-1] if self._entries else (-1, base - 1)
                unused = not any(data[at : at + self._ENTRY_BYTES])
                if unused or timestamp <= last[0] or offset <= last[1]:
                    return
                self._entries.append((timestamp, offset))
            position += len(data)

    @property
    def largest(self) -> int:
        """The largest timestamp noted; -1: none is."""
        return self._entries[-1][0] if self._entries else -1

    def offset_before(self, timestamp_ms: int) -> int:
        """An offset up to which every record is older; -1: none is known."""
        before = [offset for timestamp, offset in self._entries if timestamp < timestamp_ms]
        return before[-1] if before else -1


class _DirectoryWatch:
    """Nobody tells when a file of another process grows: look at it, more rarely the longer nothing happens."""

    __slots__ = ("_path", "_seen")

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._look()

    def _look(self) -> tuple[int, ...]:
        try:
            bases = segment_bases(self._path)
            if not bases:
                return ()
            newest = os.stat(os.path.join(self._path, segment_file_name(bases[-1], ".log")))
        except FileNotFoundError:
            return ()
        return bases[-1], len(bases), newest.st_ino, newest.st_size, newest.st_mtime_ns

    def wait(self, deadline: float | None, is_written: Callable[[], bool] | None = None) -> bool:
        pause_s = _FIRST_POLL_S
        while True:
            seen = self._look()
            if seen != self._seen or (is_written is not None and is_written()):
                self._seen = seen
                return True
            left_s = pause_s if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(pause_s, left_s))  # sleep: a file of another process tells nobody when it grows
            pause_s = min(pause_s * 2, _LONGEST_POLL_S)
