"""Kill -9 under load, twenty times: what was acknowledged is there, once, in order.

Two idempotent producers of different make write with acks=all while the broker is killed and started again. Afterwards
every partition is read from its start and held against what the producers were told.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import brokers, confluent
from tests.support.brokers import Broker
from tests.support.load import AiokafkaLoad, ConfluentLoad, Load, check_partition

# Kafka takes seconds to come back, and is only here to prove the test itself.
ROUNDS = int(os.environ.get("PYLOG_KILL_ROUNDS", "20" if brokers.chosen_kind() == "pylog" else "3"))
PARTITIONS = 4
SEED = int(os.environ.get("PYLOG_KILL_SEED", "1"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    # Small segments, so that kills also meet rolls, and indexes and snapshots of every age.
    settings = {
        "log.segment.bytes": "1048576",
        "log.index.interval.bytes": "1024",
        "auto.create.topics.enable": "false",
    }
    with brokers.start_broker(tmp_path, settings) as running:
        yield running
    brokers.remove(tmp_path)


@pytest.mark.timeout(180)
def test_acknowledged_records_survive_kills(broker: Broker) -> None:
    topic = "kill"
    confluent.create_topic(broker.bootstrap, topic, PARTITIONS)
    loads: list[Load] = [
        ConfluentLoad(broker.bootstrap, topic, [0, 1]),
        AiokafkaLoad(broker.bootstrap, topic, [2, 3]),
    ]
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    for load in loads:
        load.start()
    for _ in range(ROUNDS):
        for load in loads:
            load.wait_acknowledged(chance.randrange(100, 3000))
        broker.kill()
        broker.start()
    for load in loads:
        load.wait_acknowledged(1000)
        load.finish()
        assert not load.failed, load.failed[:5]
    for load in loads:
        for partition in load.partitions:
            check_partition(broker.bootstrap, topic, partition, load)
    broker.stop()
