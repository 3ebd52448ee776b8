"""Replicas are placed as Kafka 3.9.1 places them, with and without racks."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.controller.assignment import assign_replicas, start_index_to_grow
from cluster.model import Broker, BrokerId
from pylog.errors import KafkaError

GOLDEN = Path(__file__).parents[3] / "golden" / "controller" / "assignment.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def brokers(*pairs: tuple[int, str | None]) -> list[Broker]:
    return [Broker(BrokerId(number), (), rack) for number, rack in pairs]


@pytest.mark.parametrize("case", CASES)
def test_like_kafka(case: dict[str, object]) -> None:
    placed = assign_replicas(
        brokers(*case["brokers"]),  # type: ignore[misc]
        partitions=case["partitions"],  # type: ignore[arg-type]
        replication_factor=case["replication_factor"],  # type: ignore[arg-type]
        start_index=case["start_index"],  # type: ignore[arg-type]
        first_partition=case["first_partition"],  # type: ignore[arg-type]
    )
    assert [list(replicas) for replicas in placed] == case["assignment"]


def test_some_racks_unknown_means_no_racks() -> None:
    mixed = brokers((1, "a"), (2, None), (3, "a"))
    plain = brokers((1, None), (2, None), (3, None))
    arguments = {"partitions": 7, "replication_factor": 2, "start_index": 2}
    assert assign_replicas(mixed, **arguments) == assign_replicas(plain, **arguments)


@given(
    racks=st.lists(st.sampled_from("abcd"), min_size=1, max_size=9),
    partitions=st.integers(1, 40),
    factor=st.integers(1, 9),
    start=st.integers(0, 1000),
)
def test_replicas_are_distinct_and_spread(racks: list[str], partitions: int, factor: int, start: int) -> None:
    cluster = brokers(*enumerate(racks))
    if factor > len(racks):
        with pytest.raises(KafkaError):
            assign_replicas(cluster, partitions=partitions, replication_factor=factor, start_index=start)
        return
    placed = assign_replicas(cluster, partitions=partitions, replication_factor=factor, start_index=start)
    for replicas in placed:
        assert len(set(replicas)) == factor
        assert len({racks[replica] for replica in replicas}) == min(factor, len(set(racks)))
    leaders = [replicas[0] for replicas in placed]
    counts = [leaders.count(number) for number in range(len(racks))]
    assert max(counts) - min(counts) <= 1, "leaders go round"


def test_where_growth_begins() -> None:
    cluster = brokers((1, None), (3, None), (5, None))
    assert [start_index_to_grow(cluster, first) for first in (1, 2, 3, 5, 6)] == [0, 1, 1, 2, 0]
