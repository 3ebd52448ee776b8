"""All of a partition's records, some thousands of batches at a time: for who reads much of it, statistics and exports.

Keeps true: a batch whose CRC is wrong is told and left out, and so are bytes that are none; offsets rise. Read only; a
segment that a running broker removes meanwhile is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pylog._columns import USED_UP, Buffer, Decoded, Decoder
from pylog._native import read_batch_header
from pylog.batch_table import SegmentScan, Table, last_offsets
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.finding import Finding
from pylog.old_chunk import as_batches
from pylog.partition_files import PartitionFiles
from pylog.segment import LOG_SUFFIX


class Span(NamedTuple):
    """Undamaged batches that follow one another in a segment, all of format 2 or all older."""

    path: str
    rows: Table
    data: memoryview
    """Their bytes; the first row's position is where they begin in the file."""

    def batch(self, row: int) -> memoryview:
        """The bytes of one of them."""
        at = int(self.rows["position"][row] - self.rows["position"][0])
        return self.data[at : at + int(self.rows["size_bytes"][row])]


class BatchWalk:
    """One walk through a partition. One thread."""

    __slots__ = ("_decoder", "_files", "_from_offset", "_from_time", "_progress", "damage")

    def __init__(
        self,
        files: PartitionFiles,
        *,
        from_offset: int = 0,
        from_time: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Batches that end below from_offset, or whose records are all older than from_time (ms), are left out.

        progress: told the bytes of each piece that is done.
        """
        self._decoder = Decoder()
        self._files = files
        self._from_offset = from_offset
        self._from_time = from_time
        self._progress = progress
        self.damage: list[Finding] = []
        """What had to be left out."""

    def spans(self) -> Iterator[Span]:
        """Raises OSError."""
        bases = self._files.bases
        for base, following in zip(bases, (*bases[1:], None), strict=True):
            path = self._files.file(base, LOG_SUFFIX)
            if following is not None and following <= self._from_offset:
                continue
            try:
                scan = SegmentScan(path, check_crc=True, progress=self._progress)
            except FileNotFoundError:
                continue
            with scan:
                for table in scan.tables():
                    yield from self._of_table(scan, table)
                if scan.end < scan.size_bytes and following is not None:
                    self.damage.append(Finding(path, "the rest of the segment is no batch", scan.end))

    def _of_table(self, scan: SegmentScan, table: Table) -> Iterator[Span]:
        wanted = last_offsets(table) >= self._from_offset
        if self._from_time is not None:
            wanted &= table["max_timestamp"] >= self._from_time
        sound = table["crc_ok"] == 1
        for row in np.flatnonzero(wanted & ~sound).tolist():
            self._tell(scan.path, table, row, "the CRC is wrong")
        rows = np.flatnonzero(wanted & sound)
        if not len(rows):
            return
        old = table["magic"][rows] < 2
        for run in np.split(rows, np.flatnonzero((np.diff(rows) > 1) | (np.diff(old) != 0)) + 1):
            part = table[run]
            begin = int(part["position"][0])
            end = int(part["position"][-1]) + int(part["size_bytes"][-1])
            yield Span(scan.path, part, memoryview(scan.read(begin, end - begin)))

    def _tell(self, path: str, table: Table, row: int, what: str) -> None:
        first, last = int(table["base_offset"][row]), int(last_offsets(table)[row])
        self.damage.append(Finding(path, what, int(table["position"][row]), first, last))

    def records(self, span: Span) -> Iterator[Decoded]:
        """The records of a span from from_offset on, control batches left out."""
        data = span.data if span.rows["magic"][0] >= 2 else self._as_new(span)
        position, at = int(span.rows["position"][0]), 0
        while at < len(data):
            decoded = self._decoder.decode(Buffer(data[at:]), len(data) - at, from_offset=self._from_offset)
            at += decoded.used_bytes
            if decoded.count:
                yield decoded
            if decoded.stopped == USED_UP:
                return
            header = read_batch_header(data[at:])
            first, last = header.base_offset, header.base_offset + header.last_offset_delta
            self.damage.append(Finding(span.path, "its records cannot be read", position + at, first, last))
            at += header.size_bytes

    def _as_new(self, span: Span) -> memoryview:
        """Messages of formats 0 and 1 as batches of format 2."""
        made: list[bytes] = []
        for row in range(len(span.rows)):
            try:
                made.append(as_batches(span.batch(row))[0])
            except KafkaError as error:
                self._tell(span.path, span.rows, row, f"its records cannot be read: {error.message}")
        return memoryview(b"".join(made))
