"""Who may change a log: Python itself, or the engine that hosts it.

Keeps true: a log has one writer. While it is Python's, `LocalOwner` calls the log directly; once it has been given to
the engine only the engine's reactor touches it, and `HostedOwner` asks the engine to. Both say the same words, so the
policy above (retention, roll, truncation) does not know which it is.
"""

from __future__ import annotations

from pylog._native import Log as NativeLog
from pylog._native import LogSettings
from pylog.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pylog._cleaning import NativeCleaning


class LogOwner(Protocol):
    """The changes that policy makes to a log. Raises KafkaError and OSError as the log does."""

    def configure(self, settings: LogSettings) -> None:
        """Take up changed topic settings."""

    def roll(self, now_ms: int) -> None:
        """Start a new segment unless the active one is empty."""

    def truncate(self, offset: int, now_ms: int) -> None:
        """Cut everything at and above offset."""

    def truncate_fully(self, offset: int, now_ms: int) -> None:
        """Drop everything and start empty at offset."""

    def set_start(self, offset: int) -> int:
        """Raise the log start offset; returns where the log starts now."""

    def delete_segments(self, upto: int) -> int:
        """Set aside the files of the segments that end at or below upto, but never the active one; how many."""

    def expire_producers(self, before_ms: int) -> int:
        """Forget producers idle since before_ms; how many."""

    def replace(self, cleaning: NativeCleaning) -> None:
        """Put what a pass of compaction has finished in place of what it was made of."""

    def high_watermark(self) -> int:
        """Below it records are committed and may be removed by retention."""

    def last_stable_offset(self) -> int:
        """Below it, and the high watermark, every transaction is decided."""


class LocalOwner:
    """A log of this process's own: one replica, so everything appended is committed. One thread at a time."""

    __slots__ = ("_native",)

    def __init__(self, native: NativeLog) -> None:
        self._native = native

    def configure(self, settings: LogSettings) -> None:
        self._native.configure(settings)

    def roll(self, now_ms: int) -> None:
        self._native.roll(now_ms)

    def truncate(self, offset: int, now_ms: int) -> None:
        self._native.truncate(offset, now_ms)

    def truncate_fully(self, offset: int, now_ms: int) -> None:
        self._native.truncate_fully(offset, now_ms)

    def set_start(self, offset: int) -> int:
        self._native.set_start(offset)
        return self._native.info().log_start_offset

    def delete_segments(self, upto: int) -> int:
        return self._native.delete_segments(upto)

    def expire_producers(self, before_ms: int) -> int:
        return self._native.expire_producers(before_ms)

    def replace(self, cleaning: NativeCleaning) -> None:
        self._native.replace(cleaning.pointer)

    def exchange(self, copy: NativeLog, directory: str, most_bytes: int, now_ms: int) -> bool:
        """Complete a copy of the log, rename its directory and use it instead. False: more than most_bytes are missing,
        of which some were copied."""
        copy.copy_from(self._native, most_bytes, now_ms)
        if copy.info().log_end_offset != self._native.info().log_end_offset:
            return False
        copy.rename(directory)
        return True

    def high_watermark(self) -> int:
        return self._native.info().log_end_offset

    def last_stable_offset(self) -> int:
        info = self._native.info()
        return min(info.log_end_offset, info.last_stable_offset_limit)


class PartitionInfo(Protocol):
    """What is asked of a hosted partition."""

    @property
    def high_watermark(self) -> int: ...
    @property
    def last_stable_offset(self) -> int: ...


class LogEngine(Protocol):
    """The engine's functions for the logs it hosts; see pylog/_engine.py. Any thread."""

    def configure_log(self, partition: int, settings: LogSettings) -> None: ...
    def roll(self, partition: int) -> None: ...
    def truncate(self, partition: int, offset: int, fully: bool) -> None: ...
    def delete_records(self, partition: int, offset: int) -> int: ...
    def delete_segments(self, partition: int, upto: int) -> int: ...
    def expire_producers(self, partition: int, before_ms: int) -> int: ...
    def replace(self, partition: int, cleaning: NativeCleaning) -> None: ...
    def exchange_log(self, partition: int, log: NativeLog, directory: str, most_bytes: int) -> NativeLog | None: ...
    def partition_info(self, partition: int) -> PartitionInfo: ...


class HostedOwner:
    """A log that the engine hosts as `partition`. Any thread."""

    __slots__ = ("_engine", "partition")

    def __init__(self, engine: LogEngine, partition: int) -> None:
        self._engine = engine
        self.partition = partition

    def configure(self, settings: LogSettings) -> None:
        self._engine.configure_log(self.partition, settings)

    def roll(self, now_ms: int) -> None:
        self._engine.roll(self.partition)

    def truncate(self, offset: int, now_ms: int) -> None:
        self._engine.truncate(self.partition, offset, False)

    def truncate_fully(self, offset: int, now_ms: int) -> None:
        self._engine.truncate(self.partition, offset, True)

    def set_start(self, offset: int) -> int:
        return self._engine.delete_records(self.partition, offset)

    def delete_segments(self, upto: int) -> int:
        return self._engine.delete_segments(self.partition, upto)

    def expire_producers(self, before_ms: int) -> int:
        return self._engine.expire_producers(self.partition, before_ms)

    def replace(self, cleaning: NativeCleaning) -> None:
        self._engine.replace(self.partition, cleaning)

    def exchange(self, copy: NativeLog, directory: str, most_bytes: int, now_ms: int) -> bool:
        """As LocalOwner does."""
        return self._engine.exchange_log(self.partition, copy, directory, most_bytes) is not None

    def high_watermark(self) -> int:
        return self._engine.partition_info(self.partition).high_watermark

    def last_stable_offset(self) -> int:
        return self._engine.partition_info(self.partition).last_stable_offset
