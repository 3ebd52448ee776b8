"""Following the tail of a partition that another process writes.

Keeps true: nothing is locked or written; only whole batches with a right CRC are given, in offset order, each once.
What a writer is in the midst of is waited for. Rolls, deletions, truncations and compactions by the writer are
followed: the position is an offset, found again in whatever segments there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pylog.batch_table import SegmentScan, Table, last_offsets
from pylog.finding import Finding
from pylog.partition_files import PartitionFiles, partition_files
from pylog.records import RecordBatch, batches
from pylog.segment import LOG_SUFFIX


class LogFollower:
    """A reader at the tail of one partition. One thread; `close` it."""

    __slots__ = ("_base", "_path", "_position", "_scan", "damage", "offset")

    def __init__(self, path: str, offset: int) -> None:
        """path: the partition's directory. offset: where to read on."""
        self._path = path
        self._scan: SegmentScan | None = None
        self._base = 0
        self._position = 0
        self.offset = offset
        """Behind the last batch given. It falls when the writer truncates the log."""
        self.damage: list[Finding] = []
        """Batches with a wrong CRC that were passed over, for whole ones follow."""

    def close(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None

    def poll(self) -> Iterator[RecordBatch]:
        """What is new; ends where the log does. Raises OSError, FileNotFoundError when the partition is gone."""
        while True:
            if self._scan is None and not self._open():
                return
            yield from self._rest_of_segment()
            if not self._next_segment():
                return

    # ---------------------------------------------------------------------------------- finding the place

    def _open(self) -> bool:
        """Open the segment that holds the offset, or the first behind it."""
        files = partition_files(self._path)
        for base in sorted(files.bases, key=lambda base: (base > self.offset, abs(base - self.offset))):
            if self._open_segment(files, base):
                return True
        return False

    def _open_segment(self, files: PartitionFiles, base: int) -> bool:
        try:
            scan = SegmentScan(files.file(base, LOG_SUFFIX), check_crc=True)
        except FileNotFoundError:
            return False  # removed since it was listed
        self.close()
        self._scan, self._base, self._position = scan, base, 0
        self.offset = max(self.offset, base)
        return True

    def _next_segment(self) -> bool:
        """Go on to what follows the present segment, if the writer has rolled; whether there is more to read."""
        assert self._scan is not None
        files = partition_files(self._path)
        newer = [base for base in files.bases if base > self._base]
        try:
            replaced = os.stat(files.file(self._base, LOG_SUFFIX)).st_ino != self._scan.inode
        except FileNotFoundError:
            replaced = True
        if not newer and not replaced:
            return False
        self._scan.refresh()
        if self._scan.size_bytes > self._position and any(True for _ in self._scan.tables(self._position)):
            return True  # what came between reading and rolling
        if newer:
            return self._open_segment(files, min(newer))
        self.close()
        return bool(files.bases)

    # ---------------------------------------------------------------------------------- reading

    def _rest_of_segment(self) -> Iterator[RecordBatch]:
        scan = self._scan
        assert scan is not None
        scan.refresh()
        if scan.size_bytes < self._position:
            self._position = 0
            self.offset = self._end_of(scan)  # truncated: what is behind will be written anew
            self._position = scan.end
            return
        for table in scan.tables(self._position):
            for row in range(len(table)):
                last = int(last_offsets(table[row : row + 1])[0])
                if not table["crc_ok"][row]:
                    if row + 1 == len(table) and scan.end >= scan.size_bytes:
                        return  # perhaps its bytes are still on their way
                    self._tell(scan, table, row, last)
                elif last >= self.offset:
                    at, size = int(table["position"][row]), int(table["size_bytes"][row])
                    self.offset = last + 1
                    self._position = at + size
                    yield from batches(scan.read(at, size))
                    continue
                self._position = int(table["position"][row]) + int(table["size_bytes"][row])

    def _tell(self, scan: SegmentScan, table: Table, row: int, last: int) -> None:
        first, position = int(table["base_offset"][row]), int(table["position"][row])
        if last >= self.offset:
            self.damage.append(Finding(scan.path, "the CRC is wrong", position, first, last))

    def _end_of(self, scan: SegmentScan) -> int:
        end = self._base
        for table in scan.tables():
            end = int(last_offsets(table)[-1]) + 1
        return min(end, self.offset)
