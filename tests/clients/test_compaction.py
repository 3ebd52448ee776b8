"""A compacted topic as clients see it: the last value of each key, whoever reads while it is cleaned, before and after
a restart; and Kafka's own dump tool accepts what is left."""

import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from cluster.protocol import messages as m
from pylog.records import batches
from tests.broker.raw import Raw
from tests.support import brokers, confluent, peers
from tests.support.brokers import Broker

SETTINGS = {
    "log.cleaner.backoff.ms": "20",
    "log.cleaner.threads": "2",
    "log.segment.delete.delay.ms": "0",
    "log.index.interval.bytes": "512",
    "offsets.topic.segment.bytes": "10000",
    "offsets.topic.num.partitions": "1",
    "auto.create.topics.enable": "false",
}
TOPIC_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": "60000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "1",
}
CODECS = ("none", "gzip", "snappy", "zstd")
KEYS = 50
WAIT_S = 60


@pytest.fixture(scope="module")
def cleaning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that compacts what it can at once."""
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("cleaning")
    with brokers.start_broker(directory, SETTINGS) as running:
        yield running
    brokers.remove(directory)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    tick = threading.Event()
    for _ in range(WAIT_S * 20):
        if condition():
            return
        tick.wait(0.05)
    raise AssertionError(f"not within {WAIT_S} s: {what}")


def checkpoint(broker: Broker, topic: str) -> int:
    """Its first dirty offset, 0 before it was cleaned."""
    try:
        lines = (broker.data / "cleaner-offset-checkpoint").read_text().splitlines()[2:]
    except FileNotFoundError:
        return 0
    return max([int(line.split()[2]) for line in lines if line.split()[0] == topic], default=0)


def active_base(broker: Broker, topic: str) -> int:
    return max(int(path.name[:20]) for path in (broker.data / f"{topic}-0").glob("*.log"))


def wait_cleaned(broker: Broker, topic: str) -> None:
    wait_until(lambda: checkpoint(broker, topic) >= active_base(broker, topic) > 0, f"{topic} is cleaned")


def produce(broker: Broker, topic: str, rounds: int, **settings: object) -> dict[bytes, bytes | None]:
    """Every key in every round; in the last one a tenth of them is deleted. What each was last."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "batch.num.messages": 60, **settings})
    last: dict[bytes, bytes | None] = {}
    for number in range(rounds):
        for key in range(KEYS):
            value = None if number == rounds - 1 and key % 10 == 0 else b"%d of %d " % (number, key) * 8
            last[b"key %d" % key] = value
            producer.produce(topic, value, b"key %d" % key, 0)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    return last


def read_all(broker: Broker, topic: str) -> tuple[dict[bytes, bytes | None], int]:
    """The last value of each key as a consumer reads it, and how many records that took."""
    consumer = confluent.assigned_consumer(broker.bootstrap, topic, 1, **{"enable.partition.eof": True})
    found: dict[bytes, bytes | None] = {}
    count, before = 0, -1
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        error = message.error()
        if error is not None:
            assert error.name() == "_PARTITION_EOF", error
            break
        offset, key = message.offset(), message.key()
        assert offset is not None and offset > before and isinstance(key, bytes)
        before = offset
        found[key] = message.value()
        count += 1
    consumer.close()
    return found, count


def without_tombstones(values: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    return {key: value for key, value in values.items() if value is not None}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("codec", CODECS)
def test_the_last_value_of_each_key_is_read(cleaning: Broker, codec: str) -> None:
    topic = f"compacted-{codec}"
    confluent.create_topic(cleaning.bootstrap, topic, 1, TOPIC_CONFIG)
    rounds = 300 if codec == "none" else 900
    last = produce(cleaning, topic, rounds, **{"compression.type": codec, "enable.idempotence": True})
    wait_cleaned(cleaning, topic)
    found, count = read_all(cleaning, topic)
    assert without_tombstones(found) == without_tombstones(last)
    assert KEYS <= count < KEYS * rounds // 2


@pytest.mark.timeout(180)
def test_a_fetch_under_way_is_finished_from_files_that_are_gone(cleaning: Broker) -> None:
    """The client does not read, so most of the answer waits in the broker as a range of a file."""
    topic = "slow-reader"
    size = 8_000_000
    never = TOPIC_CONFIG | {"min.cleanable.dirty.ratio": "1.0", "segment.bytes": str(size)}
    confluent.create_topic(cleaning.bootstrap, topic, 1, never)
    last = produce(cleaning, topic, 3_000)
    assert active_base(cleaning, topic) > 0
    raw = Raw(cleaning.port)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=size)
    asked = m.FetchRequest.FetchTopic(topic=topic, partitions=[part])
    raw.send(m.FetchRequest(max_wait_ms=10, min_bytes=1, max_bytes=size, topics=[asked]), 11)
    (answer_bytes,) = struct.unpack(">i", raw.receive(4))
    assert answer_bytes > size // 2
    alter(cleaning, topic, "min.cleanable.dirty.ratio", "0.01")
    first = cleaning.data / f"{topic}-0" / f"{0:020d}.log"
    wait_until(lambda: first.stat().st_size < size // 10, "the first segment is replaced")
    wait_until(lambda: not list(first.parent.glob("*.deleted")), "the old one is removed")
    answer = m.FetchResponse.decode(receive(raw, answer_bytes), 11, 4)
    fetched = answer.responses[0].partitions[0]
    assert fetched.error_code == 0 and fetched.records is not None
    offset = 0
    for batch in batches(fetched.records):
        assert batch.check() and batch.header.base_offset == offset, "nothing is missing: it was not compacted yet"
        offset = batch.next_offset
    assert offset > 10_000
    raw.close()
    assert without_tombstones(read_all(cleaning, topic)[0]) == without_tombstones(last)


def receive(raw: Raw, size: int) -> bytes:
    """Much, into one piece of memory."""
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = raw.socket.recv_into(rest)
        assert count, "closed"
        rest = rest[count:]
    return bytes(data)


def alter(broker: Broker, topic: str, name: str, value: str) -> None:
    entry = m.IncrementalAlterConfigsRequest.AlterableConfig(name=name, config_operation=0, value=value)
    resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=2, resource_name=topic, configs=[entry]
    )
    raw = Raw(broker.port)
    answer = raw.ask(m.IncrementalAlterConfigsRequest(resources=[resource], validate_only=False), 1)
    assert answer.responses[0].error_code == 0
    raw.close()


@pytest.mark.timeout(120)
def test_committed_offsets_are_compacted_and_survive(cleaning: Broker) -> None:
    confluent.create_topic(cleaning.bootstrap, "consumed", 1)
    consumer = Consumer({"bootstrap.servers": cleaning.bootstrap, "group.id": "often", "log_level": 4})
    for offset in range(1, 401):
        consumer.commit(offsets=[TopicPartition("consumed", 0, offset)], asynchronous=False)
    wait_until(lambda: checkpoint(cleaning, "__consumer_offsets") > 0, "__consumer_offsets is cleaned")
    consumer.close()
    cleaning.kill()
    cleaning.start()
    again = Consumer({"bootstrap.servers": cleaning.bootstrap, "group.id": "often", "log_level": 4})
    assert again.committed([TopicPartition("consumed", 0)], WAIT_S)[0].offset == 400
    again.close()


def dump(files: list[Path], *options: str) -> str:
    command = peers.java("kafka39", "kafka.tools.DumpLogSegments", [*options, "--files", ",".join(map(str, files))])
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(240)
def test_kafkas_dump_tool_accepts_what_is_left(cleaning: Broker) -> None:
    """After a stop and a start, so that the checkpoint and the cleaned segments are read again, too."""
    reason = peers.unavailable("kafka39")
    if reason:
        pytest.skip(f"Apache Kafka 3.9.1 to read our directory: {reason}")
    topics = [f"compacted-{codec}" for codec in CODECS]
    before = {topic: read_all(cleaning, topic) for topic in topics}
    cleaning.stop()
    logs = [path for topic in topics for path in sorted((cleaning.data / f"{topic}-0").glob("*.log"))]
    printed = dump(logs, "--deep-iteration")
    assert printed.count("baseOffset:") > 20
    for wrong in ("isvalid: false", "mismatch", "Found", "Exception"):
        assert wrong not in printed
    indexes = [
        index
        for log in logs
        for index in (log.with_suffix(".index"), log.with_suffix(".timeindex"))
        if index.read_bytes().strip(b"\0")  # the tool throws on one without entries
    ]
    printed = dump(indexes, "--verify-index-only")
    for wrong in ("mismatch", "Mismatch", "out of order", "Exception", "Indexed offset"):
        assert wrong not in printed, printed[-2000:]
    cleaning.start()
    assert {topic: read_all(cleaning, topic)[0] for topic in topics} == {
        topic: found for topic, (found, _) in before.items()
    }
