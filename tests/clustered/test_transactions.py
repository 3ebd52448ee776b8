"""Three brokers of ours: a transaction outlives its partition's leader and its coordinator, and ends as it should."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support import peers, wire
from tests.support.cluster import Cluster, cluster
from tests.support.zookeeper import ZooKeeper

TIMEOUT_S = 60
TOPIC = "orders"
NAME = "teller"
SETTINGS = {"transaction_state_log_replication_factor": "3", "transaction_state_log_num_partitions": "3"}


@pytest.fixture
def brokers(tmp_path: Path, ensemble: ZooKeeper) -> Iterator[Cluster]:
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog", **SETTINGS) as made:
        admin = AdminClient({"bootstrap.servers": made.bootstrap})
        new = NewTopic(TOPIC, 1, 3)
        admin.create_topics([new], operation_timeout=TIMEOUT_S)[TOPIC].result(TIMEOUT_S)
        yield made


def transactional(brokers: Cluster) -> Producer:
    producer = Producer({"bootstrap.servers": brokers.bootstrap, "transactional.id": NAME, "log_level": 3})
    producer.init_transactions(TIMEOUT_S)
    return producer


def send(producer: Producer, *values: int, partitions: int = 1) -> None:
    refused: list[object] = []

    def told(error: object, _: object) -> None:
        if error is not None:
            refused.append(error)

    for value in values:
        producer.produce(TOPIC, str(value), partition=value % partitions, on_delivery=told)
    assert producer.flush(TIMEOUT_S) == 0
    assert not refused


def committed(brokers: Cluster, partitions: int = 1) -> list[int]:
    """What a reader of committed records is given up to the end; sorted if of more than one partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers.bootstrap,
            "group.id": "unused",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(TOPIC, each, 0) for each in range(partitions)])
    values: list[int] = []
    ended = 0
    try:
        while True:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None
            if message.error():
                assert message.error().name() == "_PARTITION_EOF", message.error()
                ended += 1
                if ended == partitions:
                    return sorted(values) if partitions > 1 else values
                continue
            value = message.value()
            assert value is not None
            values.append(int(value))
    finally:
        consumer.close()


def test_leaders_and_coordinators_die_in_the_middle(brokers: Cluster) -> None:
    producer = transactional(brokers)
    producer.begin_transaction()
    send(producer, 1, 2)
    producer.abort_transaction(TIMEOUT_S)

    producer.begin_transaction()
    send(producer, 3, 4)
    dead = brokers.leader(TOPIC)
    brokers[dead].kill()
    send(producer, 5)  # the new leader knows that the transaction is open
    assert committed(brokers) == []
    producer.commit_transaction(TIMEOUT_S)
    assert committed(brokers) == [3, 4, 5]  # and what was aborted before it
    brokers[dead].start()
    brokers.wait_in_sync(TOPIC)

    producer.begin_transaction()
    send(producer, 6)
    dead = brokers.coordinator(NAME, wire.TRANSACTION)
    brokers[dead].kill()
    send(producer, 7)
    producer.commit_transaction(TIMEOUT_S)
    assert committed(brokers) == [3, 4, 5, 6, 7]

    producer.begin_transaction()
    send(producer, 8)
    again = transactional(brokers)  # which ends what another left open, at a coordinator that took it over
    again.begin_transaction()
    send(again, 9)
    again.commit_transaction(TIMEOUT_S)
    assert committed(brokers) == [3, 4, 5, 6, 7, 9]


@pytest.mark.timeout(180)
def test_each_kind_ends_what_was_begun_with_the_other(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """An open transaction is taken over by Apache Kafka's broker from ours, and by ours from Kafka's, with records
    that the other leads."""
    reason = peers.unavailable("kafka39")
    if reason is not None:
        pytest.skip(reason)
    settings = {
        "transaction_state_log_replication_factor": "2",
        "transaction_state_log_num_partitions": "1",
        "min_insync_replicas": "1",
    }
    with cluster(tmp_path, ensemble.fresh(), "pylog", "kafka39", **settings) as brokers:
        admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 2, 2)], operation_timeout=TIMEOUT_S)[TOPIC].result(TIMEOUT_S)
        producer = transactional(brokers)
        kinds: list[str] = []
        values = [1, 2]  # whose partitions have leaders of both kinds
        producer.begin_transaction()
        send(producer, *values, partitions=2)
        producer.commit_transaction(TIMEOUT_S)
        for number in (10, 20):
            brokers.wait_in_sync(TOPIC)
            brokers.wait_in_sync("__transaction_state")
            producer.begin_transaction()
            send(producer, number, partitions=2)
            dead = brokers.coordinator(NAME, wire.TRANSACTION)
            kinds.append(brokers[dead].kind)
            brokers[dead].stop()
            send(producer, number + 1, partitions=2)
            producer.commit_transaction(TIMEOUT_S)
            producer.begin_transaction()
            send(producer, number + 2, partitions=2)
            producer.abort_transaction(TIMEOUT_S)
            values += [number, number + 1]
            assert committed(brokers, 2) == values
            brokers[dead].start()
        assert sorted(kinds) == ["kafka39", "pylog"]
        brokers.wait_in_sync(TOPIC)
        producer.begin_transaction()
        send(producer, 30, partitions=2)
        producer.commit_transaction(TIMEOUT_S)
        assert committed(brokers, 2) == [*values, 30]
