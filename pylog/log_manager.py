"""All logs of all data directories of one process.

Keeps true:
- A data directory is locked while it is used. It is either live or offline; an I/O error takes it offline for good (a
  failed fsync is never retried), its logs with it, and the others serve on.
- A checkpoint says only what is durable already: data first, then recovery points; at a clean shutdown logs
  (closing.py), checkpoints, marker, in that order, and no marker in a directory where any of it failed.
- A partition has one log. Moving it to another directory builds a copy there (future_log.py) that then takes its place:
  first the copy gets the partition's name, then the old log is set aside for removal.
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
from pylog.files import NO_ROOM, CorruptFileError, FlushError, sync_directory
from pylog.log import Log, create_log
from pylog.logger import Logger
from pylog.recovery import load_directories, run_parallel
from pylog.removal import Removal
from pylog.schedule import Schedule
from pylog.typed import TYPE_CHECKING
from pylog.types import FOREVER, TopicPartition

if TYPE_CHECKING:
    from pylog.future_log import FutureLogs, MoveConfig

_log = Logger("LogManager")

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


_PREFERENCES_MAX = 10_000


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
        "_hurried",
        "_logs",
        "_move_config",
        "_offline",
        "_on_caught_up",
        "_on_directory_failure",
        "_preferred",
        "_removal",
        "_retiring",
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
        move_config: Callable[[], MoveConfig] | None = None,
        on_caught_up: Callable[[TopicPartition], None] | None = None,
    ) -> None:
        """Lock the data directories. Raises DirectoryInUse; KAFKA_STORAGE_ERROR when none of them can be used.

        config_of: the settings of a topic. on_directory_failure: told, on the thread that met the error, the directory
        and the logs it took along. Who is told lets go of them (a hosted log belongs to the engine); without it they
        are closed here. cleaner_config: the settings of compaction as they are now, None: nothing is compacted.
        move_config: those of moves between directories, None: the defaults. on_caught_up: told, on a thread of the
        moves, when `finish_move` can be called; None: it is called there.
        """
        self.config = config
        self.schedule = Schedule()
        self._sys = sys
        self._clock = clock
        self._config_of = config_of
        self._on_directory_failure = on_directory_failure
        self._guard = threading.Lock()
        self._hurried = False
        self._logs: dict[TopicPartition, Log] = {}
        self._future: FutureLogs | None = None
        self._move_config = move_config
        self._on_caught_up = on_caught_up
        self._preferred: dict[TopicPartition, str] = {}
        self._retiring: list[Log] = []
        self._directories: dict[str, DataDirectory] = {}
        self._offline: dict[str, str] = {}
        self._removal = Removal(self.schedule, clock, self._removal_failed)
        self._to_catch_up: set[Log] = set()
        self._compaction = Compaction(
            cleaner_config,
            sys=sys,
            clock=clock,
            logs=self.logs,
            on_disk_error=self.disk_error,
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
                    self._adopt_found(log)
                for log in loaded.future:
                    other = self._future_logs().put(log)
                    if other is not None:
                        raise _duplicate(other, log)
                    self._watch(log)
                self._removal.remove_directories(loaded.condemned, self.config.log_segment_delete_delay_ms)
        except DuplicateLogError:
            for loaded in found:
                if not isinstance(loaded, OSError):
                    for log in (*loaded.logs, *loaded.future):
                        log.close(clean=False)
            raise
        self._finish_moves_cut_short()
        self._need_a_directory()
        self._schedule_periodic_work()

    def _adopt_found(self, log: Log) -> None:
        """A log that was found; when there is another one, the one that had taken the other's place counts."""
        other = self._logs.get(log.partition)
        if other is None:
            self._adopt(log)
            return
        from pylog.future_log import moved_on

        to_log, to_other = moved_on(other, log), moved_on(log, other)
        if not to_log and not to_other:
            raise _duplicate(other, log)
        stale = other if to_log else log  # when both hold the same records either will do
        if stale is other:
            self._adopt(log)
        self._discard(stale, "superseded")
        self._withdraw(self._logs[log.partition])

    def _finish_moves_cut_short(self) -> None:
        """Copies that had begun to take the place of their logs get it now."""
        if self._future is None:
            return
        from pylog.future_log import moved_on

        for copy in self._future.logs():
            log = self._logs.get(copy.partition)
            if log is None:
                continue
            try:
                if copy.directory == log.directory:  # a copy that nobody can have wanted
                    self._future.take(copy.partition)
                    self._discard(copy, "superfluous")
                elif moved_on(log, copy):
                    copy.take_name()
                    sync_directory(copy.directory)
                    self._future.take(copy.partition)
                    self._adopt(copy)
                    self._discard(log, "superseded")
                    self._withdraw(copy)
            except OSError as e:
                self.disk_error(copy.directory, e)

    def _withdraw(self, log: Log) -> None:
        """No log is to take this one's place, nor is it to take another one's."""
        from pylog.future_log import withdraw_move

        self._on_disk(log, lambda one: one.if_open(lambda: withdraw_move(one.path)))

    def _discard(self, log: Log, why: str) -> None:
        """Set aside a log that is in no map of ours."""
        _log.info(f"{why} log is removed", partition=log.partition, directory=log.directory)
        try:
            condemned = log.condemn()
            sync_directory(log.directory)
        except OSError as e:
            self.disk_error(log.directory, e)
            return
        self._removal.remove_directories([condemned], log.config.file_delete_delay_ms)

    def _adopt(self, log: Log) -> None:
        with self._guard:
            self._logs[log.partition] = log
        self._watch(log)

    def _watch(self, log: Log) -> None:
        log.on_change(self._catch_up_soon)
        if log.open_report.deleted_segments:
            self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms)

    def _future_logs(self) -> FutureLogs:
        """The copies, from when there is the first one."""
        if self._future is None:
            from pylog.future_log import FutureLogs, MoveConfig

            self._future = FutureLogs(
                self._move_config or MoveConfig,
                clock=self._clock,
                source_of=self.get,
                caught_up=self._on_caught_up or self._finish_move_here,
                on_disk_error=self.disk_error,
            )
        return self._future

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
        return None if self._future is None else self._future.get(partition)

    def future_logs(self) -> list[Log]:
        """Every copy that is being built."""
        return [] if self._future is None else self._future.logs()

    def live_directories(self) -> list[str]:
        """Paths of the directories in use, in the order they were configured."""
        with self._guard:
            return list(self._directories)

    def offline_directories(self) -> dict[str, str]:
        """Paths of the directories that failed, each with why."""
        with self._guard:
            return dict(self._offline)

    def check_directory(self, directory: str) -> None:
        """Raises LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR when it cannot be used."""
        self._live_directory(directory)

    def prefer(self, partition: TopicPartition, directory: str) -> None:
        """Where the partition is to lie when it is created. Raises LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR."""
        path = self._live_directory(directory)
        log, copy = self._logs.get(partition), self.future_log(partition)
        if (log is None or log.directory != path) and (copy is None or copy.directory != path):
            self._preferred[partition] = path
            if len(self._preferred) > _PREFERENCES_MAX:
                del self._preferred[next(iter(self._preferred))]

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
                    config = self._config_of(partition.topic) if config is None else config
                    wanted = directory or self._preferred.get(partition)
                    if wanted is None:
                        log = self._create_in_emptiest(counts, partition, topic_id, config)
                    else:
                        log = self._create_in(self._live_directory(wanted), partition, topic_id, config)
                    self._preferred.pop(partition, None)
                made.append(log)
            except KafkaError as e:
                made.append(e)
        return made

    def _create_in_emptiest(
        self, counts: dict[str, int], partition: TopicPartition, topic_id: bytes | None, config: LogConfig
    ) -> Log:
        """In the first of those with the fewest partitions that can take it."""
        tried: set[str] = set()
        while True:
            self._need_a_directory()
            live = [path for path in counts if path in self._directories and path not in tried]
            where = min(live, key=counts.__getitem__)
            tried.add(where)
            try:
                log = self._create_in(where, partition, topic_id, config)
            except KafkaError as e:
                full = isinstance(e.__cause__, OSError) and e.__cause__.errno in NO_ROOM
                if len(live) == 1 or (where in self._directories and not full):
                    raise
                continue
            counts[where] += 1
            return log

    def _create_in(self, where: str, partition: TopicPartition, topic_id: bytes | None, config: LogConfig) -> Log:
        log = self._create_log(where, partition, topic_id, config)
        self._adopt(log)
        return log

    def _create_log(
        self, where: str, partition: TopicPartition, topic_id: bytes | None, config: LogConfig, future: bool = False
    ) -> Log:
        try:
            return create_log(
                self._sys,
                partition,
                where,
                config=config,
                topic_id=topic_id,
                now_ms=self._clock.monotonic_ms(),
                wall_ms=self._clock.wall_ms(),
                future=future,
            )
        except FileExistsError as e:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{e.filename} is there but is no log of ours") from e
        except OSError as e:
            self.disk_error(where, e)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"cannot create {partition} in {where}: {e}") from e

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
                for log in self._logs.values():
                    counts[log.directory] += 1
        if len(counts) > 1:
            for log in self.future_logs():
                counts[log.directory] = counts.get(log.directory, 0) + 1
        return counts

    def delete(self, partition: TopicPartition) -> bool:
        """Forget the partition's log and rename its directory; its files go later. False when there is none.

        On return a log of the same name can be created. Not while hosted. Raises KAFKA_STORAGE_ERROR.
        """
        return self.delete_all([partition]) > 0

    def delete_all(self, partitions: Iterable[TopicPartition]) -> int:
        """The same for many, their data directories synced once for all: how many logs there were. When it raises
        KAFKA_STORAGE_ERROR, some may be left."""
        names = list(partitions)
        with self._guard:
            found = [log for partition in names if (log := self._logs.pop(partition, None)) is not None]
        logs_count = len(found)
        for partition in names:
            copy = self._take_copy(partition)
            if copy is not None:
                found.append(copy)
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
        return logs_count

    def _not_deleted(self, directory: str, path: str, error: OSError) -> KafkaError:
        self.disk_error(directory, error)
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"cannot delete {path}: {error}")

    def configure_topic(self, topic: str) -> None:
        """The topic's settings changed: its logs take them up."""
        config = self._config_of(topic)
        for log in (*self.logs(), *self.future_logs()):
            if log.partition.topic == topic:
                log.configure(config)

    def truncate(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Cut logs back, as a follower does."""
        wall_ms = self._clock.wall_ms()
        self._cut(offsets, False, lambda log: log.truncate(offsets[log.partition], wall_ms))

    def truncate_fully(self, partition: TopicPartition, offset: int) -> None:
        """Empty a log and let it start at offset."""
        wall_ms = self._clock.wall_ms()
        self._cut({partition: offset}, True, lambda log: log.truncate_fully(offset, wall_ms))

    def _cut(self, offsets: Mapping[TopicPartition, int], fully: bool, action: Callable[[Log], None]) -> None:
        """Cut logs, where checkpoints say no more than will be left: with a recovery point or a start above the end,
        what is written there next would not be checked after a crash, or be dropped. Where they cannot be lowered, on a
        full disk, nothing is cut. KAFKA_STORAGE_ERROR: not every log is cut."""
        logs = [self._logs[partition] for partition in offsets]
        held = self._compaction.pause(log.partition for log in logs)
        try:
            too_high = {log.directory for log in logs if log.announce_cut(offsets[log.partition], fully)}
            refused = {path for path in too_high if not self._write_ends(path)}
            uncut = []
            for log in logs:
                if log.directory in refused:
                    log.call_off_cut()
                elif self._on_disk(log, action) and self._on_disk(log, self._compaction.cut):
                    self._removal.unlink(log.deleted_files(), log.config.file_delete_delay_ms)
                elif not log.is_cut(offsets[log.partition], fully):
                    uncut.append(str(log.partition))
        finally:
            self._compaction.resume(held)
        for path in {log.directory for log in logs} - refused:
            self._write_ends(path)
        if refused:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"not cut, for checkpoints cannot be written: {refused}")
        if uncut:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"not cut: {', '.join(uncut)}")

    # ---------------------------------------------------------------------------------- moving
    # One thread at a time, the one that creates and deletes.

    def move(self, partition: TopicPartition, directory: str) -> None:
        """Move the partition's log to another directory, while it is read and written. Where it lies already, nothing
        is moved, and a move under way to elsewhere ends.

        Raises LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR: also when any directory is offline, for nobody can say whether
        there is another copy.
        """
        path = self._live_directory(directory)
        self.cancel_move_elsewhere(partition, path)
        log = self._logs[partition]
        if log.directory == path or self.future_log(partition) is not None:
            return
        if self._offline:
            offline = ", ".join(self._offline)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{partition} is not moved while {offline} is offline")
        copy = self._create_log(path, partition, log.topic_id, log.config, future=True)
        self._future_logs().put(copy)
        self._preferred.pop(partition, None)
        self._watch(copy)
        _log.info("moving", partition=partition, source=log.directory, destination=path)
        self._copy_on(copy)

    def _copy_on(self, copy: Log) -> None:
        self._compaction.hold(copy.partition)
        self._future_logs().go_on(copy)

    def resume_moves(self) -> None:
        """Go on with the copies that were found. What they have and their logs have not, or differently, they lose."""
        for copy in self.future_logs():
            log = self._logs.get(copy.partition)
            if log is not None and self._on_disk(copy, lambda one, log=log: self._agree(one, log)):  # type: ignore[misc]
                _log.info("moving goes on", partition=copy.partition, destination=copy.directory)
                self._copy_on(copy)

    def _agree(self, copy: Log, log: Log) -> None:
        epoch = copy.info().latest_epoch
        end = copy.info().log_end_offset
        if epoch >= 0:
            end = min(end, max(log.end_offset_for_epoch(epoch)[1], 0))
        if end < copy.info().log_end_offset:
            if copy.announce_cut(end, False) and not self._write_ends(copy.directory):
                copy.call_off_cut()
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "not cut, for checkpoints cannot be written")
            copy.truncate(end, self._clock.wall_ms())

    def cancel_move_elsewhere(self, partition: TopicPartition, directory: str | None) -> None:
        """End a move of the partition to another directory than this one."""
        copy = self.future_log(partition)
        if copy is not None and copy.directory != directory:
            self._take_copy(partition)
            self._discard(copy, "unwanted")
            if (log := self._logs.get(partition)) is not None:
                self._withdraw(log)

    def _take_copy(self, partition: TopicPartition) -> Log | None:
        copy = None if self._future is None else self._future.take(partition)
        if copy is not None:
            self._compaction.let_go(partition)
        return copy

    def _finish_move_here(self, partition: TopicPartition) -> None:
        if (moved := self.finish_move(partition)) is not None:
            self.retire(moved[0])

    def finish_move(self, partition: TopicPartition) -> tuple[Log, Log] | None:
        """Let the copy take the place of its log, unless too much is missing still or it is unwanted meanwhile.

        Returns the old log, which the caller gives to `retire` when nobody uses it any more, and the new one.
        """
        from pylog.future_log import STEP_BYTES

        log, copy = self._logs.get(partition), self.future_log(partition)
        if log is None or copy is None:
            return None
        try:
            if not copy.take_place_of(log, STEP_BYTES, self._clock.wall_ms()):
                self._future_logs().go_on(copy)
                return None
        except OSError as e:
            self.disk_error(copy.directory, e)
            return None
        except (KafkaError, NativeError) as e:
            _log.warn("move is not finished, the log refuses", partition=partition, error=e)
            return None
        with self._guard:
            self._logs[partition] = copy
        self._take_copy(partition)
        return log, copy

    def retire_soon(self, old: Log) -> None:
        """`retire` where the periodic work is done."""
        with self._guard:
            self._retiring.append(old)
        self.schedule.at(self._clock.monotonic_ms(), self._retire_waiting)

    def _retire_waiting(self) -> None:
        while True:
            with self._guard:
                if not self._retiring:
                    return
                old = self._retiring.pop()
            self.retire(old)

    def retire(self, old: Log) -> None:
        """Set aside a log whose place another one has taken, what was known of it noted in the other's directory."""
        new = self._logs.get(old.partition)
        if new is not None:
            self._on_disk(new, lambda one: sync_directory(one.directory))
            self._on_disk(new, lambda one: self._compaction.moved(old, one))
            self._write_ends(new.directory)
        self._discard(old, "moved")
        self._write_ends(old.directory)
        if new is not None:
            self._withdraw(new)
            _log.info("moved", partition=new.partition, source=old.directory, destination=new.directory)

    # ---------------------------------------------------------------------------------- failure

    def fail_directory(self, directory: str, error: Exception) -> None:
        """Take the directory offline, and every log in it. Once is enough."""
        with self._guard:
            failed = self._directories.pop(directory, None)
            if failed is None:
                return
            self._offline[directory] = str(error)
            lost = [log for log in self._logs.values() if log.directory == directory]
            for log in lost:
                del self._logs[log.partition]
        # a copy of a log that is lost stays for the next start; without a log to copy from nothing is done to it
        lost_future = [log for log in self.future_logs() if log.directory == directory]
        for log in lost_future:
            self._take_copy(log.partition)
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
            self.disk_error(log.directory, e)
            return False
        except (KafkaError, NativeError) as e:
            _log.warn("log refuses", partition=log.partition, error=e)
            return False
        return True

    def disk_error(self, directory: str, error: OSError) -> None:
        """Something failed in a directory. A full disk is no failure: what was to be written is written when there is
        room. Nor is a process that may open no more files, or has no memory: the disk has nothing to do with it. Every
        other error takes it offline."""
        if error.errno in NO_ROOM and not isinstance(error, FlushError):
            _log.warn("disk full", directory=directory, error=error)
        elif error.errno in _NO_RESOURCES:
            _log.warn("out of file descriptors or memory", directory=directory, error=error)
        else:
            self.fail_directory(directory, error)

    def _removal_failed(self, path: str, error: OSError) -> None:
        with self._guard:
            live = [directory for directory in self._directories if path.startswith(directory + os.sep)]
        for directory in live:
            self.disk_error(directory, error)

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
        for log in (*self.logs(), *self.future_logs()):
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
        for log in (*self.logs(), *self.future_logs()):
            if self._hurried:
                return
            self._on_disk(log, lambda one: one.flush_if_due(self._clock.monotonic_ms()))

    def flush_all(self) -> None:
        """Make every log durable to its end, several at once: what a start after a crash found may be in memory
        alone."""

        behind = [log for log in self.logs() if log.is_behind()]
        if not behind:
            return
        from pylog.shared_sync import flush_together

        left = []
        for path in self.live_directories():
            logs = [log for log in behind if log.directory == path]
            try:
                left += flush_together(self._directories[path], logs, sys=self._sys, clock=self._clock)
            except OSError as e:
                self.disk_error(path, e)
        run_parallel(deque(left), self.flush, self.config.num_recovery_threads_per_data_dir)

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
        logs = [log for log in self.logs() if log.directory == directory.path]
        return {log.partition: offsets[log.partition] for log in logs if log.partition in offsets}

    def _logs_in(self, directory: DataDirectory) -> list[Log]:
        """Copies too: they lie in another directory than their logs."""
        return [log for log in (*self.logs(), *self.future_logs()) if log.directory == directory.path]

    def _ends_in(self, directory: DataDirectory) -> dict[TopicPartition, tuple[int, int, int]]:
        """Log start offset, first segment and recovery point of every log in the directory."""
        ends = ((log.partition, log.durable_ends()) for log in self._logs_in(directory))
        return {partition: end for partition, end in ends if end is not None}

    def _write_recovery_points(self, directory: DataDirectory) -> None:
        directory.write(directory.recovery_points, lambda: _recovery_points(self._ends_in(directory)))

    def _write_log_starts(self, directory: DataDirectory) -> None:
        directory.write(directory.log_starts, lambda: _log_starts(self._ends_in(directory)))

    def _write_ends(self, path: str) -> bool:
        recovery_points_written = self._checkpoint(path, self._write_recovery_points)
        return self._checkpoint(path, self._write_log_starts) and recovery_points_written

    def _checkpoint(self, path: str, write: Callable[[DataDirectory], None]) -> bool:
        directory = self._directories.get(path)
        if directory is None:
            return False
        try:
            write(directory)
        except OSError as e:
            self.disk_error(path, e)
            return False
        return True

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
            if self._hurried:
                return
            self._on_disk(log, lambda one: one.catch_up(self._clock.monotonic_ms()))

    # ---------------------------------------------------------------------------------- closing

    def hurry(self) -> None:
        """A shutdown comes: syncs that the background has not come to are left to it, which has to do them all. Any
        thread."""
        self._hurried = True

    def stop_cleaning(self) -> None:
        """End compaction and moves for good, before the engine that hosts the logs goes. Once is enough."""
        self._compaction.stop()
        if self._future is not None:
            self._future.stop()

    def shutdown(self, clean: bool = True) -> None:
        """Close every log, write the checkpoints, then the marker, and let go of the directories.

        clean False: just let go, as after kill -9. No log may be hosted and no other thread inside.
        """
        self.stop_cleaning()
        if clean:
            self._retire_waiting()
        for path in self.live_directories():
            if clean:
                self._shut_down_cleanly(self._directories[path])
        for log in (*self._logs.values(), *self.future_logs(), *self._retiring):
            log.close(clean=False)
        self._retiring.clear()
        self._logs.clear()
        self._future = None
        self._release_directories()

    def _shut_down_cleanly(self, directory: DataDirectory) -> None:
        from pylog.closing import close_logs  # not before the end

        try:
            threads = self.config.num_recovery_threads_per_data_dir
            ends = close_logs(directory, self._logs_in(directory), sys=self._sys, clock=self._clock, threads=threads)
            directory.write(directory.recovery_points, lambda: _recovery_points(ends))
            directory.write(directory.log_starts, lambda: _log_starts(ends))
            put_clean_shutdown_marker(directory.path)
        except OSError as e:
            _log.error(
                "log directory not closed in order, the next start recovers it", directory=directory.path, error=e
            )


def _duplicate(one: Log, other: Log) -> DuplicateLogError:
    return DuplicateLogError(
        f"partition {one.partition} lies in two log directories, {one.path} and {other.path}: move the one away"
        " that is not the replica"
    )


def _recovery_points(ends: Mapping[TopicPartition, tuple[int, int, int]]) -> dict[TopicPartition, int]:
    return {partition: recovery_point for partition, (_, _, recovery_point) in ends.items()}


def _log_starts(ends: Mapping[TopicPartition, tuple[int, int, int]]) -> dict[TopicPartition, int]:
    """Only of logs that start above their first segment: the others say it by their first file's name."""
    return {partition: start for partition, (start, first, _) in ends.items() if start > first}
