"""Our broker answers the sessions of tests/golden/differential as Apache Kafka 3.9.1 or 4.3.1 answered them, and the
records of their groups are what its dump tool showed: of ours too, and `pylog log dump` says the same as it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.differential.compare import comparable, differences, faults
from tests.differential.golden import OF_GROUPS, SESSIONS, Captured, load
from tests.differential.normal import Names
from tests.differential.oracle import player
from tests.differential.written import dumped, dumped_by_kafka, written
from tests.support import peers
from tests.support.brokers import PylogBroker

SHOWN = 8
#: So many steps at least are compared.
_STEPS = {
    "kafka39": 500,
    "groups39": 1_000,
    "offsets39": 350,
    "transactions39": 350,
    "transactions43": 350,
    "consumers43": 400,
}
#: Kafka's tool is shown what these left: Java takes longer than all the rest.
_DUMPED = ("kafka39", "groups39")


class Played(NamedTuple):
    """`whole`: the sessions that were compared to their end, and whose records are kept; with the names in ours."""

    sort: str
    data: Path
    found: list[str]
    steps: int
    whole: list[tuple[Captured, Names]]


@pytest.fixture(scope="module", params=SESSIONS)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    sort: str = request.param
    found: list[str] = []
    steps = 0
    whole: list[tuple[Captured, Names]] = []
    _, _, oracle, settings = SESSIONS[sort]
    with PylogBroker(tmp_path_factory.mktemp("sessions") / "broker", settings) as broker:
        broker.start()
        ours = player(broker)
        for captured in load(sort):
            answers = ours.play(captured.session, captured.prefix, captured.answers)
            count = comparable(captured.session, answers, captured.answers)
            steps += count
            if count == len(captured.session) and captured.records is not None:
                whole.append((captured, ours.names[captured.prefix]))
            for at, difference in faults(captured.session, answers, captured.answers, oracle):
                found.append(f"{captured.prefix} step {at}: {difference}\n  {json.dumps(captured.session[at])[:600]}")
        assert broker.stop() == 0
        assert "Traceback" not in broker.log.read_text("utf-8"), "a handler failed"
    yield Played(sort, broker.data, found, steps, whole)


def test_the_same_answers(played: Played) -> None:
    assert played.steps > _STEPS[played.sort]
    assert not played.found, _shown(played.found)


def test_the_same_records(played: Played) -> None:
    if played.sort not in OF_GROUPS:
        assert not played.whole, "no records are kept of these"
        return
    assert played.whole
    _compare(played, dumped(played.data))


def test_kafkas_dump_tool_says_so_of_ours(played: Played) -> None:
    reason = peers.unavailable("kafka39")
    if reason is not None:
        pytest.skip(reason)
    if played.sort not in _DUMPED:
        return
    lines = dumped_by_kafka(played.data)
    assert lines == dumped(played.data)
    _compare(played, lines)


def _compare(played: Played, lines: list[str]) -> None:
    found = [
        f"{captured.prefix}: {difference}"
        for captured, names in played.whole
        for difference in differences({"api": "(records)"}, written(lines, captured.prefix, names), captured.records)
    ]
    assert not found, _shown(found)


def _shown(found: list[str]) -> str:
    return f"{len(found)} differences, the first of them:\n" + "\n".join(found[:SHOWN])
