"""Compaction: of each key only the last record stays. One log, and the threads that choose one after the other.

Keeps true (Kafka's rules):
- one pass at a time works on a log, beside its writer and readers; a thread takes the log with the largest dirty share;
- whoever cuts, deletes or closes a log first says `pause`, and `resume` after: on return no pass is in it any more;
- a first dirty offset is noted only after everything below it is in place;
- a log with a damaged batch is told once and left alone until the next start; an error of the disk fails its directory;
- all threads together read and write no faster than log.cleaner.io.max.bytes.per.second.

Loaded when the first log is there that could be compacted.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

from pylog._cleaning import ENTRY_BYTES, CleaningAborted, CleaningStats, DamagedBatch, KeyMap, NativeCleaning
from pylog._native import NativeError, Sys
from pylog.cleanable import DirtySection, dirty_section, group_segments, overdue
from pylog.cleaner_offsets import CleanerOffsets
from pylog.clock import Clock
from pylog.compaction import CleanerConfig
from pylog.errors import KafkaError
from pylog.log import Log
from pylog.logger import Logger
from pylog.types import FOREVER, TopicPartition

_log = Logger("LogCleaner")

_SMALLEST_READ_BYTES = 4096
_LARGEST_MAP_BYTES = (1 << 31) - 1
_ROOM_PER_KEY = 1.5
_THROTTLE_STEP_S = 0.3


def max_keys(config: CleanerConfig) -> int:
    """How many keys one thread's map may hold."""
    slots = min(config.dedupe_buffer_size // max(config.threads, 1), _LARGEST_MAP_BYTES) // ENTRY_BYTES
    return max(int(slots * config.io_buffer_load_factor), 1)


def io_bytes(config: CleanerConfig) -> int:
    """How much one thread reads at once."""
    return max(config.io_buffer_size // max(config.threads, 1) // 2, _SMALLEST_READ_BYTES)


class Throttle:
    """Holds up whoever has moved bytes, so that all together move no more than so many in a second. Any thread."""

    __slots__ = ("_clock", "_due_ms", "_guard")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._due_ms: float = clock.monotonic_ms()

    def wait_s(self, moved_bytes: int, bytes_per_second: float) -> float:
        """How long to wait before moving more."""
        with self._guard:
            now = self._clock.monotonic_ms()
            self._due_ms = max(self._due_ms, now) + moved_bytes * 1000 / bytes_per_second
            return (self._due_ms - now) / 1000


def clean_log(
    sys: Sys,
    log: Log,
    section: DirtySection,
    config: CleanerConfig,
    now_ms: int,
    moved: Callable[[int], None] = lambda moved_bytes: None,
    replaced: Callable[[], None] = lambda: None,
) -> CleaningStats:
    """One pass over a log; its next_dirty_offset is where it is dirty from now on.

    moved: told after each piece how many bytes were read and written; what it raises ends the pass. replaced: told when
    files were set aside, durably. Raises CleaningAborted, DamagedBatch, OSError; then the groups that were in place
    already stay so. What is cleaned is made durable first: an old value must not go for a new one that a power cut may
    take.
    """
    if log.info().recovery_point < section.upto:
        log.flush(log.last_flush_ms)
    most = max_keys(config)
    keys = min(most, max(section.upto - section.first_dirty, 1))  # no record has two keys
    slots = max(min(int(keys * _ROOM_PER_KEY), int(most / config.io_buffer_load_factor)), keys) + 1
    key_map = KeyMap(sys, slots, keys)
    try:
        cleaning = NativeCleaning(
            log.native,
            key_map,
            first_dirty=section.first_dirty,
            upto=section.upto,
            now_ms=now_ms,
            delete_retention_ms=log.config.delete_retention_ms,
            io_bytes=io_bytes(config),
        )
        try:
            _run(log, section, cleaning, moved, replaced)
            return cleaning.stats()
        finally:
            cleaning.close()
    finally:
        key_map.close()


def _run(
    log: Log,
    section: DirtySection,
    cleaning: NativeCleaning,
    moved: Callable[[int], None],
    replaced: Callable[[], None],
) -> None:
    so_far = 0

    def tell() -> None:
        nonlocal so_far
        stats = cleaning.stats()
        before, so_far = so_far, stats.bytes_read + stats.bytes_written
        moved(so_far - before)

    while not cleaning.index():
        tell()
    end = cleaning.stats().next_dirty_offset
    config = log.config
    segments = [segment for segment in log.segments()[:-1] if segment.base_offset < end]
    groups = group_segments(
        segments, segment_bytes=config.segment_bytes, index_bytes=config.segment_index_bytes, upto=section.upto
    )
    for group in groups:
        cleaning.begin([segment.base_offset for segment in group])
        while not cleaning.copy():
            tell()
        cleaning.finish()
        tell()
        try:
            log.replace_segments(cleaning)
        except (KafkaError, NativeError) as e:  # it has changed, or the engine is giving it back
            raise CleaningAborted(log.path) from e
        cleaning.sync()
        replaced()


class _Stopped(Exception):
    """The threads are to end."""


class Cleaner:
    """The cleaner threads of one process, and who may be in which log. Any thread."""

    __slots__ = (
        "_aborted",
        "_busy",
        "_changed",
        "_clock",
        "_config_of",
        "_logs",
        "_offsets",
        "_on_disk_error",
        "_on_replaced",
        "_paused",
        "_stopping",
        "_sys",
        "_threads",
        "_throttle",
        "_uncleanable",
        "cleaned_count",
    )

    def __init__(
        self,
        *,
        config_of: Callable[[], CleanerConfig],
        sys: Sys,
        clock: Clock,
        logs: Callable[[], list[Log]],
        offsets: CleanerOffsets,
        on_disk_error: Callable[[str, OSError], None],
        on_replaced: Callable[[Log], None],
    ) -> None:
        """config_of: the settings as they are now, asked before each pass. logs: all there are. on_disk_error: told the
        data directory. on_replaced: told a log in which files were set aside."""
        self._config_of = config_of
        self._sys = sys
        self._clock = clock
        self._logs = logs
        self._offsets = offsets
        self._on_disk_error = on_disk_error
        self._on_replaced = on_replaced
        self._changed = threading.Condition()
        self._busy: set[TopicPartition] = set()
        self._aborted: set[TopicPartition] = set()
        self._paused: dict[TopicPartition, int] = {}
        self._uncleanable: set[str] = set()
        self._throttle = Throttle(clock)
        self._stopping = threading.Event()
        self._threads: dict[int, threading.Thread] = {}
        self.cleaned_count = 0
        """Passes that came to their end."""

    # ---------------------------------------------------------------------------------- threads

    def start(self) -> None:
        """Start the threads that the settings ask for now and that do not run. One thread at a time."""
        for number in range(self._config_of().threads):
            running = self._threads.get(number)
            if running is None or not running.is_alive():
                thread = threading.Thread(target=self._work, args=(number,), name=f"log-cleaner-{number}", daemon=True)
                self._threads[number] = thread
                thread.start()

    def stop(self) -> None:
        """End the passes under way, and the threads. On return none is in any log. Once is enough."""
        self._stopping.set()
        for thread in self._threads.values():
            if thread is not threading.current_thread():
                thread.join()

    def _work(self, number: int) -> None:
        while not self._stopping.is_set() and number < self._config_of().threads:
            cleaned = False
            try:
                cleaned = self.clean_one()
            except Exception:
                _log.exception("cleaner thread goes on after an error")
            if not cleaned:
                self._stopping.wait(self._config_of().backoff_ms / 1000)

    # ---------------------------------------------------------------------------------- choosing

    def clean_one(self) -> bool:
        """Clean the log that needs it most; False when none does."""
        config = self._config_of()
        chosen = self._choose()
        if chosen is None:
            return False
        log, section = chosen
        failed: OSError | None = None
        try:
            self._clean(log, section, config)
        except OSError as e:
            failed = e
        finally:
            self._leave(log.partition)
        if failed is not None:
            self._disk_error(log, failed)
        return True

    def _choose(self) -> tuple[Log, DirtySection] | None:
        """The log with the largest dirty share of those that may be cleaned; it is entered."""
        now_ms = self._clock.wall_ms()
        candidates: list[tuple[float, Log, DirtySection]] = []
        for log in self._logs():
            if log.config.compact and log.path not in self._uncleanable:
                section = self._look_at(log, now_ms)
                if section is not None:
                    candidates.append((section.ratio, log, section))
        for _, log, section in sorted(candidates, key=lambda candidate: candidate[0], reverse=True):
            if self._enter(log.partition):
                if log.is_open():
                    return log, section
                self._leave(log.partition)
        return None

    def _look_at(self, log: Log, now_ms: int) -> DirtySection | None:
        """What is dirty in the log, when that is enough to be cleaned. It is entered meanwhile: nobody closes it."""
        if not self._enter(log.partition):
            return None
        failed: OSError | None = None
        try:
            return self._section(log, now_ms) if log.is_open() else None
        except (KafkaError, NativeError) as e:
            _log.debug("log cannot be looked at, the engine is giving it back", partition=log.partition, error=e)
        except OSError as e:
            failed = e
        finally:
            self._leave(log.partition)
        if failed is not None:
            self._disk_error(log, failed)
        return None

    def _section(self, log: Log, now_ms: int) -> DirtySection | None:
        info = log.info()
        if info.segment_count < 2:
            return None
        config = log.config
        segments = log.segments()
        section = dirty_section(
            segments,
            checkpoint=self._offsets.get(log.directory, log.partition),
            log_start=info.log_start_offset,
            log_end=info.log_end_offset,
            last_stable=log.owner.last_stable_offset(),
            min_lag_ms=config.min_compaction_lag_ms,
            now_ms=now_ms,
        )
        if section.reset:
            self._reset(log, section)
        if section.cleanable_bytes == 0:
            return None
        if section.ratio > config.min_cleanable_dirty_ratio:
            return section
        late = config.max_compaction_lag_ms < FOREVER and overdue(
            segments,
            section,
            max_lag_ms=config.max_compaction_lag_ms,
            now_ms=now_ms,
            first_timestamp=log.native.first_timestamp,
        )
        return section if late else None

    def _reset(self, log: Log, section: DirtySection) -> None:
        if not log.config.delete:  # retention passes a checkpoint all the time
            _log.warn("checkpoint outside the log, all of it is dirty", partition=log.partition)
        self._offsets.put(log.directory, log.partition, section.first_dirty)

    # ---------------------------------------------------------------------------------- cleaning

    def _clean(self, log: Log, section: DirtySection, config: CleanerConfig) -> None:
        began = self._clock.monotonic_ms()
        try:
            stats = clean_log(
                self._sys,
                log,
                section,
                config,
                self._clock.wall_ms(),
                lambda moved_bytes: self._pace(log.partition, moved_bytes),
                lambda: self._on_replaced(log),
            )
        except _Stopped:
            return
        except CleaningAborted:
            _log.info("cleaning given up, the log has changed", partition=log.partition)
            return
        except DamagedBatch as e:
            self._uncleanable.add(log.path)
            _log.error("log is not compacted any more", partition=log.partition, error=e)
            return
        # Whoever cuts the log now waits for this pass, and corrects what it says here.
        self._offsets.put(log.directory, log.partition, stats.next_dirty_offset)
        self.cleaned_count += 1
        _log.info(
            "log cleaned",
            partition=log.partition,
            from_offset=section.first_dirty,
            to_offset=stats.next_dirty_offset,
            segments=stats.groups,
            bytes_read=stats.bytes_read,
            bytes_written=stats.bytes_written,
            records_read=stats.records_read,
            records_kept=stats.records_kept,
            elapsed_ms=self._clock.monotonic_ms() - began,
        )

    def _disk_error(self, log: Log, error: OSError) -> None:
        """In no log: when its directory fails its logs are closed, and that waits for every pass."""
        if error.errno == errno.ENOMEM:
            _log.warn("cleaning put off", partition=log.partition, error=error)
        else:
            self._on_disk_error(log.directory, error)

    def _pace(self, partition: TopicPartition, moved_bytes: int) -> None:
        """Between two pieces: end when asked to, and keep to the rate."""
        left_s = self._throttle.wait_s(moved_bytes, self._config_of().io_max_bytes_per_second)
        while True:
            if self._stopping.is_set():
                raise _Stopped
            if partition in self._aborted:
                raise CleaningAborted(partition)
            if left_s <= 0:
                return
            self._stopping.wait(min(left_s, _THROTTLE_STEP_S))
            left_s -= _THROTTLE_STEP_S

    # ---------------------------------------------------------------------------------- who is in which log

    def _enter(self, partition: TopicPartition) -> bool:
        with self._changed:
            if partition in self._busy or partition in self._paused:
                return False
            self._busy.add(partition)
            return True

    def _leave(self, partition: TopicPartition) -> None:
        with self._changed:
            self._busy.discard(partition)
            self._aborted.discard(partition)
            self._changed.notify_all()

    def pause(self, partition: TopicPartition) -> None:
        """No pass is in the log from now on, until as many `resume`; waits for the end of one that is."""
        with self._changed:
            self._paused[partition] = self._paused.get(partition, 0) + 1
            if partition in self._busy:
                self._aborted.add(partition)
                self._changed.notify_all()
            self._changed.wait_for(lambda: partition not in self._busy)

    def resume(self, partition: TopicPartition) -> None:
        with self._changed:
            left = self._paused[partition] - 1
            if left:
                self._paused[partition] = left
            else:
                del self._paused[partition]
