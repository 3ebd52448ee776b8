"""Names of segment files, and what an interrupted delete or compaction left."""

import os
from pathlib import Path

import pytest

from pylog.segment import SegmentFile, segment_file, segment_file_name, settle_directory


def name(offset: int, rest: str) -> str:
    return f"{offset:020d}{rest}"


def test_names() -> None:
    assert segment_file_name(41, ".log") == "00000000000000000041.log"
    assert segment_file(name(41, ".log")) == SegmentFile(name(41, ".log"), 41, ".log", "")
    assert segment_file(name(41, ".index.swap")) == SegmentFile(name(41, ".index.swap"), 41, ".index", ".swap")
    for other in ("leader-epoch-checkpoint", "1.log", "0000000000000000004x.log", "partition.metadata", "0" * 20):
        assert segment_file(other) is None


def no_swaps(path: str) -> int:
    raise AssertionError(f"asked about {path}")


def test_a_directory_in_order_is_only_listed(tmp_path: Path) -> None:
    for n in (name(7, ".log"), name(0, ".log"), name(0, ".index"), name(7, ".snapshot"), "leader-epoch-checkpoint"):
        (tmp_path / n).touch()
    before = sorted(os.listdir(tmp_path))
    assert settle_directory(str(tmp_path), no_swaps) == ([0, 7], [], [])
    assert sorted(os.listdir(tmp_path)) == before


def test_deleted_and_orphans_go(tmp_path: Path) -> None:
    gone = [name(0, ".log.deleted"), name(0, ".snapshot.deleted"), name(3, ".index"), name(3, ".txnindex")]
    for n in [*gone, name(7, ".log"), name(7, ".timeindex"), name(3, ".snapshot")]:
        (tmp_path / n).touch()
    settled = settle_directory(str(tmp_path), no_swaps)
    assert settled.base_offsets == [7]
    assert settled.removed == sorted(gone)
    assert sorted(os.listdir(tmp_path)) == [name(3, ".snapshot"), name(7, ".log"), name(7, ".timeindex")]


def test_an_unfinished_compaction_is_dropped(tmp_path: Path) -> None:
    for n in (
        name(0, ".log"),
        name(0, ".log.cleaned"),
        name(0, ".index.cleaned"),
        name(9, ".log"),
        name(9, ".log.swap"),
    ):
        (tmp_path / n).write_bytes(n.encode())
    assert settle_directory(str(tmp_path), no_swaps).base_offsets == [0, 9]
    assert (tmp_path / name(9, ".log")).read_bytes() == name(9, ".log").encode()
    assert sorted(os.listdir(tmp_path)) == [name(0, ".log"), name(9, ".log")]


@pytest.mark.parametrize("half_done", [False, True])
def test_a_finished_compaction_is_completed(tmp_path: Path, half_done: bool) -> None:
    """One swap stands for the segments 0 and 9; 20 is beyond its end."""
    for n in (name(0, ".log.swap"), name(0, ".index.swap"), name(9, ".log"), name(9, ".index"), name(20, ".log")):
        (tmp_path / n).write_bytes(n.encode())
    if not half_done:
        (tmp_path / name(0, ".log")).write_bytes(b"old")
    asked = []

    def next_offset(path: str) -> int:
        asked.append(os.path.basename(path))
        return 20

    settled = settle_directory(str(tmp_path), next_offset)
    assert asked == [name(0, ".log.swap")]
    assert settled.base_offsets == [0, 20]
    assert settled.completed == [name(0, ".index"), name(0, ".log")]
    assert (tmp_path / name(0, ".log")).read_bytes() == name(0, ".log.swap").encode()
    assert sorted(os.listdir(tmp_path)) == [name(0, ".index"), name(0, ".log"), name(20, ".log")]


def test_indexes_of_a_compaction_that_lost_its_log_go(tmp_path: Path) -> None:
    for n in (name(0, ".log"), name(0, ".index.swap"), name(9, ".timeindex.swap"), name(9, ".txnindex.swap")):
        (tmp_path / n).write_bytes(n.encode())
    settled = settle_directory(str(tmp_path), no_swaps)
    assert settled == ([0], [name(9, ".timeindex.swap"), name(9, ".txnindex.swap")], [name(0, ".index")])
    assert sorted(os.listdir(tmp_path)) == [name(0, ".index"), name(0, ".log")]
