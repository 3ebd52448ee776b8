"""What a partition holds, from the outside: offsets, segments, bytes, times. Read only, and little of it.

Keeps true: only headers behind the last index entry of the last segment are read, and of segments without a time index;
what an index says is believed only where a batch confirms it.
"""

from __future__ import annotations

import os

from pylog.batch_table import SegmentScan, last_offsets
from pylog.facts import NamedTuple
from pylog.partition_files import PartitionFiles, file_size, log_start_offset, read_preallocated
from pylog.records import DELETE_HORIZON
from pylog.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX

NO_TIME = -1
_OFFSET_ENTRY_BYTES = 8
_TIME_ENTRY_BYTES = 12


class LogSummary(NamedTuple):
    """Times are those of records, ms, NO_TIME where there is none. size_bytes: of the .log files."""

    log_start_offset: int
    log_end_offset: int
    segments: int
    size_bytes: int
    first_timestamp: int
    last_timestamp: int


def summarize(files: PartitionFiles) -> LogSummary:
    """Raises OSError."""
    start = log_start_offset(files)
    if not files.bases:
        return LogSummary(start, start, 0, 0, NO_TIME, NO_TIME)
    end, newest = _tail(files, files.bases[-1])
    times = [newest, *(_largest_timestamp(files, base) for base in files.bases[:-1])]
    size = sum(file_size(files.file(base, LOG_SUFFIX)) for base in files.bases)
    return LogSummary(start, max(end, start), len(files.bases), size, _first_timestamp(files), max(times))


def _tail(files: PartitionFiles, base: int) -> tuple[int, int]:
    """One past the last offset of a segment, and its largest timestamp."""
    end, newest = base, _last_time_entry(files, base)
    with SegmentScan(files.file(base, LOG_SUFFIX), check_crc=False) as scan:
        position = _last_indexed_position(files, base, scan)
        for table in scan.tables(position):
            end = int(last_offsets(table)[-1]) + 1
            newest = max(newest, int(table["max_timestamp"].max()))
    return end, newest


def _last_indexed_position(files: PartitionFiles, base: int, scan: SegmentScan) -> int:
    """Of the last entry whose batch is there; 0 when there is none."""
    data, _ = read_preallocated(files.file(base, INDEX_SUFFIX)) or (b"", 0)
    at = (len(data) - 1) // _OFFSET_ENTRY_BYTES * _OFFSET_ENTRY_BYTES if data else -1
    if at < 0:
        return 0
    entry = data[at:].ljust(_OFFSET_ENTRY_BYTES, b"\0")
    position = int.from_bytes(entry[4:], "big")
    table = next(scan.tables(position), None) if position < scan.size_bytes else None
    if table is None or base + int.from_bytes(entry[:4], "big") not in last_offsets(table):
        return 0
    return position


def _largest_timestamp(files: PartitionFiles, base: int) -> int:
    """Of a closed segment: the last entry of its time index, else what its batches say."""
    indexed = _last_time_entry(files, base)
    if indexed != NO_TIME:
        return indexed
    largest = NO_TIME
    with SegmentScan(files.file(base, LOG_SUFFIX), check_crc=False) as scan:
        for table in scan.tables():
            largest = max(largest, int(table["max_timestamp"].max()))
    return largest


def _last_time_entry(files: PartitionFiles, base: int) -> int:
    data, _ = read_preallocated(files.file(base, TIME_INDEX_SUFFIX)) or (b"", 0)
    if not data:
        return NO_TIME
    at = (len(data) - 1) // _TIME_ENTRY_BYTES * _TIME_ENTRY_BYTES
    return int.from_bytes(data[at:].ljust(_TIME_ENTRY_BYTES, b"\0")[:8], "big", signed=True)


def _first_timestamp(files: PartitionFiles) -> int:
    """Of the first batch there is."""
    for base in files.bases:
        path = files.file(base, LOG_SUFFIX)
        if not os.path.getsize(path):
            continue
        with SegmentScan(path, check_crc=False) as scan:
            table = next(scan.tables(), None)
        if table is not None:
            horizon = table["attributes"][0] & DELETE_HORIZON
            return int(table["max_timestamp" if horizon else "base_timestamp"][0])
    return NO_TIME
