"""The journal of a group of the consumer protocol: a rebalance lasts from a new epoch until all have what is theirs."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.effects import Note
from cluster.protocol import messages as m
from cluster.protocol.records import encode_versioned
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, subscription

Heartbeat = m.ConsumerGroupHeartbeatRequest
Rebalance = m.DescribeGroupsResponse.Rebalance
LEAVES = -1


@pytest.fixture
def driver() -> Driver:
    consumer = ConsumerConfig(assignment_interval_ms=0, migration_policy="bidirectional")
    return Driver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0, consumer=consumer))


class Member:
    """A consumer that gives up and takes what it is told to."""

    def __init__(self, driver: Driver, name: str, *topics: str, timeout_ms: int = 5_000) -> None:
        self.driver = driver
        self.name = name
        self.topics = list(topics)
        self.timeout_ms = timeout_ms
        self.epoch = 0
        self.owned: list[Heartbeat.TopicPartitions] = []

    def beat(self, *, owned: bool = True, topics: list[str] | None = None) -> m.ConsumerGroupHeartbeatResponse:
        request = Heartbeat(group_id="g", member_id=self.name, member_epoch=self.epoch)
        if self.epoch == 0:
            request.rebalance_timeout_ms = self.timeout_ms
            request.subscribed_topic_names = self.topics
            request.topic_partitions = []
        else:
            request.topic_partitions = self.owned if owned else None
            request.subscribed_topic_names = topics
        answer = self.driver.ask(request, 1, m.ConsumerGroupHeartbeatResponse)
        assert answer.error_code == ErrorCode.NONE, answer.error_message
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.owned = [
                Heartbeat.TopicPartitions(topic_id=each.topic_id, partitions=each.partitions)
                for each in answer.assignment.topic_partitions
            ]
        return answer

    def leave(self) -> None:
        request = Heartbeat(group_id="g", member_id=self.name, member_epoch=LEAVES)
        assert self.driver.ask(request, 1, m.ConsumerGroupHeartbeatResponse).error_code == ErrorCode.NONE


def journal(driver: Driver) -> list[Rebalance]:
    request = m.DescribeGroupsRequest(groups=["g"], rebalances=100)
    (group,) = driver.ask(request, 6, m.DescribeGroupsResponse).groups
    assert group.rebalances is not None
    return group.rebalances


def kinds(rebalance: Rebalance) -> list[str]:
    return [cause.kind for cause in rebalance.causes]


def test_it_lasts_until_everybody_has_everything(driver: Driver) -> None:
    one, two = Member(driver, "one", "t"), Member(driver, "two", "t")
    one.beat()
    (first,) = journal(driver)
    assert (first.outcome, first.took_ms, first.generation, first.members) == ("stable", 0, one.epoch, 1)
    assert kinds(first) == ["joined"]
    cause = first.causes[0]
    assert (cause.member_id, cause.client_id, cause.client_host) == ("one", "c", "/127.0.0.1")

    driver.advance(100)
    two.beat()
    assert [each.outcome for each in journal(driver)] == ["stable", ""]
    driver.advance(200)
    one.beat()  # is told what to give up
    driver.advance(300)
    one.beat()  # has given it up
    driver.advance(400)
    assert journal(driver)[-1].outcome == ""
    two.beat()
    _, second = journal(driver)
    assert (second.outcome, second.joining_ms, second.took_ms) == ("stable", 0, 900)
    assert (second.generation, second.members, kinds(second)) == (two.epoch, 2, ["joined"])
    told = [effect.fields for effect in driver.seen if isinstance(effect, Note) and effect.message == "Rebalanced"]
    assert told[-1] == (("generation", two.epoch), ("members", 2), ("took_ms", 900))


def test_epochs_that_come_meanwhile_are_part_of_it(driver: Driver) -> None:
    one, two, three = (Member(driver, name, "t") for name in ("one", "two", "three"))
    one.beat()
    two.beat()
    three.beat()
    three.leave()
    last = journal(driver)[-1]
    assert (last.outcome, kinds(last)) == ("", ["joined", "joined", "left"])
    for _ in range(3):
        one.beat()
        two.beat()
    assert [each.outcome for each in journal(driver)] == ["stable", "stable"]
    assert journal(driver)[-1].members == 2


def test_another_subscription_and_other_topics(driver: Driver) -> None:
    one = Member(driver, "one", "t")
    one.beat()
    one.beat(topics=["t", "u"])
    assert kinds(journal(driver)[-1]) == ["subscription-changed"]
    one.beat()
    driver.topics.put("u", 3)
    one.beat()
    assert kinds(journal(driver)[-1]) == ["topics-changed"]
    one.beat()
    assert [each.outcome for each in journal(driver)] == ["stable"] * 3


def test_who_is_late(driver: Driver) -> None:
    one, two = Member(driver, "one", "t"), Member(driver, "two", "t")
    one.beat()
    two.beat()
    one.beat()
    for _ in range(6):
        driver.advance(1_000)
        two.beat()
    last = journal(driver)[-1]
    assert (kinds(last), last.causes[1].member_id, last.outcome) == (["joined", "not-revoked"], "one", "stable")
    driver.advance(120_000)
    last = journal(driver)[-1]
    assert (kinds(last), last.outcome, last.members) == (["expired"], "empty", 0)


def test_the_journal_goes_along_from_one_protocol_to_the_other(driver: Driver) -> None:
    driver.join("classic", protocols=[("range", subscription("t"))], session_ms=60_000)
    classic = driver.joined("classic").member_id
    nothing = encode_versioned(m.ConsumerProtocolAssignment(), 0)
    driver.sync("sync", member=classic, generation=1, assign={classic: nothing})
    modern = Member(driver, "modern", "t")
    modern.beat()
    assert [kinds(each) for each in journal(driver)] == [["joined"], ["converted", "joined"]]
    modern.leave()
    assert driver.state() == "PreparingRebalance"
    told = journal(driver)
    assert [kinds(each) for each in told] == [["joined"], ["converted", "joined"], ["left"]]
    assert [each.outcome for each in told] == ["stable", "interrupted", ""]
    driver.advance(70_000)
    assert journal(driver)[-1].outcome != ""


def test_what_was_not_written_did_not_happen(driver: Driver) -> None:
    one = Member(driver, "one", "t")
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    with pytest.raises(AssertionError):
        one.beat()
    driver.write_error = None
    one.beat()
    assert [kinds(each) for each in journal(driver)] == [["joined"]]


def test_nothing_is_kept_of_a_heartbeat(driver: Driver) -> None:
    one = Member(driver, "one", "t")
    one.beat()
    before = journal(driver)
    for _ in range(5):
        one.beat(owned=False)
    assert journal(driver) == before
