"""Apache Kafka's brokers and ours in one cluster: what one kind acknowledges is on the other, and each takes over from
the other as controller, leader and coordinator.

A running cluster of three Kafka brokers becomes one of ours, broker by broker and under load, and turns back again.
"""

from pathlib import Path

import pytest

from tests.clustered.live_group import LiveGroup
from tests.clustered.test_replication import consume, create, produce
from tests.support import peers
from tests.support.cluster import cluster
from tests.support.load import ConfluentLoad, check_partition
from tests.support.zookeeper import ZooKeeper

PARTITIONS = 3
TOPIC = "rolling"


@pytest.fixture(autouse=True)
def _kafka() -> None:
    reason = peers.unavailable("kafka39")
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.timeout(300)
def test_a_cluster_of_kafka_becomes_ours_and_back(tmp_path: Path, ensemble: ZooKeeper) -> None:
    with cluster(tmp_path, ensemble.fresh(), "kafka39", "kafka39", "kafka39") as brokers:
        create(brokers, TOPIC, PARTITIONS)
        load = ConfluentLoad(brokers.bootstrap, TOPIC, list(range(PARTITIONS)))
        load.start()
        load.wait_acknowledged(1000)
        for kind in ("pylog", "kafka39"):
            for broker_id in (1, 2, 3):
                brokers.replace(broker_id, kind)
                brokers.wait_in_sync(TOPIC)
                load.wait_acknowledged(1000)
        load.finish()
        assert not load.failed, load.failed[:5]
        for partition in load.partitions:
            check_partition(brokers.bootstrap, TOPIC, partition, load)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kinds", [("pylog", "kafka39", "kafka39"), ("kafka39", "pylog", "pylog")])
def test_each_kind_takes_over_from_the_other(tmp_path: Path, ensemble: ZooKeeper, kinds: tuple[str, ...]) -> None:
    """The first of them is alone when it becomes the controller; the others, of the other kind, take over from it and
    from one another: leadership, coordinators and the controller's place, with every record and committed offset. A
    group that the first coordinates lives on with the other kind, and with the first again when that is back."""
    with cluster(tmp_path, ensemble.fresh(), *kinds, first=1) as brokers:
        assert brokers.controller_id() == 1
        create(brokers, "orders")
        group = LiveGroup(brokers, on=1)
        been: set[str] = set()
        moved: list[tuple[str, str]] = []
        total = 0
        for _ in range(2):
            produce(brokers, "orders", total, 500)
            assert sorted(consume(brokers, "orders", 500, "readers")) == list(range(total, total + 500))
            total += 500
            controller = brokers.controller_id()
            coordinator = group.coordinator()
            brokers[controller].kill()
            group.check()
            group.restart_static()
            if coordinator == controller:
                moved.append((brokers[coordinator].kind, brokers[group.coordinator()].kind))
            produce(brokers, "orders", total, 500)
            assert sorted(consume(brokers, "orders", 500, "readers")) == list(range(total, total + 500))
            total += 500
            been.add(brokers[brokers.controller_id()].kind)
            brokers[controller].start()
            brokers.wait_in_sync("orders")
        assert kinds[1] in been
        assert kinds[:2] in moved
        assert sorted(consume(brokers, "orders", total, "afresh")) == list(range(total))
