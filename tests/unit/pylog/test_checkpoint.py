"""Offset checkpoints: Kafka's bytes, and every way a file can be broken is told with its line."""

import os
from pathlib import Path

import pytest

from pylog.checkpoint import RECOVERY_POINT_FILE, OffsetCheckpoint
from pylog.files import CorruptFileError
from pylog.types import TopicPartition


def test_bytes_and_back(tmp_path: Path) -> None:
    checkpoint = OffsetCheckpoint(str(tmp_path), RECOVERY_POINT_FILE)
    assert checkpoint.read() == {}
    offsets = {TopicPartition("compacted", 0): 180, TopicPartition("a_Topic1", 0): 2281}
    assert checkpoint.write(offsets)
    assert (tmp_path / RECOVERY_POINT_FILE).read_bytes() == b"0\n2\ncompacted 0 180\na_Topic1 0 2281\n"
    assert OffsetCheckpoint(str(tmp_path), RECOVERY_POINT_FILE).read() == offsets
    assert os.listdir(tmp_path) == [RECOVERY_POINT_FILE]


def test_empty_is_four_bytes(tmp_path: Path) -> None:
    OffsetCheckpoint(str(tmp_path), "x").write({})
    assert (tmp_path / "x").read_bytes() == b"0\n0\n"


def test_unchanged_is_not_written_again(tmp_path: Path) -> None:
    checkpoint = OffsetCheckpoint(str(tmp_path), "x")
    assert checkpoint.write({TopicPartition("a", 0): 1})
    assert not checkpoint.write({TopicPartition("a", 0): 1})
    assert checkpoint.write({TopicPartition("a", 0): 2})


def test_a_failed_write_is_not_taken_for_written(tmp_path: Path) -> None:
    checkpoint = OffsetCheckpoint(str(tmp_path), "x")
    checkpoint.write({TopicPartition("a", 0): 1})
    (tmp_path / "x.tmp").mkdir()
    with pytest.raises(OSError):
        checkpoint.write({TopicPartition("a", 0): 2})
    assert checkpoint.read() == {TopicPartition("a", 0): 1}
    (tmp_path / "x.tmp").rmdir()
    assert checkpoint.write({TopicPartition("a", 0): 1})


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b"0\n", 2),
        (b"1\n0\n", 1),
        (b"0\nmany\n", 2),
        (b"0\n2\na 0 1\n", 2),
        (b"0\n1\na 0 1\nb 0 1\n", 2),
        (b"0\n2\na 0 1\nb 0\n", 4),
        (b"0\n1\na zero 1\n", 3),
        (b"0\n1\na 0 1 2\n", 3),
        (b"0\n1\n\xff 0 1\n", 3),
        (b"\0" * 40, 2),
    ],
)
def test_broken(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        OffsetCheckpoint(str(tmp_path), "x").read()
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{tmp_path}/x, line {line}: ")
