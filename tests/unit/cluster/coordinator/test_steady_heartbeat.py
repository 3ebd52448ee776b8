"""A heartbeat that says nothing new takes a short way, and comes to what the long way comes to."""

from __future__ import annotations

import random

import pytest

from cluster.coordinator import consumer_heartbeat
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver

Request = m.ConsumerGroupHeartbeatRequest
STEPS = 150
KNOWN = {
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNRELEASED_INSTANCE_ID,
}
OFTEN = {"say": 50, "say all": 20, "own": 10, "late": 5, "leave": 3, "time": 15, "grow": 2, "host": 2}


class Members:
    """What three members say, one after the other, in an order that a seed gives."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        consumer = ConsumerConfig(assignment_interval_ms=seed % 2 * 2_000)
        config = GroupConfig(offsets_topic_partitions=1, consumer=consumer)
        self.driver = Driver(config)
        self.instance = "i" if seed % 4 == 0 else None  # of "c"
        self.epochs = dict.fromkeys("abc", 0)
        self.owned: dict[str, list[Request.TopicPartitions]] = {name: [] for name in "abc"}

    def step(self) -> None:
        name = self.chance.choice("abc")
        what = self.chance.choices(list(OFTEN), list(OFTEN.values()))[0]
        if what == "time":
            self.driver.advance(self.chance.choice([1, 3_000, 20_000]))
        elif what == "grow":
            self.driver.topics.put("t", min(9, self.driver.topics.counts["t"] + 1))
        else:
            self.say(name, what)

    def say(self, name: str, what: str) -> None:
        request = Request(group_id="g", member_id=name, member_epoch=self.epochs[name])
        if what == "leave":
            request.member_epoch = -1
        elif what == "late" and self.epochs[name] > 1:
            request.member_epoch -= 1
        elif what == "own" and self.epochs[name]:
            request.topic_partitions = self.owned[name]
        elif what == "say all" or not self.epochs[name]:
            request.rebalance_timeout_ms = self.chance.choice([5_000, 5_000, 5_000, 6_000])
            request.rack_id = self.chance.choice([None, None, "r", "s"])
            request.server_assignor = self.chance.choice([None, "uniform", "uniform", "range"])
            request.subscribed_topic_names = self.chance.choice([["t"], ["t"], ["t", "u"]])
            request.topic_partitions = self.owned[name] if self.epochs[name] else []
        if name == "c":
            request.instance_id = self.instance
        client = "another" if what == "host" else "c"
        answer = self.driver.ask(request, 1, m.ConsumerGroupHeartbeatResponse, client)
        if answer.error_code:
            assert answer.error_code in KNOWN
        gone = bool(answer.error_code) or what == "leave"
        self.epochs[name] = 0 if gone else answer.member_epoch
        if gone:
            self.owned[name] = []
        elif answer.assignment is not None:
            self.owned[name] = [
                Request.TopicPartitions(topic_id=each.topic_id, partitions=each.partitions)
                for each in answer.assignment.topic_partitions
            ]


@pytest.mark.interpreted
@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_long_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = Members(seed), Members(seed)
    is_steady, taken = consumer_heartbeat.is_steady, 0

    def counted(*arguments: object) -> bool:
        nonlocal taken
        steady = is_steady(*arguments)  # type: ignore[arg-type]
        taken += steady
        return steady

    for _ in range(STEPS):
        monkeypatch.setattr(consumer_heartbeat, "is_steady", counted)
        short.step()
        monkeypatch.setattr(consumer_heartbeat, "is_steady", lambda *_: False)
        long.step()
        assert short.driver.seen == long.driver.seen
        assert short.driver.timers == long.driver.timers
    assert taken > 0
