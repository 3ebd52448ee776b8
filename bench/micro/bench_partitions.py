"""A topic of a thousand partitions, step by step: its nodes in the tree, its logs, the data plane. Per thousand.

What all of it costs a client, and a start, says bench/profiles/partitions.py.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.metadata import paths
from cluster.metadata.local import LocalStore
from cluster.metadata.startup import prepare_tree
from cluster.metadata.store import Op
from cluster.metadata.writes import operations
from cluster.model import LeaderAndIsr, PartitionAssignment, PutPartitionState, PutTopic, TopicDescription
from pylog._engine import Engine, Hosting
from pylog._native import Sys
from pylog.clock import SystemClock
from pylog.config import LogConfig
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.types import TopicPartition
from tests.unit.pylog.engine_client import CONFIG, LEADER

COUNT = 1000
TOPIC_ID = bytes(range(16))
ROUNDS = 5

numbers = itertools.count()


def fresh() -> list[TopicPartition]:
    name = f"t{next(numbers)}"
    return [TopicPartition(name, index) for index in range(COUNT)]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[LogManager]:
    system = Sys()
    config = LogConfig(file_delete_delay_ms=1 << 40)  # removing the files is another matter
    opened = LogManager(
        LogManagerConfig((str(tmp_path),)), sys=system, clock=SystemClock(), config_of=lambda topic: config
    )
    opened.load()
    yield opened
    opened.shutdown(clean=False)
    system.close()


def made(manager: LogManager, partitions: list[TopicPartition]) -> list[Log]:
    return [log for log in manager.create_all(partitions, TOPIC_ID) if isinstance(log, Log)]


def bench_create_logs(benchmark: Any, manager: LogManager) -> None:
    def setup() -> tuple[tuple[list[TopicPartition], bytes], dict[str, Any]]:
        manager.delete_all([log.partition for log in manager.logs()])
        return (fresh(), TOPIC_ID), {}

    benchmark.pedantic(manager.create_all, setup=setup, rounds=ROUNDS)


def bench_delete_logs(benchmark: Any, manager: LogManager) -> None:
    def setup() -> tuple[tuple[list[TopicPartition]], dict[str, Any]]:
        partitions = fresh()
        assert len(made(manager, partitions)) == COUNT
        return (partitions,), {}

    benchmark.pedantic(manager.delete_all, setup=setup, rounds=ROUNDS)


def bench_host_and_give_back(benchmark: Any, manager: LogManager) -> None:
    """While the reactor runs."""
    system = Sys()
    engine = Engine(system, CONFIG)
    engine.start()
    logs = made(manager, fresh())
    hostings = [Hosting("t", TOPIC_ID, log.partition.partition, log.native, LEADER) for log in logs]

    def there_and_back() -> None:
        hosted = engine.add_partitions(hostings)
        engine.remove_partitions([number for number in hosted if isinstance(number, int)], 3)

    benchmark.pedantic(there_and_back, rounds=ROUNDS, warmup_rounds=1)
    engine.close()
    system.close()


def bench_write_states(benchmark: Any, tmp_path: Path) -> None:
    """One durable transaction with the topic and the states of its partitions."""
    store = LocalStore(os.path.join(tmp_path, "metadata.db"), lambda: 0)
    prepare_tree(store, "id")
    store.create(paths.CONTROLLER_EPOCH, b"1")
    state = LeaderAndIsr(1, 0, (1,), 1)

    def setup() -> tuple[tuple[list[Op]], dict[str, Any]]:
        name = f"t{next(numbers)}"
        description = TopicDescription(name, TOPIC_ID, (PartitionAssignment((1,)),) * COUNT)
        states = (PutPartitionState(name, index, state) for index in range(COUNT))
        return (operations([PutTopic(description, is_new=True), *states], 0),), {}

    benchmark.pedantic(store.multi, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    store.close()
