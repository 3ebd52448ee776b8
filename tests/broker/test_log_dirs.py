"""Several data directories of one broker: DescribeLogDirs, AlterReplicaLogDirs, directories that fail or fill up.

The first half is asked of Apache Kafka too (PYLOG_TEST_BROKER=kafka39), the second is about what only ours does.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.protocol import messages as m
from tests.broker.batches import batch
from tests.broker.raw import Raw
from tests.support.brokers import Broker, chosen_kind, new_broker, start_broker, unavailable

STORAGE_ERROR, NO_SUCH_DIRECTORY, NO_SUCH_PARTITION = 56, 57, 3
OURS = pytest.mark.skipif(chosen_kind() != "pylog", reason="about pylog's own behaviour")
SETTINGS = {
    "auto.create.topics.enable": "false",
    "log.initial.task.delay.ms": "200",
    "log.segment.delete.delay.ms": "100",
}
RATE = "replica.alter.log.dirs.io.max.bytes.per.second"


def directories(root: Path, count: int = 3) -> list[str]:
    return [str(root / f"d{i}") for i in range(count)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dirs")


@pytest.fixture(scope="module")
def paths(root: Path) -> list[str]:
    return directories(root)


@pytest.fixture(scope="module")
def broker(root: Path, paths: list[str]) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    with start_broker(root / "broker", {**SETTINGS, "log.dirs": ",".join(paths)}) as started:
        yield started


@pytest.fixture
def raw(broker: Broker) -> Iterator[Raw]:
    made = Raw(broker.port)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # sleep: a broker does it, and can only be asked


def create(raw: Raw, name: str, partitions: int = 1, **configs: str) -> int:
    topic = m.CreateTopicsRequest.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=1,
        configs=[m.CreateTopicsRequest.CreatableTopicConfig(name=k, value=v) for k, v in configs.items()],
    )
    return int(raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000), 5).topics[0].error_code)


def describe(raw: Raw, name: str | None = None, partitions: int = 1, version: int = 4) -> dict[str, Any]:
    topics = None
    if name is not None:
        topics = [m.DescribeLogDirsRequest.DescribableLogDirTopic(topic=name, partitions=list(range(partitions)))]
    answer = raw.ask(m.DescribeLogDirsRequest(topics=topics), version)
    assert answer.error_code == 0
    return {result.log_dir: result for result in answer.results}


def places(raw: Raw, name: str, partitions: int = 1) -> dict[tuple[str, int, bool], Any]:
    """What lies where: (directory, partition, is it a copy that is being built)."""
    return {
        (path, part.partition_index, part.is_future_key): part
        for path, result in describe(raw, name, partitions).items()
        for topic in result.topics
        for part in topic.partitions
    }


def place(raw: Raw, name: str) -> str:
    """The directory of its one partition."""
    ((path, _, future),) = places(raw, name)
    assert not future
    return path


def alter(raw: Raw, path: str, name: str, index: int = 0, version: int = 2) -> int:
    topic = m.AlterReplicaLogDirsRequest.AlterReplicaLogDirTopic(name=name, partitions=[index])
    wanted = m.AlterReplicaLogDirsRequest.AlterReplicaLogDir(path=path, topics=[topic])
    (answered,) = raw.ask(m.AlterReplicaLogDirsRequest(dirs=[wanted]), version).results
    assert answered.topic_name == name
    (result,) = answered.partitions
    assert result.partition_index == index
    return int(result.error_code)


@functools.cache
def one_record(value: bytes) -> bytes:
    return batch([(b"k", value)])


def produce(raw: Raw, name: str, value: bytes = b"v", index: int = 0) -> int:
    data = m.ProduceRequest.TopicProduceData(
        name=name,
        partition_data=[m.ProduceRequest.PartitionProduceData(index=index, records=one_record(value))],
    )
    answer = raw.ask(m.ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), 8)
    return int(answer.responses[0].partition_responses[0].error_code)


def fetch(raw: Raw, name: str, offset: int = 0, index: int = 0) -> Any:
    part = m.FetchRequest.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(topic=name, partitions=[part])
    answer = raw.ask(m.FetchRequest(max_wait_ms=0, min_bytes=0, topics=[topic], session_epoch=-1), 11)
    return answer.responses[0].partitions[0]


def values(raw: Raw, name: str) -> list[int]:
    """Sizes of the batches of a log, in order of offset, after having seen that no offset is missing."""
    found: list[int] = []
    while True:
        records = fetch(raw, name, len(found)).records or b""
        at, before = 0, len(found)
        while at + 12 <= len(records):
            size = 12 + int.from_bytes(records[at + 8 : at + 12], "big")
            if at + size > len(records):
                break
            assert int.from_bytes(records[at : at + 8], "big") == len(found)
            found.append(size)
            at += size
        if len(found) == before:
            return found


def set_broker(raw: Raw, **configs: str | None) -> None:
    resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=4,
        resource_name="0",
        configs=[
            m.IncrementalAlterConfigsRequest.AlterableConfig(
                name=k.replace("_", "."), config_operation=1 if v is None else 0, value=v
            )
            for k, v in configs.items()
        ],
    )
    answer = raw.ask(m.IncrementalAlterConfigsRequest(resources=[resource]), 1)
    assert answer.responses[0].error_code == 0, answer.responses[0].error_message


# ------------------------------------------------------------------------------------------------------ as Kafka


def test_partitions_are_spread_and_described(raw: Raw, paths: list[str]) -> None:
    assert create(raw, "spread", 6) == 0
    found = places(raw, "spread", 6)
    assert sorted(path for path, _, _ in found) == sorted(paths * 2)
    assert {part.offset_lag for part in found.values()} == {0}
    ((path, index, _), _) = next(iter(found.items()))
    assert produce(raw, "spread", b"v" * 1000, index) == 0
    assert places(raw, "spread", 6)[path, index, False].partition_size > 1000
    for result in describe(raw).values():
        space = os.statvfs(result.log_dir)
        assert result.total_bytes == space.f_blocks * space.f_frsize
        assert 0 < result.usable_bytes <= result.total_bytes
        assert result.error_code == 0
    assert {result.total_bytes for result in describe(raw, version=3).values()} == {-1}
    assert {len(result.topics) for result in describe(raw, "no such topic").values()} == {0}


def test_what_cannot_be_moved_is_told(raw: Raw, paths: list[str], root: Path) -> None:
    assert create(raw, "stays") == 0
    assert alter(raw, str(root / "elsewhere"), "stays") == NO_SUCH_DIRECTORY
    assert alter(raw, str(root / "elsewhere"), "unknown") == NO_SUCH_DIRECTORY
    assert alter(raw, paths[0], "unknown") == NO_SUCH_PARTITION
    assert alter(raw, paths[0], "stays", 1) == NO_SUCH_PARTITION
    assert alter(raw, paths[0], "x" * 249) == 17
    assert alter(raw, place(raw, "stays"), "stays") == 0
    assert len(places(raw, "stays")) == 1


@pytest.mark.parametrize(
    ("name", "replicas", "code", "message"),
    [
        ("spread", [0], 0, None),
        ("spread", None, 85, "No partition reassignment is in progress."),
        ("spread", [], 39, "Empty replica list specified in partition reassignment."),
        ("spread", [0, 0], 39, "Duplicate replica ids in partition reassignment replica list: ArrayBuffer(0, 0)"),
        ("spread", [-1], 39, "Invalid broker id in replica list: ArrayBuffer(-1)"),
        (
            "spread",
            [9],
            39,
            "Replica assignment has brokers that are not alive. Replica list: ArrayBuffer(9), live broker list: Set(0)",
        ),
        ("unknown", [0], 3, "The partition does not exist."),
        ("unknown", None, 85, "No partition reassignment is in progress."),
        ("unknown", [9], 39, "Replica assignment has brokers that are not alive."),
    ],
)
def test_replicas_are_where_they_can_be(
    raw: Raw, name: str, replicas: list[int] | None, code: int, message: str | None
) -> None:
    """What Kafka's tool asks for before it moves partitions between directories."""
    create(raw, "spread", 6)
    part = m.AlterPartitionReassignmentsRequest.ReassignablePartition(partition_index=0, replicas=replicas)
    topic = m.AlterPartitionReassignmentsRequest.ReassignableTopic(name=name, partitions=[part])
    answer = raw.ask(m.AlterPartitionReassignmentsRequest(topics=[topic]), 0)
    said = answer.responses[0].partitions[0]
    assert (answer.error_code, said.error_code) == (0, code)
    assert said.error_message == message or (message and said.error_message.startswith(message))
    assert raw.ask(m.ListPartitionReassignmentsRequest(topics=None), 0).topics == []


@pytest.mark.parametrize("path", [0, 2])
def test_a_directory_may_be_chosen_before_the_topic_is_there(raw: Raw, paths: list[str], path: int) -> None:
    name = f"chosen{path}"
    assert alter(raw, paths[path], name) == NO_SUCH_PARTITION
    assert create(raw, name) == 0
    assert place(raw, name) == paths[path]


@pytest.mark.parametrize("version", [1, 2])
def test_a_partition_moves_with_its_records(raw: Raw, paths: list[str], version: int) -> None:
    name = f"moves{version}"
    assert create(raw, name, **{"segment.bytes": "4096"}) == 0
    for i in range(50):
        assert produce(raw, name, b"v" * i * 10) == 0
    before, source = values(raw, name), place(raw, name)
    target = next(path for path in paths if path != source)
    assert alter(raw, target, name, version=version) == 0
    wait_until(lambda: list(places(raw, name)) == [(target, 0, False)], "it does not arrive")
    assert values(raw, name) == before
    assert produce(raw, name, b"and more") == 0
    assert len(values(raw, name)) == len(before) + 1
    wait_until(lambda: not list(Path(source).glob(f"{name}-0*")), "the old directory stays")
    assert sorted(path.name for path in Path(target).glob(f"{name}-0*")) == [f"{name}-0"]


def test_a_partition_moves_while_it_is_written_and_read(broker: Broker, raw: Raw, paths: list[str]) -> None:
    assert create(raw, "busy", **{"segment.bytes": "1000000"}) == 0
    for _ in range(30):
        assert produce(raw, "busy", b"v" * 100_000) == 0
    for lap in range(3):
        source = place(raw, "busy")
        target = paths[(paths.index(source) + 1) % len(paths)]
        assert alter(raw, target, "busy") == 0, lap
        deadline = time.monotonic() + 30
        while list(places(raw, "busy")) != [(target, 0, False)]:
            assert produce(raw, "busy", b"w" * 1000) == 0
            assert time.monotonic() < deadline
    high_watermark = fetch(raw, "busy").high_watermark
    assert len(values(raw, "busy")) == high_watermark


def test_a_move_is_shown_throttled_and_cancelled(raw: Raw, paths: list[str]) -> None:
    assert create(raw, "slow", **{"segment.bytes": "1000000"}) == 0
    for _ in range(60):
        assert produce(raw, "slow", b"v" * 100_000) == 0
    source = place(raw, "slow")
    first, second = (path for path in paths if path != source)
    set_broker(raw, **{RATE: "1000"})
    try:
        assert alter(raw, first, "slow") == 0
        wait_until(lambda: (first, 0, True) in places(raw, "slow"), "no copy is shown")
        shown = places(raw, "slow")
        assert set(shown) == {(source, 0, False), (first, 0, True)}
        assert 0 < shown[first, 0, True].offset_lag <= 60 and shown[source, 0, False].offset_lag == 0
        assert alter(raw, second, "slow") == 0
        wait_until(
            lambda: set(places(raw, "slow")) == {(source, 0, False), (second, 0, True)}, "it goes on to the first"
        )
        assert alter(raw, source, "slow") == 0
        assert list(places(raw, "slow")) == [(source, 0, False)]
    finally:
        set_broker(raw, **{RATE: None})
    assert len(values(raw, "slow")) == 60


def test_a_topic_that_moves_can_be_deleted(raw: Raw, paths: list[str]) -> None:
    assert create(raw, "leaves") == 0
    for _ in range(30):
        assert produce(raw, "leaves", b"v" * 100_000) == 0
    source = place(raw, "leaves")
    set_broker(raw, **{RATE: "1000"})
    try:
        assert alter(raw, next(path for path in paths if path != source), "leaves") == 0
        raw.ask(m.DeleteTopicsRequest(topic_names=["leaves"], timeout_ms=15_000), 4)
        wait_until(lambda: not any(list(Path(path).glob("leaves-*")) for path in paths), "something is left")
    finally:
        set_broker(raw, **{RATE: None})


# ------------------------------------------------------------------------------------------------------ kill -9


@OURS
@pytest.mark.parametrize("durability", ["page-cache", "group-commit"])
def test_a_move_survives_kill_at_any_time(tmp_path: Path, durability: str) -> None:
    paths = directories(tmp_path, 2)
    settings = {**SETTINGS, "log.dirs": ",".join(paths), "pylog.durability": durability}
    with start_broker(tmp_path / "broker", settings) as broker:
        raw = Raw(broker.port)
        assert create(raw, "t", **{"segment.bytes": "200000"}) == 0
        for _ in range(40):
            assert produce(raw, "t", b"v" * 50_000) == 0
        for lap in range(5):
            source = place(raw, "t")
            target = next(path for path in paths if path != source)
            assert alter(raw, target, "t") == 0
            began = time.monotonic()
            acknowledged = 40 + lap
            assert produce(raw, "t", b"w") == 0
            while time.monotonic() - began < lap * 0.006:
                pass
            broker.kill()
            raw.close()
            broker.start()
            raw = Raw(broker.port)
            wait_until(lambda raw=raw, target=target: list(places(raw, "t")) == [(target, 0, False)], "not there")  # type: ignore[misc]
            assert len(values(raw, "t")) == acknowledged + 1
        raw.close()


# ------------------------------------------------------------------------------------------------------ failures


@OURS
def test_a_failed_directory_leaves_the_others_serving(tmp_path: Path) -> None:
    paths = directories(tmp_path, 2)
    with start_broker(tmp_path / "broker", {**SETTINGS, "log.dirs": ",".join(paths)}) as broker:
        raw = Raw(broker.port)
        assert create(raw, "t", 2, **{"segment.bytes": "1000"}) == 0
        at = {path: index for path, index, _ in places(raw, "t", 2)}
        lost, kept = at[paths[1]], at[paths[0]]
        for index in (lost, kept):
            assert produce(raw, "t", b"v" * 800, index) == 0
        shutil.move(paths[1], tmp_path / "away")
        (tmp_path / "d1").write_text("in its place")
        assert produce(raw, "t", b"v" * 800, lost) == STORAGE_ERROR  # has to begin a segment
        wait_until(lambda: describe(raw)[paths[1]].error_code == STORAGE_ERROR, "it is still shown as usable")
        assert describe(raw)[paths[1]].topics == [] and describe(raw)[paths[0]].error_code == 0
        wait_until(lambda: fetch(raw, "t", 0, lost).error_code == STORAGE_ERROR, "reads go on")
        assert produce(raw, "t", b"v", lost) == STORAGE_ERROR
        assert produce(raw, "t", b"v" * 800, kept) == 0 and fetch(raw, "t", 0, kept).error_code == 0
        asked = [m.MetadataRequest.MetadataRequestTopic(name="t")]
        shown = {p.partition_index: p for p in raw.ask(m.MetadataRequest(topics=asked), 9).topics[0].partitions}
        assert (shown[lost].leader_id, shown[lost].offline_replicas) == (-1, [0])
        assert (shown[kept].leader_id, shown[kept].offline_replicas) == (0, [])
        assert alter(raw, paths[1], "t", kept) == STORAGE_ERROR
        assert alter(raw, paths[0], "t", lost) == STORAGE_ERROR
        assert create(raw, "new", 2) == 0 and {path for path, _, _ in places(raw, "new", 2)} == {paths[0]}
        offline = [line for line in broker.log.read_text().splitlines() if "log directory is offline" in line]
        assert len(offline) == 1 and paths[1] in offline[0]
        raw.close()

        # a start without it: the same, and nothing is made anew for what lies there
        assert broker.stop() == 0
        broker.start()
        raw = Raw(broker.port)
        assert describe(raw)[paths[1]].error_code == STORAGE_ERROR
        assert produce(raw, "t", b"v", lost) == STORAGE_ERROR and fetch(raw, "t", 0, lost).error_code == STORAGE_ERROR
        assert produce(raw, "t", b"v", kept) == 0
        assert not list(Path(paths[0]).glob(f"t-{lost}"))
        deletion = m.DeleteTopicsRequest(topic_names=["t"], timeout_ms=15_000)
        assert raw.ask(deletion, 4).responses[0].error_code == STORAGE_ERROR  # finished when it is back
        raw.close()
        assert broker.stop() == 0

        os.unlink(paths[1])
        shutil.move(tmp_path / "away", paths[1])
        broker.start()
        raw = Raw(broker.port)
        assert not places(raw, "t", 2) and describe(raw)[paths[1]].error_code == 0
        assert create(raw, "t") == 0
        raw.close()


@OURS
def test_without_any_directory_the_broker_stops_with_one_line(tmp_path: Path) -> None:
    paths = directories(tmp_path, 1)
    broker = start_broker(tmp_path / "broker", {**SETTINGS, "log.dirs": paths[0]})
    try:
        raw = Raw(broker.port)
        assert create(raw, "t", **{"segment.bytes": "1000"}) == 0
        assert produce(raw, "t", b"v" * 800) == 0
        shutil.move(paths[0], tmp_path / "away")
        raw.send(m.ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[
            m.ProduceRequest.TopicProduceData(name="t", partition_data=[
                m.ProduceRequest.PartitionProduceData(index=0, records=batch([(b"k", b"v" * 800)]))])]), 8)  # fmt: skip
        wait_until(lambda: not broker.running(), "it serves on")
        broker.process.wait()  # until all that it said is in the log
        assert [line for line in broker.log.read_text().splitlines() if "no data directory is left" in line]
        raw.close()
    finally:
        broker.close()


@OURS
def test_the_directory_with_the_metadata_is_needed_to_start(tmp_path: Path) -> None:
    paths = directories(tmp_path, 2)
    broker = start_broker(tmp_path / "broker", {**SETTINGS, "log.dirs": ",".join(paths)})
    try:
        assert broker.stop() == 0
        shutil.move(paths[0], tmp_path / "away")
        (tmp_path / "d0").write_text("in its place")
        process = broker.launch()
        wait_until(lambda: not process.running(), "it starts")
        assert "metadata.db is in none of the log.dirs that can be used" in broker.log.read_text()
    finally:
        broker.close()


# ------------------------------------------------------------------------------------------------------ full disks


@OURS
def test_room_is_kept_and_found_again(raw: Raw) -> None:
    assert create(raw, "room") == 0
    assert produce(raw, "room") == 0
    space = os.statvfs("/")
    set_broker(raw, **{"pylog.disk.reserve.bytes": str(space.f_blocks * space.f_frsize * 1000)})
    try:
        wait_until(lambda: produce(raw, "room") == STORAGE_ERROR, "produce goes on")
        assert fetch(raw, "room").error_code == 0
        commit = m.OffsetCommitRequest(
            group_id="g",
            topics=[
                m.OffsetCommitRequest.OffsetCommitRequestTopic(
                    name="room",
                    partitions=[
                        m.OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
                    ],
                )
            ],
        )
        raw.ask(m.FindCoordinatorRequest(key="g", key_type=0), 2)
        wait_until(
            lambda: raw.ask(commit, 5).topics[0].partitions[0].error_code == 0, "consumers cannot commit what they read"
        )
    finally:
        set_broker(raw, **{"pylog.disk.reserve.bytes": None})
    wait_until(lambda: produce(raw, "room") == 0, "there is room, but nobody notices")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> Path:
    """Take all the room that is left."""
    file = path / "ballast"
    with file.open("ab", buffering=0) as out:
        for piece in (1 << 20, 1 << 12):
            try:
                while out.write(b"\0" * piece) == piece:
                    pass
            except OSError:
                pass
    assert os.statvfs(path).f_bavail == 0
    return file


@OURS
def test_a_disk_is_not_filled_and_a_full_one_is_served(tmp_path: Path, small_disk: Path) -> None:
    settings = {
        **SETTINGS,
        "log.dirs": str(small_disk / "data"),
        "pylog.disk.reserve.bytes": str(8 << 20),
        "log.retention.check.interval.ms": "200",
        "log.segment.delete.delay.ms": "0",
        "log.cleaner.enable": "false",
        "log.retention.ms": "-1",
    }
    with new_broker(tmp_path / "broker", settings).start() as broker:
        raw = Raw(broker.port)
        configs = {"segment.bytes": "1000000", "file.delete.delay.ms": "0"}
        assert create(raw, "t", **configs) == 0
        count = 0
        while (code := produce(raw, "t", b"v" * 100_000)) == 0:
            count += 1
        assert code == STORAGE_ERROR and count > 50
        assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize >= (8 << 20) - (1 << 20)
        ballast = fill(small_disk)
        assert produce(raw, "t") == STORAGE_ERROR
        assert len(values(raw, "t")) == count
        broker.kill()
        raw.close()

        broker.start()  # with nothing left at all
        raw = Raw(broker.port)
        assert len(values(raw, "t")) == count
        assert produce(raw, "t") == STORAGE_ERROR
        assert describe(raw)[str(small_disk / "data")].usable_bytes < 1 << 20
        raw.close()
        assert broker.stop() == 0

        broker.settings["log.retention.bytes"] = "2000000"
        broker.start()
        raw = Raw(broker.port)
        wait_until(lambda: fetch(raw, "t").error_code == 1, "retention does not work on a full disk")
        wait_until(
            lambda: os.statvfs(small_disk).f_bavail * 4096 > 4 << 20, "files that retention let go are still there"
        )
        ballast.unlink()
        wait_until(lambda: produce(raw, "t") == 0, "there is room, but nobody notices")
        raw.close()
