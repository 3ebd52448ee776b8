"""A partition directory that C opens by itself is as the one that is looked into name by name; else C says no and
has changed nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pylog._native import Log, LogSettings, OpenedDirectory, PreparedSettings, Sys
from pylog.leader_epoch import encode_leader_epochs, read_leader_epochs
from pylog.partition_metadata import encode_partition_metadata, read_partition_metadata
from pylog.segment import settle_directory
from tests.unit.pylog.test_segment import no_swaps

SEGMENTS_MAX = 64
EPOCHS_MAX = 128
SETTINGS = LogSettings(1 << 20, 1 << 40, 0, 1 << 16, 4096, 1 << 40, False)
TOPIC_ID = bytes(range(240, 256))
METADATA, EPOCHS = "partition.metadata", "leader-epoch-checkpoint"


def names(directory: Path, *files: str) -> None:
    for name in files:
        (directory / name).write_bytes(b"")


def segment(offset: int, *suffixes: str) -> list[str]:
    return [f"{offset:020d}{suffix}" for suffix in (".log", ".index", ".timeindex", *suffixes)]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def opened(directory: Path) -> OpenedDirectory | None:
    """What C opens; closed again, and nothing has changed."""
    sys = Sys()
    before = contents(directory)
    found = Log.open_directory(sys, str(directory), PreparedSettings(SETTINGS), 0, 0, True, 0)
    if found is not None:
        assert [one.base_offset for one in found.log.segments()] == settle_directory(
            str(directory), no_swaps
        ).base_offsets
        found.log.close(clean=False)
    assert contents(directory) == before
    sys.close()
    return found


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    names(tmp_path, *segment(0), EPOCHS)
    (tmp_path / METADATA).write_bytes(encode_partition_metadata(TOPIC_ID))
    return tmp_path


@pytest.mark.parametrize("count", [1, 2, SEGMENTS_MAX])
def test_plain(plain: Path, count: int) -> None:
    for i in range(count):
        names(plain, *segment((i * 7919) % 6007, ".txnindex"))
    found = opened(plain)
    assert found is not None
    assert (found.segment_count, found.topic_id, found.epochs) == (count, TOPIC_ID, [])
    assert not any(found.report)


def test_topic_id(plain: Path) -> None:
    for _ in range(200):
        topic_id = os.urandom(16)
        (plain / METADATA).write_bytes(encode_partition_metadata(topic_id))
        found = opened(plain)
        assert found is not None and found.topic_id == topic_id
    (plain / METADATA).unlink()
    found = opened(plain)
    assert found is not None and found.topic_id is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"version: 0",
        b"version: 1\ntopic_id: 8PHy8_T19vf4-fr7_P3-_w",
        b"version: 0\ntopic_id: 8PHy8_T19vf4-fr7_P3-_w\n",
        b"version: 0\ntopic_id: 8PHy8_T19vf4-fr7_P3-_",
        b"version: 0\ntopic_id: 8PHy8_T19vf4-fr7_P3-_x",
        b"version: 0\ntopic_id: 8PHy8/T19vf4+fr7/P3+/w",
        b"version: 0\ntopic_id: 8PHy8_T19vf4-fr7_P3-_\x80",
        b"x" * 5000,
    ],
)
def test_odd_topic_id(plain: Path, text: bytes) -> None:
    (plain / METADATA).write_bytes(text)
    assert opened(plain) is None


@pytest.mark.parametrize("count", [0, 1, 2, EPOCHS_MAX])
def test_epochs(plain: Path, count: int) -> None:
    epochs = [(3 * i, 70 * i) for i in range(count)]
    (plain / EPOCHS).write_bytes(encode_leader_epochs(epochs))
    found = opened(plain)
    assert found is not None and found.epochs == epochs == read_leader_epochs(str(plain / EPOCHS))


@pytest.mark.parametrize(
    "text",
    [
        b"0\n",
        b"0\n1\n",
        b"1\n1\n0 0\n",
        b"0\n1\n0 0",
        b"0\n1\n0 0\n\n",
        b"0\n1\n0 0\n1 1\n",
        b"0\n2\n0 0\n",
        b"0\n2\n0 0\n0 1\n",
        b"0\n2\n0 5\n1 5\n",
        b"0\n2\n0 5\n1 4\n",
        b"0\n1\n-1 0\n",
        b"0\n1\n+1 0\n",
        b"0\n1\n0  0\n",
        b"0\n1\n0 0 \n",
        b"0\n1\n2147483648 0\n",
        b"0\n1\n0 9223372036854775808\n",
        b"0\n1\n0 99999999999999999999999\n",
        encode_leader_epochs([(i, i) for i in range(EPOCHS_MAX + 1)]),
        b"x" * 5000,
    ],
)
def test_odd_epochs(plain: Path, text: bytes) -> None:
    (plain / EPOCHS).write_bytes(text)
    assert opened(plain) is None


def test_no_epochs_with_records(plain: Path) -> None:
    """A file of 0 bytes is right for a log without records."""
    assert opened(plain) is not None
    (plain / segment(0)[0]).write_bytes(b"x")
    assert opened(plain) is None
    (plain / EPOCHS).unlink()
    assert opened(plain) is None
    (plain / segment(0)[0]).write_bytes(b"")
    assert opened(plain) is None


def test_no_segment(plain: Path) -> None:
    for name in segment(0):
        (plain / name).unlink()
    assert opened(plain) is None


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
def test_odd_names(plain: Path, odd: str) -> None:
    names(plain, odd)
    sys = Sys()
    assert Log.open_directory(sys, str(plain), PreparedSettings(SETTINGS), 0, 0, True, 0) is None


def test_more_than_usual(plain: Path) -> None:
    for i in range(SEGMENTS_MAX + 1):
        names(plain, *segment(i))
    assert opened(plain) is None


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        Log.open_directory(Sys(), str(tmp_path / "none"), PreparedSettings(SETTINGS), 0, 0, True, 0)
    assert raised.value.filename == str(tmp_path / "none")


def test_side_file_of_an_id(plain: Path) -> None:
    """The two readers of a topic id agree."""
    assert read_partition_metadata(str(plain / METADATA)) == TOPIC_ID
