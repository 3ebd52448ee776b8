"""Transactions as Apache Kafka keeps them: the same steps get the same answers, leave the same files, read the same.

The archive holds what Kafka said to every step of scenario.py, what it answered to reads from every offset afterwards,
and the files it left. Ours are compared byte by byte: records, indexes, transaction indexes, snapshots.
"""

import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pylog._native import INT64_MAX, Log, LogSettings, Sys
from pylog.errors import KafkaError
from pylog.producer_snapshot import read_producer_snapshot
from pylog.records import EndMarker, RecordBatch, RecordBatchBuilder, batches
from pylog.transaction_index import read_transaction_index
from tests.golden.transactions.scenario import (
    SETTINGS,
    TOPICS,
    Answer,
    Mark,
    Produce,
    Read,
    Step,
    batch_of,
    steps_of,
)
from tests.unit.pylog.engine_client import LEADER, Client, Host, Hosted, topic_id

ARCHIVE = Path(__file__).parent / "kafka39.tar.gz"
SETTINGS_OF_LOG = LogSettings(
    segment_bytes=int(SETTINGS["segment.bytes"]),
    segment_ms=7 * 24 * 3600 * 1000,
    segment_jitter_ms=0,
    segment_index_bytes=102_400,
    index_interval_bytes=int(SETTINGS["index.interval.bytes"]),
    flush_messages=INT64_MAX,
    preallocate=False,
    jitter_seed=0,
)
SUFFIXES = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")


class Said(NamedTuple):
    """What Kafka said of a topic, and where its files are."""

    topic: str
    base_ms: int
    answers: list[Answer]
    reads: list[Read]
    lists: list[tuple[int, int, int, int, int]]
    directory: Path

    @property
    def batches(self) -> list[RecordBatch]:
        data = b"".join(path.read_bytes() for path in sorted(self.directory.glob("*.log")))
        return list(batches(data))

    @property
    def log_start(self) -> int:
        return self.answers[-1].log_start


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    root = tmp_path_factory.mktemp("transactions")
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(root)
    found = {}
    for topic in TOPICS:
        said = json.loads((root / f"{topic}.json").read_text())
        reads = [Read(*read[:-1], None if read[-1] is None else [tuple(t) for t in read[-1]]) for read in said["reads"]]
        found[topic] = Said(
            topic,
            said["base_ms"],
            [Answer(*answer) for answer in said["answers"]],
            reads,
            [tuple(each) for each in said["lists"]],
            root / f"{topic}-0",
        )
    return found


@pytest.fixture(params=TOPICS)
def said(captured: dict[str, Said], request: pytest.FixtureRequest) -> Said:
    return captured[request.param]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def files(directory: Path, suffixes: tuple[str, ...] = SUFFIXES) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.suffix in suffixes}


def open_log(table: Sys, directory: Path, said: Said, *, clean: bool, recovery_point: int = 0) -> Log:
    bases = sorted(int(path.name[:20]) for path in directory.glob("*.log"))
    log, _ = Log.open(
        table,
        os.fspath(directory),
        SETTINGS_OF_LOG,
        bases,
        log_start=said.log_start if bases else 0,
        recovery_point=recovery_point,
        clean=clean,
        epochs=[(0, 0)] if bases else [],
        now_ms=said.base_ms,
    )
    return log


def read_again(client: Client, topic: str, wanted: Read) -> Read:
    part = client.fetch(
        wanted.offset, topic, version=11, isolation=wanted.isolation, partition_max_bytes=wanted.max_bytes
    )
    data = part.records or b""
    aborted = part.aborted_transactions
    return wanted._replace(
        error=part.error_code,
        last_stable=part.last_stable_offset,
        size=len(data),
        crc=zlib.crc32(data),
        aborted=None if aborted is None else [(txn.producer_id, txn.first_offset) for txn in aborted],
    )


class Player:
    """Does the steps to a partition of ours; markers bear the times that Kafka's clock gave them."""

    def __init__(self, host: Host, hosted: Hosted, said: Said, client: Client) -> None:
        self.host = host
        self.hosted = hosted
        self.client = client
        self.said = said
        self.marked_ms = {batch.header.base_offset: batch.header.max_timestamp for batch in said.batches}
        self.builder = RecordBatchBuilder()

    def take(self, number: int, step: Step) -> Answer:
        error, offset = self._do(number, step)
        info = self.host.engine.partition_info(self.hosted.number)
        return Answer(error, offset, info.log_start_offset, info.last_stable_offset, info.high_watermark)

    def _do(self, number: int, step: Step) -> tuple[int, int]:
        if isinstance(step, Produce):
            data = batch_of(step, number, self.said.base_ms)
            if step.transactional:  # clients may not yet: no coordinator has looked at them
                return 0, self.host.engine.append(self.hosted.number, data, 0).base_offset
            self.client.send_produce({(self.said.topic, 0): data}, version=8, acks=-1, transactional_id=None)
            (part,) = self.client.produced(8)
            return part.error_code, part.base_offset
        try:
            if isinstance(step, Mark):
                self._mark(step)
                return 0, -1
            return 0, self.host.engine.delete_records(self.hosted.number, step.offset)
        except KafkaError as e:
            return int(e.code), -1

    def _mark(self, step: Mark) -> None:
        end = self.host.engine.partition_info(self.hosted.number).log_end_offset
        data = self.builder.build_end_marker(
            EndMarker(step.committed, step.coordinator_epoch),
            timestamp=self.marked_ms.get(end, 0),
            producer_id=step.producer_id,
            producer_epoch=step.epoch,
        )
        assert self.host.engine.append(self.hosted.number, data, 0).committed


@pytest.mark.parametrize("topic", sorted(TOPICS.keys() - {"refused"}))
def test_the_same_steps_get_the_same_answers_and_leave_the_same_files(
    host: Host, captured: dict[str, Said], topic: str
) -> None:
    """What is refused is in tests/c/test_producer_state.c."""
    said = captured[topic]
    hosted = host.host(said.topic, settings=SETTINGS_OF_LOG)
    with host.client() as client:
        player = Player(host, hosted, said, client)
        for number, (step, wanted) in enumerate(zip(steps_of(said.topic), said.answers, strict=True)):
            answer = player.take(number, step)
            assert answer == wanted, f"step {number}: {step}"
        for read in said.reads:
            assert read_again(client, said.topic, read) == read
    directory = Path(hosted.log.directory)
    log = host.engine.remove_partition(hosted.number, 0)
    log.close(clean=True)
    check_files(directory, said.directory)


def check_files(ours: Path, theirs: Path) -> None:
    for suffix in SUFFIXES:
        assert files(ours, (suffix,)) == files(theirs, (suffix,)), suffix


def test_the_same_batches_leave_the_same_files(said: Said, tmp_path: Path) -> None:
    table = Sys()
    log = open_log(table, tmp_path, said, clean=True)
    for batch in said.batches:
        log.append(bytes(batch.data), now_ms=said.base_ms)
    log.close(clean=True)
    table.close()
    check_files(tmp_path, said.directory)


@pytest.mark.parametrize("clean", [True, False])
def test_reads_of_kafkas_directory(host: Host, said: Said, clean: bool) -> None:
    """Opened as Kafka left it, and with nothing but its records: everything else is made again from those."""
    directory = host.directory / f"{said.topic}-0"
    shutil.copytree(said.directory, directory)
    if not clean:
        for path in directory.iterdir():
            if path.suffix != ".log":
                path.unlink()
    log = open_log(host.sys, directory, said, clean=clean)
    host.engine.add_partition(said.topic, topic_id(said.topic), 0, log, LEADER)
    assert files(directory, (".txnindex",)) == files(said.directory, (".txnindex",))
    assert log.producers() == read_producer_snapshot(str(max(said.directory.glob("*.snapshot"))))
    with host.client() as client:
        for read in said.reads:
            assert read_again(client, said.topic, read) == read


@pytest.mark.parametrize("lost", ["nothing", "newest", "every-other", "all", "garbage"])
def test_recovered_from_anywhere_with_whatever_snapshots_are_left(
    captured: dict[str, Said], tmp_path_factory: pytest.TempPathFactory, lost: str
) -> None:
    said = captured["interleaved"]
    newest = read_producer_snapshot(str(max(said.directory.glob("*.snapshot"))))
    for number, recovery_point in enumerate(sorted(int(path.name[:20]) for path in said.directory.glob("*.snapshot"))):
        directory = tmp_path_factory.mktemp("copy")
        shutil.copytree(said.directory, directory, dirs_exist_ok=True)
        snapshots = sorted(directory.glob("*.snapshot"))
        for path in {"nothing": [], "newest": snapshots[-1:], "every-other": snapshots[::2]}.get(lost, snapshots):
            if lost == "garbage":
                path.write_bytes(path.read_bytes()[: 11 * number])
            else:
                path.unlink()
        table = Sys()
        log = open_log(table, directory, said, clean=False, recovery_point=recovery_point)
        assert files(directory, (".txnindex",)) == files(said.directory, (".txnindex",))
        assert sorted(log.producers()) == sorted(newest)
        assert log.info().last_stable_offset_limit == said.answers[-1].last_stable
        log.close(clean=False)
        table.close()


def test_offsets_by_time_as_readers_of_committed_records_may_see_them(said: Said, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(said.directory, directory)
    table = Sys()
    log = open_log(table, directory, said, clean=True)
    last = said.answers[-1]
    for timestamp, isolation, error, offset, found_ms in said.lists:
        bound = last.last_stable if isolation else last.high_watermark
        if timestamp < 0 or (offset < 0 and said.topic == "cut"):
            continue  # Kafka finds nothing while a segment below the log start holds a larger time; we go on
        found = log.offset_for_timestamp(timestamp, bound)
        assert (error, offset, found_ms) == ((0, -1, -1) if found is None else (0, found.offset, found.timestamp))
    log.close(clean=False)
    table.close()


def test_truncated_anywhere_the_state_is_that_of_what_is_left(
    captured: dict[str, Said], tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = captured["interleaved"]
    table = Sys()
    grown = open_log(table, tmp_path_factory.mktemp("grown"), said, clean=True)
    for number, batch in enumerate(said.batches):
        if number % 3 == 0:
            directory = tmp_path_factory.mktemp("cut")
            shutil.copytree(said.directory, directory, dirs_exist_ok=True)
            cut = open_log(table, directory, said, clean=True)
            cut.truncate(batch.header.base_offset, now_ms=said.base_ms)
            assert state(cut) == state(grown)
            base = max(segment.base_offset for segment in cut.segments())
            assert not [p for p in directory.iterdir() if p.suffix in SUFFIXES and int(p.name[:20]) > base]
            kept = read_transaction_index(str(directory / f"{base:020d}.txnindex"))
            assert all(entry.last_offset < batch.header.base_offset for entry in kept)
            cut.close(clean=False)
            shutil.rmtree(directory)
        grown.append(bytes(batch.data), now_ms=said.base_ms)
    grown.close(clean=False)
    table.close()


def state(log: Log) -> object:
    info = log.info()
    end = info.log_end_offset
    return end, info.last_stable_offset_limit, sorted(log.producers()), log.aborted(0, end + 1)
