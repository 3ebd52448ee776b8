"""How far each log is clean: cleaner-offset-checkpoint, one in each data directory.

Keeps true: a file says only what a finished cleaning has made true, and names no partition that is gone. A file that is
missing or cannot be read costs a cleaning from the start of the logs, never a record. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pylog.checkpoint import CLEANER_FILE, OffsetCheckpoint
from pylog.files import CorruptFileError
from pylog.logger import Logger
from pylog.types import TopicPartition

_log = Logger("LogCleaner")


class CleanerOffsets:
    """The first dirty offset of every log that was cleaned, by data directory."""

    __slots__ = ("_directories", "_guard", "_partitions_in")

    def __init__(self, partitions_in: Callable[[str], Iterable[TopicPartition]]) -> None:
        """partitions_in: the partitions that a data directory holds at present."""
        self._partitions_in = partitions_in
        self._guard = threading.Lock()
        self._directories: dict[str, tuple[OffsetCheckpoint, dict[TopicPartition, int]]] = {}

    def _of(self, directory: str) -> tuple[OffsetCheckpoint, dict[TopicPartition, int]]:
        found = self._directories.get(directory)
        if found is None:
            file = OffsetCheckpoint(directory, CLEANER_FILE)
            try:
                offsets = file.read()
            except CorruptFileError as e:
                _log.warn("checkpoint unreadable, logs count as never cleaned", error=e)
                offsets = {}
            found = self._directories[directory] = (file, offsets)
        return found

    def get(self, directory: str, partition: TopicPartition) -> int | None:
        """The first dirty offset, None when the log was never cleaned. Raises OSError."""
        with self._guard:
            return self._of(directory)[1].get(partition)

    def put(self, directory: str, partition: TopicPartition, offset: int) -> None:
        """The log is clean below offset. Raises OSError."""
        with self._guard:
            file, offsets = self._of(directory)
            offsets[partition] = offset
            self._write(directory, file, offsets)

    def cut(self, directory: str, partition: TopicPartition, offset: int) -> None:
        """What is written from offset on is dirty, whatever was there before. Raises OSError."""
        with self._guard:
            file, offsets = self._of(directory)
            if offsets.get(partition, 0) > offset:
                offsets[partition] = offset
                self._write(directory, file, offsets)

    def forget(self, directory: str, partition: TopicPartition) -> None:
        """The log is gone. Raises OSError."""
        with self._guard:
            file, offsets = self._of(directory)
            if offsets.pop(partition, None) is not None:
                self._write(directory, file, offsets)

    def _write(self, directory: str, file: OffsetCheckpoint, offsets: dict[TopicPartition, int]) -> None:
        there = set(self._partitions_in(directory))
        for partition in [partition for partition in offsets if partition not in there]:
            del offsets[partition]
        file.write(offsets)
