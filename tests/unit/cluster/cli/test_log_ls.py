"""`pylog log ls`: partitions, with what they hold."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.cli.log.ls import moment
from pylog._native import Sys
from pylog.log_summary import summarize
from pylog.partition_files import partition_files
from tests.support.log_writer import NOW, LogWriter

RunLog = Callable[..., tuple[int, str, str]]


def test_plain_when_piped(log_directory: Path, run_log: RunLog) -> None:
    code, out, _ = run_log("ls", log_directory)
    size = sum(path.stat().st_size for path in log_directory.glob("t-0/*.log"))
    assert code == 0
    assert out == f"t-0\t0\t11\t2\t{size}\t2023-11-14T22:13:20.000Z\t2023-11-14T22:13:20.100Z\n"


def test_json(log_directory: Path, run_log: RunLog) -> None:
    for where in (log_directory, log_directory / "t-0"):
        _, out, _ = run_log("ls", "--json", where)
        said = json.loads(out)
        assert (said["topic"], said["partition"], said["log_start_offset"], said["log_end_offset"]) == ("t", 0, 0, 11)
        assert (said["first_timestamp"], said["last_timestamp"]) == (NOW, NOW + 100)


def test_a_log_being_written_and_one_that_is_empty(tmp_path: Path, system: Sys) -> None:
    writer = LogWriter(tmp_path / "live", system)
    try:
        empty = summarize(partition_files(str(writer.partition)))
        assert empty == (0, 0, 1, 0, -1, -1)
        for expected in range(3, 40, 3):
            writer.write(3)
            found = summarize(partition_files(str(writer.partition)))
            assert (found.log_end_offset, found.last_timestamp) == (expected, NOW + 10 * (expected - 3) + 2)
        assert found.segments > 2
    finally:
        writer.stop(clean=False)


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_an_index_is_not_believed(log_directory: Path, suffix: str) -> None:
    expected = summarize(partition_files(str(log_directory / "t-0")))
    path = max(log_directory.glob(f"t-0/*{suffix}"))
    if suffix == ".index":
        path.write_bytes(b"\0\0\0\x05\0\0\0\x07")
    else:
        path.unlink()
    assert summarize(partition_files(str(log_directory / "t-0"))) == expected


def test_one_partition_of_many(log_directory: Path, run_log: RunLog) -> None:
    os.mkdir(log_directory / "u-1")
    (log_directory / "u-1" / f"{5:020}.log").write_bytes(b"")
    assert run_log("ls", log_directory, "-t", "u")[1] == "u-1\t5\t5\t1\t0\t-\t-\n"
    assert [line.split("\t")[0] for line in run_log("ls", log_directory)[1].splitlines()] == ["t-0", "u-1"]
    assert run_log("ls", log_directory, "-p", "7")[0] == 2


def test_what_cannot_be_listed_is_one_line(tmp_path: Path, run_log: RunLog) -> None:
    assert run_log("ls", tmp_path / "nothing") == (1, "", f"pylog: {tmp_path}/nothing: no such file or directory\n")
    assert run_log("ls", tmp_path)[0] == 2


@pytest.mark.parametrize(("timestamp", "text"), [(-1, None), (0, "1970-01-01T00:00:00.000Z"), (1 << 62, str(1 << 62))])
def test_moments(timestamp: int, text: str | None) -> None:
    assert moment(timestamp) == text
