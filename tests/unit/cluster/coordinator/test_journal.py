"""The journal of rebalances: what DescribeGroups tells of it, and to whom."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.journal import KEPT, KEPT_CAUSES
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, subscription

Rebalance = m.DescribeGroupsResponse.Rebalance


@pytest.fixture
def driver() -> Driver:
    return Driver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=1_000))


def journal(driver: Driver, most: int = 100) -> list[Rebalance]:
    (group,) = driver.ask(m.DescribeGroupsRequest(groups=["g"], rebalances=most), 5, m.DescribeGroupsResponse).groups
    assert group.rebalances is not None
    return group.rebalances


def kinds(rebalance: Rebalance) -> list[str]:
    return [cause.kind for cause in rebalance.causes]


def test_only_who_asks_is_told(driver: Driver) -> None:
    driver.stable_group("a")
    plain = m.DescribeGroupsRequest(groups=["g", "unknown"])
    for version in range(7):
        answer = driver.ask(plain, version, m.DescribeGroupsResponse)
        assert [group.rebalances for group in answer.groups] == [None, None]
    asked = m.DescribeGroupsRequest(groups=["g", "unknown"], rebalances=5)
    known, unknown = driver.ask(asked, 6, m.DescribeGroupsResponse).groups
    assert known.rebalances is not None and len(known.rebalances) == 1
    assert unknown.rebalances == [] and unknown.error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_when_why_who_and_how_long(driver: Driver) -> None:
    begun_ms = driver.now_ms
    one, two = driver.stable_group("a", "b")
    (first,) = journal(driver)
    assert (first.begun_ms, first.joining_ms, first.took_ms) == (begun_ms, 2_000, 2_000)
    assert (first.outcome, first.generation, first.members) == ("stable", 1, 2)
    assert kinds(first) == ["joined", "joined"]
    cause = first.causes[0]
    assert (cause.at_ms, cause.member_id, cause.client_id, cause.client_host) == (begun_ms, one, "c", "/127.0.0.1")
    assert cause.reason == ""

    driver.advance(5_000)
    driver.leave((two, None))
    (running,) = journal(driver, 1)
    assert (running.begun_ms, running.joining_ms, running.took_ms) == (driver.now_ms, -1, -1)
    assert (running.outcome, running.generation, running.members) == ("", 1, 1)
    driver.advance(700)
    driver.join("again", member=one)
    driver.advance(50)
    driver.sync_all([one], generation=2)
    (second,) = journal(driver, 1)
    assert (second.joining_ms, second.took_ms, second.outcome) == (700, 750, "stable")
    assert (second.generation, second.members, kinds(second)) == (2, 1, ["left"])
    assert second.causes[0].member_id == two
    assert len(journal(driver)) == 2


def test_the_leader_and_who_reads_something_else(driver: Driver) -> None:
    one, two = driver.stable_group("a", "b")
    driver.join("leader", member=one)
    driver.join("other", member=two, protocols=[("range", subscription("u"))])
    assert kinds(journal(driver)[-1]) == ["leader-rejoined", "subscription-changed"]
    driver.sync_all([one, two], generation=2)
    driver.join("follower", member=two, protocols=[("range", subscription("t"))])
    driver.join("leader too", member=one)  # as it has to now: this is no cause
    assert kinds(journal(driver)[-1]) == ["subscription-changed"]


def test_a_reason_that_was_given(driver: Driver) -> None:
    (one,) = driver.stable_group("a")
    protocol = m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=subscription("t"))
    request = m.JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        member_id=one,
        protocol_type="consumer",
        protocols=[protocol],
        reason="a topic has grown",
    )
    driver.send("again", request, 8)
    assert [cause.reason for cause in journal(driver)[-1].causes] == ["a topic has grown"]


def test_who_did_not_come_in_time(driver: Driver) -> None:
    one, two = driver.stable_group("a", "b")
    driver.join("leader", member=one)
    for _ in range(8):
        assert driver.heartbeat(two, 1) is ErrorCode.REBALANCE_IN_PROGRESS
        driver.advance(7_500)
    (rebalance,) = journal(driver, 1)
    assert kinds(rebalance) == ["leader-rejoined", "not-joined"]
    assert rebalance.causes[1].member_id == two
    assert (rebalance.joining_ms, rebalance.generation, rebalance.members) == (60_000, 2, 1)

    driver.advance(60_000)
    expired = journal(driver)[-1]
    assert (kinds(expired), expired.causes[0].member_id) == (["expired"], one)


def test_who_did_not_sync_in_time(driver: Driver) -> None:
    driver.join("a", session_ms=100_000)
    driver.advance(1_000)
    member = driver.joined("a").member_id
    driver.advance(60_000)
    first, second = journal(driver)
    assert first.outcome == "interrupted"
    assert (kinds(second), second.causes[0].member_id, second.outcome) == (["not-synced"], member, "empty")


def test_one_that_begins_before_the_assignment_interrupts(driver: Driver) -> None:
    driver.join("a")
    driver.advance(1_000)
    driver.advance(200)
    driver.join("b")
    first, second = journal(driver)
    assert (first.outcome, first.joining_ms, first.took_ms) == ("interrupted", 1_000, 1_200)
    assert (second.outcome, kinds(second)) == ("", ["joined"])


def test_an_empty_group(driver: Driver) -> None:
    (one,) = driver.stable_group("a")
    driver.leave((one, None))
    last = journal(driver)[-1]
    assert (last.outcome, last.generation, last.members, kinds(last)) == ("empty", 2, 0, ["left"])


def test_it_is_bounded(driver: Driver) -> None:
    (one,) = driver.stable_group("a")
    for generation in range(2, KEPT + 5):
        driver.join(("again", generation), member=one)
        driver.sync_all([one], generation=generation)
    kept = journal(driver, 1_000)
    assert [each.generation for each in kept] == list(range(5, KEPT + 5))
    driver.heartbeat(one, KEPT + 4)
    assert journal(driver, 1_000) == kept
    for number in range(KEPT_CAUSES + 3):
        driver.join(("more", number))
    last = journal(driver)[-1]
    assert (len(last.causes), last.omitted) == (KEPT_CAUSES, 3)


def test_the_next_coordinator_has_none(driver: Driver) -> None:
    driver.stable_group("a")
    driver.restart()
    assert driver.state() == "Stable"
    assert journal(driver) == []
