"""Lines about partitions, one for all of a turn of which the same is said.

What stays true: a failover of thousands of partitions is some lines, not thousands, and each names the partitions it is
about, up to NAMES_MAX of them. A line waits for the end of the turn at most. One thread.
"""

from __future__ import annotations

from collections.abc import Callable

from pylog.logger import INFO, WARN, Logger
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pylog.types import TopicPartition

NAMES_MAX: Final = 100

_Line = tuple[int, str, tuple[tuple[str, object], ...]]


class GroupedLog:
    """post: run a task at the end of the turn."""

    __slots__ = ("_lines", "_log", "_post")

    def __init__(self, subject: str, post: Callable[[Callable[[], None]], None]) -> None:
        self._log = Logger(subject)
        self._post = post
        self._lines: dict[_Line, list[TopicPartition]] = {}

    def info(self, message: str, partition: TopicPartition, **fields: object) -> None:
        """Field values that are equal make one line: use tuples, not lists."""
        self._say(INFO, message, partition, fields)

    def warn(self, message: str, partition: TopicPartition, **fields: object) -> None:
        self._say(WARN, message, partition, fields)

    def _say(self, level: int, message: str, partition: TopicPartition, fields: dict[str, object]) -> None:
        if not self._lines:
            self._post(self._write)
        self._lines.setdefault((level, message, tuple(fields.items())), []).append(partition)

    def _write(self) -> None:
        lines, self._lines = self._lines, {}
        for (level, message, fields), partitions in lines.items():
            names = ",".join(map(str, partitions[:NAMES_MAX])) + (",..." if len(partitions) > NAMES_MAX else "")
            self._log.log(level, message, {"partitions": len(partitions), "names": names, **dict(fields)})
