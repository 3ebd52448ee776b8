"""The figures of groups as a broker gives them: lag by the ends of what it leads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cluster.broker.broker import Broker
from cluster.broker.coordinators import Coordinators
from cluster.config import load
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.group_records import OffsetCommitted
from pylog.errors import ErrorCode, KafkaError


class Replicas:
    """Leads t-0, which ends at 100."""

    def leader(self, topic: str, index: int) -> SimpleNamespace:
        if (topic, index) != ("t", 0):
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return SimpleNamespace(info=lambda: SimpleNamespace(high_watermark=100))


@pytest.fixture
def coordinators() -> Coordinators:
    broker = SimpleNamespace(
        config=load(),
        broker_id=1,
        metadata=SimpleNamespace(topics={}),
        replicas=Replicas(),
        admin=SimpleNamespace(group_overrides=lambda group_id: {}),
    )
    return Coordinators(cast("Broker", broker))


def test_lag_of_what_is_led_here(coordinators: Coordinators) -> None:
    runtime = coordinators.runtime
    runtime.load_start(GroupKind.topic, 3, 0)
    for partition in range(2):
        fact = OffsetCommitted("g", "t", partition, 40, -1, "", 1, -1)
        key, value = GroupKind.encode(cast("GroupKind", None), fact)
        runtime.replay(GroupKind.topic, 3, key, value, partition)
    assert coordinators.figures().groups == {}  # a shard that is being loaded has nothing to say yet
    runtime.load_done(GroupKind.topic, 3, 1)
    told = coordinators.figures()
    assert (told.groups, told.offsets, told.lag) == ({"Empty": 1}, 2, {"g": 60})
