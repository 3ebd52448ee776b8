"""A data directory: its lock against ourselves and other processes, the clean-shutdown marker, the names in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pylog.data_dir import (
    CLEAN_SHUTDOWN_FILE,
    DirectoryInUse,
    DirectoryLock,
    clean_shutdown_epoch,
    list_partition_directories,
    put_clean_shutdown_marker,
    renamed_directory_name,
    take_clean_shutdown_marker,
)
from pylog.files import CorruptFileError
from pylog.types import TopicPartition

# What Java's FileChannel.tryLock() does: a write lock of POSIX kind from byte 0 to the end of time.
_OTHER_PROCESS = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, (1 << 63) - 1, 0, os.SEEK_SET)
except OSError:
    print("refused", flush=True)
else:
    print("locked", flush=True)
sys.stdin.read()
"""


def other_process(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=10)


def test_a_second_holder_is_refused_here_and_elsewhere(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path))
    with pytest.raises(DirectoryInUse, match=f"{tmp_path} is in use by this process"):
        DirectoryLock(str(tmp_path))
    process = other_process(tmp_path / ".lock")
    assert said(process) == "refused"
    ended(process)
    lock.release()
    lock.release()
    assert not (tmp_path / ".lock").exists()
    DirectoryLock(str(tmp_path)).release()


def test_a_process_that_holds_it_is_named(tmp_path: Path) -> None:
    process = other_process(tmp_path / ".lock")
    assert said(process) == "locked"
    with pytest.raises(DirectoryInUse, match=f"in use by process {process.pid} "):
        DirectoryLock(str(tmp_path))
    process.kill()
    ended(process)
    DirectoryLock(str(tmp_path)).release()


def test_a_lock_file_left_by_kill_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"")
    lock = DirectoryLock(str(tmp_path))
    assert (tmp_path / ".lock").exists()
    lock.release()


def test_two_directories_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    locks = [DirectoryLock(str(tmp_path / name)) for name in "ab"]
    for lock in locks:
        lock.release()


def test_no_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectoryLock(str(tmp_path / "none"))


def test_clean_shutdown_marker(tmp_path: Path) -> None:
    assert not take_clean_shutdown_marker(str(tmp_path))
    assert clean_shutdown_epoch(str(tmp_path)) is None
    put_clean_shutdown_marker(str(tmp_path))
    assert (tmp_path / CLEAN_SHUTDOWN_FILE).read_bytes() == b'{"version":0,"brokerEpoch":-1}'
    assert clean_shutdown_epoch(str(tmp_path)) == -1
    assert take_clean_shutdown_marker(str(tmp_path))
    assert os.listdir(tmp_path) == []
    (tmp_path / CLEAN_SHUTDOWN_FILE).write_bytes(b"{}")
    with pytest.raises(CorruptFileError):
        clean_shutdown_epoch(str(tmp_path))


def test_names(tmp_path: Path) -> None:
    unique = "2a3a4123ba1c4954b304864d8848f2f5"
    names = ["a-b-3", f"big-0.{unique}-future", f"gone-1.{unique}-delete", "x-0-stray", "__cluster_metadata-0", "lost"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "file-0").write_bytes(b"")
    found = list_partition_directories(str(tmp_path))
    assert found.current == [(TopicPartition("a-b", 3), f"{tmp_path}/a-b-3")]
    assert found.future == [(TopicPartition("big", 0), f"{tmp_path}/big-0.{unique}-future")]
    assert found.deleted == [f"{tmp_path}/gone-1.{unique}-delete"]
    assert sorted(map(os.path.basename, found.strange)) == ["__cluster_metadata-0", "lost", "x-0-stray"]


def test_a_renamed_directory_is_recognised_and_short_enough(tmp_path: Path) -> None:
    for topic in ("orders", "t" * 249):
        name = renamed_directory_name(TopicPartition(topic, 12), "-delete")
        assert len(name) <= 255
        (tmp_path / name).mkdir()
    assert len(list_partition_directories(str(tmp_path)).deleted) == 2
