"""The offset checkpoints of a data directory: one offset per partition, four files of one format.

Keeps true: a checkpoint is replaced as a whole and durably, and what it says was already true on disk when it was
written (the caller writes it after the data). A file that breaks the format raises CorruptFileError, which names the
line; the consequence is the caller's and never loses records: without recovery points every segment is checked at the
next unclean start, without log start offsets a log begins at its first segment, without high watermarks replication
finds them again.

    0                      version
    2                      number of entries
    orders 0 180           topic partition offset
    orders 1 2281
"""

import os
from collections.abc import Mapping

from pylog.files import CorruptFileError, read_file, replace_file
from pylog.types import TopicPartition

RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_FILE = "log-start-offset-checkpoint"
HIGH_WATERMARK_FILE = "replication-offset-checkpoint"
CLEANER_FILE = "cleaner-offset-checkpoint"

_VERSION = 0


def read_numbered_lines(path: str, data: bytes) -> list[bytes]:
    """The lines of a checkpoint after its version and count, both checked. Shared by every checkpoint of Kafka's."""
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) < 2:
        raise CorruptFileError(path, len(lines) + 1, "the file ends before its number of entries")
    if lines[0] != b"%d" % _VERSION:
        raise CorruptFileError(path, 1, f"version {_VERSION} expected, found {_shown(lines[0])}")
    if not lines[1].isdigit():
        raise CorruptFileError(path, 2, f"number of entries expected, found {_shown(lines[1])}")
    entries = lines[2:]
    expected = int(lines[1])
    if len(entries) != expected:
        raise CorruptFileError(path, 2, f"{expected} entries announced, {len(entries)} found")
    return entries


def write_numbered_lines(lines: list[str]) -> bytes:
    """The bytes of a checkpoint with these entries."""
    return "\n".join([str(_VERSION), str(len(lines)), *lines, ""]).encode()


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))


class OffsetCheckpoint:
    """One checkpoint file. One thread at a time may write; it remembers what it wrote, so an unchanged checkpoint costs
    nothing."""

    __slots__ = ("_written", "path")

    def __init__(self, directory: str, name: str) -> None:
        self.path = os.path.join(directory, name)
        self._written: bytes | None = None

    def read(self) -> dict[TopicPartition, int]:
        """Every entry; none when there is no file. Raises CorruptFileError."""
        data = read_file(self.path)
        if data is None:
            return {}
        return dict(self._parse(data))

    def _parse(self, data: bytes) -> list[tuple[TopicPartition, int]]:
        entries = []
        for number, line in enumerate(read_numbered_lines(self.path, data), 3):
            try:
                topic, partition, at = line.split(b" ")
                offset = int(at)
                if offset < 0:
                    raise ValueError(offset)
                entries.append((TopicPartition(topic.decode(), int(partition)), offset))
            except ValueError:
                raise CorruptFileError(
                    self.path, number, f"topic, partition and offset expected, found {_shown(line)}"
                ) from None
        return entries

    def write(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Replace the file unless it holds these bytes by our own last write. Says whether it did. Raises OSError."""
        data = write_numbered_lines([f"{topic} {partition} {at}" for (topic, partition), at in offsets.items()])
        if data == self._written:
            return False
        self._written = None
        replace_file(self.path, data)
        self._written = data
        return True
