"""The rows of the library's comparison: what each store does, which figure counts, and how much better ours should be.

`target`: how many times better than the best of the others; of a row without others, the figure itself.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.library import lap
from bench.library.stores import (
    VALUE_BYTES,
    DiskCache,
    LevelDb,
    Lmdb,
    LmdbViews,
    PersistQueue,
    Pylog,
    PylogColumns,
    PylogMapped,
    PylogRows,
    RocksDb,
    Sqlite,
    SqliteNormal,
    Store,
)

_OTHERS = (Lmdb, Sqlite, SqliteNormal, RocksDb, LevelDb, DiskCache, PersistQueue)
_READ_OTHERS = (Lmdb, LmdbViews, *_OTHERS[1:])
_WITHOUT_COPIES: tuple[type[Store], ...] = (Lmdb, LmdbViews, RocksDb, LevelDb, Sqlite)

CPU, WALL, DISK_BYTES, CPU_PER_GB = "CPU µs/record", "µs/lookup", "bytes/record", "CPU s/GB"


class Row(NamedTuple):
    name: str
    task: str
    unit: str
    target: float
    ours: type[Store] = Pylog
    others: tuple[type[Store], ...] = ()
    absolute: bool = False  # the target is the largest figure allowed, whatever the others have

    def figure(self, done: lap.Lap) -> float:
        """Smaller is better, in every unit."""
        if self.unit == WALL:
            return done.wall_s / done.records * 1e6
        if self.unit == DISK_BYTES:
            return done.disk_bytes / done.records
        if self.unit == CPU_PER_GB:
            return done.cpu_s / done.disk_bytes * 1e9
        return done.cpu_s / done.records * 1e6


ROWS = (
    Row("library: append batches of 1000, columns", lap.APPEND, CPU, 4, PylogColumns, _OTHERS),
    Row("library: append batches of 1000, list of bytes", lap.APPEND, CPU, 4, Pylog, _OTHERS),
    Row("library: append one by one", lap.EACH, CPU, 1.5, Pylog, _OTHERS),
    Row("library: append one by one, mapped tail", lap.EACH, CPU, 1.5, PylogMapped, _OTHERS),
    Row("library: read as columns", lap.COLUMNS, CPU, 10, Pylog, _READ_OTHERS),
    Row("library: read as records", lap.READ, CPU, 1, Pylog, _READ_OTHERS),
    Row("library: read as plain tuples", lap.READ, CPU, 1, PylogRows, _READ_OTHERS),
    Row("library: disk", lap.DISK, DISK_BYTES, 1.1 * VALUE_BYTES + 8, Pylog, _WITHOUT_COPIES, absolute=True),
    Row("library: offset by time in 10 million records", lap.LOOKUP, WALL, 20, absolute=True),
    Row("library: open after a crash", lap.RECOVERY, CPU_PER_GB, 1 / 1.5, absolute=True),
)
