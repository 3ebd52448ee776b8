"""Every small file that Python writes: the n-th call fails, or is short, or is the last one before the power goes.

Whatever happens, for every n, a start finds all of the old content or all of the new, never a mixture, and the new one
when the writer was told so; and what was cut short can be done again.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pylog import data_dir, files
from pylog.checkpoint import (
    HIGH_WATERMARK_FILE,
    LOG_START_OFFSET_FILE,
    RECOVERY_POINT_FILE,
    OffsetCheckpoint,
)
from pylog.cleaner_offsets import CleanerOffsets
from pylog.leader_epoch import EpochEntry, read_leader_epochs, write_leader_epochs
from pylog.meta_properties import MetaProperties, read_meta_properties, write_meta_properties
from pylog.partition_metadata import read_partition_metadata, write_partition_metadata
from pylog.topic_settings import TopicSettings
from pylog.types import TopicPartition
from tests.support.faulty_os import FaultyOs, PowerCut, lay_out, replaced_in

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# Larger than a sector, or nothing could be torn.
PARTITIONS = [TopicPartition("a-topic-with-a-longer-name-than-most", i) for i in range(40)]
NEVER = 1 << 30


class Subject(NamedTuple):
    """write(directory, generation) brings the file to a generation; read tells which one it is of, 0: no file."""

    name: str
    write: Callable[[str, int], object]
    read: Callable[[str], int]


def offsets(generation: int) -> dict[TopicPartition, int]:
    return {partition: generation * 1_000 + i for i, partition in enumerate(PARTITIONS)}


def offset_checkpoint(name: str) -> Subject:
    def read(directory: str) -> int:
        found = OffsetCheckpoint(directory, name).read()
        generation = found[PARTITIONS[0]] // 1_000 if found else 0
        assert found == (offsets(generation) if generation else {})
        return generation

    return Subject(name, lambda directory, g: OffsetCheckpoint(directory, name).write(offsets(g)), read)


def write_cleaner_offsets(directory: str, generation: int) -> None:
    CleanerOffsets(lambda _: PARTITIONS).put(directory, PARTITIONS[0], generation)


def read_cleaner_offsets(directory: str) -> int:
    return CleanerOffsets(lambda _: PARTITIONS).get(directory, PARTITIONS[0]) or 0


def epochs(generation: int) -> list[EpochEntry]:
    return [EpochEntry(i, i * 1_000 + generation) for i in range(100)]


def read_epochs(directory: str) -> int:
    found = read_leader_epochs(os.path.join(directory, "leader-epoch-checkpoint"))
    assert found is None or found == epochs(found[0].start_offset)
    return 0 if found is None else found[0].start_offset


def read_topic_id(directory: str) -> int:
    found = read_partition_metadata(os.path.join(directory, "partition.metadata"))
    assert found is None or found == bytes([found[0]]) * 16
    return 0 if found is None else found[0]


def meta(generation: int) -> MetaProperties:
    return MetaProperties(0, generation, "c" * 600)


def read_meta(directory: str) -> int:
    found = read_meta_properties(directory)
    assert found is None or found == meta(found.broker_id or 0)
    return 0 if found is None else found.broker_id or 0


def settings(generation: int) -> dict[str, str]:
    return {f"setting.{i}": str(generation) for i in range(40)}


def read_settings(directory: str) -> int:
    found = TopicSettings(directory).of("t")
    generation = int(found["setting.0"]) if found else 0
    assert found == (settings(generation) if generation else {})
    return generation


SUBJECTS = [
    offset_checkpoint(RECOVERY_POINT_FILE),
    offset_checkpoint(LOG_START_OFFSET_FILE),
    offset_checkpoint(HIGH_WATERMARK_FILE),
    Subject("cleaner-offset-checkpoint", write_cleaner_offsets, read_cleaner_offsets),
    Subject(
        "leader-epoch-checkpoint",
        lambda directory, g: write_leader_epochs(os.path.join(directory, "leader-epoch-checkpoint"), epochs(g)),
        read_epochs,
    ),
    Subject(
        "partition.metadata",
        lambda directory, g: write_partition_metadata(os.path.join(directory, "partition.metadata"), bytes([g]) * 16),
        read_topic_id,
    ),
    Subject("meta.properties", lambda directory, g: write_meta_properties(directory, meta(g), 0), read_meta),
    Subject(
        "clean-shutdown marker",
        lambda directory, g: data_dir.put_clean_shutdown_marker(directory, g),
        lambda directory: data_dir.clean_shutdown_epoch(directory) or 0,
    ),
    Subject("topic settings", lambda directory, g: TopicSettings(directory).put("t", settings(g)), read_settings),
]
subjects = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


class Ground:
    """Fresh directories, in memory where that can be: thousands of little files."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._count = 0

    def path(self) -> str:
        self._count += 1
        path = os.path.join(self._root, str(self._count))
        os.mkdir(path)
        return path


@pytest.fixture
def ground() -> Iterator[Ground]:
    root = tempfile.mkdtemp(prefix="small-files-", dir=MEMORY)
    yield Ground(root)
    shutil.rmtree(root)


def attempts(subject: Subject, ground: Ground, before: int) -> Iterator[tuple[FaultyOs, str, int]]:
    """A disk with generation `before` on it, as often as the writing of the next one makes calls, numbered from 1."""
    calls = 1
    nth = 0
    while nth < calls:
        nth += 1
        directory = ground.path()
        if before:
            subject.write(directory, before)
        counted = FaultyOs(directory)
        if nth == 1:
            with replaced_in(counted, files):
                subject.write(directory, before + 1)
            calls = counted.calls
            assert calls >= 6  # aside, content, sync, name, and the directory's sync
            shutil.rmtree(directory)
            os.mkdir(directory)
            if before:
                subject.write(directory, before)
            counted = FaultyOs(directory)
        yield counted, directory, nth


@subjects
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("times", [1, -1])
def test_the_nth_call_fails(subject: Subject, ground: Ground, before: int, code: int, times: int) -> None:
    for disk, directory, nth in attempts(subject, ground, before):
        disk.fail(nth, OSError(code, os.strerror(code)), times)
        with replaced_in(disk, files), pytest.raises(OSError, check=lambda e: e.errno == code):
            subject.write(directory, before + 1)
        assert subject.read(directory) in (before, before + 1)
        disk.heal()
        with replaced_in(disk, files):
            subject.write(directory, before + 2)
        assert subject.read(directory) == before + 2
        for left in disk.survivors():
            again = ground.path()
            lay_out(left, again)
            assert subject.read(again) == before + 2


@subjects
@pytest.mark.parametrize("before", [0, 1])
def test_writes_are_short(subject: Subject, ground: Ground, before: int) -> None:
    for to_bytes in (1, 7, 600):
        directory = ground.path()
        if before:
            subject.write(directory, before)
        disk = FaultyOs(directory)
        disk.shorten(1, to_bytes)
        with replaced_in(disk, files):
            subject.write(directory, before + 1)
        assert subject.read(directory) == before + 1


@subjects
@pytest.mark.parametrize("before", [0, 1])
def test_the_power_goes_at_the_nth_call(subject: Subject, ground: Ground, before: int) -> None:
    told_by_name = 0
    for disk, directory, nth in attempts(subject, ground, before):
        disk.fail(nth, PowerCut(), -1)
        with replaced_in(disk, files), pytest.raises(PowerCut):
            subject.write(directory, before + 1)
        for left in disk.survivors():
            again = ground.path()
            lay_out(left, again)
            assert subject.read(again) in (before, before + 1)
            told_by_name += subject.read(again) == before + 1
            subject.write(again, before + 2)  # whatever lies beside it
            assert subject.read(again) == before + 2
    assert told_by_name > 0
    directory = ground.path()
    if before:
        subject.write(directory, before)
    disk = FaultyOs(directory)
    with replaced_in(disk, files):
        subject.write(directory, before + 1)
    for left in disk.survivors():  # it was said to be there
        again = ground.path()
        lay_out(left, again)
        assert subject.read(again) == before + 1


def test_a_marker_that_was_taken_does_not_come_back(ground: Ground) -> None:
    """Whether or not an earlier start died between removing it and making that durable."""
    for killed_at in (1, 2, 3, NEVER):
        directory = ground.path()
        data_dir.put_clean_shutdown_marker(directory)
        disk = FaultyOs(directory)
        with replaced_in(disk, files, data_dir):
            disk.fail(killed_at, PowerCut(), -1)
            try:
                assert data_dir.take_clean_shutdown_marker(directory)
            except PowerCut:
                disk.heal()
                assert data_dir.take_clean_shutdown_marker(directory) == (killed_at == 1)
            for left in disk.survivors():
                again = ground.path()
                lay_out(left, again)
                assert not data_dir.take_clean_shutdown_marker(again)


def test_a_marker_that_cannot_be_taken_is_an_error(ground: Ground) -> None:
    for nth in range(1, 4):
        directory = ground.path()
        data_dir.put_clean_shutdown_marker(directory)
        disk = FaultyOs(directory)
        disk.fail(nth, OSError(errno.EIO, "bad"))
        with replaced_in(disk, files, data_dir), pytest.raises(OSError):
            data_dir.take_clean_shutdown_marker(directory)


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The instrument itself: a file written in place is torn, one whose name was not synced is gone."""
    path = tmp_path / "file"
    path.write_bytes(b"o" * 1_100)
    disk = FaultyOs(str(tmp_path))
    fd = disk.open(str(path), os.O_WRONLY | os.O_TRUNC)
    disk.write(fd, b"n" * 1_200)
    disk.close(fd)
    found = {left["file"] for left in disk.survivors()}
    torn = b"n" * 512 + bytes(512) + b"n" * 176
    assert found == {b"o" * 1_100, b"", bytes(1_200), b"n" * 1_200, torn}
    disk.rename(str(path), str(tmp_path / "other"))
    assert {name for left in disk.survivors() for name in left} == {"file", "other"}
    fd = disk.open(str(tmp_path), os.O_RDONLY | os.O_DIRECTORY)
    disk.fsync(fd)
    disk.close(fd)
    assert {name for left in disk.survivors() for name in left} == {"other"}
