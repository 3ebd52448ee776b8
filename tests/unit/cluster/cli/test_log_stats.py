"""`pylog log stats`: counts that are exact, and percentiles that nearly are."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylog.log_stats import Histogram
from tests.support.log_writer import NOW

RunLog = Callable[..., tuple[int, str, str]]


def test_counts(log_directory: Path, run_log: RunLog) -> None:
    code, out, _ = run_log("stats", "--json", log_directory)
    said = json.loads(out)
    assert code == 0
    assert (said["records"], said["batches"], said["control_batches"], said["transactional_batches"]) == (9, 6, 2, 2)
    assert (said["null_keys"], said["null_values"], said["key_bytes"], said["headers"]) == (0, 0, 9, 2)
    assert said["value_bytes"] == 7 + 2 + 9
    assert (said["first_timestamp"], said["last_timestamp"]) == (NOW, NOW + 100)
    assert said["codecs"]["none"]["ratio"] == 1
    gzip = said["codecs"]["gzip"]
    assert (gzip["batches"], gzip["records"]) == (1, 3)
    # A record of one byte of key and one of value takes 9 bytes.
    assert gzip["unpacked_bytes"] == 27 and gzip["stored_bytes"] > 27


def test_text(log_directory: Path, run_log: RunLog) -> None:
    code, out, _ = run_log("stats", log_directory)
    assert code == 0
    assert out.splitlines()[:2] == ["t-0", "  records       9, 0.0 % without key, 0.0 % null"]
    assert "  time          2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.100Z" in out
    assert "  rate          90.0 records/s, 270 bytes/s" in out


def test_damage_is_told(log_directory: Path, run_log: RunLog) -> None:
    path = log_directory / "t-0" / f"{0:020}.log"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    code, out, err = run_log("stats", "-J", log_directory)
    assert code == 1
    assert json.loads(out)["records"] == 7
    assert "the CRC is wrong" in err


@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=60), st.sampled_from([1, 50, 90, 99, 100]))
def test_percentiles_are_within_a_64th(sizes: list[int], percent: int) -> None:
    histogram = Histogram()
    histogram.add(np.array(sizes[:20], np.int64))
    histogram.add(np.array(sizes[20:], np.int64))
    exact = sorted(sizes)[max(-(-len(sizes) * percent // 100) - 1, 0)]
    found = histogram.percentile(percent)
    assert exact <= found <= exact + exact // 64 + 1
    assert (histogram.smallest, histogram.largest, histogram.total) == (min(sizes), max(sizes), sum(sizes))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 1 << 20, (1 << 31) - 1])
def test_a_lone_size_is_exact(size: int) -> None:
    histogram = Histogram()
    histogram.add(np.array([size], np.int64))
    assert histogram.percentile(50) == size
