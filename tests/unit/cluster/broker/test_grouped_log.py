"""One line for many partitions."""

from collections.abc import Callable

import pytest

from cluster.broker.grouped_log import NAMES_MAX, GroupedLog
from pylog import logger
from pylog.types import TopicPartition


def test_what_is_the_same_is_said_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(logger, "sink", lambda level, line: said.append((level, line)))
    inbox: list[Callable[[], None]] = []
    log = GroupedLog("Replicator broker=1", inbox.append)
    for index in range(NAMES_MAX + 1):
        log.info("ISR updated", TopicPartition("orders", index), isr=(1, 2))
    log.info("ISR updated", TopicPartition("events", 0), isr=(1, 3))
    log.warn("ISR updated", TopicPartition("events", 1), isr=(1, 3))
    assert said == [] and len(inbox) == 1
    inbox.pop()()
    names = ",".join(f"orders-{index}" for index in range(NAMES_MAX))
    assert said == [
        (logger.INFO, f"[Replicator broker=1] ISR updated partitions={NAMES_MAX + 1} names={names},... isr=(1, 2)"),
        (logger.INFO, "[Replicator broker=1] ISR updated partitions=1 names=events-0 isr=(1, 3)"),
        (logger.WARN, "[Replicator broker=1] ISR updated partitions=1 names=events-1 isr=(1, 3)"),
    ]
    log.info("ISR updated", TopicPartition("orders", 0), isr=(1, 2))
    inbox.pop()()
    assert len(said) == 4 and inbox == []
