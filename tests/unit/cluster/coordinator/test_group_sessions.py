"""Sessions end, and what it costs to keep them."""

from __future__ import annotations

from cluster.effects import SetTimer
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, error


def session_timers(driver: Driver) -> int:
    return sum(isinstance(effect, SetTimer) and "session" in str(effect.key) for effect in driver.seen)


def test_a_member_that_is_silent_for_its_session_timeout_is_removed() -> None:
    driver = Driver()
    leader, follower = driver.stable_group("a", "b")
    driver.advance(9_000)
    driver.heartbeat(leader, 1)
    driver.advance(1_000)
    assert driver.state() == "PreparingRebalance"
    assert driver.heartbeat(follower, 1) == ErrorCode.UNKNOWN_MEMBER_ID
    driver.join("a2", member=leader)
    assert [each.member_id for each in driver.joined("a2").members] == [leader]


def test_a_heartbeat_sets_no_timer() -> None:
    driver = Driver()
    (member,) = driver.stable_group("a")
    before = session_timers(driver)
    for _ in range(1_000):
        assert driver.heartbeat(member, 1) == ErrorCode.NONE
    assert session_timers(driver) == before
    for _ in range(100):
        driver.advance(100)
        driver.heartbeat(member, 1)
    assert session_timers(driver) - before <= 2, "one per session timeout that passes"


def test_the_session_ends_exactly_that_long_after_the_last_sign_of_life() -> None:
    driver = Driver()
    (member,) = driver.stable_group("a")
    driver.advance(7_000)
    driver.heartbeat(member, 1)
    driver.advance(9_999)
    assert driver.state() == "Stable"
    driver.advance(1)
    assert driver.state() == "Empty"


def test_a_commit_is_a_sign_of_life() -> None:
    driver = Driver()
    (member,) = driver.stable_group("a")
    driver.advance(9_000)
    assert driver.commit_offsets({("t", 0): 1}, member=member, generation=1) == [0]
    driver.advance(9_000)
    assert driver.state() == "Stable"


def test_a_shorter_session_timeout_takes_effect_at_once() -> None:
    driver = Driver()
    driver.join("a", session_ms=60_000)
    driver.advance(3_000)
    member = driver.joined("a").member_id
    driver.sync("s", member=member, generation=1)
    driver.join("a2", member=member, session_ms=6_000)
    driver.sync("s2", member=member, generation=2)
    driver.advance(6_000)
    assert driver.state() == "Empty"


def test_who_waits_for_us_does_not_expire() -> None:
    driver = Driver()
    leader, follower = driver.stable_group("a", "b")
    driver.join("a2", member=leader, rebalance_ms=60_000)
    for _ in range(6):
        driver.advance(9_000)
        assert driver.heartbeat(follower, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.join("b2", member=follower)
    assert driver.joined("a2").generation_id == 2
    driver.sync("b3", member=follower, generation=2)
    driver.advance(9_000)
    driver.heartbeat(leader, 2)
    driver.advance(9_000)
    assert "b3" not in driver.answers, "18 s parked with a session of 10 s"
    assert driver.heartbeat(leader, 2) == ErrorCode.NONE
    driver.sync("a3", member=leader, generation=2)
    driver.advance(9_999)
    assert driver.state() == "Stable", "its session began anew with the answer"
    driver.advance(1)
    assert driver.state() == "Empty"


def test_when_the_leader_expires_before_it_assigns_the_others_are_told_to_join_again() -> None:
    driver = Driver()
    for who in "ab":
        driver.join(who)
    driver.advance(6_000)
    follower = driver.joined("b").member_id
    driver.sync("f", member=follower, generation=1)
    driver.advance(10_000)
    assert error(driver.synced("f")) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.join("b2", member=follower)
    assert driver.joined("b2").leader == follower


def test_loaded_members_have_a_whole_session_to_show_up() -> None:
    driver = Driver()
    leader, follower = driver.stable_group("a", "b")
    driver.advance(9_000)
    driver.restart()
    driver.advance(9_000)
    assert driver.heartbeat(leader, 1) == ErrorCode.NONE
    driver.advance(1_000)
    assert driver.heartbeat(follower, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_no_timer_outlives_its_group() -> None:
    driver = Driver()
    leader, follower = driver.stable_group("a", "b")
    driver.leave((leader, None), (follower, None))
    driver.advance(5_000)
    assert [key for key in driver.timers if "expiry" not in str(key)] == []
