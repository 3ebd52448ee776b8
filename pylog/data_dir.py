"""One data directory: who holds it, how it was closed, which partitions lie in it.

Keeps true: while `DirectoryLock` is held no other process, ours or a JVM, uses the directory; the clean-shutdown marker
is there only while nobody runs and every log was closed in order: it is taken away, durably, before any log is opened,
and put back last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Mapping

from pylog.checkpoint import HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, FlushError, read_file, replace_file, sync_directory, unlink_if_there
from pylog.typed import TYPE_CHECKING
from pylog.types import TopicPartition, topic_partition

if TYPE_CHECKING:
    from pylog._native import Sys

LOCK_FILE = ".lock"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
METADATA_TOPIC = "__cluster_metadata"

DELETE_SUFFIX = "-delete"
FUTURE_SUFFIX = "-future"
STRAY_SUFFIX = "-stray"
_MAX_NAME_BYTES = 255
_UNIQUE_BYTES = 16

# struct flock of 64-bit Linux: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi4x")


class DirectoryInUse(Exception):
    """Another process (or another part of this one) holds the data directory."""


class DirectoryLock:
    """The lock on `.lock` that Java's FileLock takes: a POSIX record lock over the whole file, of the process.

    POSIX drops a process's locks on a file when any of its descriptors is closed and never refuses the process itself,
    so what this process holds is also kept in a set.
    """

    __slots__ = ("_fd", "_identity", "directory", "path")

    _held: set[tuple[int, int]] = set()
    _held_guard = threading.Lock()

    def __init__(self, directory: str) -> None:
        """Take the lock. Raises DirectoryInUse, or OSError when the directory does not let us."""
        self.directory = directory
        self.path = os.path.join(directory, LOCK_FILE)
        with self._held_guard:
            self._fd, self._identity = self._take()
            self._held.add(self._identity)

    def _take(self) -> tuple[int, tuple[int, int]]:
        while True:
            self._refuse_if_ours()
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = os.fstat(fd)
                identity = (locked.st_dev, locked.st_ino)
                # The holder before us removes the file as it leaves: a lock on a file without a name would guard
                # nothing.
                if self._file_identity() == identity:
                    return fd, identity
            except OSError as e:
                holder = self._holder(fd) if e.errno in (errno.EACCES, errno.EAGAIN) else None
                os.close(fd)
                if holder is None:
                    raise
                raise DirectoryInUse(f"log directory {self.directory} is in use by {holder} ({self.path})") from None
            os.close(fd)

    def _refuse_if_ours(self) -> None:
        if self._file_identity() in self._held:
            raise DirectoryInUse(f"log directory {self.directory} is in use by this process already ({self.path})")

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @staticmethod
    def _holder(fd: int) -> str:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        pid = _FLOCK.unpack(answer)[4]
        return f"process {pid}" if pid > 0 else "another process"

    @property
    def fd(self) -> int:
        """Of its file, which is open as long as the lock is held."""
        return self._fd

    @classmethod
    def is_ours(cls, identity: tuple[int, int]) -> bool:
        """Whether this process holds the lock file of this device and inode."""
        return identity in cls._held

    def release(self) -> None:
        """Remove the file and let go; once is enough."""
        with self._held_guard:
            if self._identity not in self._held:
                return
            self._held.discard(self._identity)
            try:
                unlink_if_there(self.path)
            except OSError:
                pass  # a directory that failed: the lock ends with the descriptor, the file stands in nobody's way
            os.close(self._fd)


def lock_holder(directory: str) -> int | None:
    """The id of the process that holds the directory (0: it cannot be told), None when nobody does. Takes no lock.

    Raises OSError.
    """
    path = os.path.join(directory, LOCK_FILE)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if DirectoryLock.is_ours((found.st_dev, found.st_ino)):
        return os.getpid()  # and to open the file and close it again would drop our lock
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else max(int(pid), 0)


def take_clean_shutdown_marker(directory: str) -> bool:
    """Whether the directory was closed in order. From now on it counts as not: the marker is gone, durably, on
    return; also when an earlier start removed it and died before that was durable. Raises OSError."""
    there = unlink_if_there(os.path.join(directory, CLEAN_SHUTDOWN_FILE))
    sync_directory(directory)
    return there


def put_clean_shutdown_marker(directory: str, broker_epoch: int = -1) -> None:
    """Every log of the directory is closed and checkpointed; say so. Raises OSError."""
    text = f'{{"version":0,"brokerEpoch":{broker_epoch}}}'
    replace_file(os.path.join(directory, CLEAN_SHUTDOWN_FILE), text.encode())


def clean_shutdown_epoch(directory: str) -> int | None:
    """The broker epoch in the marker (-1 in ZooKeeper mode), None without one. Raises CorruptFileError."""
    path = os.path.join(directory, CLEAN_SHUTDOWN_FILE)
    data = read_file(path)
    if data is None:
        return None
    import json

    try:
        return int(json.loads(data)["brokerEpoch"])
    except (ValueError, KeyError, TypeError):
        raise CorruptFileError(path, 1, "version and brokerEpoch in JSON expected") from None


class DataDirectory:
    """One live data directory: its lock and its checkpoints."""

    __slots__ = ("_checkpoint_guard", "_lock", "high_watermarks", "log_starts", "path", "recovery_points")

    def __init__(self, path: str) -> None:
        """Create it if need be and lock it. Raises OSError, DirectoryInUse."""
        os.makedirs(path, exist_ok=True)
        self.path = path
        self._lock = DirectoryLock(path)
        self._checkpoint_guard = threading.Lock()
        self.recovery_points = OffsetCheckpoint(path, RECOVERY_POINT_FILE)
        self.log_starts = OffsetCheckpoint(path, LOG_START_OFFSET_FILE)
        self.high_watermarks = OffsetCheckpoint(path, HIGH_WATERMARK_FILE)

    def write(self, checkpoint: OffsetCheckpoint, offsets: Callable[[], Mapping[TopicPartition, int]]) -> None:
        """Replace one of its checkpoints by what offsets() says once nobody else is writing. Raises OSError."""
        with self._checkpoint_guard:
            checkpoint.write(offsets())

    # The sync of the file system tells of what failed since its descriptor was opened: the lock's, before any log.

    def syncs_all(self, sys: Sys) -> None:
        """Raises OSError when `sync_all` would not tell of every write to it that failed."""
        sys.syncs_all(self._lock.fd)

    def sync_all(self, sys: Sys) -> None:
        """Make everything durable that was written to its file system. Raises FlushError: some of that may be lost,
        whoever wrote it, now or since the directory was locked."""
        try:
            sys.sync_all(self._lock.fd)
        except OSError as e:
            raise FlushError(e.errno, e.strerror, self.path) from e

    def shares_file_system(self, path: str) -> bool:
        """Whether `sync_all` is of that path too: a partition's directory may be a link. Raises OSError."""
        return os.stat(path).st_dev == os.fstat(self._lock.fd).st_dev

    def release(self) -> None:
        self._lock.release()


class PartitionDirectories(NamedTuple):
    """What lies in a data directory, by the names of its subdirectories."""

    current: list[tuple[TopicPartition, str]]
    future: list[tuple[TopicPartition, str]]
    """Copies that AlterReplicaLogDirs was building."""
    deleted: list[str]
    """Left to be removed."""
    strange: list[str]
    """Not ours to touch: strays, KRaft's metadata log, anything whose name is no partition's."""


def list_partition_directories(directory: str) -> PartitionDirectories:
    """Sort the subdirectories of a data directory by what they are; paths are absolute as `directory` is."""
    found = PartitionDirectories([], [], [], [])
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                _sort_in(found, entry.name, os.path.join(directory, entry.name))
    return found


def _sort_in(found: PartitionDirectories, name: str, path: str) -> None:
    if name.endswith(DELETE_SUFFIX) and _unique_part(name, DELETE_SUFFIX) is not None:
        found.deleted.append(path)
        return
    future = _unique_part(name, FUTURE_SUFFIX)
    partition = topic_partition(name if future is None else future)
    if partition is None or partition.topic == METADATA_TOPIC:
        found.strange.append(path)
    elif future is None:
        found.current.append((partition, path))
    else:
        found.future.append((partition, path))


def _unique_part(name: str, suffix: str) -> str | None:
    """What stands before `.<32 hex><suffix>`, None when the name has not that form."""
    head = name.removesuffix(suffix)
    before, dot, unique = head.rpartition(".")
    if head == name or not dot or len(unique) != 2 * _UNIQUE_BYTES or unique.strip("0123456789abcdef"):
        return None
    return before


def renamed_directory_name(partition: TopicPartition, suffix: str) -> str:
    """`topic-N.<32 hex><suffix>`, the topic cut where the whole would be longer than a file name may be."""
    tail = f"-{partition.partition}.{os.urandom(_UNIQUE_BYTES).hex()}{suffix}"
    return partition.topic[: _MAX_NAME_BYTES - len(tail)] + tail
