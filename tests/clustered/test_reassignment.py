"""A reassignment that is cancelled while it is under way, because its new replica does not catch up: what clients are
told, what the tree says and what is left of the new replica, as it was measured with three brokers of Apache Kafka
3.9.1."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka.admin import AdminClient, NewTopic
from kazoo.client import KazooClient

from cluster.broker.peer import Peer
from cluster.protocol.message import Message
from cluster.protocol.messages import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from tests.clustered.test_replication import consume, produce
from tests.support.brokers import Broker
from tests.support.cluster import Cluster, cluster
from tests.support.zookeeper import ZooKeeper

TOPIC = "moving"
TIMEOUT_S = 30
NO_REASSIGNMENT_IN_PROGRESS = 85
R = TypeVar("R", bound=Message)


def asked(brokers: Cluster, message: Message, answer: type[R]) -> R:
    """The controller's answer."""
    controller = brokers[brokers.controller_id()]
    with Peer(controller.host, controller.port, client_id="test", timeout_ms=TIMEOUT_S * 1000) as peer:
        return peer.request(message, answer)


def reassign(brokers: Cluster, target: list[int] | None) -> int:
    """The error of partition 0. None: cancel."""
    request = AlterPartitionReassignmentsRequest
    part = request.ReassignablePartition(partition_index=0, replicas=target)
    message = request(timeout_ms=15_000, topics=[request.ReassignableTopic(name=TOPIC, partitions=[part])])
    answer = asked(brokers, message, AlterPartitionReassignmentsResponse)
    assert answer.error_code == 0
    return int(answer.responses[0].partitions[0].error_code)


def under_way(brokers: Cluster) -> list[tuple[list[int], list[int], list[int]]]:
    """Replicas, those that are added and those that are removed."""
    message = ListPartitionReassignmentsRequest(timeout_ms=15_000, topics=None)
    answer = asked(brokers, message, ListPartitionReassignmentsResponse)
    parts = [part for topic in answer.topics for part in topic.partitions]
    return [(part.replicas, part.adding_replicas, part.removing_replicas) for part in parts]


def in_tree(brokers: Cluster) -> tuple[Any, ...]:
    """Replicas, adding, removing; leader epoch and ISR."""
    with contextlib.closing(KazooClient(brokers.connect)) as tree:
        tree.start(TIMEOUT_S)
        topic = json.loads(tree.get(f"/brokers/topics/{TOPIC}")[0])
        state = json.loads(tree.get(f"/brokers/topics/{TOPIC}/partitions/0/state")[0])
        tree.stop()
    return (
        topic["partitions"],
        topic["adding_replicas"],
        topic["removing_replicas"],
        state["leader_epoch"],
        state["isr"],
    )


@contextlib.contextmanager
def stopped(broker: Broker) -> Iterator[None]:
    """It answers nobody, and its session goes on."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def wait_without_log(broker: Broker) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (broker.data / f"{TOPIC}-0").exists():
        assert time.monotonic() < deadline, "the log of the cancelled replica is not removed"
        time.sleep(0.05)  # sleep: another process's own time, with no event that tells its end


def test_a_reassignment_is_cancelled_under_way(tmp_path: Path, ensemble: ZooKeeper) -> None:
    settings = {"zookeeper_session_timeout_ms": "12000", "min_insync_replicas": "1"}
    with cluster(tmp_path, ensemble.fresh(), "pylog", "pylog", "pylog", first=1, **settings) as brokers:
        admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
        new = NewTopic(TOPIC, num_partitions=1, replica_assignment=[[1, 2]])
        admin.create_topics([new], operation_timeout=TIMEOUT_S)[TOPIC].result(TIMEOUT_S)
        produce(brokers, TOPIC, 0, 100)
        assert in_tree(brokers) == ({"0": [1, 2]}, {}, {}, 0, [1, 2])
        with stopped(brokers[3]):
            assert reassign(brokers, [1, 3]) == 0
            assert under_way(brokers) == [([1, 3, 2], [3], [2])]
            assert in_tree(brokers) == ({"0": [1, 3, 2]}, {"0": [3]}, {"0": [2]}, 1, [1, 2])
            assert reassign(brokers, None) == 0
            assert under_way(brokers) == []
            assert in_tree(brokers) == ({"0": [1, 2]}, {}, {}, 2, [1, 2])
            assert reassign(brokers, None) == NO_REASSIGNMENT_IN_PROGRESS
        wait_without_log(brokers[3])
        produce(brokers, TOPIC, 100, 100)
        assert reassign(brokers, [1, 3]) == 0
        brokers.wait(lambda seen: sorted(seen.isrs[TOPIC][0]) == [1, 3], [TOPIC])
        wait_without_log(brokers[2])
        assert in_tree(brokers) == ({"0": [1, 3]}, {}, {}, 5, [1, 3])
        assert consume(brokers, TOPIC, 200, "readers") == list(range(200))
