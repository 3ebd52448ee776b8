"""What C sees in a partition directory is what `settle_directory` and the readers of the side files see there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylog._native import Sys, read_partition_directory
from pylog.segment import settle_directory
from tests.unit.pylog.test_segment import no_swaps

SEGMENTS_MAX = 64


def names(directory: Path, *files: str) -> None:
    for name in files:
        (directory / name).write_bytes(b"")


def segment(offset: int, *suffixes: str) -> list[str]:
    return [f"{offset:020d}{suffix}" for suffix in (".log", ".index", ".timeindex", *suffixes)]


def test_empty(tmp_path: Path) -> None:
    assert read_partition_directory(Sys(), str(tmp_path)) == ([], False, None, None)


@pytest.mark.parametrize("count", [1, 2, SEGMENTS_MAX])
def test_plain(tmp_path: Path, count: int) -> None:
    for i in range(count):
        names(tmp_path, *segment((i * 7919) % 6007, ".txnindex", ".snapshot"))
    (tmp_path / "partition.metadata").write_bytes(b"version: 0")
    (tmp_path / "leader-epoch-checkpoint").write_bytes(b"0\n1\n0 0\n")
    found = read_partition_directory(Sys(), str(tmp_path))
    assert found is not None
    assert found.base_offsets == settle_directory(str(tmp_path), no_swaps).base_offsets
    assert (found.metadata, found.epochs) == (b"version: 0", b"0\n1\n0 0\n")


def test_has_records(tmp_path: Path) -> None:
    names(tmp_path, *segment(0), "leader-epoch-checkpoint")
    assert read_partition_directory(Sys(), str(tmp_path)) == ([0], False, None, b"")
    (tmp_path / segment(0)[0]).write_bytes(b"x")
    assert read_partition_directory(Sys(), str(tmp_path)) == ([0], True, None, b"")


@pytest.mark.parametrize(
    "odd",
    [
        f"{3:020d}.log.deleted",
        f"{3:020d}.log.swap",
        f"{3:020d}.index.cleaned",
        f"{3:020d}.index",
        f"{3:020d}.txnindex",
        f"{1 << 63:020d}.log",
        "x.log",
        "12.timeindex",
        f"{3:020d}.x.index",
        f"{3:020d}_.log",
    ],
)
def test_odd_names(tmp_path: Path, odd: str) -> None:
    names(tmp_path, *segment(0), odd)
    assert read_partition_directory(Sys(), str(tmp_path)) is None


def test_more_than_usual(tmp_path: Path) -> None:
    for i in range(SEGMENTS_MAX + 1):
        names(tmp_path, *segment(i))
    assert read_partition_directory(Sys(), str(tmp_path)) is None


@pytest.mark.parametrize(("name", "room"), [("partition.metadata", 128), ("leader-epoch-checkpoint", 1024)])
def test_large_side_files(tmp_path: Path, name: str, room: int) -> None:
    (tmp_path / name).write_bytes(b"x" * (room - 1))
    found = read_partition_directory(Sys(), str(tmp_path))
    assert found is not None and b"x" * (room - 1) in (found.metadata, found.epochs)
    (tmp_path / name).write_bytes(b"x" * room)
    assert read_partition_directory(Sys(), str(tmp_path)) is None


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        read_partition_directory(Sys(), str(tmp_path / "none"))
    assert raised.value.filename == str(tmp_path / "none")
