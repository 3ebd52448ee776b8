"""Brokers in racks: replicas are spread over them, and a consumer that says its rack reads from the replica there
(KIP-392)."""

import json
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.clustered.test_replication import create, produce
from tests.support.cluster import Cluster
from tests.support.zookeeper import ZooKeeper

RECORDS = 500
TIMEOUT_S = 60
RACKS = {1: "red", 2: "green", 3: "blue"}
BY_RACK = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


def test_a_consumer_reads_from_the_replica_in_its_rack(tmp_path: Path, ensemble: ZooKeeper) -> None:
    settings = {"replica.selector.class": BY_RACK}
    brokers = Cluster(tmp_path, ensemble.fresh(), ("pylog", "pylog", "pylog"), settings)
    for broker_id, rack in RACKS.items():
        brokers[broker_id].settings["broker.rack"] = rack
    try:
        brokers.start()
        create(brokers, "orders", partitions=1)
        produce(brokers, "orders", 0, RECORDS)
        leader = brokers.leader("orders")
        other = next(broker_id for broker_id in RACKS if broker_id != leader)
        read_from, values = consume_in_rack(brokers, RACKS[other])
        assert values == list(range(RECORDS))
        assert read_from == other
        read_from, values = consume_in_rack(brokers, "yellow")
        assert values == list(range(RECORDS))
        assert read_from == leader
    finally:
        brokers.close()


def consume_in_rack(brokers: Cluster, rack: str) -> tuple[int, list[int]]:
    """Which broker was asked last, and what came."""
    asked: list[int] = []

    def told(text: str) -> None:
        partition = json.loads(text)["topics"].get("orders", {}).get("partitions", {}).get("0", {})
        asked.append(partition.get("broker", -1))

    consumer = Consumer(
        {
            "bootstrap.servers": brokers.bootstrap,
            "group.id": "unused",
            "client.rack": rack,
            "statistics.interval.ms": 50,
            "stats_cb": told,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition("orders", 0, 0)])
    values: list[int] = []
    try:
        while len(values) < RECORDS:
            found = consumer.consume(RECORDS - len(values), timeout=TIMEOUT_S)
            assert found, f"only {len(values)} records came"
            values += [int(each.value() or b"") for each in found if each.error() is None]
        asked.clear()
        while not asked:
            consumer.poll(0.1)
    finally:
        consumer.close()
    return asked[-1], values


def test_replicas_are_spread_over_racks(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """Four brokers in two racks: of two replicas one is in each."""
    brokers = Cluster(tmp_path, ensemble.fresh(), ("pylog",) * 4, {})
    racks = {1: "left", 2: "left", 3: "right", 4: "right"}
    for broker_id, rack in racks.items():
        brokers[broker_id].settings["broker.rack"] = rack
    try:
        brokers.start()
        create(brokers, "orders", partitions=8, factor=2)
        for asked in brokers.brokers.values():
            brokers.wait(lambda seen: len(seen.topics["orders"][1]) == 8, ["orders"], asked=asked)
        described = AdminClient({"bootstrap.servers": brokers.bootstrap}).list_topics("orders", timeout=TIMEOUT_S)
        placed = [partition.replicas for partition in described.topics["orders"].partitions.values()]
        assert len(placed) == 8
        assert all({racks[each] for each in replicas} == {"left", "right"} for replicas in placed), placed
    finally:
        brokers.close()
