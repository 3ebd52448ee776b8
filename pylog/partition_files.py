"""What lies in a Kafka directory, for tools: partitions, their segments, their side files. Read only.

Keeps true: nothing is settled, locked or written; a directory that a broker is working in may change while it is looked
at, and what is gone by then is left out. Files set aside (.deleted, .cleaned, .swap) are no part of a partition.
"""

from __future__ import annotations

import errno
import os

from pylog.checkpoint import LOG_START_OFFSET_FILE, OffsetCheckpoint
from pylog.data_dir import LOCK_FILE, list_partition_directories
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError
from pylog.leader_epoch import LEADER_EPOCH_FILE
from pylog.meta_properties import META_PROPERTIES_FILE
from pylog.partition_metadata import PARTITION_METADATA_FILE
from pylog.segment import LOG_SUFFIX, SNAPSHOT_SUFFIX, segment_file, segment_file_name
from pylog.types import TopicPartition, topic_partition

_ZEROS_BYTES = 1 << 16


class NotALogDirectory(ValueError):
    """The path names neither a data directory nor a partition's directory nor one of its files."""


class PartitionFiles(NamedTuple):
    """One partition's directory."""

    name: str
    """Its own name: `topic-N`, with what marks a copy or a stray behind it."""
    path: str
    data_directory: str
    bases: tuple[int, ...]
    """Base offsets of its segments, ascending."""
    snapshots: tuple[int, ...]
    """Offsets of its producer snapshots, ascending."""

    @property
    def partition(self) -> TopicPartition | None:
        """What the name says, None for a copy, a stray, or a directory by another name."""
        return topic_partition(self.name)

    def file(self, base_offset: int, suffix: str) -> str:
        """The path of a segment's file."""
        return os.path.join(self.path, segment_file_name(base_offset, suffix))

    def side_file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def size_bytes(self, suffix: str = LOG_SUFFIX) -> int:
        """Of all its files of one kind."""
        return sum(file_size(self.file(base, suffix)) for base in self.bases)


def file_size(path: str) -> int:
    """0 when it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def read_preallocated(path: str) -> tuple[bytes, int] | None:
    """A file without the zeros at its end, and its size with them; None when it is not there. Raises OSError.

    Indexes that are written to are megabytes long and nearly empty: what the file system knows as a hole is not read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        end = size
        while end > 0:
            begin = max(0, end - _ZEROS_BYTES)
            try:
                begin = os.lseek(fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                begin = end  # a hole to the end of the file
            piece = os.pread(fd, end - begin, begin) if begin < end else b""
            used = len(piece.rstrip(b"\0"))
            if used:
                return os.pread(fd, begin + used, 0), size
            end = max(0, end - _ZEROS_BYTES)
        return b"", size
    finally:
        os.close(fd)


def partition_files(path: str) -> PartitionFiles:
    """The partition in a directory. Raises OSError."""
    full = os.path.abspath(path)
    bases, snapshots = [], []
    for name in os.listdir(path):
        file = segment_file(name)
        if file is None or file.state:
            continue
        if file.kind == LOG_SUFFIX:
            bases.append(file.offset)
        elif file.kind == SNAPSHOT_SUFFIX:
            snapshots.append(file.offset)
    return PartitionFiles(
        os.path.basename(full), path, os.path.dirname(full), tuple(sorted(bases)), tuple(sorted(snapshots))
    )


class LogDirectory(NamedTuple):
    """What a user pointed at."""

    path: str
    """The data directory, even when only a part of it was meant."""
    partitions: list[PartitionFiles]
    whole: bool
    """A data directory as a whole was meant: its checkpoints too."""
    only_file: str | None = None
    """The one file that was meant."""


def log_directory(path: str) -> LogDirectory:
    """What path names: a data directory, a partition's directory, or a file of one.

    Raises OSError, NotALogDirectory.
    """
    if not os.path.isdir(path):
        os.stat(path)
        if not is_partition_file(os.path.basename(path)):
            raise NotALogDirectory(f"{path} is no file of a partition, such as 00000000000000000000.log")
        partition = partition_files(os.path.dirname(path) or ".")
        return LogDirectory(partition.data_directory, [partition], False, path)
    names = os.listdir(path)
    if any(map(is_partition_file, names)):
        partition = partition_files(path)
        return LogDirectory(partition.data_directory, [partition], False)
    found = list_partition_directories(path)
    paths = [one for _, one in found.current + found.future] + found.strange
    partitions = [one for one in map(_partition_there, paths) if one is not None]
    partitions.sort(key=lambda one: (one.partition or TopicPartition(one.name, -1), one.name))
    if not partitions and not {META_PROPERTIES_FILE, LOCK_FILE, *(n for n in names if n.endswith("-checkpoint"))} & {
        *names
    }:
        raise NotALogDirectory(f"{path} is neither a data directory nor a partition's directory")
    return LogDirectory(path, partitions, True)


def _partition_there(path: str) -> PartitionFiles | None:
    """None when it is gone, or is no partition's directory after all."""
    try:
        found = partition_files(path)
    except FileNotFoundError:
        return None
    side_files = (LEADER_EPOCH_FILE, PARTITION_METADATA_FILE)
    if found.bases or any(os.path.exists(found.side_file(name)) for name in side_files):
        return found
    return None


def is_partition_file(name: str) -> bool:
    """Whether a file of this name belongs into a partition's directory."""
    return name in (LEADER_EPOCH_FILE, PARTITION_METADATA_FILE) or segment_file(name) is not None


def log_start_offset(files: PartitionFiles) -> int:
    """Where the log begins: its first segment, or further on when records were deleted, as far as the data directory's
    checkpoint knows. 0 without segments."""
    first = files.bases[0] if files.bases else 0
    try:
        starts = OffsetCheckpoint(files.data_directory, LOG_START_OFFSET_FILE).read()
    except (CorruptFileError, OSError):
        return first
    partition = files.partition
    return max(first, starts.get(partition, 0)) if partition is not None else first
