"""librdkafka through confluent-kafka: a million records, groups, administration, and the odd shapes of records."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.support import confluent, records
from tests.support.brokers import Broker
from tests.support.closing import Closing

PARTITIONS = 4
MILLION = 1_000_000
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("idempotent", [False, True], ids=["acks1", "idempotent"])
def test_a_million_records(broker: Broker, closing: Closing, new_topic: Callable[..., str], idempotent: bool) -> None:
    topic = new_topic(PARTITIONS)
    config = {"linger.ms": 20, "queue.buffering.max.messages": 500_000}
    config |= {"enable.idempotence": True} if idempotent else {"acks": 1}
    failed: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "compression.type": "lz4", **config})
    each = MILLION // PARTITIONS

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for sequence in range(each):
        for partition in range(PARTITIONS):
            value = records.value(partition, sequence)
            while True:
                try:
                    producer.produce(topic, value, partition=partition, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(1)
        if sequence % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed, failed[:3]

    consumer = closing(confluent.assigned_consumer(broker.bootstrap, topic, PARTITIONS))
    checker = records.Checker(PARTITIONS, each)
    while checker.left:
        messages = confluent.take(consumer, 10_000)
        assert messages, f"{checker.left} records did not come"
        for message in messages:
            checker.take(message.partition(), message.offset(), message.value())
    checker.done()
    for partition in range(PARTITIONS):
        assert consumer.get_watermark_offsets(TopicPartition(topic, partition)) == (0, each)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs(broker: Broker, closing: Closing, new_topic: Callable[..., str], codec: str) -> None:
    topic = new_topic()
    confluent.produce_all(
        broker.bootstrap, topic, 0, records.values(0, 5000, 100), **{"compression.type": codec, "linger.ms": 5}
    )
    consumer = closing(confluent.assigned_consumer(broker.bootstrap, topic, 1))
    checker = records.Checker(1, 5000, 100)
    while checker.left:
        messages = confluent.take(consumer, 5000, 10)
        assert messages, f"{checker.left} records did not come"
        for message in messages:
            checker.take(0, message.offset(), message.value())


def test_keys_headers_nulls_and_timestamps(broker: Broker, closing: Closing, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
    producer.produce(topic, None, b"tombstone", partition=0, timestamp=1_600_000_000_000, headers=headers)
    producer.produce(topic, b"", b"", partition=0, timestamp=1_600_000_000_001)
    producer.produce(topic, b"x" * 500_000, None, partition=0, timestamp=1_600_000_000_002)
    assert producer.flush(30) == 0
    consumer = closing(confluent.assigned_consumer(broker.bootstrap, topic, 1))
    seen = [confluent.take(consumer, 1)[0] for _ in range(3)]
    assert [(message.key(), message.value()) for message in seen] == [
        (b"tombstone", None),
        (b"", b""),
        (None, b"x" * 500_000),
    ]
    assert seen[0].headers() == [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
    assert [message.timestamp()[1] for message in seen] == [1_600_000_000_000 + step for step in range(3)]
    by_time = consumer.offsets_for_times([TopicPartition(topic, 0, 1_600_000_000_001)], timeout=30)
    assert by_time[0].offset == 1


def test_log_append_time(broker: Broker, closing: Closing, new_topic: Callable[..., str]) -> None:
    topic = new_topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"now", partition=0, timestamp=1)
    assert producer.flush(30) == 0
    consumer = closing(confluent.assigned_consumer(broker.bootstrap, topic, 1))
    kind, stamp = confluent.take(consumer, 1)[0].timestamp()
    assert kind == 2 and before <= stamp <= time.time() * 1000


def test_errors_a_producer_meets(
    broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic = new_topic(max_message_bytes="1000")
    errors: list[int] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 5000})
    producer.produce(
        topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error.code()) if error else errors.append(0)
    )
    assert producer.flush(30) == 0
    assert errors == [KafkaError.MSG_SIZE_TOO_LARGE]
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": fresh_name("group")})
    with pytest.raises(KafkaException) as raised:
        consumer.get_watermark_offsets(TopicPartition("no-such-topic", 0), timeout=10)
    assert raised.value.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)


# ------------------------------------------------------------------------------------------------------------ groups


class Member:
    """One consumer of a group that notes what it is assigned."""

    def __init__(self, broker: Broker, group: str, topic: str, **config: str | int) -> None:
        self.partitions: set[int] = set()
        self.read = 0
        self._closed = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 200,
                **config,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.partitions |= {partition.partition for partition in partitions}

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.partitions -= {partition.partition for partition in partitions}

    def poll(self, count: int = 20, timeout_s: float = 0.1) -> list[Message]:
        """By default a few at a time, so that a rebalance ends before the records do."""
        messages = confluent.take(self._consumer, count, timeout_s)
        self.read += len(messages)
        return messages

    def commit(self) -> None:
        """The positions in the partitions it has now and has read from."""
        positions = self._consumer.position(self._consumer.assignment())
        known = [position for position in positions if position.offset >= 0]
        if known:
            self._consumer.commit(offsets=known, asynchronous=False)

    def close(self) -> None:
        """Leave the group. May be called again."""
        if not self._closed:
            self._closed = True
            self._consumer.close()


def poll_until(condition: Callable[[], bool], *members: Member, timeout_s: float = 30) -> list[Message]:
    """Poll all members until the condition holds; what they read meanwhile."""
    seen: list[Message] = []
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"assigned: {[member.partitions for member in members]}"
        for member in members:
            seen += member.poll()
    return seen


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_two_consumers_share_and_resume(
    broker: Broker, closing: Closing, new_topic: Callable[..., str], fresh_name: Callable[[str], str], strategy: str
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    for partition in range(PARTITIONS):
        confluent.produce_all(broker.bootstrap, topic, partition, records.values(partition, 1000))
    config = {"partition.assignment.strategy": strategy}
    first = closing(Member(broker, group, topic, **config))
    poll_until(lambda: len(first.partitions) == PARTITIONS, first)
    second = closing(Member(broker, group, topic, **config))
    poll_until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, first, second)
    assert first.partitions | second.partitions == set(range(PARTITIONS))
    already = first.read
    poll_until(lambda: first.read > already and second.read > 0, first, second)

    first.commit()
    second.commit()
    second.close()
    already = first.read
    poll_until(lambda: len(first.partitions) == PARTITIONS and first.read > already, first)
    first.commit()
    first.close()

    # What was committed was read; whoever comes next goes on exactly there.
    position = committed(broker, group, topic)
    third = closing(Member(broker, group, topic, **config))
    next_offset = dict(position)
    left = sum(1000 - offset for offset in position.values())
    for message in poll_until(lambda: len(third.partitions) == PARTITIONS, third):
        left -= expect(message, next_offset)
    while left:
        messages = third.poll(1000, 10)
        assert messages, f"{left} records did not come"
        for message in messages:
            left -= expect(message, next_offset)
    third.commit()
    third.close()
    assert committed(broker, group, topic) == dict.fromkeys(range(PARTITIONS), 1000)


def expect(message: Message, next_offset: dict[int, int]) -> int:
    partition = message.partition()
    assert message.offset() == next_offset[partition]
    assert message.value() == records.value(partition, message.offset())
    next_offset[partition] += 1
    return 1


def committed(broker: Broker, group: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    answer = consumer.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], timeout=30)
    return {entry.partition: max(entry.offset, 0) for entry in answer}


def test_static_member_returns_without_a_rebalance(
    broker: Broker, closing: Closing, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    first = closing(Member(broker, group, topic, **{"group.instance.id": "one"}))
    second = closing(Member(broker, group, topic, **{"group.instance.id": "two"}))
    poll_until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2, first, second)
    before = set(first.partitions)
    first.close()
    first = closing(Member(broker, group, topic, **{"group.instance.id": "one"}))
    poll_until(lambda: bool(first.partitions), first, second)
    assert first.partitions == before
    assert len(second.partitions) == PARTITIONS // 2
    first.close()
    second.close()


def test_describe_list_and_delete_groups(
    broker: Broker, closing: Closing, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(PARTITIONS), fresh_name("group")
    admin = confluent.admin(broker.bootstrap)
    member = closing(Member(broker, group, topic))
    poll_until(lambda: len(member.partitions) == PARTITIONS, member)
    found = admin.describe_consumer_groups([group])[group].result(30)
    assert found.state.name == "STABLE"
    assert len(found.members) == 1
    assert len(found.members[0].assignment.topic_partitions) == PARTITIONS
    listed = admin.list_consumer_groups().result(30)
    assert group in {entry.group_id for entry in listed.valid}
    with pytest.raises(KafkaException) as raised:
        admin.delete_consumer_groups([group])[group].result(30)
    assert raised.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    member.close()
    admin.delete_consumer_groups([group])[group].result(30)
    listed = admin.list_consumer_groups().result(30)
    assert group not in {entry.group_id for entry in listed.valid}


# ---------------------------------------------------------------------------------------------------- administration


def test_topics_from_birth_to_death(broker: Broker, fresh_name: Callable[[str], str]) -> None:
    admin = confluent.admin(broker.bootstrap)
    name = fresh_name("topic")
    admin.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "1000000"})])[name].result(30)
    with pytest.raises(KafkaException) as raised:
        admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    assert sorted(admin.list_topics(name, 30).topics[name].partitions) == [0, 1]
    admin.create_partitions([NewPartitions(name, 5)])[name].result(30)
    assert sorted(admin.list_topics(name, 30).topics[name].partitions) == [0, 1, 2, 3, 4]

    resource = ConfigResource(ResourceType.TOPIC, name)
    assert admin.describe_configs([resource])[resource].result(30)["retention.ms"].value == "1000000"
    entry = ConfigEntry("segment.bytes", "1048576", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([change])[change].result(30)
    configs = admin.describe_configs([resource])[resource].result(30)
    assert configs["segment.bytes"].value == "1048576"
    assert configs["retention.ms"].value == "1000000"

    admin.delete_topics([name], operation_timeout=30)[name].result(30)
    assert name not in admin.list_topics(timeout=30).topics
    with pytest.raises(KafkaException) as raised:
        admin.delete_topics([name])[name].result(30)
    assert raised.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def create_at_once(broker: Broker, name: str) -> None:
    """After a deletion was answered. Kafka answers before its controller is done with it; ours is done by then."""
    for _ in range(1 if broker.kind == "pylog" else 1000):
        try:
            return confluent.create_topic(broker.bootstrap, name)
        except KafkaException as error:
            last = error
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    raise last


def test_a_topic_made_again_is_empty(broker: Broker, closing: Closing, fresh_name: Callable[[str], str]) -> None:
    name = fresh_name("again")
    for round_number in range(3):
        create_at_once(broker, name)
        confluent.produce_all(broker.bootstrap, name, 0, [b"round %d" % round_number])
        consumer = closing(confluent.assigned_consumer(broker.bootstrap, name, 1))
        assert [message.value() for message in confluent.take(consumer, 1)] == [b"round %d" % round_number]
        confluent.delete_topics(broker.bootstrap, [name])


@pytest.mark.parametrize("name", ["", "a b", "..", "x" * 250])
def test_illegal_topic_names(broker: Broker, name: str) -> None:
    with pytest.raises((KafkaException, ValueError)) as raised:
        confluent.create_topic(broker.bootstrap, name)
    if isinstance(raised.value, KafkaException):
        assert raised.value.args[0].code() in (KafkaError.TOPIC_EXCEPTION, KafkaError._INVALID_ARG)


def test_delete_records_and_list_offsets(broker: Broker, closing: Closing, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    confluent.produce_all(broker.bootstrap, topic, 0, records.values(0, 100))
    admin = confluent.admin(broker.bootstrap)
    partition = TopicPartition(topic, 0)
    earliest = admin.list_offsets({partition: OffsetSpec.earliest()})[partition].result(30)
    latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(30)
    assert (earliest.offset, latest.offset) == (0, 100)
    admin.delete_records([TopicPartition(topic, 0, 60)])[TopicPartition(topic, 0, 60)].result(30)
    earliest = admin.list_offsets({partition: OffsetSpec.earliest()})[partition].result(30)
    assert earliest.offset == 60
    consumer = closing(confluent.assigned_consumer(broker.bootstrap, topic, 1))
    first = confluent.take(consumer, 1)[0]
    assert (first.offset(), first.value()) == (60, records.value(0, 60))


def test_the_cluster_describes_itself(broker: Broker) -> None:
    admin = confluent.admin(broker.bootstrap)
    found = admin.describe_cluster().result(30)
    assert [(node.host, node.port) for node in found.nodes] == [("127.0.0.1", broker.port)]
    assert found.controller is not None and len(found.cluster_id) == 22
