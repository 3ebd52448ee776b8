"""Our data directory is Kafka's: its dump tool accepts every file, and a Kafka 3.9.1 broker starts on it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support import brokers, confluent, peers, records
from tests.support.brokers import Broker, Kafka39Broker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
COUNT = 3000
GROUP = "went-before"
COMMITTED = 1234


@pytest.fixture(scope="module", params=["stopped", "killed"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A log directory with several segments of every codec and a committed offset, left by a stop or by kill -9."""
    reason = brokers.unavailable() or peers.unavailable("kafka39")
    if reason:
        pytest.skip(f"Apache Kafka 3.9.1 to read our directory: {reason}")
    home = tmp_path_factory.mktemp(f"directory-{request.param}")
    with brokers.start_broker(home, {"log.index.interval.bytes": "512"}) as broker:
        fill(broker)
        if request.param == "stopped":
            broker.stop()
        else:
            broker.kill()
    yield broker.data
    brokers.remove(home)


def fill(broker: Broker) -> None:
    for codec in CODECS:
        confluent.create_topic(broker.bootstrap, codec, 2, {"segment.bytes": "65536"})
        for partition in range(2):
            settings = {"compression.type": codec, "linger.ms": 2, "batch.num.messages": 100}
            producer = Producer({"bootstrap.servers": broker.bootstrap, **settings})
            for sequence in range(COUNT):
                value = records.value(partition, sequence, 100)
                producer.produce(codec, value, records.key(sequence), partition, headers=[("n", str(sequence))])
                producer.poll(0)
            assert producer.flush(60) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP})
    consumer.commit(offsets=[TopicPartition("none", 0, COMMITTED)], asynchronous=False)
    consumer.close()


def dump(files: list[Path], *options: str) -> str:
    command = peers.java("kafka39", "kafka.tools.DumpLogSegments", [*options, "--files", ",".join(map(str, files))])
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_dump_tool_accepts_every_segment(directory: Path) -> None:
    files = sorted(directory.glob("*-*/*.log"))
    assert len(files) > 2 * len(CODECS) * 2, "more than one segment in a partition"
    printed = dump(files, "--deep-iteration")
    for wrong in ("isvalid: false", "mismatch", "Found", "Exception"):
        assert wrong not in printed
    for codec in CODECS:
        assert f"compresscodec: {codec} " in printed


def test_the_dump_tool_accepts_every_index(directory: Path) -> None:
    """The tool finds the logs beside their indexes and compares. An index without entries makes it throw."""
    files = [
        path
        for ending in ("index", "timeindex")
        for path in sorted(directory.glob(f"*-*/*.{ending}"))
        if path.read_bytes().strip(b"\0")
    ]
    assert files
    printed = dump(files, "--verify-index-only")
    for wrong in ("mismatch", "Mismatch", "out of order", "Exception", "Indexed offset"):
        assert wrong not in printed, printed[-2000:]


def test_the_dump_tool_reads_producer_snapshots(directory: Path) -> None:
    files = sorted(directory.glob("*-*/*.snapshot"))
    assert files
    assert "Exception" not in dump(files)


def properties(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def tree(data: Path) -> dict[str, str]:
    """The nodes a cluster with these topics has, as far as they cannot be found out from anything else."""
    topics: dict[str, dict[str, list[int]]] = {}
    ids: dict[str, str] = {}
    for path in sorted(data.glob("*-*/partition.metadata")):
        topic, _, partition = path.parent.name.rpartition("-")
        topics.setdefault(topic, {})[partition] = [0]
        ids[topic] = path.read_text().partition("topic_id: ")[2].strip()
    cluster = properties(data / "meta.properties")["cluster.id"]
    nodes = {
        "/cluster": "",
        "/cluster/id": compact({"version": "1", "id": cluster}),
        "/brokers": "",
        "/brokers/topics": "",
    }
    for topic, partitions in topics.items():
        body = {
            "removing_replicas": {},
            "partitions": partitions,
            "topic_id": ids[topic],
            "adding_replicas": {},
            "version": 3,
        }
        nodes[f"/brokers/topics/{topic}"] = compact(body)
    return nodes


def compact(body: dict[str, object]) -> str:
    return json.dumps(body, separators=(",", ":"))


def test_kafka_starts_on_it_and_serves_it(directory: Path, tmp_path: Path) -> None:
    with Kafka39Broker(tmp_path) as kafka:
        shutil.copytree(directory, kafka.data)
        kafka.start_zookeeper()
        kafka.create_nodes(tree(kafka.data))
        kafka.start()
        kafka.wait_leaders([*CODECS, "__consumer_offsets"])
        for codec in CODECS:
            consumer = confluent.assigned_consumer(kafka.bootstrap, codec, 2)
            checker = records.Checker(2, COUNT, 100)
            while checker.left:
                messages = confluent.take(consumer, 1000)
                assert messages, f"{codec}: {checker.left} records did not come"
                for message in messages:
                    checker.take(message.partition(), message.offset(), message.value())
            checker.done()
            consumer.close()
        # It goes on where we stopped, and knows the group.
        confluent.produce_all(kafka.bootstrap, "none", 0, [b"one more"], **{"enable.idempotence": "true"})
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": GROUP})
        committed = consumer.committed([TopicPartition("none", 0)], timeout=30)
        assert committed[0].offset == COMMITTED
        assert consumer.get_watermark_offsets(TopicPartition("none", 0), timeout=30) == (0, COUNT + 1)
        consumer.close()
        kafka.stop()
    brokers.remove(tmp_path)
