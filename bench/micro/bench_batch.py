"""Record batches through cffi: checksum, check, walk, build. Bytes a second are in extra_info."""

from typing import Any

import pytest

from pylog import _native

NOW_MS = 1_700_000_000_000


def batch(records: int, value_bytes: int) -> bytes:
    builder = _native.BatchBuilder()
    builder.reset(0, 0)
    for number in range(records):
        builder.add(NOW_MS + number, None, bytes([number % 251]) * value_bytes)
    data = builder.finish()
    builder.close()
    return data


@pytest.mark.parametrize("size", [64, 1024, 16384, 1 << 20])
def bench_crc32c(benchmark: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    benchmark.extra_info["bytes"] = size
    benchmark.extra_info["implementation"] = _native.crc32c_name()
    benchmark(_native.crc32c, data[:size])


@pytest.mark.parametrize(("records", "value_bytes"), [(1, 100), (150, 100), (64, 1024)])
def bench_check(benchmark: Any, records: int, value_bytes: int) -> None:
    data = batch(records, value_bytes)
    benchmark.extra_info["bytes"] = len(data)
    benchmark(_native.check_batch, data)


@pytest.mark.parametrize(("records", "value_bytes"), [(1, 100), (150, 100)])
def bench_records(benchmark: Any, records: int, value_bytes: int) -> None:
    data = batch(records, value_bytes)
    benchmark.extra_info["bytes"] = len(data)
    benchmark(_native.batch_records, data, 1 << 20)


def bench_build_150_records(benchmark: Any) -> None:
    benchmark(batch, 150, 100)
