"""What the verbs of `pylog log` are pointed at, and how far they are with it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster.cli.arguments import non_negative_int
from cluster.cli.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from pylog.partition_files import LogDirectory, PartitionFiles

_SHOW_AFTER_S = 0.5
_REFRESH_S = 0.1


def add_target(parser: argparse.ArgumentParser, *, metavar: str = "DIR") -> None:
    """The directory, and which partitions of it."""
    parser.add_argument("path", metavar=metavar, help="a data directory, a partition's directory, or one of its files")
    parser.add_argument(
        "-t", "--topic", action="append", metavar="NAME", help="only this topic; may be given several times"
    )
    parser.add_argument(
        "-p", "--partition", action="append", type=non_negative_int, metavar="N", help="only this partition"
    )


def target(options: argparse.Namespace) -> LogDirectory:
    """What the options of `add_target` name. Raises OSError, NotALogDirectory, UsageError when nothing is left."""
    from pylog.partition_files import log_directory

    directory = log_directory(options.path)
    if not options.topic and not options.partition:
        return directory
    chosen = [files for files in directory.partitions if _is_chosen(files, options)]
    if not chosen:
        raise UsageError(f"{options.path} has no such partition")
    return directory._replace(partitions=chosen, whole=False)


def _is_chosen(files: PartitionFiles, options: argparse.Namespace) -> bool:
    partition = files.partition
    if partition is None:
        return False
    return (not options.topic or partition.topic in options.topic) and (
        not options.partition or partition.partition in options.partition
    )


def log_bytes(partitions: Iterable[PartitionFiles]) -> int:
    """Of all .log files: what there is to read."""
    return sum(files.size_bytes() for files in partitions)


class ByteProgress:
    """A bar on stderr for work over bytes; drawn once it has taken half a second, and only on a terminal."""

    def __init__(self, verb: str, total_bytes: int, *, enabled: bool = True) -> None:
        self._verb = verb
        self._total = total_bytes
        self._done = 0
        self._enabled = enabled and sys.stderr.isatty()
        self._next_draw = time.monotonic() + _SHOW_AFTER_S
        self._progress: Progress | None = None

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, size_bytes: int) -> None:
        """So many more bytes are done."""
        self._done += size_bytes
        if self._enabled and time.monotonic() >= self._next_draw:
            self._draw()

    def _draw(self) -> None:
        if self._progress is None:
            self._progress = self._start_drawing()
        self._progress.update(self._progress.task_ids[0], completed=self._done)
        self._progress.refresh()
        self._next_draw = time.monotonic() + _REFRESH_S

    def _start_drawing(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        # No refresh thread: what is drawn changes only in `add`.
        progress = Progress(
            TextColumn(self._verb),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        progress.start()
        progress.add_task(self._verb, total=self._total)
        return progress
