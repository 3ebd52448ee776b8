"""Static members: they come back without a rebalance, and of two with one instance id the older is fenced."""

from __future__ import annotations

import pytest

from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, error, subscription


def static_group(driver: Driver, *instances: str, version: int = 9) -> list[str]:
    for instance in instances:
        driver.join(("join", instance), instance=instance, version=version)
    driver.advance(6_000 if len(instances) > 1 else 3_000)
    ids = [driver.joined(("join", instance)).member_id for instance in instances]
    assign = {member: instance.encode() for member, instance in zip(ids, instances, strict=True)}
    for member, instance in reversed(list(zip(ids, instances, strict=True))):
        driver.sync(("sync", instance), member=member, generation=1, instance=instance, assign=assign)
    assert driver.state() == "Stable"
    return ids


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_static_member_needs_no_second_join_for_its_id(driver: Driver) -> None:
    (member,) = static_group(driver, "i1")
    assert member == "i1-id1"
    assert driver.describe().members[0].group_instance_id == "i1"


def test_a_follower_that_restarts_keeps_its_assignment_without_a_rebalance(driver: Driver) -> None:
    leader, follower = static_group(driver, "i1", "i2")
    driver.join("back", instance="i2", version=9)
    answer = driver.joined("back")
    assert (error(answer), answer.generation_id, answer.leader, answer.members) == (0, 1, leader, [])
    assert answer.member_id not in (leader, follower)
    assert not answer.skip_assignment
    driver.sync("s", member=answer.member_id, generation=1, instance="i2")
    assert driver.synced("s").assignment == b"i2"
    assert driver.heartbeat(leader, 1, instance="i1") == ErrorCode.NONE
    assert driver.heartbeat(follower, 1, instance="i2") == ErrorCode.FENCED_INSTANCE_ID
    assert driver.heartbeat(follower, 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_leader_that_restarts_leads_on_but_is_told_not_to_assign(driver: Driver) -> None:
    _, follower = static_group(driver, "i1", "i2")
    driver.join("back", instance="i1", version=9)
    answer = driver.joined("back")
    assert answer.skip_assignment
    assert answer.leader == answer.member_id
    assert {each.group_instance_id for each in answer.members} == {"i1", "i2"}
    assert driver.heartbeat(follower, 1, instance="i2") == ErrorCode.NONE


def test_a_leader_of_an_older_version_is_told_the_old_leaders_id(driver: Driver) -> None:
    leader, _ = static_group(driver, "i1", "i2", version=8)
    driver.join("back", instance="i1", version=8)
    answer = driver.joined("back")
    assert answer.leader == leader != answer.member_id
    assert answer.members == []


def test_the_new_id_is_told_when_it_is_durable_and_survives_a_failover(driver: Driver) -> None:
    static_group(driver, "i1", "i2")
    driver.commits = False
    driver.join("back", instance="i2", version=9)
    assert "back" not in driver.answers
    driver.commit()
    member = driver.joined("back").member_id
    driver.commits = True
    driver.restart()
    assert driver.heartbeat(member, 1, instance="i2") == ErrorCode.NONE
    assert {each.group_instance_id for each in driver.describe().members} == {"i1", "i2"}


def test_a_new_id_that_cannot_be_stored_is_taken_back(driver: Driver) -> None:
    _, follower = static_group(driver, "i1", "i2")
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.join("back", instance="i2", version=9, session_ms=20_000)
    answer = driver.joined("back")
    assert (error(answer), answer.member_id) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, "")
    assert driver.heartbeat(follower, 1, instance="i2") == ErrorCode.NONE
    assert driver.state() == "Stable"


def test_a_change_of_the_groups_protocol_is_a_rebalance(driver: Driver) -> None:
    for instance in ("i1", "i2"):
        driver.join(("join", instance), instance=instance, version=9, protocols=[("x", b""), ("y", b"")])
    driver.advance(6_000)
    leader = driver.joined(("join", "i1")).member_id
    driver.sync("l", member=leader, generation=1, instance="i1")
    driver.join("back", instance="i2", version=9, protocols=[("y", b"")])
    assert "back" not in driver.answers
    assert driver.state() == "PreparingRebalance"
    driver.join("l2", member=leader, instance="i1", version=9, protocols=[("x", b""), ("y", b"")])
    assert driver.joined("back").protocol_name == "y"


def test_new_metadata_for_the_same_protocol_is_no_rebalance(driver: Driver) -> None:
    static_group(driver, "i1", "i2")
    driver.join("back", instance="i2", version=9, protocols=[("range", subscription("u"))])
    assert error(driver.joined("back")) == 0
    assert driver.state() == "Stable"


def test_one_that_restarts_before_the_assignment_is_there_starts_over(driver: Driver) -> None:
    for instance in ("i1", "i2"):
        driver.join(instance, instance=instance, version=9)
    driver.advance(6_000)
    follower = driver.joined("i2").member_id
    driver.sync("f", member=follower, generation=1, instance="i2")
    driver.join("back", instance="i2", version=9)
    assert error(driver.synced("f")) == ErrorCode.FENCED_INSTANCE_ID
    assert driver.state() == "PreparingRebalance"


def test_one_that_joins_twice_during_a_rebalance_is_fenced_once(driver: Driver) -> None:
    driver.join("one", instance="i1", version=9)
    driver.join("two", instance="i1", version=9)
    assert error(driver.joined("one")) == ErrorCode.FENCED_INSTANCE_ID
    assert driver.joined("one").member_id == "i1-id1"
    driver.advance(3_000)
    assert [each.member_id for each in driver.joined("two").members] == ["i1-id2"]


def test_joins_with_an_id_that_is_not_its_own(driver: Driver) -> None:
    leader, follower = static_group(driver, "i1", "i2")
    driver.join("fenced", member=leader, instance="i2", version=9)
    assert error(driver.joined("fenced")) == ErrorCode.FENCED_INSTANCE_ID
    driver.join("unknown", member=follower, instance="i3", version=9)
    assert error(driver.joined("unknown")) == ErrorCode.UNKNOWN_MEMBER_ID
    driver.sync("s", member=leader, generation=1, instance="i2")
    assert error(driver.synced("s")) == ErrorCode.FENCED_INSTANCE_ID
    assert driver.commit_offsets({("t", 0): 1}, member=leader, instance="i2", generation=1) == [
        ErrorCode.FENCED_INSTANCE_ID
    ]


def test_a_rebalance_goes_on_without_a_static_member_but_keeps_it(driver: Driver) -> None:
    leader, follower = static_group(driver, "i1", "i2")
    driver.join("l2", member=leader, instance="i1", version=9, session_ms=120_000)
    for _ in range(7):
        driver.advance(9_000)
        driver.heartbeat(follower, 1, instance="i2")
    answer = driver.joined("l2")
    assert answer.generation_id == 2
    assert {each.group_instance_id for each in answer.members} == {"i1", "i2"}


def test_when_no_static_member_is_back_the_rebalance_waits_until_their_sessions_end(driver: Driver) -> None:
    leader, follower = static_group(driver, "i1", "i2")
    driver.join("n", version=3)
    driver.leave(("c-id3", None))
    assert driver.state() == "PreparingRebalance"
    for _ in range(8):
        driver.advance(9_000)
        driver.heartbeat(leader, 1, instance="i1")
    assert driver.state() == "PreparingRebalance"
    assert driver.heartbeat(follower, 1, instance="i2") == ErrorCode.UNKNOWN_MEMBER_ID
    driver.join("l2", member=leader, instance="i1", version=9)
    assert driver.joined("l2").generation_id == 2


def test_leaving_by_instance_id(driver: Driver) -> None:
    _, follower = static_group(driver, "i1", "i2", version=9)
    assert driver.leave(("", "i1"), ("", "i9"), ("", None), ("nobody", "i2"), (follower, "i2")) == (
        0,
        [0, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID, 0],
    )
    assert driver.state() == "Empty"


def test_a_static_member_comes_back_after_a_failover_as_if_nothing_happened(driver: Driver) -> None:
    static_group(driver, "i1", "i2")
    driver.restart()
    driver.join("back", instance="i2", version=9, protocols=[("range", subscription("t")), ("sticky", b"")])
    assert (error(driver.joined("back")), driver.joined("back").generation_id) == (0, 1)
    driver.sync("s", member=driver.joined("back").member_id, generation=1, instance="i2")
    assert driver.synced("s").assignment == b"i2"


def test_a_rebalance_overtakes_a_static_member_whose_new_id_is_being_stored(driver: Driver) -> None:
    leader, _ = static_group(driver, "i1", "i2")
    driver.commits = False
    driver.join("back", instance="i2", version=9)
    driver.join("l2", member=leader, instance="i1", version=9)
    assert driver.joined("back").generation_id == driver.joined("l2").generation_id == 2
    driver.commit()
    assert driver.state() == "CompletingRebalance"
