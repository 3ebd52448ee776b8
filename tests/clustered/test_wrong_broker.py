"""Clients whose partition has moved to another broker go there by what the old one tells them (KIP-951)."""

import logging
import re
import time
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cluster.broker.peer import Peer
from cluster.protocol.messages import AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse
from tests.support.cluster import Cluster, cluster
from tests.support.zookeeper import ZooKeeper

TOPIC = "moving"
TIMEOUT_S = 30
#: librdkafka says so when it takes a leader from an answer to Produce or Fetch, and only then.
TOLD = {"debug": "metadata"}
TAKEN = re.compile(r"METADATAUPDATE.* moving.*\[0\]: updated with leader (\d+) and epoch (\d+)")


class Leaders(logging.Handler):
    """The leaders that a client took from answers, each with its epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[int, int]] = []
        self.logger = logging.Logger("client", logging.DEBUG)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        found = TAKEN.search(record.getMessage())
        if found is not None:
            self.taken.append((int(found[1]), int(found[2])))

    def wait(self, client: Producer | Consumer, leader: int) -> None:
        """What is logged comes with polling."""
        deadline = time.monotonic() + TIMEOUT_S
        while not any(each == leader for each, _ in self.taken):
            assert time.monotonic() < deadline, f"leader {leader} was not taken from an answer: {self.taken}"
            client.poll(0.05)


def move(brokers: Cluster, target: list[int]) -> None:
    """To these replicas alone, in the eyes of all brokers."""
    request = AlterPartitionReassignmentsRequest
    part = request.ReassignablePartition(partition_index=0, replicas=target)
    message = request(timeout_ms=15_000, topics=[request.ReassignableTopic(name=TOPIC, partitions=[part])])
    controller = brokers[brokers.controller_id()]
    with Peer(controller.host, controller.port, client_id="test", timeout_ms=15_000) as peer:
        answer = peer.request(message, AlterPartitionReassignmentsResponse)
        assert (answer.error_code, answer.responses[0].partitions[0].error_code) == (0, 0)
    for each in brokers.brokers.values():
        brokers.wait(lambda seen: seen.isrs.get(TOPIC, {}).get(0) == target, [TOPIC], asked=each)
        brokers.wait(lambda seen: seen.topics[TOPIC][1].get(0) == target[0], [TOPIC], asked=each)


def produce(producer: Producer, first: int, count: int) -> None:
    failed: list[object] = []

    def told(error: object, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for number in range(first, first + count):
        producer.produce(TOPIC, str(number), partition=0, on_delivery=told)
    assert producer.flush(TIMEOUT_S) == 0 and not failed, failed


def consume(consumer: Consumer, count: int) -> list[int]:
    values: list[int] = []
    while len(values) < count:
        found = consumer.consume(count - len(values), timeout=TIMEOUT_S)
        assert found, f"only {len(values)} of {count} records came"
        values += [int(each.value() or b"") for each in found if each.error() is None]
    return values


def test_clients_are_sent_to_the_new_leader(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """The old leader has no replica any more when they ask it."""
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog", min_insync_replicas="1") as brokers:
        admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
        new = NewTopic(TOPIC, num_partitions=1, replica_assignment=[[1, 2]])
        admin.create_topics([new], operation_timeout=TIMEOUT_S)[TOPIC].result(TIMEOUT_S)
        writing, reading = Leaders(), Leaders()
        settings = {"bootstrap.servers": brokers.bootstrap, **TOLD}
        producer = Producer(settings, logger=writing.logger)
        consumer = Consumer({**settings, "group.id": "unused"}, logger=reading.logger)
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        try:
            produce(producer, 0, 10)
            assert consume(consumer, 10) == list(range(10))
            move(brokers, [3])
            produce(producer, 10, 10)
            assert consume(consumer, 10) == list(range(10, 20))
            writing.wait(producer, 3)
            reading.wait(consumer, 3)
        finally:
            consumer.close()
