"""Offsets committed in transactions: who may, what is seen meanwhile, and what is left after each end and each load."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import GroupConfig
from cluster.effects import Append, Producer
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver

T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)
UNSTABLE = -ErrorCode.UNSTABLE_OFFSET_COMMIT


@pytest.fixture
def driver() -> Driver:
    return Driver()


def appends(driver: Driver) -> list[Append]:
    return [each for each in driver.seen if isinstance(each, Append)]


@pytest.mark.parametrize("version", range(6))
@pytest.mark.parametrize("over", ["alive", "loaded"])
def test_every_version_commits_when_its_transaction_does(driver: Driver, version: int, over: str) -> None:
    driver.commit_offsets({T0: 1})
    driver.send_txn_commit("x", {T0: 5, U0: 6}, epoch=3, version=version)
    assert appends(driver)[-1].producer == Producer(7, 3)
    if over == "loaded":
        driver.restart()
    assert driver.fetch() == {T0: 1}
    assert driver.fetch(T0, T1, U0, stable=True) == {T0: UNSTABLE, T1: -1, U0: UNSTABLE}
    driver.end_transaction(7, commit=True)
    if over == "loaded":
        driver.restart()
    assert driver.fetch(stable=True) == {T0: 5, U0: 6}


@pytest.mark.parametrize("over", ["alive", "loaded"])
def test_an_abort_leaves_what_was(driver: Driver, over: str) -> None:
    driver.commit_offsets({T0: 1})
    assert driver.txn_commit({T0: 5, T1: 5}) == [0, 0]
    driver.end_transaction(7, commit=False)
    if over == "loaded":
        driver.restart()
    assert driver.fetch(T0, T1, stable=True) == {T0: 1, T1: -1}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"member": "M", "generation": 1}, ErrorCode.NONE),
        ({"member": "M", "generation": 2}, ErrorCode.ILLEGAL_GENERATION),
        ({"member": "M", "generation": -1}, ErrorCode.ILLEGAL_GENERATION),
        ({"member": "nobody", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "", "generation": -1}, ErrorCode.NONE),
        ({"member": "", "generation": -1, "version": 0}, ErrorCode.NONE),
        ({"member": "M", "generation": 1, "instance": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "M", "generation": 1, "instance": "s"}, ErrorCode.FENCED_INSTANCE_ID),
        ({"group": "new", "generation": 3, "member": "M"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"group": "new", "generation": -1}, ErrorCode.NONE),
        ({"group": "", "generation": -1}, ErrorCode.INVALID_GROUP_ID),
    ],
)
def test_who_may_commit_beside_a_live_group(driver: Driver, asked: dict[str, object], code: ErrorCode) -> None:
    driver.join("a")
    driver.join("s", instance="s", version=5)
    driver.advance(driver.config.initial_rebalance_delay_ms * 2)
    ids = [driver.joined(who).member_id for who in ("a", "s")]
    driver.sync_all(ids[:1])
    if asked.get("member") == "M":
        asked = asked | {"member": ids[0]}
    assert driver.txn_commit({T0: 1, T1: 2}, **asked) == [code, code]  # type: ignore[arg-type]


def test_a_generation_without_its_assignment_takes_them_and_a_dead_group_does_not(driver: Driver) -> None:
    driver.join("a")
    driver.advance(driver.config.initial_rebalance_delay_ms)
    member = driver.joined("a").member_id
    assert driver.state() == "CompletingRebalance"
    assert driver.txn_commit({T0: 1}, member=member, generation=1) == [0]
    driver.end_transaction(7, commit=False)
    driver.leave((member, None))
    driver.commits = False
    driver.send("d", m.DeleteGroupsRequest(groups_names=["g"]), 2)
    assert driver.txn_commit({T0: 1}) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]


def test_it_is_no_sign_of_life(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.advance(9_000)
    assert driver.txn_commit({T0: 1}, member=member, generation=1) == [0]
    driver.advance(1_001)
    assert driver.state() == "Empty"


def test_partitions_that_are_not_there_and_metadata_that_is_too_long(driver: Driver) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert driver.txn_commit({("nope", 0): 1, T0: 2, ("t", 4): 3}) == [unknown, 0, unknown]
    assert driver.txn_commit({("nope", 0): 1}, group="new", generation=3) == [unknown], "no group is asked for that"
    assert driver.txn_commit({T1: 1}, metadata="x" * 4097) == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
    driver.end_transaction(7, commit=True)
    assert driver.fetch() == {T0: 2}


def test_what_its_coordinator_does_not_know_of(driver: Driver) -> None:
    """The group is there from now on, and partitions that are not there are said to be so all the same."""
    driver.verified = ErrorCode.INVALID_TXN_STATE
    refused, unknown = ErrorCode.INVALID_TXN_STATE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert driver.commit_offsets({T0: 1}, generation=3) == [ErrorCode.ILLEGAL_GENERATION]
    assert driver.txn_commit({T0: 1, ("nope", 0): 1, T1: 2, ("t", 4): 1}) == [refused, refused, unknown, unknown]
    assert driver.state() == "Empty"
    assert driver.commit_offsets({T0: 1}, generation=3) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert not appends(driver)


@pytest.mark.parametrize("version", range(6))
def test_while_the_shard_is_away(driver: Driver, version: int) -> None:
    driver.unload()
    assert driver.txn_commit({T0: 1, T1: 1}, version=version) == [ErrorCode.NOT_COORDINATOR] * 2
    driver.runtime.load_start(OFFSETS, 0, 1)
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE if version < 2 else ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert driver.txn_commit({T0: 1}, version=version) == [code]


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
        (ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_PRODUCER_EPOCH),
        (ErrorCode.INVALID_TXN_STATE, ErrorCode.INVALID_TXN_STATE),
    ],
)
def test_what_cannot_be_written_leaves_what_the_transaction_had(
    driver: Driver, failed: ErrorCode, said: ErrorCode
) -> None:
    driver.txn_commit({T0: 1})
    driver.write_error = failed
    assert driver.txn_commit({T0: 2, T1: 2}) == [said, said]
    driver.write_error = None
    assert driver.fetch(T0, T1, stable=True) == {T0: UNSTABLE, T1: -1}
    driver.end_transaction(7, commit=True)
    assert driver.fetch(stable=True) == {T0: 1}


def test_offsets_are_unstable_from_the_request_on(driver: Driver) -> None:
    driver.commit_offsets({T0: 1})
    driver.commits = driver.appends = False
    driver.send_txn_commit("x", {T0: 2})
    assert driver.fetch(stable=True) == {T0: UNSTABLE}
    driver.append_all()
    assert "x" not in driver.answers
    driver.commit()
    assert "x" in driver.answers
    driver.end_transaction(7, commit=True)
    assert driver.fetch(stable=True) == {T0: UNSTABLE}, "the marker can still be lost"
    driver.commit()
    assert driver.fetch(stable=True) == {T0: 2}


@pytest.mark.parametrize("over", ["alive", "loaded"])
@pytest.mark.parametrize(
    ("committed", "left"), [((1, 2), 3), ((2, 1), 3), ((1,), 2), ((2,), 3), ((), 1)], ids=["12", "21", "1", "2", "none"]
)
def test_of_transactions_on_one_partition_the_last_in_the_log_counts(
    driver: Driver, over: str, committed: tuple[int, ...], left: int
) -> None:
    """Whatever the order of their ends: producer 1 wrote T0=2, producer 2 then T0=3."""
    driver.commit_offsets({T0: 1})
    driver.txn_commit({T0: 2, T1: 2}, producer=1)
    driver.txn_commit({T0: 3}, producer=2)
    for producer in {1, 2} - set(committed):
        driver.end_transaction(producer, commit=False)
    for producer in committed:
        driver.end_transaction(producer, commit=True)
    if over == "loaded":
        driver.restart()
    assert driver.fetch(T0, stable=True) == {T0: left}
    driver.commit_offsets({T0: 9})
    assert driver.fetch(T0, stable=True) == {T0: 9}


def test_a_plain_commit_while_a_transaction_is_open_is_the_later_one(driver: Driver) -> None:
    driver.txn_commit({T0: 5})
    assert driver.commit_offsets({T0: 4}) == [0]
    assert driver.fetch(T0) == {T0: 4}
    assert driver.fetch(stable=True) == {T0: UNSTABLE}
    driver.end_transaction(7, commit=True)
    assert driver.fetch(stable=True) == {T0: 4}
    driver.restart()
    assert driver.fetch(stable=True) == {T0: 4}


def test_a_marker_ends_what_its_producer_holds_in_each_group_and_nothing_else(driver: Driver) -> None:
    driver.txn_commit({T0: 1}, group="a")
    driver.txn_commit({T0: 2}, group="b")
    driver.txn_commit({T0: 3}, group="b", producer=8)
    driver.txn_commit({T1: 4}, group="c", producer=8)
    driver.end_transaction(9, commit=True)
    driver.end_transaction(7, commit=True)
    assert driver.fetch(T0, group="a", stable=True) == {T0: 1}
    assert driver.fetch(T0, group="b") == {T0: 2}
    assert driver.fetch(T0, group="b", stable=True) == {T0: UNSTABLE}
    assert driver.fetch(T1, group="c", stable=True) == {T1: UNSTABLE}
    driver.end_transaction(8, commit=False)
    assert driver.fetch(T0, group="b", stable=True) == {T0: 2}


@pytest.mark.parametrize("over", ["alive", "loaded"])
class TestDeletion:
    """A tombstone is the last word about all that came before it, though a transaction is open."""

    def end(self, driver: Driver, over: str) -> None:
        if over == "loaded":
            driver.restart()
        driver.end_transaction(7, commit=True)
        if over == "loaded":
            driver.restart()

    def test_of_the_group(self, driver: Driver, over: str) -> None:
        driver.commit_offsets({T1: 1})
        driver.txn_commit({T0: 5})
        answer = driver.ask(m.DeleteGroupsRequest(groups_names=["g"]), 2, m.DeleteGroupsResponse)
        assert answer.results[0].error_code == 0
        self.end(driver, over)
        assert driver.fetch(T0, T1, stable=True) == {T0: -1, T1: -1}
        assert driver.describe(version=6).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_of_the_group_and_then_it_is_used_again_in_the_same_transaction(self, driver: Driver, over: str) -> None:
        driver.txn_commit({T0: 5})
        driver.ask(m.DeleteGroupsRequest(groups_names=["g"]), 2, m.DeleteGroupsResponse)
        driver.txn_commit({T1: 6})
        self.end(driver, over)
        assert driver.fetch(T0, T1, stable=True) == {T0: -1, T1: 6}

    def test_of_the_offset(self, driver: Driver, over: str) -> None:
        driver.txn_commit({T0: 5, T1: 6})
        request = m.OffsetDeleteRequest(group_id="g")
        topic = m.OffsetDeleteRequest.OffsetDeleteRequestTopic(name="t")
        topic.partitions.append(m.OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=0))
        request.topics.append(topic)
        answer = driver.ask(request, 0, m.OffsetDeleteResponse)
        assert [each.error_code for each in answer.topics[0].partitions] == [0]
        assert driver.fetch(T0, T1, stable=True) == {T0: -1, T1: UNSTABLE}
        self.end(driver, over)
        assert driver.fetch(stable=True) == {T1: 6}

    def test_of_the_topic(self, driver: Driver, over: str) -> None:
        driver.txn_commit({T0: 5, U0: 6})
        driver.carry_out(driver.runtime.on_topics_deleted(["t"], driver.now_ms))
        self.end(driver, over)
        assert driver.fetch(stable=True) == {U0: 6}


def test_the_last_held_offset_deleted_takes_the_group_along(driver: Driver) -> None:
    driver.txn_commit({T0: 5})
    driver.carry_out(driver.runtime.on_topics_deleted(["t"], driver.now_ms))
    assert driver.describe(version=6).error_code == ErrorCode.GROUP_ID_NOT_FOUND


class TestExpiry:
    def test_held_offsets_keep_the_group_and_the_offset_they_replace(self) -> None:
        driver = Driver(GroupConfig(offsets_topic_partitions=1, offsets_retention_ms=1_000_000))
        driver.commit_offsets({T0: 1, T1: 1})
        driver.txn_commit({T0: 2})
        driver.advance(3_000_000)
        assert driver.fetch() == {T0: 1}, "only T1 is over"
        driver.end_transaction(7, commit=False)
        driver.advance(600_000)
        assert driver.fetch() == {}
        assert driver.describe(version=6).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    def test_a_group_that_was_refused_everything_goes(self, driver: Driver) -> None:
        driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
        driver.txn_commit({T0: 2})
        driver.write_error = None
        assert driver.state() == "Empty"
        driver.advance(600_000)
        assert driver.state() == "Dead"
        assert driver.logs[next(iter(driver.logs))] == [], "nothing was written for it"
