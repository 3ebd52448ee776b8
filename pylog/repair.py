"""What a broker's start would do to a partition that was not closed in order: seen beforehand, or done.

Keeps true: planning reads only. A repair is the broker's own (pylog/log.py opens the log), under the directory's lock;
what it is going to cut is copied first, and the copy is durable: `<file>.cut`, which no broker takes for a file of the
log.
"""

from __future__ import annotations

import os
import time

from pylog._native import OpenReport, Sys
from pylog.batch_table import SegmentScan, last_offsets
from pylog.checkpoint import RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.config import LogConfig
from pylog.data_dir import DirectoryLock
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, sync_directory, sync_file, write_all
from pylog.log import open_log
from pylog.partition_files import PartitionFiles, file_size, log_start_offset
from pylog.segment import LOG_SUFFIX
from pylog.types import TopicPartition

CUT_SUFFIX = ".cut"
_COPY_BYTES = 1 << 20


class Cut(NamedTuple):
    """What would go: the rest of one segment, or all of one behind it."""

    path: str
    position: int
    size_bytes: int
    from_offset: int


class RepairPlan(NamedTuple):
    """What opening would find in a partition."""

    checked_from: int
    """Batches of segments that end above this offset are checked."""
    segments: int
    """How many those are; their indexes are built anew."""
    end_offset: int
    """Where the log will end."""
    cuts: list[Cut]


def plan_repair(files: PartitionFiles, *, everything: bool) -> RepairPlan:
    """Read what a start would check. everything: from the first segment, not from the recovery point.

    Raises OSError.
    """
    checked_from = 0 if everything else _recovery_point(files)
    suspects = [
        base
        for base, following in zip(files.bases, (*files.bases[1:], None), strict=True)
        if following is None or following > checked_from
    ]
    end = files.bases[0] if files.bases else 0
    cuts: list[Cut] = []
    for base in suspects:
        path = files.file(base, LOG_SUFFIX)
        if cuts:
            cuts.append(Cut(path, 0, file_size(path), base))
            continue
        end, good, size = _sound_part(path, base)
        if good < size:
            cuts.append(Cut(path, good, size - good, end))
    return RepairPlan(checked_from, len(suspects), end, cuts)


def _sound_part(path: str, base: int) -> tuple[int, int, int]:
    """Of a segment: one past the last offset and where the first damaged batch begins; its size."""
    end = base
    with SegmentScan(path, check_crc=True) as scan:
        for table in scan.tables():
            first, last = table["base_offset"], last_offsets(table)
            for row in range(len(table)):
                if not table["crc_ok"][row] or first[row] < end:
                    return end, int(table["position"][row]), scan.size_bytes
                end = int(last[row]) + 1
        return end, scan.end, scan.size_bytes


def _recovery_point(files: PartitionFiles) -> int:
    try:
        points = OffsetCheckpoint(files.data_directory, RECOVERY_POINT_FILE).read()
    except CorruptFileError:
        return 0
    partition = files.partition
    return points.get(partition, 0) if partition is not None else 0


class Repair:
    """Repairs in one data directory; holds its lock until `close`."""

    __slots__ = ("_data_directory", "_lock", "_sys")

    def __init__(self, data_directory: str) -> None:
        """Raises DirectoryInUse, OSError."""
        self._data_directory = data_directory
        self._lock = DirectoryLock(data_directory)
        self._sys = Sys()

    def close(self) -> None:
        self._sys.close()
        self._lock.release()

    def partition(self, files: PartitionFiles, plan: RepairPlan) -> tuple[OpenReport, list[str]]:
        """Do what the plan says; what opening reports, and the copies made.

        Raises KafkaError, OSError, ValueError for a directory that is no partition's.
        """
        partition = files.partition
        if partition is None:
            raise ValueError(f"{files.path} is not named <topic>-<number>")
        copies = [_copy(cut) for cut in plan.cuts]
        if copies:
            sync_directory(files.path)
        log = open_log(
            self._sys,
            partition,
            files.path,
            config=LogConfig(),
            recovery_point=plan.checked_from,
            log_start=log_start_offset(files),
            clean=False,
            now_ms=time.monotonic_ns() // 1_000_000,
            wall_ms=time.time_ns() // 1_000_000,
        )
        report, end = log.open_report, log.info().log_end_offset
        log.close(clean=True)
        self._note_recovery_point(partition, end)
        return report, copies

    def _note_recovery_point(self, partition: TopicPartition, end: int) -> None:
        """All of it has been checked and is durable; and it may have become shorter than the checkpoint says."""
        checkpoint = OffsetCheckpoint(self._data_directory, RECOVERY_POINT_FILE)
        try:
            points = checkpoint.read()
        except CorruptFileError:
            return  # without it a start checks everything
        checkpoint.write(points | {partition: end})


def _copy(cut: Cut) -> str:
    target = cut.path + CUT_SUFFIX
    if os.path.exists(target):
        target = f"{cut.path}.{time.time_ns()}{CUT_SUFFIX}"
    source = os.open(cut.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            at = cut.position
            while piece := os.pread(source, _COPY_BYTES, at):
                write_all(copy, piece)
                at += len(piece)
        finally:
            os.close(copy)
    finally:
        os.close(source)
    sync_file(target)
    return target
