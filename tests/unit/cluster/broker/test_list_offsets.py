"""ListOffsets at a leader that was just elected: it does not tell a high watermark older than its predecessor's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.broker.apis import ReplyTo, Request
from cluster.broker.handlers.offsets import EARLIEST, HANDLERS, LATEST
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode

NEWER_THAN_ALL = 5_000


def ask(timestamp: int, version: int, *, high_watermark: int, replica_id: int = -1) -> Any:
    """Of a leader in epoch 7, whose log ended at 100 when it was elected and ends at 120."""
    partition = SimpleNamespace(
        leader_epoch=7,
        info=lambda: SimpleNamespace(
            high_watermark=high_watermark, last_stable_offset=high_watermark, log_end_offset=120, log_start_offset=0
        ),
        source=SimpleNamespace(epochs=lambda: [(3, 0), (7, 100)]),
        log=SimpleNamespace(
            offset_for_timestamp=lambda timestamp, end: None,
            max_timestamp=lambda: SimpleNamespace(offset=119, timestamp=9, epoch=7),
        ),
    )
    broker: Any = SimpleNamespace(replicas=SimpleNamespace(leader=lambda topic, index, any_replica: partition))
    part = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    topic = m.ListOffsetsRequest.ListOffsetsTopic(name="orders", partitions=[part])
    message = m.ListOffsetsRequest(replica_id=replica_id, topics=[topic])
    to = ReplyTo(0, 0, 0, int(ApiKey.LIST_OFFSETS), version, 0)
    answer: Any = HANDLERS[ApiKey.LIST_OFFSETS].serve(broker, Request(to, version, None, 0, message))
    return answer.topics[0].partitions[0]


@pytest.mark.parametrize("timestamp", [LATEST, NEWER_THAN_ALL])
@pytest.mark.parametrize(
    ("version", "code"), [(9, ErrorCode.OFFSET_NOT_AVAILABLE), (4, ErrorCode.LEADER_NOT_AVAILABLE)]
)
def test_the_end_is_not_told_while_it_is_older_than_the_epoch(timestamp: int, version: int, code: ErrorCode) -> None:
    assert ask(timestamp, version, high_watermark=99).error_code == code


def test_from_the_epochs_start_on_it_is() -> None:
    assert ask(LATEST, 9, high_watermark=100).offset == 100
    assert ask(NEWER_THAN_ALL, 9, high_watermark=100).offset == -1


def test_the_beginning_is_told_always() -> None:
    assert ask(EARLIEST, 9, high_watermark=99).offset == 0


def test_a_follower_is_told_the_logs_end() -> None:
    assert ask(LATEST, 9, high_watermark=99, replica_id=2).offset == 120
