"""How long offsets and groups are kept, and that what is removed stays removed."""

from __future__ import annotations

import pytest

from cluster.effects import Append, Note
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, subscription

T0, U0 = ("t", 0), ("u", 0)
DAY_MS = 24 * 3_600_000
RETENTION_MS = 7 * DAY_MS


@pytest.fixture
def driver() -> Driver:
    return Driver()


def keep_alive(driver: Driver, member: str, for_ms: int, *, generation: int = 1) -> None:
    """Hours pass for a member with the longest session there is."""
    for _ in range(for_ms // 1_500_000 + 1):
        driver.advance(1_500_000)
        assert driver.heartbeat(member, generation) == ErrorCode.NONE


def long_member(driver: Driver, topic: str = "t", protocol_type: str = "consumer") -> str:
    driver.join("long", session_ms=1_800_000, protocols=[("range", subscription(topic))], protocol_type=protocol_type)
    driver.advance(3_000)
    member = driver.joined("long").member_id
    driver.sync("long sync", member=member, generation=driver.joined("long").generation_id)
    return member


def test_a_group_that_only_keeps_offsets_keeps_each_from_its_commit(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    driver.advance(DAY_MS)
    driver.commit_offsets({U0: 1})
    driver.advance(RETENTION_MS - DAY_MS - 1)
    assert driver.fetch() == {T0: 1, U0: 1}
    driver.advance(600_001)
    assert driver.fetch() == {U0: 1}
    driver.advance(DAY_MS)
    assert driver.fetch() == {}
    assert driver.state() == "Dead"
    driver.restart()
    assert driver.state() == "Dead"


def test_a_group_that_became_empty_keeps_all_from_then(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.commit_offsets({T0: 1}, member=member, generation=1)
    driver.advance(9_000)
    driver.leave((member, None))
    driver.restart()
    driver.advance(RETENTION_MS - 600_000)
    assert driver.fetch() == {T0: 1}
    driver.advance(1_200_000)
    assert driver.fetch() == {}
    assert driver.state() == "Dead"
    assert driver.logs.popitem()[1][-1] == (b"\x00\x02\x00\x01g", None), "the group itself has its tombstone"


def test_a_live_group_keeps_what_it_reads_and_loses_what_it_does_not(driver: Driver) -> None:
    driver.commit_offsets({T0: 1, U0: 1})
    member = long_member(driver)
    keep_alive(driver, member, RETENTION_MS - DAY_MS)
    assert driver.fetch() == {T0: 1, U0: 1}
    keep_alive(driver, member, 2 * DAY_MS)
    assert driver.fetch() == {T0: 1}
    assert driver.state() == "Stable"


def test_a_live_group_whose_subscription_cannot_be_read_keeps_all(driver: Driver) -> None:
    driver.commit_offsets({U0: 1})
    driver.join("a", session_ms=1_800_000, protocols=[("range", b"\x00\x01\xff")])
    driver.advance(3_000)
    member = driver.joined("a").member_id
    driver.sync("s", member=member, generation=1)
    keep_alive(driver, member, RETENTION_MS * 2)
    assert driver.fetch() == {U0: 1}


def test_a_live_group_of_another_sort_keeps_all(driver: Driver) -> None:
    driver.commit_offsets({U0: 1})
    member = long_member(driver, protocol_type="connect")
    keep_alive(driver, member, RETENTION_MS * 2)
    assert driver.fetch() == {U0: 1}


def test_a_commit_on_its_way_is_not_expired_under_it(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    driver.advance(RETENTION_MS - 1_000)
    driver.commits = False
    driver.send_commit("c", {T0: 2})
    driver.advance(2_000)  # the check that would expire the first commit
    driver.commit()
    assert driver.fetch() == {T0: 2}
    driver.restart()
    assert driver.fetch() == {T0: 2}


def test_an_empty_group_without_offsets_goes_at_the_next_check(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.leave((member, None))
    assert driver.state() == "Empty"
    driver.advance(600_000)
    assert driver.state() == "Dead"


def test_a_group_that_waits_for_a_member_to_come_back_with_its_id_stays(driver: Driver) -> None:
    driver.advance(599_000)
    driver.join("a", version=4)
    driver.advance(2_000)
    driver.join("a2", version=4, member=driver.joined("a").member_id)
    driver.advance(3_000)
    assert driver.joined("a2").generation_id == 1


def test_a_group_nobody_ever_joined_leaves_no_trace(driver: Driver) -> None:
    driver.join("a", version=4)
    driver.advance(1_200_000)
    assert driver.state() == "Dead"
    assert driver.logs == {}


def test_tombstones_that_cannot_be_written_are_tried_again(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.advance(RETENTION_MS + 600_000)
    assert driver.fetch() == {T0: 1}
    assert any(isinstance(each, Note) and each.warning for each in driver.seen)
    assert driver.commit_offsets({U0: 1}) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
    driver.write_error = None
    driver.advance(600_000)
    assert driver.fetch() == {}


def test_a_group_is_told_to_look_again_while_it_is_being_deleted(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    driver.commits = False
    driver.advance(RETENTION_MS + 600_000)
    assert driver.commit_offsets({T0: 2}) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
    driver.join("a")
    assert driver.joined("a").error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert driver.fetch(T0) == {T0: -1}
    driver.commit()
    driver.commits = True
    assert driver.commit_offsets({T0: 3}) == [0]
    driver.restart()
    assert driver.fetch() == {T0: 3}


def test_deleted_topics_take_their_offsets_along(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.commit_offsets({T0: 1, U0: 2}, member=member, generation=1)
    driver.commit_offsets({U0: 3}, group="simple")
    driver.carry_out(driver.runtime.on_topics_deleted(["u"], driver.now_ms))
    assert driver.fetch() == {T0: 1}
    assert driver.state() == "Stable"
    assert driver.state("simple") == "Dead", "nothing is left of it"
    driver.restart()
    assert driver.fetch() == {T0: 1}
    assert driver.fetch(group="simple") == {}


def test_a_commit_on_its_way_does_not_survive_its_topic(driver: Driver) -> None:
    driver.commits = False
    driver.send_commit("c", {U0: 3})
    driver.carry_out(driver.runtime.on_topics_deleted(["u"], driver.now_ms))
    driver.commit()
    assert driver.fetch() == {}
    driver.restart()
    assert driver.fetch() == {}


def test_a_check_with_nothing_to_do_writes_nothing(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    before = sum(isinstance(each, Append) for each in driver.seen)
    driver.advance(DAY_MS)
    assert sum(isinstance(each, Append) for each in driver.seen) == before
