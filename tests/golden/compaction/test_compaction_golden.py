"""What Kafka's cleaner made of a log, and what ours makes of the same log: the same files.

Kafka's offset indexes get an entry for each of the cleaner's reads, ours one every index.interval.bytes, so indexes are
asked whether they are right and not whether they are Kafka's. Compressed records are compared after they were read: the
codecs are other libraries.
"""

import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pylog._native import Sys
from pylog.cleanable import DirtySection, dirty_section
from pylog.cleaner import clean_log
from pylog.compaction import CleanerConfig
from pylog.config import LogConfig
from pylog.log import Log, open_log
from pylog.records import RecordBatch, batches
from pylog.types import TopicPartition

ARCHIVE = Path(__file__).parent / "kafka39.tar.gz"
COMPRESSED = {"gzip", "snappy", "lz4", "zstd"}


class Round(NamedTuple):
    """One cleaning of one topic by Kafka."""

    topic: str
    round: int
    first_dirty: int
    next_dirty: int
    settings: dict[str, str]
    done_ms: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.round}"


def rounds() -> list[Round]:
    with tarfile.open(ARCHIVE) as archive:
        file = archive.extractfile("rounds.json")
        assert file is not None
        return [Round(**each) for each in json.load(file)]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cleaned")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(path, filter="data")
    return path


@pytest.fixture
def system() -> Iterator[Sys]:
    table = Sys()
    yield table
    table.close()


@pytest.fixture
def opened(captured: Path, round_: Round, system: Sys) -> Iterator[Log]:
    """Our log on what Kafka's cleaner had before it."""
    path = captured / f"{round_.round}-before" / f"{round_.topic}-0"
    log = open_log(
        system,
        TopicPartition(round_.topic, 0),
        str(path),
        config=LogConfig().with_overrides(round_.settings),
        recovery_point=0,
        log_start=0,
        clean=False,
        now_ms=0,
        wall_ms=round_.done_ms,
    )
    yield log
    log.close(clean=False)


def logs_in(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir()) if each.suffix == ".log"}


def all_batches(files: dict[str, bytes]) -> list[RecordBatch]:
    return [batch for data in files.values() for batch in batches(data)]


def horizons(files: dict[str, bytes]) -> set[int]:
    return {horizon for batch in all_batches(files) if (horizon := batch.delete_horizon_ms) is not None}


def moment(round_: Round, before: dict[str, bytes], after: dict[str, bytes]) -> int:
    """Kafka's clock in that cleaning: its new delete horizons say it, and else any time after it will do."""
    old, new = horizons(before), horizons(after)
    new -= old
    assert len(new) <= 1, "one pass has one clock"
    return new.pop() - int(round_.settings.get("delete.retention.ms", 86_400_000)) if new else round_.done_ms


def dirty(log: Log, round_: Round, now_ms: int) -> DirtySection:
    info = log.info()
    return dirty_section(
        log.segments(),
        checkpoint=round_.first_dirty,
        log_start=info.log_start_offset,
        log_end=info.log_end_offset,
        last_stable=log.owner.last_stable_offset(),
        min_lag_ms=0,
        now_ms=now_ms,
    )


@pytest.mark.parametrize("round_", rounds(), ids=str)
def test_the_same_as_kafka(captured: Path, opened: Log, round_: Round, system: Sys) -> None:
    ours = Path(opened.path)
    theirs = captured / f"{round_.round}-after" / f"{round_.topic}-0"
    before, wanted = logs_in(ours), logs_in(theirs)
    now_ms = moment(round_, before, wanted)
    stats = clean_log(system, opened, dirty(opened, round_, now_ms), CleanerConfig(), now_ms)
    assert stats.next_dirty_offset == round_.next_dirty
    found = logs_in(ours)
    assert list(found) == list(wanted)
    assert sum(map(len, wanted.values())) < sum(map(len, before.values()))
    for name in wanted:
        if round_.topic in COMPRESSED:
            assert [shown(batch) for batch in batches(found[name])] == [shown(batch) for batch in batches(wanted[name])]
        else:
            assert [shown(batch) for batch in batches(found[name])] == [shown(batch) for batch in batches(wanted[name])]
            assert found[name] == wanted[name]
        aborted = Path(name).with_suffix(".txnindex")
        assert (ours / aborted).exists() == (theirs / aborted).exists()
        if (theirs / aborted).exists():
            assert (ours / aborted).read_bytes() == (theirs / aborted).read_bytes()
    check_indexes(opened, found)


def shown(batch: RecordBatch) -> object:
    header = batch.header
    if header.attributes & 7:
        header = header._replace(crc=0, batch_length=0, size_bytes=0)
    return header, [] if header.records_count == 0 else batch.records()


def check_indexes(log: Log, files: dict[str, bytes]) -> None:
    """Every entry names a batch by its last offset, at its position; timestamps are those of batches."""
    for segment in log.segments()[:-1]:
        name = Path(log.path, f"{segment.base_offset:020d}")
        places: dict[int, int] = {}
        largest: dict[int, int] = {}
        position = 0
        for batch in batches(files[name.name + ".log"]):
            places[batch.last_offset - segment.base_offset] = position
            largest[batch.last_offset - segment.base_offset] = batch.header.max_timestamp
            position += batch.header.size_bytes
        offsets = list(struct.iter_unpack(">ii", name.with_suffix(".index").read_bytes()))
        assert all(places[offset] == at for offset, at in offsets) and offsets == sorted(offsets)
        times = list(struct.iter_unpack(">qi", name.with_suffix(".timeindex").read_bytes()))
        assert all(largest[offset] == timestamp for timestamp, offset in times) and times == sorted(times)
        assert (times[-1][0] if times else -1) == max(largest.values(), default=-1)
