"""The driver of following, between a data plane, logs and leaders that are played."""

import pytest

from cluster.broker.leader_offsets import OffsetQuestion
from cluster.broker.replicator import Followed
from cluster.replication.follower import EARLIEST, LATEST
from cluster.replication.placement import fetcher_of
from cluster.replication.truncation import EpochEnd
from pylog.errors import ErrorCode, KafkaError
from pylog.types import TopicPartition
from tests.support.follower_world import BACKOFF_MS, EVENTS, ORDERS, FollowerWorld, PlayedLog

OUT_OF_RANGE = int(ErrorCode.OFFSET_OUT_OF_RANGE)
FENCED = int(ErrorCode.FENCED_LEADER_EPOCH)


@pytest.fixture
def world() -> FollowerWorld:
    return FollowerWorld()


@pytest.fixture
def following(world: FollowerWorld) -> FollowerWorld:
    world.follow_orders()
    world.heard()
    return world


def test_the_first_partition_of_a_leader_opens_a_fetcher(world: FollowerWorld) -> None:
    wanted = {ORDERS: Followed(2, 5, 70), EVENTS: Followed(2, 3, 71)}
    world.replicator.follow(wanted)
    assert world.heard() == ["open 1: broker-1-fetcher-0 to 2 at b2:9092", "follow 1: [70, 71]"]
    world.replicator.follow(wanted)
    assert world.heard() == [], "nothing is new"


def test_partitions_are_spread_over_the_fetchers_of_a_leader() -> None:
    world = FollowerWorld(fetchers=3)
    names = [TopicPartition("orders", index) for index in range(3)]
    world.logs.update({name: PlayedLog() for name in names})
    world.replicator.follow({name: Followed(2, 5, 70 + name.partition) for name in names})
    opened = {each.split()[2] for each in world.said if each.startswith("open")}
    assert opened == {f"broker-1-fetcher-{fetcher_of(name, 3)}" for name in names} and len(opened) == 3


def test_a_new_leader_epoch_is_followed_anew_through_the_same_fetcher(following: FollowerWorld) -> None:
    following.follow_orders(leader_epoch=6)
    assert following.heard() == ["unfollow [70]", "follow 1: [70]"]


def test_a_new_leader_gets_a_fetcher_and_the_old_one_ends(following: FollowerWorld) -> None:
    following.follow_orders(leader=3, leader_epoch=6)
    assert following.heard() == [
        "unfollow [70]",
        "open 2: broker-1-fetcher-0 to 3 at b3:9092",
        "follow 2: [70]",
        "close 1",
    ]


def test_a_fetcher_outlives_a_stop_that_is_followed_by_another_epoch(following: FollowerWorld) -> None:
    following.replicator.stop([ORDERS, EVENTS])
    following.replicator.follow({ORDERS: Followed(2, 6, 70)})
    following.turn()
    assert following.heard() == ["unfollow [70]", "follow 1: [70]"]
    following.replicator.stop([ORDERS])
    following.turn()
    assert following.heard() == ["unfollow [70]", "close 1"]


def test_without_epochs_the_log_is_cut_before_anything_is_fetched(world: FollowerWorld) -> None:
    world.logs[ORDERS] = PlayedLog(end=20, high_watermark=8, epochs=())
    world.follow_orders()
    assert world.logs[ORDERS].end == 8 and world.fetching == {70: 1}


def test_where_the_leader_differs_the_log_is_cut_and_fetched_on(following: FollowerWorld) -> None:
    following.logs[ORDERS].epochs = [(1, 0), (3, 10), (4, 15)]
    following.tell(diverging=EpochEnd(3, 14))
    assert following.logs[ORDERS].end == 14 and following.heard() == ["follow 1: [70]"]


@pytest.mark.parametrize("other", [{"fetcher": 9}, {"leader_epoch": 4}], ids=["fetcher", "epoch"])
def test_news_of_another_time_cut_nothing(following: FollowerWorld, other: dict[str, int]) -> None:
    following.tell(diverging=EpochEnd(4, 3), **other)  # type: ignore[arg-type]
    following.tell(error=FENCED, **other)  # type: ignore[arg-type]
    assert following.logs[ORDERS].end == 20 and following.heard() == []


def test_news_of_what_is_not_followed_any_more_cut_nothing(following: FollowerWorld) -> None:
    following.replicator.stop([ORDERS])
    following.tell(diverging=EpochEnd(4, 3))
    assert following.logs[ORDERS].end == 20 and following.fetching == {}


def test_what_the_data_plane_retries_is_left_to_it(following: FollowerWorld) -> None:
    following.tell(error=int(ErrorCode.NOT_LEADER_OR_FOLLOWER), paused=False)
    assert following.heard() == [] and following.fetching == {70: 1}


def test_a_fenced_partition_waits_for_another_leader_epoch(following: FollowerWorld) -> None:
    following.tell(error=FENCED)
    assert following.heard() == ["unfollow [70]", "close 1"]
    following.replicator.brokers_changed()
    following.follow_orders()
    assert following.heard() == []
    following.follow_orders(leader_epoch=6)
    assert following.fetching == {70: 2}


def test_a_log_that_cannot_be_cut_is_cut_when_it_can_be(following: FollowerWorld) -> None:
    log = following.logs[ORDERS]
    log.fails = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
    following.tell(diverging=EpochEnd(4, 3))
    assert following.failed == [ORDERS] and following.heard() == ["unfollow [70]", "close 1"]
    following.replicator.brokers_changed()
    assert following.fetching == {}, "what the log ends with is not the leader's"
    following.turn(BACKOFF_MS)
    following.turn(2 * BACKOFF_MS - 1)
    assert len(following.failed) == 2 and following.fetching == {}
    log.fails = None
    following.turn(1)
    assert log.end == 3 and following.fetching == {70: 2}


def test_a_log_that_cannot_be_cut_before_it_is_followed(world: FollowerWorld) -> None:
    log = world.logs[ORDERS] = PlayedLog(end=20, high_watermark=8, epochs=())
    log.fails = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
    world.follow_orders()
    assert world.fetching == {}
    log.fails = None
    world.turn(BACKOFF_MS)
    assert log.end == 8 and world.fetching == {70: 1}


def test_a_cut_that_waits_is_forgotten_with_its_leader_epoch(following: FollowerWorld) -> None:
    log = following.logs[ORDERS]
    log.fails = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
    following.tell(diverging=EpochEnd(4, 3))
    following.follow_orders(leader=3, leader_epoch=6)
    log.fails = None
    following.turn(60 * BACKOFF_MS)
    assert log.end == 20 and following.fetching == {70: 2}


def test_out_of_range_behind_the_leaders_end(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    assert following.questions[0][0] == OffsetQuestion("b2", 9092, ORDERS, 5, LATEST)
    assert following.heard() == []
    following.answer(LATEST, 11)
    assert following.logs[ORDERS].end == 11 and following.heard() == ["follow 1: [70]"]


def test_out_of_range_before_the_leaders_start(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, 90)
    following.answer(EARLIEST, 70)
    assert (following.logs[ORDERS].start, following.logs[ORDERS].end) == (70, 70)
    assert following.heard() == ["follow 1: [70]"]


def test_a_leader_that_does_not_answer_is_asked_after_the_back_off(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    assert following.questions == []
    following.turn(BACKOFF_MS)
    following.places.pop(2)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    following.turn(BACKOFF_MS)
    assert following.questions == [], "nobody knows where it is"
    following.places[2] = ("b2", 9093)
    following.turn(BACKOFF_MS)
    assert following.questions[0][0].port == 9093
    following.answer(LATEST, 11)
    assert following.fetching == {70: 1}


def test_the_answer_of_a_leader_that_is_none_any_more_is_not_used(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.follow_orders(leader=3, leader_epoch=6)
    following.answer(LATEST, 3)
    assert following.logs[ORDERS].end == 20 and following.fetching == {70: 2}


def test_a_back_off_ends_with_the_leader_epoch(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    following.follow_orders(leader_epoch=6)
    following.turn(BACKOFF_MS)
    assert following.questions == []


def test_a_leader_whose_address_is_not_known_is_followed_when_it_is(world: FollowerWorld) -> None:
    place = world.places.pop(2)
    world.follow_orders()
    assert world.heard() == []
    world.replicator.brokers_changed()
    assert world.heard() == []
    world.places[2] = place
    world.replicator.brokers_changed()
    assert world.heard() == ["open 1: broker-1-fetcher-0 to 2 at b2:9092", "follow 1: [70]"]


def test_a_leader_that_moved_is_asked_elsewhere(following: FollowerWorld) -> None:
    following.places[2] = ("b2", 9099)
    following.replicator.brokers_changed()
    assert following.heard() == ["configure 1: b2:9099"]
    following.places.pop(2)
    following.replicator.brokers_changed()
    assert following.heard() == [], "it is asked where it was last"


def test_another_number_of_fetchers_spreads_anew() -> None:
    world = FollowerWorld(fetchers=3)
    world.follow_orders()
    world.heard()
    world.replicator.resize(3)
    assert world.heard() == []
    world.replicator.resize(1)
    world.turn()
    assert world.fetching == {70: 2} and world.heard()[-1] == "close 1"


def test_closing_ends_everything(following: FollowerWorld) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.replicator.close()
    following.turn()
    assert following.heard() == ["unfollow [70]", "close 1"] and following.closed_leaders


def test_foreign_timers_are_not_ours(world: FollowerWorld) -> None:
    assert not world.replicator.timer(("isr-keeper",))
    assert not world.replicator.timer("replicator")
