"""`pylog log tail` and the follower behind it: everything that is written, once, in order, whatever the writer does."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylog._native import Sys
from pylog.follow import LogFollower
from tests.support.log_writer import LogWriter

RunLog = Callable[..., tuple[int, str, str]]


def offsets(follower: LogFollower) -> list[int]:
    return [record.offset for batch in follower.poll() for record in batch.records()]


@pytest.fixture
def writer(tmp_path: Path, system: Sys) -> Iterator[LogWriter]:
    made = LogWriter(tmp_path / "live", system)
    yield made
    made.stop(clean=False)


def test_the_end(log_directory: Path, run_log: RunLog) -> None:
    assert run_log("tail", "-e", "-n", "4", log_directory, "-F", r"%t-%p %o\n") == (0, "t-0 7\nt-0 9\nt-0 10\n", "")
    assert run_log("tail", "-e", "--from-offset", "9", log_directory / "t-0", "-J")[1].count("\n") == 2
    assert run_log("tail", "-e", "-n", "0", log_directory) == (0, "", "")


def test_what_is_written_is_read_once_over_rolls(writer: LogWriter) -> None:
    follower = LogFollower(str(writer.partition), 0)
    seen: list[int] = []
    for _ in range(12):
        writer.write(2)
        seen += offsets(follower)
        assert offsets(follower) == []
    writer.write(2)
    writer.log.roll(0)
    writer.write(2)
    seen += offsets(follower)
    assert seen == list(range(28))
    assert writer.log.info().segment_count > 3
    follower.close()


def test_a_segment_that_is_opened_while_it_is_empty(writer: LogWriter) -> None:
    follower = LogFollower(str(writer.partition), 0)
    assert offsets(follower) == []
    for expected in range(0, 9, 3):
        writer.write(3)
        assert offsets(follower) == [expected, expected + 1, expected + 2]
        writer.log.roll(0)
        assert offsets(follower) == []
    follower.close()


def test_a_batch_in_pieces_is_waited_for(writer: LogWriter) -> None:
    writer.write(2)
    follower = LogFollower(str(writer.partition), 0)
    assert offsets(follower) == [0, 1]
    path = writer.partition / f"{0:020}.log"
    before = path.read_bytes()
    writer.write(2)
    writer.write(1)
    whole = path.read_bytes()
    one = int.from_bytes(whole[len(before) + 8 : len(before) + 12], "big") + 12
    for part in (5, 12, 61, one - 1):
        path.write_bytes(whole[: len(before) + part])
        assert offsets(follower) == []
    # All bytes but their content, as a page that is not there yet.
    path.write_bytes(whole[: len(before) + 61] + bytes(one - 61))
    assert offsets(follower) == []
    path.write_bytes(whole)
    assert offsets(follower) == [2, 3, 4]
    assert follower.damage == []
    follower.close()


def test_truncation_and_deletion(writer: LogWriter) -> None:
    for _ in range(3):
        writer.write(2)
    follower = LogFollower(str(writer.partition), 0)
    assert offsets(follower) == list(range(6))
    writer.log.truncate(4, 0)
    assert offsets(follower) == []
    writer.write(1)
    assert offsets(follower) == [4]
    writer.log.truncate_fully(100, 0)
    writer.write(2)
    assert offsets(follower) == [100, 101]
    follower.close()


def test_damage_is_passed_over_when_more_follows(log_directory: Path, run_log: RunLog) -> None:
    path = log_directory / "t-0" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    code, out, err = run_log("tail", "-e", "-n", "100", log_directory, "-F", r"%o\n")
    assert code == 1
    assert out.split() == ["2", "4", "5", "6", "7", "9", "10"]
    assert err == f"pylog: left out: {path}: position 0, offsets 0 to 1: the CRC is wrong\n"


def test_another_process_is_followed(writer: LogWriter) -> None:
    command = [sys.executable, "-m", "cluster.cli.main", "log", "tail", str(writer.path), "-F", r"%o\n"]
    writer.write(3)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        try:
            assert [tail.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
            for expected in range(3, 30, 3):
                writer.write(3)
                assert [int(tail.stdout.readline()) for _ in range(3)] == [expected, expected + 1, expected + 2]
        finally:
            tail.terminate()
        assert tail.wait(30) == 128 + 15


def test_a_partition_that_goes_ends_it(writer: LogWriter) -> None:
    writer.write(1)
    follower = LogFollower(str(writer.partition), 0)
    assert offsets(follower) == [0]
    writer.manager.delete(writer.log.partition)
    with pytest.raises(FileNotFoundError):
        offsets(follower)
    follower.close()
