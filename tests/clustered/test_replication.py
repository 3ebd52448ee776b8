"""Three brokers of ours: what one acknowledges with acks=all the others have, and nobody's death loses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.cluster import Cluster, cluster
from tests.support.zookeeper import ZooKeeper

RECORDS = 2000
TIMEOUT_S = 60


def create(brokers: Cluster, topic: str, partitions: int = 3, factor: int = 3) -> None:
    admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
    admin.create_topics([NewTopic(topic, partitions, factor)], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)


def produce(brokers: Cluster, topic: str, first: int, count: int) -> None:
    """Records whose values are numbers, each acknowledged by all replicas in sync, or the test fails."""
    producer = Producer(
        {
            "bootstrap.servers": brokers.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 2,
            "delivery.timeout.ms": TIMEOUT_S * 1000,
        }
    )
    refused: list[object] = []

    def told(error: object, _: object) -> None:
        if error is not None:
            refused.append(error)

    for number in range(first, first + count):
        producer.produce(topic, key=str(number % 7), value=str(number), on_delivery=told)
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0
    assert not refused


def consume(brokers: Cluster, topic: str, count: int, group: str) -> list[int]:
    """So many values, in the order in which they came."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([topic])
    values: list[int] = []
    try:
        while len(values) < count:
            found = consumer.consume(count - len(values), timeout=TIMEOUT_S)
            assert found, f"only {len(values)} of {count} records came"
            for message in found:
                if message.error() is None:
                    data = message.value()
                    assert data is not None
                    values.append(int(data))
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return values


@pytest.fixture
def brokers(tmp_path: Path, ensemble: ZooKeeper) -> Iterator[Cluster]:
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog") as made:
        yield made


def test_every_broker_has_what_was_acknowledged(brokers: Cluster) -> None:
    create(brokers, "orders")
    produce(brokers, "orders", 0, RECORDS)
    assert sorted(consume(brokers, "orders", RECORDS, "all")) == list(range(RECORDS))
    for broker_id in (1, 2, 3):
        brokers[broker_id].stop()
    logs = [
        {path.parent.name: path.read_bytes() for path in (brokers[i].data).glob("orders-*/*.log")} for i in (1, 2, 3)
    ]
    assert set(logs[0]) == {"orders-0", "orders-1", "orders-2"}
    assert logs[0] == logs[1] == logs[2]


def test_the_leaders_death_loses_nothing(brokers: Cluster) -> None:
    create(brokers, "orders", partitions=1)
    produce(brokers, "orders", 0, RECORDS)
    consume(brokers, "orders", RECORDS, "before")  # makes the offsets topic while there are brokers enough
    leader = brokers.leader("orders")
    brokers[leader].kill()
    produce(brokers, "orders", RECORDS, RECORDS)
    assert brokers.leader("orders") != leader
    values = consume(brokers, "orders", 2 * RECORDS, "after")
    assert values == list(range(2 * RECORDS))
    brokers[leader].start()
    brokers.wait_in_sync("orders")


def test_the_controllers_death_makes_another(brokers: Cluster) -> None:
    create(brokers, "before")
    produce(brokers, "before", 0, 100)
    consume(brokers, "before", 100, "before")
    controller = brokers.controller_id()
    brokers[controller].kill()
    another = brokers.wait(lambda seen: seen.controller not in (controller, -1)).controller
    assert another != controller
    brokers.wait(lambda seen: controller not in seen.brokers)
    create(brokers, "after", partitions=3, factor=2)
    produce(brokers, "after", 0, 100)
    assert sorted(consume(brokers, "after", 100, "after")) == list(range(100))


def test_all_are_restarted_one_by_one_under_load(brokers: Cluster) -> None:
    create(brokers, "orders")
    total = 0
    for broker_id in (1, 2, 3):
        produce(brokers, "orders", total, 500)
        assert brokers[broker_id].stop() == 0
        produce(brokers, "orders", total + 500, 500)
        total += 1000
        brokers[broker_id].start()
        brokers.wait_in_sync("orders")
    assert sorted(consume(brokers, "orders", total, "restarted")) == list(range(total))
