"""The importer of the C module's compaction: the map of keys and one pass over a log. Not before the first compaction.

Keeps true: a pass and its map are closed once, by `close`; what C says about a damaged batch comes back with its place.
One thread at a time, any.
"""

from __future__ import annotations

import os

from pylog._native import Log, NativeError, Sys, check
from pylog._plog import ffi, lib
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import Any

ENTRY_BYTES = int(lib.PLOG_KEY_ENTRY_BYTES)
"""Of memory for one key of the map, used or not."""

_GONE = (lib.PLOG_E_STOPPED, lib.PLOG_E_CLOSED)
_DAMAGED = (lib.PLOG_E_UNREADABLE,)


class CleaningAborted(Exception):
    """The log was cut, closed or given back meanwhile, or somebody asked for an end: no harm done, try again later."""


class DamagedBatch(Exception):
    """A batch that cannot be read stands in the way; cleaning its log would hide that."""


class CleaningStats(NamedTuple):
    """plog_cleaning_stats."""

    next_dirty_offset: int
    bytes_indexed: int
    records_indexed: int
    bytes_read: int
    bytes_written: int
    records_read: int
    records_kept: int
    groups: int


class KeyMap:
    """Which offset each key was last written at: at most max_keys of them, in slots × ENTRY_BYTES of memory."""

    __slots__ = ("_pointer",)

    def __init__(self, sys: Sys, slots: int, max_keys: int) -> None:
        """Raises OSError."""
        out = ffi.new("plog_key_map **")
        check(lib.plog_key_map_open(sys.pointer, slots, max_keys, os.urandom(16), out), f"a map of {max_keys} keys")
        self._pointer = out[0]

    @property
    def pointer(self) -> Any:
        if not self._pointer:
            raise ValueError("the key map is closed")
        return self._pointer

    def __len__(self) -> int:
        return int(lib.plog_key_map_count(self.pointer))

    def close(self) -> None:
        if self._pointer:
            lib.plog_key_map_close(self._pointer)
            self._pointer = None


class NativeCleaning:
    """plog_cleaning: one pass over a log. Raises CleaningAborted, DamagedBatch, OSError; then only `close` is left."""

    __slots__ = ("_log", "_map", "_pointer")

    def __init__(
        self,
        log: Log,
        key_map: KeyMap,
        *,
        first_dirty: int,
        upto: int,
        now_ms: int,
        delete_retention_ms: int,
        io_bytes: int,
    ) -> None:
        """Borrows the log and the map. Offsets and times as in csrc/plog.h."""
        out = ffi.new("plog_cleaning **")
        settings = ffi.new("plog_cleaning_settings *", (first_dirty, upto, now_ms, delete_retention_ms, io_bytes))
        check(lib.plog_cleaning_open(log.pointer, key_map.pointer, settings, out), log.directory)
        self._pointer = out[0]
        self._log = log
        self._map = key_map

    @property
    def pointer(self) -> Any:
        """For the owner of the log, which puts the finished group in place."""
        if not self._pointer:
            raise ValueError("the cleaning is closed")
        return self._pointer

    def check(self, rc: int) -> None:
        """Raise what a return code means."""
        if rc in _GONE:
            raise CleaningAborted(self._log.directory)
        if rc in _DAMAGED:
            raise DamagedBatch(f"{self._place()}: compressed records that their codec cannot read")
        try:
            check(rc, self._log.directory)
        except (KafkaError, NativeError) as e:
            raise DamagedBatch(f"{self._place()}: {e}") from e

    def _place(self) -> str:
        base, position = ffi.new("int64_t *"), ffi.new("int64_t *")
        lib.plog_cleaning_position(self.pointer, base, position)
        return f"{self._log.directory}/{base[0]:020d}.log at {position[0]}"

    def index(self) -> bool:
        """Enter the keys of a piece of the dirty section. True: all of it, or the map is full."""
        done = ffi.new("int32_t *")
        self.check(lib.plog_cleaning_index(self.pointer, done))
        return bool(done[0])

    def begin(self, base_offsets: list[int]) -> None:
        """These segments, closed and neighbours, become one."""
        self.check(lib.plog_cleaning_begin(self.pointer, ffi.new("int64_t[]", base_offsets), len(base_offsets)))

    def copy(self) -> bool:
        """Copy what stays of a piece of the group. True: that was the last."""
        done = ffi.new("int32_t *")
        self.check(lib.plog_cleaning_copy(self.pointer, done))
        return bool(done[0])

    def finish(self) -> None:
        """Complete the files of the new segment, durably."""
        self.check(lib.plog_cleaning_finish(self.pointer))

    def sync(self) -> None:
        """Make the renaming durable that put the group in place."""
        self.check(lib.plog_cleaning_sync(self.pointer))

    def stats(self) -> CleaningStats:
        out = ffi.new("plog_cleaning_stats *")
        lib.plog_cleaning_stats_read(self.pointer, out)
        return CleaningStats(*(getattr(out, field) for field in CleaningStats._fields))

    def close(self) -> None:
        """Let go; the files of a group that was not put in place are removed."""
        if self._pointer:
            lib.plog_cleaning_close(self._pointer)
            self._pointer = None
