"""Verifying .index, .timeindex and .txnindex of a segment against its batches.

An index has no checksum, but it is derived: an entry must be one that an index built from these batches could have.
- offset index: position and last offset of one batch, both rising. A follower of Kafka before 4.1 notes the last offset
  of all that it fetched at once beside the position where that begins: allowed, for look-ups stay right;
- time index: the largest timestamp so far and the last offset of the batch that brought it; old leaders note the record
  itself. A segment that is closed ends with its largest timestamp;
- transaction index: exactly the aborted transactions whose marker is in the segment;
- behind the entries there is nothing but the zeros of the preallocation.

The two allowed deviations would let a flipped bit through. So one that stands alone in its file, and is one bit away
from what the batches say, is a finding. Left out entries are not found: an index may be sparser.

Keeps true: reads only; says nothing of entries for batches that are behind the end of what was scanned, as a running
broker adds them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from pylog.batch_table import Int64s
from pylog.errors import KafkaError
from pylog.files import CorruptFileError, read_file
from pylog.finding import Finding
from pylog.partition_files import read_preallocated
from pylog.records import file_batches
from pylog.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX, segment_file_name
from pylog.transaction_index import AbortedTransaction, decode_transaction_index
from pylog.verify_log import NO_TIMESTAMP, SegmentTable

_OFFSET_ENTRY = np.dtype([("offset", ">i4"), ("position", ">i4")])
_TIME_ENTRY = np.dtype([("timestamp", ">i8"), ("offset", ">i4")])


class SegmentIndexes:
    """The index files of one segment, read before its log: what the log has more is newer."""

    __slots__ = ("_base", "_directory", "_offsets", "_times", "_transactions", "findings")

    def __init__(self, directory: str, base_offset: int) -> None:
        """Raises OSError."""
        self._directory = directory
        self._base = base_offset
        self._offsets = read_preallocated(self._path(INDEX_SUFFIX))
        self._times = read_preallocated(self._path(TIME_INDEX_SUFFIX))
        self._transactions = read_file(self._path(TRANSACTION_INDEX_SUFFIX))
        self.findings: list[Finding] = []

    def _path(self, suffix: str) -> str:
        return os.path.join(self._directory, segment_file_name(self._base, suffix))

    def check(self, table: SegmentTable, *, closed: bool) -> list[Finding]:
        """closed: a later segment follows, so nothing is added any more."""
        if self._offsets is not None:
            self._check_offsets(*self._offsets, table)
        if self._times is not None:
            self._check_times(*self._times, table, closed=closed)
        return self.findings

    def _find(self, suffix: str, number: int, entry_bytes: int, what: str, offset: int | None = None) -> None:
        self.findings.append(
            Finding(self._path(suffix), f"entry {number}: {what}", number * entry_bytes, offset, offset)
        )

    def _entries(self, data: bytes, size_bytes: int, kind: np.dtype[np.void], suffix: str) -> np.ndarray:
        """The entries in front of the preallocated zeros. data: the file without those."""
        torn = size_bytes % kind.itemsize
        if torn:
            what = f"{torn} bytes of an entry of {kind.itemsize}"
            self.findings.append(Finding(self._path(suffix), what, size_bytes - torn))
        count = min(-(-len(data) // kind.itemsize), size_bytes // kind.itemsize)
        return np.frombuffer(data.ljust(count * kind.itemsize, b"\0"), kind, count=count)

    # ---------------------------------------------------------------------------------- .index

    def _check_offsets(self, data: bytes, size_bytes: int, table: SegmentTable) -> None:
        entries = self._entries(data, size_bytes, _OFFSET_ENTRY, INDEX_SUFFIX)
        relative, positions = entries["offset"].astype(np.int64), entries["position"].astype(np.int64)
        offsets = relative + self._base
        row = np.searchsorted(table.positions, positions)
        at_batch = _equal_at(table.positions, row, positions)
        exact = at_batch & _equal_at(table.last_offsets, row, offsets) & (row > 0)
        rising = (np.diff(relative, prepend=-1) > 0) & (np.diff(positions, prepend=-1) > 0)
        followers: list[int] = []
        for number in np.flatnonzero(~exact | ~rising).tolist():
            until = positions[number + 1] if number + 1 < len(positions) else table.end
            if rising[number] and at_batch[number] and self._by_follower(table, offsets[number], row[number], until):
                followers.append(number)
                continue
            what = f"offset {offsets[number]} at position {positions[number]}, where "
            if not rising[number]:
                what += "both must be above those of the entry before"
            elif at_batch[number]:
                what += f"a batch ends at offset {table.last_offsets[row[number]]}"
            else:
                what += "no batch begins"
            self._find(INDEX_SUFFIX, number, _OFFSET_ENTRY.itemsize, what, int(offsets[number]))
        if len(followers) == 1:
            number = followers[0]
            was_last = int(table.last_offsets[row[number]]) - self._base
            other = int(np.searchsorted(table.last_offsets, offsets[number]))
            if _one_bit(int(relative[number]), was_last) or _one_bit(
                int(positions[number]), int(table.positions[other])
            ):
                what = f"offset {offsets[number]} at position {positions[number]}, where a batch ends at offset "
                what += f"{was_last + self._base}"
                self._find(INDEX_SUFFIX, number, _OFFSET_ENTRY.itemsize, what, int(offsets[number]))

    @staticmethod
    def _by_follower(table: SegmentTable, offset: int, row: int, until: int) -> bool:
        """Whether a batch from row on, in front of the position until, ends with this offset."""
        other = int(np.searchsorted(table.last_offsets, offset))
        return (
            row < other < len(table.last_offsets)
            and int(table.last_offsets[other]) == offset
            and int(table.positions[other]) < until
        )

    # ---------------------------------------------------------------------------------- .timeindex

    def _check_times(self, data: bytes, size_bytes: int, table: SegmentTable, *, closed: bool) -> None:
        entries = self._entries(data, size_bytes, _TIME_ENTRY, TIME_INDEX_SUFFIX)
        times, relative = entries["timestamp"].astype(np.int64), entries["offset"].astype(np.int64)
        offsets = relative + self._base
        row = np.searchsorted(table.last_offsets, offsets)
        there = (row < len(table.last_offsets)) & (relative >= 0)
        safe = np.where(there, row, 0)
        largest = np.maximum.accumulate(table.max_timestamps) if len(table.max_timestamps) else table.max_timestamps
        records: list[int] = []
        for number in range(len(entries)):
            offset, timestamp = int(offsets[number]), int(times[number])
            if number and (times[number] <= times[number - 1] or relative[number] <= relative[number - 1]):
                what = f"timestamp {timestamp} of offset {offset}, where both must be above those of the entry before"
            elif not there[number] or offset < table.first_offsets[row[number]]:
                what = f"timestamp {timestamp} of offset {offset}, which is in no batch"
            elif table.max_timestamps[row[number]] != timestamp:
                what = f"timestamp {timestamp} of offset {offset}, whose batch has {table.max_timestamps[row[number]]}"
            elif row[number] and largest[safe[number] - 1] >= timestamp:
                what = f"timestamp {timestamp} of offset {offset}, after {largest[safe[number] - 1]}"
            elif offset == table.last_offsets[row[number]]:
                continue
            elif self._is_first_of_its_time(int(table.positions[row[number]]), offset, timestamp):
                records.append(number)
                continue
            else:
                what = f"timestamp {timestamp} of offset {offset}, which has another"
            self._find(TIME_INDEX_SUFFIX, number, _TIME_ENTRY.itemsize, what, offset)
        if len(records) == 1:
            number = records[0]
            last = int(table.last_offsets[row[number]])
            if _one_bit(int(relative[number]), last - self._base):
                what = f"offset {offsets[number]}, where a batch ends at offset {last}"
                self._find(TIME_INDEX_SUFFIX, number, _TIME_ENTRY.itemsize, what, int(offsets[number]))
        if closed and not self.findings and table.max_timestamp() > max(times.max(initial=NO_TIMESTAMP), 0):
            what = f"ends before the segment's largest timestamp {table.max_timestamp()}"
            self.findings.append(Finding(self._path(TIME_INDEX_SUFFIX), what, len(entries) * _TIME_ENTRY.itemsize))

    def _is_first_of_its_time(self, position: int, offset: int, timestamp: int) -> bool:
        try:
            _, batch = next(file_batches(self._path(LOG_SUFFIX), position))
            return next((r.offset for r in batch.records() if r.timestamp == timestamp), None) == offset
        except (KafkaError, StopIteration, ValueError):
            return True  # the batch is damaged, and told of as such

    # ---------------------------------------------------------------------------------- .txnindex

    def check_transactions(
        self, aborted: Sequence[AbortedTransaction], *, exact: bool, growing: bool, first_base: int
    ) -> list[Finding]:
        """aborted: what the batches say; its first offset is -1 where the transaction began before first_base, the
        beginning of the log. exact: all transactions that were open there are known, and no compaction has taken
        records of others away. growing: entries for the newest may not have been there yet."""
        path = self._path(TRANSACTION_INDEX_SUFFIX)
        try:
            entries = decode_transaction_index(self._transactions or b"", path)
        except CorruptFileError as error:
            return [Finding(path, f"entry {error.line - 1}: {error.what}", (error.line - 1) * 34)]
        found: list[Finding] = []
        expected = {one.last_offset: one for one in aborted}
        for number, entry in enumerate(entries):
            one = expected.pop(entry.last_offset, None)
            if one is None:
                if exact and entry.first_offset != entry.last_offset:
                    found.append(_transaction(path, number, entry, "no abort marker is there"))
                elif entry.first_offset > entry.last_offset or entry.last_stable_offset > entry.last_offset + 1:
                    found.append(_transaction(path, number, entry, "its offsets are out of order"))
                continue
            what = _difference(entry, one, exact=exact, first_base=first_base)
            if what is not None:
                found.append(_transaction(path, number, entry, what))
        if exact and not growing:
            found += [
                Finding(
                    path, f"the aborted transaction of producer {one.producer_id} is missing", None, one.last_offset
                )
                for one in expected.values()
            ]
        return found


def _difference(entry: AbortedTransaction, one: AbortedTransaction, *, exact: bool, first_base: int) -> str | None:
    if entry.producer_id != one.producer_id:
        return f"the abort marker is of producer {one.producer_id}"
    if one.first_offset >= 0 and entry.first_offset != one.first_offset and exact:
        return f"it began at offset {one.first_offset}"
    if (one.first_offset < 0 and not 0 <= entry.first_offset < first_base) or entry.first_offset > entry.last_offset:
        return f"it began below offset {first_base}"
    if exact and one.first_offset >= 0 and entry.last_stable_offset != one.last_stable_offset:
        return f"the last stable offset was {one.last_stable_offset}"
    if entry.last_stable_offset > entry.last_offset + 1:
        return "its last stable offset is behind its end"
    return None


def _transaction(path: str, number: int, entry: AbortedTransaction, what: str) -> Finding:
    says = f"producer {entry.producer_id}, offsets {entry.first_offset} to {entry.last_offset}"
    return Finding(
        path, f"entry {number}: {says}, last stable {entry.last_stable_offset}: {what}", number * 34, entry.last_offset
    )


def _equal_at(column: Int64s, row: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where column[row] is wanted; nowhere behind its end."""
    if not len(column):
        return np.zeros(len(row), np.bool_)
    inside: np.ndarray = row < len(column)
    found: np.ndarray = inside & (column[np.where(inside, row, 0)] == wanted)
    return found


def _one_bit(a: int, b: int) -> bool:
    return (a ^ b).bit_count() == 1
