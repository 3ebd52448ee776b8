"""Hosting shards: loading, losing them, the order of writes, and what comes too late."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import RequestContext
from cluster.coordinator.runtime import PARTS_AT_ONCE, TimerKey
from cluster.effects import Append, CancelTimer, SetTimer, Shard
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver, commit_errors, error

T0, T1 = ("t", 0), ("t", 1)

EVERY_REQUEST: list[tuple[Message, int]] = [
    (m.JoinGroupRequest(group_id="g", session_timeout_ms=9_000), 5),
    (m.SyncGroupRequest(group_id="g"), 3),
    (m.HeartbeatRequest(group_id="g"), 3),
    (m.LeaveGroupRequest(group_id="g"), 4),
    (m.OffsetDeleteRequest(group_id="g"), 0),
]


@pytest.mark.parametrize(("request_", "version"), EVERY_REQUEST, ids=lambda each: type(each).__name__)
def test_a_shard_that_is_not_here(request_: Message, version: int) -> None:
    driver = Driver(host=False)
    assert error(driver.ask(request_, version, Message)) == ErrorCode.NOT_COORDINATOR


def test_a_shard_that_is_not_here_answers_for_each_partition_group_and_result() -> None:
    driver = Driver(host=False)
    assert driver.commit_offsets({T0: 1, T1: 1}) == [ErrorCode.NOT_COORDINATOR] * 2
    assert driver.commit_offsets({T0: 1}, version=10) == [ErrorCode.NOT_COORDINATOR]
    assert driver.describe().error_code == ErrorCode.NOT_COORDINATOR
    deleted = driver.ask(m.DeleteGroupsRequest(groups_names=["g"]), 2, m.DeleteGroupsResponse)
    assert [(each.group_id, each.error_code) for each in deleted.results] == [("g", ErrorCode.NOT_COORDINATOR)]


@pytest.mark.parametrize(("request_", "version"), EVERY_REQUEST, ids=lambda each: type(each).__name__)
def test_a_shard_that_is_loading(request_: Message, version: int) -> None:
    driver = Driver(host=False)
    driver.runtime.load_start(OFFSETS, 0, 0)
    expected = {
        m.HeartbeatRequest: ErrorCode.NONE,
        m.SyncGroupRequest: ErrorCode.REBALANCE_IN_PROGRESS,
    }.get(type(request_), ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)  # type: ignore[arg-type]
    assert error(driver.ask(request_, version, Message)) == expected


def test_bad_requests_are_refused_before_a_shard_is_looked_for() -> None:
    driver = Driver(host=False)
    driver.join("a", group="")
    assert error(driver.joined("a")) == ErrorCode.INVALID_GROUP_ID


def test_losing_a_shard_answers_everything_that_waits_for_it() -> None:
    driver = Driver(partitions=2)
    names = {driver.runtime.partition_for(name): name for name in "abcdef"}
    driver.commits = False
    driver.join("joining", group=names[0] + names[1] + names[1])
    assert driver.runtime.partition_for(names[0] + names[1] + names[1]) == 0
    driver.join("elsewhere", group=names[1])
    driver.send_commit("committing", {T0: 1}, group=names[0])
    driver.send("deleting", m.DeleteGroupsRequest(groups_names=[names[0], "never"]), 2)
    assert not driver.answers
    driver.unload(0)
    assert error(driver.joined("joining")) == ErrorCode.NOT_COORDINATOR
    assert commit_errors(driver.answer("committing", m.OffsetCommitResponse)) == [ErrorCode.NOT_COORDINATOR]
    deleted = driver.answer("deleting", m.DeleteGroupsResponse).results
    assert [(each.group_id, each.error_code) for each in deleted] == [
        (names[0], ErrorCode.NOT_COORDINATOR),
        ("never", ErrorCode.GROUP_ID_NOT_FOUND),
    ]
    assert "elsewhere" not in driver.answers
    assert not [key for key in driver.timers if getattr(key, "shard", None) == Shard(OFFSETS, 0)]


def test_a_syncing_group_is_answered_when_its_shard_is_lost() -> None:
    driver = Driver()
    for who in "ab":
        driver.join(who)
    driver.advance(6_000)
    leader, follower = driver.joined("a").member_id, driver.joined("b").member_id
    driver.commits = False
    driver.sync("f", member=follower, generation=1)
    driver.sync("l", member=leader, generation=1)
    driver.unload()
    assert error(driver.synced("f")) == error(driver.synced("l")) == ErrorCode.NOT_COORDINATOR


def test_what_comes_too_late_for_a_shard_does_nothing() -> None:
    driver = Driver()
    driver.commits = False
    driver.send_commit("c", {T0: 1})
    append = next(each for each in driver.seen if isinstance(each, Append))
    timers = list(driver.timers)
    driver.unload()
    runtime = driver.runtime
    assert runtime.appended(append.token, 0, 0, driver.now_ms) == []
    assert runtime.appended(append.token, ErrorCode.KAFKA_STORAGE_ERROR, -1, driver.now_ms) == []
    assert runtime.committed(OFFSETS, 0, 1, driver.now_ms) == []
    assert runtime.load_done(OFFSETS, 0, driver.now_ms) == []
    assert runtime.unload(OFFSETS, 0) == []
    for key in timers:
        assert runtime.timer(key, driver.now_ms) == []  # type: ignore[arg-type]


@pytest.mark.interpreted
def test_a_write_that_cannot_be_replayed_takes_no_other_with_it() -> None:
    driver = Driver()
    driver.commits = False
    driver.send_commit("broken", {T0: 1}, group="g")
    driver.send_commit("behind", {T0: 2}, group="h")
    (machine,) = driver.runtime.machines(OFFSETS)
    replay = machine.replay

    def once(*_: object) -> None:
        machine.replay = replay  # type: ignore[method-assign]
        raise RuntimeError("a defect")

    machine.replay = once  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        driver.commit()
    driver.send_commit("later", {T0: 3}, group="i")
    driver.commit()
    for who in ("behind", "later"):
        assert commit_errors(driver.answer(who, m.OffsetCommitResponse)) == [ErrorCode.NONE]


def test_epochs() -> None:
    driver = Driver()
    runtime = driver.runtime
    driver.commit_offsets({T0: 1})
    assert not runtime.load_start(OFFSETS, 0, 5), "we lead on, only the epoch has moved: nothing is loaded again"
    assert driver.fetch() == {T0: 1}
    assert runtime.unload(OFFSETS, 0, 4) == []
    assert runtime.is_serving(OFFSETS, 0), "the word of an older epoch came late"
    runtime.unload(OFFSETS, 0, 5)
    assert not runtime.is_serving(OFFSETS, 0)
    assert runtime.load_start(OFFSETS, 0, 6)
    assert not runtime.is_serving(OFFSETS, 0)


def test_the_high_watermark_may_be_told_before_the_append() -> None:
    driver = Driver()
    driver.appends = False
    driver.send_commit("c", {T0: 1})
    (append,) = driver.waiting
    assert driver.runtime.committed(OFFSETS, 0, 10, driver.now_ms) == []
    assert "c" not in driver.answers
    driver.carry_out(driver.runtime.appended(append.token, 9, 9, driver.now_ms))
    assert "c" in driver.answers


def test_a_high_watermark_that_covers_half_of_a_write_commits_none_of_it() -> None:
    driver = Driver()
    driver.commits = False
    driver.send_commit("c", {T0: 1, T1: 2})
    driver.carry_out(driver.runtime.committed(OFFSETS, 0, 1, driver.now_ms))
    assert "c" not in driver.answers
    assert driver.fetch() == {}
    driver.carry_out(driver.runtime.committed(OFFSETS, 0, 2, driver.now_ms))
    assert driver.fetch() == {T0: 1, T1: 2}


def test_writes_of_one_turn_may_be_one_batch() -> None:
    driver = Driver()
    driver.appends = False
    for number in range(3):
        driver.send_commit(number, {T0: number})
    appends = list(driver.waiting)
    assert [len(each.records) for each in appends] == [1, 1, 1]
    for offset, append in enumerate(appends):
        assert driver.runtime.appended(append.token, offset, offset, driver.now_ms) == []
    driver.carry_out(driver.runtime.committed(OFFSETS, 0, 2, driver.now_ms))
    assert set(driver.answers) == {0, 1}
    assert driver.fetch() == {T0: 1}


def test_a_write_that_fails_does_not_hold_up_those_behind_it() -> None:
    driver = Driver()
    driver.appends = False
    for number in range(3):
        driver.send_commit(number, {T0: number})
    first, second, third = driver.waiting
    now_ms = driver.now_ms
    driver.carry_out(driver.runtime.appended(second.token, 0, 0, now_ms))
    driver.carry_out(driver.runtime.committed(OFFSETS, 0, 1, now_ms))
    assert not driver.answers
    driver.carry_out(driver.runtime.appended(first.token, ErrorCode.MESSAGE_TOO_LARGE, -1, now_ms))
    assert set(driver.answers) == {0, 1}
    driver.carry_out(driver.runtime.appended(third.token, 1, 1, now_ms))
    driver.carry_out(driver.runtime.committed(OFFSETS, 0, 2, now_ms))
    assert driver.fetch() == {T0: 2}


def test_one_timer_watches_all_writes_of_a_shard() -> None:
    driver = Driver()
    before = sum(isinstance(each, SetTimer) for each in driver.seen)
    for number in range(100):
        driver.send_commit(number, {T0: number})
    assert sum(isinstance(each, SetTimer) for each in driver.seen) == before + 1
    driver.advance(4_000)
    driver.commits = False
    driver.send_commit("slow", {T0: 7})
    driver.advance(4_000)
    assert "slow" not in driver.answers
    driver.advance(1_000)
    assert commit_errors(driver.answer("slow", m.OffsetCommitResponse)) == [ErrorCode.REQUEST_TIMED_OUT]


def test_a_request_may_name_its_partition() -> None:
    driver = Driver(partitions=5)
    partition = driver.runtime.partition_for("g")
    ctx = RequestContext("r", ApiKey.HEARTBEAT, 3)
    driver.asked["r"] = ctx
    driver.carry_out(driver.runtime.request(partition, ctx, m.HeartbeatRequest(group_id="g"), driver.now_ms))
    assert error(driver.answers["r"]) == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_partition_count_is_the_topics_own_once_it_is_there() -> None:
    driver = Driver(partitions=5)
    driver.topics.counts[OFFSETS] = 0
    assert driver.runtime.partition_for("g2") == 3, "as the setting says"
    driver.topics.counts[OFFSETS] = 50
    assert driver.runtime.partition_for("g2") == 43


def test_effects_name_nothing_twice() -> None:
    """Every timer that is set has fired, was cancelled, or still runs."""
    driver = Driver()
    leader, follower = driver.stable_group("a", "b")
    driver.leave((leader, None), (follower, None))
    driver.unload()
    assert driver.timers == {}
    assert any(isinstance(each, CancelTimer) for each in driver.seen)


def test_everything_is_as_before_after_a_failover() -> None:
    driver = Driver(partitions=3)
    members = {}
    for group in ("one", "two", "three"):
        members[group] = driver.stable_group("a", "b", group=group)
        for known, ids in members.items():
            assert [driver.heartbeat(member, 1, group=known) for member in ids] == [0, 0]
        driver.commit_offsets({T0: 1, T1: len(group)}, group=group, member=members[group][0], generation=1)
    before = {group: (driver.describe(group), driver.fetch(group=group)) for group in members}
    driver.restart()
    assert {group: (driver.describe(group), driver.fetch(group=group)) for group in members} == before
    for group, (leader, follower) in members.items():
        assert driver.heartbeat(leader, 1, group=group) == driver.heartbeat(follower, 1, group=group) == 0
        assert (
            driver.synced(driver.sync(("again", group), group=group, member=follower, generation=1)).assignment == b"1"
        )


MANY = [f"g{number}" for number in range(3 * PARTS_AT_ONCE + 1)]


def fetch_of_many(driver: Driver) -> None:
    group = m.OffsetFetchRequest.OffsetFetchRequestGroup
    driver.send("many", m.OffsetFetchRequest(groups=[group(group_id=name, topics=None) for name in MANY]), 8)


def test_a_request_about_many_groups_lets_others_in_between() -> None:
    driver = Driver()
    assert driver.commit_offsets({T0: 7}, group=MANY[-1]) == [ErrorCode.NONE]
    fetch_of_many(driver)
    for _ in range(3):
        assert "many" not in driver.answers
        assert driver.commit_offsets({T0: 8}, group=MANY[0]) == [ErrorCode.NONE]  # it is behind this one already
        driver.advance(1)
    told = driver.answer("many", m.OffsetFetchResponse).groups
    assert [group.group_id for group in told] == MANY
    assert {group.error_code for group in told} == {ErrorCode.NONE}
    assert [group.topics[0].partitions[0].committed_offset for group in told if group.topics] == [7]
    assert not [key for key in driver.timers if isinstance(key, TimerKey) and key.shard.partition < 0]


def test_a_shard_that_is_lost_amid_a_request_about_many_groups() -> None:
    driver = Driver()
    fetch_of_many(driver)
    driver.unload()
    driver.advance(3)
    codes = [group.error_code for group in driver.answer("many", m.OffsetFetchResponse).groups]
    assert codes == [ErrorCode.NONE] * PARTS_AT_ONCE + [ErrorCode.NOT_COORDINATOR] * (len(MANY) - PARTS_AT_ONCE)
