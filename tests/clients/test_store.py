"""The library beside brokers: what a store wrote is a broker's, what brokers write is followed, and Kafka's dump tool
accepts the files."""

import subprocess
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import pylog
from tests.support import brokers, peers

NEW = {"auto.offset.reset": "earliest", "enable.auto.commit": False}


def fill(path: Path) -> None:
    """Two partitions, rolled segments, a committed and an aborted transaction, a position, and one undecided."""
    with pylog.open(path) as store:
        one, two = store.create_topic("orders", 2, config={"segment.bytes": "20000", "index.interval.bytes": "500"})
        one.append_many([b"%0100d" % i for i in range(500)])
        for i in range(10):
            two.append(b"plain %d" % i, b"key", headers=[("h", b"1")])
        with store.transaction() as tx:
            tx.append(one, b"committed")
            tx.append(two, b"committed")
        with pytest.raises(KeyError), store.transaction() as tx:
            tx.append(one, b"aborted")
            raise KeyError
        store.commit("billing", {pylog.TopicPartition("orders", 0): 400})


def consume(bootstrap: str, partition: int, start: int, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "other", **NEW})
    consumer.assign([TopicPartition("orders", partition, start)])
    got: list[bytes | None] = []
    while len(got) < count:
        message = consumer.poll(30)
        assert message is not None, f"{len(got)} of {count} came"
        assert message.error() is None
        got.append(message.value())
    rest = consumer.poll(0.2)
    assert rest is None
    consumer.close()
    return got


def test_a_broker_takes_a_store_over(tmp_path: Path) -> None:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    fill(tmp_path / "data")
    with brokers.start_broker(tmp_path) as broker:
        known = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "billing", **NEW})
        (position,) = known.committed([TopicPartition("orders", 0)], 30)
        assert position.offset == 400, "a named reader is a consumer group"
        got = consume(broker.bootstrap, 0, 400, 101)
        assert got == [*(b"%0100d" % i for i in range(400, 500)), b"committed"]
        assert consume(broker.bootstrap, 1, 10, 1) == [b"committed"]

        outside = pylog.open(broker.data, "r")
        seen: list[pylog.Record] = []
        reading = outside.partition("orders", 1).read("latest", max_records=50, timeout_ms=30_000)
        following = threading.Thread(target=seen.extend, args=(reading,))
        following.start()
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
        for i in range(50):
            producer.produce("orders", b"live %d" % i, partition=1)
        assert producer.flush(30) == 0
        following.join(60)
        assert [record.value for record in seen] == [b"live %d" % i for i in range(50)]

        known.commit(offsets=[TopicPartition("orders", 0, 450)], asynchronous=False)
        known.close()
        committed = outside.committed("billing", "orders")
        assert committed is not None
        assert committed.offset == 450
        broker.stop()
    with pylog.open(broker.data) as store:
        committed = store.committed("billing", "orders")
        assert committed is not None
        assert committed.offset == 450
        with store.transaction() as tx:
            tx.append(("orders", 1), b"and on")
        assert [record.value for record in store.partition("orders", 1).read(12)][-2:] == [b"live 49", b"and on"]
    brokers.remove(tmp_path)


def test_kafkas_dump_tool_accepts_a_store(tmp_path: Path) -> None:
    reason = peers.unavailable("kafka39")
    if reason:
        pytest.skip(reason)
    fill(tmp_path / "data")
    logs = sorted((tmp_path / "data").glob("*-*/*.log"))
    assert len(logs) > 5

    def dump(files: list[Path], *options: str) -> str:
        command = peers.java("kafka39", "kafka.tools.DumpLogSegments", [*options, "--files", ",".join(map(str, files))])
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    printed = dump(logs, "--deep-iteration")
    for wrong in ("isvalid: false", "mismatch", "Found", "Exception"):
        assert wrong not in printed
    assert "endTxnMarker: COMMIT" in printed
    assert "endTxnMarker: ABORT" in printed
    indexes = [file for file in (tmp_path / "data").glob("*-*/*.index") if file.stat().st_size]
    assert indexes
    assert "mismatch" not in dump(indexes, "--verify-index-only")
    state = dump(sorted((tmp_path / "data").glob("__transaction_state-0/*.log")), "--transaction-log-decoder")
    assert "state=CompleteCommit" in state
    assert "state=CompleteAbort" in state
    offsets = dump(sorted((tmp_path / "data").glob("__consumer_offsets-0/*.log")), "--offsets-decoder")
    assert '"group":"billing"' in offsets
    assert '"offset":400' in offsets
