"""`pylog log verify` and `dump`: what they print and their exit codes; what they find is tested in unit/pylog."""

from collections.abc import Callable
from pathlib import Path

from cluster.cli.log.decoders import decode_group_record, decode_transaction_record
from pylog.records import Record

RunLog = Callable[..., tuple[int, str, str]]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_nothing_wrong(log_directory: Path, run_log: RunLog) -> None:
    size = sum(path.stat().st_size for path in log_directory.glob("t-0/*.log"))
    code, out, err = run_log("verify", log_directory)
    assert (code, out) == (0, "")
    assert err == f"pylog: nothing is wrong in 1 partitions, 2 segments, {size:,} bytes of records\n"
    assert run_log("verify", "-q", log_directory) == (0, "", "")


def test_one_line_per_finding(log_directory: Path, run_log: RunLog) -> None:
    path = log_directory / "t-0" / f"{0:020}.log"
    flip(path, 70)
    code, out, err = run_log("verify", log_directory)
    assert code == 1
    assert out == f"{path}: position 0, offsets 0 to 1: the CRC is wrong\n"
    assert err.startswith("pylog: 1 finding in ")


def test_dump_takes_files_and_directories(log_directory: Path, run_log: RunLog) -> None:
    path = log_directory / "t-0" / f"{0:020}.log"
    code, out, _ = run_log("dump", path, "--print-data-log")
    assert code == 0
    assert out.startswith(f"Dumping {path}\nLog starting offset: 0\nbaseOffset: 0 lastOffset: 1 count: 2 ")
    assert " key: k payload: 1\n" in out
    code, out, _ = run_log("dump", log_directory)
    assert code == 0
    assert sum(line.startswith("Dumping ") for line in out.splitlines()) == len(list((log_directory / "t-0").iterdir()))
    flip(path, 70)
    code, out, err = run_log("dump", path)
    assert code == 1 and "isvalid: false" in out
    assert err == f"pylog: {path}: CRC of the batch at position 0 (offset 0) is wrong\n"


def test_a_broken_side_file_does_not_end_a_dump(log_directory: Path, run_log: RunLog) -> None:
    (log_directory / "t-0" / "leader-epoch-checkpoint").write_bytes(b"x")
    code, out, err = run_log("dump", log_directory)
    assert code == 1
    assert "leader-epoch-checkpoint, line" in err
    assert "topicId: " in out


def test_records_that_no_coordinator_wrote() -> None:
    def decoded(key: bytes | None, value: bytes | None = None) -> list[str | None]:
        record = Record(7, 0, key, value)
        return [decode_group_record(record)[0], decode_transaction_record(record)[0]]

    for key in (None, b"", b"\0"):
        assert decoded(key) == ["Error at offset 7, skipping. Could not read version from key's buffer."] * 2
    assert decoded(b"\0\x63") == ["Unknown record type 99 at offset 7, skipping."] * 2
    for text in decoded(b"\0\0\0\x05ab"):
        assert text is not None
        assert text.startswith(
            "Error at offset 7, skipping. Could not read record with version 0 from key's buffer due"
        )
    text = decode_group_record(Record(7, 0, b"\0\x02\0\x01g", b"\0\x09"))[0]
    assert text is not None and "with version 9 from value's buffer" in text
