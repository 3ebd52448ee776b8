"""Readers of committed records see those and no others: of transactions that Kafka 3.9.1 wrote, and of clients' own."""

import asyncio
import contextlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from pylog.records import batches, end_marker
from tests.golden.transactions.scenario import TOPICS
from tests.support import brokers, confluent
from tests.support.brokers import PylogBroker

LIMIT_S = 60
ARCHIVE = Path(__file__).parents[1] / "golden" / "transactions" / "kafka39.tar.gz"


class Expected:
    """What a topic's log holds, by what its batches say alone."""

    def __init__(self, directory: Path, said: dict[str, list[list[int]]]) -> None:
        self.start, self.last_stable, self.end = said["answers"][-1][2:]
        self.all: list[int] = []
        self.committed: list[int] = []
        open_transactions: dict[int, list[int]] = {}
        for batch in batches(b"".join(path.read_bytes() for path in sorted(directory.glob("*.log")))):
            producer_id = batch.header.producer_id
            offsets = [record.offset for record in batch.records()]
            if batch.header.attributes & 32:
                marker = end_marker(batch.records()[0])
                assert marker is not None
                ended = open_transactions.pop(producer_id, [])
                self.committed += ended if marker.committed else []
                continue
            self.all += offsets
            if batch.header.attributes & 16:
                open_transactions.setdefault(producer_id, []).extend(offsets)
            else:
                self.committed += offsets
        self.all = [offset for offset in self.all if offset >= self.start]
        self.committed = sorted(offset for offset in self.committed if self.start <= offset < self.last_stable)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    root = tmp_path_factory.mktemp("transactions")
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(root / "data")
    return {
        topic: Expected(root / "data" / f"{topic}-0", json.loads((root / "data" / f"{topic}.json").read_text()))
        for topic in TOPICS
    }


@pytest.fixture(scope="module")
def broker(expected: dict[str, Expected], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PylogBroker]:
    """Ours, on Kafka's files."""
    home = tmp_path_factory.mktemp("adopting")
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        members = [member for member in archive.getmembers() if not member.name.endswith(".json")]
        (home / "data").mkdir()
        archive.extractall(home / "data", members)
    starts = {topic: each.start for topic, each in expected.items() if each.start > 0}
    lines = ["0", str(len(starts)), *(f"{topic} 0 {start}" for topic, start in starts.items())]
    (home / "data" / "log-start-offset-checkpoint").write_text("\n".join(lines) + "\n")
    with PylogBroker(home, {"log.retention.ms": "-1"}).start() as started:
        yield started
    brokers.remove(home)


def read_all(broker: PylogBroker, topic: str, isolation: str, start: int, count: int, **config: int) -> list[int]:
    """The offsets that a consumer is given until it is at the end; `count` only bounds how long that may take."""
    consumer = confluent.assigned_consumer(
        broker.bootstrap,
        topic,
        1,
        **{"isolation.level": isolation, "enable.partition.eof": True, "fetch.wait.max.ms": 10, **config},
    )
    consumer.assign([TopicPartition(topic, 0, start)])
    offsets = []
    for _ in range(count + 1):
        message = consumer.poll(30)
        assert message is not None, f"nothing more after {offsets[-1:]}"
        if message.error():
            assert message.error().name() == "_PARTITION_EOF", message.error()
            break
        offsets.append(message.offset())
    consumer.close()
    return offsets


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("fetch_bytes", [1, 500, 1 << 20])
def test_committed_and_all(broker: PylogBroker, expected: dict[str, Expected], topic: str, fetch_bytes: int) -> None:
    said = expected[topic]
    sizes = {"fetch.message.max.bytes": fetch_bytes}
    committed = read_all(broker, topic, "read_committed", said.start, len(said.all), **sizes)
    assert committed == said.committed
    assert read_all(broker, topic, "read_uncommitted", said.start, len(said.all), **sizes) == said.all


def test_from_every_offset(broker: PylogBroker, expected: dict[str, Expected]) -> None:
    said = expected["interleaved"]
    assert 0 < len(said.committed) < len(said.all)
    for start in range(0, said.last_stable, 29):
        found = read_all(broker, "interleaved", "read_committed", start, len(said.all))
        assert found == [offset for offset in said.committed if offset >= start]


# ------------------------------------------------------------------------------------------------ transactions of ours


def read_values(broker: PylogBroker, topic: str) -> list[str]:
    """What a reader of committed records is given up to the end."""
    consumer = confluent.assigned_consumer(
        broker.bootstrap, topic, 1, **{"isolation.level": "read_committed", "enable.partition.eof": True}
    )
    values = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"nothing more after {values[-1:]}"
        if message.error():
            assert message.error().name() == "_PARTITION_EOF", message.error()
            consumer.close()
            return values
        value = message.value()
        assert value is not None
        values.append(value.decode())


def test_librdkafka_commits_aborts_and_is_fenced(broker: PylogBroker) -> None:
    confluent.create_topic(broker.bootstrap, "librdkafka")
    settings = {"bootstrap.servers": broker.bootstrap, "transactional.id": "librdkafka", "log_level": 2}
    producer = Producer(settings)
    producer.init_transactions(LIMIT_S)
    for number in range(4):
        producer.begin_transaction()
        producer.produce("librdkafka", f"{number}")
        if number % 2:
            producer.abort_transaction(LIMIT_S)
        else:
            producer.commit_transaction(LIMIT_S)
    producer.begin_transaction()
    producer.produce("librdkafka", "fenced")
    assert producer.flush(LIMIT_S) == 0
    successor = Producer(settings)
    successor.init_transactions(LIMIT_S)
    with pytest.raises(KafkaException) as refused:
        producer.commit_transaction(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError._FENCED
    successor.begin_transaction()
    successor.produce("librdkafka", "4")
    successor.commit_transaction(LIMIT_S)
    assert read_values(broker, "librdkafka") == ["0", "2", "4"]


def test_aiokafka_reads_processes_and_writes(broker: PylogBroker) -> None:
    """Records and the offsets that they came of, together or not at all."""
    for topic in ("aio-in", "aio-out"):
        confluent.create_topic(broker.bootstrap, topic)
    source = AioPartition("aio-in", 0)

    async def story() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="aiokafka")
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            group_id="aio",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        consumer.assign([source])
        async with producer, consumer:
            async with producer.transaction():
                for number in range(3):
                    await producer.send("aio-in", str(number).encode(), partition=0)
            seen = []
            while len(seen) < 3:
                seen.append(await consumer.getone())
            with contextlib.suppress(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send("aio-out", b"lost", partition=0)
                    await producer.send_offsets_to_transaction({source: seen[-1].offset + 1}, "aio")
                    raise ZeroDivisionError
            assert await consumer.committed(source) is None
            async with producer.transaction():
                for record in seen:
                    await producer.send("aio-out", b"of " + (record.value or b""), partition=0)
                await producer.send_offsets_to_transaction({source: seen[-1].offset + 1}, "aio")
            return int(await consumer.committed(source) or 0)

    offset = asyncio.run(asyncio.wait_for(story(), LIMIT_S))
    assert offset == 3
    assert read_values(broker, "aio-out") == ["of 0", "of 1", "of 2"]
