"""The whole, undamaged batches of a partition one after the other, for who reads much of it: statistics, exports.

Keeps true: a batch whose CRC is wrong is told and left out, and so are bytes that are none; offsets rise. Read only; a
segment that a running broker removes meanwhile is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pylog.batch_table import SegmentScan, Table, last_offsets
from pylog.finding import Finding
from pylog.partition_files import PartitionFiles
from pylog.records import RecordBatch, batches
from pylog.segment import LOG_SUFFIX


class BatchWalk:
    """One walk through a partition."""

    __slots__ = ("_files", "_from_offset", "_from_time", "_progress", "damage")

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
        self._files = files
        self._from_offset = from_offset
        self._from_time = from_time
        self._progress = progress
        self.damage: list[Finding] = []
        """What had to be left out."""

    def batches(self) -> Iterator[RecordBatch]:
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
                    self.damage.append(Finding(path, "the rest of the segment is no batch", scan.end, None))

    def _of_table(self, scan: SegmentScan, table: Table) -> Iterator[RecordBatch]:
        wanted = last_offsets(table) >= self._from_offset
        if self._from_time is not None:
            wanted &= table["max_timestamp"] >= self._from_time
        sound = table["crc_ok"] == 1
        for row in np.flatnonzero(wanted & ~sound).tolist():
            first, last = int(table["base_offset"][row]), int(last_offsets(table)[row])
            self.damage.append(Finding(scan.path, "the CRC is wrong", int(table["position"][row]), first, last))
        rows = np.flatnonzero(wanted & sound)
        if not len(rows):
            return
        begin = int(table["position"][rows[0]])
        end = int(table["position"][rows[-1]]) + int(table["size_bytes"][rows[-1]])
        data = memoryview(scan.read(begin, end - begin))
        for at, size in zip(
            (table["position"][rows] - begin).tolist(), table["size_bytes"][rows].tolist(), strict=True
        ):
            yield from batches(data[at : at + size])
