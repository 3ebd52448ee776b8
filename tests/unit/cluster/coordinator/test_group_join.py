"""Joining a group: ids, refusals, the delayed first generation, the votes, and who waits for whom."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import GroupConfig
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, error, subscription


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.mark.parametrize("version", range(10))
def test_every_version_joins_and_is_answered(driver: Driver, version: int) -> None:
    driver.join("a", version=version)
    member = ""
    if version >= 4:
        refused = driver.joined("a")
        assert (error(refused), refused.generation_id) == (ErrorCode.MEMBER_ID_REQUIRED, -1)
        member = refused.member_id
        driver.join("b", version=version, member=member)
    driver.advance(3_000)
    answer = driver.joined("b" if version >= 4 else "a")
    assert (error(answer), answer.generation_id, answer.protocol_name) == (0, 1, "range")
    assert answer.protocol_type == ("consumer" if version >= 7 else None)
    assert answer.member_id == answer.leader == (member or "c-id1")
    assert [(each.member_id, each.metadata) for each in answer.members] == [(answer.member_id, subscription("t"))]
    assert not answer.skip_assignment


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_ms": 1}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_ms": 10**9}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"member": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
@pytest.mark.parametrize("version", [2, 9])
def test_what_a_new_group_refuses(driver: Driver, asked: dict[str, object], code: ErrorCode, version: int) -> None:
    driver.join("a", version=version, **asked)  # type: ignore[arg-type]
    answer = driver.joined("a")
    assert (error(answer), answer.generation_id) == (code, -1)
    assert answer.member_id == asked.get("member", "")
    assert answer.protocol_name == ("" if version < 7 else None)


def test_a_stable_group_refuses_what_does_not_fit_it(driver: Driver) -> None:
    driver.stable_group("a")
    driver.join("b", protocol_type="connect")
    assert error(driver.joined("b")) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    driver.join("c", protocols=[("other", b"")])
    assert error(driver.joined("c")) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    driver.join("d", member="nobody")
    assert error(driver.joined("d")) == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.state() == "Stable"


def test_the_first_generation_waits_and_each_newcomer_makes_it_wait_longer(driver: Driver) -> None:
    driver.join("a")
    driver.advance(2_000)
    driver.join("b")
    driver.advance(1_500)
    assert "a" not in driver.answers, "b came during the first 3 s, so there are 3 more"
    driver.advance(2_499)
    assert "a" not in driver.answers
    driver.advance(1)
    assert {driver.joined(each).generation_id for each in "ab"} == {1}
    assert [each.member_id for each in driver.joined("a").members] == ["c-id1", "c-id2"]
    assert driver.joined("b").members == [], "only the leader is told who the members are"


def test_the_first_generation_waits_no_longer_than_the_rebalance_timeout(driver: Driver) -> None:
    driver.join("a", rebalance_ms=7_000)
    for number in range(6):
        driver.advance(1_000)
        driver.join(number, rebalance_ms=7_000)
    assert "a" not in driver.answers
    driver.advance(1_000)
    assert len(driver.joined("a").members) == 7


def test_no_initial_delay() -> None:
    driver = Driver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0))
    driver.join("a")
    assert driver.joined("a").generation_id == 1


def test_an_empty_group_that_had_a_generation_is_delayed_again_but_not_extended(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.leave((member, None))
    assert driver.state() == "Empty"
    driver.join("b")
    driver.advance(2_000)
    driver.join("c")
    driver.advance(1_000)
    assert {driver.joined(each).generation_id for each in "bc"} == {3}


def test_a_new_member_makes_the_others_join_again(driver: Driver) -> None:
    (first,) = driver.stable_group("a")
    driver.join("b")
    assert driver.state() == "PreparingRebalance"
    assert driver.heartbeat(first, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.join("a2", member=first)
    assert driver.joined("b").generation_id == driver.joined("a2").generation_id == 2
    assert driver.joined("b").leader == first


def test_who_does_not_join_in_time_is_removed(driver: Driver) -> None:
    (first,) = driver.stable_group("a")
    driver.join("b", rebalance_ms=20_000)
    for _ in range(12):
        driver.advance(5_000)
        driver.heartbeat(first, 1)
    assert driver.joined("b").generation_id == 2
    assert driver.joined("b").leader == driver.joined("b").member_id
    assert driver.heartbeat(first, 2) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_rebalance_waits_for_a_member_that_was_given_an_id(driver: Driver) -> None:
    (first,) = driver.stable_group("a")
    driver.join("b", version=4, session_ms=10_000)
    pending = driver.joined("b").member_id
    assert driver.state() == "Stable", "an id alone changes nothing"
    driver.join("a2", member=first)
    assert "a2" not in driver.answers, "the leader joined again, but somebody is expected"
    driver.join("b2", version=4, member=pending)
    assert len(driver.joined("a2").members) == 2


def test_a_rebalance_stops_waiting_for_an_id_that_lapsed(driver: Driver) -> None:
    (first,) = driver.stable_group("a")
    driver.join("b", version=4, session_ms=10_000)
    driver.join("a2", member=first)
    driver.advance(9_999)
    assert "a2" not in driver.answers
    driver.advance(1)
    assert len(driver.joined("a2").members) == 1
    driver.join("b2", version=4, member=driver.joined("b").member_id)
    assert error(driver.joined("b2")) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_pending_member_may_leave(driver: Driver) -> None:
    (first,) = driver.stable_group("a")
    driver.join("b", version=4)
    driver.join("a2", member=first)
    assert driver.leave((driver.joined("b").member_id, None)) == (0, [0])
    assert driver.joined("a2").generation_id == 2


def test_a_follower_with_nothing_new_is_told_the_generation_again(driver: Driver) -> None:
    leader, follower = driver.stable_group("a", "b")
    driver.join("again", member=follower)
    answer = driver.joined("again")
    assert (answer.generation_id, answer.leader, answer.members) == (1, leader, [])
    assert driver.state() == "Stable"


def test_a_follower_with_new_metadata_starts_a_rebalance(driver: Driver) -> None:
    _, follower = driver.stable_group("a", "b")
    driver.join("again", member=follower, protocols=[("range", subscription("u"))])
    assert "again" not in driver.answers
    assert driver.state() == "PreparingRebalance"


def test_a_leader_that_joins_a_stable_group_starts_a_rebalance(driver: Driver) -> None:
    leader, _ = driver.stable_group("a", "b")
    driver.join("again", member=leader)
    assert driver.state() == "PreparingRebalance"


def test_a_member_whose_answer_was_lost_may_ask_again_before_it_syncs(driver: Driver) -> None:
    for who in "ab":
        driver.join(who)
    driver.advance(6_000)
    leader, follower = driver.joined("a").member_id, driver.joined("b").member_id
    driver.join("a2", member=leader)
    assert len(driver.joined("a2").members) == 2
    driver.join("b2", member=follower)
    assert driver.joined("b2").members == []
    assert driver.joined("b2").generation_id == 1
    driver.join("b3", member=follower, protocols=[("range", b"new")])
    assert driver.state() == "PreparingRebalance"


def test_the_protocol_most_members_like_best_wins_among_those_all_have(driver: Driver) -> None:
    likes = {"a": ["x", "y", "z"], "b": ["z", "y"], "c": ["z", "y"], "d": ["y", "z", "x"]}
    for who, names in likes.items():
        driver.join(who, protocols=[(name, name.encode()) for name in names])
    driver.advance(6_000)
    assert driver.joined("a").protocol_name == "y", "two votes each, and the first vote was for this one"
    driver.join("e", protocols=[("z", b"z"), ("y", b"y")])
    for who in "abcd":
        member = driver.joined(who).member_id
        driver.join(who + "2", member=member, protocols=[(name, name.encode()) for name in likes[who]])
    assert driver.joined("a2").protocol_name == "z"
    assert [each.metadata for each in driver.joined("a2").members] == [b"z"] * 5


def test_a_protocol_named_twice_counts_once(driver: Driver) -> None:
    driver.join("a", protocols=[("x", b"1"), ("x", b"2")])
    driver.join("b", protocols=[("x", b"3")])
    driver.advance(6_000)
    assert [each.metadata for each in driver.joined("a").members] == [b"1", b"3"]


def test_a_parked_join_that_is_sent_again_is_answered_too(driver: Driver) -> None:
    leader, _ = driver.stable_group("a", "b")
    driver.join("first", member=leader)
    driver.join("second", member=leader)
    assert error(driver.joined("first")) == ErrorCode.REBALANCE_IN_PROGRESS
    assert "second" not in driver.answers


def test_a_new_member_that_stops_asking_is_dropped_after_five_minutes() -> None:
    driver = Driver()
    first, second = driver.stable_group("a", "b")
    driver.join("new", rebalance_ms=600_000)
    for _ in range(59):
        driver.advance(5_000)
        assert driver.heartbeat(first, 1) == driver.heartbeat(second, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.advance(4_999)
    assert "new" not in driver.answers
    driver.advance(1)
    assert (error(driver.joined("new")), driver.joined("new").member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "")


class TestMaxSize:
    def driver(self) -> Driver:
        return Driver(GroupConfig(offsets_topic_partitions=1, max_size=2))

    def test_a_full_group_takes_nobody(self) -> None:
        driver = self.driver()
        driver.stable_group("a", "b")
        driver.join("c")
        answer = driver.joined("c")
        assert (error(answer), answer.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")
        assert driver.state() == "Stable"

    def test_members_of_a_full_group_may_join_again(self) -> None:
        driver = self.driver()
        leader, follower = driver.stable_group("a", "b")
        driver.join("a2", member=leader)
        driver.join("b2", member=follower)
        assert len(driver.joined("a2").members) == 2

    def test_while_it_is_formed_the_limit_holds(self) -> None:
        driver = self.driver()
        for who in "abc":
            driver.join(who)
        assert error(driver.joined("c")) == ErrorCode.GROUP_MAX_SIZE_REACHED
        driver.advance(6_000)
        assert len(driver.joined("a").members) == 2

    def test_a_group_that_is_too_large_when_loaded_sheds_the_last_to_join(self) -> None:
        driver = Driver()
        ids = driver.stable_group("a", "b", "c")
        driver.config = GroupConfig(offsets_topic_partitions=1, max_size=2)
        driver.restart()
        assert driver.state() == "PreparingRebalance"
        for number, member in enumerate(ids):
            driver.join(number, member=member)
        assert error(driver.joined(2)) == ErrorCode.GROUP_MAX_SIZE_REACHED
        assert len(driver.joined(0).members) == 2
        assert driver.heartbeat(ids[2], 2) == ErrorCode.UNKNOWN_MEMBER_ID


def test_version_0_has_one_timeout_for_both(driver: Driver) -> None:
    driver.join("a", version=0, session_ms=8_000)
    driver.advance(8_000)
    stored = driver.joined("a")
    driver.sync("s", member=stored.member_id, generation=1)
    (_, value), *_ = driver.logs.popitem()[1]
    assert value is not None
    member = m.GroupMetadataValue.decode(value, 3, 2).members[0]
    assert (member.rebalance_timeout, member.session_timeout) == (8_000, 8_000)
    assert (member.client_id, member.client_host) == ("c", "/127.0.0.1")
