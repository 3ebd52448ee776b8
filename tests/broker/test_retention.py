"""Settings of retention and segments do what they say from the moment they are changed: of a topic, of all brokers.

The same tests run against Apache Kafka 3.9 with PYLOG_TEST_BROKER=kafka39. (Kafka 4 wants segments of a megabyte.)
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.protocol import messages as m
from tests.broker.batches import batch
from tests.broker.raw import Raw
from tests.support.brokers import Broker, chosen_kind, start_broker, unavailable

TOPIC, BROKER = 2, 4
SET, DELETE = 0, 1
EVERYBODY = ""
HOUR_MS = 3_600_000
TIMEOUT_S = 20
BATCH_BYTES = 200
_numbers = itertools.count()
SETTINGS = {
    "log.retention.check.interval.ms": "50",
    "log.initial.task.delay.ms": "0",
    "log.cleaner.backoff.ms": "50",
    "producer.id.expiration.check.interval.ms": "50",
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = "Kafka 4 refuses segments this small" if chosen_kind() == "kafka4" else unavailable()
    if why is not None:
        pytest.skip(why)
    with start_broker(tmp_path_factory.mktemp("retention"), SETTINGS) as started:
        yield started


class Topic:
    """A topic of one partition, and what a test does to it."""

    def __init__(self, broker: Broker, name: str, configs: dict[str, str]) -> None:
        self.broker = broker
        self.name = name
        self.directory = broker.data / f"{name}-0"
        self.raw = Raw(broker.port)
        entry = m.CreateTopicsRequest.CreatableTopicConfig
        topic = m.CreateTopicsRequest.CreatableTopic(
            name=name,
            num_partitions=1,
            replication_factor=1,
            configs=[entry(name=key, value=value) for key, value in configs.items()],
        )
        answer = self.raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=20_000), 6)
        assert answer.topics[0].error_code == 0, answer
        broker.wait_leaders([name])

    def produce(self, age_ms: int = 0, producer: tuple[int, int, int] = (-1, -1, -1)) -> tuple[int, int, int]:
        """Error, base offset, log append time. One batch of BATCH_BYTES."""
        timestamp = time.time_ns() // 1_000_000 - age_ms
        data = batch([(b"key", b"v" * 127)], timestamp=timestamp, producer=producer)
        assert len(data) == BATCH_BYTES
        part = m.ProduceRequest.PartitionProduceData(index=0, records=data)
        topic = m.ProduceRequest.TopicProduceData(name=self.name, partition_data=[part])
        answer = self.raw.ask(m.ProduceRequest(acks=-1, timeout_ms=20_000, topic_data=[topic]), 8)
        (done,) = answer.responses[0].partition_responses
        return done.error_code, done.base_offset, done.log_append_time_ms

    def fill(self, *ages_ms: int) -> None:
        for age_ms in ages_ms:
            assert self.produce(age_ms)[0] == 0

    def start(self) -> int:
        part = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=-2)
        topic = m.ListOffsetsRequest.ListOffsetsTopic(name=self.name, partitions=[part])
        answer = self.raw.ask(m.ListOffsetsRequest(replica_id=-1, topics=[topic]), 5)
        (found,) = answer.topics[0].partitions
        assert found.error_code == 0
        return int(found.offset)

    def producers(self) -> list[int]:
        topic = m.DescribeProducersRequest.TopicRequest(name=self.name, partition_indexes=[0])
        answer = self.raw.ask(m.DescribeProducersRequest(topics=[topic]), 0)
        return [producer.producer_id for producer in answer.topics[0].partitions[0].active_producers]

    def bases(self) -> list[int]:
        return sorted(int(path.name[:20]) for path in self.directory.glob("*.log"))

    def deleted(self) -> list[Path]:
        return list(self.directory.glob("*.deleted"))

    def alter(self, key: str, value: str | None) -> None:
        alter(self.raw, TOPIC, self.name, key, value)


def alter(raw: Raw, kind: int, name: str, key: str, value: str | None) -> None:
    """value None: back to the default."""
    config = m.IncrementalAlterConfigsRequest.AlterableConfig(
        name=key, config_operation=DELETE if value is None else SET, value=value
    )
    resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=kind, resource_name=name, configs=[config]
    )
    answer = raw.ask(m.IncrementalAlterConfigsRequest(resources=[resource]), 1).responses[0]
    assert answer.error_code == 0, answer


class OfAllBrokers:
    """Dynamic defaults of all brokers; taken back at the end."""

    def __init__(self, broker: Broker) -> None:
        self.raw = Raw(broker.port)
        self.keys: list[str] = []

    def __setitem__(self, key: str, value: str) -> None:
        alter(self.raw, BROKER, EVERYBODY, key, value)
        self.keys.append(key)

    def take_back(self) -> None:
        for key in self.keys:
            alter(self.raw, BROKER, EVERYBODY, key, None)
        self.raw.close()


@pytest.fixture
def brokers(broker: Broker) -> Iterator[OfAllBrokers]:
    made = OfAllBrokers(broker)
    yield made
    made.take_back()


@pytest.fixture
def new_topic(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Callable[..., Topic]]:
    made: list[Topic] = []

    def make(**configs: str) -> Topic:
        name = f"{request.node.originalname}-{next(_numbers)}"
        topic = Topic(broker, name, {key.replace("_", "."): value for key, value in configs.items()})
        made.append(topic)
        return topic

    yield make
    for topic in made:
        topic.raw.close()


def wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        tick.wait(0.02)


AGES = (5 * HOUR_MS, 5 * HOUR_MS, 4 * HOUR_MS, 4 * HOUR_MS, 0)
TWO = str(2 * BATCH_BYTES)


def test_time_of_a_topic(new_topic: Callable[..., Topic]) -> None:
    topic = new_topic(segment_bytes=TWO)
    topic.fill(*AGES)
    assert topic.start() == 0
    topic.alter("retention.ms", str(int(4.5 * HOUR_MS)))
    wait("the first segment goes", lambda: topic.start() == 2)
    topic.alter("retention.ms", str(HOUR_MS))
    wait("the second goes", lambda: topic.start() == 4 and topic.bases() == [4])


def test_size_of_a_topic(new_topic: Callable[..., Topic]) -> None:
    topic = new_topic(segment_bytes=TWO)
    topic.fill(*AGES)
    topic.alter("retention.bytes", str(3 * BATCH_BYTES))
    wait("the first segment goes", lambda: topic.start() == 2 and topic.bases() == [2, 4])


def test_time_and_size_of_all_brokers(new_topic: Callable[..., Topic], brokers: OfAllBrokers) -> None:
    ours, own = new_topic(segment_bytes=TWO), new_topic(segment_bytes=TWO, retention_ms="-1", retention_bytes="-1")
    for topic in (ours, own):
        topic.fill(*AGES)
    brokers["log.retention.bytes"] = str(3 * BATCH_BYTES)
    wait("the first segment goes", lambda: ours.start() == 2)
    brokers["log.retention.ms"] = str(HOUR_MS)
    wait("the second goes", lambda: ours.start() == 4)
    assert own.start() == 0


def test_policy_decides_whether_age_counts(new_topic: Callable[..., Topic]) -> None:
    topic = new_topic(segment_bytes=TWO, cleanup_policy="compact", min_cleanable_dirty_ratio="1")
    other = new_topic(segment_bytes=TWO)
    for each in (topic, other):
        each.fill(*AGES)  # before anything can go, lest a segment end early
        each.alter("retention.ms", str(HOUR_MS))
    wait("what is not compacted goes", lambda: other.start() == 4)
    assert topic.start() == 0
    topic.alter("cleanup.policy", "delete")
    wait("the rest goes too", lambda: topic.start() == 4)


def test_size_of_segments(new_topic: Callable[..., Topic], brokers: OfAllBrokers) -> None:
    topic, other = new_topic(), new_topic()
    topic.fill(0, 0)
    other.fill(0)
    topic.alter("segment.bytes", TWO)
    wait("the next batch begins a segment", lambda: topic.produce()[0] == 0 and len(topic.bases()) == 2)
    topic.alter("segment.bytes", None)
    brokers["log.segment.bytes"] = str(BATCH_BYTES)
    wait("each batch does", lambda: other.produce()[0] == 0 and len(other.bases()) > 2)


def test_age_of_segments(new_topic: Callable[..., Topic], brokers: OfAllBrokers) -> None:
    topic = new_topic()
    topic.fill(5 * HOUR_MS, 3 * HOUR_MS)
    assert topic.bases() == [0]
    topic.alter("segment.ms", str(HOUR_MS))
    wait("an hour later is another segment", lambda: topic.produce(3 * HOUR_MS)[0] == 0 and len(topic.bases()) == 2)
    topic.alter("segment.ms", None)
    topic.fill(0)
    rolled = len(topic.bases())
    brokers["log.roll.ms"] = str(HOUR_MS)
    wait("and by what holds for all", lambda: topic.produce(-2 * HOUR_MS)[0] == 0 and len(topic.bases()) > rolled)


def test_size_of_indexes(new_topic: Callable[..., Topic]) -> None:
    topic = new_topic(segment_index_bytes="24", index_interval_bytes="0")
    topic.fill(0, 0, 0, 0)
    assert topic.bases() == [0, 2]


def test_whose_time_counts(new_topic: Callable[..., Topic]) -> None:
    topic = new_topic()
    assert topic.produce(HOUR_MS)[2] == -1
    topic.alter("message.timestamp.type", "LogAppendTime")
    wait("the broker's", lambda: topic.produce(HOUR_MS)[2] > 0)
    topic.alter("retention.ms", str(HOUR_MS // 2))
    topic.alter("segment.bytes", TWO)
    topic.fill(HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS)
    kept = topic.start()
    other = new_topic(segment_bytes=TWO)
    other.fill(HOUR_MS, HOUR_MS, 0)
    other.alter("retention.ms", str(HOUR_MS // 2))
    wait("by the producer's time segments go", lambda: other.start() == 2)
    assert topic.start() == kept == 0


@pytest.mark.parametrize(
    ("key", "age_ms"), [("before", HOUR_MS), ("after", -HOUR_MS), ("difference", HOUR_MS), ("difference", -HOUR_MS)]
)
def test_times_that_are_refused(new_topic: Callable[..., Topic], brokers: OfAllBrokers, key: str, age_ms: int) -> None:
    topic = new_topic()
    wait("any time goes", lambda: topic.produce(age_ms)[0] == 0)
    topic.alter(f"message.timestamp.{key}.max.ms", str(HOUR_MS // 2))
    wait("too far off", lambda: topic.produce(age_ms)[0] == 32)
    assert topic.produce(0)[0] == 0
    topic.alter(f"message.timestamp.{key}.max.ms", None)
    wait("any time goes again", lambda: topic.produce(age_ms)[0] == 0)
    brokers[f"log.message.timestamp.{key}.max.ms"] = str(HOUR_MS // 2)
    wait("too far off for all", lambda: topic.produce(age_ms)[0] == 32)


def test_files_stay_for_their_delay(new_topic: Callable[..., Topic], brokers: OfAllBrokers) -> None:
    an_hour = str(HOUR_MS)
    kept = new_topic(segment_bytes=TWO, file_delete_delay_ms=an_hour)
    changed, by_default = new_topic(segment_bytes=TWO, file_delete_delay_ms=an_hour), new_topic(segment_bytes=TWO)
    changed.alter("file.delete.delay.ms", "0")
    brokers["log.segment.delete.delay.ms"] = "0"
    for topic in (kept, changed, by_default):
        topic.fill(*AGES)
        topic.alter("retention.ms", an_hour)
    for topic in (kept, changed, by_default):
        wait("two segments go", lambda topic=topic: topic.start() == 4 and topic.bases() == [4])
    for topic in (changed, by_default):
        wait("their files too", lambda topic=topic: not topic.deleted())
    suffixes = [path.name[20:] for path in kept.deleted()]
    assert {suffixes.count(f"{suffix}.deleted") for suffix in (".log", ".index", ".timeindex")} == {2}


def test_producers_are_forgotten(new_topic: Callable[..., Topic], brokers: OfAllBrokers) -> None:
    topic = new_topic()
    assert topic.produce(HOUR_MS, producer=(4711, 0, 0))[0] == 0
    assert topic.produce(HOUR_MS, producer=(4711, 0, 5))[0] == 45
    assert topic.producers() == [4711]
    brokers["producer.id.expiration.ms"] = str(HOUR_MS // 2)
    wait("it is forgotten", lambda: topic.producers() == [])
    assert topic.produce(0, producer=(4711, 0, 5))[0] == 0
    assert topic.producers() == [4711]
