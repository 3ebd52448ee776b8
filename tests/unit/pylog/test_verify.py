"""Verification finds every flipped bit of a data directory, and nothing where nothing is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pylog._native import Sys
from pylog.compression import Codec
from pylog.data_dir import DirectoryLock, lock_holder
from pylog.partition_files import NotALogDirectory, log_directory, read_preallocated
from pylog.records import NewRecord, RecordBatchBuilder
from pylog.verify import Verification
from tests.support.log_writer import LogWriter


@pytest.fixture
def directory(tmp_path: Path, system: Sys) -> Path:
    writer = LogWriter(tmp_path / "data", system)
    writer.write(2, 0)
    writer.write(1, 0, transactional=True)
    writer.end_transaction(0, commit=False)
    writer.write(3, 2, codec=Codec.GZIP)
    writer.write(1, 2, transactional=True)
    writer.end_transaction(2, commit=True)
    writer.write(2, 3)
    writer.stop()
    return writer.path


def findings(path: Path) -> list[str]:
    return [str(found) for found in Verification(log_directory(str(path))).findings()]


def test_nothing_is_found_where_nothing_is_wrong(directory: Path) -> None:
    names = set(os.listdir(directory / "t-0"))
    kinds = {Path(name).suffix or name for name in names}
    assert kinds == {
        ".log", ".index", ".timeindex", ".txnindex", ".snapshot", ".metadata", "leader-epoch-checkpoint"
    }  # fmt: skip
    assert len([name for name in names if name.endswith(".log")]) == 2
    assert findings(directory) == []
    assert findings(directory / "t-0") == []


# What nothing tells: a topic's only id (its last character holds four unused bits, which must be 0).
UNTOLD = {"partition.metadata": range(21, 43)}


def beside(path: Path) -> tuple[str, ...]:
    """What is blamed when one of two files must be wrong and both may be."""
    if path.name == "leader-epoch-checkpoint":
        return (str(path.parent / "0"),)
    return (str(path.parent),) if path.suffix == ".log" else ()


@pytest.mark.parametrize(
    "ending", [".log", ".index", ".timeindex", ".txnindex", ".snapshot", ".metadata", "-checkpoint"]
)
def test_every_flipped_bit_is_found(directory: Path, ending: str) -> None:
    flips = 0
    for path in [*directory.glob(f"*{ending}"), *directory.glob(f"t-0/*{ending}")]:
        good = path.read_bytes()
        unseen = []
        for bit in range(8 * len(good)):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            found = findings(directory)
            if not any(line.startswith((str(path), *beside(path))) for line in found):
                unseen.append((bit // 8, bit % 8))
            flips += 1
        path.write_bytes(good)
        unseen = [(byte, bit) for byte, bit in unseen if byte not in UNTOLD.get(path.name, ())]
        assert unseen == [], path.name
    assert flips > 100
    assert findings(directory) == []


def test_damage_is_told_with_its_place_and_does_not_hide_what_follows(directory: Path) -> None:
    path = directory / "t-0" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    sizes = []
    at = 0
    while at < len(data):
        sizes.append(int.from_bytes(data[at + 8 : at + 12], "big") + 12)
        at += sizes[-1]
    second = sizes[0]
    data[second + 8 : second + 12] = b"\x7f\xff\xff\x00"
    data[-1] ^= 1
    path.write_bytes(data)
    found = findings(directory)
    assert f"{path}: position {second}, offset 2: {sizes[1]} bytes are no batch" in found
    assert f"{path}: position {sum(sizes[:-1])}, offset " in " ".join(line for line in found if "CRC" in line)


def test_a_torn_tail_and_a_preallocated_one(directory: Path) -> None:
    path = max((directory / "t-0").glob("*.log"))
    data = path.read_bytes()
    path.write_bytes(data + bytes(500))
    assert findings(directory / "t-0") == []
    path.write_bytes(data + data[:70])
    (line,) = findings(directory / "t-0")
    assert line.startswith(f"{path}: position {len(data)}, from offset ")
    assert line.endswith(": 70 bytes at the end are no whole batch")


def test_gaps_are_no_fault_where_a_cleaner_was_at_work(directory: Path) -> None:
    for path in (directory / "t-0").iterdir():
        if path.suffix in (".index", ".timeindex", ".txnindex", ".snapshot") or path.name == "leader-epoch-checkpoint":
            path.unlink()
    path = directory / "t-0" / f"{0:020}.log"
    data = path.read_bytes()
    first = int.from_bytes(data[8:12], "big") + 12
    path.write_bytes(data[first:])
    assert "offset 2 where 0 is due" in " ".join(findings(directory))
    (directory / "cleaner-offset-checkpoint").write_bytes(b"0\n1\nt 0 5\n")
    assert [line for line in findings(directory) if "is due" in line] == []


def test_a_directory_that_is_being_written(tmp_path: Path, system: Sys) -> None:
    writer = LogWriter(tmp_path / "live", system)
    try:
        for _ in range(5):
            writer.write(3, 0, transactional=True)
            assert findings(writer.path) == []
        # Its leader epochs, indexes and producers are still in memory, and stay there.
        writer.write(3, 1)
        assert findings(writer.path) == []
    finally:
        writer.stop(clean=False)
    assert findings(writer.path) == []
    (writer.path / "t-0" / "leader-epoch-checkpoint").write_bytes(b"0\n1\n0 0\n")
    assert findings(writer.path) == []


def indexed(tmp_path: Path, *, offset_entries: list[tuple[int, int]], time_entries: list[tuple[int, int]]) -> Path:
    """A partition of four batches of two records with these index entries."""
    path = tmp_path / "t-0"
    path.mkdir()
    builder = RecordBatchBuilder()
    batches = [builder.build([NewRecord(100 * i + 9, b"", b"")] * 2, base_offset=2 * i) for i in range(8)]
    builder.close()
    assert len({len(batch) for batch in batches}) == 1
    (path / f"{0:020}.log").write_bytes(b"".join(batches))
    size = len(batches[0])
    (path / f"{0:020}.index").write_bytes(
        b"".join(offset.to_bytes(4, "big") + (size * batch).to_bytes(4, "big") for offset, batch in offset_entries)
    )
    (path / f"{0:020}.timeindex").write_bytes(
        b"".join(time.to_bytes(8, "big") + offset.to_bytes(4, "big") for time, offset in time_entries)
    )
    return path


@pytest.mark.parametrize(
    ("offset_entries", "time_entries", "wrong"),
    [
        ([(3, 1), (7, 3)], [(109, 3), (309, 7)], []),
        # a follower's: the last of several batches beside the first
        ([(5, 1), (9, 3)], [], []),
        ([(7, 1)], [], ["offset 7 at position"]),  # alone, one bit from the truth
        ([(5, 1)], [], []),  # alone, but no single bit makes it of 3
        ([(9, 1), (11, 3)], [], ["offset 9 at position"]),  # reaches behind the next entry
        ([(1, 0)], [], ["offset 1 at position 0"]),  # the first batch never has an entry
        ([(4, 2)], [], ["a batch ends at offset 5"]),
        ([(7, 3), (5, 2)], [], ["both must be above"]),
        # the record itself, as old leaders have it
        ([], [(109, 2), (309, 6)], []),
        ([], [(109, 2)], ["where a batch ends at offset 3"]),
        ([], [(109, 3), (309, 9)], ["whose batch has 409"]),
        ([], [(709, 17)], ["which is in no batch"]),
        ([], [(309, 7), (209, 5)], ["both must be above"]),
    ],
)
def test_index_entries(
    tmp_path: Path, offset_entries: list[tuple[int, int]], time_entries: list[tuple[int, int]], wrong: list[str]
) -> None:
    found = findings(indexed(tmp_path, offset_entries=offset_entries, time_entries=time_entries))
    assert len(found) == len(wrong), found
    assert all(part in line for part, line in zip(wrong, found, strict=True)), found


def test_one_topic_has_one_id(directory: Path) -> None:
    other = directory / "t-1"
    other.mkdir()
    (other / "partition.metadata").write_bytes(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA")
    assert any("another topic id" in line for line in findings(directory))


def test_what_is_no_log_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotALogDirectory):
        log_directory(str(tmp_path))
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(NotALogDirectory):
        log_directory(str(tmp_path / "notes.txt"))
    with pytest.raises(FileNotFoundError):
        log_directory(str(tmp_path / "nothing"))


def test_one_file(directory: Path) -> None:
    first, second = sorted((directory / "t-0").glob("*.log"))
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert findings(first) == []
    assert len(findings(second)) == 1
    snapshot = max((directory / "t-0").glob("*.snapshot"))
    assert findings(snapshot) == []


def test_who_holds_a_directory_is_seen_without_disturbing_him(tmp_path: Path) -> None:
    assert lock_holder(str(tmp_path)) is None
    lock = DirectoryLock(str(tmp_path))
    assert lock_holder(str(tmp_path)) == os.getpid()
    asked = "import sys; from pylog.data_dir import lock_holder; print(lock_holder(sys.argv[1]))"
    for _ in range(2):
        said = subprocess.run([sys.executable, "-c", asked, str(tmp_path)], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == str(os.getpid())
    lock.release()
    assert lock_holder(str(tmp_path)) is None


def test_a_checkpoint_may_name_what_was_deleted_until_the_directory_is_closed(directory: Path) -> None:
    path = directory / "replication-offset-checkpoint"
    path.write_bytes(b"0\n1\ngone 4 7\n")
    assert findings(directory) == [f"{path}, offset 7: gone-4 at offset 7: no gone-4 is here"]
    (directory / ".kafka_cleanshutdown").unlink()
    assert findings(directory) == []
    path.write_bytes(b"0\n1\nu 0 7\n")  # t with a flipped bit
    assert findings(directory) == [f"{path}, offset 7: u-0 at offset 7: no u-0 is here"]


def test_an_index_full_of_holes(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert read_preallocated(str(path)) is None
    for used, size in ((0, 0), (0, 10 << 20), (8, 8), (8, 10 << 20), (70_000, 10 << 20), (10 << 20, 10 << 20)):
        data = bytes(used - 1) + b"\x01" if used else b""
        with path.open("wb") as file:
            file.write(data)
            file.truncate(size)
        assert read_preallocated(str(path)) == (data, size)
    path.write_bytes(b"\x01" + bytes(300_000) + b"\x02" + bytes(5))
    assert read_preallocated(str(path)) == (b"\x01" + bytes(300_000) + b"\x02", 300_007)
