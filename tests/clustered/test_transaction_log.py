"""Kafka's own dump tool finds in our `__transaction_state` what it found in Kafka's, after the same requests.

A broker of a cluster against Apache Kafka 3.9.1, batch by batch and byte by byte but for ids and times; a single node,
whose transaction version is that of Kafka 4, against 4.3.1. Our own `pylog log dump` says the same as 3.9.1's tool.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.log.decoders import decode_transaction_record
from pylog.dump import Dump, DumpOptions
from tests.golden.transaction_state.dumped import PEERS, SETTINGS, captured, dumped_by_kafka, live, logs, told
from tests.support import peers
from tests.support.brokers import PylogBroker
from tests.support.cluster import cluster
from tests.support.zookeeper import ZooKeeper

_ALONE = {
    "default_replication_factor": "1",
    "offsets_topic_replication_factor": "1",
    "min_insync_replicas": "1",
    **{name.replace(".", "_"): value for name, value in SETTINGS.items()},
}


def test_as_of_kafka_39(tmp_path: Path, ensemble: ZooKeeper) -> None:
    with cluster(tmp_path, ensemble.fresh(), "pylog", **_ALONE) as brokers:
        live(brokers[1], "39")
        assert brokers[1].stop() == 0
        data = brokers[1].data
    expected = captured("39")
    assert sum("payload:" in line for line in expected) > 30
    options = DumpOptions(decoder=decode_transaction_record)
    assert told("39", (line for path in logs(data) for line in Dump(str(path), options).lines())) == expected
    by_kafka("39", data, expected)


def test_as_of_kafka_43(tmp_path: Path) -> None:
    with PylogBroker(tmp_path / "broker", SETTINGS).start() as broker:
        live(broker, "43")
        assert broker.stop() == 0
    by_kafka("43", broker.data, captured("43"))


def by_kafka(name: str, data: Path, expected: list[str]) -> None:
    reason = peers.unavailable(PEERS[name])
    if reason is not None:
        pytest.skip(reason)
    assert told(name, dumped_by_kafka(name, data)) == expected
