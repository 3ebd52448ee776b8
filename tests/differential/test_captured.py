"""Our broker answers the sessions of tests/golden/differential as Apache Kafka 3.9.1 answered them, and the records of
their groups are what its dump tool showed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.differential.compare import comparable, differences, faults
from tests.differential.golden import SESSIONS, load
from tests.differential.oracle import SETTINGS, player
from tests.differential.written import dumped, written
from tests.support.brokers import PylogBroker

SHOWN = 8
#: So many steps at least are compared.
_STEPS = {"kafka39": 500, "groups39": 1_000}


@pytest.mark.parametrize("sort", SESSIONS)
def test_the_same_answers(tmp_path: Path, sort: str) -> None:
    found: list[str] = []
    steps = 0
    with PylogBroker(tmp_path / "broker", SETTINGS) as broker:
        broker.start()
        ours = player(broker)
        whole = []
        for captured in load(sort):
            answers = ours.play(captured.session, captured.prefix, captured.answers)
            count = comparable(captured.session, answers, captured.answers)
            steps += count
            if count == len(captured.session) and captured.records is not None:
                whole.append(captured)
            for at, difference in faults(captured.session, answers, captured.answers):
                found.append(f"{captured.prefix} step {at}: {difference}\n  {json.dumps(captured.session[at])[:600]}")
        assert broker.stop() == 0
        assert "Traceback" not in broker.log.read_text("utf-8"), "a handler failed"
    lines = dumped(broker.data)
    for captured in whole:
        records = written(lines, captured.prefix, ours.names[captured.prefix])
        for difference in differences({"api": "(records)"}, records, captured.records):
            found.append(f"{captured.prefix}: {difference}")
    assert steps > _STEPS[sort]
    assert not found, f"{len(found)} differences, the first of them:\n" + "\n".join(found[:SHOWN])
