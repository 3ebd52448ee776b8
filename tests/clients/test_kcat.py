"""kcat, the command line over librdkafka: a million lines in and out, groups, metadata, offsets by time."""

import json
import subprocess
from collections.abc import Callable, Iterable

import pytest

from tests.support import records
from tests.support.brokers import Broker

PARTITIONS = 4
MILLION = 1_000_000


def kcat(broker: Broker, *arguments: str, lines: Iterable[bytes] = (), timeout_s: float = 120) -> list[bytes]:
    """Run kcat to its end and give the lines it printed. Whatever it complains of fails the test."""
    done = subprocess.run(
        ["kcat", "-b", broker.bootstrap, *arguments],
        input=b"".join(line + b"\n" for line in lines),
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.splitlines()


@pytest.mark.timeout(180)
def test_a_million_records(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(PARTITIONS)
    each = MILLION // PARTITIONS
    for partition in range(PARTITIONS):
        kcat(broker, "-P", "-t", topic, "-p", str(partition), "-z", "lz4", lines=records.values(partition, each))
    checker = records.Checker(PARTITIONS, each)
    for line in kcat(broker, "-C", "-q", "-e", "-t", topic, "-o", "beginning", "-f", "%p %o %s\n"):
        partition, offset, value = line.split(b" ", 2)
        checker.take(int(partition), int(offset), value)
    checker.done()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs_keys_and_headers(broker: Broker, new_topic: Callable[..., str], codec: str) -> None:
    topic = new_topic()
    lines = [b"key-%d\t%s" % (number, records.value(0, number, 200)) for number in range(2000)]
    kcat(broker, "-P", "-t", topic, "-K", "\t", "-z", codec, "-H", "one=1", "-H", "two=2", lines=lines)
    seen = kcat(broker, "-C", "-q", "-e", "-t", topic, "-f", "%k\t%s\t%h\n")
    assert seen == [line + b"\tone=1,two=2" for line in lines]


def test_a_group_goes_on_where_it_stopped(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    earliest = ("-X", "auto.offset.reset=earliest")
    for partition in range(PARTITIONS):
        kcat(broker, "-P", "-t", topic, "-p", str(partition), lines=records.values(partition, 100))
    first = kcat(broker, "-G", group, "-q", "-e", *earliest, "-f", "%p %o\n", topic)
    assert sorted(first) == sorted(b"%d %d" % (part, offset) for part in range(PARTITIONS) for offset in range(100))
    kcat(broker, "-P", "-t", topic, "-p", "2", lines=[b"late"])
    assert kcat(broker, "-G", group, "-q", "-e", *earliest, "-f", "%p %o %s\n", topic) == [b"2 100 late"]


def test_metadata_and_offsets_by_time(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(3)
    kcat(broker, "-P", "-t", topic, "-p", "1", lines=[b"a", b"b"])
    found = json.loads(b"\n".join(kcat(broker, "-L", "-J", "-t", topic)))
    assert [entry["name"] for entry in found["brokers"]] == [broker.bootstrap]
    assert [(entry["partition"], entry["leader"]) for entry in found["topics"][0]["partitions"]] == [
        (partition, found["brokers"][0]["id"]) for partition in range(3)
    ]
    assert kcat(broker, "-Q", "-t", f"{topic}:1:-1") == [f"{topic} [1] offset 2".encode()]
    assert kcat(broker, "-Q", "-t", f"{topic}:1:1") == [f"{topic} [1] offset 0".encode()]


def test_tail_and_counted_reads(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    kcat(broker, "-P", "-t", topic, lines=[b"%d" % number for number in range(50)])
    assert kcat(broker, "-C", "-q", "-e", "-t", topic, "-o", "-3") == [b"47", b"48", b"49"]
    assert kcat(broker, "-C", "-q", "-t", topic, "-o", "10", "-c", "2") == [b"10", b"11"]
