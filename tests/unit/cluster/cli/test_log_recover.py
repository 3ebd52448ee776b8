"""`pylog log recover`: shows first, then does what a broker's start would, and keeps what it cuts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pylog._native import Sys
from pylog.checkpoint import OffsetCheckpoint
from pylog.data_dir import DirectoryLock
from pylog.partition_files import partition_files
from pylog.types import TopicPartition
from tests.support.log_writer import LogWriter

RunLog = Callable[..., tuple[int, str, str]]
TORN = 5
"""Bytes that the last batch lacks."""


@pytest.fixture
def killed(tmp_path: Path, system: Sys) -> Path:
    """Three batches, the last of them torn."""
    writer = LogWriter(tmp_path / "killed", system)
    for _ in range(3):
        writer.write(2)
    writer.stop(clean=False)
    path = writer.partition / f"{0:020}.log"
    path.write_bytes(path.read_bytes()[:-TORN])
    return writer.path


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_it_is_shown_first(killed: Path, run_log: RunLog) -> None:
    before = files(killed)
    code, out, err = run_log("recover", killed)
    assert code == 1
    batch = (len(before[f"t-0/{0:020}.log"]) + TORN) // 3
    assert out.splitlines() == [
        f"t-0: cut {batch - TORN} bytes of {0:020}.log from position {2 * batch}, offset 4",
        "t-0: the log would end at offset 4",
    ]
    assert err.startswith("pylog: nothing was changed")
    assert files(killed) == before


def test_what_is_cut_is_kept(killed: Path, run_log: RunLog) -> None:
    path = killed / "t-0" / f"{0:020}.log"
    before = path.read_bytes()
    code, out, _ = run_log("recover", "--yes", killed)
    assert code == 0
    after = path.read_bytes()
    assert f"t-0: kept {path}.cut\n" in out
    assert after + Path(f"{path}.cut").read_bytes() == before
    assert run_log("verify", "-q", killed) == (0, "", "")
    assert run_log("ls", killed)[1].split("\t")[1:3] == ["0", "4"]
    assert OffsetCheckpoint(str(killed), "recovery-point-offset-checkpoint").read() == {TopicPartition("t", 0): 4}
    assert not (killed / ".lock").exists()
    assert run_log("recover", killed)[0] == 0


def test_damage_in_the_middle_takes_the_segments_behind_with_it(log_directory: Path, run_log: RunLog) -> None:
    """Below the recovery point, so only when everything is asked for."""
    first, second = (
        log_directory / "t-0" / f"{base:020}.log" for base in partition_files(f"{log_directory}/t-0").bases
    )
    kept = second.read_bytes()
    data = bytearray(first.read_bytes())
    data[70] ^= 1
    first.write_bytes(data)
    code, _, err = run_log("recover", log_directory)
    assert code == 0 and "closed in order" in err
    code, out, _ = run_log("recover", "--everything", log_directory)
    assert code == 1
    assert f"cut {len(data):,} bytes of {first.name} from position 0, offset 0\n" in out
    assert f"cut {len(kept):,} bytes of {second.name} from position 0, offset " in out
    assert run_log("recover", "--everything", "--yes", log_directory)[0] == 0
    assert Path(f"{second}.cut").read_bytes() == kept
    assert Path(f"{first}.cut").read_bytes() == data
    assert run_log("ls", log_directory)[1].split("\t")[1:3] == ["0", "0"]


def test_a_directory_in_use_is_left_alone(killed: Path, run_log: RunLog) -> None:
    before = files(killed)
    lock = DirectoryLock(str(killed))
    code, _, err = run_log("recover", "--yes", killed)
    lock.release()
    assert code == 1 and "is in use by this process" in err
    assert files(killed) == before


def test_a_second_cut_does_not_overwrite_the_first(killed: Path, run_log: RunLog) -> None:
    path = killed / "t-0" / f"{0:020}.log"
    assert run_log("recover", "--yes", killed)[0] == 0
    first = Path(f"{path}.cut").read_bytes()
    path.write_bytes(path.read_bytes() + b"torn again")
    assert run_log("recover", "--yes", killed)[0] == 0
    assert Path(f"{path}.cut").read_bytes() == first
    assert sorted(p.read_bytes() for p in path.parent.glob("*.cut")) == sorted([first, b"torn again"])


def test_a_file_is_no_log(killed: Path, run_log: RunLog) -> None:
    code, _, err = run_log("recover", killed / "t-0" / f"{0:020}.log")
    assert code == 1 and "name the partition's directory" in err
