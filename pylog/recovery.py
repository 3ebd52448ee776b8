"""Opening all logs of a data directory, after a clean stop or a crash.

Keeps true: whether a directory was closed in order is known before its first log is opened, and the marker that says so
is gone, durably, by then. After a crash every log is checked from its recovery point on, its torn tail cut, and what is
derived is rebuilt. A checkpoint that cannot be read costs time, never records. One log that cannot be opened fails the
directory: half a directory would look like lost partitions.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from pylog._native import Sys
from pylog.checkpoint import LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.clock import Clock
from pylog.config import LogConfig
from pylog.data_dir import list_partition_directories, take_clean_shutdown_marker
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError
from pylog.log import Log, open_log
from pylog.logger import Logger
from pylog.typed import TypeVar
from pylog.types import TopicPartition


class LoadedDirectory(NamedTuple):
    """What a data directory holds."""

    directory: str
    clean: bool
    logs: list[Log]
    future: list[Log]
    """Copies that AlterReplicaLogDirs was building here."""
    condemned: list[str]
    """Directories renamed for deletion, still to be removed."""
    elapsed_ms: int


class _Job(NamedTuple):
    partition: TopicPartition
    path: str
    future: bool


def load_directory(
    directory: str, *, sys: Sys, clock: Clock, config_of: Callable[[str], LogConfig], threads: int
) -> LoadedDirectory:
    """Open every log below directory. Raises OSError, KafkaError; then nothing of it stays open.

    config_of: the settings of a topic. threads: num.recovery.threads.per.data.dir.
    """
    began = clock.monotonic_ms()
    log = Logger(f"LogDir {directory}")
    # The logs may differ from the checkpoints from the first append on: read them while nothing runs.
    recovery_points = _read_checkpoint(directory, RECOVERY_POINT_FILE, "every segment is checked", log)
    log_starts = _read_checkpoint(directory, LOG_START_OFFSET_FILE, "logs begin at their first segment", log)
    clean = take_clean_shutdown_marker(directory)
    found = list_partition_directories(directory)
    for path in found.strange:
        log.warn("not a partition's directory, left alone", name=os.path.basename(path))
    jobs = deque(_Job(partition, path, False) for partition, path in found.current)
    jobs.extend(_Job(partition, path, True) for partition, path in found.future)
    if jobs and not clean:
        log.info("recovery of all logs, for the directory was not closed in order", logs=len(jobs))
    opened: list[tuple[_Job, Log]] = []

    def open_one(job: _Job) -> None:
        one = open_log(
            sys,
            job.partition,
            job.path,
            config=config_of(job.partition.topic),
            recovery_point=recovery_points.get(job.partition, 0),
            log_start=log_starts.get(job.partition, 0),
            clean=clean,
            now_ms=clock.monotonic_ms(),
            wall_ms=clock.wall_ms(),
        )
        opened.append((job, one))
        _tell(one, log)

    try:
        run_parallel(jobs, open_one, threads)
    except BaseException:
        for _, one in opened:
            one.close(clean=False)
        raise
    elapsed_ms = clock.monotonic_ms() - began
    if opened:
        log.info("logs loaded", logs=len(opened), clean=clean, elapsed_ms=elapsed_ms)
    logs = [one for job, one in opened if not job.future]
    future = [one for job, one in opened if job.future]
    return LoadedDirectory(directory, clean, logs, future, found.deleted, elapsed_ms)


_J = TypeVar("_J")


def run_parallel(jobs: deque[_J], work: Callable[[_J], None], threads: int) -> None:
    """Take jobs from the left until none is left, on this thread and on threads - 1 others.

    The first exception ends it: no further job is begun, the ones under way are finished, then it is raised here.
    """
    errors: list[BaseException] = []

    def worker() -> None:
        while not errors:
            try:
                job = jobs.popleft()
            except IndexError:
                return
            try:
                work(job)
            except BaseException as e:
                errors.append(e)

    helpers = [threading.Thread(target=worker) for _ in range(min(threads, len(jobs)) - 1)]
    for helper in helpers:
        helper.start()
    worker()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def _read_checkpoint(directory: str, name: str, consequence: str, log: Logger) -> dict[TopicPartition, int]:
    try:
        return OffsetCheckpoint(directory, name).read()
    except CorruptFileError as e:
        log.warn("checkpoint unreadable, " + consequence, error=e)
        return {}


def _tell(one: Log, log: Logger) -> None:
    """One line for a log in which something was found."""
    report = one.open_report
    if not (report.recovered_segments or report.truncated_bytes or report.deleted_segments or report.rebuilt_indexes):
        return
    log.info(
        "log recovered",
        partition=one.partition,
        segments=report.recovered_segments,
        bytes=report.recovered_bytes,
        truncated_bytes=report.truncated_bytes,
        deleted_segments=report.deleted_segments,
        rebuilt_indexes=report.rebuilt_indexes,
        log_end_offset=one.info().log_end_offset,
    )
