"""Three brokers whose figures are read: each tells of what it leads and coordinates, so sums over all are right."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.group_lag import partition_lags
from cluster.cli.group_view import describe_groups
from tests.clustered.test_replication import create
from tests.support.cluster import Cluster
from tests.support.ports import free_port
from tests.support.zookeeper import ZooKeeper

GROUP = "kitchen"
PARTITIONS = 3
RECORDS = 20
READ = 15
TIMEOUT_S = 30
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(port: int) -> Samples:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def until(ports: list[int], condition: Callable[[list[Samples]], bool]) -> list[Samples]:
    """Read the figures of these brokers until the condition holds of them."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(seen := [scrape(port) for port in ports]):
        assert time.monotonic() < deadline, seen
    return seen


def total(seen: list[Samples], name: str) -> float:
    return sum(each[name, ()] for each in seen)


def test_figures_of_a_cluster(tmp_path: Path, ensemble: ZooKeeper) -> None:
    brokers = Cluster(tmp_path, ensemble.fresh(), ("pylog",) * 3, {"offsets.topic.num.partitions": "1"})
    ports = {}
    for broker_id, broker in brokers.brokers.items():
        ports[broker_id] = free_port()
        broker.settings["pylog.metrics.listener"] = f"127.0.0.1:{ports[broker_id]}"
    try:
        brokers.start()
        create(brokers, "orders", partitions=PARTITIONS)
        brokers.wait_in_sync("orders")
        leaders = {brokers.leader("orders", partition) for partition in range(PARTITIONS)}
        assert len(leaders) == 3
        producer = Producer({"bootstrap.servers": brokers.bootstrap, "acks": "all"})
        for number in range(PARTITIONS * RECORDS):
            producer.produce("orders", b"coffee", partition=number % PARTITIONS)
        assert producer.flush(TIMEOUT_S) == 0
        consumer = Consumer({"bootstrap.servers": brokers.bootstrap, "group.id": GROUP})
        offsets = [TopicPartition("orders", partition, READ) for partition in range(PARTITIONS)]
        consumer.commit(offsets=offsets, asynchronous=False)
        consumer.close()
        in_sync = "kafka_server_replicamanager_underreplicatedpartitions"
        seen = until(list(ports.values()), lambda seen: total(seen, in_sync) == 0)
        assert total(seen, "kafka_controller_kafkacontroller_activecontrollercount") == 1
        assert total(seen, "kafka_controller_kafkacontroller_globalpartitioncount") == PARTITIONS + 1
        assert total(seen, "kafka_controller_kafkacontroller_activebrokercount") == 3
        assert total(seen, "kafka_server_replicamanager_leadercount") == PARTITIONS + 1
        assert total(seen, "kafka_server_replicamanager_partitioncount") == 3 * (PARTITIONS + 1)
        assert total(seen, "kafka_server_brokertopicmetrics_messagesin_total") == PARTITIONS * RECORDS
        given = total(seen, "kafka_server_brokertopicmetrics_bytesin_total")
        until(
            list(ports.values()),
            lambda seen: total(seen, "kafka_server_brokertopicmetrics_replicationbytesin_total") >= 2 * given > 0,
        )
        lag_is_what_the_command_says(brokers, list(ports.values()))

        lost = next(broker_id for broker_id in ports if broker_id != brokers.coordinator(GROUP, 0))
        brokers[lost].kill()
        left = [port for broker_id, port in ports.items() if broker_id != lost]
        seen = until(left, lambda seen: total(seen, in_sync) == PARTITIONS + 1)
        until(left, lambda seen: total(seen, "kafka_controller_kafkacontroller_activebrokercount") == 2)
        lag_is_what_the_command_says(brokers, left)
        brokers[lost].start()
        seen = until(list(ports.values()), lambda seen: total(seen, in_sync) == 0)
        assert total(seen, "kafka_server_replicamanager_isrexpands_total") >= PARTITIONS + 1
    finally:
        brokers.close()


def lag_is_what_the_command_says(brokers: Cluster, ports: list[int]) -> None:
    """The coordinator tells it, and nobody else, wherever the partitions are led."""
    with ClusterClient(parse_addresses(brokers.bootstrap), timeout_ms=TIMEOUT_S * 1000) as client:
        lags = partition_lags(client, describe_groups(client, [GROUP]))[GROUP]
    assert [lag.records for lag in lags] == [RECORDS - READ] * PARTITIONS
    told: Samples = {}
    for samples in [scrape(port) for port in ports]:
        of_groups = {key: value for key, value in samples.items() if key[0].startswith("pylog_group_lag_")}
        assert not told or not of_groups
        told |= of_groups
    for lag in lags:
        which = (("group", GROUP), ("topic", "orders"), ("partition", str(lag.partition.partition)))
        assert told["pylog_group_lag_records", which] == lag.records
        assert lag.seconds is not None
        assert abs(told["pylog_group_lag_seconds", which] - lag.seconds) < TIMEOUT_S
