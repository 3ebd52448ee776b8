"""aiokafka 0.14: an independent client that speaks older versions of the protocol."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from tests.support import records
from tests.support.brokers import Broker

PARTITIONS = 4
MILLION = 1_000_000
LIMIT_S = 150
Result = TypeVar("Result")


def run(story: Coroutine[object, object, Result]) -> Result:
    """One bounded event loop per test."""
    return asyncio.run(asyncio.wait_for(story, LIMIT_S))


async def produce_partition(producer: AIOKafkaProducer, topic: str, partition: int, count: int) -> None:
    """Batches built by hand: a future per record would make a million of them slow, and test nothing more."""
    sequence = 0
    while sequence < count:
        batch = producer.create_batch()
        while sequence < count:
            value = records.value(partition, sequence)
            if batch.append(key=records.key(sequence), value=value, timestamp=None) is None:
                break
            sequence += 1
        await (await producer.send_batch(batch, topic, partition=partition))


@pytest.mark.timeout(LIMIT_S + 30)
def test_a_million_records(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(PARTITIONS)
    each = MILLION // PARTITIONS

    async def story() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, acks="all", max_batch_size=262_144, compression_type="gzip"
        ) as producer:
            await asyncio.gather(*(produce_partition(producer, topic, part, each) for part in range(PARTITIONS)))
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
        )
        async with consumer:
            partitions = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            checker = records.Checker(PARTITIONS, each)
            while checker.left:
                found = await consumer.getmany(timeout_ms=10_000)
                assert found, f"{checker.left} records did not come"
                for partition, batch in found.items():
                    for record in batch:
                        checker.take(partition.partition, record.offset, record.value)
            checker.done()

    run(story())


@pytest.mark.parametrize("idempotent", [False, True], ids=["acks1", "idempotent"])
def test_records_one_by_one(broker: Broker, new_topic: Callable[..., str], idempotent: bool) -> None:
    topic = new_topic()

    async def story() -> None:
        settings: dict[str, object] = {"enable_idempotence": True} if idempotent else {"acks": 1}
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=2, **settings) as producer:
            sent = [
                await producer.send(topic, records.value(0, number), key=b"k", headers=[("n", b"%d" % number)])
                for number in range(5000)
            ]
            acknowledged = await asyncio.gather(*sent)
        assert [entry.offset for entry in acknowledged] == list(range(5000))
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            for number in range(5000):
                record = await consumer.getone()
                assert (record.offset, record.value) == (number, records.value(0, number))
                assert record.headers == (("n", b"%d" % number),)

    run(story())


def test_two_consumers_share_and_resume(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")

    def member() -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=broker.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=6000,
            metadata_max_age_ms=1000,
        )

    async def poll_until(condition: Callable[[], bool], *members: AIOKafkaConsumer) -> None:
        while not condition():
            for consumer in members:
                await consumer.getmany(timeout_ms=50, max_records=10)

    async def story() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            await asyncio.gather(*(produce_partition(producer, topic, part, 1000) for part in range(PARTITIONS)))
        async with member() as first:
            await poll_until(lambda: len(first.assignment()) == PARTITIONS, first)
            async with member() as second:
                await poll_until(lambda: len(first.assignment()) == len(second.assignment()) == 2, first, second)
                assert first.assignment() | second.assignment() == {TopicPartition(topic, n) for n in range(PARTITIONS)}
                await first.commit()
                await second.commit()
            await poll_until(lambda: len(first.assignment()) == PARTITIONS, first)
            await first.commit()
            position = {part.partition: await first.committed(part) or 0 for part in first.assignment()}
        async with member() as third:
            left = sum(1000 - offset for offset in position.values())
            while left:
                for partition, batch in (await third.getmany(timeout_ms=10_000)).items():
                    for record in batch:
                        assert record.offset == position[partition.partition]
                        assert record.value == records.value(partition.partition, record.offset)
                        position[partition.partition] += 1
                        left -= 1
            await third.commit()
            assert [await third.committed(part) for part in third.assignment()] == [1000] * PARTITIONS

    run(story())


def test_offsets(broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    partition = TopicPartition(topic, 0)

    async def story() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            for number in range(10):
                await producer.send_and_wait(topic, b"x", timestamp_ms=1_600_000_000_000 + number * 1000)
        async with AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap) as consumer:
            assert await consumer.beginning_offsets([partition]) == {partition: 0}
            assert await consumer.end_offsets([partition]) == {partition: 10}
            found = await consumer.offsets_for_times({partition: 1_600_000_004_500})
            assert found[partition].offset == 5

    run(story())


def test_topics_and_groups_admin(broker: Broker, fresh_name: Callable[[str], str]) -> None:
    name, group = fresh_name("topic"), fresh_name("group")

    async def story() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "5000"})])
            with pytest.raises(TopicAlreadyExistsError):
                answer = await admin.create_topics([NewTopic(name, 2, 1)])
                raise TopicAlreadyExistsError if answer.topic_errors[0][1] == 36 else AssertionError(answer)
            await admin.create_partitions({name: NewPartitions(4)})
            assert len((await admin.describe_topics([name]))[0]["partitions"]) == 4
            consumer = AIOKafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=group)
            async with consumer:
                while not consumer.assignment():
                    await consumer.getmany(timeout_ms=50)
                assert group in [entry[0] for entry in await admin.list_consumer_groups()]
            await admin.delete_topics([name])
            assert name not in await admin.list_topics()
        finally:
            await admin.close()

    run(story())
