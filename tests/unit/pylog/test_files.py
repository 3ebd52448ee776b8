"""Replacing a file: all or nothing, and short writes are continued."""

import os
from pathlib import Path

import pytest

from pylog.files import read_file, replace_file, unlink_if_there, write_all


def test_replace_and_read(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    assert read_file(path) is None
    for data in (b"", b"x", b"y" * 65_536, b"z" * 200_001):
        replace_file(path, data)
        assert read_file(path) == data
    assert os.listdir(tmp_path) == ["f"]
    assert unlink_if_there(path)
    assert not unlink_if_there(path)


def test_a_failure_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "f")
    replace_file(path, b"old")

    def fail(fd: int) -> None:
        raise OSError(5, "injected")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="injected"):
        replace_file(path, b"new")
    assert read_file(path) == b"old"


def test_short_writes_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    written = bytearray()

    def one_byte(fd: int, data: memoryview) -> int:
        written.extend(data[:1])
        return 1

    monkeypatch.setattr(os, "write", one_byte)
    write_all(-1, b"abc")
    assert written == b"abc"
