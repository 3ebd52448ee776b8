"""What the tools say of directories that Kafka left is what Kafka's dump says: offsets, counts, keys and values."""

import io
import re
from pathlib import Path

import pytest

from pylog.export import Export, JsonLines, Range
from pylog.log_stats import log_stats
from pylog.log_summary import summarize
from pylog.partition_files import log_directory
from pylog.repair import plan_repair

_BATCH = re.compile(r"^(?:baseOffset: \d+ lastOffset|offset): (\d+) ", re.MULTILINE)
_RECORD = re.compile(r"^\| offset: (\d+) (?!.*endTxnMarker)", re.MULTILINE)


@pytest.mark.parametrize("name", ["broker1-clean", "broker2-killed", "oldformat"])
def test_ends_counts_and_records(golden: Path, name: str) -> None:
    partitions = log_directory(str(golden / name)).partitions
    assert partitions
    for files in partitions:
        dumps = sorted((golden / f"{name}.dumps" / files.name).glob("*.log.txt"))
        text = "".join(path.read_text("utf-8") for path in dumps)
        ends = [int(last) + 1 for last in _BATCH.findall(text)]
        recorded = [int(offset) for offset in _RECORD.findall(text)]
        summary = summarize(files)
        assert summary.log_end_offset == max(ends, default=files.bases[-1]), files.name
        stats = log_stats(files)
        assert stats.records == len(recorded), files.name
        assert stats.batch_bytes.count + stats.control_batches == len(ends), files.name
        out = io.BytesIO()
        export = Export(JsonLines(out), Range())
        export.partition(files)
        assert export.records == sum(offset >= summary.log_start_offset for offset in recorded), files.name
        assert out.getvalue().count(b"\n") == export.records
        assert export.damage == stats.damage == []


@pytest.mark.parametrize("name", ["broker1-clean", "broker2-killed"])
def test_nothing_needs_to_be_cut(golden: Path, name: str) -> None:
    for files in log_directory(str(golden / name)).partitions:
        plan = plan_repair(files, everything=True)
        assert plan.cuts == [], files.name
        assert plan.end_offset == summarize(files).log_end_offset
