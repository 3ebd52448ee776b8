"""The log through cffi: append a batch, find and read one. Rounds are counted, so that the disk use is."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.micro.bench_batch import NOW_MS, batch
from pylog import _native

SETTINGS = _native.LogSettings(
    segment_bytes=1 << 28,
    segment_ms=7 * 86_400_000,
    segment_jitter_ms=0,
    segment_index_bytes=10 << 20,
    index_interval_bytes=4096,
    flush_messages=(1 << 63) - 1,
    preallocate=False,
    jitter_seed=0,
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[_native.Log]:
    system = _native.Sys()
    opened, _ = _native.Log.open(
        system, str(tmp_path), SETTINGS, [], log_start=0, recovery_point=0, clean=True, epochs=[], now_ms=NOW_MS
    )
    yield opened
    opened.close(clean=True)
    system.close()


def at(offset: int, data: bytes) -> bytes:
    """The batch at another offset; its CRC does not cover it."""
    return offset.to_bytes(8, "big") + data[8:]


@pytest.mark.parametrize(("records", "value_bytes"), [(1, 100), (150, 100), (64, 1024), (1000, 1024)])
def bench_append(benchmark: Any, log: _native.Log, records: int, value_bytes: int) -> None:
    data = batch(records, value_bytes)
    benchmark.extra_info["bytes"] = len(data)
    benchmark.pedantic(
        log.append,
        setup=lambda: ((at(log.info().log_end_offset, data), NOW_MS), {}),
        rounds=200,
        warmup_rounds=20,
    )


def bench_lookup(benchmark: Any, log: _native.Log) -> None:
    """One batch of sixteen kilobytes at a random offset, of 4,000."""
    data = batch(150, 100)
    for number in range(4000):
        log.append(at(number * 150, data), NOW_MS)
    chance = random.Random(1)
    end = log.info().log_end_offset
    benchmark.pedantic(
        lambda offset: log.read(offset, end, 1, False),
        setup=lambda: ((chance.randrange(end),), {}),
        rounds=2000,
        warmup_rounds=50,
    )
