"""All logs of all data directories of one process.

Keeps true:
- A data directory is locked while it is used. It is either live or offline; an I/O error takes it offline for good (a
  failed fsync is never retried), its logs with it, and the others serve on.
- A checkpoint says only what is durable already: data first, then recovery points; at a clean shutdown logs,
  checkpoints, marker, in that order, and no marker in a directory where any of it failed.
- Nothing here waits or sleeps: the periodic work lies in `schedule`, run by one maintenance thread (maintenance.py).
- `_guard` protects the maps. It is never held while a disk works.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from pylog._native import NativeError, Sys
from pylog.clock import Clock
from pylog.compaction import CleanerConfig, Compaction
from pylog.config import LogConfig
from pylog.data_dir import DataDirectory, DirectoryInUse, put_clean_shutdown_marker
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, FlushError, sync_directory
from pylog.log import Log, create_log
from pylog.logger import Logger
from pylog.recovery import load_directories, run_parallel
from pylog.removal import Removal
from pylog.schedule import Schedule
from pylog.types import FOREVER, TopicPartition

_log = Logger("LogManager")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class LogManagerConfig(NamedTuple):
    """Broker-wide settings of logs, in Kafka's names. Times in ms."""

    log_dirs: tuple[str, ...]
    num_recovery_threads_per_data_dir: int = 1
    log_retention_check_interval_ms: int = 300_000
    log_initial_task_delay_ms: int = 30_000
    log_segment_delete_delay_ms: int = 60_000
    log_flush_scheduler_interval_ms: int = FOREVER
    log_flush_offset_checkpoint_interval_ms: int = 60_000
    log_flush_start_offset_checkpoint_interval_ms: int = 60_000
    producer_id_expiration_ms: int = 86_400_000
    producer_id_expiration_check_interval_ms: int = 600_000


class DuplicateLogError(Exception):
    """One partition lies in two data directories; which of them is the replica only a person can say."""


class LogManager:
    """The logs of a process by partition. Any thread may call; `load` and `shutdown` once, by one."""

    __slots__ = (
        "_clock",
        "_compaction",
        "_config_of",
        "_directories",
        "_future",
        "_guard",
        "_logs",
        "_offline",
        "_on_directory_failure",
        "_removal",
        "_sys",
        "_to_catch_up",
        "config",
        "schedule",
    )

    def __init__(
        self,
        config: LogManagerConfig,
        *,
        sys: Sys,
        clock: Clock,
        config_of: Callable[[str], LogConfig],
        on_directory_failure: Callable[[str, list[Log]], None] | None = None,
        cleaner_config: Callable[[], CleanerConfig] | None = None,
    ) -> None:
        """Lock the data directories. Raises DirectoryInUse; KAFKA_STORAGE_ERROR when none of them can be used.

        config_of: the settings of a topic. on_directory_failure: told, on the thread that met the error, the directory
        and the logs it took along. Who is told lets go of them (a hosted log belongs to the engine); without it they
        are closed here. cleaner_config: the settings of compaction as they are now, None: nothing is compacted.
        """
        self.config = config
        self.schedule = Schedule()
        self._sys = sys
        self._clock = clock
        self._config_of = config_of
        self._on_directory_failure = on_directory_failure
        self._guard = threading.Lock()
        self._logs: dict[TopicPartition, Log] = {}
        self._future: dict[TopicPartition, Log] = {}
        self._directories: dict[str, DataDirectory] = {}
        self._offline: dict[str, str] = {}
        self._removal = Removal(self.schedule, clock, self._removal_failed)
        self._to_catch_up: set[Log] = set()
        self._compaction = Compaction(
            cleaner_config,
            sys=sys,
            clock=clock,
            logs=self.logs,
            on_disk_error=self._disk_error,
            on_replaced=lambda log: self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms),
        )
        self._lock_directories()

    def _lock_directories(self) -> None:
        try:
            for path in map(os.path.abspath, self.config.log_dirs):
                try:
                    self._directories[path] = DataDirectory(path)
                except OSError as e:
                    self._offline[path] = str(e)
                    _log.error("log directory cannot be used", directory=path, error=e)
        except DirectoryInUse:
            self._release_directories()
            raise
        self._need_a_directory()

    def _need_a_directory(self) -> None:
        if not self._directories:
            reasons = "; ".join(self._offline.values())
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"no log directory can be used: {reasons}")

    def _release_directories(self) -> None:
        for directory in self._directories.values():
            directory.release()
        self._directories.clear()

    # ---------------------------------------------------------------------------------- opening

    def load(self) -> None:
        """Open every log of every live directory, and schedule the periodic work.

        Raises DuplicateLogError; KafkaError when a log is of a format not read, or no directory is left.
        """
        paths = list(self._directories)
        found = load_directories(
            paths,
            sys=self._sys,
            clock=self._clock,
            config_of=self._config_of,
            threads=self.config.num_recovery_threads_per_data_dir,
        )
        try:
            for path, loaded in zip(paths, found, strict=True):
                if isinstance(loaded, OSError):
                    self.fail_directory(path, loaded)
                    continue
                for log in loaded.logs:
                    self._adopt(self._logs, log)
                for log in loaded.future:
                    self._adopt(self._future, log)
                self._removal.remove_directories(loaded.condemned, self.config.log_segment_delete_delay_ms)
        except DuplicateLogError:
            for loaded in found:
                if not isinstance(loaded, OSError):
                    for log in (*loaded.logs, *loaded.future):
                        log.close(clean=False)
            raise
        self._need_a_directory()
        self._schedule_periodic_work()

    def _adopt(self, logs: dict[TopicPartition, Log], log: Log) -> None:
        other = logs.get(log.partition)
        if other is not None:
            raise DuplicateLogError(
                f"partition {log.partition} lies in two log directories, {other.path} and {log.path}: move the one away"
                " that is not the replica"
            )
        with self._guard:
            logs[log.partition] = log
        log.on_change(self._catch_up_soon)
        if log.open_report.deleted_segments:
            self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms)

    # ---------------------------------------------------------------------------------- the logs

    def get(self, partition: TopicPartition) -> Log | None:
        """The partition's log, None when there is none in a live directory."""
        return self._logs.get(partition)

    def logs(self) -> list[Log]:
        """Every log of the live directories."""
        with self._guard:
            return list(self._logs.values())

    def future_log(self, partition: TopicPartition) -> Log | None:
        """The copy of the partition that is being built in another directory, None when there is none."""
        return self._future.get(partition)

    def live_directories(self) -> list[str]:
        """Paths of the directories in use, in the order they were configured."""
        with self._guard:
            return list(self._directories)

    def offline_directories(self) -> dict[str, str]:
        """Paths of the directories that failed, each with why."""
        with self._guard:
            return dict(self._offline)

    def create(self, partition: TopicPartition, topic_id: bytes | None, directory: str | None = None) -> Log:
        """The partition's log, made when there is none: in `directory`, or in the one with the fewest partitions.

        Raises INCONSISTENT_TOPIC_ID, LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR.
        """
        (log,) = self.create_all([partition], topic_id, directory)
        if isinstance(log, KafkaError):
            raise log
        return log

    def create_all(
        self, partitions: Iterable[TopicPartition], topic_id: bytes | None, directory: str | None = None
    ) -> list[Log | KafkaError]:
        """The logs of a topic's partitions as `create` makes them, each for itself: for each its log, or why there is
        none."""
        config: LogConfig | None = None
        counts = self._partition_counts() if directory is None else {}
        made: list[Log | KafkaError] = []
        for partition in partitions:
            try:
                log = self._logs.get(partition)
                if log is not None:
                    if topic_id is not None:
                        log.assign_topic_id(topic_id)
                else:
                    where = self._emptiest_of(counts) if directory is None else self._live_directory(directory)
                    config = self._config_of(partition.topic) if config is None else config
                    log = self._create_in(where, partition, topic_id, config)
                    if directory is None:
                        counts[where] += 1
                made.append(log)
            except KafkaError as e:
                made.append(e)
        return made

    def _create_in(self, where: str, partition: TopicPartition, topic_id: bytes | None, config: LogConfig) -> Log:
        try:
            log = create_log(
                self._sys,
                partition,
                where,
                config=config,
                topic_id=topic_id,
                now_ms=self._clock.monotonic_ms(),
                wall_ms=self._clock.wall_ms(),
            )
        except FileExistsError as e:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{e.filename} is there but is no log of ours") from e
        except OSError as e:
            self._disk_error(where, e)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"cannot create {partition} in {where}: {e}") from e
        self._adopt(self._logs, log)
        return log

    def _live_directory(self, directory: str) -> str:
        path = os.path.abspath(directory)
        if path in self._directories:
            return path
        if path in self._offline:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"log directory {path} is offline: {self._offline[path]}")
        raise KafkaError(ErrorCode.LOG_DIR_NOT_FOUND, f"{path} is not in log.dirs")

    def _partition_counts(self) -> dict[str, int]:
        """How many partitions lie in each live directory, in the order of log.dirs. One directory is not counted."""
        with self._guard:
            counts = dict.fromkeys(self._directories, 0)
            if len(counts) > 1:
                for log in (*self._logs.values(), *self._future.values()):
                    counts[log.directory] += 1
        return counts

    def _emptiest_of(self, counts: Mapping[str, int]) -> str:
        """The first of those with the fewest partitions that are live still."""
        live = [path for path in counts if path in self._directories]
        self._need_a_directory()
        return min(live, key=counts.__getitem__)

    def delete(self, partition: TopicPartition) -> bool:
        """Forget the partition's log and rename its directory; its files go later. False when there is none.

        On return a log of the same name can be created. Not while hosted. Raises KAFKA_STORAGE_ERROR.
        """
        return self.delete_all([partition]) > 0

    def delete_all(self, partitions: Iterable[TopicPartition]) -> int:
        """The same for many, their data directories synced once for all: how many logs there were. When it raises
        KAFKA_STORAGE_ERROR, some may be left."""
        with self._guard:
            found = [
                log
                for partition in partitions
                for log in (self._logs.pop(partition, None), self._future.pop(partition, None))
                if log
            ]
        condemned: dict[int, list[str]] = {}
        error: KafkaError | None = None
        held = self._compaction.pause(log.partition for log in found)
        for log in found:
            try:
                condemned.setdefault(log.config.file_delete_delay_ms, []).append(log.condemn())
            except OSError as e:
                error = self._not_deleted(log.directory, log.path, e)
        self._compaction.resume(held)
        for directory in {log.directory for log in found}:
            try:
                sync_directory(directory)
                self._compaction.forget(log for log in found if log.directory == directory)
            except OSError as e:
                error = self._not_deleted(directory, directory, e)
        for delay_ms, paths in condemned.items():
            self._removal.remove_directories(paths, delay_ms)
        if error is not None:
            raise error
        return len(found)

    def _not_deleted(self, directory: str, path: str, error: OSError) -> KafkaError:
        self._disk_error(directory, error)
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"cannot delete {path}: {error}")

    def configure_topic(self, topic: str) -> None:
        """The topic's settings changed: its logs take them up."""
        config = self._config_of(topic)
        for log in self.logs():
            if log.partition.topic == topic:
                log.configure(config)

    def truncate(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Cut logs back, as a follower does."""
        wall_ms = self._clock.wall_ms()
        self._cut(offsets, lambda log: log.truncate(offsets[log.partition], wall_ms))

    def truncate_fully(self, partition: TopicPartition, offset: int) -> None:
        """Empty a log and let it start at offset."""
        wall_ms = self._clock.wall_ms()
        self._cut((partition,), lambda log: log.truncate_fully(offset, wall_ms))

    def _cut(self, partitions: Iterable[TopicPartition], action: Callable[[Log], None]) -> None:
        """Cut logs and note their recovery points and starts at once: stale recovery points above the new ends would
        keep what is written there next from being checked after a crash."""
        logs = [self._logs[partition] for partition in partitions]
        held = self._compaction.pause(log.partition for log in logs)
        try:
            for log in logs:
                if self._on_disk(log, action) and self._on_disk(log, self._compaction.cut):
                    self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms)
        finally:
            self._compaction.resume(held)
        for path in {log.directory for log in logs}:
            self._checkpoint(path, self._write_recovery_points)
            self._checkpoint(path, self._write_log_starts)

    # ---------------------------------------------------------------------------------- failure

    def fail_directory(self, directory: str, error: Exception) -> None:
        """Take the directory offline, and every log in it. Once is enough."""
        with self._guard:
            failed = self._directories.pop(directory, None)
            if failed is None:
                return
            self._offline[directory] = str(error)
            lost = [log for log in self._logs.values() if log.directory == directory]
            lost_future = [log for log in self._future.values() if log.directory == directory]
            for log in lost:
                del self._logs[log.partition]
            for log in lost_future:
                del self._future[log.partition]
        _log.error("log directory is offline", directory=directory, logs=len(lost), error=error)
        failed.release()
        held = self._compaction.pause(log.partition for log in lost)
        try:
            if self._on_directory_failure is not None:
                self._on_directory_failure(directory, lost)
                lost = []
            for log in (*lost, *lost_future):
                log.close(clean=False)
        finally:
            self._compaction.resume(held)

    def _on_disk(self, log: Log, action: Callable[[Log], object]) -> bool:
        """Do something with a log; an error of the disk fails its directory. Says whether it worked.

        A refusal concerns this log alone (the engine may just be giving it back): the others must not wait for it.
        """
        try:
            action(log)
        except OSError as e:
            self._disk_error(log.directory, e)
            return False
        except (KafkaError, NativeError) as e:
            _log.warn("log refuses", partition=log.partition, error=e)
            return False
        return True

    def _disk_error(self, directory: str, error: OSError) -> None:
        """A full disk is no failure: what was to be written is written when there is room. Nor is a process that may
        open no more files, or has no memory: the disk has nothing to do with it. Every other error is."""
        if error.errno in _NO_ROOM and not isinstance(error, FlushError):
            _log.warn("disk full", directory=directory, error=error)
        elif error.errno in _NO_RESOURCES:
            _log.warn("out of file descriptors or memory", directory=directory, error=error)
        else:
            self.fail_directory(directory, error)

    def _removal_failed(self, path: str, error: OSError) -> None:
        with self._guard:
            live = [directory for directory in self._directories if path.startswith(directory + os.sep)]
        for directory in live:
            self._disk_error(directory, error)

    # ---------------------------------------------------------------------------------- periodic work

    def _schedule_periodic_work(self) -> None:
        config = self.config
        first = self._clock.monotonic_ms() + config.log_initial_task_delay_ms
        every = self.schedule.every
        every(config.log_retention_check_interval_ms, first, self.clean_up)
        every(config.log_flush_scheduler_interval_ms, first, self.flush_due)
        every(config.log_flush_offset_checkpoint_interval_ms, first, self.checkpoint_recovery_points)
        every(config.log_flush_start_offset_checkpoint_interval_ms, first, self.checkpoint_log_starts)
        every(config.producer_id_expiration_check_interval_ms, first, self.expire_producers)
        self._compaction.schedule(self.schedule)

    def run_pending(self, now_ms: int) -> int | None:
        """Do what is due at now_ms (monotonic). Returns when to call again, None: when something new is scheduled."""
        return self.schedule.run(now_ms)

    def clean_up(self) -> None:
        """Retention: set aside what may go from every log that is not compacted only."""
        wall_ms = self._clock.wall_ms()
        for log in self.logs():
            self._on_disk(log, lambda one: self._retain(one, wall_ms))

    def _retain(self, log: Log, wall_ms: int) -> None:
        deletion = log.retain(wall_ms)
        if deletion is not None:
            _log.info(
                "segments deleted",
                partition=log.partition,
                segments=deletion.segment_count,
                reason=deletion.reason,
                log_start_offset=deletion.start_offset,
            )
            self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms)

    def flush_due(self) -> None:
        """Flush every log whose flush.ms has passed."""
        for log in self.logs():
            self._on_disk(log, lambda one: one.flush_if_due(self._clock.monotonic_ms()))

    def flush(self, log: Log) -> bool:
        """Flush one log now (flush.messages reached). Says whether it worked."""
        return self._on_disk(log, lambda one: one.flush(self._clock.monotonic_ms()))

    def expire_producers(self) -> None:
        """Forget idempotent producers that are gone."""
        before = self._clock.wall_ms() - self.config.producer_id_expiration_ms
        for log in self.logs():
            self._on_disk(log, lambda one: one.expire_producers(before))

    def checkpoint_recovery_points(self) -> None:
        """Write recovery-point-offset-checkpoint of every live directory."""
        for path in self.live_directories():
            self._checkpoint(path, self._write_recovery_points)

    def checkpoint_log_starts(self) -> None:
        """Write log-start-offset-checkpoint of every live directory."""
        for path in self.live_directories():
            self._checkpoint(path, self._write_log_starts)

    def checkpoint_high_watermarks(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """Write replication-offset-checkpoint of every live directory. The broker says the high watermarks."""
        for path in self.live_directories():
            self._checkpoint(path, lambda d: d.write(d.high_watermarks, lambda: self._of(d, high_watermarks)))

    def read_high_watermarks(self) -> dict[TopicPartition, int]:
        """What the live directories' replication-offset-checkpoint files say; an unreadable one says nothing."""
        found: dict[TopicPartition, int] = {}
        with self._guard:
            directories = list(self._directories.values())
        for directory in directories:
            try:
                found |= directory.high_watermarks.read()
            except CorruptFileError as e:
                _log.warn("high watermarks unreadable, found again by replication", error=e)
        return found

    def _of(self, directory: DataDirectory, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {log.partition: offsets[log.partition] for log in self._logs_in(directory) if log.partition in offsets}

    def _logs_in(self, directory: DataDirectory) -> list[Log]:
        return [log for log in self.logs() if log.directory == directory.path]

    def _ends_in(self, directory: DataDirectory) -> dict[TopicPartition, tuple[int, int, int]]:
        """Log start offset, first segment and recovery point of every log in the directory."""
        ends = ((log.partition, log.durable_ends()) for log in self._logs_in(directory))
        return {partition: end for partition, end in ends if end is not None}

    def _write_recovery_points(self, directory: DataDirectory) -> None:
        directory.write(directory.recovery_points, lambda: _recovery_points(self._ends_in(directory)))

    def _write_log_starts(self, directory: DataDirectory) -> None:
        directory.write(directory.log_starts, lambda: _log_starts(self._ends_in(directory)))

    def _checkpoint(self, path: str, write: Callable[[DataDirectory], None]) -> None:
        directory = self._directories.get(path)
        if directory is None:
            return
        try:
            write(directory)
        except OSError as e:
            self._disk_error(path, e)

    # ---------------------------------------------------------------------------------- soon

    def _catch_up_soon(self, log: Log) -> None:
        with self._guard:
            first = not self._to_catch_up
            self._to_catch_up.add(log)
        if first:
            self.schedule.at(self._clock.monotonic_ms(), self._catch_up)

    def _catch_up(self) -> None:
        with self._guard:
            logs, self._to_catch_up = self._to_catch_up, set()
        for log in logs:
            self._on_disk(log, lambda one: one.catch_up(self._clock.monotonic_ms()))

    # ---------------------------------------------------------------------------------- closing

    def stop_cleaning(self) -> None:
        """End compaction for good, before the engine that hosts the logs goes. Once is enough."""
        self._compaction.stop()

    def shutdown(self, clean: bool = True) -> None:
        """Close every log, write the checkpoints, then the marker, and let go of the directories.

        clean False: just let go, as after kill -9. No log may be hosted and no other thread inside.
        """
        self.stop_cleaning()
        for path in self.live_directories():
            if clean:
                self._shut_down_cleanly(self._directories[path])
        for log in (*self._logs.values(), *self._future.values()):
            log.close(clean=False)
        self._logs.clear()
        self._future.clear()
        self._release_directories()

    def _shut_down_cleanly(self, directory: DataDirectory) -> None:
        try:
            ends = self._close_logs_in(directory)
            directory.write(directory.recovery_points, lambda: _recovery_points(ends))
            directory.write(directory.log_starts, lambda: _log_starts(ends))
            put_clean_shutdown_marker(directory.path)
        except OSError as e:
            _log.error(
                "log directory not closed in order, the next start recovers it", directory=directory.path, error=e
            )

    def _close_logs_in(self, directory: DataDirectory) -> dict[TopicPartition, tuple[int, int, int]]:
        """Close its logs clean, several at once; returns their ends, all durable. Raises OSError."""
        ends: dict[TopicPartition, tuple[int, int, int]] = {}

        def close(log: Log) -> None:
            info = log.info()
            first = log.first_offset()
            log.close(clean=True)
            ends[log.partition] = (info.log_start_offset, first, info.log_end_offset)

        logs = self._logs_in(directory)
        logs += [log for log in self._future.values() if log.directory == directory.path]
        run_parallel(deque(logs), close, self.config.num_recovery_threads_per_data_dir)
        return {log.partition: ends[log.partition] for log in logs}


def _recovery_points(ends: Mapping[TopicPartition, tuple[int, int, int]]) -> dict[TopicPartition, int]:
    return {partition: recovery_point for partition, (_, _, recovery_point) in ends.items()}


def _log_starts(ends: Mapping[TopicPartition, tuple[int, int, int]]) -> dict[TopicPartition, int]:
    """Only of logs that start above their first segment: the others say it by their first file's name."""
    return {partition: start for partition, (start, first, _) in ends.items() if start > first}
