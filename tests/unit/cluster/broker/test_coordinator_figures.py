"""The groups of a broker as it tells them to whoever watches it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cluster.broker.broker import Broker
from cluster.broker.coordinators import Coordinators
from cluster.config import load
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.group_records import OffsetCommitted


@pytest.fixture
def coordinators() -> Coordinators:
    broker = SimpleNamespace(
        config=load(),
        broker_id=1,
        metadata=SimpleNamespace(topics={}),
        admin=SimpleNamespace(group_overrides=lambda group_id: {}),
        engine=SimpleNamespace(take_offsets=lambda timeout_ms, metadata_max_bytes: None),
    )
    return Coordinators(cast("Broker", broker))


def test_groups_of_shards_that_serve(coordinators: Coordinators) -> None:
    runtime = coordinators.runtime
    runtime.load_start(GroupKind.topic, 3, 0)
    fact = OffsetCommitted("g", "t", 0, 40, -1, "", 1, -1)
    key, value = GroupKind.encode(cast("GroupKind", None), fact)
    runtime.replay(GroupKind.topic, 3, key, value, 0)
    assert coordinators.all_groups() == []  # a shard that is being loaded has nothing to say yet
    runtime.load_done(GroupKind.topic, 3, 1)
    assert [group.group_id for group in coordinators.all_groups()] == ["g"]
    assert coordinators.all_transactions() == []
