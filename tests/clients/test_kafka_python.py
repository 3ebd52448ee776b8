"""kafka-python 3: pure Python, with a protocol implementation of its own."""

import time
from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import InvalidProducerEpochError, ProducerFencedError, TopicAlreadyExistsError

from tests.support import records
from tests.support.brokers import Broker
from tests.support.closing import Closing

PARTITIONS = 4
MILLION = 1_000_000


@pytest.mark.timeout(300)
def test_a_million_records(broker: Broker, closing: Closing, new_topic: Callable[..., str]) -> None:
    topic = new_topic(PARTITIONS)
    each = MILLION // PARTITIONS
    producer = closing(
        KafkaProducer(
            bootstrap_servers=broker.bootstrap,
            acks="all",
            linger_ms=50,
            batch_size=262_144,
            compression_type="gzip",
        )
    )
    errors: list[BaseException] = []
    for sequence in range(each):
        for partition in range(PARTITIONS):
            future = producer.send(topic, records.value(partition, sequence), partition=partition)
            future.add_errback(errors.append)
    producer.flush(120)
    assert not errors, errors[:3]

    partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer = closing(
        KafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 << 20,
            max_poll_records=20_000,
        )
    )
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    checker = records.Checker(PARTITIONS, each)
    while checker.left:
        found = consumer.poll(timeout_ms=10_000)
        assert found, f"{checker.left} records did not come"
        for partition, batch in found.items():
            for record in batch:
                checker.take(partition.partition, record.offset, record.value)
    checker.done()


def test_keys_headers_nulls_and_timestamps(broker: Broker, closing: Closing, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = closing(KafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True))
    producer.send(topic, None, key=b"gone", headers=[("a", b"1"), ("a", b"2")], timestamp_ms=1_600_000_000_000)
    producer.send(topic, b"", key=None, timestamp_ms=1_600_000_000_001)
    producer.flush(30)
    consumer = closing(
        KafkaConsumer(
            topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000
        )
    )
    seen = [next(consumer), next(consumer)]
    assert [(record.key, record.value, record.timestamp) for record in seen] == [
        (b"gone", None, 1_600_000_000_000),
        (None, b"", 1_600_000_000_001),
    ]
    assert list(seen[0].headers) == [("a", b"1"), ("a", b"2")]
    partition = TopicPartition(topic, 0)
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 2}
    assert consumer.offsets_for_times({partition: 1_600_000_000_001})[partition].offset == 1


def poll_until(condition: Callable[[], bool], *members: KafkaConsumer) -> None:
    """kafka-python 3.0.12 forgets a rebalance that is over just after its poll: polls are long enough for one."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, [consumer.assignment() for consumer in members]
        for consumer in members:
            consumer.poll(timeout_ms=1000)


def test_two_consumers_share_and_resume(
    broker: Broker, closing: Closing, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    producer = closing(KafkaProducer(bootstrap_servers=broker.bootstrap))
    for sequence in range(1000):
        for partition in range(PARTITIONS):
            producer.send(topic, records.value(partition, sequence), partition=partition)
    producer.flush(30)

    def member() -> KafkaConsumer:
        return closing(
            KafkaConsumer(
                topic,
                bootstrap_servers=broker.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=200,
                session_timeout_ms=6000,
                max_poll_records=10,
            )
        )

    first = member()
    poll_until(lambda: len(first.assignment()) == PARTITIONS, first)
    second = member()
    poll_until(lambda: len(first.assignment()) == len(second.assignment()) == 2, first, second)
    assert first.assignment() | second.assignment() == {TopicPartition(topic, number) for number in range(PARTITIONS)}
    first.commit()
    second.commit()
    second.close()
    poll_until(lambda: len(first.assignment()) == PARTITIONS, first)
    first.commit()
    position = {partition.partition: first.committed(partition) or 0 for partition in first.assignment()}
    first.close()
    third = member()
    left = sum(1000 - offset for offset in position.values())
    while left:
        found = third.poll(timeout_ms=10_000)
        assert found, f"{left} records did not come"
        for partition, batch in found.items():
            for record in batch:
                assert record.offset == position[partition.partition]
                assert record.value == records.value(partition.partition, record.offset)
                position[partition.partition] += 1
                left -= 1
    third.commit()
    assert [third.committed(partition) for partition in third.assignment()] == [1000] * PARTITIONS


def test_topics_and_groups_admin(broker: Broker, closing: Closing, fresh_name: Callable[[str], str]) -> None:
    name, group = fresh_name("topic"), fresh_name("group")
    admin = closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap))
    admin.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "5000"})])
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(name, 2, 1)])
    admin.create_partitions({name: NewPartitions(4)})
    assert len(admin.describe_topics([name])[0]["partitions"]) == 4
    consumer = closing(KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=group))
    poll_until(lambda: bool(consumer.assignment()), consumer)
    listed = [entry["group_id"] if isinstance(entry, dict) else entry[0] for entry in admin.list_groups()]
    assert group in listed
    consumer.close()
    admin.delete_topics([name])
    assert name not in admin.list_topics()


def test_transactions(
    broker: Broker, closing: Closing, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    """Committed, aborted, with offsets of a group; and fenced by whoever has the id next."""
    topic, group, name = new_topic(), fresh_name("group"), fresh_name("id")
    partition = TopicPartition(topic, 0)

    def transactional() -> KafkaProducer:
        producer = closing(KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=name))
        producer.init_transactions()
        return producer

    def seen(isolation: str) -> list[bytes]:
        consumer = closing(
            KafkaConsumer(bootstrap_servers=broker.bootstrap, isolation_level=isolation, enable_auto_commit=False)
        )
        consumer.assign([partition])
        (end,) = consumer.end_offsets([partition]).values()
        consumer.seek_to_beginning(partition)
        values: list[bytes] = []
        deadline = time.monotonic() + 60
        while consumer.position(partition) < end:
            assert time.monotonic() < deadline, f"{values} are all up to {end}"
            values += [record.value for batch in consumer.poll(timeout_ms=100).values() for record in batch]
        return values

    producer = transactional()
    member = closing(KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False))
    for number, commit in enumerate((True, False, True)):
        producer.begin_transaction()
        producer.send(topic, b"%d" % number)
        producer.send_offsets_to_transaction({partition: OffsetAndMetadata(number + 1, "", -1)}, group)
        producer.flush(30)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
        assert member.committed(partition) == (number + 1 if commit else number)
    assert seen("read_committed") == [b"0", b"2"]
    assert seen("read_uncommitted") == [b"0", b"1", b"2"]

    producer.begin_transaction()
    producer.send(topic, b"open")
    producer.flush(30)
    assert seen("read_committed") == [b"0", b"2"]
    successor = transactional()
    with pytest.raises((ProducerFencedError, InvalidProducerEpochError)):
        producer.commit_transaction()
    successor.begin_transaction()
    successor.send(topic, b"3")
    successor.commit_transaction()
    assert seen("read_committed") == [b"0", b"2", b"3"]
