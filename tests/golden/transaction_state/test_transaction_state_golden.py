"""What Apache Kafka answered to a transaction coordinator's clients, and what it wrote down, is what ours does.

plain: Kafka 3.9.1 with its ZooKeeper mode, which has transaction version 0. bumping: Kafka 4.3.1 with version 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_records import TransactionStored, decode, encode
from cluster.coordinator.transaction_state import COMPLETE_ABORT, COMPLETE_COMMIT, name_of
from cluster.effects import Shard
from cluster.protocol.message import Message
from tests.golden.transaction_state.script import LAST_EPOCH, Script
from tests.transcripts.transaction_driver import STATE, Driver

HERE = Path(__file__).parent
VERSIONS = {"plain": 0, "bumping": 2}
ABORT_INTERVAL_MS = 100
PATIENCE_MS = 10_000
COMPLETE = (COMPLETE_ABORT, COMPLETE_COMMIT)
Response = TypeVar("Response", bound=Message)

# Kafka 3.9.1 forgets in memory to forget when the last transaction began; on disk it does not, nor does 4.3.1.
BEGUN_AND_EMPTY = (" Empty ", " begun", " -")


def captured(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()]


class Ours:
    def __init__(self, version: int) -> None:
        self.driver = Driver(TransactionConfig(abort_interval_ms=ABORT_INTERVAL_MS, transaction_version=version))
        self.flexible = version > 0

    def ask(self, request: Message, version: int, kind: type[Response]) -> Response:
        self.driver.advance(1)
        return self.driver.ask(request, version, kind)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_ms = self.driver.now_ms + PATIENCE_MS
        while not condition():
            assert self.driver.now_ms < deadline_ms
            self.driver.advance(ABORT_INTERVAL_MS)

    def exhaust(self, init: Callable[[], tuple[int, int]], transactional_id: str) -> None:
        """As if by many: what the last one leaves is in the log."""
        log = self.driver.logs[Shard(STATE, 0)]
        stored = [fact for fact in self.driver.stored() if fact and fact.transactional_id == transactional_id][-1]
        assert isinstance(stored, TransactionStored)
        last = stored._replace(epoch=LAST_EPOCH, previous_producer_id=stored.producer_id)
        log.append(encode(last, flexible=self.flexible))
        self.driver.restart()


@pytest.mark.parametrize("name", VERSIONS)
def test_the_answers_are_kafkas(name: str) -> None:
    script = Script(Ours(VERSIONS[name]))
    wrong = []
    for entry in captured(name):
        if "say" not in entry:
            break
        told = script.say(entry["say"])
        if told != entry["told"] and told.replace(*BEGUN_AND_EMPTY[1:]) != _forgotten(entry["told"]):
            wrong.append(f"{entry['say']}\n  Kafka: {entry['told']}\n  ours:  {told}")
    assert not wrong, "\n".join(wrong)


def _forgotten(told: str) -> str:
    return told.replace(" begun", " -") if BEGUN_AND_EMPTY[0] in told else told


@pytest.mark.parametrize("name", VERSIONS)
def test_the_records_are_kafkas(name: str) -> None:
    """In their order; producer ids by their first appearance, times by what they have to do with each other."""
    ours = Ours(VERSIONS[name])
    script = Script(ours)
    theirs: list[tuple[bytes, bytes | None]] = []
    for entry in captured(name):
        if "say" in entry:
            script.say(entry["say"])
        else:
            theirs.append(raw(entry))
    assert told(ours.driver.logs[Shard(STATE, 0)]) == told(theirs)


@pytest.mark.parametrize("name", VERSIONS)
def test_kafkas_bytes_survive_decode_and_encode(name: str) -> None:
    records = [raw(entry) for entry in captured(name) if "key" in entry]
    assert len(records) > 40
    for key, value in records:
        fact = decode(key, value)
        assert fact is not None
        assert encode(fact, flexible=VERSIONS[name] > 0) == (key, value)


def raw(entry: dict[str, Any]) -> tuple[bytes, bytes | None]:
    return bytes.fromhex(entry["key"]), None if entry["value"] is None else bytes.fromhex(entry["value"])


def told(records: list[tuple[bytes, bytes | None]]) -> list[str]:
    names = {-1: "-"}
    lines = []
    for key, value in records:
        fact = decode(key, value)
        assert isinstance(fact, TransactionStored)
        ids = [
            names.setdefault(each, f"P{len(names) - 1}")
            for each in (fact.producer_id, fact.previous_producer_id, fact.next_producer_id)
        ]
        begins = (
            fact.start_ms == fact.update_ms and fact.state not in COMPLETE
        )  # which may come in the same millisecond
        start = "-" if fact.start_ms == -1 else "now" if begins else "before"
        partitions = " ".join(sorted(f"{topic}-{number}" for topic, number in fact.partitions))
        lines.append(
            f"{fact.transactional_id} {name_of(fact.state)} {'/'.join(ids)} {fact.epoch} {fact.timeout_ms} {start}"
            f" version={fact.client_version} {partitions}".rstrip()
        )
    return lines
