"""The ISR of one partition that we lead."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from cluster.replication import isr as machine
from cluster.replication.isr import Isr, IsrAnswer, IsrChange, LedPartition
from pylog.errors import ErrorCode
from pylog.types import TopicPartition

ME = 1
LAG_MS = 30_000
STATE = LedPartition(TopicPartition("orders", 3), b"i" * 16, leader_epoch=5, partition_epoch=7, isr=(1, 2, 3))


class Replica(NamedTuple):
    broker_id: int
    log_end: int
    lag_ms: int = 0
    joining: int = 0


def everybody(_: int) -> bool:
    return True


def led(*isr: int) -> Isr:
    return Isr(ME, LAG_MS, STATE._replace(isr=isr), now_ms=0)


def success(change: IsrChange, isr: tuple[int, ...] | None = None, partition_epoch: int = 8) -> IsrAnswer:
    return IsrAnswer(0, change.leader_epoch, partition_epoch, change.isr if isr is None else isr)


def expanding(*, may_join: Callable[[int], bool] = everybody) -> tuple[Isr, IsrChange]:
    isr = led(1, 2)
    change = isr.expand([Replica(1, 9), Replica(2, 9), Replica(3, 9, joining=1)], may_join)
    assert change is not None
    return isr, change


def test_all_that_are_behind_leave_at_once() -> None:
    isr = led(3, 1, 2)
    change = isr.shrink([Replica(1, 9), Replica(2, 8, LAG_MS + 1), Replica(3, 7, LAG_MS + 1)], (), LAG_MS)
    assert change == IsrChange(STATE.partition, STATE.topic_id, 5, 7, (1,), -1)
    assert isr.joining == () and isr.committed == (3, 1, 2), "until the controller has said so, they count"


def test_who_has_everything_or_had_it_lately_stays() -> None:
    isr = led(1, 2, 3)
    assert isr.shrink([Replica(1, 9), Replica(2, 9, LAG_MS * 9), Replica(3, 7, LAG_MS)], (), LAG_MS) is None
    assert isr.pending is None


def test_a_leader_never_leaves_and_strangers_do_not_matter() -> None:
    isr = led(1, 2)
    assert isr.shrink([Replica(1, 9, LAG_MS * 9), Replica(2, 9), Replica(4, 0, LAG_MS * 9)], (), LAG_MS) is None


def test_who_has_not_fetched_since_we_lead_leaves_when_that_is_long_ago() -> None:
    silent = [Replica(1, 9), Replica(2, -1, -1)]
    assert led(1, 2).shrink(silent, {2}, LAG_MS // 2) is None, "it was said of an earlier leader epoch"
    assert led(1, 2).shrink(silent, (), LAG_MS * 9) is None, "the data plane has the finer clock"
    change = led(1, 2).shrink(silent, {2}, LAG_MS // 2 + 1)
    assert change is not None and change.isr == (1,)


def test_one_joins_at_a_time_and_comes_last() -> None:
    isr = led(2, 1)
    replicas = [Replica(1, 9), Replica(2, 9), Replica(3, 9, joining=1), Replica(4, 9, joining=1)]
    change = isr.expand(replicas, everybody)
    assert change is not None and change.isr == (2, 1, 3) and change.joins == 3
    assert isr.joining == (3,), "it counts from now on"
    assert (
        isr.expand(replicas, everybody) is None
        and isr.shrink([Replica(1, 9), Replica(2, 0, LAG_MS * 9)], (), LAG_MS) is None
    )


def test_only_whom_the_data_plane_counts_and_the_cluster_knows_joins() -> None:
    isr = led(1)
    assert isr.expand([Replica(1, 9), Replica(2, 9)], everybody) is None
    assert isr.expand([Replica(2, 9, joining=1)], lambda broker_id: broker_id != 2) is None
    change = isr.expand([Replica(2, 9, joining=1), Replica(3, 9, joining=1)], lambda broker_id: broker_id != 2)
    assert change is not None and change.isr == (1, 3)


def test_success_commits_what_the_controller_says() -> None:
    isr, change = expanding()
    assert isr.answered(change, success(change, isr=(1, 3))) == machine.COMMITTED
    assert isr.committed == (1, 3) and isr.joining == () and isr.state.partition_epoch == 8
    following = isr.shrink([Replica(1, 9), Replica(3, 0, LAG_MS + 1)], (), LAG_MS)
    assert following is not None and following.partition_epoch == 8


def test_success_without_a_change_frees_the_way_too() -> None:
    isr, change = expanding()
    assert isr.answered(change, success(change, partition_epoch=7)) == machine.COMMITTED
    assert isr.pending is None and isr.committed == (1, 2, 3)


@pytest.mark.parametrize("error", [ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED])
def test_what_was_surely_not_made_is_forgotten(error: ErrorCode) -> None:
    isr, change = expanding()
    assert isr.answered(change, IsrAnswer(int(error))) == machine.REFUSED
    assert isr.committed == (1, 2) and isr.joining == () and isr.pending is None


@pytest.mark.parametrize(
    "error",
    [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
    ],
)
def test_what_may_have_been_made_counts_until_the_controller_tells(error: ErrorCode) -> None:
    isr, change = expanding()
    assert isr.answered(change, IsrAnswer(int(error))) == machine.GIVEN_UP
    assert isr.joining == (3,)
    assert isr.shrink([Replica(1, 9), Replica(2, 0, LAG_MS * 9)], (), LAG_MS) is None, "nothing more is asked"


@pytest.mark.parametrize(
    "error", [ErrorCode.NOT_CONTROLLER, ErrorCode.UNKNOWN_SERVER_ERROR, ErrorCode.REQUEST_TIMED_OUT]
)
def test_other_errors_are_retried(error: ErrorCode) -> None:
    isr, change = expanding()
    assert isr.answered(change, IsrAnswer(int(error))) == machine.RETRIED
    assert isr.pending is change
    assert isr.answered(change, success(change)) == machine.COMMITTED


def test_a_success_of_another_time_commits_nothing() -> None:
    isr, change = expanding()
    assert isr.answered(change, success(change, partition_epoch=6)) == machine.GIVEN_UP
    isr, change = expanding()
    assert isr.answered(change, IsrAnswer(0, 6, 9, (3,))) == machine.GIVEN_UP
    assert isr.committed == (1, 2) and isr.joining == (3,)


def test_an_answer_to_another_change_is_ignored() -> None:
    isr, change = expanding()
    assert isr.answered(change._replace(isr=(1, 2, 3, 4)), success(change)) == machine.IGNORED
    assert isr.pending is change


@pytest.mark.parametrize(
    ("leader_epoch", "partition_epoch", "taken"), [(5, 7, True), (5, 8, True), (6, 6, True), (5, 6, False)]
)
def test_an_older_state_is_not_taken(leader_epoch: int, partition_epoch: int, taken: bool) -> None:
    told = STATE._replace(leader_epoch=leader_epoch, partition_epoch=partition_epoch)
    assert led(1, 2).takes(told) is taken
