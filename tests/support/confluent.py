"""Short forms of what many tests ask of confluent-kafka (librdkafka)."""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

ANSWER_TIMEOUT_S = 30


def admin(bootstrap: str) -> AdminClient:
    """Keep it while its answers are awaited: they fail when it goes."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 4})


def create_topic(
    bootstrap: str, name: str, partitions: int = 1, config: Mapping[str, str] | None = None, *, replicas: int = 1
) -> None:
    new = NewTopic(
        name, partitions, replicas, config={key.replace("_", "."): value for key, value in (config or {}).items()}
    )
    client = admin(bootstrap)
    client.create_topics([new], operation_timeout=ANSWER_TIMEOUT_S)[name].result(ANSWER_TIMEOUT_S)


def delete_topics(bootstrap: str, names: list[str]) -> None:
    client = admin(bootstrap)
    for future in client.delete_topics(names, operation_timeout=ANSWER_TIMEOUT_S).values():
        future.result(ANSWER_TIMEOUT_S)


def produce_all(bootstrap: str, topic: str, partition: int, values: Iterable[bytes], **config: str | int) -> None:
    """Every value acknowledged, or AssertionError."""
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", **config})
    for value in values:
        while True:
            try:
                producer.produce(topic, value, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(1)
        producer.poll(0)
    left = producer.flush(120)
    assert left == 0 and not failed, f"{left} records not acknowledged, errors {failed[:3]}"


def assigned_consumer(bootstrap: str, topic: str, partitions: int, **config: str | int | bool) -> Consumer:
    """A consumer without a group that reads every partition from its start."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, **config}
    consumer = Consumer({"auto.offset.reset": "earliest", **settings})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    return consumer


def take(consumer: Consumer, count: int, timeout_s: float = 30) -> list[Message]:
    """At least one record and up to `count` that are there already; none when none comes for `timeout_s`."""
    messages = consumer.consume(1, timeout_s)
    if messages and count > 1:
        messages += consumer.consume(count - 1, 0)
    for message in messages:
        error = message.error()
        assert error is None, error
    return messages
