"""The batches of a .log file as NumPy tables: one row for each, a crossing into C for thousands of them.

Keeps true: only whole batches are rows; a scan ends before the first bytes that are none. The file may grow meanwhile:
what is behind its size at the beginning is not looked at. Messages of formats 0 and 1 are rows too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from pylog._native import scan_batches, scanned_fields
from pylog.old_format import OldBatch, is_old, old_batch, old_size
from pylog.records import BATCH_OVERHEAD_BYTES
from pylog.typed import TypeAlias

_FIELDS, _ROW_BYTES = scanned_fields()
ROW = np.dtype(
    {
        "names": [name for name, _, _ in _FIELDS],
        "formats": [kind for _, kind, _ in _FIELDS],
        "offsets": [at for _, _, at in _FIELDS],
        "itemsize": _ROW_BYTES,
    }
)
"""One batch: its header's fields by their names in BatchHeader, `position` in the file, and `crc_ok`."""

Table: TypeAlias = npt.NDArray[np.void]
Int64s: TypeAlias = npt.NDArray[np.int64]

_CHUNK_BYTES = 4 << 20
_CHUNK_ROWS = _CHUNK_BYTES // BATCH_OVERHEAD_BYTES


def last_offsets(table: Table) -> Int64s:
    """The last offset of each batch."""
    last: Int64s = table["base_offset"] + table["last_offset_delta"]
    return last


class SegmentScan:
    """One .log file being read. One thread; `close` it."""

    __slots__ = ("_buffer", "_check_crc", "_fd", "_progress", "_rows", "end", "inode", "path", "size_bytes")

    def __init__(self, path: str, *, check_crc: bool, progress: Callable[[int], None] | None = None) -> None:
        """progress: told the bytes of every piece that is done. Raises OSError."""
        self.path = path
        self._check_crc = check_crc
        self._progress = progress
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        self.size_bytes = found.st_size
        self.inode = found.st_ino
        self.end = 0
        """Where the last scan ended: at the size when all of it is batches."""
        self._make_room()

    def _make_room(self) -> None:
        """As much as the file may need: a small one has a small buffer."""
        self._buffer = bytearray(min(_CHUNK_BYTES, max(self.size_bytes, 1)))
        self._rows = np.empty(min(_CHUNK_ROWS, len(self._buffer) // BATCH_OVERHEAD_BYTES + 1), ROW)

    def __enter__(self) -> SegmentScan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Once."""
        os.close(self._fd)

    def read(self, position: int, size_bytes: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        return os.pread(self._fd, size_bytes, position)

    def refresh(self) -> bool:
        """Take up the file's present size; whether it has grown."""
        before, self.size_bytes = self.size_bytes, os.fstat(self._fd).st_size
        if len(self._buffer) < min(_CHUNK_BYTES, self.size_bytes):
            self._make_room()
        return self.size_bytes > before

    def tables(self, position: int = 0) -> Iterator[Table]:
        """The batches from position on, some at a time, up to the first thing that is none. Raises OSError."""
        self.end = position
        while self.end < self.size_bytes:
            filled = self._fill()
            scanned = scan_batches(self._buffer, filled, self._rows, check_crc=self._check_crc)
            if scanned.batches:
                table = self._rows[: scanned.batches].copy()
                table["position"] += self.end
                self._advance(scanned.used_bytes)
                yield table
                continue
            old = self._old_messages(filled)
            if old is not None:
                yield old
            elif not len(self._buffer) < scanned.needed_bytes <= self.size_bytes - self.end:
                return
            else:
                self._buffer = bytearray(scanned.needed_bytes)

    def _fill(self) -> int:
        """Read what lies at `end` into the buffer; how much it was. A file that was cut meanwhile ends there."""
        wanted = min(len(self._buffer), self.size_bytes - self.end)
        filled = 0
        while filled < wanted:
            got = os.preadv(self._fd, [memoryview(self._buffer)[filled:wanted]], self.end + filled)
            if got == 0:
                self.size_bytes = self.end + filled
                break
            filled += got
        return filled

    def _advance(self, size_bytes: int) -> None:
        self.end += size_bytes
        if self._progress is not None:
            self._progress(size_bytes)

    def _old_messages(self, filled: int) -> Table | None:
        """Rows for the messages of formats 0 and 1 in the buffer, None when it does not begin with one."""
        found: list[tuple[int, OldBatch]] = []
        at = 0
        while is_old(head := bytes(self._buffer[at : min(at + BATCH_OVERHEAD_BYTES, filled)])):
            size = old_size(head)
            if size is None or size > self.size_bytes - self.end - at:
                break
            data = bytes(self._buffer[at : at + size]) if at + size <= filled else self.read(self.end + at, size)
            found.append((at, old_batch(data)))
            at += size
            if at >= filled:
                break
        if not found:
            return None
        table = np.zeros(len(found), ROW)
        for row, (position, batch) in zip(table, found, strict=True):
            for name, value in batch.header._asdict().items():
                row[name] = value
            row["position"] = self.end + position
            row["crc_ok"] = batch.check()
        self._advance(at)
        return table
