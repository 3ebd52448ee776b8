"""`pylog log export`: every record as it is, in three formats."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.log_writer import NOW

RunLog = Callable[..., tuple[int, str, str]]

OFFSETS = [0, 1, 2, 4, 5, 6, 7, 9, 10]  # without the markers


def test_json_lines(log_directory: Path, run_log: RunLog) -> None:
    code, out, err = run_log("export", log_directory)
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["offset"] for record in records] == OFFSETS
    assert records[0] == {"topic": "t", "partition": 0, "offset": 0, "timestamp": NOW, "key": "k", "value": "0"}
    assert records[7]["value"] == {"base64": "/wA="}
    assert records[7]["headers"] == [["h", "1"], ["n", None]]


def test_csv_keeps_null_and_empty_apart(log_directory: Path, run_log: RunLog, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert run_log("export", log_directory, "-o", path) == (0, "", "")
    text = path.read_text("utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["topic", "partition", "offset", "timestamp", "key", "value", "headers"]
    assert [int(row[2]) for row in rows[1:]] == OFFSETS
    assert rows[8][5:] == ['{"base64":"/wA="}', '[["h","1"],["n",null]]']
    assert rows[9][5:] == ['say "a,b"', ""]
    assert text.splitlines()[9].endswith('"k","say ""a,b""",')


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--from-offset", "5"], [5, 6, 7, 9, 10]),
        (["--to-offset", "5"], [0, 1, 2, 4]),
        (["--from-offset", "2", "--to-offset", "7"], [2, 4, 5, 6]),
        (["--from-time", str(NOW + 42)], [6, 7, 9, 10]),
        (["--to-time", str(NOW + 41)], [0, 1, 2, 4]),
        (["--from-offset", "100"], []),
    ],
)
def test_ranges(log_directory: Path, run_log: RunLog, options: list[str], expected: list[int]) -> None:
    out = run_log("export", log_directory / "t-0", *options)[1]
    assert [json.loads(line)["offset"] for line in out.splitlines()] == expected


def test_damage_is_left_out_and_told(log_directory: Path, run_log: RunLog, tmp_path: Path) -> None:
    path = log_directory / "t-0" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    code, out, err = run_log("export", log_directory)
    assert code == 1
    assert [json.loads(line)["offset"] for line in out.splitlines()] == OFFSETS[2:]
    assert err == f"pylog: left out: {path}: position 0, offsets 0 to 1: the CRC is wrong\n"


def test_parquet(log_directory: Path, run_log: RunLog, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    assert run_log("export", log_directory, "-o", path) == (0, "", "")
    rows = parquet.read_table(path).to_pylist()
    assert [row["offset"] for row in rows] == OFFSETS
    assert rows[7]["value"] == b"\xff\x00"
    assert rows[7]["headers"] == [{"key": "h", "value": b"1"}, {"key": "n", "value": None}]
    assert int(rows[0]["timestamp"].timestamp() * 1000) == NOW
    assert rows[0]["key"] == b"k"


def test_without_pyarrow_it_is_one_line(
    log_directory: Path, run_log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run_log("export", log_directory, "-o", tmp_path / "out.parquet")
    assert (code, err) == (1, "pylog: export to Parquet needs pyarrow: pip install pyarrow\n")
    assert list(tmp_path.glob("out*")) == []
    assert run_log("export", log_directory, "-F", "parquet")[0] == 2
