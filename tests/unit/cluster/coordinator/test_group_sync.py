"""SyncGroup and Heartbeat: who gets which assignment when, and what happens when it cannot be stored."""

from __future__ import annotations

import pytest

from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, error


@pytest.fixture
def driver() -> Driver:
    return Driver()


def two_joined(driver: Driver) -> tuple[str, str]:
    for who in "ab":
        driver.join(who)
    driver.advance(6_000)
    return driver.joined("a").member_id, driver.joined("b").member_id


def test_assignments_go_out_when_the_leaders_is_committed(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.commits = False
    driver.sync("f", member=follower, generation=1)
    driver.sync("l", member=leader, generation=1, assign={leader: b"L", follower: b"F"})
    assert driver.state() == "CompletingRebalance"
    assert not {"f", "l"} & driver.answers.keys()
    driver.commit()
    assert (driver.synced("f").assignment, driver.synced("l").assignment) == (b"F", b"L")
    assert driver.state() == "Stable"


@pytest.mark.parametrize("version", range(6))
def test_every_version_syncs(driver: Driver, version: int) -> None:
    driver.join("a")
    driver.advance(3_000)
    member = driver.joined("a").member_id
    named = {"protocol_type": "consumer", "protocol": "range"} if version == 5 else {}
    driver.sync("s", member=member, generation=1, assign={member: b"x"}, version=version, **named)
    answer = driver.synced("s")
    assert (error(answer), answer.assignment) == (0, b"x")
    assert (answer.protocol_type, answer.protocol_name) == (("consumer", "range") if version == 5 else (None, None))


def test_members_the_leader_forgot_get_nothing_and_strangers_are_ignored(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.sync("f", member=follower, generation=1)
    driver.sync("l", member=leader, generation=1, assign={leader: b"L", "stranger": b"S"})
    assert (driver.synced("f").assignment, driver.synced("l").assignment) == (b"", b"L")


def test_a_late_sync_of_a_stable_group_is_answered_at_once(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.sync("l", member=leader, generation=1, assign={follower: b"F"})
    driver.sync("f", member=follower, generation=1)
    assert driver.synced("f").assignment == b"F"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"group": "other"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"member": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"generation": 2}, ErrorCode.ILLEGAL_GENERATION),
        ({"generation": 0}, ErrorCode.ILLEGAL_GENERATION),
        ({"version": 5}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"version": 5, "protocol_type": "consumer"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"version": 5, "protocol_type": "x", "protocol": "range"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"version": 5, "protocol_type": "consumer", "protocol": "x"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"instance": "unknown"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_refusals(driver: Driver, asked: dict[str, object], code: ErrorCode) -> None:
    leader, _ = two_joined(driver)
    driver.sync("s", **({"member": leader, "generation": 1} | asked))  # type: ignore[arg-type]
    assert error(driver.synced("s")) == code
    assert driver.synced("s").assignment == b""


def test_a_sync_during_a_rebalance(driver: Driver) -> None:
    leader, follower = driver.stable_group("a", "b")
    driver.join("again", member=leader)
    driver.sync("s", member=follower, generation=1)
    assert error(driver.synced("s")) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_rebalance_sends_the_waiting_away(driver: Driver) -> None:
    _, follower = two_joined(driver)
    driver.sync("f", member=follower, generation=1)
    driver.join("c")
    assert error(driver.synced("f")) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_sync_that_is_sent_again_takes_the_place_of_the_first(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.sync("f1", member=follower, generation=1)
    driver.sync("f2", member=follower, generation=1)
    assert error(driver.synced("f1")) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.sync("l", member=leader, generation=1, assign={follower: b"F"})
    assert driver.synced("f2").assignment == b"F"


def test_a_second_assignment_does_not_change_the_first(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.commits = False
    driver.sync("l1", member=leader, generation=1, assign={follower: b"1"})
    driver.sync("l2", member=leader, generation=1, assign={follower: b"2"})
    driver.commit()
    driver.sync("f", member=follower, generation=1)
    assert driver.synced("f").assignment == b"1"
    driver.restart()
    driver.sync("f2", member=follower, generation=1)
    assert driver.synced("f2").assignment == b"1", "what was told is what a new coordinator finds"


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.REBALANCE_IN_PROGRESS),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_assignment_that_is_not_stored(driver: Driver, failed: ErrorCode, said: ErrorCode) -> None:
    leader, follower = two_joined(driver)
    driver.sync("f", member=follower, generation=1)
    driver.write_error = failed
    driver.sync("l", member=leader, generation=1, assign={follower: b"F"})
    assert error(driver.synced("f")) == error(driver.synced("l")) == said
    assert driver.state() == "PreparingRebalance"
    driver.write_error = None
    driver.join("a2", member=leader)
    driver.join("b2", member=follower)
    assert driver.joined("a2").generation_id == 2


def test_an_assignment_that_takes_too_long_and_is_stored_after_all(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.commits = False
    driver.sync("l", member=leader, generation=1, assign={leader: b"L"})
    driver.advance(5_000)
    assert error(driver.synced("l")) == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.state() == "PreparingRebalance"
    driver.commit()
    assert driver.state() == "PreparingRebalance", "the group has moved on"
    driver.join("a2", member=leader)
    driver.join("b2", member=follower)
    assert driver.joined("a2").generation_id == 2


def test_an_assignment_that_a_newer_generation_overtook(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    driver.commits = False
    driver.sync("l", member=leader, generation=1, assign={leader: b"old"})
    driver.join("a2", member=leader, protocols=[("range", b"new")])
    driver.join("b2", member=follower)
    assert error(driver.synced("l")) == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.joined("a2").generation_id == 2
    driver.commit()
    assert driver.state() == "CompletingRebalance"
    driver.sync("l2", member=leader, generation=2, assign={leader: b"new"})
    driver.commit()
    assert driver.synced("l2").assignment == b"new"


def test_who_does_not_sync_in_time_is_removed(driver: Driver) -> None:
    for who in "ab":
        driver.join(who, rebalance_ms=20_000, session_ms=30_000)
    driver.advance(6_000)
    leader, follower = driver.joined("a").member_id, driver.joined("b").member_id
    driver.sync("l", member=leader, generation=1, assign={})
    assert driver.state() == "Stable"
    driver.advance(9_000)
    driver.heartbeat(follower, 1)
    driver.heartbeat(leader, 1)
    driver.advance(11_000)
    assert driver.state() == "PreparingRebalance", "20 s after the generation began"
    assert driver.heartbeat(follower, 1) == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat(leader, 1) == ErrorCode.REBALANCE_IN_PROGRESS


def test_heartbeats(driver: Driver) -> None:
    leader, follower = two_joined(driver)
    assert driver.heartbeat(leader, 1) == ErrorCode.NONE, "a generation that is being completed may be heartbeaten"
    driver.sync_all([leader, follower])
    assert driver.heartbeat(leader, 1) == ErrorCode.NONE
    assert driver.heartbeat(leader, 2) == ErrorCode.ILLEGAL_GENERATION
    assert driver.heartbeat("nobody", 1) == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat(leader, 1, group="other") == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat(leader, 1, group="") == ErrorCode.INVALID_GROUP_ID
    driver.leave((leader, None), (follower, None))
    assert driver.heartbeat(leader, 1) == ErrorCode.UNKNOWN_MEMBER_ID
