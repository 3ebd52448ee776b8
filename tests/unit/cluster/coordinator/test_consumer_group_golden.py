"""Groups of the consumer protocol: the same answers and the same records as Apache Kafka's for the same requests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.coordinator.consumer_regex import Resolved, matching
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_records import decode
from cluster.effects import Shard
from cluster.protocol.message import Message
from tests.golden.consumer_group.scripts import SCRIPTS, TOPICS
from tests.golden.consumer_group.shown import Shown
from tests.transcripts.group_driver import OFFSETS, Driver

GOLDEN = Path(__file__).parents[3] / "golden" / "consumer_group" / "kafka43.jsonl.gz"
with gzip.open(GOLDEN, "rt") as lines:
    STEPS = [json.loads(line) for line in lines]


class Ours(Driver):
    def __init__(self) -> None:
        consumer = ConsumerConfig(assignment_interval_ms=0)
        super().__init__(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0, consumer=consumer))
        self.topics.counts = {OFFSETS: 1} | TOPICS
        self.read = 0

    def _new_id(self) -> str:
        self.ids += 1
        return f"an-id-that-was-made-here-{self.ids}"

    def id(self, topic: str) -> bytes:
        found = self.topics.topic_id(topic)
        assert found is not None
        return found

    def facts(self) -> list[object]:
        log = self.logs.get(Shard(OFFSETS, 0), [])
        found, self.read = log[self.read :], len(log)
        return [decode(key, value) for key, value in found]

    def find_out(self) -> None:
        for ask in self.take_questions():
            found = matching(ask.question.regexes, list(TOPICS))  # type: ignore[attr-defined]
            self.tell(ask, Resolved(found, self.topics.version(), self.now_ms))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_as_kafka(name: str) -> None:
    ours = Ours()
    shown = Shown({ours.id(topic): topic for topic in TOPICS})
    script = SCRIPTS[name](ours)
    answer: Any = None
    for expected in (step for step in STEPS if step["script"] == name):
        step = script.send(answer)
        ours.now_ms += 10
        answer = ours.ask(step.request, step.version, Message, client_id="raw")
        said = shown.answer(answer)
        if step.settles:
            ours.find_out()
        facts = shown.facts(ours.facts())
        assert (step.label, said, facts) == (expected["step"], expected["answer"], expected["facts"])
    with pytest.raises(StopIteration):
        script.send(answer)


def test_all_scripts_were_said_to_kafka() -> None:
    assert {step["script"] for step in STEPS} == set(SCRIPTS)
