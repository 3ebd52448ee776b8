"""Future logs: copies of logs that are being built in other data directories, until they take their places.

Keeps true:
- a copy is at every moment a beginning of the log it is made from; it lies in `topic-N.<32 hex>-future`;
- before a copy may take the place of its log it is flushed, and the directories of both say so, durably. So a process
  that dies while the two change places leaves one answer to which of them is the partition's log: the copy if it has
  everything that the log has, else the log (`moved_on`);
- threads run only while something is copied; all together move no more than so many bytes in a second; nothing is
  copied to a disk that has no room above its reserve, it goes on when there is.

Loaded when the first log is moved, or an unfinished copy is found. Any thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from pylog._native import NativeError
from pylog.clock import Clock
from pylog.disk_space import Reserve, disk_space, room_left
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.files import NO_ROOM, FlushError, sync_directory, unlink_if_there
from pylog.log import Log
from pylog.logger import Logger
from pylog.types import TopicPartition

#: An empty file in the directory of a log and in that of the copy that is about to take its place, `<this><32 hex>`,
#: the same in both: it needs no room on a full disk, and Apache Kafka, which does not know it, leaves it alone.
MOVING_PREFIX = "pylog-moving."

#: How much of a log may be missing in its copy when the two change places, and how much is copied at once.
STEP_BYTES = 1 << 20
_SMALLEST_STEP_BYTES = 16 << 10
_LONGEST_WAIT_MS = 100
_NO_ROOM_WAIT_MS = 1_000

_log = Logger("ReplicaAlterLogDirs")


def announce_move(source: str, copy: str) -> None:
    """Say in both partition directories, durably, that the copy is about to take the place of source. Raises
    OSError."""
    withdraw_move(copy)
    withdraw_move(source)
    name = MOVING_PREFIX + os.urandom(16).hex()
    for path in (copy, source):
        os.close(os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        sync_directory(path)


def withdraw_move(path: str) -> None:
    """Take back what was announced in a partition directory, durably. Raises OSError."""
    names = _announced(path)
    for name in names:
        unlink_if_there(os.path.join(path, name))
    if names:
        sync_directory(path)


def _announced(path: str) -> set[str]:
    return {name for name in os.listdir(path) if name.startswith(MOVING_PREFIX)}


def moved_on(log: Log, copy: Log) -> bool:
    """Whether the copy, found beside the log after a crash, is the partition's log now: it was announced, and has all
    that the log has. Raises OSError."""
    announced = _announced(log.path) & _announced(copy.path)
    return bool(announced) and copy.info().log_end_offset >= log.info().log_end_offset


class MoveConfig(NamedTuple):
    """The settings of moves as they are now."""

    threads: int = 1
    """num.replica.alter.log.dirs.threads"""
    bytes_per_second: int | None = None
    """replica.alter.log.dirs.io.max.bytes.per.second; None: as fast as it goes, 0: not at all"""
    reserve: Reserve = Reserve()
    """What is kept free on every disk."""


class Pace:
    """How long to wait so that no more bytes are moved than may be in a second. Pure; times in ms."""

    __slots__ = ("_at_ms", "_debt_bytes")

    def __init__(self, now_ms: int) -> None:
        self._debt_bytes = 0.0
        self._at_ms = now_ms

    def moved(self, size_bytes: int) -> None:
        self._debt_bytes += size_bytes

    def wait_ms(self, now_ms: int, bytes_per_second: int | None) -> float:
        """Until the next bytes may be moved, if the rate stays what it is."""
        elapsed_ms, self._at_ms = now_ms - self._at_ms, now_ms
        if bytes_per_second is None:
            self._debt_bytes = 0.0
            return 0.0
        self._debt_bytes = max(0.0, self._debt_bytes - bytes_per_second * elapsed_ms / 1000)
        if bytes_per_second == 0:
            return float("inf")
        return self._debt_bytes * 1000 / bytes_per_second


def step_bytes(bytes_per_second: int | None) -> int:
    """How much to copy at once: a tenth of what may be moved in a second."""
    if bytes_per_second is None:
        return STEP_BYTES
    return min(max(bytes_per_second // 10, _SMALLEST_STEP_BYTES), STEP_BYTES)


class FutureLogs:
    """The copies by partition, and the threads that fill them."""

    __slots__ = (
        "_caught_up",
        "_clock",
        "_config_of",
        "_guard",
        "_logs",
        "_on_disk_error",
        "_pace",
        "_queue",
        "_source_of",
        "_stopping",
        "_threads",
    )

    def __init__(
        self,
        config_of: Callable[[], MoveConfig],
        *,
        clock: Clock,
        source_of: Callable[[TopicPartition], Log | None],
        caught_up: Callable[[TopicPartition], None],
        on_disk_error: Callable[[str, OSError], None],
    ) -> None:
        """source_of: the log that a copy is made from. caught_up: told when hardly anything is missing, on a thread of
        this; the copy is then to take the log's place or to be given to `go_on`. on_disk_error: told the data
        directory in which it happened."""
        self._config_of = config_of
        self._clock = clock
        self._source_of = source_of
        self._caught_up = caught_up
        self._on_disk_error = on_disk_error
        self._guard = threading.Lock()
        self._logs: dict[TopicPartition, Log] = {}
        self._queue: deque[Log] = deque()
        self._threads: set[threading.Thread] = set()
        self._pace = Pace(clock.monotonic_ms())
        self._stopping = threading.Event()

    # ---------------------------------------------------------------------------------- which there are

    def get(self, partition: TopicPartition) -> Log | None:
        return self._logs.get(partition)

    def logs(self) -> list[Log]:
        with self._guard:
            return list(self._logs.values())

    def put(self, log: Log) -> Log | None:
        """A copy that is there; None, or the other one that there is already."""
        with self._guard:
            other = self._logs.setdefault(log.partition, log)
        return None if other is log else other

    def take(self, partition: TopicPartition) -> Log | None:
        """Nothing is copied to it any more once the step under way is over, which whoever closes it waits for."""
        with self._guard:
            return self._logs.pop(partition, None)

    # ---------------------------------------------------------------------------------- copying

    def go_on(self, log: Log) -> None:
        """Copy what is missing."""
        with self._guard:
            if self._stopping.is_set() or self._logs.get(log.partition) is not log:
                return
            self._queue.append(log)
            if len(self._threads) >= max(self._config_of().threads, 1):
                return
            thread = threading.Thread(target=self._run, name="alter-log-dirs", daemon=True)
            self._threads.add(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads; copies stay as they are. Once is enough."""
        self._stopping.set()
        with self._guard:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._guard:
                if self._stopping.is_set() or not self._queue:
                    self._threads.discard(threading.current_thread())
                    return
                copy = self._queue.popleft()
            try:
                self._fill(copy)
            except OSError as e:
                self._on_disk_error(_directory_of(e, copy), e)
            except (KafkaError, NativeError) as e:
                _log.error("cannot be copied, stays where it is", partition=copy.partition, error=e)

    def _fill(self, copy: Log) -> None:
        """Copy until the end is near, and say so; or until there is nothing to be copied to or from."""
        flushed = announced = False
        while not self._stopping.is_set():
            source = self._source_of(copy.partition)
            if source is None or self._logs.get(copy.partition) is not copy:
                return
            try:
                near = self._step(copy, source)
                if near is None:
                    return
                if not near:
                    continue
                if flushed and not announced and not self._announce(copy, source):
                    return
                announced = flushed
                copy.flush(self._clock.monotonic_ms())
                flushed = True
            except OSError as e:
                if e.errno not in NO_ROOM or isinstance(e, FlushError):
                    raise
                _log.warn("disk full, moving waits", partition=copy.partition, error=e)
                self._stopping.wait(_NO_ROOM_WAIT_MS / 1000)
                continue
            if announced:
                self._caught_up(copy.partition)
                return

    def _announce(self, copy: Log, source: Log) -> bool:
        return copy.if_open(lambda: source.if_open(lambda: announce_move(source.path, copy.path)))

    def _step(self, copy: Log, source: Log) -> bool | None:
        """Copy some when it may be. True: all that was there when it began is in the copy; None: one is closed."""
        config = self._config_of()
        wait_ms = self._wait_ms(copy, config)
        if wait_ms > 0:
            self._stopping.wait(wait_ms / 1000)
            return False
        end = source.end_offset()
        copied = copy.copy_from(source, step_bytes(config.bytes_per_second), self._clock.wall_ms())
        reached = copy.end_offset()
        if end is None or copied is None or reached is None:
            return None
        with self._guard:
            self._pace.moved(copied)
        return reached >= end

    def _wait_ms(self, copy: Log, config: MoveConfig) -> float:
        with self._guard:
            wait_ms = self._pace.wait_ms(self._clock.monotonic_ms(), config.bytes_per_second)
        if wait_ms > 0:
            return min(wait_ms, _LONGEST_WAIT_MS)
        return _NO_ROOM_WAIT_MS if room_left(disk_space(copy.directory), config.reserve) < STEP_BYTES else 0


def _directory_of(error: OSError, copy: Log) -> str:
    """The data directory in which it happened: the copy's unless the error names another one."""
    path = error.filename
    if isinstance(path, str) and not path.startswith(copy.directory + os.sep) and path != copy.directory:
        return os.path.dirname(path.rstrip(os.sep))
    return copy.directory
