"""Heartbeats that have waited for a change of their group: decided one upon the other, written and answered at once."""

from __future__ import annotations

from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.group_state import GroupState
from cluster.effects import Append
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver
from tests.unit.cluster.coordinator.test_consumer_group import SHARD, beat, driver, group, request

NAMES = [f"m{number}" for number in range(1, 9)]


def appends(it: Driver) -> int:
    return sum(isinstance(effect, Append) for effect in it.seen)


def wait(it: Driver, names: list[str], epoch: int = 0, **more: object) -> None:
    """All of them ask while a change of somebody else is not committed."""
    it.commits = False
    it.send("a change", request(it, "first", 0), 1)
    for name in names:
        it.send(name, request(it, name, epoch, **more), 1)  # type: ignore[arg-type]
    assert not set(names) & it.answers.keys()


def answer(it: Driver, who: str) -> m.ConsumerGroupHeartbeatResponse:
    return it.answer(who, m.ConsumerGroupHeartbeatResponse)


def fail(it: Driver, error: ErrorCode) -> None:
    append = it.waiting.popleft()
    it.carry_out(it.runtime.appended(append.token, error, -1, it.now_ms))


def shown(group: ConsumerGroup) -> tuple[object, ...]:
    return group.epoch, group.assignment_epoch, group.members, group.targets, group._owners, group._target_owners


def test_they_are_one_write_of_the_records_that_each_would_have_made() -> None:
    alone, it = driver(), driver()
    for name in ["first", *NAMES]:
        beat(alone, name, 0)
    wait(it, NAMES)
    it.commit()
    assert appends(it) == 2
    assert not set(NAMES) & it.answers.keys(), "nobody hears of what may be lost"
    assert set(group(it).members) == {"first"}, "nor is it shown"
    it.commit()
    assert it.logs == alone.logs
    assert [answer(it, name) for name in NAMES] == [answer(alone, ("ask", n)) for n in range(1, 9)]
    assert shown(group(it)) == shown(group(alone))


def test_what_fails_has_not_happened() -> None:
    it = driver()
    wait(it, NAMES)
    it.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    it.commit()
    assert {answer(it, name).error_code for name in NAMES} == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert set(group(it).members) == {"first"}
    it.write_error, it.commits = None, True
    assert beat(it, "m1", 0).member_epoch == 3


def test_what_takes_too_long_is_decided_by_the_log() -> None:
    it = driver()
    wait(it, NAMES)
    it.commit()
    it.advance(5_000)
    assert {answer(it, name).error_code for name in NAMES} == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert beat(it, "late", 0).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    it.commits = True
    it.commit()
    assert set(group(it).members) == {"first", *NAMES}
    it.advance(1_000)  # the waits of all of them are settled
    assert beat(it, "late", 0).member_epoch == 11


def test_what_is_too_large_together_is_written_one_by_one() -> None:
    """By who cannot be written at all only he himself is refused."""
    it = driver()
    wait(it, NAMES)
    it.appends, it.commits = False, True
    it.commit()
    fail(it, ErrorCode.RECORD_LIST_TOO_LARGE)
    for _ in range(2):
        assert len(it.waiting) == 1
        append = it.waiting.popleft()
        base = len(it.logs[SHARD])
        it.logs[SHARD] += append.records
        it.carry_out(it.runtime.appended(append.token, base, base + len(append.records) - 1, it.now_ms))
        it.commit()
    fail(it, ErrorCode.MESSAGE_TOO_LARGE)
    it.appends = True
    it.append_all()
    assert set(group(it).members) == {"first", *NAMES} - {"m3"}
    assert [answer(it, name).member_epoch for name in NAMES if name != "m3"] == [*range(3, 10)]
    assert answer(it, "m3").error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert appends(it) == 1 + 1 + len(NAMES)


def test_a_member_has_one_turn_in_it() -> None:
    it = driver()
    beat(it, "m1", 0)
    wait(it, ["m2"])
    it.send("again", request(it, "m2", 0), 1)
    it.send("m3", request(it, "m3", 0), 1)
    it.commit()
    before = appends(it)
    it.commit()
    assert set(group(it).members) == {"m1", "first", "m2"}
    assert appends(it) == before + 1
    it.commit()
    assert answer(it, "again").member_epoch == 4
    assert "m3" in group(it).members


def test_an_error_that_follows_from_it_waits_with_it() -> None:
    it = driver(max_size=2)
    wait(it, ["m1", "m2"])
    it.commit()
    assert "m2" not in it.answers
    it.commit()
    assert answer(it, "m1").error_code == 0
    assert answer(it, "m2").error_code == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_an_error_that_follows_from_what_fails_is_not_told() -> None:
    it = driver(max_size=2)
    wait(it, ["m1", "m2"])
    it.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    it.commit()
    assert answer(it, "m2").error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_what_says_nothing_new_waits_with_what_it_was_decided_by() -> None:
    it = driver()
    beat(it, "m1", 0)
    wait(it, ["m2"])
    epoch = group(it).members["m1"].epoch
    it.send("m1 is there", request(it, "m1", epoch, owned=[0, 1, 2, 3]), 1)
    it.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    it.commit()
    assert answer(it, "m1 is there").error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_the_last_consumer_that_leaves_classic_members_behind_waits_for_the_others() -> None:
    it = driver()
    it.join("a")
    classic = it.joined("a").member_id
    assert beat(it, "m1", 0).error_code == 0
    wait(it, ["m1"], -1)  # `first` comes, m1 and it go
    it.send("first goes", request(it, "first", -1), 1)
    it.commit()
    it.commit()
    assert set(group(it).members) == {classic, "first"}
    assert answer(it, "m1").error_code == 0
    it.commits = True
    it.commit()
    assert answer(it, "first goes").error_code == 0
    found = it.runtime.machine(*SHARD)._groups["g"]  # type: ignore[union-attr]
    assert not isinstance(found, ConsumerGroup)
    assert found.state is GroupState.PREPARING


def test_losing_the_shard_answers_all_of_them() -> None:
    it = driver()
    wait(it, NAMES)
    it.commit()
    it.unload()
    assert {answer(it, name).error_code for name in NAMES} == {ErrorCode.NOT_COORDINATOR}


def test_many_are_several_writes() -> None:
    it = driver(max_size=1_000)
    names = [f"n{number}" for number in range(100)]
    wait(it, names)
    it.commits = True
    it.commit()
    assert {answer(it, name).error_code for name in names} == {0}
    assert 3 <= appends(it) <= 6


def test_a_copy_goes_its_own_way() -> None:
    it = driver()
    for name in NAMES:
        beat(it, name, 0)
    found = group(it)
    before = shown(found.copy())
    copy = found.copy()
    for fact in found.tombstones()[:-1]:
        copy.apply(fact)
    assert not copy.members
    assert shown(found) == before
    fields = [name for name in dir(ConsumerGroup) if name[0] != "_" and not callable(getattr(found, name))]
    assert "members" in fields and "assignment_ms" in fields
    assert all(getattr(found, name) == getattr(found.copy(), name) for name in fields)
