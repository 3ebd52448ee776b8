"""python -m bench.library.lap STORE TASK DIRECTORY: the laps of one store in one task, as JSON; for bench.library.run.

Keeps true: a process measures one store, so that no other's memory, threads or imports are in its figures. CPU is that
of the whole process, background threads of the store included. The first lap touches memory and files for the others.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.library.stores import BY_NAME, Store, numbered_values

BATCH_RECORDS = 1000
LAPS = 5
APPEND, EACH, READ, COLUMNS, DISK = "append", "each", "read", "columns", "disk"
LOOKUP, RECOVERY = "lookup", "recovery"
RECORDS = {
    APPEND: 200_000,
    EACH: 50_000,
    READ: 200_000,
    COLUMNS: 200_000,
    DISK: 200_000,
    LOOKUP: 0,
    RECOVERY: 1_000_000,
}
LOOKUP_RECORDS = 10_000_000
LOOKUPS = 20_000
SLOW = {"diskcache": 25, "persist-queue": 100}
"""Stores that get fewer records, by which factor; a figure is always for one record."""


class Lap(NamedTuple):
    """Seconds of CPU and of time for so many records."""

    records: int
    cpu_s: float
    wall_s: float
    disk_bytes: int = 0


def timed(records: int, work: Callable[[], None]) -> Lap:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Lap(records, time.process_time() - cpu, time.perf_counter() - wall)


def disk_bytes(path: str) -> int:
    """What the files take on the disk, holes left out."""
    return sum(file.stat().st_blocks * 512 for file in Path(path).rglob("*") if file.is_file())


class Bench:
    """The laps of a store in a directory."""

    def __init__(self, kind: type[Store], records: int, directory: str) -> None:
        self._kind = kind
        self._directory = directory
        self._values = numbered_values(records)
        self._batches = [self._values[at : at + BATCH_RECORDS] for at in range(0, records, BATCH_RECORDS)]

    def _fresh(self) -> Store:
        shutil.rmtree(self._directory, ignore_errors=True)
        os.mkdir(self._directory)
        return self._kind(self._directory)

    def _append(self, store: Store) -> Lap:
        prepared = [store.prepare(batch, number * BATCH_RECORDS) for number, batch in enumerate(self._batches)]

        def work() -> None:
            for batch in prepared:
                store.append_batch(batch)

        return timed(len(self._values), work)

    def append(self) -> Lap:
        store = self._fresh()
        lap = self._append(store)
        store.close()
        return lap

    def each(self) -> Lap:
        store = self._fresh()
        lap = timed(len(self._values), lambda: store.append_each(self._values, 0))
        store.close()
        return lap

    def disk(self) -> Lap:
        lap = self.append()
        return lap._replace(disk_bytes=disk_bytes(self._directory))

    def read(self, columns: bool) -> Lap:
        """A store that was closed and opened again, as one that is read usually was."""
        self.append()
        store = self._kind(self._directory)
        lap = timed(len(self._values), store.read_columns if columns else store.read)
        store.close()
        return lap

    def lookup(self) -> Lap:
        """Random moments in LOOKUP_RECORDS records, 1 ms apart, after some that warm it up."""
        import numpy

        import pylog

        first_ms = 1_700_000_000_000
        with pylog.open(self._directory) as store:
            partition = store.create_topic("times")[0]
            for first in range(0, LOOKUP_RECORDS, BATCH_RECORDS):
                numbers = numpy.arange(first, first + BATCH_RECORDS, dtype=numpy.int64)
                partition.append_columns(numbers, timestamps_ms=numbers + first_ms)
            chance = random.Random(1)
            asked = [chance.randrange(LOOKUP_RECORDS) for _ in range(LOOKUPS)]
            laps = []
            for _ in range(LAPS):
                found: list[int | None] = []

                def work(found: list[int | None] = found) -> None:
                    found += [partition.offset_for_timestamp(first_ms + number) for number in asked]

                laps.append(timed(LOOKUPS, work))
                if found != asked:
                    raise RuntimeError("a lookup by time found another record")
        return min(laps, key=lambda lap: lap.wall_s)

    def recovery(self) -> Lap:
        """Open a store whose writer was killed. `disk_bytes`: of the log."""
        import pylog

        child = os.fork()
        if child == 0:
            store = self._fresh()
            self._append(store)
            os._exit(0)
        os.waitpid(child, 0)
        opened: list[pylog.Store] = []
        lap = timed(len(self._values), lambda: opened.append(pylog.open(self._directory)))
        size = sum(file.stat().st_size for file in Path(self._directory).rglob("*.log"))
        opened[0].close()
        return lap._replace(disk_bytes=size)

    def check(self) -> None:
        """What is measured is right: the records come back, appended in either way. Raises RuntimeError."""
        for append in (self.append, self.each):
            append()
            store = self._kind(self._directory)
            found = store.records()
            store.close()
            if found != self._values:
                raise RuntimeError(f"{self._kind.name}: {len(found)} records came back, or others than were appended")


def run(store: str, task: str, directory: str) -> list[Lap]:
    kind = BY_NAME[store]
    records = RECORDS[task] // SLOW.get(store, 1)
    Bench(kind, min(records, 3 * BATCH_RECORDS), directory).check()
    bench = Bench(kind, records, directory)
    laps = {
        APPEND: bench.append,
        EACH: bench.each,
        READ: lambda: bench.read(columns=False),
        COLUMNS: lambda: bench.read(columns=True),
        DISK: bench.disk,
        LOOKUP: bench.lookup,
        RECOVERY: bench.recovery,
    }
    return [laps[task]() for _ in range(1 if task in (DISK, LOOKUP) else LAPS)]


def main() -> int:
    store, task, directory = sys.argv[1:]
    print(json.dumps(run(store, task, directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
