"""Topics that go, or come again, while requests for them are on their way or wait.

Ours has finished a deletion, and a creation, when it answers; Apache Kafka is asked until it has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.protocol import messages as m
from tests.broker.batches import batch
from tests.broker.kafkas import is_kafka, settled
from tests.broker.raw import Raw
from tests.support.brokers import Broker, start_broker, unavailable

LONG_MS = 30_000
LAPS = 30


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    settings = {"auto.create.topics.enable": "false", "log.segment.delete.delay.ms": "0"}
    with start_broker(tmp_path_factory.mktemp("deletion"), settings) as started:
        yield started


#: While a leader comes or goes, Kafka's partitions are known of but not led.
NOT_LED = 6


def create(raw: Raw, name: str) -> int:
    return settled(lambda: create_once(raw, name), lambda code: code == 0)


def create_once(raw: Raw, name: str) -> int:
    topic = m.CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    return int(raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000), 5).topics[0].error_code)


def delete(raw: Raw, name: str) -> int:
    return int(raw.ask(m.DeleteTopicsRequest(topic_names=[name], timeout_ms=15_000), 4).responses[0].error_code)


def topic_id(raw: Raw, name: str) -> bytes:
    asked = [m.MetadataRequest.MetadataRequestTopic(name=name)]
    return bytes(raw.ask(m.MetadataRequest(topics=asked, allow_auto_topic_creation=False), 12).topics[0].topic_id)


def long_fetch(name: str = "", by_id: bytes = b"") -> Any:
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(partitions=[part])
    if by_id:
        topic.topic_id = by_id
    else:
        topic.topic = name
    return m.FetchRequest(max_wait_ms=LONG_MS, min_bytes=1, topics=[topic], session_epoch=-1)


def produce(raw: Raw, name: str) -> int:
    data = m.ProduceRequest.TopicProduceData(
        name=name, partition_data=[m.ProduceRequest.PartitionProduceData(index=0, records=batch())]
    )
    answer = raw.ask(m.ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), 8)
    return int(answer.responses[0].partition_responses[0].error_code)


def partition_error(answer: Any) -> int:
    return int(answer.error_code or answer.responses[0].partitions[0].error_code)


@pytest.mark.parametrize(("version", "errors"), [(11, {3, NOT_LED} if is_kafka() else {3}), (13, {3, 100})])
def test_a_fetch_that_waits_is_answered(broker: Broker, version: int, errors: set[int]) -> None:
    admin, waiting = Raw(broker.port), Raw(broker.port)
    assert create(admin, "parked") == 0
    by_id = topic_id(admin, "parked") if version >= 13 else b""
    waiting.send(long_fetch("parked", by_id), version)
    assert delete(admin, "parked") == 0
    answer = waiting.answer(m.FetchResponse, 1, version)
    assert partition_error(answer) in errors
    assert waiting.ask(m.MetadataRequest(topics=[]), 4).brokers, "the connection goes on"
    admin.close()
    waiting.close()


def test_a_name_is_free_when_its_deletion_is_answered(broker: Broker) -> None:
    admin = Raw(broker.port)
    ids = set()
    for _ in range(LAPS):
        assert create(admin, "again") == 0
        ids.add(settled(lambda: topic_id(admin, "again"), any))
        assert settled(lambda: produce(admin, "again"), lambda code: code == 0) == 0
        assert delete(admin, "again") == 0
        assert settled(lambda: produce(admin, "again"), lambda code: code == 3) == 3
    assert len(ids) == LAPS, "each has an id of its own"
    assert not settled(lambda: (Path(broker.data) / "again-0").exists(), lambda exists: not exists)
    admin.close()


def test_an_old_id_is_unknown_after_the_topic_came_again(broker: Broker) -> None:
    admin = Raw(broker.port)
    assert create(admin, "twin") == 0
    old = topic_id(admin, "twin")
    assert delete(admin, "twin") == 0
    assert create(admin, "twin") == 0
    assert partition_error(admin.ask(long_fetch(by_id=old), 13)) == 100
    assert delete(admin, "twin") == 0
    admin.close()


def test_producing_through_deletions(broker: Broker) -> None:
    """Two producers write to a topic that is deleted and made again all the time.

    Every answer is right or Kafka's error, and a third topic is not disturbed.
    """
    admin, calm = Raw(broker.port), Raw(broker.port)
    assert create(admin, "calm") == 0
    assert settled(lambda: produce(calm, "calm"), lambda code: code == 0) == 0
    stop = threading.Event()
    seen: list[set[int]] = [set(), set()]
    failures: list[BaseException] = []

    def writer(number: int) -> None:
        raw = Raw(broker.port)
        try:
            while not stop.is_set():
                seen[number].add(produce(raw, "storm"))
        except BaseException as error:
            failures.append(error)
        raw.close()

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for lap in range(LAPS):
            assert create(admin, "storm") == 0
            assert produce(calm, "calm") == 0, lap
            assert delete(admin, "storm") == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert seen[0] | seen[1] <= ({0, 3, NOT_LED} if is_kafka() else {0, 3})
    admin.close()
    calm.close()
