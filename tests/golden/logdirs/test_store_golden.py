"""The library reads what Apache Kafka 3.9.1 wrote: every record, in every way of reading, with nothing running."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pylog
from pylog.records import end_marker, file_batches
from pylog.store import StoreReader

DIRECTORIES = ["broker1-clean", "broker2-killed", "oldformat"]


def expected_records(directory: Path) -> list[pylog.Record]:
    """Every data record of a partition directory from nothing but its .log files, those of transactions included."""
    found = []
    for path in sorted(directory.glob("*.log")):
        for _, batch in file_batches(str(path)):
            if not batch.control:
                found += [pylog.Record(*record) for record in batch.records()]
    return found


def undecided_and_aborted(directory: Path) -> set[int]:
    """Offsets of records that a read_committed reader must not see."""
    open_now: dict[int, list[int]] = {}
    hidden: set[int] = set()
    for path in sorted(directory.glob("*.log")):
        for _, batch in file_batches(str(path)):
            producer = batch.header.producer_id
            if batch.control:
                for record in batch.records():
                    marker = end_marker(record)
                    offsets = open_now.pop(producer, [])
                    if marker is not None and not marker.committed:
                        hidden.update(offsets)
            elif batch.transactional:
                open_now.setdefault(producer, []).extend(record.offset for record in batch.records())
    return hidden.union(*open_now.values())


@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_record_in_every_way(golden: Path, name: str) -> None:
    with pylog.open(golden / name, "r") as store:
        for topic in store.topics():
            for partition in store.topic(topic):
                directory = golden / name / partition.topic_partition.directory_name
                expected = expected_records(directory)
                first = partition.log_start_offset()
                expected = [record for record in expected if record.offset >= first]
                assert list(partition.read(isolation="read_uncommitted")) == expected, directory
                columns = list(partition.read_columns(isolation="read_uncommitted"))
                assert [r for part in columns for r in part.records()] == expected, directory
                values = [v for part in columns for v in part.value.to_list()]
                assert values == [record.value for record in expected], directory
                offsets = np.concatenate([part.offset for part in columns]) if columns else np.array([], np.int64)
                assert offsets.tolist() == [record.offset for record in expected], directory
                batched = [r for b in partition.read_batches() if not b.control for r in b.records()]
                assert [pylog.Record(*r) for r in batched if r.offset >= first] == expected, directory


@pytest.mark.parametrize("name", DIRECTORIES)
def test_committed_records_only(golden: Path, name: str) -> None:
    hidden_anywhere = 0
    with pylog.open(golden / name, "r") as store:
        for topic in store.topics():
            for partition in store.topic(topic):
                directory = golden / name / partition.topic_partition.directory_name
                hidden = undecided_and_aborted(directory)
                hidden_anywhere += len(hidden)
                everything = list(partition.read(isolation="read_uncommitted"))
                seen = [record.offset for record in partition.read()]
                assert not hidden.intersection(seen), directory
                # What is behind an open transaction waits for it; all else is there.
                wanted = [record.offset for record in everything if record.offset not in hidden]
                assert seen == wanted[: len(seen)], directory
                assert len(seen) == len(wanted) or wanted[len(seen)] > min(hidden), directory
    assert hidden_anywhere or name == "oldformat"


@pytest.mark.parametrize("name", DIRECTORIES)
def test_any_offset_and_any_time(golden: Path, name: str) -> None:
    with pylog.open(golden / name, "r") as store:
        for topic in store.topics():
            for partition in store.topic(topic):
                records = list(partition.read(isolation="read_uncommitted"))
                for record in records[:: max(len(records) // 7, 1)]:
                    found = next(partition.read(record.offset, isolation="read_uncommitted"))
                    assert found == record
                    at = partition.offset_for_timestamp(record.timestamp_ms)
                    first = next(r.offset for r in records if r.timestamp_ms >= record.timestamp_ms)
                    assert at == first, (topic, record)


def test_mapped_views_hold_the_same_bytes(golden: Path) -> None:
    with pylog.open(golden / "broker1-clean", "r") as store:
        seen = 0
        for topic in store.topics():
            for partition in store.topic(topic):
                expected = list(partition.read(isolation="read_uncommitted"))
                views = [v for b in partition.read_mapped() if not b.control for v in b.record_views()]
                views = [v for v in views if v.offset >= partition.log_start_offset()]
                assert [(v.offset, v.timestamp_ms, v.key, v.value, v.headers) for v in views] == expected
                assert all(v.value.readonly for v in views if v.value is not None)
                seen += len(views)
        assert seen > 1000


def test_a_stopped_brokers_directory_is_written_on(copy_of: Callable[[str], Path]) -> None:
    """What was there stays readable beside what is appended, and reads the same from outside and inside."""
    path = copy_of("broker1-clean")
    with StoreReader(str(path)) as before:
        was = {
            topic: [list(p.read(isolation="read_uncommitted")) for p in before.topic(topic)]
            for topic in before.topics()
        }
    with pylog.open(path) as store:
        for topic in store.topics():
            if topic.startswith("__"):
                continue
            for partition, records in zip(store.topic(topic), was[topic], strict=True):
                end = partition.log_end_offset()
                assert partition.append(b"from the library", b"key") == end
                assert list(partition.read(isolation="read_uncommitted"))[:-1] == records


def test_a_groups_position_is_the_readers(golden: Path) -> None:
    """Consumer groups that Kafka kept are named readers here."""
    with pylog.open(golden / "broker1-clean", "r") as store:
        position = store.committed("g1", "a_Topic1", 1)
        assert position is not None
        assert position.offset == 103
