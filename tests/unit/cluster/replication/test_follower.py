"""What a follower does about answers that are no records."""

from cluster.replication.follower import (
    ASKING,
    CUTTING,
    EARLIEST,
    FAILED,
    FETCHING,
    LATEST,
    Ask,
    AskLater,
    CutLater,
    Fail,
    Fetch,
    Follower,
    StartAt,
    Truncate,
)
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.errors import ErrorCode

OWN = OwnLog(end_offset=20, high_watermark=8, latest_epoch=4)
OUT_OF_RANGE = int(ErrorCode.OFFSET_OUT_OF_RANGE)
FENCED = int(ErrorCode.FENCED_LEADER_EPOCH)


def follower() -> Follower:
    return Follower(leader=2, leader_epoch=5, number=9)


def asking() -> Follower:
    machine = follower()
    assert machine.refused(OUT_OF_RANGE) == [Ask(LATEST)]
    return machine


def cuts(actions: object) -> list[int]:
    assert isinstance(actions, list)
    return [each.offset for each in actions if isinstance(each, Truncate)]


def test_with_epochs_it_fetches_at_once() -> None:
    assert follower().begin(OWN) == [Fetch()]


def test_without_epochs_it_cuts_to_the_high_watermark_first() -> None:
    actions = follower().begin(OWN._replace(latest_epoch=-1))
    assert cuts(actions) == [8] and actions[-1] == Fetch()


def test_where_the_leader_differs_it_cuts_and_fetches_on() -> None:
    actions = follower().diverged(EpochEnd(4, 15), OWN, EpochEnd(4, 20))
    assert cuts(actions) == [15] and actions[-1] == Fetch()


def test_nothing_is_cut_twice() -> None:
    assert follower().diverged(EpochEnd(4, 15), OWN._replace(end_offset=12), EpochEnd(4, 12)) == [Fetch()]


def test_a_leader_that_ends_before_us_is_followed_to_its_end() -> None:
    machine = asking()
    actions = machine.told(LATEST, 11, OWN)
    assert cuts(actions) == [11] and actions[-1] == Fetch() and machine.state == FETCHING


def test_a_leader_that_begins_behind_our_end_is_taken_from_its_start() -> None:
    machine = asking()
    assert machine.told(LATEST, 90, OWN) == [Ask(EARLIEST)]
    assert machine.told(EARLIEST, 70, OWN) == [StartAt(70), Fetch()]


def test_a_leader_that_has_gone_on_is_fetched_from_again() -> None:
    machine = asking()
    machine.told(LATEST, 20, OWN)
    assert machine.told(EARLIEST, 20, OWN) == [Fetch()]
    assert machine.state == FETCHING


def test_a_leader_that_cannot_be_asked_is_asked_later() -> None:
    machine = asking()
    assert machine.not_told(LATEST, int(ErrorCode.NETWORK_EXCEPTION)) == [AskLater()]
    assert machine.state == ASKING and machine.try_again() == [Ask(LATEST)]
    machine.told(LATEST, 90, OWN)
    assert machine.not_told(EARLIEST, int(ErrorCode.NOT_LEADER_OR_FOLLOWER)) == [AskLater()]
    assert machine.try_again() == [Ask(EARLIEST)]


def test_a_fenced_follower_waits_for_another_epoch() -> None:
    machine = follower()
    assert machine.refused(FENCED) == [Fail("there is a newer one", passes=True)] and machine.state == FAILED
    assert machine.refused(OUT_OF_RANGE) == [] and machine.diverged(EpochEnd(4, 15), OWN, EpochEnd(4, 20)) == []
    machine = asking()
    assert machine.not_told(LATEST, FENCED) == [Fail("there is a newer one", passes=True)] and machine.state == FAILED
    assert machine.try_again() == [] and machine.told(LATEST, 11, OWN) == []


def test_a_cut_that_failed_is_made_later_and_nothing_is_fetched_before() -> None:
    machine = follower()
    actions = machine.diverged(EpochEnd(4, 15), OWN, EpochEnd(4, 20))
    assert machine.cut_failed(actions) == [CutLater(1)] and machine.state == CUTTING
    assert machine.diverged(EpochEnd(4, 12), OWN, EpochEnd(4, 20)) == [] and machine.refused(OUT_OF_RANGE) == []
    assert machine.try_again() == actions
    assert machine.cut_failed(actions) == [CutLater(2)]
    assert machine.try_again() == actions and machine.state == FETCHING and machine.try_again() == []
    machine.refused(OUT_OF_RANGE)
    assert machine.cut_failed(machine.told(LATEST, 11, OWN)) == [CutLater(1)], "it was fetched in between"


def test_an_answer_nobody_waits_for_changes_nothing() -> None:
    machine = follower()
    assert machine.told(LATEST, 3, OWN) == [] and machine.not_told(LATEST, FENCED) == []
    assert machine.state == FETCHING
    machine = asking()
    assert machine.told(EARLIEST, 90, OWN) == [], "the latest was asked for"
    assert machine.state == ASKING


def test_an_unknown_refusal_fails_it() -> None:
    assert follower().refused(int(ErrorCode.KAFKA_STORAGE_ERROR)) == [Fail("error 56 does not pass")]
