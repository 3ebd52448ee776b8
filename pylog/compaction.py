"""What a log manager knows of compaction before there is anything to compact: its settings, and when to begin.

Keeps true: nothing of the cleaner is loaded, and none of its threads runs, before a log is there that could be cleaned;
whether or not they run, a log that is cut or deleted takes its first dirty offset along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pylog._native import Sys
from pylog.clock import Clock
from pylog.facts import NamedTuple
from pylog.schedule import Schedule
from pylog.typed import TYPE_CHECKING
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from pylog.cleaner import Cleaner
    from pylog.cleaner_offsets import CleanerOffsets
    from pylog.log import Log


class CleanerConfig(NamedTuple):
    """The broker's settings of compaction, Kafka's log.cleaner.*. Sizes in bytes, times in ms."""

    threads: int = 1
    dedupe_buffer_size: int = 128 << 20
    io_buffer_load_factor: float = 0.9
    io_buffer_size: int = 512 << 10
    io_max_bytes_per_second: float = float("inf")
    backoff_ms: int = 15_000


class Compaction:
    """The cleaner of a log manager. Any thread."""

    __slots__ = (
        "_cleaner",
        "_clock",
        "_config_of",
        "_guard",
        "_held",
        "_logs",
        "_offsets",
        "_on_disk_error",
        "_on_replaced",
        "_paused",
        "_stopped",
        "_sys",
    )

    def __init__(
        self,
        config_of: Callable[[], CleanerConfig] | None,
        *,
        sys: Sys,
        clock: Clock,
        logs: Callable[[], list[Log]],
        on_disk_error: Callable[[str, OSError], None],
        on_replaced: Callable[[Log], None],
    ) -> None:
        """config_of: the settings as they are now; None: nothing is compacted. The rest is as in Cleaner."""
        self._config_of = config_of
        self._sys = sys
        self._clock = clock
        self._logs = logs
        self._on_disk_error = on_disk_error
        self._on_replaced = on_replaced
        self._cleaner: Cleaner | None = None
        self._offsets: CleanerOffsets | None = None
        self._stopped = False
        self._guard = threading.Lock()
        self._held: set[TopicPartition] = set()
        self._paused: dict[TopicPartition, int] = {}

    def schedule(self, schedule: Schedule) -> None:
        """Look from time to time whether there is something to clean."""
        if self._config_of is not None:
            period_ms = max(self._config_of().backoff_ms, 1)
            schedule.every(period_ms, self._clock.monotonic_ms() + period_ms, self.start_when_needed)

    def start_when_needed(self) -> None:
        """Start the threads when a compacted log has a closed segment, and later as many as are wanted then. One thread
        at a time."""
        if self._stopped or (self._cleaner is None and not any(map(_could_be_cleaned, self._logs()))):
            return
        cleaner = self.cleaner()
        cleaner.start()
        if self._stopped:
            cleaner.stop()

    def cleaner(self) -> Cleaner:
        """The cleaner, its threads not started by this. Raises RuntimeError when nothing is to be compacted."""
        if self._config_of is None:
            raise RuntimeError("log.cleaner.enable is false")
        if self._cleaner is None:
            from pylog.cleaner import Cleaner

            cleaner = Cleaner(
                config_of=self._config_of,
                sys=self._sys,
                clock=self._clock,
                logs=self._logs,
                offsets=self.offsets(),
                on_disk_error=self._on_disk_error,
                on_replaced=self._on_replaced,
            )
            with self._guard:
                for partition in self._held:
                    cleaner.pause(partition)
                for partition, times in self._paused.items():
                    for _ in range(times):
                        cleaner.pause(partition)
                self._cleaner = cleaner
        return self._cleaner

    def offsets(self) -> CleanerOffsets:
        """How far each log is clean."""
        if self._offsets is None:
            from pylog.cleaner_offsets import CleanerOffsets

            self._offsets = CleanerOffsets(self._partitions_in)
        return self._offsets

    def _partitions_in(self, directory: str) -> list[TopicPartition]:
        return [log.partition for log in self._logs() if log.directory == directory]

    def pause(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """No pass is in these logs on return, until `resume` is told what this returned: also when the cleaner starts
        only now."""
        held = list(partitions)
        with self._guard:
            for partition in held:
                self._paused[partition] = self._paused.get(partition, 0) + 1
            cleaner = self._cleaner
        if cleaner is not None:
            for partition in held:
                cleaner.pause(partition)
        return held

    def resume(self, held: list[TopicPartition]) -> None:
        with self._guard:
            for partition in held:
                self._paused[partition] -= 1
                if not self._paused[partition]:
                    del self._paused[partition]
            cleaner = self._cleaner
        if cleaner is not None:
            for partition in held:
                cleaner.resume(partition)

    def hold(self, partition: TopicPartition) -> None:
        """No pass is in this log on return, until `let_go`, whether or not the cleaner is there already."""
        with self._guard:
            if partition in self._held:
                return
            self._held.add(partition)
            cleaner = self._cleaner
        if cleaner is not None:
            cleaner.pause(partition)

    def let_go(self, partition: TopicPartition) -> None:
        """Undo `hold`; nothing when it was not held."""
        with self._guard:
            if partition not in self._held:
                return
            self._held.discard(partition)
            cleaner = self._cleaner
        if cleaner is not None:
            cleaner.resume(partition)

    def moved(self, old: Log, new: Log) -> None:
        """The log lies in another directory now; it is as clean there. Raises OSError."""
        if new.config.compact:
            offset = self.offsets().get(old.directory, old.partition)
            if offset is not None:
                self.offsets().put(new.directory, new.partition, offset)
                self.offsets().forget(old.directory, old.partition)

    def cut(self, log: Log) -> None:
        """The log was cut: what its active segment will hold is dirty. Not while a pass is in it. Raises OSError."""
        if log.config.compact:
            self.offsets().cut(log.directory, log.partition, log.segments()[-1].base_offset)

    def forget(self, logs: Iterable[Log]) -> None:
        """The logs are deleted; a log of the same name begins anew. Raises OSError."""
        for log in logs:
            if log.config.compact:
                self.offsets().forget(log.directory, log.partition)

    def stop(self) -> None:
        """End the passes under way, and the threads. Once is enough; nothing starts again."""
        self._stopped = True
        if self._cleaner is not None:
            self._cleaner.stop()


def _could_be_cleaned(log: Log) -> bool:
    return log.config.compact and log.is_open() and log.info().segment_count > 1
