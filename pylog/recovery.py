"""Opening all logs of the data directories, after a clean stop or a crash.

Keeps true: directories are opened side by side, and the logs of each by as many threads as it is given. Whether a
directory was closed in order is known before its first log is opened, and the marker that says so is gone, durably, by
then. After a crash every log is checked from its recovery point on, its torn tail cut, and what is derived is rebuilt.
A checkpoint that cannot be read costs time, never records. One log that cannot be opened fails the directory: half a
directory would look like lost partitions. A recovery that takes long says every second how far it is.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

from pylog._native import PreparedSettings, Sys
from pylog.checkpoint import LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.clock import Clock
from pylog.config import LogConfig
from pylog.data_dir import list_partition_directories, take_clean_shutdown_marker
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError
from pylog.log import Log, log_settings, open_log
from pylog.logger import Logger
from pylog.teller import TELL_EVERY_S, Teller
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


class Progress:
    """How far recoveries are, told every interval_s seconds while one runs."""

    __slots__ = ("_checked_before", "_guard", "_left", "_sys", "_teller")

    def __init__(self, sys: Sys, interval_s: float = TELL_EVERY_S) -> None:
        self._sys = sys
        self._guard = threading.Lock()
        self._left = 0
        self._checked_before = 0
        self._teller = Teller(self._tell, interval_s)

    def expect(self, logs: int) -> None:
        """So many logs are to be recovered, beside those that are."""
        with self._guard:
            self._left += logs
            if logs and not self._teller.telling:
                self._checked_before = self._sys.checked_bytes()
                self._teller.start()

    def done(self) -> None:
        """One of them is."""
        with self._guard:
            self._left -= 1

    def end(self) -> None:
        """No more lines from now on."""
        self._teller.end()

    def _tell(self) -> None:
        checked_mb = (self._sys.checked_bytes() - self._checked_before) >> 20
        Logger("LogManager").info("recovery under way", logs_left=self._left, checked_mb=checked_mb)


def load_directories(
    directories: Sequence[str],
    *,
    sys: Sys,
    clock: Clock,
    config_of: Callable[[str], LogConfig],
    threads: int,
    progress: Progress | None = None,
) -> list[LoadedDirectory | OSError]:
    """Open every log of every directory, side by side. A directory whose disk fails gives its error in its place.

    Raises KafkaError when a log is of a format not read; then nothing stays open.
    config_of: the settings of a topic. threads: num.recovery.threads.per.data.dir.
    """
    progress = progress or Progress(sys)
    found: dict[str, LoadedDirectory | OSError] = {}

    def load(directory: str) -> None:
        try:
            found[directory] = load_directory(
                directory, sys=sys, clock=clock, config_of=config_of, threads=threads, progress=progress
            )
        except OSError as e:
            found[directory] = e

    try:
        run_parallel(deque(directories), load, len(directories))
    except BaseException:
        for loaded in found.values():
            if not isinstance(loaded, OSError):
                for one in (*loaded.logs, *loaded.future):
                    one.close(clean=False)
        raise
    finally:
        progress.end()
    return [found[directory] for directory in directories]


def load_directory(
    directory: str,
    *,
    sys: Sys,
    clock: Clock,
    config_of: Callable[[str], LogConfig],
    threads: int,
    progress: Progress,
) -> LoadedDirectory:
    """Open every log below directory. Raises OSError, KafkaError; then nothing of it stays open."""
    began, wall_ms = clock.monotonic_ms(), clock.wall_ms()
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
        progress.expect(len(jobs))
    opened: list[tuple[_Job, Log]] = []
    settings: dict[str, tuple[LogConfig, PreparedSettings]] = {}

    def open_one(job: _Job) -> None:
        partition = job.partition
        known = settings.get(partition.topic)
        if known is None:
            config = config_of(partition.topic)
            settings[partition.topic] = known = config, PreparedSettings(log_settings(config))
        one = open_log(
            sys,
            partition,
            job.path,
            config=known[0],
            recovery_point=recovery_points.get(partition, 0),
            log_start=log_starts.get(partition, 0),
            clean=clean,
            now_ms=began,
            wall_ms=wall_ms,
            prepared=known[1],
        )
        opened.append((job, one))
        if not clean:
            progress.done()
        _tell(one, clean, log)

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


def run_parallel(jobs: deque[_J], work: Callable[[_J], object], threads: int) -> None:
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


def _tell(one: Log, clean: bool, log: Logger) -> None:
    """Lines for a log in which something was found."""
    report = one.open_report
    if report.rebuilt_indexes:
        log.warn("indexes missing or broken, built anew", partition=one.partition, indexes=report.rebuilt_indexes)
    if report.unusable_files:
        what = "snapshots or transaction indexes broken, made from the batches"
        log.warn(what, partition=one.partition, files=report.unusable_files)
    elif clean and report.replayed_batches:
        what = "no snapshot at the log's end, producers taken from the batches"
        log.warn(what, partition=one.partition, batches=report.replayed_batches)
    if report.recovered_segments or report.truncated_bytes or report.deleted_segments:
        log.info(
            "log recovered",
            partition=one.partition,
            segments=report.recovered_segments,
            bytes=report.recovered_bytes,
            truncated_bytes=report.truncated_bytes,
            deleted_segments=report.deleted_segments,
            log_end_offset=one.info().log_end_offset,
        )
