"""Our broker answers the sessions of tests/golden/differential as Apache Kafka 3.9.1 answered them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.differential.compare import faults
from tests.differential.golden import load
from tests.differential.oracle import SETTINGS, player
from tests.support.brokers import PylogBroker

SHOWN = 8


def test_the_same_answers(tmp_path: Path) -> None:
    found = []
    steps = 0
    with PylogBroker(tmp_path / "broker", SETTINGS) as broker:
        broker.start()
        ours = player(broker)
        for captured in load():
            answers = ours.play(captured.session, captured.prefix)
            steps += len(answers)
            for at, difference in faults(captured.session, answers, captured.answers):
                found.append(f"{captured.prefix} step {at}: {difference}\n  {json.dumps(captured.session[at])[:600]}")
        assert broker.stop() == 0
        assert "Traceback" not in broker.log.read_text("utf-8"), "a handler failed"
    assert steps > 500
    assert not found, f"{len(found)} differences, the first of them:\n" + "\n".join(found[:SHOWN])
