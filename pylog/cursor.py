"""A place in a partition directory from which bytes are read on, whoever writes there.

Keeps true:
- It takes no lock and changes nothing: it may follow a log that another process, ours or Apache Kafka, is writing.
- It goes by offsets, not by files: a segment that was rolled, deleted or replaced by compaction since is looked up
  again by the next offset wanted, and a file that was open stays readable to its end whatever became of its name.
- An index is believed only when the batch it points at is the one it says; else the segment is read from its start.
One thread at a time.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right

from pylog._columns import READ_BYTES, Buffer, room_to_read
from pylog._native import BatchHeader, ShortBatch, read_batch_header
from pylog.errors import KafkaError
from pylog.records import BATCH_OVERHEAD_BYTES
from pylog.segment import INDEX_SUFFIX, LOG_SUFFIX, OFFSET_DIGITS, segment_file_name
from pylog.store_errors import OffsetOutOfRangeError, UnknownTopicError

FIRST_BYTES = 128 << 10
CHUNK_BYTES = READ_BYTES
"""One read. The first is small, for whoever wants one record; each that the file fills makes the next one larger."""

BATCH_LENGTH_AT = 8
_INDEX_ENTRY_BYTES = 8
_TRIES = 16
_LAST = (1 << 63) - 1


def segment_bases(path: str) -> list[int]:
    """Base offsets of the segments in a partition directory, ascending. Raises UnknownTopicError."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise UnknownTopicError(f"{path}: there is no such partition") from None
    return sorted(
        int(name[:OFFSET_DIGITS])
        for name in names
        if name.endswith(LOG_SUFFIX) and len(name) == OFFSET_DIGITS + len(LOG_SUFFIX) and name[:OFFSET_DIGITS].isdigit()
    )


class Cursor:
    """`read` fills `buffer` from `offset` on; `advance` says how much of it was used."""

    __slots__ = ("_base", "_fd", "_memory", "_wanted", "begin", "buffer", "floor_offset", "offset", "path", "position")

    def __init__(self, path: str, offset: int) -> None:
        """path: of the partition directory. Nothing is opened before the first read."""
        self.path = path
        self.offset = offset
        self.floor_offset = 0
        """No batch at the position begins below this."""
        self.position = 0
        self._base = -1
        self._fd = -1
        self.begin = 0
        """Where in `buffer` the bytes of the last read begin."""
        self._wanted = FIRST_BYTES
        self._resize(CHUNK_BYTES)

    def _resize(self, size_bytes: int) -> None:
        self._memory = room_to_read(size_bytes)
        self.buffer = Buffer(self._memory)

    @property
    def file(self) -> str:
        """The path of the .log file it is in."""
        return os.path.join(self.path, segment_file_name(max(self._base, 0), LOG_SUFFIX))

    @property
    def ceiling_offset(self) -> int:
        """No batch of its segment begins here or above: indexes count 31 bits from the base offset."""
        return self._base + (1 << 31)

    def data(self, size_bytes: int) -> memoryview:
        """The first bytes that were read."""
        return self._memory[self.begin : self.begin + size_bytes]

    def read(self) -> int:
        """Bytes now in the buffer: from the first batch that may hold `offset`. 0: the end of what there is.

        Raises OffsetOutOfRangeError when the records at `offset` are gone, UnknownTopicError with the directory.
        """
        while True:
            if self._fd < 0 and not self._locate():
                return 0
            # To the same place in a page as it has in the file: some processors copy to a place a few bytes behind it
            # at a fifth of the speed.
            self.begin = self.position % mmap.PAGESIZE
            size_bytes = os.preadv(self._fd, [self.data(self._wanted)], self.position)
            if size_bytes or not self.follow():
                return size_bytes

    def map(self) -> memoryview:
        """A read-only view of the rest of the file from the first batch that may hold `offset`; empty at the end."""
        if self._fd < 0 and not self._locate():
            return memoryview(b"")
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes <= self.position:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._fd, size_bytes, prot=mmap.PROT_READ))[self.position :]

    def advance(self, used_bytes: int, next_offset: int) -> None:
        """used_bytes of the buffer are done with; next_offset is wanted next."""
        if used_bytes:
            self.position += used_bytes
            self.floor_offset = next_offset
            self._wanted = max(self._wanted, min(2 * used_bytes, CHUNK_BYTES))
        self.offset = max(self.offset, next_offset)

    def make_room(self, size_bytes: int) -> bool:
        """Room in the buffer for a batch of this size; False when there is, or the file has not so much yet."""
        if size_bytes <= self._wanted or os.fstat(self._fd).st_size - self.position < size_bytes:
            return False
        if size_bytes > CHUNK_BYTES:
            self._resize(size_bytes)
        self._wanted = size_bytes
        return True

    def follow(self) -> bool:
        """At the last whole batch of a file: go where the log goes on. False: it does not (yet)."""
        bases = segment_bases(self.path)
        at = bisect_right(bases, self.offset) - 1
        if at < 0:
            if not bases:
                return False
            raise self._gone(bases)
        if bases[at] != self._base or self._was_replaced():
            return self._locate()
        left_bytes = os.fstat(self._fd).st_size - self.position
        if left_bytes < 0:
            raise OffsetOutOfRangeError(f"{self.file} was cut below offset {self.offset}", earliest=bases[0])
        if at + 1 == len(bases):
            return False
        if left_bytes:
            return True
        # The writer had moved on before it was listed, so nothing comes any more: the rest was compacted away.
        self.offset = bases[at + 1]
        return self._locate()

    def is_last(self) -> bool:
        """Whether its file is the newest segment: the one that is being written."""
        bases = segment_bases(self.path)
        return not bases or self._base >= bases[-1]

    def is_written(self) -> bool:
        """Whether a batch begins at the position: its length, which is stored last, is not zero any more."""
        return any(os.pread(self._fd, 4, self.position + BATCH_LENGTH_AT))

    def left_bytes(self) -> int:
        """Bytes of its file from the position on."""
        return os.fstat(self._fd).st_size - self.position

    def _was_replaced(self) -> bool:
        try:
            now = os.stat(self.file)
        except FileNotFoundError:
            return False  # the next listing says what became of it
        here = os.fstat(self._fd)
        return (now.st_ino, now.st_dev) != (here.st_ino, here.st_dev)

    def _gone(self, bases: list[int]) -> OffsetOutOfRangeError:
        return OffsetOutOfRangeError(f"{self.path}: offset {self.offset} is below the log's start", earliest=bases[0])

    def _locate(self) -> bool:
        """Open the segment that holds the offset. False: the directory has none yet."""
        for _ in range(_TRIES):
            bases = segment_bases(self.path)
            at = bisect_right(bases, self.offset) - 1
            if at < 0:
                if not bases:
                    return False
                raise self._gone(bases)
            try:
                fd = os.open(
                    os.path.join(self.path, segment_file_name(bases[at], LOG_SUFFIX)), os.O_RDONLY | os.O_CLOEXEC
                )
            except FileNotFoundError:
                continue  # deleted or swapped since the listing
            self.close()
            self._fd = fd
            self._base = self.floor_offset = bases[at]
            self.position = indexed_position(self.path, fd, self._base, self.offset)
            return True
        raise OSError(f"{self.path}: segments go faster than they can be opened")

    def skip_to_last_index_entry(self) -> None:
        """Begin where the index of the segment that holds `offset` ends, instead of at `offset`."""
        wanted = self.offset
        if not self._locate():
            return
        self.position = indexed_position(self.path, self._fd, self._base, _LAST)
        header = header_at(self._fd, self.position)
        self.offset = wanted if header is None else max(wanted, header.base_offset)

    def restart(self) -> None:
        """Look the offset up again: what is at the position is not what was expected there."""
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class _OffsetIndex:
    """An .index file as a sorted sequence of offsets, read where it is asked. Unused entries are zeros at its end."""

    __slots__ = ("_base", "_fd", "count")

    def __init__(self, fd: int, base: int) -> None:
        self._fd = fd
        self._base = base
        self.count = os.fstat(fd).st_size // _INDEX_ENTRY_BYTES

    def entry(self, i: int) -> tuple[int, int] | None:
        """Last offset and position of the batch of entry i, None for an unused one."""
        data = os.pread(self._fd, _INDEX_ENTRY_BYTES, i * _INDEX_ENTRY_BYTES)
        if len(data) < _INDEX_ENTRY_BYTES or not any(data):
            return None
        return self._base + int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")

    def last_upto(self, offset: int) -> tuple[int, int] | None:
        """The last entry whose offset is at most this."""
        low, high = 0, self.count
        found = None
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if entry is not None and entry[0] <= offset:
                found = entry
                low = middle + 1
            else:
                high = middle
        return found


def indexed_position(path: str, log_fd: int, base: int, offset: int) -> int:
    """Where to begin to read a segment for offset: at a batch that lies at or before it. 0 without a sound index."""
    try:
        fd = os.open(os.path.join(path, segment_file_name(base, INDEX_SUFFIX)), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        entry = _OffsetIndex(fd, base).last_upto(offset)
    finally:
        os.close(fd)
    if entry is None:
        return 0
    header = header_at(log_fd, entry[1])
    if header is None or header.base_offset + header.last_offset_delta != entry[0] or header.base_offset > offset:
        return 0
    return entry[1]


def header_at(log_fd: int, position: int) -> BatchHeader | None:
    """The header at a position of a .log file, None when there is no whole one of format 2 and its batch."""
    data = os.pread(log_fd, BATCH_OVERHEAD_BYTES, position)
    try:
        return read_batch_header(data)
    except ShortBatch as short:
        whole = BATCH_OVERHEAD_BYTES <= short.needed_bytes <= os.fstat(log_fd).st_size - position
        return read_batch_header(os.pread(log_fd, short.needed_bytes, position)) if whole else None
    except KafkaError:
        return None
