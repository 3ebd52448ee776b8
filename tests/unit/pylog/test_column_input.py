"""Values of one width, which take short cuts both ways, beside values that do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import pylog
from pylog.facts import NamedTuple


class Case(NamedTuple):
    name: str
    values: Sequence[bytes | bytearray | memoryview | None]


def numbers(count: int, width: int) -> list[bytes]:
    return [b"%0*d" % (width, number) for number in range(count)]


CASES = (
    Case("one", numbers(1, 5)),
    Case("fewer than are cut at once", numbers(63, 3)),
    Case("as many as are cut at once", numbers(64, 3)),
    Case("one more", numbers(65, 3)),
    Case("several batches, and chunks", numbers(5000, 100)),
    Case("empty", [b""] * 100),
    Case("null", [None] * 100),
    Case("some null", [*numbers(64, 4), None, *numbers(64, 4)]),
    Case("as many bytes as if all were of one width", [*numbers(10, 4), b"123", b"12345"]),
    Case("the other way round", [b"12345", b"123", *numbers(100, 4)]),
    Case("one empty", [*numbers(70, 4), b""]),
    Case("other bytes", [b"1234", bytearray(b"5678"), memoryview(b"90ab")]),
    Case("a view of wider items", [b"12345678", memoryview(b"abcdefgh").cast("i")]),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_come_back(case: Case, tmp_path: Path) -> None:
    expected = [None if value is None else bytes(value) for value in case.values]
    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        partition.append_columns(case.values, keys=case.values)
        assert [record.value for record in partition.read()] == expected
        assert [record.key for record in partition.read()] == expected
        # Beginning and ending somewhere: the ends of what is read do not begin where a batch's do.
        middle = len(expected) // 2
        assert [record.value for record in partition.read(middle, max_records=3)] == expected[middle : middle + 3]


def test_bytes_before_records(tmp_path: Path) -> None:
    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        partition.append_many([b"plain", pylog.NewRecord(b"value", b"key"), None])
        partition.append_many(iter([b"a", b"b"]))
        found = [(record.key, record.value) for record in partition.read()]
        assert found == [(None, b"plain"), (b"key", b"value"), (None, None), (None, b"a"), (None, b"b")]


def test_what_is_no_bytes_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        with pytest.raises(TypeError):
            partition.append_many([b"plain", "text"])  # type: ignore[list-item]
        assert partition.log_end_offset() == 0


def test_many_widths(tmp_path: Path) -> None:
    """More widths than are remembered, each twice, the second time with more values."""
    with pylog.open(tmp_path) as store:
        for width in [*range(1, 40), *range(1, 40)]:
            partition = store.create_topic(f"t{width}", exist_ok=True)[0]
            values = numbers(9, width)
            partition.append_many(values)
            assert [record.value for record in partition.read()][-9:] == values
