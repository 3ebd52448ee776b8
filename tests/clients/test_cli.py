"""The `pylog` command as a user types it: a million records, groups, topics, settings, and a killed broker."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import records
from tests.support.brokers import Broker, start_broker
from tests.support.closing import Closing

PARTITIONS = 4
MILLION = 1_000_000
WAIT_S = 30
TERMINATED = 128 + 15


def pylog(
    broker: Broker, *arguments: str, lines: Iterable[bytes] = (), timeout_s: float = 120, fails: bool = False
) -> list[bytes]:
    """Run a command to its end and give the lines it printed; those of stderr when it is to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli.main", *arguments, "-b", broker.bootstrap],
        input=b"".join(line + b"\n" for line in lines),
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    if fails:
        assert done.returncode == 1, done.stderr.decode()[-2000:]
        return done.stderr.splitlines()
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.splitlines()


@pytest.mark.timeout(240)
def test_a_million_records(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(PARTITIONS)
    each = MILLION // PARTITIONS
    for partition in range(PARTITIONS):
        pylog(broker, "produce", topic, "-p", str(partition), "-z", "lz4", lines=records.values(partition, each))
    checker = records.Checker(PARTITIONS, each)
    for line in pylog(broker, "consume", topic, "-e", "-F", r"%p %o %v\n"):
        partition, offset, value = line.split(b" ", 2)
        checker.take(int(partition), int(offset), value)
    checker.done()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs_keys_and_headers(broker: Broker, new_topic: Callable[..., str], codec: str) -> None:
    topic = new_topic()
    lines = [b"key-%d:%s" % (number, records.value(0, number, 200)) for number in range(2000)]
    pylog(broker, "produce", topic, "-K", ":", "-z", codec, "-H", "one=1", "-H", "two=2", lines=lines)
    seen = pylog(broker, "consume", topic, "-e", "-F", r"%k:%v %h\n")
    assert seen == [line + b" one=1,two=2" for line in lines]


@pytest.mark.parametrize("acks", ["all", "1", "0"])
def test_acks(broker: Broker, new_topic: Callable[..., str], acks: str) -> None:
    topic = new_topic()
    lines = [b"%d" % number for number in range(1000)]
    pylog(broker, "produce", topic, "--acks", acks, lines=lines)
    assert pylog(broker, "consume", topic, "-n", "1000", "--idle", "10") == lines


def test_json_copies_a_topic(broker: Broker, new_topic: Callable[..., str]) -> None:
    first, second = new_topic(), new_topic()
    pylog(broker, "produce", first, "-K", "=", "--null", "gone", lines=[b"a=1", b"\xff=\xfe", b"a=gone", b"=\xc3\xa4"])
    copied = pylog(broker, "consume", first, "-e", "--json")
    pylog(broker, "produce", second, "--json", lines=copied)
    again = pylog(broker, "consume", second, "-e", "--json")
    assert [{**json.loads(line), "topic": ""} for line in again] == [
        {**json.loads(line), "topic": ""} for line in copied
    ]
    assert json.loads(again[2])["value"] is None


def test_where_to_start(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    lines = [b'{"value":"%d","timestamp":%d}' % (number, 1_700_000_000_000 + number) for number in range(100)]
    pylog(broker, "produce", topic, "--json", lines=lines)
    for start, first in [("beginning", 0), ("end", 100), ("40", 40), ("-3", 97), ("@1700000000060", 60)]:
        seen = pylog(broker, "consume", topic, "-e", "--from", start)
        assert seen == [b"%d" % number for number in range(first, 100)], start
    assert pylog(broker, "consume", topic, "--from", "101", fails=True) == [
        f"pylog: {topic}-0 holds offsets 0 to 100; there is no 101".encode()
    ]


def test_a_group_from_its_first_record_to_its_deletion(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(2), fresh_name("group")
    for partition in range(2):
        pylog(broker, "produce", topic, "-p", str(partition), lines=records.values(partition, 100))
    assert len(pylog(broker, "consume", topic, "-g", group, "-n", "30")) == 30
    assert len(pylog(broker, "consume", topic, "-g", group, "-e")) == 170
    listed = [line for line in pylog(broker, "groups", "list") if line.startswith(group.encode() + b"\t")]
    assert [line.rpartition(b"\t")[0] for line in listed] == [f"{group}\tEmpty\tclassic\t0\t0\t0.000".encode()]
    expected = [f"{group}\t{topic}\t{partition}\t100\t100\t0\t0.000\t-\t-\t-".encode() for partition in range(2)]
    assert pylog(broker, "groups", "describe", group) == expected

    def reset(*how: str) -> list[bytes]:
        return pylog(broker, "groups", "reset", group, *how)

    assert reset("--topic", f"{topic}:1", "--shift-by", "-10") == [f"{topic}\t1\t100\t90".encode()]
    assert pylog(broker, "groups", "describe", group) == expected
    reset("--topic", f"{topic}:1", "--shift-by", "-10", "--execute")
    (described,) = map(json.loads, pylog(broker, "groups", "describe", group, "--json"))
    assert [part["lag"] for part in described["partitions"]] == [0, 10]
    assert 0 < described["partitions"][1]["behind_s"] == described["behind_s"] < 10 * WAIT_S
    stays = [f"{topic}\t{partition}\t{at}\t{at}".encode() for partition, at in ((0, 100), (1, 90))]
    assert reset("--all-topics", "--to-current") == stays
    assert len(pylog(broker, "consume", topic, "-g", group, "-e")) == 10
    reset("--all-topics", "--to-earliest", "--execute")
    assert len(pylog(broker, "consume", topic, "-g", group, "-e")) == 200
    reset("--all-topics", "--by-duration", "1h", "--execute")
    assert len(pylog(broker, "consume", topic, "-g", group, "-e")) == 200

    deleted = pylog(broker, "groups", "delete", group, "--topic", f"{topic}:0")
    assert deleted == [f"deleted offset 100 of {topic}-0 in group {group}".encode()]
    assert pylog(broker, "groups", "describe", group) == expected[1:]

    assert pylog(broker, "groups", "delete", group) == [f"deleted group {group}".encode()]
    assert pylog(broker, "groups", "describe", group, fails=True) == [f"pylog: group {group!r} does not exist".encode()]


@pytest.mark.timeout(120)
def test_two_members_share_a_topic_and_an_active_group_is_left_alone(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str], tmp_path: Path
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    command = [sys.executable, "-m", "cluster.cli.main", "consume", topic, "-g", group, "-F", r"%p %v\n"]
    outputs = [tmp_path / "one", tmp_path / "two"]
    members = []
    try:
        for output in outputs:
            with output.open("wb") as out:
                members.append(subprocess.Popen([*command, "-b", broker.bootstrap], stdout=out))
        _wait_for(lambda: _owners(broker, group) == 2, "two members with partitions")
        for partition in range(PARTITIONS):
            pylog(broker, "produce", topic, "-p", str(partition), lines=records.values(partition, 500))
        _wait_for(lambda: sum(len(output.read_bytes().splitlines()) for output in outputs) >= 2000, "all records")
        assert b"has 2 members" in pylog(broker, "groups", "reset", group, "--all-topics", "--to-latest", fails=True)[0]
        assert b"has active members" in pylog(broker, "groups", "delete", group, fails=True)[0]
    finally:
        for member in members:
            member.terminate()
        codes = [member.wait(WAIT_S) for member in members]
    assert codes == [TERMINATED, TERMINATED]
    assert b"Empty" in b"".join(line for line in pylog(broker, "groups", "list") if group.encode() in line)
    if broker.kind == "pylog":
        (told,) = map(json.loads, pylog(broker, "groups", "describe", group, "--history", "--json"))
        causes = [cause for each in told["rebalances"] for cause in each["causes"]]
        assert [cause["kind"] for cause in causes].count("joined") == 2
        assert {cause["reason"] for cause in causes if cause["kind"] == "left"} == {"the command ended"}
        assert told["rebalances"][-1]["outcome"] == "empty"
    else:
        assert b"keeps no history" in pylog(broker, "groups", "describe", group, "--history", fails=True)[0]
    lines = [output.read_bytes().splitlines() for output in outputs]
    owned = [{line.split(b" ")[0] for line in some} for some in lines]
    assert len(owned[0]) == len(owned[1]) == 2
    assert owned[0].isdisjoint(owned[1])
    seen = sorted(lines[0] + lines[1])
    assert seen == sorted(b"%d %s" % (p, value) for p in range(PARTITIONS) for value in records.values(p, 500))


@pytest.mark.timeout(120)
def test_a_group_of_the_consumer_protocol(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str], closing: Closing
) -> None:
    if broker.kind == "kafka39":
        pytest.skip("Kafka 3.9 with ZooKeeper has no consumer protocol, though it advertises the heartbeat")
    topic, group = new_topic(2), fresh_name("group")
    for partition in range(2):
        pylog(broker, "produce", topic, "-p", str(partition), lines=records.values(partition, 100))
    settings = {"group.protocol": "consumer", "group.id": group, "auto.offset.reset": "earliest", "client.id": "modern"}
    consumer = closing(Consumer({"bootstrap.servers": broker.bootstrap, "enable.auto.commit": False, **settings}))
    consumer.subscribe([topic])
    _wait_for(lambda: (message := consumer.poll(0.1)) is not None and message.error() is None, "a record")
    consumer.commit(offsets=[TopicPartition(topic, 0, 100), TopicPartition(topic, 1, 60)], asynchronous=False)

    assert group.encode() in pylog(broker, "groups", "list", "--type", "consumer", "--names")
    (told,) = map(json.loads, pylog(broker, "groups", "describe", group, "--history", "5", "--json"))
    assert (told["type"], told["lag"], len(told["members"])) == ("consumer", 40, 1)
    assert [part["lag"] for part in told["partitions"]] == [0, 40] and told["behind_s"] > 0
    member = told["members"][0]
    assert (member["client"], member["lag"], member["partitions"]) == ("modern", 40, [[topic, 0], [topic, 1]])
    if broker.kind == "pylog":
        assert [cause["kind"] for cause in told["rebalances"][0]["causes"]] == ["joined"]
    else:
        assert "rebalances" not in told
    assert b"has 1 member" in pylog(broker, "groups", "reset", group, "--all-topics", "--to-latest", fails=True)[0]


def _owners(broker: Broker, group: str) -> int:
    """How many members have partitions; 0 while there is no such group."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli.main", "groups", "describe", group, "-b", broker.bootstrap],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    rows = [line.split(b"\t") for line in done.stdout.splitlines()]
    return len({row[7] for row in rows if row[2] != b"-"} - {b"-"})


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.05)  # sleep: what another process has written can only be asked for again


def test_topics_and_their_settings(broker: Broker, fresh_name: Callable[[str], str]) -> None:
    topic = fresh_name("topic")
    created = pylog(broker, "topics", "create", topic, "-p", "3", "-r", "1", "-c", "retention.ms=60000")
    assert created == [f"created topic {topic}: 3 partitions, replication factor 1".encode()]
    refused = pylog(broker, "topics", "create", topic, fails=True)
    assert refused == [
        f"pylog: cannot create topic {topic!r}: Topic '{topic}' already exists (TOPIC_ALREADY_EXISTS)".encode()
    ]
    assert pylog(broker, "topics", "create", topic, "--if-not-exists") == [f"topic {topic} is there already".encode()]
    assert f"{topic}\t3\t1".encode() in pylog(broker, "topics", "list")
    pylog(broker, "topics", "alter", topic, "-p", "5", "-c", "cleanup.policy=compact", "-d", "retention.ms")
    described = pylog(broker, "topics", "describe", topic)
    assert described[0].startswith(f"Topic: {topic}\tTopicId: ".encode())
    assert described[0].endswith(b"\tPartitionCount: 5\tReplicationFactor: 1\tConfigs: cleanup.policy=compact")
    assert len(described) == 6
    assert described[5].startswith(f"\tTopic: {topic}\tPartition: 4\tLeader: ".encode())
    assert pylog(broker, "configs", "describe", "topic", topic) == [b"cleanup.policy\tcompact\ttopic"]
    assert b"INVALID_CONFIG" in pylog(broker, "topics", "alter", topic, "-c", "retention.ms=soon", fails=True)[0]
    assert b"INVALID_PARTITIONS" in pylog(broker, "topics", "alter", topic, "-p", "2", fails=True)[0]
    assert pylog(broker, "topics", "delete", topic) == [f"deleted topic {topic}".encode()]
    gone = f"pylog: topic {topic!r} does not exist".encode()
    assert pylog(broker, "topics", "delete", topic, fails=True) == [gone]
    assert pylog(broker, "topics", "describe", topic, fails=True) == [gone]
    assert pylog(broker, "topics", "delete", topic, "--if-exists") == []


@pytest.mark.timeout(240)
def test_a_killed_broker_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """An idempotent producer goes on when the broker is back, and so does a reader."""
    count = 300_000
    with start_broker(tmp_path, {"num.partitions": "1"}) as broker:
        pylog(broker, "topics", "create", "orders", "-p", "1")
        command = [sys.executable, "-m", "cluster.cli.main"]
        produce = [*command, "produce", "orders", "--timeout", "60", "--batch-size", "2000", "-b", broker.bootstrap]
        consume = [*command, "consume", "orders", "-n", str(count), "--timeout", "60", "-b", broker.bootstrap]
        source, seen = tmp_path / "source", tmp_path / "seen"
        source.write_bytes(b"".join(b"%d\n" % number for number in range(count)))
        with source.open("rb") as lines, seen.open("wb") as out:
            producer = subprocess.Popen(produce, stdin=lines)
            consumer = subprocess.Popen(consume, stdout=out)
            try:
                _wait_for(lambda: seen.stat().st_size > 10_000, "the first records")
                broker.kill()
                broker.start()
                assert producer.wait(100) == 0
                assert consumer.wait(100) == 0
            finally:
                producer.kill()
                consumer.kill()
        assert seen.read_bytes() == source.read_bytes()
        broker.stop()
