"""Kafka's own tools for groups and transactions print of ours what they printed of Apache Kafka of their version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.tools import TOOLS_SETTINGS, kept, shown, told
from tests.support import peers
from tests.support.brokers import PylogBroker


def test_they_print_the_same(tmp_path: Path) -> None:
    """Those of 4.3.1 too, but not here, for want of time: `python -m tests.differential.tools --kafka kafka4`."""
    kind = "kafka39"
    reason = peers.unavailable(kind)
    if reason is not None:
        pytest.skip(reason)
    with PylogBroker(tmp_path, TOOLS_SETTINGS) as broker:
        found = told(shown(broker.start(), kind), kept(kind))
        assert broker.stop() == 0
        assert "Traceback" not in broker.log.read_text("utf-8"), "a handler failed"
    assert not found, "\n".join(found)
