"""What tests of logs share: a system call table, a clock that stands still, and batches of a given size."""

from collections.abc import Callable, Iterator

import pytest

from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.records import NewRecord, RecordBatchBuilder

MakeBatch = Callable[..., bytes]


@pytest.fixture
def system() -> Iterator[Sys]:
    table = Sys()
    yield table
    table.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_batch() -> Iterator[MakeBatch]:
    """make_batch(base_offset, count=3, value_bytes=100, timestamp=..., leader_epoch=0)."""
    builder = RecordBatchBuilder()

    def make(
        base_offset: int,
        count: int = 3,
        value_bytes: int = 100,
        timestamp: int = 1_700_000_000_000,
        leader_epoch: int = 0,
    ) -> bytes:
        records = [NewRecord(timestamp + i, b"key", b"%d" % i * value_bytes) for i in range(count)]
        return builder.build(records, base_offset=base_offset, leader_epoch=leader_epoch)

    yield make
    builder.close()
