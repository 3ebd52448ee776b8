"""The row of the cleaner: a topic of a million records over 200,000 keys, compacted in one pass.

What counts is the CPU of the whole broker from the moment the topic may be cleaned until its checkpoint says that it
is: nobody asks the broker anything else meanwhile.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from bench.macro.side import Side
from tests.support import confluent

RECORDS = 1_000_000
KEYS = 200_000
VALUE = b"v" * 100
SEGMENT_BYTES = 32 << 20
WAIT_S = 120
CHECKPOINT = "cleaner-offset-checkpoint"
RATIO = "min.cleanable.dirty.ratio"


def records_per_cpu_second(side: Side) -> float:
    """How many records of the dirty section the broker gets through in a second of its CPU time."""
    with _topic(side) as name:
        _fill(side, name)
        end = _active_base(side, name)
        before = side.cpu_seconds()
        _allow(side, name)
        deadline = time.monotonic() + WAIT_S
        while _first_dirty(side, name) < end:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{side.name}: not compacted within {WAIT_S} s")
            time.sleep(0.02)  # sleep: another process works
        return end / (side.cpu_seconds() - before)


@contextmanager
def _topic(side: Side) -> Iterator[str]:
    name = f"compacted-{time.monotonic_ns()}"
    config = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES), RATIO: "1.0"}
    confluent.create_topic(side.broker.bootstrap, name, 1, config)
    side.broker.wait_leaders([name])
    try:
        yield name
    finally:
        confluent.delete_topics(side.broker.bootstrap, [name])


def _fill(side: Side, topic: str) -> None:
    producer = Producer(
        {"bootstrap.servers": side.broker.bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 2 * RECORDS}
    )
    chance = random.Random(1)
    for number in range(RECORDS):
        producer.produce(topic, VALUE, b"key-%09d" % chance.randrange(KEYS), 0)
        if number % 10_000 == 0:
            producer.poll(0)
    if producer.flush(WAIT_S):
        raise RuntimeError(f"{side.name}: not all records were acknowledged")


def _allow(side: Side, topic: str) -> None:
    entry = ConfigEntry(RATIO, "0.0", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = confluent.admin(side.broker.bootstrap)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(confluent.ANSWER_TIMEOUT_S)


def _active_base(side: Side, topic: str) -> int:
    return max(int(path.name[:20]) for path in (side.broker.data / f"{topic}-0").glob("*.log"))


def _first_dirty(side: Side, topic: str) -> int:
    try:
        lines = (side.broker.data / CHECKPOINT).read_text().splitlines()[2:]
    except FileNotFoundError:
        return 0
    return max([int(line.split()[2]) for line in lines if line.split()[0] == topic], default=0)
