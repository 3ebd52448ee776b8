"""What is told of groups, a row for each partition, as tests like to say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cluster.broker.metrics.lag import Lag


class Stand(NamedTuple):
    """Of a group in a partition."""

    group_id: str
    topic: str
    partition: int
    committed: int
    records: int | None
    seconds: float | None


def stands(told: Iterable[Lag]) -> list[Stand]:
    return [
        Stand(lag.group_id, topic, index, *figures)
        for lag in told
        for (topic, index), *figures in zip(lag.partitions, lag.committed, lag.records, lag.seconds, strict=True)
    ]
