"""Opening a log, after a clean stop and after a crash, and a record by its time: through cffi, from the page cache."""

import random
from pathlib import Path
from typing import Any

import pytest

from bench.micro.bench_batch import NOW_MS, batch
from bench.micro.bench_log import SETTINGS
from pylog import _native

RECORDS = 150


def at(offset: int, timestamp: int, data: bytes) -> bytes:
    """The batch at another offset and time."""
    times = timestamp.to_bytes(8, "big") + (timestamp + RECORDS - 1).to_bytes(8, "big")
    covered = data[21:27] + times + data[43:]
    return offset.to_bytes(8, "big") + data[8:17] + _native.crc32c(covered).to_bytes(4, "big") + covered


def open_in(system: _native.Sys, path: Path, bases: list[int], end: int, clean: bool) -> _native.Log:
    opened, _ = _native.Log.open(
        system,
        str(path),
        SETTINGS._replace(segment_bytes=1 << 26),
        bases,
        log_start=0,
        recovery_point=end if clean else 0,
        clean=clean,
        epochs=[(0, 0)] if bases else [],
        now_ms=NOW_MS,
    )
    return opened


def fill(system: _native.Sys, path: Path, records: int, value_bytes: int) -> list[int]:
    """A log of records one ms apart, closed in order. The base offsets of its segments."""
    data = batch(RECORDS, value_bytes)
    log = open_in(system, path, [], 0, True)
    per_append = 64
    for first in range(0, records, RECORDS * per_append):
        offsets = range(first, min(first + RECORDS * per_append, records), RECORDS)
        log.append(b"".join(at(offset, NOW_MS + offset, data) for offset in offsets), NOW_MS)
    bases = [segment.base_offset for segment in log.segments()]
    log.close(clean=True)
    return bases


@pytest.mark.parametrize("clean", [True, False])
def bench_open(benchmark: Any, tmp_path: Path, clean: bool) -> None:
    """A log of 100 MB: its end only, or all of it."""
    system = _native.Sys()
    bases = fill(system, tmp_path, 900_000, 100)
    benchmark.extra_info["bytes"] = sum(file.stat().st_size for file in tmp_path.glob("*.log"))
    benchmark.pedantic(
        lambda: open_in(system, tmp_path, bases, 900_000, clean).close(clean=False), rounds=20, warmup_rounds=2
    )
    system.close()


def bench_offset_for_timestamp(benchmark: Any, tmp_path: Path) -> None:
    """A random moment in ten million records."""
    records = 10_000_050
    system = _native.Sys()
    bases = fill(system, tmp_path, records, 10)
    log = open_in(system, tmp_path, bases, records, True)
    chance = random.Random(1)
    found = log.offset_for_timestamp(NOW_MS + 7_654_321, records)
    assert found is not None and abs(found.offset - 7_654_321) < RECORDS
    benchmark.pedantic(
        log.offset_for_timestamp,
        setup=lambda: ((NOW_MS + chance.randrange(records - RECORDS), records), {}),
        rounds=5000,
        warmup_rounds=200,
    )
    log.close(clean=False)
    system.close()
